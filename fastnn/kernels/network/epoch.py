"""One training epoch over a network that is data; ``fastnn.codes`` says what its numbers mean.

All threads run the same functions, each on its own rows of the batch until the gradients before every activation are
known, then, after a barrier, each on its own part of every weight: two barriers a batch. Where the first layer can be
dealt out by columns, a third barrier stands behind it, and its weights, most of all as a rule, never leave the cache
of the thread that updates them. The gradient of a weight is never stored, its update is the epilogue of the product
that forms it, see ``fused``; where it has to be known as a whole, see ``whole``.
"""

import ctypes
import functools
import math
import time
from typing import Any

import numpy as np

from ..compiler.ahead import compile_ahead
from ..compiler.jit import caller, inline, shared
from ..gemm.product import WORKSPACE, stop_prefetching, workspace
from ..gemm.tile import TILE
from ..matrix_unit import level_of_unit, with_unit
from ..simd.address import address
from ..simd.record import keep, place_of
from ..simd.subnormals import flushed
from ..simd.vector import put
from ..threading.atomics import read
from ..threading.barrier import ABORTED, CLOCK_AT, NUMBERS, WAITED, barrier
from ..threading.team import PROFIT, get_num_threads, run
from ..threading.ticks import system_clock
from ..updates import FUSED, PER_STEP, RULES
from .batch import BATCH, through_batch
from .clock import REST, begin, clock_of, lap
from .fused import UPDATE
from .layers import LINE, Net, describe
from .memory import LD, Memory, plan_of
from .objectives import Target, batch_weight, objective_of, penalty_factor
from .passes import Batch, Data, batch_of, loss_of_batch, total_of
from .products import with_products
from .record import EPOCHS, Epoch, epoch_signature, fixed_of, no_whole, update_signature
from .steps import Step, square_sums
from .whole import UPDATE_WHOLE, whole_of

# Multiply-adds of a step that are worth a thread: besides waiting at barriers, each core fetches from the other what it
# has written.
STEP_GRAIN = 2_000_000


@shared(epoch_signature, light=True)
def EPOCH(place, own, thread, n_threads, result):
    """Train on every batch in turn, see ``train_epoch``, a thread's part of it."""
    loss, failed = flushed(_train, (keep(fixed_of(place, own, thread, n_threads)),))
    stop_prefetching(own)
    put(result, 0, loss)
    put(result, 1, float(failed))


_update = caller(update_signature)


@inline
def _train(fixed):
    samples, objective, step, memory, worker = fixed.samples, fixed.objective, fixed.step, fixed.memory, fixed.worker
    place, size = place_of(fixed), fixed.whole.accumulate
    total = seen = 0.0
    begin(worker.clock)
    if objective.l2 != 0.0:
        square_sums(fixed.net, memory.squares.p, worker.thread, worker.n_threads)
    if not barrier(memory.sync.p, worker.n_threads):
        return 0.0, -1
    count = (samples.order.rows + samples.batch_size - 1) // samples.batch_size
    for number in range(count):
        in_group = number % size
        # Batches draw by the number of the batch, which is that of the update where there is no other.
        batch = batch_of(samples, number, step.made * size)
        weight = _weight_of_group(samples, batch, in_group, size)
        l2 = penalty_factor(objective, objective.l2, weight)
        penalty = l2 * total_of(memory.squares) if l2 != 0.0 else 0.0
        if not through_batch(place, Batch(batch.start, batch.m, batch.t, weight), memory, worker.workspace):
            break
        value = objective.value * loss_of_batch(samples, batch, memory) + penalty
        share = float(batch.m) if objective.mean_over_rows != 0 else batch.weight
        total += share * value
        seen += share
        if objective.stop != 0 and not math.isfinite(value):
            return total / seen if seen != 0.0 else 0.0, number
        lap(worker.clock, -1, REST)
        is_last = 1 if in_group == size - 1 or number == count - 1 else 0
        _update(
            memory.update_at, worker.workspace,
            (place, worker.workspace, batch.start, batch.m, step.made + number // size + 1, weight, l2,
             1 if in_group == 0 else 0, is_last),
        )  # fmt: skip
        if read(memory.sync.p, ABORTED) != 0 or not barrier(memory.sync.p, worker.n_threads):
            break
        lap(worker.clock, -1, REST)
    return total / seen if seen != 0.0 else 0.0, -1


@inline
def _weight_of_group(samples, batch, in_group, size):
    """Σ of the weights of the samples of some batches, of which one is at hand."""
    if size == 1:
        return batch.weight
    start = batch.start - in_group * samples.batch_size
    m = min(samples.batch_size * size, samples.order.rows - start)
    return batch_weight(samples.target.weights, samples.order, start, m)


_call = ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * 5)  # lets the GIL go
_NO_LABELS = np.empty(0, np.int64)


def compile_epoch(dtype: np.dtype) -> None:
    """Compile the epoch and what it calls for each batch, or load them."""
    for function in (BATCH, UPDATE, EPOCH):
        function.address(dtype)


@functools.cache
def _prepare(dtype: np.dtype) -> None:
    """Before anything of it is compiled here: let the largest part of the first epoch be compiled elsewhere."""
    if not TILE.is_kept(dtype):
        compile_ahead((EPOCH, BATCH, UPDATE), compile_epoch, dtype, get_num_threads())


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
    is_whole = rule.clip_norm is not None or rule.accumulate > 1
    whole = whole_of(network.spans, params, rule.clip_norm, rule.accumulate) if is_whole else no_whole(dtype)
    settings, none = np.array(rule.settings, np.float64), np.empty(0)
    step = Step(
        fused=int(rule.name in FUSED and not is_whole),
        prepare=prepare,
        update=update,
        settings=settings,
        rates=none if rule.rates is None else rule.rates,
        scales=none if network.scales is None else network.scales,
        slots=slots,
        made=int(rule.step),
        given=settings[None].repeat(n_threads, 0),
        prepared=np.empty((n_threads, PER_STEP)),
        places=np.empty((n_threads, len(slots)), np.int64),
    )
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
        batch_at=BATCH.address(dtype),  # from here on what may be compiled elsewhere meanwhile
        update_at=(UPDATE_WHOLE if is_whole else UPDATE).address(dtype),
    )
    epoch = Epoch(
        Net(products.ops, network.spans, network.settings, params, int(network.seed), int(network.row)),
        Data(describe(batches.x, dtype), _target(batches, dtype), batches.order, int(batch_size)),
        minimised,
        step,
        whole,
        memory,
        clock_of(clock),
    )
    written, results = EPOCHS.written(epoch, dtype), np.zeros((n_threads, 2))
    results[:, 1] = -1.0
    call = _call(EPOCH.address(dtype))

    def task(thread: int, n_threads: int) -> None:
        own = first if thread == 0 else prepared(workspace(dtype, own_size))
        call(address(written), address(own), thread, n_threads, address(results[thread]))

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
        labels=batches.y if labels else _NO_LABELS,
        targets=none if labels else batches.y.reshape(-1),
        weights=none if batches.sample_weight is None else batches.sample_weight,
    )
