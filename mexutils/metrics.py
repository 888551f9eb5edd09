"""How good a copy is: scores of one copy. Over seeds: `mexutils.runs`.

Answers are compared as labels. Scores (n, c) have places, 0 to c - 1, for
labels, and an API that answers labels answers places too, unless it was given
`classes`. What cannot be compared is refused with a `ValueError`: numbers
with words, whole numbers with fractions, scores with labels that are no
places of theirs, and places with classes where the mix-up shows
(`_refuse_places` says where).
"""

from numbers import Real

import numpy as np

from mexutils.checks import finite

MOST_CLASSES = 100_000
"""Labels from here on are taken for numbers of something, not for places."""

__all__ = [
    "accuracy",
    "are_places",
    "as_probabilities",
    "classes_in",
    "fidelity",
    "labels_of",
    "one_hot",
    "relative_accuracy",
    "scores",
    "total_variation",
]


def labels_of(answers) -> np.ndarray:
    """Labels (n,) of answers that are labels already or (n, c) scores."""
    answers = finite(answers)
    if answers.ndim == 2:
        return answers.argmax(axis=1)
    if answers.ndim == 1:
        return answers
    raise ValueError(
        f"answers must be (n,) labels or (n, c) scores, not {answers.shape}"
    )


def one_hot(labels, classes: int) -> np.ndarray:
    """Rows (n, classes) with a 1 in the place of each label (n,).

    Raises `ValueError` for labels that are no places, 0 to classes - 1.
    """
    labels = np.asarray(labels)
    if labels.dtype == bool or not np.isin(labels, range(classes)).all():
        raise ValueError(
            f"labels must be places from 0 to {classes - 1}: pass how many "
            "classes there are, or number them with np.unique(..., "
            "return_inverse=True)"
        )
    return np.eye(classes)[labels.astype(int)]


def as_probabilities(answers, classes: int) -> np.ndarray:
    """Answers as (n, classes) probabilities; labels (n,) become one-hot."""
    answers = np.asarray(answers)
    return one_hot(answers, classes) if answers.ndim == 1 else answers


def are_places(labels) -> bool:
    """Whether labels (n,) are places in a vector: 0, 1, 2, ..."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        return False
    return labels.min() >= 0 and labels.max() < MOST_CLASSES


def classes_in(answers) -> int:
    """How many classes answers tell of: (n, c) scores, or labels (n,).

    Raises `ValueError` for labels that are no places.
    """
    answers = np.asarray(answers)
    if answers.ndim == 2:
        return answers.shape[1]
    if not are_places(answers):
        raise ValueError(
            "labels must be places 0, 1, 2, ...: sell them without names, or "
            "number them with np.unique(answers, return_inverse=True)"
        )
    return int(answers.max()) + 1


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


def scores(answers, victim_answers, truth) -> dict[str, float]:
    """The three scores of one copy, in percent.

    answers, victim_answers: of copy and victim to the same rows; truth: their
    true labels. Returns "accuracy", "fidelity" and "relative".
    """
    return {
        "accuracy": 100 * accuracy(answers, truth),
        "fidelity": 100 * fidelity(answers, victim_answers),
        "relative": 100 * relative_accuracy(answers, victim_answers, truth),
    }


def total_variation(p, q) -> float:
    """Mean of `1/2 sum_k |p_k - q_k|` over rows (n, c), 0 to 1."""
    p, q = finite(p), finite(q)
    if p.shape != q.shape or p.ndim != 2 or len(p) == 0:
        raise ValueError(
            f"two (n, c) arrays of one shape are needed, not {p.shape} and "
            f"{q.shape}"
        )
    return float(np.abs(p - q).sum(axis=1).mean() / 2)


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
