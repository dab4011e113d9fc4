"""Activations y = f(x) and their gradients dx = dy f'(x), in terms of y or of x; out may be the input.

Comparisons are written so that NaN falls through to the branch that keeps it.
"""

import numpy as np

from .compiler.jit import inline
from .gemm.rectifier import vleaky_relu, vrelu
from .operations import back_on_array, elementwise, on_array, setting
from .simd.vector import absolute, fma, select
from .simd.vectormath import vexp_nonpositive, vexpm1, vlog1p_of_share, vnormal_tail, vsigmoid, vtanh
from .simd.wide import rounded_product

# Of GELU: 1/√(2π), 2 √(2/π), and the factor of x³.
ONE_BY_ROOT_2_PI, ROOT_8_BY_PI, CUBIC = 0.3989422804014327, 1.5957691216057308, 0.044715
# Of SELU: the slope of its positive half, and that times α, how far down its negative half goes.
SELU_SLOPE, SELU_DEPTH = 1.0507009873554805, 1.7580993408473766


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
    return d * fma(y * -1.0, y, 1.0)


@inline
def _sigmoid(x, settings):
    return vsigmoid(x)


@inline
def _sigmoid_backward(d, x, y, settings):
    return d * y * (1.0 - y)


@inline
def _gelu(x, settings):
    m, e = vnormal_tail(x)
    return select(x < 0.0, x * m * e, x * fma(m * -1.0, e, 1.0))


@inline
def _gelu_backward(d, x, y, settings):
    m, e = vnormal_tail(x)
    tail = rounded_product(m, e)
    return d * fma(x * e, ONE_BY_ROOT_2_PI, select(x < 0.0, tail, 1.0 - tail))


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


@inline
def _silu(x, settings):
    """With e^-|x| as h², of which one factor meets x first, so that no part is subnormal before the result is."""
    h, low = _half_power(x)
    return x * low * (low / fma(h, h, 1.0))


@inline
def _half_power(x):
    """(h, l) with h = e^(-|x|/2), and l = h where x < 0, else 1."""
    h = vexp_nonpositive(absolute(x) * -0.5)
    return h, select(x < 0.0, h, 1.0)


@inline
def _silu_backward(d, x, y, settings):
    e = vexp_nonpositive(absolute(x) * -1.0)
    larger = 1.0 / (e + 1.0)
    smaller = e * larger
    return d * fma(x * smaller, larger, select(x < 0.0, smaller, larger))


@inline
def _mish(x, settings):
    """tanh(log(1 + e^x)) = e (e + 2) / (e (e + 2) + 2) for e = e^x, or with e^-x = 1/e, so that nothing overflows."""
    h, low = _half_power(x)
    above, below = _of_mish(x, h * h)
    return x * low * (low * (above / below))


@inline
def _of_mish(x, e):
    """(a, b) with tanh(log(1 + e^x)) = a/b where x >= 0, else e a/b, of sums that lose no digit; e = e^-|x|."""
    above = select(x < 0.0, e + 2.0, fma(e, 2.0, 1.0))
    return above, fma(select(x < 0.0, above, e * 2.0), e, select(x < 0.0, 2.0, above))


@inline
def _mish_backward(d, x, y, settings):
    """The slope is tanh(s) + x σ(x) (1 - tanh²(s)), s = log(1 + e^x), with b of ``_of_mish`` in its last factors.

    They are 4 e (1 + e) / b² where x < 0, and e times that where x > 0.
    """
    e = vexp_nonpositive(absolute(x) * -1.0)
    above, below = _of_mish(x, e)
    inverse = 1.0 / below
    value = select(x < 0.0, e, 1.0) * above * inverse
    bend = fma(e, 4.0, 4.0) * inverse * inverse * select(x < 0.0, 1.0, e)
    return d * fma(x * e, bend, value)


@inline
def _elu(x, settings):
    return select(x < 0.0, vexpm1(x) * setting(x, settings, 0), x)


@inline
def _elu_backward(d, x, y, settings):
    return d * select(x > 0.0, 1.0, _power_below(x) * setting(x, settings, 0))


@inline
def _power_below(x):
    """e^x where x is not above 0."""
    return vexp_nonpositive(select(x > 0.0, 0.0, x))


@inline
def _selu(x, settings):
    return select(x < 0.0, vexpm1(x) * SELU_DEPTH, x * SELU_SLOPE)


@inline
def _selu_backward(d, x, y, settings):
    return d * select(x > 0.0, SELU_SLOPE, _power_below(x) * SELU_DEPTH)


@inline
def _softplus(x, settings):
    rest = vlog1p_of_share(vexp_nonpositive(absolute(x) * -1.0))
    return select(x < 0.0, rest, x + rest)


@inline
def _softplus_backward(d, x, y, settings):
    return d * vsigmoid(x)


@inline
def _hard_swish(x, settings):
    """The sixth of what is cut off comes first, so that no large x overflows."""
    gate = x + 3.0
    gate = select(gate > 6.0, 6.0, select(gate < 0.0, 0.0, gate))
    return x * (gate * (1.0 / 6.0))


@inline
def _hard_swish_backward(d, x, y, settings):
    slope = select(x < 3.0, fma(x, 1.0 / 3.0, 0.5), 1.0)
    return d * select(x > -3.0, slope, select(x != x, x, 0.0))


IDENTITY = elementwise("identity", _identity, _identity_backward)
RELU = elementwise("relu", _relu, _relu_backward)
LEAKY_RELU = elementwise("leaky_relu", _leaky_relu, _leaky_relu_backward, settings=1)
TANH = elementwise("tanh", _tanh, _tanh_backward)
SIGMOID = elementwise("sigmoid", _sigmoid, _sigmoid_backward)
GELU = elementwise("gelu", _gelu, _gelu_backward)
GELU_TANH = elementwise("gelu_tanh", _gelu_tanh, _gelu_tanh_backward)
SILU = elementwise("silu", _silu, _silu_backward)
MISH = elementwise("mish", _mish, _mish_backward)
ELU = elementwise("elu", _elu, _elu_backward, settings=1)
SELU = elementwise("selu", _selu, _selu_backward)
SOFTPLUS = elementwise("softplus", _softplus, _softplus_backward)
HARD_SWISH = elementwise("hard_swish", _hard_swish, _hard_swish_backward)


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


def silu(x: np.ndarray, out: np.ndarray) -> None:
    """y = x σ(x)."""
    on_array(SILU, x, out)


def silu_backward(dy: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """dx = dy (σ(x) + x σ(x) σ(-x))."""
    back_on_array(SILU, dy, x, out)


def mish(x: np.ndarray, out: np.ndarray) -> None:
    """y = x tanh(log(1 + e^x))."""
    on_array(MISH, x, out)


def mish_backward(dy: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """dx = dy (tanh(s) + x σ(x) (1 - tanh²(s))), s = log(1 + e^x)."""
    back_on_array(MISH, dy, x, out)


def elu(x: np.ndarray, alpha: float, out: np.ndarray) -> None:
    """y = x where x > 0, else alpha (e^x - 1)."""
    on_array(ELU, x, out, alpha)


def elu_backward(dy: np.ndarray, x: np.ndarray, alpha: float, out: np.ndarray) -> None:
    """dx = dy where x > 0, else dy alpha e^x."""
    back_on_array(ELU, dy, x, out, alpha)


def selu(x: np.ndarray, out: np.ndarray) -> None:
    """y = λ x where x > 0, else λ α (e^x - 1)."""
    on_array(SELU, x, out)


def selu_backward(dy: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """dx = dy λ where x > 0, else dy λ α e^x."""
    back_on_array(SELU, dy, x, out)


def softplus(x: np.ndarray, out: np.ndarray) -> None:
    """y = log(1 + e^x)."""
    on_array(SOFTPLUS, x, out)


def softplus_backward(dy: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """dx = dy σ(x)."""
    back_on_array(SOFTPLUS, dy, x, out)


def hard_swish(x: np.ndarray, out: np.ndarray) -> None:
    """y = x min(max(x + 3, 0), 6) / 6."""
    on_array(HARD_SWISH, x, out)


def hard_swish_backward(dy: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """dx = dy (x/3 + 1/2) where |x| < 3, dy beyond 3 and 0 below -3."""
    back_on_array(HARD_SWISH, dy, x, out)
