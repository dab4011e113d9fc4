"""The micro-kernel emitter: one register tile of a matrix product, and the transposition of one block.

A tile holds ``rows`` times ``vectors`` accumulators in registers over the whole inner loop: a broadcast element of A
times the vectors of a row of B. There is one function for every tile height and width up to the table's, so a ragged
edge runs at the speed of a smaller tile; the last vector of a row is masked. The tile ends in one of four epilogues,
applied to the accumulators before they are stored, and C is read only by the one that needs it:

    STORE    C = A B                    BIAS   C = f(A B + v), v (n,), f the leaky ReLU of slope alpha
    COMBINE  C = alpha A B + beta C     GATE   C = A B f'(V), V (m, n) the outputs of f

The scheme of packed panels and register tiles: K. Goto and R. van de Geijn, Anatomy of high-performance matrix
multiplication, ACM TOMS 34(3), 2008; F. Van Zee and R. van de Geijn, BLIS, ACM TOMS 41(3), 2015.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._cpu import ISA
from ._jit import shared
from ._vector import I32, I64, fma_ir, lanes_of, llvm_scalar, llvm_vector, load_ir, part_mask_ir, splat_ir, store_ir

STORE, BIAS, GATE, COMBINE = range(4)

ROWS, VECTORS = ISA.rows, ISA.vectors
LANES_32 = max(1, ISA.bits // 32)
# Rows whose addresses share one base register: x86 adds 0, 1 or 2 strides in an address for free.
_GROUP = 3
_I8P = ir.IntType(8).as_pointer()


@intrinsic
def _tile(typing, rows, by_row, k, a, a_stride, b, b_stride, c, c_stride, cols, mode, v, v_stride, alpha, beta):
    """C (rows, cols) = epilogue of A (rows, k) B (k, cols).

    A is contiguous along k with rows a_stride apart where by_row is 1, and contiguous along its rows with steps of k
    a_stride apart where it is 0. B and C have contiguous rows. rows <= ROWS, cols <= VECTORS * lanes.
    """
    dtype = a.dtype

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows, by_row, *rest = args
        cols = rest[7]
        vectors_1 = builder.sdiv(builder.sub(cols, I64(1)), I64(lanes_of(dtype)))
        tall = builder.add(builder.mul(by_row, I64(ROWS)), builder.sub(rows, I64(1)))
        end = builder.append_basic_block("end")
        choice = builder.switch(builder.add(builder.mul(tall, I64(VECTORS)), vectors_1), end)
        number = 0
        for straight in (False, True):
            for height in range(1, ROWS + 1):
                for width in range(1, VECTORS + 1):
                    block = builder.append_basic_block()
                    choice.add_case(I64(number), block)
                    number += 1
                    with builder.goto_block(block):
                        _call(builder, _Emitter(dtype, height, width, straight), rest, cols)
                        builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return _signature(dtype), emit


def _call(builder: Any, emitter: "_Emitter", args: list[Any], cols: Any) -> None:
    """Call the tile; where masks are dear there is a second one for a row whose last vector is whole."""
    if ISA.cheap_masks:
        builder.call(emitter.function(builder.module, masked=True), args)
        return
    whole = builder.icmp_signed("==", cols, I64(emitter.width * lanes_of(emitter.dtype)))
    with builder.if_else(whole) as (then, otherwise):
        with then:
            builder.call(emitter.function(builder.module, masked=False), args)
        with otherwise:
            builder.call(emitter.function(builder.module, masked=True), args)


class _Emitter:
    """Builds the LLVM function of one tile shape."""

    def __init__(self, dtype: Any, height: int, width: int, by_row: bool) -> None:
        self.dtype, self.height, self.width, self.by_row = dtype, height, width, by_row
        self.lanes, self.size = lanes_of(dtype), dtype.bitwidth // 8
        self.scalar, self.vector = llvm_scalar(dtype), llvm_vector(dtype, lanes_of(dtype))
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        self.cells = [(i, v) for i in range(height) for v in range(width)]

    def function(self, module: Any, masked: bool) -> Any:
        """The function (k, a, a_stride, b, b_stride, c, c_stride, cols, mode, v, v_stride, alpha, beta)."""
        name = f"tile_{self.dtype}_{self.height}x{self.width}_{'row' if self.by_row else 'column'}_{int(masked)}"
        if name in module.globals:
            return module.globals[name]
        p = self.scalar.as_pointer()
        kinds = [I64, p, I64, p, I64, p, I64, I64, I64, p, I64, self.scalar, self.scalar]
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        k, a, a_stride, b, b_stride, c, c_stride, cols, *epilogue = function.args
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        whole = self.lanes * (self.width - 1)
        self.mask = part_mask_ir(builder, builder.sub(cols, I64(whole)), self.lanes) if masked else None
        sums = self._inner_loop(builder, k, a, a_stride, b, b_stride)
        self._epilogue(builder, sums, c, c_stride, *epilogue)
        return function

    def _vector_mask(self, v: int) -> Any:
        return self.mask if v == self.width - 1 else None

    def _load(self, builder: Any, row: Any, v: int, fill: Any = None) -> Any:
        return load_ir(builder, self.dtype, builder.gep(row, [I64(v * self.lanes)]), self._vector_mask(v), fill)

    def _inner_loop(self, builder: Any, k: Any, a: Any, a_stride: Any, b: Any, b_stride: Any) -> list[Any]:
        """The sums A B, one step of k a turn; unrolling makes LLVM hoist the broadcasts and spill."""
        function, before = builder.function, builder.block
        loop, done = function.append_basic_block("loop"), function.append_basic_block("done")
        bytes_apart = builder.mul(a_stride, I64(self.size))
        first = builder.bitcast(a, _I8P)
        bases = [builder.gep(first, [builder.mul(bytes_apart, I64(i))]) for i in range(0, self.height, _GROUP)]
        if not self.by_row:
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
        row = [self._load(builder, b_row, v) for v in range(self.width)]
        elements = [self._element(builder, heads, bytes_apart, i) for i in range(self.height)]
        grown = [
            fma_ir(builder, self.dtype, elements[i], row[v], total)
            for (i, v), total in zip(self.cells, sums, strict=True)
        ]
        step = I64(self.size) if self.by_row else bytes_apart
        for phi, value in (
            (left, builder.sub(left, I64(1))),
            (b_row, builder.gep(b_row, [b_stride])),
            *((head, builder.gep(head, [step])) for head in heads),
            *zip(sums, grown, strict=True),
        ):
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed(">", left, I64(1)), loop, done)
        builder.position_at_end(done)
        results = []
        for value in grown:
            phi = builder.phi(self.vector)
            phi.add_incoming(self.zero, before)
            phi.add_incoming(value, loop)
            results.append(phi)
        return results

    def _element(self, builder: Any, heads: list[Any], bytes_apart: Any, i: int) -> Any:
        """A's element of row i at this step of k, in every lane."""
        if self.by_row:
            head = heads[i // _GROUP]
            place = builder.gep(head, [builder.mul(bytes_apart, I64(i % _GROUP))]) if i % _GROUP else head
        else:
            place = builder.gep(heads[0], [I64(i * self.size)])
        return splat_ir(builder, builder.load(builder.bitcast(place, self.scalar.as_pointer())), self.lanes)

    def _epilogue(
        self, builder: Any, sums: list[Any], c: Any, c_stride: Any, mode: Any, v: Any, v_stride: Any, *factors: Any
    ) -> None:
        alpha, beta = (splat_ir(builder, factor, self.lanes) for factor in factors)
        sloped = builder.fcmp_unordered("!=", factors[0], self.scalar(0.0))
        blocks = [builder.function.append_basic_block(name) for name in ("store", "bias", "gate", "combine")]
        choice = builder.switch(mode, blocks[STORE])
        for number in (BIAS, GATE, COMBINE):
            choice.add_case(I64(number), blocks[number])
        for number, block in enumerate(blocks):
            builder.position_at_end(block)
            bias = [self._load(builder, v, j) for j in range(self.width)] if number == BIAS else []
            for (i, j), total in zip(self.cells, sums, strict=True):
                row = builder.gep(c, [builder.mul(c_stride, I64(i))])
                if number == BIAS:
                    value = builder.fadd(total, bias[j])
                    result = self._leaky(builder, builder.fcmp_ordered("<", value, self.zero), value, alpha, sloped)
                elif number == GATE:
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
            builder.ret_void()

    def _leaky(self, builder: Any, negative: Any, value: Any, alpha: Any, sloped: Any) -> Any:
        """Value, or where ``negative`` holds alpha times it; an alpha of 0 gives 0 even for infinity."""
        scaled = builder.select(sloped, builder.fmul(value, alpha), self.zero)
        return builder.select(negative, scaled, value)


def _signature(dtype: Any) -> Any:
    n, p = types.intp, types.CPointer(dtype)
    return types.void(n, n, n, p, n, p, n, p, n, n, n, p, n, dtype, dtype)


@shared(_signature)
def TILE(rows, by_row, k, a, a_stride, b, b_stride, c, c_stride, cols, mode, v, v_stride, alpha, beta):
    """Dispatch to the function of this tile shape."""
    _tile(rows, by_row, k, a, a_stride, b, b_stride, c, c_stride, cols, mode, v, v_stride, alpha, beta)


tile = TILE.caller()


@intrinsic
def transpose_block(typing: Any, a: Any, a_stride: Any, rows: Any, cols: Any, out: Any, out_stride: Any) -> Any:
    """out[j, i] = a[i, j] for i < rows <= lanes and j < cols <= lanes; missing rows of a become zeros in out."""
    dtype, n = a.dtype, types.intp
    p, width = types.CPointer(dtype), lanes_of(dtype)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, source_stride, rows, cols, target, target_stride = args
        full = builder.and_(builder.icmp_signed("==", rows, I64(width)), builder.icmp_signed("==", cols, I64(width)))
        mask = part_mask_ir(builder, cols, width)
        empty = ir.Constant(mask.type, [0] * width)
        with builder.if_else(full) as (then, otherwise):
            with then:
                places = [builder.gep(source, [builder.mul(source_stride, I64(i))]) for i in range(width)]
                columns = _transpose(builder, [load_ir(builder, dtype, place) for place in places])
                for j, column in enumerate(columns):
                    store_ir(builder, dtype, column, builder.gep(target, [builder.mul(target_stride, I64(j))]))
            with otherwise:
                vectors = []
                for i in range(width):
                    present = builder.icmp_signed("<", I64(i), rows)
                    row_mask = builder.select(splat_ir(builder, present, width), mask, empty)
                    place = builder.gep(source, [builder.mul(source_stride, I64(i))])
                    vectors.append(load_ir(builder, dtype, place, row_mask))
                for j, column in enumerate(_transpose(builder, vectors)):
                    with builder.if_then(builder.icmp_signed("<", I64(j), cols)):
                        store_ir(builder, dtype, column, builder.gep(target, [builder.mul(target_stride, I64(j))]))
        return context.get_dummy_value()

    return types.void(p, n, n, n, p, n), emit


def _transpose(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose a square of vectors by log2(n) perfect shuffles of rows i and i + n/2."""
    n = len(rows)
    low = ir.Constant(ir.VectorType(I32, n), [i // 2 + n * (i % 2) for i in range(n)])
    high = ir.Constant(ir.VectorType(I32, n), [n // 2 + i // 2 + n * (i % 2) for i in range(n)])
    for _ in range(n.bit_length() - 1):
        pairs = [(rows[i], rows[i + n // 2]) for i in range(n // 2)]
        rows = [builder.shuffle_vector(a, b, half) for a, b in pairs for half in (low, high)]
    return rows
