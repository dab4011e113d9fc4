"""What Python calls of all functions on arrays: ``ENTRY``, in the convention of C's extensions (METH_FASTCALL).

It looks whether the arguments are what the function wants, writes down once where they lie and their shapes, makes the
result where none is given, and calls the function for the dtype; see ``entries``. All of it is words and addresses,
so it is written with ``compiler.words``: through Numba it took ten times as long to compile.
"""

from typing import Any

from .compiler.fastcall import builtin_code
from .compiler.words import Word, Words
from .given import COL, COLS, CONSTANTS, DIMENSIONS, ELEMENT, GIVEN, MEMORY, ROW, ROWS, SIZE, WORDS, P
from .simd.address import DTYPE, ELEMENTS, FLAGS, KIND_OF_DTYPE, LOW_HALF, NDIM, SHAPE, STRIDES, TYPE, VALUE

# What an argument is: a Python float, or an array of the dtype of the call (that of the first), of float64, of int64,
# or of float32, float64 or uint8.
NUMBER, REALS, DOUBLES, INTEGERS, ANY = range(5)
# Where the result comes from if the call brings none: an array like the first argument, one of as many rows as one
# argument and as many columns as another, one of rows alone, or no new one: the first argument is updated in place.
LIKE_FIRST, TABLE, COLUMN, IN_PLACE = range(4)

# Elements up to which a call keeps the GIL.
SHORT = 1 << 13

# The words for all functions: None, the types of arrays and of floats, NumPy's PyArray_Empty; for float32 and float64
# the dtype, the workspace and whether it is lent; and the kinds of all dtypes, of which KNOWN are known.
NONE, ARRAY, PYTHON_FLOAT, EMPTY, DTYPES, WORKSPACES, LENT, KINDS = 0, 1, 2, 3, 4, 6, 8, 10
KNOWN, OF_INT64 = 4, 2
# Those of a function: these words, how many arguments there are, whence the result, its rows and its columns come,
# whether there is a workspace, beyond how much work nothing is tried, for both dtypes the function and three constants,
# what each argument and the result must be, and what makes it a builtin, see ``entries``.
COMMON, COUNT, RESULT, ROWS_OF, COLUMNS_OF, WORKS, MOST_WORK, FUNCTIONS = range(8)
OF_DTYPE, ARGUMENTS = 4, 16


def _write_down(module: Any) -> Words:
    """Write down an array, strides in 2^bits bytes, and give 1 where they are whole, else 0."""
    code = Words(module, "entry_write_down", 4)
    thing, record, element, bits = code.arguments
    ndim, shape, strides = code.read(thing, NDIM) & LOW_HALF, code.read(thing, SHAPE), code.read(thing, STRIDES)

    def extent(i: int) -> tuple[Word, Word]:
        there = ndim > i
        size = code.either(there, lambda: code.read(shape, i), lambda: 1)
        return size, code.either(there, lambda: code.read(strides, i), lambda: 0)

    def further(i: Word, elements: Word, odd: Word) -> tuple[Word, ...]:
        return elements * code.read(shape + i * 8, 2), odd | code.read(strides + i * 8, 2)

    (rows, row), (cols, col) = extent(0), extent(1)
    elements, odd = code.fold(ndim - 2, (rows * cols, row | col), further)
    row, col = code.choose((ndim > 0) & (rows > 1), row >> bits, cols), code.choose(cols > 1, col >> bits, 1)
    fields = ((P, code.read(thing, ELEMENTS)), (SIZE, elements), (DIMENSIONS, ndim), (ROWS, rows), (COLS, cols),
              (ROW, row), (COL, col), (ELEMENT, element))  # fmt: skip
    for field, value in fields:
        code.write(record, field, value)
    whole = (code.number(1) << bits) - 1
    code.give(code.choose((odd & whole) == 0, 1, 0))
    return code


def _check(module: Any, write_down: Words) -> Words:
    """Write down argument i, and give 1 where it is what it must be, else 0."""
    code = Words(module, "entry_check", 6)
    thing, own, common, i, which, record = code.arguments
    wanted = own + i * 16
    kind, flags, its_type = code.read(wanted, ARGUMENTS), code.read(wanted, ARGUMENTS + 1), code.read(thing, TYPE)
    with code.when(kind == NUMBER):
        with code.when(its_type != code.read(common, PYTHON_FLOAT)):
            code.give(0)
        code.write(record, P, code.read(thing, VALUE))
        code.write(record, SIZE, 0)
        code.give(1)
    with code.when(its_type != code.read(common, ARRAY)):
        code.give(0)
    with code.when((code.read(thing, FLAGS) & flags) != flags):
        code.give(0)
    # The place of its dtype among those that are known, or how many these are.
    dtype, element = code.read(code.read(thing, DTYPE), KIND_OF_DTYPE), code.number(KNOWN)
    for known in reversed(range(KNOWN)):
        element = code.choose(dtype == code.read(common, KINDS + known), known, element)
    with code.when(kind == ANY):
        with code.when((element == KNOWN) | (element == OF_INT64)):
            code.give(0)
        code.give(code.run(write_down, thing, record, element, 0))
    with code.when(element != code.choose(kind == REALS, which, kind - 1)):
        code.give(0)
    code.give(code.run(write_down, thing, record, element, code.choose(element == 0, 2, 3)))
    return code


def _new(module: Any) -> Words:
    """Give the result that the call did not bring, or 0 with an exception set."""
    code = Words(module, "entry_new", 5)
    shape = code.memory(2)
    own, common, which, given, first = code.arguments
    result = code.read(own, RESULT)
    code.write(shape, 0, code.read(given + code.read(own, ROWS_OF) * (8 * WORDS), ROWS))
    code.write(shape, 1, code.read(given + code.read(own, COLUMNS_OF) * (8 * WORDS), COLS))
    is_like = result == LIKE_FIRST
    place = code.choose(is_like, code.read(first, SHAPE), shape)
    ndim = code.choose(is_like, code.read(given, DIMENSIONS), code.choose(result == COLUMN, 1, 2))
    dtype = code.read(common + which * 8, DTYPES)
    code.run("Py_IncRef", dtype)  # which the array takes over
    code.give(code.run(code.read(common, EMPTY), ndim, place, dtype, 0))
    return code


def _write_entry(module: Any) -> Words:
    """What Python calls, whatever the function, whose words are those of the array ``owner``."""
    write_down, new = _write_down(module), _new(module)
    check = _check(module, write_down)
    code = Words(module, "entry", 3)
    given = code.memory(MEMORY)
    owner, arguments, count = code.arguments
    own = code.read(owner, ELEMENTS)
    common = code.read(own, COMMON)
    nothing, expected, result = code.read(common, NONE), code.read(own, COUNT), code.read(own, RESULT)

    def give_nothing() -> None:
        code.run("Py_IncRef", nothing)
        code.give(nothing)

    in_place, is_called_alone = result == IN_PLACE, count == expected
    with code.when((count < 1) | (~is_called_alone & (in_place | (count != expected + 1)))):
        give_nothing()
    first = code.read(arguments)
    with code.when(code.read(first, TYPE) != code.read(common, ARRAY)):
        give_nothing()
    dtype = code.read(code.read(first, DTYPE), KIND_OF_DTYPE)
    which = code.choose(dtype == code.read(common, KINDS + 1), 1, 0)
    constants = own + which * (8 * OF_DTYPE)
    function, works, lent = code.read(constants, FUNCTIONS), code.read(own, WORKS) != 0, common + which * 8
    workspace = code.choose(works, code.read(lent, WORKSPACES), 0)
    with code.when((function == 0) | (works & ((workspace == 0) | (code.read(lent, LENT) != 0)))):
        give_nothing()

    def of_argument(i: Word, total: Word) -> tuple[Word, ...]:
        record = given + i * (8 * WORDS)
        with code.when(code.run(check, code.read(arguments + i * 8), own, common, i, which, record) == 0):
            give_nothing()
        return (total + code.choose(i < expected, code.read(record, SIZE), 0),)

    (total,) = code.fold(count, (0,), of_argument)
    # Whether a function would not take so much: elements, or for a table multiply-adds, before any result is made.
    rows = code.read(given + code.read(own, ROWS_OF) * (8 * WORDS), ROWS)
    cols = code.read(given + code.read(own, COLUMNS_OF) * (8 * WORDS), COLS)
    work, most = code.choose(result == TABLE, rows * cols * code.read(given, COLS), total), code.read(own, MOST_WORK)
    with code.when((most != 0) & (work > most)):
        give_nothing()

    record, is_new = given + expected * (8 * WORDS), is_called_alone & ~in_place

    def made() -> Word:
        array = code.run(new, own, common, which, given, first)
        with code.when(array == 0):
            code.give(0)
        code.run(write_down, array, record, which, which + 2)
        return array

    def brought() -> Word:
        return code.either(in_place, lambda: first, lambda: code.read(arguments + expected * 8))

    returned = code.either(is_new, made, brought)
    total = total + code.either(in_place, lambda: 0, lambda: code.read(record, SIZE))
    code.write(given, GIVEN, expected)
    for constant in range(OF_DTYPE - 1):
        code.write(given, CONSTANTS + constant, code.read(constants, FUNCTIONS + 1 + constant))
    with code.when(works):
        code.write(lent, LENT, 1)
    is_long = total > SHORT
    thread = code.either(is_long, lambda: code.run("PyEval_SaveThread"), lambda: 0)
    is_done = code.run(function, given, workspace)
    with code.when(is_long):
        code.run("PyEval_RestoreThread", thread)
    with code.when(works):
        code.write(lent, LENT, 0)
    with code.when(is_done == 0):
        with code.when(is_new):
            code.run("Py_DecRef", returned)
        give_nothing()
    with code.when(~is_new):
        code.run("Py_IncRef", returned)
    code.give(returned)
    return code


ENTRY = builtin_code("entry", _write_entry)
