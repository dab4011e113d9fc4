"""The layers of a network-as-data over some rows of a batch: gather, forward, backward, update.

Node 0 is the input and node i + 1 the output of op i. For each node the plan holds the offset of its values, of its
gradient, and the distance of its rows, all in the workspace; ``plan_of`` says which nodes share their memory. A linear
op is a product, whose epilogue adds the bias and may rectify; any other op is called through its address.
"""

from typing import NamedTuple

import numpy as np

from ..compiler.cpu import ISA
from ..compiler.jit import inline
from ..gemm.product import Epilogue, Matrix, ask_for, column_sums, moved, product, transposed
from ..gemm.rectifier import rectify_backward
from ..gemm.tile import BIAS, COMBINE, GATE, ROWS, STORE, UPDATE, VECTORS
from ..operations import call_backward, call_forward, call_gradient
from ..simd.address import address
from ..simd.random import key_of
from ..simd.vector import (
    data,
    fma,
    get,
    integer,
    itemsize,
    lanes,
    load,
    load_part,
    pointer,
    put,
    reduce_add,
    shift,
    splat,
    store,
    store_part,
)
from ..threading.team import part
from ..updates import OTHERS, WEIGHTS, call_prepare, call_update

# The columns of ops, see ``fastnn.reference.network.epoch``.
LINEAR, OPERATION = range(2)
KIND, INPUTS, OUTPUTS, WEIGHT, BIAS_AT, SETTINGS, _, SLOPE_AT, KEEPS, KEPT, PARAMETERS = range(11)
KEEPS_X, KEEPS_Y = 1, 2
COLUMNS = 11
# The columns of spans, the parameters of operations: the op, which of its parameters, where it starts, its elements.
OP, WHICH, START, LENGTH = range(4)
# The columns of addresses.
FORWARD_AT, BACKWARD_AT, GRADIENT_AT = range(3)
VALUES, GRADIENT, LD, KEPT_AT = range(4)

# Elements of a block of the weights' gradient, which is formed and used up block by block.
GRADIENT_BLOCK = 16384
# A multiple of this many bytes between rows puts them into one set of the L1 cache.
COLLIDE = 4096
# Elements of a cache line of float32.
LINE = 16
# Bytes below which fetching them early is not worth the trouble.
WORTH_FETCHING = 32_768


class Net(NamedTuple):
    """A network-as-data, its parameters, and where the functions of its ops lie in this process."""

    ops: np.ndarray
    spans: np.ndarray
    settings: np.ndarray
    params: np.ndarray
    addresses: np.ndarray
    seed: int


class Input(NamedTuple):
    """Samples in memory of any layout: address, strides in bytes, the kind of element, and the bytes of a row.

    The last is 0 where a row is not one piece of memory.
    """

    address: int
    row: int
    col: int
    kind: int
    row_bytes: int


SAME, FLOAT32, FLOAT64, UINT8 = range(4)


def describe(x: np.ndarray, dtype: np.dtype) -> Input:
    """How compiled code finds the samples in x; the element kind says whether they need converting."""
    row, col = x.strides
    plain = x.dtype == dtype and (col == x.itemsize or x.shape[1] <= 1) and row % x.itemsize == 0
    kind = SAME if plain else {"f4": FLOAT32, "f8": FLOAT64, "u1": UINT8}[x.dtype.str[1:]]
    return Input(address(x), row, col, kind, col * x.shape[1] if col == x.itemsize else 0)


def leading_dimension(width: int, size: int) -> int:
    """The distance of rows of this width: whole cache lines, and no distance at which rows collide."""
    line = max(1, 64 // size)
    apart = -(-width // line) * line
    return apart + LINE if apart * size % COLLIDE == 0 else apart


def multiply_adds(ops: np.ndarray) -> int:
    """Multiply-adds of one sample on its way forward through the linear ops."""
    linear = ops[ops[:, KIND] == LINEAR]
    return int((linear[:, INPUTS] * linear[:, OUTPUTS]).sum())


@inline
def gather_row(x, sample, width, out):
    """Out (width,) = the sample, converted to the dtype of out."""
    at = x.address + sample * x.row
    if x.kind == SAME:
        source, step = pointer(at, out), lanes(out)
        j = 0
        while j + step <= width:
            store(out, j, load(source, j))
            j += step
        if j < width:
            store_part(out, j, width - j, load_part(source, j, width - j, 0.0))
    elif x.kind == FLOAT32:
        for j in range(width):
            put(out, j, get(pointer(at + j * x.col, np.float32(0)), 0))
    elif x.kind == FLOAT64:
        for j in range(width):
            put(out, j, get(pointer(at + j * x.col, np.float64(0)), 0))
    else:
        for j in range(width):
            put(out, j, get(pointer(at + j * x.col, np.uint8(0)), 0))


@inline
def linear_op(net, i, rows, col, cols, x, y, zeros, room):
    """Some columns of Y (rows, outputs) = x w + b for the linear op i, rectified where it has a slope."""
    n_in, n_out, bias_at, slope_at = net.ops[i, INPUTS], net.ops[i, OUTPUTS], net.ops[i, BIAS_AT], net.ops[i, SLOPE_AT]
    weight = Matrix(shift(data(net.params), net.ops[i, WEIGHT] + col), n_out, 1)
    bias = shift(data(net.params), bias_at + col) if bias_at >= 0 else zeros
    slope = net.settings[slope_at] if slope_at >= 0 else 1.0
    product(rows, cols, n_in, x, weight, moved(y, 0, col), Epilogue(BIAS, bias, 0, slope, 0.0), room)


@inline
def forward_op(net, i, t, row, rows, x, y, kept, zeros, room):
    """Y (rows, outputs) = op i of x (rows, inputs), the rows from ``row`` on of the batch that update t takes."""
    n_in, n_out = net.ops[i, INPUTS], net.ops[i, OUTPUTS]
    if net.ops[i, KIND] == LINEAR:
        linear_op(net, i, rows, 0, n_out, x, y, zeros, room)
    else:
        call_forward(
            net.addresses[i, FORWARD_AT], x.p,
            (rows, n_in, n_out, x.p, x.row, y.p, y.row, kept, shift(data(net.params), net.ops[i, WEIGHT]),
             shift(data(net.settings), net.ops[i, SETTINGS]), 0, key_of(net.seed, t, i), row),
        )  # fmt: skip


@inline
def backward_op(net, i, t, row, rows, d, x, y, dx, kept, room):
    """Dx (rows, inputs) = the gradient at the input x of op i, from d (rows, outputs), that at its output y.

    Where x was rectified on its way out of a product, dx is the gradient before that.
    """
    n_in, n_out = net.ops[i, INPUTS], net.ops[i, OUTPUTS]
    if net.ops[i, KIND] == LINEAR:
        weight = Matrix(shift(data(net.params), net.ops[i, WEIGHT]), 1, n_out)
        slope_at = net.ops[i - 1, SLOPE_AT]
        mode, slope = (GATE, net.settings[slope_at]) if slope_at >= 0 else (STORE, 1.0)
        product(rows, n_in, n_out, d, weight, dx, Epilogue(mode, x.p, x.row, slope, 0.0), room)
        return
    call_backward(
        net.addresses[i, BACKWARD_AT], d.p,
        (rows, n_in, n_out, d.p, d.row, x.p, x.row, y.p, y.row, dx.p, dx.row, kept,
         shift(data(net.params), net.ops[i, WEIGHT]), shift(data(net.settings), net.ops[i, SETTINGS]), 0,
         key_of(net.seed, t, i), row),
    )  # fmt: skip
    undo_rectifier(net, i - 1, rows, dx, x)


@inline
def undo_rectifier(net, i, rows, d, y):
    """The gradient at the output y of op i becomes that before its rectifier, if it has one."""
    slope_at = net.ops[i, SLOPE_AT]
    if slope_at >= 0:
        for r in range(rows):
            row = shift(d.p, r * d.row)
            rectify_backward(net.settings[slope_at], row, shift(y.p, r * y.row), row, net.ops[i, OUTPUTS])


class Step(NamedTuple):
    """How an update moves: whether by plain SGD, in the epilogue of a product, or by a rule, and what it prepared.

    The rule's slots (s, n_params) are those of all parameters. ``prepared`` belongs to a thread: the rule's numbers,
    then those of the two kinds of parameters. ``places`` is for the addresses of slots.
    """

    fused: bool
    prepare: int
    update: int
    settings: np.ndarray
    slots: np.ndarray
    prepared: np.ndarray
    places: np.ndarray


@inline
def prepare_step(step, t, l2, weight, like):
    """What update t takes for a batch of this weight, with the factor l2 of Σ w²."""
    prepared = data(step.prepared)
    call_prepare(step.prepare, like, (data(step.settings), prepared, 1, t, weight))
    put(prepared, WEIGHTS, 2.0 * l2)
    put(prepared, OTHERS, 0.0)
    put(prepared, WEIGHTS + 2, 1.0)
    put(prepared, OTHERS + 2, 0.0)


@inline
def columns_of(net, rank, size, like):
    """The columns [start, end) of the first op's weight that one thread keeps; end is 0 where threads share its rows.

    With columns of its own a thread finds in its own cache what it updated last, and needs the whole batch; this pays
    where the columns can be dealt out evenly.
    """
    n_out = net.ops[0, OUTPUTS]
    panels = _panels(n_out, like)
    if size == 1 or net.ops[0, KIND] != LINEAR or panels < size or (panels % size != 0 and panels < 4 * size):
        return 0, 0
    return part(n_out, VECTORS * lanes(like), rank, size)


@inline
def sgd_op(net, step, i, m, start, end, col, cols, x, d, squares, ahead, samples, room):
    """Update rows start to end and some columns of the weight of the linear op i: W = (1 - 2 lr l2) W - lr xᵀ d.

    The update is the epilogue of the product, which fetches what comes next, see ``Ahead``.
    """
    n_out = net.ops[i, OUTPUTS]
    panels = _panels(n_out, x.p)
    if end > start and cols > 0:
        _fetch(ahead, 0, 0, samples, m * tiles_of(end - start, cols, x.p), room)
        weight = Matrix(shift(data(net.params), net.ops[i, WEIGHT] + start * n_out + col), n_out, 1)
        tiles = shift(squares, start // ROWS * panels + _panels(col, x.p))
        lr, penalty = step.prepared[0], step.prepared[WEIGHTS]
        mode = UPDATE if penalty != 0.0 else COMBINE
        epilogue = Epilogue(mode, tiles, panels, -lr, 1.0 - lr * penalty)
        product(end - start, cols, m, transposed(moved(x, 0, start)), moved(d, 0, col), weight, epilogue, room)


@inline
def sgd_bias(net, step, i, m, col, cols, d):
    """Update some elements of the bias of the linear op i."""
    bias_at = net.ops[i, BIAS_AT]
    if bias_at >= 0:
        bias = shift(data(net.params), bias_at + col)
        column_sums(m, cols, shift(d.p, col), d.row, bias, -step.prepared[0], 1.0)


@inline
def update_linear(net, step, i, m, x, d, squares, ahead, samples, block, room, rank, size):
    """Update this thread's share of the weights and biases of the linear op i; ``squares`` are as in ``square_sums``.

    x (m, inputs) is the op's input and d (m, outputs) the gradient before its rectifier. Rules with state take the
    gradient a block of rows at a time, while it is still in the cache.
    """
    n_in, n_out, bias_at = net.ops[i, INPUTS], net.ops[i, OUTPUTS], net.ops[i, BIAS_AT]
    start, end = part(n_in, ROWS, rank, size)
    if step.fused:
        sgd_op(net, step, i, m, start, end, 0, n_out, x, d, squares, ahead, samples, room)
        if i % size == rank:
            sgd_bias(net, step, i, m, 0, n_out, d)
        return
    at, panels = net.ops[i, WEIGHT], _panels(n_out, x.p)
    height = max(ROWS, GRADIENT_BLOCK // max(1, n_out) // ROWS * ROWS)
    for first in range(start, end, height):
        rows = min(height, end - first)
        pieces = _put_state(net, step.slots, at + first * n_out, rows * n_out, ahead.places)
        done, more = first - start, min(end, first + height) - start
        _fetch(
            ahead, pieces, samples * done // (end - start), samples * more // (end - start),
            m * tiles_of(rows, n_out, x.p), room,
        )  # fmt: skip
        out = Matrix(block, n_out, 1)
        product(rows, n_out, m, transposed(moved(x, 0, first)), d, out, Epilogue(STORE, block, 0, 1.0, 0.0), room)
        _apply_rule(net, step, at + first * n_out, block, WEIGHTS, rows * n_out)
        if step.prepared[WEIGHTS] != 0.0:
            _sum_squares(net, i, first, rows, shift(squares, first // ROWS * panels), panels)
    if bias_at >= 0 and i % size == rank:
        column_sums(m, n_out, d.p, d.row, block, 1.0, 0.0)
        _apply_rule(net, step, bias_at, block, OTHERS, n_out)


@inline
def update_span(net, step, span, m, x, y, d, kept, block, rank, size):
    """Update this thread's share of a parameter of an operation, whose gradient is summed over the batch in order."""
    i, length = net.spans[span, OP], net.spans[span, LENGTH]
    start, end = part(length, LINE, rank, size)
    for first in range(start, end, GRADIENT_BLOCK):
        count = min(GRADIENT_BLOCK, end - first)
        call_gradient(
            net.addresses[i, GRADIENT_AT], d.p,
            (m, net.ops[i, INPUTS], net.ops[i, OUTPUTS], d.p, d.row, x.p, x.row, y.p, y.row, kept,
             shift(data(net.params), net.ops[i, WEIGHT]), shift(data(net.settings), net.ops[i, SETTINGS]), 0,
             net.spans[span, WHICH], first, count, block),
        )  # fmt: skip
        _apply_rule(net, step, net.spans[span, START] + first, block, OTHERS, count)


@inline
def _apply_rule(net, step, at, gradient, kind, n):
    """Update n parameters of a kind, WEIGHTS or OTHERS, from offset ``at``."""
    for s in range(len(step.slots)):
        step.places[s] = integer(shift(data(step.slots), s * step.slots.shape[1] + at))
    prepared, w = data(step.prepared), shift(data(net.params), at)
    call_update(step.update, w, (n, w, gradient, data(step.places), prepared, shift(prepared, kind), 0))


class Ahead(NamedTuple):
    """What the products of the updates are to fetch into the L2 cache while they compute.

    ``samples`` holds the next batch's rows, each an address and a number of bytes; ``places`` has room for a share of
    them and for the pieces of memory that an update needs.
    """

    samples: np.ndarray
    places: np.ndarray


@inline
def put_piece(places, i, address, size):
    """Piece i of a list of memory to fetch."""
    places[2 * i], places[2 * i + 1] = address, size


@inline
def _put_state(net, slots, at, n, places):
    """Put n parameters and their slots on the list, and return how many pieces they are."""
    w = shift(data(net.params), at)
    put_piece(places, 0, integer(w), n * itemsize(w))
    for s in range(slots.shape[0]):
        put_piece(places, s + 1, integer(shift(data(slots), at + s * slots.shape[1])), n * itemsize(w))
    return slots.shape[0] + 1


@inline
def _fetch(ahead, pieces, first, end, steps, room):
    """Let a product of so many steps of k fetch the pieces on the list and some of the samples."""
    total = 0
    for i in range(pieces):
        total += ahead.places[2 * i + 1]
    for i in range(first, end):
        put_piece(ahead.places, pieces + i - first, ahead.samples[2 * i], ahead.samples[2 * i + 1])
        total += ahead.samples[2 * i + 1]
    if total >= WORTH_FETCHING:
        ask_for(data(ahead.places), pieces + end - first, min(64, total // (2 * max(1, steps)) + 1), room)


@inline
def square_sums(net, squares, rank, size):
    """Fill ``squares`` with sums that make Σ w², each thread for its share of the weights.

    Every ROWS rows of a weight have as many places as the tiles of a product with so many rows, and use the first.
    """
    for i in range(len(net.ops)):
        if net.ops[i, KIND] == LINEAR:
            n_in, n_out = net.ops[i, INPUTS], net.ops[i, OUTPUTS]
            panels = _panels(n_out, squares)
            start, end = part(n_in, ROWS, rank, size)
            _sum_squares(net, i, start, end - start, shift(squares, start // ROWS * panels), panels)
            squares = shift(squares, count_of_squares(net, i, squares))


@inline
def count_of_squares(net, i, like):
    """How many places ``square_sums`` fills for the linear op i."""
    return tiles_of(net.ops[i, INPUTS], net.ops[i, OUTPUTS], like)


@inline
def tiles_of(rows, n_out, like):
    """The tiles of a product of so many rows."""
    return (rows + ROWS - 1) // ROWS * _panels(n_out, like)


@inline
def _panels(n_out, like):
    width = VECTORS * lanes(like)
    return (n_out + width - 1) // width


def count_squares(ops: np.ndarray, size: int) -> int:
    """How many places ``square_sums`` fills, for elements of ``size`` bytes."""
    linear = ops[ops[:, KIND] == LINEAR]
    width = VECTORS * ISA.lanes(size)
    return int((-(-linear[:, INPUTS] // ROWS) * -(-linear[:, OUTPUTS] // width)).sum())


@inline
def _sum_squares(net, i, first, rows, squares, panels):
    """Σ w² of some rows of a weight, one sum for every ROWS of them."""
    n_out = net.ops[i, OUTPUTS]
    weight = shift(data(net.params), net.ops[i, WEIGHT] + first * n_out)
    for r in range(0, rows, ROWS):
        put(squares, r // ROWS * panels, _squares(shift(weight, r * n_out), min(ROWS, rows - r) * n_out))


@inline
def _squares(w, n):
    width = lanes(w)
    a, b = splat(w, 0.0), splat(w, 0.0)
    i = 0
    while i + 2 * width <= n:
        x, y = load(w, i), load(w, i + width)
        a, b = fma(x, x, a), fma(y, y, b)
        i += 2 * width
    while i < n:
        x = load_part(w, i, min(width, n - i), 0.0)
        a = fma(x, x, a)
        i += width
    return reduce_add(a + b)
