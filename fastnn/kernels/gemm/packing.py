"""Copies of parts of a matrix in the order in which the tiles of a product read them."""

from ..compiler.jit import inline
from ..simd.transpose import transpose_block
from ..simd.vector import get, lanes, load, load_part, prefetch, put, shift, store, store_part

# So many rows are copied together, panel by panel: panels lie pages apart, and a CPU remembers few pages to write to.
_TOGETHER = 8


@inline
def pack_tile(rows, known, k, a, out):
    """Pack a row tile of A, its rows side by side: out[p rows + r] = a[r, p].

    A has ``known`` rows: what is read beyond those of the tile, to fill a vector, is overwritten by what follows, and
    behind the tile there is room for a vector.
    """
    width = lanes(a.p)
    if a.col == 1:
        for r in range((rows - 1) // width * width, -1, -width):
            for p in range(0, k, width):
                transpose_block(
                    shift(a.p, r * a.row + p), a.row, min(width, known - r), min(width, k - p),
                    shift(out, p * rows + r), rows,
                )  # fmt: skip
    elif a.row == 1:
        for p in range(k):
            for r in range(0, rows, width):
                if known - r >= width:
                    store(out, p * rows + r, load(a.p, p * a.col + r))
                else:
                    store(out, p * rows + r, load_part(a.p, p * a.col + r, known - r, 0.0))
    else:
        for p in range(k):
            for r in range(rows):
                put(out, p * rows + r, get(a.p, r * a.row + p * a.col))


@inline
def pack_block(k, n, b, out, width):
    """Pack a block of B in panels of ``width`` columns, one after the other: out[j k + p width + q] = b[p, j + q].

    Where rows are contiguous the next ones are asked for early: where a row begins a page, the CPU would not see it
    coming.
    """
    vector = lanes(b.p)
    if b.col == 1:
        for first in range(0, k, _TOGETHER):
            for j in range(0, n, width):
                for p in range(first, min(k, first + _TOGETHER)):
                    for q in range(j, j + width, vector):
                        prefetch(b.p, (p + _TOGETHER) * b.row + q)
                    copy_row(shift(b.p, p * b.row + j), shift(out, j * k + p * width), min(width, n - j))
    elif b.row == 1:
        for j in range(0, n, width):
            for q in range(0, min(width, n - j), vector):
                for p in range(0, k, vector):
                    transpose_block(
                        shift(b.p, (j + q) * b.col + p), b.col, min(vector, n - j - q), min(vector, k - p),
                        shift(out, j * k + p * width + q), width,
                    )  # fmt: skip
    else:
        for j in range(0, n, width):
            for p in range(k):
                for q in range(min(width, n - j)):
                    put(out, j * k + p * width + q, get(b.p, p * b.row + (j + q) * b.col))


@inline
def copy_row(x, out, n):
    """out (n,) = x."""
    width = lanes(out)
    i = 0
    while i + width <= n:
        store(out, i, load(x, i))
        i += width
    if i < n:
        store_part(out, i, n - i, load_part(x, i, n - i, 0.0))
