"""What an epoch minimises: the loss and its gradient for some rows of a batch; ``fastnn.reference.objectives``."""

from typing import NamedTuple

import numpy as np

from ._jit import inline
from ._vector import data, get, put, shift
from .losses import (
    BINARY_CROSS_ENTROPY,
    CROSS_ENTROPY,
    POISSON,
    SQUARED_ERROR,
    binary_column,
    binary_row,
    finish_cross_entropy,
    label_at,
    label_row,
    poisson_row,
    share_of,
    squared_row,
    target_row,
)


class Target(NamedTuple):
    """Labels or targets, and sample weights; what is missing is empty."""

    labels: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


class Goal(NamedTuple):
    """What training minimises, see ``fastnn.lowering.Objective`` and ``Convention``."""

    loss: int
    l2: float
    smoothing: float
    least: float
    most: float
    value: float
    gradient: float
    penalty_per_batch: bool
    mean_over_rows: bool
    stop: bool


@inline
def loss_rows(scores, gradient, apart, n, target, order, sample, rows, goal, weight, losses, rests):
    """The gradient of the loss for some rows of scores, and losses[i], the loss of each."""
    if goal.loss == BINARY_CROSS_ENTROPY and n == 1:
        _single_scores(scores, gradient, apart, target, order, sample, rows, goal, weight, losses, rests)
        return
    for r in range(rows):
        s, d = shift(scores, r * apart), shift(gradient, r * apart)
        at = order[sample + r]
        share = share_of(target.weights, at, weight) * goal.gradient
        y = shift(data(target.targets), at * n)
        if goal.loss == SQUARED_ERROR:
            put(losses, r, squared_row(s, n, y, share, d))
        elif goal.loss == BINARY_CROSS_ENTROPY:
            put(losses, r, binary_row(s, n, y, share, goal.least, goal.most, d))
        elif goal.loss == POISSON:
            put(losses, r, poisson_row(s, n, y, share, d))
        else:
            if len(target.labels) != 0:
                exp_sum, rest = label_row(s, n, label_at(target.labels, at, n), goal.smoothing, share, d)
            else:
                exp_sum, rest = target_row(s, n, y, share, d)
            put(losses, r, exp_sum)
            put(rests, r, rest)
    if goal.loss == CROSS_ENTROPY:
        finish_cross_entropy(losses, rests, losses, rows)
        for r in range(rows):
            put(losses, r, _bounded(get(losses, r), goal))


@inline
def _single_scores(scores, gradient, apart, target, order, sample, rows, goal, weight, losses, rests):
    """The binary loss of samples with one score each, which come together into vectors."""
    targets = data(target.targets)
    for r in range(rows):
        put(rests, r, get(scores, r * apart))
        put(losses, r, get(targets, order[sample + r]))
    binary_column(rests, losses, rows, goal.least, goal.most)
    for r in range(rows):
        share = share_of(target.weights, order[sample + r], weight) * goal.gradient
        put(gradient, r * apart, get(rests, r) * share)


@inline
def _bounded(loss, goal):
    """The loss within its bounds; NaN stays."""
    if loss > goal.most:
        return goal.most
    return goal.least if loss < goal.least else loss


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
