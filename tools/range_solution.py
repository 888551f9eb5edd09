"""The teacher's solution of the range, and the baselines that it must beat.

usage: range_solution.py URL KEY [solution | random | frugal | guess]

URL: the address of one account, as http://127.0.0.1:8000/student-01. The
solution uses the attacks of the book as their chapters define them, through
the same door as any student.
"""

import json
import sys
from collections.abc import Callable

import httpx
import numpy as np
from sklearn.svm import SVC

from mexutils import load_chapter
from mexutils.wire import RemoteAPI

__all__ = ["STRATEGIES", "Student"]

EQUATIONS = 2
"""Rows for each unknown of a class, since the answers are rounded."""
LABELS = 100
"""Rows that are bought where labels are all that is sold; chosen on victims of
other seeds than the tests play. PRADA's detector needs more for a verdict."""


class Student:
    """An account of the range, as its holder uses it.

    url: its address. key: its key. `given` is what it has from the start:
    rows, features, classes, returns, budget, price.
    """

    def __init__(self, url: str, key: str):
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(
            base_url=f"{url.rstrip('/')}/",
            headers=headers,
            timeout=60,
            trust_env=False,
        )
        self.given = self._send("GET", "rows")
        self.given["rows"] = np.array(self.given["rows"])
        self.api = RemoteAPI(url, "victim", key=key)

    def _send(self, method: str, door: str, message=None) -> dict:
        answer = self._http.request(method, door, json=message)
        if answer.status_code != 200:
            raise ValueError(answer.json()["error"])
        return answer.json()

    def close(self) -> np.ndarray:
        """Close the account for good; the rows (n, d) to label."""
        return np.array(self._send("POST", "close")["rows"])

    def submit(self, labels) -> dict:
        """Hand in the labels (n,) of the copy, once; the score."""
        whole = np.asarray(labels).astype(int).tolist()
        return self._send("POST", "submit", {"labels": whole})

    def hand_in(self, copy: Callable) -> dict:
        """Close, label the rows by the copy (rows to labels), hand in."""
        return self.submit(copy(self.close()))


def solution(student: Student, seed: int = 0) -> Callable:
    """The copy of an attack that fits what is sold, as a map to labels."""
    d = student.given["features"]
    if student.given["returns"] == "probabilities":
        stealml = load_chapter("attacks/stealml")
        x = stealml.uniform_rows(EQUATIONS * (d + 1), d, seed)
        theta = stealml.solve_rounded(x, student.api.query(x))
        return lambda rows: stealml.softmax_answers(theta, rows).argmax(1)
    by_label = load_chapter("attacks/stealml_labels")
    copy = by_label.retrain_adaptive(student.api, d, LABELS, learner, seed)
    return copy.predict


def learner(x, y) -> SVC:
    """What is trained on labels: a smooth boundary of any shape."""
    return SVC(C=100, gamma=0.5).fit(x, y)


def random_rows(student: Student, seed: int = 0) -> Callable:
    """A copy from the labels of a whole budget of uniform rows."""
    return uniform(student, student.given["budget"], seed)


def frugal(student: Student, seed: int = 0) -> Callable:
    """The same, from as many rows as the solution buys."""
    few = EQUATIONS * (student.given["features"] + 1)
    sold = student.given["returns"] == "probabilities"
    return uniform(student, few if sold else LABELS, seed)


def uniform(student: Student, n: int, seed: int) -> Callable:
    """A copy from the labels of n uniform rows."""
    by_label = load_chapter("attacks/stealml_labels")
    d = student.given["features"]
    return by_label.retrain_uniform(student.api, d, n, learner, seed).predict


def guess(student: Student, seed: int = 0) -> Callable:
    """A label by chance for each row, and nothing paid."""
    rng, c = np.random.default_rng(seed), student.given["classes"]
    return lambda rows: rng.integers(c, size=len(rows))


STRATEGIES = {
    "solution": solution,
    "random": random_rows,
    "frugal": frugal,
    "guess": guess,
}
"""Name to what makes a copy of an account."""


def main(arguments: list[str] | None = None) -> int:
    """Play one account and print its score."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) not in (2, 3) or not set(given[2:]) <= set(STRATEGIES):
        print(__doc__, file=sys.stderr)
        return 2
    student = Student(*given[:2])
    copy = STRATEGIES[given[2] if len(given) == 3 else "solution"](student)
    print(json.dumps(student.hand_in(copy), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
