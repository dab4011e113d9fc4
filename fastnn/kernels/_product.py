"""The product of two matrices in memory of any layout, with an epilogue applied while a tile is in registers.

Columns of B are taken a tile's width at a time. Such a panel is packed when its rows lie apart so far that they would
share cache sets, or when B is transposed, and then serves every row tile; the row tiles share m evenly. A is read in
place from either layout, or packed where its rows collide.
"""

import threading

import numpy as np
from numba import types

from ._jit import inline, shared
from ._tile import (
    A_STRIDE,
    ALPHA,
    B_STRIDE,
    BETA,
    BIAS,
    C_STRIDE,
    COLS,
    COMBINE,
    DEPTH,
    FIELDS,
    GATE,
    LANES_32,
    MODE,
    ROWS,
    STORE,
    TILE,
    V_STRIDE,
    VECTORS,
    B,
    tile,
    tile_shape,
    transpose_block,
)
from ._vector import (
    get,
    integer,
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

# The most bytes of a block of A, well within an L2 cache of 2 MiB, and of a row of it. Blocks of the inner dimension
# must not depend on the number of rows, or a thread's share of them would change the order of the sums.
BLOCK_BYTES = 800_000
INNER_BYTES = 2048
# A is packed where a multiple of this many bytes lies between its rows, which then fall into one cache set. Packing it
# for the sake of a smooth stream alone cost as much as it saved, and 7 % of a training step in float64.
COLLIDE = 4096
# A panel of B is packed where its rows lie this many bytes apart and enough row tiles share it.
FAR = 4096
FEW_ROWS = 2 * ROWS
# Elements of a cache line of float32.
LINE = 16

# The room of a product: the fields of a panel, two packed panels of B, a packed block of A.
HEAD = 2 * FIELDS
PRODUCT_AT, TILES_AT = FIELDS - 2, FIELDS - 1
INNER = INNER_BYTES // 4
PANEL = HEAD + 2 * INNER * VECTORS * LANES_32
ROOM = PANEL + BLOCK_BYTES // 4 + LINE


def _signature(dtype):
    n, p = types.intp, types.CPointer(dtype)
    return types.void(n, n, n, n, p, n, n, p, n, n, p, n, p, n, dtype, dtype, p)


@shared(_signature)
def PRODUCT(mode, m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, v, v_row, alpha, beta, room):
    """C (m, n) = epilogue of A (m, k) B (k, n), see ``tile``; strides in elements, rows of C contiguous.

    ``room`` comes from ``room`` or ``prepare_rooms``. Over several blocks of the inner dimension C
    carries the sum, each block scaled as it comes, and the other epilogues follow the last.
    """
    blocks = max(1, (k * itemsize(a) + INNER_BYTES - 1) // INNER_BYTES)
    depth = (k + blocks - 1) // blocks
    height = BLOCK_BYTES // (max(1, depth) * itemsize(a)) // ROWS * ROWS
    split = k > depth
    block_mode, block_beta = mode, beta
    block_alpha = alpha
    if split and mode != COMBINE:
        block_mode, block_alpha, block_beta = STORE, 1.0, 1.0
    p = 0
    while True:
        for i in range(0, m, height):
            _block(
                block_mode, min(height, m - i), n, depth, shift(a, i * a_row + p * a_col), a_row, a_col,
                shift(b, p * b_row), b_row, b_col, shift(c, i * c_row), c_row, shift(v, i * v_row), v_row,
                block_alpha, block_beta, room,
            )  # fmt: skip
        p += depth
        depth = min(depth, k - p)
        if depth <= 0:
            break
        block_mode, block_beta = COMBINE, 1.0
    if split and mode == BIAS:
        _finish_bias(m, n, c, c_row, v, alpha)
    if split and mode == GATE:
        for i in range(m):
            row = shift(c, i * c_row)
            gate(LEAKY_RELU if alpha != 0.0 else RELU, alpha, row, shift(v, i * v_row), row, n)


_product = PRODUCT.caller()


@inline
def product(mode, m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, v, v_row, alpha, beta, room):
    """See ``PRODUCT``, whose address the room holds."""
    _product(
        get(pointer(room, 0), PRODUCT_AT), a,
        (mode, m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, v, v_row, alpha, beta, room),
    )  # fmt: skip


@inline
def _block(mode, m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, v, v_row, alpha, beta, room):
    """The product of one block of A."""
    width = VECTORS * lanes(a)
    count = (m + ROWS - 1) // ROWS
    packed_a = _wants_packing(m, n, k, a_row, a_col, itemsize(a), width)
    packed_b = b_col != 1 or (b_row * itemsize(b) >= FAR and m >= FEW_ROWS)
    by_row, a_stride, a_step = (1, a_row, a_row) if a_col == 1 else (0, a_col, a_row)
    if packed_a:
        a = _pack_block(m, k, count, a, a_row, a_col, shift(room, PANEL))
        by_row, a_step = 0, k
    panel, packed, spare = pointer(room, 0), shift(room, HEAD), shift(room, HEAD + INNER * width)
    put(panel, DEPTH, k)
    put(panel, C_STRIDE, c_row)
    put(panel, MODE, mode)
    put(panel, V_STRIDE, v_row)
    put(pointer(shift(panel, ALPHA), a), 0, alpha)
    put(pointer(shift(panel, BETA), a), 0, beta)
    put(panel, A_STRIDE, a_stride)
    put(panel, B_STRIDE, width if packed_b else b_row)
    if packed_b:
        pack_panel(k, min(width, n), b, b_row, b_col, packed, width)
    # While one panel is used, the next is packed, a few rows a tile, each asked for one tile ahead: all its rows at
    # once would fall into a few sets of the L2 cache where they lie a power of two apart.
    share = ((k + count - 1) // count + lanes(a) - 1) // lanes(a) * lanes(a)
    for j in range(0, n, width):
        cols, further = min(width, n - j), min(width, n - j - width)
        put(panel, B, integer(packed if packed_b else shift(b, j)))
        put(panel, COLS, cols)
        following = shift(b, (j + width) * b_col)
        done, i = 0, 0
        for t in range(count):
            rows = tile_rows(m - i, count - t)
            if packed_a:
                put(panel, A_STRIDE, rows)
            if packed_b and further > 0:
                if t > 0:
                    more = min(share, k - done)
                    pack_panel(
                        more, further, shift(following, done * b_row), b_row, b_col, shift(spare, done * width), width
                    )
                    done += more
                ask_for_panel(done, min(k, done + share), further, following, b_row, b_col)
            shape = tile_shape(rows, by_row, cols, lanes(a))
            tile(
                get(panel, TILES_AT),
                a,
                (shape, shift(a, i * a_step), shift(c, i * c_row + j), shift(v, i * v_row + j), panel),
            )
            i += rows
        if packed_b and further > 0:
            pack_panel(
                k - done, further, shift(following, done * b_row), b_row, b_col, shift(spare, done * width), width
            )
            packed, spare = spare, packed


@inline
def ask_for_panel(start, end, cols, b, b_row, b_col):
    """Prefetch rows of a panel whose rows are contiguous; the CPU itself sees the others coming."""
    if b_col == 1:
        for p in range(start, end):
            for j in range(0, cols, lanes(b)):
                prefetch(b, p * b_row + j)


@inline
def tile_rows(left, tiles):
    """The rows of the next tile, where ``left`` rows are shared evenly among ``tiles``."""
    return (left + tiles - 1) // tiles


@inline
def _wants_packing(m, n, k, a_row, a_col, size, width):
    """Whether packing A pays, or A has no unit stride and cannot be read in place."""
    if a_col == 1:
        apart, rows = a_row * size, m
    elif a_row == 1:
        apart, rows = a_col * size, k
    else:
        return True
    return n > 2 * width and rows > 4 and apart % COLLIDE == 0


@inline
def _pack_block(m, k, count, a, a_row, a_col, out):
    """Pack the row tiles of A one after the other, the rows of a tile side by side: out[i k + p rows + r].

    Whole vectors are stored: what one writes too much, the next, or the next tile, puts right.
    """
    step = lanes(a)
    i = 0
    for t in range(count):
        rows = tile_rows(m - i, count - t)
        source, target = shift(a, i * a_row), shift(out, i * k)
        if a_col == 1:
            for p in range(0, k, step):
                r = (rows - 1) // step * step
                while r >= 0:
                    transpose_block(
                        shift(source, r * a_row + p), a_row, min(step, rows - r), min(step, k - p),
                        shift(target, p * rows + r), rows,
                    )  # fmt: skip
                    r -= step
        elif a_row == 1:
            for p in range(k):
                for r in range(0, rows, step):
                    store(target, p * rows + r, load_part(source, p * a_col + r, min(step, rows - r), 0.0))
        else:
            for p in range(k):
                for r in range(rows):
                    put(target, p * rows + r, get(source, r * a_row + p * a_col))
        i += rows
    return out


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


_local = threading.local()


def room(dtype: np.dtype, beyond: int = 0) -> np.ndarray:
    """The calling thread's room for products, with as many elements beyond it, kept from call to call."""
    try:
        kept: np.ndarray = _local.rooms[dtype]
    except (AttributeError, KeyError):
        kept = np.empty(0, dtype)
    if kept.size < ROOM + beyond:
        kept = prepare_rooms(1, ROOM + beyond, dtype)[0]
        _local.__dict__.setdefault("rooms", {})[dtype] = kept
    return kept


def prepare_rooms(count: int, size: int, dtype: np.dtype) -> np.ndarray:
    """Rooms (count, size) that know where the compiled product and its tiles are."""
    rooms = np.empty((count, size + size % 2), dtype)
    rooms.view(np.int64)[:, PRODUCT_AT : TILES_AT + 1] = PRODUCT.address(dtype), TILE.address(dtype)
    return rooms
