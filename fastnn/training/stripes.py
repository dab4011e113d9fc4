"""How samples that many processes hold are shuffled and dealt into batches: in stripes, of which each is a stream.

A batch takes from all stripes, of each as many as its share of the samples says. Which these are depends on the stripes
alone, and not on who holds them.
"""

import numpy as np

from ..validation import INT64, Array


class Stripes:
    """The stripes of all samples.

    Parameters
    ----------
    sizes : list of int
        The samples of each stripe.
    first, own : int
        The first stripe that this process holds, and how many.
    batch_size : int
        The samples of a batch.
    """

    def __init__(self, sizes: list[int], first: int, own: int, batch_size: int) -> None:
        self.sizes, self.first, self.own = sizes, first, own
        self.total = sum(sizes)
        # Where the samples of a batch (rows) begin in each stripe (columns).
        self._starts = dealt(np.array(sizes, INT64), batch_size)
        self._begins = np.cumsum([0, *sizes[first : first + own]])
        self._orders = [np.arange(*self._begins[i : i + 2], dtype=INT64) for i in range(own)]

    def shuffle(self, key: int) -> None:
        """Bring the samples of each stripe into another order, which follows from a key and the stripe's number."""
        for i, order in enumerate(self._orders):
            order[...] = np.arange(*self._begins[i : i + 2])
            np.random.Generator(np.random.PCG64([key, self.first + i])).shuffle(order)

    def order(self, i: int) -> Array:
        """Return the samples of stripe i of this process, as they come in this epoch."""
        return self._orders[i]

    def batch(self, number: int) -> list[tuple[Array, int]]:
        """Return for each stripe of this process its samples of a batch, and at which row of the batch they begin."""
        starts, ends = self._starts[number : number + 2]
        before = np.cumsum(ends - starts) - (ends - starts)
        mine = range(self.first, self.first + self.own)
        return [(self._orders[s - self.first][starts[s] : ends[s]], int(before[s])) for s in mine]

    def rows(self, number: int) -> int:
        """Return how many samples a batch has."""
        return int((self._starts[number + 1] - self._starts[number]).sum())


def dealt(sizes: Array, batch_size: int) -> Array:
    """Return how many samples of each stripe come before each batch, and after the last (batches + 1, stripes).

    Sample j of n in a stripe stands at (j + 1/2) / n of the epoch, as in Webster's method of apportionment, so that
    every batch is full, no stripe goes back, and each keeps within a sample or so of its share.
    """
    n = int(sizes.sum())
    counts = np.zeros((-(-n // batch_size) + 1, len(sizes)), INT64)
    there = np.flatnonzero(sizes)
    own = sizes[there]
    for row, target in enumerate(range(batch_size, n + batch_size, batch_size), start=1):
        target = min(target, n)
        found = np.minimum((2 * target * own + n) // (2 * n), own)
        while (left := target - int(found.sum())) != 0:
            if left > 0:
                place = int(np.argmin(np.where(found < own, (2 * found + 1) / own, np.inf)))
                found[place] += 1
            else:
                place = len(own) - 1 - int(np.argmax(((2 * found - 1) / own)[::-1]))
                found[place] -= 1
        counts[row, there] = found
    return counts
