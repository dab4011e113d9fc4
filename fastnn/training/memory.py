"""Results that several tasks have in common: arrays by what they were made of."""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

# The latest results are kept up to this size, even if nobody uses them at the moment.
MOST_KEPT_BYTES = 1 << 28


class _Entry(NamedTuple):
    """A result, whose first part is referred to weakly, as is what it was made of."""

    array: "weakref.ref[Any]"
    rest: tuple[Any, ...]
    sources: tuple["weakref.ref[Any]", ...]


class Memory:
    """Results by their keys, for as long as somebody uses them, and the latest of them longer.

    They are for all to read, and nobody may write into them.
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry] = {}
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._results: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def get(
        self, what: Hashable, sources: tuple[Any, ...], make: Callable[[], tuple[Any, ...]]
    ) -> tuple[tuple[Any, ...], bool]:
        """Return what ``make`` returned, this time or before, and whether it was before.

        Parameters
        ----------
        what : hashable
            What is made.
        sources : tuple
            The very objects that it is made of.
        make : function
            Returns the result in parts, the first of which is an array that lives as long as any task uses the result.
        """
        key = (what, *map(id, sources))
        entry = self._entries.get(key)
        if entry is not None and all(map(_is_same, entry.sources, sources)):
            array = entry.array()
            if array is not None:
                if key in self._kept:
                    self._kept.move_to_end(key)
                return (array, *entry.rest), True
        result = make()
        self._note(key, sources, result)
        return result, False

    def holds(self, array: Any) -> bool:
        """Return whether an array is a result from here, or a part of one, which does not change."""
        return self._results.get(id(array)) is array

    def _note(self, key: Hashable, sources: tuple[Any, ...], result: tuple[Any, ...]) -> None:
        array, entries = result[0], self._entries
        try:
            reference = weakref.ref(array, lambda gone: _forget(entries, key, gone))
            entries[key] = _Entry(reference, result[1:], tuple(map(_reference, sources)))
        except TypeError:  # there are lists among them
            return
        for part in result:
            if hasattr(part, "shape"):
                self._results[id(part)] = part
        size = _size(array)
        if size <= MOST_KEPT_BYTES:
            self._bytes += size - self._kept.pop(key, (None, 0))[1]
            self._kept[key] = array, size
        while self._bytes > MOST_KEPT_BYTES:
            self._bytes -= self._kept.popitem(last=False)[1][1]


def _reference(source: Any) -> Any:
    return _nothing if source is None else weakref.ref(source)


def _nothing() -> None:
    """Stand for a reference to None, which has none."""


def _is_same(reference: Any, source: Any) -> bool:
    return reference() is source


def _forget(entries: dict[Hashable, _Entry], key: Hashable, gone: Any) -> None:
    entry = entries.get(key)
    if entry is not None and entry.array is gone:
        del entries[key]


def _size(array: Any) -> int:
    """The bytes of an array, a sparse matrix or a table, or more than is kept."""
    if hasattr(array, "nbytes"):
        return int(array.nbytes)
    if hasattr(array, "data") and hasattr(array.data, "nbytes"):
        return 2 * int(array.data.nbytes)
    if hasattr(array, "memory_usage"):
        return int(array.memory_usage(index=True).sum())
    return MOST_KEPT_BYTES + 1
