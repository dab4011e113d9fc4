"""Softmax, log-softmax and log-sum-exp over the rows of scores (m, k), the maximum subtracted first.

A row that fits one vector never leaves the registers; a longer one is read for its maximum, again for the
exponentials and their sum, and the exponentials are scaled in place. Logarithms are taken a vector of rows at a time.
The form exp(x - lse), which saves the division, loses digits (Blanchard, Higham and Higham, IMA J. Numer. Anal. 41(4),
2021).
"""

import math

import numpy as np

from .compiler.jit import inline, shared
from .entries import COLUMN, LIKE_FIRST, REALS, ROWWISE, Entry
from .given import array_of, entry_signature
from .simd.vector import (
    fma,
    get,
    lanes,
    load,
    load_part,
    prefetch,
    put,
    reduce_add,
    reduce_max,
    scratch,
    select,
    shift,
    splat,
    store,
    store_part,
)
from .simd.vectormath import apply, vexp_nonpositive, vlog

# Elements of a row that are read for their maximum and, while in the L1 cache, for their exponentials.
_SPAN = 2048
# The most rows whose logarithms are taken together.
_ROWS = 256


@inline
def _vmax(a, b):
    return select(a > b, a, b)


@inline
def row_max(s, n):
    """The largest of s[0] ... s[n - 1]; not defined where one is NaN."""
    width = lanes(s)
    least = splat(s, -np.inf)
    if n <= width:
        return reduce_max(load_part(s, 0, n, -np.inf))
    a, b, c, d = least, least, least, least
    i = 0
    while i + 4 * width <= n:
        a, b = _vmax(a, load(s, i)), _vmax(b, load(s, i + width))
        c, d = _vmax(c, load(s, i + 2 * width)), _vmax(d, load(s, i + 3 * width))
        i += 4 * width
    while i + width <= n:
        a = _vmax(a, load(s, i))
        i += width
    if i < n:
        b = _vmax(b, load_part(s, i, n - i, -np.inf))
    return reduce_max(_vmax(_vmax(a, b), _vmax(c, d)))


@inline
def row_exp(s, largest, out, n):
    """out[i] = e^(s[i] - largest) for i < n, and their sum."""
    width = lanes(s)
    if n <= width:
        e = vexp_nonpositive(load_part(s, 0, n, -np.inf) - largest)
        store_part(out, 0, n, e)
        return reduce_add(e)
    a, b = splat(s, 0.0), splat(s, 0.0)
    i = 0
    while i + 2 * width <= n:
        e = vexp_nonpositive(load(s, i) - largest)
        f = vexp_nonpositive(load(s, i + width) - largest)
        store(out, i, e)
        store(out, i + width, f)
        # While the row is worked on, memory brings the next one: neither waits for the other.
        prefetch(s, n + i)
        prefetch(s, n + i + width)
        a, b = a + e, b + f
        i += 2 * width
    while i < n:
        count = min(width, n - i)
        e = vexp_nonpositive(load_part(s, i, count, -np.inf) - largest)
        store_part(out, i, count, e)
        a = a + e
        i += width
    return reduce_add(a + b)


@inline
def row_exp_sum(s, largest, n):
    """Σ e^(s[i] - largest) over i < n, the sum of ``row_exp`` to the last bit."""
    width = lanes(s)
    if n <= width:
        return reduce_add(vexp_nonpositive(load_part(s, 0, n, -np.inf) - largest))
    a, b = splat(s, 0.0), splat(s, 0.0)
    i = 0
    while i + 2 * width <= n:
        prefetch(s, n + i)
        prefetch(s, n + i + width)
        a = a + vexp_nonpositive(load(s, i) - largest)
        b = b + vexp_nonpositive(load(s, i + width) - largest)
        i += 2 * width
    while i < n:
        a = a + vexp_nonpositive(load_part(s, i, min(width, n - i), -np.inf) - largest)
        i += width
    return reduce_add(a + b)


@inline
def row_max_and_sum(s, n):
    """The maximum of s[0] ... s[n - 1] and Σ e^(s - max), in one pass: a new maximum scales the sum so far."""
    if n <= _SPAN:
        largest = row_max(s, n)
        return largest, row_exp_sum(s, largest, n)
    largest, total = -np.inf, 0.0
    for start in range(0, n, _SPAN):
        span, count = shift(s, start), min(_SPAN, n - start)
        top = row_max(span, count)
        if top > largest:
            total = total * math.exp(largest - top) if total != 0.0 else 0.0
            largest = top
        total += row_exp_sum(span, largest, count)
    return largest, total


@inline
def settle(s, n, largest, total):
    """The shift and the sum of exponentials of a row, right also where its maximum is infinite.

    There the shift is 0, and the sum is infinite, 0 for a row of -inf, or NaN where the row holds a NaN.
    """
    if not math.isinf(largest):
        return largest, total
    zero = 1.0 / largest
    zero = zero * zero
    total = largest if largest > zero else zero
    for i in range(n):
        value = get(s, i)
        if math.isnan(value):
            total = value
    return zero, total


@inline
def divide_row(e, total, n):
    """e[i] /= total for i < n, by the reciprocal and one step of correction."""
    width = lanes(e)
    inverse = 1.0 / splat(e, total)
    for i in range(0, n, width):
        count = min(width, n - i)
        if count == width:
            store(e, i, divide(load(e, i), total, inverse))
        else:
            store_part(e, i, count, divide(load_part(e, i, count, 0.0), total, inverse))


@inline
def divide(e, total, inverse):
    """e / total, correctly rounded but for rare cases: q = e inverse, then q + (e - q total) inverse."""
    q = e * inverse
    return fma(fma(q, total * -1.0, e), inverse, q)


@inline
def softmax_row(s, out, n):
    """out = e^(s - max) / Σ."""
    largest = row_max(s, n)
    if n <= lanes(s):
        e = vexp_nonpositive(load_part(s, 0, n, -np.inf) - largest)
        total = splat(s, reduce_add(e))
        store_part(out, 0, n, divide(e, total, 1.0 / total))
        return
    total = row_exp(s, largest, out, n)
    divide_row(out, total, n)


@shared(entry_signature)
def _softmax(given, workspace):
    """P (m, k) = e^(s - max) / Σ e^(s - max)."""
    s, out = array_of(given, 0, workspace), array_of(given, 1, workspace)
    if not _are_rows(s, out):
        return 0
    for i in range(s.rows):
        softmax_row(shift(s.p, i * s.cols), shift(out.p, i * s.cols), s.cols)
    return 1


@inline
def _are_rows(s, out):
    """Whether s is a matrix, not empty, and out is of its shape."""
    return s.ndim == 2 and s.size > 0 and out.ndim == 2 and out.rows == s.rows and out.cols == s.cols


@inline
def _rows_at_once(n):
    """As many rows as stay in the L1 cache until their logarithms are known."""
    return max(1, min(_ROWS, _SPAN // max(n, 1)))


@inline
def _shifts_and_sums(s, start, rows, n, tops, sums):
    """The settled shift and sum of each of some rows."""
    for i in range(rows):
        row = shift(s, (start + i) * n)
        top, total = settle(row, n, *row_max_and_sum(row, n))
        put(tops, i, top)
        put(sums, i, total)


@shared(entry_signature)
def _log_softmax(given, workspace):
    s, out = array_of(given, 0, workspace), array_of(given, 1, workspace)
    if not _are_rows(s, out):
        return 0
    tops, sums = scratch(s.p, _ROWS), scratch(s.p, _ROWS)
    m, n, width = s.rows, s.cols, lanes(tops)
    at_once = _rows_at_once(n)
    for start in range(0, m, at_once):
        rows = min(at_once, m - start)
        _shifts_and_sums(s.p, start, rows, n, tops, sums)
        apply(vlog, sums, sums, rows)
        for i in range(rows):
            source, target = shift(s.p, (start + i) * n), shift(out.p, (start + i) * n)
            top, log_sum = get(tops, i), get(sums, i)
            for j in range(0, n, width):
                count = min(width, n - j)
                if count == width:
                    store(target, j, load(source, j) - top - log_sum)
                else:
                    store_part(target, j, count, load_part(source, j, count, 0.0) - top - log_sum)
    return 1


@shared(entry_signature)
def _logsumexp(given, workspace):
    s, out = array_of(given, 0, workspace), array_of(given, 1, workspace)
    if s.ndim != 2 or out.ndim != 1 or out.rows != s.rows:
        return 0
    tops, sums = scratch(s.p, _ROWS), scratch(s.p, _ROWS)
    at_once = _rows_at_once(s.cols)
    for start in range(0, s.rows, at_once):
        rows = min(at_once, s.rows - start)
        _shifts_and_sums(s.p, start, rows, s.cols, tops, sums)
        apply(vlog, sums, sums, rows)
        for i in range(rows):
            put(out.p, start + i, get(tops, i) + get(sums, i))
    return 1


_SOFTMAX = Entry("softmax", _softmax, [(REALS, ROWWISE)], LIKE_FIRST)
_LOG_SOFTMAX = Entry("log_softmax", _log_softmax, [(REALS, ROWWISE)], LIKE_FIRST)
_LOGSUMEXP = Entry("logsumexp", _logsumexp, [(REALS, ROWWISE)], COLUMN)


def softmax(s: np.ndarray, out: np.ndarray) -> None:
    """P (m, k) = e^(s - max) / Σ e^(s - max)."""
    if s.size > 0:
        _SOFTMAX(s, out)


def log_softmax(s: np.ndarray, out: np.ndarray) -> None:
    """log P (m, k) = (s - max) - log Σ e^(s - max)."""
    if s.size > 0:
        _LOG_SOFTMAX(s, out)


def logsumexp(s: np.ndarray, out: np.ndarray) -> None:
    """out (m,) = max + log Σ e^(s - max), -inf for a row without columns."""
    _LOGSUMEXP(s, out)
