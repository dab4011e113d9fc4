"""What an epoch minimises: the losses of a network-as-data by their names, see ``epoch``."""

import numpy as np

from .. import losses
from ..own import own_loss


@np.errstate(all="ignore")
def loss_and_gradient(objective, scores, y, sample_weight, out):
    """out (m, k) = the gradient of a batch's loss with respect to the scores; the loss is returned, without penalty."""
    reduction, bounds = objective.reduction, (objective.reduction.least, objective.reduction.most)
    if objective.loss in LOSSES:
        loss = LOSSES[objective.loss](objective, scores, y, sample_weight, out, bounds)
    else:
        loss = own_loss(objective.loss, scores, y, sample_weight, out)
    out *= out.dtype.type(reduction.gradient)
    return reduction.value * loss


def _cross_entropy(objective, scores, y, sample_weight, out, bounds):
    if objective.smoothing != 0 and y.ndim == 1:
        y = smoothed(y, scores.shape[1], objective.smoothing, scores.dtype)
    losses.cross_entropy_backward(scores, y, sample_weight, out)
    return losses.bounded_cross_entropy(scores, y, sample_weight, *bounds)


# Functions of the objective, scores, y, weights, out for the gradient, and the bounds of a loss.
LOSSES = {
    "cross_entropy": _cross_entropy,
    "squared_error": lambda objective, s, y, v, out, bounds: losses.squared_error_backward(s, y, v, out),
    "huber": lambda objective, s, y, v, out, bounds: losses.huber_backward(s, y, v, *objective.numbers, out),
    "binary_cross_entropy": lambda objective, s, y, v, out, bounds: losses.binary_cross_entropy_backward(
        s, y, v, out, *bounds
    ),
    "poisson": lambda objective, s, y, v, out, bounds: losses.poisson_backward(s, y, v, out),
}


def smoothed(labels, k, smoothing, dtype):
    """The targets (m, k) of smoothed labels: (1 - smoothing) one_hot + smoothing / k.

    Source: C. Szegedy et al., Rethinking the Inception architecture for computer vision, CVPR 2016, section 7.
    """
    return ((1 - smoothing) * losses.one_hot(labels, k, np.float64) + smoothing / k).astype(dtype)
