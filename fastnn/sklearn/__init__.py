"""scikit-learn's neural networks at compiled speed: the same classes, answers and errors, from one changed import.

``from fastnn.sklearn import MLPClassifier, MLPRegressor`` needs the extra: ``pip install 'fastnn[sklearn]'``. So do the
searches, cross-validations and ensembles, which train many of them together; they are imported when they are used.
"""

from typing import TYPE_CHECKING

try:
    import sklearn as _sklearn
except ImportError as error:
    raise ImportError("fastnn.sklearn needs scikit-learn 1.6 or later: pip install 'fastnn[sklearn]'") from error

if tuple(int(part) for part in _sklearn.__version__.split(".")[:2]) < (1, 6):
    raise ImportError(
        f"fastnn.sklearn needs scikit-learn 1.6 or later, but {_sklearn.__version__} is installed: "
        "pip install -U 'fastnn[sklearn]'"
    )

from ..libraries import on_demand
from ._estimators import MLPClassifier, MLPRegressor

if TYPE_CHECKING:
    from ._bagging import BaggingClassifier, BaggingRegressor
    from ._halving import HalvingGridSearchCV, HalvingRandomSearchCV
    from ._searches import (
        GridSearchCV,
        RandomizedSearchCV,
        cross_val_predict,
        cross_val_score,
        cross_validate,
        learning_curve,
        validation_curve,
    )

_MODULES = {
    "_bagging": ("BaggingClassifier", "BaggingRegressor"),
    "_halving": ("HalvingGridSearchCV", "HalvingRandomSearchCV"),
    "_searches": (
        "GridSearchCV",
        "RandomizedSearchCV",
        "cross_val_predict",
        "cross_val_score",
        "cross_validate",
        "learning_curve",
        "validation_curve",
    ),
}

__all__ = [
    "BaggingClassifier",
    "BaggingRegressor",
    "GridSearchCV",
    "HalvingGridSearchCV",
    "HalvingRandomSearchCV",
    "MLPClassifier",
    "MLPRegressor",
    "RandomizedSearchCV",
    "cross_val_predict",
    "cross_val_score",
    "cross_validate",
    "learning_curve",
    "validation_curve",
]

__getattr__, __dir__ = on_demand(globals(), _MODULES)
