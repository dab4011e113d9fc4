"""A forward pass over a network that is data; ``fastnn.codes`` says what its numbers mean."""

import functools
from typing import Any, NamedTuple

import numpy as np

from ...codes import ADD, INPUTS, KEPT, KIND, LINEAR, OUTPUTS, SOURCE
from ..builtin import ANY, DOUBLES, INTEGERS, REALS, TABLE
from ..compiler.jit import inline, shared
from ..entries import BEYOND, ROWWISE, Entry
from ..gemm.product import WORKSPACE, Matrix, workspace
from ..given import GIVEN, array_of, entry_signature
from ..matrix_unit import level_of_unit, with_unit
from ..simd.record import keep
from ..simd.subnormals import flushed
from ..simd.table import Table, cell
from ..simd.vector import (
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
)
from ..softmax import SOFTMAX_ROWS, softmax_rows
from ..threading.team import GRAIN, part, run
from .layers import (
    FLOAT32,
    FLOAT64,
    SAME,
    UINT8,
    UNIT_OF_BATCH,
    Input,
    Net,
    Rows,
    forward_op,
    gather,
    leading_dimension,
    multiply_adds,
)
from .products import with_products

# Rows that pass at a time, so that the memory for it does not grow with the data.
CHUNK = 256
# The fewest of which the matrix unit is thought of.
UNIT_ROWS = 64


# Behind the numbers of the nodes: what a thread needs beyond a workspace, and the multiply-adds of a sample.
_BEYOND, _WORK = -2, -1
# What a share is told, as the quick way is, of which nobody else learns whether the samples are finite: the address of
# the softmax of rows, or 0 where none is wanted.
_THREAD, _THREADS, _FINITE, _SOFTMAX_AT = range(4)
# The kind of element by the place of a dtype among those of entries.
_KINDS = FLOAT32, FLOAT64, 0, UINT8


@shared(entry_signature)
def _forward(given, workspace):
    """The arguments: parameters, samples, ops, settings, numbers, the memory of a thread's share, and what it is told.

    The quick way, of a single thread with the workspace that is lent, has no memory.
    """
    params, x, ops = array_of(given, 0, workspace), array_of(given, 1, np.uint8(0)), array_of(given, 2, 0)
    settings, numbers = array_of(given, 3, np.float64(0)), array_of(given, 4, 0)
    memory, told = array_of(given, 5, workspace), array_of(given, 6, 0)
    out = array_of(given, get(given, GIVEN), workspace)
    # In memory, as an epoch has them: what runs an op is then the same function.
    net = keep(
        Net(Table(ops.p, ops.rows, ops.cols), Table(ops.p, 0, 0), Table(settings.p, settings.size, 1),
            Table(params.p, params.size, 1), 0, 0)
    )  # fmt: skip
    if not _fits(net, x, out):
        return 0
    size = itemsize(params.p)
    is_same = x.element == params.element and (x.cols == 1 or x.col == size) and x.row % size == 0
    samples = keep(Input(integer(x.p), x.row, x.col, SAME if is_same else _KINDS[x.element], 0))
    is_quick = memory.size == 0
    if is_quick:
        beyond, work = get(numbers.p, numbers.size + _BEYOND), get(numbers.p, numbers.size + _WORK)
        if beyond > BEYOND or x.rows * work >= GRAIN:
            return 0
    finite = flushed(
        _forward_rows,
        (net, samples, Table(out.p, out.rows, out.cols), get(told.p, _SOFTMAX_AT), numbers.p,
         workspace if is_quick else memory.p, get(told.p, _THREAD), get(told.p, _THREADS)),
    )  # fmt: skip
    if is_quick:
        return 1 if finite else 0
    put(told.p, _FINITE, 1 if finite else 0)
    return 1


@inline
def _fits(net, x, out):
    """Whether x are samples of the network, and out is for its outputs."""
    fits = x.ndim == 2 and x.rows > 0 and x.rows == out.rows and x.cols == cell(net.ops, 0, INPUTS)
    return fits and out.cols == cell(net.ops, net.ops.rows - 1, OUTPUTS)


@inline
def _forward_rows(net, samples, out, softmax_at, strides, workspace, thread, n_threads):
    """out = the network's output; every thread takes its own rows, CHUNK at a time. Returns whether x is finite.

    The nodes are in buffers behind the product's workspace, see ``_buffers``; the first product reads the samples in
    place if it can.
    """
    n_ops, n_in, n_out = net.ops.rows, cell(net.ops, 0, INPUTS), out.cols
    first, end = part(out.rows, cell(net.ops, 0, UNIT_OF_BATCH), thread, n_threads)
    widest, n_buffers = get(strides, n_ops + 1), get(strides, 2 * n_ops + 3)
    zeros = shift(workspace, WORKSPACE)
    for j in range(0, widest, lanes(zeros)):
        store(zeros, j, splat(zeros, 0.0))
    buffers = shift(zeros, widest)
    kept = shift(buffers, n_buffers * CHUNK * widest)
    in_place = samples.kind == SAME and cell(net.ops, 0, KIND) == LINEAR and get(strides, 2 * n_ops + 4) == 0
    finite = True
    for start in range(first, end, CHUNK):
        rows = min(CHUNK, end - start)
        first_node = _node(0, n_ops, strides, buffers)
        source = first_node
        if in_place:
            place = pointer(samples.address + start * samples.row, zeros)
            source = Matrix(place, samples.row // itemsize(zeros), 1)
        if not in_place:
            place = samples.address + start * samples.row
            gather(net, Input(place, samples.row, samples.col, samples.kind, 0), 0, rows, source)
        for r in range(rows):
            finite &= is_finite(shift(source.p, r * source.row), n_in)
        for i in range(n_ops):
            target, earlier = _node(i + 1, n_ops, strides, buffers), first_node
            if i == n_ops - 1 and softmax_at == 0:
                target = Matrix(shift(out.p, start * n_out), n_out, 1)
            if cell(net.ops, i, KIND) == ADD:
                earlier = _node(cell(net.ops, i, SOURCE), n_ops, strides, buffers)
            forward_op(net, i, Rows(0, 0, rows, rows), source, target, earlier, kept, zeros, workspace)
            source = target
        if softmax_at != 0:  # not in place: a row that follows closely would wait for the one before to be stored
            softmax_rows(softmax_at, zeros, (rows, n_out, source.p, source.row, shift(out.p, start * n_out)))
    return finite


@inline
def _node(i, n_ops, strides, buffers):
    """Where the values of a node are."""
    widest, place = get(strides, n_ops + 1), get(strides, n_ops + 2 + i)
    return Matrix(shift(buffers, place * CHUNK * widest), get(strides, i), 1)


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
    whether the first node is read once more; then the two before and after.
    """

    ops: np.ndarray
    numbers: np.ndarray
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
    work = multiply_adds(ops)
    numbers = np.array([*strides, widest, *buffers, n_buffers, _adds_samples(ops), beyond, work], np.int64)
    return _Prepared(ops, numbers, beyond, work, on_unit)


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


_ARGUMENTS = [(REALS, ROWWISE), (ANY, 0), (INTEGERS, ROWWISE), (DOUBLES, ROWWISE), (INTEGERS, ROWWISE)]
_ARGUMENTS += [(REALS, ROWWISE), (INTEGERS, ROWWISE)]
# The columns of a new result are those of the memory, which is empty then.
_FORWARD = Entry("forward", _forward, _ARGUMENTS, TABLE, table=(1, 5), works=True)
_SHARE = Entry("forward", _forward, _ARGUMENTS, TABLE, is_quick=False)


def forward_arguments(network: Any, dtype: np.dtype, softmax: bool = False) -> tuple[np.ndarray, ...]:
    """What the quick way forward, or to the softmax, takes behind the samples."""
    _FORWARD.prepare(dtype)
    ops, numbers, *_ = _prepared(network.ops.tobytes(), network.names, dtype, 0, "")
    told = np.array([0, 1, 0, SOFTMAX_ROWS.address(dtype) if softmax else 0], np.int64)
    return ops, network.settings, numbers, np.empty((0, int(ops[-1, OUTPUTS])), dtype), told


def forward(network: Any, params: np.ndarray, x: np.ndarray, out: np.ndarray, softmax: bool = False) -> bool:
    """Run the network on every sample; see ``fastnn.reference.network.inference.forward``."""
    x, finite, dtype = np.asarray(x), [], params.dtype
    if len(x) == 0:
        return True
    # On the matrix unit what counts is how many rows there are about, so that few forms of a network are made.
    level = level_of_unit(dtype) if len(x) >= UNIT_ROWS else ""
    rows = 1 << (min(len(x), CHUNK).bit_length() - 1) if level else 0
    ops, numbers, beyond, work, on_unit = _prepared(network.ops.tobytes(), network.names, dtype, rows, level)

    softmax_at = SOFTMAX_ROWS.address(dtype) if softmax else 0

    def task(thread: int, n_threads: int) -> None:
        told = np.array([thread, n_threads, 0, softmax_at], np.int64)
        own = workspace(dtype, beyond)
        memory = with_unit(own) if on_unit else own
        _SHARE(params, x, ops, network.settings, numbers, memory, told, out)
        finite.append(bool(told[_FINITE]))

    run(task, len(x) * work)
    return all(finite)
