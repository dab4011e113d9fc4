"""What networks side by side minimise: the loss of each batch and its gradient, counted network by network."""

import math
from typing import NamedTuple

import numpy as np

from ...codes import OUTPUTS
from ..compiler.jit import inline
from ..loss_rows import label_at
from ..losses import call_loss
from ..network.memory import GRADIENT, VALUES
from ..network.objectives import penalty_factor, share_of
from ..simd.table import cell, row_of
from ..simd.transpose import rows_to_lanes
from ..simd.vector import get, itemsize, lanes, load, pointer, put, shift, splat
from ..simd.wide import store_wide, widened
from .layers import put_rows
from .losses import call_lane_loss
from .memory import BATCH_SIZE, COUNT, DONE, FIRST, LABELS, SAMPLES, TARGETS, WEIGHTS, node, order_of
from .transposed import to_lanes, to_rows, zero_rest


class Objective(NamedTuple):
    """What all networks minimise: the address of the loss in lanes, or 0 and that for one network; see ``Objective``.

    ``settings`` (n, lanes) are as those of the network, and ``l2`` (lanes,).
    """

    loss: int
    loss_of_one: int
    settings: np.ndarray
    settings_of_each: np.ndarray
    l2: np.ndarray
    value: float
    gradient: float
    penalty_per_batch: bool
    mean_over_rows: bool


class Rows(NamedTuple):
    """A number for each row and network: labels or targets, shares and losses; memory for sums."""

    labels: np.ndarray
    targets: np.ndarray
    shares: np.ndarray
    losses: np.ndarray
    terms: np.ndarray
    sums: np.ndarray
    squares: np.ndarray


class Counts(NamedTuple):
    """What is counted as batches pass, int64 (lanes, COUNTS) and float64 (n, lanes).

    ``losses`` (epochs, lanes) are those of whole epochs, and ``failed`` says which networks met one that is not finite.
    """

    whole: np.ndarray
    real: np.ndarray
    losses: np.ndarray
    failed: np.ndarray


# The rows of ``real``: the weight of the batch, and of all batches whose gradients are summed, the factor of their
# penalty, Σ w², the loss of the batch, the total of the epoch and of its weights.
WEIGHT_OF_BATCH, WEIGHT_OF_GROUP, PENALTY, SQUARES, LOSS, TOTAL, SEEN = range(7)
REALS = 7


class Group(NamedTuple):
    """Batches whose gradients are summed: the place of the one at hand, and how many they are."""

    place: int
    size: int


@inline
def has_penalty(objective):
    """Whether one of the networks has a penalty."""
    most = 0.0
    for lane in range(objective.l2.rows):
        most = max(most, get(objective.l2.p, lane))
    return most != 0.0


@inline
def are_alike(each, most, counts):
    """Whether all samples count the same: every network has as many as any other, and none has weights."""
    width, alike = counts.failed.rows, True
    for lane in range(width):
        if cell(each, lane, WEIGHTS) != 0 or 0 < cell(counts.whole, lane, COUNT) < most:
            alike = False
    return alike


@inline
def begin_batch(each, objective, lane, rows_of_all, alike, group, rows, counts):
    """The weight of a network's batch, the factor of its penalty, and the shares of the samples.

    The rows of a network that has fewer samples than another have a share of 0. Where all rows have the same share
    there is one row of them.
    """
    width, m = lanes(rows.losses.p), cell(counts.whole, lane, COUNT)
    weights, order = cell(each, lane, WEIGHTS), order_of(each, counts.whole, lane)
    of_samples = pointer(weights, rows.losses.p)
    weight = _weight(of_samples, weights != 0, order, m)
    put(counts.real.p, WEIGHT_OF_BATCH * width + lane, weight)
    if group.size > 1:
        batch_size, first = cell(each, lane, BATCH_SIZE), cell(counts.whole, lane, FIRST)
        before = group.place * batch_size
        of_all = min(group.size * batch_size, cell(each, lane, SAMPLES) - first + before) if m > 0 else 0
        weight = _weight(of_samples, weights != 0, shift(order, -before), of_all)
    put(counts.real.p, WEIGHT_OF_GROUP * width + lane, weight)
    put(counts.real.p, PENALTY * width + lane, penalty_factor(objective, get(objective.l2.p, lane), weight))
    share = share_of(objective, 1.0, weight)
    for r in range(1 if alike else rows_of_all):
        if weights != 0 and r < m:
            share = share_of(objective, get(of_samples, get(order, r)), weight)
        put(rows.shares.p, r * width + lane, share if r < m else 0.0)


@inline
def _weight(weights, are_given, order, m):
    """Σ of the weights of m samples, one after the other."""
    if not are_given:
        return float(m)
    total = 0.0
    for r in range(m):
        total += get(weights, get(order, r))
    return total


@inline
def loss(net, each, objective, m, alike, memory, rows, counts):
    """The gradient of the loss at the outputs, and the loss of each row."""
    last, width = net.ops.rows, lanes(memory.nodes.p)
    n = cell(net.ops, last - 1, OUTPUTS)
    scores, gradient = node(memory, last, VALUES), node(memory, last, GRADIENT)
    share_ld = 0 if alike else width
    if objective.loss == 0:
        _loss_of_each(each, objective, m, n, share_ld, scores, gradient, memory, rows, counts)
        return
    has_labels = rows.targets.rows == 0
    if has_labels:
        _labels(each, m, n, rows, counts)
    else:
        _targets(each, m, n, memory, rows, counts)
    call_lane_loss(
        objective.loss, scores.p,
        (m, n, scores.p, scores.row, gradient.p, gradient.row, rows.labels.p, rows.targets.p,
         0 if has_labels else n * width, rows.shares.p, share_ld, objective.settings.p, rows.losses.p, rows.terms.p,
         rows.sums.p),
    )  # fmt: skip


@inline
def _labels(each, m, n, rows, counts):
    """The label of each sample as a number, NaN for one that is none; whoever owns the array may write to it."""
    width = lanes(rows.losses.p)
    for lane in range(width):
        labels, count = pointer(cell(each, lane, LABELS), np.int64(0)), cell(counts.whole, lane, COUNT)
        order = order_of(each, counts.whole, lane)
        for r in range(m):
            label = label_at(labels, get(order, r), n) if r < count else 0
            put(rows.labels.p, r * width + lane, label if label >= 0 else np.nan)


@inline
def _targets(each, m, n, memory, rows, counts):
    """The targets of each sample."""
    width, batch, size = lanes(rows.losses.p), memory.places.cols, n * itemsize(rows.losses.p)
    for lane in range(width):
        order, count = order_of(each, counts.whole, lane), cell(counts.whole, lane, COUNT)
        put_rows(order, count, cell(each, lane, TARGETS), size, m, memory, row_of(memory.places, lane))
    for r in range(m):
        for j in range(0, n, width):
            out = shift(rows.targets.p, (r * n + j) * width)
            rows_to_lanes(shift(memory.places.p, r), batch, j, min(width, n - j), out)


@inline
def _loss_of_each(each, objective, m, n, share_ld, scores, gradient, memory, rows, counts):
    """Network by network, by the loss of rows."""
    width = lanes(scores.p)
    matrices = memory.rows.p, shift(memory.rows.p, width * memory.lane_ld)
    shares, losses = shift(rows.shares.p, m * width), rows.sums.p
    to_rows(scores, m, n, matrices[0], memory)
    for lane in range(width):
        count = cell(counts.whole, lane, COUNT)
        if count > 0:
            for r in range(count):
                put(shares, r, get(rows.shares.p, r * share_ld + lane))
            s, d = (shift(matrices[0], lane * memory.lane_ld), shift(matrices[1], lane * memory.lane_ld))
            call_loss(
                objective.loss_of_one, scores.p,
                (count, n, s, memory.row_ld, d, memory.row_ld, cell(each, lane, LABELS),
                 pointer(cell(each, lane, TARGETS), scores.p), order_of(each, counts.whole, lane), shares,
                 row_of(objective.settings_of_each, lane), 0, losses, shift(losses, m)),
            )  # fmt: skip
        for r in range(m):
            put(rows.losses.p, r * width + lane, get(losses, r) if r < count else 0.0)
    to_lanes(matrices[1], m, n, gradient, memory)
    zero_rest(gradient, m, n, counts.whole)


@inline
def count_loss(each, objective, m, alike, rows, counts):
    """The loss of each network's batch into the mean over its epoch."""
    width = lanes(rows.losses.p)
    _sum_losses(each, m, alike, rows, counts)
    for lane in range(width):
        count = cell(counts.whole, lane, COUNT)
        if count > 0:
            weight = get(counts.real.p, WEIGHT_OF_BATCH * width + lane)
            loss = get(counts.real.p, LOSS * width + lane) / weight if weight != 0.0 else 0.0
            l2 = get(counts.real.p, PENALTY * width + lane)
            penalty = l2 * get(counts.real.p, SQUARES * width + lane) if l2 != 0.0 else 0.0
            value = objective.value * loss + penalty
            share = float(count) if objective.mean_over_rows else weight
            _add_to(counts.real.p, TOTAL * width + lane, share * value)
            _add_to(counts.real.p, SEEN * width + lane, share)
            if not math.isfinite(value):
                put(counts.failed.p, lane, 1)
                put(row_of(counts.whole, lane), DONE, 1)


@inline
def _add_to(p, i, x):
    put(p, i, get(p, i) + x)


@inline
def _sum_losses(each, m, alike, rows, counts):
    """Σ v_i loss_i over each network's batch, row by row in float64."""
    width, losses = lanes(rows.losses.p), rows.losses.p
    totals = shift(counts.real.p, LOSS * width)
    if alike:
        total = widened(splat(losses, 0.0))
        for r in range(m):
            total = total + widened(load(losses, r * width))
        store_wide(totals, 0, total)
        return
    for lane in range(width):
        weights, order = cell(each, lane, WEIGHTS), order_of(each, counts.whole, lane)
        sum_of_lane = 0.0
        for r in range(cell(counts.whole, lane, COUNT)):
            weight = get(pointer(weights, losses), get(order, r)) if weights != 0 else 1.0
            sum_of_lane += float(get(losses, r * width + lane)) * weight
        put(totals, lane, sum_of_lane)
