"""A barrier between the threads that run one kernel: atomics, a short spin, then yielding the CPU."""

from ..compiler.jit import inline
from .atomics import add_one, pause, read, write

# Turns of spinning before a thread yields: about the time of a step of a small network.
_SPINS = 2000
ABORTED = 1


@inline
def barrier(sync, n_threads):
    """Wait until all of ``n_threads`` threads are here, and return whether they came.

    ``sync`` points to int64: the arrivals, whether a thread will never come, and, a cache line on, the generation.
    """
    if n_threads > 1:
        generation = read(sync, 8)
        if add_one(sync, 0) == n_threads - 1:
            write(sync, 0, 0)
            write(sync, 8, generation + 1)
        else:
            spins = 0
            while read(sync, 8) == generation:
                if read(sync, ABORTED) != 0:
                    return False
                spins += 1
                pause(spins > _SPINS)
    return True
