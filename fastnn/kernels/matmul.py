"""Tiled matrix products, with an epilogue applied while a tile is still in registers, and the linear layer.

Columns of B are taken a tile's width at a time. Such a panel is packed when its rows lie apart so far that they would
share cache sets, or when B is transposed, and then serves every row tile; the row tiles share m evenly. A is read in
place, from either layout, or copied to rows that are not a power of two apart.
"""

import numpy as np
from numba import types

from ._address import address, strides, whole_strides
from ._jit import inline, kernel, shared
from ._tile import BIAS, COMBINE, GATE, LANES_32, ROWS, STORE, TILE, VECTORS, tile, transpose_block
from ._vector import (
    data,
    get,
    itemsize,
    lanes,
    load,
    load_part,
    pointer,
    prefetch,
    put,
    shift,
    splat,
    store,
    store_part,
)
from .activations import LEAKY_RELU, RELU, activate, gate
from .threads import GRAIN, part, run, scratch

# Blocks of the inner dimension and of A's rows: a block of A of float32 takes half of an L2 cache of 2 MiB.
INNER = 512
BLOCK = 512
# Elements between the ends of copied rows, so that they do not collide either.
SPARE = 16
# From this many bytes apart, rows of B collide in the L1 cache, and a panel is packed if enough row tiles share it.
FAR = 1500
FEW_ROWS = 2 * ROWS
# A multiple of this many bytes between rows of A makes them collide.
COLLIDE = 4096
# A cache line of float32.
LINE = 16
PANEL = INNER * VECTORS * LANES_32
ROOM = PANEL + (BLOCK + SPARE) * (INNER + SPARE)


def _signature(dtype):
    n, p = types.intp, types.CPointer(dtype)
    return types.void(n, n, n, n, n, p, n, n, p, n, n, p, n, p, n, dtype, dtype, p)


@shared(_signature)
def PRODUCT(tiles, mode, m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, v, v_row, alpha, beta, room):
    """C (m, n) = epilogue of A (m, k) B (k, n), see ``tile``; strides in elements, rows of C contiguous.

    ``room`` holds PANEL elements, or ROOM where A may need copying. Over several blocks of the inner dimension C
    carries the sum, each block scaled as it comes, and the other epilogues follow the last.
    """
    depth = min(k, INNER)
    split = k > depth
    block_mode, block_beta = mode, beta
    block_alpha = alpha
    if split and mode != COMBINE:
        block_mode, block_alpha, block_beta = STORE, 1.0, 1.0
    p = 0
    while True:
        for i in range(0, m, BLOCK):
            _block(
                tiles, block_mode, min(BLOCK, m - i), n, depth, shift(a, i * a_row + p * a_col), a_row, a_col,
                shift(b, p * b_row), b_row, b_col, shift(c, i * c_row), c_row, shift(v, i * v_row), v_row,
                block_alpha, block_beta, room,
            )  # fmt: skip
        p += depth
        depth = min(k - p, INNER)
        if depth <= 0:
            break
        block_mode, block_beta = COMBINE, 1.0
    if split and mode == BIAS:
        _finish_bias(m, n, c, c_row, v, alpha)
    if split and mode == GATE:
        for i in range(m):
            row = shift(c, i * c_row)
            gate(LEAKY_RELU if alpha != 0.0 else RELU, alpha, row, shift(v, i * v_row), row, n)


product = PRODUCT.caller()


@inline
def _block(tiles, mode, m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, v, v_row, alpha, beta, room):
    """The product of one block of A."""
    width = VECTORS * lanes(a)
    if _wants_copy(m, n, k, a_row, a_col, itemsize(a), width):
        a, a_row, a_col = _copy_block(m, k, a, a_row, a_col, shift(room, PANEL))
    by_row = 1 if a_col == 1 else 0
    a_stride = a_row if by_row == 1 else a_col
    packed = b_col != 1 or (b_row * itemsize(b) >= FAR and m >= FEW_ROWS)
    count = (m + ROWS - 1) // ROWS
    for j in range(0, n, width):
        cols = min(width, n - j)
        panel, panel_row = shift(b, j * b_col), b_row
        if packed:
            pack_panel(k, cols, panel, b_row, b_col, room, width)
            panel, panel_row = room, width
        share = (k + count - 1) // count if packed and b_col == 1 and j + width < n else 0
        i = 0
        for t in range(count):
            rows = (m - i + count - t - 1) // (count - t)
            # Meanwhile the next panel travels to the cache: its rows lie too far apart for the CPU to guess them.
            for p in range(t * share, min(k, (t + 1) * share)):
                for line in range(0, width, LINE):
                    prefetch(b, p * b_row + j + width + line)
            tile(tiles, a, (
                rows, by_row, k, shift(a, i * a_row), a_stride, panel, panel_row, shift(c, i * c_row + j), c_row, cols,
                mode, shift(v, i * v_row + j), v_row, alpha, beta,
            ))  # fmt: skip
            i += rows


@inline
def _wants_copy(m, n, k, a_row, a_col, size, width):
    """Whether A has no unit stride, or rows that collide and are read often enough to pay for a copy."""
    if a_col == 1:
        return m > 4 and n > 2 * width and (a_row * size) % COLLIDE == 0
    if a_row == 1:
        return k > 4 and n > 2 * width and (a_col * size) % COLLIDE == 0
    return True


@inline
def _copy_block(m, k, a, a_row, a_col, out):
    """A copy of A that keeps its orientation and whose rows do not collide; returns it with its strides."""
    if a_row == 1 and a_col != 1:
        pack_panel(k, m, a, a_col, 1, out, m + SPARE)
        return out, 1, m + SPARE
    pack_panel(m, k, a, a_row, a_col, out, k + SPARE)
    return out, k + SPARE, 1


@inline
def pack_panel(k, cols, b, b_row, b_col, out, out_row):
    """out[p, j] = b[p, j] for p < k and j < cols."""
    width = lanes(b)
    if b_col == 1:
        for p in range(k):
            for j in range(0, cols, width):
                count = min(width, cols - j)
                if count == width:
                    store(out, p * out_row + j, load(b, p * b_row + j))
                else:
                    store_part(out, p * out_row + j, count, load_part(b, p * b_row + j, count, 0.0))
    elif b_row == 1:
        for j in range(0, cols, width):
            for p in range(0, k, width):
                transpose_block(
                    shift(b, j * b_col + p), b_col, min(width, cols - j), min(width, k - p),
                    shift(out, p * out_row + j), out_row,
                )  # fmt: skip
    else:
        for p in range(k):
            for j in range(cols):
                put(out, p * out_row + j, get(b, p * b_row + j * b_col))


@inline
def _finish_bias(m, n, c, c_row, v, slope):
    """C = f(C + v) row by row, where the sum came in several blocks."""
    for i in range(m):
        row = shift(c, i * c_row)
        combine(row, 1.0, v, 1.0, n)
        if slope != 1.0:
            activate(LEAKY_RELU if slope != 0.0 else RELU, slope, row, row, n)


@inline
def combine(x, alpha, y, beta, n):
    """x[i] = alpha x[i] + beta y[i] for i < n."""
    width = lanes(x)
    i = 0
    while i + width <= n:
        store(x, i, load(x, i) * alpha + load(y, i) * beta)
        i += width
    if i < n:
        store_part(x, i, n - i, load_part(x, i, n - i, 0.0) * alpha + load_part(y, i, n - i, 0.0) * beta)


@inline
def column_sums(m, n, x, x_row, out, alpha, beta):
    """out[j] = beta out[j] + alpha Σ_i x[i, j] for j < n; out is not read where beta is 0."""
    width = lanes(x)
    for j in range(0, n, width):
        count = min(width, n - j)
        total = splat(x, 0.0)
        if count == width:
            for i in range(m):
                total = total + load(x, i * x_row + j)
        else:
            for i in range(m):
                total = total + load_part(x, i * x_row + j, count, 0.0)
        total = total * alpha
        if beta != 0.0:
            total = total + load_part(out, j, count, 0.0) * beta
        store_part(out, j, count, total)


@inline
def _multiply(engine, mode, a, a_shape, a_strides, b, b_strides, c, c_row, n, v, alpha, beta, rank, size, room):
    """The rows or the columns of a product that belong to one thread."""
    m, k = a_shape
    a_row, a_col = a_strides
    b_row, b_col = b_strides
    if m >= n:
        i, end = part(m, ROWS, rank, size)
        a, c, m = shift(a, i * a_row), shift(c, i * c_row), end - i
    else:
        j, end = part(n, VECTORS * lanes(a), rank, size)
        b, c, v, n = shift(b, j * b_col), shift(c, j), shift(v, j), end - j
    if m > 0 and n > 0:
        multiply, tiles = engine
        product(
            multiply, a,
            (tiles, mode, m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, v, 0, alpha, beta, room),
        )  # fmt: skip


def engine(dtype: np.dtype) -> tuple[int, int]:
    """The addresses of the product and of its tiles, which compiled callers of ``product`` pass on."""
    return PRODUCT.address(dtype), TILE.address(dtype)


@kernel
def _matmul(engine, a, b, out, room, rank, size):
    m, k = a.shape
    n = b.shape[1]
    c = data(out)
    _multiply(engine, STORE, data(a), (m, k), (k, 1), data(b), (n, 1), c, n, n, c, 1.0, 0.0, rank, size, data(room))


@kernel
def _multiply_strided(
    engine, mode, a, m, k, a_row, a_col, b, b_row, b_col, c, c_row, n, v, alpha, beta, room, rank, size
):
    like = room[0]
    _multiply(
        engine, mode, pointer(a, like), (m, k), (a_row, a_col), pointer(b, like), (b_row, b_col), pointer(c, like),
        c_row, n, pointer(v, like), alpha, beta, rank, size, data(room),
    )  # fmt: skip


@kernel
def _column_sums(x, x_row, m, n, out):
    column_sums(m, n, pointer(x, out[0]), x_row, data(out), 1.0, 0.0)


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out (m, n) = a (m, k) b (k, n); a and b may have any strides, rows of out are contiguous."""
    if a.flags.carray and b.flags.carray and out.flags.carray:
        work = a.shape[0] * a.shape[1] * b.shape[1]
        if work < GRAIN:
            _matmul(engine(out.dtype), a, b, out, scratch(out.dtype, ROOM), 0, 1)
        else:
            run(lambda rank, size: _matmul(engine(out.dtype), a, b, out, scratch(out.dtype, ROOM), rank, size), work)
    else:
        _strided(STORE, a, b, out, out, 1.0, 0.0)


def linear(x: np.ndarray, w: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out (m, k) = x (m, d) w (d, k) + b (k,)."""
    _strided(BIAS, x, w, out, np.ascontiguousarray(b), 1.0, 0.0)


def linear_backward(
    dy: np.ndarray, x: np.ndarray, w: np.ndarray, l2: float, dx: np.ndarray, dw: np.ndarray, db: np.ndarray
) -> None:
    """dx (m, d) = dy wᵀ, dw (d, k) = xᵀ dy + 2 l2 w, db (k,) = Σ_rows dy, from dy (m, k)."""
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
    run(
        lambda rank, size: _multiply_strided(
            engine(out.dtype), mode, *places, alpha, beta, scratch(out.dtype, ROOM), rank, size
        ),
        m * k * n,
    )
