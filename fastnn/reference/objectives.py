"""What an epoch minimises: the losses of a network-as-data by their codes, see ``epoch``."""

import numpy as np

from . import losses

CROSS_ENTROPY, SQUARED_ERROR, BINARY_CROSS_ENTROPY, POISSON = range(4)


@np.errstate(all="ignore")
def loss_and_gradient(objective, scores, y, sample_weight, out):
    """out (m, k) = the gradient of a batch's loss with respect to the scores; the loss is returned, without penalty."""
    convention, bounds = objective.convention, (objective.convention.least, objective.convention.most)
    if objective.loss == CROSS_ENTROPY:
        if objective.smoothing != 0 and y.ndim == 1:
            y = smoothed(y, scores.shape[1], objective.smoothing, scores.dtype)
        losses.cross_entropy_backward(scores, y, sample_weight, out)
        loss = losses.bounded_cross_entropy(scores, y, sample_weight, *bounds)
    elif objective.loss == SQUARED_ERROR:
        loss = losses.squared_error_backward(scores, y, sample_weight, out)
    elif objective.loss == BINARY_CROSS_ENTROPY:
        loss = losses.binary_cross_entropy_backward(scores, y, sample_weight, out, *bounds)
    else:
        loss = losses.poisson_backward(scores, y, sample_weight, out)
    out *= out.dtype.type(convention.gradient)
    return convention.value * loss


def smoothed(labels, k, smoothing, dtype):
    """The targets (m, k) of smoothed labels: (1 - smoothing) one_hot + smoothing / k.

    Source: C. Szegedy et al., Rethinking the Inception architecture for computer vision, CVPR 2016, section 7.
    """
    return ((1 - smoothing) * losses.one_hot(labels, k, np.float64) + smoothing / k).astype(dtype)
