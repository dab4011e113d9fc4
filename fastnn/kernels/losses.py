"""Losses as weighted means over the batch, each with its gradient, in one pass over the rows.

A batch whose weights sum to 0 has loss 0 and gradient 0.
"""

import math

import numpy as np
from numba import types

from .compiler.jit import Shared, caller, inline, kernel
from .operations import FLOAT64, INT64, N
from .registry import Registry
from .simd.address import as_writeable, read_once
from .simd.vector import (
    absolute,
    data,
    get,
    lanes,
    load,
    load_part,
    one_hot,
    pointer,
    put,
    reduce_add,
    reduce_max,
    select,
    shift,
    splat,
    store,
    store_part,
)
from .simd.vectormath import apply, sum_of, vexp_nonpositive, vlog
from .softmax import divide, row_exp, row_max, row_max_and_sum, settle


@inline
def label_at(labels, i, n):
    """Label i, or -1 where it is none of 0..n-1: whoever owns the array may write to it at any moment."""
    label = read_once(labels, i)
    return label if 0 <= label < n else -1


@inline
def label_row(s, n, label, smoothing, share, out):
    """out = (softmax(s) - y) share for y = (1 - smoothing) one_hot + smoothing / n; Σ e^(s - shift), shift - Σ y s.

    All of it is NaN for a label that is -1.
    """
    if label < 0:
        for i in range(n):
            put(out, i, np.nan)
        return get(out, 0), get(out, 0)
    width, low, high = lanes(s), smoothing / n, 1.0 - smoothing
    if width < n <= 2 * width:
        a, b = load(s, 0), load_part(s, width, n - width, -np.inf)
        largest = reduce_max(select(a > b, a, b))
        a, b = vexp_nonpositive(a - largest), vexp_nonpositive(b - largest)
        total = reduce_add(a + b)
        inverse = 1.0 / splat(s, total)
        a, b = divide(a, splat(s, total), inverse), divide(b, splat(s, total), inverse)
        store(out, 0, (a - low - one_hot(s, label) * high) * share)
        store_part(out, width, n - width, (b - low - one_hot(s, label - width) * high) * share)
        return _label_loss(s, n, label, smoothing, largest, total)
    largest = row_max(s, n)
    if n <= width:
        e = vexp_nonpositive(load_part(s, 0, n, -np.inf) - largest)
        total = reduce_add(e)
        p = divide(e, splat(s, total), 1.0 / splat(s, total))
        store_part(out, 0, n, (p - low - one_hot(s, label) * high) * share)
    else:
        total = row_exp(s, largest, out, n)
        inverse = 1.0 / splat(s, total)
        hot = get(out, label)
        for i in range(0, n, width):
            count = min(width, n - i)
            if count == width:
                store(out, i, (divide(load(out, i), splat(s, total), inverse) - low) * share)
            else:
                e = load_part(out, i, count, 0.0)
                store_part(out, i, count, (divide(e, splat(s, total), inverse) - low) * share)
        put(out, label, (hot / total - low - high) * share)
    return _label_loss(s, n, label, smoothing, largest, total)


@inline
def _label_loss(s, n, label, smoothing, largest, total):
    top, total = settle(s, n, largest, total)
    if smoothing == 0.0:
        return total, top - get(s, label)
    return total, top - get(s, label) * (1.0 - smoothing) - sum_of(s, n) * (smoothing / n)


@inline
def target_row(s, n, y, share, out):
    """out = (softmax(s) - y) share; returns Σ e^(s - shift) and shift - Σ y s."""
    largest = row_max(s, n)
    width = lanes(s)
    total = row_exp(s, largest, out, n)
    inverse = 1.0 / splat(s, total)
    for i in range(0, n, width):
        count = min(width, n - i)
        p = divide(load_part(out, i, count, 0.0), splat(s, total), inverse)
        store_part(out, i, count, (p - load_part(y, i, count, 0.0)) * share)
    top, total = settle(s, n, largest, total)
    return total, top - target_score(s, n, y)


@inline
def target_score(s, n, y):
    """Σ y s, where a target of 0 contributes 0 even for a score of -inf."""
    width = lanes(s)
    score = splat(s, 0.0)
    for i in range(0, n, width):
        count = min(width, n - i)
        target = load_part(y, i, count, 0.0)
        score = score + select(target == 0.0, 0.0, target * load_part(s, i, count, 0.0))
    return reduce_add(score)


@inline
def squared_row(pred, n, y, share, out):
    """out = 2 (pred - y) share; returns Σ (pred - y)²."""
    width = lanes(pred)
    total = splat(pred, 0.0)
    for i in range(0, n, width):
        count = min(width, n - i)
        difference = load_part(pred, i, count, 0.0) - load_part(y, i, count, 0.0)
        total = total + difference * difference
        store_part(out, i, count, difference * (share * 2))
    return reduce_add(total)


@inline
def huber_row(pred, n, y, delta, share, out):
    """out = (pred - y) share, the difference no further from 0 than delta; returns the sum of the losses.

    NaN stays, since both comparisons with it fail.
    """
    width = lanes(pred)
    total = splat(pred, 0.0)
    for i in range(0, n, width):
        count = min(width, n - i)
        difference = load_part(pred, i, count, 0.0) - load_part(y, i, count, 0.0)
        size = absolute(difference)
        total = total + select(size > delta, (size - delta * 0.5) * delta, difference * difference * 0.5)
        bounded = select(difference > delta, delta, select(difference < -delta, -delta, difference))
        store_part(out, i, count, bounded * share)
    return reduce_add(total)


@inline
def binary_row(s, n, y, share, least, most, out):
    """out = (σ(s) - y) share; returns Σ -y log σ(s) - (1 - y) log(1 - σ(s)), both logarithms within bounds."""
    width = lanes(s)
    total = splat(s, 0.0)
    for i in range(0, n, width):
        count = min(width, n - i)
        x, target = load_part(s, i, count, 0.0), load_part(y, i, count, np.nan)
        difference, loss = _binary(x, target, least, most)
        store_part(out, i, count, difference * share)
        total = total + select(target == target, loss, 0.0)
    return reduce_add(total)


@inline
def binary_column(s, y, n, least, most):
    """s[i] = σ(s[i]) - y[i] and y[i] = the loss, for samples with one score; the same numbers as ``binary_row`` has."""
    width = lanes(s)
    for i in range(0, n, width):
        count = min(width, n - i)
        difference, loss = _binary(load_part(s, i, count, 0.0), load_part(y, i, count, 0.0), least, most)
        store_part(s, i, count, difference)
        store_part(y, i, count, loss)


@inline
def _binary(x, target, least, most):
    """σ(x) - target, and the loss; where there are bounds the logarithms are those of the rounded σ(x) and 1 - σ(x).

    Otherwise log(1 + e) keeps its digits for small e as e log u / (u - 1) with u the rounded 1 + e (N. J. Higham,
    Accuracy and Stability of Numerical Algorithms, 2nd edition, SIAM 2002, section 1.14.1).
    """
    e = vexp_nonpositive(absolute(x) * -1.0)
    u = e + 1.0
    p = select(x < 0.0, e, 1.0) / u
    if most < np.inf:
        of_one, of_zero = _within(vlog(p) * -1.0, least, most), _within(vlog((p - 1.0) * -1.0) * -1.0, least, most)
    else:
        log = select(u == 1.0, e, vlog(u) * e / (u - 1.0))
        of_one, of_zero = select(x < 0.0, log - x, log), select(x < 0.0, log, log + x)
    loss = select(target == 0.0, 0.0, target * of_one) + select(target == 1.0, 0.0, (1.0 - target) * of_zero)
    return p - target, loss


@inline
def _within(x, least, most):
    return select(x > most, most, select(x < least, least, x))


@inline
def poisson_row(s, n, y, share, out):
    """out = (e^s - y) share; returns Σ y log(y / e^s) - y + e^s."""
    total = 0.0
    for i in range(n):
        score, target = float(get(s, i)), float(get(y, i))
        mean = math.exp(score)
        put(out, i, (mean - target) * share)
        if target > 0.0:
            total += target * (math.log(target) - score)
        total += mean - target
    return total


@inline
def finish_cross_entropy(sums, differences, losses, m):
    """losses[i] = log sums[i] + differences[i]; sums is overwritten."""
    apply(vlog, sums, sums, m)
    for i in range(m):
        put(losses, i, get(sums, i) + get(differences, i))


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


@loss("binary_cross_entropy")
def _binary_cross_entropy_rows(
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


@loss("poisson")
def _poisson_rows(rows, n, s, s_ld, d, d_ld, labels, targets, order, shares, settings, step, losses, target_terms):
    for r in range(rows):
        y = shift(targets, get(order, r) * n)
        put(losses, r, poisson_row(shift(s, r * s_ld), n, y, get(shares, r), shift(d, r * d_ld)))


@kernel
def _cross_entropy(scores, labels, targets, weights, workspace):
    m, n = scores.shape
    sums, target_terms = data(workspace), shift(data(workspace), m)
    for i in range(m):
        row = shift(data(scores), i * n)
        top, total = settle(row, n, *row_max_and_sum(row, n))
        label = label_at(data(labels), i, n) if labels.size != 0 else 0
        score = get(row, max(label, 0)) if labels.size != 0 else target_score(row, n, shift(data(targets), i * n))
        put(sums, i, total)
        put(target_terms, i, top - score if label >= 0 else np.nan)
    finish_cross_entropy(sums, target_terms, sums, m)
    return weighted_mean(sums, weights, m)


@kernel
def _cross_entropy_backward(scores, labels, targets, weights, out, workspace):
    m, n = scores.shape
    sums, target_terms = data(workspace), shift(data(workspace), m)
    weight = total_weight(weights, m)
    for i in range(m):
        row, d = shift(data(scores), i * n), shift(data(out), i * n)
        share = share_of(weights, i, weight)
        if labels.size != 0:
            total, rest = label_row(row, n, label_at(data(labels), i, n), 0.0, share, d)
        else:
            total, rest = target_row(row, n, shift(data(targets), i * n), share, d)
        put(sums, i, total)
        put(target_terms, i, rest)
    finish_cross_entropy(sums, target_terms, sums, m)
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
    workspace = np.empty(2 * len(scores), scores.dtype)
    return float(_cross_entropy(as_writeable(scores), *_optional(scores, y, sample_weight), workspace))


def cross_entropy_backward(
    scores: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, out: np.ndarray
) -> float:
    """out (m, k) = (P - Y) v_i / Σ v, and the loss is returned."""
    workspace = np.empty(2 * len(scores), scores.dtype)
    return float(_cross_entropy_backward(as_writeable(scores), *_optional(scores, y, sample_weight), out, workspace))


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
