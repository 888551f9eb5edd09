"""Extraction Warning, from its chapter, by second routes and brute force."""

import json
import math
from itertools import combinations, permutations
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score
from sklearn.tree import DecisionTreeClassifier

from mexutils import PredictionAPI, load_chapter

chapter = load_chapter("defenses/extraction_warning")
MONITORS = {
    "leaves": lambda source, at: chapter.InformationMonitor(source, at),
    "answers": lambda source, at: chapter.InformationMonitor(
        source, at, chapter.by_answers
    ),
    "coverage": lambda source, at: chapter.CoverageMonitor(source, at),
}
every_monitor = pytest.mark.parametrize(
    "build", MONITORS.values(), ids=list(MONITORS)
)


def rule(x):
    """Three classes, cut by two of three features."""
    right = x[:, 0] > 0.2
    return right.astype(int) + (right & (x[:, 1] > -0.3))


@pytest.fixture(scope="module")
def source():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (300, 3))
    y = np.where(rng.random(300) < 0.1, 0, rule(x))  # some noise: more leaves
    model = DecisionTreeClassifier(min_samples_leaf=5, random_state=0)
    return chapter.Source(model.fit(x, y), x)


def stream(n, seed):
    return np.random.default_rng(seed).uniform(-1, 1, (n, 3))


def told(monitor, client, rows, batch):
    """Every verdict on the rows of one client, in calls of `batch` rows."""
    verdicts = []
    for k in range(0, len(rows), batch):
        part = rows[k : k + batch]
        answers = monitor.source.predict_proba(part)
        verdicts.append(monitor.observe(client, part, answers))
    return verdicts


def test_entropy_on_hand_values():
    np.testing.assert_allclose(
        chapter.entropy([[1, 1], [4, 0], [1, 3]]),
        [1, 0, 2 - 0.75 * math.log2(3)],
    )


@pytest.mark.parametrize("seed", range(20))
def test_gain_is_mutual_information(seed):
    rng = np.random.default_rng(seed)
    n, leaves, classes = rng.integers([2, 1, 1], [400, 30, 6])
    groups, labels = (
        rng.integers(leaves, size=n),
        rng.integers(classes, size=n),
    )
    expected = mutual_info_score(groups, labels) / math.log(2)
    gain = chapter.information_gain(groups, labels)
    assert gain == pytest.approx(expected, rel=0, abs=1e-9)


def test_source_has_status_one_on_its_own_labels(source):
    assert chapter.extraction_status(source, source.model) == 1
    shares = np.bincount(source.labels) / len(source.labels)
    shares = shares[shares > 0]
    assert source.gain == pytest.approx(-shares @ np.log2(shares), abs=1e-9)


def test_status_asks_how_rows_are_divided_and_answers_what_is_said(source):
    """Names of classes play no part in either; a constant knows nothing."""
    x = stream(200, 1)
    labels = source.predict_proba(x).argmax(axis=1)
    right = chapter.proxy_tree(x, labels)
    wrong = chapter.proxy_tree(x, (labels + 1) % 3)
    nothing = chapter.proxy_tree(x, 0 * labels)
    for groups in (chapter.by_leaves, chapter.by_answers):
        known, swapped, none = (
            chapter.extraction_status(source, tree, groups)
            for tree in (right, wrong, nothing)
        )
        assert 0.5 < known <= 1
        assert swapped == pytest.approx(known, abs=0.1)
        assert none == pytest.approx(0, abs=1e-12)
    assert chapter.extraction_status(
        source, right
    ) >= chapter.extraction_status(source, right, chapter.by_answers)


def test_proxy_knows_no_order_and_no_repeats():
    x = stream(80, 2)
    labels = np.random.default_rng(0).integers(3, size=80)
    first = chapter.proxy_tree(x, labels)
    back = np.append(np.arange(80)[::-1], np.repeat(np.arange(9), 40))
    again = chapter.proxy_tree(x[back], labels[back])
    np.testing.assert_array_equal(first.tree_.threshold, again.tree_.threshold)
    np.testing.assert_array_equal(first.tree_.feature, again.tree_.feature)


def test_a_proxy_learns_every_pair_that_is_no_contradiction(source):
    """Three rows in turn of label: a leaf for each, however few it holds."""
    rows, labels = np.array([[0.0], [0.1], [0.2]]), np.array([0, 1, 0])
    tree = chapter.proxy_tree(rows, labels)
    np.testing.assert_array_equal(tree.predict(rows), labels)
    assert tree.get_n_leaves() == 3
    x = stream(200, 1)
    labels = np.random.default_rng(0).integers(3, size=200)
    tree = chapter.proxy_tree(x, labels)
    np.testing.assert_array_equal(tree.predict(x), labels)
    assert chapter.proxy_tree(x, labels, 5).get_n_leaves() == 5


def test_leaf_boxes_hold_exactly_the_points_of_their_leaf(source):
    points = stream(20_000, 3).astype(np.float32)
    leaves = source.model.tree_.apply(points)
    assert len(source.boxes) == source.model.get_n_leaves() > 5
    for leaf, (features, low, high) in source.boxes.items():
        inside = np.ones(len(points), bool)
        for i, a, b in zip(features, low, high, strict=True):
            inside &= (points[:, i] > a) & (points[:, i] <= b)
        np.testing.assert_array_equal(inside, leaves == leaf)


def test_smoothed_answers_by_counting(source):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (300, 3))
    y = np.where(rng.random(300) < 0.1, 0, rule(x))
    leaves = source.model.apply(x)
    for row in (0, 7, 100):
        counts = np.bincount(y[leaves == leaves[row]], minlength=3) + 1
        np.testing.assert_allclose(
            source.predict_proba(x[row : row + 1])[0], counts / counts.sum()
        )


def test_coverage_by_brute_force(source):
    """From the definition, with no summary kept on the way."""
    x = stream(60, 4).astype(np.float32)
    leaves, own = source.model.apply(x), source.model.apply(source.rows)
    total = 0.0
    for leaf in np.unique(leaves):
        features, low, high = source.boxes[leaf]
        spread = np.ptp(x[leaves == leaf][:, features].astype(float), axis=0)
        sides = spread / (np.array(high) - low)
        total += (own == leaf).mean() * sides.prod() ** (1 / len(features))
    monitor = chapter.CoverageMonitor(source)
    told(monitor, "a", x, 7)
    assert monitor.status("a") == pytest.approx(total, abs=1e-12)
    assert 0.2 < total < 1


def test_covered_at_once_is_covered_one_by_one(source):
    monitor, shop = chapter.CoverageMonitor(source), SimpleNamespace()
    told(monitor, "a", stream(80, 4), 7)
    shop.source = source
    pairs = np.column_stack([stream(80, 4), np.zeros(80)])
    at_once = chapter.covered(shop, pairs)["B, coverage"]
    assert at_once == monitor.status("a")


def test_sides_that_are_kept_are_those_that_would_be_computed(source):
    """Two clients in turn, of whom each overwrites what is kept."""
    monitor = chapter.CoverageMonitor(source)
    for k in range(30):
        for client in "ab":
            told(monitor, client, stream(30, ord(client))[k : k + 1], 1)
            kept = monitor.clients[client]["kept"]
            assert monitor.status(client) == chapter.coverage(source, kept)
    assert monitor.status("a", "b") == chapter.coverage(
        source, chapter.merged([monitor.clients[k]["kept"] for k in "ab"])
    )


@pytest.mark.parametrize("parts", [[23], [4, 19], [10, 10, 3], [1] * 23])
def test_a_door_opens_an_account_after_every_so_many_queries(source, parts):
    api = PredictionAPI(source.predict_proba)
    door, rows = chapter.Door(api, 10), stream(23, 1)
    calls = np.split(rows, np.cumsum(parts)[:-1])
    answers = np.concatenate([door.query(part) for part in calls])
    np.testing.assert_array_equal(answers, source.predict_proba(rows))
    spent = {k: a.queries for k, a in api.ledger.accounts.items()}
    assert spent == {"attacker 0": 10, "attacker 1": 10, "attacker 2": 3}


def test_one_point_covers_nothing_and_all_corners_everything(source):
    monitor = chapter.CoverageMonitor(source)
    told(monitor, "point", stream(1, 5), 1)
    assert monitor.status("point") == 0
    for features, low, high in source.boxes.values():
        for ends in (np.array(low) + 1e-6, np.array(high) - 1e-6):
            row = np.zeros((1, 3))
            row[0, features] = ends
            told(monitor, "corners", row, 1)
    assert monitor.status("corners") == pytest.approx(1, abs=1e-4)


def test_coverage_state_is_bounded_by_the_tree(source):
    monitor = chapter.CoverageMonitor(source)
    told(monitor, "a", stream(2000, 6), 500)
    kept = monitor.clients["a"]["kept"]
    assert set(kept) <= set(source.boxes)
    for leaf, box in kept.items():
        assert [len(side) for side in box] == [len(source.boxes[leaf][0])] * 3


@every_monitor
def test_merging_is_one_client_who_sent_everything(source, build):
    together, one = build(source, None), build(source, None)
    parts = {name: stream(30, k) for k, name in enumerate("abcd")}
    for name, rows in parts.items():
        told(together, name, rows, 30)
    for name in "dbca":
        told(one, "one", parts[name][::-1], 11)
    statuses = {together.status(*order) for order in permutations("abcd")}
    assert statuses == {one.status("one")}  # to the last bit, in any order
    if build is MONITORS["coverage"]:  # a proxy may lose by new pairs
        assert one.status("one") > max(map(together.status, "abcd"))


def test_merged_summaries_are_the_summary_of_the_union(source):
    monitor = chapter.CoverageMonitor(source)
    told(monitor, "a", stream(40, 1), 40)
    told(monitor, "b", stream(40, 2), 40)
    before = json.dumps(monitor.clients["a"]["kept"])
    union = chapter.merged([monitor.clients[k]["kept"] for k in "ab"])
    told(monitor, "both", np.concatenate([stream(40, 2), stream(40, 1)]), 9)
    assert union == monitor.clients["both"]["kept"]
    assert json.dumps(monitor.clients["a"]["kept"]) == before  # not changed


@every_monitor
@pytest.mark.parametrize("batch", [1, 7, 25, 150])
def test_batches_give_the_alarm_of_single_queries(source, build, batch):
    rows = stream(150, 8)
    single = [v for v in told(build(source, 0.5), "a", rows, 1) if v]
    assert single and len(set(map(str, single))) == 1  # latched
    assert 1 < single[0].query < 150
    # one by one, the alarm came with the query that it names
    assert len(single) == 150 - single[0].query + 1
    monitor = build(source, 0.5)
    assert told(monitor, "a", rows, batch)[-1] == single[0]
    assert monitor.clients["a"]["queries"] == 150


@every_monitor
def test_clients_do_not_disturb_each_other(source, build):
    streams = {name: stream(90, k) for k, name in enumerate("abc")}
    mixed, alone = build(source, 0.6), build(source, 0.6)
    for k in range(90):
        for name, rows in streams.items():
            told(mixed, name, rows[k : k + 1], 1)
    for name, rows in streams.items():
        told(alone, name, rows, 90)
    assert mixed.clients == alone.clients
    assert all(record["alarm"] for record in mixed.clients.values())


@every_monitor
def test_threshold_is_reached_not_before(source, build):
    """Without a threshold nobody is warned of; readings agree."""
    rows = stream(150, 8)
    alarm = told(build(source, 0.5), "a", rows, 150)[0]
    quiet = build(source, None)
    assert told(quiet, "a", rows[: alarm.query], 10)[-1] is None
    assert quiet.status("a") >= 0.5
    if build is MONITORS["coverage"]:
        quiet = build(source, None)
        told(quiet, "a", rows[: alarm.query - 1], 10)
        assert quiet.status("a") < 0.5


@every_monitor
def test_a_status_equal_to_the_threshold_warns(source, build):
    rows = stream(40, 8)
    quiet = build(source, None)
    statuses = []
    for n in range(1, 41):
        told(quiet, "a", rows[n - 1 : n], 1)
        if quiet.is_due(n):
            statuses.append((quiet.status("a"), n))
    top, first = max(statuses, key=lambda pair: (pair[0], -pair[1]))
    alarm = told(build(source, top), "a", rows, 40)[0]
    assert alarm is not None and alarm.query == first
    above = math.nextafter(top, 2)
    if above <= 1:
        assert told(build(source, above), "a", rows, 40)[0] is None


def test_checkpoints_grow_by_a_quarter():
    due = [n for n in range(1, 200) if chapter.is_checkpoint(n)]
    assert due[:3] == [20, 25, 32]
    for a, b in zip(due, due[1:], strict=False):
        assert b == math.ceil(1.25 * a)


@every_monitor
@pytest.mark.parametrize("stop", [10, 40, 110])
def test_a_restart_changes_no_verdict(source, build, stop):
    rows = stream(150, 8)
    whole, before, after = (build(source, 0.5) for _ in range(3))
    expected = told(whole, "a", rows, 10)
    begun = told(before, "a", rows[:stop], 10)
    text = chapter.save_state(before)
    assert isinstance(text, str) and set(json.loads(text)) == {
        "settings",
        "clients",
    }
    chapter.load_state(after, text)
    assert chapter.save_state(after) == text
    assert begun + told(after, "a", rows[stop:], 10) == expected
    assert after.status("a") == whole.status("a")
    assert chapter.save_state(after) == chapter.save_state(whole)


@every_monitor
@pytest.mark.parametrize(
    "spoil",
    [
        lambda text, _: text[:-5],
        lambda text, _: "[]",
        lambda text, _: "{}",
        lambda text, state: json.dumps(state | {"settings": {}}),
        lambda text, state: text.replace('"kept"', '"lost"'),
        lambda text, state: text.replace('"queries": 12', '"queries": "x"'),
        lambda text, state: json.dumps(state | {"clients": 3}),
        lambda text, state: json.dumps(
            state | {"clients": {"a": state["clients"]["a"] | {"kept": 3}}}
        ),
    ],
)
def test_a_broken_state_is_refused_and_changes_nothing(source, build, spoil):
    monitor, other = build(source, 0.9), build(source, 0.9)
    told(monitor, "a", stream(12, 1), 12)
    told(other, "b", stream(12, 2), 12)
    text, before = chapter.save_state(monitor), chapter.save_state(other)
    with pytest.raises(ValueError, match="no state for this monitor"):
        chapter.load_state(other, spoil(text, json.loads(text)))
    assert chapter.save_state(other) == before


def test_a_state_of_another_monitor_is_refused(source):
    monitors = [build(source, 0.5) for build in MONITORS.values()]
    monitors.append(chapter.CoverageMonitor(source, 0.6))
    model = DecisionTreeClassifier(max_depth=2, random_state=0)
    other = model.fit(source.rows, source.labels)
    monitors.append(
        chapter.CoverageMonitor(chapter.Source(other, source.rows), 0.5)
    )
    for a, b in permutations(monitors, 2):
        with pytest.raises(ValueError, match="belongs to"):
            chapter.load_state(b, chapter.save_state(a))


@pytest.mark.parametrize(
    "box",
    [
        [[0.0], [0.0]],
        [[0.5, 0.5, 0.5], [0.1, 0.1, 0.1]],
        [[math.nan] * 3, [0.0] * 3],
        [[-math.inf] * 3, [math.inf] * 3],
    ],
)
def test_a_broken_box_is_refused(source, box):
    monitor = chapter.CoverageMonitor(source, 0.5)
    told(monitor, "a", stream(40, 1), 40)
    before = chapter.save_state(monitor)
    state = json.loads(before)
    kept = state["clients"]["a"]["kept"]
    leaf = next(k for k in kept if len(kept[k][0]) > 1)
    d = len(kept[leaf][0])
    kept[leaf] = [*(side[:d] for side in box), [0] * d]
    with pytest.raises(ValueError, match="no state"):
        chapter.load_state(monitor, json.dumps(state))
    assert chapter.save_state(monitor) == before


@every_monitor
@pytest.mark.parametrize(
    "spoil",
    [
        lambda x, p: (np.where(np.arange(3) == 1, np.nan, x), p),
        lambda x, p: (np.where(x == x[2, 0], np.inf, x), p),
        lambda x, p: (x[:, :2], p),
        lambda x, p: (np.column_stack([x, x]), np.tile(p, (1, 2))),
        lambda x, p: (x[0], p[0]),
        lambda x, p: (x[:0], p[:0]),
        lambda x, p: (x, p[:2]),
        lambda x, p: (x, p[:, :2]),
        lambda x, p: (x, p * np.nan),
    ],
)
@pytest.mark.parametrize("client", ["old", "new"])
def test_a_bad_call_raises_and_changes_no_state(source, build, spoil, client):
    monitor = build(source, 0.9)
    told(monitor, "old", stream(6, 1), 6)
    before = chapter.save_state(monitor)
    x = stream(5, 2)
    with pytest.raises(ValueError, match=r"\w+"):
        monitor.observe(client, *spoil(x, source.predict_proba(x)))
    assert chapter.save_state(monitor) == before


@every_monitor
def test_a_bad_row_does_not_pass_the_api_in_silence(source, build):
    monitor = build(source, 0.5)
    api = PredictionAPI(source.predict_proba, monitors=[monitor])
    bad = stream(5, 1)
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        api.query(bad, client="a")
    assert api.ledger.queries == 0 and monitor.clients == {}
    rows = stream(150, 8)
    api.query(rows, client="a")
    expected = told(build(source, 0.5), "a", rows, 150)[0]
    assert monitor.clients["a"]["alarm"] == expected


def test_rows_outside_the_range_count_as_its_ends(source):
    x = stream(50, 1) * 3
    monitors = [chapter.CoverageMonitor(source) for _ in range(2)]
    for monitor, rows in zip(monitors, (x, np.clip(x, -1, 1)), strict=True):
        told(monitor, "a", rows, 50)
    assert monitors[0].clients == monitors[1].clients


def test_greedy_against_all_groups(source):
    """Optimal for one; never below 1 - 1/e of the best for coverage sums."""
    monitor = chapter.CoverageMonitor(source)
    names = list("abcdef")
    for k, name in enumerate(names):
        told(monitor, name, stream(12, k), 12)
    worth = monitor.status
    for size in range(1, 7):
        group = chapter.greedy_group(worth, names, size)
        assert len(set(group)) == size
        best = max(worth(*c) for c in combinations(names, size))
        assert (1 - 1 / math.e) * best <= worth(*group) <= best
        if size in (1, 6):
            assert worth(*group) == best
        # each step is the best that could be added
        before = group[: size - 1]
        assert worth(*group) == max(
            worth(*before, name) for name in names if name not in before
        )


def test_greedy_on_sets_by_hand():
    sets = {"a": {1, 2, 3, 4}, "b": {1, 2, 5}, "c": {3, 4, 6}, "d": {5, 6, 7}}

    def worth(*names):
        return len(set().union(*(sets[name] for name in names)))

    assert chapter.greedy_group(worth, sets, 2) == ["a", "d"]
    with pytest.raises(ValueError, match="5 out of 4"):
        chapter.greedy_group(worth, sets, 5)
    with pytest.raises(ValueError, match="0 out of 4"):
        chapter.greedy_group(worth, sets, 0)


@every_monitor
@pytest.mark.parametrize("threshold", [0, -1, 1.01, 70, math.nan])
def test_bad_thresholds(source, build, threshold):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        build(source, threshold)


@every_monitor
def test_names_are_checked(source, build):
    monitor = build(source, 0.5)
    x = stream(3, 1)
    with pytest.raises(ValueError, match="must be text"):
        monitor.observe(7, x, source.predict_proba(x))
    with pytest.raises(ValueError, match="no query came from 'a'"):
        monitor.status("a")
    with pytest.raises(ValueError, match="name at least one"):
        monitor.status()


def test_bad_sources_and_gains(source):
    with pytest.raises(ValueError, match="one label only"):
        chapter.Source(source.model, source.rows[:1])
    with pytest.raises(ValueError, match="NaN"):
        chapter.Source(source.model, source.rows * np.nan)
    with pytest.raises(ValueError, match="3 features"):
        chapter.Source(source.model, source.rows[:, :2])
    with pytest.raises(ValueError, match="range"):
        chapter.Source(source.model, source.rows, low=-1, high=0.1)
    for groups, labels in (([0, 1], [0]), ([], []), ([[0]], [[0]])):
        with pytest.raises(ValueError, match="one of each"):
            chapter.information_gain(groups, labels)


# --- categories, and the edge of a threshold -------------------------------

CODES = np.array([-1, -0.5, 0, 0.5, 1])


@pytest.fixture(scope="module")
def coded():
    """A source of one code with five values and one number."""
    rng = np.random.default_rng(1)
    x = np.column_stack([rng.choice(CODES, 400), rng.uniform(-1, 1, 400)])
    y = (x[:, 0] > -0.3).astype(int) + ((x[:, 0] > 0.7) & (x[:, 1] > 0))
    model = DecisionTreeClassifier(random_state=0).fit(x, y)
    return chapter.Source(model, x, categories={0: CODES})


def test_a_code_counts_as_the_part_of_its_leafs_codes_that_was_seen(coded):
    """Brute force: for each leaf, the codes that lead into it."""
    monitor = chapter.CoverageMonitor(coded)
    rng = np.random.default_rng(2)
    rows = np.column_stack([rng.choice(CODES[:4], 9), rng.uniform(-1, 1, 9)])
    told(monitor, "a", rows, 4)
    leaves, total = coded.model.apply(rows.astype(np.float32)), 0.0
    for leaf in np.unique(leaves):
        used, low, high = coded.boxes[leaf]
        own, sides = rows[leaves == leaf], []
        for i, a, b in zip(used, low, high, strict=True):
            if i == 0:
                inside = [c for c in CODES if a < c <= b or c == a == -1]
                sides.append(len(set(own[:, 0])) / len(inside))
            else:
                sides.append(np.ptp(own[:, i].astype(np.float32)) / (b - a))
        share = (coded.model.apply(coded.rows) == leaf).mean()
        total += share * np.prod(sides) ** (1 / len(used))
    assert 0.1 < total < 1
    assert monitor.status("a") == pytest.approx(total, abs=1e-6)
    at_once = chapter.coverage(coded, chapter.summary_of(coded, rows))
    assert at_once == monitor.status("a")


def test_all_codes_of_a_leaf_cover_it_and_survive_a_restart(coded):
    tree = coded.model.tree_
    cuts = tree.threshold[tree.feature == 1]
    sides = [-1, 1, *(cuts - 1e-6), *(cuts + 1e-6)]
    ends = [[c, t] for c in CODES for t in sides]
    first, second = (chapter.CoverageMonitor(coded, 1.0) for _ in range(2))
    told(first, "a", np.array(ends[:7]), 7)
    told(first, "b", np.array(ends[7:]), 7)
    assert first.status("a") < first.status("a", "b")
    assert first.status("a", "b") == pytest.approx(1, abs=1e-4)
    chapter.load_state(second, chapter.save_state(first))
    assert second.status("a", "b") == first.status("a", "b")
    plain = chapter.Source(coded.model, coded.rows)
    other = chapter.CoverageMonitor(plain, 1.0)
    with pytest.raises(ValueError, match="belongs to"):
        chapter.load_state(other, chapter.save_state(first))


@every_monitor
def test_the_edge_of_a_threshold_is_inside_it(source, build):
    """By a status that is set: equal warns, one bit below does not."""
    for status, warns in ((0.5, True), (math.nextafter(0.5, 0), False)):
        monitor = build(source, 0.5)
        monitor.is_due, monitor.worth = (
            lambda n: True,
            lambda kept, x=status: x,
        )
        told(monitor, "a", stream(1, 1), 1)
        assert (monitor.clients["a"]["alarm"] is not None) == warns


@pytest.mark.parametrize("seed", range(5))
def test_least_status_is_kept_by_every_proxy(source, seed):
    """Fano's inequality, on a source of two classes."""
    rng = np.random.default_rng(seed)
    x = stream(300, 7)
    y = (x[:, 0] > 0.2).astype(int)
    model = DecisionTreeClassifier(random_state=0).fit(x, y)
    two = chapter.Source(model, x)
    flipped = np.where(rng.random(300) < 0.1 * seed, 1 - y, y)
    proxy = chapter.proxy_tree(x[:200], flipped[:200])
    said = proxy.predict(two.rows)
    least = chapter.least_status(two, (said == two.labels).mean())
    status = chapter.extraction_status(two, proxy, chapter.by_answers)
    assert status >= least - 1e-12
    assert chapter.least_status(two, 1.0) == 1
    assert chapter.least_status(two, 0.5) == 0


# --- the curtain -----------------------------------------------------------


def test_invented_rows_are_known_ones_with_one_feature_moved():
    rng = np.random.default_rng(0)
    many, one = stream(50, 1), stream(1, 2)
    known = {(0, b"a"): list(many), (0, b"b"): list(one)}
    x = chapter.invented(known, 400, 1, (-1, 0.9), rng)
    rest = np.delete(np.concatenate([many, one]), 1, axis=1)
    same = (np.delete(x, 1, axis=1)[:, None] == rest).all(axis=2)
    assert same.any(axis=1).all()
    assert 0.35 < same[:, -1].mean() < 0.65  # answers count alike
    assert -1 <= x[:, 1].min() < -0.8 and 0.7 < x[:, 1].max() <= 0.9


def test_the_quiet_feature_is_the_one_that_the_tree_does_not_test(source):
    used = {int(i) for i in source.model.tree_.feature if i >= 0}
    plain = DecisionTreeClassifier(max_leaf_nodes=3, random_state=0)
    x = stream(300, 0)
    two = chapter.Source(plain.fit(x, rule(x)), x)
    assert {int(i) for i in plain.tree_.feature if i >= 0} == {0, 1} <= used
    asked = PredictionAPI(two.predict_proba)
    rng = np.random.default_rng(0)
    assert chapter.quiet_feature(asked.query, stream(8, 3), rng) == 2
    assert asked.ledger.queries == 8 * (1 + 3)


def hung(seed=0):
    """A curtain before a source that tests the features 1 and 2 only."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (400, 4))
    y = (x[:, 1] > 0.2) & (x[:, 2] > -0.1) | (x[:, 1] < -0.4)
    model = DecisionTreeClassifier(min_samples_leaf=4, random_state=0)
    inner = chapter.Source(model.fit(x[:, :3], y), x[:, :3])

    class Wide:
        rows, labels, gain = x.astype(np.float32), inner.labels, inner.gain

    ask = PredictionAPI(lambda z: inner.predict_proba(z[:, :3]))
    notes = chapter.Notes(ask)
    return Wide, notes, chapter.Curtain(notes, 3, 4, seed, {0: 0.25})


@pytest.mark.parametrize("seed", range(8))
def test_a_curtain_holds_still_and_hides_what_was_asked(seed):
    wide, notes, curtain = hung(seed)
    before = len(notes.rows)
    x = np.random.default_rng(9).uniform(-1, 1, (200, 4))
    answers = curtain.query(x)
    moved = x.copy()
    moved[:, [0, 3]] = 0.25, 1.0
    np.testing.assert_array_equal(answers, notes.api.query(moved))
    sent, labels = np.array(notes.rows), np.array(notes.labels)
    assert len(sent) >= before + 2 * len(x)  # a decoy for each, and repairs
    assert (sent[:, 0] == 0.25).all()
    # before the curtain there is one label only, behind it there are both
    assert set(labels[sent[:, 3] <= 0.9]) == {curtain.label}
    assert len(set(labels[sent[:, 3] == 1])) == 2
    status = chapter.extraction_status
    hidden = status(wide, chapter.proxy_tree(sent, labels))
    serious = sent[:, 3] == 1
    told_all = chapter.proxy_tree(sent[serious], labels[serious])
    assert hidden < (0.05 if curtain.is_closed() else 0.5)
    assert status(wide, told_all) > 0.9


def test_a_curtain_is_closed_more_often_than_not():
    closed = []
    for seed in range(8):
        _, _, curtain = hung(seed)
        curtain.query(np.random.default_rng(9).uniform(-1, 1, (200, 4)))
        closed.append(curtain.is_closed())
    assert np.mean(closed) > 0.5


def test_two_values_at_the_root_flatten_every_box(source):
    rows = stream(500, 11)
    (low,), (high,) = chapter.at_the_root(source)
    below, above = chapter.at_the_root(source)
    assert low == high == source.model.tree_.feature[0]
    t = source.model.tree_.threshold[0]
    assert below[low] < t < above[low]
    free = chapter.coverage(source, chapter.summary_of(source, rows))
    rows[:, low] = np.where(rows[:, low] <= t, below[low], above[low])
    assert chapter.coverage(source, chapter.summary_of(source, rows)) == 0
    assert free > 0.5
