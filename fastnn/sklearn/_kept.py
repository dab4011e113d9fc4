"""The fits of a search, each kept in a file of one folder: the same search, run again, makes those that are missing."""

import os
import pickle
import sys
import warnings
from typing import Any

import joblib
import numpy as np
import sklearn

from ..training import state
from ..training.resuming import path_of

_KIND = "a fit of a search"
_FORMAT = 1
# What a fit is told that changes nothing about its result.
_TOLD = ("verbose", "split_progress", "candidate_progress", "caller", "callback_ctx")


class Kept:
    """A folder of fits, each under a digest of all that its scores depend on: samples, parameters, split, scorers.

    Parameters
    ----------
    folder : path
        It is made if it is not there.
    X, y : the samples of the search

    Raises
    ------
    ValueError, TypeError
        If the folder is none, or the samples cannot be told from others.
    """

    def __init__(self, folder: Any, X: Any, y: Any) -> None:
        path = path_of(folder)
        self._folder = os.path.abspath(path)
        if os.path.exists(path) and not os.path.isdir(path):
            raise ValueError(f"checkpoint is {path!r}, which is a file: give a folder, that holds a file for each fit")
        os.makedirs(self._folder, exist_ok=True)
        versions = [sys.modules["fastnn"].__version__, sklearn.__version__, np.__version__]
        self._samples = _digest((versions, X, y), "the samples")

    def make(self, function: Any, estimator: Any, X: Any, y: Any, settings: dict[str, Any]) -> Any:
        """Return what scikit-learn's function returns for a fit, called or found in the folder."""
        known = {name: value for name, value in settings.items() if name not in _TOLD}
        name = _digest((self._samples, estimator, known), f"{estimator!r}, its parameters and scorers")
        path = os.path.join(self._folder, f"{name}.npz")
        try:
            found = state.read(path, _KIND)
            if found["format"] == _FORMAT:
                return found["result"]
        except FileNotFoundError:
            pass
        except ValueError as error:
            warnings.warn(f"checkpoint: {error}; this fit is made again", stacklevel=2)
        result = function(estimator, X, y, **settings)
        if result.get("fit_error") is None:
            state.write(path, _KIND, {"format": _FORMAT, "result": result})
        return result


def _digest(value: Any, what: str) -> str:
    try:
        return str(joblib.hash(value, hash_name="sha1"))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ValueError(
            f"checkpoint: {what} cannot be told from others, since they cannot be pickled ({error}): functions must be "
            "found in a module"
        ) from None
