"""Layer normalisation of the rows of an array."""

import numpy as np
from numpy.typing import ArrayLike

from ..backend import active
from ..validation import Array, contiguous, dimensions, float_arrays, number, same_shape


def layer_norm(x: ArrayLike, weight: ArrayLike, bias: ArrayLike, eps: float = 1e-5) -> Array:
    """Return (x - mean) / √(variance + eps) weight + bias, row by row.

    Parameters
    ----------
    x : array_like (m, n)
    weight, bias : array_like (n,)
    eps : float
        Added to the variance, > 0.

    Returns
    -------
    ndarray (m, n)

    Raises
    ------
    ValueError
        If x has no columns, a shape does not fit, or eps is not > 0.
    TypeError
        If an array does not hold real numbers.

    Notes
    -----
    Source: J. L. Ba, J. R. Kiros and G. E. Hinton, Layer normalization, arXiv 1607.06450, 2016.
    """
    x, weight, bias = _checked(x, weight, bias)
    out = np.empty(x.shape, x.dtype)
    active().layer_norm(x, weight, bias, number("eps", eps, above=0), out)
    return out


def layer_norm_backward(
    dy: ArrayLike, x: ArrayLike, weight: ArrayLike, bias: ArrayLike, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Return the gradients of :func:`layer_norm` at x (m, n), weight (n,) and bias (n,), from dy (m, n).

    Other parameters and errors are those of :func:`layer_norm`.
    """
    dy, x, weight, bias = (
        contiguous(a) for a in float_arrays(("dy", dy), ("x", x), ("weight", weight), ("bias", bias))
    )
    x, weight, bias = _checked(x, weight, bias)
    same_shape("dy", dy, "x", x)
    dx, dweight, dbias = np.empty(x.shape, x.dtype), np.empty(weight.shape, x.dtype), np.empty(bias.shape, x.dtype)
    active().layer_norm_backward(dy, x, weight, bias, number("eps", eps, above=0), dx, dweight, dbias)
    return dx, dweight, dbias


def _checked(x: ArrayLike, weight: ArrayLike, bias: ArrayLike) -> tuple[Array, Array, Array]:
    x, weight, bias = (contiguous(array) for array in float_arrays(("x", x), ("weight", weight), ("bias", bias)))
    dimensions("x", x, 2)
    if x.shape[1] == 0:
        raise ValueError(f"x has shape {x.shape}, expected at least one column")
    for name, array in (("weight", weight), ("bias", bias)):
        if array.shape != x.shape[1:]:
            raise ValueError(f"{name} has shape {array.shape}, expected ({x.shape[1]},) as x has {x.shape[1]} columns")
    return x, weight, bias
