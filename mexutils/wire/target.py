"""An endpoint as who audits it meets it: its rows, and answers paid once.

A `Target` is a model at a URL or on an import path; an `Endpoint` asks it and
keeps what it answered in a file, so that nothing is paid twice.
"""

import hashlib
import importlib
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import nn

from mexutils import training
from mexutils.api import BudgetExceeded, checked_rows
from mexutils.wire.client import RemoteAPI, RemoteError

__all__ = [
    "Endpoint",
    "Target",
    "UnreadableAnswer",
    "digest",
    "fits_shape",
    "imported",
    "key_of",
    "places_of",
    "read_rows",
    "remote",
    "true_places",
    "try_by_name",
]


class Target(NamedTuple):
    """What is audited.

    ask: rows to answers. who: its name. shape: of one row, or None. classes:
    names in its order, or None. hidden: asks a server that answers labels for
    probabilities all the same, or None.
    """

    ask: Callable
    who: str
    shape: tuple | None = None
    classes: list | None = None
    hidden: Callable | None = None


def key_of(name):
    """The key in the environment variable of that name; None for none."""
    if name and not os.environ.get(name):
        raise ValueError(
            "key= must name an environment variable that holds the key, and "
            "there is none of that name: export AUDIT_KEY=..., key=AUDIT_KEY"
        )
    return os.environ[name] if name else None


def remote(url, model, key, output):
    """The target at a URL; it is described first, which costs nothing."""
    make = partial(RemoteAPI, url, model, key=key)
    api = make(output=output or None)
    try:
        told = api.describe()
    except PermissionError as error:
        raise PermissionError(
            f"{error}; the audit takes it from the environment variable that "
            "key= names"
        ) from None
    except LookupError as error:
        raise LookupError(
            f"{error}: is model={model} its name there?"
        ) from None
    ours, names = told.get("platform") == "mexutils", api.classes
    hidden = None if output or ours else make(output="predict_proba").query
    names = None if names is None else names.tolist()
    who = f"{model} at {url}"
    return Target(api.query, who, api.input_shape, names, hidden)


def imported(path):
    """The target on an import path, `module:name` or `file.py:name`."""
    place, _, name = path.partition(":")
    try:
        if place.endswith(".py"):
            spec = spec_from_file_location(Path(place).stem, place)
            found = module_from_spec(spec)
            spec.loader.exec_module(found)
        else:
            sys.path.insert(0, os.getcwd())
            found = importlib.import_module(place)
        found = getattr(found, name)
    except (ImportError, OSError, AttributeError, ValueError) as error:
        raise ValueError(
            f"predict={path} is not there ({error}): write module:name or "
            "file.py:name of a function, an estimator or a torch module"
        ) from error
    names = getattr(found, "classes_", None)
    names = None if names is None else np.asarray(names).tolist()
    width = getattr(found, "n_features_in_", None)
    shape = None if width is None else (int(width),)
    if isinstance(found, nn.Module):
        return Target(partial(training.predict_proba, found), path)
    for method in ("predict_proba", "predict"):
        if hasattr(found, method):
            return Target(getattr(found, method), path, shape, names)
    if not callable(found):
        raise ValueError(f"predict={path} is no function of rows")
    return Target(found, path)


LEAST_ROWS = 40
"""Rows of the reader's: half to judge by, half to attack with."""


def read_rows(path, labels=""):
    """Rows (n, ...) float64 and labels (n,) or None, of a file."""
    path = Path(path)
    if not str(path) or path.name == "":
        raise ValueError(
            "rows= is needed: a CSV, Parquet or NPY file of rows like those "
            "that customers send"
        )
    if not path.is_file():
        raise FileNotFoundError(f"rows={path}: there is no such file")
    if path.suffix == ".npy":
        x = np.load(path, allow_pickle=False)
        y = np.load(labels, allow_pickle=False) if labels else None
    elif path.suffix in (".csv", ".parquet"):
        x, y = _frame(path, labels)
    else:
        raise ValueError(
            f"rows={path} must end in .csv, .parquet or .npy, not "
            f"{path.suffix or 'in nothing'}"
        )
    if y is not None and np.shape(y) != (len(x),):
        raise ValueError(
            f"{len(x)} rows need as many labels, not {np.shape(y)}"
        )
    x = checked_rows(x, None).astype(float)
    if len(x) < LEAST_ROWS:
        raise ValueError(
            f"rows={path} has {len(x)} rows, and {LEAST_ROWS} are the least: "
            "half of them judge, which no attack may ask"
        )
    return x, y


def _frame(path, labels):
    try:
        frame = (
            pd.read_csv(path)
            if path.suffix == ".csv"
            else pd.read_parquet(path)
        )
    except ImportError as error:
        raise ValueError(
            f"rows={path}: reading Parquet needs pyarrow: pip install "
            "pyarrow, or save the rows as CSV"
        ) from error
    except (ValueError, OSError) as error:
        raise ValueError(f"rows={path} cannot be read: {error}") from error
    if labels and labels not in frame.columns:
        raise ValueError(
            f"labels={labels} is no column of {path}: it has "
            f"{', '.join(map(str, frame.columns))}"
        )
    y = frame.pop(labels).to_numpy() if labels else None
    words = [c for c in frame if not pd.api.types.is_numeric_dtype(frame[c])]
    if words:
        raise ValueError(
            f"{path} holds words in {', '.join(map(str, words))}: rows travel "
            "as numbers; encode these columns as customers do, or name the "
            "one of the classes by labels="
        )
    return frame.to_numpy(), y


def fits_shape(x, shape, names=""):
    """The rows in the endpoint's shape; `ValueError` that names both."""
    if shape is not None and np.prod(x.shape[1:]) != np.prod(shape):
        raise ValueError(
            f"{names} has rows of the shape {x.shape[1:]}, and the endpoint "
            f"takes {tuple(shape)}: leave out what is no feature, and name "
            "the column of the classes by labels="
        )
    return x if shape is None else x.reshape(-1, *shape)


def places_of(labels, classes):
    """Places (n,) of labels among the classes; `ValueError` for strangers."""
    if labels is None:
        return None
    known = {str(name): place for place, name in enumerate(classes)}
    words = [str(_plain(label)) for label in labels]
    strangers = sorted({word for word in words if word not in known})
    if strangers:
        raise ValueError(
            f"labels {', '.join(strangers[:5])} are not among the classes "
            f"{', '.join(list(known)[:10])}: name the right column by "
            "labels=, or the classes in the model's order by classes=no,yes"
        )
    return np.array([known[word] for word in words])


def _plain(label):
    """A label as Python's own; 3.0 counts as 3."""
    label = label.item() if isinstance(label, np.generic) else label
    is_whole = isinstance(label, float) and label.is_integer()
    return int(label) if is_whole else label


class Endpoint:
    """A model whose answers are kept in a SQLite file.

    target: a `Target`. path: the file. budget: rows that may ever be sent.
    `query` takes rows (n, ...) and gives shares (n, c) or places (n,).
    Raises `BudgetExceeded`, with nothing sent, and `ValueError` for answers
    that are neither probabilities nor labels.
    """

    CALL = 100  # rows

    def __init__(self, target, path, budget):
        self.target, self.budget = target, budget
        self.classes = list(target.classes or [])
        self.db = opened(path, target.who)

    @property
    def sent(self):
        """Rows that were sent, in this run and in those before."""
        return int(noted(self.db, "sent") or 0)

    def query(self, x, turn=0):
        """The answers to the rows x; `turn` 1 asks them a second time."""
        x = checked_rows(x, self.target.shape)
        keys = [digest(row, turn) for row in x]
        new = {k: row for k, row in zip(keys, x, strict=True)}
        new = {k: row for k, row in new.items() if found(self.db, k) is None}
        if len(new) > self.budget - self.sent:
            raise BudgetExceeded(
                f"{len(new)} rows, and {self.budget - self.sent} of the "
                f"budget of {self.budget} are left: nothing was sent; give "
                "a larger budget="
            )
        todo = list(new)
        for i in range(0, len(todo), self.CALL):
            part = todo[i : i + self.CALL]
            send(self, part, np.stack([new[k] for k in part]))
        return read(self, [json.loads(found(self.db, k)) for k in keys])


TABLES = """
CREATE TABLE IF NOT EXISTS answers (row TEXT PRIMARY KEY, answer TEXT);
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT);
"""


def opened(path, who):
    """The file of answers of that endpoint; `ValueError` if of another."""
    db = sqlite3.connect(path, timeout=1)
    try:
        # For good: two audits at once would spend one budget twice.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.executescript(TABLES)
        before = noted(db, "who")
        note(db, "who", before or who)
    except sqlite3.Error as error:
        db.close()
        raise ValueError(
            f"{path} cannot be used to keep answers ({error}): give another "
            "folder=, or wait for the audit that has it"
        ) from error
    if before not in (None, who):
        db.close()
        raise ValueError(
            f"{path} holds the answers of {before}, not of {who}: give "
            "another folder="
        )
    return db


def noted(db, name):
    """What is written down under a name, or None."""
    sql = "SELECT value FROM about WHERE name = ?"
    return next((v for (v,) in db.execute(sql, (name,))), None)


def note(db, name, value):
    """Write something down, for good."""
    with db:
        db.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))


def found(db, row):
    """The answer that is kept for a row's digest, or None."""
    sql = "SELECT answer FROM answers WHERE row = ?"
    return next((a for (a,) in db.execute(sql, (row,))), None)


def digest(row, turn=0):
    """The name of a row, and of how often it was asked before."""
    content = np.ascontiguousarray(row, dtype=float) + 0.0
    return f"{hashlib.sha256(content.tobytes()).hexdigest()}-{turn}"


def send(endpoint, keys, rows):
    """Ask the rows and keep their answers; what is refused is not entered."""
    before = endpoint.sent
    note(endpoint.db, "sent", before + len(rows))
    try:
        answers = as_answers(endpoint.target.ask(rows), len(rows))
    except Exception as error:
        billed = isinstance(error, RemoteError | UnreadableAnswer)
        if not billed or "nothing was" in str(error):
            note(endpoint.db, "sent", before)
        raise
    with endpoint.db as db:
        pairs = zip(keys, map(json.dumps, answers), strict=True)
        db.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", pairs)


def read(endpoint, answers):
    """Kept answers as an array: shares (n, c), or places (n,)."""
    if isinstance(answers[0], list):
        return np.array(answers)
    for label in answers:
        if label not in endpoint.classes:
            endpoint.classes.append(label)
    return np.array([endpoint.classes.index(label) for label in answers])


class UnreadableAnswer(ValueError):
    """The endpoint answered, and was paid, what no attack can use."""


def as_answers(answer, n):
    """A list of n labels or lists of c shares, of whatever was answered."""
    answer = np.asarray(answer)
    if answer.ndim == 2 and answer.shape[1] == 1:
        answer = answer[:, 0]
    if len(answer) != n or answer.ndim > 2:
        raise UnreadableAnswer(
            f"{n} rows were answered by an array of shape {answer.shape}: "
            "audit a function of rows to probabilities (n, c) or labels (n,)"
        )
    if answer.ndim == 1 and answer.dtype.kind == "f":
        if (answer % 1 == 0).all():
            return answer.astype(int).tolist()
        answer = np.column_stack([1 - answer, answer])
    if answer.ndim == 1:
        return [_plain(label) for label in answer.tolist()]
    share = answer.astype(float)
    if not np.isfinite(share).all() or share.min() < -1e-6 or _far(share):
        raise UnreadableAnswer(
            f"the answers are no probabilities (entries {share.min():.3g} to "
            f"{share.max():.3g}); are they logits or numbers? audit the "
            "softmax of the logits, or a classifier"
        )
    return share.tolist()


def _far(share):
    """Whether sums exceed 1 by more than rounding to one decimal may do."""
    return share.sum(axis=1).max() > 1 + 0.05 * share.shape[1] + 1e-6


def try_by_name(endpoint, row):
    """Ask for predict_proba by name from now on, where a server gives it."""
    target = endpoint.target
    if target.hidden is None or noted(endpoint.db, "output"):
        return
    endpoint.target = target._replace(
        ask=target.hidden, who=f"{target.who}, asked for predict_proba"
    )
    try:
        endpoint.query(row)
    except (ValueError, RemoteError):
        note(endpoint.db, "output", "default")
        endpoint.target = target


def true_places(endpoint, first, y):
    """Places of the labels y, once it is known what is answered."""
    names = endpoint.target.classes
    c = first.shape[1] if first.ndim == 2 else None
    if c and names and len(names) != c:
        raise ValueError(
            f"{len(names)} classes are named and the answers have {c} "
            "columns: give one name a column by classes="
        )
    if y is None or names:
        return y  # places already
    if c:
        return places_of(y, range(c))
    for label in sorted({_plain(label) for label in y}, key=str):
        if label not in endpoint.classes:
            endpoint.classes.append(label)
    return places_of(y, endpoint.classes)
