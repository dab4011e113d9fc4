"""Networks side by side whose gradients are clipped, each by its own norm: the bits of each are those of ``whole``."""

import math
from typing import NamedTuple

import numpy as np

from ...codes import BIAS_AT, INPUTS, LENGTH, OP, OUTPUTS, START, TRAINED, WEIGHT
from ..compiler.jit import inline, kernel
from ..network.layers import is_updated
from ..network.memory import GRADIENT, VALUES
from ..network.whole import PIECE
from ..simd.subnormals import flushed
from ..simd.table import cell, tables
from ..simd.transpose import transpose_block
from ..simd.vector import fma, get, lanes, load, put, select, shift, splat, store
from ..simd.wide import load_wide, narrowed, store_wide, widened
from ..updates import OTHERS, WEIGHTS
from .epoch import Each, finish, to_gradients
from .layers import column_sums, gradient_of_each, node, transpose_kept
from .objectives import has_penalty
from .product import STORE, Epilogue, Lanes, product
from .steps import apply_rule, pack, prepare, scale_step, square_all


class Clipped(NamedTuple):
    """The gradient (n_params, lanes) and its greatest norms (lanes,), the factors (lanes,), and memory for sums.

    ``sums`` (lanes, lanes) float64 has a row for each lane of a vector of one network.
    """

    gradient: np.ndarray
    norms: np.ndarray
    factors: np.ndarray
    sums: np.ndarray


@kernel
def train_clipped_side_by_side(net, each, objective, step, clipped, memory, rows, counts):
    """Train every network for its epochs, see ``train_side_by_side``."""
    arguments = (
        tables(net), tables(Each(each)).each, tables(objective), tables(step), tables(clipped), tables(memory),
        tables(rows), tables(counts),
    )  # fmt: skip
    return flushed(_train, arguments)


@inline
def _train(net, each, objective, step, clipped, memory, rows, counts):
    pack(net, each, step, memory)
    penalised = has_penalty(objective)
    if penalised:
        square_all(net, rows, counts)
    while True:
        m = to_gradients(net, each, objective, step, memory, rows, counts)
        if m == 0:
            break
        prepare(step, each, counts)
        _form(net, step, clipped.gradient.p, m, memory, counts)
        _find_factors(clipped)
        _move(net, each, step, clipped, counts)
        if penalised:
            square_all(net, rows, counts)
        finish(net, each, step, memory, counts)
    return 0


@inline
def _form(net, step, gradient, m, memory, counts):
    """The gradient of all parameters, penalties included, which rules then know nothing of."""
    width = lanes(gradient)
    penalties = load_wide(shift(step.prepared.p, WEIGHTS * width), 0, gradient)
    factors = narrowed(penalties, gradient)
    for i in range(net.ops.rows):
        if is_updated(net.ops, i):
            n_in, n_out = cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS)
            x, dy = node(memory, i, VALUES), node(memory, i + 1, GRADIENT)
            at = cell(net.ops, i, WEIGHT) * width
            out, w = Lanes(shift(gradient, at), n_out * width, width), shift(net.params.p, at)
            epilogue = Epilogue(STORE, Lanes(x.p, 0, 0), memory.factors.p)
            product(n_in, n_out, m, Lanes(x.p, x.col, x.row), dy, out, epilogue, memory.panel.p)
            for k in range(0, n_in * n_out * width, width):
                g = load(out.p, k)
                store(out.p, k, select(factors == 0.0, g, fma(load(w, k), factors, g)))
            if cell(net.ops, i, BIAS_AT) >= 0:
                column_sums(m, n_out, dy, shift(gradient, cell(net.ops, i, BIAS_AT) * width))
        else:
            _form_operation(net, i, gradient, m, memory, counts.whole)
    store_wide(step.prepared.p, WEIGHTS * width, widened(splat(gradient, 0.0)))


@inline
def _form_operation(net, i, gradient, m, memory, counts):
    """The gradient of the parameters of an operation."""
    is_transposed, width = False, lanes(gradient)
    for span in range(net.spans.rows):
        if cell(net.spans, span, OP) == i and cell(net.spans, span, TRAINED) != 0:
            if not is_transposed:
                transpose_kept(net, i, m, memory)
                is_transposed = True
            length = cell(net.spans, span, LENGTH)
            for first in range(0, length, memory.own_ld):
                count = min(memory.own_ld, length - first)
                gradient_of_each(net, span, first, count, memory, counts, m)
                out = shift(gradient, (cell(net.spans, span, START) + first) * width)
                for p in range(0, count, width):
                    transpose_block(
                        shift(memory.own.p, p), memory.own_ld, width, min(width, count - p), shift(out, p * width),
                        width,
                    )  # fmt: skip


@inline
def _find_factors(clipped):
    """What the gradient of each network is multiplied by, at most 1."""
    gradient, sums = clipped.gradient.p, clipped.sums.p
    width, n = lanes(gradient), clipped.gradient.rows
    zeros = widened(splat(gradient, 0.0))
    total = zeros
    for start in range(0, n, PIECE):
        for k in range(width):
            store_wide(sums, k * width, zeros)
        for p in range(start, min(n, start + PIECE)):
            x, place = widened(load(gradient, p * width)), p % width * width
            store_wide(sums, place, load_wide(sums, place, gradient) + x * x)
        half = width // 2
        while half > 0:
            for k in range(half):
                low, high = load_wide(sums, k * width, gradient), load_wide(sums, (half + k) * width, gradient)
                store_wide(sums, k * width, low + high)
            half //= 2
        total = total + load_wide(sums, 0, gradient)
    store_wide(sums, 0, total)
    for lane in range(width):
        factor = get(clipped.norms.p, lane) / (math.sqrt(get(sums, lane)) + 1e-6)
        put(clipped.factors.p, lane, factor if factor < 1.0 else 1.0)


@inline
def _move(net, each, step, clipped, counts):
    """Update all parameters of every network."""
    for i in range(net.ops.rows):
        scale_step(step, i, each, counts)
        if is_updated(net.ops, i):
            n_out = cell(net.ops, i, OUTPUTS)
            _move_part(net, step, clipped, cell(net.ops, i, WEIGHT), WEIGHTS, cell(net.ops, i, INPUTS) * n_out)
            if cell(net.ops, i, BIAS_AT) >= 0:
                _move_part(net, step, clipped, cell(net.ops, i, BIAS_AT), OTHERS, n_out)
        for span in range(net.spans.rows):
            if cell(net.spans, span, OP) == i and cell(net.spans, span, TRAINED) != 0:
                start, length = cell(net.spans, span, START), cell(net.spans, span, LENGTH)
                _move_part(net, step, clipped, start, OTHERS, length)


@inline
def _move_part(net, step, clipped, at, kind, n):
    gradient, factors = clipped.gradient.p, load(clipped.factors.p, 0)
    width = lanes(gradient)
    gradient = shift(gradient, at * width)
    for k in range(0, n * width, width):
        store(gradient, k, load(gradient, k) * factors)
    apply_rule(net, step, at, gradient, kind, n)
