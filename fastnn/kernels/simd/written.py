"""Records that Python writes into memory, see ``record``: where their arrays lie, and their numbers.

An epoch has some thirty arrays, and to look at them one by one in Python takes as long as three steps of a small
network. So compiled code does, a builtin: it reads them where they lie, and refuses one that is not as wanted.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import typeof

from ..compiler.fastcall import builtin, builtin_code, words_for
from ..compiler.words import Word, Words
from .address import DTYPE, ELEMENTS, FLAGS, KIND_OF_DTYPE, LOW_HALF, NDIM, PLAIN, SHAPE, TYPE, VALUE, word_at
from .record import place_in, record_at
from .table import kind_with_tables

# The words of the builtin: None, NumPy's class of arrays, how many parts there are, and of each what it is: an integer,
# a float, or an array, by the word that its dtype is told by.
_NONE, _ARRAY, _COUNT, _PARTS = range(4)
_INTEGER, _FLOAT = 0, 1


class Written:
    """A record that Python writes: ``example`` gives one for a dtype, whose arrays, as tables, and numbers tell it."""

    def __init__(self, example: Callable[[np.dtype], Any]) -> None:
        self.kind = functools.cache(lambda dtype: kind_with_tables(typeof(example(np.dtype(str(dtype))))))
        self.at = record_at(self.kind)
        self._layout = functools.cache(lambda dtype: _Layout(example(dtype)))
        # Of a dtype and names: which word is the first of the part to which they lead.
        self.place = functools.cache(lambda dtype, *names: place_in(self.kind(dtype), names))

    def written(self, record: Any, dtype: np.dtype) -> np.ndarray:
        """The record in memory, which is good as long as its arrays are; TypeError where a part is of another kind.

        Of an array without elements no shape is kept.
        """
        layout = self._layout(dtype)
        parts = list(record)
        for i in layout.nested:
            parts[i : i + 1] = parts[i]
        words = np.empty(layout.size, np.int64)
        if layout.write(words, *parts) is None:
            found = list(map(_kind, parts))
            raise TypeError(f"a record has {found}, but wants {layout.wanted}, arrays C-contiguous and aligned")
        return words


def put_array(words: np.ndarray, place: int, array: np.ndarray, dtype: np.dtype) -> None:
    """Write another array (n,) of a dtype to its place in the words of a record."""
    fields = id(array)
    if array.dtype != dtype or array.ndim != 1 or word_at(fields, FLAGS) & PLAIN != PLAIN:
        raise TypeError(f"a record wants {dtype} (n,), C-contiguous and aligned, but got {_kind(array)}")
    words[place : place + 3] = word_at(fields, ELEMENTS), len(array), 1


def _kind(part: Any) -> str:
    if not issubclass(type(part), np.ndarray):
        return type(part).__name__
    return f"{part.dtype} {part.shape} with strides {part.strides}"


class _Layout:
    """Which parts to replace by theirs, one after the other; of what is left the kinds; the words; what writes them."""

    def __init__(self, record: Any) -> None:
        self.nested, parts, i = list[int](), list(record), 0
        while i < len(parts):
            if isinstance(parts[i], tuple):
                self.nested.append(i)
                parts[i : i + 1] = parts[i]
            else:
                i += 1
        self.wanted = [str(part.dtype) if isinstance(part, np.ndarray) else type(part).__name__ for part in parts]
        self.size = sum(3 if isinstance(part, np.ndarray) else 1 for part in parts)
        own = words_for("write", _PARTS + len(parts))
        own[:_PARTS] = id(None), id(np.ndarray), len(parts)
        own[_PARTS : _PARTS + len(parts)] = list(map(_told, parts))
        self.write = builtin(own, _PARTS + len(parts), WRITE.address(np.int64))


def _told(part: Any) -> int:
    if isinstance(part, np.ndarray):
        return word_at(id(part.dtype), KIND_OF_DTYPE)
    return _FLOAT if isinstance(part, float) else _INTEGER


def _write(module: Any) -> Words:
    """What Python calls with the array of words to be written and all parts: it gives that array, or None."""
    code = Words(module, "write", 3)
    owner, arguments, count = code.arguments
    own = code.read(owner, ELEMENTS)
    expected = code.read(own, _COUNT)

    def give(thing: Word) -> None:
        code.run("Py_IncRef", thing)
        code.give(thing)

    def refuse_where(condition: Word) -> None:
        with code.when(condition):
            give(code.read(own, _NONE))

    def integer(thing: Word, place: Word) -> Word:
        number = code.run("PyLong_AsLongLong", thing)
        with code.when(number == -1), code.when(code.run("PyErr_Occurred") != 0):
            code.give(0)
        code.write(place, 0, number)
        return place + 8

    def real(thing: Word, place: Word) -> Word:
        refuse_where((code.run("PyNumber_Check", thing) & LOW_HALF) == 0)  # text, which would be read
        number = code.run("PyNumber_Float", thing)
        with code.when(number == 0):
            code.give(0)
        code.write(place, 0, code.read(number, VALUE))
        code.run("Py_DecRef", number)
        return place + 8

    def array(thing: Word, place: Word, told: Word) -> Word:
        wanted = code.read(own, _ARRAY)
        refuse_where((code.run("PyType_IsSubtype", code.read(thing, TYPE), wanted) & LOW_HALF) == 0)
        ndim = code.read(thing, NDIM) & LOW_HALF
        refuse_where(
            (code.read(code.read(thing, DTYPE), KIND_OF_DTYPE) != told)
            | ((code.read(thing, FLAGS) & PLAIN) != PLAIN)
            | (ndim < 1)
            | (ndim > 2)
        )
        shape = code.read(thing, SHAPE)
        rows = code.read(shape)
        cols = code.either(ndim == 2, lambda: code.read(shape, 1), lambda: 1)
        is_empty = rows * cols == 0
        for i, word in enumerate((code.read(thing, ELEMENTS), rows, cols)):
            code.write(place, i, code.choose(is_empty, 0, word))
        return place + 24

    def part(i: Word, place: Word) -> tuple[Word, ...]:
        thing, told = code.read(arguments + i * 8, 1), code.read(own + i * 8, _PARTS)
        return (
            code.either(
                told == _INTEGER,
                lambda: integer(thing, place),
                lambda: code.either(
                    told == _FLOAT, lambda: real(thing, place), lambda: array(thing, place, told)
                ),
            ),
        )  # fmt: skip

    refuse_where(count != expected + 1)
    words = code.read(arguments)
    code.fold(expected, (code.read(words, ELEMENTS),), part)
    give(words)
    return code


# One code for the records of all kinds.
WRITE = builtin_code("write", _write)
