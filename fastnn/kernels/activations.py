"""Activations y = f(x) and their gradients dx = dy f'(x), in terms of y or of x; out may be the input.

Comparisons are written so that NaN falls through to the branch that keeps it.
"""

import numpy as np

from ._jit import inline
from ._vector import lanes, load, load_part, select, splat, store, store_part
from .operations import back_on_array, elementwise, on_array, setting
from .vectormath import apply, vsigmoid, vtanh


@inline
def _identity(x, settings):
    return x


@inline
def _identity_backward(d, x, y, settings):
    return d


@inline
def _relu(x, settings):
    return vrelu(x)


@inline
def _relu_backward(d, x, y, settings):
    return select(y > 0.0, d, select(y != y, y, 0.0))


@inline
def _leaky_relu(x, settings):
    slope = setting(x, settings, 0)
    return select(slope == 0.0, vrelu(x), vleaky_relu(x, slope))


@inline
def _leaky_relu_backward(d, x, y, settings):
    slope = setting(d, settings, 0)
    return select(y > 0.0, d, select(y != y, y, select(slope == 0.0, 0.0, d * slope)))


@inline
def _tanh(x, settings):
    return vtanh(x)


@inline
def _tanh_backward(d, x, y, settings):
    return d * (1.0 - y * y)


@inline
def _sigmoid(x, settings):
    return vsigmoid(x)


@inline
def _sigmoid_backward(d, x, y, settings):
    return d * y * (1.0 - y)


@inline
def vrelu(x):
    """The greater of x and 0."""
    return select(x < 0.0, 0.0, x)


@inline
def vleaky_relu(x, slope):
    """x where x > 0, else slope x."""
    return select(x > 0.0, x, x * slope)


# What the epilogue of a product does to its tiles, for the rows that it cannot have done it to.


@inline
def rectify(slope, x, out, n):
    """out[i] = x[i] where x[i] > 0, else slope x[i], for i < n."""
    if slope == 0.0:
        apply(vrelu, x, out, n)
    else:
        apply(vleaky_relu, x, out, n, slope)


@inline
def rectify_backward(slope, dy, y, out, n):
    """out[i] = dy[i] where y[i] > 0, else slope dy[i], for i < n."""
    width = lanes(y)
    for i in range(0, n, width):
        count = min(width, n - i)
        full = count == width
        d = load(dy, i) if full else load_part(dy, i, count, 0.0)
        v = load(y, i) if full else load_part(y, i, count, 0.0)
        other = d * slope if slope != 0.0 else splat(y, 0.0)
        d = select(v > 0.0, d, select(v != v, v, other))
        if full:
            store(out, i, d)
        else:
            store_part(out, i, count, d)


IDENTITY = elementwise("identity", _identity, _identity_backward)
RELU = elementwise("relu", _relu, _relu_backward)
LEAKY_RELU = elementwise("leaky_relu", _leaky_relu, _leaky_relu_backward)
TANH = elementwise("tanh", _tanh, _tanh_backward)
SIGMOID = elementwise("sigmoid", _sigmoid, _sigmoid_backward)


def identity(x: np.ndarray, out: np.ndarray) -> None:
    """y = x."""
    on_array(IDENTITY, x, out)


def identity_backward(dy: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    """dx = dy."""
    back_on_array(IDENTITY, dy, y, out)


def relu(x: np.ndarray, out: np.ndarray) -> None:
    """y = max(x, 0)."""
    on_array(RELU, x, out)


def relu_backward(dy: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    """dx = dy where y > 0, else 0."""
    back_on_array(RELU, dy, y, out)


def leaky_relu(x: np.ndarray, slope: float, out: np.ndarray) -> None:
    """y = x where x > 0, else slope x."""
    on_array(LEAKY_RELU, x, out, slope)


def leaky_relu_backward(dy: np.ndarray, y: np.ndarray, slope: float, out: np.ndarray) -> None:
    """dx = dy where y > 0, else slope dy."""
    back_on_array(LEAKY_RELU, dy, y, out, slope)


def tanh(x: np.ndarray, out: np.ndarray) -> None:
    """y = tanh x."""
    on_array(TANH, x, out)


def tanh_backward(dy: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    """dx = dy (1 - y²)."""
    back_on_array(TANH, dy, y, out)


def sigmoid(x: np.ndarray, out: np.ndarray) -> None:
    """y = 1 / (1 + e^-x)."""
    on_array(SIGMOID, x, out)


def sigmoid_backward(dy: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    """dx = dy y (1 - y)."""
    back_on_array(SIGMOID, dy, y, out)
