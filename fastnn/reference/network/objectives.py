"""What an epoch minimises: the losses of a network-as-data by their names, see ``epoch``."""

import numpy as np

from ..losses import LOSSES


@np.errstate(all="ignore")
def loss_and_gradient(objective, scores, y, sample_weight, out):
    """out (m, k) = the gradient of a batch's loss with respect to the scores; the loss is returned, without penalty."""
    loss = LOSSES[objective.loss](scores, y, sample_weight, out, *objective.settings)
    out *= out.dtype.type(objective.reduction.gradient)
    return objective.reduction.value * loss
