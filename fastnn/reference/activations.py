"""Activations y = f(x) and their gradients dx = dy f'(x), written in terms of y.

NaN propagates through every one of them, forward and backward.
"""

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
