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
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from queue import SimpleQueue

from ._jit import inline

MOST = 1024
# Multiply-adds that take a thread about as long as waking a helper.
GRAIN = 4_000_000


class _Job:
    """A call for a helper, whether it is done, and the error that ended it; ``abort`` tells the other threads of it."""

    error: BaseException | None = None

    def __init__(self, call: Callable[[], None], abort: Callable[[], None]) -> None:
        self._call, self._abort, self.done = call, abort, threading.Event()

    def run(self) -> None:
        """Make the call."""
        try:
            self._call()
        except BaseException as error:
            self.error = error
            self._abort()


class _Helper:
    """A thread that runs one job after the other."""

    def __init__(self, team: "_Team") -> None:
        self._team, self._jobs = team, SimpleQueue()
        threading.Thread(target=self._work, name="fastnn", daemon=True).start()

    def start(self, job: _Job | None) -> None:
        """Run a job, or end the thread for None."""
        try:
            self._jobs.put(job)
        except MemoryError:  # it is not in the queue, and nobody may wait for it
            if job is not None:
                job.done.set()
            raise

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            done = job.done
            del job  # or the arrays of the last call would live until the next
            try:
                self._team.take_back(self)
            finally:
                done.set()


class _Team:
    """The helpers of this process; those that wait for work are in ``idle``."""

    def __init__(self, size: int) -> None:
        self.size, self.idle = size, []
        self._to_start, self._dismissed = list(range(size - 1)), False

    def helper(self) -> _Helper | None:
        """Take an idle helper, or start one that is still due; None if there is neither."""
        try:
            return self.idle.pop()
        except IndexError:
            pass
        try:
            self._to_start.pop()
            return _Helper(self)
        except (IndexError, RuntimeError):
            return None

    def take_back(self, helper: _Helper) -> None:
        """Let a helper wait for work, or end with the others of a dismissed team."""
        self.idle.append(helper)
        if self._dismissed:
            self.dismiss()

    def dismiss(self) -> None:
        """End the threads that wait, and those that work as soon as they are through."""
        self._dismissed = True
        with contextlib.suppress(IndexError):
            while True:
                self.idle.pop().start(None)


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
    """Call task(rank, size) on as many threads as ``work``, in multiply-adds, is worth, and ``most`` at most.

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
    errors: list[BaseException] = []
    try:
        while len(helpers) + 1 < wanted and (helper := team.helper()) is not None:
            helpers.append(helper)
        size = len(helpers) + 1
        for rank, helper in enumerate(helpers, 1):
            job = _Job(lambda rank=rank: task(rank, size), abort)
            jobs.append(job)
            helper.start(job)
        task(0, size)
    except BaseException:
        abort()
        raise
    finally:
        waiting = True
        while waiting:
            try:  # nothing may come before this: an interruption would leave helpers at work, or out of reach
                for job in jobs:
                    job.done.wait()
                waiting = False
            except BaseException as error:
                errors.append(error)
        for helper in helpers[len(jobs) :]:
            team.take_back(helper)
    errors += [job.error for job in jobs if job.error is not None]
    if errors:
        raise errors[0]


@inline
def part(n, unit, rank, size):
    """The share [start, end) of n items, in multiples of ``unit``, that belongs to one of ``size`` threads."""
    units = (n + unit - 1) // unit
    return min(n, units * rank // size * unit), min(n, units * (rank + 1) // size * unit)
