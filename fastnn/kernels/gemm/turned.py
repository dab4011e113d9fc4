"""Columns of a product that fill vectors badly, formed as rows of its transpose."""

from ..compiler.jit import inline
from ..simd.transpose import block_to_lanes
from ..simd.vector import fma, lanes, load, load_part, shift, splat, store_part
from .tile import COMBINE, STORE, most_cols

# The most rows of C of which some columns are formed transposed, for which there is memory.
MOST_ROWS = 2048


@inline
def turned_columns(m, n, k, a, b, mode):
    """How many of the last columns of C take fewer multiply-adds of vectors as the rows of Cᵀ = Bᵀ Aᵀ.

    That is where A is contiguous along its rows, so that m goes in vectors as well as n does, and n fills them less.
    """
    width, rest = lanes(a.p), n % most_cols(a.p)
    if (mode != STORE and mode != COMBINE) or a.row != 1 or b.col != 1 or m < width or m > MOST_ROWS or k < width:
        return 0
    return rest if 8 * rest * ((m + width - 1) // width) <= 7 * m * ((rest + width - 1) // width) else 0


@inline
def turn_back(m, n, turned, c, epilogue, square):
    """C (m, n) from its transpose, with memory for as many rows as a vector has lanes.

    What stands there is what the panels of C would have, to the last bit: every element is a sum over k in order.
    """
    step = lanes(c.p)
    for j in range(0, m, step):
        for i in range(0, n, step):
            rows, cols = min(step, m - j), min(step, n - i)
            block_to_lanes(shift(turned.p, i * turned.row + j), turned.row, rows, square)
            for r in range(rows):
                row, total = shift(c.p, (j + r) * c.row + i), load(square, r * step)
                if epilogue.mode == COMBINE:
                    old = load_part(row, 0, cols, 0.0) * epilogue.beta
                    total = fma(total, splat(row, epilogue.alpha), old)
                store_part(row, 0, cols, total)
