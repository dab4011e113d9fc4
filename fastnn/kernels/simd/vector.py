"""Vectors of this CPU's width as a Numba type, so that kernels are written as loops over vectors.

Inside compiled code ``load(p, i)`` gives a vector of as many elements as fit this CPU, operators work elementwise with
vectors and scalars, and the ``_part`` forms touch only the first ``n`` elements. Pointers are typed and step by
elements. LLVM's own vectoriser is not relied on: it stays at 256 bits on several CPUs and has no vectorised exp.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models, register_default
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin

from ..compiler.cpu import ISA
from ..compiler.jit import FASTMATH

I32, I64 = ir.IntType(32), ir.IntType(64)


class Vector(types.Type):
    """``lanes`` values of ``dtype``, or of bool for the result of a comparison."""

    def __init__(self, dtype: Any, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"{type(self).__name__}({dtype}, {lanes})")

    @property
    def compared(self) -> Any:
        """The type of a comparison."""
        return Vector(types.boolean, self.lanes)


@register_default(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector in LLVM."""

    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, llvm_vector(vector.dtype, vector.lanes))


def lanes_of(dtype: Any) -> int:
    """How many elements of a Numba float type a vector holds."""
    return ISA.lanes(dtype.bitwidth // 8)


def vector_of(dtype: Any) -> Vector:
    """The vector type of this CPU for a Numba float type."""
    return Vector(dtype, lanes_of(dtype))


def llvm_scalar(dtype: Any) -> Any:
    """The LLVM type of a Numba float or bool."""
    return {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.boolean: ir.IntType(1)}[dtype]


def llvm_vector(dtype: Any, lanes: int) -> Any:
    """The LLVM type of a vector, or of its one element where it has no lanes."""
    return ir.VectorType(llvm_scalar(dtype), lanes) if lanes else llvm_scalar(dtype)


def splat_ir(builder: Any, x: Any, lanes: int) -> Any:
    """All lanes equal to the scalar x."""
    if not lanes:
        return x
    undefined = ir.Constant(ir.VectorType(x.type, lanes), ir.Undefined)
    one = builder.insert_element(undefined, x, I32(0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def call_ir(builder: Any, name: str, result: Any, args: list[Any]) -> Any:
    """Call an LLVM intrinsic by its full name: llvmlite's declare_intrinsic does not mangle vector types."""
    kind = ir.FunctionType(result, [arg.type for arg in args])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, args)


def suffix(dtype: Any, lanes: int) -> str:
    """The mangled name of a vector type in an LLVM intrinsic."""
    return f"v{lanes}f{dtype.bitwidth}" if lanes else f"f{dtype.bitwidth}"


def part_mask_ir(builder: Any, n: Any, lanes: int) -> Any:
    """A mask of the first n lanes."""
    iota = ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))
    return builder.icmp_signed("<", iota, splat_ir(builder, n, lanes))


def load_ir(builder: Any, dtype: Any, p: Any, mask: Any = None, fill: Any = None) -> Any:
    """Load an unaligned vector from p, where the mask says so."""
    lanes, align = lanes_of(dtype), dtype.bitwidth // 8
    kind = llvm_vector(dtype, lanes)
    p = builder.bitcast(p, kind.as_pointer())
    if mask is None:
        return builder.load(p, align=align)
    fill = ir.Constant(kind, [0.0] * lanes) if fill is None else fill
    return call_ir(builder, f"llvm.masked.load.{suffix(dtype, lanes)}.p0", kind, [p, I32(align), mask, fill])


def store_ir(builder: Any, dtype: Any, value: Any, p: Any, mask: Any = None) -> None:
    """Store an unaligned vector to p, where the mask says so."""
    lanes, align = lanes_of(dtype), dtype.bitwidth // 8
    p = builder.bitcast(p, value.type.as_pointer())
    if mask is None:
        builder.store(value, p, align=align)
    else:
        name = f"llvm.masked.store.{suffix(dtype, lanes)}.p0"
        call_ir(builder, name, ir.VoidType(), [value, p, I32(align), mask])


def fma_ir(builder: Any, dtype: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, fused where the CPU can."""
    return call_ir(builder, f"llvm.fmuladd.{suffix(dtype, getattr(a.type, 'count', 0))}", a.type, [a, b, c])


# Operators


def _operator(op: Callable[[Any, Any], Any], emit: Callable[[Any, Any, Any], Any], compares: bool = False) -> None:
    """Give vectors the operator ``op``, mixed with scalars too, by the LLVM instruction that ``emit`` builds."""

    @infer_global(op)
    class _Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            vectors = [arg for arg in args if isinstance(arg, Vector)]
            if len(args) != 2 or not vectors:
                return None
            vector = vectors[0]
            result = vector.compared if compares else vector
            return signature(result, *(vector if arg == vector else vector.dtype for arg in args))

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = next(kind.lanes for kind in sig.args if isinstance(kind, Vector))
        a, b = (
            arg if isinstance(kind, Vector) else splat_ir(builder, arg, lanes)
            for arg, kind in zip(args, sig.args, strict=True)
        )
        return emit(builder, a, b)

    for kinds in ((Vector, Vector), (Vector, types.Float), (types.Float, Vector)):
        lower_builtin(op, *kinds)(lower)


_operator(operator.add, lambda builder, a, b: builder.fadd(a, b, flags=FASTMATH))
_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b, flags=FASTMATH))
_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b, flags=FASTMATH))
_operator(operator.truediv, lambda builder, a, b: builder.fdiv(a, b))
_operator(operator.gt, lambda builder, a, b: builder.fcmp_ordered(">", a, b), compares=True)
_operator(operator.lt, lambda builder, a, b: builder.fcmp_ordered("<", a, b), compares=True)
_operator(operator.eq, lambda builder, a, b: builder.fcmp_ordered("==", a, b), compares=True)
_operator(operator.ne, lambda builder, a, b: builder.fcmp_unordered("!=", a, b), compares=True)


# Pointers


@intrinsic
def pointer(typing: Any, place: Any, like: Any) -> Any:
    """The pointer to where an address or a pointer points, with elements like those of ``like``, or ``like`` itself."""
    result = like if isinstance(like, types.CPointer) else types.CPointer(like)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        cast = builder.bitcast if isinstance(place, types.CPointer) else builder.inttoptr
        return cast(args[0], context.get_value_type(result))

    return result(place if isinstance(place, types.CPointer) else types.intp, like), emit


@intrinsic
def data(typing: Any, array: Any) -> Any:
    """The pointer to the first element of an array."""
    result = types.CPointer(array.dtype)
    return result(array), lambda context, builder, sig, args: context.make_array(array)(context, builder, args[0]).data


@intrinsic
def integer(typing: Any, p: Any) -> Any:
    """The address of a pointer."""
    return types.intp(p), lambda context, builder, sig, args: builder.ptrtoint(args[0], I64)


@intrinsic
def shift(typing: Any, p: Any, n: Any) -> Any:
    """The pointer n elements further."""
    return p(p, types.intp), lambda context, builder, sig, args: builder.gep(args[0], [args[1]])


@intrinsic
def get(typing: Any, p: Any, i: Any) -> Any:
    """The element p[i]."""
    return p.dtype(p, types.intp), lambda context, builder, sig, args: builder.load(builder.gep(args[0], [args[1]]))


@intrinsic
def put(typing: Any, p: Any, i: Any, x: Any) -> Any:
    """p[i] = x."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(p, types.intp, p.dtype), emit


@intrinsic(prefer_literal=True)
def scratch(typing: Any, like: Any, n: Any) -> Any:
    """Memory for n elements, a constant, like those of a pointer, until the function ends."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return cgutils.alloca_once(builder, context.get_value_type(like.dtype), size=I64(n.literal_value))

    return like(like, n), emit


# Loads, stores, arithmetic


@intrinsic
def lanes(typing: Any, p: Any) -> Any:
    """How many elements of p's type a vector holds."""
    return types.intp(p), lambda context, builder, sig, args: I64(lanes_of(p.dtype))


@intrinsic
def itemsize(typing: Any, p: Any) -> Any:
    """The bytes of an element."""
    return types.intp(p), lambda context, builder, sig, args: I64(p.dtype.bitwidth // 8)


@intrinsic
def load(typing: Any, p: Any, i: Any) -> Any:
    """The vector p[i], p[i + 1], ..."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return load_ir(builder, p.dtype, builder.gep(args[0], [args[1]]))

    return vector_of(p.dtype)(p, types.intp), emit


@intrinsic
def load_part(typing: Any, p: Any, i: Any, n: Any, fill: Any) -> Any:
    """The vector of p[i] ... p[i + n - 1], its other lanes equal to ``fill``."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        base, at, count, rest = args
        width = lanes_of(p.dtype)
        mask = part_mask_ir(builder, count, width)
        return load_ir(builder, p.dtype, builder.gep(base, [at]), mask, splat_ir(builder, rest, width))

    return vector_of(p.dtype)(p, types.intp, types.intp, p.dtype), emit


@intrinsic
def store(typing: Any, p: Any, i: Any, x: Any) -> Any:
    """p[i], p[i + 1], ... = the vector x."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        store_ir(builder, p.dtype, args[2], builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(p, types.intp, vector_of(p.dtype)), emit


@intrinsic
def store_part(typing: Any, p: Any, i: Any, n: Any, x: Any) -> Any:
    """p[i] ... p[i + n - 1] = the first n lanes of x."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        base, at, count, value = args
        mask = part_mask_ir(builder, count, lanes_of(p.dtype))
        store_ir(builder, p.dtype, value, builder.gep(base, [at]), mask)
        return context.get_dummy_value()

    return types.void(p, types.intp, types.intp, vector_of(p.dtype)), emit


def _prefetch(doc: str, write: int, locality: int) -> Any:
    """The intrinsic that asks for a cache line, to be kept in the L1 cache (3), or L2 (2)."""

    def typed(typing: Any, p: Any, i: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            place = builder.bitcast(builder.gep(args[0], [args[1]]), ir.IntType(8).as_pointer())
            of_data = I32(1)
            call_ir(builder, "llvm.prefetch.p0", ir.VoidType(), [place, I32(write), I32(locality), of_data])
            return context.get_dummy_value()

        return types.void(p, types.intp), emit

    typed.__doc__ = doc
    return intrinsic(typed)


prefetch = _prefetch("Ask for the cache line of p[i], which need not exist.", 0, 2)
prefetch_to_write = _prefetch("Ask for the cache line of p[i], which need not exist and is written soon.", 1, 3)


@intrinsic
def splat(typing: Any, p: Any, x: Any) -> Any:
    """A vector of p's type with x in every lane."""
    result = vector_of(p.dtype)
    return result(p, p.dtype), lambda context, builder, sig, args: splat_ir(builder, args[1], result.lanes)


@intrinsic
def one_hot(typing: Any, p: Any, j: Any) -> Any:
    """A vector of p's type with 1 in lane j and 0 in the others."""
    result = vector_of(p.dtype)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = llvm_vector(p.dtype, result.lanes)
        iota = ir.Constant(ir.VectorType(I64, result.lanes), list(range(result.lanes)))
        hot = builder.icmp_signed("==", iota, splat_ir(builder, args[1], result.lanes))
        return builder.select(hot, ir.Constant(kind, [1.0] * result.lanes), ir.Constant(kind, [0.0] * result.lanes))

    return result(p, types.intp), emit


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, fused where the CPU can; b and c may be scalars."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        x, *rest = args
        y, z = (
            arg if isinstance(kind, Vector) else splat_ir(builder, arg, a.lanes)
            for arg, kind in zip(rest, sig.args[1:], strict=True)
        )
        return fma_ir(builder, a.dtype, x, y, z)

    return a(a, *(a if isinstance(kind, Vector) else a.dtype for kind in (b, c))), emit


@intrinsic
def select(typing: Any, condition: Any, a: Any, b: Any) -> Any:
    """A where the condition holds, else b; one of them may be a scalar."""
    result = a if isinstance(a, Vector) else b

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        x, y = (
            arg if isinstance(kind, Vector) else splat_ir(builder, arg, result.lanes)
            for arg, kind in zip(args[1:], sig.args[1:], strict=True)
        )
        return builder.select(args[0], x, y)

    return result(condition, *(result if isinstance(kind, Vector) else result.dtype for kind in (a, b))), emit


def _unary(name: str, doc: str) -> Any:
    """The intrinsic of one vector that LLVM calls ``name``."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = sig.return_type
        return call_ir(builder, f"llvm.{name}.{suffix(vector.dtype, vector.lanes)}", args[0].type, args)

    def typed(typing: Any, x: Any) -> Any:
        return x(x), emit

    typed.__name__, typed.__doc__ = name, doc
    return intrinsic(typed)


sqrt = _unary("sqrt", "The square root of every lane.")


@intrinsic
def root_estimate(typing: Any, x: Any) -> Any:
    """About 1 / √x, with a relative error of at most 2^-14; an instruction of AVX-512."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zeros, everywhere = ir.Constant(args[0].type, [0.0] * x.lanes), ir.Constant(ir.IntType(x.lanes), -1)
        name = f"llvm.x86.avx512.rsqrt14.{'ps' if x.dtype == types.float32 else 'pd'}.512"
        return call_ir(builder, name, args[0].type, [args[0], zeros, everywhere])

    return x(x), emit


absolute = _unary("fabs", "The absolute value of every lane.")


@intrinsic
def copysign(typing: Any, x: Any, sign: Any) -> Any:
    """|x| with the sign of ``sign``."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return call_ir(builder, f"llvm.copysign.{suffix(x.dtype, x.lanes)}", args[0].type, args)

    return x(x, x), emit


def reduce_ir(builder: Any, x: Any, combine: Callable[[Any, Any, Any], Any]) -> Any:
    """A horizontal reduction as a fixed tree: halves are combined until one lane is left."""
    while x.type.count > 1:
        half = x.type.count // 2
        undefined = ir.Constant(x.type, ir.Undefined)
        low, high = (
            builder.shuffle_vector(x, undefined, ir.Constant(ir.VectorType(I32, half), list(range(at, at + half))))
            for at in (0, half)
        )
        x = combine(builder, low, high)
    return builder.extract_element(x, I32(0))


def _reduction(doc: str, combine: Callable[[Any, Any, Any], Any]) -> Any:
    def typed(typing: Any, x: Any) -> Any:
        return x.dtype(x), lambda context, builder, sig, args: reduce_ir(builder, args[0], combine)

    typed.__doc__ = doc
    return intrinsic(typed)


reduce_add = _reduction("The sum of the lanes.", lambda builder, a, b: builder.fadd(a, b))
reduce_max = _reduction(
    "The largest lane; not defined where a lane is NaN.",
    lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b),
)
