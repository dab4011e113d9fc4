"""The product of two matrices in memory of any layout, with an epilogue applied while a tile is in registers.

The inner dimension comes in blocks. Of each, a block of B so large that it stays in the L2 cache meets all row tiles of
A one after the other, and each row tile, which stays in the L1 cache, meets the block's panels, a tile's width of
columns each: the panels are all that the innermost loop gets from the L2 cache. The block is packed, panel after panel,
where it serves enough row tiles, where its rows lie so far apart that they would share cache sets, or where B is
transposed; a row tile is packed where it serves enough panels. While one is at work, the next comes into the L2 cache.
"""

import threading
from typing import Any, NamedTuple

import numpy as np
from numba import types

from ..compiler.cpu import ISA, LINE_BYTES, l2_bytes
from ..compiler.jit import inline, shared
from ..simd.address import address, aligned_empty
from ..simd.vector import (
    fma,
    get,
    integer,
    itemsize,
    lanes,
    load,
    load_part,
    pointer,
    put,
    reduce_add,
    shift,
    splat,
    store_part,
)
from .packing import pack_block, pack_tile
from .tile import (
    A_STRIDE,
    ALPHA,
    B_STRIDE,
    BETA,
    BY_ROW,
    C_STRIDE,
    CARRIED,
    COLS,
    COMBINE,
    COMBINE_SQUARES,
    DEPTH,
    FIELDS,
    MODE,
    PREFETCH_STEP,
    PREFETCHED,
    STORE,
    TILE,
    V_STRIDE,
    WIDE,
    B,
    most_cols,
    most_rows,
    tile,
    tile_shape,
)
from .turned import turn_back, turned_columns

# The most steps of the inner dimension in a block, so that a row tile of A stays in the L1 cache while panels of B
# stream by. It decides about the order of sums, so it depends neither on the CPU's caches nor on the number of rows, of
# which a thread has a share.
INNER = 512
# The most bytes of a block of B, and the part of the L2 cache that it may take.
BLOCK_BYTES = 1_310_720
BLOCK_SHARE = 0.625
# B is packed where many row tiles share it, where its rows lie so many bytes apart and some do, or where these would
# share cache sets.
MANY_TILES = 32
FAR, SOME_TILES = 2048, 16
COLLIDE, FEW_TILES = 4096, 2
# A is packed where so many panels share it, from contiguous rows only where tiles are tall: theirs are apart by what is
# often a power of two, and would share the few ways of a set of the L1 cache. Where columns are contiguous, each step
# of the inner dimension has a page of its own otherwise, so fewer panels are enough.
FEW_PANELS, FEWER_PANELS = 20, 6
TALL = ISA.rows(4) > 6

# The workspace of a product: the fields of a panel, a packed row tile of A, room to write beyond it, a packed block of
# B. All begin at whole cache lines.
HEAD = 2 * FIELDS
# Of the pieces of memory to prefetch: the bytes left of the two at hand, the next, and the end of all.
LEFT, NEXT, LAST = FIELDS - 6, FIELDS - 4, FIELDS - 3
PRODUCT_AT, TILES_AT = FIELDS - 2, FIELDS - 1
# How large a block of B may be on this machine.
LARGEST = CARRIED + 1
BLOCK = HEAD + max(ISA.rows(4), ISA.rows(8)) * INNER + LINE_BYTES // 4
WORKSPACE = -(-(BLOCK + max(BLOCK_BYTES // 4, INNER * ISA.vectors(8) * ISA.lanes(4))) // LINE_BYTES) * LINE_BYTES


class Matrix(NamedTuple):
    """Where the first element lies, and the distances of rows and of columns in elements."""

    p: Any
    row: int
    col: int = 1


class Epilogue(NamedTuple):
    """What happens to a tile before it is stored, see ``tile``; a mode that takes no v gets any pointer."""

    mode: int
    v: Any
    v_row: int = 0
    alpha: float = 1.0
    beta: float = 0.0


@inline
def moved(matrix, i, j):
    """The matrix from row i and column j on."""
    return Matrix(shift(matrix.p, i * matrix.row + j * matrix.col), matrix.row, matrix.col)


@inline
def transposed(matrix):
    """The same memory with rows and columns exchanged."""
    return Matrix(matrix.p, matrix.col, matrix.row)


@inline
def block_depth(k):
    """How many steps of an inner dimension of k make a block, all but the last of one size."""
    blocks = max(1, (k + INNER - 1) // INNER)
    return max(1, (k + blocks - 1) // blocks)


def product_signature(dtype):
    """The Numba signature of a product."""
    n, p = types.intp, types.CPointer(dtype)
    return types.void(n, n, n, n, p, n, n, p, n, n, p, n, p, n, dtype, dtype, p)


@shared(product_signature)
def PRODUCT(mode, m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, v, v_row, alpha, beta, workspace):
    """C (m, n) = epilogue of A (m, k) B (k, n), see ``tile``; strides in elements, rows of C contiguous.

    ``workspace`` comes from the function ``workspace``. Over several blocks of the inner dimension C carries the sum,
    and the epilogue follows the last; one that combines scales each block and adds it as it comes.
    """
    a, b, c = Matrix(a, a_row, a_col), Matrix(b, b_row, b_col), Matrix(c, c_row, 1)
    depth = block_depth(k)
    width = most_cols(a.p)
    most = max(1, get(pointer(workspace, 0), LARGEST) // (depth * itemsize(a.p) * width))
    panels = (n + width - 1) // width
    spans = (panels + most - 1) // most
    combines = mode in (COMBINE, COMBINE_SQUARES)
    early_mode = COMBINE if combines else STORE
    j = 0
    for s in range(spans):
        cols = min(n - j, tile_rows(panels - j // width, spans - s) * width)
        part, rest = moved(c, 0, j), shift(v, j // width if mode == COMBINE_SQUARES else j)
        for p in range(0, max(1, k), depth):
            epilogue = Epilogue(early_mode if p + depth < k else mode, rest, v_row, alpha, beta if p == 0 else 1.0)
            carried = p > 0 and not combines
            _block(m, cols, min(depth, k - p), moved(a, 0, p), moved(b, p, j), part, epilogue, carried, workspace)
        j += cols


_product = PRODUCT.caller()


@inline
def product(m, n, k, a, b, c, epilogue, workspace):
    """C (m, n) = epilogue of A (m, k) B (k, n), all three a Matrix; see ``PRODUCT``, which the workspace knows."""
    product_at(get(pointer(workspace, 0), PRODUCT_AT), m, n, k, a, b, c, epilogue, workspace)


@inline
def product_at(at, m, n, k, a, b, c, epilogue, workspace):
    """The same by the product at an address: this one or one on the matrix unit, whose memory the workspace knows."""
    mode, v, v_row, alpha, beta = epilogue
    _product(
        at, a.p,
        (mode, m, n, k, a.p, a.row, a.col, b.p, b.row, b.col, c.p, c.row, v, v_row, alpha, beta, workspace),
    )  # fmt: skip


@inline
def _block(m, n, k, a, b, c, epilogue, carried, workspace):
    """The product with one block of B; what it has of columns behind whole panels may be formed transposed first."""
    mode, v, v_row, alpha, beta = epilogue
    rest = 0 if carried else turned_columns(m, n, k, a, b, mode)
    for which in range(1 if rest == 0 else 0, 1 if n == rest else 2):
        rows, cols, first, second, out, how = m, n - rest, a, b, c, mode
        if which == 0:
            last = moved(b, 0, n - rest)
            rows, cols, first, second, how = rest, m, transposed(last), transposed(a), STORE
            out = Matrix(shift(workspace, BLOCK), m, 1)
        _panels(rows, cols, k, first, second, out, Epilogue(how, v, v_row, alpha, beta), carried, which == 0, workspace)
        if which == 0:
            turn_back(m, rest, out, moved(c, 0, n - rest), epilogue, shift(workspace, HEAD))


@inline
def _panels(m, n, k, a, b, c, epilogue, carried, is_turned, workspace):
    """The product with one block of B, which stays in the L2 cache while the row tiles of A pass by."""
    width = WIDE * lanes(a.p) if m == 1 and a.col == 1 and b.col == 1 else most_cols(a.p)
    panel, packed_tile, packed = pointer(workspace, 0), shift(workspace, HEAD), shift(workspace, BLOCK)
    b_p, b_row, b_step = b.p, b.row, width * b.col
    if b.col != 1 or (not is_turned and _is_worth_packing(m, b)):
        pack_block(k, n, b, packed, width)
        b_p, b_row, b_step = packed, width, width * k
    few = FEW_PANELS if a.col == 1 else FEWER_PANELS
    shared_a = m > 1 and n >= few * width and (TALL or a.col != 1)
    pack_a = shared_a or (a.col != 1 and a.row != 1)
    by_row = 1 if a.col == 1 and not pack_a else 0
    sums_squares = epilogue.mode == COMBINE_SQUARES
    put(panel, DEPTH, k)
    put(panel, A_STRIDE, a.row if by_row == 1 else a.col)
    put(panel, B_STRIDE, b_row)
    put(panel, C_STRIDE, c.row)
    put(panel, BY_ROW, by_row)
    put(panel, MODE, epilogue.mode)
    put(panel, CARRIED, 1 if carried else 0)
    put(panel, V_STRIDE, epilogue.v_row)
    put(pointer(shift(panel, ALPHA), a.p), 0, epilogue.alpha)
    put(pointer(shift(panel, BETA), a.p), 0, epilogue.beta)
    # Where nobody else has something to prefetch, each tile asks for two rows of the row tile to come.
    looks_ahead = pack_a and a.col == 1 and get(panel, PREFETCH_STEP) == 0
    if looks_ahead:
        put(panel, PREFETCH_STEP, itemsize(a.p))
    most = most_rows(a.p)
    count, i = (m + most - 1) // most, 0
    for t in range(count):
        # The sums of an update must not depend on the share of a thread, which is a multiple of the most rows.
        rows = min(most, m - i) if sums_squares else tile_rows(m - i, count - t)
        tile_v, v_step = shift(epilogue.v, (t if sums_squares else i) * epilogue.v_row), 1 if sums_squares else width
        tile_a = shift(a.p, i * a.row)
        if pack_a:
            put(panel, A_STRIDE, rows)
            pack_tile(rows, m - i, k, moved(a, i, 0), packed_tile)
            tile_a = packed_tile
        panel_b = b_p
        ahead, last = i + rows, min(m, i + 2 * rows)
        for j in range(0, n, width):
            if looks_ahead:
                for s in range(2):
                    to_come = shift(a.p, ahead * a.row)
                    put(panel, PREFETCHED[0] + s, integer(to_come) if ahead < last else integer(panel))
                    ahead += 1
            cols = min(width, n - j)
            put(panel, B, integer(panel_b))
            put(panel, COLS, cols)
            shape = tile_shape(rows, cols, a.p)
            tile(get(panel, TILES_AT), a.p, (shape, tile_a, shift(c.p, i * c.row + j), tile_v, panel))
            panel_b, tile_v = shift(panel_b, b_step), shift(tile_v, v_step)
            if by_row == 0 and not looks_ahead:
                _prefetch_on(panel, k)
        i += rows
    if looks_ahead:
        stop_prefetching(workspace)


@inline
def prefetch(places, count, step, workspace):
    """Let the coming tiles of products with a transposed A prefetch ``count`` pieces of memory, two at a time.

    ``places`` holds the address and the bytes of each; every step of k asks for ``step`` bytes of either piece.
    """
    panel = pointer(workspace, 0)
    put(panel, NEXT, integer(places))
    put(panel, LAST, integer(places) + 16 * count)
    put(panel, PREFETCH_STEP, step)
    put(panel, LEFT, 0)
    put(panel, LEFT + 1, 0)
    _prefetch_on(panel, 0)


@inline
def stop_prefetching(workspace):
    """Forget the pieces of memory that are left, before what they are noted down in goes away."""
    panel = pointer(workspace, 0)
    put(panel, PREFETCH_STEP, 0)
    for s in range(2):
        put(panel, PREFETCHED[0] + s, integer(panel))


@inline
def _prefetch_on(panel, k):
    """Move on behind a tile of ``k`` steps, to the next piece where one is done, and rest at the end."""
    step = get(panel, PREFETCH_STEP)
    if step == 0:
        return
    done = 0
    for s in range(2):
        left = get(panel, LEFT + s) - k * step
        at = get(panel, NEXT)
        if left > 0:
            put(panel, PREFETCHED[0] + s, get(panel, PREFETCHED[0] + s) + k * step)
        elif at < get(panel, LAST):
            put(panel, PREFETCHED[0] + s, get(pointer(at, 0), 0))
            left = get(pointer(at, 0), 1)
            put(panel, NEXT, at + 16)
        else:
            put(panel, PREFETCHED[0] + s, integer(panel))
            done += 1
        put(panel, LEFT + s, left)
    if done == 2:
        put(panel, PREFETCH_STEP, 0)


@inline
def tile_rows(left, tiles):
    """The rows of the next tile, where ``left`` rows are shared evenly among ``tiles``."""
    return (left + tiles - 1) // tiles


@inline
def _is_worth_packing(m, b):
    """Whether to pack a block of B for m rows of A."""
    tiles, apart = m // most_rows(b.p), b.row * itemsize(b.p)
    return tiles >= MANY_TILES or (tiles >= SOME_TILES and apart >= FAR) or (tiles >= FEW_TILES and apart >= COLLIDE)


@inline
def sum_of_squares(x, rows, cols):
    """Σ x² of a block: down its columns, then over the vectors of a row, and over their lanes."""
    width = lanes(x.p)
    total = splat(x.p, 0.0)
    for j in range(0, cols, width):
        count, down = min(width, cols - j), splat(x.p, 0.0)
        for i in range(rows):
            value = load_part(x.p, i * x.row + j, count, 0.0)
            down = fma(value, value, down)
        total = down if j == 0 else total + down
    return reduce_add(total)


@inline
def column_sums(m, n, x, out, alpha, beta):
    """out[j] = beta out[j] + alpha Σ_i x[i, j] for j < n; out is not read where beta is 0."""
    width = lanes(x.p)
    for j in range(0, n, width):
        count = min(width, n - j)
        total = splat(x.p, 0.0)
        if count == width:
            for i in range(m):
                total = total + load(x.p, i * x.row + j)
        else:
            for i in range(m):
                total = total + load_part(x.p, i * x.row + j, count, 0.0)
        before = load_part(out, j, count, 0.0) * beta if beta != 0.0 else splat(x.p, 0.0)
        store_part(out, j, count, fma(total, alpha, before))


_local = threading.local()


# More bytes of a workspace are not kept from call to call.
MOST_KEPT_BYTES = 1 << 26


def workspace(dtype: np.dtype, beyond: int = 0) -> np.ndarray:
    """The calling thread's workspace for products, with as many elements beyond it, kept unless it is large."""
    try:
        kept: np.ndarray = _local.workspaces[dtype]
    except (AttributeError, KeyError):
        kept = np.empty(0, dtype)
    if kept.size < WORKSPACE + beyond:
        kept = prepared_workspace(WORKSPACE + beyond, dtype)
        if kept.nbytes <= MOST_KEPT_BYTES:
            _local.__dict__.setdefault("workspaces", {})[dtype] = kept
    return kept


def prepared_workspace(size: int, dtype: np.dtype) -> np.ndarray:
    """A workspace of whole cache lines, which knows where the compiled product and its tiles are."""
    line = LINE_BYTES // dtype.itemsize
    prepared = aligned_empty(-(-size // line) * line, dtype)
    fields = prepared.view(np.int64)
    fields[PREFETCHED[0] : PREFETCHED[1] + 1] = address(prepared)
    fields[PREFETCH_STEP] = 0
    fields[LARGEST] = min(BLOCK_BYTES, int(BLOCK_SHARE * l2_bytes()))
    fields[PRODUCT_AT : TILES_AT + 1] = PRODUCT.address(dtype), TILE.address(dtype)
    return prepared
