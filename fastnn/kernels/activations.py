"""Activations y = f(x) and their gradients dx = dy f'(x), in terms of y or of x; out may be the input.

Comparisons are written so that NaN falls through to the branch that keeps it.
"""

import numpy as np

from .compiler.jit import inline
from .gemm.rectifier import vleaky_relu, vrelu
from .operations import back_on_array, elementwise, on_array, setting
from .simd.vector import absolute, fma, select
from .simd.vectormath import vexp_nonpositive, vnormal_tail, vsigmoid, vtanh

# Of GELU: 1/√(2π), 2 √(2/π), and the factor of x³.
ONE_BY_ROOT_2_PI, ROOT_8_BY_PI, CUBIC = 0.3989422804014327, 1.5957691216057308, 0.044715


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
def _gelu(x, settings):
    m, e = vnormal_tail(x)
    return select(x < 0.0, x * m * e, x * (1.0 - m * e))


@inline
def _gelu_backward(d, x, y, settings):
    m, e = vnormal_tail(x)
    return d * fma(x * e, ONE_BY_ROOT_2_PI, select(x < 0.0, m * e, 1.0 - m * e))


@inline
def _gelu_tanh(x, settings):
    u, _ = _of_tanh(x)
    return x * vsigmoid(u)


@inline
def _gelu_tanh_backward(d, x, y, settings):
    """σ'(u) is σ(u) σ(-u), the larger of them and the smaller, so that neither is a difference."""
    u, slope = _of_tanh(x)
    e = vexp_nonpositive(absolute(u) * -1.0)
    larger = 1.0 / (e + 1.0)
    smaller = e * larger
    return d * fma(x * smaller, slope * larger, select(u < 0.0, smaller, larger))


@inline
def _of_tanh(x):
    """(u, u') with u = 2 √(2/π) (x + 0.044715 x³), for (1 + tanh(u/2))/2 = σ(u), which is 0 or 1 beyond x² = 1000."""
    square = x * x
    square = select(square > 1000.0, 1000.0, square)
    u = x * fma(square, CUBIC * ROOT_8_BY_PI, ROOT_8_BY_PI)
    return u, fma(square, 3.0 * CUBIC * ROOT_8_BY_PI, ROOT_8_BY_PI)


IDENTITY = elementwise("identity", _identity, _identity_backward)
RELU = elementwise("relu", _relu, _relu_backward)
LEAKY_RELU = elementwise("leaky_relu", _leaky_relu, _leaky_relu_backward)
TANH = elementwise("tanh", _tanh, _tanh_backward)
SIGMOID = elementwise("sigmoid", _sigmoid, _sigmoid_backward)
GELU = elementwise("gelu", _gelu, _gelu_backward)
GELU_TANH = elementwise("gelu_tanh", _gelu_tanh, _gelu_tanh_backward)


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


def gelu(x: np.ndarray, out: np.ndarray) -> None:
    """y = x Φ(x)."""
    on_array(GELU, x, out)


def gelu_backward(dy: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """dx = dy (Φ(x) + x φ(x))."""
    back_on_array(GELU, dy, x, out)


def gelu_tanh(x: np.ndarray, out: np.ndarray) -> None:
    """y = x σ(u) with u = 2 √(2/π) (x + 0.044715 x³)."""
    on_array(GELU_TANH, x, out)


def gelu_tanh_backward(dy: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """dx = dy (σ(u) + x σ(u) (1 - σ(u)) u')."""
    back_on_array(GELU_TANH, dy, x, out)
