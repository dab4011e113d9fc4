"""In-place parameter updates from a gradient dw, and the rules that an epoch calls by address.

A rule has two functions: ``prepare`` makes of the user's settings what update t needs, in float64 and once a batch,
and ``update`` moves n parameters.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .builtin import IN_PLACE, NUMBER, REALS
from .compiler.jit import Shared, caller, inline, shared
from .entries import ROWWISE, WRITTEN, Entry
from .given import CONSTANTS, GIVEN, MOST, array_of, entry_signature, float_at, meet, same_shape
from .operations import FLOAT64, INT64, N, Settings, setting
from .registry import Registry
from .simd.vector import (
    data,
    fma,
    get,
    integer,
    lanes,
    load,
    load_part,
    pointer,
    put,
    scratch,
    shift,
    store,
    store_part,
)
from .simd.vectormath import vsqrt


def prepare_signature(dtype: Any) -> Any:
    """(settings, prepared, step, t, weight): setting k of this lane is [k step]; weight is that of the batch."""
    return types.void(FLOAT64, FLOAT64, N, N, types.float64)


def update_signature(dtype: Any) -> Any:
    """(n, w, dw, slots, prepared, kind, step): slots holds the address of each array of n that the rule keeps.

    ``kind`` points to what holds for parameters of this kind: the factor of w in the gradient of the penalty, and, 2
    ``step`` or 2 elements on, whether they are weights that a penalty is for (1) or not (0).
    """
    p = types.CPointer(dtype)
    return types.void(N, p, p, INT64, FLOAT64, FLOAT64, N)


class Rule(NamedTuple):
    """The compiled functions of a rule, each made at its first use."""

    prepare: Shared
    update: Shared

    def addresses(self, dtype: Any) -> tuple[int, int]:
        """Where they lie in this process."""
        return self.prepare.address(dtype), self.update.address(dtype)


# By the name that the class, the kernel and the twin share. The most that a rule prepares, beside the penalties.
RULES = Registry()
MOST_PREPARED = 8
# Behind what a rule prepares stands what holds for weights and for all else, in turns: two numbers of each.
WEIGHTS, OTHERS, PER_STEP = MOST_PREPARED, MOST_PREPARED + 1, MOST_PREPARED + 4
# What the epilogue of a product does as well: w -= lr g, with the first setting as lr.
FUSED = ("sgd",)


def rule(name: str, slots: int, prepare: Any, move: Any) -> Rule:
    """Register a rule that moves element by element and keeps up to two numbers for each.

    ``prepare(settings, prepared, step, t, weight)`` writes what ``move(w, g, a, b, prepared, kind)`` reads by
    ``setting``; move gives the new w, a and b, vectors like the old ones, for the gradient g with its penalty.
    """

    def update(n, w, dw, places, prepared, kind, step):
        numbers, of_kind = Settings(prepared, step), Settings(kind, step)
        first = pointer(get(places, 0), w) if slots > 0 else w
        second = pointer(get(places, 1), w) if slots > 1 else w
        width = lanes(w)
        i = 0
        while i + width <= n:
            x = load(w, i)
            g = fma(x, setting(x, of_kind, 0), load(dw, i))
            a = load(first, i) if slots > 0 else x
            b = load(second, i) if slots > 1 else x
            x, a, b = move(x, g, a, b, numbers, of_kind)
            if slots > 0:
                store(first, i, a)
            if slots > 1:
                store(second, i, b)
            store(w, i, x)
            i += width
        if i < n:
            rest = n - i
            x = load_part(w, i, rest, 0.0)
            g = fma(x, setting(x, of_kind, 0), load_part(dw, i, rest, 0.0))
            a = load_part(first, i, rest, 0.0) if slots > 0 else x
            b = load_part(second, i, rest, 0.0) if slots > 1 else x
            x, a, b = move(x, g, a, b, numbers, of_kind)
            if slots > 0:
                store_part(first, i, rest, a)
            if slots > 1:
                store_part(second, i, rest, b)
            store_part(w, i, rest, x)

    RULES[name] = made = Rule(
        Shared(prepare, prepare_signature, name=f"{name}_prepare"), Shared(update, update_signature, name=name)
    )
    return made


call_prepare = caller(prepare_signature)
call_update = caller(update_signature)


def _copy_one(settings, prepared, step, t, weight):
    put(prepared, 0, get(settings, 0))


def _copy_two(settings, prepared, step, t, weight):
    put(prepared, 0, get(settings, 0))
    put(prepared, step, get(settings, step))


@inline
def _sgd(w, g, a, b, prepared, kind):
    return fma(g * -1.0, setting(w, prepared, 0), w), a, b


@inline
def _momentum(w, g, v, b, prepared, kind):
    v = fma(v, setting(w, prepared, 1), g * setting(w, prepared, 0) * -1.0)
    return w + v, v, b


@inline
def _nesterov(w, g, v, b, prepared, kind):
    step, momentum = g * setting(w, prepared, 0) * -1.0, setting(w, prepared, 1)
    v = fma(v, momentum, step)
    return w + fma(v, momentum, step), v, b


def _adam_prepare(settings, prepared, step, t, weight):
    _adam_numbers(settings, prepared, step, t, 1)


def _plain_adam_prepare(settings, prepared, step, t, weight):
    _adam_numbers(settings, prepared, step, t, 0)


@inline
def _adam_numbers(settings, prepared, step, t, corrects_eps):
    """lr and eps with the two bias corrections folded in, and both decays with what they leave."""
    lr, beta1, beta2 = get(settings, 0), get(settings, step), get(settings, 2 * step)
    root = math.sqrt(1.0 - beta2**t)
    put(prepared, 0, lr * root / (1.0 - beta1**t))
    put(prepared, step, get(settings, 3 * step) * (root if corrects_eps == 1 else 1.0))
    put(prepared, 2 * step, beta1)
    put(prepared, 3 * step, 1.0 - beta1)
    put(prepared, 4 * step, beta2)
    put(prepared, 5 * step, 1.0 - beta2)


@inline
def _adam(w, g, a, b, prepared, kind):
    step, a, b = _adam_step(w, g, a, b, prepared)
    return w - step, a, b


@inline
def _adam_step(w, g, a, b, prepared):
    a = fma(a, setting(w, prepared, 2), g * setting(w, prepared, 3))
    b = fma(b, setting(w, prepared, 4), g * g * setting(w, prepared, 5))
    return a * setting(w, prepared, 0) / (vsqrt(b, w) + setting(w, prepared, 1)), a, b


def _adamw_prepare(settings, prepared, step, t, weight):
    _adam_numbers(settings, prepared, step, t, 1)
    put(prepared, 6 * step, get(settings, 0) * get(settings, 4 * step))


@inline
def _adamw(w, g, a, b, prepared, kind):
    """The decay, of weights alone, comes before the step, whose gradient knows nothing of it."""
    step, a, b = _adam_step(w, g, a, b, prepared)
    kept = fma(setting(w, prepared, 6) * -1.0, setting(w, kind, 2), 1.0)
    return fma(w, kept, step * -1.0), a, b


def _rmsprop_prepare(settings, prepared, step, t, weight):
    _rmsprop_numbers(settings, prepared, step)


def _rmsprop_momentum_prepare(settings, prepared, step, t, weight):
    _rmsprop_numbers(settings, prepared, step)
    put(prepared, 4 * step, get(settings, 3 * step))


@inline
def _rmsprop_numbers(settings, prepared, step):
    """lr, eps, and the decay with what it leaves."""
    alpha = get(settings, step)
    put(prepared, 0, get(settings, 0))
    put(prepared, step, get(settings, 2 * step))
    put(prepared, 2 * step, alpha)
    put(prepared, 3 * step, 1.0 - alpha)


@inline
def _rmsprop(w, g, s, b, prepared, kind):
    s = fma(s, setting(w, prepared, 2), g * g * setting(w, prepared, 3))
    return w - g * setting(w, prepared, 0) / (vsqrt(s, w) + setting(w, prepared, 1)), s, b


@inline
def _rmsprop_momentum(w, g, s, v, prepared, kind):
    s = fma(s, setting(w, prepared, 2), g * g * setting(w, prepared, 3))
    v = fma(v, setting(w, prepared, 4), g / (vsqrt(s, w) + setting(w, prepared, 1)))
    return fma(v * -1.0, setting(w, prepared, 0), w), s, v


def _accumulate_prepare(settings, prepared, step, t, weight):
    put(prepared, 0, get(settings, 0) * weight)


@inline
def _accumulate(w, g, a, b, prepared, kind):
    return w, fma(g, setting(w, prepared, 0), a), b


SGD = rule("sgd", 0, _copy_one, _sgd)
MOMENTUM = rule("momentum", 1, _copy_two, _momentum)
NESTEROV = rule("nesterov", 1, _copy_two, _nesterov)
ADAM = rule("adam", 2, _adam_prepare, _adam)
ADAMW = rule("adamw", 2, _adamw_prepare, _adamw)
RMSPROP = rule("rmsprop", 1, _rmsprop_prepare, _rmsprop)
RMSPROP_MOMENTUM = rule("rmsprop_momentum", 2, _rmsprop_momentum_prepare, _rmsprop_momentum)
rule("plain_adam", 2, _plain_adam_prepare, _adam)  # whose eps has no bias correction
rule("accumulate", 1, _accumulate_prepare, _accumulate)  # adds lr times the batch's weight times the gradient


# For how many numbers an update needs memory: its settings, what a rule prepares, and where two slots are.
_MEMORY = MOST + PER_STEP + 2


@inline
def update_all(rule, w, dw, given, prepared, places, t):
    """Update number t of whole arrays by the functions at two addresses, with the settings ``given``."""
    (prepare, update), p = rule, data(w)
    call_prepare(prepare, p, (given, prepared, 1, t, 1.0))
    call_update(update, p, (w.size, p, data(dw), places, prepared, shift(prepared, WEIGHTS), 0))


@inline
def _update_given(given, workspace):
    """One update of whole arrays, all of them weights without a penalty.

    The arguments are w, dw, the slots, and the settings, a learning rate first; the last is also the number of the
    update, for rules that count them. The constants are the rule's functions and how many slots it has.
    """
    count, slots = get(given, GIVEN), get(given, CONSTANTS + 2)
    w, dw = array_of(given, 0, workspace), array_of(given, 1, workspace)
    if not same_shape(w, dw) or meet(w, dw):
        return 0
    settings = scratch(pointer(0, np.float64(0)), _MEMORY)
    prepared = shift(settings, MOST)
    places = pointer(integer(shift(prepared, PER_STEP)), 0)
    for i in range(slots):
        slot = array_of(given, 2 + i, workspace)
        if not same_shape(w, slot) or meet(w, slot) or meet(dw, slot):
            return 0
        put(places, i, integer(slot.p))
    for i in range(2 + slots, count):
        put(settings, i - 2 - slots, get(float_at(given, i), 0))
    put(prepared, WEIGHTS, 0.0)
    put(prepared, WEIGHTS + 2, 1.0)
    t = int(get(float_at(given, count - 1), 0))
    call_prepare(get(given, CONSTANTS), w.p, (settings, prepared, 1, t, 1.0))
    call_update(get(given, CONSTANTS + 1), w.p, (w.size, w.p, dw.p, places, prepared, shift(prepared, WEIGHTS), 0))
    return 1


@shared(entry_signature)
def _update(given, workspace):
    return _update_given(given, workspace)


@shared(entry_signature)
def _update_if_positive(given, workspace):
    """The same for a learning rate > 0, of those who have checked nothing and have no slots."""
    return _update_given(given, workspace) if 0.0 < get(float_at(given, 2), 0) < np.inf else 0


def _entry(name: str, rule: Rule, slots: int, settings: int, is_quick: bool = False) -> Entry:
    arrays = [(REALS, WRITTEN), (REALS, ROWWISE), *[(REALS, WRITTEN)] * slots]
    return Entry(
        name, _update_if_positive if is_quick else _update, [*arrays, *[(NUMBER, 0)] * settings], IN_PLACE,
        constants=lambda dtype: (*rule.addresses(dtype), slots), is_quick=is_quick,
    )  # fmt: skip


_SGD, _QUICK_SGD = _entry("sgd_update", SGD, 0, 1), _entry("sgd_update", SGD, 0, 1, is_quick=True)
_MOMENTUM, _NESTEROV = _entry("momentum_update", MOMENTUM, 1, 2), _entry("nesterov_update", NESTEROV, 1, 2)
_ADAM, _ADAMW = _entry("adam_update", ADAM, 2, 5), _entry("adamw_update", ADAMW, 2, 6)
_RMSPROP = _entry("rmsprop_update", RMSPROP, 1, 3)
_RMSPROP_MOMENTUM = _entry("rmsprop_momentum_update", RMSPROP_MOMENTUM, 2, 4)


def _run(entry: Entry, arrays: tuple[np.ndarray, ...], *settings: float) -> None:
    entry(*(array.reshape(-1) for array in arrays), *map(float, settings))


def sgd_update(w: np.ndarray, dw: np.ndarray, lr: float) -> None:
    """w -= lr dw."""
    _run(_QUICK_SGD if lr > 0 else _SGD, (w, dw), lr)


def momentum_update(w: np.ndarray, dw: np.ndarray, v: np.ndarray, lr: float, momentum: float) -> None:
    """v = momentum v - lr dw, w += v."""
    _run(_MOMENTUM, (w, dw, v), lr, momentum)


def nesterov_update(w: np.ndarray, dw: np.ndarray, v: np.ndarray, lr: float, momentum: float) -> None:
    """v = momentum v - lr dw, w += momentum v - lr dw."""
    _run(_NESTEROV, (w, dw, v), lr, momentum)


def adam_update(
    w: np.ndarray,
    dw: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    t: int,
) -> None:
    """Adam's update number t: w -= lr m̂ / (√v̂ + eps)."""
    _run(_ADAM, (w, dw, m, v), lr, beta1, beta2, eps, t)


def adamw_update(
    w: np.ndarray,
    dw: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    t: int,
) -> None:
    """w *= 1 - lr weight_decay, and Adam's update number t."""
    _run(_ADAMW, (w, dw, m, v), lr, beta1, beta2, eps, weight_decay, t)


def rmsprop_update(w: np.ndarray, dw: np.ndarray, s: np.ndarray, lr: float, alpha: float, eps: float) -> None:
    """s = alpha s + (1 - alpha) dw², w -= lr dw / (√s + eps)."""
    _run(_RMSPROP, (w, dw, s), lr, alpha, eps)


def rmsprop_momentum_update(
    w: np.ndarray,
    dw: np.ndarray,
    s: np.ndarray,
    v: np.ndarray,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
) -> None:
    """s = alpha s + (1 - alpha) dw², v = momentum v + dw / (√s + eps), w -= lr v."""
    _run(_RMSPROP_MOMENTUM, (w, dw, s, v), lr, alpha, eps, momentum)
