"""How networks side by side update their parameters, which are packed to vectors before and unpacked after."""

from typing import NamedTuple

import numpy as np

from ...codes import BIAS_AT, INPUTS, LENGTH, OP, OUTPUTS, START, TRAINED, WEIGHT
from ..compiler.jit import inline
from ..gemm.tile import most_cols, most_rows
from ..network.layers import copy_row, is_updated
from ..network.memory import GRADIENT, VALUES
from ..simd.sums import by_halves
from ..simd.table import cell, row_of
from ..simd.transpose import lanes_to_rows, rows_to_lanes
from ..simd.vector import fma, get, integer, lanes, load, pointer, put, shift, splat, store
from ..simd.wide import store_wide, widened
from ..updates import OTHERS, WEIGHTS, call_prepare, call_update
from .layers import column_sums, gradient_of_each, weight_of
from .memory import (
    APART_AT,
    BATCH_SIZE,
    COUNT,
    EPOCH,
    FIRST,
    PARAMS,
    SLOTS,
    UPDATE,
    apart_of,
    next_apart,
    node,
)
from .objectives import PENALTY, SQUARES, WEIGHT_OF_GROUP
from .product import COMBINE, STORE, Epilogue, Lanes, product
from .transposed import transpose_kept

# Elements of a block of the weights' gradient of all networks.
BLOCK = 16384


class Step(NamedTuple):
    """How they move, see ``Step``: ``settings`` (epochs, n, lanes), ``slots`` (s, n_params, lanes).

    ``rates`` (epochs, n_rates, lanes) are empty, or those of each update, and ``scales`` (n_ops, lanes) too. ``made``
    (epochs, lanes) are the updates before each epoch, each of so many batches, ``given`` (n, lanes) the settings of an
    update, and ``own`` (PER_STEP,) what one network has prepared.
    """

    fused: bool
    prepare: int
    update: int
    settings: np.ndarray
    n_settings: int
    rates: np.ndarray
    n_rates: int
    scales: np.ndarray
    slots: np.ndarray
    n_slots: int
    made: np.ndarray
    accumulate: int
    given: np.ndarray
    prepared: np.ndarray
    own: np.ndarray
    places: np.ndarray
    block: np.ndarray


@inline
def pack(net, each, step, memory):
    """Parameters and slots become vectors."""
    n = net.params.rows
    pack_numbers(net, each, PARAMS, net.params.p, memory.places.p)
    for s in range(step.n_slots):
        pack_numbers(net, each, SLOTS + s, shift(step.slots.p, s * n * lanes(step.slots.p)), memory.places.p)


@inline
def pack_numbers(net, each, column, out, places):
    """Out (n_params, lanes) = the numbers of each network, from an address in a column of the table.

    A lane without a network gets those of the first, which nobody asks for again.
    """
    width = lanes(out)
    for lane in range(width):
        address = cell(each, lane, column)
        put(places, lane, address if address != 0 else cell(each, 0, column))
    i, start = -1, 0
    while i < net.ops.rows:
        i = next_apart(net, i + 1)
        end = _start_of(net, i)
        for p in range(start, end, width):
            rows_to_lanes(places, 1, p, min(width, end - p), shift(out, p * width))
        if i < net.ops.rows:
            count = cell(net.ops, i, APART_AT)
            for lane in range(width):
                copy_row(shift(pointer(get(places, lane), out), end), apart_of(net, i, out, lane), count)
            start = end + count


@inline
def _start_of(net, i):
    """Where the parameters of op i start, or all of them end."""
    return cell(net.ops, i, WEIGHT) if i < net.ops.rows else net.params.rows


@inline
def unpack(net, each, step, lane):
    """The parameters and slots of one network go back to where they came from."""
    width, n = lanes(net.params.p), net.params.rows
    for s in range(step.n_slots + 1):
        source = net.params.p if s == 0 else shift(step.slots.p, (s - 1) * n * width)
        to = pointer(cell(each, lane, PARAMS + s), net.params.p)
        i, start = -1, 0
        while i < net.ops.rows:
            i = next_apart(net, i + 1)
            end = _start_of(net, i)
            for p in range(start, end):
                put(to, p, get(source, p * width + lane))
            if i < net.ops.rows:
                copy_row(apart_of(net, i, source, lane), shift(to, end), cell(net.ops, i, APART_AT))
                start = end + cell(net.ops, i, APART_AT)


@inline
def unpack_all(net, each, step, memory):
    """Those of all networks at once."""
    width, n = lanes(net.params.p), net.params.rows
    for s in range(step.n_slots + 1):
        source = net.params.p if s == 0 else shift(step.slots.p, (s - 1) * n * width)
        for lane in range(width):
            put(memory.places.p, lane, cell(each, lane, PARAMS + s))
        i, start = -1, 0
        while i < net.ops.rows:
            i = next_apart(net, i + 1)
            end = _start_of(net, i)
            for p in range(start, end, width):
                lanes_to_rows(shift(source, p * width), min(width, end - p), memory.places.p, p)
            if i < net.ops.rows:
                count = cell(net.ops, i, APART_AT)
                for lane in range(width):
                    to = pointer(get(memory.places.p, lane), net.params.p)
                    copy_row(apart_of(net, i, source, lane), shift(to, end), count)
                start = end + count


@inline
def prepare(step, each, counts):
    """What the update of each network takes, a lane each."""
    width = lanes(step.block.p)
    for lane in range(width):
        if cell(counts.whole, lane, COUNT) > 0:
            prepared = shift(step.prepared.p, lane)
            _prepare_rule(step, each, counts, lane, 1.0)
            put(prepared, WEIGHTS * width, 2.0 * get(counts.real.p, PENALTY * width + lane))
            put(prepared, OTHERS * width, 0.0)
            put(prepared, (WEIGHTS + 2) * width, 1.0)
            put(prepared, (OTHERS + 2) * width, 0.0)


@inline
def scale_step(step, i, each, counts):
    """Prepare the rule again where the parameters of op i take another learning rate."""
    if step.scales.rows != 0:
        for lane in range(lanes(step.block.p)):
            if cell(counts.whole, lane, COUNT) > 0:
                _prepare_rule(step, each, counts, lane, cell(step.scales, i, lane))


@inline
def _prepare_rule(step, each, counts, lane, scale):
    """What the rule takes for one network, whose learning rate is multiplied by ``scale``."""
    width, like, state = lanes(step.block.p), step.block.p, row_of(counts.whole, lane)
    given = shift(step.settings.p, get(state, EPOCH) * step.n_settings * width + lane)
    if step.n_rates != 0 or step.scales.rows != 0:
        rate = get(given, 0)
        if step.n_rates != 0:
            number = get(state, FIRST) // cell(each, lane, BATCH_SIZE) // step.accumulate
            rate = get(step.rates.p, (get(state, EPOCH) * step.n_rates + number) * width + lane)
        own = shift(step.given.p, lane)
        for k in range(1, step.n_settings):
            put(own, k * width, get(given, k * width))
        put(own, 0, rate * scale)
        given = own
    t, weight = get(state, UPDATE), get(counts.real.p, WEIGHT_OF_GROUP * width + lane)
    call_prepare(step.prepare, like, (given, shift(step.prepared.p, lane), width, t, weight))


@inline
def update_linear(net, step, i, m, memory):
    """Update the weights and the bias of the linear op i."""
    x, dy = node(memory, i, VALUES), node(memory, i + 1, GRADIENT)
    n_in, n_out, width = cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS), lanes(x.p)
    weight, bias_at, nowhere = weight_of(net, i, net.params.p), cell(net.ops, i, BIAS_AT), Lanes(x.p, 0, 0)
    transposed = Lanes(x.p, x.col, x.row)
    if step.fused:
        factors = memory.factors.p
        for lane in range(width):
            lr, penalty = get(step.prepared.p, lane), get(step.prepared.p, WEIGHTS * width + lane)
            put(factors, lane, -lr)
            put(factors, width + lane, 1.0 - lr * penalty)
        epilogue = Epilogue(COMBINE, nowhere, factors)
        product(n_in, n_out, m, transposed, dy, weight, epilogue, memory.panel.p)
        if bias_at >= 0:
            column_sums(m, n_out, dy, step.block.p)
            bias, minus_lr = shift(net.params.p, bias_at * width), load(factors, 0)
            for j in range(n_out):
                store(bias, j * width, fma(load(step.block.p, j * width), minus_lr, load(bias, j * width)))
        return
    height = max(1, BLOCK // max(1, n_out * width))
    for first in range(0, n_in, height):
        count = min(height, n_in - first)
        some, out = Lanes(shift(x.p, first * width), x.col, x.row), Lanes(step.block.p, n_out * width, width)
        epilogue = Epilogue(STORE, nowhere, memory.factors.p)
        product(count, n_out, m, some, dy, out, epilogue, memory.panel.p)
        apply_rule(net, step, cell(net.ops, i, WEIGHT) + first * n_out, step.block.p, WEIGHTS, count * n_out)
    if bias_at >= 0:
        column_sums(m, n_out, dy, step.block.p)
        apply_rule(net, step, bias_at, step.block.p, OTHERS, n_out)


@inline
def update_operation(net, step, i, m, memory, counts):
    """Update the parameters of an operation."""
    is_transposed = False
    for span in range(net.spans.rows):
        if cell(net.spans, span, OP) == i and cell(net.spans, span, TRAINED) != 0:
            if not is_transposed:
                transpose_kept(net, i, m, memory)
                is_transposed = True
            length = cell(net.spans, span, LENGTH)
            for first in range(0, length, memory.own_ld):
                count = min(memory.own_ld, length - first)
                gradient_of_each(net, span, first, count, memory, counts, m, step.block.p)
                apply_rule(net, step, cell(net.spans, span, START) + first, step.block.p, OTHERS, count)


@inline
def apply_rule(net, step, at, gradient, kind, n):
    """Update n parameters of a kind of every network, from offset ``at``, by their gradient."""
    w, width = shift(net.params.p, at * lanes(net.params.p)), lanes(net.params.p)
    for s in range(step.n_slots):
        put(step.places.p, s, integer(shift(step.slots.p, (s * net.params.rows + at) * width)))
    prepared = step.prepared.p
    call_update(step.update, w, (n * width, w, gradient, step.places.p, prepared, shift(prepared, kind * width), width))


@inline
def square_all(net, rows, counts):
    """Σ w² of every network, a sum for each tile of ``train_epoch``, and these in float64."""
    width, sums = lanes(rows.squares.p), rows.squares.p
    total = widened(splat(sums, 0.0))
    for i in range(net.ops.rows):
        if is_updated(net.ops, i):
            weight = weight_of(net, i, net.params.p)
            height, panel = most_rows(weight.p), most_cols(weight.p)
            n_in, n_out = cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS)
            for r in range(0, n_in, height):
                for j in range(0, n_out, panel):
                    tile = Lanes(shift(weight.p, r * weight.row + j * width), weight.row, width)
                    squares = _squares(tile, min(height, n_in - r), min(panel, n_out - j), sums)
                    total = total + widened(squares)
    store_wide(counts.real.p, SQUARES * width, total)


@inline
def _squares(tile, rows, cols, sums):
    """Σ w² of a tile: down its columns, then over what would be the vectors of a row, and over their lanes."""
    width = lanes(tile.p)
    for c in range(cols):
        down = splat(tile.p, 0.0)
        for r in range(rows):
            x = load(tile.p, r * tile.row + c * tile.col)
            down = fma(x, x, down)
        place = c % width * width
        store(sums, place, down if c < width else load(sums, place) + down)
    return by_halves(sums, min(cols, width))
