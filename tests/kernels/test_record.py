"""Records in memory: what Python writes is what compiled code reads."""

import ctypes
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import types

from fastnn.kernels.compiler.jit import inline, shared
from fastnn.kernels.simd.record import RecordAt, keep, place_of
from fastnn.kernels.simd.table import cell
from fastnn.kernels.simd.vector import get, put
from fastnn.kernels.simd.written import Written


class Inner(NamedTuple):
    """A record within another."""

    row: np.ndarray
    weight: float


class Outer(NamedTuple):
    """Numbers and arrays of each kind."""

    first: int
    inner: Inner
    table: np.ndarray
    last: int


class Kept(NamedTuple):
    """What compiled code keeps: the place of a record, and a number."""

    outer: Any
    factor: float


def example(dtype):
    return Outer(0, Inner(np.empty(0, dtype), 0.0), np.empty((0, 0), np.int64), 0)


OUTERS = Written(example)
outer_at = OUTERS.at


@inline
def read(outer, out):
    """All that is in the record."""
    inner, table = outer.inner, outer.table
    put(out, 0, float(outer.first))
    put(out, 1, float(get(inner.row.p, 1)))
    put(out, 2, float(inner.row.rows))
    put(out, 3, float(inner.row.cols))
    put(out, 4, inner.weight)
    put(out, 5, float(cell(table, 1, 2)))
    put(out, 6, float(table.rows))
    put(out, 7, float(table.cols))
    put(out, 8, float(outer.last))


def signature(dtype):
    return types.void(types.intp, types.CPointer(dtype), types.CPointer(types.float64))


@shared(signature)
def READ(place, like, out):
    """What stands in a record that Python wrote."""
    read(outer_at(place, like), out)


@shared(signature)
def READ_KEPT(place, like, out):
    """The same through a record that compiled code keeps."""
    kept = keep(Kept(outer_at(place, like), 2.5))
    read(kept.outer, out)
    put(out, 9, kept.factor)
    put(out, 10, 1.0 if place_of(kept) != place and place_of(kept.outer) == place else 0.0)


@pytest.mark.parametrize("function", [READ, READ_KEPT], ids=["written", "kept"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_what_is_written_is_read(function, dtype):
    row, table = np.array([1.5, -0.25, 3.0], dtype), np.arange(6).reshape(2, 3) - 9
    words = OUTERS.written(Outer(-7, Inner(row, 0.1), table, 1 << 40), np.dtype(dtype))
    out = np.zeros(11)
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(function.address(np.dtype(dtype)))
    call(words.ctypes.data, row.ctypes.data, out.ctypes.data)
    assert out[:9].tolist() == [-7, -0.25, 3, 1, 0.1, -4, 2, 3, 1 << 40]
    assert out[9:].tolist() == ([2.5, 1] if function is READ_KEPT else [0, 0])


def test_parts_of_other_types_are_refused():
    """They would take another number of bytes, and what follows be read as addresses."""
    with pytest.raises(TypeError, match="has a part of type bool, but its parts are int64, float64 and addresses"):
        RecordAt(types.NamedTuple((types.intp, types.boolean), Kept))


@pytest.mark.parametrize(
    ("row", "table"),
    [
        (np.zeros(3, np.float64), np.zeros((2, 3), np.int64)),
        (np.zeros(3, np.float32), np.zeros((2, 3), np.int32)),
        (np.zeros(6, np.float32)[::2], np.zeros((2, 3), np.int64)),
        (np.zeros(3, np.float32), np.zeros((3, 2), np.int64).T),
        (np.zeros(3, np.float32), np.zeros((2, 3, 1), np.int64)),
        (np.zeros(13, np.uint8)[1:].view(np.float32), np.zeros((2, 3), np.int64)),
    ],
    ids=["dtype", "dtype of the second", "gaps", "Fortran order", "three dimensions", "unaligned"],
)
def test_other_arrays_are_refused(row, table):
    with pytest.raises(TypeError, match=r"a record has \[.*\], but wants \[.*\], arrays C-contiguous and aligned"):
        OUTERS.written(Outer(0, Inner(row, 0.0), table, 0), np.dtype(np.float32))


class Lying:
    """What says that it is an array."""

    __class__ = np.ndarray


@pytest.mark.parametrize("part", [Lying(), [1.0, 2.0], None, np.float32(1)], ids=["lying", "list", "None", "number"])
def test_what_is_no_array_is_refused(part):
    with pytest.raises(TypeError, match=r"a record has \[.*\], but wants"):
        OUTERS.written(Outer(0, Inner(part, 0.0), np.zeros((2, 3), np.int64), 0), np.dtype(np.float32))


@pytest.mark.parametrize(
    ("first", "weight", "error"),
    [("1", 0.0, TypeError), (1.5, 0.0, TypeError), (1 << 70, 0.0, OverflowError), (0, "1.5", TypeError)],
)
def test_other_numbers_are_refused(first, weight, error):
    row, table = np.zeros(3, np.float32), np.zeros((2, 3), np.int64)
    with pytest.raises(error):
        OUTERS.written(Outer(first, Inner(row, weight), table, 0), np.dtype(np.float32))


def test_a_builtin_without_arguments():
    assert OUTERS._layout(np.dtype(np.float32)).write() is None
