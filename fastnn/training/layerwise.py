"""An epoch layer by layer, for what the compiled epoch does not know: layers, losses and optimizers of a user's own."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..nn import losses
from ..nn.stack import Lap, Stack
from ..nn.sums import Sums
from ..validation import Array

if TYPE_CHECKING:
    from .plan import Plan


def layerwise_epoch(stack: Stack, plan: "Plan", lap: Lap) -> Callable[[Array, float | Array, int], tuple[float, int]]:
    """Return what trains for an epoch in an order, at a learning rate or one for each update, after some updates.

    It returns the loss and the batch that failed, or -1; ``lap(layer, phase)`` is called as a phase of a layer is over,
    or of the step for None.
    """
    stack.forget_gradients()  # those of an earlier pass are the user's until this fit is through

    def train(order: Array, lr: float | Array, step: int) -> tuple[float, int]:
        total = weights = 0.0
        sums: Sums | None = None
        starts = range(0, len(order), plan.batch_size)
        for batch, start in enumerate(starts):
            place, update = batch % plan.accumulate, batch // plan.accumulate
            rows = order[start : start + plan.batch_size]
            x, y = plan.x[rows], plan.y[rows]
            v = None if plan.sample_weight is None else plan.sample_weight[rows]
            lap(None, "gather")
            outputs = stack.forward(x, training=True, lap=lap)
            loss, gradient = losses.value_and_gradient(plan.loss, outputs, y, v)
            lap(None, "loss")
            loss += plan.l2 * stack.sum_of_squares()
            share = plan.weight_of(rows)
            total, weights = total + share * loss, weights + share
            if not np.isfinite(loss):
                return math.nan, batch
            lap(None, "rest")
            is_last = place == plan.accumulate - 1 or batch == len(starts) - 1
            if plan.accumulate > 1:
                first = (batch - place) * plan.batch_size
                group = plan.weight_of(order[first : first + plan.accumulate * plan.batch_size])
                gradient = gradient * gradient.dtype.type(share / group if group else 0.0)
            stack.backward(gradient, plan.l2 if is_last else 0.0, lap, stack.first_trained)
            if plan.accumulate > 1:
                sums = Sums(stack) if place == 0 or sums is None else sums.plus(stack)
            if is_last:
                own_lr = lr if isinstance(lr, float) else float(lr[update])
                with stack.summed(sums):
                    plan.optimizer.update(stack, own_lr, step + update + 1)
            lap(None, "update")
        return (total / weights if weights else 0.0), -1

    return train
