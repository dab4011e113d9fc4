"""Where a helper wakes: on another CPU than that of the thread that wakes it, if it may run on another.

Linux often wakes a thread on the CPU of the one that wakes it, as if this were about to wait. It works on, however, and
on machines of few CPUs milliseconds pass before the helper is moved to the idle one beside it. So who wakes a helper
takes its own CPU out of those that the helper may use, and the helper, once it is awake, puts it back.
"""

import ctypes
import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..compiler.jit import inline
from ..simd.vector import I32, I64, get, integer, put, scratch, shift

# Numbers of a helper's row: its thread for the system, whether a CPU was taken out, and the CPUs that it may use, a bit
# each. Where there are more CPUs than bits the system's functions fail, and nothing is done.
THREAD, IS_TAKEN_OUT, ALLOWED, _WORDS = 3, 4, 8, 8
# Numbers of the header: functions of the system, 0 where it is another than Linux.
GETCPU, GETAFFINITY, SETAFFINITY = 13, 14, 15


def functions_of_system() -> dict[int, int]:
    """The addresses for the header."""
    names = {GETCPU: "sched_getcpu", GETAFFINITY: "sched_getaffinity", SETAFFINITY: "sched_setaffinity"}
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not all(hasattr(libc, name) for name in names.values()):
        return dict.fromkeys(names, 0)
    return {word: ctypes.cast(libc[name], ctypes.c_void_p).value or 0 for word, name in names.items()}


@inline
def keep_off(header, helper):
    """Keep a helper that this thread is about to wake off the CPU of this thread."""
    cpu = _getcpu(get(header, GETCPU)) if get(header, GETCPU) != 0 else -1
    if cpu < 0 or cpu >= 64 * _WORDS:
        return
    allowed, others, some = shift(helper, ALLOWED), scratch(helper, _WORDS), 0
    if _affinity(get(header, GETAFFINITY), get(helper, THREAD), 8 * _WORDS, integer(allowed)) != 0:
        return
    for i in range(_WORDS):
        word = get(allowed, i)
        if i == cpu >> 6:
            word &= ~(1 << (cpu & 63))
        put(others, i, word)
        some |= word
    if some != 0 and _affinity(get(header, SETAFFINITY), get(helper, THREAD), 8 * _WORDS, integer(others)) == 0:
        put(helper, IS_TAKEN_OUT, 1)


@inline
def put_back(header, helper):
    """Let this thread, a helper that is awake, run wherever it could before."""
    if get(helper, IS_TAKEN_OUT) == 1:
        put(helper, IS_TAKEN_OUT, 0)
        _affinity(get(header, SETAFFINITY), 0, 8 * _WORDS, integer(shift(helper, ALLOWED)))


@intrinsic
def _getcpu(typing: Any, function: Any) -> Any:
    """The CPU that this thread runs on."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(I32, [])
        return builder.sext(builder.call(builder.inttoptr(args[0], kind.as_pointer()), []), I64)

    return types.int64(types.intp), emit


@intrinsic
def _affinity(typing: Any, function: Any, thread: Any, size: Any, place: Any) -> Any:
    """What sched_getaffinity or sched_setaffinity returns for a thread, 0 for this one, and the bits at an address."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function, thread, size, place = args
        kind = ir.FunctionType(I32, [I32, I64, I64])
        call = builder.inttoptr(function, kind.as_pointer())
        return builder.sext(builder.call(call, [builder.trunc(thread, I32), size, place]), I64)

    return types.int64(types.intp, types.intp, types.intp, types.intp), emit
