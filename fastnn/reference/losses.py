"""Losses as weighted means over the batch, each with its gradient.

With sample weights v the mean is Σ v_i loss_i / Σ v_i, without them v_i = 1. A batch whose weights sum to 0, such as
one without samples, has loss 0 and gradient 0. A label that is none of 0..k-1, which it can only become while it is
used, makes the loss and the gradient of its row NaN.
"""

import numpy as np

from .registry import Registry
from .softmax import finite_max, softmax


@np.errstate(all="ignore")
def cross_entropy(scores, y, sample_weight):
    """The mean of -s_y + log Σ e^s over scores (m, k), as log Σ e^(s - max) + (max - s_y).

    y holds integer labels (m,) or targets (m, k) whose rows sum to 1, for which -s_y becomes -Σ_j y_j s_j.
    """
    return bounded_cross_entropy(scores, y, sample_weight, -np.inf, np.inf)


@np.errstate(all="ignore")
def bounded_cross_entropy(scores, y, sample_weight, least, most):
    """The same where the loss of a sample that lies beyond ``least`` or ``most`` is put to it."""
    largest = finite_max(scores)
    log_sum = np.log(np.exp(scores - largest).sum(axis=1))
    losses = np.clip(log_sum + (largest[:, 0] - _target_score(scores, y)), least, most)
    return weighted_mean(losses, sample_weight)


@np.errstate(all="ignore")
def cross_entropy_backward(scores, y, sample_weight, out):
    """out (m, k) = (P - Y) v_i / Σ v, and the loss is returned."""
    softmax(scores, out)
    if y.ndim == 1:
        out -= one_hot(y, scores.shape[1], scores.dtype)
    else:
        out -= y
    out *= shares(scores, sample_weight)
    return cross_entropy(scores, y, sample_weight)


@np.errstate(all="ignore")
def squared_error(pred, y, sample_weight):
    """The mean over samples of Σ_outputs (pred - y)², for pred and y (m, k)."""
    return weighted_mean(np.square(pred - y).sum(axis=1), sample_weight)


@np.errstate(all="ignore")
def squared_error_backward(pred, y, sample_weight, out):
    """out (m, k) = 2 (pred - y) v_i / Σ v, and the loss is returned."""
    np.subtract(pred, y, out=out)
    out *= 2 * shares(pred, sample_weight)
    return squared_error(pred, y, sample_weight)


@np.errstate(all="ignore")
def huber(pred, y, sample_weight, delta):
    """The mean over samples of Σ_outputs of r² / 2 where |r| <= delta, else delta (|r| - delta / 2), for r = pred - y.

    Source: P. J. Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35, 1964.
    """
    delta, r = pred.dtype.type(delta), np.abs(pred - y)
    losses = np.where(r > delta, delta * (r - delta / 2), r * r / 2)
    return weighted_mean(losses.sum(axis=1), sample_weight)


@np.errstate(all="ignore")
def huber_backward(pred, y, sample_weight, delta, out):
    """out (m, k) = r v_i / Σ v, r no further from 0 than delta, and the loss is returned."""
    delta = pred.dtype.type(delta)
    np.copyto(out, np.clip(pred - y, -delta, delta) * shares(pred, sample_weight))
    return huber(pred, y, sample_weight, float(delta))


@np.errstate(all="ignore")
def bounded_binary_cross_entropy_backward(scores, y, sample_weight, out, least, most):
    """out (m, k) = (σ(s) - y) v_i / Σ v, and the mean of Σ_outputs -y log σ(s) - (1 - y) log(1 - σ(s)) is returned.

    y (m, k) lies in [0, 1]. -log σ(s) = log(1 + e^-s), which keeps its digits. With a finite ``most`` the logarithms
    are those of the rounded σ(s) and 1 - σ(s), between ``least`` and ``most``.
    """
    e = np.exp(-np.abs(scores))
    p = np.where(scores < 0, e, 1) / (1 + e)
    np.copyto(out, (p - y) * shares(scores, sample_weight))
    if most < np.inf:
        of_one, of_zero = (np.clip(-np.log(q), least, most) for q in (p, 1 - p))
    else:
        of_one, of_zero = (np.log1p(e) + np.maximum(x, 0) for x in (-scores, scores))
    parts = np.where(y == 0, 0, y * of_one) + np.where(y == 1, 0, (1 - y) * of_zero)
    return weighted_mean(parts.sum(axis=1), sample_weight)


@np.errstate(all="ignore")
def poisson_deviance_backward(scores, y, sample_weight, out):
    """out (m, k) = (e^s - y) v_i / Σ v, and the mean of Σ_outputs y log(y / e^s) - y + e^s is returned, for y >= 0.

    Half of the Poisson deviance of counts y with the means e^s; 0 log 0 = 0.
    """
    mean = np.exp(scores)
    np.copyto(out, (mean - y) * shares(scores, sample_weight))
    information = np.where(y > 0, y * (np.log(np.where(y > 0, y, 1)) - scores), 0)
    return weighted_mean((information - y + mean).sum(axis=1), sample_weight)


def _target_score(scores, y):
    """s_y (m,) for labels, Σ_j y_j s_j for targets; a target of 0 contributes 0 even where the score is -inf."""
    if y.ndim == 1:
        y = one_hot(y, scores.shape[1], scores.dtype)
    return np.where(y == 0, 0, y * scores).sum(axis=1)


def one_hot(labels, k, dtype):
    """The labels as targets (m, k), a row of NaN for what is no label."""
    labels = labels[:, None]
    return np.where((labels >= 0) & (labels < k), labels == np.arange(k), np.nan).astype(dtype)


def shares(scores, sample_weight):
    """v_i / Σ v as a column (m, 1)."""
    v = _weights(len(scores), sample_weight)
    total = v.sum()
    share = v / total if total != 0 else v
    return share.astype(scores.dtype)[:, None]


def weighted_mean(losses, sample_weight):
    """Σ v_i loss_i / Σ v_i, summed in float64."""
    v = _weights(len(losses), sample_weight)
    total = v.sum()
    return float((v * losses).sum() / total) if total != 0 else 0.0


def _weights(m, sample_weight):
    return np.ones(m) if sample_weight is None else sample_weight.astype(np.float64)


def smoothed(labels, k, smoothing, dtype):
    """The targets (m, k) of smoothed labels: (1 - smoothing) one_hot + smoothing / k.

    Source: C. Szegedy et al., Rethinking the Inception architecture for computer vision, CVPR 2016, section 7.
    """
    return ((1 - smoothing) * one_hot(labels, k, np.float64) + smoothing / k).astype(dtype)


def _smoothed_cross_entropy(scores, y, sample_weight, out, smoothing, least, most):
    if smoothing != 0 and y.ndim == 1:
        y = smoothed(y, scores.shape[1], smoothing, scores.dtype)
    cross_entropy_backward(scores, y, sample_weight, out)
    return bounded_cross_entropy(scores, y, sample_weight, least, most)


# The losses of a network-as-data, functions of the scores, y, weights, out for the gradient, and the settings that the
# kernel takes too.
LOSSES = Registry(
    cross_entropy=_smoothed_cross_entropy,
    squared_error=lambda s, y, v, out, *unused: squared_error_backward(s, y, v, out),
    huber=lambda s, y, v, out, delta: huber_backward(s, y, v, delta, out),
    bounded_binary_cross_entropy=lambda s, y, v, out, smoothing, *bounds: bounded_binary_cross_entropy_backward(
        s, y, v, out, *bounds
    ),
    poisson_deviance=lambda s, y, v, out, *unused: poisson_deviance_backward(s, y, v, out),
)
