"""Which estimators, searched or bagged, have epochs that can be trained together."""

from collections.abc import Iterable, Mapping
from typing import Any

from ._perceptron import CompiledPerceptron


def trains_by_epochs(searched: Any) -> bool:
    """Return whether an object, or one within it, is an estimator of fastnn's that may train by SGD or Adam.

    It looks into containers, and into estimators as far as ``get_params`` reaches.
    """
    found = list(_perceptrons(searched, 0))
    return any(mlp.solver != "lbfgs" for mlp in found) or (bool(found) and _names_solver(searched))


def _perceptrons(obj: Any, depth: int) -> Iterable[Any]:
    if isinstance(obj, CompiledPerceptron):
        yield obj
    elif isinstance(obj, Mapping):
        for value in obj.values():
            yield from _perceptrons(value, depth)
    elif isinstance(obj, list | tuple) and depth < 4:
        for value in obj:
            yield from _perceptrons(value, depth + 1)
    elif hasattr(obj, "get_params") and not isinstance(obj, type):
        for value in obj.get_params(deep=True).values():
            if isinstance(value, CompiledPerceptron):
                yield value


def _names_solver(obj: Any) -> bool:
    """Whether settings to be tried, dicts or lists of them, are for a solver too."""
    if isinstance(obj, Mapping):
        return any(str(name).rpartition("__")[2] == "solver" for name in obj)
    return isinstance(obj, list | tuple) and any(map(_names_solver, obj))
