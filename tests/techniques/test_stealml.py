"""StealML against second routes: closed forms, scikit-learn, brute force."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime, least_squares
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_info, threadpool_limits

from mexutils import BudgetExceeded, PredictionAPI, datasets, load_chapter

chapter = load_chapter("attacks/stealml")

D, C = 5, 3


class OnlyQuery:
    """An API of which an attack can use `query` and nothing else."""

    __slots__ = ("_answer", "rows")

    def __init__(self, answer):
        self._answer, self.rows = answer, 0

    def query(self, x):
        self.rows += len(x)
        return self._answer(np.asarray(x))


def table(n=200, d=D, classes=C, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, d))
    y = (x @ rng.normal(size=(d, classes))).argmax(axis=1)
    return x, y


def theta_of(model):
    return np.column_stack([model.coef_, model.intercept_])


@pytest.fixture(scope="module")
def binary():
    return LogisticRegression().fit(*table(classes=2))


@pytest.fixture(scope="module")
def multi():
    return LogisticRegression().fit(*table())


# Equations


def test_binary_is_sklearns_own_parameters(binary):
    api = PredictionAPI(binary.predict_proba)
    theta = chapter.solve_binary(api, table(D + 1, seed=1)[0])
    assert api.ledger.queries == D + 1
    assert chapter.relative_error(theta, theta_of(binary)[0]) < 1e-12


def test_one_query_less_leaves_a_direction_unknown(binary):
    x = table(D, seed=1)[0]
    theta = chapter.solve_binary(PredictionAPI(binary.predict_proba), x)
    gap = theta - theta_of(binary)[0]
    assert np.abs(chapter.with_one(x) @ gap).max() < 1e-12
    assert np.linalg.norm(gap) > 1e-3


def test_softmax_is_sklearns_own_parameters_up_to_a_shift(multi):
    api = PredictionAPI(multi.predict_proba)
    theta = chapter.solve_softmax(api, table(D + 1, seed=1)[0])
    assert api.ledger.queries == D + 1
    assert not theta[0].any()
    truth = chapter.remove_shift(theta_of(multi))
    assert chapter.relative_error(chapter.remove_shift(theta), truth) < 1e-12
    x = table(seed=2)[0]
    answers = chapter.softmax_answers(theta, x)
    np.testing.assert_allclose(answers, multi.predict_proba(x), atol=1e-13)


def test_shift_is_what_the_answers_do_not_show(multi):
    theta, shift = theta_of(multi), np.arange(D + 1.0)
    x = table(seed=2)[0]
    moved = chapter.softmax_answers(theta + shift, x)
    np.testing.assert_allclose(moved, chapter.softmax_answers(theta, x))
    np.testing.assert_allclose(
        chapter.remove_shift(theta + shift), chapter.remove_shift(theta)
    )


def test_ovr_is_sklearns_own_parameters():
    victim = OneVsRestClassifier(LogisticRegression()).fit(*table())
    api = PredictionAPI(victim.predict_proba)
    theta = chapter.solve_ovr(api, table(30, seed=1)[0])
    truth = np.vstack([theta_of(one) for one in victim.estimators_])
    assert api.ledger.queries == 30
    assert chapter.relative_error(theta, truth) < 1e-10
    x = table(seed=2)[0]
    answers = chapter.ovr_answers(truth, x)
    np.testing.assert_allclose(answers, victim.predict_proba(x), atol=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        *("softmax_loss", "ovr_loss", "log_ratio_loss"),
        *("weighted_log_loss", "square_loss"),
    ],
)
def test_gradients_of_the_losses(loss):
    rng = np.random.default_rng(0)
    z, p = rng.normal(size=(4, C)), rng.dirichlet(np.ones(C), 4)
    loss = getattr(chapter, loss)
    numeric = approx_fprime(
        z.ravel(), lambda flat: loss(flat.reshape(z.shape), p)[0], 1e-7
    )
    np.testing.assert_allclose(loss(z, p)[1].ravel(), numeric, atol=1e-6)


def test_gauss_newton_finds_what_scipy_finds():
    t, rng = np.linspace(0, 1, 20), np.random.default_rng(0)
    data = 2 * np.exp(-3 * t) + 0.01 * rng.normal(size=20)

    def residuals(flat):
        decay = np.exp(-flat[1] * t)
        slopes = np.column_stack([decay, -flat[0] * t * decay])
        return flat[0] * decay - data, slopes

    found, left = chapter.gauss_newton(residuals, np.ones(2), 100, 1e-2)
    expected = least_squares(lambda f: residuals(f)[0], np.ones(2), xtol=1e-14)
    np.testing.assert_allclose(found, expected.x, rtol=1e-6)
    assert left == pytest.approx(2 * expected.cost)


def test_one_vs_rest_starts_again_where_the_steps_end_in_a_valley():
    digits = datasets.tabular("digits", 300)
    kind = OneVsRestClassifier(LogisticRegression(max_iter=1000))
    victim = kind.fit(*digits.train)
    truth = np.vstack([theta_of(one) for one in victim.estimators_])
    for seed in (301, 304):  # the first damping solves one of them
        x = chapter.uniform_rows(130, 64, seed)
        theta = chapter.fit_ovr(x, victim.predict_proba(x))
        assert np.abs(theta - truth).max() < 1e-9


def test_ovr_answers_are_fitted_from_one_class_more_than_unknowns():
    # 3 classes give 2 numbers an answer: 18 unknowns need 9 answers.
    victim = OneVsRestClassifier(LogisticRegression()).fit(*table())
    truth = np.vstack([theta_of(one) for one in victim.estimators_])
    for n, exact in ((8, False), (14, True)):
        x = table(n, seed=1)[0]
        theta = chapter.fit_ovr(x, victim.predict_proba(x))
        assert (chapter.relative_error(theta, truth) < 1e-8) is exact


def test_gradient_of_the_network():
    rng = np.random.default_rng(0)
    rows = chapter.with_one(rng.uniform(-1, 1, (6, D)))
    p = rng.dirichlet(np.ones(C), 6)
    size = 4 * (D + 1) + C * 5
    for loss in (chapter.softmax_loss, chapter.log_ratio_loss):
        objective = chapter.network_objective(rows, p, 4, loss)
        flat = rng.normal(size=size)
        numeric = approx_fprime(flat, lambda f, o=objective: o(f)[0], 1e-7)
        np.testing.assert_allclose(objective(flat)[1], numeric, atol=1e-6)


def test_losses_are_zero_at_the_victim_and_finite_far_away():
    z = np.random.default_rng(0).normal(size=(5, C))
    p = softmax(z, axis=1)
    assert abs(chapter.softmax_loss(z, p)[0]) < 1e-15
    assert abs(chapter.log_ratio_loss(z, p)[0]) < 1e-30
    q = expit(z) / expit(z).sum(axis=1, keepdims=True)
    assert abs(chapter.ovr_loss(z, q)[0]) < 1e-15
    for loss in (chapter.softmax_loss, chapter.ovr_loss):
        value, slope = loss(np.full((5, C), -2000.0) + 3000 * np.eye(5, C), p)
        assert np.isfinite(value) and np.isfinite(slope).all()


def test_small_matrices_are_multiplied_by_one_thread():
    seen = []

    def objective(point):
        seen.extend(
            pool["num_threads"]
            for pool in threadpool_info()
            if pool["user_api"] == "blas"
        )
        return (point**2).sum(), 2 * point

    with threadpool_limits(2, "blas"):
        chapter.minimise(objective, np.ones(3), 1)
    assert seen and set(seen) == {1}


def test_network_is_recovered_and_matched():
    x, y = table(300)
    victim = MLPClassifier(3, activation="tanh", max_iter=5000, random_state=0)
    victim.set_params(solver="lbfgs", alpha=0.1).fit(x, y)
    queries = table(80, seed=1)[0]
    api = PredictionAPI(victim.predict_proba)
    copy = chapter.fit_network(queries, api.query(queries), 3, restarts=5)
    fresh = table(seed=2)[0]
    np.testing.assert_allclose(
        copy.predict_proba(fresh), victim.predict_proba(fresh), atol=1e-6
    )
    original = chapter.NetworkModel(
        np.column_stack([victim.coefs_[0].T, victim.intercepts_[0]]),
        np.column_stack([victim.coefs_[1].T, victim.intercepts_[1]]),
    )
    found = chapter.match_hidden_units(copy, original)
    assert chapter.relative_error(found.hidden, original.hidden) < 1e-5
    output = chapter.remove_shift(original.output)
    assert chapter.relative_error(found.output, output) < 1e-5


@pytest.mark.parametrize("losses", [[3.0, 1.0, 2.0], [0.5, 0.7, 0.6]])
def test_the_best_of_all_starts_is_kept(monkeypatch, losses):
    starts, left = [], iter(losses)

    def minimise(objective, start, steps):
        starts.append(start)
        return np.full(start.size, float(len(starts))), next(left)

    monkeypatch.setattr(chapter, "minimise", minimise)
    p = softmax(np.zeros((4, C)), axis=1)
    copy = chapter.fit_network(table(4)[0], p, 2)  # three starts
    assert len(starts) == 3 and not np.array_equal(starts[0], starts[1])
    best = 1 + np.argmin(losses)
    assert (copy.hidden == best).all() and (copy.output == best).all()


def test_no_start_after_one_that_arrived(monkeypatch):
    starts = []

    def minimise(objective, start, steps):
        starts.append(start)
        return start, 1e-12

    monkeypatch.setattr(chapter, "minimise", minimise)
    chapter.fit_network(table(4)[0], np.full((4, C), 1 / C), 2)
    assert len(starts) == 1


def test_matching_undoes_any_order_and_signs():
    rng = np.random.default_rng(0)
    original = chapter.NetworkModel(
        rng.normal(size=(6, D + 1)), rng.normal(size=(C, 7))
    )
    order, sign = rng.permutation(6), rng.choice([-1.0, 1.0], 6)
    weights = original.output[:, :-1][:, order] * sign
    disguised = chapter.NetworkModel(
        original.hidden[order] * sign[:, None],
        np.column_stack([weights, original.output[:, -1]]) + rng.normal(),
    )
    found = chapter.match_hidden_units(disguised, original)
    np.testing.assert_allclose(found.hidden, original.hidden)
    np.testing.assert_allclose(
        found.output, chapter.remove_shift(original.output)
    )


# Rounded answers


def test_rounded_solvers(multi):
    x = table(150, seed=1)[0]
    api = PredictionAPI(multi.predict_proba, decimals=2)
    p, truth = api.query(x), chapter.remove_shift(theta_of(multi))
    errors = {
        "repaired": chapter.fit_softmax(x, p, decimals=2),
        "plain": chapter.fit_softmax(x, p),
        "weighted": chapter.solve_weighted(x, p),
        "clipped": chapter.solve_clipped(x, p, 2),
        "squares": chapter.solve_rounded(x, p),
    }
    errors = {
        name: chapter.relative_error(chapter.remove_shift(theta), truth)
        for name, theta in errors.items()
    }
    assert errors["repaired"] < 0.02
    assert errors["repaired"] <= errors["plain"] + 1e-3
    assert errors["weighted"] < 0.05
    assert errors["squares"] < 0.02
    assert errors["repaired"] < errors["clipped"]


def test_the_weights_are_the_inverse_of_the_variance():
    # Two equations for one ratio, ln 2 and ln 1: by p^2 of the two entries.
    p = np.array([[2 / 3, 1 / 3], [1 / 2, 1 / 2]])
    theta = chapter.solve_weighted(np.zeros((2, 1)), p)
    weight = (p**2).prod(axis=1) / (p**2).sum(axis=1)
    expected = weight @ np.log(p[:, 0] / p[:, 1]) / weight.sum()
    assert theta[0, -1] - theta[1, -1] == pytest.approx(expected, abs=1e-6)


def test_least_squares_lose_less_than_weights_where_little_is_left():
    # At one decimal the zeros still say that a probability is small.
    losses = {"solve_weighted": [], "solve_rounded": []}
    for seed in range(4):
        model = LogisticRegression(C=10).fit(*table(seed=seed))
        x, fresh = table(100, seed=10 + seed)[0], table(2000, seed=5)[0]
        p = PredictionAPI(model.predict_proba, decimals=1).query(x)
        for name, found in losses.items():
            theta = getattr(chapter, name)(x, p)
            answers = chapter.softmax_answers(theta, fresh)
            wrong = answers.argmax(axis=1) != model.predict(fresh)
            found.append(wrong.mean())
    assert np.mean(losses["solve_rounded"]) < np.mean(losses["solve_weighted"])


def test_exact_answers_need_no_repair(multi):
    x = table(60, seed=1)[0]
    p, truth = multi.predict_proba(x), chapter.remove_shift(theta_of(multi))
    for solve in (
        chapter.fit_softmax,
        chapter.solve_weighted,
        chapter.solve_rounded,
    ):
        theta = chapter.remove_shift(solve(x, p))
        assert chapter.relative_error(theta, truth) < 1e-5


def test_a_clipped_zero_is_half_a_step():
    # One input at -1, 0 and 1; the zeros stand for 0.05, the rest is linear.
    x, p = np.array([[-1.0], [0.0], [1.0]]), np.array([[1, 0], [1, 1], [0, 1]])
    theta = chapter.solve_clipped(x, p / p.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(theta[0], 0)
    np.testing.assert_allclose(theta[1], [np.log(20), 0], atol=1e-12)


def test_moving_rounded_answers_pays():
    # With one decimal, a plain fit believes in answers that are not meant.
    gains = []
    for seed in range(4):
        model = LogisticRegression(C=10).fit(*table(seed=seed))
        truth = chapter.remove_shift(theta_of(model))
        x = table(100, seed=10 + seed)[0]
        p = PredictionAPI(model.predict_proba, decimals=1).query(x)
        plain, repaired = (
            chapter.relative_error(
                chapter.remove_shift(chapter.fit_softmax(x, p, decimals)),
                truth,
            )
            for decimals in (None, 1)
        )
        gains.append(plain / repaired)
    assert np.mean(gains) > 1.2


# Bad input


@pytest.mark.parametrize(
    "x", [np.ones(D), np.full((3, D), np.nan), np.ones((0, D))]
)
def test_unusable_rows_cost_nothing(x, binary, multi):
    solvers = {
        chapter.solve_binary: binary,
        chapter.solve_softmax: multi,
        chapter.solve_ovr: multi,
    }
    for solve, victim in solvers.items():
        api = OnlyQuery(victim.predict_proba)
        with pytest.raises(ValueError):
            solve(api, x)
        assert api.rows == 0


@pytest.mark.parametrize("returns", ["label", "top-1"])
def test_an_api_without_probabilities_is_not_asked(returns, multi):
    api = PredictionAPI(multi.predict_proba, returns=returns)
    for solve in (
        chapter.solve_binary,
        chapter.solve_softmax,
        chapter.solve_ovr,
    ):
        with pytest.raises(ValueError, match="needs? probabilities"):
            solve(api, table(40)[0])
    assert api.ledger.queries == 0


def test_lost_logarithms_are_named(multi):
    api = OnlyQuery(lambda x: multi.predict_proba(x).round(1))
    with pytest.raises(ValueError, match="fit_softmax"):
        chapter.solve_softmax(api, table(50)[0])


def test_wrong_kinds_are_named(multi):
    api = OnlyQuery(multi.predict_proba)
    with pytest.raises(ValueError, match="solve_softmax"):
        chapter.solve_binary(api, table(D + 1)[0])
    with pytest.raises(ValueError, match="one kind"):
        chapter.relative_error(np.ones(3), np.ones(4))
    for p in (np.ones((4, C)), np.full((5, C), np.nan), -np.ones((5, C))):
        with pytest.raises(ValueError):
            chapter.fit_softmax(table(5)[0], p)


def test_a_spent_budget_leaves_nothing_billed(binary):
    api = PredictionAPI(binary.predict_proba, budget=D)
    with pytest.raises(BudgetExceeded):
        chapter.solve_binary(api, table(D + 1)[0])
    assert api.ledger.queries == 0


@pytest.mark.parametrize("kind", ["softmax", "one-vs-rest"])
def test_extract_and_test_tells_the_kind(kind):
    victim = LogisticRegression(C=10)
    if kind == "one-vs-rest":
        victim = OneVsRestClassifier(victim)
    victim.fit(*table())
    x = table(80, seed=1)[0]
    tested = chapter.extract_and_test(x, victim.predict_proba(x))
    # A softmax is the limit of one-vs-rest models with ever lower biases.
    fits = [name for name, off in tested.items() if off < 1e-6]
    assert fits[0] == kind and "network, 5 units" not in fits


def test_extract_and_test_judges_on_rows_that_no_copy_saw(multi):
    seen = []

    def remember(x, p):
        seen.append((x, p))
        return lambda rows: np.full((len(rows), C), 1 / C)

    x = table(40, seed=1)[0]
    p = multi.predict_proba(x)
    tested = chapter.extract_and_test(x, p, {"flat": remember}, held_out=0.5)
    np.testing.assert_array_equal(seen[0][0], x[:20])
    expected = np.abs(p[20:] - 1 / C).sum(axis=1).mean() / 2
    assert tested["flat"] == pytest.approx(expected)
