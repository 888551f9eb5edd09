"""The comparison of attacks: its own few functions, by a second route."""

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC
from torch import nn

from mexutils import PredictionAPI, datasets, load_chapter
from mexutils.runs import Interval

comparison = load_chapter("comparison/attack_comparison")


def ink(x):
    """A victim: which half of a picture has the ink, as two of ten classes."""
    halves = x.reshape(len(x), 28, 2, 14).sum((1, 3)) + 1e-3
    answers = halves / halves.sum(axis=1, keepdims=True)
    return np.pad(answers, [(0, 0), (0, 8)])


@pytest.fixture(scope="module")
def pool():
    return datasets.letters(300, seed=5).x


# --- queries to a level ----------------------------------------------------


def test_queries_to_a_level_by_hand():
    # Half of the way from 90 to 96 is half of the way from log 1,000 to
    # log 4,000, which is their geometric mean.
    assert comparison.queries_to(93, [1000, 4000], [90, 96]) == pytest.approx(
        2000
    )


def test_queries_to_a_level_solve_the_line_on_the_log_axis():
    budgets, values = [300, 1000, 3000, 10_000], [70.0, 88.5, 94.0, 98.0]
    q = comparison.queries_to(95, budgets, values)
    share = (np.log(q) - np.log(3000)) / (np.log(10_000) - np.log(3000))
    assert values[2] + share * (values[3] - values[2]) == pytest.approx(95)
    assert 3000 < q < 10_000


def test_the_first_crossing_counts_where_a_curve_falls_again():
    q = comparison.queries_to(95, [100, 200, 400, 800], [90, 96, 91, 99])
    assert 100 < q < 200


@pytest.mark.parametrize(
    ("values", "expected"),
    [([96, 97, 99], 10), ([95, 80, 99], 10), ([10, 95, 99], 20)],
)
def test_a_level_met_at_a_budget_is_that_budget(values, expected):
    q = comparison.queries_to(95, [10, 20, 40], values)
    assert q == pytest.approx(expected)


def test_a_level_that_is_not_reached_is_nan():
    assert np.isnan(comparison.queries_to(95, [10, 20], [10, 94.99]))


@pytest.mark.parametrize(
    ("budgets", "values", "fault"),
    [
        ([10, 20], [1.0], "one value to each budget"),
        ([], [], "one value to each budget"),
        ([20, 10], [1.0, 2.0], "sort them"),
        ([10, 10], [1.0, 2.0], "sort them"),
        ([0, 10], [1.0, 2.0], "above 0"),
        ([10, 20], [1.0, np.nan], "finite"),
    ],
)
def test_bad_curves_are_refused(budgets, values, fault):
    with pytest.raises(ValueError, match=fault):
        comparison.queries_to(95, budgets, values)


def curve(*rows):
    """A curve of fidelities: `(queries, seed by seed)`."""
    return {q: [{"fidelity": v} for v in values] for q, values in rows}


def test_needed_reads_each_seed_apart():
    both = curve((100, [90, 90]), (400, [100, 92]))
    first, second = comparison.needed(both)
    assert first == pytest.approx(200) and np.isnan(second)


def test_words_say_what_was_not_reached():
    words = comparison.in_words
    assert words(curve((100, [1, 2]), (400, [3, 4]))) == "not reached with 400"
    assert words(curve((100, [1, 2]), (400, [99, 4]))).startswith("1 of 2")
    assert words(curve((100, [95, 99]))) == "at most 100"
    same = curve((100, [90, 90]), (400, [100, 100]))
    assert words(same) == "200 [200, 200]"


# --- buying and training ---------------------------------------------------


def test_the_ledger_equals_the_budget(pool):
    api = PredictionAPI(ink, budget=120)
    images, answers = comparison.buy(api, pool, 120, seed=1)
    assert api.ledger.queries == 120 == len(images) == len(answers)
    assert len(np.unique(images.reshape(120, -1), axis=0)) == 120
    np.testing.assert_allclose(answers, ink(images))


def test_a_pool_that_is_too_small_costs_nothing(pool):
    api = PredictionAPI(ink)
    with pytest.raises(ValueError, match="enlarge the pool"):
        comparison.buy(api, pool, 301, seed=1)
    assert api.ledger.queries == 0


def test_a_seed_buys_the_same_pictures(pool):
    first, second = (
        comparison.buy(PredictionAPI(ink), pool, 50, seed=4)[0]
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_the_surveys_training_learns_and_repeats(pool):
    fit = [
        comparison.survey_fit(pool, ink(pool), 0, comparison.shallow, 20)
        for _ in range(2)
    ]
    x = torch.tensor(datasets.letters(200, seed=6).x)
    first, second = (model(x).detach().argmax(1).numpy() for model in fit)
    np.testing.assert_array_equal(first, second)
    assert (first == ink(x.numpy()).argmax(1)).mean() > 0.8


def test_the_surveys_training_makes_two_passes(pool, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        comparison.training,
        "fit",
        lambda model, x, y, **settings: seen.update(settings) or model,
    )
    many = np.repeat(pool, 4, axis=0)
    comparison.survey_fit(many, ink(many), 0, comparison.shallow, 8)
    assert seen["steps"] * 8 == 2 * len(many)
    assert seen["lr"] == 0.01 and seen["batch_size"] == 8


def test_a_batch_of_none_is_refused(pool):
    with pytest.raises(ValueError, match="batch must be 1 or more"):
        comparison.survey_fit(pool, ink(pool), 0, comparison.shallow, 0)


# --- StealML's rows and the API's pictures ---------------------------------


def test_rows_become_pictures_and_are_billed_once():
    rows = np.linspace(-1, 1, 3 * 784).reshape(3, 784)
    api = PredictionAPI(ink)
    answers = comparison.RowsToPictures(api).query(rows)
    np.testing.assert_allclose(answers, ink(comparison.as_pictures(rows)))
    assert api.ledger.queries == 3
    pictures = comparison.as_pictures(rows)
    assert pictures.shape == (3, 1, 28, 28)
    assert (pictures.min(), pictures.max()) == (0, 1)
    np.testing.assert_allclose(
        pictures.ravel(), (rows.ravel() + 1) / 2, atol=1e-7
    )


def test_stealmls_learner_scales_what_it_predicts():
    """A network that answers 1 where the mean of a picture is above 0.3."""
    learner = comparison.Shallow(np.zeros((4, 784)), np.arange(4), seed=0)
    learner.network = nn.Sequential(nn.Flatten(), nn.Linear(784, 2))
    with torch.no_grad():
        learner.network[1].weight.copy_(torch.stack([torch.zeros(784)] * 2))
        learner.network[1].weight[1] = 1 / 784
        learner.network[1].bias.copy_(torch.tensor([0.3, 0.0]))
    rows = np.full((3, 784), [[-0.5], [0.0], [0.2]])  # pictures .25, .5, .6
    np.testing.assert_array_equal(learner.predict(rows), [0, 1, 1])


def test_the_shallow_network_has_one_hidden_layer():
    sizes = [tuple(w.shape) for w in comparison.shallow(7).parameters()]
    assert sizes == [(7, 784), (7,), (10, 7), (10,)]
    assert sum(isinstance(m, nn.ReLU) for m in comparison.shallow()) == 1


def test_the_judge_reads_both_kinds_of_models():
    class Answers:
        def predict_proba(self, rows):
            assert rows.shape == (4, 784)
            assert (rows.min(), rows.max()) == (-1, 1)
            return np.eye(10)[[0, 1, 2, 3]]

    constant = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    with torch.no_grad():
        constant[1].weight.zero_()
        constant[1].bias.copy_(torch.eye(10)[7])
    test = datasets.Sample(
        np.zeros((4, 1, 28, 28), np.float32), np.array([0, 1, 2, 7])
    )
    test.x[:, :, :14] = 1.0  # ink above, paper below
    own = np.array([0, 1, 7, 7])
    scores = comparison.scores_of(test, own, Answers())
    assert scores["accuracy"] == 75 and scores["fidelity"] == 50
    assert scores["relative"] == 100  # both are right three times of four
    scores = comparison.scores_of(test, own, constant)
    assert scores["accuracy"] == 25 and scores["fidelity"] == 50


# --- the small thefts of Table 2 -------------------------------------------


def test_hyperparameters_need_parameters_not_labels():
    errors = comparison.weight_thefts(seed=11, weight=3.0)
    assert errors["from the owner"] < 1e-6
    assert errors["from probabilities"] < 1e-6
    assert errors["from labels"] > 0.3


def test_parameters_from_probabilities_are_stolen_ones(monkeypatch):
    """A solver that fails is seen in its row and in no other."""
    solve = comparison.STEALML.solve_binary
    monkeypatch.setattr(
        comparison.STEALML, "solve_binary", lambda *given: 2 * solve(*given)
    )
    errors = comparison.weight_thefts(seed=11, weight=3.0)
    assert errors["from the owner"] < 1e-6 < 0.1 < errors["from probabilities"]


def test_a_theft_by_labels_is_scored_by_what_differs(monkeypatch):
    table = datasets.tabular("breast_cancer").train
    machine = LinearSVC(random_state=0).fit(*table)
    asked = {}

    def differs(predict, owner, x):
        asked.update(copy=predict(x), owner=owner, x=x)
        return 0.25

    monkeypatch.setattr(comparison.STEALML, "differs", differs)
    x = np.random.default_rng(0).uniform(-1, 1, (50, machine.n_features_in_))
    assert comparison.label_theft(machine, 40, 0, x) == {
        "fidelity": 75,
        "queries": 40,
    }
    assert asked["owner"] is machine and asked["x"] is x


def test_a_filter_is_copied_by_the_kind_that_is_named(monkeypatch):
    made = []

    def attack(victim, make, rows, queries, seed):
        made.append((victim, make, rows, queries, seed))
        return {"d": 0.1, "queries": queries}

    monkeypatch.setattr(comparison.CLASSIFIER, "attack", attack)
    for kind in ("SVM", "deep"):
        found = comparison.filter_theft("rows", "victim", kind, 30, 4)
        assert found == {"fidelity": 90, "queries": 30}
    kinds = comparison.CLASSIFIER.KINDS
    assert made == [
        ("victim", kinds[kind], "rows", 30, 4) for kind in ("SVM", "deep")
    ]


def test_a_network_gives_its_weight_away_at_the_minimum_only():
    errors = comparison.network_thefts(seed=11)
    assert errors["minimum"] < 1e-8 < 1e-3 < errors["early"]


def test_depth_costs_what_the_ledger_says():
    rows = datasets.tabular("digits").test.x
    found = comparison.depth_theft(rows, seed=3, n=2, deepest=4, repeats=5)
    assert found["queries"] == 5 + comparison.STEALNN.WARM_UP
    assert 0 <= found["within one"] <= 1


# --- curves ----------------------------------------------------------------


def test_a_curve_trains_on_the_first_pictures_of_each_seed():
    bought = {s: (np.arange(9), np.arange(9) * 10 + s) for s in (3, 4)}

    def train(x, y, s):
        assert (y == 10 * x + s).all()
        return len(x) + s

    curve = comparison.scored_curve(lambda n: {"n": n}, bought, train, [2, 9])
    assert curve == {2: [{"n": 5}, {"n": 6}], 9: [{"n": 12}, {"n": 13}]}


def test_a_lead_is_paired_over_seeds():
    runs = {
        "first": [{"relative": v} for v in (10.0, 20.0, 30.0)],
        "second": [{"relative": v} for v in (9.0, 19.0, 29.0)],
    }
    assert comparison.lead(runs, "first", "second") == (1, 1, 1)


def test_a_verdict_is_read_off_the_interval():
    said = comparison.verdict
    interval = Interval
    assert said(interval(2, 1, 3), "A", "B") == "A is ahead of B"
    assert said(interval(-2, -3, -1), "A", "B") == "B is ahead of A"
    assert said(interval(1, -1, 3), "A", "B") == "the order of A and B is open"
    words = comparison.both_verdicts({"rules": interval(2, 1, 3)})
    assert words == "with rules, KnockoffNets is ahead of PRADA"


def test_dollars_follow_the_price_and_admit_failure():
    reached = curve((100, [90, 90]), (400, [100, 100]))
    assert comparison.dollars(reached, [1.0, 10.0]) == {
        "at $1": "$0.20",
        "at $10": "$2.00",
    }
    short = comparison.dollars(curve((100, [90, 99])), [1.5])
    assert short == {"at $1.5": "–"}


def test_stealml_is_exact_with_one_query_a_parameter_and_not_before():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (300, 5))
    y = (x @ rng.normal(size=(5, 3))).argmax(1)
    model = LogisticRegression().fit(x, y)
    exact, short = (comparison.softmax_theft(model, n, 1, x) for n in (6, 5))
    assert exact["error"] < 1e-10 and exact["fidelity"] == 100
    assert short["error"] > 1e-3


def test_a_grown_attack_spends_its_budget_and_scores_each_round(pool):
    digits = datasets.Sample(pool, np.arange(len(pool)) % 10)
    seen, bought, apis = comparison.grow(
        digits,
        lambda model: {"fidelity": 0.0},
        [0, 1],
        lambda: PredictionAPI(ink),
        130,
    )
    assert list(seen) == [100, 130] and len(seen[130]) == 2
    assert [api.ledger.queries for api in apis] == [130, 130]
    assert bought[1][0].shape == (130, 1, 28, 28)


def test_the_grown_attack_is_pradas_own(pool, monkeypatch):
    """Its steps are targeted and random, not signs drawn for a control."""
    rules, whole = [], comparison.PRADA.duplication_rounds

    def noted(api, first, budget, rule, seed):
        rules.append((rule, seed, len(first)))
        return whole(api, first, budget, rule, seed)

    monkeypatch.setattr(comparison.PRADA, "duplication_rounds", noted)
    digits = datasets.Sample(pool, np.arange(len(pool)) % 10)
    api = PredictionAPI(ink)
    comparison.grow(digits, lambda model: {}, [3], lambda: api, 110)
    assert rules == [("T-RND FGSM", 3, 100)]
