"""A product in parts that threads share: blocks of rows, or of columns where there are more of these."""

import threading

import numpy as np

from ..compiler.cpu import LINE_BYTES
from ..compiler.jit import inline, shared
from ..simd.address import address
from ..simd.vector import get, integer, lanes, pointer, put, scratch, shift
from ..threading.crew import ADDRESS, ALONE, share, task_signature
from ..threading.team import part, plan_for
from .product import LARGEST, PRODUCT_AT, TILES_AT, WORKSPACE, Epilogue, Matrix, moved, product, workspace
from .tile import PREFETCH_STEP, PREFETCHED, ROWS, VECTORS

# The numbers of a job: the product, and where the workspaces are, that of the calling thread and those of all others.
(
    _MODE, _M, _N, _K, _A, _A_ROW, _A_COL, _B, _B_ROW, _B_COL, _C, _C_ROW, _V, _V_ROW, _ALPHA, _BETA, _OWN, _OTHERS,
    _JOB,
) = range(19)  # fmt: skip


@shared(task_signature)
def _PRODUCT(like, job, which, parts, thread):
    m, n, k = get(job, _M), get(job, _N), get(job, _K)
    a = Matrix(pointer(get(job, _A), like), get(job, _A_ROW), get(job, _A_COL))
    b = Matrix(pointer(get(job, _B), like), get(job, _B_ROW), get(job, _B_COL))
    c, v = Matrix(pointer(get(job, _C), like), get(job, _C_ROW), 1), pointer(get(job, _V), like)
    alpha, beta = get(pointer(shift(job, _ALPHA), like), 0), get(pointer(shift(job, _BETA), like), 0)
    memory = pointer(get(job, _OWN), like)
    if thread > 0:
        others = pointer(get(job, _OTHERS), like)
        memory = _prepared(shift(others, (thread - 1) * WORKSPACE), memory)
    if not _by_columns(m, n, VECTORS * lanes(like), parts):
        i, end = part(m, ROWS, which, parts)
        a, c, m = moved(a, i, 0), moved(c, i, 0), end - i
    else:
        j, end = part(n, VECTORS * lanes(like), which, parts)
        b, c, v, n = moved(b, 0, j), moved(c, 0, j), shift(v, j), end - j
    if m > 0 and n > 0:
        product(m, n, k, a, b, c, Epilogue(get(job, _MODE), v, get(job, _V_ROW), alpha, beta), memory)


@inline
def _by_columns(m, n, width, parts):
    """Whether to share columns: each thread then packs what it alone needs of B, but the shares must be as even."""
    return _largest_part(n, width, parts) * m <= _largest_part(m, ROWS, parts) * n


@inline
def _largest_part(n, unit, parts):
    units = (n + unit - 1) // unit
    return min(n, (units + parts - 1) // parts * unit)


@inline
def _prepared(other, workspace):
    """A workspace that knows what the one of the calling thread does."""
    fields, known = pointer(other, 0), pointer(workspace, 0)
    for i in range(PREFETCHED[0], PREFETCHED[1] + 1):
        put(fields, i, integer(other))
    put(fields, PREFETCH_STEP, 0)
    put(fields, PRODUCT_AT, get(known, PRODUCT_AT))
    put(fields, TILES_AT, get(known, TILES_AT))
    put(fields, LARGEST, get(known, LARGEST))
    return other


@inline
def shared_product(m, n, k, a, b, c, epilogue, workspace, others, task, crew, plan):
    """C (m, n) = epilogue of A (m, k) B (k, n), all three a Matrix, as ``shares_of`` has it."""
    mode, v, v_row, alpha, beta = epilogue
    job = scratch(pointer(0, 0), _JOB)
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
    put(pointer(shift(job, _ALPHA), a.p), 0, alpha)
    put(pointer(shift(job, _BETA), a.p), 0, beta)
    put(job, _OWN, integer(workspace))
    put(job, _OTHERS, others)
    share(crew, plan, task, job, plan >> 1)


_local = threading.local()


def shares_of(work: int, dtype: np.dtype) -> tuple[np.ndarray, int, int, int, int]:
    """The last arguments of ``shared_product`` for so many multiply-adds."""
    plan = plan_for(work)
    others = 0 if plan <= ALONE else _others(dtype, plan // 2 - 1)
    return workspace(dtype), others, _PRODUCT.address(dtype), ADDRESS, plan


def _others(dtype: np.dtype, count: int) -> int:
    """Where workspaces for other threads lie, kept from call to call by the thread that calls them."""
    try:
        kept, place = _local.workspaces[dtype]
    except (AttributeError, KeyError):
        kept, place = np.empty(0, dtype), 0
    if len(kept) < count * WORKSPACE:
        kept = np.empty(count * WORKSPACE + LINE_BYTES // dtype.itemsize, dtype)
        place = -(-address(kept) // LINE_BYTES) * LINE_BYTES
        _local.__dict__.setdefault("workspaces", {})[dtype] = kept, place
    return int(place)
