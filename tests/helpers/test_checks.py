"""Input that is refused before anything is paid."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mexutils import checks

ROWS = np.array([[0.0, 1.0], [2.0, 0.0]])


@pytest.mark.parametrize(
    "given",
    [ROWS, ROWS.tolist(), pd.DataFrame(ROWS), sparse.csr_matrix(ROWS)],
    ids=["array", "lists", "frame", "sparse"],
)
def test_rows_of_any_kind_become_an_array(given):
    rows = checks.rows(given, 2)
    assert rows.dtype == float
    np.testing.assert_array_equal(rows, ROWS)


def test_pictures_are_rows_too():
    assert checks.rows(np.zeros((3, 1, 4, 4)), 1, None, None).shape[0] == 3


@pytest.mark.parametrize(
    ("x", "shape", "words"),
    [
        (ROWS, (3,), r"rows \(n, 3\).*\(2, 2\).*x\[None\]"),
        (ROWS[0], (2,), "one row is"),
        (np.empty((0, 2)), (2,), "at least one"),
        (ROWS, (1, None, None), r"rows \(n, 1, any, any\)"),
        (np.where(ROWS == 2, np.nan, ROWS), (), "pool holds NaN"),
        ([["a", "b"]], (), "must hold numbers: encode"),
        ([[1, 2], [3]], (), "must hold numbers"),
    ],
)
def test_what_are_no_rows_is_refused_by_name(x, shape, words):
    with pytest.raises(ValueError, match=words):
        checks.rows(x, *shape, name="pool")


def test_probabilities_are_divided_by_their_sums():
    found = checks.probabilities([[1, 3], [2, 2]], 2)
    np.testing.assert_array_equal(found, [[0.25, 0.75], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("p", "n", "words"),
    [
        ([[0.5, 0.5]], 2, "2 rows need as many"),
        ([[-0.1, 1.1]], 1, "softmax"),
        ([[0, 0]], 1, "0 or more"),
        ([0.5, 0.5], 2, "at least one"),
    ],
)
def test_what_are_no_probabilities_is_refused(p, n, words):
    with pytest.raises(ValueError, match=words):
        checks.probabilities(p, n)


def test_numbers_are_held_to_their_range():
    assert checks.share("part", 0.5) == 0.5
    assert checks.whole("budget", np.int64(3), 1) == 3
    for value in (-0.1, 1.1, np.nan, "1", True, None):
        with pytest.raises(ValueError, match="part must be a number from 0"):
            checks.share("part", value)
    for value in (0, 1.5, np.inf, "3", True, None):
        with pytest.raises(ValueError, match="budget must be a whole number"):
            checks.whole("budget", value, 1)
    with pytest.raises(ValueError, match="above the most, 9"):
        checks.whole("budget", 10, 1, 9)
