"""Random bits as a hash of their place, a vector at a time; ``fastnn.reference.dropout`` names the hashes.

Numba's own integers would widen to 64 bits and mix with floats: keys are int64 whose overflow wraps.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..compiler.jit import inline
from .vector import I32, Vector, lanes_of, splat_ir

_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


@inline
def mix(z):
    """The finaliser of SplitMix64 after one step of its counter."""
    z = z + _GOLDEN
    z = (z ^ _logical_shift(z, 30)) * _FIRST
    z = (z ^ _logical_shift(z, 27)) * _SECOND
    return z ^ _logical_shift(z, 31)


@inline
def row_key(key, row):
    """The 32 bits from which a row's elements are hashed."""
    return _logical_shift(mix(key + row), 32)


@inline
def key_of(seed, t, i):
    """The key of op i in update t of a network with this seed."""
    return mix(seed + mix((t << 16) + i))


@inline
def _logical_shift(z, n):
    return (z >> n) & ((1 << (64 - n)) - 1)


@intrinsic
def hash_at_least(typing: Any, p: Any, key: Any, j: Any, threshold: Any) -> Any:
    """Whether the hash of place j, j + 1, ..., as many as a vector of p's type has lanes, is at least the threshold."""
    lanes = lanes_of(p.dtype)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(I32, lanes)
        key, j, threshold = (splat_ir(builder, builder.trunc(arg, I32), lanes) for arg in args[1:])

        def filled(value: int) -> Any:
            return ir.Constant(kind, [value] * lanes)

        def folded(h: Any, bits: int) -> Any:
            return builder.xor(h, builder.lshr(h, filled(bits)))

        places = builder.add(j, ir.Constant(kind, list(range(lanes))))
        h = folded(builder.add(key, builder.mul(places, filled(0x9E3779B9))), 16)
        h = folded(builder.mul(h, filled(0x7FEB352D)), 15)
        h = folded(builder.mul(h, filled(0x846CA68B)), 16)
        return builder.icmp_unsigned(">=", h, threshold)

    return Vector(types.boolean, lanes)(p, types.int64, types.int64, types.int64), emit
