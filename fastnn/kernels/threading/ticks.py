"""The clock of the system inside compiled code, called through its address, which every process has another of."""

import ctypes
import functools
import os
import time
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..simd.vector import I32, I64


@functools.cache
def system_clock() -> tuple[int, float]:
    """The address of the function that ``ticks`` calls, and the seconds of a tick."""
    if os.name == "nt":
        function, tick = ctypes.windll.kernel32.QueryPerformanceCounter, time.get_clock_info("perf_counter").resolution
    else:
        function, tick = ctypes.CDLL(None).clock_gettime, 1e-9
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0), tick


@intrinsic
def ticks(typing: Any, address: Any) -> Any:
    """The ticks of QueryPerformanceCounter on Windows, elsewhere the nanoseconds of clock_gettime."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = cgutils.alloca_once(builder, I64, size=2)
        taken = [place] if os.name == "nt" else [I32(time.CLOCK_MONOTONIC), place]
        kind = ir.FunctionType(I32, [value.type for value in taken])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), taken)
        first, second = (builder.load(builder.gep(place, [I64(i)])) for i in range(2))
        return first if os.name == "nt" else builder.add(builder.mul(first, I64(1_000_000_000)), second)

    return types.int64(types.intp), emit
