"""A forward pass over a network that is data; ``fastnn.codes`` says what its numbers mean."""

import functools
from typing import Any, NamedTuple

import numpy as np

from ...codes import ADD, INPUTS, KEPT, KIND, LINEAR, OUTPUTS, SOURCE
from ..compiler.jit import inline, shared
from ..entries import (
    BEYOND,
    FLOAT,
    FLOAT64,
    GIVEN,
    INT64,
    READ,
    ROWWISE,
    TABLE,
    Entry,
    array_of,
    entry_signature,
    float_at,
)
from ..entries import SAME as SAME_DTYPE
from ..gemm.product import WORKSPACE, Matrix, workspace
from ..gemm.tile import ROWS
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
from ..softmax import softmax_row
from ..threading.team import GRAIN, part, run
from .layers import (
    SAME,
    Input,
    Net,
    Rows,
    addressed,
    describe,
    forward_op,
    gather_row,
    leading_dimension,
    multiply_adds,
)

# Rows that pass at a time, so that the memory for it does not grow with the data.
CHUNK = 256


# What a call tells of its samples, in int64: their ``Input``, and of threads the one that calls and how many there are.
# It notes there whether they are finite. Where the address is 0 they are the first argument.
ADDRESS, ROW, COL, ELEMENT, _, THREAD, THREADS, FINITE = range(8)
# Behind the numbers of the nodes: what a thread needs beyond a workspace, and the multiply-adds of a sample.
_BEYOND, _WORK = -2, -1


@shared(entry_signature)
def _forward(given, workspace):
    """The arguments: samples, parameters, ops, settings, numbers, what is told, memory or none, outputs, softmax."""
    x, params, ops = array_of(given, 0, workspace), array_of(given, 1, workspace), array_of(given, 2, 0)
    settings, numbers, told = array_of(given, 3, np.float64(0)), array_of(given, 4, 0), array_of(given, 5, 0)
    own, out = array_of(given, 6, workspace), array_of(given, get(given, GIVEN), workspace)
    net = Net(Table(ops.p, ops.rows, ops.cols), Table(ops.p, 0, 0), Table(settings.p, settings.size, 1),
              Table(params.p, params.size, 1), 0)  # fmt: skip
    samples = Input(get(told.p, ADDRESS), get(told.p, ROW), get(told.p, COL), get(told.p, ELEMENT), 0)
    beyond, work = get(numbers.p, numbers.size + _BEYOND), get(numbers.p, numbers.size + _WORK)
    is_plain = samples.address == 0
    if is_plain:
        fits = x.ndim == 2 and x.rows > 0 and x.cols == cell(net.ops, 0, INPUTS) and x.col == 1
        fits = fits and out.cols == cell(net.ops, net.ops.rows - 1, OUTPUTS) and out.rows == x.rows
        if not fits or beyond > BEYOND or x.rows * work >= GRAIN:
            return 0
        samples = Input(integer(x.p), x.row * itemsize(x.p), itemsize(x.p), SAME, 0)
    else:
        workspace = own.p
    is_softmax = get(float_at(given, 8), 0) != 0.0
    finite = flushed(
        _forward_rows,
        (net, samples, Table(out.p, out.rows, out.cols), is_softmax, numbers.p, workspace, get(told.p, THREAD),
         get(told.p, THREADS)),
    )  # fmt: skip
    if is_plain:
        return 1 if finite else 0
    put(told.p, FINITE, 1 if finite else 0)
    return 1


@inline
def _forward_rows(net, samples, out, softmax, strides, workspace, thread, n_threads):
    """out = the network's output; every thread takes its own rows, CHUNK at a time. Returns whether x is finite.

    The nodes are in buffers behind the product's workspace, see ``_buffers``; the first product reads the samples in
    place if it can.
    """
    n_ops, n_in, n_out = net.ops.rows, cell(net.ops, 0, INPUTS), out.cols
    first, end = part(out.rows, ROWS, thread, n_threads)
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
        for r in range(rows):
            if not in_place:
                gather_row(samples, start + r, n_in, shift(source.p, r * source.row))
            finite &= is_finite(shift(source.p, r * source.row), n_in)
        for i in range(n_ops):
            target, earlier = _node(i + 1, n_ops, strides, buffers), first_node
            if i == n_ops - 1 and not softmax:
                target = Matrix(shift(out.p, start * n_out), n_out, 1)
            if cell(net.ops, i, KIND) == ADD:
                earlier = _node(cell(net.ops, i, SOURCE), n_ops, strides, buffers)
            forward_op(net, i, Rows(0, 0, rows, rows), source, target, earlier, kept, zeros, workspace)
            source = target
        if softmax:  # not in place: a row that follows closely would wait for the one before to be stored
            for r in range(rows):
                softmax_row(shift(source.p, r * source.row), shift(out.p, (start + r) * n_out), n_out)
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


@functools.lru_cache(maxsize=64)
def _prepared(shape: bytes, names: tuple[str, ...], dtype: np.dtype) -> _Prepared:
    ops = addressed(shape, names, dtype, False)
    strides = [leading_dimension(int(width), dtype.itemsize) for width in (ops[0, INPUTS], *ops[:, OUTPUTS])]
    widest, buffers = max(strides), _buffers(ops)
    n_buffers = 1 + max(buffers)
    beyond = widest * (n_buffers * CHUNK + 1) + CHUNK * int(ops[:, KEPT].max())
    work = multiply_adds(ops)
    numbers = np.array([*strides, widest, *buffers, n_buffers, _adds_samples(ops), beyond, work], np.int64)
    return _Prepared(ops, numbers, beyond, work)


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


_ARGUMENTS = [(SAME_DTYPE, READ), (SAME_DTYPE, ROWWISE), (INT64, ROWWISE), (FLOAT64, ROWWISE), (INT64, ROWWISE)]
_ARGUMENTS += [(INT64, ROWWISE), (SAME_DTYPE, ROWWISE), (SAME_DTYPE, ROWWISE), (FLOAT, 0)]
_FORWARD = Entry("forward", _forward, _ARGUMENTS, TABLE, columns=7, works=True)
_SHARE = Entry("", _forward, _ARGUMENTS, TABLE, columns=7)
_PLAIN = np.array([0, 0, 0, SAME, 0, 0, 1, 0])


def forward_arguments(network: Any, dtype: np.dtype) -> tuple[np.ndarray, ...]:
    """What the quick way forward takes between the parameters and whether to take the softmax."""
    _FORWARD.prepare(dtype)
    ops, numbers, _, _ = _prepared(network.ops.tobytes(), network.names, dtype)
    nothing = np.empty((0, int(ops[-1, OUTPUTS])), dtype)
    return ops, network.settings, numbers, _PLAIN, nothing, nothing


def forward(network: Any, params: np.ndarray, x: np.ndarray, out: np.ndarray, softmax: bool = False) -> bool:
    """Run the network on every sample; see ``fastnn.reference.network.inference.forward``."""
    dtype, samples, finite = params.dtype, describe(x, params.dtype), []
    ops, numbers, beyond, work = _prepared(network.ops.tobytes(), network.names, dtype)

    def task(thread: int, n_threads: int) -> None:
        told = np.array([*samples, thread, n_threads, 0])
        memory = workspace(dtype, beyond)
        _SHARE(out, params, ops, network.settings, numbers, told, memory, out, float(softmax), out)
        finite.append(bool(told[FINITE]))

    run(task, len(x) * work)
    return all(finite)
