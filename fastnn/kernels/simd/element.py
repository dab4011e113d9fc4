"""One element of a vector as a Numba type: what a user's scalar function computes with.

An ``Element`` is a vector without lanes, so exp and its kin are those of ``vectormath``, branch-free, and LLVM makes
vectors of the loop around them. Numbers beside it take its dtype, as they do beside an array: ``0.5 * x`` of a float32
is a float32, where Numba would go on in float64. What is not written here for elements is left to Numba's scalars.
"""

import builtins
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import register_default
from numba.core.imputils import lower_cast
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from ..compiler.jit import FASTMATH, inline
from .vector import Vector, VectorModel, absolute, call_ir, copysign, select, suffix
from .vectormath import verf, vexp, vexpm1, vlog, vlog1p, vtanh


class Element(Vector):
    """A value of ``dtype``, to which numbers beside it are rounded."""

    def __init__(self, dtype: Any) -> None:
        super().__init__(dtype, 0)

    @property
    def compared(self) -> Any:
        """The type of a comparison."""
        return types.boolean

    def unify(self, typingctx: Any, other: Any) -> Any:
        """An element where a branch gives one and another a number."""
        return self if isinstance(other, NUMBERS) else None


NUMBERS = types.Number, types.Boolean
register_default(Element)(VectorModel)


@lower_cast(types.Number, Element)
@lower_cast(types.Boolean, Element)
def _from_number(context: Any, builder: Any, given: Any, element: Any, value: Any) -> Any:
    return context.cast(builder, value, types.unliteral(given), element.dtype)


@lower_cast(Element, types.Float)
@lower_cast(Element, types.Integer)
def _to_number(context: Any, builder: Any, element: Any, wanted: Any, value: Any) -> Any:
    return context.cast(builder, value, element.dtype, wanted)


def _typed(function: Any, arity: int, result: Callable[[Any], Any] = lambda element: element) -> None:
    """Let ``function`` take so many numbers, of which one at least is an element, as elements."""

    class _Typing(AbstractTemplate):
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            elements = [arg for arg in args if isinstance(arg, Element)]
            others = [arg for arg in args if not isinstance(arg, Element)]
            if kws or len(args) != arity or not elements or not all(isinstance(arg, NUMBERS) for arg in others):
                return None
            return signature(result(elements[0]), *[elements[0]] * arity)

    infer_global(function, types.Function(_Typing))  # as a decorator it asks for a module, which old ufuncs lack


def _lowered(
    function: Any, arity: int, emit: Callable[..., Any], result: Callable[[Any], Any] = lambda element: element
) -> None:
    """Give elements a function by the LLVM instructions that ``emit(builder, element, *values)`` builds."""
    _typed(function, arity, result)

    @lower_builtin(function, *[Element] * arity)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, sig.args[0], *args)


def _computed(function: Any, arity: int, compute: Any) -> None:
    """Give elements a function by a compiled one."""
    _typed(function, arity)

    @lower_builtin(function, *[Element] * arity)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = context.typing_context.resolve_value_type(compute)
        own = kind.get_call_type(context.typing_context, sig.args, {})
        return context.cast(builder, context.get_function(kind, own)(builder, args), own.return_type, sig.return_type)


def _called(name: str) -> Callable[..., Any]:
    """A function of LLVM's of that name."""
    return lambda builder, element, *args: call_ir(
        builder, f"llvm.{name}.{suffix(element.dtype, 0)}", args[0].type, list(args)
    )


def _boolean(element: Any) -> Any:
    return types.boolean


# Operators


def _arithmetic(instruction: str, **options: Any) -> Callable[..., Any]:
    return lambda builder, element, a, b: getattr(builder, instruction)(a, b, **options)


def _comparison(sign: str) -> Callable[..., Any]:
    return lambda builder, element, a, b: builder.fcmp_ordered(sign, a, b)


# What vectors have, elements have too.
for _operator, _emit in (
    (operator.iadd, _arithmetic("fadd", flags=FASTMATH)),
    (operator.isub, _arithmetic("fsub", flags=FASTMATH)),
    (operator.imul, _arithmetic("fmul", flags=FASTMATH)),
    (operator.itruediv, _arithmetic("fdiv")),
):
    _lowered(_operator, 2, _emit)
for _operator, _sign_of_it in ((operator.le, "<="), (operator.ge, ">=")):
    _lowered(_operator, 2, _comparison(_sign_of_it), _boolean)
_lowered(operator.neg, 1, lambda builder, element, a: builder.fneg(a))
_lowered(operator.pos, 1, lambda builder, element, a: a)
_lowered(bool, 1, lambda builder, element, a: builder.fcmp_unordered("!=", a, ir.Constant(a.type, 0.0)), _boolean)
_lowered(
    operator.not_, 1, lambda builder, element, a: builder.fcmp_ordered("==", a, ir.Constant(a.type, 0.0)), _boolean
)


# Powers: small whole ones by multiplication, which LLVM makes vectors of.


@infer_global(operator.pow)
@infer_global(operator.ipow)
@infer_global(builtins.pow)
class _PowerTyping(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if kws or len(args) != 2 or not any(isinstance(arg, Element) for arg in args):
            return None
        base, exponent = args
        if isinstance(base, Element) and isinstance(exponent, types.Integer):
            return signature(base, base, types.int64)
        element = base if isinstance(base, Element) else exponent
        if not all(isinstance(arg, (Element, *NUMBERS)) for arg in args):
            return None
        return signature(element, element, element)


def _whole_power(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """llvm.powi is not made vectors of; a whole exponent is mostly a constant, which leaves a few products of these."""
    base, exponent = args
    one = ir.Constant(base.type, 1.0)
    if not isinstance(exponent, ir.Constant):
        whole = builder.sitofp(exponent, base.type)
        return _called("pow")(builder, sig.args[0], base, whole)
    n = int(exponent.constant)
    result, square, rest = one, base, abs(n)
    while rest:
        if rest & 1:
            result = square if result is one else builder.fmul(result, square)
        square, rest = builder.fmul(square, square), rest >> 1
    return builder.fdiv(one, result) if n < 0 else result


for _power in (operator.pow, operator.ipow, builtins.pow):
    lower_builtin(_power, Element, types.Integer)(_whole_power)
    lower_builtin(_power, Element, Element)(
        lambda context, builder, sig, args: _called("pow")(builder, sig.args[0], *args)
    )


# Functions


@inline
def _larger(a, b):
    return select(b > a, b, a)


@inline
def _smaller(a, b):
    return select(b < a, b, a)


@inline
def _maximum(a, b):
    """The larger, and NaN where one of them is."""
    return select(a != a, a, select(b != b, b, select(b > a, b, a)))


@inline
def _minimum(a, b):
    return select(a != a, a, select(b != b, b, select(b < a, b, a)))


@inline
def _sign(x):
    return select(x > 0.0, 1.0, select(x < 0.0, -1.0, x))


@inline
def _hyperbolic(x):
    """(e^|x| / 2, e^-|x| / 2), the first by halves, which overflow no earlier."""
    half = vexp(absolute(x) * 0.5)
    return half * 0.5 * half, 0.5 / (half * half)


@inline
def _cosh(x):
    large, small = _hyperbolic(x)
    return large + small


@inline
def _sinh(x):
    """By e^|x| - 1 where it is small, and would be a difference of almost equal numbers."""
    large, small = _hyperbolic(x)
    t = vexpm1(absolute(x))
    return copysign(select(absolute(x) < 1.0, (t + t / (t + 1.0)) * 0.5, large - small), x)


for _functions, _compute in (
    ((math.exp, np.exp), vexp),
    ((math.cosh, np.cosh), _cosh),
    ((math.sinh, np.sinh), _sinh),
    ((math.log, np.log), vlog),
    ((math.tanh, np.tanh), vtanh),
    ((math.erf,), verf),
    ((math.expm1, np.expm1), vexpm1),
    ((math.log1p, np.log1p), vlog1p),
    ((np.sign,), _sign),
):
    for _function in _functions:
        _computed(_function, 1, _compute)
for _function, _compute in ((max, _larger), (min, _smaller), (np.maximum, _maximum), (np.minimum, _minimum)):
    _computed(_function, 2, _compute)
for _functions, _name in (
    ((math.sqrt, np.sqrt), "sqrt"),
    ((abs, math.fabs, np.abs, np.fabs), "fabs"),
    ((np.floor,), "floor"),
    ((np.ceil,), "ceil"),
    ((math.sin, np.sin), "sin"),
    ((math.cos, np.cos), "cos"),
):
    for _function in _functions:
        _lowered(_function, 1, _called(_name))
for _function in (math.copysign, np.copysign):
    _lowered(_function, 2, _called("copysign"))
for _function in (math.isnan, np.isnan):
    _lowered(_function, 1, lambda builder, element, a: builder.fcmp_unordered("uno", a, a), _boolean)
