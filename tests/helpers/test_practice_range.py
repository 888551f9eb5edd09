"""The range: nothing is free, nothing is lost, and it can be won."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager

import _browser
import httpx
import numpy as np
import practice_range
import pytest
from _wire import free_port
from conftest import ROOT
from practice_range import ALARM, EXAMINED, NEAR, Range, Settings, points
from range_solution import STRATEGIES, Student

from mexutils import BudgetExceeded, ClientBlocked
from mexutils.wire import LedgerError, RemoteAPI
from mexutils.wire.gateway import door_at, server_of


@contextmanager
def served(settings, folder):
    """The range and its address, in a thread of this process."""
    place = Range(settings, folder)
    server = server_of(place.app)
    with door_at("127.0.0.1", 0) as door:
        thread = threading.Thread(target=server.run, args=([door],))
        thread.start()
        try:
            yield place, f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
            place.close()


@contextmanager
def started(folder, *more):
    """The command in a process of its own; the process and its address."""
    port = free_port()
    command = [sys.executable, ROOT / "tools" / "practice_range.py"]
    command += ["--folder", folder, "--port", port, *more]
    process = subprocess.Popen(
        [str(part) for part in command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert "keys and addresses" in process.stdout.readline()
        assert "scores are at" in process.stdout.readline()
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def member(place, base, name):
    return Student(f"{base}/{name}", place.keys[name])


def scores(base):
    found = httpx.get(f"{base}/scores.json", trust_env=False).json()
    return {score["name"]: score for score in found}


PAIR = Settings(5, ("ann", "eve"), budget=100)

# --- the parts --------------------------------------------------------------


def test_points_by_hand():
    assert points(1.0, 0.25, 0.0, 5.0, False) == 100
    assert points(1.0, 0.25, 5.0, 5.0, False) == 50
    assert points(0.625, 0.25, 15.0, 5.0, True) == 12.5 - ALARM
    assert points(0.2, 0.25, 0.0, 5.0, False) == 0
    assert points(1.0, 1.0, 0.0, 5.0, False) == 0  # nothing to be learnt


@pytest.mark.parametrize("level", practice_range.LEVELS)
def test_a_victim_is_that_of_its_seed(level):
    first, again, other = map(
        practice_range.victim_of, (7, 7, 8), 3 * (level,)
    )
    rows = first.rows(400, 9)
    assert np.abs(rows).max() <= 1
    assert (rows == again.rows(400, 9)).all()
    assert not np.isin(rows, first.rows(400, 9, 1)).any(axis=1).all()
    p, q = (v.model.predict_proba(rows) for v in (first, other))
    assert (p == again.model.predict_proba(rows)).all()
    assert np.abs(p - q).max() > 0.1
    counts = np.bincount(first.labels(rows), minlength=first.level.classes)
    assert counts.min() > 0 and counts.max() < 0.6 * len(rows)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": -1}, "seed must be a whole number"),
        ({"budget": 0}, "budget must be a whole number"),
        ({"level": 3}, "level must be one of 1, 2"),
        ({"price": 0.0}, "price must be above 0"),
        ({"names": ()}, "at least one student"),
        ({"names": ("a", "a")}, "two students have one name"),
        ({"names": ("../a",)}, "no name for an address"),
        ({"names": ("Ann",)}, "no name for an address"),
    ],
)
def test_settings_that_are_wrong_say_so(change, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        Range(PAIR._replace(**change), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_keeps_its_range(tmp_path):
    with pytest.raises(ValueError, match="no range in"):
        Range(None, tmp_path)
    first = Range(PAIR, tmp_path)
    with pytest.raises(LedgerError, match="in use"):
        Range(None, tmp_path)
    first.close()
    with pytest.raises(ValueError, match="another seed and budget"):
        Range(PAIR._replace(seed=6, budget=7), tmp_path)
    again = Range(None, tmp_path)
    assert again.keys == first.keys and again.settings == PAIR
    again.close()
    assert (tmp_path / "range.json").stat().st_mode & 0o077 == 0


# --- what a student can and cannot do ---------------------------------------


def test_an_examination_is_handed_out_once_nothing_is_sold(tmp_path):
    with served(PAIR, tmp_path) as (place, base):
        ann = member(place, base, "ann")
        with pytest.raises(ValueError, match="close the account first"):
            ann.submit(np.zeros(EXAMINED))
        bought = ann.api.query(ann.given["rows"][:10])
        assert bought.shape == (10, 4)
        rows = ann.close()
        assert rows.shape == (EXAMINED, 10)
        assert (rows == ann.close()).all()
        assert not (rows[:, None] == ann.given["rows"]).all(axis=2).any()
        for x in (rows[:1], ann.given["rows"][:1]):
            with pytest.raises(ClientBlocked, match="this account is closed"):
                ann.api.query(x)
        truth = place.accounts["ann"].truth
        score = ann.submit(truth)
        assert score["fidelity"] == 1 and score["queries"] == 10
        assert score["points"] == pytest.approx(100 / (1 + 0.1 / 0.5))
        with pytest.raises(ValueError, match="handed in before"):
            ann.submit(1 - truth.clip(0, 1))
        assert scores(base)["ann"] == score
        assert scores(base)["eve"]["points"] is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b'{"labels": 3}',
        b'{"labels": [0]}',
        json.dumps({"labels": EXAMINED * [4]}).encode(),
        json.dumps({"labels": EXAMINED * [0.0]}).encode(),
        json.dumps({"labels": EXAMINED * [True]}).encode(),
        100_000 * b"[",
    ],
)
def test_labels_that_are_none_are_not_taken(body, tmp_path):
    with served(PAIR, tmp_path) as (place, base):
        ann = member(place, base, "ann")
        ann.close()
        head = {"Authorization": f"Bearer {place.keys['ann']}"}
        answer = httpx.post(
            f"{base}/ann/submit", content=body, headers=head, trust_env=False
        )
        assert answer.status_code == 400
        assert "nothing was taken" in answer.json()["error"]
        assert ann.submit(np.zeros(EXAMINED))["fidelity"] < 1


def test_a_key_opens_one_account(tmp_path):
    with served(PAIR, tmp_path) as (place, base):
        for door, method in (("rows", "GET"), ("close", "POST")):
            for key in (place.keys["eve"], "-", "ä"):
                head = {"Authorization": f"Bearer {key}".encode()}
                answer = httpx.request(
                    method, f"{base}/ann/{door}", headers=head, trust_env=False
                )
                assert answer.status_code == 401
        assert not place.entries.fidelity
        eve = RemoteAPI(f"{base}/ann", "victim", key=place.keys["eve"])
        with pytest.raises(PermissionError):
            eve.query(np.zeros((1, 10)))
        assert httpx.get(f"{base}/bob/rows", trust_env=False).is_error
        assert httpx.get(f"{base}/ann/seed", trust_env=False).is_error


def test_a_budget_is_one_student_s_own(tmp_path):
    with served(PAIR, tmp_path) as (place, base):
        ann, eve = (member(place, base, n) for n in PAIR.names)
        x = np.random.default_rng(0).uniform(-1, 1, (101, 10))
        with pytest.raises(BudgetExceeded):
            ann.api.query(x)
        ann.api.query(x[:100])
        with pytest.raises(BudgetExceeded):
            ann.api.query(x[:1])
        assert (ann.api.remaining, eve.api.remaining) == (0, 100)
        eve.api.query(x[:1])


def test_asking_for_the_examination_of_another_is_an_alarm(tmp_path):
    with served(PAIR, tmp_path) as (place, base):
        ann, eve = (member(place, base, n) for n in PAIR.names)
        hidden = place.accounts["ann"].examination
        eve.api.query(hidden[:1])  # by chance: it was not handed out yet
        rows = ann.close()
        rng = np.random.default_rng(0)
        near = rows[:3] + rng.uniform(-NEAR, NEAR, (3, 10)) / 2
        with pytest.raises(ValueError, match="examination of ann"):
            eve.api.query(np.append(eve.given["rows"][:5], near, axis=0))
        score = scores(base)["eve"]
        assert score["alarm"] == "asked for the examination of ann"
        assert score["queries"] == 1
        eve.close()
        assert eve.submit(np.zeros(EXAMINED))["points"] < 0


def test_natural_rows_are_nobody_s_examination(tmp_path):
    names = tuple(f"s{i}" for i in range(30))
    place = Range(PAIR._replace(names=names), tmp_path)
    for name in names[1:]:
        place.entries.close_account(name)
    place._remember()
    rng = np.random.default_rng(0)
    assert place.owner_of(place.victim.rows(3000, 7)) is None
    assert place.owner_of(rng.uniform(-1, 1, (3000, 10))) is None
    place.close()


# --- it can be won ----------------------------------------------------------


@pytest.mark.parametrize("level", practice_range.LEVELS)
def test_the_solution_scores_above_the_baselines(level, tmp_path):
    """Over five victims, none of which its settings were chosen on."""
    found = {name: [] for name in STRATEGIES}
    for seed in range(5):
        settings = Settings(seed, tuple(STRATEGIES), level)
        with served(settings, tmp_path / str(seed)) as (place, base):
            for name, strategy in STRATEGIES.items():
                student = member(place, base, name)
                score = student.hand_in(strategy(student, seed))
                found[name].append(score["points"])
    mean = {name: np.mean(values) for name, values in found.items()}
    assert min(found["solution"]) > max(found["random"]), found
    assert min(found["solution"]) > max(found["guess"]) + 30, found
    assert mean["random"] > mean["guess"] + 10
    if level == 1:  # equations, not thrift alone
        assert mean["solution"] > mean["frugal"] + 10, found


# --- thirty at once, and a kill ---------------------------------------------


@pytest.mark.slow
def test_thirty_students_at_once_and_a_restart(tmp_path):
    """No error, the ledgers exact, and a kill forgets nothing."""
    n, start, faults, paid, got = 30, threading.Barrier(30), [], {}, {}
    kept = tmp_path / "range.json"

    def play(base, name, key, i):
        try:
            student = Student(f"{base}/{name}", key)
            rng = np.random.default_rng(i)
            paid[name] = 0
            start.wait(60)
            for _ in range(10):
                rows = rng.uniform(-1, 1, (1 + i % 7, 10))
                paid[name] += len(student.api.query(rows))
            copy = STRATEGIES["solution"](student, i)
            paid[name] = paid[name] + 22
            if i % 10 == 9:  # spends all that is left, and asks for more
                left = student.api.remaining
                student.api.query(rng.uniform(-1, 1, (left, 10)))
                paid[name] += left
                with pytest.raises(BudgetExceeded):
                    student.api.query(rng.uniform(-1, 1, (1, 10)))
            got[name] = student.hand_in(copy)
        except BaseException as error:
            faults.append((name, repr(error)))
            start.abort()

    with started(tmp_path, "--students", n, "--seed", 11) as (process, base):
        keys = json.loads(kept.read_text())["keys"]
        threads = [
            threading.Thread(target=play, args=(base, *pair, i))
            for i, pair in enumerate(keys.items())
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []
        before = scores(base)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(got) == n and got == before
    for name, rows in paid.items():
        assert before[name]["queries"] == rows
        assert before[name]["dollars"] == pytest.approx(rows / 100)
        ledger = sqlite3.connect(tmp_path / f"{name}.ledger.db")
        sql = "SELECT client, queries FROM accounts"
        assert ledger.execute(sql).fetchall() == [(name, rows)]
        (seen,) = ledger.execute("SELECT count(*) FROM seen").fetchone()
        assert seen == 11 + (rows == 1000)
        ledger.close()
    assert min(s["fidelity"] for s in got.values()) > 0.95
    with started(tmp_path) as (_, base):
        assert scores(base) == before
        name = "student-01"
        with pytest.raises(ClientBlocked):
            Student(f"{base}/{name}", keys[name]).api.query(np.zeros((1, 10)))


@pytest.mark.slow
def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert practice_range.main(["--folder", str(tmp_path)]) == 2
    assert "say how many students" in capsys.readouterr().err
    none = str(tmp_path / "none")
    assert practice_range.main(["--names", none, "--folder", none]) == 2
    assert "no names in" in capsys.readouterr().err


# --- the score page ---------------------------------------------------------


def sample(i):
    return {
        "name": f"student-{i:02}",
        "queries": 40 * i,
        "dollars": 0.4 * i,
        "alarm": "W < 0.9" if i == 3 else None,
        "closed": i < 20,
        "fidelity": 0.9 if i < 15 else None,
        "guess": 0.3,
        "fidelity per dollar": 0.9 / (0.4 * i) if i else None,
        "points": 90.0 - 8 * i if i < 15 else None,
    }


def test_the_score_page_is_whole_and_renews_itself():
    text = practice_range.page([sample(i) for i in range(30)], PAIR)
    assert 'http-equiv="refresh" content="5"' in text
    assert re.findall(r"(?:src|href)=\S+", text) == ['href="data:,">']
    assert "W &lt; 0.9" in text
    assert text.count("<tr>") == 31
    assert "15 of 30 students" in text
    heads = re.search(r"<thead>.*?</thead>", text, re.S).group()
    for row in re.findall(r"<tr><td>.*?</tr>", text):
        assert row.count("<td>") == heads.count("<th ")


def test_the_score_page_fits_the_window(tmp_path):
    if _browser.CHROMIUM is None:
        pytest.skip("no Chromium found")
    (tmp_path / "index.html").write_text(
        practice_range.page([sample(i) for i in range(30)], PAIR)
    )
    kinds = [(w, s) for w in (1280, 390) for s in ("light", "dark")]
    with (
        _browser.serving(tmp_path) as address,
        _browser.views(kinds) as views,
    ):
        for (width, scheme), view in views.items():
            view.open(f"{address}/index.html")
            wide = view.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (width, scheme)
            back = view.page.evaluate("getComputedStyle(document.body).color")
            assert (back == "rgb(0, 0, 0)") == (scheme == "light")
