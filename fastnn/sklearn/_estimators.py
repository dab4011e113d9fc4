"""The two estimators."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn import neural_network
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer

from ..validation import Array
from ._callbacks import CallbackSupport
from ._conversion import in_class
from ._parameters import (
    CLASSIFIER_CONSTRAINTS,
    SHARED_CONSTRAINTS,
    Activation,
    Callback,
    ClassWeight,
    Dropout,
    LearningRate,
    Precision,
    Solver,
)
from ._perceptron import CompiledPerceptron
from ._signatures import extending


@extending(neural_network.MLPClassifier)
class MLPClassifier(CompiledPerceptron, CallbackSupport, neural_network.MLPClassifier):  # type: ignore[misc]
    """scikit-learn's MLPClassifier, several times faster, with the same answers for the same ``random_state``."""

    class_weight: Any
    label_smoothing: Any
    stratify: Any
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **neural_network.MLPClassifier._parameter_constraints,
        **CLASSIFIER_CONSTRAINTS,
    }

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] | Array = (100,),
        activation: Activation | Sequence[Activation] = "relu",
        *,
        solver: Solver = "adam",
        alpha: float = 0.0001,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: LearningRate = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        class_weight: ClassWeight | None = None,
        label_smoothing: float = 0.0,
        stratify: bool = False,
        dropout: Dropout = 0.0,
        dtype: Precision | None = None,
        callbacks: Sequence[Callback] | None = None,
        n_threads: int | None = None,
        optimizer: Literal["adamw"] | None = None,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
        layer_norm: bool = False,
        batch_norm: bool = False,
    ) -> None:
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.stratify = stratify
        self.dropout = dropout
        self.dtype = dtype
        self.callbacks = callbacks
        self.n_threads = n_threads
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.layer_norm = layer_norm
        self.batch_norm = batch_norm

    def to_sklearn(self) -> neural_network.MLPClassifier:
        """Return an ``sklearn.neural_network.MLPClassifier`` in the same state, which shares no array with this one.

        Parameters and fitted attributes are the same, so it predicts the same up to rounding, and ``partial_fit`` and
        a warm start go on from here. It does not call ``callbacks``, has no ``validation_loss_curve_``, and computes
        in the precision of what it is given.

        Raises
        ------
        ValueError
            If scikit-learn has no counterpart for the activations, or for what further training would do; the latter
            can be reset with ``set_params``.
        """
        return in_class(self, neural_network.MLPClassifier)

    def predict(self, X: Any) -> Array:
        """Return the labels (n_samples,), or the indicators (n_samples, n_classes) of several, for X."""
        kind = self._kind_of_labels()
        outputs = self._checked_outputs(X, scores=kind == "multiclass")
        if outputs is None:
            labels: Array = super().predict(X)
            return labels
        return self._labels(outputs, kind)

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
        return self._labels(self._forward_pass_fast(X, check_input=check_input), self._kind_of_labels())

    def _kind_of_labels(self) -> str:
        """Return the kind of labels if the binarizer is as scikit-learn makes it, '' if it alone knows the way."""
        binarizer: Any = getattr(self, "_label_binarizer", None)
        if type(binarizer) is not LabelBinarizer or binarizer.neg_label != 0 or binarizer.pos_label != 1:
            return ""
        return "" if binarizer.sparse_input_ else str(binarizer.y_type_)

    def _labels(self, outputs: Array, kind: str) -> Array:
        """Return what ``_label_binarizer.inverse_transform`` makes of the outputs (n, k)."""
        binarizer = self._label_binarizer
        if kind == "multiclass":
            return binarizer.classes_.take(outputs.argmax(axis=1), mode="clip")  # type: ignore[no-any-return]
        if kind == "binary":
            return binarizer.classes_.take(outputs[:, 0] > 0.5, mode="clip")  # type: ignore[no-any-return]
        labels: Array = binarizer.inverse_transform(outputs[:, 0] if self.n_outputs_ == 1 else outputs)
        return labels

    def _score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        if sample_weight is None and self._held_out is not None and X is self._held_out.x:
            sample_weight = self._held_out.sample_weight  # which scikit-learn 1.6 does not hand over
        labels = self._predict(X, check_input=False)
        if sample_weight is None and labels.ndim == 1 and type(y) is np.ndarray and y.shape == labels.shape:
            return float(np.mean(labels == y))
        return float(accuracy_score(y, labels, sample_weight=sample_weight))


@extending(neural_network.MLPRegressor)
class MLPRegressor(CompiledPerceptron, CallbackSupport, neural_network.MLPRegressor):  # type: ignore[misc]
    """scikit-learn's MLPRegressor, several times faster, with the same answers for the same ``random_state``."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **neural_network.MLPRegressor._parameter_constraints,
        **SHARED_CONSTRAINTS,
    }

    def __init__(
        self,
        loss: Literal["squared_error", "poisson"] = "squared_error",
        hidden_layer_sizes: int | Sequence[int] | Array = (100,),
        activation: Activation | Sequence[Activation] = "relu",
        *,
        solver: Solver = "adam",
        alpha: float = 0.0001,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: LearningRate = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Dropout = 0.0,
        dtype: Precision | None = None,
        callbacks: Sequence[Callback] | None = None,
        n_threads: int | None = None,
        optimizer: Literal["adamw"] | None = None,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
        layer_norm: bool = False,
        batch_norm: bool = False,
    ) -> None:
        self.dropout = dropout
        self.dtype = dtype
        self.callbacks = callbacks
        self.n_threads = n_threads
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.layer_norm = layer_norm
        self.batch_norm = batch_norm

    def to_sklearn(self) -> neural_network.MLPRegressor:
        """Return an ``sklearn.neural_network.MLPRegressor`` in the same state, which shares no array with this one.

        Parameters and fitted attributes are the same, so it predicts the same up to rounding, and ``partial_fit`` and
        a warm start go on from here. It does not call ``callbacks``, has no ``validation_loss_curve_``, and computes
        in the precision of what it is given.

        Raises
        ------
        ValueError
            If scikit-learn has no counterpart for the activations, or for what further training would do; the latter
            can be reset with ``set_params``.
        """
        return in_class(self, neural_network.MLPRegressor)

    def predict(self, X: Any) -> Array:
        """Return the values (n_samples,) or (n_samples, n_outputs) for X."""
        outputs = self._checked_outputs(X)
        if outputs is None:
            values: Array = super().predict(X)
            return values
        return outputs.ravel() if outputs.shape[1] == 1 else outputs
