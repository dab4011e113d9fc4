"""One training epoch over a network that is data; ``fastnn.reference.network.epoch`` has the codes.

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

from ..compiler.jit import inline, kernel
from ..gemm.product import ROOM, Matrix, ask_no_more, room
from ..gemm.tile import ROWS
from ..losses import LOSSES
from ..operations import addresses_of
from ..simd.address import as_writeable
from ..simd.subnormals import flushed
from ..simd.vector import data, integer, itemsize, shift
from ..threading.barrier import ABORTED, barrier
from ..threading.team import get_num_threads, part, run
from ..updates import FUSED, PER_STEP, RULES
from .clock import BACKWARD, FORWARD, GATHER, LOSS, REST, UPDATE, begin, clock_of, lap
from .layers import (
    COLUMNS,
    GRADIENT,
    GRADIENT_BLOCK,
    INPUTS,
    KEEPS,
    KEEPS_X,
    KEEPS_Y,
    KEPT,
    KEPT_AT,
    KIND,
    LD,
    LINEAR,
    OP,
    OUTPUTS,
    PARAMETERS,
    SLOPE_AT,
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
    leading_dimension,
    linear_op,
    multiply_adds,
    prepare_step,
    put_piece,
    sgd_bias,
    sgd_op,
    square_sums,
    undo_rectifier,
    update_linear,
    update_span,
)
from .objectives import Goal, Target, batch_loss, batch_weight, loss_rows, penalty_factor

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
    shares: np.ndarray
    squares: np.ndarray
    samples: np.ndarray
    places: np.ndarray
    prepared: np.ndarray
    slots: np.ndarray
    sync: np.ndarray


class Rule(NamedTuple):
    """The rule by which training moves, see ``Step``, and the updates made before."""

    fused: bool
    prepare: int
    update: int
    settings: np.ndarray
    slots: np.ndarray
    step: int


@kernel
def _train(net, x, target, order, goal, rule, space, clock, own_room, rank, size):
    result = flushed(_train_batches, (net, x, target, order, goal, rule, space, clock, data(own_room), rank, size))
    ask_no_more(data(own_room))
    return result


@inline
def _train_batches(net, x, target, order, goal, rule, space, clock, room, rank, size):
    ahead = Ahead(space.samples[rank], space.places[rank])
    prepared, slots = space.prepared[rank], space.slots[rank]
    step = Step(rule.fused, rule.prepare, rule.update, rule.settings, rule.slots, prepared, slots)
    total = seen = 0.0
    n = len(order.rows)
    own = Matrix(shift(room, space.own_at), space.plan[0, LD], 1)
    col, end_col = columns_of(net, rank, size, room) if rule.fused else (0, 0)
    by_columns = end_col > col
    begin(clock)
    if goal.l2 != 0.0:
        square_sums(net, data(space.squares), rank, size)
    if not barrier(space.sync, size):
        return 0.0, -1
    for number in range((n + order.batch_size - 1) // order.batch_size):
        start = number * order.batch_size
        m = min(order.batch_size, n - start)
        t = rule.step + number + 1
        weight = batch_weight(target.weights, order.rows, start, m)
        l2 = penalty_factor(goal, weight)
        penalty = l2 * _total(space.squares) if l2 != 0.0 else 0.0
        if by_columns:
            _gather(net, x, order.rows, start, m, own)
            lap(clock, -1, GATHER)
            zeros = shift(data(space.nodes), space.zeros_at)
            linear_op(net, 0, m, col, end_col - col, own, _node(space, 1, VALUES, 0), zeros, room)
            lap(clock, 0, FORWARD)
            if not barrier(space.sync, size):
                break
        first, end = part(m, ROWS, rank, size)
        if end > first:
            _rows_to_gradients(
                net, x, target, order.rows, start + first, first, end - first, by_columns, goal, weight, t, space,
                clock, room,
            )  # fmt: skip
        if not barrier(space.sync, size):
            break

        losses = shift(data(space.nodes), space.losses_at)
        value = goal.value * batch_loss(losses, target.weights, order.rows, start, m, weight) + penalty
        share = float(m) if goal.mean_over_rows else weight
        total += share * value
        seen += share
        if goal.stop and not math.isfinite(value):
            return total / seen if seen != 0.0 else 0.0, number
        prepare_step(step, t, l2, weight, room)
        lap(clock, -1, REST)
        _update(net, x, target, order, start, m, step, space, by_columns, col, end_col, own, ahead, clock, room, rank,
                size)  # fmt: skip
        if not barrier(space.sync, size):
            break
        lap(clock, -1, REST)
    return total / seen if seen != 0.0 else 0.0, -1


@inline
def _update(net, x, target, order, start, m, step, space, by_columns, col, end_col, own, ahead, clock, room, rank,
            size):  # fmt: skip
    """Update all parameters after a batch, each thread its share."""
    block, n = shift(room, ROOM), len(order.rows)
    first_linear, samples = _first_linear(net.ops), 0
    # Backwards, so that the first layer's weights, just updated, are in the cache when the next batch needs them.
    squares = shift(data(space.squares), len(space.squares))
    span = len(net.spans) - 1
    for i in range(len(net.ops) - 1, -1, -1):
        if net.ops[i, KIND] == LINEAR:
            if i == first_linear and start + m < n:
                more = min(order.batch_size, n - start - m)
                first, end = (0, more) if by_columns else part(more, ROWS, rank, size)
                samples = _note_samples(net, x, target, order.rows, start + m + first, start + m + end, ahead)
            squares = shift(squares, -count_of_squares(net, i, squares))
            gradient = _node(space, i + 1, GRADIENT, 0)
            if i == 0 and by_columns:
                cols = end_col - col
                sgd_op(net, step, 0, m, 0, net.ops[0, INPUTS], col, cols, own, gradient, squares, ahead, samples, room)
                sgd_bias(net, step, 0, m, col, cols, gradient)
            else:
                update_linear(
                    net, step, i, m, _node(space, i, VALUES, 0), gradient, squares, ahead, samples, block, room, rank,
                    size,
                )  # fmt: skip
            lap(clock, i, UPDATE)
        while span >= 0 and net.spans[span, OP] == i:
            update_span(
                net, step, span, m, _node(space, i, VALUES, 0), _node(space, i + 1, VALUES, 0),
                _node(space, i + 1, GRADIENT, 0), _kept(net, space, i, 0), block, rank, size,
            )  # fmt: skip
            span -= 1
            lap(clock, i, UPDATE)


@inline
def _first_linear(ops):
    i = 0
    while i < len(ops) and ops[i, KIND] != LINEAR:
        i += 1
    return i


@inline
def _first_trained(net):
    """The first op with parameters."""
    i = _first_linear(net.ops)
    return min(i, net.spans[0, OP]) if len(net.spans) != 0 else i


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
    ld = space.plan[i, LD]
    return Matrix(shift(data(space.nodes), space.plan[i, what] + row * ld), ld, 1)


@inline
def _kept(net, space, i, row):
    """What op i keeps of the rows of a batch, from a row on."""
    return shift(data(space.nodes), space.plan[i, KEPT_AT] + row * net.ops[i, KEPT])


@inline
def _gather(net, x, order, sample, rows, out):
    """The samples of some rows of a batch, one behind the other."""
    for r in range(rows):
        gather_row(x, order[sample + r], net.ops[0, INPUTS], shift(out.p, r * out.row))


@inline
def _rows_to_gradients(net, x, target, order, sample, row, rows, by_columns, goal, weight, t, space, clock, room):
    """Some rows of the batch of update t, forward, through the loss, and back to the gradient before every op.

    With ``by_columns`` the first op has been gone through.
    """
    last = len(net.ops)
    zeros = shift(data(space.nodes), space.zeros_at)
    if not by_columns:
        _gather(net, x, order, sample, rows, _node(space, 0, VALUES, row))
        lap(clock, -1, GATHER)
    for i in range(1 if by_columns else 0, last):
        values, output = _node(space, i, VALUES, row), _node(space, i + 1, VALUES, row)
        forward_op(net, i, t, row, rows, values, output, _kept(net, space, i, row), zeros, room)
        lap(clock, i, FORWARD)

    scores, gradient = _node(space, last, VALUES, row), _node(space, last, GRADIENT, row)
    losses, rests = shift(data(space.nodes), space.losses_at + row), shift(data(space.nodes), space.rests_at + row)
    loss_rows(
        scores, gradient, net.ops[last - 1, OUTPUTS], target, order, sample, rows, goal, weight,
        shift(data(space.shares), row), losses, rests,
    )  # fmt: skip
    undo_rectifier(net, last - 1, rows, gradient, scores)
    lap(clock, -1, LOSS)

    for i in range(last - 1, _first_trained(net), -1):
        backward_op(
            net, i, t, row, rows, _node(space, i + 1, GRADIENT, row), _node(space, i, VALUES, row),
            _node(space, i + 1, VALUES, row), _node(space, i, GRADIENT, row), _kept(net, space, i, row), room,
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

    ``shape`` holds the ops, ``size`` the bytes of an element. An op that needs neither its input again nor has it
    overwritten what the op before needs writes its output over its input; one without parameters so passes gradients.
    """
    ops = np.frombuffer(shape, np.int64).reshape(-1, COLUMNS)
    widths = [int(ops[0, INPUTS]), *(int(n) for n in ops[:, OUTPUTS])]
    plan = np.zeros((len(widths), 4), np.int64)
    at = batch * leading_dimension(widths[0], size)
    plan[0, LD] = leading_dimension(widths[0], size)
    for i, op in enumerate(ops):
        ld = plan[i + 1, LD] = leading_dimension(widths[i + 1], size)
        keeps_x = bool(op[KEEPS] & KEEPS_X)
        is_output_needed = i > 0 and (ops[i - 1, SLOPE_AT] >= 0 or bool(ops[i - 1, KEEPS] & KEEPS_Y))
        if op[KIND] != LINEAR and not keeps_x and not is_output_needed and widths[i] == widths[i + 1]:
            plan[i + 1, VALUES] = plan[i, VALUES]
        else:
            plan[i + 1, VALUES] = at
            at += batch * ld
        plan[i, KEPT_AT] = at
        at += -(-batch * int(op[KEPT]) // 16) * 16
    for i in range(len(ops), 0, -1):
        behind = ops[i] if i < len(ops) else None
        if behind is not None and behind[KIND] != LINEAR and not behind[PARAMETERS] and widths[i] == widths[i + 1]:
            plan[i, GRADIENT] = plan[i + 1, GRADIENT]
        else:
            plan[i, GRADIENT] = at
            at += batch * int(plan[i, LD])
    widest = max(widths)
    block = max(GRADIENT_BLOCK, ROWS * widest)
    places = {"zeros_at": at, "losses_at": at + widest, "rests_at": at + widest + batch}
    counts = {"work": 3 * multiply_adds(ops), "squares": count_squares(ops, size)}
    return plan, {**places, **counts, "size": at + widest + 2 * batch, "own_at": ROOM + block}


_NO_LABELS = np.empty(0, np.int64)


def train_epoch(
    network: Any, params: np.ndarray, batches: Any, objective: Any, rule: Any, clock: np.ndarray | None = None
) -> tuple[float, int]:
    """Train on every batch in turn; see ``fastnn.reference.network.epoch.train_epoch``."""
    if len(batches.order) == 0:
        return 0.0, -1
    dtype, ops = params.dtype, network.ops
    batch = min(batches.batch_size, len(batches.order))
    plan, places = _plan(ops.tobytes(), batch, dtype.itemsize)
    work = places["work"]
    threads = min(get_num_threads(), max(1, work * batch // STEP_GRAIN))
    own_size = places["own_at"] - ROOM + (batch * int(plan[0, LD]) if threads > 1 else 0)
    nodes = room(dtype, own_size + places["size"])[-places["size"] :]
    nodes[places["zeros_at"] : places["losses_at"]] = 0
    slots = rule.slots if len(rule.slots) else params.reshape(1, -1)
    space = Space(
        plan=plan,
        nodes=nodes,
        zeros_at=places["zeros_at"],
        losses_at=places["losses_at"],
        rests_at=places["rests_at"],
        own_at=places["own_at"],
        shares=np.empty(batch),
        squares=np.zeros(places["squares"], dtype),
        samples=np.empty((threads, 4 * batch), np.int64),
        places=np.empty((threads, 4 * batch + 2 * (2 + len(slots))), np.int64),
        prepared=np.empty((threads, PER_STEP)),
        slots=np.empty((threads, len(slots)), np.int64),
        sync=np.zeros(16, np.int64),
    )
    none = np.empty(0, dtype)
    labels = batches.y.ndim == 1
    target = Target(
        labels=as_writeable(batches.y) if labels else _NO_LABELS,
        targets=none if labels else as_writeable(batches.y.reshape(-1)),
        weights=none if batches.sample_weight is None else as_writeable(batches.sample_weight),
    )
    objective_settings = np.array(objective.settings, np.float64)
    loss_address = LOSSES[objective.loss].address(dtype)
    goal = Goal(loss_address, objective_settings, float(objective.l2), *objective.convention[2:])
    addresses = addresses_of(network.names, dtype)
    settings = np.array(rule.settings, np.float64)
    prepare, update = RULES[rule.name].addresses(dtype)
    fixed = (
        Net(ops, network.spans, network.settings, params, addresses, int(network.seed)), describe(batches.x, dtype),
        target, Order(batches.order, int(batch)), goal,
        Rule(rule.name in FUSED, prepare, update, settings, slots, int(rule.step)), space,
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
