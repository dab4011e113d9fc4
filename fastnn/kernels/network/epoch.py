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
import operator
import time
from typing import Any

import numpy as np

from ..compiler.ahead import compile_ahead
from ..compiler.jit import caller, inline, shared
from ..gemm import product
from ..gemm.product import WORKSPACE, stop_prefetching, workspace
from ..gemm.tile import TILE
from ..matrix_unit import level_of_unit, with_unit
from ..simd.address import address
from ..simd.record import keep, place_of
from ..simd.subnormals import flushed
from ..simd.vector import put
from ..simd.written import put_array
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
_INT64, _FLOAT64 = np.dtype(np.int64), np.dtype(np.float64)
_NO_INTEGERS, _NONE = np.empty(0, _INT64), np.empty(0)
# Of so many kinds, by the size of their batches as a rule, a training keeps what its epochs have in common, each of at
# most so many bytes: where there are more, steps take so long that there is nothing to gain.
_MOST_KEPT, _LIGHT = 4, 1 << 20


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
    network: Any,
    params: np.ndarray,
    batches: Any,
    objective: Any,
    rule: Any,
    clock: np.ndarray | None = None,
    kept: dict[Any, Any] | None = None,
) -> tuple[float, int]:
    """Train on every batch in turn; see ``fastnn.reference.network.epoch.train_epoch``."""
    count = len(batches.order)
    if count == 0:
        return 0.0, -1
    kept = {} if kept is None else kept
    _prepare(params.dtype)
    batch_size, level = min(batches.batch_size, count), level_of_unit(params.dtype)
    key = batch_size, level, rule.name, rule.clip_norm, rule.accumulate
    what = network, params, batches.x, batches.y, batches.sample_weight, objective, clock, rule.slots
    # While it runs nobody else has it. One that fails is not kept, nor one with much memory.
    epoch = kept.pop(key, None)
    if epoch is not None and not all(map(operator.is_, what, epoch.what)):
        epoch = None  # whose memory is not to be there beside that of the next
    if epoch is None:
        epoch = _Epoch(what, batches, batch_size, rule, level)
    loss, failed = epoch(batches.order, rule)
    if failed < 0 and epoch.is_light:
        kept[key] = epoch
        if len(kept) > _MOST_KEPT:
            del kept[next(iter(kept))]  # the one that has been of no use for longest
    return loss, failed


class _Epoch:
    """All of an epoch but the order of its samples and the numbers of its rule, and memory for it.

    To write it all down takes as long as some ten steps of a small network, so a training keeps it.
    """

    def __init__(self, what: tuple[Any, ...], batches: Any, batch_size: int, rule: Any, level: str) -> None:
        self.what = what
        network, params, _, _, _, objective, clock, _ = what
        dtype = self._dtype = params.dtype
        shape = network.ops.tobytes()
        products = with_products(shape, network.names, dtype, True, batch_size, level)
        self._prepared = with_unit if products.on_unit else _as_it_is
        self._plan, self._places = plan_of(shape, batch_size, dtype.itemsize, 1, products.on_unit)
        self._size = -(-self._places["size"] // LINE) * LINE
        self._batch_size = batch_size
        self._is_whole = rule.clip_norm is not None or rule.accumulate > 1
        self._settings = np.array(rule.settings, np.float64)
        self._parts = (
            Net(products.ops, network.spans, network.settings, params, int(network.seed), int(network.row)),
            Data(describe(batches.x, dtype), _target(batches, dtype), _NO_INTEGERS, batch_size),
            objective_of(objective, dtype),
        )
        whole = whole_of(network.spans, params, rule.clip_norm, rule.accumulate) if self._is_whole else no_whole(dtype)
        self._whole, self._clock = whole, clock_of(clock)
        self._order_at, self._rates_at, self._made_at = (
            EPOCHS.place(dtype, *names) for names in (("samples", "order"), ("step", "rates"), ("step", "made"))
        )
        self._first, self._n_threads = np.empty(0, dtype), 0

    def _write(self, first: np.ndarray, n_threads: int, rule: Any) -> None:
        """Write everything down, for so many threads, of which the first has this workspace."""
        network, params, *_, slots = self.what
        dtype, places, batch_size = self._dtype, self._places, self._batch_size
        nodes = first[-self._size :]
        self._zeros = nodes[places["zeros_at"] : places["losses_at"]]
        prepare, update = RULES[rule.name].addresses(dtype)
        slots = slots if len(slots) else params.reshape(1, -1)
        self._given = self._settings[None].repeat(n_threads, 0)
        self._squares, self._sync = np.zeros(places["squares"], dtype), np.zeros(NUMBERS, np.int64)
        step = Step(
            fused=int(rule.name in FUSED and not self._is_whole),
            prepare=prepare,
            update=update,
            settings=self._settings,
            rates=_NONE,
            scales=_NONE if network.scales is None else network.scales,
            slots=slots,
            made=0,
            given=self._given,
            prepared=np.empty((n_threads, PER_STEP)),
            places=np.empty((n_threads, len(slots)), np.int64),
        )
        memory = Memory(
            plan=self._plan,
            nodes=nodes,
            zeros_at=places["zeros_at"],
            losses_at=places["losses_at"],
            target_terms_at=places["target_terms_at"],
            own_at=places["own_at"],
            shares=np.empty(batch_size),
            squares=self._squares,
            samples=np.empty((n_threads, 1 + 4 * batch_size), np.int64),
            pieces=np.empty((n_threads, 4 * batch_size + 2 * (2 + len(slots))), np.int64),
            sync=self._sync,
            batch_at=BATCH.address(dtype),  # from here on what may be compiled elsewhere meanwhile
            update_at=(UPDATE_WHOLE if self._is_whole else UPDATE).address(dtype),
        )
        self._epoch = Epoch(*self._parts, step, self._whole, memory, self._clock)  # whose arrays have to live
        self._words = EPOCHS.written(self._epoch, dtype)
        self._results = np.empty((n_threads, 2))
        self._call = _call(EPOCH.address(dtype))
        self._first, self._n_threads = first, n_threads

    def __call__(self, order: np.ndarray, rule: Any) -> tuple[float, int]:
        """Train in this order, by the rule's settings, after its updates."""
        work = self._places["work"]
        n_threads = min(get_num_threads(), max(1, work * self._batch_size // STEP_GRAIN)) if PROFIT.is_likely() else 1
        first = self._prepared(workspace(self._dtype, self._own_size(n_threads) + self._size))
        if first is not self._first or n_threads != self._n_threads:
            self._write(first, n_threads, rule)
        self._zeros.fill(0)
        self._squares.fill(0)
        self._sync.fill(0)
        self._settings[:] = rule.settings
        self._given[:] = self._settings
        self._results[:] = 0.0, -1.0
        put_array(self._words, self._order_at, order, _INT64)
        put_array(self._words, self._rates_at, _NONE if rule.rates is None else rule.rates, _FLOAT64)
        self._words[self._made_at] = rule.step
        work *= len(order)
        if n_threads == 1:
            run(self._task, work, 1)
        else:
            self._run_shared(work)
        loss, failed = self._results[0].tolist()
        return loss, int(failed)

    @property
    def is_light(self) -> bool:
        """Whether its own memory is little, and its workspace one that stays in any case."""
        memory, whole = self._epoch.memory, self._whole
        own = memory.shares, memory.squares, memory.samples, memory.pieces, whole.gradient, whole.touched, whole.sums
        return self._first.nbytes <= product.MOST_KEPT_BYTES and sum(array.nbytes for array in own) <= _LIGHT

    def _own_size(self, n_threads: int) -> int:
        """Elements of the workspace that each thread needs for itself."""
        gathered = self._batch_size * int(self._plan[0, LD]) if n_threads > 1 else 0
        return int(self._places["own_at"]) - WORKSPACE + gathered

    def _task(self, thread: int, n_threads: int) -> None:
        own = self._first
        if thread > 0:
            own = self._prepared(workspace(self._dtype, self._own_size(self._n_threads)))
        self._call(address(self._words), address(own), thread, n_threads, address(self._results[thread]))

    def _run_shared(self, work: int) -> None:
        def abort() -> None:
            self._sync[ABORTED] = 1

        self._sync[CLOCK_AT], tick = system_clock()
        start, cpu = time.monotonic(), time.process_time()
        run(self._task, work, self._n_threads, abort)
        worked, cpu = time.monotonic() - start, time.process_time() - cpu
        PROFIT.count(worked, self._sync[WAITED] * tick / (self._n_threads - 1), cpu / self._n_threads)


def _as_it_is(own: np.ndarray) -> np.ndarray:
    return own


def _target(batches: Any, dtype: np.dtype) -> Target:
    """Labels or targets, and sample weights, of the dtype of the computation."""
    none = np.empty(0, dtype)
    labels = batches.y.ndim == 1
    return Target(
        labels=batches.y if labels else _NO_INTEGERS,
        targets=none if labels else batches.y.reshape(-1),
        weights=none if batches.sample_weight is None else batches.sample_weight,
    )
