"""Matrix products and the linear layer y = x w + b."""

from typing import Any

import numpy as np

from .compiler.jit import inline, kernel
from .gemm.product import Epilogue, Matrix, column_sums, moved, product, product_at, workspace
from .gemm.tile import BIAS, BLOCK, COMBINE, ROWS, STORE, VECTORS
from .matrix_unit import LEAST_WORK, gains, level_of_unit, unit_product, workspace_of_unit
from .simd.address import address, strides, whole_strides
from .simd.vector import data, lanes, pointer, shift
from .threading.team import GRAIN, part, run


@inline
def _multiply(m, n, k, a, b, c, epilogue, thread, n_threads, workspace):
    """The rows or the columns of a product that belong to one thread."""
    mode, v, v_row, alpha, beta = epilogue
    if m >= n:
        i, end = part(m, ROWS, thread, n_threads)
        a, c, m = moved(a, i, 0), moved(c, i, 0), end - i
    else:
        j, end = part(n, VECTORS * lanes(a.p), thread, n_threads)
        b, c, v, n = moved(b, 0, j), moved(c, 0, j), shift(v, j), end - j
    if m > 0 and n > 0:
        product(m, n, k, a, b, c, Epilogue(mode, v, v_row, alpha, beta), workspace)


@inline
def _matrix(array, is_transposed):
    """The matrix of a C-contiguous array, or its transpose."""
    n = array.shape[1]
    return Matrix(data(array), 1, n) if is_transposed else Matrix(data(array), n, 1)


@kernel
def _matmul(a, a_transposed, b, b_transposed, out, workspace, thread, n_threads):
    m, n = out.shape
    c = Matrix(data(out), n, 1)
    _multiply(
        m, n, a.shape[0] if a_transposed else a.shape[1], _matrix(a, a_transposed), _matrix(b, b_transposed), c,
        Epilogue(STORE, c.p, 0, 1.0, 0.0), thread, n_threads, data(workspace),
    )  # fmt: skip


@kernel
def _multiply_strided(
    mode, a, m, k, a_row, a_col, b, b_row, b_col, c, c_row, n, v, alpha, beta, workspace, thread, n_threads
):
    like = data(workspace)
    _multiply(
        m, n, k, Matrix(pointer(a, like), a_row, a_col), Matrix(pointer(b, like), b_row, b_col),
        Matrix(pointer(c, like), c_row, 1), Epilogue(mode, pointer(v, like), 0, alpha, beta), thread, n_threads, like,
    )  # fmt: skip


@inline
def _multiply_at(at, m, n, k, a, b, c, epilogue, thread, n_threads, workspace):
    """As ``_multiply``, by the product at an address, in shares of whole blocks of the matrix unit."""
    mode, v, v_row, alpha, beta = epilogue
    i, rows, j, cols = 0, m, 0, n
    if m >= n:
        i, end = part(m, BLOCK, thread, n_threads)
        rows = end - i
    else:
        j, end = part(n, BLOCK, thread, n_threads)
        cols = end - j
    if rows > 0 and cols > 0:
        mine = Epilogue(mode, shift(v, j), v_row, alpha, beta)
        product_at(at, rows, cols, k, moved(a, i, 0), moved(b, 0, j), moved(c, i, j), mine, workspace)


@kernel
def _matmul_on_unit(at, a, a_transposed, b, b_transposed, out, workspace, thread, n_threads):
    m, n = out.shape
    c = Matrix(data(out), n, 1)
    _multiply_at(
        at, m, n, a.shape[0] if a_transposed else a.shape[1], _matrix(a, a_transposed), _matrix(b, b_transposed), c,
        Epilogue(STORE, c.p, 0, 1.0, 0.0), thread, n_threads, data(workspace),
    )  # fmt: skip


@kernel
def _multiply_on_unit(
    at, mode, a, m, k, a_row, a_col, b, b_row, b_col, c, c_row, n, v, alpha, beta, workspace, thread, n_threads
):
    like = data(workspace)
    _multiply_at(
        at, m, n, k, Matrix(pointer(a, like), a_row, a_col), Matrix(pointer(b, like), b_row, b_col),
        Matrix(pointer(c, like), c_row, 1), Epilogue(mode, pointer(v, like), 0, alpha, beta), thread, n_threads, like,
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
    if work >= LEAST_WORK and (level := _level(*out.shape, a.shape[1], out.dtype)):
        at, fixed = unit_product(level), (x, a_transposed, y, b_transposed, out)
        run(
            lambda thread, n_threads: _matmul_on_unit(at, *fixed, workspace_of_unit(), thread, n_threads),
            work,
        )
    elif work < GRAIN:
        _matmul(x, a_transposed, y, b_transposed, out, workspace(out.dtype), 0, 1)
    else:
        _share(work, x, a_transposed, y, b_transposed, out)


def _level(m: int, n: int, k: int, dtype: np.dtype) -> str:
    """The precision with which the matrix unit computes a product, or nothing where it does not."""
    level = level_of_unit(dtype)
    return level if gains(level, m, n, k) else ""


def _share(work: int, *fixed: Any) -> None:
    dtype = fixed[-1].dtype
    run(lambda thread, n_threads: _matmul(*fixed, workspace(dtype), thread, n_threads), work)


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
    rest = *places, alpha, beta
    if level := _level(m, n, k, out.dtype):
        at = unit_product(level)
        run(
            lambda thread, n_threads: _multiply_on_unit(at, mode, *rest, workspace_of_unit(), thread, n_threads),
            m * k * n,
        )
    else:
        run(
            lambda thread, n_threads: _multiply_strided(mode, *rest, workspace(out.dtype), thread, n_threads),
            m * k * n,
        )
