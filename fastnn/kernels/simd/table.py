"""Arrays as compiled code carries them in records: where they lie, and their shape.

Whoever takes an array out of a record counts references, and back again when it is done, which for the smallest
networks was a fifth of a step. So an entry point makes tables of its records' arrays, which Python keeps alive as long
as the call lasts; or Python writes the record down as tables, see ``record``, and no code is compiled for that.
"""

from typing import Any, NamedTuple

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..compiler.jit import inline
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
