"""Operands of the matrix unit: float32 split into bfloat16 parts, packed tile by tile, and the range of the values.

A part is what is left of a value, rounded to the 8 digits of a bfloat16, so that three parts are the value itself. The
unit multiplies pairs of neighbours in the inner dimension; which two are neighbours is free as long as both operands
agree, so elements p and p + 16 are, and no element has to change its lane.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..compiler.jit import inline
from ..simd.transpose import transpose_block
from ..simd.vector import (
    I32,
    I64,
    get,
    llvm_vector,
    load_ir,
    part_mask_ir,
    prefetch,
    put,
    shift,
    splat,
    store,
    vector_of,
)
from .amx_tile import EDGE, TILE_SIZE
from .tile import BLOCK, STEP

_LANES = 16
_WHOLE = ir.VectorType(I32, _LANES)

# The exponents, biased by 127, of what may go through the unit: below the first the last part of a value falls out of
# bfloat16's range; above the second it might round to infinity.
LEAST, MOST = 25, 253
# What the exponents of two factors may add up to, so that no product that counts is subnormal.
LEAST_SUM = 154
# No exponent: that of an operand of zeros.
NONE = 255


def _filled(number: int) -> Any:
    return ir.Constant(_WHOLE, [number] * _LANES)


def split(parts: int) -> Any:
    """A compiled function (x, y, n_x, n_y, out, low, high) that splits the first so many elements at x and at y.

    Part s of both, pairs with x in the lower halves, goes to out + s tiles. Returns the vectors low and high, the least
    and greatest of what was seen so far, see ``exponents``.
    """

    @intrinsic
    def split_pairs(typing: Any, x: Any, y: Any, n_x: Any, n_y: Any, out: Any, low: Any, high: Any) -> Any:
        vector = vector_of(x.dtype)

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            x, y, n_x, n_y, out, low, high = args
            low, high = (builder.bitcast(value, _WHOLE) for value in (low, high))
            pieces = []
            for place, count in ((x, n_x), (y, n_y)):
                value = load_ir(builder, types.float32, place, part_mask_ir(builder, count, _LANES))
                bits = builder.bitcast(value, _WHOLE)
                twice = builder.add(bits, bits)
                less = builder.sub(twice, _filled(1))
                low = builder.select(builder.icmp_unsigned("<", less, low), less, low)
                high = builder.select(builder.icmp_unsigned(">", twice, high), twice, high)
                pieces.append(_parts(builder, value, parts))
            for s, (lower, upper) in enumerate(zip(*pieces, strict=True)):
                both = builder.or_(builder.lshr(lower, _filled(16)), upper)
                place = builder.bitcast(builder.gep(out, [I64(s * TILE_SIZE)]), _WHOLE.as_pointer())
                builder.store(both, place, align=4)
            kind = llvm_vector(types.float32, _LANES)
            return context.make_tuple(builder, sig.return_type, [builder.bitcast(value, kind) for value in (low, high)])

        pair = types.UniTuple(vector, 2)
        return pair(x, x, types.intp, types.intp, out, vector, vector), emit

    return split_pairs


def _parts(builder: Any, rest: Any, parts: int) -> list[Any]:
    """The bits of the parts, each in the upper half of a lane: rounded to nearest, and what that leaves."""
    result = []
    for s in range(parts):
        bits = builder.bitcast(rest, _WHOLE)
        # The last of three has so few digits that there is nothing to round.
        rounded = builder.add(bits, _filled(0x8000)) if s < 2 else bits
        part = builder.and_(rounded, _filled(0xFFFF0000))
        result.append(part)
        if s + 1 < parts:
            rest = builder.fsub(rest, builder.bitcast(part, rest.type))
    return result


@intrinsic
def exponents(typing: Any, low: Any, high: Any) -> Any:
    """The biased exponents of the smallest value that is not 0, or ``NONE``, and of the largest."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        results = []
        for value, order in zip(args, "<>", strict=True):
            lanes = builder.bitcast(value, _WHOLE)
            result = builder.extract_element(lanes, I32(0))
            for lane in range(1, _LANES):
                other = builder.extract_element(lanes, I32(lane))
                result = builder.select(builder.icmp_unsigned(order, other, result), other, result)
            results.append(builder.zext(builder.lshr(result, I32(24)), I64))
        return context.make_tuple(builder, sig.return_type, results)

    return types.UniTuple(types.int64, 2)(low, high), emit


@intrinsic
def nothing_seen(typing: Any, like: Any) -> Any:
    """The vectors ``low`` and ``high`` before any value."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = llvm_vector(types.float32, _LANES)
        values = [builder.bitcast(_filled(number), kind) for number in (0xFFFFFFFF, 0)]
        return context.make_tuple(builder, sig.return_type, values)

    return types.UniTuple(vector_of(like.dtype), 2)(like), emit


def packing(parts: int) -> Any:
    """A compiled function (k, others, x, along, across, to_rows, out, work, ranges) that packs a strip of 32.

    Element p of the inner dimension of row or column o is x[p along + o across], one of the two being 1. Tiles hold a
    row for each o where ``to_rows``, as the unit wants A, or a row for each p, as it wants B. ``work`` is memory for
    the parts of a tile; ``ranges`` gets the two exponents.
    """
    split_pairs = split(parts)

    @inline
    def pack_strip(k, others, x, along, across, to_rows, out, work, ranges):
        low, high = nothing_seen(x)
        in_rows = along == 1
        is_turned = in_rows != to_rows
        for p in range(0, k, STEP):
            near, far = min(EDGE, k - p), max(0, min(EDGE, k - p - EDGE))
            for o in range(0, BLOCK, EDGE):
                place, rows = out, min(EDGE, others - o)
                if is_turned:
                    place = work
                source = shift(x, p * along + o * across)
                if in_rows:
                    for r in range(rows):
                        first = shift(source, r * across)
                        low, high = split_pairs(first, shift(first, EDGE), near, far, shift(place, r * EDGE), low, high)
                else:
                    rows, width = near, max(0, rows)
                    for r in range(rows):
                        first = shift(source, r * along)
                        prefetch(first, 2 * STEP * along)  # rows far apart, which the CPU does not foresee
                        prefetch(first, (2 * STEP + EDGE) * along)
                        low, high = split_pairs(
                            first, shift(first, EDGE * along), width, width if r < far else 0, shift(place, r * EDGE),
                            low, high,
                        )  # fmt: skip
                for s in range(parts):
                    for r in range(max(0, rows), EDGE):
                        store(place, s * TILE_SIZE + r * EDGE, splat(x, 0.0))
                    if is_turned:
                        transpose_block(shift(work, s * TILE_SIZE), EDGE, EDGE, EDGE, shift(out, s * TILE_SIZE), EDGE)
                out = shift(out, parts * TILE_SIZE)
        least, most = exponents(low, high)
        put(ranges, 0, least)
        put(ranges, 1, most)

    return pack_strip


@inline
def is_safe(k, a, b):
    """Whether products of k factors in these ranges are exact enough on the unit, see ``packing``."""
    least_a, most_a, least_b, most_b = get(a, 0), get(a, 1), get(b, 0), get(b, 1)
    digits = 1
    while 1 << digits < k:
        digits += 1
    return (
        min(least_a, least_b) >= LEAST
        and least_a + least_b >= LEAST_SUM
        and max(most_a, most_b) <= MOST
        and most_a + most_b + 2 + digits <= 2 * 127 + 126
    )
