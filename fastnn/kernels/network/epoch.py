"""One training epoch over a network that is data; ``fastnn.codes`` says what its numbers mean.

All threads run the same function, each on its own rows of the batch until the gradients before every activation are
known, then, after a barrier, each on its own part of every weight: two barriers a batch. Where the first layer can be
dealt out by columns, a third barrier stands behind it, and its weights, most of all as a rule, never leave the cache
of the thread that updates them. The gradient of a weight is never stored, its update is the epilogue of the product
that forms it; where it has to be known as a whole, see ``whole``.
"""

import functools
import math
import time
from typing import Any

import numpy as np
from numba import typeof

from ...codes import OP, OUTPUTS, ROW, TRAINED
from ..compiler.ahead import compile_ahead
from ..compiler.jit import conductor, inline
from ..gemm.product import WORKSPACE, stop_prefetching, workspace
from ..gemm.tile import TILE
from ..matrix_unit import level_of_unit, with_unit
from ..simd.address import as_writeable
from ..simd.subnormals import flushed
from ..simd.table import cell, row_of, tables
from ..simd.vector import data, get, integer, itemsize, put, shift
from ..threading.barrier import ABORTED, CLOCK_AT, NUMBERS, WAITED, barrier
from ..threading.team import PROFIT, get_num_threads, part, run
from ..threading.ticks import system_clock
from ..updates import FUSED, PER_STEP, RULES
from .batch import BATCH, Fixed, keep, kinds_of, through_batch
from .clock import REST, UPDATE, begin, clock_of, lap
from .layers import (
    LINE,
    UNIT_OF_BATCH,
    Net,
    describe,
    first_updated,
    is_updated,
)
from .memory import LD, Memory, around_op, plan_of
from .objectives import Target, objective_of, penalty_factor
from .passes import Data, batch_of, loss_of_batch, own_samples, total_of
from .products import with_products
from .steps import (
    Step,
    Worker,
    columns_of,
    count_of_squares,
    prepare_step,
    put_piece,
    scale_step,
    sgd_columns,
    square_sums,
    step_of,
    update_linear,
    update_rows,
    update_span,
)
from .whole import train_whole, whole_of

# Multiply-adds of a step that are worth a thread: besides waiting at barriers, each core fetches from the other what it
# has written.
STEP_GRAIN = 2_000_000


@conductor
def _train(net, samples, objective, step, memory, clock, own, thread, n_threads):
    workspace = data(own)
    block = shift(workspace, WORKSPACE)
    memory = tables(memory)
    samples_ahead, pieces = row_of(memory.samples, thread), row_of(memory.pieces, thread)
    worker = Worker(thread, n_threads, workspace, block, samples_ahead, pieces, tables(clock))
    result = flushed(_train_batches, (tables(net), tables(samples), tables(objective), tables(step), memory, worker))
    stop_prefetching(workspace)
    return result


@inline
def _train_batches(net, samples, objective, shared, memory, worker):
    step = step_of(shared, worker.thread)
    columns = columns_of(net, worker.thread, worker.n_threads if step.fused else 1, worker.workspace)
    fixed = keep(Fixed(net, samples, objective, columns, memory, worker), worker.workspace)
    total = seen = 0.0
    begin(worker.clock)
    if objective.l2 != 0.0:
        square_sums(net, memory.squares.p, worker.thread, worker.n_threads)
    if not barrier(memory.sync.p, worker.n_threads):
        return 0.0, -1
    for number in range((samples.order.rows + samples.batch_size - 1) // samples.batch_size):
        batch = batch_of(samples, number, step.made)
        l2 = penalty_factor(objective, objective.l2, batch.weight)
        penalty = l2 * total_of(memory.squares) if l2 != 0.0 else 0.0
        if not through_batch(fixed, batch, memory, worker):
            break
        value = objective.value * loss_of_batch(samples, batch, memory) + penalty
        share = float(batch.m) if objective.mean_over_rows else batch.weight
        total += share * value
        seen += share
        if objective.stop and not math.isfinite(value):
            return total / seen if seen != 0.0 else 0.0, number
        prepare_step(step, batch.t, l2, batch.weight, worker.workspace)
        lap(worker.clock, -1, REST)
        _update(net, samples, batch, step, columns, memory, worker)
        if not barrier(memory.sync.p, worker.n_threads):
            break
        lap(worker.clock, -1, REST)
    return total / seen if seen != 0.0 else 0.0, -1


@inline
def _update(net, samples, batch, step, columns, memory, worker):
    """Update all parameters after a batch, each thread its share."""
    last_updated = first_updated(net.ops)
    by_columns = columns.end > columns.start
    put(worker.samples, 0, 0)
    # Backwards, so that the first layer's weights, just updated, are in the cache when the next batch needs them.
    squares = shift(memory.squares.p, memory.squares.rows)
    span = net.spans.rows - 1
    for i in range(net.ops.rows - 1, -1, -1):
        around = around_op(net, memory, i, 0)
        scale_step(step, i, batch.t, batch.weight, worker.workspace)
        if is_updated(net.ops, i):
            if i == last_updated:
                _note_samples(net, samples, batch.start + batch.m, by_columns, worker)
            squares = shift(squares, -count_of_squares(net, i, squares))
            if i == 0 and by_columns:
                own = own_samples(memory, worker)
                sgd_columns(net, step, batch.m, columns, own, around.dy, squares, worker)
            else:
                update_linear(net, step, i, batch.m, around, squares, worker)
            lap(worker.clock, i, UPDATE)
        while span >= 0 and cell(net.spans, span, OP) == i:
            if cell(net.spans, span, TRAINED) != 0 and cell(net.spans, span, ROW) != 0:
                update_rows(net, step, span, batch.m, around, worker)
            elif cell(net.spans, span, TRAINED) != 0:
                update_span(net, step, span, batch.m, around, worker)
            span -= 1
            lap(worker.clock, i, UPDATE)


@inline
def _note_samples(net, samples, start, all_of_them, worker):
    """Note down the rows of the batch from ``start`` on, and of its targets: all of them, or this thread's share.

    Those with their columns apart are left out.
    """
    x, targets, n_out = samples.x, samples.target.targets, cell(net.ops, net.ops.rows - 1, OUTPUTS)
    m = min(samples.batch_size, samples.order.rows - start)
    first, end = (0, m) if all_of_them else part(m, cell(net.ops, 0, UNIT_OF_BATCH), worker.thread, worker.n_threads)
    pieces, count = shift(worker.samples, 1), 0
    for i in range(start + first, start + end):
        sample = get(samples.order.p, i)
        if x.row_bytes != 0:
            put_piece(pieces, count, x.address + sample * x.row, x.row_bytes)
            count += 1
        if targets.rows != 0:
            target = shift(targets.p, sample * n_out)
            put_piece(pieces, count, integer(target), n_out * itemsize(target))
            count += 1
    put(worker.samples, 0, count)


_NO_LABELS = np.empty(0, np.int64)


def _kinds(dtype: np.dtype) -> tuple[Any, ...]:
    """The types of what ``_train`` takes, which depend on the dtype alone."""
    reals, prepared, numbers = np.empty(0), np.empty((0, 0)), np.empty((0, 0), dtype)
    step = Step(False, 0, 0, reals, reals, reals, numbers, 0, prepared, prepared, np.empty((0, 0), np.int64))
    net, samples, objective, memory, clock = kinds_of(dtype)
    return net, samples, objective, typeof(step), memory, clock, *map(typeof, (np.empty(0, dtype), 0, 0))


def compile_train(dtype: np.dtype) -> None:
    """Compile ``_train`` and what it calls for each batch, or load them."""
    BATCH.address(dtype)
    _train.compile(_kinds(dtype))


@functools.cache
def _prepare(dtype: np.dtype) -> None:
    """Before anything of it is compiled here: let the largest part of the first epoch be compiled elsewhere."""
    if not TILE.is_kept(dtype):
        also = (BATCH.file_name(dtype),)
        compile_ahead(_train, _kinds(dtype), compile_train.__name__, dtype, get_num_threads(), also)


def train_epoch(
    network: Any, params: np.ndarray, batches: Any, objective: Any, rule: Any, clock: np.ndarray | None = None
) -> tuple[float, int]:
    """Train on every batch in turn; see ``fastnn.reference.network.epoch.train_epoch``."""
    if len(batches.order) == 0:
        return 0.0, -1
    dtype = params.dtype
    _prepare(dtype)
    batch_size = min(batches.batch_size, len(batches.order))
    shape = network.ops.tobytes()
    products = with_products(shape, network.names, dtype, True, batch_size, level_of_unit(dtype))
    plan, places = plan_of(shape, batch_size, dtype.itemsize, 1, products.on_unit)
    work = places["work"]
    n_threads = min(get_num_threads(), max(1, work * batch_size // STEP_GRAIN)) if PROFIT.is_likely() else 1
    own_size = places["own_at"] - WORKSPACE + (batch_size * int(plan[0, LD]) if n_threads > 1 else 0)
    size = -(-places["size"] // LINE) * LINE
    prepared = with_unit if products.on_unit else _as_it_is
    first = prepared(workspace(dtype, own_size + size))
    nodes = first[-size:]
    nodes[places["zeros_at"] : places["losses_at"]] = 0
    slots = rule.slots if len(rule.slots) else params.reshape(1, -1)
    prepare, update = RULES[rule.name].addresses(dtype)
    minimised = objective_of(objective, dtype)
    memory = Memory(
        plan=plan,
        nodes=nodes,
        zeros_at=places["zeros_at"],
        losses_at=places["losses_at"],
        target_terms_at=places["target_terms_at"],
        own_at=places["own_at"],
        shares=np.empty(batch_size),
        squares=np.zeros(places["squares"], dtype),
        samples=np.empty((n_threads, 1 + 4 * batch_size), np.int64),
        pieces=np.empty((n_threads, 4 * batch_size + 2 * (2 + len(slots))), np.int64),
        sync=np.zeros(NUMBERS, np.int64),
        batch_at=BATCH.address(dtype),  # last, since it may be compiled elsewhere meanwhile
    )
    settings, none = np.array(rule.settings, np.float64), np.empty(0)
    fixed = (
        Net(products.ops, network.spans, network.settings, params, int(network.seed), int(network.row)),
        Data(describe(batches.x, dtype), _target(batches, dtype), batches.order, int(batch_size)),
        minimised,
        Step(
            fused=rule.name in FUSED,
            prepare=prepare,
            update=update,
            settings=settings,
            rates=none if rule.rates is None else rule.rates,
            scales=none if network.scales is None else network.scales,
            slots=slots,
            made=int(rule.step),
            given=np.tile(settings, (n_threads, 1)),
            prepared=np.empty((n_threads, PER_STEP)),
            places=np.empty((n_threads, len(slots)), np.int64),
        ),
    )
    is_whole = rule.clip_norm is not None or rule.accumulate > 1
    whole = whole_of(network.spans, params, rule.clip_norm, rule.accumulate) if is_whole else None
    results: list[tuple[float, int]] = [(0.0, -1)] * n_threads

    def task(thread: int, n_threads: int) -> None:
        own = first if thread == 0 else prepared(workspace(dtype, own_size))
        rest = memory, clock_of(clock if thread == 0 else None), own, thread, n_threads
        results[thread] = _train(*fixed, *rest) if whole is None else train_whole(*fixed, whole, *rest)

    def abort() -> None:
        memory.sync[ABORTED] = 1

    memory.sync[CLOCK_AT], tick = system_clock()
    start, cpu = time.monotonic(), time.process_time()
    run(task, work * len(batches.order), n_threads, abort)
    if n_threads > 1:
        worked, cpu = time.monotonic() - start, time.process_time() - cpu
        PROFIT.count(worked, memory.sync[WAITED] * tick / (n_threads - 1), cpu / n_threads)
    loss, failed = results[0]
    return float(loss), int(failed)


def _as_it_is(own: np.ndarray) -> np.ndarray:
    return own


def _target(batches: Any, dtype: np.dtype) -> Target:
    """Labels or targets, and sample weights, of the dtype of the computation."""
    none = np.empty(0, dtype)
    labels = batches.y.ndim == 1
    return Target(
        labels=as_writeable(batches.y) if labels else _NO_LABELS,
        targets=none if labels else as_writeable(batches.y.reshape(-1)),
        weights=none if batches.sample_weight is None else as_writeable(batches.sample_weight),
    )
