"""Losses of outputs that are scores: of classes, of which one is right, or of things that are so or not."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import ops
from ..validation import LARGEST, SMALLEST_NORMAL, Array, DType, class_targets, float_arrays, number
from .loss import BuiltInLoss


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
    link = "softmax"
    measured = ("accuracy",)
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

    def targets(self, y: ArrayLike, m: int, k: int, dtype: DType, name: str = "y", check_finite: bool = True) -> Array:
        """Return labels (m,), or targets (m, k), which are smoothed here; a subclass is left to do that itself."""
        array = class_targets(y, m, k, dtype, name)
        smooths = type(self) is CrossEntropy and self.label_smoothing > 0 and array.ndim == 2
        return self.smoothed(array, k, dtype) if smooths else array

    def check_targets(self, y: Array, k: int, dtype: DType, name: str = "y") -> None:
        """Raise ValueError if labels are none of 0..k-1."""
        if y.ndim == 1:
            class_targets(y, len(y), k, dtype, name)

    def classes_of(self, k: int) -> int:
        """Return as many as there are outputs."""
        return k

    def smoothing_left(self, y: Array) -> float:
        """Return the smoothing of labels, which happens where the loss is computed."""
        return self.label_smoothing if y.ndim == 1 else 0.0

    def predictions(self, outputs: Array) -> Array:
        """Return the labels (m,) of the largest scores."""
        labels: Array = outputs.argmax(axis=1)
        return labels

    def decisions(self, means: Array) -> Array:
        """Return the labels (m,) of the largest probabilities."""
        labels: Array = means.argmax(axis=1)
        return labels

    def pooled(self, outputs: Array) -> Array:
        """Return the logarithms of the mean probabilities, of which none is too small for it."""
        pooled = ops.logsumexp(ops.log_softmax(outputs), axis=0)
        pooled -= pooled.dtype.type(math.log(len(outputs)))
        return pooled

    def measures(self, predicted: Array, y: Array) -> dict[str, Array]:
        """Return whether each label is predicted, that of the largest where y holds targets."""
        return {"accuracy": predicted == (y if y.ndim == 1 else y.argmax(axis=1))}

    def compute(self, pred: Array, y: Array, sample_weight: Array | None) -> float:
        """Return the loss of checked arrays."""
        return super().compute(pred, self._smoothed(y, pred), sample_weight)

    def compute_backward(self, pred: Array, y: Array, sample_weight: Array | None, out: Array) -> float:
        """Return the loss of checked arrays, and its gradient in ``out``."""
        return super().compute_backward(pred, self._smoothed(y, pred), sample_weight, out)

    def _smoothed(self, y: Array, pred: Array) -> Array:
        return self.smoothed(y, pred.shape[1], pred.dtype) if self.smoothing_left(y) else y

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


class BinaryCrossEntropy(BuiltInLoss):
    """The mean over samples of the sum over outputs of -p y log σ(s) - (1 - y) log(1 - σ(s)), for scores s (m, k).

    Each output is the score of one thing that is so (y = 1) or not (0): one output for two classes, or one for each of
    several labels that a sample may have at once. y (m, k), or (m,) for one output, holds 0 and 1, booleans, or
    probabilities between. ``predict`` gives 1 where s > 0, else 0, as int64; ``predict_proba`` σ(s), the probability of
    a 1, in the shape of the outputs (m, k); ``evaluate`` and validation measure "accuracy", the share of outputs whose
    y, above 1/2 or not, is predicted. See :func:`fastnn.binary_cross_entropy`.

    Parameters
    ----------
    pos_weight : float or array_like (k,), optional
        p > 0, what a y of 1 weighs, for all outputs or for each: above 1 it finds more of what is rare.

    Raises
    ------
    ValueError
        If a weight is not finite and > 0; by ``fit`` and others, if there are neither one nor k of them.
    TypeError
        If it does not hold real numbers.

    Examples
    --------
    >>> import fastnn as fnn
    >>> loss = fnn.BinaryCrossEntropy(pos_weight=2)
    >>> round(loss.forward([[0.0], [0.0]], [1, 0]), 4)  # (2 log 2 + log 2) / 2
    1.0397
    """

    name = "binary_cross_entropy"
    arguments = ("pos_weight",)
    link = "sigmoid"
    measured = ("accuracy",)
    format = 5

    def __init__(self, pos_weight: float | ArrayLike | None = None) -> None:
        self._weights = ops.elementwise_losses.pos_weights(pos_weight)
        self._pos_weight = None if pos_weight is None else self._weights if np.ndim(pos_weight) else self._weights[0]

    @property
    def pos_weight(self) -> float | tuple[float, ...] | None:
        """What a y of 1 weighs, fixed when the loss is made."""
        return self._pos_weight

    def check(self, dtype: DType) -> None:
        """Raise ValueError where a weight is nothing in ``dtype``, or infinite."""
        for weight in self._weights:
            if not SMALLEST_NORMAL[dtype] <= weight <= LARGEST[dtype]:
                raise ValueError(f"pos_weight holds {weight:g}, which is beyond the range of {dtype}")

    def targets(self, y: ArrayLike, m: int, k: int, dtype: DType, name: str = "y", check_finite: bool = True) -> Array:
        """Return y (m, k)."""
        ops.elementwise_losses.one_or_each("pos_weight", self._weights, k)
        return super().targets(y, m, k, dtype, name, check_finite)

    def check_targets(self, y: Array, k: int, dtype: DType, name: str = "y") -> None:
        """Raise ValueError if a target is out of 0..1."""
        ops.elementwise_losses.within(name, y, 1.0)

    def predictions(self, outputs: Array) -> Array:
        """Return 1 where a score is above 0, else 0 (m, k)."""
        return (outputs > 0).astype(np.int64)

    def decisions(self, means: Array) -> Array:
        """Return 1 where a probability is above 1/2, else 0 (m, k)."""
        return (means > 0.5).astype(np.int64)

    def pooled(self, outputs: Array) -> Array:
        """Return the scores whose σ is the mean, by the logarithms of the mean of both σ(s) and σ(-s)."""
        of_one, of_zero = (ops.logsumexp(-ops.softplus(scores), axis=0) for scores in (-outputs, outputs))
        pooled: Array = of_one - of_zero
        return pooled

    def measures(self, predicted: Array, y: Array) -> dict[str, Array]:
        """Return the share of each sample's outputs that are right."""
        return {"accuracy": (predicted == (y > 0.5)).mean(axis=1)}

    def classes_of(self, k: int) -> int:
        """Return 2 for one output: it is so, or not."""
        return 2 if k == 1 else 0

    def numbers(self) -> tuple[float, ...]:
        """Return how many weights there are, and the weights."""
        return float(len(self._weights)), *self._weights

    def given(self) -> tuple[Any, ...]:
        """Return the weights as an array."""
        return (np.array(self._weights),)

    def config(self) -> dict[str, Any]:
        """Return what makes such a loss, nothing without a weight."""
        return {} if self.pos_weight is None else super().config()

    def forward(self, scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the loss."""
        return ops.binary_cross_entropy(scores, y, self.pos_weight, sample_weight)

    def backward(self, scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Return the gradient (m, k) with respect to the scores."""
        return ops.binary_cross_entropy_backward(scores, y, self.pos_weight, sample_weight)
