"""The samples that judge training between epochs: a share of the training set, or the user's own."""

from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.neural_network._base import LOSS_FUNCTIONS
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import validate_data

from ..validation import Array


class Validation:
    """Samples with what is known of them, and what the network makes of them at the moment.

    Parameters
    ----------
    x : ndarray or sparse matrix (n, d)
    truth : ndarray
        Labels as the estimator predicts them, or values (n,) or (n, k).
    targets : ndarray (n, k)
        Indicators of the classes, or values.
    sample_weight : ndarray (n,) or None
    """

    def __init__(self, x: Any, truth: Array, targets: Array, sample_weight: Array | None = None) -> None:
        self.x, self.truth, self.targets, self.sample_weight = x, truth, targets, sample_weight
        self.outputs: Array = np.empty(0)

    def refresh(self, mlp: Any) -> None:
        """Compute the outputs of the network as it is now."""
        self.outputs = mlp._forward_pass_fast(self.x, check_input=False)

    def loss(self, mlp: Any) -> float:
        """Return the mean loss of the last outputs, as scikit-learn counts it, without penalty and smoothing."""
        name = "binary_log_loss" if mlp.out_activation_ == "logistic" else mlp.loss
        with np.errstate(all="ignore"):
            return float(LOSS_FUNCTIONS[name](self.targets, self.outputs))


def check_numbers(name: str, y: Array) -> None:
    """Raise the TypeError that scikit-learn comes to where targets are no numbers."""
    if y.dtype.kind not in "biuf":
        raise TypeError(f"{name} holds {y.dtype}, expected numbers: use {name}.astype(float)")


def of_user(mlp: Any, validation_data: Any, n_outputs: int) -> Validation:
    """Return the checked ``validation_data`` of a call of fit, whose own X and y, with n_outputs, were checked before.

    Raises
    ------
    TypeError
        If it is no pair.
    ValueError
        If X or y would be refused in training, or do not fit the training set.
    """
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
        kind = type(validation_data).__name__
        got = f"a {kind} of {len(validation_data)}" if isinstance(validation_data, (tuple, list)) else kind
        raise TypeError(f"validation_data is {got}, expected a pair (X, y)")
    x, y = validation_data
    try:
        x, y = validate_data(
            mlp,
            x,
            y,
            accept_sparse=["csr", "csc"],
            dtype=(np.float64, np.float32),
            multi_output=True,
            y_numeric=not is_classifier(mlp),
            reset=False,
        )
        if not is_classifier(mlp):
            check_numbers("y of validation_data", y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y.ravel()
        targets = _indicators(mlp, y) if is_classifier(mlp) else y.reshape(len(y), -1)
    except ValueError as error:
        raise ValueError(f"validation_data: {error}") from error
    if targets.shape[1] != n_outputs:
        raise ValueError(f"validation_data: y has {targets.shape[1]} outputs, but {n_outputs} are trained")
    truth = mlp._label_binarizer.inverse_transform(targets) if is_classifier(mlp) else targets
    return Validation(mlp._in_dtype(x), truth, targets)


def _indicators(mlp: Any, y: Array) -> Array:
    unknown = np.setdiff1d(unique_labels(y), mlp.classes_)
    if len(unknown):
        raise ValueError(f"y holds label {unknown.tolist()[0]!r}, but training has the classes {mlp.classes_}")
    indicators: Array = mlp._label_binarizer.transform(y)
    return indicators
