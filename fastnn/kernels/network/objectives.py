"""What an epoch minimises: the loss and its gradient for some rows of a batch, as its twin has them."""

from typing import NamedTuple

import numpy as np

from ..compiler.jit import inline
from ..losses import call_loss, share_of
from ..simd.vector import data, get, integer, put, shift


class Target(NamedTuple):
    """Labels or targets, and sample weights; what is missing is empty."""

    labels: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


class Goal(NamedTuple):
    """What training minimises: the address of a loss, its settings, and the rest of an ``Objective``."""

    loss: int
    settings: np.ndarray
    l2: float
    value: float
    gradient: float
    penalty_per_batch: bool
    mean_over_rows: bool
    stop: bool


@inline
def loss_rows(scores, gradient, n, target, order, sample, rows, goal, weight, shares, losses, rests):
    """The gradient of the loss for some rows of scores, and losses[i], the loss of each."""
    for r in range(rows):
        put(shares, r, share_of(target.weights, order[sample + r], weight) * goal.gradient)
    labels = integer(data(target.labels)) if len(target.labels) != 0 else 0
    call_loss(
        goal.loss, scores.p,
        (rows, n, scores.p, scores.row, gradient.p, gradient.row, labels, data(target.targets),
         shift(data(order), sample), shares, data(goal.settings), 0, losses, rests),
    )  # fmt: skip


@inline
def penalty_factor(goal, weight):
    """The factor of Σ w² for a batch of this weight."""
    return goal.l2 / weight if goal.penalty_per_batch and weight != 0.0 else goal.l2


@inline
def batch_weight(weights, order, start, m):
    """Σ v over a batch, or its size without weights."""
    if len(weights) == 0:
        return float(m)
    total = 0.0
    for i in range(start, start + m):
        total += weights[order[i]]
    return total


@inline
def batch_loss(losses, weights, order, start, m, weight):
    """Σ v_i loss_i / Σ v_i."""
    if weight == 0.0:
        return 0.0
    total = 0.0
    for i in range(m):
        total += float(get(losses, i)) * (1.0 if len(weights) == 0 else weights[order[start + i]])
    return total / weight
