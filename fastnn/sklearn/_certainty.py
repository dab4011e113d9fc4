"""Of which transformers it is certain that equal ones give equal results, and leave the samples as they are."""

import sys
from collections.abc import Hashable
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.decomposition import FastICA
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from ._perceptron import CompiledPerceptron

_ROOMS = (
    "compose",
    "decomposition",
    "feature_extraction",
    "feature_selection",
    "impute",
    "kernel_approximation",
    "pipeline",
    "preprocessing",
    "random_projection",
)
# They call functions of the user's, or may write into their samples whatever they are told.
_UNKNOWN = (FastICA, FunctionTransformer)
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))
_MOST_BYTES = 1 << 20


class Uncertain(Exception):
    """What an object would do cannot be told from its parameters."""


def leaves_samples_alone(estimator: Any) -> bool:
    """Whether an estimator is one of fastnn's, or a Pipeline that ends in one, and writes into no samples."""
    if isinstance(estimator, CompiledPerceptron):
        return type(estimator).__module__.startswith("fastnn.")
    return ends_in_ours(estimator) and all(
        step in (None, "passthrough") or _is_known(step) for step in _steps(estimator)
    )


def ends_in_ours(estimator: Any) -> bool:
    """Whether an estimator is scikit-learn's Pipeline with one of fastnn's estimators at its end."""
    if type(estimator) is not Pipeline or not isinstance(estimator.steps, list) or not estimator.steps:
        return False
    last = estimator.steps[-1]
    return isinstance(last, tuple) and isinstance(last[-1], CompiledPerceptron)


def recipe(transformer: Any) -> Hashable:
    """Return a key that is equal for transformers that do the same.

    Raises
    ------
    Uncertain
        If a transformer is not of scikit-learn's or draws random numbers, or a parameter is of an unknown kind.
    """
    if not _is_of_theirs(transformer):
        raise Uncertain
    state = vars(transformer)
    if "random_state" in state and type(state["random_state"]) is not int:
        raise Uncertain
    return type(transformer), tuple((name, frozen(state[name])) for name in sorted(state))


def frozen(value: Any) -> Hashable:
    """Return a key that is equal for equal values.

    Raises
    ------
    Uncertain
        If that cannot be told.
    """
    kind = type(value)
    if kind in _PLAIN or isinstance(value, np.generic):
        return kind, repr(value)
    if kind in (list, tuple):
        return kind, tuple(map(frozen, value))
    if isinstance(value, dict):
        return kind, tuple((frozen(name), frozen(item)) for name, item in value.items())
    if kind is slice:
        return kind, tuple(map(frozen, (value.start, value.stop, value.step)))
    if kind is np.ndarray and value.dtype.kind in "biufcSU" and value.nbytes <= _MOST_BYTES:
        return kind, value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, BaseEstimator):
        return recipe(value)
    if isinstance(value, type | FunctionType | BuiltinFunctionType | np.ufunc) and _is_of_libraries(value):
        return kind, value
    raise Uncertain


def _steps(pipeline: Any) -> list[Any]:
    return [step[1] if isinstance(step, tuple) and len(step) == 2 else step for step in pipeline.steps[:-1]]


def _is_known(transformer: Any) -> bool:
    """Whether a transformer, with those within it, is one of scikit-learn's that copies what it changes."""
    if not _is_of_theirs(transformer):
        return False
    for name, value in transformer.get_params(deep=True).items():
        if name.rpartition("__")[2].startswith("copy") and value is not True:
            return False
        if hasattr(value, "fit") and not _is_of_theirs(value):
            return False
    return True


def _is_of_theirs(transformer: Any) -> bool:
    library, _, room = type(transformer).__module__.partition(".")
    return library == "sklearn" and room.partition(".")[0] in _ROOMS and not isinstance(transformer, _UNKNOWN)


def _is_of_libraries(value: Any) -> bool:
    """Whether a function or class stands under its name in a module of NumPy's, SciPy's or scikit-learn's."""
    module = getattr(value, "__module__", None) or "numpy"
    if module.partition(".")[0] not in ("numpy", "scipy", "sklearn", "builtins"):
        return False
    return getattr(sys.modules.get(module), value.__name__, None) is value
