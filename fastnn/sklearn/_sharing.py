"""What the tasks of a search have in common: the training samples of a split, and transformers fitted to them.

scikit-learn takes the samples of a split, and fits the transformers of a Pipeline, for each candidate anew. Its own
functions run here with a memory in the two places that they have for one: the function that splits, and the ``memory``
of a Pipeline. Both are used only where it is certain that the result is the same; nobody can write into it.
"""

import copy
import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.model_selection import _validation as theirs
from sklearn.utils import get_tags

from ..training.gathering import current
from ..training.memory import Memory
from ._certainty import Uncertain, ends_in_ours, frozen, leaves_samples_alone, recipe
from ._kept import Kept


def share(calls: list[Any], kept: Kept | None) -> None:
    """Have those among scikit-learn's calls that fit and score share what they can in a gathering, and be kept."""
    for function, _, _ in calls:
        if getattr(function, "function", None) is theirs._fit_and_score:
            function.function = _fit_and_score if kept is None else functools.partial(_found_or_made, kept)


def _found_or_made(kept: Kept, estimator: Any, X: Any, y: Any, **settings: Any) -> Any:
    return kept.make(_fit_and_score, estimator, X, y, settings)


def _fit_and_score(estimator: Any, *args: Any, **kwargs: Any) -> Any:
    """scikit-learn's own function, where another one splits the samples."""
    function = theirs._fit_and_score
    bound = FunctionType(
        function.__code__,
        {**function.__globals__, "_safe_split": _split},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    bound.__kwdefaults__ = function.__kwdefaults__
    try:
        return bound(estimator, *args, **kwargs)
    finally:
        if isinstance(vars(estimator).get("memory"), _Prefixes):
            estimator.memory = None  # a fit that came to nothing


def _split(estimator: Any, X: Any, y: Any, indices: Any, train_indices: Any = None) -> Any:
    """Return the samples at some indices: the same arrays for all candidates, if they are to be trained on."""
    gathering = current()
    if gathering is None or train_indices is not None or not leaves_samples_alone(estimator):
        return theirs._safe_split(estimator, X, y, indices, train_indices)
    if get_tags(estimator).input_tags.pairwise:
        return theirs._safe_split(estimator, X, y, indices, train_indices)
    if ends_in_ours(estimator) and estimator.memory is None:
        estimator.memory = _Prefixes(gathering.memory, estimator)
    parts, _ = gathering.memory.get(
        "split", (X, y, indices), lambda: _protected(theirs._safe_split(estimator, X, y, indices))
    )
    return parts


def _protected(results: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return results whose arrays nobody can write into."""
    for result in results:
        if type(result) is np.ndarray:
            result.flags.writeable = False
    return results


class _Prefixes:
    """A ``memory`` for one fit of a Pipeline, with the fitted transformers of a gathering.

    ``location`` is None as for scikit-learn's own that remembers nothing: the transformers are not cloned.
    """

    location = None

    def __init__(self, memory: Memory, pipeline: Any) -> None:
        self._memory, self._pipeline = memory, pipeline

    def cache(self, function: Callable[..., Any], **kwargs: Any) -> Callable[..., Any]:
        """Return what fits a transformer, or knows the result; from now on the Pipeline is as it was."""
        self._pipeline.memory = None

        def fit_transform(transformer: Any, X: Any, y: Any, weight: Any = None, **rest: Any) -> Any:
            def fit() -> tuple[Any, ...]:
                return _protected(function(transformer, X, y, weight, **rest))

            context = rest.get("callback_ctx")
            if weight is not None or rest.get("message") is not None or getattr(context, "_callbacks", None):
                return function(transformer, X, y, weight, **rest)
            try:
                what = "prefix", recipe(transformer), frozen(rest.get("params")), frozen(get_config())
            except Uncertain:
                return function(transformer, X, y, weight, **rest)
            (transformed, fitted), is_known = self._memory.get(what, (X, y), fit)
            return transformed, copy.deepcopy(fitted) if is_known else fitted

        return fit_transform
