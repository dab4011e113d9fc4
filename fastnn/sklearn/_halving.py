"""scikit-learn's halving searches, which it has for trial, with the fits of fastnn's estimators trained together."""

from sklearn.experimental import enable_halving_search_cv  # noqa: F401  isort: skip
from sklearn import model_selection

from ._documentation import together
from ._searches import Search


@together(model_selection.HalvingGridSearchCV)
class HalvingGridSearchCV(Search, model_selection.HalvingGridSearchCV):  # type: ignore[misc]
    """scikit-learn's HalvingGridSearchCV, with the fits of fastnn's estimators trained together in each round."""


@together(model_selection.HalvingRandomSearchCV)
class HalvingRandomSearchCV(Search, model_selection.HalvingRandomSearchCV):  # type: ignore[misc]
    """scikit-learn's HalvingRandomSearchCV, with the fits of fastnn's estimators trained together in each round."""
