"""The micro-kernel of the matrix unit: 32 x 32 sums in four of its tiles, from operands that are split into bfloat16.

A float32 is the sum of three bfloat16, so a product is that of nine pairs of parts, of which the three smallest are
left out: what they add is below half a unit in the last place. The unit adds up 32 steps of the inner dimension at a
time, by itself, before it adds to a sum, which is why the result is closer than that of a chain of multiply-adds.
G. Henry, P. T. P. Tang and A. Heinecke, Leveraging the bfloat16 artificial intelligence datatype for higher-precision
computations, ARITH 2019.
"""

import struct
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..simd.vector import I32, I64, call_ir

# A tile: rows of 16 pairs of bfloat16, or of 16 float32; the sums take four, two each way.
EDGE = 16
TILE_SIZE = EDGE * EDGE  # in float32

# The pairs of parts of A and B, largest part 0, by the number of parts. Neighbours share a part, which stays loaded.
PAIRS = {
    3: ((2, 0), (0, 0), (0, 2), (0, 1), (1, 1), (1, 0)),
    2: ((1, 0), (0, 0), (0, 1)),
    1: ((0, 0),),
}

# How many calls it takes to prefetch a strip of A.
CALLS_AHEAD = 4

_I8, _VOID = ir.IntType(8), ir.VoidType()
_ROW_BYTES = I64(64)
_A, _B = (4, 5), (6, 7)  # registers; 0 to 3 hold the sums


@intrinsic
def configure(typing: Any) -> Any:
    """Set up this thread's unit for tiles of 16 rows of 64 bytes, until ``release``."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        palette, row_bytes, rows = 1, struct.pack("<8H16x", *[64] * 8), bytes([EDGE] * 8 + [0] * 8)
        content = bytearray(bytes([palette]) + bytes(15) + row_bytes + rows)
        kind = ir.ArrayType(_I8, len(content))
        name = "fastnn.tiles"
        place = builder.module.globals.get(name)
        if place is None:
            place = ir.GlobalVariable(builder.module, kind, name)
            place.linkage, place.global_constant, place.initializer = "internal", True, ir.Constant(kind, content)
        call_ir(builder, "llvm.x86.ldtilecfg", _VOID, [builder.bitcast(place, _I8.as_pointer())])
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def release(typing: Any) -> Any:
    """Give the unit's registers back."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        call_ir(builder, "llvm.x86.tilerelease", _VOID, [])
        return context.get_dummy_value()

    return types.void(), emit


def multiply(parts: int) -> Any:
    """A compiled function (steps, a, b, out, ld, ahead): out (32, 32) = A B over so many steps, its rows ``ld`` apart.

    For each step ``a`` and ``b`` hold the tiles of two rows of tiles of A, two columns of those of B, all parts of one
    before those of the other. Meanwhile a quarter as much as A takes comes into the L2 cache from ``ahead`` on.
    """

    @intrinsic
    def multiply_tiles(typing: Any, steps: Any, a: Any, b: Any, out: Any, ld: Any, ahead: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            steps, a, b, out, ld, ahead = args
            a, b, out, ahead = (builder.bitcast(p, _I8.as_pointer()) for p in (a, b, out, ahead))
            for tile in range(4):
                call_ir(builder, "llvm.x86.tilezero", _VOID, [_I8(tile)])
            before = builder.block
            loop, done = (builder.append_basic_block(name) for name in ("tiles", "tiled"))
            builder.branch(loop)
            builder.position_at_end(loop)
            left = builder.phi(I64)
            a_now, b_now, ahead_now = (builder.phi(p.type) for p in (a, b, ahead))
            _emit_step(builder, parts, a_now, b_now, ahead_now)
            size = 2 * parts * TILE_SIZE * 4
            carried = (
                (left, steps, builder.sub(left, I64(1))),
                (a_now, a, builder.gep(a_now, [I64(size)])),
                (b_now, b, builder.gep(b_now, [I64(size)])),
                (ahead_now, ahead, builder.gep(ahead_now, [I64(size // CALLS_AHEAD)])),
            )
            for phi, first, following in carried:
                phi.add_incoming(first, before)
                phi.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed(">", left, I64(1)), loop, done)
            builder.position_at_end(done)
            row = builder.mul(ld, I64(4))
            for tile in range(4):
                at = builder.add(builder.mul(row, I64(EDGE * (tile // 2))), I64(64 * (tile % 2)))
                call_ir(builder, "llvm.x86.tilestored64", _VOID, [_I8(tile), builder.gep(out, [at]), row])
            return context.get_dummy_value()

        return types.void(types.intp, a, b, out, types.intp, ahead), emit

    return multiply_tiles


def _emit_step(builder: Any, parts: int, a: Any, b: Any, ahead: Any) -> None:
    """The products of one step, added to the sums, while the tiles of B for the next are on their way from L2."""
    pairs, step_bytes = PAIRS[parts], 2 * parts * TILE_SIZE * 4
    lines = [(b, at, 3) for at in range(step_bytes, 2 * step_bytes, 64)]
    for place in range(0, step_bytes // CALLS_AHEAD, 64):
        lines.insert(place // 64 * (CALLS_AHEAD + 1), (ahead, place, 2))
    share = -(-len(lines) // len(pairs))
    loaded: tuple[int | None, int | None] = (None, None)
    for number, pair in enumerate(pairs):
        for base, line, level in lines[number * share : (number + 1) * share]:
            read, keep_in, of_data = I32(0), I32(level), I32(1)
            call_ir(builder, "llvm.prefetch.p0", _VOID, [builder.gep(base, [I64(line)]), read, keep_in, of_data])
        for operand, registers, part, before in zip((a, b), (_A, _B), pair, loaded, strict=True):
            for half in range(2 if part != before else 0):
                place = builder.gep(operand, [I64((half * parts + part) * TILE_SIZE * 4)])
                call_ir(builder, "llvm.x86.tileloadd64", _VOID, [_I8(registers[half]), place, _ROW_BYTES])
        loaded = pair
        for tile in range(4):
            registers = (_I8(tile), _I8(_A[tile // 2]), _I8(_B[tile % 2]))
            call_ir(builder, "llvm.x86.tdpbf16ps", _VOID, list(registers))
