"""Helpers that wait for work inside compiled code, where neither handing it over nor taking it needs the GIL.

``CREW`` has a row for each helper, whose first number says what it does. Who shares a call out claims helpers that are
at hand, gives each the address of a record of the call, and takes parts of the work itself until none is left. What a
helper has not begun by then it is not waited for, so one that has lost its CPU to others costs nothing. A helper spins
for a moment, where a call finds it within a hundred nanoseconds, and then sleeps until it is woken.
"""

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..compiler.jit import Shared, caller, inline, kernel
from ..simd.vector import I32, data, get, integer, pointer, put, scratch, shift
from .atomics import add, exchange, pause, read, write
from .placement import IS_TAKEN_OUT, functions_of_system, keep_off, put_back
from .ticks import system_clock, ticks

MOST = 1024
# A plan is twice the most threads, and 1 more where sleeping helpers are worth waking.
ALONE = 2
# Instead of a number of parts: one for the calling thread, and one for each helper that is at hand.
EACH = -1
# Seconds that a helper spins, about the time between two calls of a program that makes many, and several times what
# waking it costs. Small calls wake helpers only where the one before is not longer ago than this.
SPIN, BURST = 150e-6, 500e-6
# All CPUs are taken where no helper comes though one spins, or where a call waits twice as long for them as it worked.
# One that was woken may be on its way for several calls. A miss counts as much as so many calls without; at so much
# calls work alone for some seconds, which double.
_MISS, _TOO_MUCH, PAUSE, LONGEST_PAUSE = 4, 16, 5e-3, 20e-3
# Turns of spinning between two looks at the clock, and before a thread gives its CPU away to others that want it.
_LOOK, _YIELD = 16, 256

# The numbers of a row, see also ``placement``, and what the first may be: beyond these, the address of the record of a
# call to begin.
STATE, RANK, LOCK, WORDS = 0, 1, 2, 16
AWAY, READY, ASLEEP, WAKING, CLAIMED, RUNNING, CALLED = range(7)
# Row 0 is for all: how many helpers there may be, functions of the system, and, a line on, when a small call came, how
# much calls have missed their helpers, until when they do not try, and how long they will not the next time.
LIMIT, ACQUIRE, RELEASE, CLOCK, SPIN_TICKS, BURST_TICKS, SHARE_AT, PAUSE_TICKS = range(8)
LAST, MISSED, ALONE_UNTIL, NEXT_PAUSE, MOST_TICKS = 8, 9, 10, 11, 12
# Of a record, a cache line each: the next part of the work, the helpers that are through, and the call.
_NEXT, _DONE, _TASK, _JOB, _PARTS, _RECORD = 0, 8, 16, 17, 18, 24


def task_signature(dtype: Any) -> Any:
    """(like, job, part, parts, thread): make one of the parts of a job, whose numbers only its task knows.

    ``like`` is a pointer to nothing that brings the dtype. No two threads of a call have the same number, and all are
    less than the most threads that were asked for.
    """
    n = types.intp
    return types.void(types.CPointer(dtype), types.CPointer(types.int64), n, n, n)


call_task = caller(task_signature)


@inline
def share(crew, plan, task, job, parts):
    """Make all parts of a job, on as many threads as the plan for it says, see ``plan_for``; tasks are addresses.

    Where what every part repeats takes long, ``parts`` should be EACH.
    """
    if plan <= ALONE:
        parts = 1 if parts == EACH else parts
        for which in range(parts):
            call_task(task, job, (job, job, which, parts, 0))
    else:
        _call_share(get(pointer(crew, job), SHARE_AT), job, (crew, plan, task, job, parts))


def _share(crew, plan, task, job, parts):
    """Make all parts of a job with the helpers that are at hand, and of those that sleep with those worth waking."""
    header = pointer(crew, job)
    record, claimed = scratch(header, _RECORD), scratch(header, MOST)
    write(record, _NEXT, 0)
    write(record, _DONE, 0)
    put(record, _TASK, task)
    put(record, _JOB, integer(job))
    most, wakes, count, spinning, row = plan >> 1, plan & 1, 0, 0, 1
    each = parts == EACH
    parts = most if each else parts
    put(record, _PARTS, parts)
    clock = get(header, CLOCK)
    start = ticks(clock)
    if start < read(header, ALONE_UNTIL):
        most = 1
    while count < min(most, parts) - 1 and row <= read(header, LIMIT):
        helper = shift(header, row * WORDS)
        state = claim(header, helper, wakes == 1)
        if state != AWAY:
            spinning += 1 if state == READY else 0
            put(helper, RANK, count + 1)
            put(claimed, count, 2 * row + (1 if state == READY else 0))
            count += 1
            if not each:
                write(helper, STATE, integer(record))
        row += 1
    if each:  # only now is their number known
        put(record, _PARTS, count + 1)
        for i in range(count):
            write(shift(header, (get(claimed, i) >> 1) * WORDS), STATE, integer(record))
    _take_parts(record, 0)
    begun, end = 0, ticks(clock)
    for i in range(count - 1, -1, -1):
        row, was_ready = get(claimed, i) >> 1, get(claimed, i) & 1
        if not exchange(shift(header, row * WORDS), STATE, integer(record), READY if was_ready == 1 else WAKING):
            begun += 1
    turns = 0
    while read(record, _DONE) < begun:
        turns += 1
        pause(turns > _YIELD)
    if count > 0:
        now = ticks(clock)
        _count_miss(header, now, spinning > 0 if begun == 0 else now - end > 2 * (end - start))


@inline
def _count_miss(header, now, missed):
    """Note down whether a call missed its helpers, in numbers that several callers may write: they are hints."""
    score, pause_ticks = read(header, MISSED), max(read(header, NEXT_PAUSE), get(header, PAUSE_TICKS))
    if missed:
        score += _MISS
        if score >= _TOO_MUCH:
            score -= _MISS
            write(header, ALONE_UNTIL, now + pause_ticks)
            write(header, NEXT_PAUSE, min(2 * pause_ticks, get(header, MOST_TICKS)))
        write(header, MISSED, score)
    elif score > 0:
        write(header, MISSED, score - 1)
        if score == 1:
            write(header, NEXT_PAUSE, 0)


def _share_signature(dtype: Any) -> Any:
    n = types.intp
    return types.void(n, n, n, types.CPointer(types.int64), n)


_SHARE, _call_share = Shared(_share, _share_signature), caller(_share_signature)


@inline
def claim(header, helper, wakes):
    """The state of a helper that was at hand and is now this thread's, to be given something or set free, or AWAY."""
    state = read(helper, STATE)
    if state in (READY, WAKING):
        return state if exchange(helper, STATE, state, CLAIMED) else AWAY
    if state == ASLEEP:
        if not wakes:
            now = ticks(get(header, CLOCK))
            before = read(header, LAST)
            write(header, LAST, now)
            if now - before > get(header, BURST_TICKS):
                return AWAY
        if exchange(helper, STATE, ASLEEP, CLAIMED):
            keep_off(header, helper)
            _release(get(header, RELEASE), get(helper, LOCK))
            return WAKING
    return AWAY


@inline
def _take_parts(record, thread):
    """Make parts of the work until none is left."""
    parts, job = get(record, _PARTS), pointer(get(record, _JOB), record)
    part = add(record, _NEXT, 1)
    while part < parts:
        call_task(get(record, _TASK), record, (record, job, part, parts, thread))
        part = add(record, _NEXT, 1)


@kernel
def attend(crew, row):
    """Wait, as a helper, and make parts of calls; return True when called back to Python, False when not needed."""
    header, me = data(crew), shift(data(crew), row * WORDS)
    since, turns = ticks(get(header, CLOCK)), 0
    while True:
        state = read(me, STATE)
        if state > CALLED:
            if exchange(me, STATE, state, RUNNING):
                record = pointer(state, header)
                _take_parts(record, get(me, RANK))
                write(me, STATE, READY)  # before its caller goes on, who may have more
                add(record, _DONE, 1)
                since = ticks(get(header, CLOCK))
        elif state == CALLED:
            write(me, STATE, RUNNING)
            return True
        elif state == WAKING:
            if exchange(me, STATE, WAKING, READY):
                since = ticks(get(header, CLOCK))
        else:
            turns += 1
            pause(turns % _YIELD == 0)
            if state == READY and turns % _LOOK == 0:
                if row > read(header, LIMIT) and exchange(me, STATE, READY, AWAY):
                    return False
                now = ticks(get(header, CLOCK))
                if now - since > get(header, SPIN_TICKS) and exchange(me, STATE, READY, ASLEEP):
                    _acquire(get(header, ACQUIRE), get(me, LOCK))
                    put_back(header, me)
                    since = ticks(get(header, CLOCK))


@kernel
def enlist(crew, row):
    """Be the thread of a helper; False if it has one already."""
    return exchange(shift(data(crew), row * WORDS), STATE, AWAY, READY)


@kernel
def claim_helpers(crew, taken, most):
    """Claim at most so many helpers for Python and note down how many, and which: returned as well."""
    header, count, row = data(crew), 0, 1
    while count < most and row <= read(header, LIMIT):
        if claim(header, shift(header, row * WORDS), True) != AWAY:
            count += 1
            taken[count], taken[0] = row, count
        row += 1
    return count


@kernel
def call_helpers(crew, taken, count):
    """Call the first ``count`` of the claimed helpers back to Python, and set the others free."""
    for i in range(1, taken[0] + 1):
        write(shift(data(crew), taken[i] * WORDS), STATE, CALLED if i <= count else WAKING)
    taken[0] = 0


@kernel
def wake_beyond(crew):
    """Let helpers that sleep, and of which there are too many, see it."""
    header = data(crew)
    for row in range(read(header, LIMIT) + 1, len(crew)):
        helper = shift(header, row * WORDS)
        if exchange(helper, STATE, ASLEEP, READY):
            _release(get(header, RELEASE), get(helper, LOCK))


@intrinsic
def _release(typing: Any, function: Any, lock: Any) -> Any:
    """Let the thread go on that waits for a lock of the interpreter, which needs no GIL for it."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [args[1].type])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), emit


@intrinsic
def _acquire(typing: Any, function: Any, lock: Any) -> Any:
    """Wait for a lock of the interpreter, asleep."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(I32, [args[1].type, I32])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1], I32(1)])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), emit


def _make_crew() -> np.ndarray:
    """The rows of all helpers that there can be, none of which has begun, in memory that is never freed."""
    words = np.zeros((MOST + 1) * WORDS, np.int64)
    crew = words[-words.ctypes.data % (8 * WORDS) // 8 :][: MOST * WORDS].reshape(MOST, WORDS)
    for word, name in ((ACQUIRE, "PyThread_acquire_lock"), (RELEASE, "PyThread_release_lock")):
        crew[0, word] = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    for word, function in functions_of_system().items():
        crew[0, word] = function
    address, tick = system_clock()
    crew[0, CLOCK] = address
    for word, seconds in ((SPIN_TICKS, SPIN), (BURST_TICKS, BURST), (PAUSE_TICKS, PAUSE), (MOST_TICKS, LONGEST_PAUSE)):
        crew[0, word] = seconds / tick
    return crew


CREW = _make_crew()
ADDRESS = CREW.ctypes.data


_locks: dict[int, int] = {}


def prepare(row: int) -> None:
    """Give a helper the lock that it sleeps behind, once in the life of a process, and a call the code to share it."""
    CREW[0, SHARE_AT] = _SHARE.address(np.int64)
    if row not in _locks:
        lock = _allocate_lock()
        _acquire_lock(lock, 1)
        _locks.setdefault(row, lock)  # another thread may be here too
    CREW[row, LOCK] = _locks[row]


def warm_up() -> None:
    """Compile, or load, what helpers and those who call them need."""
    crew, none = np.zeros((2, WORDS), np.int64), np.zeros(1, np.int64)
    crew[0], crew[1, STATE] = CREW[0], CALLED
    _SHARE.address(np.int64)
    attend(crew, 1)
    enlist(crew, 1)
    claim_helpers(crew, none, 0)
    call_helpers(crew, none, 0)
    wake_beyond(crew)


def forget(crew: np.ndarray) -> None:
    """Have no helpers, in a child of a process that had some."""
    crew[1:, STATE], crew[1:, IS_TAKEN_OUT] = AWAY, 0
    _locks.clear()


_allocate_lock, _acquire_lock = ctypes.pythonapi.PyThread_allocate_lock, ctypes.pythonapi.PyThread_acquire_lock
_allocate_lock.restype, _acquire_lock.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int)
