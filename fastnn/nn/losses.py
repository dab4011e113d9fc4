"""Losses as objects for ``fit``: those that kernels know, or a user's own with forward and backward methods."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from .. import ops
from ..backend import active
from ..validation import (
    SMALLEST_NORMAL,
    Array,
    DType,
    any_array,
    class_targets,
    computed,
    finite,
    float_arrays,
    number,
    real_targets,
    same_length,
)

LossName: TypeAlias = Literal["cross_entropy", "squared_error", "huber"]


@runtime_checkable
class Loss(Protocol):
    """What a loss is: a value and its gradient with respect to the model's outputs.

    A loss of your own is any object with these methods. ``y`` holds the batch's rows of the array given to ``fit``.
    ``sample_weight`` (m,) is passed as a third argument if and only if ``fit`` or ``evaluate`` was given one. The loss
    of an epoch is the mean over its batches, weighted by their sizes (or by the sums of their weights).
    """

    def forward(self, pred: Array, y: Array, /) -> float:
        """Return the loss of the outputs ``pred`` (m, k) against ``y``."""

    def backward(self, pred: Array, y: Array, /) -> ArrayLike:
        """Return the gradient (m, k) of the loss with respect to ``pred``."""


class BuiltInLoss:
    """A loss that kernels and twins know by a name.

    Attributes
    ----------
    name : str
    arguments : tuple of str
        What the constructor takes, attributes of the same names: what is saved.
    settings : tuple of str
        The numbers among them that kernel and twin take, in their order.
    classifies : bool
        Whether the outputs are scores of classes, whose largest is predicted and whose softmax are probabilities.
    format : int
        The first format of saved models that has it.
    """

    name: ClassVar[str]
    arguments: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[tuple[str, ...]] = ()
    classifies: ClassVar[bool] = False
    format: ClassVar[int] = 1

    @property
    def operation(self) -> str:
        """The name of its kernel and of its twin."""
        return self.name

    def check(self, dtype: DType) -> None:
        """Raise TypeError where the loss does not work in the dtype of a model."""

    def compute(self, pred: Array, y: Array, sample_weight: Array | None) -> float:
        """Return the loss of checked arrays."""
        return float(getattr(active(), self.name)(pred, y, sample_weight, *self.numbers()))

    def compute_backward(self, pred: Array, y: Array, sample_weight: Array | None, out: Array) -> float:
        """Return the loss of checked arrays, and its gradient in ``out``."""
        return float(getattr(active(), f"{self.name}_backward")(pred, y, sample_weight, *self.numbers(), out))

    def numbers(self) -> tuple[float, ...]:
        """Return the settings as kernel and twin take them."""
        return tuple(float(getattr(self, name)) for name in self.settings)

    def config(self) -> dict[str, Any]:
        """Return what the constructor takes to make a loss like this one."""
        return {name: getattr(self, name) for name in self.arguments}

    @property
    def needs_format(self) -> int:
        """The first format of saved models that can say it."""
        return self.format

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value:g}' for name, value in self.config().items())})"


class CrossEntropy(BuiltInLoss):
    """The mean of -s_y + log Σ e^s over scores s (m, k), for integer labels (m,) or targets (m, k).

    See :func:`fastnn.cross_entropy`.

    Parameters
    ----------
    label_smoothing : float
        With 0 <= label_smoothing < 1, ε: the targets become (1 - ε) y + ε / k, y one-hot for labels, so that no score
        has to grow without end; targets (m, k) are copied for it. Validation and ``evaluate`` measure the same loss;
        the accuracy knows nothing of it.

    Raises
    ------
    ValueError
        If ``label_smoothing`` is out of its range.
    TypeError
        If it is not a number.

    Notes
    -----
    Source of label smoothing: C. Szegedy et al., Rethinking the Inception architecture for computer vision, CVPR 2016,
    section 7.
    """

    name = "cross_entropy"
    arguments = ("label_smoothing",)
    classifies = True
    _label_smoothing: float = 0.0

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self._label_smoothing = number("label_smoothing", label_smoothing, least=0, below=1)

    @property
    def label_smoothing(self) -> float:
        """The share of each target that all classes get, fixed when the loss is made."""
        return self._label_smoothing

    def forward(self, scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the loss."""
        return ops.cross_entropy(scores, self._targets(scores, y), sample_weight)

    def backward(self, scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Return the gradient (m, k) with respect to the scores."""
        return ops.cross_entropy_backward(scores, self._targets(scores, y), sample_weight)

    def smoothed(self, y: Array, k: int, dtype: DType) -> Array:
        """Return checked labels or targets as smoothed targets (m, k); for what is a label no longer, a row of NaN."""
        kept, shared = 1 - self.label_smoothing, self.label_smoothing / k
        if y.ndim == 2:
            targets: Array = y * dtype.type(kept)
            targets += dtype.type(shared)
        else:
            is_label = y[:, None] == np.arange(k)  # the only look at y, which is the user's and may change
            targets = np.where(is_label, kept + shared, shared).astype(dtype)
            targets[~is_label.any(axis=1)] = np.nan
        return targets

    def _targets(self, scores: ArrayLike, y: ArrayLike) -> ArrayLike:
        if self.label_smoothing == 0 or np.ndim(scores) != 2 or np.size(scores) == 0:
            return y
        (array,) = float_arrays(("scores", scores))
        m, k = array.shape
        return self.smoothed(class_targets(y, m, k, array.dtype), k, array.dtype)

    def config(self) -> dict[str, Any]:
        """Return what makes such a loss, nothing without smoothing."""
        return super().config() if self.label_smoothing else {}

    @property
    def needs_format(self) -> int:
        """Return 2 for smoothing."""
        return 2 if self.label_smoothing else 1


class SquaredError(BuiltInLoss):
    """The mean over samples of the sum over outputs of (pred - y)². See :func:`fastnn.squared_error`."""

    name = "squared_error"

    def forward(self, pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the loss."""
        return ops.squared_error(pred, y, sample_weight)

    def backward(self, pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Return the gradient (m, k) with respect to ``pred``."""
        return ops.squared_error_backward(pred, y, sample_weight)


class Huber(BuiltInLoss):
    """The mean over samples of the sum over outputs of Huber's loss, which outliers pull with a bounded force.

    Of r = pred - y it is r² / 2 where |r| <= delta, else delta (|r| - delta / 2). See :func:`fastnn.huber`.

    Parameters
    ----------
    delta : float
        Where the parabola becomes a line, > 0.

    Raises
    ------
    ValueError
        If ``delta`` is out of its range.
    TypeError
        If it is not a number.

    Notes
    -----
    Source: P. J. Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35, 1964.

    Examples
    --------
    >>> import fastnn as fnn
    >>> fnn.Huber(delta=0.5).forward([[3.0]], [[1.0]])  # 0.5 (2 - 0.25)
    0.875
    """

    name = "huber"
    arguments = settings = ("delta",)
    format = 3

    def __init__(self, delta: float = 1.0) -> None:
        self._delta = number("delta", delta, above=0)

    @property
    def delta(self) -> float:
        """Where the parabola becomes a line, fixed when the loss is made."""
        return self._delta

    def forward(self, pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the loss."""
        return ops.huber(pred, y, self.delta, sample_weight)

    def backward(self, pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Return the gradient (m, k) with respect to ``pred``."""
        return ops.huber_backward(pred, y, self.delta, sample_weight)

    def check(self, dtype: DType) -> None:
        """Raise ValueError where delta vanishes in ``dtype``, and every gradient with it."""
        if self.delta < SMALLEST_NORMAL[dtype]:
            raise ValueError(f"delta is {self.delta:g}, which vanishes in {dtype}: expected at least 1e-30")


BY_NAME: dict[str, Callable[..., Loss]] = {loss.name: loss for loss in (CrossEntropy, SquaredError, Huber)}
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
    """Return whether ``loss`` takes outputs for scores of classes."""
    return isinstance(loss, BuiltInLoss) and loss.classifies


def takes_names(loss: Any) -> bool:
    """Return whether labels under ``loss`` may be strings or objects, each the name of an output."""
    return isinstance(loss, CrossEntropy)


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
    if isinstance(loss, CrossEntropy):
        array = class_targets(y, m, k, dtype, name)
        is_smoothed = is_built_in(loss) and loss.label_smoothing > 0 and array.ndim == 2
        return loss.smoothed(array, k, dtype) if is_smoothed else array
    if isinstance(loss, BuiltInLoss):
        return real_targets(y, m, k, dtype, name, check_finite)
    array = any_array(name, y)
    if array.ndim == 0:
        raise ValueError(f"{name} has shape (), expected one row for each of {m} samples")
    same_length(name, array, m)
    finite(name, array, np.dtype(np.float64))
    return array


def check_labels(loss: Any, y: Array, k: int, dtype: DType, name: str) -> None:
    """Raise ValueError if labels that :func:`targets` returned, and that may be the user's array, were changed since.

    Computing with a label out of 0..k-1 gives NaN, so this is asked where that comes out.
    """
    if isinstance(loss, CrossEntropy) and y.ndim == 1:
        try:
            class_targets(y, len(y), k, dtype, name)
        except ValueError as error:
            raise ValueError(f"{error} (it was changed after the call began)") from None


def smoothing(loss: Any, y: Array) -> float:
    """Return the label smoothing that ``loss`` has left to do where :func:`targets` returned labels."""
    return loss.label_smoothing if isinstance(loss, CrossEntropy) and y.ndim == 1 else 0.0


def value(loss: Any, pred: Array, y: Array, sample_weight: Array | None) -> float:
    """Return the loss of checked arrays."""
    if is_built_in(loss):
        return float(loss.compute(pred, _smoothed(loss, y, pred), sample_weight))
    return _user_value(loss, pred, y, () if sample_weight is None else (sample_weight,))


def value_and_gradient(loss: Any, pred: Array, y: Array, sample_weight: Array | None) -> tuple[float, Array]:
    """Return the loss of checked arrays and its gradient (m, k)."""
    if is_built_in(loss):
        gradient, y = np.empty_like(pred), _smoothed(loss, y, pred)
        return float(loss.compute_backward(pred, y, sample_weight, gradient)), gradient
    weights = () if sample_weight is None else (sample_weight,)
    gradient = loss.backward(pred, y, *weights)
    m, k = pred.shape
    return _user_value(loss, pred, y, weights), computed("backward", loss, gradient, m, k, pred.dtype)


def _smoothed(loss: Any, y: Array, pred: Array) -> Array:
    return loss.smoothed(y, pred.shape[1], pred.dtype) if smoothing(loss, y) else y


def _user_value(loss: Any, pred: Array, y: Array, weights: tuple[Array, ...]) -> float:
    result = loss.forward(pred, y, *weights)
    if np.ndim(result) != 0 or np.asarray(result).dtype.kind not in "fiub":
        raise TypeError(f"forward of {type(loss).__name__} returned {result!r}, expected a number")
    return float(result)
