"""A victim behind a paid prediction API: rows in, answers out, and a bill.

The API is all that an attacker meets. It counts every row, refuses what it
cannot answer before anything is billed, and passes each answer through the
owner's defenses and monitors.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

import numpy as np
import pandas as pd

from mexutils.checks import is_finite, whole

__all__ = [
    "Bill",
    "Alarm",
    "BadAnswer",
    "BadRows",
    "BudgetExceeded",
    "ClientBlocked",
    "Defense",
    "Ledger",
    "Monitor",
    "PredictionAPI",
]

Defense = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps `(x, probabilities)` to the probabilities that are answered."""

# What rounding may leave of a probability vector: an entry below 0, a sum off
# 1; and a sum by which it can still be told from logits.
_ROUNDING, _SUMS_OFF, _SUMS_NEAR = -1e-6, 1e-4, 0.05


class BadRows(ValueError):
    """The client's rows cannot be answered; nothing was asked or billed."""


class BadAnswer(ValueError):
    """The victim or a defense gave no probability vectors; none was sent."""


class BudgetExceeded(RuntimeError):
    """The batch would cost more queries than are left; none was answered."""


class ClientBlocked(RuntimeError):
    """A monitor has raised an alarm on this client; nothing was answered."""


@dataclass(frozen=True)
class Alarm:
    """What a monitor reports of one client.

    query: which of the client's queries raised it, counted from 1.
    reason: what the monitor saw, in words.
    """

    query: int
    reason: str


class Monitor(Protocol):
    """Watches the queries of every client, one call at a time."""

    def observe(
        self, client: str, x: np.ndarray, probabilities: np.ndarray
    ) -> Alarm | None:
        """Take in the rows `x` of one call and the victim's own answers.

        Both arrays are the monitor's to keep.
        """


@dataclass
class Bill:
    """What one client has used: rows answered and calls made."""

    queries: int = 0
    calls: int = 0


@dataclass
class Ledger:
    """Every row that was answered, by client, what it costs, and the alarms.

    price_per_1000: dollars for 1,000 queries.

    This one lives in memory. One that outlives the process, as
    `mexutils.wire.DurableLedger`, writes down what `bill` and `warn` enter
    before they return, and gives what `saw` was told back by `seen`, in order.
    An error in one of the three refuses the call.
    """

    price_per_1000: float
    accounts: dict[str, Bill] = field(default_factory=dict)
    alarms: dict[str, Alarm] = field(default_factory=dict)

    @property
    def queries(self) -> int:
        """Rows answered to all clients together."""
        return sum(account.queries for account in self._all())

    @property
    def calls(self) -> int:
        """Calls answered to all clients together."""
        return sum(account.calls for account in self._all())

    @property
    def cost(self) -> float:
        """Dollars billed to all clients together."""
        return self.price(self.queries)

    def _all(self) -> list[Bill]:
        # A list, since another thread may open an account meanwhile.
        return list(self.accounts.values())

    def price(self, queries: int) -> float:
        """What that many queries cost, in dollars."""
        return queries * self.price_per_1000 / 1000

    def bill(self, client: str, queries: int) -> None:
        """Enter one answered call of that many rows."""
        account = self.accounts.setdefault(client, Bill())
        account.queries += queries
        account.calls += 1

    def warn(self, client: str, alarm: Alarm) -> None:
        """Enter an alarm on the client, unless there is one already."""
        self.alarms.setdefault(client, alarm)

    def saw(self, client: str, x: np.ndarray, own: np.ndarray) -> None:
        """Keep what the monitors have taken in; here, nothing."""

    def seen(self) -> Iterable[tuple[str, np.ndarray, np.ndarray]]:
        """What monitors of an earlier process took in; here, nothing."""
        return ()

    def table(self) -> pd.DataFrame:
        """One row a client: queries, calls, cost in dollars."""
        rows = [
            (name, a.queries, a.calls, self.price(a.queries))
            for name, a in list(self.accounts.items())
        ]
        columns = ["client", "queries", "calls", "cost ($)"]
        return pd.DataFrame(rows, columns=columns).set_index("client")


class PredictionAPI:
    """A victim as its clients meet it.

    predict_proba: the victim, a function from rows (n, ...) to probability
        vectors (n, c).
    returns: `"probabilities"`, `"top-k"` for a number k (`"top-3"`: the k
        largest probabilities in their places, zero elsewhere), or
        `"label"`: the place of the largest probability, 0 to c - 1, which
        is a class only where the victim's classes are 0 to c - 1 as well.
    classes: names of the c columns, numbers or words, in the victim's order
        (`model.classes_`). `"label"` then answers these instead of places.
    decimals: round the answered probabilities to so many decimals.
    defenses: callables `(x, probabilities) -> probabilities`, applied in
        order, before truncation and rounding.
    monitors: objects with `observe(client, x, probabilities)`, which see the
        victim's own probabilities. The first `Alarm` on a client is kept in
        `alarms`.
    on_alarm: `"flag"` answers on; `"block"` refuses the call that raised the
        alarm and every later one of that client.
    budget: rows that the API will answer in all, to all clients together.
    price_per_1000: dollars for 1,000 rows.
    ledger: where rows and alarms are entered; a new one in memory by default.
        One that outlives the process goes on with its bills, its alarms and,
        by showing the monitors again what they saw, with their state. The
        price becomes the API's.
    input_shape: the shape of one row. It is read off the victim where that
        has an `input_shape` or scikit-learn's `n_features_in_`; otherwise
        the first answered call sets it.
    try_out: whether the victim is asked for four made-up rows when the API
        is made.

    Where the shape of a row is known, the victim is tried out when the API is
    made: it is sent one row of zeros and three of uniform numbers in [0, 1],
    which nobody is billed for and no monitor sees. One that returns logits
    or labels is thus refused at once with a `ValueError`. Where the shape is
    not known yet, where the victim raises an error on made-up rows, and with
    `try_out=False`, its first answer is checked before it is billed.

    Several threads may ask at once. The budget is kept for a call before the
    victim is asked, and given back where the call fails; bills, alarms and
    monitors see one call at a time. The victim and the defenses may be called
    from several threads at once: where one of them cannot bear that, the
    owner puts a lock into it.

    The victim, each defense and each monitor get arrays of their own, so that
    none of them can change what another sees, or what the client sent.
    """

    def __init__(
        self,
        predict_proba: Callable[[np.ndarray], np.ndarray],
        *,
        returns: str = "probabilities",
        classes: Sequence | None = None,
        decimals: int | None = None,
        defenses: Sequence[Defense] = (),
        monitors: Sequence[Monitor] = (),
        on_alarm: str = "flag",
        budget: int | None = None,
        price_per_1000: float = 1.50,
        ledger: Ledger | None = None,
        input_shape: tuple[int, ...] | None = None,
        try_out: bool = True,
    ):
        if not callable(predict_proba):
            raise ValueError(
                "predict_proba must be a function of rows, not "
                f"{type(predict_proba).__name__}: pass model.predict_proba"
            )
        self._predict_proba = predict_proba
        self._top = _parse_returns(returns)
        self.returns = returns
        self.classes = _names_of(classes)
        self.decimals = _whole("decimals", decimals, least=0)
        self.budget = _whole("budget", budget, least=0)
        if on_alarm not in ("flag", "block"):
            raise ValueError(
                f"on_alarm must be 'flag' or 'block', not {on_alarm!r}"
            )
        if not (is_finite(price_per_1000) and price_per_1000 >= 0):
            raise ValueError(
                "price_per_1000 must be a number of dollars, 0 or more, not "
                f"{price_per_1000!r}"
            )
        self._defenses, self._monitors = tuple(defenses), tuple(monitors)
        self.on_alarm = on_alarm
        self.ledger = Ledger(price_per_1000) if ledger is None else ledger
        self.ledger.price_per_1000 = price_per_1000
        self.alarms = self.ledger.alarms
        self._under_way = 0  # rows of the budget kept for calls not yet billed
        self._make_locks()
        self.input_shape = _shape_of(predict_proba, input_shape)
        if try_out and self.input_shape is not None:
            self._try_out()
        for client, x, own in self.ledger.seen():
            self._observe(client, x, own)

    def _make_locks(self) -> None:
        # Two, for a monitor may take long and nobody's bill waits for it.
        self._books, self._watch_room = Lock(), Lock()

    def __getstate__(self) -> dict:
        """All but the locks and the calls under way, which stay here."""
        state = vars(self) | {"_under_way": 0}
        del state["_books"], state["_watch_room"]
        return state

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._make_locks()

    @property
    def remaining(self) -> int | None:
        """Queries left in the budget, or None where there is none.

        Rows of calls under way count as used until such a call fails.
        """
        with self._books:
            return self._left()

    def _left(self) -> int | None:
        if self.budget is None:
            return None
        return self.budget - self.ledger.queries - self._under_way

    def query(self, x, client: str = "anonymous") -> np.ndarray:
        """The answers to the rows x; each row is one query.

        x: (n, *input_shape), finite numbers.
        Returns an array of the client's own: (n, c) float64 probabilities,
        or, where `returns="label"`, (n,) int places 0 to c - 1 or (n,) names
        of the dtype of `classes`.

        Raises, with nothing answered and nothing billed: `ValueError` for
        rows of the wrong shape or with NaN or infinite values,
        `BudgetExceeded`, `ClientBlocked`, and what the victim, a defense or
        a monitor raises.
        """
        x = checked_rows(x, self.input_shape)
        self._refuse_blocked(client)
        with self._billed(client, x):
            own = self._checked_answer(self._predict_proba(np.array(x)), x)
            answer = own
            for defense in self._defenses:
                answer = defense(x.copy(), answer.copy())
                answer = self._checked_answer(answer, x)
            self._watch(client, x, own)
            return self._reply(answer)

    @contextmanager
    def _billed(self, client: str, x: np.ndarray) -> Iterator[None]:
        """Bill the rows x once they are answered.

        They are taken from the budget before, and given back on an error.
        """
        with self._books:
            left = self._left()
            if left is not None and len(x) > left:
                raise BudgetExceeded(
                    f"{len(x)} rows asked, {left} of {self.budget} left: "
                    "nothing was answered or billed; send fewer rows"
                )
            self._under_way += len(x)
        try:
            yield
        except BaseException:
            with self._books:
                self._under_way -= len(x)
            raise
        with self._books:
            self._under_way -= len(x)
            self.ledger.bill(client, len(x))
            self.input_shape = x.shape[1:]

    def _checked_answer(self, answer, x: np.ndarray) -> np.ndarray:
        """A float64 copy of the answer to x, or an error if it is none."""
        answer = _probabilities(answer, len(x))
        if self.classes is not None and len(self.classes) != answer.shape[1]:
            raise BadAnswer(
                f"classes has {len(self.classes)} names and the answers have "
                f"{answer.shape[1]} columns: give one name a column, in the "
                "victim's order, as model.classes_"
            )
        return answer

    def _refuse_blocked(self, client: str) -> None:
        if self.on_alarm == "block" and client in self.alarms:
            alarm = self.alarms[client]
            raise ClientBlocked(
                f"client {client!r} is blocked since its query "
                f"{alarm.query}: {alarm.reason}; nothing was answered or "
                "billed"
            )

    def _watch(self, client: str, x: np.ndarray, own: np.ndarray) -> None:
        if not self._monitors:
            return
        with self._watch_room:
            # Another call of this client may have raised an alarm meanwhile.
            self._refuse_blocked(client)
            self._observe(client, x, own)
            self.ledger.saw(client, x, own)
            self._refuse_blocked(client)

    def _observe(self, client: str, x: np.ndarray, own: np.ndarray) -> None:
        for monitor in self._monitors:
            alarm = monitor.observe(client, np.array(x), own.copy())
            if alarm is not None:
                self.ledger.warn(client, alarm)

    def _reply(self, answer: np.ndarray) -> np.ndarray:
        """The answer as the client gets it: truncated, rounded, or a label."""
        if self.returns == "label":
            places = answer.argmax(axis=1)
            return places if self.classes is None else self.classes[places]
        if self._top is not None and self._top < answer.shape[1]:
            order = np.argsort(-answer, axis=1, kind="stable")
            np.put_along_axis(answer, order[:, self._top :], 0.0, axis=1)
        if self.decimals is not None:
            answer = answer.round(self.decimals)
        return answer

    def _try_out(self) -> None:
        rng = np.random.default_rng(0)
        rows = np.stack(
            [
                np.zeros(self.input_shape),
                *rng.uniform(0, 1, (3, *self.input_shape)),
            ]
        )
        try:
            answer = self._predict_proba(rows.copy())
        except Exception:
            return  # it may well know the rows that clients will send
        self._checked_answer(answer, rows)


def checked_rows(x, shape: tuple[int, ...] | None) -> np.ndarray:
    """A copy of the rows, whatever the client does to them meanwhile."""
    if hasattr(x, "toarray"):  # of SciPy
        raise BadRows(
            "the rows are a sparse matrix and travel as an array: send "
            "x.toarray(), a part of the rows at a time where all of them "
            "do not fit into memory"
        )
    try:
        x = np.array(x)
        if x.dtype == object and not any(map(_is_text, x.flat)):
            x = x.astype(float)  # a frame of numbers of several kinds
        finite = bool(np.isfinite(x).all())
    except (TypeError, ValueError) as error:
        raise BadRows(
            "the rows are not an array of numbers: send (n, ...) floats "
            "with every row equally long"
        ) from error
    if x.ndim < 2 or x.size == 0:
        raise BadRows(
            f"a batch of rows is needed, not an array of shape {x.shape}: "
            "one row travels as x[None]"
        )
    if shape is not None and x.shape[1:] != shape:
        raise BadRows(
            f"each row must have the shape {shape}, not {x.shape[1:]}"
        )
    if not finite:
        rows = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))
        raise BadRows(
            f"{len(rows)} rows hold NaN or infinite values, first row "
            f"{rows[0]}, and only finite numbers are answered: drop or "
            "repair them; where NaN means a missing value, send a number "
            "outside the range of the feature in its place, such as "
            "-999, and sell a function that puts NaN back before it "
            "calls the model's predict_proba"
        )
    return x


def _is_text(value) -> bool:
    return isinstance(value, str | bytes)


def _parse_returns(returns: str) -> int | None:
    """The k of `"top-k"`; None for the other modes."""
    if returns in ("probabilities", "label"):
        return None
    match = re.fullmatch(r"top-([1-9]\d*)", str(returns))
    if match is None:
        raise ValueError(
            "returns must be 'probabilities', 'label' or 'top-k' with a "
            f"number for k, as in 'top-3', not {returns!r}"
        )
    return int(match[1])


def _names_of(classes) -> np.ndarray | None:
    """The names of the columns (c,), which nobody can change any more."""
    if classes is None:
        return None
    names = np.array(classes)
    # A list of numbers and words would become words, and 1 would be "1".
    kept = names.ndim == 1 and names.tolist() == list(classes)
    if not kept or len(set(names.tolist())) < max(2, len(names)):
        raise ValueError(
            "classes must be two different names or more, all numbers or all "
            f"words, one a column, as model.classes_, not {classes!r}"
        )
    names.setflags(write=False)
    return names


def _whole(name: str, value, least: int) -> int | None:
    return None if value is None else whole(name, value, least)


def _shape_of(predict_proba, declared) -> tuple[int, ...] | None:
    """The shape of one row, as declared or as the victim itself tells."""
    if declared is not None:
        sides = declared if isinstance(declared, (tuple, list)) else ()
        if not (sides and all(is_finite(n) and n >= 1 for n in sides)):
            raise ValueError(
                "input_shape must be a tuple of whole numbers above 0, as "
                f"(28, 28) or (30,), not {declared!r}"
            )
        return tuple(_whole("input_shape", n, least=1) for n in sides)
    for owner in (predict_proba, getattr(predict_proba, "__self__", None)):
        if hasattr(owner, "input_shape"):
            return tuple(owner.input_shape)
        if hasattr(owner, "n_features_in_"):
            return (int(owner.n_features_in_),)
    return None


def _probabilities(answer, n: int) -> np.ndarray:
    """A float64 copy of n probability vectors, or an error that says why."""
    answer = np.array(answer, dtype=np.float64)
    remedy = "pass a function that returns probability vectors"
    if answer.ndim != 2 or len(answer) != n or answer.shape[1] < 2:
        raise BadAnswer(
            f"{n} rows were answered by an array of shape {answer.shape}, "
            f"not ({n}, classes): {remedy}, one row each, two classes or more"
        )
    if not np.isfinite(answer).all():
        raise BadAnswer(f"the answers hold NaN or infinite values: {remedy}")
    least, sums = answer.min(), answer.sum(axis=1)
    off = np.abs(sums - 1).max()
    if least >= _ROUNDING and off <= _SUMS_OFF:
        return answer
    if least >= _ROUNDING and off < _SUMS_NEAR:
        raise BadAnswer(
            f"the answers are nearly probability vectors: a row's sum is off "
            f"1 by {off:.2g}, and {_SUMS_OFF:.0e} is the most that rounding "
            "may leave; divide each row by its sum, as in "
            "p / p.sum(axis=1, keepdims=True), in float64"
        )
    raise BadAnswer(
        f"the answers are no probability vectors (smallest entry {least:.3g}, "
        f"row sums {sums.min():.3g} to {sums.max():.3g}, off 1 by up to "
        f"{off:.2g}); are they logits? {remedy}, for instance the softmax of "
        "the logits"
    )
