"""Atomic numbers in memory that threads share, and how a thread waits for one to change."""

import ctypes
import os
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..compiler.cpu import target
from ..simd.vector import I32, call_ir


@intrinsic
def read(typing: Any, p: Any, i: Any) -> Any:
    """p[i], and all that was written before it was."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(builder.gep(args[0], [args[1]]), "acquire", 8)

    return types.int64(p, types.intp), emit


@intrinsic
def write(typing: Any, p: Any, i: Any, x: Any) -> Any:
    """p[i] = x, after all that was written before."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], builder.gep(args[0], [args[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(p, types.intp, types.int64), emit


@intrinsic
def add(typing: Any, p: Any, i: Any, x: Any) -> Any:
    """Add x to p[i] and give the value before."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.gep(args[0], [args[1]]), args[2], "acq_rel")

    return types.int64(p, types.intp, types.int64), emit


@intrinsic
def exchange(typing: Any, p: Any, i: Any, expected: Any, new: Any) -> Any:
    """Write ``new`` to p[i] if it is as expected, and tell whether it was."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.gep(args[0], [args[1]])
        return builder.extract_value(builder.cmpxchg(place, args[2], args[3], "acq_rel", "acquire"), 1)

    return types.boolean(p, types.intp, types.int64, types.int64), emit


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
def pause(typing: Any, long: Any) -> Any:
    """Tell the CPU that this thread spins, or give the CPU away where ``long``."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _pause_ir(builder, args[0], architecture=target()[0].split("-")[0])
        return context.get_dummy_value()

    return types.void(types.boolean), emit
