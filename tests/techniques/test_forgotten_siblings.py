"""Forgotten Siblings, from its chapter, by second routes and bad input."""

import json

import numpy as np
import pytest
from scipy.stats import gaussian_kde
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity
from sklearn.tree import DecisionTreeClassifier

from mexutils import ClientBlocked, PredictionAPI, load_chapter

siblings = load_chapter("defenses/forgotten_siblings")
stealml = load_chapter("attacks/stealml_trees")


def data(n=300, d=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, d))
    return x, (x[:, 0] * x[:, 1] + 0.2 * x[:, -1] > 0).astype(int)


@pytest.fixture(scope="module")
def model():
    return DecisionTreeClassifier(min_samples_leaf=4, random_state=0).fit(
        *data()
    )


@pytest.fixture(scope="module")
def victim(model):
    return siblings.LeafVictim(model)


@pytest.fixture
def monitor(victim):
    margins = siblings.security_margins(victim, data()[0])
    return siblings.SiblingsMonitor(victim, margins)


def hugging(victim, n, seed=0):
    """Rows a little above the lower threshold of a side of random leaves."""
    rng = np.random.default_rng(seed)
    lower, upper = victim.leaves.lower, victim.leaves.upper
    low, high = np.maximum(lower, -1), np.minimum(upper, 1)
    rows = []
    while len(rows) < n:
        leaf = rng.integers(len(low))
        row = rng.uniform(low[leaf], high[leaf])
        i = rng.choice(
            np.flatnonzero(
                np.isfinite(upper[leaf] - lower[leaf])
                | np.isfinite(lower[leaf])
                | np.isfinite(upper[leaf])
            )
        )
        row[i] = low[leaf, i] + 1e-4 * (high[leaf, i] - low[leaf, i])
        rows.append(row)
    return np.array(rows)


# --- leaves ---------------------------------------------------------------


def test_boxes_and_numbers_agree_with_the_tree(model, victim):
    x = data(2000, seed=1)[0]
    leaves = victim.leaves
    ends = np.flatnonzero(model.tree_.children_left < 0)
    np.testing.assert_array_equal(ends[victim.find(x)], model.apply(x))
    holds = (leaves.lower < x[:, None]) & (x[:, None] <= leaves.upper)
    holds = holds.all(-1)
    np.testing.assert_array_equal(holds.sum(1), 1)  # a partition
    np.testing.assert_array_equal(holds.argmax(1), victim.find(x))
    np.testing.assert_array_equal(
        leaves.label[victim.find(x)], model.predict(x)
    )


def test_walks_of_the_attacked_tree_end_in_the_same_leaves(model, victim):
    x = data(50, seed=2)[0].astype(np.float32)
    walked = [stealml.stops_at(model.tree_, row) for row in x]
    np.testing.assert_array_equal(victim.leaves.number[walked], victim.find(x))


def test_a_leaf_number_travels_as_a_probability_vector(victim):
    x = data(20, seed=3)[0]
    api = PredictionAPI(victim, returns="label")
    np.testing.assert_array_equal(api.query(x), victim.find(x))


# --- margins --------------------------------------------------------------


def test_the_share_of_the_density_is_that_of_scipy():
    values = np.random.default_rng(0).normal(0.1, 0.2, 40).clip(-0.5, 0.6)
    h = siblings.bandwidth(values)
    kde = gaussian_kde(values, bw_method=h / values.std(ddof=1))
    places, share = siblings.density_share(values, -0.5, 0.6, h)
    total = kde.integrate_box_1d(-0.5, 0.6)
    for k in (0, 1, 250, 700, 999):
        part = kde.integrate_box_1d(-0.5, places[k])
        assert share[k] == pytest.approx(part / total, abs=1e-10)
    _, uncut = siblings.density_share(values, -0.5, 0.6, h, cut=False)
    assert uncut[-1] == pytest.approx(total, abs=1e-10) and total < 1


def test_the_density_is_that_of_a_direct_trapezoid():
    values = np.random.default_rng(1).beta(2, 5, 30)
    h = siblings.bandwidth(values)
    places, share = siblings.density_share(values, 0.0, 1.0, h)
    bumps = np.exp(-(((places[:, None] - values) / h) ** 2) / 2)
    density = bumps.sum(1)
    steps = (density[1:] + density[:-1]) / 2 * np.diff(places)
    direct = np.append(0, np.cumsum(steps)) / steps.sum()
    np.testing.assert_allclose(share, direct, atol=1e-5)


def test_silverman_by_hand():
    # sd of 1..9 is 2.7386, the quartile range 4 / 1.34 = 2.9851
    values = np.arange(1.0, 10.0)
    assert siblings.bandwidth(values) == pytest.approx(
        0.9 * 2.738613 * 9**-0.2, rel=1e-6
    )
    assert siblings.bandwidth(np.ones(9)) == siblings.bandwidth([1.0]) == 0


def test_few_values_are_bounded_by_their_extremes():
    # side 10 wide: margins of at most 0.75
    assert siblings.safe_part([0.5, 4, 5], 0, 10) == (0.5, 9.25)
    assert siblings.safe_part([3, 4, 9.5], 0, 10) == (0.75, 9.5)
    assert siblings.safe_part([0, 10.0], 0, 10) == (0, 10)
    assert siblings.safe_part([5.0] * 20, 0, 10) == (0.75, 9.25)


def test_many_values_at_the_ends_leave_no_margin():
    values = np.linspace(0, 10, 400)
    low, high = siblings.safe_part(values, 0, 10)
    assert 0 < low < 0.1 and 9.9 < high < 10
    # the density of the authors' code never adds up to one here
    assert siblings.safe_part(values, 0, 10, cut=False)[1] == 10


def test_margins_follow_the_mirror_image():
    values = np.random.default_rng(3).gamma(2, 1.5, 60).clip(0, 10)
    low, high = siblings.safe_part(values, 0, 10)
    mirrored = siblings.safe_part(10 - values, 0, 10)
    assert mirrored == pytest.approx((10 - high, 10 - low), abs=0.011)


@pytest.mark.parametrize(
    "values, low, high",
    [([], 0, 1), ([0.5], 1, 0), ([np.nan, 0.5], 0, 1)],
)
def test_a_side_that_is_none_is_refused(values, low, high):
    with pytest.raises(ValueError, match="low < high"):
        siblings.safe_part(values, low, high)


def test_margins_of_a_tree_made_by_hand():
    x = np.array([[-0.8], [-0.6], [-0.4], [-0.1], [0.3], [0.5], [0.9]])
    stump = DecisionTreeClassifier(max_depth=1).fit(x, x[:, 0] > 0)
    victim = siblings.LeafVictim(stump)
    margins = siblings.security_margins(victim, x)
    # threshold 0.1, sides [-1, 0.1] and [0.1, 1]
    np.testing.assert_allclose(
        margins.low[:, 0], [-1 + 0.075 * 1.1, 0.1 + 0.075 * 0.9], atol=1e-7
    )
    np.testing.assert_allclose(
        margins.high[:, 0], [0.1 - 0.075 * 1.1, 1 - 0.075 * 0.9], atol=1e-7
    )
    monitor = siblings.SiblingsMonitor(victim, margins)
    rows = [[-0.99], [-0.5], [0.05], [0.101], [0.5], [0.95], [7.0], [1e300]]
    leaf, inside = monitor.judge(rows)
    assert leaf.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert inside.tolist() == [1, 0, 1, 1, 0, 1, 1, 1]


def test_an_unused_feature_has_no_margin_and_training_extremes_are_safe(
    victim, monitor
):
    used = np.isfinite(victim.leaves.lower) | np.isfinite(victim.leaves.upper)
    assert np.isinf(monitor.margins.low[~used]).all()
    x = data()[0]
    leaf, inside = monitor.judge(x)
    small = np.bincount(leaf)[leaf] <= 5
    assert small.any() and not inside[small].any()


def test_margins_need_the_rows_of_the_tree(victim):
    with pytest.raises(ValueError, match="no training row in leaf"):
        siblings.security_margins(victim, data()[0][:3])


def test_margins_in_other_units_are_the_scaled_ones(model, victim):
    x, y = data()
    centre, unit = np.array([40.0, -7.0, 3e4]), np.array([8.0, 0.5, 1e4])
    raw = centre + unit * x
    raw_model = DecisionTreeClassifier(min_samples_leaf=4, random_state=0)
    raw_victim = siblings.LeafVictim(raw_model.fit(raw, y))
    scaled = siblings.security_margins(victim, x)
    found = siblings.security_margins(
        raw_victim, raw, centre - unit, centre + unit
    )
    for there, here in zip(found, scaled, strict=True):
        np.testing.assert_allclose((there - centre) / unit, here, atol=1e-6)
    owner = siblings.Owner(
        raw_victim, found, raw, raw, centre - unit, centre + unit
    )
    run = siblings.theft(owner, 3, precision=0.01)
    assert run["p"] == 1 and np.isfinite(run["alarm"])


def test_rows_outside_the_range_are_refused_with_the_range(victim):
    x = data()[0]
    with pytest.raises(ValueError, match="its range of -1 to 1: pass low and"):
        siblings.security_margins(victim, 3 * x)
    with pytest.raises(ValueError, match="feature 1 .* range of 0 to 1"):
        siblings.security_margins(victim, x, low=[-1, 0, -1])
    siblings.security_margins(victim, x * (1 + 1e-15))  # rounding alone
    for low, high in ((1, -1), (-np.inf, 1), ([-1, -1], 1)):
        with pytest.raises(ValueError, match="low and high must be"):
            siblings.security_margins(victim, x, low, high)
    with pytest.raises(ValueError, match="NaN or infinite"):
        siblings.security_margins(victim, x * np.nan)


def test_the_cross_validated_bandwidth_is_scikit_learns():
    rng = np.random.default_rng(0)
    for n, spread in ((6, 0.1), (23, 0.4), (60, 3.0), (40, 0.02)):
        values = 5 + spread * rng.normal(size=n)
        search = GridSearchCV(
            KernelDensity(), {"bandwidth": np.linspace(0.01, 1, 30)}, cv=5
        ).fit(values[:, None])
        assert siblings.cross_validated(values) == pytest.approx(
            search.best_params_["bandwidth"]
        )


def test_the_published_protocol_has_the_ranges_and_classes_of_the_code():
    owner = siblings.as_published(101)
    assert (owner.low <= 0).all() and (owner.high >= 1).all()
    assert owner.mine.shape == (799, 11) and owner.held_out.shape == (800, 11)
    assert len(owner.victim.leaves.label) == 91
    assert owner.mine[:, 6].max() > 100  # sulfur dioxide, in mg / l


# --- the monitor ----------------------------------------------------------


def direct_score(monitor, rows):
    """R from its definition, leaf by leaf."""
    leaf, inside = monitor.judge(rows)
    ratios = [
        inside[leaf == number].mean() if (leaf == number).sum() > 5 else 0
        for number in range(len(monitor.victim.leaves.label))
    ]
    return np.mean(ratios)


def test_the_score_is_its_definition(victim, monitor):
    rows = np.vstack([hugging(victim, 200), data(100, seed=5)[0]])
    monitor.observe("a", rows)
    assert monitor.score("a") == pytest.approx(direct_score(monitor, rows))
    assert monitor.score("nobody") == 0


def test_the_alarm_comes_at_the_first_tenth_query_above(victim, monitor):
    rows = hugging(victim, 400)
    alarm = monitor.observe("a", rows)
    looks = range(10, 401, 10)
    above = [n for n in looks if direct_score(monitor, rows[:n]) > 0.3]
    assert alarm.query == above[0]


def test_a_score_at_the_threshold_itself_is_no_alarm():
    """3 of 10 leaves with every query inside: R is 0.3, and not above it."""
    kept = siblings.Watched(10)
    for leaf in range(3):
        for _ in range(6):
            kept.count(leaf, inside=True)
    assert kept.score() == 0.3
    assert siblings.verdict(kept, 0.3) is None
    assert siblings.verdict(kept, np.nextafter(0.3, 0)).query == 18
    kept.inside[0] -= 1
    kept.inside[3], kept.seen[3] = 6, 6
    assert siblings.verdict(kept, 0.3) is not None


def test_a_client_at_the_threshold_itself_is_not_accused():
    """Ten leaves in a row: with three of them all inside R is 0.3."""
    x = np.linspace(-1, 1, 100)[:, None]
    steps = DecisionTreeClassifier().fit(x, np.arange(100) // 10 % 2)
    victim = siblings.LeafVictim(steps)
    ends = np.append(-1, victim.leaves.upper[:, 0].clip(max=1))
    close = ends[:-1] + 1e-6
    narrow = siblings.Margins(
        ends[:-1, None] + 0.01, victim.leaves.upper.clip(max=2)
    )
    monitor = siblings.SiblingsMonitor(victim, narrow)
    rows = np.repeat(close, 10)[:, None]
    assert monitor.observe("a", rows[:30]) is None
    assert monitor.score("a") == 0.3
    assert monitor.observe("a", rows[30:]).query == 40


def test_five_queries_in_a_leaf_say_nothing(victim, monitor):
    row = hugging(victim, 1)
    monitor.observe("a", np.repeat(row, 5, axis=0))
    assert monitor.score("a") == 0
    monitor.observe("a", row)
    assert monitor.score("a") == pytest.approx(1 / len(victim.leaves.label))


@pytest.mark.parametrize("size", [1, 3, 10, 64, 400])
def test_packing_does_not_matter(victim, monitor, size):
    rows = hugging(victim, 400)
    whole = monitor.observe("whole", rows)
    for first in range(0, len(rows), size):
        part = monitor.observe("parts", rows[first : first + size])
    assert part == whole and whole is not None
    assert monitor.score("parts") == monitor.score("whole")


def test_clients_do_not_mix_and_an_alarm_stays(victim, monitor):
    alarm = monitor.observe("a", hugging(victim, 400))
    assert monitor.observe("b", data(30, seed=6)[0]) is None
    assert monitor.observe("a", data(4000, seed=7)[0]) == alarm


def test_state_is_bounded(victim, monitor):
    monitor.observe("a", data(500, seed=8)[0])
    before = len(monitor.clients["a"].seen)
    monitor.observe("a", data(5000, seed=9)[0])
    assert len(monitor.clients["a"].seen) == before
    assert set(vars(monitor.clients["a"])) == {
        *("seen", "inside", "queries", "alarm")
    }


def revived(monitor, state):
    other = siblings.SiblingsMonitor(monitor.victim, monitor.margins)
    siblings.load_state(other, json.loads(json.dumps(state)))
    return other


@pytest.mark.parametrize("cut", [1, 7, 55, 399])
def test_a_restart_changes_no_verdict(victim, monitor, cut):
    rows = hugging(victim, 400)
    whole = monitor.observe("whole", rows)
    monitor.observe("a", rows[:cut])
    other = revived(monitor, siblings.save_state(monitor))
    assert other.observe("a", rows[cut:]) == whole
    assert other.score("a") == monitor.score("whole")


def test_a_blocked_client_is_blocked_after_a_restart(victim, monitor):
    monitor.observe("a", hugging(victim, 400))
    other = revived(monitor, siblings.save_state(monitor))
    api = PredictionAPI(victim, monitors=[other], on_alarm="block")
    with pytest.raises(ClientBlocked):
        api.query(np.zeros((1, 3)), "a")
    assert api.query(np.zeros((1, 3)), "b").shape[0] == 1


def test_the_saved_state_is_a_copy(victim, monitor):
    monitor.observe("a", np.zeros((3, 3)))
    state = siblings.save_state(monitor)
    monitor.observe("a", np.zeros((3, 3)))
    assert sum(state["clients"]["a"]["seen"]) == 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s.update(monitor="another"),
        lambda s: s.pop("clients"),
        lambda s: s["clients"]["a"].pop("seen"),
        lambda s: s["clients"]["a"].update(seen=[1, 2]),
        lambda s: s["clients"]["a"]["seen"].__setitem__(0, -1),
        lambda s: s["clients"]["a"]["inside"].__setitem__(0, 10**6),
        lambda s: s["clients"]["a"]["seen"].__setitem__(0, 1.5),
        lambda s: s["clients"]["a"].update(alarm=[1]),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(monitor, spoil):
    monitor.observe("a", np.zeros((3, 3)))
    state = siblings.save_state(monitor)
    spoil(state)
    with pytest.raises(ValueError, match="state"):
        siblings.load_state(monitor, state)
    assert monitor.clients["a"].queries == 3


def test_a_state_of_another_threshold_is_refused(monitor):
    other = siblings.SiblingsMonitor(monitor.victim, monitor.margins, 0.5)
    with pytest.raises(ValueError, match="another threshold"):
        siblings.load_state(other, siblings.save_state(monitor))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_row_is_an_error_and_nothing_of_its_call_is_counted(
    monitor, bad
):
    rows = np.zeros((5, 3))
    rows[3, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        monitor.observe("a", rows)
    assert "a" not in monitor.clients


def test_bad_shapes_names_and_thresholds_are_refused(victim, monitor):
    for rows in (np.zeros(3), np.zeros((2, 4)), np.zeros((1, 1, 3))):
        with pytest.raises(ValueError, match="rows must be"):
            monitor.observe("a", rows)
    with pytest.raises(ValueError, match="known by a string"):
        monitor.observe(3, np.zeros((1, 3)))
    for threshold in (-0.1, 1, np.nan):
        with pytest.raises(ValueError, match="threshold"):
            siblings.SiblingsMonitor(victim, monitor.margins, threshold)
    short = siblings.Margins(*(part[:1] for part in monitor.margins))
    with pytest.raises(ValueError, match="differ"):
        siblings.SiblingsMonitor(victim, short)


# --- the attacker's side --------------------------------------------------


def api_of(victim, monitor, **options):
    return PredictionAPI(
        victim, returns="label", monitors=[monitor], **options
    )


def test_the_attack_finds_every_leaf_when_nobody_stops_it(victim, monitor):
    thief = siblings.Thief(api_of(victim, monitor))
    boxes = siblings.find_paths(thief, np.full(3, 0.1), 1e-4)
    leaves = victim.leaves
    spans = siblings.extracted(thief.rows, thief.heard, leaves, 1e-4)
    assert spans == 1 and len(boxes) == len(leaves.label)
    for box in boxes:
        number = int(box.answer[0])
        low = np.maximum(leaves.lower[number], -1)
        high = np.minimum(leaves.upper[number], 1)
        np.testing.assert_allclose(box.low, low, atol=1e-4)
        np.testing.assert_allclose(box.high, high, atol=1e-4)


def test_extracted_counts_leaves_with_every_side_reached():
    stump = DecisionTreeClassifier(max_depth=1).fit([[-0.5], [0.5]], [0, 1])
    leaves = siblings.LeafVictim(stump).leaves  # [-1, 0] and [0, 1]
    rows, heard = [[-1.0], [-0.0005], [0.5], [1.0]], [0, 0, 1, 1]
    assert siblings.extracted(rows, heard, leaves, 1e-3) == 0.5
    assert siblings.extracted(rows, heard, leaves, 1e-4) == 0.0
    assert siblings.extracted(rows, heard, leaves, 0.6) == 1.0


def test_a_blocked_thief_stops_and_another_name_goes_on(victim, monitor):
    api = api_of(victim, monitor, on_alarm="block")
    thief = siblings.Thief(api)
    assert siblings.find_paths(thief, np.full(3, 0.1), 1e-4) is None
    assert len(thief.rows) == api.ledger.queries
    assert api.alarms["attacker"].query == len(thief.rows) + 1
    again = siblings.Thief(api, names=[f"{k}" for k in range(50)])
    assert siblings.find_paths(again, np.full(3, 0.1), 1e-4) is not None
    spans = siblings.extracted(again.rows, again.heard, victim.leaves, 1e-4)
    assert spans == 1 and len(again.names) < 50


def test_covers_are_billed_and_watched(victim, monitor):
    api, told = api_of(victim, monitor), []

    def covers(row, leaf):
        told.append((row.tolist(), leaf))
        return np.zeros((4 * (len(told) > 1), 3))

    thief, row = siblings.Thief(api, covers=covers), np.full((1, 3), 0.5)
    number = victim.find(row)[0]
    for queries in (1, 6):
        assert thief.query(row).tolist() == [[number, 0.0]]
        kept = monitor.clients["attacker"]
        assert api.ledger.queries == kept.queries == queries
    assert told == 2 * [(row[0].tolist(), number)]
    assert len(thief.rows) == 2 and len(np.vstack(thief.sent_along)) == 4
    both = thief.query(np.vstack([row, row]))
    assert both.tolist() == [[number, 0.0]] * 2 and len(thief.rows) == 4
    with pytest.raises(ValueError, match="only complete rows"):
        thief.query(np.zeros((1, 3)), np.array([[True, False, True]]))


def test_covers_from_nothing_lie_in_the_middle_of_what_is_known(victim):
    covers = siblings.Middles(50, seed=0)
    a, b = np.array([0.0, 0.0]), np.array([1.0, -0.5])
    assert covers(a, 7).shape == (0, 2)
    made = covers(b, 7)
    assert made.shape == (50, 2) and len(np.unique(made, axis=0)) == 50
    assert (made >= [0.4, -0.3]).all() and (made <= [0.6, -0.2]).all()
    assert covers(b, 8).shape == (0, 2)  # another leaf is not known yet
    # what a victim's leaf answers to them is that leaf, since it is convex
    covers, rows = siblings.Middles(3, seed=1), data(400, seed=11)[0]
    for row, leaf in zip(rows, victim.find(rows), strict=True):
        made = covers(row, leaf)
        assert not len(made) or (victim.find(made) == leaf).all()


def test_a_start_is_moved_to_the_middle_of_its_leaf(victim, monitor):
    lower = np.maximum(victim.leaves.lower, -1)
    upper = np.minimum(victim.leaves.upper, 1)
    for leaf in range(len(lower)):
        corner = lower[leaf] + 0.01 * (upper[leaf] - lower[leaf])
        if victim.find(corner[None])[0] != leaf:
            continue  # too thin for single precision
        thief = siblings.Thief(api_of(victim, monitor))
        x = siblings.centred(thief, corner, -np.ones(3), np.ones(3))
        assert victim.find(x[None])[0] == leaf
        # a coarse end is off by 1/8 of the way to the end of the range
        off = np.abs(x - (lower[leaf] + upper[leaf]) / 2)
        assert (off <= 2 / 8 / 2 + 0.01).all()
        assert len(thief.rows) <= 1 + 3 * 2 * 4


def test_a_theft_without_data_gets_through(victim, monitor):
    x = data()[0]
    owner = siblings.Owner(victim, monitor.margins, x, x)
    assert siblings.theft(owner, 3, react="refuse")["boxes"] is None
    run = siblings.fewest_covers(owner, "middle", 3)
    assert run["p"] == 1 and np.isnan(run["alarm"]) and run["each"] <= 3
    assert run["names used"] == 1
    sent = len(np.vstack(run["sent along"]))
    assert run["queries"] == len(run["rows"]) + sent


def test_random_answers_begin_with_the_alarm_of_that_client(victim, monitor):
    api = api_of(victim, monitor)
    leaves = len(victim.leaves.label)
    wire = siblings.RandomAfterAlarm(api, leaves, seed=0)
    x = data(200, seed=4)[0]
    np.testing.assert_array_equal(wire.query(x, "b"), victim.find(x))
    wire.query(hugging(victim, 400), "a")
    said = wire.query(x, "a")
    assert (said == victim.find(x)).mean() < 0.5
    assert said.min() >= 0 and said.max() < leaves
    np.testing.assert_array_equal(wire.query(x, "b"), victim.find(x))
