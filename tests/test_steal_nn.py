"""StealNN, from its chapter: hand values, brute force, finite differences."""

import itertools
import time

import numpy as np
import pytest
import torch

from mexutils import PredictionAPI, load_chapter

steal_nn = load_chapter("attacks/steal_nn")


def halves(x):
    """A victim of two classes that is sure where the first feature is 1."""
    p = (np.asarray(x)[:, 0] + 1.001) / 2.002
    return np.stack([p, 1 - p], 1)


# --- the stopwatch and its features ---------------------------------------


def test_latencies_time_each_call_in_its_own_row():
    calls = [lambda row, s=s: time.sleep(s) for s in (0.0, 0.004, 0.002)]
    taken = steal_nn.latencies(calls, np.zeros((2, 3)), 5, seed=0)
    assert taken.shape == (3, 5)
    assert list(taken.min(1).argsort()) == [0, 2, 1]
    assert taken[1].min() >= 0.004


def test_calls_are_interleaved_and_none_is_made_twice_in_a_row():
    made = []
    calls = [lambda row, k=k: made.append(k) for k in range(4)]
    steal_nn.latencies(calls, np.zeros((1, 2)), 50, seed=1)
    made = np.array(made).reshape(50 + steal_nn.WARM_UP, 4)
    assert (np.sort(made, axis=1) == np.arange(4)).all()
    assert (np.diff(made.ravel()) != 0).all()
    assert len(np.unique(made, axis=0)) > 10


def test_every_timed_query_is_billed():
    api = PredictionAPI(halves, input_shape=(2,))
    steal_nn.latencies([api.query], np.zeros((3, 2)), 7, seed=0)
    assert api.ledger.queries == 7 + steal_nn.WARM_UP


@pytest.mark.parametrize(
    ("rows", "repeats", "word"),
    [
        (np.zeros(3), 5, "one row as"),
        (np.full((2, 3), np.nan), 5, "NaN"),
        (np.empty((0, 3)), 5, "finite"),
        (np.zeros((2, 3)), 0, "repeats"),
        (np.zeros((2, 3)), 1.5, "repeats"),
    ],
)
def test_wrong_timings_are_refused_before_they_cost(rows, repeats, word):
    asked = []
    with pytest.raises(ValueError, match=word):
        steal_nn.latencies([asked.append], rows, repeats, seed=0)
    assert asked == []


def test_calls_must_be_functions():
    for calls in ([], ["api"]):
        with pytest.raises(ValueError, match="functions of a row"):
            steal_nn.latencies(calls, np.zeros((1, 2)), 3, seed=0)


def test_features_of_known_times():
    taken = 1e-6 * np.arange(1.0, 102.0)[None].repeat(2, 0)  # 1 to 101 µs
    taken[1] *= 10
    names = tuple(steal_nn.FEATURES)
    first, second = steal_nn.features(taken, names)
    wanted = [1, 6, 11, 26, 51, 91, 51, np.sqrt((101**2 - 1) / 12)]
    np.testing.assert_allclose(first, wanted)
    np.testing.assert_allclose(second, 10 * first)
    assert steal_nn.features(taken).shape == (2, len(steal_nn.ROBUST))


def test_robust_features_ignore_what_a_mean_does_not():
    taken = np.full((1, 100), 2e-4)
    spoilt = taken.copy()
    spoilt[0, :3], spoilt[0, 3] = 0.05, 1e-6
    np.testing.assert_array_equal(
        steal_nn.features(spoilt), steal_nn.features(taken)
    )
    mean = steal_nn.features(spoilt, ["mean"])[0, 0]
    assert mean > 5 * steal_nn.features(taken, ["mean"])[0, 0]


def test_times_that_are_none_are_refused():
    for bad in ([[0.0, 1.0]], [[np.nan]], [[]], [[-1.0]]):
        with pytest.raises(ValueError, match="positive"):
            steal_nn.features(bad)


# --- regressors -----------------------------------------------------------


@pytest.mark.parametrize("n_folds", [2, 4, 7])
def test_no_depth_is_in_two_folds(n_folds):
    depth = np.random.default_rng(0).permutation(np.repeat(range(1, 8), 5))
    fold = steal_nn.depth_folds(depth, n_folds)
    for k in range(n_folds):
        inside, outside = depth[fold == k], depth[fold != k]
        assert len(inside) and not set(inside) & set(outside)


def test_more_folds_than_depths_are_refused():
    for n_folds in (1, 4):
        with pytest.raises(ValueError, match="more depths"):
            steal_nn.depth_folds(np.array([1, 2, 3]), n_folds)


def test_held_out_fits_the_other_folds_only():
    seen = []

    class Spy:
        def fit(self, x, y):
            seen.append(set(y))
            return self

        def predict(self, x):
            return np.full(len(x), 99.0)

    depth = np.repeat(range(1, 9), 3)
    fold = steal_nn.depth_folds(depth)
    guess = steal_nn.held_out(Spy, depth[:, None], depth, fold)
    assert (guess == 8).all()  # drawn back to the deepest
    assert [len(s) for s in seen] == [6] * 4
    assert not set.intersection(*seen)


def test_a_line_names_unseen_depths_and_a_tree_cannot():
    depth = np.repeat(np.arange(1, 17), 3)
    x = steal_nn.features((40 + 10.0 * depth[:, None].repeat(5, 1)) * 1e-6)
    fold = steal_nn.depth_folds(depth)
    scores = {
        name: steal_nn.depth_scores(
            steal_nn.held_out(steal_nn.REGRESSORS[name], x, depth, fold), depth
        )
        for name in ("linear", "tree")
    }
    assert scores["linear"]["exact"] == 1 and scores["linear"]["MAE"] < 1e-6
    assert scores["tree"]["exact"] == 0


def test_depth_scores_by_hand():
    scores = steal_nn.depth_scores([1.4, 2.6, 5.0, 4.0], [1, 2, 3, 4])
    assert scores["MAE"] == pytest.approx(3.0 / 4)
    assert scores["RMSE"] == pytest.approx(np.sqrt(4.52 / 4))
    assert scores["R2"] == pytest.approx(1 - 4.52 / 5)
    assert scores["exact"] == 0.5 and scores["within one"] == 0.75


def test_a_measurement_is_repeated_once_and_no_more():
    results = iter(range(10))
    assert steal_nn.measured(lambda: next(results), lambda r: r >= 1) == (1, 2)
    assert steal_nn.measured(lambda: next(results), lambda r: True) == (2, 1)
    assert steal_nn.measured(lambda: next(results), lambda r: False) == (4, 2)


def test_blocks_keep_the_times_of_a_network_together():
    cut = steal_nn.blocks(np.arange(14).reshape(2, 7), 3)
    assert cut.tolist() == [[0, 1, 2], [3, 4, 5], [7, 8, 9], [10, 11, 12]]


# --- what the owner can do ------------------------------------------------


def test_defenses_on_times_by_hand():
    times = np.array([1.0, 2.0, 3.5])
    assert steal_nn.pad(times, 2.0).tolist() == [2.0, 2.0, 3.5]
    assert steal_nn.quantise(times, 1.5).tolist() == [1.5, 3.0, 4.5]
    many = np.full(200_000, 7.0)
    late = steal_nn.blur(many, 2.0, seed=0) - many
    assert late.min() >= 0
    assert late.mean() == pytest.approx(2, rel=0.02)
    assert late.std() == pytest.approx(2, rel=0.02)


def test_a_defense_needs_a_time_above_zero():
    for bad in (0, -1.0, np.nan, np.inf):
        for shield in (
            lambda b: steal_nn.pad(np.ones(2), b),
            lambda b: steal_nn.quantise(np.ones(2), b),
            lambda b: steal_nn.blur(np.ones(2), b, 0),
            lambda b: steal_nn.padded_call(len, b),
        ):
            with pytest.raises(ValueError, match="above 0"):
                shield(bad)


def test_a_padded_call_answers_the_same_and_never_early():
    call = steal_nn.padded_call(lambda row: row + 1, 0.003)
    start = time.perf_counter()
    assert call(1) == 2
    assert time.perf_counter() - start >= 0.003


def test_the_bound_on_timings_holds_in_a_simulation():
    sigma, tau, delta = 2.0, 1.0, 0.1
    n = steal_nn.timings_needed(sigma, tau, delta)
    assert n == int(np.ceil(8 * 4 * np.log(20)))
    rng = np.random.default_rng(0)
    means = rng.normal(0, sigma, (2000, n)).mean(1)
    assert (np.abs(means) > tau / 2).mean() <= delta
    assert steal_nn.timings_needed(0, 1) == 1
    with pytest.raises(ValueError, match="tau above 0"):
        steal_nn.timings_needed(1, 0)


# --- search ---------------------------------------------------------------


def test_the_search_space_is_counted_right():
    for n_kinds, depths in ((2, [1, 2, 3]), (3, [2]), (4, range(1, 5))):
        every = sum(
            len(list(itertools.product(range(n_kinds), repeat=L)))
            for L in depths
        )
        assert steal_nn.search_space(n_kinds, depths) == every
    assert steal_nn.search_space(8, np.arange(1, 17)) == (8**17 - 8) // 7
    for bad in ((0, [1]), (3, []), (3, [0, 1])):
        with pytest.raises(ValueError, match="depths of 1 or more"):
            steal_nn.search_space(*bad)


def test_the_policy_gradient_is_that_of_the_weighted_log_probability():
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(3, 4))
    actions = rng.integers(4, size=(5, 3))
    advantage = rng.normal(size=5)

    def surrogate(theta):
        log = np.log(steal_nn.softmax(theta))
        chosen = log[np.arange(3), actions].sum(1)
        return (advantage * chosen).mean()

    numeric = np.zeros_like(theta)
    for place in np.ndindex(*theta.shape):
        step = np.zeros_like(theta)
        step[place] = 1e-6
        up, down = surrogate(theta + step), surrogate(theta - step)
        numeric[place] = (up - down) / 2e-6
    exact = steal_nn.policy_gradient(theta, actions, advantage)
    np.testing.assert_allclose(exact, numeric, atol=1e-8)


def test_averaged_over_the_policy_it_is_the_gradient_of_the_reward():
    theta = np.random.default_rng(1).normal(size=(2, 3))
    worth = np.array([[0.1, 0.9, 0.3], [0.5, 0.2, 0.7]])
    pi = steal_nn.softmax(theta)
    total = np.zeros_like(theta)
    for kinds in itertools.product(range(3), repeat=2):
        reward = worth[[0, 1], kinds].sum()
        chance = pi[[0, 1], kinds].prod()
        total += chance * steal_nn.policy_gradient(
            theta, np.array([kinds]), [reward - 0.4]
        )
    expected = pi * (worth - (pi * worth).sum(1, keepdims=True))
    np.testing.assert_allclose(total, expected, atol=1e-12)


def test_the_controller_finds_the_kind_that_pays():
    def reward(kinds):
        return (kinds == 2).mean()

    tried = steal_nn.reinforce(reward, 3, 4, evaluations=201, seed=0)
    assert len(tried) == 201
    assert all(len(kinds) == 3 for kinds, _ in tried)
    assert np.mean([r for _, r in tried[-40:]]) > 0.8
    blind = steal_nn.random_search(reward, [3], 4, 400, seed=0)
    assert np.mean([r for _, r in blind]) == pytest.approx(1 / 4, abs=0.05)


def test_random_search_draws_the_depths_it_may():
    tried = steal_nn.random_search(len, [2, 5], 4, 60, seed=0)
    assert {len(kinds) for kinds, _ in tried} == {2, 5}


def test_a_search_without_evaluations_is_refused():
    with pytest.raises(ValueError, match="1 or more"):
        steal_nn.reinforce(len, 3, 4, 0, seed=0)


# --- networks and query sets ----------------------------------------------


def test_dense_net_has_the_layers_asked_for():
    net = steal_nn.dense_net([(5, "tanh"), (7, "ReLU")], 0, 3, 4)
    assert [tuple(p.shape) for p in net.parameters()] == [
        *((5, 3), (5,), (7, 5), (7,), (4, 7), (4,))
    ]
    x = np.random.default_rng(0).normal(size=(6, 3))
    w = [p.detach().double().numpy() for p in net.parameters()]
    hidden = np.maximum(np.tanh(x @ w[0].T + w[1]) @ w[2].T + w[3], 0)
    wanted = steal_nn.softmax(hidden @ w[4].T + w[5])
    np.testing.assert_allclose(steal_nn.service(net)(x), wanted, atol=1e-6)


def test_a_service_does_not_change_the_network_it_is_made_of():
    net = steal_nn.dense_net([(5, "ReLU")], 0)
    steal_nn.service(net)
    assert all(p.requires_grad for p in net.parameters())


def test_distillation_follows_probabilities_and_labels():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (400, 2))
    for answers in (halves(x), halves(x).argmax(1)):
        if answers.ndim == 2:
            answers = np.pad(answers, ((0, 0), (0, 8)))
        torch.manual_seed(0)
        net = steal_nn.distil([(32, "tanh")], x, answers, seed=0)
        guess = steal_nn.service(net)(x).argmax(1)
        assert (guess == halves(x).argmax(1)).mean() > 0.95


def test_climbing_only_rises_and_bills_every_step():
    api = PredictionAPI(halves, input_shape=(6,))
    start = np.random.default_rng(0).uniform(-1, 1, (20, 6))
    wanted = np.arange(20) % 2
    rows = steal_nn.climb(api, start, wanted, 30, seed=0, moved=3)
    assert api.ledger.queries == 20 * 31
    before = halves(start)[np.arange(20), wanted]
    after = halves(rows)[np.arange(20), wanted]
    assert (after >= before).all() and after.mean() > before.mean() + 0.3
    assert np.abs(rows).max() <= 1


def test_a_climb_that_cannot_work_costs_nothing():
    api = PredictionAPI(halves, input_shape=(6,))
    for wanted, steps in ((np.zeros(3, int), 5), (np.zeros(2, int), 0)):
        with pytest.raises(ValueError, match="class for each row"):
            steal_nn.climb(api, np.zeros((2, 6)), wanted, steps, seed=0)
    blind = PredictionAPI(halves, input_shape=(6,), returns="label")
    with pytest.raises(ValueError, match="probabilities"):
        steal_nn.climb(blind, np.zeros((2, 6)), np.zeros(2, int), 5, seed=0)
    assert api.ledger.queries == blind.ledger.queries == 0
