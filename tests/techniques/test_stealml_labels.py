"""StealML from labels: planes that are known, models that are fixed."""

from contextlib import suppress

import numpy as np
import pytest

from mexutils import load_chapter

chapter = load_chapter("attacks/stealml_labels")

D = 5


class OnlyQuery:
    """An API of which an attack can use `query` and nothing else."""

    __slots__ = ("_answer", "rows")

    def __init__(self, answer):
        self._answer, self.rows = answer, 0

    def query(self, x):
        self.rows += len(x)
        return self._answer(np.asarray(x))


def table(n=200, d=D, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, d))
    y = (x @ rng.normal(size=(d, classes))).argmax(axis=1)
    return x, y


def plane(w, beta):
    return lambda x: (x @ w + beta > 0).astype(int)


@pytest.mark.parametrize("epsilon", [1e-2, 1e-4])
def test_lowd_meek_finds_the_plane(epsilon):
    w, beta = np.array([1.0, -0.3, 0.0, 0.02, -2.0]), 0.4
    api = OnlyQuery(plane(w, beta))
    positive, negative = chapter.find_both_labels(api, D, seed=1)
    found = chapter.lowd_meek(api, positive, negative, epsilon)
    scale = np.linalg.norm(w) / np.linalg.norm(found[:-1])
    assert np.abs(found[:-1] * scale - w).max() < 3 * epsilon * 2
    assert abs(found[-1] * scale - beta) < 10 * epsilon
    assert api.rows < 25 * D


def test_the_bias_of_lowd_meek_is_as_fine_as_its_weights():
    w, beta = np.array([1.0, -0.3, 0.0, 0.02, -2.0]), 0.4
    for seed in range(6):
        api = OnlyQuery(plane(w, beta))
        ends = chapter.find_both_labels(api, D, seed=seed)
        found = chapter.lowd_meek(api, *ends, 1e-3)
        scale = np.linalg.norm(w) / np.linalg.norm(found[:-1])
        assert abs(found[-1] * scale - beta) < 5e-3


def test_lowd_meek_never_pays_more_than_its_formula():
    rng = np.random.default_rng(3)
    for _ in range(5):
        w = rng.normal(size=D)
        api = OnlyQuery(plane(w, 0.0))
        chapter.lowd_meek(api, 5 * w, -5 * w, 1e-3)
        largest = D * (2 + 14 + 2 * np.log2(1e3))
        assert api.rows <= 20 + largest


def test_lowd_meek_refuses_before_it_asks():
    api = OnlyQuery(plane(np.ones(D), 0.0))
    for positive, negative, epsilon in (
        (np.ones(D), np.ones(D - 1), 0.1),
        (np.ones(D), np.full(D, np.nan), 0.1),
        (np.ones(D), -np.ones(D), 0.0),
    ):
        with pytest.raises(ValueError):
            chapter.lowd_meek(api, positive, negative, epsilon)
    assert api.rows == 0


def test_the_wrong_order_is_said():
    w = np.array([1.0, -0.3, 0.0, 0.02, -2.0])
    for seed in range(8):
        api = OnlyQuery(plane(w, 0.4))
        positive, negative = chapter.find_both_labels(api, D, seed=seed)
        with pytest.raises(ValueError):
            chapter.lowd_meek(api, negative, positive)
        assert api.rows < 200


def test_a_boundary_close_to_a_row_is_no_wrong_order():
    w = np.array([1.0, -0.3, 0.0, 0.02, -2.0])
    api = OnlyQuery(plane(w, 0.0))
    for positive, negative in ((1e-9 * w, -w), (w, -1e-9 * w)):
        found = chapter.lowd_meek(api, positive, negative)
        cosine = found[:-1] @ w / np.linalg.norm(found[:-1])
        assert cosine > 0.999 * np.linalg.norm(w)


def test_a_boundary_that_is_no_plane_has_an_end():
    # The base point lies beyond the other end of the normal range.
    api = OnlyQuery(lambda x: (np.abs(x[:, 0]) > 0.2).astype(int))
    one, other = np.eye(4)[0], np.zeros(4)
    with pytest.raises(ValueError, match="not linear"):
        chapter.lowd_meek(api, one, other)
    assert api.rows < 200


def test_a_direction_that_its_own_rows_contradict_is_refused():
    # A small island of label 1: every axis leaves it at once.
    api = OnlyQuery(lambda x: (np.abs(x).sum(axis=1) < 0.1).astype(int))
    with pytest.raises(ValueError, match="not linear"):
        chapter.lowd_meek(api, np.zeros(4), np.ones(4))


def test_bracket_ends_whatever_it_hears():
    asked = []

    def always(u):
        asked.append(u)
        return True

    with pytest.raises(ValueError, match="base point"):
        chapter.bracket(always, 1.0, 1e-3)
    assert len(asked) < 50
    assert chapter.bracket(lambda u: False, 1.0, 1e-3)[0] == 0
    assert chapter.bracket(lambda u: u < 5, 1.0, 1e-3) == (4, 8)
    assert chapter.bracket(lambda u: u < 0.3, 1.0, 1e-3) == (0.25, 0.5)


def test_noisy_labels_have_an_end():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        api = OnlyQuery(lambda x, rng=rng: rng.integers(2, size=len(x)))
        with suppress(ValueError):
            chapter.lowd_meek(api, np.ones(D), -np.ones(D))
        assert api.rows < 1000


def test_probabilities_serve_as_labels_and_words_are_refused():
    w = np.array([1.0, -0.3, 0.0, 0.02, -2.0])
    label = plane(w, 0.4)
    api = OnlyQuery(lambda x: np.eye(2)[label(x)])
    found = chapter.lowd_meek(api, *chapter.find_both_labels(api, D))
    cosine = found[:-1] @ w / np.linalg.norm(found[:-1])
    assert cosine > 0.999 * np.linalg.norm(w)
    words = OnlyQuery(lambda x: np.array(["no", "yes"])[label(x)])
    with pytest.raises(ValueError, match="0 and 1"):
        chapter.find_both_labels(words, D)
    with pytest.raises(ValueError, match="0 and 1"):
        chapter.lowd_meek(words, np.ones(D), -np.ones(D))


def test_one_label_everywhere_is_said():
    api = OnlyQuery(lambda x: np.zeros(len(x), int))
    with pytest.raises(RuntimeError, match="one label"):
        chapter.find_both_labels(api, D, tries=20)
    assert api.rows == 20


@pytest.mark.parametrize(
    "method", ["retrain_uniform", "retrain_line_search", "retrain_adaptive"]
)
def test_retraining_keeps_its_budget(method):
    w = np.array([1.0, -1.0, 0.5, 0.2, 0.0])
    api = OnlyQuery(plane(w, 0.1))
    copy = getattr(chapter, method)(api, D, 300, seed=0)
    assert 250 <= api.rows <= 300
    x = table(2000, seed=5)[0]
    assert (copy.predict(x) == plane(w, 0.1)(x)).mean() > 0.96


class Fixed:
    """A model that is what it is, whatever it learns from."""

    def __init__(self, w, beta):
        self.w, self.beta = w, beta
        self.predict = plane(w, beta)

    def __call__(self, x, y):
        return self

    def distance(self, x):
        return np.abs(x @ self.w + self.beta) / np.linalg.norm(self.w)


def test_rows_near_the_boundary_are_near_it():
    model = Fixed(np.array([1.0, -1.0, 0.5, 0.2, 0.0]), 0.1)
    rng = np.random.default_rng(0)
    x = chapter.near_boundary(model, D, 200, rng)
    assert x.shape == (200, D)
    # Twelve halvings of a pair that is at most the diagonal apart.
    assert model.distance(x).max() <= np.sqrt(4 * D) / 2**12


def test_line_searches_end_at_the_boundary():
    model = Fixed(np.array([1.0, -1.0, 0.5, 0.2, 0.0]), 0.1)
    calls = []

    def query(x):
        calls.append(x)
        return model.predict(x)

    chapter.retrain_line_search(OnlyQuery(query), D, 400, model, gap=0.01)
    distances = [model.distance(x) for x in calls[1:]]
    # The last row of each search halves a gap of at most two hundredths.
    assert distances[-1].max() <= 0.02 < np.median(distances[0])
    assert len({len(x) for x in calls[1:]}) == 1  # every pair, every round


def test_a_quarter_of_the_adaptive_rows_is_uniform():
    model, calls = Fixed(np.array([1.0, -1.0, 0.5, 0.2, 0.0]), 0.1), []

    def query(x):
        calls.append(x)
        return model.predict(x)

    chapter.retrain_adaptive(OnlyQuery(query), D, 1000, model)
    assert [len(x) for x in calls] == [200] * 5
    for x in calls[1:]:
        close = model.distance(x) < 2e-3
        assert 0.75 <= close.mean() < 0.78
        assert x[~close].std(axis=0).min() > 0.4  # uniform: 0.58


@pytest.mark.parametrize(
    "method", ["retrain_uniform", "retrain_line_search", "retrain_adaptive"]
)
def test_retraining_survives_a_single_label(method):
    api = OnlyQuery(lambda x: np.ones(len(x), int))
    with pytest.warns(UserWarning, match="between -.* label 1: scale"):
        copy = getattr(chapter, method)(api, D, 100, seed=0)
    assert (copy.predict(table()[0]) == 1).all()
    assert api.rows <= 100


@pytest.mark.parametrize(
    "method", ["retrain_uniform", "retrain_line_search", "retrain_adaptive"]
)
def test_retraining_refuses_a_budget_too_small(method):
    api = OnlyQuery(plane(np.ones(D), 0.0))
    with pytest.raises(ValueError, match="20 or more"):
        getattr(chapter, method)(api, D, 19)
    assert api.rows == 0
    assert getattr(chapter, method)(api, D, 20) is not None


def test_bisected_pairs_straddle_the_boundary():
    label = plane(np.ones(D), 0.0)
    one, other = np.full((2, D), 1.0), np.full((2, D), -0.5)
    one, other, probes, labels = chapter.bisect_pairs(
        label, one, other, np.ones(2, int), 10
    )
    assert (label(one) == 1).all() and (label(other) == 0).all()
    np.testing.assert_allclose(one - other, 1.5 / 2**10)
    np.testing.assert_array_equal(label(probes), labels)
