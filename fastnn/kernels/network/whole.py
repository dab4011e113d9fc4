"""Epochs in which the gradient of all parameters is formed before an update, for what has to know it as a whole.

It is summed over some batches, and clipped by its norm. Each thread forms, and moves by, its own part of every
parameter; for the norm Σ g² is taken of pieces, whose sums are added up in their order, so that the bits do not depend
on the number of threads.
"""

import math

import numpy as np

from ...codes import BIAS_AT, INPUTS, LENGTH, OP, OUTPUTS, ROW, START, STRIDE, TRAINED, WEIGHT
from ..compiler.jit import inline, shared
from ..gemm.product import Epilogue, Matrix, column_sums, moved, product_at, transposed
from ..gemm.tile import COMBINE, STORE
from ..operations import gradients_at
from ..simd.table import cell
from ..simd.vector import (
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
from .clock import REST, UPDATE, lap
from .layers import GRADIENT_AT, LINE, UNIT_OF_WEIGHT, is_updated
from .memory import Whole, around_op
from .passes import total_of
from .record import fixed_at, update_signature
from .steps import (
    GRADIENT_BLOCK,
    apply_rule,
    gradient_of_span,
    prepare_step,
    scale_step,
    square_sums,
)

# Elements of the gradient whose squares are summed up by themselves.
PIECE = 8192


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


@shared(update_signature, light=True)
def UPDATE_WHOLE(place, like, start, m, t, weight, l2, is_first, is_last):
    """Add a batch to the gradient, a thread's part of it, and after the last of some move all parameters by it."""
    fixed = fixed_at(place, like)
    net, step, whole, memory, worker = fixed.net, fixed.step, fixed.whole, fixed.memory, fixed.worker
    _add_gradient(net, whole, m, is_first != 0, memory, worker)
    if is_last != 0:
        prepare_step(step, t, l2, weight, like)
        if _move(net, step, whole, t, weight, memory, worker) and fixed.objective.l2 != 0.0:
            square_sums(net, memory.squares.p, worker.thread, worker.n_threads)


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
        if get(step.prepared.p, WEIGHTS) != 0.0:
            _add_penalty(net, whole, get(step.prepared.p, WEIGHTS), worker)
            put(step.prepared.p, WEIGHTS, 0.0)
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
