"""How Python calls compiled functions on arrays: as builtins, which read the arrays where they lie.

Numba's own entry asks for the type of each argument, counts references and converts arrays one by one; a small product
takes a fraction of that time. Here Python calls one compiled function, in the convention of C's extensions
(METH_FASTCALL), for all functions on arrays. It looks whether the arguments are plain: arrays of exactly NumPy's class,
of one dtype, in the layout that the function at hand wants, and floats. It writes down once where they lie and their
shapes, makes the result where none is given, and calls the function for this dtype.

Where something is not plain or does not fit, where the work is worth more than one thread, or where nothing is compiled
yet, the call gives None and has changed nothing; whoever called then looks at everything, as slowly as that takes.

A short call keeps the GIL, which nobody else would get in less time; a long one lets it go. The workspace is lent and
taken back under the GIL, so one for each dtype serves all threads: who finds it lent gets None.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from .builtin import (
    ARGUMENTS,
    COMMON,
    COUNT,
    DTYPES,
    EMPTY,
    ENTRY,
    FUNCTIONS,
    KINDS,
    KNOWN,
    LENT,
    NONE,
    OF_DTYPE,
    REALS,
    WORKSPACES,
)
from .compiler.fastcall import builtin, words_for
from .compiler.jit import Shared
from .gemm.product import WORKSPACE, prepared_workspace
from .given import MOST
from .simd.address import (
    DTYPE,
    ELEMENTS,
    FLAGS,
    KIND_OF_DTYPE,
    LOW_HALF,
    NDIM,
    PLAIN,
    SHAPE,
    STRIDES,
    TYPE,
    VALUE,
    word_at,
)

# The flags of NumPy that its array must have.
READ, ROWWISE, WRITEABLE, WRITTEN = 0x100, PLAIN, 0x400, PLAIN | 0x400
# Elements of the workspace beyond that of products.
BEYOND = 1 << 20
_DTYPES = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.uint8)

# By name the builtin of each function, once it has been compiled for a dtype.
quick = SimpleNamespace()
_common = np.zeros(KINDS + KNOWN, np.int64)
_workspaces: list[np.ndarray] = []


_in_capsule = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
# The place of PyArray_Empty in the table that NumPy hands to extensions.
_PLACE_OF_EMPTY = 184


def _fill_common() -> None:
    """Note down what compiled code cannot know by itself: where things lie in this process."""
    core = sys.modules.get("numpy._core._multiarray_umath") or sys.modules["numpy.core._multiarray_umath"]
    functions = _in_capsule(core._ARRAY_API, None)
    _common[NONE : EMPTY + 1] = *map(id, (None, np.ndarray, float)), word_at(functions, _PLACE_OF_EMPTY)
    _common[DTYPES:WORKSPACES] = [id(dtype) for dtype in _DTYPES[:2]]
    _common[KINDS:] = [word_at(id(dtype), KIND_OF_DTYPE) for dtype in _DTYPES]


def _check_layout() -> None:
    """Raise ImportError where arrays and floats do not lie in memory as ``ENTRY`` reads them."""
    array, number = np.zeros((5, 7), np.float32)[::2, 1:], 2.5
    place, shape, strides = id(array), *(word_at(id(array), i) for i in (SHAPE, STRIDES))
    found = (
        word_at(place, TYPE), word_at(place, ELEMENTS), word_at(place, NDIM) & LOW_HALF,
        *(word_at(shape, i) for i in range(2)), *(word_at(strides, i) for i in range(2)),
        word_at(place, DTYPE), word_at(place, FLAGS) & WRITTEN,
        word_at(id(number), TYPE), ctypes.c_double.from_address(id(number) + 8 * VALUE).value,
    )  # fmt: skip
    expected = (
        id(np.ndarray), array.ctypes.data, 2, *array.shape, *array.strides, id(array.dtype), 0x500, id(float), number
    )  # fmt: skip
    if found != expected:
        raise ImportError(
            f"Python {sys.version.split()[0]} and NumPy {np.__version__} keep arrays in another way than the kernels "
            "know: take releases that fastnn supports, or FASTNN_BACKEND=numpy"
        )


_check_layout()
_fill_common()


def _lend(dtype: Any) -> None:
    """Have a workspace for a dtype, unless Python has no GIL that keeps it for one call at a time."""
    which = _DTYPES.index(dtype)
    if _common[WORKSPACES + which] == 0 and getattr(sys, "_is_gil_enabled", lambda: True)():
        _workspaces.append(prepared_workspace(WORKSPACE + BEYOND, dtype))
        _common[WORKSPACES + which] = _workspaces[-1].ctypes.data


def _take_all_back() -> None:
    _common[LENT:KINDS] = 0


if hasattr(os, "register_at_fork"):
    # Of the calls that other threads are in, a child never sees the end.
    os.register_at_fork(after_in_child=_take_all_back)


def _nothing(*arguments: Any) -> None:
    """What is called as long as nothing is compiled."""


class Entry:
    """A function on arrays, compiled for each dtype at its first use.

    ``function(given, workspace)`` reads its arguments by ``array_of`` and ``float_of``, the result behind them, and
    gives 1, or 0 before it has written anything; without ``works`` it must not touch the workspace. ``table`` says of
    which arguments the result has its rows and its columns. ``constants`` gives
    up to three numbers for a dtype that it finds in ``given`` from CONSTANTS on, behind how many arguments there are.
    One that ``is_quick`` is for those who have not checked anything as well, under its name.
    """

    def __init__(
        self,
        name: str,
        function: Shared,
        arguments: Sequence[tuple[int, int]],
        result: int,
        table: tuple[int, int] = (0, 0),
        works: bool = False,
        most: int = 0,
        constants: Callable[[Any], tuple[int, ...]] = lambda dtype: (),
        is_quick: bool = True,
    ) -> None:
        self._name, self._function, self._works, self._constants = name, function, works, constants
        assert len(arguments) < MOST, "there is memory for so many arguments and a result"
        what = np.ravel([*arguments, (REALS, WRITTEN)])
        self._count = ARGUMENTS + len(what)
        self._words = words_for(name, self._count)
        self._words[COUNT:FUNCTIONS] = len(arguments), result, *table, works, most
        self._words[ARGUMENTS : self._count] = what
        self.call: Callable[..., Any] = _nothing
        self._is_quick = is_quick
        if is_quick:
            setattr(quick, name, _nothing)

    def __call__(self, *arguments: Any) -> None:
        """Call it with arguments that are known to be plain."""
        if self.attempt(*arguments) is None:
            raise TypeError(f"{self._name} got arguments that no kernel takes: arrays must be plain and fit each other")

    def attempt(self, *arguments: Any) -> Any:
        """Call it, compiled by then; None where it has changed nothing."""
        result = self.call(*arguments)
        if result is None:
            self.prepare(arguments[0].dtype)
            result = self.call(*arguments)
        return result

    def prepare(self, dtype: Any) -> None:
        """Compile or load it for a dtype."""
        which = _DTYPES.index(dtype)
        place = FUNCTIONS + OF_DTYPE * which
        if self._words[place] == 0:
            constants = self._constants(dtype)
            self._words[place + 1 : place + 1 + len(constants)] = constants
            if self._works:
                _lend(dtype)
            self._words[COMMON] = _common.ctypes.data
            self._words[place] = self._function.address(dtype)
        if self.call is _nothing:
            self.call = builtin(self._words, self._count, ENTRY.address(np.int64))
            if self._is_quick:
                setattr(quick, self._name, self.call)

    def tell(self, dtype: Any, *constants: int) -> None:
        """Give a function other constants for a dtype, which its next call finds."""
        place = FUNCTIONS + OF_DTYPE * _DTYPES.index(dtype) + 1
        self._words[place : place + len(constants)] = constants


def lent_workspace(dtype: Any) -> int:
    """The address of the workspace that calls are lent, or 0 where there is none."""
    return int(_common[WORKSPACES + _DTYPES.index(dtype)])
