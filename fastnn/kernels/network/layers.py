"""The layers of a network-as-data over some rows of a batch: gather, forward, backward.

Node 0 is the input and node i + 1 the output of op i. For each node the plan holds the offset of its values, of its
gradient, and the distance of its rows, all in the workspace; ``plan_of`` says which nodes share their
memory. A linear op is a product, whose epilogue adds the bias and may rectify; an ADD adds the output of an earlier op
to that of the last; any other op is called through its address.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import types

from ...codes import (
    ADD,
    BIAS_AT,
    COLUMNS,
    FROZEN,
    INPUTS,
    KEEPS,
    KIND,
    LINEAR,
    OP,
    OUTPUTS,
    SETTINGS,
    SLOPE_AT,
    SUMS,
    TRAINED,
    WEIGHT,
)
from ..compiler.jit import inline, shared
from ..gemm.packing import copy_row
from ..gemm.product import Epilogue, Matrix, moved, product_at
from ..gemm.rectifier import rectify_backward
from ..gemm.tile import BIAS, RECTIFY_BACKWARD, STORE
from ..operations import addresses_of, call_backward, call_forward
from ..simd.address import address
from ..simd.random import key_of
from ..simd.table import cell
from ..simd.vector import get, integer, lanes, load, load_part, pointer, put, shift, store, store_part

# Behind the columns of ops, in each process anew: where the functions of an operation lie, or the three products of a
# linear op, in what multiples threads share out the rows of a weight and of the batch, and where ``GATHER`` lies.
FORWARD_AT, BACKWARD_AT, GRADIENT_AT, SUMS_AT, BACKWARD_SUMS_AT = range(COLUMNS, COLUMNS + 5)
UNIT_OF_WEIGHT, UNIT_OF_BATCH, GATHER_AT = range(COLUMNS + 5, COLUMNS + 8)

# A multiple of this many bytes between rows puts them into one set of the L1 cache.
COLLIDE = 4096
# Elements of a cache line of float32.
LINE = 16


class Net(NamedTuple):
    """A network-as-data, its ops from ``with_products``, and its parameters.

    Of the whole batch to which the rows at hand belong they are those from ``row`` on.
    """

    ops: np.ndarray
    spans: np.ndarray
    settings: np.ndarray
    params: np.ndarray
    seed: int
    row: int


@functools.lru_cache(maxsize=64)
def addressed(shape: bytes, names: tuple[str, ...], dtype: np.dtype, training: bool) -> np.ndarray:
    """The ops, given as bytes, with the addresses of their functions in this process behind them."""
    ops = np.frombuffer(shape, np.int64).reshape(-1, COLUMNS)
    return np.hstack([ops, addresses_of(names, dtype, training)])


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
    ld = -(-width // line) * line
    return ld + LINE if ld * size % COLLIDE == 0 else ld


def multiply_adds(ops: np.ndarray) -> int:
    """Multiply-adds of one sample on its way forward through the linear ops."""
    linear = ops[ops[:, KIND] == LINEAR]
    return int((linear[:, INPUTS] * linear[:, OUTPUTS]).sum())


@inline
def gather_row(x, sample, width, out):
    """Out (width,) = the sample, converted to the dtype of out."""
    at = x.address + sample * x.row
    if x.kind == SAME:
        copy_row(pointer(at, out), out, width)
    elif x.kind == FLOAT32:
        for j in range(width):
            put(out, j, get(pointer(at + j * x.col, np.float32(0)), 0))
    elif x.kind == FLOAT64:
        for j in range(width):
            put(out, j, get(pointer(at + j * x.col, np.float64(0)), 0))
    else:
        for j in range(width):
            put(out, j, get(pointer(at + j * x.col, np.uint8(0)), 0))


def _gather_signature(dtype: Any) -> Any:
    n = types.intp
    return types.void(n, n, n, n, n, n, n, types.CPointer(dtype), n)


@shared(_gather_signature)
def GATHER(address, row, col, kind, width, order, rows, out, ld):
    """The first rows of samples as ``Input`` describes them, or those whose numbers are at ``order``, ``ld`` apart."""
    x = Input(address, row, col, kind, 0)
    for r in range(rows):
        gather_row(x, get(pointer(order, 0), r) if order != 0 else r, width, shift(out, r * ld))


_gather = GATHER.caller()


@inline
def gather(net, x, order, rows, out):
    """The first rows of x, or those whose numbers are at the address ``order``, in the dtype of the network."""
    _gather(
        cell(net.ops, 0, GATHER_AT), out.p,
        (x.address, x.row, x.col, x.kind, cell(net.ops, 0, INPUTS), order, rows, out.p, out.row),
    )  # fmt: skip


class Rows(NamedTuple):
    """``count`` rows from ``first`` on of the batch that update t takes, which has ``batch`` rows."""

    t: int
    first: int
    count: int
    batch: int


class Around(NamedTuple):
    """What an op reads and writes for some rows: its input x and output y, the gradients dx and dy, what it keeps.

    ``source`` is what an ADD adds to its input.
    """

    x: Matrix
    y: Matrix
    dx: Matrix
    dy: Matrix
    kept: Any
    source: Matrix


@inline
def is_updated(ops, i):
    """Whether op i is linear, and not frozen."""
    return cell(ops, i, KIND) == LINEAR and cell(ops, i, KEEPS) & FROZEN == 0


@inline
def first_updated(ops):
    """The first linear op that is not frozen, or how many ops there are."""
    i = 0
    while i < ops.rows and not is_updated(ops, i):
        i += 1
    return i


@inline
def first_trained(net):
    """The first op with parameters that a rule updates."""
    first = first_updated(net.ops)
    for span in range(net.spans.rows - 1, -1, -1):
        if cell(net.spans, span, TRAINED) != 0:
            first = min(first, cell(net.spans, span, OP))
    return first


@inline
def sums_over_batch(net):
    """Whether an operation sums over the batch."""
    units = 0
    for i in range(net.ops.rows):
        units += cell(net.ops, i, SUMS)
    return units != 0


@inline
def linear_op(net, i, rows, col, cols, x, y, zeros, workspace):
    """Some columns of Y (rows, outputs) = x w + b for the linear op i, rectified where it has a slope."""
    n_in, n_out = cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS)
    bias_at, slope_at = cell(net.ops, i, BIAS_AT), cell(net.ops, i, SLOPE_AT)
    weight = Matrix(shift(net.params.p, cell(net.ops, i, WEIGHT) + col), n_out, 1)
    bias = shift(net.params.p, bias_at + col) if bias_at >= 0 else zeros
    slope = get(net.settings.p, slope_at) if slope_at >= 0 else 1.0
    bias_and_slope = Epilogue(BIAS, bias, 0, slope, 0.0)
    product_at(cell(net.ops, i, FORWARD_AT), rows, cols, n_in, x, weight, moved(y, 0, col), bias_and_slope, workspace)


@inline
def forward_op(net, i, rows, x, y, source, kept, zeros, workspace):
    """Y (rows, outputs) = op i of x (rows, inputs), and for an ADD of source."""
    n_out = cell(net.ops, i, OUTPUTS)
    if cell(net.ops, i, KIND) == LINEAR:
        linear_op(net, i, rows.count, 0, n_out, x, y, zeros, workspace)
    elif cell(net.ops, i, KIND) == ADD:
        for r in range(rows.count):
            add_row(shift(x.p, r * x.row), shift(source.p, r * source.row), shift(y.p, r * y.row), n_out)
    else:
        _operation(net, i, FORWARD_AT, rows, x, y, kept)


@inline
def backward_op(net, i, rows, around, workspace):
    """Dx (rows, inputs) = the gradient at the input of op i, from that at its output.

    Where the input was rectified on its way out of a product, dx is the gradient before that.
    """
    n_in, n_out = cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS)
    x, _, dx, dy, _, _ = around
    if cell(net.ops, i, KIND) == LINEAR:
        weight = Matrix(shift(net.params.p, cell(net.ops, i, WEIGHT)), 1, n_out)
        slope_at = cell(net.ops, i - 1, SLOPE_AT)
        mode, slope = (RECTIFY_BACKWARD, get(net.settings.p, slope_at)) if slope_at >= 0 else (STORE, 1.0)
        undo = Epilogue(mode, x.p, x.row, slope, 0.0)
        product_at(cell(net.ops, i, BACKWARD_AT), rows.count, n_in, n_out, dy, weight, dx, undo, workspace)
        return
    if cell(net.ops, i, KIND) == ADD:
        if integer(dx.p) != integer(dy.p):
            for r in range(rows.count):
                copy_row(shift(dy.p, r * dy.row), shift(dx.p, r * dx.row), n_in)
        undo_rectifier(net, i - 1, rows.count, dx, x)
        return
    _operation_backward(net, i, BACKWARD_AT, rows, around)
    undo_rectifier(net, i - 1, rows.count, dx, x)


@inline
def sum_forward(net, i, rows, around):
    """What operation i sums of these rows over the batch, before it is applied to any."""
    _operation(net, i, SUMS_AT, rows, around.x, around.y, around.kept)


@inline
def sum_backward(net, i, rows, around):
    """What operation i sums of these rows over the batch, before a gradient goes back through it."""
    _operation_backward(net, i, BACKWARD_SUMS_AT, rows, around)


@inline
def _operation(net, i, column, rows, x, y, kept):
    call_forward(
        cell(net.ops, i, column), x.p,
        (rows.count, cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS), x.p, x.row, y.p, y.row, kept,
         shift(net.params.p, cell(net.ops, i, WEIGHT)), shift(net.settings.p, cell(net.ops, i, SETTINGS)), 0,
         _key(net, i, rows), rows.first),
    )  # fmt: skip


@inline
def _operation_backward(net, i, column, rows, around):
    x, y, dx, dy, kept, _ = around
    call_backward(
        cell(net.ops, i, column), dy.p,
        (rows.count, cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS), dy.p, dy.row, x.p, x.row, y.p, y.row, dx.p,
         dx.row, kept, shift(net.params.p, cell(net.ops, i, WEIGHT)),
         shift(net.settings.p, cell(net.ops, i, SETTINGS)), 0, _key(net, i, rows), rows.first),
    )  # fmt: skip


@inline
def _key(net, i, rows):
    """What the random numbers of operation i follow from, or the rows of the batch that it sums over."""
    return rows.batch if cell(net.ops, i, SUMS) != 0 else key_of(net.seed, rows.t, i) + net.row


@inline
def add_row(a, b, out, n):
    """out = a + b."""
    width = lanes(out)
    i = 0
    while i + width <= n:
        store(out, i, load(a, i) + load(b, i))
        i += width
    if i < n:
        store_part(out, i, n - i, load_part(a, i, n - i, 0.0) + load_part(b, i, n - i, 0.0))


@inline
def undo_rectifier(net, i, rows, d, y):
    """The gradient at the output y of op i becomes that before its rectifier, if it has one."""
    slope_at = cell(net.ops, i, SLOPE_AT)
    if slope_at >= 0:
        for r in range(rows):
            row = shift(d.p, r * d.row)
            rectify_backward(get(net.settings.p, slope_at), row, shift(y.p, r * y.row), row, cell(net.ops, i, OUTPUTS))
