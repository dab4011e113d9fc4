"""A batch forward and back behind an address: one function, whatever updates the parameters behind it."""

from ..compiler.jit import inline, shared
from ..threading.atomics import read
from ..threading.barrier import ABORTED
from .passes import Batch, forward_and_back
from .record import batch_signature, fixed_at


@shared(batch_signature)
def BATCH(place, like, start, m, t, weight):
    """``forward_and_back`` for what is kept at an address and a batch."""
    fixed, batch = fixed_at(place, like), Batch(start, m, t, weight)
    forward_and_back(fixed.net, fixed.samples, batch, fixed.objective, fixed.columns, fixed.memory, fixed.worker)


_call = BATCH.caller()


@inline
def through_batch(place, batch, memory, like):
    """``forward_and_back`` for a batch and what is kept at an address; False where a thread has failed."""
    _call(memory.batch_at, like, (place, like, batch.start, batch.m, batch.t, batch.weight))
    return read(memory.sync.p, ABORTED) == 0
