"""A share of the samples set aside for validation, by their places and without a copy."""

from typing import Any

import numpy as np

from ..validation import INT64, Array, number

_STREAM = 0x5711  # what makes the numbers others than those of initial weights and orders


def share_of(validation_split: Any) -> float:
    """Return the checked share."""
    return number("validation_split", validation_split, above=0, below=1)


def split(share: float, n: int, rows: Array | None, labels: Array | None, seed: Any) -> tuple[Array, Array]:
    """Return the places (m,) int64 of samples to train on, and those to validate with.

    The share is drawn at random, by ``seed`` alone, and of each class where there are ``labels``. Of rows that come
    several times all are on one side.

    Parameters
    ----------
    share : float
        How many of the samples to validate with, > 0 and < 1; at least one, and not all.
    n : int
        The samples of X.
    rows : ndarray (m,) of int64 or None
        Those that count, None for all.
    labels : ndarray (n,) of int or None
    seed : int or sequence of int

    Raises
    ------
    ValueError
        If there is only one sample.
    """
    distinct = np.arange(n, dtype=INT64) if rows is None else _distinct(rows)
    m = len(distinct)
    if m < 2:
        raise ValueError(f"validation_split is {share:g}, but there is {m} sample: expected at least 2")
    wanted = min(max(round(share * m), 1), m - 1)
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM,))).permutation(m)
    if labels is not None:
        order, wanted = _by_class(order, labels[distinct], share, wanted)
    held_out = np.zeros(m, bool)
    held_out[order[:wanted]] = True
    validation = distinct[held_out]
    return (distinct[~held_out] if rows is None else rows[~np.isin(rows, validation)]), validation


def _distinct(rows: Array) -> Array:
    """The rows without repetitions, in the order in which they first come."""
    first = np.unique(rows, return_index=True)[1]
    first.sort()
    return rows[first]


def _by_class(order: Array, labels: Array, share: float, wanted: int) -> tuple[Array, int]:
    """Return an order that begins with the same share of each class, and how many of it to validate with."""
    _, codes = np.unique(labels, return_inverse=True)
    codes = codes[order]
    counts = np.bincount(codes)
    taken = _of_each_class(counts, share, wanted)
    if not taken.any():  # each class has but one sample
        return order, wanted
    by_class = np.argsort(codes, kind="stable")
    place = np.empty(len(codes), INT64)  # of each among those of its class
    place[by_class] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    is_taken = place < taken[codes]
    return np.concatenate([order[is_taken], order[~is_taken]]), int(taken.sum())


def _of_each_class(counts: Array, share: float, wanted: int) -> Array:
    """Return how many of each class to validate with, so that each has one to train on, and if possible one here."""
    most = counts - 1
    wanted = min(wanted, int(most.sum()))
    least = np.minimum(most, 1) if wanted >= np.count_nonzero(most) else np.zeros_like(most)
    quota = share * counts
    taken: Array = np.clip(np.floor(quota).astype(INT64), least, most)
    while taken.sum() < wanted:
        taken[np.where(taken < most, quota - taken, -np.inf).argmax()] += 1
    while taken.sum() > wanted:
        taken[np.where(taken > least, taken - quota, -np.inf).argmax()] -= 1
    return taken
