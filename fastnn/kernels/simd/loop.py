"""Loops over the elements of arrays around a user's scalar function, which LLVM makes loops over vectors.

Each reads inputs at i and writes outputs at i alone, so it may be told that no turn depends on another, even where an
output is an input. What is left of the last vector goes through memory of the loop's own: nothing is read or written
beyond the end, and whatever the function returns is a value, never a place.
"""

import functools
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from llvmlite.ir.values import MDValue
from numba import typeof, types
from numba.core import cgutils
from numba.core.errors import NumbaError
from numba.extending import intrinsic

from ..compiler.cpu import ISA
from ..compiler.jit import UsersCompiler, _Compiler, inline
from ..compiler.libraries import Library
from .element import Element
from .vector import I64, lanes_of, load_ir, part_mask_ir, splat_ir, store_ir

# What has memory behind it, which code without bounds checks could read or write past.
_MEMORY = types.Buffer, types.RawPointer, types.CPointer, types.List, types.ListType, types.Record, types.UnicodeType


_LOOP = "fastnn.loop"


class _OneLibrary(Library):
    """Code in which a loop has no calls but of what is not compiled here, or LLVM could not make vectors of it."""

    def _optimize_final_module(self) -> None:
        if _can_force_inlining():
            for function in self._final_module.functions:
                if not function.is_declaration and not function.name.startswith(_LOOP):
                    function.add_function_attribute("alwaysinline")
        super()._optimize_final_module()


@functools.cache
def _can_force_inlining() -> bool:
    """Whether llvmlite adds attributes to functions: 0.46 adds them to what they return, and LLVM refuses that.

    Without it what LLVM inlines by itself has to do, which is right too, but may be slower.
    """
    module = llvm.parse_assembly("define void @f() { ret void }")
    next(iter(module.functions)).add_function_attribute("alwaysinline")
    try:
        module.verify()
    except RuntimeError:
        return False
    return True


class OneCompiler(_Compiler):
    """Compiles a function with loops around a user's."""

    library = _OneLibrary


class Scalar:
    """A user's scalar function as compiled code takes it: of elements, or where that does not compile, of numbers.

    ``function`` has it as ``compilable``, and says what it takes, elements and numbers behind them, what it returns,
    and how errors call it.
    """

    def __init__(self, function: Any) -> None:
        self._function, self._label, self._returns = function.compilable, function.label, function.returns
        self._arguments = function.elements, function.numbers
        self._defaults = [(typeof(value), value) for value in function.defaults]
        self._compiled: dict[Any, Any] = {}

    def compiled(self, dtype: Any) -> Any:
        """The code for elements of a dtype; TypeError if there is none."""
        if dtype not in self._compiled:
            try:
                self._compiled[dtype] = self._compile(Element(dtype))
            except NumbaError:
                try:
                    self._compiled[dtype] = self._compile(dtype)
                except NumbaError as error:
                    raise TypeError(f"{self._label} does not compile: {_reason(error)}") from error
        return self._compiled[dtype]

    def _compile(self, element: Any) -> Any:
        elements, numbers = self._arguments
        callees = []

        def callee(function: Any) -> Any:
            callees.append(inline(function, UsersCompiler))
            return callees[-1]

        dispatcher = callee(self._function(callee))
        defaults = (kind for kind, _ in self._defaults)
        dispatcher.compile((*[element] * elements, *[types.float64] * numbers, *defaults))
        (compiled,) = dispatcher.overloads.values()
        result = compiled.signature.return_type
        values = tuple(result) if isinstance(result, types.BaseTuple) else (result,)
        is_real = all(isinstance(value, (Element, types.Float, types.Integer, types.Boolean)) for value in values)
        if not is_real or len(values) != self._returns:
            wanted = "a real number" if self._returns == 1 else f"a tuple of {self._returns} real numbers"
            raise TypeError(f"{self._label} returns {_named(result)}, expected {wanted}")
        if "@numba_gil_ensure" in compiled.library.get_llvm_str():  # to print, say; nobody here could wait for it
            raise TypeError(f"{self._label} calls Python while it runs, expected a function of numbers alone")
        for each in (code for one in callees for code in one.overloads.values()):
            for kind in each.type_annotation.typemap.values():
                if isinstance(kind, _MEMORY):
                    raise TypeError(f"{self._label} uses {_named(kind)}, expected a function of numbers alone")
        return compiled

    def emit(self, context: Any, builder: Any, dtype: Any, values: list[Any], numbers: list[Any]) -> list[Any]:
        """Call it with elements of a dtype and numbers, and return what it returns, rounded to the dtype.

        Where it raises, as it may for a whole number divided by 0, the result is NaN.
        """
        compiled = self.compiled(dtype)
        context.active_code_library.add_linking_library(compiled.library)
        signature = compiled.signature
        defaults = (context.get_constant_generic(builder, kind, value) for kind, value in self._defaults)
        values = [*values, *numbers, *defaults]
        callee = context.declare_function(builder.module, compiled.fndesc)
        status, result = context.call_conv.call_function(builder, callee, signature.return_type, signature.args, values)
        kind = signature.return_type
        if isinstance(kind, types.BaseTuple):
            results = [*zip(cgutils.unpack_tuple(builder, result), kind, strict=True)]
        else:
            results = [(result, kind)]
        nan = ir.Constant(context.get_value_type(dtype), float("nan"))
        return [builder.select(status.is_ok, context.cast(builder, value, of, dtype), nan) for value, of in results]


def _named(kind: Any) -> str:
    """A type in the words of Python."""
    kind = types.unliteral(kind)
    names = (
        *((types.NoneType, "None"), (types.UnicodeType, "text"), (types.Complex, "a complex number")),
        *(((Element, types.Number), "a number"), (types.Array, "an array"), ((types.List, types.ListType), "a list")),
    )
    for numba_type, name in names:
        if isinstance(kind, numba_type):
            return name
    if isinstance(kind, types.Optional):
        return f"None in some cases and {_named(kind.type)} in others"
    if isinstance(kind, types.BaseTuple):
        return f"a tuple of {len(kind)}"
    return str(kind)


def _reason(error: NumbaError) -> str:
    """The line of Numba's report that says most."""
    lines = [line.strip() for line in str(error).splitlines()]
    noise = ("Failed in", "During:", "File ", "-", "raised from", "There are", "def ", "<source")
    telling = [line for line in lines if line and not line.startswith(noise)]
    return telling[0].removeprefix(">>> ") if telling else type(error).__name__


# Builds the outputs from one element of each input and the numbers: (context, builder, dtype, values, numbers).
Step = Callable[[Any, Any, Any, list[Any], list[Any]], list[Any]]


def loop(step: Step) -> Any:
    """A compiled function (n, inputs, outputs, numbers) that does a step for each of n elements.

    ``inputs`` and ``outputs`` are tuples of pointers, ``numbers`` a tuple of float64.
    """

    @intrinsic
    def each(typing: Any, n: Any, inputs: Any, outputs: Any, numbers: Any) -> Any:
        dtype = inputs[0].dtype
        pointers = len(inputs), len(outputs)

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            places = [*cgutils.unpack_tuple(builder, args[1]), *cgutils.unpack_tuple(builder, args[2])]
            values = cgutils.unpack_tuple(builder, args[3]) if len(numbers) else []
            body = _body(context, builder, dtype, pointers, len(values), step)
            _in_parts(builder, dtype, args[0], places, pointers[0], lambda count, at: builder.call(
                body, [count, *at, *values]
            ))  # fmt: skip
            return context.get_dummy_value()

        return types.void(types.intp, inputs, outputs, numbers), emit

    return each


def _in_parts(builder: Any, dtype: Any, n: Any, places: list[Any], n_inputs: int, call: Any) -> None:
    """Call with the whole vectors of n elements where they lie, and with the rest in a vector of its own."""
    width = lanes_of(dtype)
    rest = builder.srem(n, I64(width))
    whole = builder.sub(n, rest)
    with builder.if_then(builder.icmp_signed(">", whole, I64(0))):
        call(whole, places)
    with builder.if_then(builder.icmp_signed(">", rest, I64(0))):
        mask = part_mask_ir(builder, rest, width)
        ends = [builder.gep(place, [whole]) for place in places]
        own = [cgutils.alloca_once(builder, place.type.pointee, size=width) for place in places]
        one = splat_ir(builder, ir.Constant(places[0].type.pointee, 1.0), width)
        for end, buffer in zip(ends[:n_inputs], own, strict=False):
            store_ir(builder, dtype, load_ir(builder, dtype, end, mask, one), buffer)
        call(I64(width), own)
        for end, buffer in zip(ends[n_inputs:], own[n_inputs:], strict=True):
            store_ir(builder, dtype, load_ir(builder, dtype, buffer), end, mask)


def _body(context: Any, builder: Any, dtype: Any, pointers: tuple[int, int], n_numbers: int, step: Step) -> ir.Function:
    """A function (count, pointers, numbers) with the loop, for a count that is a multiple of a vector and not 0."""
    pointer = context.get_value_type(types.CPointer(dtype))
    kind = ir.FunctionType(ir.VoidType(), [I64, *[pointer] * sum(pointers), *[ir.DoubleType()] * n_numbers])
    function = ir.Function(builder.module, kind, builder.module.get_unique_name(_LOOP))
    function.linkage = "internal"
    function.attributes.add("noinline")
    # Or LLVM would stay at 256 bits on several CPUs. llvmlite refuses what it does not know, this among it.
    set.add(function.attributes, f'"prefer-vector-width"="{max(128, ISA.bits)}"')
    count, *rest = function.args
    places, numbers = rest[: sum(pointers)], rest[sum(pointers) :]
    entry, turn, end = (function.append_basic_block(name) for name in ("entry", "turn", "end"))
    inner = ir.IRBuilder(entry)
    inner.branch(turn)
    inner.position_at_end(turn)
    i = inner.phi(I64)
    group = _Metadata(builder.module, [])
    loads = [inner.load(inner.gep(place, [i])) for place in places[: pointers[0]]]
    results = step(context, inner, dtype, loads, numbers)
    stores = [inner.store(x, inner.gep(p, [i])) for x, p in zip(results, places[pointers[0] :], strict=True)]
    for instruction in (*loads, *stores):
        instruction.set_metadata("llvm.access.group", group)
    following = inner.add(i, I64(1))
    i.add_incoming(I64(0), entry)
    i.add_incoming(following, inner.block)
    branch = inner.cbranch(inner.icmp_signed("<", following, count), turn, end)
    branch.set_metadata("llvm.loop", _independent(builder.module, group))
    inner.position_at_end(end)
    inner.ret_void()
    return function


class _Metadata(MDValue):
    """A node of metadata that is equal to no other."""

    def __init__(self, module: Any, operands: list[Any]) -> None:
        super().__init__(module, operands, str(len(module.metadata)))

    def descr(self, buf: Any) -> None:
        buf += ("distinct ",)
        super().descr(buf)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def _independent(module: Any, group: Any) -> Any:
    """What tells LLVM that the turns of a loop do not depend on each other, and to do one vector of them at a time.

    It is not told to make vectors at any rate: it does where it can, and would complain aloud where it cannot.
    """

    def property_of(name: str, *values: Any) -> Any:
        return module.add_metadata([ir.MetaDataString(module, f"llvm.loop.{name}"), *values])

    node = _Metadata(module, [])
    node.operands = (
        node,
        property_of("parallel_accesses", group),
        property_of("interleave.count", ir.Constant(ir.IntType(32), 1)),
    )
    return node


def user_call(function: Any) -> Step:
    """A step that calls a user's function, see ``Scalar``."""
    return Scalar(function).emit
