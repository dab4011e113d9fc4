"""One training epoch, and one forward pass, over a network that is data; ``fastnn.reference.epoch`` has the codes.

All threads run the same function, each on its own rows of the batch until the gradients before every activation are
known, then, after a barrier, each on its own part of every weight: two barriers a batch. The gradient of a weight is
never stored, its update is the epilogue of the product that forms it.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from ._address import address, as_writeable
from ._barrier import ABORTED, barrier
from ._clock import BACKWARD, FORWARD, GATHER, LOSS, REST, UPDATE, begin, clock_of, lap
from ._jit import inline, kernel
from ._layers import (
    ACTIVATION,
    FLOAT32,
    FLOAT64,
    GRADIENT,
    GRADIENT_BLOCK,
    INPUTS,
    KIND,
    LINEAR,
    OUTPUTS,
    SAME,
    SQUARES,
    STRIDE,
    UINT8,
    VALUES,
    Input,
    Net,
    Step,
    backward_op,
    forward_op,
    gather_row,
    square_sums,
    update_op,
)
from ._product import COLLIDE, LINE, ROOM, prepare_rooms, room
from ._tile import ROWS
from ._vector import data, get, itemsize, pointer, put, shift
from .activations import IDENTITY, gate
from .losses import CROSS_ENTROPY, finish_cross_entropy, label_row, share_of, squared_row, target_row
from .threads import get_num_threads, part, run
from .updates import corrected

# Rows that one forward pass takes at a time, so that its memory does not grow with the data.
CHUNK = 256
# Multiply-adds of a step below which a second thread costs more than it saves: besides two barriers, each core fetches
# what the other has written, half of the weights and of the batch.
STEP_GRAIN = 30_000_000


class Target(NamedTuple):
    """Labels or targets, and sample weights; what is missing is empty."""

    labels: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


class Order(NamedTuple):
    """The samples in the order of training, and the size of a batch."""

    rows: np.ndarray
    batch_size: int


class Space(NamedTuple):
    """The workspace: the plan of the nodes, the nodes with the rows' losses behind them, and each thread's room."""

    plan: np.ndarray
    nodes: np.ndarray
    zeros_at: int
    losses_at: int
    rests_at: int
    rooms: np.ndarray
    squares: np.ndarray
    sync: np.ndarray


@kernel
def _train(net, slots, x, target, order, loss, step, t, space, clock, rank, size):
    room = shift(data(space.rooms), rank * space.rooms.shape[1])
    block = shift(room, ROOM)
    losses = shift(data(space.nodes), space.losses_at)
    total = seen = 0.0
    n = len(order.rows)
    begin(clock)
    for number in range((n + order.batch_size - 1) // order.batch_size):
        start = number * order.batch_size
        m = min(order.batch_size, n - start)
        weight = _batch_weight(target.weights, order.rows, start, m)
        first, end = part(m, ROWS, rank, size)
        if end > first:
            _rows_to_gradients(
                net, x, target, order.rows, start + first, first, end - first, loss, weight, space, clock, room
            )
        chunks = square_sums(net, space.squares, rank, size) if step.l2 != 0.0 else 0
        if not barrier(space.sync, size):
            break

        value = _batch_loss(losses, target.weights, order.rows, start, m, weight)
        for c in range(chunks):
            value += step.l2 * space.squares[c]
        total += weight * value
        seen += weight
        if not math.isfinite(value):
            return total / seen if seen != 0.0 else 0.0, number
        lr, eps = corrected(step.kind, step.lr, step.momentum, step.beta2, step.eps, t + number + 1)
        now = Step(step.kind, lr, step.momentum, step.beta2, eps, step.l2)
        lap(clock, -1, REST)
        for i in range(len(net.ops)):
            if net.ops[i, KIND] == LINEAR:
                values, gradient = _node(space, i, VALUES, 0), _node(space, i + 1, GRADIENT, 0)
                update_op(
                    net, slots, now, i, m, values, space.plan[i, STRIDE], gradient, space.plan[i + 1, STRIDE],
                    block, room, rank, size,
                )  # fmt: skip
                lap(clock, i, UPDATE)
        if not barrier(space.sync, size):
            break
        lap(clock, -1, REST)
    return total / seen if seen != 0.0 else 0.0, -1


@inline
def _node(space, i, what, row):
    """Values or gradient of a node, from a row on."""
    return shift(data(space.nodes), space.plan[i, what] + row * space.plan[i, STRIDE])


@inline
def _rows_to_gradients(net, x, target, order, sample, row, rows, loss, weight, space, clock, room):
    """Some rows of a batch, forward, through the loss, and back to the gradient before every activation."""
    ops, plan, last = net.ops, space.plan, len(net.ops)
    zeros = shift(data(space.nodes), space.zeros_at)
    for r in range(rows):
        gather_row(x, order[sample + r], ops[0, INPUTS], _node(space, 0, VALUES, row + r))
    lap(clock, -1, GATHER)
    first_linear = last
    for i in range(last):
        if ops[i, KIND] == LINEAR:
            first_linear = min(first_linear, i)
        forward_op(
            net, i, rows, _node(space, i, VALUES, row), plan[i, STRIDE], _node(space, i + 1, VALUES, row),
            plan[i + 1, STRIDE], zeros, room,
        )  # fmt: skip
        lap(clock, i, FORWARD)

    n, apart = ops[last - 1, OUTPUTS], plan[last, STRIDE]
    scores, gradient = _node(space, last, VALUES, row), _node(space, last, GRADIENT, row)
    losses, rests = shift(data(space.nodes), space.losses_at + row), shift(data(space.nodes), space.rests_at + row)
    _loss_rows(scores, gradient, apart, n, target, order, sample, rows, loss, weight, losses, rests)
    if ops[last - 1, ACTIVATION] != IDENTITY:
        for r in range(rows):
            d = shift(gradient, r * apart)
            gate(ops[last - 1, ACTIVATION], net.slopes[last - 1], d, shift(scores, r * apart), d, n)
    lap(clock, -1, LOSS)

    for i in range(last - 1, first_linear, -1):
        backward_op(
            net, i, rows, _node(space, i + 1, GRADIENT, row), plan[i + 1, STRIDE], _node(space, i, VALUES, row),
            _node(space, i, GRADIENT, row), plan[i, STRIDE], room,
        )  # fmt: skip
        lap(clock, i, BACKWARD)


@inline
def _loss_rows(scores, gradient, apart, n, target, order, sample, rows, loss, weight, losses, rests):
    """The gradient of the loss for some rows of scores, and losses[i], the loss of each."""
    for r in range(rows):
        s, d = shift(scores, r * apart), shift(gradient, r * apart)
        at = order[sample + r]
        share = share_of(target.weights, at, weight)
        y = shift(data(target.targets), at * n)
        if loss != CROSS_ENTROPY:
            put(losses, r, squared_row(s, n, y, share, d))
        else:
            if len(target.labels) != 0:
                exp_sum, rest = label_row(s, n, target.labels[at], share, d)
            else:
                exp_sum, rest = target_row(s, n, y, share, d)
            put(losses, r, exp_sum)
            put(rests, r, rest)
    if loss == CROSS_ENTROPY:
        finish_cross_entropy(losses, rests, losses, rows)


@inline
def _batch_weight(weights, order, start, m):
    """Σ v over a batch, or its size without weights."""
    if len(weights) == 0:
        return float(m)
    total = 0.0
    for i in range(start, start + m):
        total += weights[order[i]]
    return total


@inline
def _batch_loss(losses, weights, order, start, m, weight):
    """Σ v_i loss_i / Σ v_i."""
    if weight == 0.0:
        return 0.0
    total = 0.0
    for i in range(m):
        total += float(get(losses, i)) * (1.0 if len(weights) == 0 else weights[order[start + i]])
    return total / weight


@kernel
def _forward(ops, slopes, params, address, row, col, kind, out, strides, room, rank, size):
    """out = the network's output; every thread takes its own rows, CHUNK at a time.

    Nodes alternate between two buffers behind the product's room; the first product reads x in place if it can.
    """
    net, x = Net(ops, slopes, params), Input(address, row, col, kind)
    n_ops, n_in = len(ops), ops[0, INPUTS]
    first, end = part(out.shape[0], ROWS, rank, size)
    widest = strides[n_ops + 1]
    zeros = shift(data(room), ROOM)
    for j in range(widest):
        put(zeros, j, 0.0)
    ends = (shift(zeros, widest), shift(zeros, widest + CHUNK * widest))
    for start in range(first, end, CHUNK):
        rows = min(CHUNK, end - start)
        source, source_row = ends[1], strides[0]
        if kind == SAME and ops[0, KIND] == LINEAR:
            source, source_row = pointer(address + start * row, data(params)), row // itemsize(source)
        else:
            for r in range(rows):
                gather_row(x, start + r, n_in, shift(source, r * source_row))
        for i in range(n_ops):
            target, target_row = ends[i % 2], strides[i + 1]
            if i == n_ops - 1:
                target, target_row = shift(data(out), start * out.shape[1]), out.shape[1]
            forward_op(net, i, rows, source, source_row, target, target_row, zeros, data(room))
            source, source_row = target, target_row


@functools.lru_cache(maxsize=64)
def _plan(shape: bytes, batch: int, size: int) -> tuple[np.ndarray, dict[str, int]]:
    """Where the nodes of a network lie, for a batch; ``shape`` holds the ops, ``size`` the bytes of an element."""
    ops = np.frombuffer(shape, np.int64).reshape(-1, 6)
    widths = [int(ops[0, INPUTS]), *(int(n) for n in ops[:, OUTPUTS])]
    plan = np.zeros((len(widths), 3), np.int64)
    at = 0
    for i, width in enumerate(widths):
        apart = _stride(width, size)
        plan[i] = at, at + batch * apart if i else 0, apart
        at += batch * apart * (2 if i else 1)
    linear = ops[ops[:, KIND] == LINEAR]
    chunks = int((-(-linear[:, INPUTS] * linear[:, OUTPUTS] // SQUARES)).sum())
    widest = max(widths)
    block = max(GRADIENT_BLOCK, ROWS * widest)
    places = {"zeros_at": at, "losses_at": at + widest, "rests_at": at + widest + batch}
    return plan, {**places, "size": at + widest + 2 * batch, "chunks": chunks, "room": ROOM + block}


def _stride(width: int, size: int) -> int:
    """The distance of rows of this width: whole cache lines, and no distance at which rows collide."""
    line = max(1, 64 // size)
    apart = -(-width // line) * line
    return apart + LINE if apart * size % COLLIDE == 0 else apart


def _describe(x: np.ndarray, dtype: np.dtype) -> Input:
    """How compiled code finds the samples in x; the element kind says whether they need converting."""
    row, col = x.strides
    plain = x.dtype == dtype and (col == x.itemsize or x.shape[1] <= 1) and row % x.itemsize == 0
    kind = SAME if plain else {"f4": FLOAT32, "f8": FLOAT64, "u1": UINT8}[x.dtype.str[1:]]
    return Input(address(x), row, col, kind)


_NO_LABELS = np.empty(0, np.int64)


def _work(ops: np.ndarray) -> int:
    """Multiply-adds of one sample through the linear ops, forward and both ways back."""
    linear = ops[ops[:, KIND] == LINEAR]
    return 3 * int((linear[:, INPUTS] * linear[:, OUTPUTS]).sum())


def train_epoch(
    network: Any, params: np.ndarray, batches: Any, objective: Any, rule: Any, clock: np.ndarray | None = None
) -> tuple[float, int]:
    """Train on every batch in turn; see ``fastnn.reference.epoch.train_epoch``."""
    if len(batches.order) == 0:
        return 0.0, -1
    dtype, ops = params.dtype, network.ops
    batch = min(batches.batch_size, len(batches.order))
    plan, places = _plan(ops.tobytes(), batch, dtype.itemsize)
    work = _work(ops)
    threads = get_num_threads() if work * batch >= STEP_GRAIN else 1
    nodes = np.empty(places["size"], dtype)
    nodes[places["zeros_at"] : places["losses_at"]] = 0
    space = Space(
        plan=plan,
        nodes=nodes,
        zeros_at=places["zeros_at"],
        losses_at=places["losses_at"],
        rests_at=places["rests_at"],
        rooms=prepare_rooms(threads, places["room"], dtype),
        squares=np.empty(places["chunks"]),
        sync=np.zeros(16, np.int64),
    )
    none = np.empty(0, dtype)
    labels = batches.y.ndim == 1
    target = Target(
        labels=as_writeable(batches.y) if labels else _NO_LABELS,
        targets=none if labels else as_writeable(batches.y.reshape(-1)),
        weights=none if batches.sample_weight is None else as_writeable(batches.sample_weight),
    )
    slots = rule.slots if len(rule.slots) else params.reshape(1, -1)
    step = Step(
        rule.kind, float(rule.lr), float(rule.momentum), float(rule.beta2), float(rule.eps), float(objective.l2)
    )
    fixed = (
        Net(ops, network.slopes, params), slots, _describe(batches.x, dtype), target,
        Order(batches.order, int(batch)), int(objective.loss), step, int(rule.step), space,
    )  # fmt: skip
    results: list[tuple[float, int]] = [(0.0, -1)] * threads

    def task(rank: int, size: int) -> None:
        results[rank] = _train(*fixed, clock_of(clock if rank == 0 else None), rank, size)

    run(task, work * len(batches.order), threads, lambda: space.sync.put(ABORTED, 1))
    loss, failed = results[0]
    return float(loss), int(failed)


@functools.lru_cache(maxsize=64)
def _strides(shape: bytes, size: int) -> tuple[np.ndarray, int]:
    """Row distances of the nodes with the widest behind them, and what one thread needs beyond a product's room."""
    ops = np.frombuffer(shape, np.int64).reshape(-1, 6)
    strides = [_stride(int(width), size) for width in (ops[0, INPUTS], *ops[:, OUTPUTS])]
    widest = max(strides)
    return np.array([*strides, widest]), widest * (2 * CHUNK + 1)


def forward(network: Any, params: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """out (m, outputs of the last op) = the network's output for x (m, inputs of the first op), any strides."""
    ops, dtype = network.ops, params.dtype
    strides, size = _strides(ops.tobytes(), dtype.itemsize)
    source = _describe(x, dtype)
    if len(x) < ROWS:
        _forward(ops, network.slopes, params, *source, out, strides, room(dtype, size), 0, 1)
        return
    run(
        lambda rank, size_: _forward(
            ops, network.slopes, params, *source, out, strides, room(dtype, size), rank, size_
        ),
        len(x) * _work(ops) // 3,
    )
