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
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compiler.jit import Shared, inline, shared
from .gemm.product import WORKSPACE, prepared_workspace
from .given import (
    COL,
    COLS,
    CONSTANTS,
    DIMENSIONS,
    ELEMENT,
    GIVEN,
    MEMORY,
    ROW,
    ROWS,
    SIZE,
    WORDS,
    P,
)
from .simd.vector import I32, I64, call_ir, get, integer, pointer, put, scratch

# The words of 8 bytes of CPython's objects, which end with their type or go on behind HEAD: floats with their value,
# NumPy's arrays with elements, number of dimensions, shape, strides, base, dtype and flags, its dtypes with kind, byte
# order and number in the second. All of this is what extensions in C are compiled for.
HEAD = object.__basicsize__ // 8
TYPE, VALUE, ELEMENTS, NDIM, SHAPE, STRIDES, DTYPE, FLAGS = (HEAD + i for i in (-1, 0, 0, 1, 2, 3, 5, 6))
KIND_OF_DTYPE = HEAD + 1
LOW_HALF = (1 << 32) - 1

# What an argument is: a Python float, or an array of the dtype of the call (that of the first), of float64, of int64,
# or of float32, float64 or uint8.
NUMBER, REALS, DOUBLES, INTEGERS, ANY = range(5)
# The flags of NumPy that its array must have.
READ, ROWWISE, WRITEABLE, WRITTEN = 0x100, 0x101, 0x400, 0x501
# Where the result comes from if the call brings none: an array like the first argument, one of as many rows as one
# argument and as many columns as another, one of rows alone, or no new one: the first argument is updated in place.
LIKE_FIRST, TABLE, COLUMN, IN_PLACE = range(4)

# Elements up to which a call keeps the GIL, and those of the workspace beyond that of products.
SHORT, BEYOND = 1 << 13, 1 << 20

# The words for all functions: None, the types of arrays and of floats, NumPy's PyArray_Empty; for float32 and float64
# the dtype, the workspace and whether it is lent; and the kinds of all dtypes.
NONE, ARRAY, PYTHON_FLOAT, EMPTY, DTYPES, WORKSPACES, LENT, KINDS = 0, 1, 2, 3, 4, 6, 8, 10
_DTYPES = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.uint8)
# Those of a function: these words, how many arguments there are, whence the result, its rows and its columns come,
# whether there is a workspace, beyond how much work nothing is tried, for both dtypes the function and three constants,
# what each argument and the result must be, and what makes it a builtin, see METHOD.
COMMON, COUNT, RESULT, ROWS_OF, COLUMNS_OF, WORKS, MOST_WORK, FUNCTIONS = range(8)
OF_DTYPE, ARGUMENTS = 4, 16


KNOWN, OF_INT64 = len(_DTYPES), 2


@intrinsic
def _word(typing: Any, place: Any, i: Any) -> Any:
    """Word i from an address on."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.gep(builder.inttoptr(args[0], I64.as_pointer()), [args[1]]))

    return types.intp(types.intp, types.intp), emit


def _of_python(name: str, result: Any, *arguments: Any) -> Any:
    """A compiled function that calls one of Python's C functions."""

    @intrinsic
    def call(typing: Any, argument: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            given = [builder.inttoptr(args[0], kind) for kind in arguments]
            value = call_ir(builder, name, result, given)
            return I64(0) if isinstance(result, ir.VoidType) else builder.ptrtoint(value, I64)

        return types.intp(types.intp), emit

    return call


_I8P = ir.IntType(8).as_pointer()
_keep = _of_python("Py_IncRef", ir.VoidType(), _I8P)
_drop = _of_python("Py_DecRef", ir.VoidType(), _I8P)
_let_go = _of_python("PyEval_SaveThread", _I8P)
_take_back = _of_python("PyEval_RestoreThread", ir.VoidType(), _I8P)


def _call_at(result: Any, *arguments: Any) -> Any:
    """A compiled function (address, tuple of numbers) that calls code at an address with these types."""

    @intrinsic
    def call(typing: Any, place: Any, numbers: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            given = [builder.extract_value(args[1], i) for i in range(len(arguments))]
            cast = [
                value if kind == I64 else builder.trunc(value, kind) if kind == I32 else builder.inttoptr(value, kind)
                for value, kind in zip(given, arguments, strict=True)
            ]
            code = builder.inttoptr(args[0], ir.FunctionType(result, arguments).as_pointer())
            value = builder.call(code, cast)
            return value if result == I64 else builder.ptrtoint(value, I64)

        return types.intp(types.intp, types.UniTuple(types.intp, len(arguments))), emit

    return call


_empty_array = _call_at(_I8P, I32, _I8P, _I8P, I32)
_run = _call_at(I64, _I8P, _I8P)


@inline
def _record(given, i):
    return pointer(integer(given) + 8 * WORDS * i, 0)


@inline
def _write_down(thing, record, element, bits):
    """Write down an array, strides in 2^bits bytes, and return whether they are whole."""
    ndim, shape, strides = _word(thing, NDIM) & LOW_HALF, _word(thing, SHAPE), _word(thing, STRIDES)
    elements, odd = 1, 0
    for i in range(ndim):
        elements *= _word(shape, i)
        odd |= _word(strides, i) & ((1 << bits) - 1)
    rows, cols = _word(shape, 0) if ndim > 0 else 1, _word(shape, 1) if ndim > 1 else 1
    put(record, P, _word(thing, ELEMENTS))
    put(record, SIZE, elements)
    put(record, DIMENSIONS, ndim)
    put(record, ROWS, rows)
    put(record, COLS, cols)
    put(record, ROW, _word(strides, 0) >> bits if ndim > 0 and rows > 1 else cols)
    put(record, COL, _word(strides, 1) >> bits if ndim > 1 and cols > 1 else 1)
    put(record, ELEMENT, element)
    return odd == 0


@inline
def _element(thing, common):
    """The place of an array's dtype among those that are known, or how many these are."""
    kind, i = _word(_word(thing, DTYPE), KIND_OF_DTYPE), 0
    while i < KNOWN and _word(common, KINDS + i) != kind:
        i += 1
    return i


@inline
def _check(thing, own, common, i, which, record):
    """Write down argument i, and return whether it is what it must be."""
    kind, flags = _word(own, ARGUMENTS + 2 * i), _word(own, ARGUMENTS + 2 * i + 1)
    if kind == NUMBER:
        if _word(thing, TYPE) != _word(common, PYTHON_FLOAT):
            return False
        put(record, P, _word(thing, VALUE))
        put(record, SIZE, 0)
        return True
    if _word(thing, TYPE) != _word(common, ARRAY) or _word(thing, FLAGS) & flags != flags:
        return False
    element = _element(thing, common)
    if kind == ANY:
        return element < KNOWN and element != OF_INT64 and _write_down(thing, record, element, 0)
    if element != (which if kind == REALS else kind - 1):
        return False
    return _write_down(thing, record, element, 2 if element == 0 else 3)


@inline
def _is_too_much(own, given, total):
    """Whether a function would not take so much: elements, or for a table multiply-adds, before any result is made."""
    most = _word(own, MOST_WORK)
    if most == 0:
        return False
    if _word(own, RESULT) != TABLE:
        return total > most
    rows, cols = get(_record(given, _word(own, ROWS_OF)), ROWS), get(_record(given, _word(own, COLUMNS_OF)), COLS)
    return rows * cols * get(given, COLS) > most


@inline
def _new(own, common, which, given, first):
    """The result that the call did not bring, or 0 with an exception set."""
    result = _word(own, RESULT)
    shape = scratch(given, 2)
    put(shape, 0, get(_record(given, _word(own, ROWS_OF)), ROWS))
    put(shape, 1, get(_record(given, _word(own, COLUMNS_OF)), COLS))
    place, ndim = integer(shape), 1 if result == COLUMN else 2
    if result == LIKE_FIRST:
        place, ndim = _word(first, SHAPE), get(given, DIMENSIONS)
    dtype = _word(common, DTYPES + which)
    _keep(dtype)  # which the array takes over
    return _empty_array(_word(common, EMPTY), (ndim, place, dtype, 0))


@shared(lambda dtype: types.intp(types.intp, types.intp, types.intp))
def ENTRY(owner, arguments, count):
    """What Python calls, whatever the function, whose words are those of the array ``owner``."""
    own = _word(owner, ELEMENTS)
    common = _word(own, COMMON)
    nothing, expected, result = _word(common, NONE), _word(own, COUNT), _word(own, RESULT)
    is_new = count == expected and result != IN_PLACE
    first = _word(arguments, 0) if count > 0 else nothing
    fits = (count == expected or (count == expected + 1 and result != IN_PLACE)) and (
        _word(first, TYPE) == _word(common, ARRAY)
    )
    if not fits:
        _keep(nothing)
        return nothing
    which = 1 if _word(_word(first, DTYPE), KIND_OF_DTYPE) == _word(common, KINDS + 1) else 0
    function = own + 8 * (FUNCTIONS + OF_DTYPE * which)
    workspace = _word(common, WORKSPACES + which) if _word(own, WORKS) != 0 else 0
    fits = _word(function, 0) != 0 and (_word(own, WORKS) == 0 or (workspace != 0 and _word(common, LENT + which) == 0))
    given, total, i = scratch(pointer(0, 0), MEMORY), 0, 0
    while fits and i < count:
        record = _record(given, i)
        fits = _check(_word(arguments, i), own, common, i, which, record)
        total += get(record, SIZE) if fits and i < expected else 0
        i += 1
    if not fits or _is_too_much(own, given, total):
        _keep(nothing)
        return nothing
    returned = first
    if result != IN_PLACE:
        record = _record(given, expected)
        if is_new:
            returned = _new(own, common, which, given, first)
            if returned == 0:
                return returned
            _write_down(returned, record, which, 2 + which)
        else:
            returned = _word(arguments, expected)
        total += get(record, SIZE)
    put(given, GIVEN, expected)
    for constant in range(OF_DTYPE - 1):
        put(given, CONSTANTS + constant, _word(function, 1 + constant))
    lent = pointer(common + 8 * (LENT + which), 0)
    if workspace != 0:
        put(lent, 0, 1)
    if total > SHORT:
        state = _let_go(0)
        is_done = _run(_word(function, 0), (integer(given), workspace))
        _take_back(state)
    else:
        is_done = _run(_word(function, 0), (integer(given), workspace))
    if workspace != 0:
        put(lent, 0, 0)
    if is_done == 0:
        if is_new:
            _drop(returned)
        returned = nothing
    if not is_new or is_done == 0:
        _keep(returned)
    return returned


# What Python knows of a function in C, a PyMethodDef: where its name and its code are, how to call it, what it does. It
# lies behind the words of the function, which the builtin owns, so neither the end of its Entry nor the order in which
# the garbage collector takes a cycle apart can leave a builtin without.
METHOD, _FASTCALL = 4, 0x80
# By name the builtin of each function, once it has been compiled for a dtype.
quick = SimpleNamespace()
_common = np.zeros(KINDS + KNOWN, np.int64)
_workspaces: list[np.ndarray] = []


_new_builtin = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
    ("PyCFunction_NewEx", ctypes.pythonapi)
)
_in_capsule = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
# The place of PyArray_Empty in the table that NumPy hands to extensions.
_PLACE_OF_EMPTY = 184


def _fill_common() -> None:
    """Note down what compiled code cannot know by itself: where things lie in this process."""
    core = sys.modules.get("numpy._core._multiarray_umath") or sys.modules["numpy.core._multiarray_umath"]
    functions = _in_capsule(core._ARRAY_API, None)
    _common[NONE : EMPTY + 1] = *map(id, (None, np.ndarray, float)), _word_at(functions, _PLACE_OF_EMPTY)
    _common[DTYPES:WORKSPACES] = [id(dtype) for dtype in _DTYPES[:2]]
    _common[KINDS:] = [_word_at(id(dtype), KIND_OF_DTYPE) for dtype in _DTYPES]


def _word_at(place: int, i: int) -> int:
    return ctypes.c_int64.from_address(place + 8 * i).value


def _check_layout() -> None:
    """Raise ImportError where arrays and floats do not lie in memory as ``ENTRY`` reads them."""
    array, number = np.zeros((5, 7), np.float32)[::2, 1:], 2.5
    place, shape, strides = id(array), *(_word_at(id(array), i) for i in (SHAPE, STRIDES))
    found = (
        _word_at(place, TYPE), _word_at(place, ELEMENTS), _word_at(place, NDIM) & LOW_HALF,
        *(_word_at(shape, i) for i in range(2)), *(_word_at(strides, i) for i in range(2)),
        _word_at(place, DTYPE), _word_at(place, FLAGS) & WRITTEN,
        _word_at(id(number), TYPE), ctypes.c_double.from_address(id(number) + 8 * VALUE).value,
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
        what = np.ravel([*arguments, (REALS, WRITTEN)])
        self._method = ARGUMENTS + len(what)
        encoded = np.frombuffer(name.encode() + b"\0" * (8 - len(name.encode()) % 8), np.int64)
        self._words = np.zeros(self._method + METHOD + len(encoded), np.int64)
        self._words[COUNT:FUNCTIONS] = len(arguments), result, *table, works, most
        self._words[ARGUMENTS : self._method] = what
        self._words[self._method + METHOD :] = encoded
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
            method = self._words[self._method :]
            place = method.ctypes.data
            method[:METHOD] = place + 8 * METHOD, ENTRY.address(np.int64), _FASTCALL, 0
            self.call = _new_builtin(place, self._words, None)
            if self._is_quick:
                setattr(quick, self._name, self.call)

    def tell(self, dtype: Any, *constants: int) -> None:
        """Give a function other constants for a dtype, which its next call finds."""
        place = FUNCTIONS + OF_DTYPE * _DTYPES.index(dtype) + 1
        self._words[place : place + len(constants)] = constants


def lent_workspace(dtype: Any) -> int:
    """The address of the workspace that calls are lent, or 0 where there is none."""
    return int(_common[WORKSPACES + _DTYPES.index(dtype)])
