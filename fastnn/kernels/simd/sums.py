"""Sums over vectors in the order in which the lanes of one are added up."""

from ..compiler.jit import inline
from .vector import lanes, load, store


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
