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


def silu(x: ArrayLike) -> Array:
    """Return y = x σ(x), σ the sigmoid; see :class:`fastnn.SiLU`."""
    return activate("silu", x)


def silu_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """Return dx = dy (σ(x) + x σ(x) σ(-x)) for the input x of :func:`silu`; shapes are equal."""
    return activate_backward("silu", dy, ("x", x))


def mish(x: ArrayLike) -> Array:
    """Return y = x tanh(log(1 + e^x)); see :class:`fastnn.Mish`."""
    return activate("mish", x)


def mish_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """Return dx = dy (t + x σ(x) (1 - t²)), t = tanh(log(1 + e^x)), for the input x of :func:`mish`."""
    return activate_backward("mish", dy, ("x", x))


def elu(x: ArrayLike, alpha: float = 1.0) -> Array:
    """Return y = x where x > 0, else alpha (e^x - 1), for a finite alpha >= 0; see :class:`fastnn.ELU`."""
    return activate("elu", x, number("alpha", alpha, least=0))


def elu_backward(dy: ArrayLike, x: ArrayLike, alpha: float = 1.0) -> Array:
    """Return dx = dy where x > 0, else dy alpha e^x, for the input x of :func:`elu`; shapes are equal."""
    return activate_backward("elu", dy, ("x", x), number("alpha", alpha, least=0))


def selu(x: ArrayLike) -> Array:
    """Return y = λ x where x > 0, else λ α (e^x - 1), λ = 1.0507... and α = 1.6732...; see :class:`fastnn.SELU`."""
    return activate("selu", x)


def selu_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """Return dx = dy λ where x > 0, else dy λ α e^x, for the input x of :func:`selu`; shapes are equal."""
    return activate_backward("selu", dy, ("x", x))


def softplus(x: ArrayLike) -> Array:
    """Return y = log(1 + e^x), exact for any x, large ones and those of a tiny y; see :class:`fastnn.Softplus`."""
    return activate("softplus", x)


def softplus_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """Return dx = dy σ(x) for the input x of :func:`softplus`; shapes are equal."""
    return activate_backward("softplus", dy, ("x", x))


def hard_swish(x: ArrayLike) -> Array:
    """Return y = x min(max(x + 3, 0), 6) / 6; see :class:`fastnn.HardSwish`."""
    return activate("hard_swish", x)


def hard_swish_backward(dy: ArrayLike, x: ArrayLike) -> Array:
    """Return dx = dy (x/3 + 1/2) where |x| < 3, dy beyond 3 and 0 below -3, for the input x of :func:`hard_swish`."""
    return activate_backward("hard_swish", dy, ("x", x))


def activate(operation: str, x: ArrayLike, *settings: Any) -> Array:
    """Return y = f(x) for the activation that kernels and twins know by that name."""
    result: Array | None = getattr(active().quick, operation)(x, *settings)
    if result is not None:
        return result
    (x,) = float_arrays(("x", x))
    x = contiguous(x)
    out = np.empty(x.shape, x.dtype)
    getattr(active(), operation)(x, *settings, out)
    return out


def activate_backward(operation: str, dy: ArrayLike, kept: tuple[str, ArrayLike], *settings: Any) -> Array:
    """Return dx for what the activation of that name keeps: ("x", its input) or ("y", its output)."""
    result: Array | None = getattr(active().quick, f"{operation}_backward")(dy, kept[1], *settings)
    if result is not None:
        return result
    dy, values = float_arrays(("dy", dy), kept)
    same_shape("dy", dy, kept[0], values)
    dy, values = contiguous(dy), contiguous(values)
    out = np.empty(values.shape, values.dtype)
    getattr(active(), f"{operation}_backward")(dy, values, *settings, out)
    return out
