"""The sweep: what is kept, what is made anew, and what a death costs."""

import json
import os
import signal
import subprocess
import sys

import pytest
from _cluster import ROOT, cluster, wait_for

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


def test_scheduler_started_by_hand(script, tmp_path):
    with cluster(tmp_path / "where") as (address, _):
        remote = outcomes_of(script([2, 3, -1], scheduler=address))
    assert [row[0] for row in remote] == [{"square": 4}, {"square": 9}, None]
    assert sorted(starts(tmp_path)) == ["-1", "2", "3"]


def made(text, name="mexutils.book.x"):
    scope = {"__name__": name}
    exec(text, scope)
    return scope


BASE = '''
SCALE = {scale}
def helper(x):
    """{doc}"""
    return SCALE * x {sign} 1
class Thing:
    def go(self, x):
        self.beside = x
        return helper(self.beside)
def run(x):
    # {doc}
    return {{"y": Thing().go(x)}}
def unused():
    return {unused}
beside = {beside}
'''


def key_of(parameters=None, name="mexutils.book.x", **changes):
    settings = {"scale": 2, "doc": "one", "sign": "+", "unused": 0}
    settings |= {"beside": 0}
    scope = made(BASE.format(**settings | changes), name)
    return cell_key(Cell(scope["run"], parameters or {"x": 1}))


def test_key_follows_code_and_parameters():
    base = key_of()
    assert base == key_of()
    assert base == key_of(doc="another word")
    assert base == key_of(unused=5)
    assert base == key_of(beside=5)  # a global called like an attribute
    assert base == key_of(name="__main__")
    assert base != key_of(scale=3)
    assert base != key_of(sign="-")
    assert base != key_of({"x": 2})


def test_key_follows_functions_among_the_parameters():
    first, second = made("def f(x): return x"), made("def f(x): return -x")
    assert key_of({"x": first["f"]}) != key_of({"x": second["f"]})


def test_key_does_not_depend_on_the_process(tmp_path):
    path = tmp_path / "key.py"
    path.write_text(
        "from mexutils import load_chapter\n"
        "from mexutils.sweep import Cell, cell_key\n"
        'chapter = load_chapter("attacks/knockoff_nets")\n'
        "print(cell_key(Cell(chapter.knockoff, {'budget': 3, 's': {1, 2}})))\n"
    )
    keys = {
        subprocess.run(
            [sys.executable, path],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(keys) == 1


def test_damaged_file_is_made_anew(tmp_path, monkeypatch):
    cell = Cell(dict, {"a": 1})
    calls = []

    def computed(wanted, scheduler, workers):
        for key in wanted:
            calls.append(key)
            yield key, module.Outcome({"a": 1})

    monkeypatch.setattr(module, "_computed", computed)
    (tmp_path / f"{cell_key(cell)}.json").write_text('{"a": ')
    assert sweep([cell], folder=tmp_path)[0].value == {"a": 1}
    assert sweep([cell], folder=tmp_path)[0].kept
    assert len(calls) == 1


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cell 0 is int"):
        sweep([3], folder=tmp_path)
    with pytest.raises(ValueError, match="workers must be at least 1"):
        sweep([Cell(dict, {})], folder=tmp_path, workers=0)
