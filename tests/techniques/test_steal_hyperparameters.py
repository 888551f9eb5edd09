"""Stolen weights against second routes: scipy, scikit-learn, brute force."""

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime, minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.svm import SVC

from mexutils import load_chapter

chapter = load_chapter("attacks/steal_hyperparameters")

LOSSES = {
    "squared_slope": lambda s, y: (y - s) ** 2,
    "logistic_slope": lambda s, y: np.logaddexp(0, -y * s),
    "squared_hinge_slope": lambda s, y: np.maximum(0, 1 - y * s) ** 2,
    "hinge_slope": lambda s, y: np.maximum(0, 1 - y * s),
}
PENALTIES = {
    "l1": lambda rows, w: np.abs(w).sum(),
    "l2": lambda rows, w: w @ w,
    "kernel_norm": lambda rows, w: w @ rows @ w,
}


def data(name, n=60, d=4, seed=0):
    """Rows (n, d) and targets, or classes that overlap, -1 and 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    y = x @ rng.normal(size=d) + rng.normal(size=n)
    if name not in chapter.REGRESSIONS:
        y = np.where(y > 0, 1.0, -1.0)
    return x, y


def objective(learner, rows, y, weights):
    """The objective itself, of w or of w with the bias last."""
    loss = LOSSES[learner.slope.__name__]
    d = rows.shape[1]

    def value(w):
        s = rows @ w[:d] + w[d:].sum()
        penalties = [
            PENALTIES[part.__name__](rows, w[:d]) for part in learner.penalties
        ]
        return loss(s, y).sum() + np.dot(weights, penalties)

    return value


# --- the one function -----------------------------------------------------


def test_a_hand_made_quadratic():
    # (w0 - 3)^2 + 2 (w1 + 1)^2 + lambda |w|^2 with lambda = 2:
    # w0 = 3 / 3, w1 = -2 / 4
    w = np.array([1.0, -0.5])
    g = np.array([2 * (w[0] - 3), 4 * (w[1] + 1)])
    theft = chapter.steal_weights(g, 2 * w)
    assert theft.weights == pytest.approx([2.0], rel=1e-14)
    assert theft.residual < 1e-15
    assert theft.condition == 1


def test_least_squares_and_residual_by_hand():
    g, a = np.array([3.0, 4.0]), np.array([-1.0, 0.0])
    both = chapter.steal_weights(g, a + [0, 1e-12])
    assert both.weights == pytest.approx([3.0])
    assert both.residual == pytest.approx(4 / 5)
    # A row that no penalty touches is no equation.
    assert chapter.steal_weights(g, a).residual == 0


def test_two_weights_are_the_normal_equations():
    rng = np.random.default_rng(0)
    g, a = rng.normal(size=9), rng.normal(size=(9, 2))
    theft = chapter.steal_weights(g, a)
    by_hand = -np.linalg.inv(a.T @ a) @ a.T @ g
    np.testing.assert_allclose(theft.weights, by_hand, rtol=1e-12)
    left = np.linalg.norm(g + a @ by_hand) / np.linalg.norm(g)
    assert theft.residual == pytest.approx(left)


def test_shares_by_brute_force():
    rng = np.random.default_rng(1)
    a, kinks = rng.normal(size=6), rng.normal(size=(6, 2))
    g = -(0.7 * a + kinks @ [0.25, 1.0])
    theft = chapter.steal_weights(g, a, kinks)
    grid = [
        (np.linalg.norm(g + weight * a + kinks @ [u, v]), weight)
        for weight in np.linspace(0, 2, 41)
        for u in np.linspace(0, 1, 21)
        for v in np.linspace(0, 1, 21)
    ]
    assert min(grid)[1] == pytest.approx(0.7)
    assert theft.weights == pytest.approx([0.7], rel=1e-12)
    assert theft.residual < 1e-14


def test_shares_stay_between_none_and_all():
    a, kink = np.array([1.0, 0.0]), np.array([[0.0], [1.0]])
    theft = chapter.steal_weights([-2.0, -5.0], a, kink)
    assert theft.weights == pytest.approx([2.0])
    assert theft.residual == pytest.approx(4 / np.sqrt(29))


@pytest.mark.parametrize(
    ("g", "a", "kinks", "match"),
    [
        ([1.0, 2.0], [1.0], None, "A must have 2 rows"),
        ([[1.0, 2.0], [1.0, 2.0]], [1.0, 2.0], None, "g must have"),
        ([1.0, np.nan], [1.0, 2.0], None, "g holds NaN"),
        ([1.0, 2.0], [1.0, np.inf], None, "A holds NaN or infinite"),
        ([1.0, 2.0], [0.0, 0.0], None, "no gradient"),
        ([1.0, 2.0], [[1.0, 2.0], [1.0, 2.0]], None, "do not tell 2 weights"),
        ([1.0], [[1.0, 2.0]], None, "1 equations do not tell 2"),
        ([1.0, 2.0], [1.0, 1.0], [[2.0], [2.0]], "many weights fit"),
        ([1.0, 2.0], [1.0, 1.0], [[2.0]], "kinks must have 2 rows"),
        ([], [], None, "g must have 1 rows"),
    ],
)
def test_bad_equations_are_refused(g, a, kinks, match):
    with pytest.raises(ValueError, match=match):
        chapter.steal_weights(g, a, kinks)


# --- gradients ------------------------------------------------------------


@pytest.mark.parametrize("name", chapter.LEARNERS)
@pytest.mark.parametrize("bias", [None, 0.3])
def test_gradients_are_those_of_the_objective(name, bias):
    learner = chapter.LEARNERS[name]
    x, y = data(name, n=12)
    rows = learner.design(x)
    w = np.random.default_rng(2).normal(size=rows.shape[1])
    weights = np.arange(1.0, 1 + len(learner.penalties))
    g, a, _ = chapter.gradients(learner, rows, y, w, bias)
    point = w if bias is None else np.append(w, bias)
    value = objective(learner, rows, y, weights)
    numeric = approx_fprime(point, value, 1e-7)
    np.testing.assert_allclose(g + a @ weights, numeric, atol=2e-4)


@pytest.mark.parametrize(
    "name", ["ridge", "elastic net", "L2 kernel logistic", "squared hinge"]
)
@pytest.mark.parametrize("bias", [None, 0.3])
def test_curvature_is_the_slope_of_the_gradient(name, bias):
    learner = chapter.LEARNERS[name]
    x, y = data(name, n=12)
    rows = learner.design(x)
    w = np.random.default_rng(3).normal(size=rows.shape[1])
    weights = np.full(len(learner.penalties), 0.7)
    h = chapter.curvature(learner, rows, y, w, bias, weights)

    def slope(point):
        g, a, _ = chapter.gradients(
            learner,
            rows,
            y,
            point[: len(w)],
            None if bias is None else point[-1],
        )
        return g + a @ weights

    point = w if bias is None else np.append(w, bias)
    step = 1e-6 * np.eye(len(point))
    numeric = [(slope(point + e) - slope(point - e)) / 2e-6 for e in step]
    np.testing.assert_allclose(h, np.array(numeric).T, atol=1e-5)


def test_network_gradients_against_differences():
    rng = np.random.default_rng(0)
    x, y, hidden = rng.normal(size=(7, 3)), rng.normal(size=7), 2
    theta = rng.normal(size=hidden * 5 + 1)

    def by_hand(theta):
        w, v = theta[:6].reshape(2, 3), theta[6:8]
        s = expit(x @ w.T + theta[8:10]) @ v + theta[10]
        return ((s - y) ** 2).sum()

    g, a = chapter.network_gradients(theta, x, y, hidden)
    np.testing.assert_allclose(g, approx_fprime(theta, by_hand), atol=1e-5)
    np.testing.assert_allclose(a, np.append(2 * theta[:8], np.zeros(3)))


# --- every learner, robbed ------------------------------------------------

HIGH = dict.fromkeys(chapter.LEARNERS, 1e-9)
HIGH |= dict.fromkeys(chapter.LOGISTIC, 1e-5)
HIGH |= {"squared hinge": 1e-6, "kernel, squared hinge": 5e-6}


@pytest.mark.parametrize("name", chapter.LEARNERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_weight_that_scikit_learn_was_given(name, seed):
    learner = chapter.LEARNERS[name]
    x, y = data(name, d=8, seed=seed)
    rows = learner.design(x)
    first = 9.0 if name == "hinge" else 1.5
    truth = np.array([first, 0.6])[: len(learner.penalties)]
    theft = chapter.steal(learner, rows, y, *learner.train(rows, y, truth))
    error = chapter.relative_error(theft.weights, truth)
    assert error < HIGH[name]
    assert theft.residual < 1e-5


@pytest.mark.parametrize(
    "name",
    ["ridge", "kernel ridge", "L2 logistic", "L2 kernel logistic"]
    + ["squared hinge", "kernel, squared hinge"],
)
def test_a_model_that_scipy_trained(name):
    learner = chapter.LEARNERS[name]
    x, y = data(name, n=30)
    rows, weight = learner.design(x), np.array([1.5])
    value = objective(learner, rows, y, weight)
    start = np.zeros(rows.shape[1])
    best = minimize(value, start, method="BFGS", options={"gtol": 1e-7}).x
    theft = chapter.steal(learner, rows, y, best)
    assert theft.weights == pytest.approx(weight, rel=1e-3)


@pytest.mark.parametrize("name", ["LASSO", "elastic net", "L1 logistic"])
def test_no_other_point_is_better_than_what_the_owner_trained(name):
    learner = chapter.LEARNERS[name]
    x, y = data(name)
    rows = learner.design(x)
    weights = np.array([3.0, 0.6])[: len(learner.penalties)]
    w, bias = learner.train(rows, y, weights)
    point = w if bias is None else np.append(w, bias)
    value = objective(learner, rows, y, weights)
    rng = np.random.default_rng(0)
    for size in (1e-4, 1e-2, 1):
        for step in size * rng.normal(size=(50, len(point))):
            assert value(point + step) > value(point)


def test_the_converged_network_gives_its_weight_away():
    torch.manual_seed(0)
    x, y = data("ridge", n=40, d=3)
    kept = chapter.train_network(x, y, 0.3, 3, (5, 1000), 0)
    early, late = (
        chapter.steal_weights(*chapter.network_gradients(kept[k], x, y, 3))
        for k in (5, "Newton")
    )
    assert chapter.relative_error(late.weights, 0.3) < 1e-9
    assert 100 * late.residual < early.residual


def test_newton_steps_lead_to_the_bottom():
    x, y = data("ridge", n=40, d=3)
    near = chapter.train_network(x, y, 0.3, 3, (300,), 0)["Newton"]
    near = near + 1e-4 * np.random.default_rng(0).normal(size=len(near))
    tensors = torch.tensor(x), torch.tensor(y)
    bottom = chapter.newton(near, *tensors, 0.3, 3)
    before, after = (
        chapter.steal_weights(*chapter.network_gradients(theta, x, y, 3))
        for theta in (near, bottom)
    )
    assert after.residual < 1e-9 < 1e-6 < before.residual
    assert chapter.relative_error(after.weights, 0.3) < 1e-9


# --- the hinge ------------------------------------------------------------


def hinge_machine(c=0.1, seed=0):
    x, y = data("hinge", n=300, d=12, seed=seed)
    model = SVC(C=c, kernel="linear", tol=1e-12).fit(x, y)
    return x, y, model.coef_[0], model.intercept_[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_hinge_needs_its_margin_rows(seed):
    x, y, w, bias = hinge_machine(seed=seed)
    learner = chapter.LEARNERS["hinge"]
    g, a, kinks = chapter.gradients(learner, x, y, w, bias)
    assert 1 <= kinks.shape[1] < 13
    weights = chapter.steal_weights(g, a, kinks).weights
    assert weights == pytest.approx([5.0], rel=1e-9)
    ignored = chapter.steal_weights(g, a).weights
    assert chapter.relative_error(ignored, 5.0) > 0.01


def test_the_share_of_a_row_is_its_dual_coefficient():
    x, y = data("hinge", n=150)
    model = SVC(C=0.5, kernel="linear", tol=1e-12).fit(x, y)
    w, bias = model.coef_[0], model.intercept_[0]
    margin = np.abs(1 - y * (x @ w + bias)) < 1e-3
    dual = np.zeros(len(y))
    dual[model.support_] = np.abs(model.dual_coef_[0]) / 0.5
    inside = y * (x @ w + bias) < 1 - 1e-3
    np.testing.assert_allclose(dual[inside], 1)
    # 2 lambda w = sum y x + sum share y x, with lambda = 1
    weighed = (dual * y * (inside | margin)) @ x
    np.testing.assert_allclose(2 * w, weighed * 1.0, atol=1e-9)


def test_separable_data_are_refused():
    x = np.array([[1.0, 0], [2, 1], [-1, 0], [-2, 1]])
    y = np.array([1.0, 1, -1, -1])
    learner = chapter.LEARNERS["hinge"]
    parameters = learner.train(x, y, [1e-4])
    with pytest.raises(ValueError, match="many weights fit"):
        chapter.steal(learner, x, y, *parameters)


# --- errors, rounding, service --------------------------------------------


@pytest.mark.parametrize("name", ["ridge", "LASSO", "L2 logistic"])
def test_the_predicted_error(name):
    learner = chapter.LEARNERS[name]
    x, y = data(name)
    w, bias = learner.train(x, y, [1.5])
    assert w.all()
    delta = 1e-6 * np.random.default_rng(0).normal(size=len(w) + 1)
    args = (learner, x, y, w, bias, [1.5], delta)
    moved = chapter.steal(learner, x, y, w + delta[:-1], bias + delta[-1])
    error = moved.weights - 1.5
    assert chapter.predicted_error(*args) == pytest.approx(error, rel=0.01)


def rounding_trials(name, decimals, weight, seeds=range(5)):
    trials = [
        chapter.rounding_trial(name, decimals, seed, weight) for seed in seeds
    ]
    return {key: np.array([t[key] for t in trials]) for key in trials[0]}


@pytest.mark.parametrize(
    ("name", "decimals", "weight", "most"),
    [
        ("ridge", 2, 1.0, 0.3),
        ("LASSO", 3, 1.0, 0.03),  # has zeros, which are no equations
        ("L2 logistic", 1, 0.1, 0.05),
        ("squared hinge", 1, 0.1, 0.1),
    ],
)
def test_the_adaptive_attacker_sees_through_rounding(
    name, decimals, weight, most
):
    trials = rounding_trials(name, decimals, weight)
    assert trials["adaptive"].mean() < most
    assert trials["adaptive"].mean() < trials["plain"].mean() / 2
    if name in chapter.REGRESSIONS:
        assert trials["utility lost"].min() > 0


@pytest.mark.parametrize("name", ["L2 logistic", "squared hinge", "ridge"])
def test_where_all_parameters_are_alike_nothing_is_lost(name):
    # The first guess alone, at the rounded parameters, is twice as far off.
    trials = rounding_trials(name, 1, 100.0)
    assert trials["adaptive"].mean() < 1.5 * trials["plain"].mean()


@pytest.mark.parametrize("name", ["ridge", "LASSO", "L2 logistic"])
def test_no_weight_trains_a_model_nearer_to_the_published_one(name):
    learner = chapter.LEARNERS[name]
    x, y = data(name, n=80, d=6)
    published = chapter.rounded(learner.train(x, y, [1.5]), 1)
    found = chapter.steal_rounded(learner, x, y, *published).weights[0]

    def distance(weight):
        own = learner.train(x, y, [weight])
        return np.linalg.norm(
            chapter.joined(*own) - chapter.joined(*published)
        )

    others = [distance(weight) for weight in np.geomspace(0.01, 100, 200)]
    assert distance(found) < 1.001 * min(others)


def test_two_rounded_weights_at_once():
    learner = chapter.LEARNERS["elastic net"]
    x, y = data("elastic net", n=80, d=8)
    published = chapter.rounded(learner.train(x, y, [3.0, 2.0]), 4)
    weights = chapter.steal_rounded(learner, x, y, *published).weights
    assert chapter.relative_error(weights, [3.0, 2.0]) < 0.02


def test_the_curvature_of_the_adaptive_attack_is_that_of_its_guess():
    # Classes that can be separated: the penalty is most of the curvature.
    learner, errors = chapter.LEARNERS["L2 logistic"], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(40, 20)) @ np.diag(np.linspace(0.1, 2, 20))
        y = np.sign(x @ rng.normal(size=20))
        parameters = chapter.rounded(learner.train(x, y, [0.5]), 2)
        weights = chapter.steal_rounded(learner, x, y, *parameters).weights
        errors.append(chapter.relative_error(weights, 0.5))
    assert np.mean(errors) < 0.05


def test_the_gain_is_what_random_errors_show():
    learner, weight = chapter.LEARNERS["ridge"], np.array([1.5])
    x, y = data("ridge", n=80, d=5)
    x = x @ np.diag([1, 1, 3, 5, 8]) + 1  # so that the bias matters
    exact = learner.train(x, y, weight)
    h, _, a, _ = chapter.stiffness(learner, x, y, *exact, weight)
    delta = 1e-7 * np.random.default_rng(0).normal(size=(4000, 6))
    plain = [
        chapter.steal(learner, x, y, exact[0] + d[:-1], exact[1] + d[-1])
        for d in delta
    ]
    plain = np.std([theft.weights[0] for theft in plain])
    moved = np.linalg.solve(h, a[:, 0])  # of the parameters, per weight
    adaptive = np.std(delta @ moved / (moved @ moved))
    expected = chapter.gain(learner, x, y, *exact, weight)
    assert expected == pytest.approx(plain / adaptive, rel=0.1)


def test_the_gain_lies_between_its_bounds():
    learner = chapter.LEARNERS["ridge"]
    x, y = data("ridge", n=80, d=5)
    for weight in ([0.1], [10.0], [1e6]):
        w, bias = learner.train(x - x.mean(axis=0), y, weight)
        args = (learner, x - x.mean(axis=0), y, w, bias, weight)
        kappa = np.linalg.cond(chapter.curvature(*args)[:-1, :-1])
        gain = chapter.gain(*args)
        assert 1 - 1e-9 <= gain <= (kappa + 1 / kappa) / 2 + 1e-9
    assert gain == pytest.approx(1, abs=1e-3)  # the penalty is all of H


def test_rounding_keeps_a_missing_bias_missing():
    w, bias = chapter.rounded((np.array([0.126, -0.124]), None), 2)
    assert (w.tolist(), bias) == ([0.13, -0.12], None)


def test_rounding_moves_the_bias_too():
    w, bias = chapter.rounded((np.array([0.126, -0.124]), 0.256), 2)
    assert (w.tolist(), float(bias)) == ([0.13, -0.12], 0.26)


def test_the_utility_lost_by_hand():
    x, y = np.array([[1.0], [2.0], [-1.0], [-2.0]]), np.array([1.0, 1, -1, -1])
    exact, moved = (np.array([1.0]), 0.0), (np.array([1.0]), 1.5)
    # Scores 2.5, 3.5, 0.5, -0.5: one of four is wrong.
    lost = chapter.utility_loss("L2 logistic", x, y, moved, exact)
    assert lost == pytest.approx(0.25)
    # Errors 0, 1, 0, 1 against 1.5, 2.5, 1.5, 0.5 (squares: 2 and 11).
    lost = chapter.utility_loss("ridge", x, y, moved, exact)
    assert lost == pytest.approx(11 / 2 - 1)


def test_cross_validation_scores_rows_that_it_did_not_train_on():
    # Labels are noise and inputs many: trained rows prefer the least weight.
    candidates, folds = np.logspace(-3, 3, 7), 3
    for seed in range(3):
        x, y = data("L2 logistic", n=60, d=30, seed=seed)
        y = np.random.default_rng(seed).permutation(y)
        fold = np.arange(60) % folds
        losses = []
        for weight in candidates:
            model = LogisticRegression(
                C=1 / (2 * weight), tol=1e-8, max_iter=1000
            )
            parts = [
                (
                    fold == k,
                    model.fit(x[fold != k], y[fold != k]).predict_proba(x),
                )
                for k in range(folds)
            ]
            losses.append(
                sum(
                    log_loss(y[part], p[part], labels=[-1, 1], normalize=False)
                    for part, p in parts
                )
            )
        _, chosen = chapter.service_tunes(x, y, candidates, folds)
        assert chosen == candidates[np.argmin(losses)]
        assert chosen > 10 * candidates[0]  # not what trained rows say


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_the_rows_that_a_tuning_bills_are_those_trained(monkeypatch, folds):
    x, y = data("L2 logistic", n=61)
    sizes, train = [], chapter.service_trains
    monkeypatch.setattr(
        chapter,
        "service_trains",
        lambda x, y, weight, *name: (
            sizes.append(len(y)) or train(x, y, weight, *name)
        ),
    )
    chapter.service_tunes(x, y, [0.1, 1.0, 10.0], folds)
    assert chapter.rows_trained(61, 3, folds) == sum(sizes)


def test_m3_trains_all_rows_with_the_stolen_weight(monkeypatch):
    x, y = data("L2 logistic", n=200)
    calls, train = [], chapter.service_trains
    monkeypatch.setattr(
        chapter,
        "service_trains",
        lambda x, y, weight, *name: (
            calls.append((len(y), weight)) or train(x, y, weight, *name)
        ),
    )
    candidates = [0.3, 3.0]
    ways = chapter.tune_steal_retrain(x, y, x, y, 0.25, candidates, 2, 0)
    rows, weight = calls[-1]
    assert {n for n, _ in calls[:-1]} == {25, 50} and rows == 200
    assert weight == pytest.approx(ways["weight"], rel=1e-4)
    large = train(x, y, ways["weight"])
    assert ways["M3"] == chapter.hits(x, y, *large)


def test_the_service_tunes_and_the_client_steals():
    x, y = data("L2 logistic", n=200)
    candidates = [0.1, 1.0, 1000.0]
    parameters, secret = chapter.service_tunes(x, y, candidates, 3)
    assert secret in candidates[:2]
    again = LogisticRegression(C=1 / (2 * secret), tol=1e-10).fit(x, y)
    np.testing.assert_allclose(parameters[0], again.coef_[0], atol=1e-4)
    stolen = chapter.steal(chapter.LEARNERS["L2 logistic"], x, y, *parameters)
    assert stolen.weights == pytest.approx([secret], rel=1e-5)
    args = (x, y, x, y, 0.5, candidates, 3, 0)
    ways = chapter.tune_steal_retrain(*args)
    assert ways["error"] < 1e-5
    assert ways["M3 seconds"] > 0


def test_a_service_that_tunes_ridge_by_its_squared_error():
    x, y = data("ridge", n=61, d=20)
    candidates, fold = np.logspace(-2, 3, 6), np.arange(61) % 3
    losses = [
        sum(
            (
                (
                    Ridge(alpha=weight)
                    .fit(x[fold != k], y[fold != k])
                    .predict(x[fold == k])
                    - y[fold == k]
                )
                ** 2
            ).sum()
            for k in range(3)
        )
        for weight in candidates
    ]
    _, chosen = chapter.service_tunes(x, y, candidates, 3, "ridge")
    assert chosen == candidates[np.argmin(losses)]


def test_what_m3_carries_is_measured_on_m3_itself(monkeypatch):
    # A service that halves the weight it is named: M3's error must show it.
    x, y = data("L2 logistic", n=200)
    train = chapter.service_trains

    def halves(rows, y, weight, *name):
        return train(rows, y, weight / (1 + (len(y) == 200)), *name)

    monkeypatch.setattr(chapter, "service_trains", halves)
    ways = chapter.tune_steal_retrain(x, y, x, y, 0.25, [0.3, 3.0], 2, 0)
    assert ways["error"] == pytest.approx(0.5, rel=1e-4)


def test_the_error_bar_of_least_squares():
    rng = np.random.default_rng(0)
    a = rng.normal(size=50)
    g = -2 * a + 0.1 * rng.normal(size=50)
    theft = chapter.steal_weights(g, a)
    left = np.sum((g + theft.weights * a) ** 2) / 49
    expected = np.sqrt(left / (a @ a)) / theft.weights[0]
    bar = chapter.error_bar(theft.residual, 50)
    assert bar == pytest.approx(expected)


def test_bad_input_is_refused():
    x, y = data("hinge")
    w = np.ones(4)
    learner = chapter.LEARNERS["hinge"]
    with pytest.raises(ValueError, match="do not fit"):
        chapter.gradients(learner, x, y[:-1], w)
    with pytest.raises(ValueError, match="do not fit"):
        chapter.gradients(learner, x, y, w[:-1])
    with pytest.raises(ValueError, match="classes must be -1 and 1"):
        chapter.gradients(learner, x, (y + 1) / 2, w)
    with pytest.raises(ValueError, match="NaN"):
        chapter.steal(learner, x, y, w * np.nan)
    with pytest.raises(ValueError, match="no second derivative"):
        chapter.curvature(learner, x, y, w, None, [1.0])
    with pytest.raises(ValueError, match="cannot be compared"):
        chapter.relative_error([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="above 0"):
        chapter.relative_error([1.0], [0.0])
    for residual, equations in ((1.0, 5), (-0.1, 5), (0.5, 1)):
        with pytest.raises(ValueError, match="error bar needs"):
            chapter.error_bar(residual, equations)
