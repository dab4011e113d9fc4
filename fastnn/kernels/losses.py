"""Losses as weighted means over the batch, each with its gradient, in one pass over the rows.

A batch whose weights sum to 0 has loss 0 and gradient 0.
"""

import numpy as np
from numba import types

from .compiler.jit import Shared, caller, kernel
from .cross_entropy import NOTHING, mean_cross_entropy
from .loss_rows import (
    Weights,
    binary_column,
    binary_row,
    finish_cross_entropy,
    huber_row,
    label_at,
    label_row,
    poisson_row,
    share_of,
    squared_row,
    target_row,
    total_weight,
    weighted_mean,
)
from .operations import FLOAT64, INT64, N
from .registry import Registry
from .simd.address import as_writeable
from .simd.vector import data, get, lanes, load_part, pointer, put, reduce_add, shift, splat


def loss_signature(dtype):
    """(rows, n, scores, s_ld, gradient, d_ld, labels, targets, order, shares, settings, step, losses, target_terms).

    Row r belongs to sample order[r], whose label is at the address ``labels``, or if that is 0 its n targets are in
    ``targets``. shares[r] is what its gradient is multiplied by. ``target_terms`` is memory for a number a row.
    """
    p = types.CPointer(dtype)
    return types.void(N, N, p, N, p, N, N, p, INT64, FLOAT64, FLOAT64, N, p, p)


call_loss = caller(loss_signature)

# The loss of each row of scores, and its gradient, by the name that the class, the kernel and the twin share.
LOSSES = Registry()


def loss(name):
    """Register a function as the loss of that name, compiled at its first use."""

    def register(function):
        LOSSES[name] = Shared(function, loss_signature)
        return function

    return register


@loss("cross_entropy")
def _cross_entropy_rows(
    rows, n, s, s_ld, d, d_ld, labels, targets, order, shares, settings, step, losses, target_terms
):
    """Settings: label smoothing, and the least and the most that the loss of a row may be."""
    smoothing, least, most = get(settings, 0), get(settings, 1), get(settings, 2)
    for r in range(rows):
        at, row, out = get(order, r), shift(s, r * s_ld), shift(d, r * d_ld)
        if labels != 0:
            label = label_at(pointer(labels, order), at, n)
            exp_sum, rest = label_row(row, n, label, smoothing, get(shares, r), out)
        else:
            exp_sum, rest = target_row(row, n, shift(targets, at * n), get(shares, r), out)
        put(losses, r, exp_sum)
        put(target_terms, r, rest)
    finish_cross_entropy(losses, target_terms, losses, rows)
    for r in range(rows):
        loss = get(losses, r)
        if loss > most:  # NaN stays
            put(losses, r, most)
        elif loss < least:
            put(losses, r, least)


@loss("squared_error")
def _squared_error_rows(
    rows, n, s, s_ld, d, d_ld, labels, targets, order, shares, settings, step, losses, target_terms
):
    for r in range(rows):
        y = shift(targets, get(order, r) * n)
        put(losses, r, squared_row(shift(s, r * s_ld), n, y, get(shares, r), shift(d, r * d_ld)))


@loss("huber")
def _huber_rows(rows, n, s, s_ld, d, d_ld, labels, targets, order, shares, settings, step, losses, target_terms):
    """Settings: delta."""
    for r in range(rows):
        y = shift(targets, get(order, r) * n)
        put(losses, r, huber_row(shift(s, r * s_ld), n, y, get(settings, 0), get(shares, r), shift(d, r * d_ld)))


@loss("bounded_binary_cross_entropy")
def _bounded_binary_cross_entropy_rows(
    rows, n, s, s_ld, d, d_ld, labels, targets, order, shares, settings, step, losses, target_terms
):
    """Settings: as of the cross-entropy. Samples with one score each come together into vectors."""
    least, most = get(settings, 1), get(settings, 2)
    if n == 1:
        for r in range(rows):
            put(target_terms, r, get(s, r * s_ld))
            put(losses, r, get(targets, get(order, r)))
        binary_column(target_terms, losses, rows, least, most)
        for r in range(rows):
            put(d, r * d_ld, get(target_terms, r) * get(shares, r))
        return
    for r in range(rows):
        y = shift(targets, get(order, r) * n)
        put(losses, r, binary_row(shift(s, r * s_ld), n, y, get(shares, r), least, most, shift(d, r * d_ld)))


@loss("poisson_deviance")
def _poisson_deviance_rows(
    rows, n, s, s_ld, d, d_ld, labels, targets, order, shares, settings, step, losses, target_terms
):
    for r in range(rows):
        y = shift(targets, get(order, r) * n)
        put(losses, r, poisson_row(shift(s, r * s_ld), n, y, get(shares, r), shift(d, r * d_ld)))


@kernel
def _squared_error(pred, y, weights, workspace):
    m, n = pred.shape
    weights = Weights(data(weights), weights.size)
    losses, width = data(workspace), lanes(data(pred))
    for i in range(m):
        row, target = shift(data(pred), i * n), shift(data(y), i * n)
        total = splat(row, 0.0)
        for j in range(0, n, width):
            count = min(width, n - j)
            difference = load_part(row, j, count, 0.0) - load_part(target, j, count, 0.0)
            total = total + difference * difference
        put(losses, i, reduce_add(total))
    return weighted_mean(losses, weights, m)


@kernel
def _squared_error_backward(pred, y, weights, out, workspace):
    m, n = pred.shape
    losses, weights = data(workspace), Weights(data(weights), weights.size)
    weight = total_weight(weights, m)
    for i in range(m):
        row, target, d = shift(data(pred), i * n), shift(data(y), i * n), shift(data(out), i * n)
        put(losses, i, squared_row(row, n, target, share_of(weights, i, weight), d))
    return weighted_mean(losses, weights, m)


def cross_entropy(scores: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None) -> float:
    """The mean of -s_y + log Σ e^s over scores (m, k); y holds labels (m,) or targets (m, k)."""
    return mean_cross_entropy(scores, y, sample_weight)


def cross_entropy_backward(
    scores: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, out: np.ndarray
) -> float:
    """out (m, k) = (P - Y) v_i / Σ v, and the loss is returned."""
    return mean_cross_entropy(scores, y, sample_weight, out)


def squared_error(pred: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None) -> float:
    """The mean over samples of Σ_outputs (pred - y)², for pred and y (m, k)."""
    weights = NOTHING[pred.dtype][0] if sample_weight is None else as_writeable(sample_weight)
    return float(_squared_error(as_writeable(pred), as_writeable(y), weights, np.empty(len(pred), pred.dtype)))


def squared_error_backward(pred: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, out: np.ndarray) -> float:
    """out (m, k) = 2 (pred - y) v_i / Σ v, and the loss is returned."""
    weights = NOTHING[pred.dtype][0] if sample_weight is None else as_writeable(sample_weight)
    workspace = np.empty(len(pred), pred.dtype)
    return float(_squared_error_backward(as_writeable(pred), as_writeable(y), weights, out, workspace))


@kernel
def _with_gradient(address, scores, targets, weights, settings, order, shares, workspace, out):
    """The weighted mean of a loss of real targets, and its gradient; workspace is for two numbers a row."""
    m, n = scores.shape
    weights = Weights(data(weights), weights.size)
    p, weight = data(scores), total_weight(weights, m)
    for i in range(m):
        order[i], shares[i] = i, share_of(weights, i, weight)
    call_loss(
        address, p,
        (m, n, p, n, data(out), n, 0, data(targets), data(order), data(shares), data(settings), 0, data(workspace),
         shift(data(workspace), m)),
    )  # fmt: skip
    return weighted_mean(data(workspace), weights, m)


def with_gradient(
    name: str, pred: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, out: np.ndarray, *settings: float
) -> float:
    """out (m, k) = the gradient of the registered loss of that name, for targets y (m, k), and the loss is returned."""
    m, dtype = len(pred), pred.dtype
    weights = NOTHING[dtype][0] if sample_weight is None else as_writeable(sample_weight)
    work = np.empty(m, np.int64), np.empty(m), np.empty(2 * m, dtype)
    address, numbers = LOSSES[name].address(dtype), np.array(settings, np.float64)
    return float(_with_gradient(address, as_writeable(pred), as_writeable(y), weights, numbers, *work, out))


def huber(pred: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, delta: float) -> float:
    """The mean over samples of Σ_outputs of r² / 2 where |r| <= delta, else delta (|r| - delta / 2), r = pred - y."""
    return with_gradient("huber", pred, y, sample_weight, np.empty_like(pred), delta)


def huber_backward(
    pred: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, delta: float, out: np.ndarray
) -> float:
    """out (m, k) = r v_i / Σ v, r = pred - y no further from 0 than delta, and the loss is returned."""
    return with_gradient("huber", pred, y, sample_weight, out, delta)
