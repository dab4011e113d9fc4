"""Matrix products and the linear layer y = x w + b."""

import numpy as np

from .builtin import IN_PLACE, INTEGERS, NUMBER, REALS, TABLE
from .compiler.jit import inline, kernel, shared
from .entries import READ, ROWWISE, WRITEABLE, Entry
from .gemm.product import Epilogue, Matrix, column_sums, product
from .gemm.shares import shared_product, shares_of
from .gemm.tile import BIAS, COMBINE, STORE
from .given import CONSTANTS, array_of, entry_signature, float_at, meet
from .matrix_unit import gains, level_of_unit, shares_of_unit
from .simd.address import address, strides, whole_strides
from .simd.vector import data, get, pointer
from .threading.team import GRAIN


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
def _fits(a, b, c):
    """Whether c = a b is small enough for one thread, and overwrites neither a nor b."""
    return _is_product(a, b, c) and c.rows * c.cols * a.cols < GRAIN and not meet(c, a) and not meet(c, b)


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
    if not _fits(a, b, c):
        return 0
    _whole(a, b, c, Epilogue(STORE, c.p, 0, 1.0, 0.0), workspace)
    return 1


@shared(entry_signature)
def _linear(given, workspace):
    x, w = array_of(given, 0, workspace), array_of(given, 1, workspace)
    b, y = array_of(given, 2, workspace), array_of(given, 3, workspace)
    if not _fits(x, w, y) or not _is_bias(b, w) or meet(y, b):
        return 0
    _whole(x, w, y, Epilogue(BIAS, b.p, 0, 1.0, 0.0), workspace)
    return 1


_TABLE = {"result": TABLE, "table": (0, 1), "works": True, "most": GRAIN}
_MATMUL = Entry("matmul", _matmul, [(REALS, READ), (REALS, READ)], **_TABLE)
_LINEAR = Entry("linear", _linear, [(REALS, READ), (REALS, READ), (REALS, ROWWISE)], **_TABLE)


@shared(entry_signature)
def _product(given, like):
    """A product of any size, by orders that say how it is shared out; ``out`` is known to overlap neither a nor b.

    Shapes are looked at again, though whoever calls has: arrays of the user may have got others meanwhile.
    """
    out, a, b = array_of(given, 0, like), array_of(given, 1, like), array_of(given, 2, like)
    v, alpha, beta = array_of(given, 3, like), get(float_at(given, 4), 0), get(float_at(given, 5), 0)
    mode = get(given, CONSTANTS)
    if not _is_product(a, b, out) or (mode == BIAS and not _is_bias(v, b)):
        return 0
    shared_product(
        out.rows, out.cols, a.cols, Matrix(a.p, a.row, a.col), Matrix(b.p, b.row, b.col), Matrix(out.p, out.row, 1),
        Epilogue(mode, v.p, 0, alpha, beta), array_of(given, 6, 0).p, like,
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
    if a.shape[0] * b.size >= GRAIN or _MATMUL.attempt(a, b, out) is None:
        _share(_STORE, out, a, b, out)


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out (m, k) = x (m, d) w (d, k) + b (k,)."""
    if x.shape[0] * w.size >= GRAIN or _LINEAR.attempt(x, w, b, out) is None:
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
    level = level_of_unit(dtype)
    shares = shares_of_unit(level, m * n * k) if gains(level, m, n, k) else shares_of(m * n * k, dtype)
    if entry.attempt(out, a, b, v, 1.0, beta, shares.orders) is None:
        whole = np.array(out)
        entry(whole, np.array(a), np.array(b), whole if v is out else np.array(v), 1.0, beta, shares.orders)
        out[...] = whole
