"""The two estimators."""

from typing import Any, ClassVar

import numpy as np
from sklearn import neural_network
from sklearn.metrics import accuracy_score, r2_score

from ..validation import Array
from ._parameters import (
    CLASSIFIER_CONSTRAINTS,
    CLASSIFIER_DEFAULTS,
    SHARED_CONSTRAINTS,
    SHARED_DEFAULTS,
    constructor,
)
from ._perceptron import CompiledPerceptron
from ._validation import Validation


class MLPClassifier(CompiledPerceptron, neural_network.MLPClassifier):  # type: ignore[misc]
    """scikit-learn's MLPClassifier, several times faster, with the same answers for the same ``random_state``.

    Every parameter, attribute and method of ``sklearn.neural_network.MLPClassifier`` is here too.

    Parameters
    ----------
    activation : str, or sequence of str with one for each hidden layer
        'identity', 'logistic', 'tanh', 'relu' or 'leaky_relu', whose slope for negative inputs is 0.01.
    class_weight : dict, 'balanced', list of dicts, default None
        The weight of each class, which multiplies that of its samples; a list for several labels a sample. It weighs
        in the share of them that early stopping sets aside too, but not in ``validation_data``.
    label_smoothing : float in [0, 1), default 0
        The share of every target that is spread evenly over the classes in training.
    stratify : bool, default False
        Whether early stopping sets aside the same share of every class also when there are more than two.
    dropout : float in [0, 1), or sequence with one for each hidden layer, default 0
        The share of units that are dropped in training.
    dtype : 'float32', 'float64', default None
        The precision to compute in; None for that of X, as in scikit-learn.
    callbacks : sequence of functions, default None
        Called as ``callback(estimator, epoch, values)`` after every epoch, the first of which is 1; ``values`` has
        "loss" and, where they are known, "validation_loss" and "validation_score". One that returns True stops
        training.
    n_threads : int, default None
        The most threads that this estimator uses; None for what ``fastnn.set_num_threads`` says.

    Attributes
    ----------
    validation_loss_curve_ : list of float
        The loss of ``validation_data`` after every epoch, without penalty and smoothing, if ``fit`` got any.

    Raises
    ------
    sklearn.utils._param_validation.InvalidParameterError
        In ``fit``, if a parameter is not of its kind or out of its range.
    ValueError
        In ``fit``, if parameters do not fit together.

    Notes
    -----
    Dropout is that of N. Srivastava et al., JMLR 15, 2014, scaled in training; label smoothing that of C. Szegedy et
    al., Rethinking the Inception architecture for computer vision, 2016, section 7.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **neural_network.MLPClassifier._parameter_constraints,
        **CLASSIFIER_CONSTRAINTS,
    }
    __init__ = constructor(neural_network.MLPClassifier, CLASSIFIER_DEFAULTS)

    def predict(self, X: Any) -> Array:
        """Return the labels (n_samples,), or the indicators (n_samples, n_classes) of several, for X."""
        outputs = self._checked_outputs(X, scores=True)
        if outputs is None:
            labels: Array = super().predict(X)
            return labels
        return self._labels(outputs)

    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities (n_samples, n_classes) for X, in the order of ``classes_``."""
        outputs = self._checked_outputs(X)
        if outputs is None:
            probabilities: Array = super().predict_proba(X)
            return probabilities
        if self.n_outputs_ > 1:
            return outputs
        both = np.empty((2, len(outputs)), outputs.dtype)
        np.subtract(1, outputs[:, 0], out=both[0])
        both[1] = outputs[:, 0]
        return both.T

    def _predict(self, X: Any, check_input: bool = True) -> Array:
        return self._labels(self._forward_pass_fast(X, check_input=check_input))

    def _labels(self, outputs: Array) -> Array:
        """Return what ``_label_binarizer.inverse_transform`` makes of the outputs (n, k)."""
        binarizer, classes = self._label_binarizer, self.classes_
        if not binarizer.sparse_input_ and len(classes) > 1:
            if binarizer.y_type_ == "multiclass":
                return classes[outputs.argmax(axis=1)]  # type: ignore[no-any-return]
            if binarizer.y_type_ == "binary":
                return classes[(outputs[:, 0] > 0.5).astype(np.intp)]  # type: ignore[no-any-return]
        labels: Array = binarizer.inverse_transform(outputs[:, 0] if self.n_outputs_ == 1 else outputs)
        return labels

    def _score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        if not isinstance(X, Validation):
            score: float = super()._score(X, y, sample_weight)
            return score
        labels = self._labels(X.outputs)
        if labels.ndim == 1 and X.sample_weight is None:
            return float(np.mean(labels == X.truth))
        return float(accuracy_score(X.truth, labels, sample_weight=X.sample_weight))


class MLPRegressor(CompiledPerceptron, neural_network.MLPRegressor):  # type: ignore[misc]
    """scikit-learn's MLPRegressor, several times faster, with the same answers for the same ``random_state``.

    Every parameter, attribute and method of ``sklearn.neural_network.MLPRegressor`` is here too.

    Parameters
    ----------
    activation : str, or sequence of str with one for each hidden layer
        'identity', 'logistic', 'tanh', 'relu' or 'leaky_relu', whose slope for negative inputs is 0.01.
    dropout : float in [0, 1), or sequence with one for each hidden layer, default 0
        The share of units that are dropped in training.
    dtype : 'float32', 'float64', default None
        The precision to compute in; None for that of X, as in scikit-learn.
    callbacks : sequence of functions, default None
        Called as ``callback(estimator, epoch, values)`` after every epoch, the first of which is 1; ``values`` has
        "loss" and, where they are known, "validation_loss" and "validation_score". One that returns True stops
        training.
    n_threads : int, default None
        The most threads that this estimator uses; None for what ``fastnn.set_num_threads`` says.

    Attributes
    ----------
    validation_loss_curve_ : list of float
        The loss of ``validation_data`` after every epoch, without penalty, if ``fit`` got any.

    Raises
    ------
    sklearn.utils._param_validation.InvalidParameterError
        In ``fit``, if a parameter is not of its kind or out of its range.
    ValueError
        In ``fit``, if parameters do not fit together.

    Notes
    -----
    Dropout is that of N. Srivastava et al., JMLR 15, 2014, scaled in training.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **neural_network.MLPRegressor._parameter_constraints,
        **SHARED_CONSTRAINTS,
    }
    __init__ = constructor(neural_network.MLPRegressor, SHARED_DEFAULTS)

    def predict(self, X: Any) -> Array:
        """Return the values (n_samples,) or (n_samples, n_outputs) for X."""
        outputs = self._checked_outputs(X)
        if outputs is None:
            values: Array = super().predict(X)
            return values
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        if not isinstance(X, Validation):
            score: float = super()._score(X, y, sample_weight)
            return score
        if not np.isfinite(X.outputs).all():
            return np.nan
        predicted = X.outputs.ravel() if X.outputs.shape[1] == 1 else X.outputs
        return float(r2_score(X.truth, predicted, sample_weight=X.sample_weight))
