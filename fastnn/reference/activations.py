"""Activations y = f(x) and their gradients dx = dy f'(x), written in terms of y, or from GELU on of x.

NaN propagates through every one of them, forward and backward.
"""

import math

import numpy as np


def identity(x, out):
    """y = x."""
    np.copyto(out, x)


def identity_backward(dy, y, out):
    """dx = dy."""
    np.copyto(out, dy)


def relu(x, out):
    """y = max(x, 0)."""
    np.maximum(x, 0, out=out)


def relu_backward(dy, y, out):
    """dx = dy where y > 0, else 0."""
    np.copyto(out, np.where(y > 0, dy, np.where(np.isnan(y), y, 0)))


@np.errstate(all="ignore")
def leaky_relu(x, slope, out):
    """y = x where x > 0, else slope x, for slope >= 0; a slope of 0 is the ReLU, at -inf too."""
    if slope == 0:
        return relu(x, out)
    np.copyto(out, np.where(x > 0, x, x.dtype.type(slope) * x))


@np.errstate(all="ignore")
def leaky_relu_backward(dy, y, slope, out):
    """dx = dy where y > 0, else slope dy."""
    if slope == 0:
        return relu_backward(dy, y, out)
    dx = np.where(y > 0, dy, y.dtype.type(slope) * dy)
    np.copyto(out, np.where(np.isnan(y), y, dx))


@np.errstate(all="ignore")
def tanh(x, out):
    """y = tanh x."""
    np.tanh(x, out=out)


@np.errstate(all="ignore")
def tanh_backward(dy, y, out):
    """dx = dy (1 - y²)."""
    np.copyto(out, dy * (1 - y * y))


@np.errstate(all="ignore")
def sigmoid(x, out):
    """y = 1 / (1 + e^-x), with e only ever raised to a non-positive power."""
    e = np.exp(-np.abs(x))
    np.copyto(out, np.where(x >= 0, 1 / (1 + e), e / (1 + e)))


@np.errstate(all="ignore")
def sigmoid_backward(dy, y, out):
    """dx = dy y (1 - y)."""
    np.copyto(out, dy * y * (1 - y))


@np.errstate(all="ignore")
def gelu(x, out):
    """y = x Φ(x), Φ the distribution function of the normal distribution; NaN at -inf, where it is -inf 0.

    Source: D. Hendrycks and K. Gimpel, Gaussian error linear units (GELUs), arXiv 1606.08415, 2016.
    """
    np.copyto(out, x * _normal_cdf(x))


@np.errstate(all="ignore")
def gelu_backward(dy, x, out):
    """dx = dy (Φ(x) + x φ(x)) with φ = Φ'."""
    np.copyto(out, dy * (_normal_cdf(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)))


@np.errstate(all="ignore")
def gelu_tanh(x, out):
    """y = x (1 + tanh(√(2/π) (x + 0.044715 x³)))/2, which is x σ(u) for twice the argument of tanh as u."""
    np.copyto(out, x * _sigmoid_of(_twice_argument(x)))


@np.errstate(all="ignore")
def gelu_tanh_backward(dy, x, out):
    """dx = dy (σ(u) + x σ(u) σ(-u) u')."""
    u, slope = _twice_argument(x), _ROOT_8_BY_PI * (1 + 3 * 0.044715 * _square(x))
    s = _sigmoid_of(u)
    np.copyto(out, dy * (s + x * s * _sigmoid_of(-u) * slope))


@np.errstate(all="ignore")
def silu(x, out):
    """y = x σ(x); NaN at -inf, where it is -inf 0.

    Source: S. Elfwing, E. Uchibe and K. Doya, Sigmoid-weighted linear units for neural network function approximation
    in reinforcement learning, Neural Networks 107, 2018.
    """
    np.copyto(out, x * _sigmoid_of(x))


@np.errstate(all="ignore")
def silu_backward(dy, x, out):
    """dx = dy (σ(x) + x σ(x) σ(-x))."""
    s = _sigmoid_of(x)
    np.copyto(out, dy * (s + x * s * _sigmoid_of(-x)))


@np.errstate(all="ignore")
def mish(x, out):
    """y = x tanh(log(1 + e^x)); NaN at -inf, where it is -inf 0.

    Source: D. Misra, Mish: a self regularized non-monotonic activation function, BMVC 2020.
    """
    np.copyto(out, x * np.tanh(_softplus_of(x)))


@np.errstate(all="ignore")
def mish_backward(dy, x, out):
    """dx = dy (t + x σ(x) (1 - t²)) with t = tanh(log(1 + e^x))."""
    t = np.tanh(_softplus_of(x))
    np.copyto(out, dy * (t + x * _sigmoid_of(x) * (1 - t * t)))


@np.errstate(all="ignore")
def elu(x, alpha, out):
    """y = x where x > 0, else alpha (e^x - 1).

    Source: D.-A. Clevert, T. Unterthiner and S. Hochreiter, Fast and accurate deep network learning by exponential
    linear units (ELUs), ICLR 2016.
    """
    np.copyto(out, np.where(x < 0, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0)), x))


@np.errstate(all="ignore")
def elu_backward(dy, x, alpha, out):
    """dx = dy where x > 0, else dy alpha e^x."""
    np.copyto(out, dy * np.where(x > 0, 1, x.dtype.type(alpha) * np.exp(np.minimum(x, 0))))


@np.errstate(all="ignore")
def selu(x, out):
    """y = λ x where x > 0, else λ α (e^x - 1): λ and α keep mean 0 and variance 1 from layer to layer.

    Source: G. Klambauer, T. Unterthiner, A. Mayr and S. Hochreiter, Self-normalizing neural networks, NeurIPS 2017.
    """
    slope, depth = map(x.dtype.type, (_SELU_SLOPE, _SELU_SLOPE * _SELU_ALPHA))
    np.copyto(out, np.where(x < 0, depth * np.expm1(np.minimum(x, 0)), slope * x))


@np.errstate(all="ignore")
def selu_backward(dy, x, out):
    """dx = dy λ where x > 0, else dy λ α e^x."""
    slope, depth = map(x.dtype.type, (_SELU_SLOPE, _SELU_SLOPE * _SELU_ALPHA))
    np.copyto(out, dy * np.where(x > 0, slope, depth * np.exp(np.minimum(x, 0))))


@np.errstate(all="ignore")
def softplus(x, out):
    """y = log(1 + e^x)."""
    np.copyto(out, _softplus_of(x))


@np.errstate(all="ignore")
def softplus_backward(dy, x, out):
    """dx = dy σ(x)."""
    np.copyto(out, dy * _sigmoid_of(x))


@np.errstate(all="ignore")
def hard_swish(x, out):
    """y = x min(max(x + 3, 0), 6) / 6; NaN at -inf, where it is -inf 0.

    Source: A. Howard et al., Searching for MobileNetV3, ICCV 2019, section 5.2.
    """
    np.copyto(out, x * (np.clip(x + 3, 0, 6) / 6))


@np.errstate(all="ignore")
def hard_swish_backward(dy, x, out):
    """dx = dy (x/3 + 1/2) where |x| < 3, dy beyond 3 and 0 below -3."""
    np.copyto(out, dy * np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5)))


_SELU_SLOPE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_ROOT_8_BY_PI = math.sqrt(8 / math.pi)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def _normal_cdf(x):
    """Φ(x) = erfc(-x/√2)/2, in float64 on the way."""
    return (np.asarray(_erfc(-x.astype(np.float64) / math.sqrt(2)), np.float64) / 2).astype(x.dtype)


def _twice_argument(x):
    return _ROOT_8_BY_PI * x * (1 + 0.044715 * _square(x))


def _square(x):
    """x², but no more than 1000: beyond, σ is 0 or 1, and an infinity would make it 0 inf."""
    return np.minimum(x * x, 1000)


def _sigmoid_of(x):
    out = np.empty_like(x)
    sigmoid(x, out)
    return out


def _softplus_of(x):
    return np.logaddexp(x.dtype.type(0), x)
