"""The product of float32 matrices on the matrix unit, with the same epilogues as ``PRODUCT``.

Blocks of the inner dimension come first, as there, then chunks of the rows of A, which are packed, and blocks of B,
which are packed too and stay in the L2 cache while the strips of A pass by. Blocks of 32 x 32 of which an operand holds
a value that the unit does not take exactly, see ``is_safe``, are left to ``PRODUCT``, for this block of the inner
dimension: the decision depends on their rows and columns alone.
"""

import threading
from typing import Any

import numpy as np

from ..compiler.jit import Shared, inline
from ..simd.address import address, aligned_empty
from ..simd.vector import (
    fma,
    get,
    lanes,
    load,
    load_part,
    pointer,
    put,
    select,
    shift,
    splat,
    store_part,
)
from .amx_pack import is_safe, packing
from .amx_tile import CALLS_AHEAD, TILE_SIZE, configure, multiply, release
from .product import Epilogue, Matrix, moved, product, product_signature, sum_of_squares
from .rectifier import rectify, rectify_backward
from .tile import BIAS, BLOCK, COMBINE, COMBINE_SQUARES, RECTIFY_BACKWARD, STEP, STORE, UNIT_AT

# The most steps of a block of the inner dimension, and rows and columns of what is packed, in elements of 4 bytes.
DEPTH_OF_BLOCK = 1024
MOST_STRIPS = 128
SIZE_OF_A, SIZE_OF_B = 1_600_000, 200_000

# The memory of the unit behind the address in UNIT_AT: a tile's sums, parts to be turned, ranges, what is packed.
TURNED = BLOCK * BLOCK
RANGES_OF_A = TURNED + 3 * TILE_SIZE
RANGES_OF_B = RANGES_OF_A + 4 * MOST_STRIPS
PACKED_A = RANGES_OF_B + 4 * MOST_STRIPS
PACKED_B = PACKED_A + SIZE_OF_A
UNIT_MEMORY = PACKED_B + SIZE_OF_B

# How many parts the levels of precision split a float32 into.
PARTS = {"highest": 3, "high": 2, "medium": 1}


def _make(parts: int) -> Any:
    pack_strip, multiply_tiles = packing(parts), multiply(parts)

    @inline
    def run_strip(i, rows, j, cols, k, operands, packed, ranges, epilogue, workspace):
        """A strip of rows by a block of columns, both of which are packed, while the next strip comes into L2."""
        a, b, c = operands
        packed_a, next_a, packed_b = packed
        range_a, ranges_b = ranges
        mode, v, v_row, alpha, beta = epilogue
        sums, steps = pointer(get(pointer(workspace, 0), UNIT_AT), workspace), (k + STEP - 1) // STEP
        plain = COMBINE if mode == COMBINE_SQUARES else mode
        for r in range(0, cols, BLOCK):
            width, place = min(BLOCK, cols - r), moved(c, i, j + r)
            other = shift(v, i * v_row + j + r)
            if is_safe(k, range_a, shift(ranges_b, r // BLOCK * 2)):
                direct = mode == STORE and rows == BLOCK and width == BLOCK
                out, ld = (place.p, place.row) if direct else (sums, BLOCK)
                block, size = r // BLOCK, size_of_strip(k)
                ahead = shift(next_a, block * size // CALLS_AHEAD) if block < CALLS_AHEAD else packed_b
                multiply_tiles(steps, packed_a, shift(packed_b, block * size), out, ld, ahead)
                if not direct:
                    finish(plain, rows, width, sums, place, other, v_row, alpha, beta)
            else:
                usual = Epilogue(plain, other, v_row, alpha, beta)
                product(rows, width, k, moved(a, i, 0), moved(b, 0, j + r), place, usual, workspace)
            if mode == COMBINE_SQUARES:
                squares = shift(v, i // BLOCK * v_row + (j + r) // BLOCK)
                put(squares, 0, sum_of_squares(place, rows, width))

    @inline
    def size_of_strip(k):
        """What a strip of so many steps takes, in elements."""
        return parts * 2 * TILE_SIZE * ((k + STEP - 1) // STEP)

    @inline
    def run_chunk(m, n, k, a, b, c, epilogue, workspace):
        """The product with a block of the inner dimension, for so few rows that all that is packed of A has room."""
        unit = pointer(get(pointer(workspace, 0), UNIT_AT), workspace)
        work, packed_a, packed_b = shift(unit, TURNED), shift(unit, PACKED_A), shift(unit, PACKED_B)
        ranges_a, ranges_b = pointer(shift(unit, RANGES_OF_A), 0), pointer(shift(unit, RANGES_OF_B), 0)
        size = size_of_strip(k)
        span = min(MOST_STRIPS, SIZE_OF_B // size) * BLOCK
        for j in range(0, n, span):
            cols = min(span, n - j)
            for r in range(0, cols, BLOCK):
                pack_strip(
                    k, cols - r, shift(b.p, (j + r) * b.col), b.row, b.col, False,
                    shift(packed_b, r // BLOCK * size), work, shift(ranges_b, r // BLOCK * 2),
                )  # fmt: skip
            for i in range(0, m, BLOCK):
                rows = min(BLOCK, m - i)
                # Packed where it is used first, and again where there is nothing more to use it for.
                strip = i // BLOCK if n > span else 0
                place, noted = shift(packed_a, strip * size), shift(ranges_a, strip * 2)
                if j == 0:
                    pack_strip(k, rows, shift(a.p, i * a.row), a.col, a.row, True, place, work, noted)
                # What is not packed yet cannot be prefetched; what is in the cache costs nothing.
                is_last = i + rows == m
                to_come = shift(packed_a, 0 if is_last else (strip + 1) * size) if is_last or j > 0 else packed_b
                packed = place, to_come, packed_b
                run_strip(i, rows, j, cols, k, (a, b, c), packed, (noted, ranges_b), epilogue, workspace)

    def amx_product(mode, m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, v, v_row, alpha, beta, workspace):
        """As ``PRODUCT``, but Σ C² is that of blocks of 32 x 32."""
        a, b, c = Matrix(a, a_row, a_col), Matrix(b, b_row, b_col), Matrix(c, c_row, 1)
        if (a_row != 1 and a_col != 1) or (b_row != 1 and b_col != 1):
            product(m, n, k, a, b, c, Epilogue(mode, v, v_row, alpha, beta), workspace)
            return
        blocks = (k + DEPTH_OF_BLOCK - 1) // DEPTH_OF_BLOCK
        depth = ((k + blocks - 1) // blocks + STEP - 1) // STEP * STEP
        chunk = min(MOST_STRIPS, SIZE_OF_A // size_of_strip(depth)) * BLOCK
        split = k > depth
        first_mode, first_alpha = mode, alpha
        if split:
            first_mode = COMBINE if mode == COMBINE_SQUARES else mode
            if mode in (BIAS, RECTIFY_BACKWARD):
                first_mode, first_alpha = STORE, 1.0
        last_mode = COMBINE_SQUARES if mode == COMBINE_SQUARES else COMBINE
        configure()
        for p in range(0, k, depth):
            now = first_mode if p == 0 else (COMBINE if p + depth < k else last_mode)
            for i in range(0, m, chunk):
                at = i // BLOCK if mode == COMBINE_SQUARES else i
                epilogue = Epilogue(now, shift(v, at * v_row), v_row, first_alpha, beta if p == 0 else 1.0)
                run_chunk(
                    min(chunk, m - i), n, min(depth, k - p), moved(a, i, p), moved(b, p, 0), moved(c, i, 0), epilogue,
                    workspace,
                )  # fmt: skip
        release()
        if split and mode == BIAS:
            _finish_bias(m, n, c, v, alpha)
        if split and mode == RECTIFY_BACKWARD:
            for i in range(m):
                row = shift(c.p, i * c_row)
                rectify_backward(alpha, row, shift(v, i * v_row), row, n)

    amx_product.__qualname__ = f"amx_product_{parts}"
    return amx_product


@inline
def _finish_bias(m, n, c, v, slope):
    """C = f(C + v) row by row, where the sum came in several blocks."""
    width = lanes(v)
    for i in range(m):
        row = shift(c.p, i * c.row)
        for j in range(0, n, width):
            count = min(width, n - j)
            store_part(row, j, count, load_part(row, j, count, 0.0) + load_part(v, j, count, 0.0))
        if slope != 1.0:
            rectify(slope, row, row, n)


@inline
def finish(mode, rows, cols, sums, c, v, v_row, alpha, beta):
    """The epilogue of a block of sums, see ``tile``."""
    width = lanes(sums)
    for i in range(rows):
        for j in range(0, cols, width):
            count = min(width, cols - j)
            total, at = load(sums, i * BLOCK + j), i * c.row + j
            if mode == BIAS:
                value = total + load_part(v, j, count, 0.0)
                other = value * alpha if alpha != 0.0 else splat(sums, 0.0)
                total = select(value < 0.0, other, value)
            elif mode == RECTIFY_BACKWARD:
                y = load_part(v, i * v_row + j, count, 0.0)
                other = total * alpha if alpha != 0.0 else splat(sums, 0.0)
                total = select(y > 0.0, total, select(y != y, y, other))
            elif mode == COMBINE:
                total = fma(total, alpha, load_part(c.p, at, count, 0.0) * beta)
            store_part(c.p, at, count, total)


UNIT_PRODUCTS = {
    level: Shared(_make(parts), product_signature, name=f"amx_product_{level}") for level, parts in PARTS.items()
}


_local = threading.local()


def unit_memory() -> int:
    """The address of the calling thread's memory for the unit, kept from call to call, at the start of a cache line."""
    try:
        kept = _local.memory
    except AttributeError:
        kept = _local.memory = aligned_empty(UNIT_MEMORY, np.float32)
    return address(kept)
