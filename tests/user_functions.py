"""Scalar functions as a user writes them in a module of their own, for ``Activation`` and its kin."""

import math
from math import exp

from numba import njit

SLOPE = 0.25


def elu(x):
    return x if x > 0 else math.exp(x) - 1


def elu_derivative(x, y):
    return 1 if x > 0 else y + 1


@njit
def sigmoid(x):
    return 1 / (1 + exp(-x))


def swish(x):
    """It calls a dispatcher of Numba's."""
    return x * sigmoid(x)


@njit
def swish_derivative(x, y):
    return y + sigmoid(x) * (1 - y)


def leaky(x):
    return max(SLOPE * x, x)


def leaky_derivative(x, y):
    return 1.0 if x > 0 else SLOPE


def softplus(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def softplus_derivative(x, y):
    return sigmoid(x)


def gauss(p, y):
    """Welsch's loss."""
    return 1 - math.exp(-0.5 * (p - y) ** 2)


def gauss_derivative(p, y):
    return (p - y) * math.exp(-0.5 * (p - y) ** 2)


def huber(p, y):
    r = abs(p - y)
    return r * r / 2 if r <= 0.5 else 0.5 * (r - 0.25)


def huber_derivative(p, y):
    return max(-0.5, min(0.5, p - y))


def sgd(w, g, lr, t):
    return w - lr * g


def momentum(w, g, v, lr, t, momentum):
    v = momentum * v - lr * g
    return w + v, v


def adam(w, g, m, v, lr, t, beta1, beta2, eps):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    return w - lr * m / (1 - beta1**t) / (math.sqrt(v / (1 - beta2**t)) + eps), m, v


def three_slots(w, g, a, b, c, lr, t):
    """The mean of the last three gradients."""
    return w - lr * (g + a + b) / 3, g, a, t
