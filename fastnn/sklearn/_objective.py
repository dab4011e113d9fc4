"""What scikit-learn's perceptrons minimise, in the terms of the compiled epoch."""

import math
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from ..nn.lowering import Objective, Reduction
from ..validation import FLOAT32, Array, DType

_LOSSES = {
    ("log_loss", "softmax"): "cross_entropy",
    ("log_loss", "logistic"): "bounded_binary_cross_entropy",
    ("squared_error", "identity"): "squared_error",
    ("poisson", "exp"): "poisson_deviance",
}


class Task(NamedTuple):
    """The targets as the kernels take them, and what is minimised.

    ``outputs`` are the k of y (n, k). ``undefined`` says that the loss is NaN whatever the network computes, as the
    Poisson loss of negative counts; ``number`` is the type in which scikit-learn counts losses, float32 only where
    float32 values are fitted.
    """

    targets: Array
    outputs: int
    objective: Objective
    undefined: bool
    number: type[np.floating[Any]]


def loss_of(mlp: Any) -> str | None:
    """Return the kernels' name of the loss behind the outputs, or None where they have none."""
    return _LOSSES.get((mlp.loss, mlp.out_activation_))


def name_of_loss(mlp: Any) -> str:
    """Return the key of the loss in scikit-learn's table."""
    binary = mlp.loss == "log_loss" and mlp.out_activation_ == "logistic"
    return "binary_log_loss" if binary else str(mlp.loss)


def has_one_label(y: Array) -> bool:
    """Return whether every row of y (n, k) holds a single 1 and else 0."""
    return np.count_nonzero(y) == len(y) and bool((y[np.arange(len(y)), y.argmax(axis=1)] == 1).all())


def task(mlp: Any, y: Array, dtype: DType, *, penalty: float, per_batch: bool) -> Task:
    """Return the task of training on y (n, k), with scikit-learn's way of counting losses.

    Parameters
    ----------
    mlp : estimator whose loss the kernels have, see :func:`loss_of`
    y : ndarray (n, k)
        Indicators of the classes, or values.
    dtype : of the computation
    penalty : float
        The factor of Σ w².
    per_batch : bool
        Whether the penalty is shared out to batches by their weight, and batches count by their size; else by weight.
    """
    loss = loss_of(mlp)
    assert loss is not None, "all else is scikit-learn's own code"
    eps = float(np.finfo(dtype).eps)
    smoothing = getattr(mlp, "label_smoothing", 0.0)
    bounds: dict[str, float] = {}
    if loss in ("cross_entropy", "bounded_binary_cross_entropy"):
        bounds = {"least": -math.log1p(-eps), "most": -math.log(eps)}
    elif loss == "squared_error":
        bounds = {"value": 0.5 / y.shape[1], "gradient": 0.5}
    reduction = Reduction(**bounds, penalty_per_batch=per_batch, mean_over_rows=per_batch, stop=False)
    targets = y.argmax(axis=1).astype(np.int64) if loss == "cross_entropy" else np.array(y, dtype, order="C")
    if loss == "bounded_binary_cross_entropy" and smoothing:
        targets *= 1 - smoothing
        targets += smoothing / 2
    undefined = loss == "poisson_deviance" and bool((targets < 0).any())
    in_kernel = float(smoothing) if loss == "cross_entropy" else 0.0
    # A mean times a float of Python's, as scikit-learn writes losses: in float64 before NumPy 2.
    number = type(np.float32(1) * 0.5) if y.dtype == dtype == FLOAT32 else np.float64
    return Task(targets, y.shape[1], Objective(loss, penalty, in_kernel, reduction), undefined, number)


def weights_of_samples(mlp: Any, y: Array, sample_weight: Array | None, dtype: DType) -> Array | None:
    """Return the weight of each sample with that of its class, or None; y (n, k) are the indicators of the classes.

    The result is no array of the user's.
    """
    class_weight = getattr(mlp, "class_weight", None)
    if class_weight is not None:
        of_class = _class_weights(mlp, class_weight, y)
        sample_weight = of_class if sample_weight is None else sample_weight * of_class
    return None if sample_weight is None else np.array(sample_weight, dtype)


def _class_weights(mlp: Any, class_weight: Any, y: Array) -> Array:
    weights: Array
    several = isinstance(class_weight, list)
    by_label = [_by_label(part) for part in (class_weight if several else [class_weight])]
    if getattr(mlp._label_binarizer, "y_type_", "").startswith("multilabel"):
        weights = compute_sample_weight(by_label if several else by_label[0], y.astype(np.int64))
        return weights
    if several:
        raise ValueError("class_weight is a list, which is for several labels a sample: pass a dict or 'balanced'")
    labels = y.argmax(axis=1) if y.shape[1] > 1 else y[:, 0].astype(np.int64)
    classes = mlp.classes_
    weights = compute_class_weight(by_label[0], classes=classes, y=classes[labels])[labels]
    return weights


def _by_label(class_weight: Any) -> Any:
    """A mapping, such as a pandas Series with the labels as its index, as a checked dict; 'balanced' as it is."""
    if not hasattr(class_weight, "keys"):
        return class_weight
    by_label = dict(class_weight)
    for label, weight in by_label.items():
        if not isinstance(weight, Real) or not 0 <= float(weight) < math.inf:
            raise ValueError(f"class_weight[{label!r}] is {weight!r}, expected a finite number >= 0")
    return by_label
