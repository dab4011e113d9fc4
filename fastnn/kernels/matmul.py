"""Matrix products and the linear layer y = x w + b."""

import numpy as np

from .compiler.jit import inline, kernel
from .gemm.product import Epilogue, Matrix, column_sums
from .gemm.shares import shared_product, shares_of
from .gemm.tile import BIAS, COMBINE, STORE
from .simd.address import address, strides, whole_strides
from .simd.vector import data, pointer


@inline
def _matrix(array, is_transposed):
    """The matrix of a C-contiguous array, or its transpose."""
    n = array.shape[1]
    return Matrix(data(array), 1, n) if is_transposed else Matrix(data(array), n, 1)


@kernel
def _matmul(a, a_transposed, b, b_transposed, out, workspace, others, task, crew, plan):
    m, n = out.shape
    c = Matrix(data(out), n, 1)
    shared_product(
        m, n, a.shape[0] if a_transposed else a.shape[1], _matrix(a, a_transposed), _matrix(b, b_transposed), c,
        Epilogue(STORE, c.p, 0, 1.0, 0.0), data(workspace), others, task, crew, plan,
    )  # fmt: skip


@kernel
def _multiply_strided(
    mode, a, m, k, a_row, a_col, b, b_row, b_col, c, c_row, n, v, alpha, beta, workspace, others, task, crew, plan
):  # fmt: skip
    like = data(workspace)
    shared_product(
        m, n, k, Matrix(pointer(a, like), a_row, a_col), Matrix(pointer(b, like), b_row, b_col),
        Matrix(pointer(c, like), c_row, 1), Epilogue(mode, pointer(v, like), 0, alpha, beta), like, others, task, crew,
        plan,
    )  # fmt: skip


@kernel
def _column_sums(x, x_row, m, n, out):
    column_sums(m, n, Matrix(pointer(x, data(out)), x_row, 1), data(out), 1.0, 0.0)


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out (m, n) = a (m, k) b (k, n); a and b may have any strides, rows of out are contiguous."""
    a_transposed, b_transposed = not a.flags.carray, not b.flags.carray
    x, y = a.T if a_transposed else a, b.T if b_transposed else b
    if (a_transposed and not x.flags.carray) or (b_transposed and not y.flags.carray) or not out.flags.carray:
        _strided(STORE, a, b, out, out, 1.0, 0.0)
        return
    work = a.shape[0] * a.shape[1] * b.shape[1]
    _matmul(x, a_transposed, y, b_transposed, out, *shares_of(work, out.dtype))


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out (m, k) = x (m, d) w (d, k) + b (k,)."""
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
    _multiply_strided(mode, *places, alpha, beta, *shares_of(m * k * n, out.dtype))
