"""What an epoch minimises: the loss and its gradient for some rows of a batch, as its twin has them."""

from typing import Any, NamedTuple

import numpy as np

from ..compiler.jit import inline
from ..losses import LOSSES, call_loss
from ..simd.vector import get, integer, put


class Target(NamedTuple):
    """Labels or targets, and sample weights; what is missing is empty."""

    labels: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


class Objective(NamedTuple):
    """What training minimises: the address of a loss, its settings, how losses are counted, see ``Reduction``."""

    loss: int
    settings: np.ndarray
    l2: float
    value: float
    gradient: float
    penalty_per_batch: int
    mean_over_rows: int
    stop: int


class Place(NamedTuple):
    """Some rows of a batch: where their samples stand in the order, how many, and the weight of the whole batch."""

    order: Any
    rows: int
    weight: float


class Results(NamedTuple):
    """A number for each row: the factor of its gradient, its loss, and memory for what depends on its target."""

    shares: Any
    losses: Any
    target_terms: Any


def objective_of(objective: Any, dtype: np.dtype) -> Objective:
    """An objective as compiled code takes it."""
    address = LOSSES[objective.loss].address(dtype)
    settings = np.array(objective.settings, np.float64)
    value, gradient, *marks = objective.reduction[2:]
    return Objective(address, settings, float(objective.l2), value, gradient, *map(int, marks))


@inline
def loss_rows(objective, target, place, n, scores, gradient, results):
    """The gradient of the loss for some rows of scores (rows, n), and the loss of each."""
    for r in range(place.rows):
        weight = _weight_of(target.weights, get(place.order, r))
        put(results.shares, r, share_of(objective, weight, place.weight))
    labels = integer(target.labels.p) if target.labels.rows != 0 else 0
    call_loss(
        objective.loss, scores.p,
        (place.rows, n, scores.p, scores.row, gradient.p, gradient.row, labels, target.targets.p, place.order,
         results.shares, objective.settings.p, 0, results.losses, results.target_terms),
    )  # fmt: skip


@inline
def _weight_of(weights, i):
    """The weight of a sample, 1 without weights."""
    return get(weights.p, i) if weights.rows != 0 else 1.0


@inline
def share_of(objective, weight, total):
    """What the gradient of a sample's loss is multiplied by, 0 where the weights of the batch sum to 0."""
    return (weight / total if total != 0.0 else 0.0) * objective.gradient


@inline
def penalty_factor(objective, l2, weight):
    """The factor of Σ w² for a batch of this weight."""
    return l2 / weight if objective.penalty_per_batch and weight != 0.0 else l2


@inline
def batch_weight(weights, order, start, m):
    """Σ v over a batch, or its size without weights."""
    if weights.rows == 0:
        return float(m)
    total = 0.0
    for i in range(start, start + m):
        total += get(weights.p, get(order.p, i))
    return total


@inline
def batch_loss(losses, weights, order, start, m, weight):
    """Σ v_i loss_i / Σ v_i."""
    if weight == 0.0:
        return 0.0
    total = 0.0
    for i in range(m):
        total += float(get(losses, i)) * _weight_of(weights, get(order.p, start + i))
    return total / weight
