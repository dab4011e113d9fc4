"""Networks side by side with their gradients formed as a whole before an update, to the bits of ``network.whole``.

They are summed over some batches, and each is clipped by its own norm. All networks have as many batches in an epoch,
so that they move at the same time.
"""

import math
from typing import NamedTuple

import numpy as np

from ...codes import BIAS_AT, INPUTS, LENGTH, OUTPUTS, ROW, START, WEIGHT
from ..compiler.jit import inline, kernel
from ..network.layers import is_updated
from ..network.memory import GRADIENT, VALUES
from ..network.whole import add
from ..simd.subnormals import flushed
from ..simd.table import cell, tables
from ..simd.vector import fma, get, lanes, load, put, select, shift, splat, store
from ..simd.wide import load_wide, narrowed, store_wide, widened
from ..updates import OTHERS, WEIGHTS
from .epoch import Each, finish, to_gradients
from .layers import column_sums, gradient_of_each, node, transpose_kept
from .memory import APART_AT, BATCH_SIZE, COUNT, FIRST, SAMPLES
from .objectives import Group, has_penalty
from .product import COMBINE, STORE, Epilogue, Lanes, product
from .rows import add_rows, is_moved, move_rows, square_rows
from .steps import apply_rule, pack, prepare, scale_step, square_all


class Whole(NamedTuple):
    """The gradient (n_params, lanes), and the rows in it as ``network.whole`` has them, their heads (lanes, n_spans).

    With ``clips`` there are the greatest norms (lanes,). ``factors`` (lanes,) are what gradients are multiplied by,
    ``pieces`` the parts whose squares are summed by themselves, in ``sums`` (lanes, lanes) float64, with a row for each
    lane of a vector of one network.
    """

    clips: bool
    gradient: np.ndarray
    touched: np.ndarray
    heads: np.ndarray
    pieces: np.ndarray
    norms: np.ndarray
    factors: np.ndarray
    sums: np.ndarray


@kernel
def train_whole_side_by_side(net, each, objective, step, whole, memory, rows, counts):
    """Train every network for its epochs, see ``train_side_by_side``."""
    arguments = (
        tables(net), tables(Each(each)).each, tables(objective), tables(step), tables(whole), tables(memory),
        tables(rows), tables(counts),
    )  # fmt: skip
    return flushed(_train, arguments)


@inline
def _train(net, each, objective, step, whole, memory, rows, counts):
    pack(net, each, step, memory)
    penalised, place = has_penalty(objective), 0
    if penalised:
        square_all(net, rows, counts)
    while True:
        group = Group(place, step.accumulate)
        m = to_gradients(net, each, objective, step, group, memory, rows, counts)
        if m == 0:
            break
        _add_gradient(net, step, whole, m, place == 0, memory, counts)
        place += 1
        if place == group.size or _is_last_batch(each, counts):
            place = 0
            prepare(step, each, counts)
            if whole.clips:
                _add_penalties(net, step, whole)
                _find_factors(net, whole)
            _move(net, each, step, whole, counts)
            if penalised:
                square_all(net, rows, counts)
        finish(net, each, step, memory, counts)
    return 0


@inline
def _is_last_batch(each, counts):
    """Whether an epoch ends, which it does for all networks that still train."""
    for lane in range(counts.failed.rows):
        if cell(counts.whole, lane, COUNT) > 0:
            after = cell(counts.whole, lane, FIRST) + cell(each, lane, BATCH_SIZE)
            return after >= cell(each, lane, SAMPLES)
    return True


@inline
def _add_gradient(net, step, whole, m, is_first, memory, counts):
    """Add the gradients of a batch, or write them where the batch is the first."""
    gradient, factors, block = whole.gradient.p, memory.factors.p, step.block.p
    width, ones = lanes(gradient), splat(gradient, 1.0)
    for i in range(net.ops.rows):
        if is_updated(net.ops, i):
            n_in, n_out = cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS)
            x, dy = node(memory, i, VALUES), node(memory, i + 1, GRADIENT)
            out = Lanes(shift(gradient, cell(net.ops, i, WEIGHT) * width), n_out * width, width)
            store(factors, 0, ones)
            store(factors, width, ones)
            epilogue = Epilogue(STORE if is_first else COMBINE, Lanes(x.p, 0, 0), factors)
            product(n_in, n_out, m, Lanes(x.p, x.col, x.row), dy, out, epilogue, memory.panel.p)
            if cell(net.ops, i, BIAS_AT) >= 0:
                column_sums(m, n_out, dy, block)
                add(shift(gradient, cell(net.ops, i, BIAS_AT) * width), block, n_out * width, is_first)
        else:
            _add_gradient_of_operation(net, i, step, whole, m, is_first, memory, counts.whole)


@inline
def _add_gradient_of_operation(net, i, step, whole, m, is_first, memory, counts):
    is_transposed, width, block = False, lanes(whole.gradient.p), step.block.p
    for span in range(net.spans.rows):
        if is_moved(net, span, i):
            if not is_transposed:
                transpose_kept(net, i, m, memory)
                is_transposed = True
            if cell(net.ops, i, APART_AT) != 0:
                add_rows(net, whole, span, m, memory, counts)
            else:
                length = cell(net.spans, span, LENGTH)
                for first in range(0, length, memory.own_ld):
                    count = min(memory.own_ld, length - first)
                    gradient_of_each(net, span, first, count, memory, counts, m, block)
                    out = shift(whole.gradient.p, (cell(net.spans, span, START) + first) * width)
                    add(out, block, count * width, is_first)


@inline
def _add_penalties(net, step, whole):
    """Add the gradient of each network's penalty, which rules then know nothing of."""
    width = lanes(whole.gradient.p)
    penalties = load_wide(shift(step.prepared.p, WEIGHTS * width), 0, whole.gradient.p)
    factors = narrowed(penalties, whole.gradient.p)
    for i in range(net.ops.rows):
        if is_updated(net.ops, i):
            at = cell(net.ops, i, WEIGHT) * width
            out, w = shift(whole.gradient.p, at), shift(net.params.p, at)
            for k in range(0, cell(net.ops, i, INPUTS) * cell(net.ops, i, OUTPUTS) * width, width):
                g = load(out, k)
                store(out, k, select(factors == 0.0, g, fma(load(w, k), factors, g)))
    store_wide(step.prepared.p, WEIGHTS * width, widened(splat(whole.gradient.p, 0.0)))


@inline
def _find_factors(net, whole):
    """What the gradient of each network is multiplied by, at most 1."""
    gradient, sums = whole.gradient.p, whole.sums.p
    width = lanes(gradient)
    zeros = widened(splat(gradient, 0.0))
    total = zeros
    for piece in range(whole.pieces.rows):
        for k in range(width):
            store_wide(sums, k * width, zeros)
        for p in range(cell(whole.pieces, piece, 0), cell(whole.pieces, piece, 1)):
            x, place = widened(load(gradient, p * width)), p % width * width
            store_wide(sums, place, fma(x, x, load_wide(sums, place, gradient)))
        half = width // 2
        while half > 0:
            for k in range(half):
                low, high = load_wide(sums, k * width, gradient), load_wide(sums, (half + k) * width, gradient)
                store_wide(sums, k * width, low + high)
            half //= 2
        total = total + load_wide(sums, 0, gradient)
    store_wide(sums, 0, total)
    for lane in range(width):
        squares = get(sums, lane)
        for span in range(net.spans.rows):
            if cell(net.spans, span, ROW) != 0:
                squares += square_rows(net, whole, span, lane)
        factor = get(whole.norms.p, lane) / (math.sqrt(squares) + 1e-6)
        put(whole.factors.p, lane, factor if factor < 1.0 else 1.0)


@inline
def _move(net, each, step, whole, counts):
    """Update all parameters of every network."""
    for i in range(net.ops.rows):
        scale_step(step, i, each, counts)
        if is_updated(net.ops, i):
            n_out = cell(net.ops, i, OUTPUTS)
            _move_part(net, step, whole, cell(net.ops, i, WEIGHT), WEIGHTS, cell(net.ops, i, INPUTS) * n_out)
            if cell(net.ops, i, BIAS_AT) >= 0:
                _move_part(net, step, whole, cell(net.ops, i, BIAS_AT), OTHERS, n_out)
        for span in range(net.spans.rows):
            if is_moved(net, span, i) and cell(net.ops, i, APART_AT) != 0:
                for lane in range(counts.failed.rows):
                    if cell(counts.whole, lane, COUNT) > 0:
                        move_rows(net, step, whole, span, lane)
            elif is_moved(net, span, i):
                _move_part(net, step, whole, cell(net.spans, span, START), OTHERS, cell(net.spans, span, LENGTH))


@inline
def _move_part(net, step, whole, at, kind, n):
    gradient, factors = whole.gradient.p, load(whole.factors.p, 0)
    width = lanes(gradient)
    gradient = shift(gradient, at * width)
    if whole.clips:
        for k in range(0, n * width, width):
            store(gradient, k, load(gradient, k) * factors)
    apply_rule(net, step, at, gradient, kind, n)
