"""Epochs in which the gradient of all parameters is formed before an update, for what has to know it as a whole.

It is summed over some batches, and clipped by its norm. Each thread forms, and moves by, its own part of every
parameter; for the norm Σ g² is taken of pieces, whose sums are added up in their order, so that the bits do not depend
on the number of threads.
"""

import math
from typing import NamedTuple

import numpy as np

from ...codes import BIAS_AT, INPUTS, LENGTH, OP, OUTPUTS, ROW, START, STRIDE, TRAINED, WEIGHT
from ..compiler.jit import conductor, inline
from ..gemm.product import WORKSPACE, Epilogue, Matrix, column_sums, moved, product_at, stop_prefetching, transposed
from ..gemm.tile import COMBINE, STORE
from ..operations import gradients_at
from ..simd.subnormals import flushed
from ..simd.table import cell, row_of, tables
from ..simd.vector import (
    data,
    fma,
    get,
    lanes,
    load,
    load_part,
    pointer,
    put,
    reduce_add,
    shift,
    splat,
    store_part,
)
from ..simd.wide import widened
from ..threading.barrier import barrier
from ..threading.team import part
from ..updates import OTHERS, WEIGHTS
from .batch import Fixed, keep, through_batch
from .clock import REST, UPDATE, begin, lap
from .layers import GRADIENT_AT, LINE, UNIT_OF_WEIGHT, is_updated
from .memory import around_op
from .objectives import batch_weight, penalty_factor
from .passes import Batch, batch_of, loss_of_batch, total_of
from .steps import (
    GRADIENT_BLOCK,
    Columns,
    Worker,
    apply_rule,
    gradient_of_span,
    prepare_step,
    scale_step,
    square_sums,
    step_of,
)

# Elements of the gradient whose squares are summed up by themselves.
PIECE = 8192


class Whole(NamedTuple):
    """The gradient (n_params,), Σ g² of its pieces, its greatest norm, 0 for any, and the batches it is summed over.

    Of a parameter of which a batch has a gradient for some rows alone, only these are written, read and moved: the last
    of them starts at ``heads`` (n_spans,) less 1, 0 for none, and where a row starts ``touched`` (n_params,) holds 1
    plus the like of the one before. ``sums`` are those of ``pieces`` (n, 2), from where to where, and then of such rows
    of each span.
    """

    gradient: np.ndarray
    touched: np.ndarray
    heads: np.ndarray
    pieces: np.ndarray
    sums: np.ndarray
    clip_norm: float
    accumulate: int


def whole_of(spans: np.ndarray, params: np.ndarray, clip_norm: float | None, accumulate: int) -> Whole:
    """The memory for the gradient of some parameters."""
    pieces = pieces_of(spans, params.size)
    return Whole(
        np.zeros(params.size, params.dtype),
        np.zeros(params.size if spans[:, ROW].any() else 0, np.int64),
        np.zeros(len(spans), np.int64),
        pieces,
        np.zeros(len(pieces) + len(spans)),
        float(clip_norm or 0.0),
        accumulate,
    )


def pieces_of(spans: np.ndarray, n_params: int) -> np.ndarray:
    """The parts (n, 2) of a gradient whose squares are summed by themselves, where it is whole for every batch."""
    by_rows = spans[spans[:, ROW] != 0]
    starts, ends = by_rows[:, START], by_rows[:, START] + -(-by_rows[:, LENGTH] // STRIDE) * STRIDE
    bounds = zip([0, *ends.tolist()], [*starts.tolist(), n_params], strict=True)
    pieces = [(at, min(at + PIECE, end)) for start, end in bounds for at in range(start, end, PIECE)]
    return np.array(pieces, np.int64).reshape(-1, 2)


@conductor
def train_whole(net, samples, objective, step, whole, memory, clock, own, thread, n_threads):
    """Train for an epoch, see ``train_epoch``."""
    workspace = data(own)
    block = shift(workspace, WORKSPACE)
    memory = tables(memory)
    samples_ahead, pieces = row_of(memory.samples, thread), row_of(memory.pieces, thread)
    worker = Worker(thread, n_threads, workspace, block, samples_ahead, pieces, tables(clock))
    arguments = tables(net), tables(samples), tables(objective), tables(step), tables(whole), memory, worker
    result = flushed(_train_groups, arguments)
    stop_prefetching(workspace)
    return result


@inline
def _train_groups(net, samples, objective, shared, whole, memory, worker):
    step, size = step_of(shared, worker.thread), whole.accumulate
    fixed = keep(Fixed(net, samples, objective, Columns(0, 0), memory, worker), worker.workspace)
    total = seen = 0.0
    begin(worker.clock)
    if objective.l2 != 0.0:
        square_sums(net, memory.squares.p, worker.thread, worker.n_threads)
    if not barrier(memory.sync.p, worker.n_threads):
        return 0.0, -1
    count = (samples.order.rows + samples.batch_size - 1) // samples.batch_size
    for number in range(count):
        place = number % size
        # Batches draw by the number of the batch, which is that of the update where there is no other.
        batch = batch_of(samples, number, step.made * size)
        weight = _weight_of_group(samples, batch.start - place * samples.batch_size, size)
        l2 = penalty_factor(objective, objective.l2, weight)
        penalty = l2 * total_of(memory.squares) if l2 != 0.0 else 0.0
        in_group = Batch(batch.start, batch.m, batch.t, weight)
        if not through_batch(fixed, in_group, memory, worker):
            break
        value = objective.value * loss_of_batch(samples, batch, memory) + penalty
        share = float(batch.m) if objective.mean_over_rows else batch.weight
        total += share * value
        seen += share
        if objective.stop and not math.isfinite(value):
            return total / seen if seen != 0.0 else 0.0, number
        lap(worker.clock, -1, REST)
        _add_gradient(net, whole, batch.m, place == 0, memory, worker)
        if place == size - 1 or number == count - 1:
            t = step.made + number // size + 1
            prepare_step(step, t, l2, weight, worker.workspace)
            if not _move(net, step, whole, t, weight, memory, worker):
                break
            if objective.l2 != 0.0:
                square_sums(net, memory.squares.p, worker.thread, worker.n_threads)
        if not barrier(memory.sync.p, worker.n_threads):
            break
        lap(worker.clock, -1, REST)
    return total / seen if seen != 0.0 else 0.0, -1


@inline
def _weight_of_group(samples, start, size):
    """Σ of the weights of the samples of some batches, the first of which starts there."""
    m = min(samples.batch_size * size, samples.order.rows - start)
    return batch_weight(samples.target.weights, samples.order, start, m)


@inline
def _add_gradient(net, whole, m, is_first, memory, worker):
    """Add a thread's part of the gradient of a batch, or write it where the batch is the first."""
    gradient = whole.gradient.p
    for i in range(net.ops.rows):
        around = around_op(net, memory, i, 0)
        n_in, n_out = cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS)
        if is_updated(net.ops, i):
            start, end = part(n_in, cell(net.ops, i, UNIT_OF_WEIGHT), worker.thread, worker.n_threads)
            out = Matrix(shift(gradient, cell(net.ops, i, WEIGHT) + start * n_out), n_out, 1)
            if end > start:
                epilogue = Epilogue(STORE if is_first else COMBINE, out.p, 0, 1.0, 1.0)
                x = transposed(moved(around.x, 0, start))
                at = cell(net.ops, i, GRADIENT_AT)
                product_at(at, end - start, n_out, m, x, around.dy, out, epilogue, worker.workspace)
            if cell(net.ops, i, BIAS_AT) >= 0 and i % worker.n_threads == worker.thread:
                bias = shift(gradient, cell(net.ops, i, BIAS_AT))
                column_sums(m, n_out, around.dy, bias, 1.0, 0.0 if is_first else 1.0)
        for span in range(net.spans.rows):
            if cell(net.spans, span, OP) == i and cell(net.spans, span, TRAINED) != 0:
                if cell(net.spans, span, ROW) != 0:
                    _add_rows(net, whole, span, m, around, worker)
                else:
                    _add_span(net, gradient, span, m, is_first, around, worker)
        lap(worker.clock, i, UPDATE)


@inline
def _add_span(net, gradient, span, m, is_first, around, worker):
    start, end = part(cell(net.spans, span, LENGTH), LINE, worker.thread, worker.n_threads)
    for first in range(start, end, GRADIENT_BLOCK):
        count = min(GRADIENT_BLOCK, end - first)
        gradient_of_span(net, span, m, around, first, count, worker.block)
        add(shift(gradient, cell(net.spans, span, START) + first), worker.block, count, is_first)


@inline
def _add_rows(net, whole, span, m, around, worker):
    """Add the gradient of some rows of a parameter, all those of an op in one thread."""
    if cell(net.spans, span, OP) % worker.n_threads != worker.thread:
        return
    width = cell(net.spans, span, ROW)
    gradient_of_span(net, span, m, around, -1, 0, around.kept)
    rows, gradients = pointer(around.kept, np.int64(0)), shift(around.kept, gradients_at(m))
    for k in range(get(rows, 0)):
        at = cell(net.spans, span, START) + get(rows, 1 + k) * width
        is_first = get(whole.touched.p, at) == 0
        add(shift(whole.gradient.p, at), shift(gradients, k * width), width, is_first)
        if is_first:
            put(whole.touched.p, at, 1 + get(whole.heads.p, span))
            put(whole.heads.p, span, 1 + at)


@inline
def add(to, x, n, is_first):
    """to (n,) += x, or = x."""
    width = lanes(to)
    for j in range(0, n, width):
        count = min(width, n - j)
        new = load_part(x, j, count, 0.0)
        store_part(to, j, count, new if is_first else load_part(to, j, count, 0.0) + new)


@inline
def _move(net, step, whole, t, weight, memory, worker):
    """Update number t of a thread's part of all parameters; False where another thread has failed."""
    factor = 1.0
    if whole.clip_norm > 0.0:
        if get(step.prepared, WEIGHTS) != 0.0:
            _add_penalty(net, whole, get(step.prepared, WEIGHTS), worker)
            put(step.prepared, WEIGHTS, 0.0)
        if not barrier(memory.sync.p, worker.n_threads):
            return False
        _sum_pieces(net, whole, worker)
        if not barrier(memory.sync.p, worker.n_threads):
            return False
        # As PyTorch has it, and with a norm that is not a number nothing is clipped.
        factor = whole.clip_norm / (math.sqrt(total_of(whole.sums)) + 1e-6)
        lap(worker.clock, -1, REST)
    for i in range(net.ops.rows):
        n_out = cell(net.ops, i, OUTPUTS)
        scale_step(step, i, t, weight, worker.workspace)
        if is_updated(net.ops, i):
            unit = cell(net.ops, i, UNIT_OF_WEIGHT)
            start, end = part(cell(net.ops, i, INPUTS), unit, worker.thread, worker.n_threads)
            at = cell(net.ops, i, WEIGHT) + start * n_out
            _move_part(net, step, whole, factor, at, WEIGHTS, (end - start) * n_out)
            if cell(net.ops, i, BIAS_AT) >= 0 and i % worker.n_threads == worker.thread:
                _move_part(net, step, whole, factor, cell(net.ops, i, BIAS_AT), OTHERS, n_out)
        for span in range(net.spans.rows):
            if cell(net.spans, span, OP) == i and cell(net.spans, span, TRAINED) != 0:
                _move_span(net, step, whole, factor, span, worker)
        lap(worker.clock, i, UPDATE)
    return True


@inline
def _move_span(net, step, whole, factor, span, worker):
    at, length, width = cell(net.spans, span, START), cell(net.spans, span, LENGTH), cell(net.spans, span, ROW)
    if width == 0:
        start, end = part(length, LINE, worker.thread, worker.n_threads)
        _move_part(net, step, whole, factor, at + start, OTHERS, end - start)
    elif cell(net.spans, span, OP) % worker.n_threads == worker.thread:
        row = get(whole.heads.p, span) - 1
        while row >= 0:
            _move_part(net, step, whole, factor, row, OTHERS, width)
            before = get(whole.touched.p, row) - 2
            put(whole.touched.p, row, 0)
            row = before
        put(whole.heads.p, span, 0)


@inline
def _move_part(net, step, whole, factor, at, kind, n):
    """Update n parameters of a kind from offset ``at`` by their gradient times a factor."""
    gradient = shift(whole.gradient.p, at)
    if factor < 1.0:
        scale(gradient, n, factor)
    apply_rule(net, step, at, gradient, kind, n)


@inline
def scale(x, n, factor):
    """x (n,) *= factor."""
    width = lanes(x)
    for j in range(0, n, width):
        count = min(width, n - j)
        store_part(x, j, count, load_part(x, j, count, 0.0) * factor)


@inline
def _add_penalty(net, whole, factor, worker):
    """Add the gradient of the penalty, a factor of the weights, to that of a thread's rows of each."""
    for i in range(net.ops.rows):
        if is_updated(net.ops, i):
            n_out = cell(net.ops, i, OUTPUTS)
            unit = cell(net.ops, i, UNIT_OF_WEIGHT)
            start, end = part(cell(net.ops, i, INPUTS), unit, worker.thread, worker.n_threads)
            at, n = cell(net.ops, i, WEIGHT) + start * n_out, (end - start) * n_out
            w, g, width = shift(net.params.p, at), shift(whole.gradient.p, at), lanes(whole.gradient.p)
            for j in range(0, n, width):
                count = min(width, n - j)
                x = load_part(w, j, count, 0.0)
                store_part(g, j, count, fma(x, splat(w, factor), load_part(g, j, count, 0.0)))


@inline
def _sum_pieces(net, whole, worker):
    """Σ g² of a thread's share of the pieces, and of the rows that it moves, in float64."""
    width, pieces = lanes(whole.gradient.p), whole.pieces.rows
    first, end = part(pieces, 1, worker.thread, worker.n_threads)
    for piece in range(first, end):
        total = widened(splat(whole.gradient.p, 0.0))
        for j in range(cell(whole.pieces, piece, 0), cell(whole.pieces, piece, 1), width):  # of whole vectors
            x = widened(load(whole.gradient.p, j))
            total = fma(x, x, total)
        put(whole.sums.p, piece, reduce_add(total))
    for span in range(net.spans.rows):
        if cell(net.spans, span, ROW) != 0 and cell(net.spans, span, OP) % worker.n_threads == worker.thread:
            total = widened(splat(whole.gradient.p, 0.0))
            row = get(whole.heads.p, span) - 1
            while row >= 0:
                for j in range(0, cell(net.spans, span, ROW), width):
                    count = min(width, cell(net.spans, span, ROW) - j)
                    x = widened(load_part(whole.gradient.p, row + j, count, 0.0))
                    total = fma(x, x, total)
                row = get(whole.touched.p, row) - 2
            put(whole.sums.p, pieces + span, reduce_add(total))
