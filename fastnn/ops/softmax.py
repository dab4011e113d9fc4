"""Softmax, log-softmax and log-sum-exp along any axes, with the edge cases of scipy.special.

Source: P. Blanchard, D. J. Higham and N. J. Higham, Accurately computing the log-sum-exp and softmax functions,
IMA J. Numer. Anal. 41(4), 2021.
"""

from collections.abc import Callable
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike

from ..backend import active
from ..validation import Array, are_plain, checked_out, contiguous, float_arrays, may_overlap

Axis = int | tuple[int, ...] | None


def softmax(s: ArrayLike, axis: Axis = -1, out: Array | None = None) -> Array:
    """Return P = e^(s - max) / Σ e^(s - max), the maximum and the sum taken along ``axis``.

    Parameters
    ----------
    s : array_like of any shape
        Scores. A maximum of ±inf or a NaN among them gives NaN.
    axis : int, tuple of ints or None
        The axes to normalise over; None for all of them.
    out : ndarray of the shape of s, optional
        Where the result goes: writeable and of the result's dtype. It may be ``s`` itself, or overlap it. Fresh memory
        for a large result comes from the system page by page, which takes a good part of a call.

    Returns
    -------
    ndarray of the shape of s
        float32 for float32, else float64; ``out`` itself where it is given.

    Raises
    ------
    ValueError
        If an axis does not exist or is given twice, if there are sums over no scores at all, or ``out`` cannot take the
        result.
    TypeError
        If ``s`` does not hold real numbers, or ``out`` has another dtype.
    """
    quick, result = active().quick, None
    if axis == -1:
        result = quick.softmax(s) if out is None else quick.softmax(s, out)
    return _normalise(active().softmax, s, axis, out) if result is None else result


def log_softmax(s: ArrayLike, axis: Axis = -1, out: Array | None = None) -> Array:
    """Return log P = (s - max) - log Σ e^(s - max) along ``axis``.

    It keeps its digits where the logarithm of :func:`softmax` would be -inf. Parameters, result and errors are those
    of :func:`softmax`; a score of -inf next to finite ones gives -inf.
    """
    quick, result = active().quick, None
    if axis == -1:
        result = quick.log_softmax(s) if out is None else quick.log_softmax(s, out)
    return _normalise(active().log_softmax, s, axis, out) if result is None else result


def logsumexp(s: ArrayLike, axis: Axis = -1) -> Array:
    """Return log Σ e^s along ``axis``, computed as max + log Σ e^(s - max).

    Parameters
    ----------
    s : array_like of any shape
        Scores: -inf counts as nothing, +inf gives +inf, NaN gives NaN.
    axis : int, tuple of ints or None
        The axes to sum over; None for all of them. A sum over nothing is -inf.

    Returns
    -------
    ndarray of the shape of s without ``axis``, or a NumPy scalar
        float32 for float32, else float64.

    Raises
    ------
    ValueError
        If an axis does not exist or is given twice.
    TypeError
        If ``s`` does not hold real numbers.
    """
    quick: Array | None = active().quick.logsumexp(s) if axis == -1 else None
    if quick is not None:
        return quick
    if _are_rows(s, axis):
        sums: Array = np.empty(len(s), s.dtype)
        active().logsumexp(s, sums)
        return sums
    rows, kept, _ = _as_rows(s, axis)
    out = np.full(len(rows), -np.inf, rows.dtype)
    if rows.size:
        active().logsumexp(rows, out)
    result: Array = out.reshape(kept)[()]
    return result


def _normalise(kernel: Callable[[Array, Array], None], s: ArrayLike, axis: Axis, out: Array | None) -> Array:
    if _are_rows(s, axis) and (out is None or _is_plain_out(out, s)):
        result: Array = np.empty(s.shape, s.dtype) if out is None else out
        kernel(s, result)
        return result
    rows, kept, axes = _as_rows(s, axis)
    if rows.shape[1] == 0 and len(rows):
        raise ValueError(f"s has shape {np.shape(s)}: there are no scores along axis {axis} to normalise")
    shape = np.shape(s)
    last = tuple(range(len(kept), len(shape)))
    target = None if out is None else checked_out(out, shape, rows.dtype)
    direct = target is not None and target.flags.carray and axes == last and _may_write(target, rows)
    values = target.reshape(rows.shape) if target is not None and direct else np.empty(rows.shape, rows.dtype)
    if rows.size:
        kernel(rows, values)
    moved = values.reshape(kept + tuple(shape[a] for a in axes))
    moved = moved if axes == last else np.moveaxis(moved, last, axes)
    if out is None or target is None:
        return moved
    if not direct:
        target[...] = moved
    return out


def _is_plain_out(out: Array, s: Array) -> bool:
    """Whether kernels take ``out`` as it is."""
    return are_plain(s, out) and out.shape == s.shape and out.flags.carray and _may_write(out, s)


def _may_write(out: Array, rows: Array) -> bool:
    """Whether kernels may write there what they make of rows: where none of them lies, or just where they lie."""
    if out is rows or not may_overlap(out, rows):
        return True
    return bool(out.__array_interface__["data"][0] == rows.__array_interface__["data"][0])


def _are_rows(s: ArrayLike, axis: Axis) -> TypeGuard[Array]:
    """Whether kernels take s as it is; then it is too large for the quick way, or nothing is compiled yet."""
    plain: Any = s
    return bool(axis == -1 and are_plain(s) and plain.ndim == 2 and plain.size > 0 and contiguous(plain) is plain)


def _as_rows(s: ArrayLike, axis: Axis) -> tuple[Array, tuple[int, ...], tuple[int, ...]]:
    """Return s as rows (m, k) with ``axis`` along k, the shape of what is not summed over, and the axes in order."""
    (array,) = float_arrays(("s", s))
    if array.ndim == 0 and axis in (-1, 0):
        axis = None
    axes = _axes(axis, array.ndim)
    kept = tuple(array.shape[a] for a in range(array.ndim) if a not in axes)
    last = tuple(range(array.ndim - len(axes), array.ndim))
    moved = array if axes == last else np.moveaxis(array, axes, last)
    k = int(np.prod([array.shape[a] for a in axes], dtype=np.int64))
    return contiguous(moved).reshape(int(np.prod(kept, dtype=np.int64)), k), kept, axes


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, tuple) else (axis,)
    axes = []
    for a in given:
        if isinstance(a, bool) or not isinstance(a, (int, np.integer)):
            raise TypeError(f"axis is {axis!r}, expected an integer, a tuple of integers or None")
        if not -ndim <= a < ndim:
            raise ValueError(f"axis is {axis!r}, but s has {ndim} dimensions: expected {-ndim}..{ndim - 1}")
        axes.append(int(a) % ndim)
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis is {axis!r}, which names an axis twice")
    return tuple(sorted(axes))
