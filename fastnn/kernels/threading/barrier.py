"""A barrier between the threads that run one kernel: atomics, a short spin, then yielding the CPU."""

from ..compiler.jit import inline
from ..simd.vector import get
from .atomics import add, pause, read, write
from .ticks import ticks

# Turns of spinning before a thread yields, a few microseconds. Where each has a CPU to itself yielding costs next to
# nothing, and where two share one, every turn before it is lost: with 2000 they took 1.6 times as long as one alone.
_SPINS = 100
# The numbers of a barrier: the arrivals, whether a thread will never come, how long threads have waited beyond those
# turns and where the clock for that is, or 0, and, a cache line on, the generation.
_ARRIVED, ABORTED, WAITED, CLOCK_AT, _GENERATION, NUMBERS = 0, 1, 2, 3, 8, 16


@inline
def barrier(sync, n_threads):
    """Wait until all of ``n_threads`` threads are here, and return whether they came."""
    if n_threads > 1:
        generation = read(sync, _GENERATION)
        if add(sync, _ARRIVED, 1) == n_threads - 1:
            write(sync, _ARRIVED, 0)
            write(sync, _GENERATION, generation + 1)
        else:
            spins, since, clock = 0, 0, get(sync, CLOCK_AT)
            while read(sync, _GENERATION) == generation:
                if read(sync, ABORTED) != 0:
                    return False
                spins += 1
                if spins == _SPINS and clock != 0:
                    since = ticks(clock)
                pause(spins > _SPINS)
            if spins >= _SPINS and clock != 0:
                add(sync, WAITED, ticks(clock) - since)
    return True
