"""Threads: one compiled function run by every thread on its own share of the work.

No threading layer of Numba takes part: a kernel that can be shared takes ``rank`` and ``size``, the calling thread
runs rank 0, and a small pool of Python threads, which need no GIL inside a kernel, runs the others. Work is split over
outputs, never over a sum, so every number of threads gives the same bits. When several Python threads call at once,
whoever finds no idle helper works alone. A forked child starts with a pool of its own.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ._jit import inline

# Multiply-adds that take a thread about as long as waking a helper.
GRAIN = 4_000_000


def available_cpus() -> int:
    """The CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Helpers:
    """A pool of threads, and how many of them are idle."""

    def __init__(self, count: int) -> None:
        self.idle = threading.Semaphore(count)
        self.pool = ThreadPoolExecutor(max(1, count), thread_name_prefix="fastnn")

    def reserve(self, wanted: int) -> int:
        """Take up to ``wanted`` idle helpers."""
        taken = 0
        while taken < wanted and self.idle.acquire(blocking=False):
            taken += 1
        return taken

    def start(self, task: Callable[[], None]) -> Any:
        """Run a task on a reserved helper and give the helper back when it ends."""

        def work() -> None:
            try:
                task()
            finally:
                self.idle.release()

        return self.pool.submit(work)


_threads = 1
_helpers = _Helpers(0)


def set_num_threads(n: int) -> None:
    """Use at most n threads; work too small to gain runs on one all the same."""
    global _threads, _helpers
    if n != _threads:
        _threads, _helpers = n, _Helpers(n - 1)


def get_num_threads() -> int:
    """The most threads that a kernel uses."""
    return _threads


def _start_afresh() -> None:
    global _helpers
    _helpers = _Helpers(_threads - 1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)

set_num_threads(available_cpus())


def run(task: Callable[[int, int], None], work: int) -> None:
    """Call task(rank, size) on as many threads as ``work``, in multiply-adds, is worth."""
    wanted = 0 if _threads == 1 else min(_threads, work // GRAIN) - 1
    helpers = _helpers
    extra = helpers.reserve(wanted) if wanted > 0 else 0
    if extra == 0:
        task(0, 1)
        return
    size = extra + 1
    running = [helpers.start(lambda rank=rank: task(rank, size)) for rank in range(1, size)]
    task(0, size)
    for future in running:
        future.result()


@inline
def part(n, unit, rank, size):
    """The share [start, end) of n items, in multiples of ``unit``, that belongs to one of ``size`` threads."""
    units = (n + unit - 1) // unit
    return min(n, units * rank // size * unit), min(n, units * (rank + 1) // size * unit)
