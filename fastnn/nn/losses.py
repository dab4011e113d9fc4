"""Losses as objects for ``fit``: those that kernels know, or a user's own with forward and backward methods."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ..validation import Array, DType, any_array, computed, finite, same_length
from .classification import BinaryCrossEntropy, CrossEntropy
from .loss import BuiltInLoss, Link, Loss
from .regression import AbsoluteError, Huber, Pinball, Poisson, SquaredError

LossName: TypeAlias = Literal[
    "cross_entropy", "binary_cross_entropy", "squared_error", "absolute_error", "huber", "pinball", "poisson"
]

_ALL: tuple[Any, ...] = CrossEntropy, BinaryCrossEntropy, SquaredError, AbsoluteError, Huber, Pinball, Poisson
BY_NAME: dict[str, Callable[..., Loss]] = {loss.name: loss for loss in _ALL}
# Those that have no default, and so no name to be chosen by, are here alone.
BUILT_IN: dict[str, Callable[..., Loss]] = {**BY_NAME}


def resolve(loss: Any, **settings: Any) -> Loss:
    """Return the loss of that name with these settings, or the object itself where it is a loss."""
    if isinstance(loss, str):
        if loss in BY_NAME:
            return BY_NAME[loss](**settings)
    elif type(loss) in BUILT_IN.values() or (not isinstance(loss, type) and isinstance(loss, Loss)):
        result: Loss = loss
        return result
    names = ", ".join(map(repr, BY_NAME))
    error = ValueError if isinstance(loss, str) else TypeError
    raise error(f"loss is {loss!r}, expected {names} or an object with forward and backward methods")


def classifies(loss: Any) -> bool:
    """Return whether ``loss`` takes outputs for scores of classes, whose numbers y may hold."""
    return isinstance(loss, BuiltInLoss) and loss.classifies


def takes_names(loss: Any) -> bool:
    """Return whether labels under ``loss`` may be strings or objects, each the name of a class."""
    return classes_of(loss, 1) > 0


def link(loss: Any) -> Link:
    """Return what makes of outputs that which they stand for, as ``loss`` says; of a user's own nothing is known."""
    return loss.link if isinstance(loss, BuiltInLoss) else "identity"


def of_probabilities(loss: Any) -> Link:
    """Return what makes probabilities of outputs, the softmax if there is no loss yet.

    Raises
    ------
    ValueError
        If the loss is another one, whose outputs are no scores as far as it is known.
    """
    if loss is None:
        return "softmax"
    if link(loss) in ("softmax", "sigmoid"):
        return link(loss)
    if isinstance(loss, BuiltInLoss):
        name = (loss.name or repr(loss)).replace("_", " ")
        raise ValueError(f"the model was trained with the {name}: its outputs are values, not class scores")
    raise ValueError(
        f"the model was trained with {loss!r}, so its outputs need not be class scores: if they are, use "
        "fastnn.softmax(model.forward(X))"
    )


def predictions(loss: Any, outputs: Array) -> Array:
    """Return what is predicted where these are the outputs (m, k), which may be overwritten."""
    return loss.predictions(outputs) if isinstance(loss, BuiltInLoss) else outputs


def classes_of(loss: Any, k: int) -> int:
    """Return how many classes k outputs tell apart, one of which is right; 0 where they do nothing like it."""
    return loss.classes_of(k) if isinstance(loss, BuiltInLoss) else 0


def measured(loss: Any) -> tuple[str, ...]:
    """Return the names of what is measured beside the loss."""
    return loss.measured if isinstance(loss, BuiltInLoss) else ()


def labels_of(loss: Any, y: Array) -> Array | None:
    """Return checked targets as a copy (m,) of labels, or None where each sample has not one of several classes."""
    if classifies(loss) and y.ndim == 1:
        return y.copy()
    return (y[:, 0] > 0.5).astype(np.int64) if link(loss) == "sigmoid" and y.shape[1:] == (1,) else None


def is_built_in(loss: Any) -> bool:
    """Return whether kernels and twins know ``loss``; a user's subclass they do not."""
    return type(loss) in BUILT_IN.values()


def targets(
    loss: Loss, y: ArrayLike, m: int, k: int, dtype: DType, name: str = "y", check_finite: bool = True
) -> Array:
    """Return y in the form that ``loss`` takes for outputs (m, k); for a user's loss any array of m finite rows.

    Targets of the built-in cross-entropy are smoothed here, its labels later, see :func:`smoothing`. Without
    ``check_finite`` it is left to the caller to find out whether real targets are.
    """
    if isinstance(loss, BuiltInLoss):
        return loss.targets(y, m, k, dtype, name, check_finite)
    array = any_array(name, y)
    if array.ndim == 0:
        raise ValueError(f"{name} has shape (), expected one row for each of {m} samples")
    same_length(name, array, m)
    finite(name, array, np.dtype(np.float64))
    return array


def check_again(loss: Any, y: Array, k: int, dtype: DType, name: str) -> None:
    """Raise ValueError if targets that :func:`targets` returned, and that may be the user's array, were changed since.

    Computing with a label out of 0..k-1 gives NaN, so this is asked where that comes out.
    """
    if isinstance(loss, BuiltInLoss):
        try:
            loss.check_targets(y, k, dtype, name)
        except ValueError as error:
            raise ValueError(f"{error} (it was changed after the call began)") from None


def smoothing(loss: Any, y: Array) -> float:
    """Return the label smoothing that ``loss`` has left to do where :func:`targets` returned labels."""
    return loss.smoothing_left(y) if isinstance(loss, BuiltInLoss) else 0.0


def value(loss: Any, pred: Array, y: Array, sample_weight: Array | None) -> float:
    """Return the loss of checked arrays."""
    if is_built_in(loss):
        return float(loss.compute(pred, y, sample_weight))
    return _user_value(loss, pred, y, () if sample_weight is None else (sample_weight,))


def value_and_gradient(loss: Any, pred: Array, y: Array, sample_weight: Array | None) -> tuple[float, Array]:
    """Return the loss of checked arrays and its gradient (m, k)."""
    if is_built_in(loss):
        gradient = np.empty_like(pred)
        return float(loss.compute_backward(pred, y, sample_weight, gradient)), gradient
    weights = () if sample_weight is None else (sample_weight,)
    gradient = loss.backward(pred, y, *weights)
    m, k = pred.shape
    return _user_value(loss, pred, y, weights), computed("backward", loss, gradient, m, k, pred.dtype)


def _user_value(loss: Any, pred: Array, y: Array, weights: tuple[Array, ...]) -> float:
    result = loss.forward(pred, y, *weights)
    if np.ndim(result) != 0 or np.asarray(result).dtype.kind not in "fiub":
        raise TypeError(f"forward of {type(loss).__name__} returned {result!r}, expected a number")
    return float(result)
