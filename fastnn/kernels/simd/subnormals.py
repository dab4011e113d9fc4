"""Subnormal numbers count as zero inside training and inference: on many CPUs each one costs some 150 cycles.

The moments of a unit that has died decay into them and stay there, since 0.9 times the smallest of them rounds to
itself, and so do the probabilities of a network that is sure of itself: a converged network trains up to 13 times
slower than a fresh one. The flag belongs to a thread and holds while ``flushed`` runs; functions on arrays keep
subnormals exact.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.core.imputils import fix_returning_optional
from numba.extending import intrinsic

from ..compiler.cpu import target
from .vector import I32, I64, call_ir

# MXCSR: results flush to zero (bit 15), operands count as zero (bit 6). FPCR: both (bit 24).
_X86_FLUSH = 1 << 15 | 1 << 6
_ARM_FLUSH = 1 << 24


@intrinsic
def flushed(typing: Any, function: Any, arguments: Any) -> Any:
    """Call a compiled function with the arguments of a tuple while this thread takes subnormal numbers for zero.

    However the function ends, an index that is out of bounds included, the thread's register is as it was.
    """
    inner = function.get_call_type(typing, tuple(arguments), {})

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        compiled = function.dispatcher.overloads[inner.args]
        context.active_code_library.add_linking_library(compiled.library)
        values = cgutils.unpack_tuple(builder, args[1])
        before = _begin(builder)
        status, result = context.call_internal_no_propagate(builder, compiled.fndesc, inner, values)
        _end(builder, before)
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return fix_returning_optional(context, builder, inner, status, result)

    return inner.return_type(function, arguments), emit


def _begin(builder: Any) -> Any:
    """Set the flag, and return what ``_end`` needs to put it back."""
    cpu = target()[0]
    if cpu.startswith(("x86_64", "amd64")):
        # llvm.x86.sse.ldmxcsr reads the register's value from memory.
        before, now = (cgutils.alloca_once(builder, I32) for _ in range(2))
        call_ir(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), [_bytes(builder, before)])
        builder.store(builder.or_(builder.load(before), I32(_X86_FLUSH)), now)
        call_ir(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [_bytes(builder, now)])
        return before
    if cpu.startswith(("aarch64", "arm64")):
        before = call_ir(builder, "llvm.aarch64.get.fpcr", I64, [])
        call_ir(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), [builder.or_(before, I64(_ARM_FLUSH))])
        return before
    return None


def _end(builder: Any, before: Any) -> None:
    cpu = target()[0]
    if cpu.startswith(("x86_64", "amd64")):
        call_ir(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [_bytes(builder, before)])
    elif cpu.startswith(("aarch64", "arm64")):
        call_ir(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), [before])


def _bytes(builder: Any, pointer: Any) -> Any:
    return builder.bitcast(pointer, ir.IntType(8).as_pointer())
