"""Matrix products and the linear layer y = x w + b."""

import numpy as np

from .compiler.jit import inline, kernel, shared
from .entries import READ, REALS, ROWWISE, TABLE, Entry
from .gemm.product import Epilogue, Matrix, column_sums, product
from .gemm.shares import shared_product, shares_of
from .gemm.tile import BIAS, COMBINE, STORE
from .given import array_of, entry_signature, meet
from .matrix_unit import gains, level_of_unit, shares_of_unit
from .simd.address import address, strides, whole_strides
from .simd.vector import data, pointer
from .threading.team import GRAIN


@inline
def _fits(a, b, c):
    """Whether c = a b is a product of matrices, small enough for one thread, that overwrites none of them."""
    is_product = a.ndim == 2 and b.ndim == 2 and c.ndim == 2 and a.cols == b.rows
    fits = is_product and c.rows == a.rows and c.cols == b.cols and c.rows * c.cols * a.cols < GRAIN
    return fits and not meet(c, a) and not meet(c, b)


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
    if not _fits(x, w, y) or b.ndim != 1 or b.rows != w.cols or meet(y, b):
        return 0
    _whole(x, w, y, Epilogue(BIAS, b.p, 0, 1.0, 0.0), workspace)
    return 1


_TABLE = {"result": TABLE, "table": (0, 1), "works": True, "most": GRAIN}
_MATMUL = Entry("matmul", _matmul, [(REALS, READ), (REALS, READ)], **_TABLE)
_LINEAR = Entry("linear", _linear, [(REALS, READ), (REALS, READ), (REALS, ROWWISE)], **_TABLE)


@kernel
def _multiply_strided(
    mode, a, m, k, a_row, a_col, b, b_row, b_col, c, c_row, n, v, alpha, beta, at, block, workspace, others, apart,
    task, crew, plan,
):  # fmt: skip
    like = data(workspace)
    shared_product(
        m, n, k, Matrix(pointer(a, like), a_row, a_col), Matrix(pointer(b, like), b_row, b_col),
        Matrix(pointer(c, like), c_row, 1), Epilogue(mode, pointer(v, like), 0, alpha, beta), at, block, like,
        data(others), apart, task, crew, plan,
    )  # fmt: skip


@kernel
def _column_sums(x, x_row, m, n, out):
    column_sums(m, n, Matrix(pointer(x, data(out)), x_row, 1), data(out), 1.0, 0.0)


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out (m, n) = a (m, k) b (k, n); a and b may have any strides, rows of out are contiguous."""
    if a.shape[0] * b.size >= GRAIN or _MATMUL.attempt(a, b, out) is None:
        _strided(STORE, a, b, out, out, 1.0, 0.0)


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out (m, k) = x (m, d) w (d, k) + b (k,)."""
    if x.shape[0] * w.size >= GRAIN or _LINEAR.attempt(x, w, b, out) is None:
        _strided(BIAS, x, w, out, np.ascontiguousarray(b), 1.0, 0.0)


def linear_backward(
    dy: np.ndarray, x: np.ndarray, w: np.ndarray, l2: float, dx: np.ndarray | None, dw: np.ndarray, db: np.ndarray
) -> None:
    """dx (m, d) = dy wᵀ unless dx is None, dw (d, k) = xᵀ dy + 2 l2 w, db (k,) = Σ_rows dy, from dy (m, k)."""
    if dx is not None:
        _strided(STORE, dy, w.T, dx, dx, 1.0, 0.0)
    if l2 == 0.0:
        _strided(STORE, x.T, dy, dw, dw, 1.0, 0.0)
    else:
        np.copyto(dw, w)
        _strided(COMBINE, x.T, dy, dw, dw, 1.0, 2.0 * l2)
    dy = whole_strides(dy) if dy.strides[1] == dy.itemsize else np.ascontiguousarray(dy)
    _column_sums(address(dy), strides(dy)[0], *dy.shape, db)


def _strided(
    mode: int, a: np.ndarray, b: np.ndarray, out: np.ndarray, v: np.ndarray, alpha: float, beta: float
) -> None:
    a, b = whole_strides(a), whole_strides(b)
    m, k = a.shape
    n = b.shape[1]
    places = (address(a), m, k, *strides(a), address(b), *strides(b), address(out), strides(out)[0], n, address(v))
    level = level_of_unit(out.dtype)
    shares = shares_of_unit(level, m * n * k) if gains(level, m, n, k) else shares_of(m * n * k, out.dtype)
    _multiply_strided(mode, *places, alpha, beta, *shares)
