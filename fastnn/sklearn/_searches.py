"""scikit-learn's searches, with the fits of fastnn's estimators trained together."""

from typing import Any

from sklearn import model_selection

from ._together import trained_together


class GridSearchCV(model_selection.GridSearchCV):
    def fit(self, X: Any, y: Any = None, **params: Any) -> Any:
        with trained_together(self.n_jobs, X, self.estimator, self.param_grid):
            return super().fit(X, y, **params)
