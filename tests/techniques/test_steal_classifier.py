"""StealClassifier, from its chapter, by hand values and second routes."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import metrics as sk
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mexutils import BudgetExceeded, PredictionAPI, load_chapter

chapter = load_chapter("attacks/steal_classifier")
KINDS = chapter.KINDS


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
    found = chapter.differences(answers, victim)
    assert tuple(found) == (0.25, 0.5, 0.3)
    assert found.d_max == 0.5


def test_differences_are_one_minus_the_recalls():
    rng = np.random.default_rng(3)
    victim, answers = rng.integers(0, 2, (2, 500))
    found = chapter.differences(answers, victim)
    recalls = sk.recall_score(victim, answers, average=None)
    np.testing.assert_allclose([found.d1, found.d2], 1 - recalls)
    assert found.d == pytest.approx(1 - sk.accuracy_score(victim, answers))
    assert found.d_max == max(found.d1, found.d2)


def test_a_class_that_is_never_answered_has_no_difference():
    found = chapter.differences([0, 1, 0, 0], [0, 0, 0, 0])
    assert found.d1 == found.d == found.d_max == 0.25
    assert np.isnan(found.d2)


def test_the_copy_that_always_gives_the_larger_class_is_found_out():
    victim = np.repeat([0, 1], [95, 5])
    found = chapter.differences(np.zeros(100, int), victim)
    assert (found.d, found.d_max) == (0.05, 1.0)


@pytest.mark.parametrize(
    "labels", [[], [0, 2], [[0, 1]], [0.5, 1], ["a", "b"], [-1, 1]]
)
def test_other_labels_are_refused(labels):
    with pytest.raises(ValueError, match="returns='label'"):
        chapter.differences(labels, [0, 1])


def test_different_lengths_are_refused():
    with pytest.raises(ValueError, match="about the same rows"):
        chapter.differences([0, 1, 1], [0, 1])


# --- the threshold ----------------------------------------------------------


def brute_force(p, answers):
    """The smallest d_max that any threshold reaches."""
    grid = np.concatenate([np.linspace(0, 1, 2001), p, p + 1e-9])
    return min(
        chapter.differences((p >= t).astype(int), answers).d_max for t in grid
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_is_as_good_as_brute_force(seed):
    rng = np.random.default_rng(seed)
    answers = rng.permutation(np.repeat([0, 1], [25, 5 + 2 * seed]))
    p = rng.beta(2 + 2 * answers, 4)
    if seed % 2:
        p = p.round(1)  # ties
    tau = chapter.tune_threshold(p, answers)
    guess = (p >= tau).astype(int)
    found = chapter.differences(guess, answers).d_max
    assert found == pytest.approx(brute_force(p, answers))


def test_among_equal_thresholds_the_one_nearest_one_half_is_taken():
    p, answers = [0.1, 0.2, 0.3, 0.9], [0, 0, 1, 1]
    assert chapter.tune_threshold(p, answers) == pytest.approx(0.25)
    assert chapter.tune_threshold([0.1, 0.9], [0, 1]) == 0.5
    # every threshold between two scores has d_max = 1/2
    p, answers = np.array([0.1, 0.2, 0.4, 0.45]), [0, 1, 0, 1]
    assert chapter.tune_threshold(p, answers) == pytest.approx(0.425)
    assert chapter.tune_threshold(p + 0.45, answers) == pytest.approx(0.6)


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_leaves_the_threshold_at_one_half(label):
    tau = chapter.tune_threshold([0.1, 0.7], [label] * 2)
    assert tau == 0.5


# --- the kinds --------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_one_half_is_where_the_model_changes_its_label(kind, pool, fresh):
    y = half_plane(pool).argmax(axis=1)
    model = KINDS[kind](0).fit(pool, y)
    p = chapter.scores(model, fresh)
    assert p.min() >= 0 and p.max() <= 1
    if kind == "deep":
        expected = model.predict_proba(fresh).argmax(axis=1)
    else:
        expected = model.predict(fresh)
    np.testing.assert_array_equal((p >= 0.5).astype(int), expected)


def test_the_network_repeats_with_its_seed_and_works_in_a_pipeline(pool):
    y = ring(pool).argmax(axis=1)
    net = chapter.DeepNet(3, width=12, depth=1, steps=40)
    first = net.fit(pool, y).predict_proba(pool)
    np.testing.assert_array_equal(
        clone(net).fit(pool, y).predict_proba(pool), first
    )
    other = chapter.DeepNet(4, width=12, depth=1, steps=40)
    assert np.abs(other.fit(pool, y).predict_proba(pool) - first).max() > 0.01
    widths = [w.shape for w in net.model_.parameters()]
    assert widths == [(12, 3), (12,), (2, 12), (2,)]
    line = make_pipeline(StandardScaler(), clone(net)).fit(pool, y)
    assert chapter.scores(line, pool).shape == (len(pool),)


def test_the_network_is_trained_as_it_is_told(pool, monkeypatch):
    told = []

    def fit(model, x, y, **options):
        told.append(options)
        return model

    monkeypatch.setattr(chapter.training, "fit", fit)
    net = chapter.DeepNet(4, steps=7, lr=0.02, decay=0.3)
    net.fit(pool, half_plane(pool).argmax(axis=1))
    recipe = {"steps": 7, "lr": 0.02, "weight_decay": 0.3, "seed": 4}
    assert told == [recipe | {"batch_size": 128}]


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_with_one_label_makes_a_copy_that_gives_it(kind, label, pool):
    answers = np.full(50, label)
    copy = chapter.learn(pool[:50], answers, KINDS[kind], 0)
    assert (copy.labels(pool) == label).all()


# --- the attack -------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_linear_victim_is_copied_by_every_kind(kind, pool, fresh):
    api = sell(half_plane)
    copy = chapter.steal(api, pool, 1000, KINDS[kind], 0)
    truth = half_plane(fresh).argmax(axis=1)
    found = chapter.differences(copy.labels(fresh), truth)
    assert found.d_max < 0.06
    assert api.ledger.queries == 1000


def test_only_what_bends_copies_a_ring(pool, fresh):
    truth = ring(fresh).argmax(axis=1)
    d = {
        kind: chapter.differences(
            chapter.steal(sell(ring), pool, 1000, make_model, 0).labels(fresh),
            truth,
        ).d
        for kind, make_model in KINDS.items()
    }
    assert d["deep"] < 0.06 < 0.3 < d["SVM"]


def test_validation_rows_are_the_first_and_train_nothing(pool):
    answers = half_plane(pool).argmax(axis=1)
    copy = chapter.learn(
        pool, answers, lambda seed: LogisticRegression(), 0, validation=0.3
    )
    by_hand = LogisticRegression().fit(pool[450:], answers[450:])
    np.testing.assert_allclose(copy.model.coef_, by_hand.coef_)
    p = by_hand.predict_proba(pool[:450])[:, 1]
    assert copy.threshold == chapter.tune_threshold(p, answers[:450])
    plain = chapter.learn(pool, answers, KINDS["SVM"], 0, 0)
    assert plain.threshold == 0.5


def test_a_smaller_budget_asks_for_the_first_rows_of_a_larger(pool):
    asked = []

    def noted(x):
        asked.append(x)
        return half_plane(x).argmax(axis=1)

    for budget in (50, 200):
        api = OnlyQuery(noted)
        chapter.steal(api, pool, budget, KINDS["Naive Bayes"], 5)
    np.testing.assert_array_equal(asked[0], asked[1][:50])
    assert len(np.unique(asked[1], axis=0)) == 200


def test_the_best_of_several_makers_is_kept(pool):
    answers = ring(pool).argmax(axis=1)
    makers = {kind: KINDS[kind] for kind in ("SVM", "deep")}
    best, copy, found = chapter.learn_best(
        pool[:600], answers[:600], makers, 0
    )
    assert best == "deep" == min(found, key=found.get)
    held, told = pool[:120], answers[:120]
    again = chapter.differences(copy.labels(held), told).d_max
    assert found[best] == again
    for makers, share in (({}, 0.2), (KINDS, 0.0)):
        with pytest.raises(ValueError, match="to choose needs a maker"):
            chapter.learn_best(pool, answers, makers, 0, share)


def test_the_other_network_shares_nothing_with_the_victim_but_its_kind():
    twin, other = chapter.DeepNet(7), chapter.other_net(7)
    mine, its = twin.get_params(), other.get_params()
    same = {name for name in mine if mine[name] == its[name]}
    assert same == {"seed"}
    assert chapter.SUBSTITUTES["deep, other"] is chapter.other_net


# --- raw text ---------------------------------------------------------------


def test_texts_survive_as_bytes_but_for_what_is_cut():
    texts = ["grain", "", "Übersee: 3 £", "x" * 40]
    rows = chapter.as_bytes(texts, length=16)
    assert rows.shape == (4, 16) and rows.dtype == np.uint8
    assert chapter.as_texts(rows) == [*texts[:3], "x" * 16]
    # What an attack makes of them on the way, and a character cut in two.
    assert chapter.as_texts(rows.astype(float)) == chapter.as_texts(rows)
    assert chapter.as_texts(chapter.as_bytes(["ab£"], 3)) == ["ab"]


def test_a_service_that_reads_text_is_robbed_by_text_alone():
    """The attacker has texts; the victim looks for one word among them."""
    rng = np.random.default_rng(0)
    vocabulary = ["ship", "oil", "gold", "wheat", "bank", "loan"]
    texts = [" ".join(rng.choice(vocabulary, 6)) for _ in range(600)]
    seen = []

    def service(x):
        assert x.shape[1:] == (80,)  # bytes, and nothing else, travel
        seen.extend(chapter.as_texts(x))
        said = np.array(["oil" in t.split() for t in chapter.as_texts(x)])
        return np.eye(2)[said.astype(int)]

    make_model = chapter.at_home(texts, size=6)
    rows = chapter.as_bytes(texts, 80)
    api = sell(service)
    copy = chapter.steal(api, rows, 300, make_model, 0)
    assert len(seen) == 300 and set(seen) <= set(texts)
    said = np.array(["oil" in t.split() for t in texts]).astype(int)
    assert chapter.differences(copy.labels(rows), said).d < 0.1


# --- active polling ---------------------------------------------------------


def test_the_most_uncertain_come_first():
    p = [0.9, 0.45, 0.1, 0.52, 0.5]
    assert chapter.most_uncertain(p, 3).tolist() == [4, 3, 1]


def test_certainty_is_the_distance_from_one_half():
    def given(x):
        return np.stack([1 - x[:, 0], x[:, 0]], axis=1)

    found = chapter.certainty(given, np.array([[0.5], [0.2], [1.0]]))
    np.testing.assert_allclose(found, [0, 0.3, 0.5])


def test_a_round_takes_the_uncertain_and_some_others(pool):
    model = LogisticRegression().fit(pool, half_plane(pool).argmax(axis=1))
    free = np.arange(500, 1500)
    picked = chapter.choose(
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
    copies = chapter.active_steal(
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

    chapter.active_steal(
        OnlyQuery(noted), pool, 300, KINDS["SVM"], 0, first=100, explore=0
    )
    margins = [np.abs(half_plane(x)[:, 1] - 0.5).mean() for x in asked]
    assert len(margins) == 3 and max(margins[1:]) < 0.6 * margins[0]


def test_every_round_tunes_on_the_same_random_rows(pool):
    asked = []

    def noted(x):
        asked.append(x)
        return ring(x).argmax(axis=1)

    copies = chapter.active_steal(
        OnlyQuery(noted), pool, 300, logistic, 0, first=80
    )
    x = np.concatenate(asked)
    answers = ring(x).argmax(axis=1)
    thresholds = set()
    for q, copy in copies.items():
        by_hand = LogisticRegression().fit(x[60:q], answers[60:q])
        np.testing.assert_allclose(copy.model.coef_, by_hand.coef_)
        p = by_hand.predict_proba(x[:60])[:, 1]
        tuned = chapter.tune_threshold(p, answers[:60])
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
    victim = chapter.Filter(Given(lambda x: 0 * x[:, 0]))
    copy = chapter.Copy(Given(lambda x: x[:, 1]), 0.5)

    def frugal(api, pool, budget, make_model, seed):
        api.query(pool[: budget - 3])
        return copy

    run = chapter.attack(victim, None, (polled, unseen), 10, 0, steal=frugal)
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


FORMS = {
    "frame": lambda x: pd.DataFrame(x, columns=["length", "links", "money"]),
    "sparse matrix": sparse.csr_matrix,
    "lists": lambda x: x.tolist(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("attack", ["steal", "active_steal"])
def test_a_pool_may_be_a_frame_a_sparse_matrix_or_lists(
    attack, form, pool, fresh
):
    """The same rows in another form make the same copy, for the same bill."""
    options = {"first": 60} if attack == "active_steal" else {}
    copies = []
    for given in (pool[:400], FORMS[form](pool[:400])):
        api = sell(half_plane)
        found = getattr(chapter, attack)(
            api, given, 120, KINDS["Naive Bayes"], 0, **options
        )
        copies.append(found[120] if options else found)
        assert api.ledger.queries == 120
    first, second = (copy.labels(fresh) for copy in copies)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(copies[0].labels(FORMS[form](fresh)), first)


def test_what_was_bought_may_have_any_form_as_well(pool):
    answers = half_plane(pool).argmax(axis=1)
    frame = FORMS["frame"](pool[:300])
    for rows in (frame, FORMS["sparse matrix"](pool[:300])):
        best, copy, _ = chapter.learn_best(
            rows, list(answers[:300]), {"SVM": KINDS["SVM"]}, 0
        )
        assert best == "SVM"
        assert np.mean(copy.labels(pool) == answers) > 0.9
        net = chapter.DeepNet(0, steps=20).fit(rows, answers[:300])
        assert net.predict_proba(rows).shape == (300, 2)


def test_two_queries_leave_one_to_train_on(pool):
    api = sell(half_plane)
    copy = chapter.steal(api, pool, 2, KINDS["SVM"], 0, validation=0.8)
    assert api.ledger.queries == 2 and len(set(copy.labels(pool))) == 1


def test_attacks_use_the_query_alone(pool):
    api = OnlyQuery(lambda x: half_plane(x).argmax(axis=1))
    make_model = KINDS["Naive Bayes"]
    chapter.steal(api, pool, 40, make_model, 0)
    chapter.active_steal(api, pool, 60, make_model, 0, first=20)


def test_a_budget_that_is_too_small_costs_nothing(pool):
    api = sell(half_plane, budget=99)
    with pytest.raises(BudgetExceeded):
        chapter.steal(api, pool, 100, KINDS["SVM"], 0)
    assert api.ledger.queries == 0


ACTIVE = {"first": 30, "batch": 10, "explore": 0.2}
BAD = [
    ({"budget": 1}, "budget must be a whole number, 2 or more"),
    ({"budget": 1501}, "above the most, 1500"),
    ({"budget": 20.5}, "budget must be a whole number"),
    ({"validation": -0.1}, "validation must be a number from 0 to 0.8"),
    ({"validation": 0.9}, "from 0 to 0.8"),
    ({"validation": np.nan}, "from 0 to 0.8"),
    ({"pool": np.zeros(9)}, "pool must be rows"),
    ({"pool": np.full((200, 3), np.nan)}, "pool holds NaN"),
    ({"pool": [["cheap", "pills"]] * 200}, "pool must hold numbers"),
    ({"make_model": lambda seed: "no model"}, "fit and predict_proba"),
]
BAD_ROUNDS = [
    ({"first": 101}, "lower `first`"),
    ({"first": 81}, "20 for validation do not fit a budget of 100"),
    ({"first": 0}, "first must be a whole number, 1 or more"),
    ({"first": -100}, "first must be a whole number, 1 or more"),
    ({"batch": 0}, "batch must be a whole number, 1 or more"),
    ({"batch": 2.5}, "batch must be a whole number, 1 or more"),
    ({"explore": 1.1}, "explore must be a number from 0 to 1"),
]


@pytest.mark.parametrize(("change", "word"), BAD)
def test_bad_input_is_refused_before_a_query(pool, change, word):
    arguments = {"pool": pool, "budget": 100, "validation": 0.2}
    arguments |= {"make_model": KINDS["SVM"]} | change
    api = sell(half_plane)
    with pytest.raises(ValueError, match=word):
        chapter.steal(api, seed=0, **arguments)
    assert api.ledger.queries == 0


@pytest.mark.parametrize(("change", "word"), BAD + BAD_ROUNDS)
def test_bad_rounds_are_refused_before_a_query(pool, change, word):
    arguments = {"pool": pool, "budget": 100, "make_model": KINDS["SVM"]}
    arguments |= ACTIVE | change
    api = sell(half_plane)
    with pytest.raises(ValueError, match=word):
        chapter.active_steal(api, seed=0, **arguments)
    assert api.ledger.queries == 0


@pytest.mark.parametrize(
    "sold",
    [{}, {"returns": "label", "classes": ["ham", "spam"]}],
    ids=["probabilities", "words"],
)
@pytest.mark.parametrize("attack", ["steal", "active_steal"])
def test_other_answers_than_places_are_refused_before_a_query(
    pool, sold, attack
):
    api = PredictionAPI(half_plane, **sold)
    with pytest.raises(ValueError, match="returns='label'"):
        getattr(chapter, attack)(api, pool, 500, KINDS["SVM"], 0)
    assert api.ledger.queries == 0


def test_whole_numbers_may_be_written_with_a_point(pool):
    api = sell(half_plane)
    chapter.active_steal(
        api, pool, 60.0, KINDS["SVM"], 0, first=20.0, batch=15.0
    )
    assert api.ledger.queries == 60


def test_a_model_of_three_classes_is_refused(pool):
    model = LogisticRegression().fit(pool, np.arange(len(pool)) % 3)
    with pytest.raises(ValueError, match="two classes"):
        chapter.Filter(model)(pool)


def test_rows_that_were_bought_are_split_by_a_share(pool):
    with pytest.raises(ValueError, match="validation must be a number"):
        chapter.learn(pool, np.arange(len(pool)) % 2, KINDS["SVM"], 0, 40)


# --- the owner's side -------------------------------------------------------


def test_a_filter_answers_probabilities_of_encoded_rows(pool):
    y = half_plane(pool).argmax(axis=1)
    model = KINDS["SVM"](0).fit(pool, y)
    plain = chapter.Filter(model)
    np.testing.assert_allclose(plain(pool).sum(axis=1), 1)
    np.testing.assert_array_equal(plain.labels(pool), model.predict(pool))
    coded = chapter.Filter(model, encode=lambda x: x / 2)
    np.testing.assert_allclose(coded(2 * pool), plain(pool))
