"""The arena: grid and race, who is ranked where, and what is decided."""

import base64
import json
import os
import signal
import subprocess
import sys
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from _cluster import ROOT, cluster, wait_for
from scipy import stats

from mexutils import load_chapter
from mexutils.sweep import cell_key

arena = load_chapter("comparison/arena")
contest = load_chapter("comparison/contestants")
cancer = partial(contest.table_owner, name="breast_cancer", kind="softmax")
tree = partial(contest.table_owner, name="breast_cancer", kind="tree")


def test_the_grid_holds_every_pair_once():
    owners = arena.table_owners_of(["breast_cancer"], 300, 400)
    meetings, absent = arena.grid(owners, range(2))
    pairs = {(key[0], *key[3:5]) for key in meetings}
    assert len(meetings) == 2 * len(pairs)
    assert not pairs & {(k, a, d) for k, _, a, d in absent}
    assert len(pairs) + len(absent) == 2 * (
        len(arena.CONTESTANTS) * len(arena.GUARDS)
    )
    assert {key[2] for key in meetings if key[0] == "tree"} == {400}


def test_where_somebody_watches_readers_have_many_names():
    owners = arena.table_owners_of(["breast_cancer"], 300, 300)
    meetings, absent = arena.grid(owners, range(1))
    watched = {
        key[3]
        for key in meetings
        if arena.GUARDS[key[4]].watches and key[0] == "softmax"
    }
    assert {"pool rows", "pool rows, 16 accounts"} <= watched
    assert "pool rows, label alone, 16 accounts" in watched
    assert "pool rows, label alone" not in watched
    twins = {a for a in watched if f"{a}, 16 accounts" in watched}
    reads = [contest.CONTESTANTS[a].read for a in twins]
    assert set(reads) == {contest.as_they_are}


def test_classes_are_those_of_the_victim():
    owners = arena.table_owners_of(["digits"], 300, 300)
    meetings, absent = arena.grid(owners, range(1))
    assert not any(key[3].startswith("StealC") for key in meetings)
    assert any(a == "StealClassifier" for _, _, a, _ in absent)


def test_what_is_heard_alike_is_one_cell():
    owners = arena.table_owners_of(["breast_cancer"], 300, 300)
    meetings, _ = arena.grid(owners, range(1))
    names = "softmax", "breast_cancer", 300, "pool rows, label alone"
    first, second, third = (
        cell_key(meetings[*names, d, 0])
        for d in ("none", "reverse sigmoid", "rounding")
    )
    assert first == second != third


def test_the_owner_pays_nothing_for_no_defense():
    costs = arena.keep(cancer, contest.undefended, 0, False)
    assert costs["lost"] == costs["L1"] == costs["labels changed"] == 0
    assert costs["false alarms"] == 0
    labels = arena.keep(cancer, contest.labels_only, 0, False)
    assert labels["lost"] == labels["labels changed"] == 0 < labels["L1"]


def test_benign_clients_are_accused_about_as_often_as_allowed():
    found = [
        arena.keep(cancer, arena.GUARDS["PRADA"].make, s, True)
        for s in range(3)
    ]
    assert np.mean([f["false alarms"] / f["clients"] for f in found]) < 0.4


# The grid of a small arena, computed by a process of its own.
SCRIPT = """
import json, sys
from mexutils import load_chapter
from mexutils.sweep import sweep

if __name__ == "__main__":
    folder, scheduler = json.loads(sys.argv[1])
    arena = load_chapter("comparison/arena")
    owners = arena.table_owners_of(["breast_cancer"], 300, 300)
    meetings, _ = arena.grid(owners, range(1))
    costs = arena.owners_cells(owners, range(1))
    cells = {**meetings, **costs}
    outcomes = sweep(list(cells.values()), folder=folder, scheduler=scheduler)
    print(json.dumps([
        [list(map(str, key)), *outcome]
        for key, outcome in zip(cells, outcomes)
    ]))
"""


def started(tmp_path, folder, scheduler=None):
    path = tmp_path / "small_arena.py"
    path.write_text(SCRIPT)
    order = json.dumps([str(folder), scheduler])
    return subprocess.Popen(
        [sys.executable, path, order],
        env=os.environ | {"PYTHONPATH": str(ROOT), "CI": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def outcomes_of(process):
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0
    return json.loads(output.splitlines()[-1])


TIMES = "ms a query", "seconds"


def table_of(outcomes):
    """What a run found, without errors or times."""
    assert not [error for _, _, error, _ in outcomes if error]
    return {
        tuple(key): {k: v for k, v in value.items() if k not in TIMES}
        for key, value, _, _ in outcomes
    }


@pytest.mark.slow
def test_killed_and_resumed_and_elsewhere_the_same_table(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    process = started(tmp_path, here)
    wait_for(lambda: len(list(here.glob("*.json"))) >= 10, "no cell was kept")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {f: f.stat().st_mtime_ns for f in here.glob("*.json")}
    resumed = outcomes_of(started(tmp_path, here))
    # a label behind two guards is one cell
    different = len(list(here.glob("*.json")))
    assert len(kept) <= sum(was_kept for *_, was_kept in resumed)
    assert len(kept) < different < len(resumed)
    assert all(f.stat().st_mtime_ns == time for f, time in kept.items())

    with cluster(tmp_path / "cluster") as (address, workers):
        process = started(tmp_path, there, address)
        wait_for(lambda: len(list(there.glob("*.json"))) >= 10, "no cell")
        workers[0].kill()
        elsewhere = outcomes_of(process)
    assert table_of(resumed) == table_of(elsewhere)


def results(**fidelity):
    rows = [
        {"kind": "k", "budget": 1, "defense": d, "attack": a}
        | {"victim": v, "seed": s, "fidelity": f, "reads": "as they are"}
        | {"asks": a.split(",")[0], "accounts": 16 if "16" in a else 1}
        for d, attacks in fidelity.items()
        for a, victims in attacks.items()
        for v, values in victims.items()
        for s, f in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_the_best_by_mean_for_each_victim():
    met = results(
        none={
            "x": {"v": [40, 42], "w": [70, 72]},
            "y": {"v": [50, 51], "w": [60, 90], "u": [5, 6]},
            "z": {"v": [70, 0], "w": [69, 69], "u": [4, 4]},
        }
    )
    two = arena.contenders(met, n=2)
    places = {(key[1], key[-1]) for key in two}
    assert places == {
        ("v", "y"),
        ("v", "x"),  # z had one lucky draw
        ("w", "y"),
        ("w", "x"),
        ("u", "y"),
        ("u", "z"),
    }
    assert len(arena.contenders(met, n=1)) == 3
    near = {(key[1], key[-1]) for key in arena.contenders(met, 2)}
    assert near == {("v", "y"), ("w", "y"), ("u", "y"), ("u", "z")}


def test_of_the_same_copies_the_one_with_more_accounts_goes_on():
    """Nobody was stopped so far; on another draw only one name may be."""
    same = {"v": [60, 50]}
    met = results(none={"x": same, "x, 16": same, "y": {"v": [59, 50]}})
    found = [key[-1] for key in arena.contenders(met, n=2)]
    assert found == ["x, 16", "y"]
    # who asks otherwise is another attacker, whatever came of it
    met = results(none={"x": same, "y": same})
    assert len(arena.contenders(met)) == 2


def test_luck_is_not_skill():
    """The best of many equals, on draws that did not choose it, is as good as
    all, and its mean varies as independent draws do."""
    rng, ends, sure = np.random.default_rng(0), [], 0
    for _ in range(400):
        old = {a: {"v": rng.normal(size=3)} for a in "abcdefgh"}
        (key,) = arena.contenders(results(none=old), n=1)
        new = results(none={key[-1]: {"v": rng.normal(size=6)}})
        (values,) = arena.best_of(new).values()
        ends.append(values.mean())
        sure += arena.difference(values, 0 * values)[1] < 0.05
    assert abs(np.mean(ends)) < 4 * np.std(ends) / np.sqrt(len(ends))
    assert sure < 40  # 5 % are 20


def test_victims_and_draws_stay_paired():
    met = results(
        none={"x": {"v": [1, 2], "w": [3, 4]}},
        MAD={"x": {"w": [7, 8], "v": [5, 6]}},
    )
    best = arena.best_of(met)
    assert best["none"].tolist() == [[1, 2], [3, 4]]
    assert best["MAD"].tolist() == [[5, 6], [7, 8]]
    assert list(best) == ["none", "MAD"]


def test_a_difference_of_one_victim_is_the_paired_t_test():
    first, second = np.random.default_rng(0).normal(size=(2, 1, 8))
    gap, p = arena.difference(first, second)
    test = stats.ttest_rel(first[0], second[0])
    ends = test.confidence_interval()
    assert p == pytest.approx(test.pvalue)
    assert (gap.low, gap.high) == pytest.approx((ends.low, ends.high))


def test_victims_that_differ_are_no_noise():
    """A difference that each victim has alone is sure, however they vary."""
    rng = np.random.default_rng(0)
    level = np.array([[0.0], [10.0], [-4.0]])
    first = level + rng.normal(scale=0.1, size=(3, 5))
    gap, p = arena.difference(first, np.zeros((3, 5)))
    assert gap.mean == pytest.approx(first.mean())
    assert gap.low > 1.5 and p < 1e-6
    assert arena.difference(first, first) == ((0, 0, 0), 1)
    assert arena.difference(first + 1, first)[0].low == pytest.approx(1)


def test_the_error_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    wrong = [
        arena.difference(rng.normal(size=(3, 4)), np.zeros((3, 4)))[1] < 0.05
        for _ in range(2000)
    ]
    assert abs(np.mean(wrong) - 0.05) < 0.02


def test_holm_by_hand():
    p = [0.01, 0.04, 0.03, 0.005]
    assert arena.holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert arena.holm([0.9, 0.8]) == pytest.approx([1, 1])


def test_pairs_and_ranks_by_hand():
    noise = np.random.default_rng(0).normal(scale=0.1, size=(4, 1, 8))
    noise -= noise.mean(axis=2, keepdims=True)
    levels = {"good": 10, "middle": 50, "same": 50, "poor": 90}
    best = {d: x + e for (d, x), e in zip(levels.items(), noise, strict=True)}
    table = arena.compared(best)
    assert len(table) == 6 and table.decided.sum() == 5
    assert arena.ranks(table, list(best)) == {
        "good": (1, 1),
        "middle": (2, 3),
        "same": (2, 3),
        "poor": (4, 4),
    }


def test_many_pairs_take_more_than_one():
    """What is sure alone need not be sure among all pairs."""
    rng = np.random.default_rng(5)
    best = {n: rng.normal(size=(1, 6)) for n in range(12)}
    tests = [
        arena.difference(best[d], best[e])[1] for d in best for e in range(d)
    ]
    assert min(tests) < 0.05
    assert not arena.compared(best).decided.any()


@pytest.mark.parametrize("d_0, s_0", [(4, 2.0), (12, 0.5)])
def test_the_prior_of_many_variances_is_found(d_0, s_0):
    rng, d = np.random.default_rng(0), 5
    true = s_0**2 * d_0 / rng.chisquare(d_0, 50_000)
    found = arena.prior(true * rng.chisquare(d, len(true)) / d, d)
    assert found == pytest.approx((d_0, s_0), rel=0.1)


def test_variances_that_are_alike_count_as_one():
    rng, d = np.random.default_rng(0), 5
    d_0, s_0 = arena.prior(9 * rng.chisquare(d, 20_000) / d, d)
    assert d_0 > 200 and s_0 == pytest.approx(3, rel=0.05)
    assert arena.prior(np.zeros(50), d) == (0, 0)


def test_help_from_other_pairs_by_hand():
    gap = np.array([[1.0, 2.0, 3.0]])
    found, p = arena.difference(gap, 0 * gap, 4, 2.0)
    t = 2 / np.sqrt((4 * 4 + 2 * 1) / 6 / 3)
    assert p == pytest.approx(2 * stats.t.sf(t, 6))
    assert found.high - 2 == pytest.approx(2 / t * stats.t.ppf(0.975, 6))


def test_one_wrong_order_is_rare_and_true_ones_are_found():
    """Equal defenses, some of which vary far more than others."""
    rng, wrong, found, alone = np.random.default_rng(0), 0, 0, 0
    spread = np.r_[np.full(9, 0.35), 0.5, 0.6, 0.7, 1.2, 1.4, 1.6]
    for _ in range(150):
        drawn = rng.normal(size=(15, 1, 6)) * spread[:, None, None]
        wrong += arena.compared(dict(enumerate(drawn))).decided.any()
        drawn[:5] += 2
        best = dict(enumerate(drawn))
        found += arena.compared(best).decided.sum()
        pairs = combinations(best.values(), 2)
        p = [arena.difference(one, other)[1] for one, other in pairs]
        alone += (arena.holm(p) < 0.05).sum()
    assert wrong <= 16  # 5 % are 7.5
    assert found > 1.3 * alone


def test_dominance_is_over_the_best_of_each():
    met = results(
        **{
            "labels only": {"x": {"v": [50, 60], "w": [20, 20]}},
            "MAD": {
                "x": {"v": [10, 10], "w": [25, 25]},
                "y": {"v": [54, 58], "w": [0, 0]},
            },
        }
    )
    assert arena.dominance(met, "MAD") == 1
    assert arena.dominance(met, "labels only") == 0
    met.loc[met.fidelity == 58, "fidelity"] = 50
    assert arena.dominance(met, "MAD") == -3


def test_the_matrix_takes_the_best_of_a_row():
    met = results(
        none={"x": {"v": [50, 60]}, "y": {"v": [10, 90]}},
        MAD={"x": {"v": [1, 2]}},
    )
    met["asks"] = met["attack"].map({"x": "same", "y": "same"})
    table = arena.matrix(met, "asks")
    assert table.loc["same"].tolist() == [55, 1.5]
    assert list(table.columns) == ["none", "MAD"]


def test_the_matrix_takes_the_best_for_each_victim():
    """A way that one victim alone meets is no better on the others."""
    met = results(
        none={"x": {"v": [50], "w": [20]}, "y": {"v": [60]}},
    )
    met["asks"] = "same"
    assert arena.matrix(met, "asks").loc["same", "none"] == 40


def test_a_cell_that_is_shared_is_paid_once():
    met = results(none={"x": {"v": [1, 2]}, "y": {"v": [3, 4]}})
    met["seconds"] = [30.0, 60.0, 30.0, 90.0]
    assert arena.minutes(met) == 3


def test_a_cost_is_a_mean_with_its_ends():
    assert arena.spread(pd.Series([1.0, 1.0])) == "1.0"
    assert arena.spread(pd.Series([1.0, 4.0, 4.0])) == "3.0 (1.0 to 4.0)"


def test_claims_are_of_the_usual_pictures_and_all_tables():
    table = pd.DataFrame(
        {
            "kind": ["image", "image", "image", "tree"],
            "victim": ["mnist", "mnist", "fashion_mnist", "digits"],
            "budget": [1000, 500, 1000, 7],
        }
    )
    assert arena.claimed(table).index.tolist() == [0, 3]


def test_frontier_by_hand():
    points = [(1, 5), (2, 5), (3, 9), (0, 1), (3, 9.5)]
    assert arena.frontier(points) == [(0, 1), (2, 5), (3, 9)]


def test_points_at_one_place_stand_side_by_side():
    shown = arena.side_by_side([10.0, 90.0, 10.1, 50.0, 9.9], step=1.0)
    np.testing.assert_allclose(shown, [10.0, 90.0, 11.0, 50.0, 9.0])


def test_the_link_holds_the_table():
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    link = arena.download(table, "t.csv").data
    text = link.split("base64,")[1].split('"')[0]
    assert base64.b64decode(text).decode() == table.to_csv(index=False)
