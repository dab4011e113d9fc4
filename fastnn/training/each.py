"""Arguments of ``fit_many``: one for all models, or a list with one for each, as a Python list says."""

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

from ..nn.optimizer import Optimizer
from ..validation import depth
from .callbacks import Callback, check_callbacks
from .checkpoint import numbered

_PLAIN = FunctionType, BuiltinFunctionType


@contextmanager
def at(place: int) -> Iterator[None]:
    """Say of which model a ValueError or TypeError is."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if type(error) not in (ValueError, TypeError):
            raise
        raise type(error)(f"models[{place}]: {error}") from error


def each(name: str, value: Any, n: int, is_each: bool | None = None) -> list[Any]:
    """Return the argument for each of n models; a list is one for each, unless ``is_each`` says otherwise.

    Raises
    ------
    ValueError
        If a list has another length.
    """
    if not (isinstance(value, list) if is_each is None else is_each):
        return [value] * n
    if len(value) != n:
        raise ValueError(
            f"{name} is a list of {len(value)}, but there are {n} models: expected one for each, or no list but one "
            "for all"
        )
    return list(value)


def each_array(name: str, value: Any, n: int) -> list[Any]:
    """Return an argument that is an array (m,), or None; a list of numbers is one array for all."""
    return each(name, value, n, is_each_array(value))


def is_each_array(value: Any) -> bool:
    """Return whether an argument that is an array (m,) or None is a list with one for each model."""
    return isinstance(value, list) and any(not np.isscalar(item) or isinstance(item, str) for item in value)


def is_each_metrics(value: Any) -> bool:
    """Return whether metrics are a list with one for each model: names and functions in a list are for all."""
    return isinstance(value, list) and any(item is None or isinstance(item, (list, tuple, dict)) for item in value)


def each_data(x: Any, y: Any, n: int) -> tuple[list[Any], list[Any]]:
    """Return X and y of each model.

    A list of data sets is one for each. Rows of numbers in a list are one data set for all, as ``fit`` takes them;
    where y could be both, it is refused.

    Raises
    ------
    ValueError
        If a list has another length, or y could be one for each as well as one for all.
    TypeError
        If some elements of X are data sets and others are not.
    """
    sets = [depth(item) >= 2 for item in x] if isinstance(x, list) else [False]
    if any(sets) and not all(sets):
        place = sets.index(False)
        raise TypeError(f"X[{place}] has no rows and columns, but X[{sets.index(True)}] has: expected a data set each")
    return each("X", x, n, any(sets)), each("y", y, n, _is_each_y(y, None if any(sets) else x, n))


def _is_each_y(y: Any, x: Any, n: int) -> bool:
    """Whether y is one for each model; x is None where that is."""
    if not isinstance(y, list) or all(depth(item) == 0 for item in y):
        return False
    if x is None or any(hasattr(item, "__array__") or depth(item) != 1 for item in y):
        return True
    m = len(x) if hasattr(x, "__len__") else -1
    for_each, for_all = len(y) == n and all(len(item) == m for item in y), len(y) == m
    if for_each and for_all:
        raise ValueError(
            f"y may be {n} times labels ({m},) or one time targets ({m}, {m}): give a list of arrays for one for each "
            "model, or an array for one for all"
        )
    return not for_all


def each_pair(value: Any, n: int) -> list[Any]:
    """Return the validation data of each model, a pair or None; one for all is a tuple."""
    for i, pair in enumerate(value) if isinstance(value, list) else ():
        if pair is not None and not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise TypeError(
                f"validation_data[{i}] is not a pair, expected (X, y) or None for each model: one pair for all is a "
                "tuple"
            )
    return each("validation_data", value, n)


def each_path(checkpoint: Any, n: int) -> list[Any]:
    """Return the path of each model's checkpoint, or None; one for all holds its place."""
    path = os.fspath(checkpoint) if isinstance(checkpoint, os.PathLike) else checkpoint
    if not isinstance(path, str):
        return each("checkpoint", checkpoint, n)
    if n > 1 and "{model}" not in path:
        raise ValueError(
            f"checkpoint is {path!r} for {n} models: put {{model}} into it, the place of each, or give a list of paths"
        )
    return [path.replace("{model}", str(i)) for i in range(n)]


def each_optimizer(optimizer: Any, n: int) -> list[Any]:
    """Return the optimizer of each model: copies of one for all, which start afresh, or those in a list.

    Raises
    ------
    ValueError
        If an object is there twice.
    TypeError
        If one for all cannot be copied.
    """
    if isinstance(optimizer, list):
        objects = [(i, item) for i, item in enumerate(optimizer) if isinstance(item, Optimizer)]
        _each_once("optimizer", "is", objects)
        return each("optimizer", optimizer, n)
    if not isinstance(optimizer, Optimizer):
        return [optimizer] * n
    return [_copied("optimizer", optimizer, optimizer.afresh) for _ in range(n)]


def each_callbacks(callbacks: Any, n: int, shared: Sequence[Any]) -> list[tuple[Callback, ...]]:
    """Return the callbacks of each model: copies of those for all, plain functions apart, or those in a list of lists.

    Copies have ``shared`` in common.

    Raises
    ------
    ValueError
        If an object is there for two models, or the list has another length.
    TypeError
        If something is no callback, or one for all cannot be copied.
    """
    if isinstance(callbacks, list) and any(not callable(item) for item in callbacks):
        for i, item in enumerate(callbacks):
            if item is not None and (callable(item) or isinstance(item, str) or not isinstance(item, Iterable)):
                raise TypeError(
                    f"callbacks[{i}] is {item!r}, expected a list of functions for each model, or functions alone, for "
                    "all models"
                )
        lists = [numbered(check_callbacks(item), i, 1) for i, item in enumerate(each("callbacks", callbacks, n))]
        objects = [(i, item) for i, own in enumerate(lists) for item in own if not isinstance(item, _PLAIN)]
        _each_once("callbacks", "holds", objects)
        return lists
    given = check_callbacks(callbacks)
    copies = []
    for place in range(n):
        memo = {id(item): item for item in shared}
        own = tuple(
            _copied(f"callbacks[{i}]", callback, partial(copy.deepcopy, callback, memo))
            for i, callback in enumerate(given)
        )
        copies.append(numbered(own, place, n))
    return copies


def _each_once(name: str, verb: str, objects: Iterable[tuple[int, Any]]) -> None:
    """Raise ValueError if one of the objects is that of two models, whose places come with them."""
    owners: dict[int, int] = {}
    for place, item in objects:
        owner = owners.setdefault(id(item), place)
        if owner != place:
            raise ValueError(
                f"{name}[{place}] {verb} the object that {name}[{owner}] {verb} too, {item!r}: make one for each model"
            )


def _copied(name: str, item: Any, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:
        raise TypeError(
            f"{name} is {item!r}, which cannot be copied for each model ({error}): give a list with one for each"
        ) from error
