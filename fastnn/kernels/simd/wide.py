"""Vectors of float64 with a lane for each lane of another vector, for what is counted in float64 network by network."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .vector import I32, Vector, call_ir, lanes_of, part_mask_ir

_DOUBLE = ir.DoubleType()


@intrinsic
def widened(typing: Any, x: Any) -> Any:
    """The same numbers in float64."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return args[0] if x.dtype == types.float64 else builder.fpext(args[0], ir.VectorType(_DOUBLE, x.lanes))

    return Vector(types.float64, x.lanes)(x), emit


@intrinsic
def narrowed(typing: Any, x: Any, like: Any) -> Any:
    """The same numbers, rounded to the dtype of what a pointer points to."""
    result = Vector(like.dtype, x.lanes)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(ir.FloatType(), x.lanes)
        return args[0] if like.dtype == types.float64 else builder.fptrunc(args[0], kind)

    return result(x, like), emit


@intrinsic
def load_wide(typing: Any, p: Any, i: Any, like: Any) -> Any:
    """The float64 p[i], p[i + 1], ..., as many as a vector of what ``like`` points to has lanes."""
    width = lanes_of(like.dtype)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.gep(args[0], [args[1]])
        return builder.load(builder.bitcast(place, ir.VectorType(_DOUBLE, width).as_pointer()), align=8)

    return Vector(types.float64, width)(types.CPointer(types.float64), types.intp, like), emit


@intrinsic
def load_wide_part(typing: Any, p: Any, i: Any, n: Any, like: Any) -> Any:
    """The first n lanes of ``load_wide``, and zeros."""
    width = lanes_of(like.dtype)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(_DOUBLE, width)
        place = builder.bitcast(builder.gep(args[0], [args[1]]), kind.as_pointer())
        mask, zeros = part_mask_ir(builder, args[2], width), ir.Constant(kind, [0.0] * width)
        return call_ir(builder, f"llvm.masked.load.v{width}f64.p0", kind, [place, I32(8), mask, zeros])

    of_doubles = types.CPointer(types.float64)
    return Vector(types.float64, width)(of_doubles, types.intp, types.intp, like), emit


@intrinsic
def store_wide(typing: Any, p: Any, i: Any, x: Any) -> Any:
    """p[i], p[i + 1], ... = the lanes of x, all of them float64."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.gep(args[0], [args[1]])
        builder.store(args[2], builder.bitcast(place, args[2].type.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(types.CPointer(types.float64), types.intp, x), emit


@intrinsic
def rounded_product(typing: Any, a: Any, b: Any) -> Any:
    """a b, which nothing that is added to it makes a fused multiply-add: what scalar code does."""
    return a(a, b), lambda context, builder, sig, args: builder.fmul(*args)
