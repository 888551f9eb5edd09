"""Input that is refused before anything is paid, with the remedy."""

from numbers import Real

import numpy as np

__all__ = ["finite", "is_finite", "probabilities", "rows", "share", "whole"]


def finite(values) -> np.ndarray:
    """The values as an array; `ValueError` for NaN and infinite ones."""
    values = np.asarray(values)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("NaN or infinite values: drop or repair them")
    return values


def rows(x, *shape: int | None, name: str = "x") -> np.ndarray:
    """The rows x as (n, *shape) float64, n of 1 or more.

    shape: of one row; None for any length; (None,) where it is left out.
    Frames, sparse matrices and lists of rows are taken as well. Raises
    `ValueError` that says what is wrong with `name` and what to do.
    """
    wanted = shape or (None,)
    if hasattr(x, "toarray"):  # a sparse matrix
        x = x.toarray()
    try:
        x = np.asarray(x, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must hold numbers: encode words and categories first"
        ) from error
    fits = x.ndim == 1 + len(wanted) and all(
        side is None or side == length
        for side, length in zip(wanted, x.shape[1:], strict=True)
    )
    if not fits or x.size == 0:
        sides = ", ".join("any" if s is None else str(s) for s in wanted)
        raise ValueError(
            f"{name} must be rows (n, {sides}), at least one, not an array "
            f"of shape {x.shape}: one row is x[None]"
        )
    if not np.isfinite(x).all():
        raise ValueError(
            f"{name} holds NaN or infinite values: drop or repair those rows"
        )
    return x


def probabilities(p, n: int, name: str = "answers") -> np.ndarray:
    """n rows of probabilities (n, c) as float64, each divided by its sum.

    Raises `ValueError` for other shapes, negative entries and rows of 0.
    """
    p = rows(p, None, name=name)
    if len(p) != n:
        raise ValueError(
            f"{n} rows need as many rows of probabilities, not {p.shape}"
        )
    if p.min() < 0 or p.sum(axis=1).min() <= 0:
        raise ValueError(
            f"{name} must be probabilities, 0 or more: of logits, pass the "
            "softmax"
        )
    return p / p.sum(axis=1, keepdims=True)


def share(name: str, value, low: float = 0.0, high: float = 1.0) -> float:
    """The value, from low to high, as a float; else a `ValueError`."""
    if not is_finite(value) or not low <= value <= high:
        raise ValueError(
            f"{name} must be a number from {low:g} to {high:g}, not {value!r}"
        )
    return float(value)


def whole(name: str, value, least: int, most: float = np.inf) -> int:
    """The value as a whole number from least to most; else a `ValueError`."""
    if not is_finite(value) or value != int(value) or value < least:
        raise ValueError(
            f"{name} must be a whole number, {least} or more, not {value!r}"
        )
    if value > most:
        raise ValueError(f"{name} = {value} is above the most, {most}")
    return int(value)


def is_finite(value) -> bool:
    """Whether the value is one finite number."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and bool(np.isfinite(value))
