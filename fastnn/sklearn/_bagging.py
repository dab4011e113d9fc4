"""scikit-learn's ensembles of equal estimators, with members of fastnn's trained together."""

import warnings
from typing import Any

from sklearn import ensemble

from ._documentation import together
from ._ours import trains_by_epochs
from ._parallel import trained_together
from ._signatures import as_installed


class Bagging:
    """The mixin before a class of scikit-learn's whose members are trained together."""

    estimator: Any
    n_jobs: Any

    @as_installed(ensemble.BaggingClassifier.fit)
    def fit(self, X: Any, y: Any, *args: Any, **kwargs: Any) -> Any:
        """Fit all members to the samples drawn for each: as scikit-learn does, but together."""
        n_jobs = self.n_jobs
        with trained_together(n_jobs, X, self.estimator):
            try:
                if n_jobs == 1 and trains_by_epochs(self.estimator):
                    self.n_jobs = None  # joblib has one job do everything, one after the other, for a 1 itself
                return super().fit(X, y, *args, **kwargs)  # type: ignore[misc]
            finally:
                self.n_jobs = n_jobs

    def _parallel_args(self) -> dict[str, Any]:
        # Kernels run outside the GIL, so that threads predict as fast as processes.
        return {"prefer": "threads"} if trains_by_epochs(self.estimator) else {}


@together(ensemble.BaggingClassifier)
class BaggingClassifier(Bagging, ensemble.BaggingClassifier):  # type: ignore[misc]
    """scikit-learn's BaggingClassifier, with members of fastnn's trained together.

    ``BaggingClassifier(MLPClassifier(), bootstrap=False)`` is a deep ensemble: all members train on all samples, each
    from weights of its own and in an order of its own (Lakshminarayanan, Pritzel and Blundell, 2017).
    """

    @as_installed(ensemble.BaggingClassifier.predict_proba)
    def predict_proba(self, X: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the mean of the members' probabilities, (m, classes): as scikit-learn does, but in threads."""
        # Each of scikit-learn's threads sets the filters of warnings and puts back those that it found, which may be
        # another's: theirs are copies.
        with warnings.catch_warnings():
            return super().predict_proba(X, *args, **kwargs)


@together(ensemble.BaggingRegressor)
class BaggingRegressor(Bagging, ensemble.BaggingRegressor):  # type: ignore[misc]
    """scikit-learn's BaggingRegressor, with members of fastnn's trained together.

    ``BaggingRegressor(MLPRegressor(), bootstrap=False)`` is a deep ensemble: all members train on all samples, each
    from weights of its own and in an order of its own (Lakshminarayanan, Pritzel and Blundell, 2017).
    """
