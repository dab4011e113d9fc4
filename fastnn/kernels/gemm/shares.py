"""A product in parts that threads share: blocks of rows, or of columns where there are more of these."""

import threading
from typing import NamedTuple

import numpy as np

from ..compiler.jit import inline, shared
from ..simd.address import address, aligned_empty
from ..simd.vector import get, integer, pointer, put, scratch, shift
from ..threading.crew import ADDRESS, ALONE, EACH, share, task_signature
from ..threading.team import part, plan_for
from .product import LARGEST, PRODUCT, PRODUCT_AT, TILES_AT, WORKSPACE, Epilogue, Matrix, moved, product_at, workspace
from .tile import PREFETCH_STEP, PREFETCHED, UNIT_AT, most_cols

# The numbers of a job: the product; by which function, and in multiples of how many rows and columns, none for columns
# of its tiles; where the workspaces are, that of the calling thread and those of all others, and how far these are
# apart.
(
    _MODE, _M, _N, _K, _A, _A_ROW, _A_COL, _B, _B_ROW, _B_COL, _C, _C_ROW, _V, _V_ROW, _ALPHA, _BETA, _AT, _BLOCK, _OWN,
    _OTHERS, _APART, _JOB,
) = range(22)  # fmt: skip
# The orders are those of a job from _AT on, and behind them who makes it.
_TASK, _CREW, PLAN, ORDERS = range(_JOB - _AT, _JOB - _AT + 4)

# Splitting an element for the matrix unit takes as long as so many multiply-adds, and every thread splits all of the
# operand that is not shared out. For other products it reads, and maybe packs it.
_SPLIT, _READ = 48, 8


@shared(task_signature)
def _PRODUCT(like, job, which, parts, thread):
    m, n, k = get(job, _M), get(job, _N), get(job, _K)
    a = Matrix(pointer(get(job, _A), like), get(job, _A_ROW), get(job, _A_COL))
    b = Matrix(pointer(get(job, _B), like), get(job, _B_ROW), get(job, _B_COL))
    c, v = Matrix(pointer(get(job, _C), like), get(job, _C_ROW), 1), pointer(get(job, _V), like)
    alpha, beta = get(pointer(shift(job, _ALPHA), like), 0), get(pointer(shift(job, _BETA), like), 0)
    memory, block = pointer(get(job, _OWN), like), get(job, _BLOCK)
    if thread > 0:
        memory = _prepared(pointer(get(job, _OTHERS), like), thread - 1, get(job, _APART), memory)
    # Rows are shared evenly, since tiles may have any number of them.
    height, width, extra = (block, block, _SPLIT) if block > 0 else (1, most_cols(like), _READ)
    if _by_columns(m, n, height, width, extra, parts):
        j, end = part(n, width, which, parts)
        b, c, v, n = moved(b, 0, j), moved(c, 0, j), shift(v, j), end - j
    else:
        i, end = part(m, height, which, parts)
        a, c, m = moved(a, i, 0), moved(c, i, 0), end - i
    if m > 0 and n > 0:
        epilogue = Epilogue(get(job, _MODE), v, get(job, _V_ROW), alpha, beta)
        product_at(get(job, _AT), m, n, k, a, b, c, epilogue, memory)


@inline
def _by_columns(m, n, height, width, extra, parts):
    """Whether to share columns: each thread reads only what it needs of B then, and all of A, ``extra`` an element.

    Where both are as good rows are: they end in the middle of a cache line, which two threads write to, only once.
    """
    return (_largest_part(n, width, parts) + extra) * m < (_largest_part(m, height, parts) + extra) * n


@inline
def _largest_part(n, unit, parts):
    units = (n + unit - 1) // unit
    return min(n, (units + parts - 1) // parts * unit)


@inline
def _prepared(others, which, apart, workspace):
    """One of the other workspaces, which knows what that of the calling thread does; the unit's memory lies behind."""
    other = shift(others, which * apart)
    fields, known = pointer(other, 0), pointer(workspace, 0)
    for i in range(PREFETCHED[0], PREFETCHED[1] + 1):
        put(fields, i, integer(other))
    put(fields, PREFETCH_STEP, 0)
    put(fields, PRODUCT_AT, get(known, PRODUCT_AT))
    put(fields, TILES_AT, get(known, TILES_AT))
    put(fields, LARGEST, get(known, LARGEST))
    put(fields, UNIT_AT, integer(shift(other, WORKSPACE)))
    return other


@inline
def shared_product(m, n, k, a, b, c, epilogue, orders, plan, like):
    """C (m, n) = epilogue of A (m, k) B (k, n), all three a Matrix, by the orders of ``Shares`` and the plan there."""
    mode, v, v_row, alpha, beta = epilogue
    job = scratch(orders, _JOB)
    put(job, _MODE, mode)
    put(job, _M, m)
    put(job, _N, n)
    put(job, _K, k)
    put(job, _A, integer(a.p))
    put(job, _A_ROW, a.row)
    put(job, _A_COL, a.col)
    put(job, _B, integer(b.p))
    put(job, _B_ROW, b.row)
    put(job, _B_COL, b.col)
    put(job, _C, integer(c.p))
    put(job, _C_ROW, c.row)
    put(job, _V, integer(v))
    put(job, _V_ROW, v_row)
    put(pointer(shift(job, _ALPHA), like), 0, alpha)
    put(pointer(shift(job, _BETA), like), 0, beta)
    for i in range(_AT, _JOB):
        put(job, i, get(orders, i - _AT))
    share(get(orders, _CREW), plan, get(orders, _TASK), job, EACH)


class Shares(NamedTuple):
    """How products are shared out: ``orders`` for compiled code, which never change, and the memory that they name.

    A call holds on to both: a signal handler may come before it, and make a call that needs more.
    """

    orders: np.ndarray
    own: np.ndarray
    others: np.ndarray


class _Kept(threading.local):
    """What a thread keeps from call to call: workspaces for others by their dtype, and what names them."""

    def __init__(self) -> None:
        self.others: dict[np.dtype, np.ndarray] = {}
        self.shares: dict[tuple[int, int], Shares] = {}


_kept = _Kept()


def shares_of(work: int, dtype: np.dtype) -> Shares:
    """How to share out so many multiply-adds."""
    return shares(work, PRODUCT.address(dtype), 0, workspace(dtype), 0)


def shares(work: int, at: int, block: int, own: np.ndarray, beyond: int) -> Shares:
    """The same for the product at an address, which needs so many elements beyond each workspace."""
    plan = plan_for(work)
    kept = _kept.shares.get((at, plan))
    if kept is None or kept.own is not own:
        if kept is not None:
            _kept.shares.clear()  # or others would keep what is too small
        apart = WORKSPACE + beyond
        others = own if plan <= ALONE else _others(own.dtype, (plan // 2 - 1) * apart)
        orders = _orders(at, block, address(own), others, apart, plan)
        kept = _kept.shares[at, plan] = Shares(orders, own, others)
    return kept


def _orders(at: int, block: int, own: int, others: np.ndarray, apart: int, plan: int) -> np.ndarray:
    task = _PRODUCT.address(others.dtype)
    return np.array([at, block, own, address(others), apart, task, ADDRESS, plan], np.int64)


def orders_for_others(at: int, block: int, own: int, others: np.ndarray, beyond: int) -> np.ndarray:
    """The same for workspaces that whoever keeps the orders has to keep: that at an address, and those of others."""
    return _orders(at, block, own, others, WORKSPACE + beyond, ALONE)


def _others(dtype: np.dtype, size: int) -> np.ndarray:
    """Workspaces for other threads."""
    others = _kept.others.get(dtype)
    if others is None or len(others) < size:
        _kept.shares.clear()
        others = _kept.others[dtype] = aligned_empty(size, dtype)
    return others
