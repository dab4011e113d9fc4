"""A barrier between the threads that run one kernel: atomics, a short spin, then yielding the CPU."""

import ctypes
import os
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..compiler.cpu import target
from ..compiler.jit import inline
from ..simd.vector import I32, I64, call_ir

# Turns of spinning before a thread yields: about the time of a step of a small network.
_SPINS = 2000
ABORTED = 1


@inline
def barrier(sync, n_threads):
    """Wait until all of ``n_threads`` threads are here, and return whether they came.

    ``sync`` points to int64: the arrivals, whether a thread will never come, and, a cache line on, the generation.
    """
    if n_threads > 1:
        generation = _read(sync, 8)
        if _add(sync, 0) == n_threads - 1:
            _write(sync, 0, 0)
            _write(sync, 8, generation + 1)
        else:
            spins = 0
            while _read(sync, 8) == generation:
                if _read(sync, ABORTED) != 0:
                    return False
                spins += 1
                _pause(spins > _SPINS)
    return True


@intrinsic
def _read(typing: Any, p: Any, i: Any) -> Any:
    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(builder.gep(args[0], [args[1]]), "acquire", 8)

    return types.int64(p, types.intp), emit


@intrinsic
def _write(typing: Any, p: Any, i: Any, x: Any) -> Any:
    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], builder.gep(args[0], [args[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(p, types.intp, types.int64), emit


@intrinsic
def _add(typing: Any, p: Any, i: Any) -> Any:
    """Add 1 and give the value before."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.gep(args[0], [args[1]]), I64(1), "acq_rel")

    return types.int64(p, types.intp), emit


def _name_of_yield(system: str) -> str:
    """The function by which a thread gives its CPU away, found by LLVM when code is linked, cached code too."""
    if system != "nt":
        return "sched_yield"
    function = ctypes.windll.kernel32.SwitchToThread
    llvm.add_symbol("SwitchToThread", ctypes.cast(function, ctypes.c_void_p).value)
    return "SwitchToThread"


_YIELD = _name_of_yield(os.name)


def _pause_ir(builder: Any, long: Any, architecture: str) -> None:
    if architecture in ("x86_64", "amd64"):
        call_ir(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
    elif architecture in ("aarch64", "arm64"):
        # The hint made for this, yield, does nothing on cores that run one thread each, and the turns of spinning would
        # be over at once. Emptying the pipeline takes about as long as x86's pause.
        whole_system = I32(15)
        call_ir(builder, "llvm.aarch64.isb", ir.VoidType(), [whole_system])
    with builder.if_then(long, likely=False):
        call_ir(builder, _YIELD, I32, [])


@intrinsic
def _pause(typing: Any, long: Any) -> Any:
    """Tell the CPU that this thread spins, or give the CPU away where ``long``."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _pause_ir(builder, args[0], architecture=target()[0].split("-")[0])
        return context.get_dummy_value()

    return types.void(types.boolean), emit
