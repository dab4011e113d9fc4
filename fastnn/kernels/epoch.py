"""One training epoch over a network that is data; ``fastnn.reference.epoch`` has the codes.

All threads run the same function, each on its own rows of the batch until the gradients before every activation are
known, then, after a barrier, each on its own part of every weight: two barriers a batch. Where the first layer can be
dealt out by columns, a third barrier stands behind it, and its weights, most of all as a rule, never leave the cache
of the thread that updates them. The gradient of a weight is never stored, its update is the epilogue of the product
that forms it.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from ._address import as_writeable
from ._barrier import ABORTED, barrier
from ._clock import BACKWARD, FORWARD, GATHER, LOSS, REST, UPDATE, begin, clock_of, lap
from ._jit import inline, kernel
from ._layers import (
    ACTIVATION,
    GRADIENT,
    GRADIENT_BLOCK,
    INPUTS,
    KIND,
    LINEAR,
    OUTPUTS,
    STRIDE,
    VALUES,
    Ahead,
    Net,
    Step,
    backward_op,
    columns_of,
    count_of_squares,
    count_squares,
    describe,
    forward_op,
    gather_row,
    linear_op,
    multiply_adds,
    put_piece,
    row_distance,
    sgd_bias,
    sgd_op,
    square_sums,
    update_op,
)
from ._product import ROOM, ask_no_more, room
from ._subnormals import flushed
from ._tile import ROWS
from ._vector import data, integer, itemsize, shift
from .activations import IDENTITY, gate
from .objectives import Goal, Target, batch_loss, batch_weight, loss_rows, penalty_factor
from .threads import get_num_threads, part, run
from .updates import ACCUMULATE, SGD, corrected

# Multiply-adds of a step that are worth a thread: besides waiting at barriers, each core fetches from the other what it
# has written.
STEP_GRAIN = 2_000_000


class Order(NamedTuple):
    """The samples in the order of training, and the size of a batch."""

    rows: np.ndarray
    batch_size: int


class Space(NamedTuple):
    """The workspace: the plan of the nodes, the nodes with the rows' losses behind them, and what threads share.

    ``own_at`` is where in its room a thread gathers a batch for itself.
    """

    plan: np.ndarray
    nodes: np.ndarray
    zeros_at: int
    losses_at: int
    rests_at: int
    own_at: int
    squares: np.ndarray
    samples: np.ndarray
    places: np.ndarray
    sync: np.ndarray


@kernel
def _train(net, slots, x, target, order, goal, step, t, space, clock, own_room, rank, size):
    arguments = (net, slots, x, target, order, goal, step, t, space, clock, data(own_room), rank, size)
    result = flushed(_train_batches, arguments)
    ask_no_more(data(own_room))
    return result


@inline
def _train_batches(net, slots, x, target, order, goal, step, t, space, clock, room, rank, size):
    block = shift(room, ROOM)
    ahead = Ahead(space.samples[rank], space.places[rank])
    losses = shift(data(space.nodes), space.losses_at)
    total = seen = 0.0
    n = len(order.rows)
    first_linear = _first_linear(net.ops)
    zeros = shift(data(space.nodes), space.zeros_at)
    own, own_row = shift(room, space.own_at), space.plan[0, STRIDE]
    col, end_col = columns_of(net, rank, size, room) if step.kind == SGD else (0, 0)
    by_columns = end_col > col
    begin(clock)
    if goal.l2 != 0.0:
        square_sums(net, data(space.squares), rank, size)
    if not barrier(space.sync, size):
        return 0.0, -1
    for number in range((n + order.batch_size - 1) // order.batch_size):
        start = number * order.batch_size
        m = min(order.batch_size, n - start)
        weight = batch_weight(target.weights, order.rows, start, m)
        l2 = penalty_factor(goal, weight)
        penalty = l2 * _total(space.squares) if l2 != 0.0 else 0.0
        if by_columns:
            _gather(net, x, order.rows, start, m, own, own_row)
            lap(clock, -1, GATHER)
            scores = _node(space, 1, VALUES, 0)
            linear_op(net, 0, m, col, end_col - col, own, own_row, scores, space.plan[1, STRIDE], zeros, room)
            lap(clock, 0, FORWARD)
            if not barrier(space.sync, size):
                break
        first, end = part(m, ROWS, rank, size)
        if end > first:
            _rows_to_gradients(
                net, x, target, order.rows, start + first, first, end - first, by_columns, goal, weight,
                t + number + 1, space, clock, room,
            )  # fmt: skip
        if not barrier(space.sync, size):
            break

        value = goal.value * batch_loss(losses, target.weights, order.rows, start, m, weight) + penalty
        share = float(m) if goal.mean_over_rows else weight
        total += share * value
        seen += share
        if goal.stop and not math.isfinite(value):
            return total / seen if seen != 0.0 else 0.0, number
        lr, eps = corrected(step.kind, step.lr, step.momentum, step.beta2, step.eps, t + number + 1)
        if step.kind == ACCUMULATE:
            lr *= weight
        now = Step(step.kind, lr, step.momentum, step.beta2, eps, l2)
        lap(clock, -1, REST)
        samples = 0
        # Backwards, so that the first layer's weights, just updated, are in the cache when the next batch needs them.
        squares = shift(data(space.squares), len(space.squares))
        for i in range(len(net.ops) - 1, -1, -1):
            if net.ops[i, KIND] == LINEAR:
                if i == first_linear and start + m < n:
                    more = min(order.batch_size, n - start - m)
                    first, end = (0, more) if by_columns else part(more, ROWS, rank, size)
                    samples = _note_samples(net, x, target, order.rows, start + m + first, start + m + end, ahead)
                squares = shift(squares, -count_of_squares(net, i, squares))
                values, gradient = _node(space, i, VALUES, 0), _node(space, i + 1, GRADIENT, 0)
                if i == 0 and by_columns:
                    apart, cols = space.plan[1, STRIDE], end_col - col
                    sgd_op(
                        net, now, 0, m, 0, net.ops[0, INPUTS], col, cols, own, own_row, gradient, apart, squares,
                        ahead, samples, room,
                    )  # fmt: skip
                    sgd_bias(net, now, 0, m, col, cols, gradient, apart)
                else:
                    update_op(
                        net, slots, now, i, m, values, space.plan[i, STRIDE], gradient, space.plan[i + 1, STRIDE],
                        squares, ahead, samples, block, room, rank, size,
                    )  # fmt: skip
                lap(clock, i, UPDATE)
        if not barrier(space.sync, size):
            break
        lap(clock, -1, REST)
    return total / seen if seen != 0.0 else 0.0, -1


@inline
def _first_linear(ops):
    i = 0
    while i < len(ops) and ops[i, KIND] != LINEAR:
        i += 1
    return i


@inline
def _note_samples(net, x, target, order, start, end, ahead):
    """Note down the rows of the coming samples and of their targets, and return how many pieces of memory they are.

    Those with their columns apart are left out.
    """
    n_out = net.ops[len(net.ops) - 1, OUTPUTS]
    count = 0
    for i in range(start, end):
        if x.row_bytes != 0:
            put_piece(ahead.samples, count, x.address + order[i] * x.row, x.row_bytes)
            count += 1
        if len(target.targets) != 0:
            targets = shift(data(target.targets), order[i] * n_out)
            put_piece(ahead.samples, count, integer(targets), n_out * itemsize(targets))
            count += 1
    return count


@inline
def _node(space, i, what, row):
    """Values or gradient of a node, from a row on."""
    return shift(data(space.nodes), space.plan[i, what] + row * space.plan[i, STRIDE])


@inline
def _gather(net, x, order, sample, rows, out, out_row):
    """The samples of some rows of a batch, one behind the other."""
    for r in range(rows):
        gather_row(x, order[sample + r], net.ops[0, INPUTS], shift(out, r * out_row))


@inline
def _rows_to_gradients(net, x, target, order, sample, row, rows, by_columns, goal, weight, t, space, clock, room):
    """Some rows of the batch of update t, forward, through the loss, and back to the gradient before every activation.

    With ``by_columns`` the first op has been gone through.
    """
    ops, plan, last = net.ops, space.plan, len(net.ops)
    zeros = shift(data(space.nodes), space.zeros_at)
    if not by_columns:
        _gather(net, x, order, sample, rows, _node(space, 0, VALUES, row), plan[0, STRIDE])
        lap(clock, -1, GATHER)
    for i in range(1 if by_columns else 0, last):
        forward_op(
            net, i, t, row, rows, _node(space, i, VALUES, row), plan[i, STRIDE], _node(space, i + 1, VALUES, row),
            plan[i + 1, STRIDE], zeros, room,
        )  # fmt: skip
        lap(clock, i, FORWARD)

    n, apart = ops[last - 1, OUTPUTS], plan[last, STRIDE]
    scores, gradient = _node(space, last, VALUES, row), _node(space, last, GRADIENT, row)
    losses, rests = shift(data(space.nodes), space.losses_at + row), shift(data(space.nodes), space.rests_at + row)
    loss_rows(scores, gradient, apart, n, target, order, sample, rows, goal, weight, losses, rests)
    if ops[last - 1, ACTIVATION] != IDENTITY:
        for r in range(rows):
            d = shift(gradient, r * apart)
            gate(ops[last - 1, ACTIVATION], net.slopes[last - 1], d, shift(scores, r * apart), d, n)
    lap(clock, -1, LOSS)

    for i in range(last - 1, _first_linear(ops), -1):
        backward_op(
            net, i, t, row, rows, _node(space, i + 1, GRADIENT, row), plan[i + 1, STRIDE], _node(space, i, VALUES, row),
            _node(space, i, GRADIENT, row), plan[i, STRIDE], room,
        )  # fmt: skip
        lap(clock, i, BACKWARD)


@inline
def _total(squares):
    total = 0.0
    for square in squares:
        total += float(square)
    return total


@functools.lru_cache(maxsize=64)
def _plan(shape: bytes, batch: int, size: int) -> tuple[np.ndarray, dict[str, int]]:
    """Where the nodes of a network lie, for a batch, the multiply-adds of a sample, and the places of squares.

    ``shape`` holds the ops, ``size`` the bytes of an element.
    """
    ops = np.frombuffer(shape, np.int64).reshape(-1, 6)
    widths = [int(ops[0, INPUTS]), *(int(n) for n in ops[:, OUTPUTS])]
    plan = np.zeros((len(widths), 3), np.int64)
    at = 0
    for i, width in enumerate(widths):
        apart = row_distance(width, size)
        plan[i] = at, at + batch * apart if i else 0, apart
        at += batch * apart * (2 if i else 1)
    widest = max(widths)
    block = max(GRADIENT_BLOCK, ROWS * widest)
    places = {"zeros_at": at, "losses_at": at + widest, "rests_at": at + widest + batch}
    counts = {"work": 3 * multiply_adds(ops), "squares": count_squares(ops, size)}
    return plan, {**places, **counts, "size": at + widest + 2 * batch, "own_at": ROOM + block}


_NO_LABELS = np.empty(0, np.int64)


def train_epoch(
    network: Any, params: np.ndarray, batches: Any, objective: Any, rule: Any, clock: np.ndarray | None = None
) -> tuple[float, int]:
    """Train on every batch in turn; see ``fastnn.reference.epoch.train_epoch``."""
    if len(batches.order) == 0:
        return 0.0, -1
    dtype, ops = params.dtype, network.ops
    batch = min(batches.batch_size, len(batches.order))
    plan, places = _plan(ops.tobytes(), batch, dtype.itemsize)
    work = places["work"]
    threads = min(get_num_threads(), max(1, work * batch // STEP_GRAIN))
    own_size = places["own_at"] - ROOM + (batch * int(plan[0, STRIDE]) if threads > 1 else 0)
    nodes = room(dtype, own_size + places["size"])[-places["size"] :]
    nodes[places["zeros_at"] : places["losses_at"]] = 0
    space = Space(
        plan=plan,
        nodes=nodes,
        zeros_at=places["zeros_at"],
        losses_at=places["losses_at"],
        rests_at=places["rests_at"],
        own_at=places["own_at"],
        squares=np.zeros(places["squares"], dtype),
        samples=np.empty((threads, 4 * batch), np.int64),
        places=np.empty((threads, 4 * batch + 6), np.int64),
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
    step = Step(rule.kind, float(rule.lr), float(rule.momentum), float(rule.beta2), float(rule.eps), 0.0)
    goal = Goal(int(objective.loss), float(objective.l2), float(objective.smoothing), *objective.convention)
    fixed = (
        Net(ops, network.slopes, params, int(network.seed)), slots, describe(batches.x, dtype), target,
        Order(batches.order, int(batch)), goal, step, int(rule.step), space,
    )  # fmt: skip
    results: list[tuple[float, int]] = [(0.0, -1)] * threads

    def task(rank: int, size: int) -> None:
        own = nodes.base if rank == 0 else room(dtype, own_size)
        results[rank] = _train(*fixed, clock_of(clock if rank == 0 else None), own, rank, size)

    def abort() -> None:
        space.sync[ABORTED] = 1

    run(task, work * len(batches.order), threads, abort)
    loss, failed = results[0]
    return float(loss), int(failed)
