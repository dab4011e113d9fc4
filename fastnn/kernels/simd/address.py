"""How Python hands compiled code an array of any layout: its address and its strides in elements.

Numba compiles a function anew for every memory layout and for read-only arrays. Functions are handed what they read as
if it could be written, and large ones (products, the epoch) addresses, which have one type only.
"""

import ctypes
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from ..compiler.cpu import LINE_BYTES

# The words of 8 bytes of CPython's objects, which end with their type or go on behind HEAD: floats with their value,
# NumPy's arrays with elements, number of dimensions, shape, strides, base, dtype and flags, its dtypes with kind, byte
# order and number in the second. All of this is what extensions in C are compiled for, and ``entries`` looks whether
# it is so.
HEAD = object.__basicsize__ // 8
TYPE, VALUE, ELEMENTS, NDIM, SHAPE, STRIDES, DTYPE, FLAGS = (HEAD + i for i in (-1, 0, 0, 1, 2, 3, 5, 6))
KIND_OF_DTYPE = HEAD + 1
# The flags of an array that is aligned and C-contiguous.
PLAIN = 0x101
# Numbers of 32 bits, of which the rest of a word may be anything.
LOW_HALF = (1 << 32) - 1
_word_at = ctypes.c_ssize_t.from_address


def word_at(place: int, i: int) -> int:
    """Word i from an address on."""
    return _word_at(place + 8 * i).value


def address(array: np.ndarray) -> int:
    """Where the first element lies."""
    return _word_at(id(array) + 8 * ELEMENTS).value


def aligned_zeros(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros that begin at a cache line."""
    return _aligned(np.zeros, shape, dtype)


def aligned_empty(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """Memory that begins at a cache line, with whatever is there."""
    return _aligned(np.empty, shape, dtype)


def _aligned(make: Callable[..., np.ndarray], shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    shape = shape if isinstance(shape, tuple) else (shape,)
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    raw = make(n_bytes + LINE_BYTES, np.uint8)
    start = -raw.ctypes.data % LINE_BYTES
    aligned: np.ndarray = raw[start : start + n_bytes].view(dtype).reshape(shape)
    return aligned


class _Alias:
    """Memory under another description; keeps the array that owns it."""

    def __init__(self, array: np.ndarray, interface: dict[str, Any]) -> None:
        self._owner, self.__array_interface__ = array, interface


def as_writeable(array: np.ndarray) -> np.ndarray:
    """The same memory as an array that is not read-only, for kernels that only read it: one type less to compile."""
    if array.flags.writeable:
        return array
    interface = dict(array.__array_interface__)
    interface["data"] = (interface["data"][0], False)
    return np.asarray(_Alias(array, interface))


def whole_strides(array: np.ndarray) -> np.ndarray:
    """The array, or a copy where its strides are no whole elements, as in a field of packed records."""
    return array if all(stride % array.itemsize == 0 for stride in array.strides) else np.ascontiguousarray(array)


def strides(array: np.ndarray) -> tuple[int, ...]:
    """The strides in elements."""
    return tuple(stride // array.itemsize for stride in array.strides)


@intrinsic
def read_once(typing: Any, p: Any, i: Any) -> Any:
    """p[i], of memory that others may write to: what is checked is what is used, it is not read again."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(builder.gep(args[0], [args[1]]), "monotonic", p.dtype.bitwidth // 8)

    return p.dtype(p, types.intp), emit
