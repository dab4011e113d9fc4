"""Losses that are a sum over the outputs of one function of an output and its target, as weighted means over the batch.

See :mod:`fastnn.reference.losses` for the means. ``quantiles`` and ``pos_weight`` hold one number for all outputs, or
one for each.
"""

import numpy as np

from .losses import LOSSES, shares, weighted_mean


@np.errstate(all="ignore")
def absolute_error(pred, y, sample_weight):
    """The mean over samples of Σ_outputs |pred - y|."""
    return weighted_mean(np.abs(pred - y).sum(axis=1), sample_weight)


@np.errstate(all="ignore")
def absolute_error_backward(pred, y, sample_weight, out):
    """out (m, k) = sign(pred - y) v_i / Σ v, and the loss is returned."""
    np.copyto(out, np.sign(pred - y) * shares(pred, sample_weight))
    return absolute_error(pred, y, sample_weight)


@np.errstate(all="ignore")
def pinball(pred, y, sample_weight, quantiles):
    """The mean over samples of Σ_outputs max(q r, (q - 1) r), r = y - pred, q one quantile or that of each output.

    Source: R. Koenker and G. Bassett, Regression quantiles, Econometrica 46, 1978.
    """
    q, r = quantiles.astype(pred.dtype), y - pred
    return weighted_mean(np.maximum(q * r, (q - 1) * r).sum(axis=1), sample_weight)


@np.errstate(all="ignore")
def pinball_backward(pred, y, sample_weight, quantiles, out):
    """out (m, k) = -q v_i / Σ v where r > 0, (1 - q) v_i / Σ v where r < 0, else 0, and the loss is returned."""
    q, r = quantiles.astype(pred.dtype), y - pred
    np.copyto(out, np.where(r > 0, -q, np.where(r < 0, 1 - q, r)) * shares(pred, sample_weight))
    return pinball(pred, y, sample_weight, quantiles)


@np.errstate(all="ignore")
def poisson(scores, y, sample_weight):
    """The mean over samples of Σ_outputs e^s - y s, for y >= 0; 0 s = 0 for any s.

    The negative logarithm of the likelihood of counts y with the means e^s, but for log y!, which no s changes.
    """
    return weighted_mean((np.exp(scores) - np.where(y == 0, 0, y * scores)).sum(axis=1), sample_weight)


@np.errstate(all="ignore")
def poisson_backward(scores, y, sample_weight, out):
    """out (m, k) = (e^s - y) v_i / Σ v, and the loss is returned."""
    np.copyto(out, (np.exp(scores) - y) * shares(scores, sample_weight))
    return poisson(scores, y, sample_weight)


@np.errstate(all="ignore")
def binary_cross_entropy(scores, y, sample_weight, pos_weight):
    """The mean of Σ_outputs -p y log σ(s) - (1 - y) log σ(-s), for one weight p of what is 1 or one for each output.

    y (m, k) lies in [0, 1], and -log σ(s) is log(1 + e^-s); 0 log 0 = 0.
    """
    p, zero = pos_weight.astype(scores.dtype), scores.dtype.type(0)
    of_one, of_zero = np.logaddexp(zero, -scores), np.logaddexp(zero, scores)
    parts = np.where(y == 0, 0, p * y * of_one) + np.where(y == 1, 0, (1 - y) * of_zero)
    return weighted_mean(parts.sum(axis=1), sample_weight)


@np.errstate(all="ignore")
def binary_cross_entropy_backward(scores, y, sample_weight, pos_weight, out):
    """out (m, k) = ((1 - y) σ(s) - p y σ(-s)) v_i / Σ v, and the loss is returned."""
    p, e = pos_weight.astype(scores.dtype), np.exp(-np.abs(scores))
    of_one, of_zero = (np.where(x < 0, e, 1) / (1 + e) for x in (scores, -scores))
    np.copyto(out, ((1 - y) * of_one - p * y * of_zero) * shares(scores, sample_weight))
    return binary_cross_entropy(scores, y, sample_weight, pos_weight)


LOSSES.update(
    absolute_error=lambda s, y, v, out, *unused: absolute_error_backward(s, y, v, out),
    pinball=lambda s, y, v, out, count, *q: pinball_backward(s, y, v, np.array(q), out),
    poisson=lambda s, y, v, out, *unused: poisson_backward(s, y, v, out),
    binary_cross_entropy=lambda s, y, v, out, count, *p: binary_cross_entropy_backward(s, y, v, np.array(p), out),
)
