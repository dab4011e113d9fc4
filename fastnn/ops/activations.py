"""Activations y = f(x), elementwise over arrays of any shape, and their gradients dx = dy f'(x) written in y."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backend import active
from ..validation import Array, contiguous, float_arrays, number, same_shape


def identity(x: ArrayLike) -> Array:
    """Return y = x as a new array."""
    return _forward("identity", x)


def identity_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dx = dy for the output y of :func:`identity`; shapes are equal."""
    return _backward("identity_backward", dy, y)


def relu(x: ArrayLike) -> Array:
    """Return y = max(x, 0)."""
    return _forward("relu", x)


def relu_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dx = dy where y > 0, else 0, for the output y of :func:`relu`; shapes are equal."""
    return _backward("relu_backward", dy, y)


def leaky_relu(x: ArrayLike, slope: float = 0.01) -> Array:
    """Return y = x where x > 0, else slope x, for a finite slope >= 0."""
    return _forward("leaky_relu", x, number("slope", slope, least=0))


def leaky_relu_backward(dy: ArrayLike, y: ArrayLike, slope: float = 0.01) -> Array:
    """Return dx = dy where y > 0, else slope dy, for the output y of :func:`leaky_relu`; shapes are equal."""
    return _backward("leaky_relu_backward", dy, y, number("slope", slope, least=0))


def tanh(x: ArrayLike) -> Array:
    """Return y = tanh x."""
    return _forward("tanh", x)


def tanh_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dx = dy (1 - y²) for the output y of :func:`tanh`; shapes are equal."""
    return _backward("tanh_backward", dy, y)


def sigmoid(x: ArrayLike) -> Array:
    """Return y = 1 / (1 + e^-x), without overflow for any x."""
    return _forward("sigmoid", x)


def sigmoid_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dx = dy y (1 - y) for the output y of :func:`sigmoid`; shapes are equal."""
    return _backward("sigmoid_backward", dy, y)


def _forward(name: str, x: ArrayLike, *settings: Any) -> Array:
    (x,) = float_arrays(("x", x))
    x = contiguous(x)
    out = np.empty(x.shape, x.dtype)
    getattr(active(), name)(x, *settings, out)
    return out


def _backward(name: str, dy: ArrayLike, y: ArrayLike, *settings: Any) -> Array:
    dy, y = float_arrays(("dy", dy), ("y", y))
    same_shape("dy", dy, "y", y)
    dy, y = contiguous(dy), contiguous(y)
    out = np.empty(y.shape, y.dtype)
    getattr(active(), name)(dy, y, *settings, out)
    return out
