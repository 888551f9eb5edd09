"""StealClassifier, from its chapter, by hand values and second routes."""

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mexutils import BudgetExceeded, PredictionAPI, load_chapter

steal_classifier = load_chapter("attacks/steal_classifier")
KINDS = steal_classifier.KINDS


class OnlyQuery:
    """What an attacker meets: `query` and nothing else."""

    __slots__ = ("query",)

    def __init__(self, query):
        self.query = query


def half_plane(x):
    """A linear victim of two classes, as probabilities."""
    p = 1 / (1 + np.exp(-4 * (x[:, 0] + 0.5 * x[:, 1] - 0.2)))
    return np.stack([1 - p, p], axis=1)


def ring(x):
    """A victim that answers class 2 outside a circle."""
    p = 1 / (1 + np.exp(-4 * (np.square(x[:, :2]).sum(axis=1) - 1.4)))
    return np.stack([1 - p, p], axis=1)


@pytest.fixture(scope="module")
def pool():
    return np.random.default_rng(0).normal(size=(1500, 3))


@pytest.fixture(scope="module")
def fresh():
    return np.random.default_rng(1).normal(size=(1000, 3))


def sell(victim, **options):
    return PredictionAPI(victim, returns="label", **options)


# --- the four differences ---------------------------------------------------


def test_differences_on_hand_values():
    victim = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    answers = [0, 0, 0, 0, 0, 0, 1, 1, 1, 0]
    found = steal_classifier.differences(answers, victim)
    assert tuple(found) == (0.25, 0.5, 0.3)
    assert found.d_max == 0.5


def test_differences_are_one_minus_the_recalls():
    rng = np.random.default_rng(3)
    victim, answers = rng.integers(0, 2, (2, 500))
    found = steal_classifier.differences(answers, victim)
    recalls = sk.recall_score(victim, answers, average=None)
    np.testing.assert_allclose([found.d1, found.d2], 1 - recalls)
    assert found.d == pytest.approx(1 - sk.accuracy_score(victim, answers))
    assert found.d_max == max(found.d1, found.d2)


def test_a_class_that_is_never_answered_has_no_difference():
    found = steal_classifier.differences([0, 1, 0, 0], [0, 0, 0, 0])
    assert found.d1 == found.d == found.d_max == 0.25
    assert np.isnan(found.d2)


def test_the_copy_that_always_gives_the_larger_class_is_found_out():
    victim = np.repeat([0, 1], [95, 5])
    found = steal_classifier.differences(np.zeros(100, int), victim)
    assert (found.d, found.d_max) == (0.05, 1.0)


@pytest.mark.parametrize(
    "labels", [[], [0, 2], [[0, 1]], [0.5, 1], ["a", "b"], [-1, 1]]
)
def test_other_labels_are_refused(labels):
    with pytest.raises(ValueError, match="returns='label'"):
        steal_classifier.differences(labels, [0, 1])


def test_different_lengths_are_refused():
    with pytest.raises(ValueError, match="about the same rows"):
        steal_classifier.differences([0, 1, 1], [0, 1])


# --- the threshold ----------------------------------------------------------


def brute_force(p, answers):
    """The smallest d_max that any threshold reaches."""
    grid = np.concatenate([np.linspace(0, 1, 2001), p, p + 1e-9])
    return min(
        steal_classifier.differences((p >= t).astype(int), answers).d_max
        for t in grid
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_is_as_good_as_brute_force(seed):
    rng = np.random.default_rng(seed)
    answers = rng.permutation(np.repeat([0, 1], [25, 5 + 2 * seed]))
    p = rng.beta(2 + 2 * answers, 4)
    if seed % 2:
        p = p.round(1)  # ties
    tau = steal_classifier.tune_threshold(p, answers)
    guess = (p >= tau).astype(int)
    found = steal_classifier.differences(guess, answers).d_max
    assert found == pytest.approx(brute_force(p, answers))


def test_among_equal_thresholds_the_one_nearest_one_half_is_taken():
    p, answers = [0.1, 0.2, 0.3, 0.9], [0, 0, 1, 1]
    assert steal_classifier.tune_threshold(p, answers) == pytest.approx(0.25)
    assert steal_classifier.tune_threshold([0.1, 0.9], [0, 1]) == 0.5


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_leaves_the_threshold_at_one_half(label):
    tau = steal_classifier.tune_threshold([0.1, 0.7], [label] * 2)
    assert tau == 0.5


# --- the kinds --------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_one_half_is_where_the_model_changes_its_label(kind, pool, fresh):
    y = half_plane(pool).argmax(axis=1)
    model = KINDS[kind](0).fit(pool, y)
    p = steal_classifier.scores(model, fresh)
    assert p.min() >= 0 and p.max() <= 1
    if kind == "deep":
        expected = model.predict_proba(fresh).argmax(axis=1)
    else:
        expected = model.predict(fresh)
    np.testing.assert_array_equal((p >= 0.5).astype(int), expected)


def test_the_network_repeats_with_its_seed_and_works_in_a_pipeline(pool):
    y = ring(pool).argmax(axis=1)
    net = steal_classifier.DeepNet(3, width=12, depth=1, steps=40)
    first = net.fit(pool, y).predict_proba(pool)
    np.testing.assert_array_equal(
        clone(net).fit(pool, y).predict_proba(pool), first
    )
    other = steal_classifier.DeepNet(4, width=12, depth=1, steps=40)
    assert np.abs(other.fit(pool, y).predict_proba(pool) - first).max() > 0.01
    widths = [w.shape for w in net.model_.parameters()]
    assert widths == [(12, 3), (12,), (2, 12), (2,)]
    line = make_pipeline(StandardScaler(), clone(net)).fit(pool, y)
    assert steal_classifier.scores(line, pool).shape == (len(pool),)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_with_one_label_makes_a_copy_that_gives_it(kind, label, pool):
    answers = np.full(50, label)
    copy = steal_classifier.learn(pool[:50], answers, KINDS[kind], 0)
    assert (copy.labels(pool) == label).all()


# --- the attack -------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_linear_victim_is_copied_by_every_kind(kind, pool, fresh):
    api = sell(half_plane)
    copy = steal_classifier.steal(api, pool, 1000, KINDS[kind], 0)
    truth = half_plane(fresh).argmax(axis=1)
    found = steal_classifier.differences(copy.labels(fresh), truth)
    assert found.d_max < 0.06
    assert api.ledger.queries == 1000


def test_only_what_bends_copies_a_ring(pool, fresh):
    truth = ring(fresh).argmax(axis=1)
    d = {
        kind: steal_classifier.differences(
            steal_classifier.steal(
                sell(ring), pool, 1000, make_model, 0
            ).labels(fresh),
            truth,
        ).d
        for kind, make_model in KINDS.items()
    }
    assert d["deep"] < 0.06 < 0.3 < d["SVM"]


def test_validation_rows_are_the_first_and_train_nothing(pool):
    answers = half_plane(pool).argmax(axis=1)
    copy = steal_classifier.learn(
        pool, answers, lambda seed: LogisticRegression(), 0, validation=0.3
    )
    by_hand = LogisticRegression().fit(pool[450:], answers[450:])
    np.testing.assert_allclose(copy.model.coef_, by_hand.coef_)
    p = by_hand.predict_proba(pool[:450])[:, 1]
    assert copy.threshold == steal_classifier.tune_threshold(p, answers[:450])
    plain = steal_classifier.learn(pool, answers, KINDS["SVM"], 0, 0)
    assert plain.threshold == 0.5


def test_a_smaller_budget_asks_for_the_first_rows_of_a_larger(pool):
    asked = []

    def noted(x):
        asked.append(x)
        return half_plane(x).argmax(axis=1)

    for budget in (50, 200):
        api = OnlyQuery(noted)
        steal_classifier.steal(api, pool, budget, KINDS["Naive Bayes"], 5)
    np.testing.assert_array_equal(asked[0], asked[1][:50])
    assert len(np.unique(asked[1], axis=0)) == 200


def test_the_best_of_several_makers_is_kept(pool):
    answers = ring(pool).argmax(axis=1)
    makers = {kind: KINDS[kind] for kind in ("SVM", "deep")}
    best, copy, found = steal_classifier.learn_best(
        pool[:600], answers[:600], makers, 0
    )
    assert best == "deep" == min(found, key=found.get)
    held, told = pool[:120], answers[:120]
    again = steal_classifier.differences(copy.labels(held), told).d_max
    assert found[best] == again
    for makers, share in (({}, 0.2), (KINDS, 0.0)):
        with pytest.raises(ValueError, match="to choose needs a maker"):
            steal_classifier.learn_best(pool, answers, makers, 0, share)


# --- active polling ---------------------------------------------------------


def test_the_most_uncertain_come_first():
    p = [0.9, 0.45, 0.1, 0.52, 0.5]
    assert steal_classifier.most_uncertain(p, 3).tolist() == [4, 3, 1]


def test_a_round_takes_the_uncertain_and_some_others(pool):
    model = LogisticRegression().fit(pool, half_plane(pool).argmax(axis=1))
    free = np.arange(500, 1500)
    picked = steal_classifier.choose(
        model, pool, np.arange(500), 20, 0.25, np.random.default_rng(0)
    )
    p = model.predict_proba(pool[free])[:, 1]
    closest = free[np.argsort(np.abs(p - 0.5))[:15]]
    assert len(set(picked)) == 20 and set(picked) <= set(free)
    assert set(picked[:15]) == set(closest)
    assert not set(picked[15:]) & set(closest)
    twenty = free[np.argsort(np.abs(p - 0.5))[:20]]
    assert len(set(picked) & set(twenty)) < 18  # the last five are random


@pytest.mark.parametrize("batch", [7, 50, 500])
def test_active_polling_spends_its_budget_and_repeats_nothing(pool, batch):
    asked = []

    def noted(x):
        asked.append(x)
        return half_plane(x)

    api = sell(noted, budget=200)
    copies = steal_classifier.active_steal(
        api, pool, 200, KINDS["Naive Bayes"], 0, first=60, batch=batch
    )
    assert api.ledger.queries == 200 == list(copies)[-1]
    assert list(copies)[0] == 100  # 60 and a fifth of the budget
    assert list(copies)[:-1] == list(range(100, 200, batch))
    assert len(np.unique(np.concatenate(asked), axis=0)) == 200


def test_active_polling_asks_near_the_boundary(pool):
    asked = []

    def noted(x):
        asked.append(x)
        return half_plane(x).argmax(axis=1)

    steal_classifier.active_steal(
        OnlyQuery(noted), pool, 300, KINDS["SVM"], 0, first=100, explore=0
    )
    margins = [np.abs(half_plane(x)[:, 1] - 0.5).mean() for x in asked]
    assert len(margins) == 3 and max(margins[1:]) < 0.6 * margins[0]


def test_every_round_tunes_on_the_same_random_rows(pool):
    asked = []

    def noted(x):
        asked.append(x)
        return ring(x).argmax(axis=1)

    copies = steal_classifier.active_steal(
        OnlyQuery(noted), pool, 300, logistic, 0, first=80
    )
    x = np.concatenate(asked)
    answers = ring(x).argmax(axis=1)
    thresholds = set()
    for q, copy in copies.items():
        by_hand = LogisticRegression().fit(x[60:q], answers[60:q])
        np.testing.assert_allclose(copy.model.coef_, by_hand.coef_)
        p = by_hand.predict_proba(x[:60])[:, 1]
        tuned = steal_classifier.tune_threshold(p, answers[:60])
        assert copy.threshold == pytest.approx(tuned)
        thresholds.add(copy.threshold)
    assert len(copies) > 2 and thresholds != {0.5}


def logistic(seed):
    return LogisticRegression()


# --- the owner's side of an attack ------------------------------------------


def test_an_attack_is_judged_on_rows_that_nobody_polled():
    """The copy is right on the pool and wrong on a quarter of the rest."""
    polled = np.zeros((40, 2))
    unseen = np.array([[1.0, 0], [1, 0], [1, 0], [1, 1]])
    victim = steal_classifier.Filter(Given(lambda x: 0 * x[:, 0]))
    copy = steal_classifier.Copy(Given(lambda x: x[:, 1]), 0.5)

    def frugal(api, pool, budget, make_model, seed):
        api.query(pool[: budget - 3])
        return copy

    run = steal_classifier.attack(
        victim, None, (polled, unseen), 10, 0, steal=frugal
    )
    assert (run["d"], run["d1"], run["d_max"]) == (0.25, 0.25, 0.25)
    assert np.isnan(run["d2"])
    assert run["queries"] == 7  # what was billed, not what was planned


class Given:
    """A model whose probability of class 2 is a given function."""

    def __init__(self, p):
        self.p = p

    def predict_proba(self, x):
        return np.stack([1 - self.p(x), self.p(x)], axis=1)


# --- the wire ---------------------------------------------------------------


def test_attacks_use_the_query_alone(pool):
    api = OnlyQuery(lambda x: half_plane(x).argmax(axis=1))
    make_model = KINDS["Naive Bayes"]
    steal_classifier.steal(api, pool, 40, make_model, 0)
    steal_classifier.active_steal(api, pool, 60, make_model, 0, first=20)


def test_a_budget_that_is_too_small_costs_nothing(pool):
    api = sell(half_plane, budget=99)
    with pytest.raises(BudgetExceeded):
        steal_classifier.steal(api, pool, 100, KINDS["SVM"], 0)
    assert api.ledger.queries == 0


ACTIVE = {"first": 30, "batch": 10, "explore": 0.2}
BAD = [
    ({"budget": 1}, "size of the pool"),
    ({"budget": 1501}, "size of the pool"),
    ({"budget": 20.5}, "size of the pool"),
    ({"validation": -0.1}, "from 0 to 0.8"),
    ({"validation": 0.9}, "from 0 to 0.8"),
    ({"validation": np.nan}, "from 0 to 0.8"),
    ({"pool": np.zeros(9)}, "the pool must be rows"),
    ({"pool": np.full((200, 3), np.nan)}, "without NaN"),
]
BAD_ROUNDS = [
    ({"first": 101}, "lower `first`"),
    ({"first": -100}, "lower `first`"),
    ({"batch": 0}, "1 or more"),
    ({"batch": 2.5}, "1 or more"),
    ({"explore": 1.1}, "explore must be a share"),
]


@pytest.mark.parametrize(("change", "word"), BAD)
def test_bad_input_is_refused_before_a_query(pool, change, word):
    arguments = {"pool": pool, "budget": 100, "validation": 0.2} | change
    api = sell(half_plane)
    with pytest.raises(ValueError, match=word):
        steal_classifier.steal(
            api, make_model=KINDS["SVM"], seed=0, **arguments
        )
    assert api.ledger.queries == 0


@pytest.mark.parametrize(("change", "word"), BAD + BAD_ROUNDS)
def test_bad_rounds_are_refused_before_a_query(pool, change, word):
    arguments = {"pool": pool, "budget": 100} | ACTIVE | change
    api = sell(half_plane)
    with pytest.raises(ValueError, match=word):
        steal_classifier.active_steal(
            api, make_model=KINDS["SVM"], seed=0, **arguments
        )
    assert api.ledger.queries == 0


def test_probabilities_are_refused_as_answers(pool):
    api = PredictionAPI(half_plane)
    with pytest.raises(ValueError, match="returns='label'"):
        steal_classifier.steal(api, pool, 50, KINDS["SVM"], 0)


# --- the owner's side -------------------------------------------------------


def test_a_filter_answers_probabilities_of_encoded_rows(pool):
    y = half_plane(pool).argmax(axis=1)
    model = KINDS["SVM"](0).fit(pool, y)
    plain = steal_classifier.Filter(model)
    np.testing.assert_allclose(plain(pool).sum(axis=1), 1)
    np.testing.assert_array_equal(plain.labels(pool), model.predict(pool))
    coded = steal_classifier.Filter(model, encode=lambda x: x / 2)
    np.testing.assert_allclose(coded(2 * pool), plain(pool))
