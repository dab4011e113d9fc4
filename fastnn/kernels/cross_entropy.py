"""Cross-entropy over all rows of scores, with its gradient or without, in parts that threads share."""

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .builtin import DOUBLES, IN_PLACE, INTEGERS, REALS
from .compiler.jit import inline, shared
from .entries import ROWWISE, WRITTEN, Entry
from .given import array_of, entry_signature
from .loss_rows import (
    Weights,
    finish_cross_entropy,
    label_at,
    label_row,
    share_of,
    target_row,
    target_score,
    total_weight,
    weighted_mean,
)
from .narrow_rows import BLOCK, Block, are_narrow, exps_in_lanes, fill_a_block, label_block
from .simd.vector import get, lanes, put, scratch, shift, store_part
from .softmax import row_max_and_sum, settle
from .threading.crew import share, task_signature
from .threading.rows import parts_of_rows, shares_of_rows
from .threading.team import part

# The arguments of a mean, whose task finds them as the call wrote them down: memory for two numbers a row, the scores,
# where the gradient goes if there is one, labels, targets and weights or nothing, the mean and its weight, and orders.
_SUMS, _SCORES, _OUT, _LABELS, _TARGETS, _WEIGHTS, _MEAN, _ORDERS = range(8)


@shared(entry_signature)
def _mean_cross_entropy(given, like):
    """The rows in parts, and the weighted mean; the orders: a task, who makes it, and whether it takes narrow rows."""
    sums, scores, out = array_of(given, _SUMS, like), array_of(given, _SCORES, like), array_of(given, _OUT, like)
    labels, targets = array_of(given, _LABELS, 0), array_of(given, _TARGETS, like)
    weights, mean, orders = array_of(given, _WEIGHTS, like), array_of(given, _MEAN, 0.0).p, array_of(given, _ORDERS, 0)
    m, weights = scores.rows, Weights(weights.p, weights.size)
    has_answers = labels.size == m or (labels.size == 0 and targets.size == scores.size)
    if scores.ndim != 2 or sums.size != 2 * m or out.size != scores.size or not has_answers:
        return 0
    if get(orders.p, 3) != 0 and (scores.cols == 0 or scores.cols >= 2 * lanes(like)):
        return 0  # memory for a block is not for such rows: the array was another when the task was chosen
    if weights.size != 0 and weights.size != m:
        return 0
    put(mean, 1, total_weight(weights, m))
    plan = get(orders.p, 2)
    share(get(orders.p, 1), plan, get(orders.p, 0), given, parts_of_rows(m, plan))
    finish_cross_entropy(sums.p, shift(sums.p, m), sums.p, m)
    put(mean, 0, weighted_mean(sums.p, weights, m))
    return 1


class _Job(NamedTuple):
    """What the forward tasks work on: scores (m, n), labels or else targets, and memory for the numbers of the rows."""

    s: Any
    m: int
    n: int
    labels: Any
    has_labels: bool
    targets: Any
    sums: Any


@inline
def _job_of(like, given):
    scores, labels, targets = (
        array_of(given, _SCORES, like),
        array_of(given, _LABELS, 0),
        array_of(given, _TARGETS, like),
    )
    sums = array_of(given, _SUMS, like).p
    return _Job(scores.p, scores.rows, scores.cols, labels.p, labels.size != 0, targets.p, sums)


@inline
def _put_rest(job, i, row):
    """Row i's shift becomes the rest of its loss; where it is infinite both numbers are set right before."""
    top = get(job.sums, job.m + i)
    if math.isinf(top):
        top, total = settle(row, job.n, top, top)
        put(job.sums, i, total)
    label = label_at(job.labels, i, job.n) if job.has_labels else 0
    score = get(row, max(label, 0)) if job.has_labels else target_score(row, job.n, shift(job.targets, i * job.n))
    put(job.sums, job.m + i, top - score if label >= 0 else np.nan)


@shared(task_signature)
def _CROSS_ENTROPY(like, given, which, parts, thread):
    job = _job_of(like, given)
    first, end = part(job.m, 1, which, parts)
    for i in range(first, end):
        row = shift(job.s, i * job.n)
        top, total = row_max_and_sum(row, job.n, row, False)
        put(job.sums, i, total)
        put(job.sums, job.m + i, top)
        _put_rest(job, i, row)


@shared(task_signature)
def _CROSS_ENTROPY_OF_NARROW(like, given, which, parts, thread):
    """A row in each lane; where there are too few rows left, others of zeros."""
    job, width, filled = _job_of(like, given), lanes(like), scratch(like, BLOCK)
    block = Block(scratch(like, BLOCK), scratch(like, BLOCK), scratch(like, BLOCK))
    first, end = part(job.m, 1, which, parts)
    for i in range(first, end, width):
        rows, count = shift(job.s, i * job.n), min(width, end - i)
        if count < width:
            for j in range(width * job.n):
                put(filled, j, get(rows, j) if j < count * job.n else 0.0)
            rows = filled
        top, total = exps_in_lanes(rows, job.n, block)
        store_part(job.sums, i, count, total)
        store_part(job.sums, job.m + i, count, top)
        for lane in range(count):
            _put_rest(job, i + lane, shift(rows, lane * job.n))


@shared(task_signature)
def _CROSS_ENTROPY_BACKWARD(like, job, which, parts, thread):
    scores, labels, targets = array_of(job, _SCORES, like), array_of(job, _LABELS, 0), array_of(job, _TARGETS, like)
    m, n, sums, out = scores.rows, scores.cols, array_of(job, _SUMS, like).p, array_of(job, _OUT, like).p
    weights, weight = array_of(job, _WEIGHTS, like), get(array_of(job, _MEAN, 0.0).p, 1)
    target_terms, has_labels, weights = shift(sums, m), labels.size != 0, Weights(weights.p, weights.size)
    block = Block(scratch(like, BLOCK), scratch(like, BLOCK), scratch(like, BLOCK))
    label_numbers, shares = scratch(like, BLOCK), scratch(like, BLOCK)
    i, last = part(m, 1, which, parts)
    while i < last:
        row, d, end = shift(scores.p, i * n), shift(out, i * n), i + 1
        if has_labels and fill_a_block(like, n, i, last):
            end = i + lanes(like)
            for lane in range(lanes(like)):
                label = label_at(labels.p, i + lane, n)
                put(label_numbers, lane, label if label >= 0 else np.nan)
                put(shares, lane, share_of(weights, i + lane, weight))
            if label_block(row, d, n, label_numbers, shares, block, shift(sums, i), shift(target_terms, i)):
                i = end
        while i < end:
            row, d = shift(scores.p, i * n), shift(out, i * n)
            if has_labels:
                total, rest = label_row(row, n, label_at(labels.p, i, n), 0.0, share_of(weights, i, weight), d)
            else:
                total, rest = target_row(row, n, shift(targets.p, i * n), share_of(weights, i, weight), d)
            put(sums, i, total)
            put(target_terms, i, rest)
            i += 1


_ARGUMENTS = [(REALS, WRITTEN), (REALS, ROWWISE), (REALS, ROWWISE), (INTEGERS, ROWWISE), (REALS, ROWWISE)]
_ARGUMENTS += [(REALS, ROWWISE), (DOUBLES, WRITTEN), (INTEGERS, ROWWISE)]
_MEAN_CROSS_ENTROPY = Entry("cross_entropy", _mean_cross_entropy, _ARGUMENTS, IN_PLACE, is_quick=False)
_NO_LABELS = np.empty(0, np.int64)
# No weights, and no rows.
NOTHING = {np.dtype(kind): (np.empty(0, kind), np.empty((0, 0), kind)) for kind in (np.float32, np.float64)}


@functools.lru_cache(maxsize=64)
def _orders(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def mean_cross_entropy(
    scores: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, out: np.ndarray | None = None
) -> float:
    """The weighted mean over labels y (m,) or targets (m, k), and the gradient where there is an ``out`` for it."""
    task, dtype = _CROSS_ENTROPY_BACKWARD, scores.dtype
    if out is None:
        task, out = _CROSS_ENTROPY_OF_NARROW if are_narrow(scores) else _CROSS_ENTROPY, scores
    none, no_rows = NOTHING[dtype]
    answers = (y, no_rows) if y.ndim == 1 else (_NO_LABELS, y)
    given = scores, out, *answers, none if sample_weight is None else sample_weight
    _, *shares = shares_of_rows(task, scores)
    orders = _orders(task.address(dtype), *shares, task is _CROSS_ENTROPY_OF_NARROW)
    sums, mean = np.empty(2 * len(scores), dtype), np.empty(2)
    if _MEAN_CROSS_ENTROPY.attempt(sums, *given, mean, orders) is None:  # as where memory is not aligned
        given = tuple(map(np.array, given))
        _MEAN_CROSS_ENTROPY(sums, *given, mean, orders)
        if out is not scores:
            out[...] = given[1]
    return float(mean[0])
