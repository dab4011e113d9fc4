"""Threads: one compiled function run by every thread on its own share of the work.

A kernel whose work is in parts hands them to helpers without leaving compiled code, see ``crew``; ``plan_for`` says
with how many. What needs Python in every thread, as an epoch does, is a task that takes ``rank`` and ``size``: the
calling thread runs rank 0, and helpers, which need no GIL inside a kernel, run the others. Work is split over outputs,
never over a sum, so every number of threads gives the same bits. When several Python threads call at once, whoever
finds no idle helper works alone. A forked child starts with helpers of its own.

No threading layer of Numba takes part, whichever are installed: GNU OpenMP ends a forked child at its first parallel
region, workqueue ends the whole process when two threads enter it at once, and TBB is seldom there.
"""

import atexit
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar

import numpy as np

from ..compiler.cpu import available_cpus
from ..compiler.jit import inline
from .crew import (
    ALONE,
    AWAY,
    CREW,
    LIMIT,
    MOST,
    READY,
    SPIN_TICKS,
    STATE,
    WAKING,
    attend,
    call_helpers,
    claim_helpers,
    enlist,
    forget,
    prepare,
    wake_beyond,
)
from .placement import THREAD
from .quota import cpus_granted

# Multiply-adds that take a thread several times as long as handing work to a helper that spins, and to one that sleeps.
GRAIN = 400_000
WAKING_GRAIN = 4_000_000


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


# The jobs that each helper was called back to Python for.
_jobs: list[deque[_Job]] = []
_states, _header = memoryview(CREW[:, STATE]), memoryview(CREW[0])
# Up to which row helpers are known to have begun since the number of threads was set, which makes another list.
_begun = [0]


def _work(row: int) -> None:
    """What the thread of a helper does."""
    while row <= _header[LIMIT] and enlist(CREW, row):
        CREW[row, THREAD] = threading.get_native_id()  # only now: another thread may have been the helper
        while attend(CREW, row):
            job = _jobs[row].popleft()
            job.run()
            done = job.done
            del job  # or the arrays of the last call would live until the next
            _states[row] = READY
            done.release()


def _begin(count: int) -> None:
    """Let that many helpers begin, or as many as there can be: some systems have no more threads to give."""
    begun = _begun
    for row in range(1, count + 1):
        if _states[row] != AWAY:
            continue
        prepare(row)
        while len(_jobs) <= row:
            _jobs.append(deque())
        thread = threading.Thread(target=_work, args=(row,), name="fastnn", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return
        while _states[row] == AWAY and thread.is_alive():
            time.sleep(0)
    begun[0] = max(begun[0], count)


def _initial_threads() -> int:
    """FASTNN_NUM_THREADS, or the CPUs that this process may run on, but no more than its quota and its share.

    joblib gives each of its workers a share of the CPUs by NUMBA_NUM_THREADS, Dask and Ray by OMP_NUM_THREADS alone.
    """
    text = os.environ.get("FASTNN_NUM_THREADS", "").strip()
    if not text:
        cpus = available_cpus()
        granted = max(1, int(min(cpus_granted(), cpus)))  # who waits for a thread without a CPU of its own waits long
        return min(granted, _share("NUMBA_NUM_THREADS") or _share("OMP_NUM_THREADS") or cpus)
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise ValueError(f"FASTNN_NUM_THREADS is {text!r}, expected a whole number from 1 to {MOST}")
    return int(text)


def _share(variable: str) -> int:
    """The number in a variable, the first where OpenMP takes one for each level of nesting; 0 if there is none."""
    text = os.environ.get(variable, "").split(",")[0].strip()
    return int(text) if text.isdecimal() else 0


_header[LIMIT] = _initial_threads() - 1
# Not 0 once calls were limited from outside, as compiled code reads it that cannot know which ones are.
WAS_LIMITED = np.zeros(1, np.int64)
_limit: ContextVar[int] = ContextVar("fastnn_thread_limit", default=MOST)


def set_num_threads(n: int) -> None:
    """Use at most n threads; work too small to gain runs on one all the same."""
    global _begun
    _header[LIMIT] = n - 1
    _begun = [0]
    if any(_states[n:]):
        wake_beyond(CREW)


@contextlib.contextmanager
def limit_threads(n: int) -> Iterator[None]:
    """Let the kernels that are called from this thread, inside the block, use at most n of the threads."""
    WAS_LIMITED[0] = 1
    with _limited(n):
        yield


@contextlib.contextmanager
def _limited(n: int) -> Iterator[None]:
    token = _limit.set(n)
    try:
        yield
    finally:
        _limit.reset(token)


def get_num_threads() -> int:
    """The most threads that a kernel uses."""
    return min(_header[LIMIT] + 1, _limit.get())


def _start_afresh() -> None:
    global _begun
    _begun = [0]
    forget(CREW)
    _jobs.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


@atexit.register
def _rest() -> None:
    """Let no helper spin in memory that the interpreter, at its end, is going to free."""
    _header[SPIN_TICKS] = 0
    end = time.monotonic() + 1
    while {READY, WAKING} & set(_states[1:]) and time.monotonic() < end:
        time.sleep(0)


class _Profit:
    """Whether threads that meet at barriers gain anything of late: not where they take turns on one CPU or get less.

    Then all but one wait, or have no CPU, at any time. This is looked at for ``WINDOW`` seconds of work, twice, since a
    process first loads code in one thread; where there is no gain a thread works alone for ``PAUSE`` seconds, and where
    the next try fails for twice as long.
    """

    WINDOW, PAUSE, LONGEST, LEAST = 0.05, 1.0, 16.0, 0.75

    def __init__(self) -> None:
        self._worked = self._waited = self._cpu = self._alone_until = 0.0
        self._pause, self._failed = self.PAUSE, 0

    def is_likely(self) -> bool:
        """Whether to share an epoch."""
        return self._alone_until == 0.0 or time.monotonic() >= self._alone_until

    def count(self, worked: float, waited: float, cpu: float) -> None:
        """Count the seconds of a call, those that threads waited of them, and those that they had a CPU.

        The second is the sum of all threads over all but one, the third the mean of all.
        """
        self._worked, self._waited, self._cpu = self._worked + worked, self._waited + waited, self._cpu + cpu
        if self._worked >= self.WINDOW:
            gains = self._waited < self.LEAST * self._worked and self._cpu > self.LEAST * self._worked
            self._failed = 0 if gains else self._failed + 1
            self._alone_until = time.monotonic() + self._pause if self._failed >= 2 else 0.0
            if self._failed != 1:
                self._pause = self.PAUSE if gains else min(2 * self._pause, self.LONGEST)
            self._worked = self._waited = self._cpu = 0.0


PROFIT = _Profit()


def plan_for(work: int) -> int:
    """The plan by which ``share`` makes a call of so many multiply-adds, and helpers at hand for it."""
    most = min(_header[LIMIT] + 1, _limit.get(), work // GRAIN)
    if most <= 1:
        return ALONE
    if most - 1 > _begun[0]:
        _begin(most - 1)
    return 2 * most + (work >= WAKING_GRAIN)


def run(
    task: Callable[[int, int], None], work: int, most: int | None = None, abort: Callable[[], None] = lambda: None
) -> None:
    """Call task(thread, n_threads) on as many threads as ``work``, in multiply-adds, is worth, and ``most`` at most.

    ``abort`` releases threads that wait for another inside the task; it is called when an exception keeps any of them
    from its part, and must not need memory, whose lack may be that exception.
    """
    wanted = min(get_num_threads(), most or MOST, work // WAKING_GRAIN)
    if wanted <= 1:
        task(0, 1)
        return
    taken = np.zeros(wanted, np.int64)
    jobs: list[_Job] = []
    queued: list[None] = []
    errors: list[BaseException] = []
    is_through = False
    try:
        if wanted - 1 > _begun[0]:
            _begin(wanted - 1)
        n_threads = claim_helpers(CREW, taken, wanted - 1) + 1
        jobs += [_Job(lambda thread=thread: task(thread, n_threads), abort) for thread in range(1, n_threads)]
        inboxes = [_jobs[row] for row in taken[1:n_threads]]
        queued.extend(map(deque.append, inboxes, jobs))  # one call from C: interrupted or not, it has counted them
        call_helpers(CREW, taken, len(queued))
        task(0, n_threads)
        is_through = True
    finally:
        waiting = True
        while waiting:
            try:  # nothing may come before this: an interruption would leave helpers at work, or out of reach
                if not is_through:
                    abort()
                call_helpers(CREW, taken, len(queued))
                for job in jobs[: len(queued)]:
                    with job.done:
                        pass
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
        with _limited(1):
            while True:
                try:
                    call = left.popleft()
                except IndexError:  # those of the calls are not meant
                    return
                call()

    run(task, len(left) * WAKING_GRAIN, abort=left.clear)


@inline
def part(n, unit, thread, n_threads):
    """The share [start, end) of n items, in multiples of ``unit``, that belongs to one of the threads."""
    units = (n + unit - 1) // unit
    return min(n, units * thread // n_threads * unit), min(n, units * (thread + 1) // n_threads * unit)
