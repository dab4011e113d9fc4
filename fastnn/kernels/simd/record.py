"""Records in memory, which compiled functions read part by part, and hand on as one address."""

from collections.abc import Callable, Sequence
from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, models, register_model

from .table import Table
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
    place = builder.gep(place, [I64(place_in(record.kind, [name]))])
    part = record.kind.types[record.kind.fields.index(name)]
    return place if _is_record(part) else _read(context, builder, part, place)


def _read(context: Any, builder: Any, kind: Any, place: Any) -> Any:
    if isinstance(kind, types.BaseNamedTuple):
        parts = [_read(context, builder, part, builder.gep(place, [I64(i)])) for i, part in enumerate(kind.types)]
        return context.make_tuple(builder, kind, parts)
    return builder.load(builder.bitcast(place, context.get_value_type(kind).as_pointer()))


def _is_record(kind: Any) -> bool:
    return isinstance(kind, types.BaseNamedTuple) and kind.instance_class is not Table


def place_in(kind: Any, names: Sequence[str]) -> int:
    """Which word of a record is the first of the part to which the names lead, through the records in it."""
    place = 0
    for name in names:
        index = kind.fields.index(name)
        place += sum(map(_words_of, kind.types[:index]))
        kind = kind.types[index]
    return place


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
