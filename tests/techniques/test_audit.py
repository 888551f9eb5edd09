"""The audit: what it finds, what it refuses, and that it pays once."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
import tomllib
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from mexutils import BudgetExceeded, PredictionAPI, load_chapter
from mexutils.runs import proportion_interval
from mexutils.wire import AnswerLost, RemoteError, serve
from mexutils.wire import target as wire
from mexutils.wire.mlserver import environment, mlserver

chapter = load_chapter("practice/audit")
ATTACKS = chapter.ATTACKS
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(300, 4)) * [1, 5, 0.1, 1] + [0, 3, 7, 0]
WORDS = np.array(["no", "yes", "maybe"])
KIND = WORDS[(np.abs(ROWS[:, 0] + ROWS[:, 3]) * 1.5).astype(int).clip(0, 2)]


class Counting:
    """A victim that notes every row, and may break off."""

    def __init__(self, predict, breaks=None, error=KeyboardInterrupt):
        self.model, self.rows, self.calls = predict, [], 0
        self.breaks, self.error = breaks, error

    def __call__(self, x):
        self.calls += 1
        if self.calls == self.breaks:
            raise self.error("broken off: 100 rows may have been billed")
        self.rows += [wire.digest(row) for row in x]
        return self.model(x)


def linear(words=True):
    labels = KIND if words else np.unique(KIND, return_inverse=True)[1]
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return model.fit(ROWS, labels)


@pytest.fixture
def sell(monkeypatch, tmp_path):
    """Call it with an object and rows: the arguments of an audit of it."""

    def put(found, x=ROWS, y=None, budget=300):
        monkeypatch.setitem(
            sys.modules, "their_models", SimpleNamespace(it=found)
        )
        frame = pd.DataFrame(x).add_prefix("f")
        asked = {"predict": "their_models:it", "owned": "yes"}
        if y is not None:
            frame["kind"] = y
            asked["labels"] = "kind"
        frame.to_csv(tmp_path / "rows.csv", index=False)
        asked |= {"rows": str(tmp_path / "rows.csv"), "budget": budget}
        return asked | {"folder": str(tmp_path / "out")}

    return put


# --- five models that the book does not use -------------------------------


def adults(n=700, seed=0):
    """Ages, categories as numbers, hours; and who earns more."""
    rng = np.random.default_rng(seed)
    x = np.column_stack(
        [
            rng.integers(17, 90, n),
            rng.integers(0, 8, n),
            rng.integers(1, 17, n),
            rng.integers(0, 2, n),
            rng.lognormal(6, 2, n).round(2),
            rng.integers(10, 80, n),
        ]
    )
    score = x[:, 2] / 4 + (x[:, 0] - 40) / 20 + x[:, 5] / 30 + x[:, 3]
    rich = score + rng.normal(0, 0.5, n) > 5
    return x.astype(float), np.where(rich, ">50K", "<=50K")


def boosted():
    x, y = adults()
    model = HistGradientBoostingClassifier(max_iter=30, random_state=0)
    return model.fit(x[:300], y[:300]), x[300:], y[300:]


def pipeline():
    return linear(), ROWS, KIND


def kernel_machine():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a parameter that will go
        return (
            SVC(probability=True, random_state=0).fit(ROWS, KIND),
            ROWS,
            KIND,
        )


def module():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        *(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    )
    return net, ROWS, None


def forest():
    model = RandomForestClassifier(50, random_state=0)
    return model.fit(ROWS, KIND), ROWS, KIND


MODELS = boosted, pipeline, kernel_machine, module, forest


@pytest.mark.slow
@pytest.mark.parametrize("make", MODELS)
def test_a_model_that_the_book_does_not_use(make, sell, tmp_path):
    model, x, y = make()
    report = chapter.audit(**sell(model, x, y, budget=400))
    assert report.sent <= 400
    assert len(report.summary) == 5
    assert report.gained
    tried = {row["attack"] for row in report.thefts}
    assert tried | set(report.reasons) == set(ATTACKS)
    assert not tried & set(report.reasons)
    solved = report.best["exact"] and report.best["attack"]
    assert solved == (make is pipeline and "equation solving")
    assert (report.facts.decimals == 2) == (make is forest)
    assert report.facts.steady
    assert report.facts.classes == (2 if make is boosted else 3)
    assert ("accuracy" in report.best) == (y is not None)
    lines = (tmp_path / "out" / "summary.txt").read_text().splitlines()
    assert tuple(lines) == report.summary
    page = (tmp_path / "out" / "audit.html").read_text()
    table = pd.read_csv(tmp_path / "out" / "audit.csv")
    for name in ATTACKS:
        assert name.replace("'", "&#x27;") in page or name in page
        assert name in set(table["attack"])
    assert "whole numbers" in report.reasons.get("exact network", "") or (
        make is not boosted
    )


@pytest.mark.slow
def test_a_tree_falls_to_path_finding(sell):
    labels = (ROWS[:, 0] > 0.3).astype(int) + (ROWS[:, 1] > 4)
    tree = DecisionTreeClassifier(max_depth=3).fit(ROWS, labels)
    api = wire.Target(tree.predict_proba, "tree")
    shop = wire.Endpoint(api, ":memory:", 1200)
    report = chapter.audited(shop, ROWS, labels, 1.5, 0)
    found = {r["attack"]: r for r in report.thefts}
    assert report.facts.steps
    assert found["path finding"]["copy"] == "solved"
    assert found["path finding"]["fidelity"] > 0.95
    assert "equation solving" in report.reasons


# --- models that nothing fits ----------------------------------------------


def test_a_page_says_that_no_attack_fits(sell, tmp_path):
    report = chapter.audit(**sell(chapter.one_answer))
    assert report.thefts == [] and report.best is None
    assert set(report.reasons) == set(ATTACKS)
    words = "no attack of the book fits"
    assert words in report.summary[2]
    assert words in (tmp_path / "out" / "audit.html").read_text()
    assert report.sent == report.judged + chapter.AGAIN


def test_a_page_says_that_no_attack_got_anything(sell):
    report = chapter.audit(**sell(chapter.chance))
    assert report.thefts and not report.gained
    assert "no attack got more" in report.summary[2]


# --- what is refused, before anything is paid ------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"owned": ""}, ValueError, "only its owner.*owned=yes"),
        ({"rows": "no.csv"}, FileNotFoundError, "no such file"),
        ({"rows": ""}, ValueError, "rows= is needed"),
        ({"rows": "rows.txt"}, (ValueError, FileNotFoundError), "rows=rows"),
        ({"labels": "sort"}, ValueError, "sort is no column.*f0, f1"),
        ({"labels": ""}, ValueError, "holds words in kind.*labels="),
        ({"budget": 44}, ValueError, "less than any attack needs.*45"),
        ({"budget": "many"}, ValueError, "less than any attack needs"),
        ({"price": -1}, ValueError, "price"),
        ({"seed": -1}, ValueError, "seed must be a whole number"),
        ({"seed": "one"}, ValueError, "seed must be a whole number"),
        ({"url": "http://127.0.0.1:1"}, ValueError, "not both"),
        ({"predict": "their_models:he"}, ValueError, "file.py:name"),
        ({"predict": "no_such.py:it"}, ValueError, "is not there"),
        ({"classes": "a,b,c"}, ValueError, "not among the classes a, b, c"),
    ],
)
def test_bad_input_is_refused_unpaid(changes, error, words, sell):
    model = linear()
    ask = Counting(model.predict_proba)
    found = SimpleNamespace(
        predict_proba=ask, classes_=model.classes_, n_features_in_=4
    )
    asked = sell(found, y=KIND) | changes
    with pytest.raises(error, match=f"(?s){words}"):
        chapter.audit(**asked)
    assert ask.rows == []


def test_rows_of_another_width_are_refused_unpaid(sell):
    ask = Counting(linear().predict_proba)
    found = SimpleNamespace(predict_proba=ask, n_features_in_=4)
    with pytest.raises(ValueError, match=r"\(5,\), and the endpoint.*\(4,\)"):
        chapter.audit(**sell(found, np.column_stack([ROWS, ROWS[:, 0]])))
    named = SimpleNamespace(predict_proba=ask, classes_=WORDS)
    with pytest.raises(ValueError, match="not among the classes.*labels="):
        chapter.audit(**sell(named, y=np.arange(300)))
    with pytest.raises(ValueError, match="39 rows, and 40"):
        chapter.audit(**sell(found, ROWS[:39]))
    with pytest.raises(ValueError, match="NaN"):
        chapter.audit(**sell(found, np.where(ROWS > 10, np.nan, ROWS)))
    assert ask.rows == []


def test_an_endpoint_that_does_not_answer_is_refused(sell, monkeypatch):
    api = PredictionAPI(linear().predict_proba, classes=sorted(WORDS))
    asked = sell(None) | {"predict": ""}
    monkeypatch.setenv("THEIR_KEY", "wrong")
    with serve(api, {"right": "ann"}) as url:
        here = asked | {"url": url, "key": "THEIR_KEY"}
        with pytest.raises(PermissionError, match="key= names"):
            chapter.audit(**here)
        with pytest.raises(ValueError, match="environment variable"):
            chapter.audit(**here | {"key": "NO_KEY"})
        monkeypatch.setenv("THEIR_KEY", "right")
        with pytest.raises(LookupError, match="model=other"):
            chapter.audit(**here | {"model": "other"})
    with pytest.raises(RemoteError, match="cannot be reached.*is the server"):
        chapter.audit(**here)
    assert api.ledger.queries == 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: x[:, :3] * 9, "are they logits"),
        (lambda x: np.full((len(x), 2), np.nan), "no probabilities"),
        (lambda x: np.ones((len(x), 2, 2)), "shape"),
        (lambda x: np.ones(3), "shape"),
    ],
)
def test_answers_that_are_none_stop_after_one_row(answer, words, sell):
    with pytest.raises(wire.UnreadableAnswer, match=words):
        chapter.audit(**(asked := sell(answer)))
    path = f"{asked['folder']}/answers.db"
    assert wire.noted(sqlite3.connect(path), "sent") == "1"


# --- paying once -----------------------------------------------------------


@pytest.mark.slow
def test_an_audit_goes_on_where_it_was_broken_off(sell, tmp_path):
    model = linear(words=False)
    first = Counting(model.predict_proba, breaks=4)
    asked = sell(first)
    with pytest.raises(KeyboardInterrupt):
        chapter.audit(**asked)
    second = Counting(model.predict_proba)
    sys.modules["their_models"].it = second
    report = chapter.audit(**asked)
    assert first.rows and second.rows
    assert not set(first.rows) & set(second.rows)
    # The lost call counts as billed, whoever kept its rows.
    assert len(first.rows) + len(second.rows) < report.sent <= 300
    third = Counting(model.predict_proba)
    sys.modules["their_models"].it = third
    assert chapter.audit(**asked).sent == report.sent and not third.rows


KILLED = """
import os, signal
import numpy as np

def it(x):
    with open("calls", "a") as calls:
        n = len(open("calls").readlines())
        calls.write("call\\n")
    if n == LAST:
        os.kill(os.getpid(), signal.SIGKILL)
    with open("rows", "a") as rows:
        rows.writelines(f"{row.tobytes().hex()}\\n" for row in x)
    p = 1 / (1 + np.exp(-x @ [1.0, 0.1, 3.0, -1.0]))
    return np.column_stack([1 - p, p])
"""


@pytest.mark.slow
def test_an_audit_that_is_killed_goes_on_and_pays_once(sell, tmp_path):
    asked = sell(None) | {"predict": "killed.py:it", "folder": "out"}
    code = "from mexutils import load_chapter as load\n"
    code += f"print(load('practice/audit').audit(**{asked!r}).sent)"
    here = str(ROOT)
    for last in (3, 5, -1):
        text = KILLED.replace("LAST", str(last))
        (tmp_path / "killed.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": here},
            capture_output=True,
            text=True,
        )
        assert done.returncode == (-9 if last > 0 else 0), done.stderr
    rows = (tmp_path / "rows").read_text().splitlines()
    assert (
        len(rows) - len(set(rows)) <= chapter.AGAIN
    )  # asked again on purpose
    # Two calls were broken off, and count as sent, whoever kept their rows.
    assert len(rows) < int(done.stdout) <= 300


@pytest.mark.slow
def test_no_row_beyond_the_budget_and_only_five_twice(sell):
    ask = Counting(linear(words=False).predict_proba)
    report = chapter.audit(**sell(ask))
    assert len(ask.rows) == report.sent <= 300
    assert len(ask.rows) - len(set(ask.rows)) == chapter.AGAIN
    twice = [r for r in ask.rows if ask.rows.count(r) == 2]
    assert set(twice) == set(ask.rows[: chapter.AGAIN])


def test_what_is_refused_is_not_counted():
    def broken(x):
        raise RuntimeError("nothing was billed")

    shop = wire.Endpoint(wire.Target(broken, "b"), ":memory:", 10)
    with pytest.raises(RuntimeError):
        shop.query(ROWS[:4])
    assert shop.sent == 0
    with pytest.raises(BudgetExceeded, match="nothing was sent"):
        shop.query(ROWS[:11])


def test_a_file_of_another_endpoint_is_refused(tmp_path):
    path = tmp_path / "a.db"
    wire.opened(path, "one").close()
    with pytest.raises(ValueError, match="answers of one, not of two"):
        wire.opened(path, "two")
    held = wire.opened(path, "one")
    with pytest.raises(ValueError, match="locked.*wait for the audit"):
        wire.opened(path, "one")
    held.close()
    (tmp_path / "b.db").write_text("no data base, whatever its name says" * 9)
    with pytest.raises(ValueError, match="another folder="):
        wire.opened(tmp_path / "b.db", "one")


def test_no_attack_asks_the_rows_that_judge(monkeypatch):
    ask, seen, watched = Counting(linear(False).predict_proba), {}, []

    def spy(kept, judge, thieves, seed):
        seen.update(thieves)
        watched.append(judge)
        return [{"stream": "none", "alarm": ""}]

    monkeypatch.setattr(chapter, "watched", spy)
    monkeypatch.setattr(chapter, "replays", lambda *parts: ([], {}))
    shop = wire.Endpoint(wire.Target(ask, "m"), ":memory:", 300)
    report = chapter.audited(shop, ROWS, None, 1.5, 0)
    order = np.random.default_rng(0).permutation(300)
    judges, pool = order[: report.judged], order[report.judged :]
    first = report.judged + chapter.AGAIN
    keys = {wire.digest(row) for row in ROWS[judges]}
    assert set(ask.rows[:first]) == keys
    assert not keys & set(ask.rows[first:])
    # Kept answers of rows that judge would be no new ones: look at the thief.
    own = {row.tobytes() for row in watched[0].x}
    asked = {row.tobytes() for row in seen["learning from rows"].sent}
    assert len(own) == report.judged and not own & asked
    units = chapter.Units(ROWS)
    mine = units.into(units.back(units.into(ROWS[pool])))
    assert {row.tobytes() for row in mine} & asked


# --- over HTTP -------------------------------------------------------------


def test_labels_in_words_over_http(sell, monkeypatch):
    model = linear()
    api = PredictionAPI(
        model.predict_proba, returns="label", classes=model.classes_
    )
    monkeypatch.setenv("THEIR_KEY", "k")
    asked = sell(None, y=KIND) | {"predict": "", "key": "THEIR_KEY"}
    with serve(api, {"k": "ann"}) as url:
        report = chapter.audit(**asked, url=url)
    assert api.ledger.queries == report.sent <= 300
    assert report.facts.kind == "labels" and report.facts.classes == 3
    own = np.mean(model.predict(ROWS) == KIND)
    assert report.best["accuracy"] == pytest.approx(own, abs=0.2)
    assert report.best["fidelity"] > 0.8
    assert [row["defense"] for row in report.guards] == ["none"]
    assert "labels already" in report.summary[4]


@pytest.mark.slow
def test_a_server_is_asked_for_what_it_does_not_offer():
    model = linear(words=False)

    def refuse(x):
        raise ValueError("no such output")

    for hidden, kind in (
        (model.predict_proba, "probabilities"),
        (refuse, "labels"),
    ):
        target = wire.Target(model.predict, "m", hidden=hidden)
        shop = wire.Endpoint(target, ":memory:", 100)
        report = chapter.audited(shop, ROWS, None, 1.5, 0)
        assert report.facts.kind == kind
        assert ("predict_proba" in report.who) == (kind != "labels")


def test_a_server_that_is_too_slow_is_given_more_time(sell):
    def slow(x):
        time.sleep(0.4 if len(x) > 1 else 0)
        return linear().predict_proba(x)

    api = PredictionAPI(slow, classes=sorted(WORDS), try_out=False)
    asked = sell(None, y=KIND) | {"predict": "", "budget": 45}
    with serve(api, {"k": "ann"}) as url, pytest.MonkeyPatch.context() as put:
        put.setenv("THEIR_KEY", "k")
        asked |= {"url": url, "key": "THEIR_KEY"}
        with pytest.raises(ValueError, match="timeout must be seconds"):
            chapter.audit(**asked, timeout=0)
        with pytest.raises(AnswerLost, match="again to go on.*timeout=") as e:
            chapter.audit(**asked, timeout=0.2)
    assert "pay_again" not in str(e.value)


def test_a_server_that_knows_no_other_output_is_asked_as_it_is():
    def lost(x):
        raise LookupError("no such output (404)")

    target = wire.Target(bare([1]), "m", hidden=lost)
    shop = wire.Endpoint(target, ":memory:", 10)
    wire.try_by_name(shop, ROWS[:1])
    assert shop.target is target and shop.sent == 0


@pytest.mark.slow
def test_mlserver_is_audited_by_what_it_gives_to_whoever_asks(sell):
    """It answers labels, and probabilities to who asks for them by name."""
    if not (environment() / "bin" / "mlserver").exists():
        pytest.skip("MLServer is not installed: run make wire")
    model = linear()
    asked = sell(None, y=KIND) | {"predict": "", "model": "kinds"}
    with mlserver({"kinds": model}) as url:
        names = ",".join(model.classes_)
        report = chapter.audit(**asked, url=url, classes=names)
        again = chapter.audit(**asked, url=url, classes=names)
    assert report.facts.kind == "probabilities" and report.facts.classes == 3
    assert "asked for predict_proba" in report.who
    assert report.best["exact"] and report.best["attack"] == "equation solving"
    own = np.mean(model.predict(ROWS) == KIND)
    assert report.best["accuracy"] == pytest.approx(own, abs=0.2)
    assert again.sent == report.sent <= 300
    assert again.summary == report.summary


# --- the parts -------------------------------------------------------------


def test_units_go_there_and_back():
    x = np.column_stack([ROWS, RNG.integers(0, 4, 300)])
    units = chapter.Units(x)
    assert units.whole.tolist() == [False] * 4 + [True]
    inside = units.into(x)
    assert inside.min() == -1 and inside.max() == pytest.approx(1)
    np.testing.assert_allclose(units.back(inside), x, atol=1e-12)
    made = units.back(RNG.uniform(-1, 1, (50, 5)))
    assert (made[:, 4] % 1 == 0).all() and (made[:, 0] % 1 != 0).all()
    pictures = chapter.Units(RNG.random((9, 1, 28, 28)))
    assert pictures.back(np.zeros((2, 784))).shape == (2, 1, 28, 28)


def test_what_answers_reveal():
    p = RNG.dirichlet(np.ones(4), 60)
    facts = chapter.inspect(p, p[:5])
    assert facts == ("probabilities", 4, None, False, False, True, True, 159)
    assert chapter.inspect(p.round(3), p[:5].round(3)).decimals == 3
    assert chapter.inspect(p.astype("f4"), p[:5]).single
    assert not chapter.inspect(p, p[1:6]).steady
    assert not chapter.inspect(p, p[:5] + 1e-3).steady
    assert chapter.inspect(p, p[:5] + 1e-13).steady
    top = np.where(p == p.max(axis=1, keepdims=True), p, 0)
    assert chapter.inspect(top, top[:5]).kind == "top of the list"
    steps = chapter.inspect(p[RNG.integers(0, 8, 60)], p[:0])
    assert steps.steps and steps.bits == 3
    labels = chapter.inspect(p.argmax(axis=1), [], classes=6)
    assert labels.kind == "labels" and labels.bits == np.log2(6)
    assert not chapter.inspect(p[:1].repeat(30, axis=0), p[:1]).varied


def test_a_judge_by_hand():
    p = np.array([[0.61, 0.39], [0.2, 0.8], [0.3, 0.7]])
    judge = chapter.Judge(np.zeros((3, 1)), p, np.array([0, 1, 0]))
    found = chapter.judged(lambda x: p[::-1], judge)
    share = proportion_interval(1, 3)
    assert found == {
        **{"fidelity": 1 / 3, "low": share.low, "high": share.high},
        **{"accuracy": 2 / 3, "exact": False},
    }
    assert chapter.judged(lambda x: p + 4e-3, judge, decimals=2)["exact"]
    assert not chapter.judged(lambda x: p + 6e-3, judge, decimals=2)["exact"]
    assert not chapter.judged(lambda x: p + 1e-5, judge)["exact"]
    assert chapter.judged(lambda x: p + 1e-7, judge)["exact"]
    by_label = chapter.Judge(np.zeros((3, 1)), p.argmax(axis=1))
    assert chapter.judged(lambda x: p, by_label)["exact"]


def test_a_thief_keeps_to_his_share():
    ask = wire.Target(linear(words=False).predict_proba, "m")
    shop = wire.Endpoint(ask, ":memory:", 100)
    thief = chapter.Thief(shop, chapter.Units(ROWS), 10)
    thief.query(np.zeros((6, 4)))
    with pytest.raises(BudgetExceeded):
        thief.query(np.zeros((5, 4)))
    assert thief.remaining == 4 and shop.sent == 1  # six times the same row


@pytest.mark.slow
def test_what_one_attack_leaves_goes_to_the_next():
    ask = wire.Target(linear(words=False).predict_proba, "m")
    shop = wire.Endpoint(ask, ":memory:", 500)
    report = chapter.audited(shop, ROWS, None, 1.5, 0)
    most = {r["attack"]: r["queries"] for r in report.thefts}
    left = 500 - 125 - chapter.AGAIN
    assert most["equation solving"] == 2 * 5
    assert "exact copy" in report.reasons["exact network"]
    assert most["learning from rows"] == (left - 10) // 2
    assert most["adaptive retraining"] == pytest.approx(left / 2 - 5, abs=5)


def test_answers_of_every_form():
    assert wire.as_answers(np.array([[0.2], [0.9]]), 2) == [
        [0.8, 0.2],
        [1 - 0.9, 0.9],
    ]
    assert wire.as_answers(np.array([1.0, 2.0]), 2) == [1, 2]
    assert wire.as_answers(WORDS, 3) == WORDS.tolist()
    assert wire.places_of([1.0, 2], [1, 2]).tolist() == [0, 1]
    assert json.loads(json.dumps(wire.as_answers([[0.1, 0.9]], 1)))


def test_the_gateway_replays_what_a_defense_does():
    p = linear().predict_proba(ROWS)
    kept = chapter.Kept(ROWS, p, 3)
    streams = {"thief": ROWS[:20], "customer": ROWS[20:70]}
    how = {"decimals": 1}
    told, _ = chapter.through_gateway(kept.predict_proba, how, streams)
    np.testing.assert_array_equal(told["customer"], p[20:70].round(1))
    judge = chapter.Judge(ROWS[20:70], p[20:70], np.zeros(50, int))
    price = chapter.price_of(told["customer"], judge, kept)
    own, new = p[20:70].argmax(axis=1), p[20:70].round(1).argmax(axis=1)
    assert price["labels changed"] == (own != new).mean()
    assert price["accuracy lost"] == (own == 0).mean() - (new == 0).mean()
    with pytest.raises(KeyError):
        kept.predict_proba(ROWS[:1] + 1)


def test_a_thief_mistrusts_in_every_way_that_is_known():
    p = linear().predict_proba(ROWS)
    for name, ways in (
        ("none", {"as told", "label alone"}),
        ("labels only", {"as told"}),
        ("rounding", {"as told", "label alone", "partial Bayes"}),
    ):
        guard = chapter.CONTEST.GUARDS[name]
        told = PredictionAPI(
            lambda x: p[: len(x)], try_out=False, **guard.make(None, 0)
        ).query(ROWS)
        make = chapter.partial(guard.make, None)
        copies = chapter.heard_by(guard, make, ROWS, told, 3, 0)
        assert set(copies) == ways


def test_a_copy_is_learnt_in_the_way_that_does_best():
    x, fresh = RNG.uniform(-1, 1, (400, 3)), RNG.uniform(-1, 1, (400, 3))

    def plane(x):
        p = 1 / (1 + np.exp(-9 * x @ [1.0, -2.0, 0.5]))
        return np.column_stack([p, 1 - p])

    def blocks(x):
        return np.eye(2)[((x[:, 0] > 0.3) ^ (x[:, 1] > -0.2)).astype(int)]

    for victim, least in ((plane, 0.99), (blocks, 0.95)):
        copy = chapter.learnt(x, victim(x), 2, 0)
        same = copy(fresh).argmax(axis=1) == victim(fresh).argmax(axis=1)
        assert same.mean() > least


def test_a_defense_that_changes_many_labels_is_not_named():
    def row(name, fidelity, changed):
        keys = ("defense", "fidelity", "labels changed")
        return dict(zip(keys, (name, fidelity, changed), strict=True))

    rows = [row("none", 1, 0), row("a", 0.5, 0.2), row("b", 0.8, 0.05)]
    rows.append(row("c", 0.9, 0.0))
    report = SimpleNamespace(guards=rows, unreplayed={})
    words = chapter.guards_in_words(report)
    assert "b leaves least, 80.0% in place of 100.0%" in words
    report.guards = rows[:2]
    assert "none" in chapter.guards_in_words(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["KnockoffNets", "PRADA's attack"])
def test_pictures_are_stolen_as_pictures(name):
    pictures = np.random.default_rng(0).random((60, 1, 28, 28)).round(3)
    weights = np.random.default_rng(1).normal(size=(784, 3))

    def victim(x):
        z = np.exp((x.reshape(len(x), -1) - 0.5) @ weights / 9)
        return z / z.sum(axis=1, keepdims=True)

    units = chapter.Units(pictures)
    shop = wire.Endpoint(wire.Target(victim, "v"), ":memory:", 200)
    answers = shop.query(pictures)
    facts = chapter.inspect(answers, answers[:5])
    assert not chapter.why_not(ATTACKS[name], facts, units)
    loud = chapter.Units(pictures * 255)
    assert "0 to 1" in chapter.why_not(ATTACKS[name], facts, loud)
    thief = chapter.Thief(shop, units, 120)
    copy = ATTACKS[name].run(thief, units.into(pictures), 0)
    assert len(thief.sent) == 120
    assert copy(units.into(pictures)).shape == (60, 10)


def test_the_monitor_tells_grids_from_honest_rows():
    labels = linear(words=False).predict(ROWS)
    limit = chapter.prada_limit(ROWS, labels, 0)
    assert 0 < limit < 1
    assert chapter.prada_limit(ROWS[:50], labels[:50], 0) is None
    rng, above = np.random.default_rng(0), []
    for _ in range(40):
        part = rng.permutation(300)[:150]
        tests = chapter.DETECT.Stream().add(ROWS[part], labels[part])
        above.append(max(1 - w for _, w in tests) > limit)
    assert 0 < np.mean(above) <= 0.05
    kept = chapter.Kept(
        np.vstack([ROWS, np.tile(ROWS[:2], (100, 1))]),
        np.append(labels, np.tile(labels[:2], 100)),
        3,
    )
    thief = SimpleNamespace(sent=list(np.tile(ROWS[:2], (100, 1))))
    judge = chapter.Judge(ROWS, labels)
    seen = chapter.watched(kept, judge, {"twins": thief}, 0)
    assert [row["stream"] for row in seen] == ["honest rows", "twins"]
    assert seen[1]["alarm"].startswith("at query 1")


def test_rows_of_arrays(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    np.save(tmp_path / "y.npy", KIND)
    x, y = wire.read_rows(tmp_path / "x.npy", tmp_path / "y.npy")
    assert np.array_equal(x, ROWS) and np.array_equal(y, KIND)
    np.save(tmp_path / "y.npy", KIND[:9])
    with pytest.raises(ValueError, match="300 rows need as many labels"):
        wire.read_rows(tmp_path / "x.npy", tmp_path / "y.npy")
    cube = ROWS.reshape(300, 2, 2).astype("f4")
    np.save(tmp_path / "cube.npy", cube)
    x, y = wire.read_rows(tmp_path / "cube.npy")
    assert np.array_equal(x, cube) and x.dtype == float and y is None


@pytest.mark.parametrize("compression", [None, "snappy", "gzip", "zstd"])
def test_rows_of_parquet(tmp_path, compression):
    pytest.importorskip("fastparquet")
    path, more = tmp_path / "x.parquet", RNG.integers(0, 4, 300)
    frame = pd.DataFrame(ROWS).add_prefix("f").assign(kind=KIND, n=more)
    frame["on"] = more > 1
    frame.to_parquet(path, compression=compression, index=False)
    x, y = wire.read_rows(path, "kind")
    assert np.array_equal(x, np.column_stack([ROWS, more, more > 1]))
    assert list(y) == list(KIND)
    frame.assign(kind=frame["kind"].astype("category")).to_parquet(path)
    assert list(wire.read_rows(path, "kind")[1]) == list(KIND)
    frame.loc[7, "f1"] = np.nan
    frame.to_parquet(path)
    with pytest.raises(ValueError, match="in the column f1, 1 of them.*row 7"):
        wire.read_rows(path, "kind")
    with pytest.raises(ValueError, match="holds words in kind"):
        wire.read_rows(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="cannot be read"):
        wire.read_rows(path, "kind")


def test_parquet_without_a_reader_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    for name in ("fastparquet", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"install mexutils\[audit\]"):
        wire.read_rows(tmp_path / "x.parquet", "kind")


def test_the_requirements_have_what_the_extras_name():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = extras["optional-dependencies"]
    assert "mexutils[wire]" in extras["audit"]
    named = {name for names in extras.values() for name in names}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = {re.match(r"[\w.-]*", line).group() for line in lines}
    assert named - required == {"mexutils[wire]"}


def table(**columns):
    frame = pd.DataFrame(ROWS).add_prefix("f").assign(kind=KIND)
    return frame.assign(**columns)


LETTERS = KIND.astype(object)
LETTERS[4] = np.nan
BAD_TABLES = {
    "no header": (
        table().to_csv(index=False, header=False),
        "holds numbers.*names",
    ),
    "no header, whole numbers": (
        pd.DataFrame(RNG.integers(0, 9, (60, 5))).to_csv(
            index=False, header=False
        ),
        "holds numbers.*names",
    ),
    "an index": (table().to_csv(), "column 0 of .* has no name"),
    "a gap": (table(f1=np.where(ROWS[:, 1] > 9, np.nan, 1.0)), "column f1"),
    "an empty column": (table(f9=np.nan), "column f9, 300 of them"),
    "a class of none": (table(kind=LETTERS), "column kind, 1.*None, NA"),
    "semicolons": (table().to_csv(index=False, sep=";"), "one column.*commas"),
    "commas in numbers": (
        table(f1=[f"{v:.2f}".replace(".", ",") for v in ROWS[:, 1]]),
        "words in f1 .'",
    ),
    "dates": (table(f1=pd.Timestamp("2020-01-01")), "words in f1"),
    "nothing else": (table()[["kind"]], "no column beside kind"),
    "nothing": ("", "cannot be read"),
    "lines of many lengths": ("a,kind\n1,x\n1,2,3,x\n", "cannot be read"),
    "few": (table()[:9], "9 rows, and 40"),
    "giants": (table(f1=1e308 * 10 * np.sign(ROWS[:, 1])), "NaN or inf"),
}


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_table_that_is_none_says_what_to_write(name, tmp_path):
    text, words = BAD_TABLES[name]
    if not isinstance(text, str):
        text = text.to_csv(index=False)
    (tmp_path / "rows.csv").write_text(text)
    labels = "kind" if "kind" in text and ";" not in text else ""
    with pytest.raises(ValueError, match=f"(?s)(?=.*rows.csv){words}|{words}"):
        wire.read_rows(tmp_path / "rows.csv", labels)


def test_names_that_are_numbers_in_order_are_names(tmp_path):
    path = tmp_path / "rows.CSV"
    pd.DataFrame(ROWS).to_csv(path, index=False)
    assert np.allclose(wire.read_rows(path)[0], ROWS)
    x, y = wire.read_rows(path, 3)  # as a number, as papermill may read it
    assert x.shape == (300, 3) and np.allclose(y, ROWS[:, 3])
    path.write_bytes("Größe,kind\n1,2\n".encode("latin-1"))
    with pytest.raises(ValueError, match="save it as UTF-8"):
        wire.read_rows(path)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (ROWS + 1j, "complex128, and numbers"),
        (ROWS.astype(str), "and numbers are needed"),
        ((ROWS * 1e9).astype("datetime64[s]"), "and numbers are needed"),
        (ROWS.astype(object), "no .npy file of numbers.*numpy.save"),
        (ROWS[:, 0], "a batch of rows is needed"),
        (ROWS[:, :0], "a batch of rows is needed"),
        (ROWS[:39], "39 rows, and 40"),
        (np.where(ROWS > 9, np.nan, ROWS), "NaN"),
    ],
)
def test_an_array_that_is_none_says_what_to_write(array, words, tmp_path):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=words):
        wire.read_rows(tmp_path / "x.npy")
    np.save(tmp_path / "y.npy", KIND.astype(object), allow_pickle=True)
    np.save(tmp_path / "x.npy", ROWS)
    with pytest.raises(ValueError, match="labels=.*no .npy file"):
        wire.read_rows(tmp_path / "x.npy", tmp_path / "y.npy")
    with pytest.raises(FileNotFoundError, match="labels=kind.*another one"):
        wire.read_rows(tmp_path / "x.npy", "kind")
    (tmp_path / "t.npy").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no .npy file"):
        wire.read_rows(tmp_path / "t.npy")


def test_a_module_is_found_by_its_file(tmp_path):
    path = tmp_path / "mine_alone.py"
    path.write_text(
        "from mine_beside import half\n"
        "def p(x):\n    return [[half, half]] * len(x)\nn = 3\n"
        "class Model:\n    def predict(self, x):\n        return x\n"
    )
    (tmp_path / "mine_beside.py").write_text("half = 0.5")
    assert wire.imported(f"{path}:p").ask([1, 2]) == [[0.5, 0.5]] * 2
    with pytest.raises(ValueError, match="no function of rows"):
        wire.imported(f"{path}:n")
    with pytest.raises(ValueError, match="is a class"):
        wire.imported(f"{path}:Model")
    for text, words in (
        ("def p(x)", "cannot be loaded: SyntaxError"),
        ("1 / 0", "cannot be loaded: ZeroDivisionError"),
        ("import no_such_module", "is not there.*no_such_module"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            wire.imported(f"{path}:p")


# --- what a function may answer --------------------------------------------


def bare(answer):
    """A function that answers so, whatever it is asked."""
    return lambda x: answer


@pytest.mark.parametrize(
    "answer",
    [
        None,
        0.5,
        {"p": 0.5},
        "abc",
        [],
        [[0.5, 0.5], [1.0]],
        [["a", "b"]],
        np.zeros((1, 0)),
        np.zeros((1, 3)),
        np.full((1, 3), 50.0),
        np.array([[0.5 + 0j, 0.5]]),
        np.array(["2020-01-01"], "datetime64[D]"),
        [None],
        [np.nan],
        [1e300],
    ],
)
def test_an_answer_that_is_none_says_so_and_counts(answer):
    shop = wire.Endpoint(wire.Target(bare(answer), "f"), ":memory:", 10)
    with pytest.raises(wire.UnreadableAnswer):
        shop.query(ROWS[:1])
    assert shop.sent == 1


P = RNG.dirichlet(np.ones(3), 9)
NINE = RNG.integers(0, 3, 9)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (torch.tensor(P, requires_grad=True), P),
        (pd.DataFrame(P), P),
        (P.astype(object), P),
        (P.tolist(), P),
        (pd.Series(WORDS[NINE]), WORDS[NINE]),
        (WORDS[NINE].astype("S"), WORDS[NINE]),
        (WORDS[NINE].astype(object), WORDS[NINE]),
        (NINE.astype("u1"), NINE),
        (NINE.astype(float)[:, None], NINE),
        ((NINE > 1).astype(object), NINE > 1),
        (np.where(NINE > 1, 1.0, -1.0), np.where(NINE > 1, 1, -1)),
    ],
)
def test_an_answer_of_any_library_is_read(answer, expected):
    found = wire.as_answers(answer, 9)
    assert json.loads(json.dumps(found)) == found
    assert np.array_equal(np.array(found), expected)


def test_a_share_of_0_or_1_is_no_label():
    """One number a row, saturated at first: shares all the same."""

    def steep(x):
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-80 * x[:, 0]))

    sure = ROWS[np.argsort(-ROWS[:, 0])]
    shop = wire.Endpoint(wire.Target(steep, "f"), ":memory:", 300)
    assert shop.query(sure[:1]).ndim == 1  # nobody can know yet
    both = shop.query(sure[:290])
    assert both.shape == (290, 2)
    np.testing.assert_array_equal(both[:, 1], steep(sure[:290]))
    report = chapter.in_memory(steep, ROWS, (ROWS[:, 0] > 0).astype(int), 120)
    assert report.facts.kind == "probabilities" and report.facts.classes == 2
    assert report.best["accuracy"] > 0.8


def test_shares_after_labels_alone_are_read_as_labels():
    shop = wire.Endpoint(wire.Target(bare([1.0]), "f"), ":memory:", 9)
    assert shop.query(ROWS[:1]).tolist() == [0]  # the first that was heard
    shop.flat, shop.target = True, wire.Target(bare([0.3]), "f")
    assert shop.query(ROWS[1:2]).tolist() == [0]
    shop.flat = False
    assert shop.query(ROWS[:2]).tolist() == [[0, 1], [0.7, 0.3]]
    shop.target = wire.Target(bare([3]), "f")
    with pytest.raises(wire.UnreadableAnswer, match="labels .3, say. and"):
        shop.query(ROWS[:3])
    shop.target = wire.Target(bare([[0.2, 0.3, 0.5]]), "f")
    with pytest.raises(wire.UnreadableAnswer, match="by 2 columns before"):
        shop.query(ROWS[3:4])


def test_answers_that_were_kept_without_a_number_of_columns_are_shares():
    shop = wire.Endpoint(wire.Target(bare(P), "f"), ":memory:", 9)
    shop.query(ROWS[:9])
    with shop.db as db:
        db.execute("DELETE FROM about WHERE name = 'columns'")
    assert np.array_equal(shop.query(ROWS[:9]), P)


def test_places_among_named_classes_are_those_classes():
    target = wire.Target(bare(NINE), "f", classes=list(WORDS))
    shop = wire.Endpoint(target, ":memory:", 9)
    assert shop.query(ROWS[:9]).tolist() == NINE.tolist()
    assert shop.classes == list(WORDS)
    target = wire.Target(bare(WORDS[NINE]), "f", classes=list(WORDS))
    shop = wire.Endpoint(target, ":memory:", 9)
    assert shop.query(ROWS[:9]).tolist() == NINE.tolist()
    target = wire.Target(bare(NINE), "f", classes=["0", "1", "2"])
    shop = wire.Endpoint(target, ":memory:", 9)
    assert shop.query(ROWS[:9]).tolist() == NINE.tolist()


def test_modules_of_every_precision_and_ending(tmp_path, monkeypatch):
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 3)
    with torch.no_grad():
        p = net(torch.tensor(ROWS, dtype=torch.float32)).double().softmax(1)

    def said(found):
        place = SimpleNamespace(it=found)
        monkeypatch.setitem(sys.modules, "their_models", place)
        return wire.imported("their_models:it").ask(ROWS)

    np.testing.assert_array_equal(said(net), p)
    ended = torch.nn.Sequential(net, torch.nn.Softmax(1))
    np.testing.assert_allclose(said(ended), p, atol=1e-6)
    np.testing.assert_allclose(said(net.double()), p, atol=1e-6)
    with pytest.raises(wire.UnreadableAnswer, match="no logits .n, classes"):
        said(torch.nn.Linear(4, 1))


# --- functions that raise ---------------------------------------------------


def test_a_function_that_raises_at_once_is_named(sell):
    def broken(x):
        raise KeyError("no such customer")

    asked = sell(broken)
    with pytest.raises(RuntimeError, match="it raised KeyError.*no such cust"):
        chapter.audit(**asked)
    # Nobody knows whether such a function has paid somebody.
    path = f"{asked['folder']}/answers.db"
    assert wire.noted(sqlite3.connect(path), "sent") == "1"


@pytest.mark.parametrize("good", [3, 4])
def test_a_function_that_raises_later_ends_attacks_and_no_audit(sell, good):
    """After the rows that judge, or in the middle of the attacks."""
    model, calls = linear(words=False), []

    def sometimes(x):
        calls.append(1)
        if len(calls) > good:
            raise ZeroDivisionError("by zero")
        return model.predict_proba(x)

    report = chapter.audit(**sell(sometimes, budget=120))
    assert report.sent <= 120
    ended = [row["ended"] for row in report.thefts]
    reasons = [*report.reasons.values(), *ended]
    assert any("ZeroDivisionError" in words for words in reasons)
    assert len(report.summary) == 5


def test_make_passes_on_what_is_said():
    command = ["make", "-n", "-o", ".venv/done", "audit"]
    said = ["url=http://h", "rows=a b.csv", "budget=99", "owned=yes"]
    done = subprocess.run(
        [*command, *said], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in ("-r url 'http://h'", "-r rows 'a b.csv'", "-p budget '99'"):
        assert name in done.stdout
    assert " labels" not in done.stdout
