"""Softmax, log-softmax and log-sum-exp over the rows of scores (m, k), the maximum subtracted first.

A row that fits one vector never leaves the registers; a longer one is read for its maximum, again for the
exponentials and their sum, and the exponentials are scaled in place. Logarithms are taken a vector of rows at a time.
The form exp(x - lse), which saves the division, loses digits (Blanchard, Higham and Higham, IMA J. Numer. Anal. 41(4),
2021).
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .builtin import COLUMN, LIKE_FIRST, REALS
from .compiler.jit import Shared, inline, kernel, shared
from .entries import ROWWISE, Entry
from .given import CONSTANTS, array_of, entry_signature
from .narrow_rows import BLOCK, Block, fill_a_block, log_softmax_block, logsumexp_block, softmax_block
from .simd.address import as_writeable
from .simd.vector import (
    data,
    get,
    integer,
    itemsize,
    lanes,
    load,
    load_part,
    pointer,
    prefetch,
    prefetch_to_write,
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
from .simd.vectormath import apply, divide, vexp_nonpositive, vlog
from .threading.crew import call_task, share, task_signature
from .threading.rows import ROWS_JOB, parts_of_rows, put_rows, rows_of_part, shares_of_rows, work_of_rows
from .threading.team import GRAIN

# Elements of a row that are read for their maximum and, while in the L1 cache, for their exponentials.
_SPAN = 2048
# The most rows whose logarithms are taken together, in memory for a block.
_ROWS = 256
# The most work, in multiply-adds of float32, that a call of Python's keeps to one thread: as long as two threads take
# for half of it, and for what it costs to have them share.
_MOST_ALONE = 3 * GRAIN


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
def row_exp_sum(s, largest, n, out, is_written):
    """Σ e^(s[i] - largest) over i < n, the sum of ``row_exp`` to the last bit.

    Where out[i] ``is_written`` after it, its memory is asked for meanwhile.
    """
    width = lanes(s)
    if n <= width:
        return reduce_add(vexp_nonpositive(load_part(s, 0, n, -np.inf) - largest))
    a, b = splat(s, 0.0), splat(s, 0.0)
    i = 0
    while i + 2 * width <= n:
        prefetch(s, n + i)
        prefetch(s, n + i + width)
        if is_written:
            prefetch_to_write(out, i)
            prefetch_to_write(out, i + width)
        a = a + vexp_nonpositive(load(s, i) - largest)
        b = b + vexp_nonpositive(load(s, i + width) - largest)
        i += 2 * width
    while i < n:
        a = a + vexp_nonpositive(load_part(s, i, min(width, n - i), -np.inf) - largest)
        i += width
    return reduce_add(a + b)


@inline
def row_max_and_sum(s, n, out, is_written):
    """The maximum of s[0] ... s[n - 1] and Σ e^(s - max), in one pass: a new maximum scales the sum so far.

    ``out`` is as for ``row_exp_sum``.
    """
    largest, total = -np.inf, 0.0
    for start in range(0, n, _SPAN):
        span, count = shift(s, start), min(_SPAN, n - start)
        top = row_max(span, count)
        if top > largest:
            total = total * math.exp(largest - top) if total != 0.0 else 0.0
            largest = top
        total += row_exp_sum(span, largest, count, shift(out, start), is_written)
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


def _kept_apart(dtype: Any) -> Any:
    return types.void(types.intp, types.intp, types.CPointer(dtype), types.intp, types.CPointer(dtype))


@shared(_kept_apart)
def SOFTMAX_ROWS(rows, n, s, ld, out):
    """Out (rows, n) = the softmax of rows that lie ``ld`` apart."""
    for r in range(rows):
        softmax_row(shift(s, r * ld), shift(out, r * n), n)


softmax_rows = SOFTMAX_ROWS.caller()


@inline
def _rows_at_once(n):
    """As many rows as stay in the L1 cache until their logarithms are known."""
    return max(1, min(_ROWS, _SPAN // max(n, 1)))


@inline
def _shifts_and_sums(s, out, start, rows, n, tops, sums, is_written):
    """The settled shift and sum of each of some rows, out as for ``row_exp_sum``."""
    for i in range(rows):
        row = shift(s, (start + i) * n)
        top, total = settle(row, n, *row_max_and_sum(row, n, shift(out, (start + i) * n), is_written))
        put(tops, i, top)
        put(sums, i, total)


@inline
def _softmax_rows(s, out, n, first, end, block):
    for i in range(first, end):
        softmax_row(shift(s, i * n), shift(out, i * n), n)


@inline
def _log_softmax_rows(s, out, n, first, end, block):
    tops, sums, width, at_once = block.x, block.sums, lanes(s), _rows_at_once(n)
    for start in range(first, end, at_once):
        count = min(at_once, end - start)
        _shifts_and_sums(s, out, start, count, n, tops, sums, True)
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
def _logsumexp_rows(s, out, n, first, end, block):
    tops, sums, at_once = block.x, block.sums, _rows_at_once(n)
    for start in range(first, end, at_once):
        count = min(at_once, end - start)
        _shifts_and_sums(s, s, start, count, n, tops, sums, False)
        apply(vlog, sums, sums, count)
        for i in range(count):
            put(out, start + i, get(tops, i) + get(sums, i))


class _OfRows(NamedTuple):
    """A function of rows: for a few of them as Python calls it, and as threads share it."""

    few: Entry
    part: Shared


@shared(entry_signature)
def _FEW(given, workspace):
    """A few rows in one part; constants: the address of the task, the most work, and whether a row has one result.

    Arrays may be the same, but not overlap otherwise.
    """
    s, out, is_column = array_of(given, 0, workspace), array_of(given, 1, workspace), get(given, CONSTANTS + 2)
    fits = s.ndim == 2 and s.size > 0 and out.rows == s.rows
    if is_column != 0:
        fits &= out.ndim == 1
    else:
        apart = abs(integer(out.p) - integer(s.p))
        fits &= out.ndim == 2 and out.cols == s.cols and (apart == 0 or apart >= s.size * itemsize(s.p))
    if not fits or work_of_rows(s.size, s.rows) >= get(given, CONSTANTS + 1):
        return 0
    job = scratch(given, ROWS_JOB)
    put_rows(job, s.p, out.p, s.rows, s.cols)
    call_task(get(given, CONSTANTS), workspace, (workspace, job, 0, 1, 0))
    return 1


def _of_rows(name: str, result: int, of_block: Any, of_rows: Any) -> _OfRows:
    """Make both of a function of a block of narrow rows, which says whether it could, and one of any rows."""
    is_column = result == COLUMN

    def part(like, job, which, parts, thread):
        rows = rows_of_part(like, job, which, parts)
        s, n, i = rows.s, rows.n, rows.first
        block = Block(scratch(s, BLOCK), scratch(s, BLOCK), scratch(s, BLOCK))
        while i < rows.end:
            end, out = rows.end, shift(rows.out, i if is_column else i * n)
            is_done = False
            if fill_a_block(s, n, i, end):
                end = i + lanes(s)
                is_done = of_block(shift(s, i * n), out, n, block)
            if not is_done:
                of_rows(s, rows.out, n, i, end, block)
            i = end

    task = Shared(part, task_signature, name=f"{name}_part")
    entry = Entry(
        name,
        _FEW,
        [(REALS, ROWWISE)],
        result,
        most=_MOST_ALONE // work_of_rows.py_func(1, 0),
        constants=lambda dtype: (task.address(dtype), _most_alone(dtype), int(is_column)),
    )
    return _OfRows(entry, task)


_SOFTMAX = _of_rows("softmax", LIKE_FIRST, softmax_block, _softmax_rows)
_LOG_SOFTMAX = _of_rows("log_softmax", LIKE_FIRST, log_softmax_block, _log_softmax_rows)
_LOGSUMEXP = _of_rows("logsumexp", COLUMN, logsumexp_block, _logsumexp_rows)


def _most_alone(dtype: Any) -> int:
    return _MOST_ALONE * 4 // np.dtype(dtype).itemsize


@kernel
def _map_rows(s, out, task, crew, plan):
    """A function of the rows of s (m, k), in parts; False, with nothing done, where ``out`` has no place for them."""
    if out.shape[0] != s.shape[0] or out.size != (len(s) if out.ndim == 1 else s.size):
        return False
    job = scratch(pointer(0, 0), ROWS_JOB)
    put_rows(job, data(s), data(out), s.shape[0], s.shape[1])
    share(crew, plan, task, job, parts_of_rows(s.shape[0], plan))
    return True


def _apply(function: _OfRows, s: np.ndarray, out: np.ndarray) -> None:
    work = work_of_rows.py_func(s.size, len(s))
    is_done = work < _most_alone(s.dtype) and function.few.attempt(s, out) is not None
    if not is_done and not _map_rows(as_writeable(s), out, *shares_of_rows(function.part, s)):
        raise ValueError(f"out has shape {out.shape} for s of shape {s.shape}: did their shapes change meanwhile?")


def softmax(s: np.ndarray, out: np.ndarray) -> None:
    """P (m, k) = e^(s - max) / Σ e^(s - max)."""
    _apply(_SOFTMAX, s, out)


def log_softmax(s: np.ndarray, out: np.ndarray) -> None:
    """log P (m, k) = (s - max) - log Σ e^(s - max)."""
    _apply(_LOG_SOFTMAX, s, out)


def logsumexp(s: np.ndarray, out: np.ndarray) -> None:
    """out (m,) = max + log Σ e^(s - max), -inf for a row without columns."""
    _apply(_LOGSUMEXP, s, out)
