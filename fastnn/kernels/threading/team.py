"""Threads: one compiled function run by every thread on its own share of the work.

A kernel that can be shared takes ``rank`` and ``size``, the calling thread runs rank 0, and a team of Python threads,
which need no GIL inside a kernel, runs the others. Work is split over outputs, never over a sum, so every number of
threads gives the same bits. When several Python threads call at once, whoever finds no idle helper works alone. A
forked child starts with a team of its own.

No threading layer of Numba takes part, whichever are installed: GNU OpenMP ends a forked child at its first parallel
region, workqueue ends the whole process when two threads enter it at once, and TBB is seldom there.
"""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from itertools import repeat
from queue import SimpleQueue

from ..compiler.jit import inline

MOST = 1024
# Multiply-adds that take a thread about as long as waking a helper.
GRAIN = 4_000_000


class _Job:
    """A call for a helper, and the error that ended it; ``abort`` tells the other threads of it.

    ``done`` is a lock that is held until the call is over: Python code that waits could itself be interrupted half way.
    """

    error: BaseException | None = None

    def __init__(self, call: Callable[[], None], abort: Callable[[], None]) -> None:
        self._call, self._abort, self.done = call, abort, threading.Lock()
        self.done.acquire()

    def run(self) -> None:
        """Make the call."""
        try:
            self._call()
        except BaseException as error:
            self.error = error
            self._abort()


class _Helper:
    """A thread that runs the jobs of its queue one after the other, once it has begun."""

    def __init__(self, team: "_Team") -> None:
        self._team, self.jobs, self._has_begun = team, SimpleQueue(), False

    def begin(self) -> None:
        """Start the thread if it does not run yet; RuntimeError if there can be no more."""
        if not self._has_begun:
            threading.Thread(target=self._work, name="fastnn", daemon=True).start()
            self._has_begun = True

    def _work(self) -> None:
        while (job := self.jobs.get()) is not None:
            job.run()
            done = job.done
            del job  # or the arrays of the last call would live until the next
            try:
                self._team.idle.append(self)
                self._team.dismiss_late()
            finally:
                done.release()


class _Team:
    """The helpers of this process; those that wait for work, or have not begun, are in ``idle``."""

    def __init__(self, size: int) -> None:
        self.size, self._dismissed = size, False
        self.idle = [_Helper(self) for _ in range(size - 1)]

    def lend(self, most: int, helpers: list[_Helper]) -> None:
        """Move up to so many idle helpers into a list.

        One call from C moves them all, so no interruption finds one in neither list; the same holds for the way back.
        """
        with contextlib.suppress(IndexError):
            helpers.extend(map(self.idle.pop, repeat(-1, most)))

    def take_back(self, helpers: list[_Helper], kept: int) -> None:
        """Move all helpers but the first ``kept`` back from a list."""
        self.idle.extend(map(helpers.pop, repeat(-1, len(helpers) - kept)))
        self.dismiss_late()

    def dismiss(self) -> None:
        """End the threads that wait, and those that work as soon as they are through."""
        self._dismissed = True
        with contextlib.suppress(IndexError):
            while True:
                self.idle.pop().jobs.put(None)

    def dismiss_late(self) -> None:
        """End the threads that were at work when the team was dismissed, and wait now."""
        if self._dismissed:
            self.dismiss()


def _initial_threads() -> int:
    """FASTNN_NUM_THREADS, or the CPUs that this process may run on, but no more than its share.

    joblib gives each of its workers a share of the CPUs by NUMBA_NUM_THREADS, Dask and Ray by OMP_NUM_THREADS alone.
    """
    text = os.environ.get("FASTNN_NUM_THREADS", "").strip()
    if not text:
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(cpus, _share("NUMBA_NUM_THREADS") or _share("OMP_NUM_THREADS") or cpus)
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise ValueError(f"FASTNN_NUM_THREADS is {text!r}, expected a whole number from 1 to {MOST}")
    return int(text)


def _share(variable: str) -> int:
    """The number in a variable, the first where OpenMP takes one for each level of nesting; 0 if there is none."""
    text = os.environ.get(variable, "").split(",")[0].strip()
    return int(text) if text.isdecimal() else 0


_team = _Team(_initial_threads())
_limit: ContextVar[int] = ContextVar("fastnn_thread_limit", default=MOST)


def set_num_threads(n: int) -> None:
    """Use at most n threads; work too small to gain runs on one all the same."""
    global _team
    before, _team = _team, _Team(n)
    before.dismiss()


@contextlib.contextmanager
def limit_threads(n: int) -> Iterator[None]:
    """Let the kernels that are called from this thread, inside the block, use at most n of the threads."""
    token = _limit.set(n)
    try:
        yield
    finally:
        _limit.reset(token)


def get_num_threads() -> int:
    """The most threads that a kernel uses."""
    return min(_team.size, _limit.get())


def _start_afresh() -> None:
    global _team
    _team = _Team(_team.size)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


def run(
    task: Callable[[int, int], None], work: int, most: int | None = None, abort: Callable[[], None] = lambda: None
) -> None:
    """Call task(thread, n_threads) on as many threads as ``work``, in multiply-adds, is worth, and ``most`` at most.

    ``abort`` releases threads that wait for another inside the task; it is called when an exception keeps any of them
    from its part, and must not need memory, whose lack may be that exception.
    """
    team = _team
    wanted = min(team.size, _limit.get(), most or team.size, work // GRAIN)
    if wanted <= 1:
        task(0, 1)
        return
    helpers: list[_Helper] = []
    jobs: list[_Job] = []
    queued: list[None] = []
    errors: list[BaseException] = []
    is_through = False
    try:
        team.lend(wanted - 1, helpers)
        n_threads = _begin(helpers) + 1
        jobs += [_Job(lambda thread=thread: task(thread, n_threads), abort) for thread in range(1, n_threads)]
        queues = [helper.jobs for helper in helpers[: n_threads - 1]]
        queued.extend(map(SimpleQueue.put, queues, jobs))  # one call from C: interrupted or not, it has counted them
        task(0, n_threads)
        is_through = True
    finally:
        waiting = True
        while waiting:
            try:  # nothing may come before this: an interruption would leave helpers at work, or out of reach
                if not is_through:
                    abort()
                for job in jobs[: len(queued)]:
                    with job.done:
                        pass
                team.take_back(helpers, len(queued))
                waiting = False
            except BaseException as error:
                errors.append(error)
    errors += [job.error for job in jobs if job.error is not None]
    if errors:
        raise errors[0]


def share_out(calls: Iterable[Callable[[], None]]) -> None:
    """Make calls of one thread each, the next by whichever thread is free; after an exception none begins."""
    left = deque(calls)

    def task(thread: int, n_threads: int) -> None:
        with limit_threads(1):
            while True:
                try:
                    call = left.popleft()
                except IndexError:  # those of the calls are not meant
                    return
                call()

    run(task, len(left) * GRAIN, abort=left.clear)


def _begin(helpers: list[_Helper]) -> int:
    """Let helpers begin, and return how many have: some systems have no more threads to give."""
    for count, helper in enumerate(helpers):
        try:
            helper.begin()
        except RuntimeError:
            return count
    return len(helpers)


@inline
def part(n, unit, thread, n_threads):
    """The share [start, end) of n items, in multiples of ``unit``, that belongs to one of the threads."""
    units = (n + unit - 1) // unit
    return min(n, units * thread // n_threads * unit), min(n, units * (thread + 1) // n_threads * unit)
