"""StealNN, from its chapter: hand values, brute force, finite differences."""

import itertools
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mexutils import PredictionAPI, datasets, load_chapter

steal_nn = load_chapter("attacks/steal_nn")


def halves(x):
    """A victim of two classes that is sure where the first feature is 1."""
    p = (np.asarray(x)[:, 0] + 1.001) / 2.002
    return np.stack([p, 1 - p], 1)


class ByHeart(nn.Module):
    """A network that says 1 to rows that it has seen, and 0 to the rest."""

    def __init__(self, x):
        super().__init__()
        self.known = {row.tobytes() for row in np.float32(x)}

    def forward(self, x):
        known = [row.numpy().tobytes() in self.known for row in x]
        return nn.functional.one_hot(torch.tensor(known).long(), 10).float()


class Says(nn.Module):
    """A network that gives these labels to whatever rows it is shown."""

    def __init__(self, labels):
        super().__init__()
        self.labels = torch.tensor(labels)

    def forward(self, x):
        return nn.functional.one_hot(self.labels, 10).float()


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


def test_the_first_rounds_are_thrown_away(monkeypatch):
    """The k-th query takes k seconds."""
    now, made = SimpleNamespace(at=0), itertools.count(1)
    clock = SimpleNamespace(perf_counter=lambda: now.at)
    monkeypatch.setattr(steal_nn, "time", clock)

    def call(row):
        now.at += next(made)

    taken = steal_nn.latencies([call], np.zeros((1, 2)), 4, seed=0)
    np.testing.assert_array_equal(taken, [steal_nn.WARM_UP + np.arange(1, 5)])


def test_each_query_draws_its_row():
    sent = []
    steal_nn.latencies([sent.append], np.arange(20.0)[:, None], 100, seed=0)
    sent = np.concatenate(sent)
    assert sent.shape == (100 + steal_nn.WARM_UP, 1)
    assert len(np.unique(sent)) > 15


def test_every_timed_query_is_billed():
    api = PredictionAPI(halves, input_shape=(2,))
    steal_nn.latencies([api.query], np.zeros((3, 2)), 7, seed=0)
    assert api.ledger.queries == 7 + steal_nn.WARM_UP


@pytest.mark.parametrize(
    ("rows", "repeats", "word"),
    [
        (np.zeros(3), 5, "one row is"),
        (np.full((2, 3), np.nan), 5, "NaN"),
        (np.empty((0, 3)), 5, "at least one"),
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


def test_noise_is_the_spread_of_equal_networks():
    assert steal_nn.noise_of([[1.0, 1.0], [9.0, 9.0]]) == 0
    # sample variances 2 and 8, mean 5
    assert steal_nn.noise_of([[1.0, 3.0], [5.0, 9.0]]) == pytest.approx(
        np.sqrt(5)
    )
    # a depth that is wrong for all copies alike is no noise
    assert steal_nn.noise_of([[7.0, 7.0]]) == 0


def test_noise_of_a_profile_is_in_layers():
    depths = np.array([1, 2, 3])
    of_each = np.repeat(depths, 2)
    shift = np.tile([0.0, 5.0], 3)  # of the second network of a depth
    times = 40 + 10.0 * of_each + shift
    sweeps = 1e-6 * np.tile(times[None, :, None], (2, 1, 9))
    layer, noise = steal_nn.profile_noise(sweeps, depths)
    assert layer == pytest.approx(10)
    assert noise == pytest.approx(0.5 / np.sqrt(2))
    sweeps[1] *= 1.5  # a slower moment that strikes all alike
    layer, _ = steal_nn.profile_noise(sweeps, depths)
    assert layer == pytest.approx(12.5)


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
        with pytest.raises(ValueError, match="n_folds"):
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


def test_sweeps_are_judged_with_whole_depths_held_out():
    """A tree that had seen the depth would name each exactly."""
    depth = np.repeat(np.arange(1, 17), 3)
    taken = (40 + 10.0 * depth[:, None].repeat(5, 1)) * 1e-6
    (line,) = steal_nn.judged([taken], depth)
    (tree,) = steal_nn.judged([taken], depth, "tree")
    assert line["exact"] == 1 and tree["exact"] == 0


def test_depths_are_inferred_through_rare_delays(monkeypatch):
    """Two in a hundred queries are late by far more than any layer."""
    profile, secret = np.arange(1, 9), np.array([3, 7, 2])

    def latencies(calls, rows, repeats, seed):
        assert len(calls) == 11 and repeats == 100
        rng = np.random.default_rng(seed)
        depth = np.concatenate([profile, secret])[:, None]
        late = (rng.random((11, 100)) < 0.02) * rng.exponential(0.01, (11, 1))
        return 1e-6 * (40 + 10 * depth) + late

    monkeypatch.setattr(steal_nn, "latencies", latencies)
    hidden = [steal_nn.plain(1, 4, 0) for _ in secret]
    found = steal_nn.infer(hidden, profile, 4, np.zeros((5, 64)), 100, 0)
    np.testing.assert_allclose(found, secret, atol=1e-6)


def test_two_references_read_any_scale_and_offset():
    """Times (..., 4) of 40 + 10 L, each column stretched and moved."""
    depth, stretch = np.array([3.0, 7.0, 16.0]), np.array([1, 1.3, 0.4, 9])

    def x(L):
        return (40 + 10 * np.atleast_1d(L)[:, None]) * stretch + 5 * stretch

    (low,), (high,) = x(1), x(12)
    found = steal_nn.between(x(depth), low, high, (1, 12))
    np.testing.assert_allclose(found, depth)
    spoilt = x(depth)[:, [0, 1, 2]]
    spoilt[:, 0] += 1e4  # one feature of three
    found = steal_nn.between(spoilt, low[:3], high[:3], (1, 12))
    np.testing.assert_allclose(found, depth)


def fake_times(depths, stretch, offset=0.0):
    """What `features` says of networks at a moment: 40 + 10 L, moved."""
    times = stretch * (40 + 10 * np.asarray(depths, float)) + offset
    return times[:, None] * np.array([1, 1.01, 1.02, 1.03])


def fake_visit(depths, secret, stretch, offset, twist=1.0):
    """A visit whose victims' loop is at a moment of its own by `twist`."""
    moment = stretch * twist, offset
    return {
        "turns": fake_times([*depths, *secret], stretch, offset),
        "before": fake_times(depths, stretch, offset),
        "after": fake_times(depths, stretch, offset),
        "victims": fake_times([*secret, *steal_nn.REFERENCES], *moment),
    }


@pytest.mark.parametrize(
    ("stretch", "offset", "wrong"),
    [
        (1.0, 0.0, set()),
        (1.5, 0.0, {"other visit", "other visit, minus a reference"}),
        (1.0, 30.0, {"other visit", "other visit, over a reference"}),
        (
            *(1.5, 30.0),
            {
                "other visit",
                "other visit, minus a reference",
                "other visit, over a reference",
            },
        ),
    ],
)
def test_each_way_of_reading_survives_what_it_can_express(
    stretch, offset, wrong
):
    depths, secret = np.arange(1, 17), np.array([2, 9, 14])
    there = fake_visit(depths, secret, 1.0, 0.0)
    here = fake_visit(depths, secret, stretch, offset)
    told = steal_nn.readings(here, there, depths)
    assert len(told) == 7
    off = {way: np.abs(found - secret).max() for way, found in told.items()}
    assert {way for way, by in off.items() if by > 0.5} == wrong
    assert max(by for way, by in off.items() if way not in wrong) < 1e-6


def test_a_profile_of_just_before_is_of_another_moment():
    depths, secret = np.arange(1, 17), np.array([2, 9, 14])
    there = fake_visit(depths, secret, 1.0, 0.0)
    here = fake_visit(depths, secret, 1.0, 0.0, twist=1.5)
    told = steal_nn.readings(here, there, depths)
    off = {way: np.abs(found - secret).max() for way, found in told.items()}
    assert off["just before"] > 0.5 and off["before and after"] > 0.5
    assert off["in turns"] < 1e-6 and off["two references"] < 1e-6
    assert off["other visit, over a reference"] < 1e-6


def test_a_visit_times_profile_and_victims_in_loops_of_their_own(monkeypatch):
    loops = []

    def latencies(calls, rows, repeats, seed):
        loops.append([call.__self__.depth for call in calls])
        return np.full((len(calls), 3), 1e-4)

    class Service:
        def __init__(self, depth):
            self.depth = depth

        def query(self, row):
            return row

    monkeypatch.setattr(steal_nn, "latencies", latencies)
    monkeypatch.setattr(steal_nn, "plain", lambda L, units, seed: Service(L))
    hidden = [Service("a"), Service("b")]
    seen = steal_nn.visit(hidden, [1, 8], 4, np.zeros((2, 64)), 3, 0)
    assert loops == [[1, 8, "a", "b"], [1, 8], ["a", "b", 1, 8, 16], [1, 8]]
    assert list(seen) == ["turns", "before", "victims", "after"]
    assert seen["victims"].shape == (5, len(steal_nn.ROBUST))


def test_visits_are_apart_and_keep_their_victims(monkeypatch):
    waited = []
    monkeypatch.setattr(steal_nn, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(steal_nn, "plain", lambda L, units, seed: (L, units))
    monkeypatch.setattr(steal_nn, "visit", lambda *args: args)
    truth = {3: [1, 1], 7: [4, 4]}
    made = steal_nn.visits_of(truth, 2, [1, 2], 128, "rows", 50)
    assert waited == [2, 2]
    assert made[7] == ([(4, 128)] * 2, [1, 2], 128, "rows", 50, 7)
    assert made[3][0] == [(1, 128)] * 2 and made[3][-1] == 3


def test_noise_of_twins_is_what_the_two_accounts_differ_by():
    depths = np.arange(1, 17)
    apart = {0: fake_visit(depths, [2, 3, 9, 10], 1.0, 0.0)}
    assert steal_nn.twins_noise(apart, depths) == pytest.approx(np.sqrt(0.5))
    equal = {0: fake_visit(depths, [2, 2, 9, 9], 2.0, 7.0)}
    assert steal_nn.twins_noise(equal, depths) == pytest.approx(0, abs=1e-9)


def test_the_depth_is_read_between_two_apis_of_known_depth(monkeypatch):
    def latencies(calls, rows, repeats, seed):
        depth = np.array([5, 11, 1, 16])
        return 1e-6 * (40 + 10 * depth[:, None]) * np.ones((4, repeats))

    monkeypatch.setattr(steal_nn, "latencies", latencies)
    api = SimpleNamespace(query=None)
    found = steal_nn.infer_between([api] * 2, {1: api, 16: api}, None, 9, 0)
    np.testing.assert_allclose(found, [5, 11])
    with pytest.raises(ValueError, match="two depths"):
        steal_nn.infer_between([api], {1: api}, None, 9, 0)


def test_a_batch_is_the_row_over_and_over_and_is_billed():
    api = PredictionAPI(halves, input_shape=(2,))
    answers = steal_nn.batched(api.query, 5)(np.array([[0.5, 0.1]]))
    assert answers.shape == (5, 2) and np.ptp(answers, axis=0).max() == 0
    assert api.ledger.queries == 5


def test_two_sizes_of_batch_tell_depth_from_width():
    """A layer costs 20 for its dispatch and n w^2 / 2000 for n rows."""
    depth, width = np.array(
        list(itertools.product(range(2, 17, 2), (32, 64, 128, 256, 384)))
    ).T
    few, many = (
        1e-6 * (30 + depth * (20 + n * width**2 / 2000.0))[:, None]
        for n in (1, 64)
    )
    off = [
        np.abs(steal_nn.known_by(times, depth, depth) - depth).mean()
        for times in ([few], [few, many])
    ]
    assert off[1] < 0.7 < 2 < off[0]
    logs = np.log2(width)
    by_both = steal_nn.known_by([few, many], logs, depth)
    assert np.abs(by_both - logs).mean() < 0.2


def test_other_folds_are_used_where_they_are_given():
    depth = np.repeat(np.arange(1, 9), 4)
    taken = (40 + 10.0 * depth[:, None].repeat(5, 1)) * 1e-6
    dealt = np.arange(len(depth)) % 4
    (tree,) = steal_nn.judged([taken], depth, "tree", fold=dealt)
    assert tree["exact"] == 1


def test_blocks_of_a_size_keep_the_depth_of_their_network(monkeypatch):
    seen = []

    def judged(cut, depth, name, names):
        seen.append((cut, depth, names))
        return [{"R2": {"linear": 0.1, "SVR": 0.3, "tree": 0.2}[name]}]

    monkeypatch.setattr(steal_nn, "judged", judged)
    sweep = np.arange(42.0).reshape(1, 3, 14)
    best = steal_nn.by_size(sweep, np.array([5, 6, 7]), 3, ["mean"], most=2)
    assert best.tolist() == [0.3]
    for (cut,), depth, names in seen:
        assert cut[:, 0].tolist() == [0, 3, 14, 17, 28, 31]
        assert (np.diff(cut) == 1).all()
        assert depth.tolist() == [5, 5, 6, 6, 7, 7] and names == ["mean"]
    assert len(seen) == 3


def test_depth_scores_by_hand():
    scores = steal_nn.depth_scores([1.4, 2.6, 5.0, 4.0], [1, 2, 3, 4])
    assert scores["MAE"] == pytest.approx(3.0 / 4)
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
            with pytest.raises(ValueError, match="must be a number from"):
                shield(bad)


def test_a_padded_call_answers_the_same_and_never_early():
    call = steal_nn.padded_call(lambda row: row + 1, 0.003)
    start = time.perf_counter()
    assert call(1) == 2
    assert time.perf_counter() - start >= 0.003


@pytest.mark.parametrize(
    ("takes", "leaves"), [(0.2, 1), (0.99, 1), (1.3, 2), (3.5, 4)]
)
def test_a_late_answer_waits_for_the_next_deadline(monkeypatch, takes, leaves):
    now = SimpleNamespace(at=0.0)

    def perf_counter():
        now.at += 1e-6  # a thousandth of the deadline
        return now.at

    monkeypatch.setattr(
        steal_nn, "time", SimpleNamespace(perf_counter=perf_counter)
    )

    def call(row):
        now.at += takes * 1e-3
        return row + 1

    assert steal_nn.padded_call(call, 1e-3)(1) == 2
    assert leaves * 1e-3 <= now.at < leaves * 1.01e-3 + 1e-5


def test_a_query_set_is_sent_in_turn():
    call = steal_nn.in_turn(list, np.array([[1.0], [2.0]]))
    sent = [call(None)[0].tolist() for _ in range(5)]
    assert sent == [[1], [2], [1], [2], [1]]


def test_the_bound_on_timings_holds_in_a_simulation():
    sigma, tau, delta = 2.0, 1.0, 0.1
    n = steal_nn.timings_needed(sigma, tau, delta)
    assert n == int(np.ceil(8 * 4 * np.log(20)))
    rng = np.random.default_rng(0)
    means = rng.normal(0, sigma, (2000, n)).mean(1)
    assert (np.abs(means) > tau / 2).mean() <= delta
    assert steal_nn.timings_needed(0, 1) == 1
    with pytest.raises(ValueError, match="tau must be"):
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
    for bad in ((0, [1]), (3, [0, 1]), (3, [1.5])):
        with pytest.raises(ValueError, match="1 or more"):
            steal_nn.search_space(*bad)


def test_the_policy_gradient_is_that_of_the_weighted_log_probability():
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(3, 4))
    actions = rng.integers(4, size=(5, 3))
    advantage = rng.normal(size=5)

    def surrogate(theta):
        log = np.log(steal_nn.softmax(theta, -1))
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
    pi = steal_nn.softmax(theta, -1)
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


def test_a_reward_is_of_rows_that_were_not_trained_on(monkeypatch):
    rows = []

    def distil(layers, x, answers, seed, steps, lr):
        rows.append(len(x))
        return ByHeart(x)

    monkeypatch.setattr(steal_nn, "distil", distil)
    x = np.random.default_rng(0).uniform(-1, 1, (30, 64)).astype(np.float32)
    ones = np.eye(10)[np.ones(30, int)]
    assert steal_nn.reward_on(x, ones, 0)([0, 1]) == 0
    assert steal_nn.reward_on(x, ones[:, ::-1], 0)([0, 1]) == 0
    zeros = np.eye(10)[np.zeros(30, int)]
    assert steal_nn.reward_on(x, zeros, 0)([0, 1]) == 1
    assert rows == [20] * 3


def test_the_best_architecture_is_that_of_the_largest_reward():
    run = [([0, 1], 0.4), ([2, 3], 0.9), ([4, 5], 0.2)]
    assert steal_nn.best_kinds(run) == [2, 3]


def test_a_winner_is_distilled_from_what_it_is_told_to(monkeypatch):
    learnt = []

    def distil(layers, x, answers, seed):
        learnt.append((layers, answers))
        return "copy"

    monkeypatch.setattr(steal_nn, "distil", distil)
    monkeypatch.setattr(steal_nn, "exam", lambda *args: args)
    answers = np.array([[0.4, 0.6], [0.9, 0.1]])
    paid, scene = (np.zeros((2, 64)), answers, 2), ("victim", None, None)
    for labels in (False, True):
        scores = steal_nn.finish([1, 6], paid, scene, "test", 0, labels)
        assert scores == ("copy", "victim", "test")
    (layers, soft), (_, hard) = learnt
    assert layers == [(16, "tanh"), (128, "ReLU")]
    np.testing.assert_array_equal(soft, answers)
    assert np.asarray(hard).tolist() == [1, 0]


# --- networks and query sets ----------------------------------------------


def test_dense_net_has_the_layers_asked_for():
    net = steal_nn.dense_net([(5, "tanh"), (7, "ReLU")], 0, 3, 4)
    assert [tuple(p.shape) for p in net.parameters()] == [
        *((5, 3), (5,), (7, 5), (7,), (4, 7), (4,))
    ]
    x = np.random.default_rng(0).normal(size=(6, 3))
    w = [p.detach().double().numpy() for p in net.parameters()]
    hidden = np.maximum(np.tanh(x @ w[0].T + w[1]) @ w[2].T + w[3], 0)
    wanted = steal_nn.softmax(hidden @ w[4].T + w[5], -1)
    np.testing.assert_allclose(steal_nn.service(net)(x), wanted, atol=1e-6)


def test_a_convolutional_net_has_the_layers_asked_for():
    net = steal_nn.conv_net(3, 4, seed=0, side=6, classes=5)
    convolutions = [p for p in net if isinstance(p, nn.Conv2d)]
    assert [c.in_channels for c in convolutions] == [1, 4, 4]
    assert sum(isinstance(p, nn.ReLU) for p in net) == 3
    assert steal_nn.service(net)(np.zeros((2, 36))).shape == (2, 5)


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


def test_distillation_keeps_the_probabilities():
    x = np.random.default_rng(0).uniform(-1, 1, (100, 4))
    answers = np.tile([0.6, 0.4, *[0.0] * 8], (100, 1))
    net = steal_nn.distil([(8, "tanh")], x, answers, seed=0, steps=300)
    np.testing.assert_allclose(steal_nn.service(net)(x), answers, atol=0.1)


def test_an_exam_by_hand():
    """Copy 0 1 2 2, victim 0 1 1 2, truth 0 0 1 2."""
    test = datasets.Sample(np.zeros((4, 64)), np.array([0, 0, 1, 2]))
    scores = steal_nn.exam(Says([0, 1, 2, 2]), Says([0, 1, 1, 2]), test)
    assert scores["accuracy"] == pytest.approx(50)
    assert scores["fidelity"] == pytest.approx(75)
    assert scores["victim"] == pytest.approx(75)
    assert scores["relative"] == pytest.approx(100 * 2 / 3)
    # one row of four differs, by the two places of its certain label
    sure, rest = np.e / (np.e + 9), 1 / (np.e + 9)
    assert scores["distance"] == pytest.approx(100 * (sure - rest) / 4)


def test_half_of_the_pool_are_the_rows_that_the_victim_learnt(monkeypatch):
    learnt = []

    def distil(layers, x, answers, seed):
        learnt.append((x, answers))
        return "victim"

    monkeypatch.setattr(steal_nn, "distil", distil)
    x = np.arange(1000.0)[:, None].repeat(64, 1)
    train = datasets.Sample(x, np.arange(1000) % 10)
    victim, pool, member = steal_nn.scene(train, 8, 0)
    ((rows, labels),) = learnt
    assert victim == "victim" and len(rows) == 600
    np.testing.assert_array_equal(labels, rows[:, 0] % 10)
    assert pool.shape == (600, 64) and member.sum() == 300
    np.testing.assert_array_equal(member, np.isin(pool[:, 0], rows[:, 0]))


def test_query_sets_are_what_their_names_say():
    """A victim that is surest where the first feature is largest."""
    victim = nn.Linear(64, 10, bias=False)
    with torch.no_grad():
        victim.weight.zero_()
        victim.weight[0, 0] = 3
    rng = np.random.default_rng(1)
    pool = rng.uniform(-1, 1, (40, 64))
    pool[:, 0] = rng.permutation(np.linspace(0.1, 1, 40))
    member = pool[:, 0] > np.median(pool[:, 0])
    sets, auc = steal_nn.query_sets(victim, pool, member, 3, 0)
    assert auc == 1
    _, fooled = steal_nn.query_sets(victim, pool, ~member, 3, 0)
    assert fooled == 0
    ask = steal_nn.service(victim)
    for rows, answers, _ in sets.values():
        np.testing.assert_allclose(ask(rows), answers, atol=1e-6)
    confident = sets["confident half"][0]
    assert set(confident[:, 0]) == set(pool[member, 0])
    chosen = sets["random half"][0]
    assert len(np.unique(chosen[:, 0])) == 20
    assert set(chosen[:, 0]) < set(pool[:, 0])
    assert set(chosen[:, 0]) != set(confident[:, 0])
    np.testing.assert_array_equal(sets["whole pool"][0], pool)
    doubtful = sets["least sure half"][0]
    assert set(doubtful[:, 0]) == set(pool[~member, 0])
    bills = {name: bill for name, (_, _, bill) in sets.items()}
    assert bills == {
        "confident half": 40,
        "least sure half": 40,
        "random half": 20,
        "whole pool": 40,
        "climbed": 20 * (3 + 1) + 20,
        "uniform noise": 20,
    }


@pytest.mark.parametrize(
    ("rises", "sizes"),
    [(0.0, [16, 16, 8, 8, 4, 4, 2, 2, 1, 1, 1, 1]), (0.01, [16] * 12)],
)
def test_a_climb_that_fails_takes_smaller_steps(rises, sizes):
    """Half as many coordinates after every second failure, from 16 on."""
    asked = []

    def query(x):
        p = 0.2 + rises * len(asked)
        asked.append(x.copy())
        return np.full((len(x), 2), [p, 1 - p])

    api = SimpleNamespace(query=query, returns="probabilities")
    start = np.random.default_rng(0).uniform(-1, 1, (5, 30))
    wanted = np.zeros(5, int)
    rows = steal_nn.climb(api, start, wanted, 12, seed=0, patience=2)
    steps = zip(itertools.pairwise(asked), sizes, strict=True)
    for (before, after), size in steps:
        base = before if rises else start
        assert ((after != base).sum(1) == size).all()
    np.testing.assert_array_equal(rows, asked[-1] if rises else start)


def test_climbing_only_rises_and_bills_every_step():
    api = PredictionAPI(halves, input_shape=(6,))
    start = np.random.default_rng(0).uniform(-1, 1, (20, 6))
    wanted = np.arange(20) % 2
    rows = steal_nn.climb(api, start, wanted, 30, seed=0, moved=3, enough=2)
    assert api.ledger.queries == 20 * 31
    before = halves(start)[np.arange(20), wanted]
    after = halves(rows)[np.arange(20), wanted]
    assert (after >= before).all() and after.mean() > before.mean() + 0.3
    assert np.abs(rows).max() <= 1


def test_a_climb_leaves_alone_what_is_sure_enough():
    api = PredictionAPI(halves, input_shape=(6,))
    start = np.random.default_rng(0).uniform(-1, 1, (20, 6))
    start[:5, 0] = 0.9  # class 0 with 0.95
    rows = steal_nn.climb(
        api, start, np.zeros(20, int), 600, seed=0, moved=3, enough=0.9
    )
    np.testing.assert_array_equal(rows[:5], start[:5])
    assert (halves(rows)[:, 0] >= 0.9).all()
    assert 35 < api.ledger.queries < 20 * 200


def test_a_climb_that_cannot_work_costs_nothing():
    api = PredictionAPI(halves, input_shape=(6,))
    for wanted, steps in ((np.zeros(3, int), 5), (np.zeros(2, int), 0)):
        with pytest.raises(ValueError, match="each row|steps must"):
            steal_nn.climb(api, np.zeros((2, 6)), wanted, steps, seed=0)
    blind = PredictionAPI(halves, input_shape=(6,), returns="label")
    with pytest.raises(ValueError, match="probabilities"):
        steal_nn.climb(blind, np.zeros((2, 6)), np.zeros(2, int), 5, seed=0)
    assert api.ledger.queries == blind.ledger.queries == 0
