"""The sweep: what is kept, what is made anew, and what a death costs."""

import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from _cluster import ROOT, cluster, wait_for
from sklearn.linear_model import LogisticRegression

from mexutils import sweep as module
from mexutils.sweep import Cell, cell_key, sweep

# A script as a user would write one: it notes every start of a cell, waits,
# and prints what came of all of them.
SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
from mexutils.sweep import Cell, sweep

def square(n, wait, log, deaths=0):
    with open(log, "a") as file:
        file.write(f"{n}\\n")
    starts = Path(log).read_text().split().count(str(n))
    if starts <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    if n < 0:
        raise ValueError(f"{n} is below zero")
    time.sleep(wait)
    return {"square": n * n}

if __name__ == "__main__":
    numbers, wait, folder, scheduler, deaths = json.loads(sys.argv[1])
    cells = [
        Cell(square, {"n": n, "wait": wait, "log": folder + "/log"}
             | ({"deaths": deaths[str(n)]} if str(n) in deaths else {}))
        for n in numbers
    ]
    outcomes = sweep(cells, folder=folder, scheduler=scheduler)
    print(json.dumps([list(outcome) for outcome in outcomes]))
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "CI": "1",
        "MEXUTILS_CACHE": str(tmp_path / "cache"),
    }

    def start(numbers, wait=0.0, scheduler=None, deaths=None):
        order = [numbers, wait, str(tmp_path), scheduler, deaths or {}]
        return subprocess.Popen(
            [sys.executable, path, json.dumps(order)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


def outcomes_of(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return json.loads(output.splitlines()[-1])


def starts(tmp_path):
    return (tmp_path / "log").read_text().split()


@pytest.mark.slow
def test_values_errors_deaths_and_repeats(script, tmp_path):
    numbers, deaths = [1, 2, -3, 2, 6, 7], {"6": 1, "7": 9}
    first = outcomes_of(script(numbers, deaths=deaths))
    values = [row[0] and row[0]["square"] for row in first]
    assert values == [1, 4, None, 4, 36, None]
    assert "-3 is below zero" in first[2][1]
    assert "KilledWorker" in first[5][1]
    counts = {n: starts(tmp_path).count(str(n)) for n in numbers}
    assert (counts[-3], counts[6], counts[7]) == (1, 2, 2)
    again = outcomes_of(script(numbers, deaths={"6": 1, "7": 2}))
    assert [row[2] for row in again] == [True, True, False, True, True, False]
    assert again[5][0] == {"square": 49}
    assert starts(tmp_path).count("6") == 2


@pytest.mark.slow
def test_killed_in_the_middle_and_resumed(script, tmp_path):
    numbers = list(range(8))
    process = script(numbers, wait=0.3)
    wait_for(
        lambda: len(list(tmp_path.glob("*.json"))) >= 3, "no cell was kept"
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = [
        json.loads(path.read_text())["square"]
        for path in tmp_path.glob("*.json")
    ]
    before = starts(tmp_path)
    outcomes = outcomes_of(script(numbers, wait=0.3))
    assert [row[0]["square"] for row in outcomes] == [n * n for n in numbers]
    after = starts(tmp_path)[len(before) :]
    assert not {int(n) ** 2 for n in after} & set(kept)
    assert len(after) == len(numbers) - len(kept) > 0


@pytest.mark.slow
def test_without_dask_s_processes_cells_run_here(monkeypatch, tmp_path):
    monkeypatch.setattr("mexutils.sweep.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "distributed", None)  # not importable
    cells = [Cell(divmod_of, {"n": n}) for n in (7, 0)]
    good, bad = sweep(cells, folder=tmp_path)
    assert good.value == {"parts": [1, 2]}
    assert bad.error.startswith("ZeroDivisionError")
    assert sweep(cells[:1], folder=tmp_path)[0].kept


def divmod_of(n):
    return {"parts": list(divmod(9, n))}


def test_scheduler_started_by_hand(script, tmp_path):
    with cluster(tmp_path / "where") as (address, _):
        remote = outcomes_of(script([2, 3, -1], scheduler=address))
    assert [row[0] for row in remote] == [{"square": 4}, {"square": 9}, None]
    assert sorted(starts(tmp_path)) == ["-1", "2", "3"]


@pytest.fixture
def computed(monkeypatch):
    """The cells that a sweep computes, here instead of in workers."""
    calls = []

    def compute(wanted, scheduler, workers):
        for key, cell in wanted.items():
            calls.append(cell)
            yield key, module.Outcome(*module._call(cell))

    monkeypatch.setattr(module, "_computed", compute)
    return calls


def seen(value):
    return {"seen": str(value)}


def test_every_value_is_computed_for_itself(computed, tmp_path):
    values = [*np.arange(3), *torch.arange(3), *np.float32([0.1, 0.5])]
    values += [Path("a"), Path("b"), Fraction(1, 2), Fraction(1, 3)]
    values += [LogisticRegression(C=1.5), LogisticRegression(C=2.5)]
    cells = [Cell(seen, {"value": value}) for value in values]
    outcomes = sweep(cells, folder=tmp_path)
    assert [o.value["seen"] for o in outcomes] == list(map(str, values))
    again = sweep(cells[::-1], folder=tmp_path)
    assert [o.value for o in again[::-1]] == [o.value for o in outcomes]
    assert len(computed) == len(values)


def test_equal_cells_are_computed_once(computed, tmp_path):
    cells = [
        Cell(dict, {"a": np.zeros(2).size, "b": "c"}),
        Cell(dict, {"b": "c", "a": 2}),
        Cell(dict, {}),
    ]
    outcomes = sweep([*cells, *cells], folder=tmp_path)
    assert [o.value for o in outcomes[:3]] == [
        *({"a": 2, "b": "c"}, {"a": 2, "b": "c"}, {})
    ]
    assert all(o.kept for o in sweep(cells, folder=tmp_path))
    assert len(computed) == 2


def test_a_cell_s_key_is_of_its_function_and_parameters():
    cell = Cell(seen, {"value": 1})
    assert cell_key(cell) == cell_key(Cell(seen, {"value": 1}))
    assert cell_key(cell) == module._cell_keys([cell, cell])[1]
    assert cell_key(cell) != cell_key(Cell(seen, {"value": 1.0}))
    assert cell_key(cell) != cell_key(Cell(dict, {"value": 1}))


@pytest.mark.parametrize("damaged", ['{"a": ', "", "3", "\ud800"])
def test_damaged_file_is_made_anew(computed, tmp_path, damaged):
    cell = Cell(dict, {"a": 1})
    path = tmp_path / f"{cell_key(cell)}.json"
    path.write_bytes(damaged.encode(errors="surrogatepass"))
    assert sweep([cell], folder=tmp_path)[0].value == {"a": 1}
    assert sweep([cell], folder=tmp_path)[0].kept
    assert len(computed) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_bad_input_is_refused_before_anything_is_computed(computed, tmp_path):
    fine = Cell(dict, {"a": 1})
    with pytest.raises(ValueError, match="cell 1 is int"):
        sweep([fine, 3], folder=tmp_path)
    with pytest.raises(ValueError, match="workers must be at least 1"):
        sweep([fine], folder=tmp_path, workers=0)
    with pytest.raises(ValueError, match="cell 1: a .*generator has no key"):
        sweep([fine, Cell(dict, {"a": iter(x for x in "ab")})])
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError, match="cannot be written.*MEXUTILS_CAC"):
        sweep([fine], folder=tmp_path / "file")
    assert computed == []
