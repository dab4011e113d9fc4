"""Activations y = f(x), elementwise over arrays of any shape, and their gradients dx = dy f'(x) in terms of y or x."""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..backend import active
from ..validation import Array, contiguous, float_arrays, number, same_shape


def identity(x: ArrayLike) -> Array:
    """Return y = x as a new array."""
    return activate("identity", x)


def identity_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dx = dy for the output y of :func:`identity`; shapes are equal."""
    return activate_backward("identity", dy, ("y", y))


def relu(x: ArrayLike) -> Array:
    """Return y = max(x, 0)."""
    return activate("relu", x)


def relu_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dx = dy where y > 0, else 0, for the output y of :func:`relu`; shapes are equal."""
    return activate_backward("relu", dy, ("y", y))


def leaky_relu(x: ArrayLike, slope: float = 0.01) -> Array:
    """Return y = x where x > 0, else slope x, for a finite slope >= 0."""
    return activate("leaky_relu", x, number("slope", slope, least=0))


def leaky_relu_backward(dy: ArrayLike, y: ArrayLike, slope: float = 0.01) -> Array:
    """Return dx = dy where y > 0, else slope dy, for the output y of :func:`leaky_relu`; shapes are equal."""
    return activate_backward("leaky_relu", dy, ("y", y), number("slope", slope, least=0))


def tanh(x: ArrayLike) -> Array:
    """Return y = tanh x."""
    return activate("tanh", x)


def tanh_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dx = dy (1 - y²) for the output y of :func:`tanh`; shapes are equal."""
    return activate_backward("tanh", dy, ("y", y))


def sigmoid(x: ArrayLike) -> Array:
    """Return y = 1 / (1 + e^-x), without overflow for any x."""
    return activate("sigmoid", x)


def sigmoid_backward(dy: ArrayLike, y: ArrayLike) -> Array:
    """Return dx = dy y (1 - y) for the output y of :func:`sigmoid`; shapes are equal."""
    return activate_backward("sigmoid", dy, ("y", y))


def gelu(x: ArrayLike, approximate: Literal["none", "tanh"] = "none") -> Array:
    """Return y = x Φ(x), Φ the normal distribution's, or with tanh in its place; see :class:`fastnn.GELU`."""
    return activate(gelu_operation(approximate), x)


def gelu_backward(dy: ArrayLike, x: ArrayLike, approximate: Literal["none", "tanh"] = "none") -> Array:
    """Return dx = dy (Φ(x) + x Φ'(x)), or that with tanh, for the input x of :func:`gelu`; shapes are equal."""
    return activate_backward(gelu_operation(approximate), dy, ("x", x))


def gelu_operation(approximate: Any) -> str:
    """Return the name of the operation behind each formula of GELU."""
    names = {"none": "gelu", "tanh": "gelu_tanh"}
    if not isinstance(approximate, str) or approximate not in names:
        raise ValueError(f"approximate is {approximate!r}, expected 'none' or 'tanh'")
    return names[approximate]


def activate(operation: str, x: ArrayLike, *settings: Any) -> Array:
    """Return y = f(x) for the activation that kernels and twins know by that name."""
    (x,) = float_arrays(("x", x))
    x = contiguous(x)
    out = np.empty(x.shape, x.dtype)
    getattr(active(), operation)(x, *settings, out)
    return out


def activate_backward(operation: str, dy: ArrayLike, kept: tuple[str, ArrayLike], *settings: Any) -> Array:
    """Return dx for what the activation of that name keeps: ("x", its input) or ("y", its output)."""
    dy, values = float_arrays(("dy", dy), kept)
    same_shape("dy", dy, kept[0], values)
    dy, values = contiguous(dy), contiguous(values)
    out = np.empty(values.shape, values.dtype)
    getattr(active(), f"{operation}_backward")(dy, values, *settings, out)
    return out
