"""How good a copy is: three different scores, and their spread over seeds.

Answers are compared as labels. Scores (n, c) have places, 0 to c - 1, for
labels, and an API that answers labels answers places too, unless it was given
`classes`. What cannot be compared is refused with a `ValueError`: numbers
with words, whole numbers with fractions, scores with labels that are no
places of theirs, and places with classes where the mix-up shows
(`_refuse_places` says where).
"""

from numbers import Real
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
    "of_shares",
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
    """Share of answers equal to the truth, 0 to 1.

    answers, truth: (n,) labels, numbers or words, or (n, c) scores.
    Raises `ValueError` for what cannot be compared, with the remedy.
    """
    return _agreement(answers, truth)


def fidelity(answers, victim_answers) -> float:
    """Share of answers equal to the victim's, right or wrong, 0 to 1.

    Takes and refuses what `accuracy` does.
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


def _finite(values) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("NaN or infinite values: drop or repair them")
    return values


_ROUNDED = 1e-9  # how far rounding may carry a share beyond its ends
_REMEDY = (
    "name the classes: PredictionAPI(..., returns='label', "
    "classes=model.classes_), or model.classes_[scores.argmax(axis=1)]"
)
_TELLING = 20  # rows, from which a mix-up can be told from a bad copy


def _agreement(first, second) -> float:
    widths = [np.shape(a)[1] for a in (first, second) if np.ndim(a) == 2]
    first, second = labels_of(first), labels_of(second)
    if len(first) != len(second) or len(first) == 0:
        raise ValueError(
            f"{len(first)} answers cannot be compared with {len(second)}: "
            "both must be about the same rows, and at least one"
        )
    kinds = _kind(first), _kind(second)
    if sorted(kinds) == ["fractions", "numbers"]:
        raise ValueError(
            "fractions cannot be compared with whole numbers: scores (n,) of "
            "one class are no labels; compare scores > 0.5"
        )
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"{kinds[0]} cannot be compared with {kinds[1]}: {_REMEDY}"
        )
    if kinds[0] == "numbers":
        for c in widths:
            _refuse_strangers(c, first, second)
    share = float((first == second).mean())
    if kinds[0] == "numbers" and not widths:  # scores name their classes
        _refuse_places(first, second, share)
        _refuse_places(second, first, share)
    return share


def _kind(labels: np.ndarray) -> str:
    """What the labels are, in words."""
    if labels.dtype.kind in "biu":
        return "numbers"
    if labels.dtype.kind == "f":
        return "numbers" if (labels % 1 == 0).all() else "fractions"
    if labels.dtype.kind in "UT":
        return "words"
    if labels.dtype.kind == "O":
        if all(isinstance(label, str) for label in labels):
            return "words"
        if all(isinstance(label, Real) for label in labels):
            return "numbers"
        return "labels of several kinds"
    return f"labels of the type {labels.dtype.name}"


def _refuse_strangers(c: int, *sides: np.ndarray) -> None:
    """Refuse labels beside scores (n, c) that are none of their places."""
    for labels in sides:
        if not np.isin(labels, np.arange(c)).all():
            raise ValueError(
                f"scores of {c} classes have the places 0 to {c - 1} for "
                f"labels, and the labels beside them go from {labels.min()} "
                f"to {labels.max()}: {_REMEDY}"
            )


def _refuse_places(places, classes, share: float) -> None:
    """Refuse labels of which one side are places and the other classes.

    Two arrays of whole numbers do not say what they are. This is told by
    reading the one side as places among the sorted labels of the other: the
    mix-up shows where a fifth of the one side are labels that the other
    never has, and they then agree more often than they do as they are, by
    four standard deviations of a share of so many rows, and by a third more
    often than any single label would, on 20 rows or more: a poor copy that
    knows few of the classes is an honest one.
    It does not show where the answers are poor, where classes other than
    0, 1, 2, ... share most of their numbers with the places, or where the
    rows lack one of the classes.
    """
    if share > 0.5 or len(classes) < _TELLING:
        return
    names, counts = np.unique(classes, return_counts=True)
    if np.array_equal(names, range(len(names))):
        return
    if not np.isin(places, np.arange(len(names))).all():
        return
    if np.isin(places, names, invert=True).mean() < 1 / 5:
        return
    as_places = (names[places.astype(int)] == classes).mean()
    single = counts.max() / len(classes)
    margin = 2 / np.sqrt(len(classes))  # four standard deviations, at most
    if as_places >= share + margin and as_places > 4 / 3 * single:
        raise ValueError(
            f"{share:.1%} of the labels agree as they are, and "
            f"{as_places:.1%} do where 0 to {len(names) - 1} are read as "
            f"places among the classes {names[0]} to {names[-1]}: {_REMEDY}"
        )
