"""The arena: who meets whom, what an attacker is told, who is ranked where."""

import base64
from functools import partial

import numpy as np
import pandas as pd
import pytest

from mexutils import (
    Accounts,
    Alarm,
    ClientBlocked,
    PredictionAPI,
    load_chapter,
)
from mexutils.sweep import Cell, cell_key

arena = load_chapter("comparison/arena")
cancer = partial(arena.table_owner, name="breast_cancer", kind="softmax")
tree = partial(arena.table_owner, name="breast_cancer", kind="tree")


class After:
    """A monitor that raises an alarm on a client's n-th query."""

    def __init__(self, n):
        self.n, self.seen = n, {}

    def observe(self, client, x, probabilities):
        self.seen[client] = self.seen.get(client, 0) + len(x)
        return Alarm(self.n, "test") if self.seen[client] >= self.n else None


def first_column(x):
    p = np.clip(x[:, 0], 0, 1)
    return np.column_stack([p, 1 - p])


def test_every_pair_meets_or_has_a_reason():
    for attacks in (arena.IMAGE_ATTACKS, arena.TABLE_ATTACKS):
        for defense in arena.DEFENSES:
            for kind in ("image", "softmax", "tree"):
                reasons = [arena.why_not(a, defense, kind) for a in attacks]
                assert all(isinstance(reason, str) for reason in reasons)
    assert arena.why_not("KnockoffNets", "MAD", "image") == ""
    assert arena.why_not("path finding", "none", "softmax")
    assert not arena.why_not("path finding", "none", "tree")
    assert arena.why_not("path finding, 16 accounts", "MAD", "tree")
    assert not arena.why_not("path finding, 16 accounts", "PRADA", "tree")


def test_every_attack_and_every_defense_chapter_takes_part():
    used = {
        arena.STEALML,
        arena.KNOCKOFF,
        arena.PRADA,
        arena.SIGMOID,
        arena.POISON,
        arena.BDPL,
        arena.DETECT,
        arena.WARN,
        arena.SIBLINGS,
    }
    assert len({module.__name__ for module in used}) == 9


def test_accounts_take_turns_and_drop_the_blocked():
    api = PredictionAPI(
        first_column,
        monitors=[After(20)],
        on_alarm="block",
        input_shape=(1,),
    )
    customer = Accounts(api, ["a", "b"], rows=10)
    rows = np.linspace(0, 1, 40)[:, None]
    with pytest.raises(ClientBlocked):
        customer.query(rows)
    sent, heard = customer.transfer_set()
    np.testing.assert_array_equal(sent, rows[:20])
    np.testing.assert_allclose(heard, first_column(rows[:20]))
    assert api.ledger.accounts["a"].queries == 10
    assert api.ledger.accounts["b"].queries == 10


def test_accounts_refuse_bad_names():
    api = PredictionAPI(first_column, input_shape=(1,))
    for names in ("me", []):
        with pytest.raises(ValueError, match="names must be a list"):
            Accounts(api, names)
    with pytest.raises(ValueError, match="nothing was answered"):
        Accounts(api).transfer_set()


def test_averaging_asks_four_times_and_dummies_are_billed():
    api = PredictionAPI(first_column, input_shape=(1,))
    rows = np.full((5, 1), 0.5)
    mean = arena.Averaging(api, seed=0).query(rows)
    assert api.ledger.queries == 20
    assert np.abs(mean - 0.5).max() < 0.1
    pool = np.linspace(0, 1, 7)[:, None]
    hidden = arena.WithDummies(api, pool, seed=0)
    np.testing.assert_allclose(hidden.query(rows), first_column(rows))
    assert api.ledger.queries == 20 + 5 * 4


def test_equation_solving_is_exact_and_stops_early():
    scores = arena.meet(cancer, arena.solving, arena.undefended, 0, 600)
    assert scores["fidelity"] == 100
    assert scores["queries"] == 2 * (30 + 1)
    assert scores["L1 on attack queries"] < 1e-12


def test_path_finding_is_exact_within_its_precision():
    scores = arena.meet(tree, arena.path_finding, arena.undefended, 0, 5000)
    assert scores["ended"] == "finished"
    assert scores["fidelity"] >= 98


def test_a_blocked_attack_learns_from_what_it_heard():
    def watched(owner, seed):
        return {"monitors": [After(50)]}

    scores = arena.meet(cancer, arena.deep, watched, 0, 600)
    assert scores["ended"] == "ClientBlocked"
    assert scores["queries"] == 40
    assert scores["queries to alarm"] == 50
    assert scores["fidelity"] > 60

    def at_once(owner, seed):
        return {"monitors": [After(1)]}

    scores = arena.meet(cancer, arena.deep, at_once, 0, 600)
    assert scores["queries"] == 0
    owner = cancer(0)
    own = owner.predict(owner.exam).argmax(1)
    assert scores["fidelity"] == pytest.approx(100 * np.mean(own == 0))


def test_the_owner_pays_nothing_for_no_defense():
    costs = arena.keep(cancer, arena.undefended, 0, clients=2)
    assert costs["lost"] == costs["L1 on benign queries"] == 0
    assert costs["false alarms"] == 0
    labels = arena.keep(cancer, arena.labels_only, 0, clients=2)
    assert labels["lost"] == 0 < labels["L1 on benign queries"]


def test_seeds_repeat():
    first, second = (
        arena.meet(tree, arena.deep, arena.gaussian_noise, 1, 200)
        for _ in range(2)
    )
    assert first == second


def test_a_changed_defense_changes_its_cells_alone():
    def key(defense):
        who = {"owner": tree, "attack": arena.deep, "defense": defense}
        return cell_key(Cell(arena.meet, who | {"seed": 0, "budget": 9}))

    original = arena.SIGMOID.ReverseSigmoid._bent
    before = key(arena.reverse_sigmoid), key(arena.gaussian_noise)
    try:
        arena.SIGMOID.ReverseSigmoid._bent = lambda self, p, strength: p
        after = key(arena.reverse_sigmoid), key(arena.gaussian_noise)
    finally:
        arena.SIGMOID.ReverseSigmoid._bent = original
    assert before[0] != after[0]
    assert before[1] == after[1]


def results(**fidelity):
    rows = [
        {"defense": d, "attack": a, "victim": "v", "seed": s, "fidelity": f}
        for d, attacks in fidelity.items()
        for a, values in attacks.items()
        for s, f in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_best_attack_and_ranks_by_hand(monkeypatch):
    names = {"good": None, "middle": None, "same": None, "poor": None}
    monkeypatch.setattr(arena, "DEFENSES", names)
    met = results(
        good={"x": [10, 11, 12], "y": [20, 21, 22]},
        middle={"x": [50, 54, 52], "y": [1, 2, 3]},
        same={"x": [52, 50, 54]},
        poor={"x": [90, 91, 92]},
    )
    assert arena.best_attacks(met)["good"] == "y"
    assert arena.best_attacks(met)["middle"] == "x"
    assert arena.ranks(met) == {
        "good": (1, 1),
        "middle": (2, 3),
        "same": (2, 3),
        "poor": (4, 4),
    }


def test_the_link_holds_the_table():
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    link = arena.download(table, "t.csv").data
    text = link.split("base64,")[1].split('"')[0]
    assert base64.b64decode(text).decode() == table.to_csv(index=False)
