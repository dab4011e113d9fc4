"""Losses as weighted means over the batch, each with its gradient, in one pass over the rows.

A batch whose weights sum to 0 has loss 0 and gradient 0.
"""

import numpy as np
from numba import types

from .compiler.jit import Shared, caller, inline, kernel, shared
from .loss_rows import (
    binary_column,
    binary_row,
    finish_cross_entropy,
    huber_row,
    label_at,
    label_row,
    poisson_row,
    squared_row,
    target_row,
    target_score,
)
from .narrow_rows import BLOCK, Block, fill_a_block, label_block, sums_block
from .operations import FLOAT64, INT64, N
from .registry import Registry
from .simd.address import as_writeable
from .simd.vector import data, get, integer, lanes, load_part, pointer, put, reduce_add, scratch, shift, splat
from .softmax import row_max_and_sum, settle
from .threading.crew import share, task_signature
from .threading.rows import ROWS_JOB, parts_of_rows, put_rows, rows_of_part, shares_of_rows


@inline
def total_weight(weights, m):
    """Σ v, or m without weights."""
    if weights.size == 0:
        return float(m)
    total = 0.0
    for i in range(m):
        total += weights[i]
    return total


@inline
def share_of(weights, i, total):
    """v_i / Σ v, 0 where that is undefined."""
    if total == 0.0:
        return 0.0
    return (weights[i] if weights.size != 0 else 1.0) / total


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


# What the jobs of cross-entropies have beyond rows: the numbers of the rows, and the labels, targets and weights of the
# samples or 0; and Σ of the weights.
_SUMS, _LABELS, _TARGETS, _WEIGHTS, _TOTAL, _JOB = range(ROWS_JOB, ROWS_JOB + 6)


@shared(task_signature)
def _CROSS_ENTROPY(like, job, which, parts, thread):
    rows = rows_of_part(like, job, which, parts)
    sums, target_terms = _numbers_of_rows(like, job, rows)
    labels, targets, n, i = pointer(get(job, _LABELS), job), pointer(get(job, _TARGETS), like), rows.n, rows.first
    block = Block(scratch(like, BLOCK), scratch(like, BLOCK), scratch(like, BLOCK))
    while i < rows.end:
        end, in_lanes = i + 1, False
        if fill_a_block(like, n, i, rows.end):
            end = i + lanes(like)
            in_lanes = sums_block(shift(rows.s, i * n), n, block, shift(sums, i), shift(target_terms, i))
        while i < end:
            row = shift(rows.s, i * n)
            if not in_lanes:
                top, total = settle(row, n, *row_max_and_sum(row, n, row, False))
                put(sums, i, total)
                put(target_terms, i, top)
            top, label = get(target_terms, i), label_at(labels, i, n) if get(job, _LABELS) != 0 else 0
            score = get(row, max(label, 0)) if get(job, _LABELS) != 0 else target_score(row, n, shift(targets, i * n))
            put(target_terms, i, top - score if label >= 0 else np.nan)
            i += 1


@shared(task_signature)
def _CROSS_ENTROPY_BACKWARD(like, job, which, parts, thread):
    rows = rows_of_part(like, job, which, parts)
    sums, target_terms = _numbers_of_rows(like, job, rows)
    labels, targets, n, i = pointer(get(job, _LABELS), job), pointer(get(job, _TARGETS), like), rows.n, rows.first
    block = Block(scratch(like, BLOCK), scratch(like, BLOCK), scratch(like, BLOCK))
    label_numbers, shares = scratch(like, BLOCK), scratch(like, BLOCK)
    while i < rows.end:
        row, d, end = shift(rows.s, i * n), shift(rows.out, i * n), i + 1
        if get(job, _LABELS) != 0 and fill_a_block(like, n, i, rows.end):
            end = i + lanes(like)
            for lane in range(lanes(like)):
                label = label_at(labels, i + lane, n)
                put(label_numbers, lane, label if label >= 0 else np.nan)
                put(shares, lane, _share_of_row(like, job, i + lane))
            if label_block(row, d, n, label_numbers, shares, block, shift(sums, i), shift(target_terms, i)):
                i = end
        while i < end:
            row, d = shift(rows.s, i * n), shift(rows.out, i * n)
            if get(job, _LABELS) != 0:
                total, rest = label_row(row, n, label_at(labels, i, n), 0.0, _share_of_row(like, job, i), d)
            else:
                total, rest = target_row(row, n, shift(targets, i * n), _share_of_row(like, job, i), d)
            put(sums, i, total)
            put(target_terms, i, rest)
            i += 1


@inline
def _share_of_row(like, job, i):
    weight = get(pointer(shift(job, _TOTAL), 0.0), 0)
    if weight == 0.0:
        return 0.0
    return (get(pointer(get(job, _WEIGHTS), like), i) if get(job, _WEIGHTS) != 0 else 1.0) / weight


@inline
def _numbers_of_rows(like, job, rows):
    sums = pointer(get(job, _SUMS), like)
    return sums, shift(sums, rows.m)


@kernel
def _cross_entropy(scores, labels, targets, weights, out, workspace, task, crew, plan):
    """The loss, and the gradient where the task has one; workspace is for two numbers a row."""
    m, n = scores.shape
    sums, job = data(workspace), scratch(pointer(0, 0), _JOB)
    put_rows(job, data(scores), data(out), m, n)
    put(job, _SUMS, integer(sums))
    put(job, _LABELS, integer(data(labels)) if labels.size != 0 else 0)
    put(job, _TARGETS, integer(data(targets)))
    put(job, _WEIGHTS, integer(data(weights)) if weights.size != 0 else 0)
    put(pointer(shift(job, _TOTAL), 0.0), 0, total_weight(weights, m))
    share(crew, plan, task, job, parts_of_rows(m, plan))
    finish_cross_entropy(sums, shift(sums, m), sums, m)
    return weighted_mean(sums, weights, m)


@kernel
def _squared_error(pred, y, weights, workspace):
    m, n = pred.shape
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
    losses = data(workspace)
    weight = total_weight(weights, m)
    for i in range(m):
        row, target, d = shift(data(pred), i * n), shift(data(y), i * n), shift(data(out), i * n)
        put(losses, i, squared_row(row, n, target, share_of(weights, i, weight), d))
    return weighted_mean(losses, weights, m)


@inline
def weighted_mean(losses, weights, m):
    """Σ v_i loss_i / Σ v_i in float64."""
    weight = total_weight(weights, m)
    if weight == 0.0:
        return 0.0
    total = 0.0
    for i in range(m):
        total += float(get(losses, i)) * (weights[i] if weights.size != 0 else 1.0)
    return total / weight


_NO_LABELS = np.empty(0, np.int64)
_NOTHING = {np.dtype(kind): (np.empty(0, kind), np.empty((0, 0), kind)) for kind in (np.float32, np.float64)}


def _optional(scores: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Labels, targets and weights, the missing ones as empty arrays of one type."""
    none, no_rows = _NOTHING[scores.dtype]
    weights = none if sample_weight is None else as_writeable(sample_weight)
    y = as_writeable(y)
    return (y, no_rows, weights) if y.ndim == 1 else (_NO_LABELS, y, weights)


def cross_entropy(scores: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None) -> float:
    """The mean of -s_y + log Σ e^s over scores (m, k); y holds labels (m,) or targets (m, k)."""
    return _shared_cross_entropy(_CROSS_ENTROPY, scores, y, sample_weight, scores)


def cross_entropy_backward(
    scores: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, out: np.ndarray
) -> float:
    """out (m, k) = (P - Y) v_i / Σ v, and the loss is returned."""
    return _shared_cross_entropy(_CROSS_ENTROPY_BACKWARD, scores, y, sample_weight, out)


def _shared_cross_entropy(
    task: Shared, scores: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, out: np.ndarray
) -> float:
    workspace = np.empty(2 * len(scores), scores.dtype)
    given = as_writeable(scores), *_optional(scores, y, sample_weight), as_writeable(out)
    return float(_cross_entropy(*given, workspace, *shares_of_rows(task, scores)))


def squared_error(pred: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None) -> float:
    """The mean over samples of Σ_outputs (pred - y)², for pred and y (m, k)."""
    weights = _NOTHING[pred.dtype][0] if sample_weight is None else as_writeable(sample_weight)
    return float(_squared_error(as_writeable(pred), as_writeable(y), weights, np.empty(len(pred), pred.dtype)))


def squared_error_backward(pred: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, out: np.ndarray) -> float:
    """out (m, k) = 2 (pred - y) v_i / Σ v, and the loss is returned."""
    weights = _NOTHING[pred.dtype][0] if sample_weight is None else as_writeable(sample_weight)
    workspace = np.empty(len(pred), pred.dtype)
    return float(_squared_error_backward(as_writeable(pred), as_writeable(y), weights, out, workspace))


@kernel
def _with_gradient(address, scores, targets, weights, settings, order, shares, workspace, out):
    """The weighted mean of a loss of real targets, and its gradient; workspace is for two numbers a row."""
    m, n = scores.shape
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
    weights = _NOTHING[dtype][0] if sample_weight is None else as_writeable(sample_weight)
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
