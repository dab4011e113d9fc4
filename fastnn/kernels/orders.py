"""The orders of samples, as NumPy's generator draws them, several at once and without Python's lock.

NumPy's ``Generator.shuffle`` exchanges each place i, from the last one down, with a place j <= i. It draws as many bits
as i has until they are no more than i, from the halves of the numbers of PCG64 (M. E. O'Neill, PCG: a family of simple
fast space-efficient statistically good algorithms for random number generation, 2014).
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compiler.jit import kernel
from .simd.vector import I64

_MULTIPLIER = 2549297995355413924 << 64 | 4865540595714422341
_HALF = 0xFFFFFFFF
_I128 = ir.IntType(128)
# Beyond so many samples NumPy draws from whole numbers of PCG64.
_MOST = 1 << 31
# What stands in ``state``: the 128 bits of the generator and of its increment, high and low, and a half that is kept.
HIGH, LOW, INCREMENT_HIGH, INCREMENT_LOW, KEEPS_HALF, KEPT_HALF = range(6)


@intrinsic
def _step(typing: Any, high: Any, low: Any, increment_high: Any, increment_low: Any) -> Any:
    """(high, low) of the next state, and the number that it gives."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        high, low, *increment = (builder.zext(arg, _I128) for arg in args)
        state, added = (
            builder.or_(builder.shl(a, _I128(64)), b) for a, b in ((high, low), (increment[0], increment[1]))
        )
        state = builder.add(builder.mul(state, _I128(_MULTIPLIER)), added)
        high = builder.trunc(builder.lshr(state, _I128(64)), I64)
        low = builder.trunc(state, I64)
        mixed, by = builder.xor(high, low), builder.lshr(high, I64(58))
        left = builder.and_(builder.sub(I64(64), by), I64(63))
        number = builder.or_(builder.lshr(mixed, by), builder.shl(mixed, left))
        return context.make_tuple(builder, sig.return_type, [high, low, number])

    return types.UniTuple(types.int64, 3)(*[types.int64] * 4), emit


@kernel
def _draw(state, rows, out):
    for order in out:
        n = order.size
        for i in range(n):
            order[i] = rows[i] if rows.size != 0 else i
        mask, i = 1, n - 1
        while mask < i:
            mask = 2 * mask + 1
        keeps, kept = state[KEEPS_HALF], state[KEPT_HALF]
        high, low = state[HIGH], state[LOW]
        while i > 0:
            if keeps == 0:
                high, low, number = _step(high, low, state[INCREMENT_HIGH], state[INCREMENT_LOW])
                keeps, kept, half = 1, (number >> 32) & _HALF, number & _HALF
            else:
                keeps, half = 0, kept
            # Whether a place is taken cannot be foretold, so that is no branch: one that is not changes nothing.
            taken = half & mask <= i
            j = half & mask if taken else i
            order[i], order[j] = order[j], order[i]
            i -= 1 if taken else 0
            if mask >> 1 >= i:
                mask >>= 1
        state[KEEPS_HALF], state[KEPT_HALF] = keeps, kept
        state[HIGH], state[LOW] = high, low


_NO_ROWS = np.empty(0, np.int64)


def draw_orders(rng: np.random.Generator, rows: np.ndarray | None, out: np.ndarray) -> None:
    """Each row of out (epochs, n) = ``rows``, or 0..n-1, shuffled."""
    bits: Any = rng.bit_generator
    n = out.shape[1]
    if type(bits) is not np.random.PCG64 or n > _MOST:
        for order in out:
            order[...] = np.arange(n) if rows is None else rows
            rng.shuffle(order)
        return
    with bits.lock:
        before = bits.state
        numbers = [part for key in ("state", "inc") for part in divmod(before["state"][key], 1 << 64)]
        state = np.array([*numbers, before["has_uint32"], before["uinteger"]], np.uint64).view(np.int64)
        _draw(state, _NO_ROWS if rows is None else rows, out)
        high, low, _, _, keeps, kept = (int(number) for number in state.view(np.uint64))
        inner = {"state": high << 64 | low, "inc": before["state"]["inc"]}
        bits.state = before | {"state": inner, "has_uint32": keeps, "uinteger": kept}
