"""Losses as means over the samples, weighted by Σ v_i loss_i / Σ v_i where weights v are given, and their gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backend import active
from ..validation import (
    Array,
    class_targets,
    contiguous,
    dimensions,
    float_arrays,
    number,
    real_targets,
    sample_weights,
)


def cross_entropy(scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Return the mean of -s_y + log Σ e^s.

    It starts from scores, not from probabilities, so nothing is ever clipped.

    Parameters
    ----------
    scores : array_like (m, k)
        Before any softmax.
    y : array_like (m,) or (m, k)
        Integer labels 0..k-1, or targets >= 0 whose rows sum to 1, for which -s_y becomes -Σ_j y_j s_j.
    sample_weight : array_like (m,), optional
        Finite weights >= 0, not all zero.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are no samples, a shape does not fit, a label is out of range or fractional, the targets of a row do
        not sum to 1, or a weight is negative.
    TypeError
        If an array does not hold real numbers, or the labels are booleans.
    """
    scores, y, sample_weight = _classification(scores, y, sample_weight)
    return float(active().cross_entropy(scores, y, sample_weight))


def cross_entropy_backward(scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
    """Return the gradient (P - Y) / m of :func:`cross_entropy` with respect to the scores, P their softmax.

    With weights v row i is (P - Y)_i v_i / Σ v. Parameters and errors are those of :func:`cross_entropy`.

    Returns
    -------
    ndarray (m, k)
    """
    return cross_entropy_and_gradient(scores, y, sample_weight)[1]


def cross_entropy_and_gradient(
    scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
) -> tuple[float, Array]:
    """Return :func:`cross_entropy` and :func:`cross_entropy_backward` together, for the price of the second alone.

    Parameters and errors are those of :func:`cross_entropy`.

    Returns
    -------
    loss : float
    gradient : ndarray (m, k)
    """
    scores, y, sample_weight = _classification(scores, y, sample_weight)
    return with_gradient(active().cross_entropy_backward, scores, y, sample_weight)


def squared_error(pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Return the mean over samples of the sum over outputs of (pred - y)².

    Parameters
    ----------
    pred : array_like (m, k)
    y : array_like (m, k), or (m,) where k is 1
        Finite target values.
    sample_weight : array_like (m,), optional
        Finite weights >= 0, not all zero.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are no samples, a shape does not fit, a target is not finite, or a weight is negative.
    TypeError
        If an array does not hold real numbers.
    """
    pred, y, sample_weight = _regression(pred, y, sample_weight)
    return float(active().squared_error(pred, y, sample_weight))


def squared_error_backward(pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
    """Return the gradient 2 (pred - y) / m of :func:`squared_error` with respect to ``pred``.

    With weights v row i is 2 (pred - y)_i v_i / Σ v. Parameters and errors are those of :func:`squared_error`.

    Returns
    -------
    ndarray (m, k)
    """
    return squared_error_and_gradient(pred, y, sample_weight)[1]


def squared_error_and_gradient(
    pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
) -> tuple[float, Array]:
    """Return :func:`squared_error` and :func:`squared_error_backward` together, for the price of the second alone.

    Parameters and errors are those of :func:`squared_error`.

    Returns
    -------
    loss : float
    gradient : ndarray (m, k)
    """
    pred, y, sample_weight = _regression(pred, y, sample_weight)
    return with_gradient(active().squared_error_backward, pred, y, sample_weight)


def huber(pred: ArrayLike, y: ArrayLike, delta: float = 1.0, sample_weight: ArrayLike | None = None) -> float:
    """Return the mean over samples of the sum over outputs of Huber's loss of r = pred - y.

    It is r² / 2 where |r| <= delta, else delta (|r| - delta / 2): outliers pull with a bounded force.

    Parameters
    ----------
    pred : array_like (m, k)
    y : array_like (m, k), or (m,) where k is 1
        Finite target values.
    delta : float
        Where the parabola becomes a line, > 0.
    sample_weight : array_like (m,), optional
        Finite weights >= 0, not all zero.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are no samples, a shape does not fit, a target is not finite, a weight is negative, or delta is not a
        finite number > 0.
    TypeError
        If an array does not hold real numbers.

    Notes
    -----
    Source: P. J. Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35, 1964.

    Examples
    --------
    >>> import fastnn as fnn
    >>> fnn.huber([[0.0], [3.0]], [[0.5], [0.0]], delta=1.0)  # (0.5² / 2 + (3 - 0.5)) / 2
    1.3125
    """
    delta = number("delta", delta, above=0)
    pred, y, sample_weight = _regression(pred, y, sample_weight)
    return float(active().huber(pred, y, sample_weight, delta))


def huber_backward(pred: ArrayLike, y: ArrayLike, delta: float = 1.0, sample_weight: ArrayLike | None = None) -> Array:
    """Return the gradient of :func:`huber` with respect to ``pred``: r / m, r no further from 0 than delta.

    With weights v row i is r v_i / Σ v. Parameters and errors are those of :func:`huber`.

    Returns
    -------
    ndarray (m, k)
    """
    return huber_and_gradient(pred, y, delta, sample_weight)[1]


def huber_and_gradient(
    pred: ArrayLike, y: ArrayLike, delta: float = 1.0, sample_weight: ArrayLike | None = None
) -> tuple[float, Array]:
    """Return :func:`huber` and :func:`huber_backward` together, for the price of the second alone.

    Parameters and errors are those of :func:`huber`.

    Returns
    -------
    loss : float
    gradient : ndarray (m, k)
    """
    delta = number("delta", delta, above=0)
    pred, y, sample_weight = _regression(pred, y, sample_weight)
    return with_gradient(active().huber_backward, pred, y, sample_weight, delta)


def with_gradient(backward: Callable[..., float], outputs: Array, *given: Any) -> tuple[float, Array]:
    """Return the loss that ``backward`` computes of checked arrays, and its gradient."""
    out = np.empty(outputs.shape, outputs.dtype)
    return float(backward(outputs, *given, out)), out


def _classification(
    scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Array, Array, Array | None]:
    scores = outputs_of("scores", scores)
    m, k = scores.shape
    return scores, class_targets(y, m, k, scores.dtype), sample_weights(sample_weight, m, scores.dtype)


def _regression(pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Array, Array, Array | None]:
    pred = outputs_of("pred", pred)
    m, k = pred.shape
    return pred, real_targets(y, m, k, pred.dtype), sample_weights(sample_weight, m, pred.dtype)


def outputs_of(name: str, outputs: ArrayLike) -> Array:
    """Return outputs (m, k), neither of them 0, as contiguous floats."""
    (array,) = float_arrays((name, outputs))
    dimensions(name, array, 2)
    if array.size == 0:
        raise ValueError(f"{name} is empty: it has shape {array.shape}, expected at least one sample and one output")
    return contiguous(array)
