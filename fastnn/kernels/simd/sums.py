"""Sums over outputs that are a vector each, in the order in which the lanes of a row of them would be added up.

A row of outputs is some vectors, which are summed lane by lane and then over the lanes, by halves.
"""

from ..compiler.jit import inline
from .vector import lanes, load, store


@inline
def add_output(sums, c, n, x, in_pairs):
    """Add output c of n to the lane of a sum that it would be in, where ``in_pairs`` every other vector has its own."""
    width = lanes(sums)
    pairs = n // (2 * width) * 2 * width if in_pairs else 0
    odd = c < pairs and c // width % 2 == 1
    place = (c % width + (width if odd else 0)) * width
    if c < (2 * width if odd else width):
        store(sums, place, x)
    else:
        store(sums, place, load(sums, place) + x)


@inline
def sum_of_outputs(sums, n, in_pairs):
    """The sum of all, the two of a pair first."""
    width = lanes(sums)
    if in_pairs and n >= 2 * width:
        for j in range(width):
            store(sums, j * width, load(sums, j * width) + load(sums, (width + j) * width))
    return by_halves(sums, min(n, width))


@inline
def by_halves(sums, count):
    """The sum of so many vectors, which stand for the lanes of one; what is not there would add zeros."""
    width = lanes(sums)
    half = width // 2
    while half > 0:
        for j in range(count - half):
            store(sums, j * width, load(sums, j * width) + load(sums, (half + j) * width))
        count = min(count, half)
        half //= 2
    return load(sums, 0)
