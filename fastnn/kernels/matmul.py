"""Matrix products and the linear layer y = x w + b."""

import numpy as np

from ..precision import WAS_LESS
from .builtin import IN_PLACE, INTEGERS, NUMBER, REALS, TABLE
from .compiler.jit import caller, inline, kernel, shared
from .entries import READ, ROWWISE, WRITEABLE, Entry, lent_workspace
from .gemm.product import PRODUCT, WORKSPACE, Epilogue, Matrix, column_sums, product
from .gemm.shares import ORDERS, PLAN, orders_for_others, shared_product, shares_of
from .gemm.tile import BIAS, COMBINE, STEP, STORE
from .given import CONSTANTS, GIVEN, array_of, entry_signature, float_at, meet
from .matrix_unit import LEAST_WORK, gains, least_use, level_of_unit, shares_of_unit, unit_orders
from .simd.address import address, aligned_empty, strides, whole_strides
from .simd.vector import data, get, pointer, shift
from .threading.atomics import read
from .threading.crew import ADDRESS, ALONE, AWAY, LIMIT, STATE, WORDS
from .threading.team import GRAIN, WAKING_GRAIN, WAS_LIMITED, get_num_threads


@inline
def _is_product(a, b, c):
    """Whether c = a b is a product of matrices, into rows that are contiguous."""
    are_matrices = a.ndim == 2 and b.ndim == 2 and c.ndim == 2 and c.col == 1
    return are_matrices and a.cols == b.rows and c.rows == a.rows and c.cols == b.cols


@inline
def _is_bias(b, w):
    """Whether b has a number for each column of w."""
    return b.ndim == 1 and b.rows == w.cols


@inline
def _may_write(a, b, c):
    """Whether c = a b fits, and overwrites neither a nor b."""
    return _is_product(a, b, c) and not meet(c, a) and not meet(c, b)


@inline
def _whole(a, b, c, epilogue, workspace):
    """The product of all of a and b."""
    if c.size > 0:
        product(
            c.rows, c.cols, a.cols, Matrix(a.p, a.row, a.col), Matrix(b.p, b.row, b.col), Matrix(c.p, c.cols, 1),
            epilogue, workspace,
        )  # fmt: skip


@shared(entry_signature)
def _matmul(given, workspace):
    a, b, c = array_of(given, 0, workspace), array_of(given, 1, workspace), array_of(given, 2, workspace)
    if not _may_write(a, b, c):
        return 0
    if c.size * a.cols >= GRAIN:
        return _pass_on(given, workspace)
    _whole(a, b, c, Epilogue(STORE, c.p, 0, 1.0, 0.0), workspace)
    return 1


@shared(entry_signature)
def _linear(given, workspace):
    x, w = array_of(given, 0, workspace), array_of(given, 1, workspace)
    b, y = array_of(given, 2, workspace), array_of(given, 3, workspace)
    if not _may_write(x, w, y) or not _is_bias(b, w) or meet(y, b):
        return 0
    if y.size * x.cols >= GRAIN:
        return _pass_on(given, workspace)
    _whole(x, w, y, Epilogue(BIAS, b.p, 0, 1.0, 0.0), workspace)
    return 1


# The constants of both, told once there was a product worth several threads: the address of what makes these, and that
# of what it has to know of this process. This is where to read whether something was ever chosen that holds for some
# calls only, the crew, the least use of the matrix unit or 0, and how many threads there are orders for, and the
# orders: those of products on the unit, and before them of all others.
_AT, _WAYS = CONSTANTS, CONSTANTS + 1
_WAS_LIMITED, _WAS_LESS, _CREW, _LEAST_USE, _WAY = range(5)
_WAY_SIZE = 1 + ORDERS
_call_entry = caller(entry_signature)


@inline
def _pass_on(given, workspace):
    """Let a product be made that several threads may share, where there is a way to."""
    return _call_entry(get(given, _AT), workspace, (given, workspace)) if get(given, _AT) != 0 else 0


@shared(entry_signature)
def _AT_ONCE(given, workspace):
    """A product that fits, see ``_matmul`` and ``_linear``, on as many threads as there are, or 0 where one is missing.

    Python takes longer to find out the same than small products take: what it needs is no longer in the caches.
    """
    last = get(given, GIVEN)
    a, b, v = array_of(given, 0, workspace), array_of(given, 1, workspace), array_of(given, 2, workspace)
    c, ways = array_of(given, last, workspace), pointer(get(given, _WAYS), given)
    if get(pointer(get(ways, _WAS_LIMITED), given), 0) != 0:
        return 0
    work, use, way = c.size * a.cols, get(ways, _LEAST_USE), shift(ways, _WAY)
    if use > 0 and work >= LEAST_WORK:
        if get(pointer(get(ways, _WAS_LESS), given), 0) != 0:
            return 0
        if a.cols >= STEP and work >= use * (c.size + a.size + b.size):
            way = shift(way, _WAY_SIZE)
    header = pointer(get(ways, _CREW), given)
    threads = max(1, min(read(header, LIMIT) + 1, work // GRAIN))
    if threads > get(way, 0):
        return 0
    for row in range(1, threads):
        if read(header, row * WORDS + STATE) == AWAY:
            return 0
    plan = ALONE if threads == 1 else 2 * threads + (1 if work >= WAKING_GRAIN else 0)
    shared_product(
        c.rows, c.cols, a.cols, Matrix(a.p, a.row, a.col), Matrix(b.p, b.row, b.col), Matrix(c.p, c.cols, 1),
        Epilogue(BIAS if last == 3 else STORE, v.p, 0, 1.0, 0.0), shift(way, 1), plan, workspace,
    )  # fmt: skip
    return 1


# Multiply-adds and threads up to which products are made at once: what others need is memory, of which there is little.
_SOME, _SOME_THREADS = 20_000_000, 8
_TABLE = {"result": TABLE, "table": (0, 1), "works": True, "most": _SOME}
_MATMUL = Entry("matmul", _matmul, [(REALS, READ), (REALS, READ)], **_TABLE)
_LINEAR = Entry("linear", _linear, [(REALS, READ), (REALS, READ), (REALS, ROWWISE)], **_TABLE)


class _Way:
    """What ``_AT_ONCE`` knows about a dtype; nothing of it goes away, as calls may be under way by what it was."""

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype, self._kept = dtype, [np.zeros(_WAY + 2 * _WAY_SIZE, np.int64)]

    def open(self, on_unit: bool) -> None:
        """Let ``_MATMUL`` and ``_LINEAR`` take products that several threads may share, on the unit or not."""
        most, own = min(get_num_threads(), _SOME_THREADS), lent_workspace(self._dtype)
        place = _WAY + on_unit * _WAY_SIZE
        if own == 0 or self._kept[-1][place] >= most:
            return
        known = self._kept[-1].copy()
        known[:_WAY] = address(WAS_LIMITED), address(WAS_LESS), ADDRESS, least_use(self._dtype)
        at, block, beyond = unit_orders(own) if on_unit else (PRODUCT.address(self._dtype), 0, 0)
        others = aligned_empty((most - 1) * (WORKSPACE + beyond), self._dtype)
        known[place : place + _WAY_SIZE] = most, *orders_for_others(at, block, own, others, beyond)
        self._kept += [others, known]
        for entry in (_MATMUL, _LINEAR):
            entry.tell(self._dtype, _AT_ONCE.address(self._dtype), address(known))


_ways = {dtype: _Way(dtype) for dtype in map(np.dtype, (np.float32, np.float64))}


@shared(entry_signature)
def _product(given, like):
    """A product of any size, by orders that say how it is shared out; ``out`` is known to overlap neither a nor b.

    Shapes are looked at again, though whoever calls has: arrays of the user may have got others meanwhile.
    """
    out, a, b = array_of(given, 0, like), array_of(given, 1, like), array_of(given, 2, like)
    v, alpha, beta = array_of(given, 3, like), get(float_at(given, 4), 0), get(float_at(given, 5), 0)
    mode, orders = get(given, CONSTANTS), array_of(given, 6, 0).p
    if not _is_product(a, b, out) or (mode == BIAS and not _is_bias(v, b)):
        return 0
    shared_product(
        out.rows, out.cols, a.cols, Matrix(a.p, a.row, a.col), Matrix(b.p, b.row, b.col), Matrix(out.p, out.row, 1),
        Epilogue(mode, v.p, 0, alpha, beta), orders, get(orders, PLAN), like,
    )  # fmt: skip
    return 1


def _of_any_size(name: str, mode: int) -> Entry:
    """The product of one mode, called with (out, a, b, v, alpha, beta, orders)."""
    v = READ if mode == STORE else ROWWISE
    arguments = [
        (REALS, READ | WRITEABLE), (REALS, READ), (REALS, READ), (REALS, v), (NUMBER, 0), (NUMBER, 0),
        (INTEGERS, ROWWISE),
    ]  # fmt: skip
    return Entry(name, _product, arguments, IN_PLACE, constants=lambda dtype: (mode,), is_quick=False)


_STORE, _BIAS, _COMBINE = _of_any_size("store", STORE), _of_any_size("bias", BIAS), _of_any_size("combine", COMBINE)


@kernel
def _column_sums(x, x_row, m, n, out):
    column_sums(m, n, Matrix(pointer(x, data(out)), x_row, 1), data(out), 1.0, 0.0)


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out (m, n) = a (m, k) b (k, n); a and b may have any strides, rows of out are contiguous."""
    if a.shape[0] * b.size >= _SOME or _MATMUL.attempt(a, b, out) is None:
        _share(_STORE, out, a, b, out)


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out (m, k) = x (m, d) w (d, k) + b (k,)."""
    if x.shape[0] * w.size >= _SOME or _LINEAR.attempt(x, w, b, out) is None:
        _share(_BIAS, out, x, w, np.ascontiguousarray(b))


def linear_backward(
    dy: np.ndarray, x: np.ndarray, w: np.ndarray, l2: float, dx: np.ndarray | None, dw: np.ndarray, db: np.ndarray
) -> None:
    """dx (m, d) = dy wᵀ unless dx is None, dw (d, k) = xᵀ dy + 2 l2 w, db (k,) = Σ_rows dy, from dy (m, k)."""
    if dx is not None:
        _share(_STORE, dx, dy, w.T, dx)
    if l2 == 0.0:
        _share(_STORE, dw, x.T, dy, dw)
    else:
        np.copyto(dw, w)
        _share(_COMBINE, dw, x.T, dy, dw, beta=2.0 * l2)
    dy = whole_strides(dy) if dy.strides[1] == dy.itemsize else np.ascontiguousarray(dy)
    _column_sums(address(dy), strides(dy)[0], *dy.shape, db)


def _share(entry: Entry, out: np.ndarray, a: np.ndarray, b: np.ndarray, v: np.ndarray, beta: float = 0.0) -> None:
    """Compute a product with all threads that it is worth; copies of what no kernel takes, as strides of odd bytes."""
    if out.size == 0:
        return
    (m, k), n, dtype = a.shape, b.shape[1], out.dtype
    work, level = m * n * k, level_of_unit(dtype)
    on_unit = gains(level, m, n, k)
    if GRAIN <= work <= _SOME and not (on_unit and WAS_LESS[0]):
        _ways[dtype].open(on_unit)
    shares = shares_of_unit(level, work) if on_unit else shares_of(work, dtype)
    if entry.attempt(out, a, b, v, 1.0, beta, shares.orders) is None:
        whole = np.array(out)
        entry(whole, np.array(a), np.array(b), whole if v is out else np.array(v), 1.0, beta, shares.orders)
        out[...] = whole
