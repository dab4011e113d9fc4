"""A user's scalar functions: checked, taken as they are at that moment, and known by their content.

What a function does follows from its bytecode, its constants, and the values of the globals and of the closure that it
uses, those of functions that it calls included. All of this is read once, when an object is made of the function; a
global that changes later changes nothing. A digest of it is the key of the compiled code.
"""

import builtins
import dis
import functools
import hashlib
import importlib
import inspect
import math
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

_NUMBERS = bool, int, float, np.bool_, np.integer, np.floating
_MODULES = math, np
_BUILTINS = abs, bool, divmod, enumerate, float, int, len, max, min, pow, range, round, sum, zip
# math as NumPy's scalars are computed with: like compiled code it returns inf and NaN where Python's raises.
_NUMPY_NAMES = {
    **{"acos": "arccos", "asin": "arcsin", "atan": "arctan", "atan2": "arctan2", "acosh": "arccosh"},
    **{"asinh": "arcsinh", "atanh": "arctanh", "fabs": "abs", "pow": "float_power"},
}


def _like_numpy(name: str) -> Any:
    """What interpreted code has for math's ``name``."""
    ours, theirs = getattr(math, name), getattr(np, _NUMPY_NAMES.get(name, name), None)
    return theirs if callable(ours) and isinstance(theirs, np.ufunc) else ours


_MATH = types.SimpleNamespace(**{name: _like_numpy(name) for name in dir(math) if not name.startswith("_")})
# The functions of math by themselves, as ``from math import exp`` has them.
_OF_MATH = {id(getattr(math, name)): value for name, value in vars(_MATH).items() if callable(value)}


class _Frozen:
    """A function with the values that it uses, globals by their names, and a digest of all of it."""

    def __init__(
        self, code: types.CodeType, defaults: tuple[Any, ...], used: dict[str, Any], cells: tuple[Any, ...], digest: str
    ) -> None:
        self.code, self.defaults, self.used, self.cells, self.digest = code, defaults, used, cells, digest

    def build(self, convert: Callable[[Any], Any]) -> types.FunctionType:
        """Return a function with this code, whose values are what ``convert`` makes of those here."""
        values = {name: convert(value) for name, value in self.used.items()}
        cells = tuple(types.CellType(convert(value)) for value in self.cells)
        made = types.FunctionType(self.code, {"__builtins__": builtins, **values}, None, self.defaults or None, cells)
        made.__module__ = __name__
        return made


class _Unchanging:
    """What is its own copy."""

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class ScalarFunction(_Unchanging):
    """A user's function of real numbers, which kernels compile and twins interpret.

    ``what`` is the argument that it came as, and ``names`` are what it is called with, elements of arrays and then
    ``numbers`` numbers. A string says where the function is to be imported from.

    Attributes
    ----------
    function : the user's own
    label, title : how errors call it, and its name
    elements, numbers, returns : how many elements and numbers it takes, and how many numbers it returns
    digest : of all that it does
    """

    def __init__(self, what: str, function: Any, names: tuple[str, ...], numbers: int = 0, returns: int = 1) -> None:
        self._given = what, names, numbers, returns
        self.function: Callable[..., Any] = imported(what, function) if isinstance(function, str) else function
        self.elements, self.numbers, self.returns = len(names) - numbers, numbers, returns
        plain = _plain(self.function)
        if not isinstance(plain, types.FunctionType):
            raise TypeError(
                f"{what} is {function!r}, expected a function made by def or lambda: {what}({', '.join(names)})"
            )
        self.label, self.title = f"{what} {plain.__qualname__}", plain.__name__
        _check_arguments(self.label, plain, names)
        self._frozen = _freeze(self.label, plain, ())
        self.digest = self._frozen.digest

    @property
    def names(self) -> tuple[str, ...]:
        """What the function itself calls its arguments."""
        code = _plain(self.function).__code__
        return code.co_varnames[: self.elements + self.numbers]  # type: ignore[no-any-return]

    @property
    def defaults(self) -> tuple[Any, ...]:
        """The values of the arguments behind those."""
        count = self._frozen.code.co_argcount - self.elements - self.numbers
        return self._frozen.defaults[len(self._frozen.defaults) - count :]

    def compilable(self, inline: Callable[[Any], Any]) -> types.FunctionType:
        """Return the function for a compiler, with ``inline`` of those that it calls."""

        def convert(value: Any) -> Any:
            return inline(value.build(convert)) if isinstance(value, _Frozen) else value

        return self._frozen.build(convert)

    @functools.cached_property
    def interpreted(self) -> Callable[..., Any]:
        """The function for NumPy's scalars, which are divided by 0 as compiled numbers are."""

        def convert(value: Any) -> Any:
            if isinstance(value, _Frozen):
                return value.build(convert)
            return _MATH if value is math else _OF_MATH.get(id(value), value)

        return self._frozen.build(convert)

    @property
    def path(self) -> str:
        """Where the function can be imported from, as "module:name".

        Raises
        ------
        TypeError
            If it cannot, as a lambda or a function within a function.
        """
        plain = _plain(self.function)
        path = f"{plain.__module__}:{plain.__qualname__}"
        try:
            found = _plain(_at(path, sys.modules.__getitem__))
        except (KeyError, AttributeError):
            found = None
        if found is not plain:
            raise TypeError(
                f"{self.label} cannot be saved or pickled, since it cannot be imported as {path!r}: define it by def "
                "at the top of a module"
            )
        return path

    def __reduce__(self) -> tuple[Any, ...]:
        what, *rest = self._given
        return ScalarFunction, (what, self.path, *rest)


class OwnName(_Unchanging, str):
    """The name of an operation of a user's, that of its content, which brings its functions along.

    Attributes
    ----------
    kind : {"activation", "loss", "rule"}
    functions : tuple of ScalarFunction
    """

    kind: str
    functions: tuple[ScalarFunction, ...]

    def __new__(cls, kind: str, functions: tuple[ScalarFunction, ...]) -> "OwnName":
        """Return the name of some functions."""
        content = "\0".join((kind, *(f"{f.elements} {f.numbers} {f.returns} {f.digest}" for f in functions)))
        name = super().__new__(cls, f"own_{hashlib.sha256(content.encode()).hexdigest()[:32]}")
        name.kind, name.functions = kind, functions
        return name

    def __reduce__(self) -> tuple[Any, ...]:
        return OwnName, (self.kind, self.functions)


class Claim(_Unchanging):
    """That a name given by the user stands for some functions, as long as one of the objects of that name lives."""

    def __init__(self, name: str, operation: OwnName) -> None:
        self.name, self.operation = name, operation

    def __reduce__(self) -> tuple[Any, ...]:
        return claim, (self.name, self.operation)


_CLAIMS: WeakValueDictionary[tuple[str, str], Claim] = WeakValueDictionary()


def claim(name: Any, operation: OwnName) -> Claim | None:
    """Let a name stand for an operation; None stays None.

    Raises
    ------
    TypeError, ValueError
        If it is no name, or stands for other functions.
    """
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"name is {name!r}, expected a string or None")
    if not name.isidentifier():
        raise ValueError(f"name is {name!r}, expected letters, digits and underscores, such as 'swish'")
    known = _CLAIMS.setdefault((operation.kind, name), Claim(name, operation))
    if known.operation != operation:
        raise ValueError(
            f"name is {name!r}, which another {operation.kind} has whose functions are different: choose another name"
        )
    return known


def imported(what: str, path: str) -> Any:
    """Return the function at "module:name", without calling it; ValueError if it cannot be imported."""
    try:
        return _at(path, importlib.import_module)
    except Exception as error:
        raise ValueError(
            f"{what} cannot be imported from {path!r}, which must be a function at the top of a module that this "
            f"process can import: {type(error).__name__}: {error}"
        ) from None


def _at(path: str, module_of: Callable[[str], Any]) -> Any:
    module, _, name = path.partition(":")
    return functools.reduce(getattr, name.split("."), module_of(module))


def _plain(function: Any) -> Any:
    """The function of Python that Numba's njit was applied to, or the object itself."""
    return getattr(function, "py_func", function)


def _check_arguments(label: str, function: types.FunctionType, names: tuple[str, ...]) -> None:
    code, defaults = function.__code__, function.__defaults__ or ()
    special = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise TypeError(f"{label} is a generator or a coroutine, expected a function that returns a number")
    count = code.co_argcount
    if code.co_flags & special or code.co_kwonlyargcount or not count - len(defaults) <= len(names) <= count:
        raise TypeError(f"{label} takes {inspect.signature(function)}, expected ({', '.join(names)})")


def _freeze(label: str, function: types.FunctionType, callers: tuple[types.FunctionType, ...]) -> _Frozen:
    """The function with the values that it uses now."""
    if function in callers:
        raise TypeError(f"{label} calls itself, which loops over vectors cannot: write it as a formula or a loop")
    callers = (*callers, function)

    def taken(name: str, value: Any) -> Any:
        return _taken(f"{label} uses {name}", value, callers)

    code = function.__code__
    names = sorted(set(_global_names(label, code)))
    for name in names:
        if name not in function.__globals__:
            if not hasattr(builtins, name):
                raise TypeError(f"{label} uses {name}, which is not defined")
            taken(name, getattr(builtins, name))
    used = {name: taken(name, function.__globals__[name]) for name in names if name in function.__globals__}
    try:
        contents = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:
        raise TypeError(f"{label} uses one of {', '.join(code.co_freevars)}, which has no value yet") from None
    cells = tuple(taken(name, value) for name, value in zip(code.co_freevars, contents, strict=True))
    defaults = tuple(taken("as a default", value) for value in function.__defaults__ or ())
    digest = hashlib.sha256()
    for part in (*_content(code), *((name, _known_by(value)) for name, value in used.items())):
        digest.update(f"{part}\0".encode())
    digest.update(repr([_known_by(value) for value in (*cells, None, *defaults)]).encode())
    return _Frozen(code, defaults, used, cells, digest.hexdigest())


def _taken(where: str, value: Any, callers: tuple[types.FunctionType, ...]) -> Any:
    """A value that a function uses, if compiled code may use it: one that cannot change, or a function."""
    is_theirs = callable(value) and str(getattr(value, "__module__", "")).split(".")[0] in ("math", "numpy")
    is_known = any(value is known for known in (*_MODULES, *_BUILTINS))
    if isinstance(value, _NUMBERS) or is_known or is_theirs:
        return value
    if type(value) is tuple:
        return tuple(_taken(where, part, callers) for part in value)
    if isinstance(_plain(value), types.FunctionType):
        return _freeze(f"{where}, which", _plain(value), callers)
    fix = "a function may use numbers, tuples of them, math, NumPy and functions like itself"
    if inspect.ismodule(value):
        fix = f"import what it uses by name, as in from {value.__name__} import ..."
    raise TypeError(f"{where}, which is {value!r}: {fix}")


_REFUSED = {
    "RAISE_VARARGS": "raises an exception, which ends no training: return math.nan instead",
    "STORE_GLOBAL": "changes a global",
    "IMPORT_NAME": "imports a module: do that at the top of yours",
}


def _global_names(label: str, code: types.CodeType) -> Iterator[str]:
    """The globals that code uses, and the functions within it."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in _REFUSED:
            raise TypeError(f"{label} {_REFUSED[instruction.opname]}")
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and instruction.argval == "random":
            raise TypeError(f"{label} draws random numbers, which would differ from run to run")
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(label, constant)


def _content(code: types.CodeType) -> Iterator[str]:
    """All that code does, without where it stands."""
    yield code.co_code.hex()
    yield getattr(code, "co_exceptiontable", b"").hex()
    yield repr((code.co_argcount, code.co_flags, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _content(constant)
        else:
            yield _known_by(constant)


def _known_by(value: Any) -> str:
    """A text that differs for values that differ, as 1, 1.0 and True do."""
    if isinstance(value, _Frozen):
        return value.digest
    if isinstance(value, tuple):
        return f"({', '.join(map(_known_by, value))})"
    if callable(value):
        return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else repr(value)
    return f"{type(value).__name__} {value!r}"
