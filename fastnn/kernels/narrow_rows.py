"""Exponentials of narrow rows and their sums, a row in each lane: the numbers of single rows to the last bit.

A row of few scores leaves much of a vector empty, and its maximum and its sum have to go through all lanes. So as many
rows as a vector has lanes are transposed: each column is a vector then, and nothing crosses lanes. What are left of the
rows, and those of a block in which a maximum is infinite, are done one by one.
"""

import numpy as np

from .compiler.jit import inline
from .simd.sums import add_output, sum_of_outputs
from .simd.transpose import lanes_to_block, transpose_block
from .simd.vector import absolute, lanes, load, reduce_max, select, shift, splat, store
from .simd.vectormath import divide, vexp_nonpositive

# The most columns of rows that are narrow, and the elements of a block of them and of the memory for its sums.
NARROW = 32
BLOCK = SUMS = 32 * 16


@inline
def fill_a_block(s, n, i, end):
    """Whether rows i to end of n columns are enough, and narrow enough, for a block."""
    return n <= NARROW and i + lanes(s) <= end


@inline
def to_lanes(s, n, x):
    """x[c, lane] = s[lane, c] for the first rows of s, one for each lane, and their n columns."""
    width = lanes(s)
    for c in range(0, n, width):
        transpose_block(shift(s, c), n, width, min(width, n - c), shift(x, c * width), width)


@inline
def to_rows(x, n, out):
    """out[lane, c] = x[c, lane]."""
    width = lanes(x)
    for c in range(0, n, width):
        lanes_to_block(shift(x, c * width), min(width, n - c), shift(out, c), n)


@inline
def exps_in_lanes(x, n, e, sums):
    """e[c] = e^(x[c] - top) for n columns; the maximum and the sum of each lane, not defined where that is infinite."""
    width = lanes(x)
    top = load(x, 0)
    for c in range(1, n):
        a = load(x, c * width)
        top = select(a > top, a, top)
    for c in range(n):
        power = vexp_nonpositive(load(x, c * width) - top)
        store(e, c * width, power)
        add_output(sums, c, n, power, True)
    return top, sum_of_outputs(sums, n, True)


@inline
def are_finite(top, like):
    """Whether no lane is infinite."""
    return reduce_max(select(absolute(top) == np.inf, splat(like, 1.0), 0.0)) == 0.0


@inline
def labels_in_lanes(x, e, n, total, labels, shares):
    """e[c] = (e[c] / total - [c is the label]) share, NaN for a label of NaN; returns the scores of the labels."""
    width, score, inverse = lanes(x), splat(x, 0.0), 1.0 / total
    shares = select(labels == labels, shares, np.nan)
    for c in range(n):
        is_label = labels == float(c)
        score = select(is_label, load(x, c * width), score)
        p = divide(load(e, c * width), total, inverse)
        store(e, c * width, select(is_label, p - 1.0, p) * shares)
    return select(labels == labels, score, np.nan)
