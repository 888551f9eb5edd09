"""PRADA's detector, from its chapter, by second routes and bad input."""

import itertools
import json
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from mexutils import PredictionAPI, load_chapter

chapter = load_chapter("defenses/prada_detection")


def one_hot(labels, classes=4):
    return np.eye(classes)[labels]


def rows_of(n, seed=0, d=12):
    """Rows around four centres, with labels that say which."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=n)
    return rng.normal(size=(n, d)) + 6 * np.eye(4, d)[labels], labels


def regular(n, seed=0, d=12, step=0.1):
    """Natural rows, then children at a fixed step from them."""
    x, labels = rows_of(n // 2, seed, d)
    signs = np.random.default_rng(seed + 1).choice([-1.0, 1.0], x.shape)
    return np.concatenate([x, x + step * signs]), np.tile(labels, 2)


def by_hand(x, labels):
    """The detector as its formulas say, without any cleverness."""
    sets, kept, threshold, distances, tests = {}, {}, {}, [], []
    for number, (row, label) in enumerate(zip(x, labels, strict=True), 1):
        if label not in sets:
            sets[label], kept[label], threshold[label] = [row], [0.0], 0.0
        else:
            d = min(np.sqrt(((row - g) ** 2).sum()) for g in sets[label])
            distances.append(d)
            if d > threshold[label]:
                sets[label].append(row)
                kept[label].append(d)
                edge = np.mean(kept[label]) - np.std(kept[label])
                threshold[label] = max(threshold[label], edge)
        if number % 10 == 0 and len(distances) > 100:
            z = np.array(distances)
            z = z[np.abs(z - z.mean()) < 3 * z.std()]
            tests.append((number, stats.shapiro(z).statistic))
    return sets, threshold, np.array(distances), np.array(tests)


@pytest.mark.parametrize("make", [rows_of, regular])
def test_the_stream_is_the_definition(make):
    x, labels = make(300)
    sets, threshold, distances, tests = by_hand(x, labels)
    stream = chapter.Stream()
    found = np.array(stream.add(x, labels))
    np.testing.assert_allclose(stream.distances, distances, rtol=1e-13)
    np.testing.assert_allclose(found, tests, rtol=1e-10)
    for label, rows in sets.items():
        grown = stream.sets[label]
        np.testing.assert_array_equal(grown.rows, rows)
        assert grown.threshold == pytest.approx(threshold[label], rel=1e-13)
    assert stream.queries == 300


@pytest.mark.parametrize("size", [1, 7, 64, 600])
def test_batches_of_any_size_are_single_queries_bit_for_bit(size):
    x, labels = regular(600, d=200)
    whole, pieces = chapter.Stream(), chapter.Stream()
    tests = whole.add(x, labels)
    again = []
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        again += pieces.add(x[part], labels[part])
    assert again == tests
    assert list(pieces.distances) == list(whole.distances)


def test_a_repeated_row_is_at_distance_zero():
    x = np.random.default_rng(0).uniform(0, 255, (40, 784))
    grown = chapter.GrowingSet(784)
    chapter.take_in(grown, x)
    assert (chapter.take_in(grown, x[:20]) == 0).all()
    assert (
        chapter.take_in(chapter.GrowingSet(784), x[[3] * 9])[1:] == 0
    ).all()
    assert grown.size == 40


def test_a_first_row_that_is_repeated_is_kept_once():
    """While the threshold is 0, only a distance above it lets a row in."""
    grown = chapter.GrowingSet(3)
    found = chapter.take_in(grown, np.ones((5, 3)))
    np.testing.assert_array_equal(found, [np.nan, 0, 0, 0, 0])
    assert grown.size == 1 and grown.threshold == 0


def test_a_row_at_the_threshold_itself_stays_out():
    grown = chapter.WithoutZero(1)  # whose threshold is a whole number: 2
    chapter.take_in(grown, np.array([[0.0], [2.0], [4.0]]))
    assert grown.threshold == 2 and grown.size == 2
    chapter.take_in(grown, np.array([[4.5]]))
    assert grown.size == 3


def test_the_first_rows_of_a_set_by_hand():
    grown = chapter.GrowingSet(1)
    found = chapter.take_in(grown, np.array([[0.0], [3.0], [4.0], [4.5]]))
    np.testing.assert_array_equal(found, [np.nan, 3, 1, 0.5])
    np.testing.assert_array_equal(grown.kept, [0, 3, 1, 0.5])
    # mean - std: 0, then 1.5 - 1.5, then 4/3 - 1.247, then 1.125 - 1.139
    assert grown.threshold == pytest.approx(4 / 3 - np.sqrt(14) / 3)


def test_the_threshold_never_falls_and_near_rows_stay_out():
    x, _ = rows_of(300)
    grown, last = chapter.GrowingSet(12), 0.0
    for row in x:
        size, before = grown.size, grown.threshold
        (distance,) = chapter.take_in(grown, row[None])
        assert grown.threshold >= last
        entered = grown.size > size
        assert entered == (size == 0 or distance > before)
        last = grown.threshold
    assert 0 < grown.size < 300


# --- the initial zero ------------------------------------------------------


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_without_the_zero_the_set_freezes_and_the_attack_is_missed(seed):
    x, labels = regular(400, seed, step=0.5)
    lowest, sizes = [], []
    for kind in (chapter.Stream, chapter.TidyStream):
        stream = kind()
        lowest.append(min(w for _, w in stream.add(x, labels)))
        sizes.append(sum(g.size for g in stream.sets.values()))
    assert lowest[0] < 0.86 < lowest[1]
    assert sizes[1] < sizes[0] / 2


def test_without_the_zero_the_first_distance_becomes_the_threshold():
    grown = chapter.WithoutZero(1)
    chapter.take_in(grown, np.array([[0.0], [3.0], [4.0], [9.0]]))
    assert grown.threshold >= 3.0
    np.testing.assert_array_equal(grown.rows.ravel(), [0, 3, 9])


# --- the statistic ---------------------------------------------------------


def test_w_is_scipys_after_the_outliers_are_dropped():
    z = np.random.default_rng(1).normal(5, 1, 300)
    far = np.append(z, [60.0, -70.0])
    inside = far[np.abs(far - far.mean()) < 3 * far.std()]
    assert len(inside) == 300
    expected = stats.shapiro(inside).statistic
    assert chapter.statistic(far) == pytest.approx(expected, abs=1e-12)


def test_w_by_its_formula():
    """The weights of Royston, from the scores of normal order statistics."""
    z = np.sort(np.random.default_rng(2).uniform(0, 1, 150))
    n = len(z)
    m = stats.norm.ppf((np.arange(1, n + 1) - 0.375) / (n + 0.25))
    u, length = n**-0.5, np.sqrt(m @ m)
    last = np.polyval(
        [-2.706056, 4.434685, -2.07119, -0.147981, 0.221157, m[-1] / length], u
    )
    second = np.polyval(
        [-3.582633, 5.682633, -1.752461, -0.293762, 0.042981, m[-2] / length],
        u,
    )
    phi = (m @ m - 2 * m[-1] ** 2 - 2 * m[-2] ** 2) / (
        1 - 2 * last**2 - 2 * second**2
    )
    a = m / np.sqrt(phi)
    a[[0, 1, -2, -1]] = -last, -second, second, last
    w = (a @ z) ** 2 / ((z - z.mean()) ** 2).sum()
    assert chapter.statistic(z) == pytest.approx(w, abs=1e-6)


def test_w_does_not_depend_on_scale():
    z = np.random.default_rng(3).exponential(1, 200)
    for scale in (1e-40, 1e40):
        assert chapter.statistic(z * scale) == pytest.approx(
            chapter.statistic(z), abs=1e-9
        )


@pytest.mark.parametrize("far", [0, 1])
def test_equal_distances_are_the_least_normal_of_all(far):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        z = np.append(np.full(150, 0.1), np.full(far, 9.0))
        assert chapter.statistic(z) == 0.0


def test_no_test_up_to_the_warm_up():
    z = np.random.default_rng(4).normal(size=101)
    assert chapter.statistic(z[:100]) is None
    assert 0.9 < chapter.statistic(z) <= 1


def test_only_the_last_distances_count(monkeypatch):
    x, labels = regular(800)
    monkeypatch.setattr(chapter, "WINDOW", 200)
    stream = chapter.Stream()
    tests = stream.add(x, labels)
    assert len(stream.distances) == 200
    *_, distances, _ = by_hand(x, labels)
    assert tests[-1][1] == pytest.approx(
        chapter.statistic(distances[-200:]), abs=1e-12
    )


def test_the_last_5000_distances_count_and_no_fewer(monkeypatch):
    """A stream of 6,000, regular first, against one that forgets nothing."""
    x, labels = rows_of(6000, d=2)
    x[200:400] = x[:200] + 0.01
    labels[200:400] = labels[:200]
    stream = chapter.Stream()
    tests = stream.add(x, labels)
    monkeypatch.setattr(chapter, "WINDOW", 10**6)
    monkeypatch.setattr(chapter, "EVERY", 10**6)
    endless = chapter.Stream()
    endless.add(x, labels)
    distances = list(endless.distances)
    assert len(distances) > 5900
    assert list(stream.distances) == distances[-5000:]
    assert tests[-1] == (6000, chapter.statistic(distances[-5000:]))


# --- the monitor -----------------------------------------------------------


def watch(monitor, name, x, labels, size):
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        monitor.observe(name, x[part], one_hot(labels[part]))


def test_a_batch_raises_the_alarm_that_single_queries_raise():
    x, labels = regular(400)
    alarms = []
    for size in (1, 33, 400):
        monitor = chapter.Prada(0.85)
        watch(monitor, "m", x, labels, size)
        alarms.append(monitor.alarms["m"])
    assert alarms[0] == alarms[1] == alarms[2]
    tests = chapter.Stream().add(x, labels)
    first = next((query, w) for query, w in tests if w < 0.85)
    assert alarms[0].query == first[0]
    assert f"{first[1]:.3f}" in alarms[0].reason


def test_clients_do_not_see_each_other():
    one, two = regular(400), rows_of(400, seed=9)
    mixed = chapter.Prada(0.85)
    for start in range(0, 400, 20):
        part = slice(start, start + 20)
        for name, (x, labels) in (("one", one), ("two", two)):
            mixed.observe(name, x[part], one_hot(labels[part]))
    alone = chapter.Prada(0.85)
    alone.observe("one", one[0], one_hot(one[1]))
    assert mixed.alarms == alone.alarms
    assert set(mixed.alarms) == {"one"} and set(mixed.streams) == {"two"}


def test_an_alarm_stays_and_its_client_is_stored_no_more():
    x, labels = regular(400)
    monitor = chapter.Prada(0.85)
    alarm = monitor.observe("m", x, one_hot(labels))
    assert alarm.query > 100 and monitor.streams == {}
    natural = rows_of(3000, seed=5)
    assert monitor.observe("m", natural[0], one_hot(natural[1])) is alarm
    assert monitor.streams == {}


def test_a_restart_changes_no_verdict():
    x, labels = regular(400)
    calm = rows_of(300, seed=7)
    there, back = chapter.Prada(0.85), None
    watch(there, "guilty", *regular(400, seed=8), 50)
    for start in range(0, 400, 40):
        part = slice(start, start + 40)
        there.observe("m", x[part], one_hot(labels[part]))
        there.observe("calm", calm[0][part], one_hot(calm[1][part])) if len(
            calm[0][part]
        ) else None
        there = chapter.Prada.from_state(json.loads(json.dumps(there.state())))
    back = chapter.Prada(0.85)
    watch(back, "guilty", *regular(400, seed=8), 50)
    watch(back, "m", x, labels, 400)
    watch(back, "calm", *calm, 300)
    assert there.alarms == back.alarms and set(back.alarms) == {"guilty", "m"}
    assert there.state() == back.state()


BAD = {
    "nan": np.full((1, 12), np.nan),
    "infinite": np.full((1, 12), np.inf),
    "squares overflow": np.full((1, 12), 1e200),
    "another width": np.zeros((1, 11)),
    "no row": np.zeros((0, 12)),
    "flat": np.zeros(12),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_row_is_refused_and_changes_nothing(bad):
    x, labels = regular(400)
    monitor = chapter.Prada(0.85)
    monitor.observe("m", x[:90], one_hot(labels[:90]))
    before = json.dumps(monitor.state())
    rows = BAD[bad]
    if bad not in ("no row", "flat", "another width"):
        rows = np.concatenate([x[90:95], rows])
    for name in ("m", "new") if bad != "another width" else ("m",):
        with pytest.raises(ValueError, match="rows"):
            monitor.observe(name, rows, one_hot(np.zeros(len(rows), int)))
    assert json.dumps(monitor.state()) == before
    monitor.observe("m", x[90:], one_hot(labels[90:]))
    assert "m" in monitor.alarms


def test_huge_rows_that_are_let_in_do_not_switch_the_detector_off():
    x, labels = regular(400)
    monitor = chapter.Prada(0.85)
    big = np.full((4, 12), 1e100) * np.arange(4)[:, None] / 4
    monitor.observe("m", big, one_hot(np.arange(4)))
    monitor.observe("m", x, one_hot(labels))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _, w in chapter.Stream().add(
            np.concatenate([big, x]), np.append(np.arange(4), labels)
        ):
            assert 0 <= w <= 1


def test_the_api_answers_nothing_that_the_monitor_cannot_measure():
    monitor = chapter.Prada(0.85)
    api = PredictionAPI(
        lambda x: one_hot(np.zeros(len(x), int)), monitors=[monitor]
    )
    with pytest.raises(ValueError, match="refuse them"):
        api.query(np.full((3, 12), 1e200))
    assert api.ledger.queries == 0 and monitor.streams == {}


def test_probabilities_must_belong_to_the_rows():
    monitor = chapter.Prada(0.85)
    with pytest.raises(ValueError, match="do not fit"):
        monitor.observe("m", np.zeros((3, 12)), one_hot([0, 1]))
    with pytest.raises(ValueError, match="NaN"):
        monitor.observe("m", np.zeros((1, 12)), np.full((1, 4), np.nan))
    assert monitor.streams == {}


@pytest.mark.parametrize("delta", [0, 1, -0.5, 90, np.nan])
def test_a_threshold_lies_between_0_and_1(delta):
    with pytest.raises(ValueError, match="benign streams"):
        chapter.Prada(delta)


# --- the attacks and the evasion --------------------------------------------


def test_what_the_api_saw_is_recorded_in_order():
    x, labels = rows_of(60)
    x = x.astype(np.float32)

    def attack(api):
        api.query(x[:10])
        api.query(x[10:])

    rows, found = chapter.recorded(
        attack, lambda rows: one_hot(labels[: len(rows)])
    )
    np.testing.assert_array_equal(rows, x)
    assert len(found) == 60


def test_a_recorder_that_has_enough_ends_the_attack():
    x, labels = rows_of(60)
    sent = []

    def attack(api):
        for start in range(0, 60, 20):
            sent.append(start)
            api.query(x[start : start + 20])

    rows, _ = chapter.recorded(
        attack, lambda rows: one_hot(labels[: len(rows)]), enough=40
    )
    np.testing.assert_array_equal(rows, x[:40].astype(np.float32))
    assert sent == [0, 20]


def test_a_synthetic_attack_that_is_ended_sent_what_it_always_sends():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(784, 10))

    def predict_proba(rows):
        return one_hot(((rows.reshape(-1, 784) - 0.5) @ weights).argmax(1), 10)

    x = rng.random((600, 1, 28, 28), np.float32)
    pool = chapter.Pool(x, predict_proba(x).argmax(1))
    how = "random signs", 0.1, 150, 0

    def whole(api):
        seeds = chapter.ten_of_each(pool, 0)
        rule, step, budget, seed = how
        chapter.PRADA.prada_attack(api, seeds, budget, rule, seed, step)

    ended = chapter.synthetic(predict_proba, pool, *how)
    rows, labels = chapter.recorded(whole, predict_proba)
    assert len(ended.x) == 150
    np.testing.assert_array_equal(ended.x, rows)
    np.testing.assert_array_equal(ended.labels, labels)


def test_dummies_are_mixed_in_and_the_attack_keeps_its_order():
    own = chapter.Pool(np.arange(100.0)[:, None], np.zeros(100, int))
    pool = chapter.Pool(1000 + np.arange(500.0)[:, None], np.ones(500, int))
    rng = np.random.default_rng(0)
    rows, labels = chapter.mixed(own, pool, 2, rng)
    np.testing.assert_array_equal(rows[labels == 0], own.x)
    assert len(np.unique(rows[labels == 1])) == 200
    assert ((rows >= 1000).ravel() == (labels == 1)).all()
    np.testing.assert_array_equal(chapter.mixed(own, pool, 0, rng).x, own.x)


def test_the_first_alarm_is_the_first_test_below():
    path = np.array([[110, 0.97], [120, 0.9], [130, 0.8], [140, 0.99]])
    assert chapter.first_alarm(path, 0.95) == 120
    assert chapter.first_alarm(path, 0.85) == 130
    assert np.isnan(chapter.first_alarm(path, 0.5))


def test_accounts_share_the_queries_in_turn():
    x, labels = rows_of(360)
    paths = chapter.split((x, labels), 3)
    for k, path in enumerate(paths):
        expected = chapter.Stream().add(x[k::3], labels[k::3])
        np.testing.assert_array_equal(path, expected)


def test_a_burst_moves_each_picture_by_a_pixel_a_frame():
    x = np.zeros((2, 1, 5, 9))
    x[0, 0, 2, 4], x[1, 0, 1, 4] = 1, 1
    frames = chapter.bursts(x, 3)
    assert frames.shape == (6, 1, 5, 9)
    np.testing.assert_array_equal(frames[:3, 0, 2].argmax(1), [3, 4, 5])
    np.testing.assert_array_equal(frames[3:, 0, 1].argmax(1), [3, 4, 5])


def test_a_random_step_spreads_the_distances_and_stays_in_its_bounds():
    torch.manual_seed(0)
    model = chapter.models.lenet(8, 16, normalise=True)
    x = np.full((300, 1, 28, 28), 0.5, np.float32)
    labels = np.arange(300) % 10
    rng = np.random.default_rng(0)
    moved = chapter.random_step(model, x, labels, 0.15, 0, rng)
    sizes = np.abs(moved - x).max((1, 2, 3))
    assert sizes.min() >= 0.0149 and sizes.max() <= 0.3751
    assert sizes.mean() == pytest.approx(0.15, abs=0.01)
    assert sizes.std() == pytest.approx(0.05, abs=0.01)


def test_tailored_dummies_are_earlier_queries_at_chosen_distances():
    own = chapter.Pool(
        np.full((4, 1, 28, 28), 0.5, np.float32), np.zeros(4, int)
    )
    rows, labels = chapter.tailored(own, 200, np.random.default_rng(0))
    away = np.linalg.norm((rows - 0.5).reshape(200, -1), axis=1) / 28
    assert away.mean() == pytest.approx(0.2, abs=0.015)
    assert away.std() == pytest.approx(0.05, abs=0.015)
    assert len(labels) == 200


# --- the second watch -------------------------------------------------------


class Says(torch.nn.Module):
    """Labels of rows 0, 1, 2, ... from a table."""

    def __init__(self, labels):
        super().__init__()
        self.labels = torch.tensor(labels)

    def forward(self, x):
        said = self.labels[x[:, 0].long()]
        return torch.nn.functional.one_hot(said, 4).float()


TABLE = [[0, 1, 2, 3, 0], [0, 2, 2, 3, 1], [0, 1, 3, 3, 1]]
FINAL = np.array([0, 1, 2, 0, 1])  # settled at 0, 2, 3 (never), 3, 1


def by_table():
    return [Says(row) for row in TABLE], np.arange(5.0)[:, None]


def test_hardness_is_when_the_label_settles():
    networks, x = by_table()
    found = chapter.hardness(networks, x, FINAL)
    np.testing.assert_array_equal(found, [0, 2, 3, 3, 1])


def test_snapshots_are_the_training_at_its_steps(monkeypatch):
    monkeypatch.setattr(chapter, "STEPS", (1, 3))
    x = np.random.default_rng(0).random((40, 1, 28, 28), np.float32)
    y = np.arange(40) % 10
    first, last = chapter.checkpoints(x, y, 0)
    again = chapter.checkpoints(x, y, 0)
    for one, two in zip((first, last), again, strict=True):
        for a, b in zip(one.parameters(), two.parameters(), strict=True):
            assert torch.equal(a, b)
    changed = [
        not torch.equal(a, b)
        for a, b in zip(first.parameters(), last.parameters(), strict=True)
    ]
    assert all(changed)
    monkeypatch.setattr(chapter, "STEPS", (3,))
    (alone,) = chapter.checkpoints(x, y, 0)
    longer = dict(last.named_parameters())
    for name, weight in alone.named_parameters():
        assert torch.equal(weight, longer[name])


def wager(alpha=0.01, usual=0.1):
    return chapter.Wager([], 7, usual, alpha)


def test_a_bet_against_a_benign_client_is_worth_one_on_average():
    """All streams of 9 rows, each with its probability."""
    usual, expected = 0.1, 0.0
    for stream in itertools.product([0, 10], repeat=9):
        wealth = np.ones(5)
        for level in stream:
            wealth, _ = wager(usual=usual).judge(wealth, level)
        hard = sum(level > 0 for level in stream)
        chance = usual**hard * (1 - usual) ** (9 - hard)
        expected += chance * wealth.mean()
    assert expected == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("usual", [0.03, 0.06, 0.12])
def test_villes_bound_holds_for_a_long_stream_exactly(usual):
    """The wealth depends on how many rows were hard: a walk on counts."""
    stakes, alpha, crossed = chapter.STAKES, 0.01, 0.0
    alive = np.array([1.0])  # the chance of each count without an alarm
    for n in range(1, 1001):
        new = np.append(alive * (1 - usual), 0) + np.append(0, alive * usual)
        hard = np.arange(n + 1)[:, None]
        logs = hard * np.log1p(stakes * (1 - usual))
        logs = logs + (n - hard) * np.log1p(-stakes * usual)
        over = np.exp(np.minimum(logs, 600)).mean(1) >= 1 / alpha
        crossed += new[over].sum()
        alive = np.where(over, 0, new)
    assert 0.001 < crossed <= alpha


def test_the_bet_raises_its_alarm_where_the_formula_does():
    hard = np.where(np.random.default_rng(0).random(400) < 0.3, 8, 2)
    factors = 1 + chapter.STAKES * ((hard >= 7)[:, None] - 0.1)
    wealth = np.cumprod(factors, axis=0).mean(1)
    expected = np.flatnonzero(wealth >= 100)[0] + 1
    for size in (1, 7, 400):
        watch = wager()
        for start in range(0, 400, size):
            watch.read("m", hard[start : start + size])
        assert watch.alarms["m"].query == expected
    assert wager().read("just below", np.full(9, 6)) is None
    assert wager().read("just hard", np.full(9, 7)).query < 6


def test_natural_rows_never_win_and_hard_ones_win_at_once():
    assert wager().read("calm", np.zeros(10_000, int)) is None
    assert wager().read("m", np.full(20, 10)).query < 6


def hoda(delta=0.2):
    return chapter.Hoda([], [50, 30, 10, 5, 2, 1, 1, 1, 0, 0, 0], delta)


def test_hoda_compares_every_full_window_and_no_other():
    rng, watch = np.random.default_rng(0), hoda()
    usual = watch.usual / watch.usual.sum()
    calm = rng.choice(11, 300, p=usual)
    wild = rng.choice(11, 199)
    assert watch.read("m", calm) is None
    assert watch.read("m", wild[:99]) is None
    assert watch.read("m", wild[99:]).query == 400
    shifted = hoda()
    for level in np.concatenate([calm[:50], wild]):
        shifted.read("n", [level])
    counts = np.bincount(np.concatenate([calm[:50], wild])[:100], minlength=11)
    apart = 1 - np.corrcoef(watch.usual, counts)[0, 1]
    assert shifted.alarms["n"].query == (100 if apart > 0.2 else 200)
    assert chapter.histogram_distance(watch.usual, np.full(11, 9)) == 1


@pytest.mark.parametrize("make", [hoda, wager])
def test_the_second_watch_reads_the_api(make):
    networks, x = by_table()
    watch = make()
    watch.networks = networks
    api = PredictionAPI(
        lambda rows: one_hot(FINAL[rows[:, 0].astype(int)]), monitors=[watch]
    )
    api.query(np.tile(x, (40, 1)), client="m")
    direct = make()
    direct.read("m", np.tile([0, 2, 3, 3, 1], 40))
    assert watch.alarms == direct.alarms
    assert watch.memory["m"][0] == direct.memory["m"][0]
    with pytest.raises(ValueError, match="NaN"):
        watch.observe("m", np.full((1, 1), np.nan), one_hot([0]))


def test_an_alarm_of_the_second_watch_stays():
    watch = wager()
    alarm = watch.read("m", np.full(20, 10))
    assert watch.read("m", np.zeros(500, int)) is alarm
    assert watch.read("other", np.zeros(5, int)) is None


@pytest.mark.parametrize("usual", [0, 0.125, 0.5, np.nan])
def test_a_bet_is_refused_where_it_could_lose_more_than_all(usual):
    with pytest.raises(ValueError, match="usual"):
        wager(usual=usual)
    with pytest.raises(ValueError, match="alpha"):
        wager(alpha=usual - 0.5 if usual == usual else usual)


def test_easy_rows_are_those_of_which_the_copy_is_sure():
    seeds = np.random.default_rng(0).random((20, 1, 28, 28), np.float32)
    api = PredictionAPI(
        lambda rows: one_hot(np.arange(len(rows)) % 10, 10), budget=60
    )
    rows = chapter.easy_rows(api, seeds, 60, seed=1)
    assert rows.shape == (60, 1, 28, 28) and api.ledger.queries == 60
    np.testing.assert_array_equal(rows[:20], seeds)
    again = np.random.default_rng(1)
    pool = np.concatenate([chapter.bent(seeds, 0.1, again) for _ in range(4)])
    first = chapter.PRADA.train_substitute(
        seeds, one_hot(np.arange(20) % 10, 10), 1
    )
    sure = chapter.training.predict_proba(first, pool)
    sure = sure[np.arange(80), np.tile(np.arange(20) % 10, 4)]
    kept = [(pool == row).all((1, 2, 3)).argmax() for row in rows[20:]]
    assert set(kept) == set(np.argsort(-sure)[:40])


def test_a_bend_of_strength_zero_changes_nothing():
    x = np.random.default_rng(0).random((3, 1, 28, 28), np.float32)
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(chapter.bent(x, 0.0, rng), x, atol=1e-4)
    assert np.abs(chapter.bent(x, 0.1, rng) - x).max() > 0.1


def test_a_tenth_of_the_rows_may_be_hard():
    least, share = chapter.hard_share(np.array([900, 50, 30, 15, 5]))
    assert least == 1  # a tenth, exactly
    wrong = stats.binom.cdf(100, 1000, share)  # as few as were seen
    assert wrong == pytest.approx(0.001, rel=1e-6)
    assert chapter.hard_share(np.array([899, 51, 30, 15, 5]))[0] == 2
