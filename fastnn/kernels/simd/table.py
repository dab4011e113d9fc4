"""Arrays as compiled code carries them in records: where they lie, and their shape.

Whoever takes an array out of a record counts references, and back again when it is done, which for the smallest
networks was a fifth of a step. So an entry point makes tables of its records' arrays, which Python keeps alive as long
as the call lasts; or Python writes the record down as tables, and no code is compiled that takes it apart.
"""

import functools
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numba import typeof, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..compiler.jit import inline
from .address import address
from .vector import I64, get, shift


class Table(NamedTuple):
    """A C-contiguous array (rows, cols), or (rows,) with one column."""

    p: Any
    rows: int
    cols: int


@inline
def cell(table, i, j):
    """table[i, j]."""
    return get(table.p, i * table.cols + j)


@inline
def row_of(table, i):
    """Where row i starts."""
    return shift(table.p, i * table.cols)


@inline
def row_alone(table, i):
    """A table of row i."""
    return Table(row_of(table, i), 1, table.cols)


@intrinsic
def tables(typing: Any, record: Any) -> Any:
    """The same record, with the arrays in it, and in the records within it, as tables."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _with_tables(context, builder, record, args[0])

    return kind_with_tables(record)(record), emit


def kind_with_tables(kind: Any) -> Any:
    """The type of a record of this type, with tables for its arrays."""
    if isinstance(kind, types.Array):
        assert kind.layout == "C", "a table is contiguous"
        return types.NamedTuple((types.CPointer(kind.dtype), types.intp, types.intp), Table)
    if isinstance(kind, types.BaseNamedTuple):
        return types.BaseTuple.from_types([kind_with_tables(part) for part in kind], kind.instance_class)
    return kind


def _with_tables(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        rows, cols = (*cgutils.unpack_tuple(builder, array.shape), I64(1))[:2]
        return context.make_tuple(builder, kind_with_tables(kind), [array.data, rows, cols])
    if isinstance(kind, types.BaseNamedTuple):
        values = cgutils.unpack_tuple(builder, value)
        parts = [_with_tables(context, builder, *part) for part in zip(kind, values, strict=True)]
        return context.make_tuple(builder, kind_with_tables(kind), parts)
    return value


class Record:
    """A record in memory: its parts, and those of the records in it, one after the other, 8 bytes each.

    ``kind`` gives its type for a dtype. Of two compiled functions ``keep`` (record, pointer to the dtype) keeps one
    until the function that calls it ends, and gives its address, and ``at`` (address, pointer to the dtype) gives the
    record.
    """

    def __init__(self, kind: Callable[[Any], Any]) -> None:
        kind_of = self.kind = functools.cache(kind)

        @intrinsic
        def keep(typing: Any, record: Any, like: Any) -> Any:
            assert record == kind_of(like.dtype), "what is kept has another type"

            def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                return builder.ptrtoint(cgutils.alloca_once_value(builder, args[0]), I64)

            return types.intp(record, like), emit

        @intrinsic
        def at(typing: Any, place: Any, like: Any) -> Any:
            record = kind_of(like.dtype)

            def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                return builder.load(builder.inttoptr(args[0], context.get_value_type(record).as_pointer()))

            return record(types.intp, like), emit

        self.keep, self.at = keep, at


class Written(Record):
    """A record that Python writes: ``example`` gives one for a dtype, whose arrays, as tables, and numbers tell it."""

    def __init__(self, example: Callable[[np.dtype], Any]) -> None:
        super().__init__(lambda dtype: kind_with_tables(typeof(example(np.dtype(str(dtype))))))
        self._layout = functools.cache(lambda dtype: _layout_of(example(dtype)))

    def written(self, record: Any, dtype: np.dtype) -> np.ndarray:
        """The record in memory, which is good as long as its arrays are; TypeError where one is of another kind."""
        arrays, layout = self._layout(dtype)
        values: list[Any] = []
        for value, expected in zip(_parts(record), arrays, strict=True):
            if expected is None:
                values.append(value)
            elif value.dtype == expected and value.flags.c_contiguous and value.flags.aligned and value.ndim <= 2:
                values += address(value), *(*value.shape, 1)[:2]
            else:
                raise TypeError(f"a record has an array of {value.dtype}, but wants a C-contiguous one of {expected}")
        return np.frombuffer(layout.pack(*values), np.int64)


def _parts(record: Any) -> Iterator[Any]:
    for part in record:
        if isinstance(part, tuple):
            yield from _parts(part)
        else:
            yield part


def _layout_of(record: Any) -> tuple[list[np.dtype | None], struct.Struct]:
    """For each part the dtype of its array, or None for a number, and how all are packed."""
    parts = list(_parts(record))
    arrays = [part.dtype if isinstance(part, np.ndarray) else None for part in parts]
    packed = ("3q" if isinstance(part, np.ndarray) else "d" if isinstance(part, float) else "q" for part in parts)
    return arrays, struct.Struct("=" + "".join(packed))
