"""The samples that judge training between epochs: a share of the training set, or the user's own."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.base import is_classifier
from sklearn.neural_network._base import LOSS_FUNCTIONS
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import validate_data

from ..validation import Array
from ._objective import name_of_loss


class Validation:
    """Samples that judge training, with what is known of them.

    Parameters
    ----------
    x : ndarray or sparse matrix (n, d)
    truth : ndarray
        Labels as the estimator predicts them, or values (n, k).
    targets : ndarray (n, k)
        Indicators of the classes, or values.
    sample_weight : ndarray (n,) or None

    Attributes
    ----------
    outputs : ndarray (n, k) or None
        What the network makes of the samples at the moment, as far as that is known.
    """

    def __init__(self, x: Any, truth: Array, targets: Array, sample_weight: Array | None = None) -> None:
        self.x, self.truth, self.targets, self.sample_weight = x, truth, targets, sample_weight
        self.outputs: Array | None = None

    def loss(self, mlp: Any) -> float:
        """Compute the outputs, and return their mean loss as scikit-learn counts it, without penalty and smoothing."""
        self.outputs = mlp._forward_pass_fast(self.x, check_input=False)
        with np.errstate(all="ignore"):
            return float(LOSS_FUNCTIONS[name_of_loss(mlp)](self.targets, self.outputs))


def check_numbers(name: str, y: Array) -> None:
    """Raise the TypeError that scikit-learn comes to where targets are no numbers."""
    if y.dtype.kind not in "biuf":
        raise TypeError(f"{name} holds {y.dtype}, expected numbers: use {name}.astype(float)")


class Given(NamedTuple):
    """A validation set as it was handed to ``fit``, and how messages call it."""

    x: Any
    y: Any
    name: str
    name_of_y: str


def given(validation_data: Any, X_val: Any, y_val: Any) -> Given | None:
    """Return the validation set that ``fit`` was handed, as a pair or in two parts, or None.

    Raises
    ------
    TypeError
        If ``validation_data`` is no pair.
    ValueError
        If both came, or a part without the other.
    """
    came = [name for name, part in (("X_val", X_val), ("y_val", y_val)) if part is not None]
    if validation_data is not None:
        if came:
            raise ValueError(f"validation_data and {came[0]} came at once: pass validation_data, or X_val with y_val")
        return Given(*_pair(validation_data), "validation_data", "y of validation_data")
    if len(came) == 1:
        missing = "y_val" if came == ["X_val"] else "X_val"
        raise ValueError(f"{came[0]} came without {missing}: pass both, or neither")
    return Given(X_val, y_val, "X_val with y_val", "y_val") if came else None


def _pair(validation_data: Any) -> tuple[Any, Any]:
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
        kind = type(validation_data).__name__
        got = f"a {kind} of {len(validation_data)}" if isinstance(validation_data, (tuple, list)) else kind
        raise TypeError(f"validation_data is {got}, expected a pair (X, y)")
    x, y = validation_data
    return x, y


def of_user(mlp: Any, given: Given, n_outputs: int) -> Validation:
    """Return the checked validation set of a call of fit, whose own X and y, with n_outputs, were checked before.

    Raises
    ------
    ValueError
        If X or y would be refused in training, or do not fit the training set.
    """
    try:
        x, y = validate_data(
            mlp,
            given.x,
            given.y,
            accept_sparse=["csr", "csc"],
            dtype=(np.float64, np.float32),
            multi_output=True,
            y_numeric=not is_classifier(mlp),
            reset=False,
        )
        if not is_classifier(mlp):
            check_numbers(given.name_of_y, y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y.ravel()
        targets = _indicators(mlp, y) if is_classifier(mlp) else y.reshape(len(y), -1)
    except ValueError as error:
        raise ValueError(f"{given.name}: {error}") from error
    if targets.shape[1] != n_outputs:
        raise ValueError(f"{given.name}: y has {targets.shape[1]} outputs, but {n_outputs} are trained")
    truth = mlp._label_binarizer.inverse_transform(targets) if is_classifier(mlp) else targets
    return Validation(mlp._in_dtype(x), truth, targets)


def _indicators(mlp: Any, y: Array) -> Array:
    unknown = np.setdiff1d(unique_labels(y), mlp.classes_)
    if len(unknown):
        raise ValueError(f"y holds label {unknown.tolist()[0]!r}, but training has the classes {mlp.classes_}")
    indicators: Array = mlp._label_binarizer.transform(y)
    return indicators
