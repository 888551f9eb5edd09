"""The other side of the door: what an attacker puts before an API."""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from mexutils import checks
from mexutils.api import BudgetExceeded, ClientBlocked, PredictionAPI
from mexutils.metrics import as_probabilities

__all__ = ["Accounts", "LabelAndConfidence", "affordable"]


class Accounts:
    """An attacker who asks under several names, and keeps what was answered.

    api: what is asked. names: the client names. rows: sent in one call.

    Calls go to the names in turn. A name that the API has blocked is dropped
    and its call goes to the next one; after another error, such as
    `BudgetExceeded`, the name may ask again.
    """

    def __init__(
        self,
        api: PredictionAPI,
        names: Sequence[str] = ("attacker",),
        rows: int = 10,
    ):
        if isinstance(names, str) or not names or rows < 1:
            raise ValueError(
                "names must be a list of at least one client name, and rows "
                f"at least 1, not {names!r} and {rows!r}"
            )
        self._api, self._names, self._rows = api, deque(names), rows
        self._sent: list[np.ndarray] = []
        self._heard: list[np.ndarray] = []

    @property
    def returns(self) -> str:
        """What the API answers: its `returns`."""
        return self._api.returns

    @property
    def remaining(self) -> int | None:
        """Queries left in the API's budget, or None where it has none."""
        return self._api.remaining

    def query(self, x) -> np.ndarray:
        """The answers to the rows x, as `PredictionAPI.query` gives them.

        Raises `ClientBlocked` once every name is blocked; what was answered
        until then is in the transfer set.
        """
        x = np.asarray(x)
        first = len(self._heard)
        for start in range(0, len(x), self._rows):
            part = x[start : start + self._rows].copy()
            self._heard.append(self._ask(part))
            self._sent.append(part)
        return np.concatenate(self._heard[first:])

    def _ask(self, part: np.ndarray) -> np.ndarray:
        while self._names:
            name = self._names.popleft()
            try:
                answer = self._api.query(part, name)
            except ClientBlocked:
                continue
            except BaseException:
                self._names.appendleft(name)
                raise
            self._names.append(name)
            return answer
        raise ClientBlocked("every name of this attacker is blocked")

    def transfer_set(self) -> tuple[np.ndarray, np.ndarray]:
        """All rows that were answered, in order, and the answers.

        Raises `ValueError` where there is none.
        """
        if not self._heard:
            raise ValueError("nothing was answered: there is nothing to learn")
        return np.concatenate(self._sent), np.concatenate(self._heard)


def affordable(
    api, budget, least: int = 1, most: float = np.inf, name: str = "budget"
) -> int:
    """The budget as a whole number of queries that `api` has left to sell.

    api: its `remaining` is read where it has one. Raises `ValueError` for
    what is no whole number from least to most, and `BudgetExceeded` where
    the API sells no more so many.
    """
    budget = checks.whole(name, budget, least, most)
    left = getattr(api, "remaining", None)
    if left is not None and budget > left:
        raise BudgetExceeded(
            f"{name} = {budget}, and the API has {left} queries left: ask "
            "for no more than these; nothing was asked"
        )
    return budget


class LabelAndConfidence:
    """An API as path finding wants it: the answer is the name of a leaf.

    ask: rows (n, d) to answers, as `api.query`. classes: how many there are,
    needed where the answers are labels.
    """

    def __init__(self, ask: Callable, classes: int | None = None):
        self._ask, self._classes = ask, classes

    def query(self, x, known=None) -> np.ndarray:
        """Label and largest probability (n, 2) of complete rows x (n, d).

        known: which entries are known; here all must be.
        """
        if known is not None and not np.all(known):
            raise ValueError("only complete rows are answered here")
        answers = self._ask(x)
        if np.ndim(answers) == 1:
            answers = as_probabilities(answers, self._classes)
        return np.column_stack([answers.argmax(axis=1), answers.max(axis=1)])
