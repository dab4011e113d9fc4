"""scikit-learn's halving searches, which it has for trial, with the fits of fastnn's estimators trained together."""

from typing import Any

from sklearn.experimental import enable_halving_search_cv  # noqa: F401  isort: skip
from sklearn import model_selection

from ._documentation import searching
from ._searches import Search
from ._signatures import extending


@extending(model_selection.HalvingGridSearchCV, searching)
class HalvingGridSearchCV(Search, model_selection.HalvingGridSearchCV):  # type: ignore[misc]
    """scikit-learn's HalvingGridSearchCV, with the fits of fastnn's estimators trained together in each round."""

    def __init__(self, *, checkpoint: Any = None) -> None:
        self.checkpoint = checkpoint


@extending(model_selection.HalvingRandomSearchCV, searching)
class HalvingRandomSearchCV(Search, model_selection.HalvingRandomSearchCV):  # type: ignore[misc]
    """scikit-learn's HalvingRandomSearchCV, with the fits of fastnn's estimators trained together in each round."""

    def __init__(self, *, checkpoint: Any = None) -> None:
        self.checkpoint = checkpoint
