"""The layers of a network-as-data over some rows of a batch: gather, forward, backward, update.

Node 0 is the input and node i + 1 the output of op i. For each node the plan holds the offset of its values Y, of its
gradient D (with respect to what went into the op's activation), and the distance of its rows, all in the workspace.
"""

from typing import NamedTuple

import numpy as np

from ._address import address
from ._cpu import ISA
from ._jit import inline
from ._product import ask_for, column_sums, product
from ._random import key_of, row_key
from ._tile import BIAS, COMBINE, GATE, ROWS, STORE, UPDATE, VECTORS
from ._vector import (
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
from .activations import LEAKY_RELU, RELU, activate, gate
from .dropout import dropout_row
from .threads import part
from .updates import SGD, update

LINEAR, _, DROPOUT = range(3)
KIND, INPUTS, OUTPUTS, WEIGHT, BIAS_AT, ACTIVATION = range(6)
VALUES, GRADIENT, STRIDE = range(3)

# Elements of a block of the weights' gradient, which is formed and used up block by block.
GRADIENT_BLOCK = 16384
# A multiple of this many bytes between rows puts them into one set of the L1 cache.
COLLIDE = 4096
# Elements of a cache line of float32.
LINE = 16
# Bytes below which fetching them early is not worth the trouble.
WORTH_FETCHING = 32_768


class Net(NamedTuple):
    """A network-as-data and its parameters."""

    ops: np.ndarray
    slopes: np.ndarray
    params: np.ndarray
    seed: int = 0


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


def row_distance(width: int, size: int) -> int:
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
def slope_of(activation, slope):
    """The slope of a ReLU, a leaky ReLU, or a straight line, which the product's epilogues take."""
    if activation == RELU:
        return 0.0
    if activation == LEAKY_RELU:
        return slope
    return 1.0


@inline
def linear_op(net, i, rows, col, cols, x, x_row, y, y_row, zeros, room):
    """Some columns of Y (rows, outputs) = f(x w + b) for the linear op i."""
    n_in, n_out, bias_at = net.ops[i, INPUTS], net.ops[i, OUTPUTS], net.ops[i, BIAS_AT]
    activation = net.ops[i, ACTIVATION]
    params, y = data(net.params), shift(y, col)
    bias = shift(params, bias_at + col) if bias_at >= 0 else zeros
    product(
        BIAS, rows, cols, n_in, x, x_row, 1, shift(params, net.ops[i, WEIGHT] + col), n_out, 1, y, y_row,
        bias, 0, slope_of(activation, net.slopes[i]), 0.0, room,
    )  # fmt: skip
    if activation > LEAKY_RELU:
        for r in range(rows):
            activate(activation, 0.0, shift(y, r * y_row), shift(y, r * y_row), cols)


@inline
def forward_op(net, i, t, row, rows, x, x_row, y, y_row, zeros, room):
    """Y (rows, outputs) = op i of x (rows, inputs), the rows from ``row`` on of the batch that update t takes.

    For t = 0 nothing is dropped.
    """
    n_out = net.ops[i, OUTPUTS]
    if net.ops[i, KIND] == LINEAR:
        linear_op(net, i, rows, 0, n_out, x, x_row, y, y_row, zeros, room)
    elif net.ops[i, KIND] == DROPOUT and t > 0:
        drop(net, i, t, row, rows, x, x_row, y, y_row)
    else:
        for r in range(rows):
            activate(net.ops[i, ACTIVATION], net.slopes[i], shift(x, r * x_row), shift(y, r * y_row), n_out)


@inline
def drop(net, i, t, row, rows, x, x_row, y, y_row):
    """Y = the dropout op i of some rows of a batch, forward or, applied to gradients, backward."""
    key = key_of(net.seed, t, i)
    for r in range(rows):
        dropout_row(shift(x, r * x_row), row_key(key, row + r), net.slopes[i], shift(y, r * y_row), net.ops[i, OUTPUTS])


@inline
def backward_op(net, i, t, row, rows, d, d_row, y, dx, x_row, room):
    """Dx = the gradient at the input of op i, times the derivative of the activation that made that input.

    d (rows, outputs) is the gradient before op i's own activation; y and dx (rows, inputs) share the row distance.
    """
    n_in, n_out = net.ops[i, INPUTS], net.ops[i, OUTPUTS]
    activation, slope = net.ops[i - 1, ACTIVATION], net.slopes[i - 1]
    if net.ops[i, KIND] == LINEAR:
        mode = GATE if activation in (RELU, LEAKY_RELU) else STORE
        weight = shift(data(net.params), net.ops[i, WEIGHT])
        product(
            mode, rows, n_in, n_out, d, d_row, 1, weight, 1, n_out, dx, x_row, y, x_row,
            slope_of(activation, slope), 0.0, room,
        )  # fmt: skip
        if activation > LEAKY_RELU:
            for r in range(rows):
                row = shift(dx, r * x_row)
                gate(activation, slope, row, shift(y, r * x_row), row, n_in)
        return
    if net.ops[i, KIND] == DROPOUT:
        drop(net, i, t, row, rows, d, d_row, dx, x_row)
        d, d_row = dx, x_row
    for r in range(rows):
        gate(activation, slope, shift(d, r * d_row), shift(y, r * x_row), shift(dx, r * x_row), n_in)


class Step(NamedTuple):
    """What an update needs beyond the gradient; lr and eps carry the bias corrections of this step."""

    kind: int
    lr: float
    momentum: float
    beta2: float
    eps: float
    l2: float


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
def sgd_op(net, step, i, m, start, end, col, cols, x, x_row, d, d_row, squares, ahead, samples, room):
    """Update rows start to end and some columns of the weight of the linear op i: W = (1 - 2 lr l2) W - lr xᵀ d.

    The update is the epilogue of the product, which fetches what comes next, see ``Ahead``.
    """
    n_out = net.ops[i, OUTPUTS]
    panels = _panels(n_out, x)
    if end > start and cols > 0:
        _fetch(ahead, 0, 0, samples, m * tiles_of(end - start, cols, x), room)
        weight = shift(data(net.params), net.ops[i, WEIGHT] + start * n_out + col)
        tiles = shift(squares, start // ROWS * panels + _panels(col, x))
        product(
            UPDATE if step.l2 != 0.0 else COMBINE, end - start, cols, m, shift(x, start), 1, x_row, shift(d, col),
            d_row, 1, weight, n_out, tiles, panels, -step.lr, 1.0 - 2.0 * step.lr * step.l2, room,
        )  # fmt: skip


@inline
def sgd_bias(net, step, i, m, col, cols, d, d_row):
    """Update some elements of the bias of the linear op i."""
    bias_at = net.ops[i, BIAS_AT]
    if bias_at >= 0:
        column_sums(m, cols, shift(d, col), d_row, shift(data(net.params), bias_at + col), -step.lr, 1.0)


@inline
def update_op(net, slots, step, i, m, x, x_row, d, d_row, squares, ahead, samples, block, room, rank, size):
    """Update this thread's share of the weights and biases of the linear op i; ``squares`` are as in ``square_sums``.

    x (m, inputs) is the op's input and d (m, outputs) the gradient before its activation. Rules with state take the
    gradient a block of rows at a time, while it is still in the cache.
    """
    n_in, n_out, bias_at = net.ops[i, INPUTS], net.ops[i, OUTPUTS], net.ops[i, BIAS_AT]
    start, end = part(n_in, ROWS, rank, size)
    if step.kind == SGD:
        sgd_op(net, step, i, m, start, end, 0, n_out, x, x_row, d, d_row, squares, ahead, samples, room)
        if i % size == rank:
            sgd_bias(net, step, i, m, 0, n_out, d, d_row)
        return
    at, penalty, panels = net.ops[i, WEIGHT], 2.0 * step.l2, _panels(n_out, x)
    height = max(ROWS, GRADIENT_BLOCK // max(1, n_out) // ROWS * ROWS)
    for first in range(start, end, height):
        rows = min(height, end - first)
        pieces = _put_state(net, slots, at + first * n_out, rows * n_out, ahead.places)
        done, more = first - start, min(end, first + height) - start
        _fetch(
            ahead, pieces, samples * done // (end - start), samples * more // (end - start),
            m * tiles_of(rows, n_out, x), room,
        )  # fmt: skip
        product(STORE, rows, n_out, m, shift(x, first), 1, x_row, d, d_row, 1, block, n_out, block, 0, 1.0, 0.0, room)
        _apply_rule(net, slots, step, at + first * n_out, block, penalty, rows * n_out)
        if step.l2 != 0.0:
            _sum_squares(net, i, first, rows, shift(squares, first // ROWS * panels), panels)
    if bias_at >= 0 and i % size == rank:
        column_sums(m, n_out, d, d_row, block, 1.0, 0.0)
        _apply_rule(net, slots, step, bias_at, block, 0.0, n_out)


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
def _apply_rule(net, slots, step, at, gradient, penalty, n):
    """Update n parameters from offset ``at`` by a rule that keeps state."""
    first = shift(data(slots), at)
    second = shift(first, slots.shape[1] * (slots.shape[0] - 1))
    update(
        step.kind, shift(data(net.params), at), gradient, first, second, step.lr, step.momentum, step.beta2, step.eps,
        penalty, n,
    )  # fmt: skip


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
