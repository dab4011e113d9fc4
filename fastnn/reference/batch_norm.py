"""Batch normalisation: each unit less its mean over the batch, over its standard deviation, scaled and shifted.

Source: S. Ioffe and C. Szegedy, Batch normalization: accelerating deep network training by reducing internal covariate
shift, ICML 2015.
"""

import numpy as np


@np.errstate(all="ignore")
def batch_norm(x, weight, bias, mean, variance, momentum, eps, out):
    """out (m, n) = (x - mean of x) / √(variance of x + eps) weight + bias; running mean and variance follow.

    These become (1 - momentum) times themselves and momentum times the mean and Σ (x - mean)² / (m - 1) of the batch.
    """
    normed, _, of_batch, squares = _normed(x, eps)
    np.copyto(out, normed * weight + bias)
    mean += momentum * (of_batch - mean)
    variance += momentum * (squares / max(1, len(x) - 1) - variance)


@np.errstate(all="ignore")
def batch_norm_backward(
    dy, x, weight, bias, mean, variance, momentum, eps, dx, dweight, dbias, dmean=None, dvariance=None
):
    """dx (m, n), dweight and dbias (n,) from dy (m, n).

    With x̂ the normed x, dx = weight (dy - mean(dy) - x̂ mean(dy x̂)) / √(variance of x + eps), means over the batch.
    Running mean and variance have no gradient.
    """
    normed, scale, *_ = _normed(x, eps)
    along, total = (dy * normed).sum(axis=0), dy.sum(axis=0)
    np.copyto(dx, (dy - total / len(x) - normed * (along / len(x))) * (scale * weight))
    np.copyto(dweight, along)
    np.copyto(dbias, total)


@np.errstate(all="ignore")
def batch_norm_inference(x, weight, bias, mean, variance, momentum, eps, out):
    """out (m, n) = (x - mean) / √(variance + eps) weight + bias, of the running mean and variance."""
    np.copyto(out, (x - mean) * _factor(weight, variance, eps) + bias)


@np.errstate(all="ignore")
def batch_norm_inference_backward(dy, weight, bias, mean, variance, momentum, eps, dx, *gradients):
    """dx (m, n) = dy weight / √(variance + eps); nothing else is trained."""
    np.copyto(dx, dy * _factor(weight, variance, eps))


def _factor(weight, variance, eps):
    return (weight / np.sqrt(np.add(variance, eps, dtype=np.float64))).astype(weight.dtype)


def _normed(x, eps):
    """The columns with mean 0 and, but for eps, variance 1; what they were multiplied by; mean and Σ (x - mean)²."""
    mean = x.mean(axis=0)
    centred = x - mean
    squares = np.square(centred).sum(axis=0)
    scale = (1 / np.sqrt(np.add(squares / len(x), eps, dtype=np.float64))).astype(x.dtype)  # in float32 eps may vanish
    return centred * scale, scale, mean, squares
