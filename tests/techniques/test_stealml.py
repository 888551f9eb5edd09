"""StealML against second routes: closed forms, scikit-learn, brute force."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier

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
    theta = chapter.solve_ovr(api, table(60, seed=1)[0])
    truth = np.vstack([theta_of(one) for one in victim.estimators_])
    assert api.ledger.queries == 60
    assert chapter.relative_error(theta, truth) < 1e-5
    x = table(seed=2)[0]
    answers = chapter.ovr_answers(truth, x)
    np.testing.assert_allclose(answers, victim.predict_proba(x), atol=1e-12)


@pytest.mark.parametrize(
    "loss", ["softmax_loss", "ovr_loss", "log_ratio_loss", "weighted_log_loss"]
)
def test_gradients_of_the_losses(loss):
    rng = np.random.default_rng(0)
    z, p = rng.normal(size=(4, C)), rng.dirichlet(np.ones(C), 4)
    loss = getattr(chapter, loss)
    numeric = approx_fprime(
        z.ravel(), lambda flat: loss(flat.reshape(z.shape), p)[0], 1e-7
    )
    np.testing.assert_allclose(loss(z, p)[1].ravel(), numeric, atol=1e-6)


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
    copy = chapter.fit_network(table(4)[0], p, 2, restarts=3)
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
    }
    errors = {
        name: chapter.relative_error(chapter.remove_shift(theta), truth)
        for name, theta in errors.items()
    }
    assert errors["repaired"] < 0.02
    assert errors["repaired"] <= errors["plain"] + 1e-3
    assert errors["weighted"] < 0.05
    assert errors["repaired"] < errors["clipped"]


def test_exact_answers_need_no_repair(multi):
    x = table(60, seed=1)[0]
    p, truth = multi.predict_proba(x), chapter.remove_shift(theta_of(multi))
    for solve in (chapter.fit_softmax, chapter.solve_weighted):
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


# Labels only


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
    copy = getattr(chapter, method)(api, D, 100, seed=0)
    assert (copy.predict(table()[0]) == 1).all()
    assert api.rows <= 100


@pytest.mark.parametrize(
    "method", ["retrain_uniform", "retrain_line_search", "retrain_adaptive"]
)
def test_retraining_refuses_a_budget_too_small(method):
    api = OnlyQuery(plane(np.ones(D), 0.0))
    with pytest.raises(ValueError, match="20 queries"):
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


# Trees


class Nodes:
    """A hand-made tree with the attributes that scikit-learn's have."""

    def __init__(self, nodes, n_features=2):
        self.tree_, self.n_features = self, n_features
        feature, threshold, left, right, counts = zip(*nodes, strict=True)
        self.feature, self.threshold = np.array(feature), np.array(threshold)
        self.children_left = np.array(left)
        self.children_right = np.array(right)
        counts = np.array(counts, float)
        self.weighted_n_node_samples = counts.sum(axis=1)
        self.value = counts[:, None]


TWICE = Nodes(
    [  # feature 0 is split at the root and again below feature 1
        (0, 0.5, 1, 2, (30, 31)),
        (1, 0.2, 3, 4, (20, 11)),
        (-2, 0.0, -1, -1, (10, 20)),
        (0, -0.3, 5, 6, (15, 4)),
        (-2, 0.0, -1, -1, (5, 7)),
        (-2, 0.0, -1, -1, (13, 1)),
        (-2, 0.0, -1, -1, (2, 3)),
    ]
)
ENDS = (-np.ones(2), np.ones(2))


def test_the_owners_walk_is_scikit_learns():
    x, y = table(300)
    model = DecisionTreeClassifier(random_state=0).fit(x, y)
    oracle = chapter.TreeOracle(model)
    fresh = table(500, seed=1)[0]
    answers = oracle.query(fresh)
    np.testing.assert_array_equal(answers[:, 0], model.predict(fresh))
    confidence = model.predict_proba(fresh).max(axis=1)
    np.testing.assert_allclose(answers[:, 1], confidence)
    # Values that only differ in double precision fall to the same side.
    edge = np.tile(fresh[:1], (2, 1))
    i = model.tree_.feature[0]
    edge[:, i] = model.tree_.threshold[0] + np.array([0, 1e-12])
    np.testing.assert_array_equal(
        oracle.query(edge)[:, 0], model.predict(edge)
    )


def test_partial_rows_stop_at_the_node_that_asks():
    oracle = chapter.TreeOracle(TWICE)
    x = np.zeros((3, 2))
    known = np.array([[False, False], [True, False], [False, True]])
    answers = oracle.query(x, known)
    np.testing.assert_allclose(answers[0], [1, 31 / 61])
    np.testing.assert_allclose(answers[1], [0, 20 / 31])
    np.testing.assert_allclose(answers[2], [1, 31 / 61])
    assert oracle.ledger.queries == 3


def test_laplace_is_added_to_every_class():
    answers = chapter.node_answers(TWICE, 1.0)
    np.testing.assert_allclose(answers[0], [1, 32 / 63])
    np.testing.assert_allclose(answers[5], [0, 14 / 16])


@pytest.mark.parametrize("find", ["by_halving", "one_by_one"])
def test_a_feature_split_twice_needs_the_rescan(find):
    find, oracle = getattr(chapter, find), chapter.TreeOracle(TWICE)
    tree = chapter.tree_top_down(oracle, *ENDS, 1e-4, find)
    found = chapter.splits_of(tree)
    assert [i for i, _ in found] == [0, 0, 1]
    np.testing.assert_allclose(
        [t for _, t in found], [-0.3, 0.5, 0.2], atol=1e-4
    )
    blind = chapter.tree_top_down(oracle, *ENDS, 1e-4, find, rescan=False)
    assert len(chapter.splits_of(blind)) < 3


def test_bottom_up_on_the_same_tree():
    oracle = chapter.TreeOracle(TWICE)
    for skip in (False, True):
        boxes = chapter.tree_bottom_up(oracle, *ENDS, 1e-4, skip=skip)
        x = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
        labels = chapter.predict_boxes(boxes, x)
        assert (labels == oracle.query(x)[:, 0]).mean() > 0.999
        assert len(boxes) == 4


def alike():
    """x0 at -0.5 and 0.5: outer leaves alike, so both ends answer the same."""
    return Nodes(
        [
            (0, -0.5, 1, 2, (16, 12)),
            (-2, 0.0, -1, -1, (8, 1)),
            (0, 0.5, 3, 4, (8, 11)),
            (-2, 0.0, -1, -1, (0, 10)),
            (-2, 0.0, -1, -1, (8, 1)),
        ]
    )


def test_leaves_that_answer_alike():
    x = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
    truth = (np.abs(x[:, 0]) < 0.5).astype(int)
    tree = chapter.tree_top_down(chapter.TreeOracle(alike()), *ENDS, 1e-4)
    assert (chapter.predict_tree(tree, x) == truth).mean() > 0.999
    # Bottom-up sees nothing on a line whose ends and row all answer alike.
    for start in (None, np.array([-0.9, 0.0])):
        boxes = chapter.tree_bottom_up(
            chapter.TreeOracle(alike()), *ENDS, 1e-4, start=start
        )
        assert (chapter.predict_boxes(boxes, x) == truth).mean() < 0.7


@pytest.mark.parametrize("seed", range(3))
def test_random_trees_leaf_by_leaf(seed):
    model = DecisionTreeClassifier(max_leaf_nodes=12, random_state=seed)
    model.fit(*table(300, seed=seed))
    ends, true = (-np.ones(D), np.ones(D)), model.tree_
    tree = chapter.tree_top_down(
        chapter.TreeOracle(model, laplace=1.0), *ends, 1e-6
    )
    inner = true.feature >= 0
    expected = np.array([true.feature[inner], true.threshold[inner]]).T
    found = np.array(chapter.splits_of(tree))
    far = np.abs(found[:, None] - expected[None]).max(axis=2)
    assert far.min(axis=0).max() < 1e-6  # every split is found
    assert far.min(axis=1).max() < 1e-6  # and no other
    boxes = chapter.tree_bottom_up(
        chapter.TreeOracle(model, laplace=1.0), *ends, 1e-6
    )
    x = table(3000, seed=9)[0]
    assert (chapter.predict_tree(tree, x) == model.predict(x)).all()
    assert (chapter.predict_boxes(boxes, x) == model.predict(x)).mean() > 0.98


@pytest.mark.parametrize("seed", range(3))
def test_a_threshold_is_the_middle_of_its_gap(seed):
    model = DecisionTreeClassifier(max_leaf_nodes=12, random_state=seed)
    model.fit(*table(300, seed=seed))
    ends = -np.ones(D), np.ones(D)
    for precision in (0.02, 1e-3):
        tree = chapter.tree_top_down(
            chapter.TreeOracle(model, laplace=1.0), *ends, precision
        )
        error = chapter.threshold_error(tree, model)
        assert 0 < error <= precision / 2 + 1e-6


@pytest.mark.parametrize("seed", [0, 1, 11, 100])
@pytest.mark.parametrize("name", ["iris", "wine"])
def test_nodes_that_answer_as_their_neighbours_hide_nothing(name, seed):
    # Iris, 100: a leaf of (0, 1, 0) rows answers as the (0, 2, 1) above it.
    model = DecisionTreeClassifier(random_state=0)
    model.fit(*datasets.tabular(name, seed).train)
    d = model.n_features_in_
    oracle = chapter.TreeOracle(model, laplace=1.0)
    tree = chapter.tree_top_down(oracle, -np.ones(d), np.ones(d), 1e-6)
    assert chapter.threshold_error(tree, model) < 1e-6
    x = np.random.default_rng(0).uniform(-1, 1, (3000, d))
    assert (chapter.predict_tree(tree, x) == model.predict(x)).all()


@pytest.mark.parametrize("same", ["left", "right"])
def test_a_child_that_answers_as_its_parent_is_no_leaf(same):
    children = [(-2, 0.0, -1, -1, (2, 1)), (-2, 0.0, -1, -1, (1, 5))]
    if same == "right":
        children.reverse()
    model = Nodes([(0, 0.1, 1, 2, (4, 2)), *children])
    for find in (chapter.by_halving, chapter.one_by_one):
        oracle = chapter.TreeOracle(model)
        tree = chapter.tree_top_down(oracle, *ENDS, 1e-4, find)
        assert chapter.threshold_error(tree, model) < 1e-4


def test_the_threshold_error_knows_a_split_that_was_found_twice():
    def split(feature, threshold, left, right):
        return chapter.Split(feature, threshold, left, right)

    leaf = chapter.Leaf(0, 1.0)
    lower = split(0, -0.3, leaf, leaf)
    whole = split(0, 0.5, split(1, 0.2, lower, leaf), leaf)
    twice = split(0, 0.5, split(1, 0.2, lower, lower), leaf)
    moved = split(0, 0.5, split(1, 0.25, lower, leaf), leaf)
    error = chapter.threshold_error
    assert error(whole, TWICE) == error(twice, TWICE) == 0
    assert error(moved, TWICE) == pytest.approx(0.05)
    assert error(split(0, 0.5, lower, leaf), TWICE) == np.inf  # 1 is missing
    assert error(split(1, 0.2, leaf, leaf), TWICE) == np.inf
    assert error(leaf, TWICE) == np.inf
    # A threshold that nobody has counts, whichever tree it is in.
    made_up = split(
        0, 0.5, split(1, 0.2, lower, leaf), split(0, 0.9, leaf, leaf)
    )
    assert error(made_up, TWICE) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("name", "up", "skipping", "down"),
    [("iris", 160, 150, 127), ("wine", 342, 287, 160)],
)
def test_memory_and_halving_keep_the_bill_small(name, up, skipping, down):
    # Without the border memory wine costs 531, one by one more than 250.
    model = DecisionTreeClassifier(random_state=0)
    model.fit(*datasets.tabular(name, 0).train)
    d = model.n_features_in_
    x = np.random.default_rng(0).uniform(-1, 1, (3000, d))
    y = model.predict(x)
    for attack, limit, options in (
        (chapter.tree_bottom_up, up, {}),
        (chapter.tree_bottom_up, skipping, {"skip": True}),
        (chapter.tree_top_down, down, {}),
    ):
        oracle = chapter.TreeOracle(model, laplace=1.0)
        copy = attack(oracle, -np.ones(d), np.ones(d), **options)
        boxes = isinstance(copy, list)
        predict = chapter.predict_boxes if boxes else chapter.predict_tree
        assert (predict(copy, x) == y).mean() > 0.99
        assert oracle.ledger.queries <= limit


def test_halving_names_those_without_which_nothing_changes():
    # 2 changes the answer, but only where 0 and 1 are changed before it.
    def changes(features):
        return {0, 1, 2} <= set(features)

    assert chapter.by_halving([0, 1, 2, 3], changes) == [0, 1, 2]
    assert chapter.one_by_one([0, 1, 2, 3], changes) == []


def test_halving_asks_a_logarithm_and_finds_the_same():
    asked = []

    def changes(features):
        asked.append(features)
        return 37 in features

    assert chapter.by_halving(list(range(64)), changes) == [37]
    assert len(asked) <= 8
    assert chapter.one_by_one(list(range(64)), changes) == [37]
    asked.clear()
    assert chapter.by_halving(list(range(20)), changes) == []
    assert len(asked) == 1
    assert chapter.by_halving([], changes) == []


def test_nothing_is_asked_twice():
    oracle = chapter.TreeOracle(TWICE)
    answer = chapter.Remembered(oracle)
    known = np.array([True, False])
    first = answer(np.array([0.1, 7.0]), known)
    assert answer(np.array([0.1, 8.0]), known) == first
    assert oracle.ledger.queries == 1


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
    oracle = chapter.TreeOracle(TWICE, budget=1)
    with pytest.raises(BudgetExceeded):
        oracle.query(np.zeros((2, 2)))
    assert oracle.ledger.queries == 0


@pytest.mark.parametrize(
    ("x", "known"),
    [
        (np.zeros((2, 3)), None),
        (np.zeros(2), None),
        (np.full((1, 2), np.nan), None),
        (np.zeros((2, 2)), np.ones((1, 2), bool)),
        (np.zeros((1, 2)), np.ones((1, 2), int)),
    ],
)
def test_bad_partial_rows_cost_nothing(x, known):
    oracle = chapter.TreeOracle(TWICE)
    with pytest.raises(ValueError):
        oracle.query(x, known)
    assert oracle.ledger.queries == 0


@pytest.mark.parametrize(
    ("low", "high", "precision"),
    [
        (np.ones(2), -np.ones(2), 1e-3),
        (-np.ones(2), np.ones(3), 1e-3),
        (-np.ones(2), np.ones(2), 0.0),
        (np.full(2, -np.inf), np.ones(2), 1e-3),
    ],
)
def test_bad_ranges_cost_nothing(low, high, precision):
    for attack in (chapter.tree_bottom_up, chapter.tree_top_down):
        oracle = chapter.TreeOracle(TWICE)
        with pytest.raises(ValueError):
            attack(oracle, low, high, precision)
        assert oracle.ledger.queries == 0
