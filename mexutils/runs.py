"""Scores over seeds: means, paired differences and their intervals."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from mexutils.checks import finite

__all__ = [
    "Interval",
    "column",
    "interval",
    "of_shares",
    "paired_difference",
    "proportion_interval",
    "spread_of",
]

_ROUNDED = 1e-9  # how far rounding may carry a share beyond its ends


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
    values = finite(values)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(
            "an interval needs one value a seed, of two seeds or more, not "
            f"an array of shape {values.shape}"
        )
    mean = float(values.mean())
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return Interval(mean, mean - half, mean + half)


def of_shares(values) -> Interval:
    """Mean of one share a seed, with its 95 % interval cut off at 0 and 1.

    values: (n,) shares from 0 to 1, of two seeds or more; a share of a share
    may be off by rounding. The interval is Student's, and a mean of shares
    lies in no part of it that is below 0 or above 1.
    Raises `ValueError` for what is no share, as percent are not, and for what
    `interval` refuses.
    """
    ends = interval(values)
    if np.min(values) < -_ROUNDED or np.max(values) > 1 + _ROUNDED:
        raise ValueError(
            f"shares go from 0 to 1, and these go from {np.min(values):.3g} "
            f"to {np.max(values):.3g}: divide percent by 100"
        )
    return Interval(*(min(max(end, 0.0), 1.0) for end in ends))


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
