"""A batch of an epoch on its way forward, through the loss, and back to the gradients before all ops."""

from typing import NamedTuple

import numpy as np

from ...codes import OUTPUTS, SUMS
from ..compiler.jit import inline
from ..gemm.product import Matrix
from ..simd.table import cell
from ..simd.vector import get, integer, shift
from ..threading.barrier import barrier
from ..threading.team import part
from .clock import BACKWARD, FORWARD, GATHER, LOSS, lap
from .layers import (
    UNIT_OF_BATCH,
    Input,
    Rows,
    backward_op,
    first_trained,
    forward_op,
    gather,
    linear_op,
    sum_backward,
    sum_forward,
    sums_over_batch,
    undo_rectifier,
)
from .memory import GRADIENT, LD, VALUES, add_sources, around_op, node
from .objectives import Place, Results, Target, batch_loss, batch_weight, loss_rows


class Data(NamedTuple):
    """The samples and their targets, the order in which to train on them, and the size of a batch."""

    x: Input
    target: Target
    order: np.ndarray
    batch_size: int


class Batch(NamedTuple):
    """``m`` samples from place ``start`` of the order on, for update t, and Σ of their weights."""

    start: int
    m: int
    t: int
    weight: float


@inline
def batch_of(samples, number, made):
    """Batch ``number`` of the epoch, after ``made`` updates before it."""
    start = number * samples.batch_size
    m = min(samples.batch_size, samples.order.rows - start)
    return Batch(start, m, made + number + 1, batch_weight(samples.target.weights, samples.order, start, m))


@inline
def loss_of_batch(samples, batch, memory):
    """The mean loss of a batch, once all threads have gone through it."""
    losses = shift(memory.nodes.p, memory.losses_at)
    return batch_loss(losses, samples.target.weights, samples.order, batch.start, batch.m, batch.weight)


@inline
def forward_and_back(net, samples, batch, objective, columns, memory, worker):
    """All rows of a batch up to the gradients before every op, each thread its share; False where one has failed.

    A thread with columns of its own first computes them for the whole batch.
    """
    if columns.end > columns.start:
        own = own_samples(memory, worker)
        gather(net, samples.x, integer(shift(samples.order.p, batch.start)), batch.m, own)
        lap(worker.clock, -1, GATHER)
        zeros = shift(memory.nodes.p, memory.zeros_at)
        out, cols = node(memory, 1, VALUES, 0), columns.end - columns.start
        linear_op(net, 0, batch.m, columns.start, cols, own, out, zeros, worker.workspace)
        lap(worker.clock, 0, FORWARD)
        if not barrier(memory.sync.p, worker.n_threads):
            return False
    first, end = part(batch.m, cell(net.ops, 0, UNIT_OF_BATCH), worker.thread, worker.n_threads)
    if end > first or sums_over_batch(net):
        rows = Rows(batch.t, first, end - first, batch.m)
        if not _rows_to_gradients(net, samples, batch, rows, objective, columns, memory, worker):
            return False
    return barrier(memory.sync.p, worker.n_threads)


@inline
def own_samples(memory, worker):
    """Where a thread gathers a batch for itself."""
    return Matrix(shift(worker.workspace, memory.own_at), cell(memory.plan, 0, LD), 1)


@inline
def _rows_to_gradients(net, samples, batch, rows, objective, columns, memory, worker):
    """Some rows of a batch forward, through the loss, and back to the gradient before every op.

    Where threads have columns of their own, the first op has been gone through. At an operation that sums over the
    batch all threads meet, those without rows as well. False where one has failed.
    """
    last, row, nodes, by_columns = net.ops.rows, rows.first, memory.nodes.p, columns.end > columns.start
    zeros, has_rows = shift(nodes, memory.zeros_at), rows.count > 0
    if not by_columns:
        order = integer(shift(samples.order.p, batch.start + row))
        gather(net, samples.x, order, rows.count, node(memory, 0, VALUES, row))
        lap(worker.clock, -1, GATHER)
    for i in range(1 if by_columns else 0, last):
        around = around_op(net, memory, i, row)
        if cell(net.ops, i, SUMS) != 0:
            if has_rows:
                sum_forward(net, i, rows, around)
            if not barrier(memory.sync.p, worker.n_threads):
                return False
        if has_rows:
            forward_op(net, i, rows, around.x, around.y, around.source, around.kept, zeros, worker.workspace)
        lap(worker.clock, i, FORWARD)

    scores, gradient = node(memory, last, VALUES, row), node(memory, last, GRADIENT, row)
    results = Results(
        shift(memory.shares.p, row),
        shift(nodes, memory.losses_at + row),
        shift(nodes, memory.target_terms_at + row),
    )
    n_out = cell(net.ops, last - 1, OUTPUTS)
    place = Place(shift(samples.order.p, batch.start + row), rows.count, batch.weight)
    if has_rows:
        loss_rows(objective, samples.target, place, n_out, scores, gradient, results)
        undo_rectifier(net, last - 1, rows.count, gradient, scores)
    lap(worker.clock, -1, LOSS)

    first = first_trained(net)
    for i in range(last - 1, first - 1, -1):
        around = around_op(net, memory, i, row)
        if cell(net.ops, i, SUMS) != 0:
            if has_rows:
                sum_backward(net, i, rows, around)
            if not barrier(memory.sync.p, worker.n_threads):
                return False
        if has_rows and i > first:
            backward_op(net, i, rows, around, worker.workspace)
            add_sources(net, memory, i, rows)
        if i > first:
            lap(worker.clock, i, BACKWARD)
    return True


@inline
def total_of(squares):
    """The sum of what stands in a table, in order."""
    total = 0.0
    for i in range(squares.rows):
        total += float(get(squares.p, i))
    return total
