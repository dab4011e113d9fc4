"""A forward pass over a network that is data; ``fastnn.codes`` says what its numbers mean."""

import functools
from typing import Any, NamedTuple

import numpy as np

from ...codes import ADD, INPUTS, KEPT, KIND, LINEAR, OUTPUTS, SOURCE
from ..compiler.jit import inline, kernel
from ..gemm.product import WORKSPACE, Matrix, workspace
from ..gemm.tile import ROWS
from ..matrix_unit import level_of_unit, with_unit
from ..simd.subnormals import flushed
from ..simd.table import cell, tables
from ..simd.vector import data, fma, integer, itemsize, lanes, load, load_part, pointer, reduce_add, shift, splat, store
from ..softmax import softmax_row
from ..threading.team import part, run
from .layers import (
    SAME,
    UNIT_OF_BATCH,
    Input,
    Net,
    Rows,
    describe,
    forward_op,
    gather_row,
    leading_dimension,
    multiply_adds,
)
from .products import with_products

# Rows that pass at a time, so that the memory for it does not grow with the data.
CHUNK = 256
# The fewest of which the matrix unit is thought of.
UNIT_ROWS = 64


@kernel
def _forward(ops, settings, params, x, elsewhere, row, col, kind, out, softmax, strides, workspace, thread, n_threads):
    net = tables(Net(ops, ops, settings, params, 0))  # which no spans are read of
    return flushed(
        _forward_rows, (net, x, elsewhere, row, col, kind, out, softmax, strides, data(workspace), thread, n_threads)
    )


@inline
def _forward_rows(net, x, elsewhere, row, col, kind, out, softmax, strides, workspace, thread, n_threads):
    """out = the network's output; every thread takes its own rows, CHUNK at a time. Returns whether x is finite.

    The samples are in ``x``, or ``elsewhere`` if that is an address. The nodes are in buffers behind the product's
    workspace, see ``_buffers``; the first product reads the samples in place if it can.
    """
    samples = Input(elsewhere if elsewhere != 0 else integer(data(x)), row, col, kind, 0)
    n_ops, n_in, n_out = net.ops.rows, cell(net.ops, 0, INPUTS), out.shape[1]
    first, end = part(out.shape[0], cell(net.ops, 0, UNIT_OF_BATCH), thread, n_threads)
    widest, n_buffers = strides[n_ops + 1], strides[2 * n_ops + 3]
    zeros = shift(workspace, WORKSPACE)
    for j in range(0, widest, lanes(zeros)):
        store(zeros, j, splat(zeros, 0.0))
    buffers = shift(zeros, widest)
    kept = shift(buffers, n_buffers * CHUNK * widest)
    in_place = kind == SAME and cell(net.ops, 0, KIND) == LINEAR and strides[2 * n_ops + 4] == 0
    finite = True
    for start in range(first, end, CHUNK):
        rows = min(CHUNK, end - start)
        first_node = _node(0, n_ops, strides, buffers)
        source = first_node
        if in_place:
            place = pointer(samples.address + start * row, zeros)
            source = Matrix(place, row // itemsize(zeros), 1)
        for r in range(rows):
            if not in_place:
                gather_row(samples, start + r, n_in, shift(source.p, r * source.row))
            finite &= is_finite(shift(source.p, r * source.row), n_in)
        for i in range(n_ops):
            target, earlier = _node(i + 1, n_ops, strides, buffers), first_node
            if i == n_ops - 1:
                target = Matrix(shift(data(out), start * n_out), n_out, 1)
            if cell(net.ops, i, KIND) == ADD:
                earlier = _node(cell(net.ops, i, SOURCE), n_ops, strides, buffers)
            forward_op(net, i, Rows(0, 0, rows, rows), source, target, earlier, kept, zeros, workspace)
            source = target
        if softmax:
            for r in range(rows):
                softmax_row(shift(source.p, r * n_out), shift(source.p, r * n_out), n_out)
    return finite


@inline
def _node(i, n_ops, strides, buffers):
    """Where the values of a node are."""
    widest, place = strides[n_ops + 1], strides[n_ops + 2 + i]
    return Matrix(shift(buffers, place * CHUNK * widest), strides[i], 1)


@inline
def is_finite(x, n):
    """Whether x[:n] holds neither infinity nor NaN: zero times them is NaN."""
    width = lanes(x)
    total = splat(x, 0.0)
    i = 0
    while i + width <= n:
        total = fma(load(x, i), splat(x, 0.0), total)
        i += width
    if i < n:
        total = fma(load_part(x, i, n - i, 0.0), splat(x, 0.0), total)
    return reduce_add(total) == 0.0


class _Prepared(NamedTuple):
    """The ops; what a thread needs beyond a workspace; and numbers of the nodes.

    These are their leading dimensions, with the widest behind them, their buffers, how many buffers there are, and
    whether the first node is read once more.
    """

    ops: np.ndarray
    strides: np.ndarray
    beyond: int
    work: int
    on_unit: bool


@functools.lru_cache(maxsize=64)
def _prepared(shape: bytes, names: tuple[str, ...], dtype: np.dtype, rows: int, level: str) -> _Prepared:
    ops, on_unit = with_products(shape, names, dtype, False, rows, level)
    strides = [leading_dimension(int(width), dtype.itemsize) for width in (ops[0, INPUTS], *ops[:, OUTPUTS])]
    widest, buffers = max(strides), _buffers(ops)
    n_buffers = 1 + max(buffers)
    beyond = widest * (n_buffers * CHUNK + 1) + CHUNK * int(ops[:, KEPT].max())
    numbers = np.array([*strides, widest, *buffers, n_buffers, _adds_samples(ops)], np.int64)
    return _Prepared(ops, numbers, beyond, multiply_adds(ops), on_unit)


def _adds_samples(ops: np.ndarray) -> bool:
    """Whether the samples are added to something, which they are copied for."""
    return bool(((ops[:, KIND] == ADD) & (ops[:, SOURCE] == 0)).any())


def _buffers(ops: np.ndarray) -> list[int]:
    """The buffer of each node: the first whose values nobody reads any more."""
    last_read = [i + 1 for i in range(len(ops))]
    for i, op in enumerate(ops):
        if op[KIND] == ADD:
            last_read[op[SOURCE]] = max(last_read[op[SOURCE]], i + 1)
    places: list[int] = [0]
    for i in range(1, len(ops) + 1):
        taken = {place for node, place in enumerate(places) if last_read[node] >= i}
        places.append(next(place for place in range(len(ops) + 1) if place not in taken))
    return places


def forward(network: Any, params: np.ndarray, x: np.ndarray, out: np.ndarray, softmax: bool = False) -> bool:
    """Run the network on every sample; see ``fastnn.reference.network.inference.forward``."""
    dtype = params.dtype
    # On the matrix unit what counts is how many rows there are about, so that few forms of a network are made.
    level = level_of_unit(dtype) if len(x) >= UNIT_ROWS else ""
    rows = 1 << (min(len(x), CHUNK).bit_length() - 1) if level else 0
    ops, strides, beyond, work, on_unit = _prepared(network.ops.tobytes(), network.names, dtype, rows, level)
    if x.dtype is dtype and x.flags.carray:
        source: tuple[Any, ...] = (x, 0, x.strides[0], 0, SAME)
    else:
        source = (out, *describe(x, dtype)[:4])
    fixed = (ops, network.settings, params, *source, out, softmax, strides)
    if len(x) < ROWS:
        return bool(_forward(*fixed, workspace(dtype, beyond), 0, 1))
    return _forward_in_parts(fixed, beyond, dtype, len(x) * work, on_unit)


def _forward_in_parts(fixed: tuple[Any, ...], beyond: int, dtype: np.dtype, work: int, on_unit: bool) -> bool:
    finite = []

    def task(thread: int, n_threads: int) -> None:
        own = workspace(dtype, beyond)
        finite.append(_forward(*fixed, with_unit(own) if on_unit else own, thread, n_threads))

    run(task, work)
    return all(finite)
