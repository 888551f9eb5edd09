"""A range to practise on: a hidden victim, a key a student, a score page.

A victim that is trained from a seed, and that nobody has seen, is sold by the
book's own gateway. Every student has an address, a key, a budget and a
ledger in a file. Who has bought enough closes the account, is handed rows to
label, and posts the labels of the copy, once. The score page sets what was
got against what was paid:

    points = 100 gain / (1 + dollars / REFERENCE) - ALARM for an alarm

where gain is (fidelity - guess) / (1 - guess), 0 or more, on the rows of the
examination; guess is the share of the label that the victim gives most often
to them; and REFERENCE is half of what a whole budget costs.

A range that is started again on its folder goes on with it: keys, ledgers,
alarms, closed accounts and scores are all in files before anything is
answered.

usage: practice_range.py [--students N | --names FILE] [--seed S] [--level L]
"""

import argparse
import json
import os
import re
import secrets
import signal
import sqlite3
import sys
import warnings
from contextlib import ExitStack
from html import escape
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Mount, Route

from mexutils import Alarm, ClientBlocked, PredictionAPI, load_chapter, metrics
from mexutils.api import BadRows
from mexutils.checks import whole
from mexutils.wire import DurableLedger, LedgerError, gateway
from mexutils.wire.gateway import door_at, server_of

__all__ = ["Range", "Settings", "Victim", "points", "victim_of"]

FOLDER = Path(__file__).resolve().parents[1] / "_build" / "range"
MODEL = "victim"
GIFTS, EXAMINED = 50, 500
"""Rows that a student is given at the start, and to label at the end."""
ALARM = 20.0
"""Points that an alarm costs."""
DELTA = 0.9
"""Of PRADA's detector, as the survey has it."""
NEAR = 0.02
"""How close to a handed-out row counts as that row, along every feature."""
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
LARGEST = 2**20  # bytes of labels


class Level(NamedTuple):
    """What is sold: features, classes, groups a class, spread, answers."""

    features: int
    classes: int
    groups: int
    spread: float
    returns: str
    decimals: int | None


LEVELS = {
    1: Level(10, 4, 1, 0.45, "probabilities", 3),
    2: Level(4, 3, 2, 0.22, "label", None),
}
"""1: softmax regression, rounded answers. 2: a small network, labels alone."""


class Settings(NamedTuple):
    """What a range is made of; kept in its folder.

    seed: a whole number; who knows it knows the victim. names: of the
    students. budget: rows that each may buy. price: dollars for 1,000.
    """

    seed: int
    names: tuple[str, ...]
    level: int = 1
    budget: int = 1000
    price: float = 10.0

    @property
    def reference(self) -> float:
        """The dollars at which a gain counts half."""
        return self.budget * self.price / 1000 / 2


def checked(settings: Settings) -> Settings:
    """The settings; `ValueError` that names what is wrong with them."""
    whole("seed", settings.seed, least=0)
    whole("budget", settings.budget, least=1)
    if settings.level not in LEVELS:
        raise ValueError(
            f"level must be one of {', '.join(map(str, LEVELS))}, not "
            f"{settings.level}"
        )
    if not settings.price > 0:
        raise ValueError(f"price must be above 0, not {settings.price}")
    if not settings.names:
        raise ValueError("a range needs at least one student")
    for name in settings.names:
        if not NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name for an address: use small letters, "
                "digits and hyphens, 40 at most"
            )
    if len(set(settings.names)) < len(settings.names):
        raise ValueError("two students have one name: give each their own")
    return settings


# --- the victim ------------------------------------------------------------


class Victim(NamedTuple):
    """A trained model, and where rows such as its owner's come from."""

    level: Level
    model: LogisticRegression | MLPClassifier
    centres: np.ndarray
    seed: int

    def rows(self, n: int, *purpose: int) -> np.ndarray:
        """n rows (n, features) in [-1, 1]; other purposes, other rows."""
        rng = stream(self.seed, *purpose)
        return drawn(self.level, self.centres, n, rng)[0]

    def labels(self, x) -> np.ndarray:
        """The victim's own labels (n,) of rows."""
        return self.model.predict_proba(x).argmax(axis=1)


def stream(seed: int, *purpose: int) -> np.random.Generator:
    """Random numbers of a seed for one purpose."""
    return np.random.default_rng(
        np.random.SeedSequence(seed, spawn_key=purpose)
    )


def drawn(level: Level, centres, n: int, rng):
    """n rows around the centres, cut to [-1, 1], and their classes."""
    group = rng.integers(len(centres), size=n)
    noise = rng.normal(scale=level.spread, size=(n, level.features))
    return np.clip(centres[group] + noise, -1, 1), group % level.classes


def victim_of(seed: int, level: int = 1) -> Victim:
    """The victim of a seed: the same on every machine, up to arithmetic.

    Centres are drawn until no label is given to more than half of the rows
    and the model is right on most of them, which nearly all draws are.
    """
    kind = LEVELS[level]
    rng = stream(seed, 0, level)
    for _ in range(100):
        shape = (kind.groups * kind.classes, kind.features)
        centres = rng.uniform(-0.8, 0.8, shape)
        x, y = drawn(kind, centres, 1500, rng)
        model = untrained(kind, rng)
        with warnings.catch_warnings():  # few steps are on purpose
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x[:1000], y[:1000])
        found = model.predict(x[1000:])
        most = np.bincount(found, minlength=kind.classes).max() / len(found)
        if most <= 0.5 and metrics.accuracy(found, y[1000:]) >= 0.8:
            return Victim(kind, model, centres, seed)
    raise RuntimeError(f"no victim of seed {seed} is worth stealing")


def untrained(kind: Level, rng):
    """The model of a level before it has seen a row."""
    if kind.returns == "probabilities":
        return LogisticRegression(C=1.0, max_iter=1000)
    start = int(rng.integers(2**31))
    # Few steps, or it is so sure that its boundary is all that is left.
    return MLPClassifier(
        (16,), solver="lbfgs", alpha=0.01, max_iter=500, random_state=start
    )


# --- the score -------------------------------------------------------------


def points(
    fidelity: float,
    guess: float,
    dollars: float,
    reference: float,
    alarm: bool,
) -> float:
    """The points of a submission; the head of the file has the formula."""
    gain = max(0.0, (fidelity - guess) / (1 - guess)) if guess < 1 else 0.0
    return 100 * gain / (1 + dollars / reference) - ALARM * alarm


# --- the range -------------------------------------------------------------


class Entries:
    """Who has closed an account, and what was handed in, in a file."""

    def __init__(self, path: Path):
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS entries (name TEXT PRIMARY KEY, "
            "labels TEXT, fidelity REAL)"
        )
        self._room = Lock()
        rows = self._db.execute("SELECT name, fidelity FROM entries")
        self.fidelity: dict[str, float | None] = dict(rows)

    def close_account(self, name: str) -> None:
        """Note for good that the account sells no more."""
        with self._room, self._db:
            self._db.execute(
                "INSERT OR IGNORE INTO entries VALUES (?, NULL, NULL)", (name,)
            )
            self.fidelity.setdefault(name, None)

    def hand_in(self, name: str, labels: list[int], fidelity: float) -> bool:
        """Note what was handed in; False where something was before."""
        with self._room, self._db:
            if self.fidelity[name] is not None:
                return False
            self._db.execute(
                "UPDATE entries SET labels = ?, fidelity = ? WHERE name = ?",
                (json.dumps(labels), fidelity, name),
            )
            self.fidelity[name] = fidelity
        return True

    def close(self) -> None:
        """Let the file go."""
        self._db.close()


class Range:
    """The victim, an account a student, and what they have handed in.

    settings: of a new range; of one that is in the folder already they must
    be the same, or None. folder: where keys, ledgers and scores are kept.
    `app` is the application that serves it. Raises `ValueError` for settings
    that are wrong or others than before, `LedgerError` where another process
    has the folder.
    """

    def __init__(self, settings: Settings | None, folder=FOLDER):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings, self.keys = _kept(settings, self.folder)
        self.victim = victim_of(self.settings.seed, self.settings.level)
        self._stack = ExitStack()
        self._handed_out: tuple[cKDTree | None, list[str]] = None, []
        try:
            self.accounts = {
                name: Account(self, i, name, self._ledger(name))
                for i, name in enumerate(self.settings.names)
            }
            # After the ledgers, whose locks keep other processes out.
            self.entries = Entries(self.folder / "scores.db")
            self._stack.callback(self.entries.close)
        except BaseException:
            self._stack.close()
            raise
        self._room = Lock()
        self._remember()
        self.app = Starlette(
            routes=[
                Route("/", self.page),
                Route("/scores.json", self.json),
                *(Mount(f"/{n}", a.app()) for n, a in self.accounts.items()),
            ]
        )

    def _ledger(self, name: str) -> DurableLedger:
        ledger = DurableLedger(self.folder / f"{name}.ledger.db")
        self._stack.callback(ledger.close)
        return ledger

    def close(self) -> None:
        """Write what is open and let others have the folder."""
        self._stack.close()

    # --- the examination -------------------------------------------------

    def _remember(self) -> None:
        """A search tree over all rows that were handed out."""
        names = [n for n in self.settings.names if n in self.entries.fidelity]
        rows = [self.accounts[name].examination for name in names]
        tree = cKDTree(np.concatenate(rows)) if rows else None
        self._handed_out = tree, names

    def close_account(self, name: str) -> None:
        """No more sales to that student, and the rows may be handed out."""
        with self._room:
            self.entries.close_account(name)
            self._remember()

    def owner_of(self, x: np.ndarray) -> str | None:
        """Whose handed-out row is among the rows x, or None."""
        tree, names = self._handed_out
        if tree is None:
            return None
        far, place = tree.query(x, p=np.inf, distance_upper_bound=NEAR)
        hit = place[np.isfinite(far)]
        return names[hit[0] // EXAMINED] if len(hit) else None

    # --- what is shown ---------------------------------------------------

    def scores(self) -> list[dict]:
        """A dictionary for each student, the most points first."""
        found = [account.score() for account in self.accounts.values()]
        worth = {None: float("-inf")}
        return sorted(
            found, key=lambda s: -worth.get(s["points"], s["points"] or 0)
        )

    async def json(self, request: Request) -> JSONResponse:
        return JSONResponse(self.scores())

    async def page(self, request: Request) -> HTMLResponse:
        return HTMLResponse(page(self.scores(), self.settings))


class Account:
    """One student: an API, its ledger, and the rows of the examination."""

    def __init__(self, owner: Range, i: int, name: str, ledger):
        self.range, self.name, settings = owner, name, owner.settings
        victim = owner.victim
        self.gifts = victim.rows(GIFTS, 1, i)
        self.examination = victim.rows(EXAMINED, 2, i)
        self.truth = victim.labels(self.examination)
        self.guess = float(np.bincount(self.truth).max() / EXAMINED)
        prada = load_chapter("defenses/prada_detection").Prada
        self.api = PredictionAPI(
            self.sell,
            returns=victim.level.returns,
            decimals=victim.level.decimals,
            monitors=[prada(DELTA)],
            budget=settings.budget,
            price_per_1000=settings.price,
            ledger=ledger,
            input_shape=(victim.level.features,),
            try_out=False,
        )

    def sell(self, x: np.ndarray) -> np.ndarray:
        """The victim's answers; nothing after the account is closed."""
        if self.name in self.range.entries.fidelity:
            raise ClientBlocked(
                "this account is closed: nothing was answered or billed"
            )
        whose = self.range.owner_of(x)
        if whose is not None:
            used = self.queries + 1
            alarm = Alarm(used, f"asked for the examination of {whose}")
            self.api.ledger.warn(self.name, alarm)
            raise BadRows(
                f"these rows are the examination of {whose}: an alarm was "
                "raised, and nothing was answered or billed"
            )
        return self.range.victim.model.predict_proba(x)

    @property
    def queries(self) -> int:
        """Rows that were billed so far."""
        bill = self.api.ledger.accounts.get(self.name)
        return bill.queries if bill else 0

    def score(self) -> dict:
        """What the score page says of this student."""
        fidelity = self.range.entries.fidelity.get(self.name)
        dollars = self.api.ledger.price(self.queries)
        alarm = self.api.alarms.get(self.name)
        worth = per_dollar = None
        if fidelity is not None:
            settings = self.range.settings
            worth = points(
                *(fidelity, self.guess, dollars, settings.reference),
                alarm is not None,
            )
            per_dollar = fidelity / dollars if dollars else None
        return {
            "name": self.name,
            "queries": self.queries,
            "dollars": dollars,
            "alarm": alarm.reason if alarm else None,
            "closed": self.name in self.range.entries.fidelity,
            "fidelity": fidelity,
            "guess": self.guess if fidelity is not None else None,
            "fidelity per dollar": per_dollar,
            "points": worth,
        }

    # --- what a student sends --------------------------------------------

    def app(self) -> Starlette:
        """The gateway of this student, and the three doors beside it."""
        key = self.range.keys[self.name]
        routes = [
            Route("/rows", self.asked(self.rows)),
            Route("/close", self.asked(self.close), methods=["POST"]),
            Route("/submit", self.asked(self.submit), methods=["POST"]),
            Mount("/", gateway(self.api, {key: self.name}, model=MODEL)),
        ]
        return Starlette(routes=routes)

    def asked(self, answer):
        """A route that wants the student's key and answers JSON."""
        key = self.range.keys[self.name]

        async def route(request: Request) -> JSONResponse:
            given = request.headers.get("authorization", "")
            if not secrets.compare_digest(
                given.encode("utf-8", "replace"), f"Bearer {key}".encode()
            ):
                words = "send the header Authorization: Bearer KEY"
                return JSONResponse({"error": words}, 401)
            body = b""
            async for part in request.stream():
                body += part
                if len(body) > LARGEST:
                    return JSONResponse({"error": "too large"}, 413)
            try:
                return JSONResponse(await run_in_threadpool(answer, body))
            except ValueError as error:
                return JSONResponse({"error": str(error)}, 400)

        return route

    def rows(self, _: bytes) -> dict:
        """What a student has from the start."""
        settings, level = self.range.settings, self.range.victim.level
        return {
            "rows": self.gifts.tolist(),
            "features": level.features,
            "classes": level.classes,
            "returns": level.returns,
            "budget": settings.budget,
            "price": settings.price,
        }

    def close(self, _: bytes) -> dict:
        """Close the account, for good, and hand out the rows to label."""
        self.range.close_account(self.name)
        return {"rows": self.examination.tolist()}

    def submit(self, body: bytes) -> dict:
        """Take the labels of the copy, once; the score."""
        if self.name not in self.range.entries.fidelity:
            raise ValueError("close the account first: POST to close")
        labels = _labels(body, self.range.victim.level.classes)
        fidelity = metrics.fidelity(labels, self.truth)
        if not self.range.entries.hand_in(
            self.name, labels.tolist(), fidelity
        ):
            raise ValueError("labels were handed in before, and those count")
        return self.score()


def _labels(body: bytes, classes: int) -> np.ndarray:
    try:
        labels = json.loads(body)["labels"]
        good = isinstance(labels, list) and all(
            type(e) is int and 0 <= e < classes for e in labels
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        labels, good = [], False
    if not good or len(labels) != EXAMINED:
        raise ValueError(
            f'send {{"labels": [...]}} with {EXAMINED} whole numbers from 0 '
            f"to {classes - 1}, in the order of the rows; nothing was taken"
        )
    return np.array(labels)


def _kept(settings: Settings | None, folder: Path):
    """The settings and keys of the folder, made where it has none."""
    path = folder / "range.json"
    if path.is_file():
        kept = json.loads(path.read_text())
        keys, names = kept.pop("keys"), tuple(kept.pop("names"))
        before = Settings(names=names, **kept)
        if settings is not None and checked(settings) != before:
            other = [
                field
                for field in Settings._fields
                if getattr(settings, field) != getattr(before, field)
            ]
            raise ValueError(
                f"{folder} holds a range with another {' and '.join(other)}: "
                "start it with no settings to go on with it, or give another "
                "folder"
            )
        return before, keys
    if settings is None:
        raise ValueError(
            f"there is no range in {folder}: say how many students"
        )
    keys = {n: secrets.token_urlsafe(16) for n in checked(settings).names}
    part = path.with_suffix(".part")
    with open(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        json.dump(settings._asdict() | {"keys": keys}, file, indent=1)
    part.replace(path)
    return settings, keys


# --- the score page --------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; --line: #8884; --bar: #2a78b8; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 64rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { margin: 0.5rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; min-width: 44rem;
  overflow-wrap: normal; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: 0.3rem 0.6rem;
  text-align: right; }
th:nth-child(-n+2), td:nth-child(-n+2), th:last-child, td:last-child {
  text-align: left; }
td { white-space: nowrap; }
meter { width: 6rem; }
"""
HEADS = (
    *("", "student", "points", "", "fidelity", "dollars"),
    *("fidelity a dollar", "queries", "alarm"),
)


def page(scores: list[dict], settings: Settings) -> str:
    """The score page, which shows itself anew every five seconds."""
    rows = "\n".join(map(_row, range(1, len(scores) + 1), scores))
    heads = "".join(f'<th scope="col">{head}</th>' for head in HEADS)
    done = sum(score["points"] is not None for score in scores)
    whole = settings.budget * settings.price / 1000
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="refresh" content="5"><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Scores of the range</title><style>{STYLE}</style></head><body>
<h1>Scores of the range</h1>
<p>Level {settings.level}: {done} of {len(scores)} students have handed in.
{settings.budget:,} rows each, at {settings.price:g} dollars for 1,000.</p>
<div class="wide" tabindex="0" role="region" aria-label="Scores"><table>
<thead><tr>{heads}</tr></thead>
<tbody>
{rows}
</tbody></table></div>
<p>points = 100 · gain / (1 + dollars / {settings.reference:g})
− {ALARM:g} for an alarm, where gain = (fidelity − guess) / (1 − guess), 0 or
more, and guess is the share of the most frequent label. A whole budget costs
{whole:g} dollars.</p>
</body></html>
"""


def _row(place: int, score: dict) -> str:
    name, alarm = escape(score["name"]), escape(score["alarm"] or "")
    worth = score["points"]
    if worth is None:
        state = "closed" if score["closed"] else "buying"
        cells = [
            "",
            name,
            f"<i>{state}</i>",
            "",
            "",
            f"{score['dollars']:.2f}",
        ]
        cells += ["", f"{score['queries']:,}", alarm]
    else:
        bar = f'<meter min="0" max="100" value="{max(worth, 0):.1f}"></meter>'
        each = score["fidelity per dollar"]
        cells = [f"{place}", name, f"<b>{worth:.1f}</b>", bar]
        cells += [f"{score['fidelity']:.1%}", f"{score['dollars']:.2f}"]
        cells += [f"{each:.2f}" if each else "–", f"{score['queries']:,}"]
        cells += [alarm]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


# --- the command -----------------------------------------------------------


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--students", type=int, help="how many; student-01 and so on")
    add("--names", help="a file with a name a line, instead")
    add("--seed", type=int, help="drawn and kept where it is left out")
    add("--level", type=int, default=1, help="1: probabilities; 2: labels")
    add("--budget", type=int, default=1000, help="rows for each student")
    add("--price", type=float, default=10.0, help="dollars for 1,000 rows")
    add("--folder", default=FOLDER)
    add("--host", default="127.0.0.1", help="0.0.0.0 lets others in")
    add("--port", type=int, default=8000)
    return parser


def _settings(chosen: argparse.Namespace) -> Settings | None:
    if chosen.names is None and chosen.students is None:
        return None
    if chosen.names is not None:
        try:
            names = Path(chosen.names).read_text().split()
        except OSError as error:
            raise ValueError(f"no names in {chosen.names}: {error}") from error
    else:
        n = whole("students", chosen.students, least=1)
        names = [f"student-{i:02}" for i in range(1, n + 1)]
    kept = Path(chosen.folder) / "range.json"
    seed = chosen.seed
    if seed is None and kept.is_file():
        seed = json.loads(kept.read_text())["seed"]
    if seed is None:
        seed = secrets.randbits(128)
    return Settings(
        seed, tuple(names), chosen.level, chosen.budget, chosen.price
    )


def main(arguments: list[str] | None = None) -> int:
    """Serve the range until stopped; 2 where something is wrong."""
    chosen = _arguments().parse_args(arguments)
    place = None
    try:
        place = Range(_settings(chosen), chosen.folder)
        with door_at(chosen.host, chosen.port) as door:
            host, port = door.getsockname()[:2]
            base = f"http://{host}:{port}"
            lines = [
                f"{name},{place.keys[name]},{base}/{name}"
                for name in place.settings.names
            ]
            keys = Path(chosen.folder) / "keys.csv"
            keys.touch(0o600)
            keys.write_text("\n".join(["name,key,url", *lines]) + "\n")
            print(f"keys and addresses are in {keys}", flush=True)
            print(f"scores are at {base}/", flush=True)
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            server_of(place.app).run([door])
    except (ValueError, LedgerError, OSError) as error:
        print(f"practice_range.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    finally:
        if place is not None:
            place.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
