"""The micro-kernel emitter: one register tile of a matrix product.

A tile holds ``rows`` times ``vectors`` accumulators in registers over the whole inner loop: a broadcast element of A
times the vectors of a row of B. There is one function for every tile height and width up to the table's, so a ragged
edge runs at the speed of a smaller tile; the last vector of a row is masked. The tile ends in one of five epilogues,
applied to the accumulators before they are stored, and C is read only by those that need it:

    STORE             C = A B
    BIAS              C = f(A B + v), v (n,), f the leaky ReLU of slope alpha
    RECTIFY_BACKWARD  C = A B f'(V), V (m, n) the outputs of f
    COMBINE           C = alpha A B + beta C
    COMBINE_SQUARES   the same, and v[0] = Σ C², the sum of this tile, to which what a mask leaves out adds zeros

The scheme of packed panels and register tiles: K. Goto and R. van de Geijn, Anatomy of high-performance matrix
multiplication, ACM TOMS 34(3), 2008; F. Van Zee and R. van de Geijn, BLIS, ACM TOMS 41(3), 2015.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..compiler.cpu import ISA, LINE_BYTES
from ..compiler.jit import inline, shared
from ..compiler.libraries import finished_module
from ..compiler.text import Writer, declared
from ..simd.vector import (
    I32,
    I64,
    call_ir,
    fma_ir,
    lanes,
    lanes_of,
    llvm_scalar,
    llvm_vector,
    load_ir,
    part_mask_ir,
    reduce_ir,
    splat_ir,
    store_ir,
)

STORE, BIAS, RECTIFY_BACKWARD, COMBINE, COMBINE_SQUARES = range(5)

# Vectors of a tile of a single row, whose sums would otherwise wait for each other.
WIDE = 8
# Rows whose addresses share one base register: x86 adds 0, 1 or 2 strides in an address for free.
_GROUP = 3
_I8P = ir.IntType(8).as_pointer()
# How many steps of the inner dimension ahead of their use elements of A and B are asked for.
_AHEAD = 8


# What all tiles of a panel have in common lies in memory, one 8-byte field each: a tile is called with few enough
# arguments for registers. Copied from stack to stack they would wait for the stores of the tile before.
FIELDS = 24
DEPTH, A_STRIDE, B, B_STRIDE, C_STRIDE, COLS, MODE, V_STRIDE, ALPHA, BETA = range(10)
# Whether C holds the sum of earlier blocks of the inner dimension, to be added before the epilogue.
CARRIED = 13
# Two pieces of memory that a tile with A contiguous along its rows prefetches, PREFETCH_STEP bytes each step of k.
PREFETCHED, PREFETCH_STEP = (10, 11), 12
# Whether A is contiguous along k. Tiles of more vectors than a panel has want it so.
BY_ROW = 16
# Where a product on the matrix unit has its memory.
UNIT_AT = 15
# Rows and columns of a block of sums there, and what is added up at once.
BLOCK = STEP = 32


def _signature(dtype: Any) -> Any:
    p = types.CPointer(dtype)
    return types.void(types.intp, p, p, p, types.CPointer(types.intp))


@intrinsic
def _tile(typing: Any, shape: Any, a: Any, c: Any, v: Any, panel: Any) -> Any:
    """C (rows, cols) = epilogue of A (rows, k) B (k, cols), for the fields of ``panel``.

    ``shape`` comes from ``tile_shape``. A is contiguous along k with rows a_stride apart, or contiguous along its rows
    with steps of k a_stride apart, see BY_ROW. B and C have contiguous rows.
    """
    dtype = a.dtype

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        shape, *rest = args
        finished = finished_module(context)
        end = builder.append_basic_block("end")
        choice = builder.switch(shape, end)
        for number, (height, width, whole) in enumerate(_shapes(dtype.bitwidth // 8)):
            block = builder.append_basic_block()
            choice.add_case(I64(number), block)
            with builder.goto_block(block):
                masked = not (whole and _has_whole(dtype.bitwidth // 8, height, width))
                emitter = _Emitter(dtype, height, width, masked)
                builder.call(declared(builder.module, emitter.function(finished)), rest)
                builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return _signature(dtype), emit


def _shapes(size: int) -> list[tuple[int, int, bool]]:
    """Every function: rows, vectors, and whether the last vector is whole."""
    rows, vectors = ISA.rows(size), ISA.vectors(size)
    return [
        *itertools.product(range(1, rows + 1), range(1, vectors + 1), (False, True)),
        *itertools.product((1,), range(vectors + 1, WIDE + 1), (False, True)),
    ]


def _has_whole(size: int, height: int, width: int) -> bool:
    """Whether there is a function without masks, for what is computed most where a mask costs little."""
    return not ISA.cheap_masks or (width == ISA.vectors(size) and height > ISA.rows(size) // 2)


@intrinsic
def most_rows(typing: Any, p: Any) -> Any:
    """The most rows of a tile of elements like those of p."""
    return types.intp(p), lambda context, builder, sig, args: I64(ISA.rows(p.dtype.bitwidth // 8))


@intrinsic
def most_vectors(typing: Any, p: Any) -> Any:
    """The most vectors in a row of it."""
    return types.intp(p), lambda context, builder, sig, args: I64(ISA.vectors(p.dtype.bitwidth // 8))


@inline
def most_cols(p):
    """The most columns of it, which are those of a panel of B."""
    return most_vectors(p) * lanes(p)


@inline
def tile_shape(rows, cols, like):
    """The number of the function for a tile, its place in ``_shapes``."""
    width, high, wide = lanes(like), most_rows(like), most_vectors(like)
    vectors = (cols + width - 1) // width
    whole = 1 if cols == vectors * width else 0
    if vectors > wide:
        return (high * wide + vectors - wide - 1) * 2 + whole
    return ((rows - 1) * wide + vectors - 1) * 2 + whole


@shared(_signature, finished=True)
def TILE(shape, a, c, v, panel):
    """Dispatch to the function of this tile shape."""
    _tile(shape, a, c, v, panel)


tile = TILE.caller()


def close_loop(builder: Any, left: Any, following: Any, sums: list[Any], zero: Any, blocks: Any) -> list[Any]:
    """End a loop of ``left`` turns, and return what the sums of its last turn are behind it, zero if there was none.

    ``following`` holds what is carried from turn to turn, as pairs of a phi and its next value, and ``blocks`` those
    before the loop, in it and behind it.
    """
    before, loop, done = blocks
    for phi, value in ((left, builder.sub(left, I64(1))), *following):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed(">", left, I64(1)), loop, done)
    builder.position_at_end(done)
    results = []
    for value in sums:
        phi = builder.phi(value.type)
        phi.add_incoming(zero, before)
        phi.add_incoming(value, loop)
        results.append(phi)
    return results


def add_carried(builder: Any, sums: list[Any], is_carried: Any, places: list[Any], load: Callable[..., Any]) -> Any:
    """The sums, to which is added what is loaded from their places if these carry sums of their own."""
    before = builder.block
    with builder.if_then(is_carried):
        grown = [builder.fadd(load(builder, place), total) for total, place in zip(sums, places, strict=True)]
        carried = builder.block
    results = []
    for total, value in zip(sums, grown, strict=True):
        phi = builder.phi(value.type)
        phi.add_incoming(total, before)
        phi.add_incoming(value, carried)
        results.append(phi)
    return results


class _Emitter:
    """Builds the LLVM function of one tile shape, for both layouts of A: most of it is the epilogues, which are one."""

    def __init__(self, dtype: Any, height: int, width: int, masked: bool) -> None:
        self.dtype, self.height, self.width, self.masked = dtype, height, width, masked
        self.lanes, self.size = lanes_of(dtype), dtype.bitwidth // 8
        self.scalar, self.vector = llvm_scalar(dtype), llvm_vector(dtype, lanes_of(dtype))
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        self.cells = [(i, v) for i in range(height) for v in range(width)]

    def function(self, module: Any) -> Any:
        """The function (a, c, v, panel)."""
        name = f"tile_{self.dtype}_{self.height}x{self.width}_{'masked' if self.masked else 'whole'}"
        if name in module.globals:
            return module.globals[name]
        p = self.scalar.as_pointer()
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [p, p, p, I64.as_pointer()]), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        a, c, v, panel = function.args
        builder = Writer(function)

        def field(number: int, kind: Any = I64) -> Any:
            return builder.load(builder.bitcast(builder.gep(panel, [I64(number)]), kind.as_pointer()))

        whole = self.lanes * (self.width - 1)
        last = builder.sub(field(COLS), I64(whole))
        self.mask = part_mask_ir(builder, last, self.lanes) if self.masked else None
        c_stride = field(C_STRIDE)
        self._prefetch(builder, c, c_stride)
        sums = self._sums(builder, a, field)
        is_carried = builder.icmp_signed("!=", field(CARRIED), I64(0))
        rows = [builder.gep(c, [builder.mul(c_stride, I64(i))]) for i in range(self.height)]
        places = [(rows[i], v) for i, v in self.cells]
        sums = add_carried(builder, sums, is_carried, places, lambda builder, place: self._load(builder, *place))
        self._epilogue(builder, sums, c, c_stride, v, field)
        return function

    def _prefetch_line(self, builder: Any, place: Any, level: int) -> None:
        """Prefetch a cache line for reading; level 3 keeps it closest, 2 in the L2 cache."""
        args = [builder.bitcast(place, _I8P), I32(0), I32(level), I32(1)]
        call_ir(builder, "llvm.prefetch.p0", ir.VoidType(), args)

    def _prefetch(self, builder: Any, c: Any, c_stride: Any) -> None:
        """Ask for the lines of C, to be written when the sums are ready."""
        for i, v in self.cells:
            place = builder.add(builder.mul(c_stride, I64(i)), I64(v * self.lanes))
            self._prefetch_line(builder, builder.gep(c, [place]), level=3)

    def _vector_mask(self, v: int) -> Any:
        return self.mask if v == self.width - 1 else None

    def _load(self, builder: Any, row: Any, v: int, fill: Any = None) -> Any:
        return load_ir(builder, self.dtype, builder.gep(row, [I64(v * self.lanes)]), self._vector_mask(v), fill)

    def _sums(self, builder: Any, a: Any, field: Any) -> list[Any]:
        """The sums A B, for the layout of A at hand; those of more vectors than a panel has are by row alone."""
        if self.height == 1 and self.width > ISA.vectors(self.size):
            return self._inner_loop(builder, True, a, field)
        rows, columns, behind = (builder.append_basic_block(name) for name in ("by_row", "by_column", "behind"))
        builder.cbranch(builder.icmp_signed("!=", field(BY_ROW), I64(0)), rows, columns)
        ways = []
        for block, is_by_row in ((rows, True), (columns, False)):
            builder.position_at_end(block)
            ways.append((self._inner_loop(builder, is_by_row, a, field), builder.block))
            builder.branch(behind)
        builder.position_at_end(behind)
        results = [builder.phi(self.vector) for _ in self.cells]
        for sums, block in ways:
            for phi, value in zip(results, sums, strict=True):
                phi.add_incoming(value, block)
        return results

    def _inner_loop(self, builder: Any, by_row: bool, a: Any, field: Any) -> list[Any]:
        """One step of k a turn; unrolling makes LLVM hoist the broadcasts and spill."""
        k, a_stride, b, b_stride = field(DEPTH), field(A_STRIDE), field(B, a.type), field(B_STRIDE)
        ahead = [] if by_row else [field(number, _I8P) for number in PREFETCHED]
        ahead_step = None if by_row else field(PREFETCH_STEP)
        before = builder.block
        loop, done = builder.append_basic_block("loop"), builder.append_basic_block("done")
        bytes_apart = builder.mul(a_stride, I64(self.size))
        first = builder.bitcast(a, _I8P)
        bases = [builder.gep(first, [builder.mul(bytes_apart, I64(i))]) for i in range(0, self.height, _GROUP)]
        if not by_row:
            bases = bases[:1]
        builder.cbranch(builder.icmp_signed(">", k, I64(0)), loop, done)
        builder.position_at_end(loop)

        def carried(kind: Any, start: Any) -> Any:
            phi = builder.phi(kind)
            phi.add_incoming(start, before)
            return phi

        left, b_row = carried(I64, k), carried(b.type, b)
        heads = [carried(_I8P, base) for base in bases]
        sums = [carried(self.vector, self.zero) for _ in self.cells]
        pieces = [carried(_I8P, piece) for piece in ahead]
        # Or LLVM would go from row to row by additions, each of which waits for the one before.
        places = [builder.opaque(head) for head in heads] if len(heads) > 1 else heads
        for piece in pieces:
            self._prefetch_line(builder, piece, level=2)
        if not by_row:
            self._prefetch_line(builder, builder.gep(heads[0], [builder.mul(bytes_apart, I64(_AHEAD))]), level=3)
        soon = builder.gep(b_row, [builder.mul(b_stride, I64(_AHEAD))])
        for at in range(0, self.width * self.lanes, max(self.lanes, LINE_BYTES // self.size)):
            self._prefetch_line(builder, builder.gep(soon, [I64(at)]), level=3)
        row = [self._load(builder, b_row, v) for v in range(self.width)]
        grown: list[Any] = []
        for i in range(self.height):
            # Loaded beside its use: LLVM would keep elements loaded before all products in registers, and spill.
            element = self._element(builder, by_row, places, bytes_apart, i)
            grown += [fma_ir(builder, self.dtype, element, row[v], sums[i * self.width + v]) for v in range(self.width)]
        step = I64(self.size) if by_row else bytes_apart
        following = [
            (b_row, builder.gep(b_row, [b_stride])),
            *((head, builder.gep(place, [step])) for head, place in zip(heads, places, strict=True)),
            *((piece, builder.gep(piece, [ahead_step])) for piece in pieces),
            *zip(sums, grown, strict=True),
        ]
        return close_loop(builder, left, following, grown, self.zero, (before, loop, done))

    def _element(self, builder: Any, by_row: bool, heads: list[Any], bytes_apart: Any, i: int) -> Any:
        """A's element of row i at this step of k, in every lane."""
        if by_row:
            head = heads[i // _GROUP]
            place = builder.gep(head, [builder.mul(bytes_apart, I64(i % _GROUP))]) if i % _GROUP else head
        else:
            place = builder.gep(heads[0], [I64(i * self.size)])
        return splat_ir(builder, builder.load(builder.bitcast(place, self.scalar.as_pointer())), self.lanes)

    def _epilogue(self, builder: Any, sums: list[Any], c: Any, c_stride: Any, v: Any, field: Any) -> None:
        mode, v_stride = field(MODE), field(V_STRIDE)
        factors = [field(ALPHA, self.scalar), field(BETA, self.scalar)]
        alpha, beta = (splat_ir(builder, factor, self.lanes) for factor in factors)
        sloped = builder.fcmp_unordered("!=", factors[0], self.scalar(0.0))
        blocks = [builder.append_basic_block(name) for name in ("store", "bias", "rectify_backward", "combine")]
        choice = builder.switch(mode, blocks[STORE])
        for number in (BIAS, RECTIFY_BACKWARD, COMBINE):
            choice.add_case(I64(number), blocks[number])
        choice.add_case(I64(COMBINE_SQUARES), blocks[COMBINE])
        for number, block in enumerate(blocks):
            builder.position_at_end(block)
            bias = [self._load(builder, v, j) for j in range(self.width)] if number == BIAS else []
            results = []
            for (i, j), total in zip(self.cells, sums, strict=True):
                row = builder.gep(c, [builder.mul(c_stride, I64(i))])
                if number == BIAS:
                    value = builder.fadd(total, bias[j])
                    result = self._leaky(builder, builder.fcmp_ordered("<", value, self.zero), value, alpha, sloped)
                elif number == RECTIFY_BACKWARD:
                    y = self._load(builder, builder.gep(v, [builder.mul(v_stride, I64(i))]), j)
                    gated = self._leaky(builder, builder.fcmp_ordered("<=", y, self.zero), total, alpha, sloped)
                    result = builder.select(builder.fcmp_unordered("uno", y, y), y, gated)
                elif number == COMBINE:
                    old = builder.fmul(self._load(builder, row, j), beta)
                    result = fma_ir(builder, self.dtype, total, alpha, old)
                else:
                    result = total
                place = builder.gep(row, [I64(j * self.lanes)])
                store_ir(builder, self.dtype, result, place, self._vector_mask(j))
                results.append(result)
            if number == COMBINE:
                with builder.if_then(builder.icmp_signed(">", mode, I64(COMBINE))):
                    self._store_squares(builder, results, v)
            builder.ret_void()

    def _store_squares(self, builder: Any, results: list[Any], v: Any) -> None:
        """v[0] = Σ of the squares of some results."""
        squares = [self.zero] * self.width
        for (_, j), result in zip(self.cells, results, strict=True):
            squares[j] = fma_ir(builder, self.dtype, result, result, squares[j])
        total = functools.reduce(builder.fadd, squares)
        builder.store(reduce_ir(builder, total, lambda builder, a, b: builder.fadd(a, b)), v)

    def _leaky(self, builder: Any, negative: Any, value: Any, alpha: Any, sloped: Any) -> Any:
        """Value, or where ``negative`` holds alpha times it; an alpha of 0 gives 0 even for infinity."""
        scaled = builder.select(sloped, builder.fmul(value, alpha), self.zero)
        return builder.select(negative, scaled, value)
