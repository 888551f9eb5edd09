"""How good a copy is: three different scores, and their spread over seeds."""

from typing import NamedTuple

import numpy as np
from scipy import stats

__all__ = [
    "Interval",
    "accuracy",
    "column",
    "fidelity",
    "interval",
    "labels_of",
    "paired_difference",
    "proportion_interval",
    "relative_accuracy",
    "spread_of",
    "total_variation",
]


def labels_of(answers) -> np.ndarray:
    """Labels (n,) of answers that are labels already or (n, c) scores."""
    answers = _finite(answers)
    if answers.ndim == 2:
        return answers.argmax(axis=1)
    if answers.ndim == 1:
        return answers
    raise ValueError(
        f"answers must be (n,) labels or (n, c) scores, not {answers.shape}"
    )


def accuracy(answers, truth) -> float:
    """Share of answers equal to the truth, 0 to 1."""
    return _agreement(answers, truth)


def fidelity(answers, victim_answers) -> float:
    """Share of answers equal to the victim's, right or wrong, 0 to 1.

    `1 - fidelity` is the test error R_test of Tramèr et al. (2016) on test
    rows, and R_unif on rows drawn uniformly.
    """
    return _agreement(answers, victim_answers)


def relative_accuracy(answers, victim_answers, truth) -> float:
    """The copy's accuracy divided by the victim's; it can exceed 1."""
    victim = accuracy(victim_answers, truth)
    if victim == 0:
        raise ValueError("the victim is never right: compare fidelities")
    return accuracy(answers, truth) / victim


def total_variation(p, q) -> float:
    """Mean of `1/2 sum_k |p_k - q_k|` over rows (n, c), 0 to 1."""
    p, q = _finite(p), _finite(q)
    if p.shape != q.shape or p.ndim != 2 or len(p) == 0:
        raise ValueError(
            f"two (n, c) arrays of one shape are needed, not {p.shape} and "
            f"{q.shape}"
        )
    return float(np.abs(p - q).sum(axis=1).mean() / 2)


class Interval(NamedTuple):
    """A value and the ends of its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        spec = spec or ".3g"
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def interval(values) -> Interval:
    """Mean of one value a seed, with Student's 95 % interval."""
    values = _finite(values)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(
            "an interval needs one value a seed, of two seeds or more, not "
            f"an array of shape {values.shape}"
        )
    mean = float(values.mean())
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return Interval(mean, mean - half, mean + half)


def column(runs, key: str) -> np.ndarray:
    """One score of several runs, as an array over seeds.

    runs: one dictionary of scores a seed.
    """
    return np.array([run[key] for run in runs])


def spread_of(runs, key: str) -> str:
    """One score of several runs in words: mean [95 % interval]."""
    return f"{interval(column(runs, key)):.1f}"


def paired_difference(first, second) -> Interval:
    """Mean of `first - second`, seed by seed, with its 95 % interval."""
    if np.shape(first) != np.shape(second):
        raise ValueError(
            f"{np.shape(first)} values cannot be paired with "
            f"{np.shape(second)}: give one of each a seed"
        )
    return interval(np.subtract(first, second))


def proportion_interval(successes: int, n: int) -> Interval:
    """A share out of n trials, with Wilson's 95 % interval."""
    result = stats.binomtest(int(successes), int(n))
    ends = result.proportion_ci(0.95, method="wilson")
    return Interval(successes / n, ends.low, ends.high)


def _finite(values) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("NaN or infinite values: drop or repair them")
    return values


def _agreement(first, second) -> float:
    first, second = labels_of(first), labels_of(second)
    if len(first) != len(second) or len(first) == 0:
        raise ValueError(
            f"{len(first)} answers cannot be compared with {len(second)}: "
            "both must be about the same rows, and at least one"
        )
    return float((first == second).mean())
