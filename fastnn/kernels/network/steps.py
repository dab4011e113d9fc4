"""How an epoch updates its parameters: each thread its share of every one, in the epilogue of a product or by a rule.

What the products of the updates are to fetch into the L2 cache while they compute, the next batch and the state of
rules, is noted down here too, and Σ w² is kept up, a sum for each tile.
"""

from typing import Any, NamedTuple

import numpy as np

from ...codes import (
    BIAS_AT,
    FROZEN,
    INPUTS,
    KEEPS,
    KIND,
    LENGTH,
    LINEAR,
    OP,
    OUTPUTS,
    ROW,
    SETTINGS,
    START,
    WEIGHT,
    WHICH,
)
from ..compiler.cpu import ISA
from ..compiler.jit import inline
from ..gemm.product import Epilogue, Matrix, column_sums, moved, prefetch, product_at, sum_of_squares, transposed
from ..gemm.tile import BLOCK, COMBINE, COMBINE_SQUARES, STORE, most_cols, most_rows
from ..operations import call_gradient, gradients_at
from ..simd.table import cell, row_alone
from ..simd.vector import get, integer, itemsize, pointer, put, shift
from ..threading.team import part
from ..updates import OTHERS, WEIGHTS, call_prepare, call_update
from .layers import GRADIENT_AT, LINE, UNIT_OF_WEIGHT, is_updated

# Elements of a block of the weights' gradient, which is formed and used up block by block; on the matrix unit, which
# splits the other factor for each anew, larger ones.
GRADIENT_BLOCK, UNIT_GRADIENT_BLOCK = 16384, 524288
# Bytes below which fetching them early is not worth the trouble.
WORTH_FETCHING = 32_768


class Step(NamedTuple):
    """How an update moves: 1 for plain SGD in the epilogue of a product, 0 for a rule; and what the rule prepared.

    The learning rate is the first of the settings; ``rates`` has one for each update in its place, or none, and
    ``scales`` a factor of it for each op, or none. The rule's slots (s, n_params) are those of all parameters, and
    ``made`` the updates before the epoch. A row of ``given`` belongs to a thread, the settings of an update; so does
    one of ``prepared``: the rule's numbers, then those of the two kinds of parameters; and one of ``places``, for the
    addresses of slots.
    """

    fused: int
    prepare: int
    update: int
    settings: np.ndarray
    rates: np.ndarray
    scales: np.ndarray
    slots: np.ndarray
    made: int
    given: np.ndarray
    prepared: np.ndarray
    places: np.ndarray


@inline
def step_of(step, thread):
    """The step of one thread, whose rows of ``given``, ``prepared`` and ``places`` it has."""
    return Step(
        step.fused, step.prepare, step.update, step.settings, step.rates, step.scales, step.slots, step.made,
        row_alone(step.given, thread), row_alone(step.prepared, thread), row_alone(step.places, thread),
    )  # fmt: skip


@inline
def prepare_step(step, t, l2, weight, like):
    """What update t takes for a batch of this weight, with the factor l2 of Σ w²."""
    prepared = step.prepared.p
    if step.rates.rows != 0 or step.scales.rows != 0:
        put(step.given.p, 0, _rate(step, t))
    call_prepare(step.prepare, like, (step.given.p, prepared, 1, t, weight))
    put(prepared, WEIGHTS, 2.0 * l2)
    put(prepared, OTHERS, 0.0)
    put(prepared, WEIGHTS + 2, 1.0)
    put(prepared, OTHERS + 2, 0.0)


@inline
def scale_step(step, i, t, weight, like):
    """Prepare the rule again where the parameters of op i take another learning rate."""
    if step.scales.rows != 0:
        put(step.given.p, 0, _rate(step, t) * get(step.scales.p, i))
        call_prepare(step.prepare, like, (step.given.p, step.prepared.p, 1, t, weight))


@inline
def _rate(step, t):
    """The learning rate of update t."""
    return get(step.rates.p, t - step.made - 1) if step.rates.rows != 0 else get(step.settings.p, 0)


class Worker(NamedTuple):
    """One of the threads of an epoch, its memory and its clock.

    ``workspace`` is that of its products, and behind it ``block`` holds a block of a weight's gradient. ``samples``
    lists the next batch's rows, each an address and a number of bytes, after the number of them; ``pieces`` is for
    what a product is to prefetch.
    """

    thread: int
    n_threads: int
    workspace: Any
    block: Any
    samples: Any
    pieces: Any
    clock: Any


class Columns(NamedTuple):
    """The columns [start, end) of the first op's weight that one thread keeps."""

    start: int
    end: int


@inline
def columns_of(net, thread, n_threads, like):
    """The columns of the first op's weight that a thread keeps, none where threads share its rows.

    With columns of its own a thread finds in its own cache what it updated last, and needs the whole batch; this pays
    where the columns can be dealt out evenly.
    """
    n_out = cell(net.ops, 0, OUTPUTS)
    panels = _panels(n_out, like)
    if n_threads == 1 or not is_updated(net.ops, 0) or panels < n_threads:
        return Columns(0, 0)
    if panels % n_threads != 0 and panels < 4 * n_threads:
        return Columns(0, 0)
    start, end = part(n_out, most_cols(like), thread, n_threads)
    return Columns(start, end)


@inline
def sgd_rows(net, step, i, m, around, squares, worker):
    """Update a thread's share of the rows of the linear op i, which fetches its share of the next batch."""
    n_in, n_out = cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS)
    start, end = part(n_in, cell(net.ops, i, UNIT_OF_WEIGHT), worker.thread, worker.n_threads)
    x = moved(around.x, 0, start)
    _sgd(net, step, i, start, 0, end - start, n_out, m, x, around.dy, squares, worker)
    if i % worker.n_threads == worker.thread:
        _sgd_bias(net, step, i, m, 0, n_out, around.dy)


@inline
def sgd_columns(net, step, m, columns, x, dy, squares, worker):
    """Update some columns of the first op, which is linear."""
    col, cols = columns.start, columns.end - columns.start
    dy = moved(dy, 0, col)
    _sgd(net, step, 0, 0, col, cell(net.ops, 0, INPUTS), cols, m, x, dy, squares, worker)
    _sgd_bias(net, step, 0, m, col, cols, dy)


@inline
def _sgd(net, step, i, row, col, rows, cols, m, x, dy, squares, worker):
    """A block of the weight of the linear op i: W = (1 - 2 lr l2) W - lr xᵀ dy.

    The update is the epilogue of the product, which fetches what comes next, see ``Worker``.
    """
    n_out, unit = cell(net.ops, i, OUTPUTS), cell(net.ops, i, UNIT_OF_WEIGHT)
    panels = _panels(n_out, x.p)
    if rows > 0 and cols > 0:
        if unit != BLOCK:
            _prefetch(worker, 0, 0, get(worker.samples, 0), m * tiles_of(rows, cols, x.p))
        weight = Matrix(shift(net.params.p, cell(net.ops, i, WEIGHT) + row * n_out + col), n_out, 1)
        tiles = shift(squares, row // unit * panels + _panels(col, x.p))
        lr, penalty = get(step.prepared.p, 0), get(step.prepared.p, WEIGHTS)
        mode = COMBINE_SQUARES if penalty != 0.0 else COMBINE
        epilogue = Epilogue(mode, tiles, panels, -lr, 1.0 - lr * penalty)
        product_at(cell(net.ops, i, GRADIENT_AT), rows, cols, m, transposed(x), dy, weight, epilogue, worker.workspace)


@inline
def _sgd_bias(net, step, i, m, col, cols, dy):
    """Update some elements of the bias of the linear op i, from the columns of dy that belong to them."""
    bias_at = cell(net.ops, i, BIAS_AT)
    if bias_at >= 0:
        column_sums(m, cols, dy, shift(net.params.p, bias_at + col), -get(step.prepared.p, 0), 1.0)


@inline
def update_linear(net, step, i, m, around, squares, worker):
    """Update this thread's share of the weights and biases of the linear op i; ``squares`` are as in ``square_sums``.

    x (m, inputs) is the op's input and dy (m, outputs) the gradient before its rectifier. Rules with state take the
    gradient a block of rows at a time, while it is still in the cache.
    """
    if step.fused != 0:
        sgd_rows(net, step, i, m, around, squares, worker)
        return
    n_in, n_out = cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS)
    bias_at, at = cell(net.ops, i, BIAS_AT), cell(net.ops, i, WEIGHT)
    unit, panels, samples = cell(net.ops, i, UNIT_OF_WEIGHT), _panels(n_out, around.x.p), get(worker.samples, 0)
    start, end = part(n_in, unit, worker.thread, worker.n_threads)
    block, most = worker.block, UNIT_GRADIENT_BLOCK if unit == BLOCK else GRADIENT_BLOCK
    height = max(unit, most // max(1, n_out) // unit * unit)
    for first in range(start, end, height):
        rows = min(height, end - first)
        if unit != BLOCK:
            pieces = _put_state(net, step.slots, at + first * n_out, rows * n_out, worker.pieces)
            done, more = first - start, min(end, first + height) - start
            _prefetch(
                worker, pieces, samples * done // (end - start), samples * more // (end - start),
                m * tiles_of(rows, n_out, around.x.p),
            )  # fmt: skip
        x, out, store_it = moved(around.x, 0, first), Matrix(block, n_out, 1), Epilogue(STORE, block, 0, 1.0, 0.0)
        at_product = cell(net.ops, i, GRADIENT_AT)
        product_at(at_product, rows, n_out, m, transposed(x), around.dy, out, store_it, worker.workspace)
        apply_rule(net, step, at + first * n_out, block, WEIGHTS, rows * n_out)
        if get(step.prepared.p, WEIGHTS) != 0.0:
            _sum_squares(net, i, first, rows, shift(squares, first // unit * panels), panels)
    if bias_at >= 0 and i % worker.n_threads == worker.thread:
        column_sums(m, n_out, around.dy, block, 1.0, 0.0)
        apply_rule(net, step, bias_at, block, OTHERS, n_out)


@inline
def update_span(net, step, span, m, around, worker):
    """Update this thread's share of a parameter of an operation, whose gradient is summed over the batch in order."""
    length, block = cell(net.spans, span, LENGTH), worker.block
    start, end = part(length, LINE, worker.thread, worker.n_threads)
    for first in range(start, end, GRADIENT_BLOCK):
        count = min(GRADIENT_BLOCK, end - first)
        gradient_of_span(net, span, m, around, first, count, block)
        apply_rule(net, step, cell(net.spans, span, START) + first, block, OTHERS, count)


@inline
def update_rows(net, step, span, m, around, worker):
    """Update the rows of a parameter that the batch has a gradient for, all those of an op in one thread."""
    i, width = cell(net.spans, span, OP), cell(net.spans, span, ROW)
    if i % worker.n_threads != worker.thread:
        return
    gradient_of_span(net, span, m, around, -1, 0, around.kept)
    rows, gradients = pointer(around.kept, np.int64(0)), shift(around.kept, gradients_at(m))
    for k in range(get(rows, 0)):
        at = cell(net.spans, span, START) + get(rows, 1 + k) * width
        apply_rule(net, step, at, shift(gradients, k * width), OTHERS, width)


@inline
def gradient_of_span(net, span, m, around, first, count, out):
    """Some elements of the gradient of an operation's parameter; that of rows where ``first`` is -1."""
    i = cell(net.spans, span, OP)
    x, y, _, dy, kept, _ = around
    call_gradient(
        cell(net.ops, i, GRADIENT_AT), dy.p,
        (m, cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS), dy.p, dy.row, x.p, x.row, y.p, y.row, kept,
         shift(net.params.p, cell(net.ops, i, WEIGHT)), shift(net.settings.p, cell(net.ops, i, SETTINGS)), 0,
         cell(net.spans, span, WHICH), first, count, out),
    )  # fmt: skip


@inline
def apply_rule(net, step, at, gradient, kind, n):
    """Update n parameters of a kind, WEIGHTS or OTHERS, from offset ``at``."""
    for s in range(step.slots.rows):
        put(step.places.p, s, integer(shift(step.slots.p, s * step.slots.cols + at)))
    prepared, w = step.prepared.p, shift(net.params.p, at)
    call_update(step.update, w, (n, w, gradient, step.places.p, prepared, shift(prepared, kind), 0))


@inline
def put_piece(pieces, i, address, size):
    """Piece i of a list of memory to fetch."""
    put(pieces, 2 * i, address)
    put(pieces, 2 * i + 1, size)


@inline
def _put_state(net, slots, at, n, pieces):
    """Put n parameters and their slots on the list, and return how many pieces they are."""
    w = shift(net.params.p, at)
    put_piece(pieces, 0, integer(w), n * itemsize(w))
    for s in range(slots.rows):
        put_piece(pieces, s + 1, integer(shift(slots.p, at + s * slots.cols)), n * itemsize(w))
    return slots.rows + 1


@inline
def _prefetch(worker, count, first, end, steps):
    """Let a product of so many steps of k fetch the pieces on the list, and samples ``first`` to ``end``."""
    pieces, samples = worker.pieces, shift(worker.samples, 1)
    total = 0
    for i in range(count):
        total += get(pieces, 2 * i + 1)
    for i in range(first, end):
        put_piece(pieces, count + i - first, get(samples, 2 * i), get(samples, 2 * i + 1))
        total += get(samples, 2 * i + 1)
    if total >= WORTH_FETCHING:
        step = min(64, total // (2 * max(1, steps)) + 1)
        prefetch(pieces, count + end - first, step, worker.workspace)


@inline
def square_sums(net, squares, thread, n_threads):
    """Fill ``squares`` with sums that make Σ w², each thread for its share of the weights; frozen ones do not count.

    They stand as the tiles of a product do that has the weight for its result.
    """
    for i in range(net.ops.rows):
        if is_updated(net.ops, i):
            n_in, n_out = cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS)
            panels, unit = _panels(n_out, squares), cell(net.ops, i, UNIT_OF_WEIGHT)
            start, end = part(n_in, unit, thread, n_threads)
            _sum_squares(net, i, start, end - start, shift(squares, start // unit * panels), panels)
            squares = shift(squares, count_of_squares(net, i, squares))


@inline
def count_of_squares(net, i, like):
    """How many places ``square_sums`` has for the linear op i; on the matrix unit, of larger tiles, some stay zero."""
    return tiles_of(cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS), like)


@inline
def tiles_of(rows, n_out, like):
    """The tiles of a product of so many rows."""
    return (rows + most_rows(like) - 1) // most_rows(like) * _panels(n_out, like)


@inline
def _panels(n_out, like):
    width = most_cols(like)
    return (n_out + width - 1) // width


def count_squares(ops: np.ndarray, size: int) -> int:
    """How many places ``square_sums`` has, for elements of ``size`` bytes."""
    linear = ops[(ops[:, KIND] == LINEAR) & (ops[:, KEEPS] & FROZEN == 0)]
    height, width = ISA.rows(size), ISA.vectors(size) * ISA.lanes(size)
    return int((-(-linear[:, INPUTS] // height) * -(-linear[:, OUTPUTS] // width)).sum())


@inline
def _sum_squares(net, i, first, rows, squares, panels):
    """Σ w² of some rows of a weight, a sum for each tile, as the epilogue of a product has it."""
    n_out = cell(net.ops, i, OUTPUTS)
    weight = shift(net.params.p, cell(net.ops, i, WEIGHT) + first * n_out)
    width, unit = most_cols(weight), cell(net.ops, i, UNIT_OF_WEIGHT)
    for r in range(0, rows, unit):
        for j in range(0, n_out, width):
            tile = Matrix(shift(weight, r * n_out + j), n_out, 1)
            total = sum_of_squares(tile, min(unit, rows - r), min(width, n_out - j))
            put(squares, r // unit * panels + j // width, total)
