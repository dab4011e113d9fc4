"""Softmax, log-softmax and log-sum-exp over the rows of scores (m, k), the maximum subtracted first.

A row that fits one vector never leaves the registers; a longer one is read for its maximum, again for the
exponentials and their sum, and the exponentials are scaled in place. Logarithms are taken a vector of rows at a time.
The form exp(x - lse), which saves the division, loses digits (Blanchard, Higham and Higham, IMA J. Numer. Anal. 41(4),
2021).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from .compiler.jit import Shared, inline, kernel
from .entries import COLUMN, LIKE_FIRST, REALS, ROWWISE, Entry
from .given import array_of, entry_signature
from .simd.address import as_writeable
from .simd.vector import (
    data,
    fma,
    get,
    lanes,
    load,
    load_part,
    pointer,
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
from .threading.crew import share, task_signature
from .threading.rows import ROWS_JOB, parts_of_rows, put_rows, rows_of_part, shares_of_rows, work_of_rows
from .threading.team import GRAIN

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
        largest = float(row_max(s, n))  # of the type below, or what follows would be compiled for two
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


@inline
def _softmax_of(s, out, n, first, end):
    for i in range(first, end):
        softmax_row(shift(s, i * n), shift(out, i * n), n)


@inline
def _log_softmax_of(s, out, n, first, end):
    tops, sums = scratch(s, _ROWS), scratch(s, _ROWS)
    width, at_once = lanes(s), _rows_at_once(n)
    for start in range(first, end, at_once):
        count = min(at_once, end - start)
        _shifts_and_sums(s, start, count, n, tops, sums)
        apply(vlog, sums, sums, count)
        for i in range(count):
            source, target = shift(s, (start + i) * n), shift(out, (start + i) * n)
            top, log_sum = get(tops, i), get(sums, i)
            for j in range(0, n, width):
                left = min(width, n - j)
                if left == width:
                    store(target, j, load(source, j) - top - log_sum)
                else:
                    store_part(target, j, left, load_part(source, j, left, 0.0) - top - log_sum)


@inline
def _logsumexp_of(s, out, n, first, end):
    tops, sums = scratch(s, _ROWS), scratch(s, _ROWS)
    at_once = _rows_at_once(n)
    for start in range(first, end, at_once):
        count = min(at_once, end - start)
        _shifts_and_sums(s, start, count, n, tops, sums)
        apply(vlog, sums, sums, count)
        for i in range(count):
            put(out, start + i, get(tops, i) + get(sums, i))


class _OfRows(NamedTuple):
    """A function of rows: for a few of them as Python calls it, and as threads share it."""

    few: Entry
    part: Shared


def _of_rows(name: str, result: int, of: Any) -> _OfRows:
    """Make both of ``of(s, out, n, first, end)``, which takes rows ``first`` to ``end`` of s (m, n)."""

    def few(given, workspace):
        s, out = array_of(given, 0, workspace), array_of(given, 1, workspace)
        fits = s.ndim == 2 and s.size > 0 and out.rows == s.rows and out.size == (s.size if out.ndim == 2 else s.rows)
        if not fits or work_of_rows(s.size, s.rows) >= GRAIN:
            return 0
        of(s.p, out.p, s.cols, 0, s.rows)
        return 1

    def part(like, job, which, parts, thread):
        rows = rows_of_part(like, job, which, parts)
        of(rows.s, rows.out, rows.n, rows.first, rows.end)

    entry = Entry(
        name,
        Shared(few, entry_signature, name=name),
        [(REALS, ROWWISE)],
        result,
        most=GRAIN // work_of_rows.py_func(1, 0),
    )
    return _OfRows(entry, Shared(part, task_signature, name=f"{name}_part"))


_SOFTMAX = _of_rows("softmax", LIKE_FIRST, _softmax_of)
_LOG_SOFTMAX = _of_rows("log_softmax", LIKE_FIRST, _log_softmax_of)
_LOGSUMEXP = _of_rows("logsumexp", COLUMN, _logsumexp_of)


@kernel
def _map_rows(s, out, task, crew, plan):
    """A function of the rows of s (m, k), in parts."""
    job = scratch(pointer(0, 0), ROWS_JOB)
    put_rows(job, data(s), data(out), s.shape[0], s.shape[1])
    share(crew, plan, task, job, parts_of_rows(s.shape[0], plan))


def _apply(function: _OfRows, s: np.ndarray, out: np.ndarray) -> None:
    if work_of_rows.py_func(s.size, len(s)) >= GRAIN or function.few.attempt(s, out) is None:
        _map_rows(as_writeable(s), out, *shares_of_rows(function.part, s))


def softmax(s: np.ndarray, out: np.ndarray) -> None:
    """P (m, k) = e^(s - max) / Σ e^(s - max)."""
    _apply(_SOFTMAX, s, out)


def log_softmax(s: np.ndarray, out: np.ndarray) -> None:
    """log P (m, k) = (s - max) - log Σ e^(s - max)."""
    _apply(_LOG_SOFTMAX, s, out)


def logsumexp(s: np.ndarray, out: np.ndarray) -> None:
    """out (m,) = max + log Σ e^(s - max), -inf for a row without columns."""
    _apply(_LOGSUMEXP, s, out)
