"""The layers of a network-as-data over some rows of a batch: gather, forward, backward, update.

Node 0 is the input and node i + 1 the output of op i. For each node the plan holds the offset of its values Y, of its
gradient D (with respect to what went into the op's activation), and the distance of its rows, all in the workspace.
"""

from typing import NamedTuple

import numpy as np

from ._address import address
from ._jit import inline
from ._product import COLLIDE, LINE, column_sums, product
from ._tile import BIAS, COMBINE, GATE, ROWS, STORE
from ._vector import data, fma, get, lanes, load, load_part, pointer, put, reduce_add, shift, splat, store, store_part
from .activations import LEAKY_RELU, RELU, activate, gate
from .threads import part
from .updates import SGD, update

LINEAR = 0
KIND, INPUTS, OUTPUTS, WEIGHT, BIAS_AT, ACTIVATION = range(6)
VALUES, GRADIENT, STRIDE = range(3)

# Elements of a block of the weights' gradient, which is formed and used up block by block.
GRADIENT_BLOCK = 65536
# Weights whose squares are summed together.
SQUARES = 2048


class Net(NamedTuple):
    """A network-as-data and its parameters."""

    ops: np.ndarray
    slopes: np.ndarray
    params: np.ndarray


class Input(NamedTuple):
    """Samples in memory of any layout: address, strides in bytes, and the kind of element."""

    address: int
    row: int
    col: int
    kind: int


SAME, FLOAT32, FLOAT64, UINT8 = range(4)


def describe(x: np.ndarray, dtype: np.dtype) -> Input:
    """How compiled code finds the samples in x; the element kind says whether they need converting."""
    row, col = x.strides
    plain = x.dtype == dtype and (col == x.itemsize or x.shape[1] <= 1) and row % x.itemsize == 0
    kind = SAME if plain else {"f4": FLOAT32, "f8": FLOAT64, "u1": UINT8}[x.dtype.str[1:]]
    return Input(address(x), row, col, kind)


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
def linear_op(net, i, rows, x, x_row, y, y_row, zeros, room):
    """Y (rows, outputs) = f(x w + b) for the linear op i."""
    n_in, n_out, bias_at = net.ops[i, INPUTS], net.ops[i, OUTPUTS], net.ops[i, BIAS_AT]
    activation = net.ops[i, ACTIVATION]
    params = data(net.params)
    bias = shift(params, bias_at) if bias_at >= 0 else zeros
    product(
        BIAS, rows, n_out, n_in, x, x_row, 1, shift(params, net.ops[i, WEIGHT]), n_out, 1, y, y_row,
        bias, 0, slope_of(activation, net.slopes[i]), 0.0, room,
    )  # fmt: skip
    if activation > LEAKY_RELU:
        for r in range(rows):
            activate(activation, 0.0, shift(y, r * y_row), shift(y, r * y_row), n_out)


@inline
def forward_op(net, i, rows, x, x_row, y, y_row, zeros, room):
    """Y (rows, outputs) = op i of x (rows, inputs)."""
    if net.ops[i, KIND] == LINEAR:
        linear_op(net, i, rows, x, x_row, y, y_row, zeros, room)
    else:
        for r in range(rows):
            activate(
                net.ops[i, ACTIVATION], net.slopes[i], shift(x, r * x_row), shift(y, r * y_row), net.ops[i, OUTPUTS]
            )


@inline
def backward_op(net, i, rows, d, d_row, y, dx, x_row, room):
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
    else:
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
def update_op(net, slots, step, i, m, x, x_row, d, d_row, block, room, rank, size):
    """Update this thread's share of the weights and biases of the linear op i.

    x (m, inputs) is the op's input and d (m, outputs) the gradient before its activation. SGD is the epilogue of the
    product xᵀ d; the other rules take the gradient a block of rows at a time, while it is still in the cache.
    """
    n_in, n_out, bias_at = net.ops[i, INPUTS], net.ops[i, OUTPUTS], net.ops[i, BIAS_AT]
    at, penalty = net.ops[i, WEIGHT], 2.0 * step.l2
    start, end = part(n_in, ROWS, rank, size)
    if step.kind == SGD:
        if end > start:
            weight = shift(data(net.params), at + start * n_out)
            _weight_gradient(
                COMBINE, shift(x, start), end - start, n_out, m, x_row, d, d_row, weight, -step.lr,
                1.0 - step.lr * penalty, room,
            )  # fmt: skip
    else:
        height = max(ROWS, GRADIENT_BLOCK // max(1, n_out) // ROWS * ROWS)
        for first in range(start, end, height):
            rows = min(height, end - first)
            _weight_gradient(
                STORE, shift(x, first), rows, n_out, m, x_row, d, d_row, block, 1.0, 0.0, room
            )  # fmt: skip
            _apply_rule(net, slots, step, at + first * n_out, block, penalty, rows * n_out)
    if bias_at >= 0 and i % size == rank:
        if step.kind == SGD:
            column_sums(m, n_out, d, d_row, shift(data(net.params), bias_at), -step.lr, 1.0)
        else:
            column_sums(m, n_out, d, d_row, block, 1.0, 0.0)
            _apply_rule(net, slots, step, bias_at, block, 0.0, n_out)


@inline
def _weight_gradient(mode, x, rows, n_out, m, x_row, d, d_row, out, alpha, beta, room):
    """Out (rows, n_out) = xᵀ d over the batch, or combined with what it holds."""
    product(mode, rows, n_out, m, x, 1, x_row, d, d_row, 1, out, n_out, out, 0, alpha, beta, room)


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
def square_sums(net, sums, rank, size):
    """sums[c] = Σ w² over this thread's chunks of the weights; returns how many chunks there are in all."""
    chunk = 0
    for i in range(len(net.ops)):
        if net.ops[i, KIND] == LINEAR:
            n = net.ops[i, INPUTS] * net.ops[i, OUTPUTS]
            for first in range(0, n, SQUARES):
                if chunk % size == rank:
                    sums[chunk] = _squares(shift(data(net.params), net.ops[i, WEIGHT] + first), min(SQUARES, n - first))
                chunk += 1
    return chunk


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
