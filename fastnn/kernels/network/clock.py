"""A stopwatch inside compiled code: each lap adds the seconds since the last one to a cell of a table.

The clock of the system is called through its address, which is another one in every process and so is handed in.
"""

import ctypes
import functools
import os
import time
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..compiler.jit import inline
from ..simd.vector import I32, I64, get, put

# The columns of the table: an op's row, and the last row, for what belongs to no op.
FORWARD, BACKWARD, UPDATE = range(3)
GATHER, LOSS, REST = range(3)


class Clock(NamedTuple):
    """The table of seconds, (0, 0) for no laps at all; the ticks of the last lap; where the clock is, and its tick."""

    seconds: np.ndarray
    last: np.ndarray
    address: int
    tick: float


OFF = Clock(np.empty((0, 0)), np.zeros(1, np.int64), 0, 0.0)


def clock_of(seconds: np.ndarray | None) -> Clock:
    """A clock that adds to ``seconds``, or the one that is off for None."""
    return OFF if seconds is None else Clock(seconds, np.zeros(1, np.int64), *_system_clock())


@functools.cache
def _system_clock() -> tuple[int, float]:
    """The address of the function that ``_ticks`` calls, and the seconds of a tick."""
    if os.name == "nt":
        function, tick = ctypes.windll.kernel32.QueryPerformanceCounter, time.get_clock_info("perf_counter").resolution
    else:
        function, tick = ctypes.CDLL(None).clock_gettime, 1e-9
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0), tick


@inline
def begin(clock):
    """Begin the first lap."""
    if clock.seconds.rows != 0:
        put(clock.last.p, 0, _ticks(clock.address))


@inline
def lap(clock, row, column):
    """Add the time since the last lap to a cell, a negative row counting from the end."""
    seconds = clock.seconds
    if seconds.rows != 0:
        now, place = _ticks(clock.address), (row + seconds.rows if row < 0 else row) * seconds.cols + column
        put(seconds.p, place, get(seconds.p, place) + (now - get(clock.last.p, 0)) * clock.tick)
        put(clock.last.p, 0, now)


@intrinsic
def _ticks(typing: Any, address: Any) -> Any:
    """The ticks of QueryPerformanceCounter on Windows, elsewhere the nanoseconds of clock_gettime."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = cgutils.alloca_once(builder, I64, size=2)
        taken = [place] if os.name == "nt" else [I32(time.CLOCK_MONOTONIC), place]
        kind = ir.FunctionType(I32, [value.type for value in taken])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), taken)
        first, second = (builder.load(builder.gep(place, [I64(i)])) for i in range(2))
        return first if os.name == "nt" else builder.add(builder.mul(first, I64(1_000_000_000)), second)

    return types.int64(types.intp), emit
