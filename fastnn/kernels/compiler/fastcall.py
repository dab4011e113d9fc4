"""Builtins: compiled functions that Python calls in the convention of C's extensions (METH_FASTCALL).

Compiled code is handed the array of words that owns the builtin, where the arguments are, and how many; it is written
with ``words``.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from .jit import Shared
from .libraries import finished_module
from .text import declared
from .words import Words

# What Python knows of a function in C, a PyMethodDef: where its name and its code are, how to call it, what it does. It
# lies behind the words of the function, which the builtin owns, so neither the end of whoever made them nor the order
# in which the garbage collector takes a cycle apart can leave a builtin without.
_METHOD, _FASTCALL = 4, 0x80

_new_builtin = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
    ("PyCFunction_NewEx", ctypes.pythonapi)
)


def builtin_code(name: str, write: Callable[[Any], Words]) -> Shared:
    """The code that ``write`` writes into a module, for builtins; its name tells it from others in the cache."""

    @intrinsic
    def run(typing: Any, owner: Any, arguments: Any, count: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.call(declared(builder.module, write(finished_module(context)).function), args)

        return types.intp(types.intp, types.intp, types.intp), emit

    def code(owner, arguments, count):
        return run(owner, arguments, count)

    return Shared(code, lambda dtype: types.intp(types.intp, types.intp, types.intp), finished=True, name=name)


def words_for(name: str, count: int) -> np.ndarray:
    """So many words for a builtin, 0 at first, and room for what Python knows of it."""
    encoded = np.frombuffer(name.encode() + b"\0" * (8 - len(name.encode()) % 8), np.int64)
    words = np.zeros(count + _METHOD + len(encoded), np.int64)
    words[count + _METHOD :] = encoded
    return words


def builtin(words: np.ndarray, count: int, address: int) -> Callable[..., Any]:
    """The builtin of words that ``words_for`` gave, and of the code at an address."""
    method = words[count:]
    place = method.ctypes.data
    method[:_METHOD] = place + 8 * _METHOD, address, _FASTCALL, 0
    made: Callable[..., Any] = _new_builtin(place, words, None)
    return made
