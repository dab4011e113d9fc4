"""What a call from Python wrote down of its arguments, as the function that it calls reads it; see ``entries``."""

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from .compiler.jit import inline
from .simd.vector import I64, integer, itemsize, pointer

# What is written down of each argument, and of the result behind them: the address of the elements or the float itself;
# elements, dimensions, rows, columns, the distances of rows and of columns in elements, and the place of the dtype in
# entries._DTYPES; where the dtype may be any, the distances are bytes.
P, SIZE, DIMENSIONS, ROWS, COLS, ROW, COL, ELEMENT, WORDS = range(9)
MOST = 12
# Behind them: how many arguments there are, and the constants of the function.
GIVEN, CONSTANTS = MOST * WORDS, MOST * WORDS + 1
MEMORY = CONSTANTS + 3


class Given(NamedTuple):
    """An array as the call wrote it down."""

    p: Any
    size: int
    ndim: int
    rows: int
    cols: int
    row: int
    col: int
    element: int


@intrinsic
def array_of(typing: Any, given: Any, i: Any, like: Any) -> Any:
    """Argument i, an array of elements like those of a pointer, or like a number."""
    p = like if isinstance(like, types.CPointer) else types.CPointer(like)
    result = types.NamedTuple((p, *[types.intp] * (WORDS - 1)), Given)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = builder.mul(args[1], I64(WORDS))
        words = [builder.load(builder.gep(args[0], [builder.add(first, I64(k))])) for k in range(WORDS)]
        words[P] = builder.inttoptr(words[P], context.get_value_type(p))
        return context.make_tuple(builder, result, words)

    return result(given, types.intp, like), emit


@inline
def float_at(given, i):
    """Where argument i stands, a float."""
    return pointer(integer(given) + 8 * WORDS * i, np.float64(0))


@inline
def same_shape(a, b):
    """Whether two arrays of at most two dimensions have the same shape; of more it is not known."""
    return a.ndim <= 2 and a.ndim == b.ndim and a.rows == b.rows and a.cols == b.cols


@inline
def meet(a, b):
    """Whether two arrays, the first C-contiguous, may share memory: their ranges overlap."""
    size = itemsize(a.p)
    start, end = integer(b.p), integer(b.p) + size
    low = min(0, (b.rows - 1) * b.row) + min(0, (b.cols - 1) * b.col)
    high = max(0, (b.rows - 1) * b.row) + max(0, (b.cols - 1) * b.col)
    return integer(a.p) < end + high * size and start + low * size < integer(a.p) + a.size * size


def entry_signature(dtype: Any) -> Any:
    """(given, workspace): gives 1, or 0 for having changed nothing."""
    return types.intp(types.CPointer(types.int64), types.CPointer(dtype))
