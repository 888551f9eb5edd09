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
import torch
from torch import nn

from mexutils import training
from mexutils.api import BudgetExceeded, ClientBlocked, checked_rows
from mexutils.wire.client import AnswerLost, RemoteAPI, RemoteError
from mexutils.wire.rows import read_rows

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


def remote(url, model, key, output, timeout=30.0):
    """The target at a URL; it is described first, which costs nothing."""
    make = partial(RemoteAPI, url, model, key=key, timeout=timeout)
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
    """The target on an import path, `module:name` or `file.py:name`.

    Raises `ValueError` where it is not there, cannot be loaded, or is neither
    a function of rows, nor a fitted estimator, nor a torch module.
    """
    place, _, name = path.rpartition(":")
    try:
        found = getattr(_loaded(place), name)
    except (ImportError, OSError, AttributeError, ValueError) as error:
        raise ValueError(
            f"predict={path} is not there ({error}): write module:name or "
            "file.py:name of a function, an estimator or a torch module"
        ) from error
    except Exception as error:  # of the reader's file
        raise ValueError(
            f"predict={path} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if isinstance(found, type):
        raise ValueError(
            f"predict={path} is a class: write the name of a model that was "
            "made of it"
        )
    names = getattr(found, "classes_", None)
    names = None if names is None else np.asarray(names).tolist()
    width = getattr(found, "n_features_in_", None)
    shape = None if width is None else (int(width),)
    if isinstance(found, nn.Module):
        found = partial(training.predict_proba, _Logits(found))
        return Target(_named(found, path), path)
    for method in ("predict_proba", "predict"):
        if hasattr(found, method):
            ask = getattr(found, method)
            return Target(_named(ask, path), path, shape, names)
    if not callable(found):
        raise ValueError(f"predict={path} is no function of rows")
    return Target(_named(found, path), path)


def _loaded(place):
    """The module of that name or in that file, with what lies beside it."""
    if not place.endswith(".py"):
        sys.path.insert(0, os.getcwd())
        return importlib.import_module(place)
    path = Path(place).resolve()
    sys.path.insert(0, str(path.parent))
    spec = spec_from_file_location(path.stem, path)
    found = module_from_spec(spec)
    sys.modules.setdefault(path.stem, found)  # data classes look there
    spec.loader.exec_module(found)
    return found


def _named(ask, path):
    """The same function, whose errors say where they come from."""

    def asked(x):
        try:
            return ask(x)
        except UnreadableAnswer:
            raise
        except Exception as error:
            raise RuntimeError(
                f"predict={path} raised {type(error).__name__} at rows of "
                f"the shape {x.shape}: {error}"
            ) from error

    return asked


class _Logits(nn.Module):
    """A module whose softmax is to be taken; of one that took it, the logs."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    @torch.no_grad()
    def forward(self, x):
        """Scores (n, c) of rows (n, ...), in the module's own precision."""
        like = next(self.net.parameters(), x)
        told = self.net(x.to(like if x.is_floating_point() else like.device))
        told = told.double()
        if told.ndim != 2 or told.shape[1] < 2:
            raise UnreadableAnswer(
                f"the module answers {len(x)} rows by the shape "
                f"{tuple(told.shape)}, which are no logits (n, classes): "
                "audit a function that gives probabilities in its place"
            )
        off = (told.sum(dim=1) - 1).abs().max()
        return told.log() if told.min() >= 0 and off < 1e-5 else told


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
    `query` takes rows (n, ...) and gives shares (n, c) or places (n,), the
    latter always where `flat` is set.
    Raises `BudgetExceeded`, with nothing sent, and `ValueError` for answers
    that are neither probabilities nor labels.
    """

    CALL = 100  # rows

    def __init__(self, target, path, budget):
        self.target, self.budget = target, budget
        self.classes = list(target.classes or [])
        self.flat = False  # whether shares are read as labels
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
    """Ask the rows and keep their answers.

    A call is entered before it is sent, and taken back where it is known that
    nothing was billed.
    """
    before = endpoint.sent
    note(endpoint.db, "sent", before + len(rows))
    try:
        answers = as_answers(endpoint.target.ask(rows), len(rows))
        _check_columns(endpoint, answers)
    except Exception as error:
        billed = isinstance(error, RuntimeError | UnreadableAnswer)
        billed &= not isinstance(error, BudgetExceeded | ClientBlocked)
        if not billed or "nothing was" in str(error):
            note(endpoint.db, "sent", before)
        if isinstance(error, AnswerLost):
            words = str(error).partition("; pay_again")[0]
            raise AnswerLost(
                f"{words}, and count as sent: run the audit again to go on, "
                "with a longer timeout= where the server is slow"
            ) from error
        raise
    with endpoint.db as db:
        pairs = zip(keys, map(json.dumps, answers), strict=True)
        db.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", pairs)


def _check_columns(endpoint, answers):
    """The number of columns stays what it was at the first shares."""
    widths = {len(a) for a in answers if isinstance(a, list)}
    before = noted(endpoint.db, "columns")
    if widths and before is None:
        note(endpoint.db, "columns", max(widths))
    elif widths and widths != {int(before)}:
        raise UnreadableAnswer(
            f"rows were answered by {before} columns before, and by "
            f"{max(widths)} now: give each class a column in every answer"
        )


def read(endpoint, answers):
    """Kept answers as an array: shares (n, c), or places (n,)."""
    c = noted(endpoint.db, "columns")
    widths = (len(answer) for answer in answers if isinstance(answer, list))
    c = next(widths, None) if c is None else int(c)
    if c is None or endpoint.flat:
        return np.array([_place(endpoint, answer) for answer in answers])
    return np.array([_shares(answer, c) for answer in answers])


def _shares(answer, c):
    """A list of c shares; 0 and 1 alone are shares of the second of two."""
    if isinstance(answer, list):
        return answer
    if c == 2 and answer in (0, 1):
        return [1 - answer, answer]
    raise UnreadableAnswer(
        f"some rows are answered by labels ({answer!r}, say) and others by "
        "probabilities: audit a function that always gives the same"
    )


def _place(endpoint, label):
    """The place of a label, or of the largest share; a new one is the next."""
    if isinstance(label, list):
        return int(np.argmax(label))
    names = list(map(str, endpoint.classes))
    if str(label) in names:
        return names.index(str(label))
    named = len(endpoint.target.classes or [])
    if isinstance(label, int) and label in range(named):
        return label  # a place among names already
    endpoint.classes.append(label)
    return len(names)


class UnreadableAnswer(ValueError):
    """The endpoint answered, and was paid, what no attack can use."""


def as_answers(answer, n):
    """A list of n labels or lists of c shares, of whatever was answered.

    One number between 0 and 1 a row is the share of the second class.
    """
    answer = _as_array(answer)
    if answer.ndim == 2 and answer.shape[1] == 1:
        answer = answer[:, 0]
    if answer.ndim not in (1, 2) or len(answer) != n or not answer.size:
        raise UnreadableAnswer(
            f"{n} rows were answered by an array of shape {answer.shape}: "
            "audit a function of rows to probabilities (n, c) or labels (n,)"
        )
    if answer.ndim == 1 and answer.dtype.kind == "f":
        whole = np.abs(answer) < 2**53
        if (whole & (answer % 1 == 0)).all():
            return answer.astype(int).tolist()
        answer = np.column_stack([1 - answer, answer])
    if answer.ndim == 1:
        return [_plain(label) for label in answer.tolist()]
    if answer.dtype.kind not in "fiub":
        raise UnreadableAnswer(
            f"{n} rows were answered by {answer.shape[1]} words each: audit a "
            "function of rows to probabilities (n, c) or labels (n,)"
        )
    share = answer.astype(float)
    least = share.min()
    if not np.isfinite(share).all() or least < -1e-6 or _far(share):
        raise UnreadableAnswer(
            f"the answers are no probabilities (entries {least:.3g} to "
            f"{share.max():.3g}); are they logits or numbers? audit the "
            "softmax of the logits, or a classifier"
        )
    return share.tolist()


def _as_array(answer):
    """Labels or numbers of any library as an array of one of NumPy's kinds."""
    try:
        if hasattr(answer, "detach"):
            answer = answer.detach().cpu()
        answer = np.asarray(answer)
        if answer.dtype.kind == "S":
            answer = answer.astype(str)
        if answer.dtype.kind == "O":
            answer = _of_objects(answer)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnreadableAnswer(
            f"the answers cannot be read as an array ({str(error)[:100]}): "
            "audit a function of rows to probabilities (n, c) or labels (n,)"
        ) from error
    if answer.dtype.kind not in "fiubU":
        raise UnreadableAnswer(
            f"the answers are {answer.dtype}, neither numbers nor words: "
            "audit a function of rows to probabilities (n, c) or labels (n,)"
        )
    return answer


def _of_objects(answer):
    """An array of Python's objects as words or numbers; or `ValueError`."""
    entries = answer.ravel().tolist()
    words = [isinstance(entry, str) for entry in entries]
    if any(words) and not all(words):
        raise ValueError("words and other things in one answer")
    return answer.astype(str if any(words) else float)


def _far(share):
    """Whether sums exceed 1 by more than rounding to one decimal may do.

    Or are all 0, which no share of anything is.
    """
    most = share.sum(axis=1).max()
    return most > 1 + 0.05 * share.shape[1] + 1e-6 or most <= 0


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
    except (ValueError, LookupError, RemoteError):
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
