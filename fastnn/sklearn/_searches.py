"""scikit-learn's searches and cross-validations, with the fits of fastnn's estimators trained together."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from sklearn import model_selection

from ._documentation import searching, together
from ._kept import Kept
from ._parallel import trained_together
from ._signatures import as_installed, extending

Function = TypeVar("Function", bound=Callable[..., Any])


class Search:
    """The mixin before a class of scikit-learn's whose fits are trained together, and kept in a folder if asked for."""

    checkpoint: Any
    estimator: Any
    n_jobs: Any
    _tried: tuple[str, ...] = ("param_grid", "param_distributions")

    @as_installed(model_selection.GridSearchCV.fit)
    def fit(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit all candidates to all splits, and then the best one to X and y: as scikit-learn does, but together."""
        tried = [getattr(self, name) for name in self._tried if hasattr(self, name)]
        kept = None if self.checkpoint is None else Kept(self.checkpoint, X, y)
        with trained_together(self.n_jobs, X, self.estimator, tried, kept=kept):
            return super().fit(X, y, **params)  # type: ignore[misc]


@extending(model_selection.GridSearchCV, searching)
class GridSearchCV(Search, model_selection.GridSearchCV):  # type: ignore[misc]
    """scikit-learn's GridSearchCV, with the fits of fastnn's estimators trained together."""

    def __init__(self, *, checkpoint: Any = None) -> None:
        self.checkpoint = checkpoint


@extending(model_selection.RandomizedSearchCV, searching)
class RandomizedSearchCV(Search, model_selection.RandomizedSearchCV):  # type: ignore[misc]
    """scikit-learn's RandomizedSearchCV, with the fits of fastnn's estimators trained together."""

    def __init__(self, *, checkpoint: Any = None) -> None:
        self.checkpoint = checkpoint


def _extended(theirs: Function) -> Function:
    """Return a function of scikit-learn's that has its fits trained together."""
    signature = inspect.signature(theirs)

    @functools.wraps(theirs)
    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return theirs(*args, **kwargs)  # which says what is wrong
        tried = {str(given["param_name"]): given.get("param_range")} if "param_name" in given else {}
        with trained_together(given.get("n_jobs"), given.get("X"), given.get("estimator"), tried):
            return theirs(*args, **kwargs)

    function.__module__ = __name__
    function.__doc__ = f"scikit-learn's {theirs.__name__}, with the fits of fastnn's estimators trained together."
    return together(theirs)(function)  # type: ignore[return-value]


cross_validate = _extended(model_selection.cross_validate)
cross_val_score = _extended(model_selection.cross_val_score)
cross_val_predict = _extended(model_selection.cross_val_predict)
validation_curve = _extended(model_selection.validation_curve)
learning_curve = _extended(model_selection.learning_curve)
