"""Activations y = f(x) and their gradients dx = dy f'(x), in terms of y; out may be the input.

Comparisons are written so that NaN falls through to the branch that keeps it.
"""

import numpy as np

from ._address import as_writeable
from ._jit import inline, kernel
from ._vector import data, lanes, load, load_part, select, splat, store, store_part
from .vectormath import apply, vsigmoid, vtanh

# The codes of a network-as-data.
IDENTITY, RELU, LEAKY_RELU, TANH, SIGMOID = range(5)


@inline
def vrelu(x):
    """The greater of x and 0."""
    return select(x < 0.0, 0.0, x)


@inline
def vleaky_relu(x, slope):
    """x where x > 0, else slope x."""
    return select(x > 0.0, x, x * slope)


@inline
def activate(activation, slope, x, out, n):
    """out[i] = f(x[i]) for i < n."""
    if activation == RELU or (activation == LEAKY_RELU and slope == 0.0):
        apply(vrelu, x, out, n)
    elif activation == LEAKY_RELU:
        apply(vleaky_relu, x, out, n, slope)
    elif activation == TANH:
        apply(vtanh, x, out, n)
    elif activation == SIGMOID:
        apply(vsigmoid, x, out, n)
    else:
        apply(_same, x, out, n)


@inline
def _same(x):
    return x


@inline
def gate(activation, slope, dy, y, out, n):
    """out[i] = dy[i] f'(x[i]) for i < n, where y = f(x)."""
    width = lanes(y)
    zero = splat(y, 0.0)
    if activation == LEAKY_RELU and slope == 0.0:
        activation = RELU
    for i in range(0, n, width):
        count = min(width, n - i)
        full = count == width
        d = load(dy, i) if full else load_part(dy, i, count, 0.0)
        v = load(y, i) if full else load_part(y, i, count, 0.0)
        if activation == RELU:
            d = select(v > 0.0, d, select(v != v, v, zero))
        elif activation == LEAKY_RELU:
            d = select(v > 0.0, d, select(v != v, v, d * slope))
        elif activation == TANH:
            d = d * (1.0 - v * v)
        elif activation == SIGMOID:
            d = d * v * (1.0 - v)
        if full:
            store(out, i, d)
        else:
            store_part(out, i, count, d)


@kernel
def _activate(activation, slope, x, out):
    activate(activation, slope, data(x), data(out), x.size)


@kernel
def _gate(activation, slope, dy, y, out):
    gate(activation, slope, data(dy), data(y), data(out), y.size)


def _forward(activation: int, slope: float, x: np.ndarray, out: np.ndarray) -> None:
    _activate(activation, slope, as_writeable(x.reshape(-1)), out.reshape(-1))


def _backward(activation: int, slope: float, dy: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    _gate(activation, slope, as_writeable(dy.reshape(-1)), as_writeable(y.reshape(-1)), out.reshape(-1))


def identity(x: np.ndarray, out: np.ndarray) -> None:
    """y = x."""
    _forward(IDENTITY, 0.0, x, out)


def identity_backward(dy: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    """dx = dy."""
    _backward(IDENTITY, 0.0, dy, y, out)


def relu(x: np.ndarray, out: np.ndarray) -> None:
    """y = max(x, 0)."""
    _forward(RELU, 0.0, x, out)


def relu_backward(dy: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    """dx = dy where y > 0, else 0."""
    _backward(RELU, 0.0, dy, y, out)


def leaky_relu(x: np.ndarray, slope: float, out: np.ndarray) -> None:
    """y = x where x > 0, else slope x."""
    _forward(LEAKY_RELU, slope, x, out)


def leaky_relu_backward(dy: np.ndarray, y: np.ndarray, slope: float, out: np.ndarray) -> None:
    """dx = dy where y > 0, else slope dy."""
    _backward(LEAKY_RELU, slope, dy, y, out)


def tanh(x: np.ndarray, out: np.ndarray) -> None:
    """y = tanh x."""
    _forward(TANH, 0.0, x, out)


def tanh_backward(dy: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    """dx = dy (1 - y²)."""
    _backward(TANH, 0.0, dy, y, out)


def sigmoid(x: np.ndarray, out: np.ndarray) -> None:
    """y = 1 / (1 + e^-x)."""
    _forward(SIGMOID, 0.0, x, out)


def sigmoid_backward(dy: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    """dx = dy y (1 - y)."""
    _backward(SIGMOID, 0.0, dy, y, out)
