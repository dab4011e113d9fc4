"""Exponentials of narrow rows and their sums, a row in each lane: the numbers of single rows to the last bit.

A row of few scores leaves much of a vector empty, and its maximum and its sum have to go through all lanes. So as many
rows as a vector has lanes are transposed: each column is a vector then, and nothing crosses lanes. What are left of the
rows, and those of a block in which a maximum is infinite, are done one by one, or what is left has rows of zeros beside
it.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types

from .compiler.jit import inline
from .simd.sums import by_halves
from .simd.transpose import block_to_lanes, lanes_to_block
from .simd.vector import absolute, lanes, lanes_of, load, reduce_max, select, shift, splat, store
from .simd.vectormath import divide, vexp_nonpositive, vlog

# Elements that hold two vectors for each lane of the widest.
BLOCK = 32 * 16


class Block(NamedTuple):
    """Memory for a block of rows: its columns, their exponentials, and sums."""

    x: Any
    e: Any
    sums: Any


_TWO_VECTORS = {np.dtype(str(kind)): 2 * lanes_of(kind) for kind in (types.float32, types.float64)}


def are_narrow(s: np.ndarray) -> bool:
    """Whether rows are shorter than two vectors."""
    return 0 < s.shape[1] < _TWO_VECTORS[s.dtype]


@inline
def fill_a_block(s, n, i, end):
    """Whether rows i to end, of n columns, are enough for a block, and shorter than two vectors: others gain little."""
    return 0 < n < 2 * lanes(s) and i + lanes(s) <= end


@inline
def to_rows(x, n, out):
    """out[lane, c] = x[c, lane]."""
    width = lanes(x)
    for c in range(0, n, width):
        lanes_to_block(shift(x, c * width), min(width, n - c), shift(out, c), n)


@inline
def exps_in_lanes(s, n, block):
    """x[c] = column c of the first rows of s, e[c] = e^(x[c] - top); top and Σ e, not defined where top is infinite."""
    x, e, sums, width = block.x, block.e, block.sums, lanes(s)
    for c in range(0, n, width):
        block_to_lanes(shift(s, c), n, min(width, n - c), shift(x, c * width))
    top = load(x, 0)
    for c in range(1, n):
        a = load(x, c * width)
        top = select(a > top, a, top)
    for c in range(n):
        power = vexp_nonpositive(load(x, c * width) - top)
        store(e, c * width, power)
        if c < width:
            store(sums, c * width, power)
        else:
            store(sums, (c - width) * width, load(sums, (c - width) * width) + power)
    return top, by_halves(sums, min(n, width))


@inline
def are_finite(top, like):
    """Whether no lane is infinite."""
    return reduce_max(select(absolute(top) == np.inf, splat(like, 1.0), 0.0)) == 0.0


@inline
def softmax_block(s, out, n, block):
    """out = e^(s - max) / Σ for a block of rows; True, as it always can."""
    _, total = exps_in_lanes(s, n, block)
    inverse, e, width = 1.0 / total, block.e, lanes(s)
    for c in range(n):
        store(e, c * width, divide(load(e, c * width), total, inverse))
    to_rows(e, n, out)
    return True


@inline
def log_softmax_block(s, out, n, block):
    """out = (s - max) - log Σ e^(s - max) for a block of rows; False, and nothing is done, if a maximum is infinite."""
    top, total = exps_in_lanes(s, n, block)
    if not are_finite(top, s):
        return False
    log_sum, x, width = vlog(total), block.x, lanes(s)
    for c in range(n):
        store(x, c * width, load(x, c * width) - top - log_sum)
    to_rows(x, n, out)
    return True


@inline
def logsumexp_block(s, out, n, block):
    """out = max + log Σ e^(s - max) for a block of rows; False, and nothing is done, if a maximum is infinite."""
    top, total = exps_in_lanes(s, n, block)
    if not are_finite(top, s):
        return False
    store(out, 0, top + vlog(total))
    return True


@inline
def label_block(s, out, n, labels, shares, block, sums, rests):
    """What ``loss_rows.label_row`` does, for a block of rows without smoothing; False if a maximum is infinite.

    ``labels`` and ``shares`` are vectors of a number for each row, labels NaN where there is none.
    """
    top, total = exps_in_lanes(s, n, block)
    if not are_finite(top, s):
        return False
    label, e, score, inverse, width = load(labels, 0), block.e, splat(s, 0.0), 1.0 / total, lanes(s)
    share = select(label == label, load(shares, 0), np.nan)
    for c in range(n):
        is_label = label == float(c)
        score = select(is_label, load(block.x, c * width), score)
        p = divide(load(e, c * width), total, inverse)
        store(e, c * width, select(is_label, p - 1.0, p) * share)
    to_rows(e, n, out)
    store(sums, 0, total)
    store(rests, 0, select(label == label, top - score, np.nan))
    return True
