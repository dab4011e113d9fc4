"""Class weights: one number a class, which the weight of each of its samples is multiplied by."""

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..nn.classification import BinaryCrossEntropy
from ..nn.losses import classifies
from ..validation import FLOAT64, Array, DType, finite, number, real_array, sample_weights
from .labels import listed


def weighted(
    class_weight: Any,
    loss: Any,
    y: Array,
    k: int,
    sample_weight: ArrayLike | None,
    dtype: DType,
    classes: Array | None = None,
) -> Array | None:
    """Return sample weights (m,) as ``dtype``: those of the classes of the labels y, times ``sample_weight``.

    With ``classes`` a mapping has these as its keys.

    Raises
    ------
    ValueError
        If there are no integer labels under cross-entropy, or the weights are not as :meth:`fastnn.Sequential.fit`
        says.
    TypeError
        If they are not numbers, or a class is no integer.
    """
    weights = of_samples(class_weight, loss, y, k, classes)
    name = "class_weight"
    if sample_weight is not None:
        weights *= sample_weights(sample_weight, len(y), FLOAT64)
        name = "class_weight times sample_weight"
    return sample_weights(weights, len(y), dtype, name)


def check_labels(loss: Any, y: Array) -> None:
    """Raise ValueError if there are no classes to give weights to."""
    if not classifies(loss):
        other = ", or its pos_weight" if isinstance(loss, BinaryCrossEntropy) else ""
        raise ValueError(f"class_weight needs classes, but the loss is {loss!r}: use sample_weight{other}")
    if y.ndim != 1:
        raise ValueError(f"class_weight needs integer labels, but y holds targets {y.shape}: use sample_weight")


def of_samples(
    class_weight: Any, loss: Any, y: Array, k: int, classes: Array | None = None, counts: Array | None = None
) -> Array:
    """Return the weight (m,) float64 of the class of each sample; ``counts`` (k,) are those of all, if not of y alone.

    See :func:`weighted` for the errors.
    """
    check_labels(loss, y)
    y = np.clip(y, 0, k - 1)  # a copy: another thread may write to the user's labels at any moment
    counts = np.bincount(y, minlength=k) if counts is None else counts
    weights: Array = of_classes(class_weight, counts, k, classes)[y]
    return weights


def of_classes(class_weight: Any, counts: Array, k: int, classes: Array | None) -> Array:
    """Return the weight (k,) of each class, of which there are so many samples."""
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight is {class_weight!r}, expected 'balanced', a dict or an array ({k},)")
        return np.asarray(counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1)))
    weights = np.ones(k)
    if hasattr(class_weight, "keys"):  # a mapping, or a series of pandas, whose index holds the labels
        places = {} if classes is None else {label: i for i, label in enumerate(classes.tolist())}
        for label, weight in dict(class_weight).items():
            if classes is not None and label not in places:
                raise ValueError(f"class_weight has the key {label!r}, but the classes are {listed(classes)}")
            weights[_label(label, k) if classes is None else places[label]] = number(
                f"class_weight[{label!r}]", weight, least=0
            )
        return weights
    array = real_array("class_weight", class_weight)
    if array.shape != (k,):
        raise ValueError(f"class_weight has shape {array.shape}, but the model has {k} outputs: expected ({k},)")
    finite("class_weight", array, FLOAT64)
    if array.min() < 0:
        raise ValueError(f"class_weight holds {array.min():g}, expected weights >= 0")
    return array.astype(np.float64)


def _label(label: Any, k: int) -> int:
    try:
        index = operator.index(label)
    except TypeError:
        raise TypeError(f"class_weight has the key {label!r}, expected integer labels 0..{k - 1}") from None
    if not 0 <= index < k:
        raise ValueError(f"class_weight has the key {index}, but the model has {k} outputs: labels are 0..{k - 1}")
    return index
