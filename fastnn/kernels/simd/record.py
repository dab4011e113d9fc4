"""Records in memory, which compiled functions read part by part, and hand on as one address."""

import ctypes
import functools
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import typeof, types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, models, register_model

from .address import DTYPE, ELEMENTS, FLAGS
from .table import Table, kind_with_tables
from .vector import I64


class RecordAt(types.Type):
    """Where a record of some type lies in memory, whose parts are read when they are named.

    The parts lie one after the other, and so do those of the records in it, 8 bytes each. A function that is handed a
    record itself is handed all of its parts, one by one, and to write all that out takes most of the time of compiling.
    """

    def __init__(self, kind: Any) -> None:
        _words_of(kind)  # or TypeError
        self.kind = kind
        super().__init__(f"RecordAt({kind})")


@register_model(RecordAt)
class _RecordAtModel(models.PrimitiveModel):
    def __init__(self, manager: Any, record: RecordAt) -> None:
        super().__init__(manager, record, I64.as_pointer())


@infer_getattr
class _Parts(AttributeTemplate):
    key = RecordAt

    def generic_resolve(self, record: Any, name: str) -> Any:
        """The type of a part: a record in it is not read, a table is."""
        if name not in record.kind.fields:
            return None
        part = record.kind.types[record.kind.fields.index(name)]
        return RecordAt(part) if _is_record(part) else part


@lower_getattr_generic(RecordAt)
def _part(context: Any, builder: Any, record: Any, place: Any, name: str) -> Any:
    index = record.kind.fields.index(name)
    place = builder.gep(place, [I64(sum(map(_words_of, record.kind.types[:index])))])
    part = record.kind.types[index]
    return place if _is_record(part) else _read(context, builder, part, place)


def _read(context: Any, builder: Any, kind: Any, place: Any) -> Any:
    if isinstance(kind, types.BaseNamedTuple):
        parts = [_read(context, builder, part, builder.gep(place, [I64(i)])) for i, part in enumerate(kind.types)]
        return context.make_tuple(builder, kind, parts)
    return builder.load(builder.bitcast(place, context.get_value_type(kind).as_pointer()))


def _is_record(kind: Any) -> bool:
    return isinstance(kind, types.BaseNamedTuple) and kind.instance_class is not Table


def _words_of(kind: Any) -> int:
    if isinstance(kind, types.BaseNamedTuple):
        return sum(map(_words_of, kind.types))
    if kind not in (types.int64, types.float64) and not isinstance(kind, (types.CPointer, RecordAt)):
        raise TypeError(f"a record in memory has a part of type {kind}, but its parts are int64, float64 and addresses")
    return 1


@intrinsic
def keep(typing: Any, record: Any) -> Any:
    """A record in memory until the function ends that calls this."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(cgutils.alloca_once_value(builder, args[0]), I64.as_pointer())

    return RecordAt(record)(record), emit


@intrinsic
def place_of(typing: Any, record: Any) -> Any:
    """The address of a record in memory."""
    return types.intp(record), lambda context, builder, sig, args: builder.ptrtoint(args[0], I64)


def record_at(kind_of: Callable[[Any], Any]) -> Any:
    """A compiled function (address, pointer to a dtype): the record there, of the type for the dtype."""

    @intrinsic
    def at(typing: Any, place: Any, like: Any) -> Any:
        record = RecordAt(kind_of(like.dtype))
        return record(types.intp, like), lambda context, builder, sig, args: builder.inttoptr(args[0], I64.as_pointer())

    return at


class Written:
    """A record that Python writes: ``example`` gives one for a dtype, whose arrays, as tables, and numbers tell it."""

    def __init__(self, example: Callable[[np.dtype], Any]) -> None:
        self.kind = functools.cache(lambda dtype: kind_with_tables(typeof(example(np.dtype(str(dtype))))))
        self.at = record_at(self.kind)
        self._layout = functools.cache(lambda dtype: _layout_of(example(dtype)))

    def written(self, record: Any, dtype: np.dtype) -> np.ndarray:
        """The record in memory, which is good as long as its arrays are; TypeError where one is of another kind.

        Of an array without elements no shape is kept.
        """
        nested, dtypes, layout = self._layout(dtype)
        parts = list(record)
        for i in nested:
            parts[i : i + 1] = parts[i]
        values: list[Any] = []
        add = values.extend
        for value, expected in zip(parts, dtypes, strict=True):
            if expected is None:
                values.append(value)
                continue
            if not value.size:  # there is nothing to read
                add((0, 0, 0))
                continue
            fields, shape = _fields(id(value)), value.shape
            is_plain = fields[DTYPE] == id(expected) or value.dtype == expected
            if not is_plain or fields[FLAGS] & _WANTED != _WANTED or not 1 <= len(shape) <= 2:
                raise TypeError(
                    f"a record has an array of {value.dtype}, but wants one of {expected}, C-contiguous and aligned"
                )
            add((fields[ELEMENTS], shape[0], shape[1] if len(shape) == 2 else 1))
        return np.frombuffer(layout.pack(*values), np.int64)


# The words of an array, which are read faster than its attributes.
_fields = (ctypes.c_ssize_t * (FLAGS + 1)).from_address
_WANTED = 0x101  # C-contiguous and aligned


def _layout_of(record: Any) -> tuple[list[int], list[np.dtype | None], struct.Struct]:
    """Which parts to replace by theirs, one after the other; of what is left the dtypes, or None; the format."""
    parts, nested, i = list(record), [], 0
    while i < len(parts):
        if isinstance(parts[i], tuple):
            nested.append(i)
            parts[i : i + 1] = parts[i]
        else:
            i += 1
    dtypes = [part.dtype if isinstance(part, np.ndarray) else None for part in parts]
    packed = ("3q" if isinstance(part, np.ndarray) else "d" if isinstance(part, float) else "q" for part in parts)
    return nested, dtypes, struct.Struct("=" + "".join(packed))
