"""The layers of networks side by side over a batch: gather, forward, backward, the gradients of parameters.

Every element of a node is a vector with a lane for each network, rows first, then units. A linear op is a product of
such elements, what maps element by element runs over them as it does over those of one network, and any other
operation is called network by network on rows that are transposed before and after.
"""

from ...codes import (
    ADD,
    BIAS_AT,
    INPUTS,
    KIND,
    LINEAR,
    OP,
    OUTPUTS,
    SETTINGS,
    SLOPE_AT,
    SOURCE,
    SUMS,
    WEIGHT,
    WHICH,
)
from ..compiler.jit import inline
from ..gemm.packing import copy_row
from ..network.layers import (
    BACKWARD_AT,
    BACKWARD_SUMS_AT,
    FORWARD_AT,
    GRADIENT_AT,
    SAME,
    SUMS_AT,
    Input,
    add_row,
    gather_row,
)
from ..network.memory import GRADIENT, VALUES
from ..operations import call_backward, call_forward, call_gradient
from ..simd.random import key_of
from ..simd.table import cell, row_of
from ..simd.transpose import rows_to_lanes, transpose_block
from ..simd.vector import get, integer, lanes, load, put, select, shift, splat, store
from .memory import (
    ADDRESS,
    BATCH,
    COL,
    COUNT,
    ELEMENT,
    ELEMENTWISE_AT,
    ROW,
    ROW_BYTES,
    SEED,
    kept_of,
    node,
    order_of,
)
from .product import BIAS, BIAS_LEAKY, BIAS_RELU, LEAKY_BACK, RELU_BACK, STORE, Epilogue, Lanes, product
from .transposed import (
    matrix_of,
    matrix_of_all,
    parameters_of,
    parameters_of_each,
    put_back,
    to_lanes,
    to_rows,
    transpose_kept,
    zero_rest,
)


@inline
def gather(net, each, counts, rows, memory):
    """The next sample of every network, row by row; one that has fewer takes its last one again."""
    out, width, batch = node(memory, 0, VALUES), lanes(memory.nodes.p), memory.places.cols
    n_in = cell(net.ops, 0, INPUTS)
    converts = 0
    for lane in range(width):
        x, m = _input(each, lane), cell(counts, lane, COUNT)
        if m > 0 and (x.row_bytes == 0 or x.kind != SAME):
            converts += 1
        put_rows(order_of(each, counts, lane), m, x.address, x.row, rows, memory, row_of(memory.places, lane))
    for r in range(rows):
        places, to = shift(memory.places.p, r), shift(out.p, r * out.row)
        if converts != 0:
            _convert(each, counts, r, n_in, places, memory)
        for j in range(0, n_in, width):
            rows_to_lanes(places, batch, j, min(width, n_in - j), shift(to, j * width))


@inline
def put_rows(order, m, address, apart, rows, memory, out):
    """Write to ``out`` where the rows of m samples lie, and the last again up to so many; zeros where there is none."""
    for r in range(m):
        put(out, r, address + get(order, r) * apart)
    last = get(out, m - 1) if m > 0 else integer(memory.zeros.p)
    for r in range(m, rows):
        put(out, r, last)


@inline
def _convert(each, counts, r, n_in, places, memory):
    """Copy row r of each network's samples in the dtype of the computation, and let ``places`` be the copies."""
    for lane in range(lanes(memory.nodes.p)):
        own, m = shift(memory.rows.p, lane * memory.row_ld), cell(counts, lane, COUNT)
        if m > 0:
            gather_row(_input(each, lane), get(order_of(each, counts, lane), min(r, m - 1)), n_in, own)
            put(places, lane * memory.places.cols, integer(own))


@inline
def _input(each, lane):
    return Input(
        cell(each, lane, ADDRESS),
        cell(each, lane, ROW),
        cell(each, lane, COL),
        cell(each, lane, ELEMENT),
        cell(each, lane, ROW_BYTES),
    )


@inline
def weight_of(net, i, p):
    """The weight of the linear op i as (inputs, outputs)."""
    width = lanes(p)
    return Lanes(shift(p, cell(net.ops, i, WEIGHT) * width), cell(net.ops, i, OUTPUTS) * width, width)


@inline
def _put_slopes(net, slope_at, memory):
    """The slopes of a rectifier as factors of a product, and whether all of them are 0."""
    steepest = 0.0
    for lane in range(lanes(memory.factors.p)):
        slope = cell(net.settings, slope_at, lane)
        put(memory.factors.p, lane, slope)
        steepest = max(steepest, abs(slope))
    return steepest == 0.0


@inline
def forward(net, i, rows, memory, each, counts):
    """The output of op i."""
    x, y = node(memory, i, VALUES), node(memory, i + 1, VALUES)
    n_in, n_out, width = cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS), lanes(memory.nodes.p)
    settings = row_of(net.settings, cell(net.ops, i, SETTINGS))
    if cell(net.ops, i, KIND) == LINEAR:
        bias_at = cell(net.ops, i, BIAS_AT)
        bias = shift(net.params.p, bias_at * width) if bias_at >= 0 else memory.zeros.p
        slope_at, mode = cell(net.ops, i, SLOPE_AT), BIAS
        if slope_at >= 0:
            mode = BIAS_RELU if _put_slopes(net, slope_at, memory) else BIAS_LEAKY
        epilogue = Epilogue(mode, Lanes(bias, 0, width), memory.factors.p)
        product(rows, n_out, n_in, x, weight_of(net, i, net.params.p), y, epilogue, memory.panel.p)
    elif cell(net.ops, i, KIND) == ADD:
        source = node(memory, cell(net.ops, i, SOURCE), VALUES)
        for r in range(rows):
            add_row(shift(x.p, r * x.row), shift(source.p, r * source.row), shift(y.p, r * y.row), n_out * width)
    elif cell(net.ops, i, ELEMENTWISE_AT) != 0:
        call_forward(
            cell(net.ops, i, FORWARD_AT), x.p,
            (rows, n_in * width, n_out * width, x.p, x.row, y.p, y.row, x.p, x.p, settings, width, 0, 0),
        )  # fmt: skip
    else:
        to_rows(x, rows, n_in, matrix_of_all(memory, 0), memory)
        parameters_of_each(net, i, memory)
        if cell(net.ops, i, SUMS) != 0:
            _forward_each(net, i, SUMS_AT, rows, memory, each, counts)
        _forward_each(net, i, FORWARD_AT, rows, memory, each, counts)
        to_lanes(matrix_of_all(memory, 1), rows, n_out, y, memory)
        if cell(net.ops, i, SUMS) != 0:
            put_back(net, i, memory)


@inline
def _forward_each(net, i, column, rows, memory, each, counts):
    """Operation i, network by network, of rows that were transposed."""
    for lane in range(lanes(memory.nodes.p)):
        if _takes_part(net, i, counts, lane):
            call_forward(
                cell(net.ops, i, column), memory.rows.p,
                (rows, cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS), matrix_of(memory, 0, lane), memory.row_ld,
                 matrix_of(memory, 1, lane), memory.row_ld, kept_of(net, memory, i, rows, lane),
                 parameters_of(net, i, memory, lane),
                 shift(row_of(net.settings_of_each, lane), cell(net.ops, i, SETTINGS)), 0,
                 _key(net, i, each, counts, lane), 0),
            )  # fmt: skip


@inline
def _takes_part(net, i, counts, lane):
    """Whether a network has samples for an operation that sums over them; any other is applied to whatever there is."""
    return cell(net.ops, i, SUMS) == 0 or cell(counts, lane, COUNT) > 0


@inline
def _key(net, i, each, counts, lane):
    """As for one network, see ``network.layers``."""
    if cell(net.ops, i, SUMS) != 0:
        return cell(counts, lane, COUNT)
    return key_of(cell(each, lane, SEED), cell(counts, lane, BATCH), i)


@inline
def backward(net, i, rows, memory, each, counts):
    """The gradient at the input of op i, before the rectifier that made it."""
    x, y = node(memory, i, VALUES), node(memory, i + 1, VALUES)
    dx, dy = node(memory, i, GRADIENT), node(memory, i + 1, GRADIENT)
    n_in, n_out, width = cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS), lanes(memory.nodes.p)
    settings = row_of(net.settings, cell(net.ops, i, SETTINGS))
    if cell(net.ops, i, KIND) == LINEAR:
        slope_at, mode, weight = cell(net.ops, i - 1, SLOPE_AT), STORE, weight_of(net, i, net.params.p)
        if slope_at >= 0:
            mode = RELU_BACK if _put_slopes(net, slope_at, memory) else LEAKY_BACK
        epilogue = Epilogue(mode, x, memory.factors.p)
        transposed = Lanes(weight.p, weight.col, weight.row)
        product(rows, n_in, n_out, dy, transposed, dx, epilogue, memory.panel.p)
        return
    if cell(net.ops, i, KIND) == ADD:
        if integer(dx.p) != integer(dy.p):
            for r in range(rows):
                copy_row(shift(dy.p, r * dy.row), shift(dx.p, r * dx.row), n_in * width)
    elif cell(net.ops, i, ELEMENTWISE_AT) != 0:
        call_backward(
            cell(net.ops, i, BACKWARD_AT), x.p,
            (rows, n_in * width, n_out * width, dy.p, dy.row, x.p, x.row, y.p, y.row, dx.p, dx.row, x.p, x.p, settings,
             width, 0, 0),
        )  # fmt: skip
    else:
        parameters_of_each(net, i, memory)
        transpose_kept(net, i, rows, memory)
        if cell(net.ops, i, SUMS) != 0:
            _backward_each(net, i, BACKWARD_SUMS_AT, rows, memory, each, counts)
        _backward_each(net, i, BACKWARD_AT, rows, memory, each, counts)
        to_lanes(matrix_of_all(memory, 3), rows, n_in, dx, memory)
        if cell(net.ops, i, SUMS) != 0:
            zero_rest(dx, rows, n_in, counts)
    undo_rectifier(net, i - 1, rows, dx, x, memory)


@inline
def sum_backward(net, i, rows, memory, each, counts):
    """What operation i sums over the batch of each network, where no gradient has to go back through it."""
    if cell(net.ops, i, SUMS) != 0:
        transpose_kept(net, i, rows, memory)
        _backward_each(net, i, BACKWARD_SUMS_AT, rows, memory, each, counts)


@inline
def _backward_each(net, i, column, rows, memory, each, counts):
    """The gradient at the input of operation i, network by network, from rows that were transposed."""
    for lane in range(lanes(memory.nodes.p)):
        if _takes_part(net, i, counts, lane):
            call_backward(
                cell(net.ops, i, column), memory.rows.p,
                (rows, cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS), matrix_of(memory, 2, lane), memory.row_ld,
                 matrix_of(memory, 0, lane), memory.row_ld, matrix_of(memory, 1, lane), memory.row_ld,
                 matrix_of(memory, 3, lane), memory.row_ld, kept_of(net, memory, i, rows, lane),
                 parameters_of(net, i, memory, lane),
                 shift(row_of(net.settings_of_each, lane), cell(net.ops, i, SETTINGS)), 0,
                 _key(net, i, each, counts, lane), 0),
            )  # fmt: skip


@inline
def add_sources(net, i, rows, memory):
    """Add to the gradient at the input of op i what comes back on the ways that begin there."""
    total, n = node(memory, i, GRADIENT), cell(net.ops, i, INPUTS) * lanes(memory.nodes.p)
    for k in range(i, net.ops.rows):
        if cell(net.ops, k, KIND) == ADD and cell(net.ops, k, SOURCE) == i:
            other = node(memory, k + 1, GRADIENT)
            for r in range(rows):
                row = shift(total.p, r * total.row)
                add_row(row, shift(other.p, r * other.row), row, n)


@inline
def gradient_of_each(net, span, first, count, memory, counts, rows, out):
    """Some elements of the gradient of an operation's parameter, a vector each, after ``transpose_kept``."""
    width = lanes(memory.nodes.p)
    for lane in range(width):
        kept = kept_of(net, memory, cell(net.spans, span, OP), rows, lane)
        gradient_of_one(net, span, first, count, memory, counts, lane, kept, shift(memory.own.p, lane * memory.own_ld))
    for p in range(0, count, width):
        transpose_block(
            shift(memory.own.p, p), memory.own_ld, width, min(width, count - p), shift(out, p * width), width
        )  # fmt: skip


@inline
def gradient_of_one(net, span, first, count, memory, counts, lane, kept, out):
    """Those of one network; with ``first`` -1 those of rows, see ``operations``."""
    i, x = cell(net.spans, span, OP), memory.rows.p
    call_gradient(
        cell(net.ops, i, GRADIENT_AT), x,
        (cell(counts, lane, COUNT), cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS),
         matrix_of(memory, 2, lane), memory.row_ld, matrix_of(memory, 0, lane), memory.row_ld,
         matrix_of(memory, 1, lane), memory.row_ld, kept, x,
         shift(row_of(net.settings_of_each, lane), cell(net.ops, i, SETTINGS)), 0, cell(net.spans, span, WHICH),
         first, count, out),
    )  # fmt: skip


@inline
def undo_rectifier(net, i, rows, d, y, memory):
    """The gradient at the output y of op i becomes that before its rectifier, if it has one."""
    slope_at, width = cell(net.ops, i, SLOPE_AT), lanes(memory.nodes.p)
    if slope_at >= 0:
        _put_slopes(net, slope_at, memory)
        slope, n = load(memory.factors.p, 0), cell(net.ops, i, OUTPUTS)
        for r in range(rows):
            for c in range(n):
                g, v = load(d.p, r * d.row + c * width), load(y.p, r * y.row + c * width)
                other = select(slope == 0.0, 0.0, g * slope)
                store(d.p, r * d.row + c * width, select(v > 0.0, g, select(v != v, v, other)))


@inline
def column_sums(rows, n, x, out):
    """out[j] = Σ_i x[i, j] for j < n, in order; four columns at a time, whose sums do not wait for each other."""
    width = lanes(x.p)
    for j in range(0, n, 4):
        a, b = splat(x.p, 0.0), splat(x.p, 0.0)
        c, d = a, b
        at = shift(x.p, j * width)
        if j + 4 <= n:
            for _ in range(rows):
                a, b = a + load(at, 0), b + load(at, width)
                c, d = c + load(at, 2 * width), d + load(at, 3 * width)
                at = shift(at, x.row)
            store(out, j * width, a)
            store(out, (j + 1) * width, b)
            store(out, (j + 2) * width, c)
            store(out, (j + 3) * width, d)
        else:
            for k in range(j, n):
                total = splat(x.p, 0.0)
                for i in range(rows):
                    total = total + load(x.p, i * x.row + k * width)
                store(out, k * width, total)
