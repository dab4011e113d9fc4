"""A batch forward and back behind an address: one function for every kind of epoch, so that each compiles the rest."""

from typing import Any, NamedTuple

import numpy as np
from numba import typeof, types
from numba.np.numpy_support import as_dtype

from ..compiler.jit import inline, shared
from ..operations import N
from ..simd.table import kept, kind_with_tables
from ..threading.atomics import read
from ..threading.barrier import ABORTED
from .clock import clock_of
from .layers import Input, Net
from .memory import Memory
from .objectives import Objective, Target
from .passes import Batch, Data, forward_and_back
from .steps import Columns, Worker


class Fixed(NamedTuple):
    """What is the same for all batches of an epoch, of one thread."""

    net: Any
    samples: Any
    objective: Any
    columns: Any
    memory: Any
    worker: Any


def kinds_of(dtype: np.dtype) -> tuple[Any, ...]:
    """The types of a network, its samples, objective, memory and clock, which depend on the dtype alone."""
    number, ints, reals = np.empty(0, dtype), np.empty(0, np.int64), np.empty(0)
    table = np.empty((0, 0), np.int64)
    examples = (
        Net(table, table, reals, number, 0, 0),
        Data(Input(0, 0, 0, 0, 0), Target(ints, number, number), ints, 0),
        Objective(0, reals, 0.0, 0.0, 0.0, False, False, False),
        Memory(table, number, 0, 0, 0, 0, reals, number, table, table, ints, 0),
        clock_of(None),
    )
    return tuple(map(typeof, examples))


def _kind_of_fixed(dtype: Any) -> Any:
    net, samples, objective, memory, clock = map(kind_with_tables, kinds_of(as_dtype(dtype)))
    numbers, ints = types.CPointer(dtype), types.CPointer(types.int64)
    columns = types.BaseTuple.from_types((N, N), Columns)
    worker = types.NamedTuple((N, N, numbers, numbers, ints, ints, clock), Worker)
    return types.NamedTuple((net, samples, objective, columns, memory, worker), Fixed)


keep, _kept = kept(_kind_of_fixed)


@shared(lambda dtype: types.void(N, types.CPointer(dtype), N, N, N, types.float64))
def BATCH(place, like, start, m, t, weight):
    """``forward_and_back`` for what is kept at an address and a batch."""
    fixed, batch = _kept(place, like), Batch(start, m, t, weight)
    forward_and_back(fixed.net, fixed.samples, batch, fixed.objective, fixed.columns, fixed.memory, fixed.worker)


_call = BATCH.caller()


@inline
def through_batch(place, batch, memory, worker):
    """``forward_and_back`` for a batch and what ``keep`` has kept; False where a thread has failed."""
    like = worker.workspace
    _call(memory.batch_at, like, (place, like, batch.start, batch.m, batch.t, batch.weight))
    return read(memory.sync.p, ABORTED) == 0
