"""The losses of single rows, each with its gradient, and their mean: what an epoch and functions on arrays go by."""

import math
from typing import Any, NamedTuple

import numpy as np

from .compiler.jit import inline
from .simd.address import read_once
from .simd.vector import (
    absolute,
    fma,
    get,
    lanes,
    load,
    load_part,
    one_hot,
    put,
    reduce_add,
    reduce_max,
    select,
    splat,
    store,
    store_part,
)
from .simd.vectormath import apply, divide, sum_of, vexp_nonpositive, vlog
from .softmax import row_exp, row_max, settle


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
        hot = divide(load_part(out, label, 1, 0.0), splat(s, total), inverse) - low - high
        for i in range(0, n, width):
            count = min(width, n - i)
            if count == width:
                store(out, i, (divide(load(out, i), splat(s, total), inverse) - low) * share)
            else:
                e = load_part(out, i, count, 0.0)
                store_part(out, i, count, (divide(e, splat(s, total), inverse) - low) * share)
        store_part(out, label, 1, hot * share)
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
        score = fma(target, select(target == 0.0, 0.0, load_part(s, i, count, 0.0)), score)
    return reduce_add(score)


@inline
def squared_row(pred, n, y, share, out):
    """out = 2 (pred - y) share; returns Σ (pred - y)²."""
    width = lanes(pred)
    total = splat(pred, 0.0)
    for i in range(0, n, width):
        count = min(width, n - i)
        difference = load_part(pred, i, count, 0.0) - load_part(y, i, count, 0.0)
        total = fma(difference, difference, total)
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
        difference, loss = binary(x, target, least, most)
        store_part(out, i, count, difference * share)
        total = total + select(target == target, loss, 0.0)
    return reduce_add(total)


@inline
def binary_column(s, y, n, least, most):
    """s[i] = σ(s[i]) - y[i] and y[i] = the loss, for samples with one score; the same numbers as ``binary_row`` has."""
    width = lanes(s)
    for i in range(0, n, width):
        count = min(width, n - i)
        difference, loss = binary(load_part(s, i, count, 0.0), load_part(y, i, count, 0.0), least, most)
        store_part(s, i, count, difference)
        store_part(y, i, count, loss)


@inline
def binary(x, target, least, most):
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


class Weights(NamedTuple):
    """Where the weights v of samples are, and how many: none where all weigh 1."""

    p: Any
    size: int


@inline
def total_weight(weights, m):
    """Σ v, or m without weights."""
    if weights.size == 0:
        return float(m)
    total = 0.0
    for i in range(m):
        total += get(weights.p, i)
    return total


@inline
def share_of(weights, i, total):
    """v_i / Σ v, 0 where that is undefined."""
    if total == 0.0:
        return 0.0
    return (get(weights.p, i) if weights.size != 0 else 1.0) / total


@inline
def weighted_mean(losses, weights, m):
    """Σ v_i loss_i / Σ v_i in float64."""
    weight = total_weight(weights, m)
    if weight == 0.0:
        return 0.0
    total = 0.0
    for i in range(m):
        total += float(get(losses, i)) * (get(weights.p, i) if weights.size != 0 else 1.0)
    return total / weight
