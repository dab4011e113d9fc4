"""Matrix products and the linear layer."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backend import active
from ..validation import Array, are_plain, checked_out, dimensions, float_arrays, may_overlap, number, same_length


def matmul(a: ArrayLike, b: ArrayLike, out: Array | None = None) -> Array:
    """Return the matrix product of a and b.

    Parameters
    ----------
    a : array_like (m, k)
    b : array_like (k, n)
        Strided, transposed and read-only views are used as they are, without a copy.
    out : ndarray (m, n), optional
        Where the result goes: writeable and of the result's dtype. It may overlap ``a`` and ``b``.

    Returns
    -------
    ndarray (m, n)
        float32 if both are float32, else float64; ``out`` itself where it is given.

    Raises
    ------
    ValueError
        If a shape does not fit, or ``out`` cannot take the result.
    TypeError
        If an array does not hold real numbers, or ``out`` has another dtype.
    """
    quick = active().quick
    result: Array | None = quick.matmul(a, b) if out is None else quick.matmul(a, b, out)
    return _matmul(a, b, out) if result is None else result


def linear(x: ArrayLike, w: ArrayLike, b: ArrayLike) -> Array:
    """Return x w + b.

    Parameters
    ----------
    x : array_like (m, d)
    w : array_like (d, k)
    b : array_like (k,)

    Returns
    -------
    ndarray (m, k)
        float32 if all three are float32, else float64.

    Raises
    ------
    ValueError
        If a shape does not fit.
    TypeError
        If an array does not hold real numbers.
    """
    result: Array | None = active().quick.linear(x, w, b)
    if result is not None:
        return result
    x, w, b = float_arrays(("x", x), ("w", w), ("b", b))
    _check_product(x, w)
    if b.shape != w.shape[1:]:
        raise ValueError(f"b has shape {b.shape}, expected {w.shape[1:]}, one for each column of w")
    out = np.empty((x.shape[0], w.shape[1]), x.dtype)
    active().linear(x, w, b, out)
    return out


def linear_backward(dy: ArrayLike, x: ArrayLike, w: ArrayLike, l2: float = 0.0) -> tuple[Array, Array, Array]:
    """Return the gradients of a linear layer: dx = dy wᵀ, dw = xᵀ dy + 2 l2 w and db = Σ dy over the rows.

    Parameters
    ----------
    dy : array_like (m, k)
        The gradient of the loss with respect to x w + b.
    x : array_like (m, d)
    w : array_like (d, k)
    l2 : float
        The factor λ >= 0 of the penalty λ Σ w².

    Returns
    -------
    dx, dw, db : ndarray (m, d), (d, k), (k,)

    Raises
    ------
    ValueError
        If a shape does not fit, or ``l2`` is negative or not finite.
    TypeError
        If an array does not hold real numbers.
    """
    dy, x, w = float_arrays(("dy", dy), ("x", x), ("w", w))
    _check_product(x, w)
    dimensions("dy", dy, 2)
    same_length("dy", dy, x.shape[0])
    if dy.shape[1] != w.shape[1]:
        raise ValueError(f"dy has {dy.shape[1]} columns, but w has {w.shape[1]}: they must be equal")
    l2 = number("l2", l2, least=0)
    dx, dw, db = np.empty(x.shape, x.dtype), np.empty(w.shape, w.dtype), np.empty(w.shape[1], w.dtype)
    active().linear_backward(dy, x, w, l2, dx, dw, db)
    return dx, dw, db


def _matmul(a: ArrayLike, b: ArrayLike, out: Array | None) -> Array:
    """The product of whatever may be multiplied."""
    pair: Any = (a, b) if are_plain(a, b) else float_arrays(("a", a), ("b", b))
    left, right = pair
    if left.ndim != 2 or right.ndim != 2:
        dimensions("a", left, 2)
        dimensions("b", right, 2)
    (m, k), (rows, n) = left.shape, right.shape
    if k != rows:
        raise ValueError(
            f"a has shape {left.shape} and b has shape {right.shape}: the columns of a must be the rows of b"
        )
    shape = (m, n)
    if out is None:
        out = np.empty(shape, left.dtype)
        active().matmul(left, right, out)
        return out
    target = checked_out(out, shape, left.dtype)
    fits = target.flags.carray or _has_whole_rows(target)
    direct = fits and not (may_overlap(target, left) or may_overlap(target, right))
    result = target if direct else np.empty(shape, left.dtype)
    active().matmul(left, right, result)
    if not direct:
        target[...] = result
    return out


def _check_product(x: Array, w: Array) -> None:
    dimensions("x", x, 2)
    dimensions("w", w, 2)
    if x.shape[1] != w.shape[0]:
        raise ValueError(f"x has {x.shape[1]} columns, but w has {w.shape[0]} rows: they must be equal")


def _has_whole_rows(out: Array) -> bool:
    """Whether rows are contiguous and strides whole elements, as kernels count them: packed records have none."""
    has_rows = out.shape[1] <= 1 or out.strides[1] == out.itemsize
    return has_rows and out.flags.aligned and all(stride % out.itemsize == 0 for stride in out.strides)
