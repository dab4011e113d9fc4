"""The update of all parameters after a batch, where that of a weight is fused with the product that forms its gradient.

A gradient is never stored: plain SGD is the epilogue of the product, and other rules take it a block at a time.
"""

from ...codes import OP, OUTPUTS, ROW, TRAINED
from ..compiler.jit import inline, shared
from ..simd.table import cell
from ..simd.vector import get, integer, itemsize, put, shift
from ..threading.team import part
from . import clock
from .clock import lap
from .layers import UNIT_OF_BATCH, first_updated, is_updated
from .memory import around_op
from .passes import own_samples
from .record import fixed_at, update_signature
from .steps import (
    count_of_squares,
    prepare_step,
    put_piece,
    scale_step,
    sgd_columns,
    update_linear,
    update_rows,
    update_span,
)


@shared(update_signature, light=True)
def UPDATE(place, like, start, m, t, weight, l2, is_first, is_last):
    """Update all parameters after a batch, each thread its share."""
    fixed = fixed_at(place, like)
    net, step, columns, memory, worker = fixed.net, fixed.step, fixed.columns, fixed.memory, fixed.worker
    prepare_step(step, t, l2, weight, like)
    last_updated = first_updated(net.ops)
    by_columns = columns.end > columns.start
    put(worker.samples, 0, 0)
    # Backwards, so that the first layer's weights, just updated, are in the cache when the next batch needs them.
    squares = shift(memory.squares.p, memory.squares.rows)
    span = net.spans.rows - 1
    for i in range(net.ops.rows - 1, -1, -1):
        around = around_op(net, memory, i, 0)
        scale_step(step, i, t, weight, like)
        if is_updated(net.ops, i):
            if i == last_updated:
                _note_samples(net, fixed.samples, start + m, by_columns, worker)
            squares = shift(squares, -count_of_squares(net, i, squares))
            if i == 0 and by_columns:
                sgd_columns(net, step, m, columns, own_samples(memory, worker), around.dy, squares, worker)
            else:
                update_linear(net, step, i, m, around, squares, worker)
            lap(worker.clock, i, clock.UPDATE)
        while span >= 0 and cell(net.spans, span, OP) == i:
            if cell(net.spans, span, TRAINED) != 0 and cell(net.spans, span, ROW) != 0:
                update_rows(net, step, span, m, around, worker)
            elif cell(net.spans, span, TRAINED) != 0:
                update_span(net, step, span, m, around, worker)
            span -= 1
            lap(worker.clock, i, clock.UPDATE)


@inline
def _note_samples(net, samples, start, all_of_them, worker):
    """Note down the rows of the batch from ``start`` on, and of its targets: all of them, or this thread's share.

    Those with their columns apart are left out.
    """
    x, targets, n_out = samples.x, samples.target.targets, cell(net.ops, net.ops.rows - 1, OUTPUTS)
    m = min(samples.batch_size, samples.order.rows - start)
    first, end = (0, m) if all_of_them else part(m, cell(net.ops, 0, UNIT_OF_BATCH), worker.thread, worker.n_threads)
    pieces, count = shift(worker.samples, 1), 0
    for i in range(start + first, start + end):
        sample = get(samples.order.p, i)
        if x.row_bytes != 0:
            put_piece(pieces, count, x.address + sample * x.row, x.row_bytes)
            count += 1
        if targets.rows != 0:
            target = shift(targets.p, sample * n_out)
            put_piece(pieces, count, integer(target), n_out * itemsize(target))
            count += 1
    put(worker.samples, 0, count)
