"""What an epoch works on, as one record in memory: Python writes it, and the functions of the epoch read it there.

These are three, each behind an address: ``EPOCH`` goes through the batches and for each calls ``BATCH``, which takes it
forward and back, and then that which updates the parameters, ``UPDATE`` or ``UPDATE_WHOLE``. So an epoch compiles what
it uses.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import types

from ..compiler.jit import inline
from ..gemm.product import WORKSPACE
from ..operations import FLOAT64, N
from ..simd.record import RecordAt, record_at
from ..simd.table import Table, row_of
from ..simd.vector import shift
from ..simd.written import Written
from .clock import Clock, clock_of
from .layers import Input, Net
from .memory import Memory, Whole
from .objectives import Objective, Target
from .passes import Data
from .steps import Columns, Step, Worker, columns_of, step_of


class Epoch(NamedTuple):
    """What is the same for all threads of an epoch."""

    net: Net
    samples: Data
    objective: Objective
    step: Step
    whole: Whole
    memory: Memory
    clock: Clock


class Fixed(NamedTuple):
    """What is the same for all batches of an epoch, of one thread."""

    net: Any
    samples: Any
    objective: Any
    whole: Any
    memory: Any
    step: Any
    columns: Any
    worker: Any


@functools.cache
def no_whole(dtype: np.dtype) -> Whole:
    """Of an epoch whose updates need no gradient as a whole."""
    ints, table = np.empty(0, np.int64), np.empty((0, 0), np.int64)
    return Whole(np.empty(0, dtype), ints, ints, table, np.empty(0), 0.0, 1)


def _example(dtype: np.dtype) -> Epoch:
    numbers, reals, ints = np.empty(0, dtype), np.empty(0), np.empty(0, np.int64)
    slots, prepared, table = np.empty((0, 0), dtype), np.empty((0, 0)), np.empty((0, 0), np.int64)
    return Epoch(
        Net(table, table, reals, numbers, 0, 0),
        Data(Input(0, 0, 0, 0, 0), Target(ints, numbers, numbers), ints, 0),
        Objective(0, reals, 0.0, 0.0, 0.0, 0, 0, 0),
        Step(0, 0, 0, reals, reals, reals, slots, 0, prepared, prepared, table),
        no_whole(dtype),
        Memory(table, numbers, 0, 0, 0, 0, reals, numbers, table, table, ints, 0, 0),
        clock_of(None),
    )


EPOCHS = Written(_example)
_epoch_at = EPOCHS.at


def _kind_of_fixed(dtype: Any) -> Any:
    net, samples, objective, step, whole, memory, clock = EPOCHS.kind(dtype)
    shared = [RecordAt(kind) for kind in (net, samples, objective, whole, memory)]
    numbers, ints = types.CPointer(dtype), types.CPointer(types.int64)
    columns = types.BaseTuple.from_types((N, N), Columns)
    worker = types.NamedTuple((N, N, numbers, numbers, ints, ints, clock), Worker)
    return types.NamedTuple((*shared, step, columns, worker), Fixed)


fixed_at = record_at(_kind_of_fixed)


@inline
def fixed_of(place, own, thread, n_threads):
    """What a thread works on, whose workspace is its own, of the epoch at an address."""
    epoch = _epoch_at(place, own)
    net, memory, step, clock = epoch.net, epoch.memory, epoch.step, epoch.clock
    seconds = clock.seconds
    if thread != 0:
        seconds = Table(seconds.p, 0, 0)
    worker = Worker(
        thread, n_threads, own, shift(own, WORKSPACE), row_of(memory.samples, thread), row_of(memory.pieces, thread),
        Clock(seconds, clock.last, clock.address, clock.tick),
    )  # fmt: skip
    columns = columns_of(net, thread, n_threads if step.fused != 0 else 1, own)
    return Fixed(net, epoch.samples, epoch.objective, epoch.whole, memory, step_of(step, thread), columns, worker)


def epoch_signature(dtype: Any) -> Any:
    """(epoch, workspace, thread, n_threads, result (2,)): mean loss, and the batch where it was not finite, or -1."""
    return types.void(N, types.CPointer(dtype), N, N, FLOAT64)


def batch_signature(dtype: Any) -> Any:
    """(fixed, any pointer to the dtype, start, m, t, weight), of which the last four are a ``Batch``."""
    return types.void(N, types.CPointer(dtype), N, N, N, types.float64)


def update_signature(dtype: Any) -> Any:
    """(fixed, any pointer to the dtype, start, m, t, weight, l2, is_first, is_last): update t after a batch.

    Where the gradient is summed over some batches, the batch is the first or the last of them; the weight is that of
    all. l2 is the factor of Σ w².
    """
    return types.void(N, types.CPointer(dtype), N, N, N, types.float64, types.float64, N, N)
