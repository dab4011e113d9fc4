"""Which samples of X a network trains on: rows of it by their places, with repetition, and never a copy of X."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..validation import FLOAT64, INT64, Array, DType, any_array, finite, real_array

_BLOCK_ELEMENTS = 1 << 19


class Rows(NamedTuple):
    """Rows as they were given, None for all, and what the argument is called."""

    value: Any = None
    name: str = "rows"


ALL = Rows()


def selection(rows: Any, name: str, n: int) -> Array:
    """Return the places (m,) int64 of rows among n: integers, or a mask (n,) of booleans.

    Raises
    ------
    ValueError
        If they are out of 0..n-1, empty, fractional, a mask of another length, or not in one dimension.
    TypeError
        If they are no numbers.
    """
    array = any_array(name, rows)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, expected the places (m,) of rows in X")
    if array.dtype.kind == "b":
        if len(array) != n:
            raise ValueError(f"{name} is a mask of {len(array)}, but X has {n} rows: they must be equal")
        array = np.flatnonzero(array)
    if array.size == 0:
        raise ValueError(f"{name} is empty: expected at least one row of X")
    if array.dtype.kind == "O":
        raise TypeError(f"{name} holds object values, expected integers 0..{n - 1}: use {name}.astype(int)")
    if array.dtype.kind not in "iu":
        array = real_array(name, array)
        whole = np.isfinite(array).all() and (array == np.floor(array)).all()
        came, fix = (f"{array.dtype} numbers", f": use {name}.astype(int)") if whole else ("fractions or NaN", "")
        raise ValueError(f"{name} holds {came}, expected integers 0..{n - 1}{fix}")
    for place in (int(array.min()), int(array.max())):
        if not 0 <= place < n:
            raise ValueError(f"{name} holds {place}, but X has {n} rows: rows must be 0..{n - 1}")
    return np.ascontiguousarray(array, INT64)


def own_rows(rows: Array, n: int) -> Array:
    """Return a copy that nobody else can change, of rows that :func:`selection` has returned."""
    return selection(rows.copy(), "rows", n)


def blocks(x: Array, rows: Array | None) -> Iterator[Array]:
    """Yield x whole, or the rows of it in turn, as many at once as take little memory."""
    if rows is None:
        yield x
        return
    size = max(1, _BLOCK_ELEMENTS * len(x) // max(x.size, 1))
    for start in range(0, len(rows), size):
        yield x[rows[start : start + size]]


def check_finite(x: Array, name: str, dtype: DType, rows: Array | None) -> None:
    """Raise ValueError if a row among those selected holds what is not finite; see :func:`fastnn.validation.finite`."""
    for block in blocks(x, rows):
        finite(name, block, dtype)


def is_finite(x: Array, dtype: DType = FLOAT64) -> bool:
    """Return whether all of x is finite, and stays so in ``dtype``."""
    try:
        finite("x", x, dtype)
    except ValueError:
        return False
    return True


def spread(values: Array, rows: Array, n: int) -> Array:
    """Return an array of n rows that has ``values`` at ``rows``, and zeros where nobody looks."""
    result = np.zeros((n, *values.shape[1:]), values.dtype)
    result[rows] = values
    return result
