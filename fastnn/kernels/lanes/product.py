"""Products of networks side by side: every element of the three matrices is a vector, with a network in each lane.

A tile holds ``rows`` times ``cols`` sums in registers over the whole inner loop, each the product of an element of A
and one of B, network by network. All distances are free, so the three products of a layer are one function. Every sum
runs over the inner dimension in order and in the blocks of ``gemm.product``, whose epilogues these are as well, with a
factor for each lane:

    STORE         C = A B
    BIAS          C = A B + v, v (n,)
    BIAS_RELU     C = max(A B + v, 0)
    BIAS_LEAKY    C = f(A B + v), f the leaky ReLU of slope alpha
    RELU_BACK     C = A B where V > 0, else 0, V (m, n) the outputs of the ReLU
    LEAKY_BACK    C = A B f'(V), V the outputs of f
    COMBINE       C = alpha A B + beta C
"""

import itertools
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..compiler.cpu import ISA
from ..compiler.jit import inline, shared
from ..gemm.product import block_depth, tile_rows
from ..gemm.tile import add_carried, close_loop
from ..simd.vector import (
    I32,
    I64,
    call_ir,
    fma_ir,
    get,
    integer,
    itemsize,
    lanes,
    lanes_of,
    llvm_vector,
    load_ir,
    put,
    shift,
    store_ir,
)

STORE, BIAS, BIAS_RELU, BIAS_LEAKY, RELU_BACK, LEAKY_BACK, COMBINE = range(7)
MODES = "store", "bias", "bias_relu", "bias_leaky", "relu_back", "leaky_back", "combine"

ROWS, COLS = ISA.lane_rows, ISA.lane_cols
# Rows or columns whose addresses share one base register: x86 adds 0, 1 or 2 strides in an address for free.
_GROUP = 3
_I8P = ir.IntType(8).as_pointer()

# The fields of a panel, 8 bytes each: what all tiles of a product have in common, distances in bytes.
DEPTH, A_ROW, A_STEP, B_COL, B_STEP, C_ROW, MODE, V_ROW, FACTORS, TILES_AT = range(10)
# What C holds of earlier blocks of the inner dimension: nothing, a sum to be added before the epilogue, or what COMBINE
# has scaled already.
CARRIED = 10
NOTHING, SUM, SCALED = range(3)
FIELDS = 16


class Lanes(NamedTuple):
    """A matrix of vectors: where the first lies, and the distances of rows and of columns in elements."""

    p: Any
    row: int
    col: int


class Epilogue(NamedTuple):
    """What happens to a tile before it is stored; ``factors`` points to alpha and beta, a vector each."""

    mode: int
    v: Lanes
    factors: Any


def _signature(dtype: Any) -> Any:
    p = types.CPointer(dtype)
    return types.void(types.intp, types.intp, p, p, p, p, types.CPointer(types.intp))


@intrinsic
def _tiles(typing: Any, shape: Any, count: Any, a: Any, b: Any, c: Any, v: Any, panel: Any) -> Any:
    """C (rows, count cols) = epilogue of A (rows, k) B (k, count cols), for the fields of ``panel``."""
    dtype = a.dtype

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        shape, count, *places, panel = args
        rest = [count, *(builder.bitcast(place, _I8P) for place in places), panel]
        end = builder.append_basic_block("end")
        choice = builder.switch(shape, end)
        for number, (height, width) in enumerate(itertools.product(range(1, ROWS + 1), range(1, COLS + 1))):
            block = builder.append_basic_block()
            choice.add_case(I64(number), block)
            with builder.goto_block(block):
                builder.call(_Emitter(dtype, height, width).function(builder.module), rest)
                builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return _signature(dtype), emit


@shared(_signature)
def LANE_TILES(shape, count, a, b, c, v, panel):
    """Dispatch to the function of this tile shape."""
    _tiles(shape, count, a, b, c, v, panel)


_call_tiles = LANE_TILES.caller()


class _Emitter:
    """Builds the LLVM function of one tile shape, which makes tiles from left to right."""

    def __init__(self, dtype: Any, height: int, width: int) -> None:
        self.dtype, self.height, self.width = dtype, height, width
        self.vector = llvm_vector(dtype, lanes_of(dtype))
        self.zero, self.one = (ir.Constant(self.vector, [x] * lanes_of(dtype)) for x in (0.0, 1.0))
        self.cells = [(i, j) for i in range(height) for j in range(width)]

    def function(self, module: Any) -> Any:
        """The function (count, a, b, c, v, panel)."""
        name = f"lane_tiles_{self.dtype}_{self.height}x{self.width}"
        if name in module.globals:
            return module.globals[name]
        kind = ir.FunctionType(ir.VoidType(), [I64, *[_I8P] * 4, I64.as_pointer()])
        function = ir.Function(module, kind, name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        count, a, *places, panel = function.args
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        fields = [builder.load(builder.gep(panel, [I64(number)])) for number in range(CARRIED + 1)]

        def field(number: int) -> Any:
            return fields[number]

        before, turn, end = builder.block, function.append_basic_block("tile"), function.append_basic_block("end")
        apart = I64(lanes_of(self.dtype) * self.dtype.bitwidth // 8)
        across = [builder.mul(step, I64(self.width)) for step in (field(B_COL), apart, apart)]
        builder.branch(turn)
        builder.position_at_end(turn)
        left, *heads = (builder.phi(value.type) for value in (count, *places))
        b, c, v = heads
        grid = self._grid(builder, c, field(C_ROW))
        for place in grid:
            self._prefetch(builder, place)
        sums = self._inner_loop(builder, a, b, field)
        sums = add_carried(builder, sums, builder.icmp_signed("==", field(CARRIED), I64(SUM)), grid, self._load)
        self._epilogue(builder, sums, grid, v, field)
        fewer = builder.sub(left, I64(1))
        following = [fewer, *(builder.gep(head, [step]) for head, step in zip(heads, across, strict=True))]
        for phi, start, value in zip((left, *heads), (count, *places), following, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(value, builder.block)
        builder.cbranch(builder.icmp_signed(">", fewer, I64(0)), turn, end)
        builder.position_at_end(end)
        builder.ret_void()
        return function

    def _grid(self, builder: Any, base: Any, row: Any) -> list[Any]:
        """Where the elements of a tile lie, whose columns are one behind the other."""
        size = lanes_of(self.dtype) * self.dtype.bitwidth // 8
        rows = [builder.gep(base, [builder.mul(row, I64(i))]) for i in range(self.height)]
        return [builder.gep(rows[i], [I64(size * j)]) for i, j in self.cells]

    def _prefetch(self, builder: Any, place: Any) -> None:
        call_ir(builder, "llvm.prefetch.p0", ir.VoidType(), [place, I32(0), I32(3), I32(1)])

    def _load(self, builder: Any, place: Any) -> Any:
        return load_ir(builder, self.dtype, place)

    def _inner_loop(self, builder: Any, a: Any, b: Any, field: Any) -> list[Any]:
        """The sums A B, one step of the inner dimension a turn."""
        function, before = builder.function, builder.block
        loop, done = function.append_basic_block("loop"), function.append_basic_block("done")
        depth, a_row, b_col = field(DEPTH), field(A_ROW), field(B_COL)
        steps = field(A_STEP), field(B_STEP)
        starts = []
        for base, apart, count in ((a, a_row, self.height), (b, b_col, self.width)):
            starts.append([builder.gep(base, [builder.mul(apart, I64(i))]) for i in range(0, count, _GROUP)])
        builder.cbranch(builder.icmp_signed(">", depth, I64(0)), loop, done)
        builder.position_at_end(loop)

        def carried(kind: Any, start: Any) -> Any:
            phi = builder.phi(kind)
            phi.add_incoming(start, before)
            return phi

        left = carried(I64, depth)
        heads = [[carried(_I8P, start) for start in group] for group in starts]
        sums = [carried(self.vector, self.zero) for _ in self.cells]

        def element(side: int, apart: Any, i: int) -> Any:
            return builder.gep(heads[side][i // _GROUP], [builder.mul(apart, I64(i % _GROUP))])

        row = [self._load(builder, element(1, b_col, j)) for j in range(self.width)]
        grown: list[Any] = []
        for i in range(self.height):
            factor = self._load(builder, element(0, a_row, i))
            so_far = sums[i * self.width : (i + 1) * self.width]
            grown += [fma_ir(builder, self.dtype, factor, x, total) for x, total in zip(row, so_far, strict=True)]
        following = [
            *((head, builder.gep(head, [steps[side]])) for side in range(2) for head in heads[side]),
            *zip(sums, grown, strict=True),
        ]
        return close_loop(builder, left, following, grown, self.zero, (before, loop, done))

    def _epilogue(self, builder: Any, sums: list[Any], places: list[Any], v: Any, field: Any) -> None:
        mode, factors = field(MODE), builder.inttoptr(field(FACTORS), _I8P)
        blocks = [builder.function.append_basic_block(name) for name in MODES]
        stored = builder.function.append_basic_block("stored")
        choice = builder.switch(mode, blocks[STORE])
        for number in range(1, len(MODES)):
            choice.add_case(I64(number), blocks[number])
        size = lanes_of(self.dtype) * self.dtype.bitwidth // 8
        for number, block in enumerate(blocks):
            builder.position_at_end(block)
            alpha, beta = (self._load(builder, builder.gep(factors, [I64(size * k)])) for k in range(2))
            beta = builder.select(builder.icmp_signed("==", field(CARRIED), I64(SCALED)), self.one, beta)
            beside = self._grid(builder, v, field(V_ROW))
            for k, (total, place) in enumerate(zip(sums, places, strict=True)):
                result = self._result(builder, number, total, place, beside[k], alpha, beta)
                store_ir(builder, self.dtype, result, place)
            builder.branch(stored)
        builder.position_at_end(stored)

    def _result(self, builder: Any, mode: int, total: Any, place: Any, beside: Any, alpha: Any, beta: Any) -> Any:
        """What becomes of a sum."""
        if mode == COMBINE:
            return fma_ir(builder, self.dtype, total, alpha, builder.fmul(self._load(builder, place), beta))
        if mode == STORE:
            return total
        other = self._load(builder, beside)
        if mode in (BIAS, BIAS_RELU, BIAS_LEAKY):
            value = builder.fadd(total, other)
            if mode == BIAS:
                return value
            negative = builder.fcmp_ordered("<", value, self.zero)
            return builder.select(
                negative, self.zero if mode == BIAS_RELU else self._scaled(builder, value, alpha), value
            )
        if mode == RELU_BACK:  # beyond its zeros an output is positive or NaN, which stays
            return builder.select(builder.fcmp_ordered(">", other, self.zero), total, builder.fsub(other, other))
        gated = builder.select(builder.fcmp_ordered("<=", other, self.zero), self._scaled(builder, total, alpha), total)
        return builder.select(builder.fcmp_unordered("uno", other, other), other, gated)

    def _scaled(self, builder: Any, value: Any, alpha: Any) -> Any:
        """Alpha times a value; an alpha of 0 gives 0 even for infinity."""
        sloped = builder.fcmp_unordered("!=", alpha, self.zero)
        return builder.select(sloped, builder.fmul(value, alpha), self.zero)


@inline
def product(m, n, k, a, b, c, epilogue, panel):
    """C (m, n) = epilogue of A (m, k) B (k, n), all ``Lanes``; the columns of C and of v lie one behind the other."""
    depth = block_depth(k)
    early_mode = COMBINE if epilogue.mode == COMBINE else STORE
    for p in range(0, max(1, k), depth):
        carried = NOTHING if p == 0 else (SCALED if epilogue.mode == COMBINE else SUM)
        put(panel, CARRIED, carried)
        put(panel, MODE, early_mode if p + depth < k else epilogue.mode)
        some, rows = shift(a.p, p * a.col), shift(b.p, p * b.row)
        _block(m, n, min(depth, k - p), Lanes(some, a.row, a.col), Lanes(rows, b.row, b.col), c, epilogue, panel)


@inline
def _block(m, n, k, a, b, c, epilogue, panel):
    """The product with one block of the inner dimension."""
    v, factors = epilogue.v, epilogue.factors
    size = itemsize(a.p)
    put(panel, DEPTH, k)
    put(panel, A_ROW, a.row * size)
    put(panel, A_STEP, a.col * size)
    put(panel, B_COL, b.col * size)
    put(panel, B_STEP, b.row * size)
    put(panel, C_ROW, c.row * size)
    put(panel, V_ROW, v.row * size)
    put(panel, FACTORS, integer(factors))
    tiles, count, i = get(panel, TILES_AT), (m + ROWS - 1) // ROWS, 0
    whole, rest = n // COLS, n % COLS
    for t in range(count):
        rows = tile_rows(m - i, count - t)
        shape, to = (rows - 1) * COLS - 1, shift(c.p, i * c.row)
        some, beside = shift(a.p, i * a.row), shift(v.p, i * v.row)
        if whole > 0:
            _call_tiles(tiles, a.p, (shape + COLS, whole, some, b.p, to, beside, panel))
        if rest > 0:
            j = n - rest
            width = lanes(a.p)
            last = shift(b.p, j * b.col), shift(to, j * width), shift(beside, j * width)
            _call_tiles(tiles, a.p, (shape + rest, 1, some, last[0], last[1], last[2], panel))
        i += rows
