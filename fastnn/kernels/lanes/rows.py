"""Parameters of which a batch moves some rows alone, of networks side by side, other rows in each of them.

They stand network by network, see ``memory``, and are moved as those of one network are.
"""

import numpy as np

from ...codes import OP, ROW, START, TRAINED, WEIGHT
from ..compiler.jit import inline
from ..network.whole import add, scale
from ..operations import gradients_at
from ..simd.table import cell
from ..simd.vector import fma, get, integer, lanes, load_part, pointer, put, reduce_add, shift, splat
from ..simd.wide import widened
from ..updates import OTHERS, PER_STEP, call_update
from .layers import gradient_of_one
from .memory import COUNT, apart_of, kept_of
from .transposed import transpose_kept


@inline
def is_moved(net, span, i):
    """Whether a parameter is one of op i that rules move."""
    return cell(net.spans, span, OP) == i and cell(net.spans, span, TRAINED) != 0


@inline
def rows_of_batch(net, span, m, memory, counts, lane):
    """The rows of a parameter that a network's batch holds, and their gradients, as ``operations`` has it.

    ``transpose_kept`` goes before, m is the number of rows of all networks.
    """
    kept = kept_of(net, memory, cell(net.spans, span, OP), m, lane)
    gradient_of_one(net, span, -1, 0, memory, counts, lane, kept, kept)
    return kept


@inline
def update_rows(net, step, i, m, memory, counts):
    """Update the rows of op i's parameters that the batch of each network holds."""
    transpose_kept(net, i, m, memory)
    for span in range(net.spans.rows):
        if is_moved(net, span, i):
            width = cell(net.spans, span, ROW)
            for lane in range(lanes(net.params.p)):
                count = cell(counts, lane, COUNT)
                if count > 0:
                    kept = rows_of_batch(net, span, m, memory, counts, lane)
                    rows, gradients = pointer(kept, np.int64(0)), shift(kept, gradients_at(count))
                    take_own(step, lane)
                    for k in range(get(rows, 0)):
                        at = place_of_row(net, span, get(rows, 1 + k))
                        move_row(net, step, i, at, shift(gradients, k * width), width, lane)


@inline
def place_of_row(net, span, row):
    """Where a row starts, within the parameters of its op and one network."""
    first = cell(net.spans, span, START) - cell(net.ops, cell(net.spans, span, OP), WEIGHT)
    return first + row * cell(net.spans, span, ROW)


@inline
def take_own(step, lane):
    """What one network has prepared, as its rule takes it for this network alone."""
    width = lanes(step.block.p)
    for k in range(PER_STEP):
        put(step.own.p, k, get(step.prepared.p, k * width + lane))


@inline
def move_row(net, step, i, at, gradient, n, lane):
    """Update a row of one network, after ``take_own``."""
    slot = net.params.rows * lanes(net.params.p)
    for s in range(step.n_slots):
        put(step.places.p, s, integer(shift(apart_of(net, i, shift(step.slots.p, s * slot), lane), at)))
    w, own = shift(apart_of(net, i, net.params.p, lane), at), step.own.p
    call_update(step.update, w, (n, w, gradient, step.places.p, own, shift(own, OTHERS), 0))


@inline
def add_rows(net, whole, span, m, memory, counts):
    """Add the gradients of the rows that the batch of each network holds, see ``network.whole``."""
    i, width = cell(net.spans, span, OP), cell(net.spans, span, ROW)
    for lane in range(lanes(net.params.p)):
        count, heads = cell(counts, lane, COUNT), shift(whole.heads.p, lane * whole.heads.cols)
        if count > 0:
            kept = rows_of_batch(net, span, m, memory, counts, lane)
            rows, gradients = pointer(kept, np.int64(0)), shift(kept, gradients_at(count))
            gradient, touched = apart_of(net, i, whole.gradient.p, lane), apart_of(net, i, whole.touched.p, lane)
            for k in range(get(rows, 0)):
                at = place_of_row(net, span, get(rows, 1 + k))
                is_first = get(touched, at) == 0
                add(shift(gradient, at), shift(gradients, k * width), width, is_first)
                if is_first:
                    put(touched, at, 1 + get(heads, span))
                    put(heads, span, 1 + at)


@inline
def square_rows(net, whole, span, lane):
    """Σ g² of the rows of a parameter that one network has a gradient of, in float64."""
    i, n = cell(net.spans, span, OP), cell(net.spans, span, ROW)
    gradient, touched = apart_of(net, i, whole.gradient.p, lane), apart_of(net, i, whole.touched.p, lane)
    width, total = lanes(gradient), widened(splat(gradient, 0.0))
    row = cell(whole.heads, lane, span) - 1
    while row >= 0:
        for j in range(0, n, width):
            x = widened(load_part(gradient, row + j, min(width, n - j), 0.0))
            total = fma(x, x, total)
        row = get(touched, row) - 2
    return reduce_add(total)


@inline
def move_rows(net, step, whole, span, lane):
    """Update the rows that one network has a gradient of, and forget which they are."""
    i, n = cell(net.spans, span, OP), cell(net.spans, span, ROW)
    gradient, touched = apart_of(net, i, whole.gradient.p, lane), apart_of(net, i, whole.touched.p, lane)
    heads, factor = shift(whole.heads.p, lane * whole.heads.cols), get(whole.factors.p, lane)
    take_own(step, lane)
    row = get(heads, span) - 1
    while row >= 0:
        g = shift(gradient, row)
        if factor < 1.0:
            scale(g, n, factor)
        move_row(net, step, i, row, g, n, lane)
        before = get(touched, row) - 2
        put(touched, row, 0)
        row = before
    put(heads, span, 0)
