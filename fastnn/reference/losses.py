"""Losses as weighted means over the batch, each with its gradient.

With sample weights v the mean is Σ v_i loss_i / Σ v_i, without them v_i = 1. A batch whose weights are all zero has
loss 0 and gradient 0.
"""

import numpy as np

from .softmax import logsumexp, softmax


def cross_entropy(scores, y, sample_weight):
    """The mean of -s_y + log Σ e^s over scores (m, k).

    y holds integer labels (m,) or targets (m, k) whose rows sum to 1, for which -s_y becomes -Σ_j y_j s_j.
    """
    lse = np.empty(len(scores), scores.dtype)
    logsumexp(scores, lse)
    return _weighted_mean(lse - _target_score(scores, y), sample_weight)


def cross_entropy_backward(scores, y, sample_weight, out):
    """out (m, k) = (P - Y) v_i / Σ v, and the loss is returned."""
    softmax(scores, out)
    if y.ndim == 1:
        out[np.arange(len(y)), y] -= 1
    else:
        out -= y
    out *= _shares(scores, sample_weight)
    return cross_entropy(scores, y, sample_weight)


def squared_error(pred, y, sample_weight):
    """The mean over samples of Σ_outputs (pred - y)², for pred and y (m, k)."""
    return _weighted_mean(np.square(pred - y).sum(axis=1), sample_weight)


def squared_error_backward(pred, y, sample_weight, out):
    """out (m, k) = 2 (pred - y) v_i / Σ v, and the loss is returned."""
    np.subtract(pred, y, out=out)
    out *= 2 * _shares(pred, sample_weight)
    return squared_error(pred, y, sample_weight)


def _target_score(scores, y):
    """s_y (m,) for labels, Σ_j y_j s_j for targets; a target of 0 contributes 0 even where the score is -inf."""
    if y.ndim == 1:
        return scores[np.arange(len(y)), y]
    with np.errstate(invalid="ignore"):
        return np.where(y == 0, 0, y * scores).sum(axis=1)


def _shares(scores, sample_weight):
    """v_i / Σ v as a column (m, 1)."""
    if sample_weight is None:
        return scores.dtype.type(1 / len(scores))
    total = sample_weight.sum(dtype=np.float64)
    share = sample_weight / total if total != 0 else np.zeros_like(sample_weight)
    return share.astype(scores.dtype)[:, None]


def _weighted_mean(losses, sample_weight):
    """Σ v_i loss_i / Σ v_i, summed in float64."""
    losses = losses.astype(np.float64)
    if sample_weight is None:
        return float(losses.mean())
    total = sample_weight.sum(dtype=np.float64)
    return float((losses * sample_weight).sum() / total) if total != 0 else 0.0
