"""Blocks of a matrix with rows and columns exchanged, as many of either as a vector has lanes.

Networks side by side hold a vector where one network has an element: what goes in and out is transposed here, from rows
that lie at addresses of their own, one for each lane.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .vector import I32, I64, lanes_of, load_ir, part_mask_ir, splat_ir, store_ir


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


@intrinsic
def rows_to_lanes(typing: Any, rows: Any, apart: Any, at: Any, n: Any, out: Any) -> Any:
    """out[j, lane] = rows[lane * apart][at + j] for j < n <= lanes, rows at addresses; out is contiguous."""
    dtype, width = out.dtype, lanes_of(out.dtype)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows, apart, at, n, target = args
        mask = part_mask_ir(builder, n, width)
        places = _places(builder, rows, apart, at, target.type, width)
        with builder.if_else(builder.icmp_signed("==", n, I64(width))) as (whole, part):
            with whole:
                columns = _transpose(builder, [load_ir(builder, dtype, place) for place in places])
                for j, column in enumerate(columns):
                    store_ir(builder, dtype, column, builder.gep(target, [I64(j * width)]))
            with part:
                columns = _transpose(builder, [load_ir(builder, dtype, place, mask) for place in places])
                for j, column in enumerate(columns):
                    with builder.if_then(builder.icmp_signed("<", I64(j), n)):
                        store_ir(builder, dtype, column, builder.gep(target, [I64(j * width)]))
        return context.get_dummy_value()

    return types.void(types.CPointer(types.int64), types.intp, types.intp, types.intp, out), emit


@intrinsic
def block_to_lanes(typing: Any, a: Any, apart: Any, n: Any, out: Any) -> Any:
    """out[j, lane] = a[lane * apart + j] for j < n <= lanes; out is contiguous, and more of it is written."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, apart, n, target = args
        dtype, width = a.dtype, lanes_of(a.dtype)
        mask = part_mask_ir(builder, n, width)
        places = [builder.gep(source, [builder.mul(apart, I64(lane))]) for lane in range(width)]
        columns = _transpose(builder, [load_ir(builder, dtype, place, mask) for place in places])
        for j, column in enumerate(columns):
            store_ir(builder, dtype, column, builder.gep(target, [I64(j * width)]))
        return context.get_dummy_value()

    return types.void(a, types.intp, types.intp, a), emit


@intrinsic
def lanes_to_rows(typing: Any, x: Any, n: Any, rows: Any, at: Any) -> Any:
    """rows[lane][at + j] = x[j, lane] for j < n <= lanes, a row at an address for each lane; x is contiguous."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, n, rows, at = args
        places = _places(builder, rows, I64(1), at, source.type, lanes_of(x.dtype))
        _store_rows(builder, x.dtype, source, n, places)
        return context.get_dummy_value()

    return types.void(x, types.intp, types.CPointer(types.int64), types.intp), emit


@intrinsic
def lanes_to_block(typing: Any, x: Any, n: Any, out: Any, apart: Any) -> Any:
    """out[lane * apart + j] = x[j, lane] for j < n <= lanes; x is contiguous."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, n, target, apart = args
        places = [builder.gep(target, [builder.mul(apart, I64(lane))]) for lane in range(lanes_of(x.dtype))]
        _store_rows(builder, x.dtype, source, n, places)
        return context.get_dummy_value()

    return types.void(x, types.intp, x, types.intp), emit


def _store_rows(builder: Any, dtype: Any, source: Any, n: Any, places: list[Any]) -> None:
    """Store n <= lanes vectors, transposed, to a place for each lane."""
    width = lanes_of(dtype)
    mask, zero = part_mask_ir(builder, n, width), ir.Constant(ir.VectorType(source.type.pointee, width), [0.0] * width)
    vectors = []
    for j in range(width):
        present = splat_ir(builder, builder.icmp_signed("<", I64(j), n), width)
        vectors.append(load_ir(builder, dtype, builder.gep(source, [I64(j * width)]), present, zero))
    for place, row in zip(places, _transpose(builder, vectors), strict=True):
        store_ir(builder, dtype, row, place, mask)


def _places(builder: Any, rows: Any, apart: Any, at: Any, pointer: Any, width: int) -> list[Any]:
    places = [builder.gep(rows, [builder.mul(apart, I64(lane))]) for lane in range(width)]
    addresses = [builder.load(place) for place in places]
    return [builder.gep(builder.inttoptr(address, pointer), [at]) for address in addresses]
