"""Rows of a file, as who audits an endpoint brings them: refused or exact."""

from pathlib import Path

import numpy as np
import pandas as pd

from mexutils.api import checked_rows

__all__ = ["LEAST_ROWS", "read_rows"]

LEAST_ROWS = 40
"""Rows of the reader's: half to judge by, half to attack with."""


def read_rows(path, labels=""):
    """Rows (n, ...) float64 and labels (n,) or None, of a file.

    path: a .csv or .parquet file with named columns, or a .npy file. labels:
    the column of the true classes, or, beside an .npy file, another one.
    Raises `ValueError` that names the file and says what to do.
    """
    if not str(path):
        raise ValueError(
            "rows= is needed: a CSV, Parquet or NPY file of rows like those "
            "that customers send"
        )
    path, labels = Path(path), str(labels)
    if not path.is_file():
        raise FileNotFoundError(f"rows={path}: there is no such file")
    kind = path.suffix.lower()
    if kind == ".npy":
        x, y = _array(path), None
        if labels:
            y = _array(Path(labels), "labels", "fiubUS")
    elif kind in (".csv", ".parquet"):
        x, y = _of_frame(_frame(path, kind), path, labels)
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


def _array(path, name="rows", kinds="fiub"):
    """The array of an .npy file, of one of the kinds."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{name}={path}: there is no such file, and beside rows in an "
            ".npy file labels are another one"
        )
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"{name}={path} is no .npy file of numbers: write it by "
            "numpy.save, of one array of numbers"
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
        raise ValueError(
            f"{name}={path} holds {getattr(array, 'dtype', 'several arrays')}"
            ", and numbers are needed: encode words as customers do"
        )
    return array


def _frame(path, kind):
    """The table of a file, as pandas reads it."""
    try:
        if kind == ".csv":
            return pd.read_csv(path)
        return pd.read_parquet(path)
    except ImportError as error:
        raise ValueError(
            f"rows={path}: reading Parquet needs fastparquet or pyarrow: pip "
            "install mexutils[audit], or save the rows as CSV"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"rows={path} cannot be read ({error}): save it as UTF-8"
        ) from error
    except Exception as error:  # of three libraries
        raise ValueError(
            f"rows={path} cannot be read: {str(error)[:300]}"
        ) from error


def _of_frame(frame, path, labels):
    """Rows (n, d) and labels of a table, or what is wrong with it."""
    _check_names(frame, path)
    if labels and labels not in frame.columns:
        raise ValueError(
            f"labels={labels} is no column of {path}: it has "
            f"{', '.join(map(str, frame.columns))}"
        )
    y = frame.pop(labels) if labels else None
    if not len(frame.columns):
        raise ValueError(f"{path} has no column beside {labels}")
    words = [c for c in frame if not _is_numeric(frame[c])]
    if words:
        some = frame[words[0]].dropna()
        shown = f" ({str(some.iloc[0])[:20]!r}, say)" if len(some) else ""
        raise ValueError(
            f"{path} holds words in {', '.join(map(str, words))}{shown}: rows "
            "travel as numbers; encode these columns as customers do, or name "
            "the one of the classes by labels="
        )
    for column in frame:
        _check_full(frame[column], path, "a missing value as customers do")
    if y is not None:
        _check_full(y, path, "None, NA, nan and null in another word")
    return frame.to_numpy(float), None if y is None else y.to_numpy()


def _is_numeric(column):
    numeric = pd.api.types.is_numeric_dtype(column)
    return numeric and not pd.api.types.is_complex_dtype(column)


def _check_full(column, path, remedy):
    empty = np.flatnonzero(column.isna())
    if len(empty):
        raise ValueError(
            f"{path} has NaN or empty entries in the column {column.name}, "
            f"{len(empty)} of them, the first in row {empty[0]}: drop these "
            f"rows, or write {remedy}"
        )


def _check_names(frame, path):
    """The names of columns are names, and no row, index or whole line."""
    names = [str(name) for name in frame.columns]
    numbers = [n for n in map(_number, names) if n is not None]
    in_order = all(np.diff(numbers) > 0) and all(n % 1 == 0 for n in numbers)
    if len(numbers) > len(names) / 2 and not in_order:
        raise ValueError(
            f"the first line of {path} holds numbers ({', '.join(names[:3])}"
            ", ...) where the names of its columns belong: put a line of "
            "names above it"
        )
    nameless = [n for n in names if n.startswith("Unnamed: ")]
    if nameless:
        place = int(nameless[0].split()[1])
        raise ValueError(
            f"column {place} of {path} has no name: an index that was saved "
            "with the rows? save them without (index=False), or name it"
        )
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise ValueError(
            f"{path} has one column, called {names[0]!r}: write it with "
            "commas between its columns"
        )


def _number(word):
    try:
        return float(word)
    except ValueError:
        return None
