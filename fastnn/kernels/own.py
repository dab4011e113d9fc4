"""A user's own activation, loss or rule: scalar functions in the place of kernels; ``fastnn.reference.own``.

A name that a network, an objective or a rule has for one brings the functions along as ``name.functions``, and is of
their content, so equal names have equal code: what is compiled for one is kept, in memory and on disk, for all.
"""

import functools
import importlib
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..loading import undisturbed
from .compiler.jit import Shared, kernel
from .losses import LOSSES, loss_signature, with_gradient
from .operations import OPERATIONS, Operation, back_on_array, backward_signature, forward_signature, on_array, on_arrays
from .simd.address import address, as_writeable
from .simd.vector import data, get, put, scratch, shift
from .simd.vectormath import sum_of
from .updates import PER_STEP, RULES, Rule, prepare_signature, update_all, update_signature

# Losses of so many elements come together before they are summed.
_PIECE = 256


@functools.cache
def _loops() -> Any:
    """The module of loops around a user's functions: what it tells Numba of is for those alone who have some."""
    return undisturbed(lambda: importlib.import_module("fastnn.kernels.simd.loop"))


class _Own(Shared):
    """A shared function around a user's, under a name of the content."""

    def __init__(self, function: Any, signature: Any, name: Any, part: str) -> None:
        super().__init__(function, signature, name=f"{name}_{part}")
        self._compiler = _loops().OneCompiler


def _operation(name: Any) -> Operation:
    loop = _loops().loop
    call, derivative = map(_loops().user_call, name.functions)
    map_row = loop(call)

    def back(context: Any, builder: Any, dtype: Any, values: list[Any], numbers: list[Any]) -> list[Any]:
        d, x, y = values
        (result,) = derivative(context, builder, dtype, [x, y], numbers)
        return [builder.fmul(d, result)]

    map_row_back = loop(back)

    def forward(rows, n_in, n_out, x, x_ld, y, y_ld, kept, params, settings, step, key, row):
        for r in range(rows):
            map_row(n_out, (shift(x, r * x_ld),), (shift(y, r * y_ld),), ())

    def backward(rows, n_in, n_out, d, d_ld, x, x_ld, y, y_ld, dx, dx_ld, kept, params, settings, step, key, row):
        for r in range(rows):
            inputs = shift(d, r * d_ld), shift(x, r * x_ld), shift(y, r * y_ld)
            map_row_back(n_in, inputs, (shift(dx, r * dx_ld),), ())

    there, back_again = (
        _Own(forward, forward_signature, name, "forward"),
        _Own(backward, backward_signature, name, "backward"),
    )
    entries = on_arrays(name, there, back_again, kept=2, is_quick=False)
    return Operation(there, back_again, is_elementwise=True, entries=entries)


def _loss(name: Any) -> Shared:
    losses_of, gradient_of = map(_loops().user_call, name.functions)

    def both(context: Any, builder: Any, dtype: Any, values: list[Any], numbers: list[Any]) -> list[Any]:
        (result,), (gradient,) = (call(context, builder, dtype, values, []) for call in (losses_of, gradient_of))
        share = numbers[0] if dtype == types.float64 else builder.fptrunc(numbers[0], ir.FloatType())
        return [result, builder.fmul(gradient, share)]

    each = _loops().loop(both)

    def rows_of(rows, n, s, s_ld, d, d_ld, labels, targets, order, shares, settings, step, losses, target_terms):
        piece = scratch(s, _PIECE)
        for r in range(rows):
            pred, y, out = shift(s, r * s_ld), shift(targets, get(order, r) * n), shift(d, r * d_ld)
            total = 0.0
            for first in range(0, n, _PIECE):
                count = min(_PIECE, n - first)
                inputs, outputs = (shift(pred, first), shift(y, first)), (piece, shift(out, first))
                each(count, inputs, outputs, (get(shares, r),))
                total += float(sum_of(piece, count))
            put(losses, r, total)

    return _Own(rows_of, loss_signature, name, "loss")


def _rule(name: Any) -> Rule:
    """The numbers of a rule are those of its settings and t, in float64; the gradient is that with its penalty."""
    (function,) = name.functions
    move, n_slots, n_numbers = _loops().user_call(function), function.elements - 2, function.numbers

    def step_of(context: Any, builder: Any, dtype: Any, values: list[Any], numbers: list[Any]) -> list[Any]:
        w, g, *slots = values
        penalty, *rest = numbers
        penalty = penalty if dtype == types.float64 else builder.fptrunc(penalty, ir.FloatType())
        g = builder.fadd(g, builder.fmul(w, penalty, flags=("contract",)), flags=("contract",))
        return move(context, builder, dtype, [w, g, *slots], rest)

    each, slots_of, numbers_of = _loops().loop(step_of), _slots(n_slots), _numbers(n_numbers)

    def prepare(settings, prepared, step, t, weight):
        put(prepared, 0, get(settings, 0))
        put(prepared, step, float(t))
        for k in range(2, n_numbers):
            put(prepared, k * step, get(settings, (k - 1) * step))

    def update(n, w, dw, places, prepared, kind, step):
        slots, numbers = slots_of(places, w), numbers_of(prepared, kind)
        each(n, (w, dw) + slots, (w,) + slots, numbers)  # noqa: RUF005 - Numba's way to say it

    return Rule(_Own(prepare, prepare_signature, name, "prepare"), _Own(update, update_signature, name, "update"))


def _slots(count: int) -> Any:
    """A compiled function (places, like) -> the pointers at so many addresses."""

    @intrinsic
    def slots_of(typing: Any, places: Any, like: Any) -> Any:
        result = types.UniTuple(like, count) if count else types.Tuple(())

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind = context.get_value_type(like)
            slots = [
                builder.inttoptr(builder.load(builder.gep(args[0], [ir.Constant(ir.IntType(64), k)])), kind)
                for k in range(count)
            ]
            return context.make_tuple(builder, result, slots)

        return result(places, like), emit

    return slots_of


def _numbers(count: int) -> Any:
    """A compiled function (prepared, kind) -> the factor of the penalty, and so many prepared numbers."""

    @intrinsic
    def numbers_of(typing: Any, prepared: Any, kind: Any) -> Any:
        result = types.UniTuple(types.float64, 1 + count)

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            places = [args[1], *(builder.gep(args[0], [ir.Constant(ir.IntType(64), k)]) for k in range(count))]
            return context.make_tuple(builder, result, [builder.load(place) for place in places])

        return result(prepared, kind), emit

    return numbers_of


OPERATIONS.make, LOSSES.make, RULES.make = _operation, _loss, _rule
_REGISTRIES = {"activation": OPERATIONS, "loss": LOSSES, "rule": RULES}


@kernel
def _update(rule, w, dw, settings, prepared, places, t):
    """One update of whole arrays without a penalty."""
    update_all(rule, w, dw, data(settings), data(prepared), data(places), t)


def own_check(name: Any, dtype: np.dtype) -> None:
    """Compile the functions for a dtype, or load them; TypeError if that cannot be."""
    _REGISTRIES[name.kind][name].addresses(dtype)


def own(name: Any, x: np.ndarray, out: np.ndarray) -> None:
    """out = f(x)."""
    on_array(OPERATIONS[name], x, out)


def own_backward(name: Any, dy: np.ndarray, x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    """out = dy derivative(x, y)."""
    back_on_array(OPERATIONS[name], dy, x, out, y=y)


def own_loss(name: Any, pred: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, out: np.ndarray) -> float:
    """out (m, k) = derivative(pred, y) v_i / Σ v, and the mean over samples of Σ_outputs value(pred, y) is returned."""
    return with_gradient(name, pred, y, sample_weight, out)


def own_update(
    name: Any, w: np.ndarray, dw: np.ndarray, slots: np.ndarray, lr: float, settings: tuple[float, ...], t: int
) -> None:
    """w, slots = update(w, dw, *slots, lr, t, *settings)."""
    flat = [as_writeable(array.reshape(-1)) for array in (w, dw, *slots)]
    places = np.array([address(slot) for slot in flat[2:]], np.int64)
    numbers, prepared = np.array([lr, *settings], np.float64), np.zeros(PER_STEP)
    _update(RULES[name].addresses(w.dtype), *flat[:2], numbers, prepared, places, t)
