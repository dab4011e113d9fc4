"""The orders in which training takes samples."""

import numpy as np


def draw_orders(rng, rows, out):
    """Each row of out (epochs, n) = ``rows`` (n,), or 0..n-1 where that is None, shuffled by a generator."""
    for order in out:
        order[...] = np.arange(len(order)) if rows is None else rows
        rng.shuffle(order)
