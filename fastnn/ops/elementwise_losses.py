"""More losses that are a mean over the samples of a sum over the outputs, see :mod:`fastnn.ops.losses`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backend import active
from ..validation import Array, DType, any_array, number, real_array, real_targets, sample_weights
from .losses import outputs_of, with_gradient

QUANTILES = 0.1, 0.5, 0.9


def binary_cross_entropy(
    scores: ArrayLike, y: ArrayLike, pos_weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None
) -> float:
    """Return the mean over samples of the sum over outputs of -p y log σ(s) - (1 - y) log(1 - σ(s)).

    It starts from scores, not from probabilities, so nothing is ever clipped, and no digit of a small loss is lost.

    Parameters
    ----------
    scores : array_like (m, k)
        Before any sigmoid.
    y : array_like (m, k), or (m,) where k is 1
        Targets 0 to 1, such as booleans.
    pos_weight : float or array_like (k,), optional
        p > 0, what a target of 1 weighs, for all outputs or for each.
    sample_weight : array_like (m,), optional
        Finite weights >= 0, not all zero.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are no samples, a shape does not fit, a target is out of its range or not finite, or a weight is.
    TypeError
        If an array does not hold real numbers.

    Examples
    --------
    >>> import fastnn as fnn
    >>> round(fnn.binary_cross_entropy([[0.0, 0.0]], [[1, 0]]), 4)  # 2 log 2
    1.3863
    """
    return _value("binary_cross_entropy", *_binary(scores, y, pos_weight, sample_weight))


def binary_cross_entropy_backward(
    scores: ArrayLike, y: ArrayLike, pos_weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None
) -> Array:
    """Return the gradient ((1 - y) σ(s) - p y σ(-s)) / m of :func:`binary_cross_entropy`, without p (σ(s) - y) / m.

    With weights v row i is multiplied by v_i m / Σ v. Parameters and errors are those of :func:`binary_cross_entropy`.

    Returns
    -------
    ndarray (m, k)
    """
    return binary_cross_entropy_and_gradient(scores, y, pos_weight, sample_weight)[1]


def binary_cross_entropy_and_gradient(
    scores: ArrayLike, y: ArrayLike, pos_weight: ArrayLike | None = None, sample_weight: ArrayLike | None = None
) -> tuple[float, Array]:
    """Return :func:`binary_cross_entropy` and its gradient together, for the price of the second alone.

    Parameters and errors are those of :func:`binary_cross_entropy`.

    Returns
    -------
    loss : float
    gradient : ndarray (m, k)
    """
    return _both("binary_cross_entropy", *_binary(scores, y, pos_weight, sample_weight))


def absolute_error(pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Return the mean over samples of the sum over outputs of |pred - y|.

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
    return _value("absolute_error", *_checked("pred", pred, y, sample_weight))


def absolute_error_backward(pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
    """Return the gradient sign(pred - y) / m of :func:`absolute_error`, 0 where pred = y.

    With weights v row i is multiplied by v_i m / Σ v. Parameters and errors are those of :func:`absolute_error`.

    Returns
    -------
    ndarray (m, k)
    """
    return absolute_error_and_gradient(pred, y, sample_weight)[1]


def absolute_error_and_gradient(
    pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
) -> tuple[float, Array]:
    """Return :func:`absolute_error` and its gradient together, for the price of the second alone.

    Parameters and errors are those of :func:`absolute_error`.

    Returns
    -------
    loss : float
    gradient : ndarray (m, k)
    """
    return _both("absolute_error", *_checked("pred", pred, y, sample_weight))


def pinball(
    pred: ArrayLike, y: ArrayLike, quantiles: ArrayLike = QUANTILES, sample_weight: ArrayLike | None = None
) -> float:
    """Return the mean over samples of the sum over outputs of max(q r, (q - 1) r), r = y - pred.

    Its best constant is the quantile q of y.

    Parameters
    ----------
    pred : array_like (m, k)
        Output j predicts quantile j, or with one quantile every output that.
    y : array_like (m, k), (m, 1) or (m,)
        Finite target values; a single column is compared with every quantile.
    quantiles : float or array_like (k,)
        Each > 0 and < 1.
    sample_weight : array_like (m,), optional
        Finite weights >= 0, not all zero.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are no samples, a shape does not fit, a target is not finite, a weight is negative, or a quantile is
        out of its range.
    TypeError
        If an array does not hold real numbers.

    Notes
    -----
    Source: R. Koenker and G. Bassett, Regression quantiles, Econometrica 46, 1978.

    Examples
    --------
    >>> import fastnn as fnn
    >>> fnn.pinball([[1.0], [3.0]], [3.0, 1.0], quantiles=0.25)  # (0.25 · 2 + 0.75 · 2) / 2
    1.0
    """
    return _value("pinball", *_quantiles(pred, y, quantiles, sample_weight))


def pinball_backward(
    pred: ArrayLike, y: ArrayLike, quantiles: ArrayLike = QUANTILES, sample_weight: ArrayLike | None = None
) -> Array:
    """Return the gradient of :func:`pinball`: -q / m where pred < y, (1 - q) / m where pred > y, else 0.

    With weights v row i is multiplied by v_i m / Σ v. Parameters and errors are those of :func:`pinball`.

    Returns
    -------
    ndarray (m, k)
    """
    return pinball_and_gradient(pred, y, quantiles, sample_weight)[1]


def pinball_and_gradient(
    pred: ArrayLike, y: ArrayLike, quantiles: ArrayLike = QUANTILES, sample_weight: ArrayLike | None = None
) -> tuple[float, Array]:
    """Return :func:`pinball` and its gradient together, for the price of the second alone.

    Parameters and errors are those of :func:`pinball`.

    Returns
    -------
    loss : float
    gradient : ndarray (m, k)
    """
    return _both("pinball", *_quantiles(pred, y, quantiles, sample_weight))


def poisson(scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Return the mean over samples of the sum over outputs of e^s - y s.

    It is the negative logarithm of the likelihood of counts y whose means are e^s, without log y!, which no score
    changes. 0 s counts as 0 for any s.

    Parameters
    ----------
    scores : array_like (m, k)
        The logarithms of the means.
    y : array_like (m, k), or (m,) where k is 1
        Finite counts >= 0, whole or not.
    sample_weight : array_like (m,), optional
        Finite weights >= 0, not all zero.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are no samples, a shape does not fit, a count or a weight is negative or not finite.
    TypeError
        If an array does not hold real numbers.
    """
    return _value("poisson", *_counts(scores, y, sample_weight))


def poisson_backward(scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
    """Return the gradient (e^s - y) / m of :func:`poisson`.

    With weights v row i is multiplied by v_i m / Σ v. Parameters and errors are those of :func:`poisson`.

    Returns
    -------
    ndarray (m, k)
    """
    return poisson_and_gradient(scores, y, sample_weight)[1]


def poisson_and_gradient(
    scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
) -> tuple[float, Array]:
    """Return :func:`poisson` and its gradient together, for the price of the second alone.

    Parameters and errors are those of :func:`poisson`.

    Returns
    -------
    loss : float
    gradient : ndarray (m, k)
    """
    return _both("poisson", *_counts(scores, y, sample_weight))


def pos_weights(pos_weight: ArrayLike | None) -> tuple[float, ...]:
    """Return checked weights of what is 1, one for all outputs or one for each."""
    return (1.0,) if pos_weight is None else _numbers("pos_weight", pos_weight, lambda n, x: number(n, x, above=0))


def checked_quantiles(quantiles: ArrayLike) -> tuple[float, ...]:
    """Return checked quantiles."""
    return _numbers("quantiles", quantiles, lambda name, q: number(name, q, above=0, below=1))


def one_or_each(name: str, numbers: tuple[float, ...], k: int) -> None:
    """Require one number, or one for each of k outputs."""
    if len(numbers) not in (1, k):
        expected = f"one or {k}" if k > 1 else "one"
        raise ValueError(f"{name} holds {len(numbers)} numbers for {k} output{'s' * (k > 1)}: expected {expected}")


def of_quantiles(
    y: ArrayLike, m: int, k: int, dtype: DType, quantiles: tuple[float, ...], name: str = "y", check_finite: bool = True
) -> Array:
    """Return y (m, k) as ``dtype``, a single column once for each of several quantiles."""
    one_or_each("quantiles", quantiles, k)
    array = real_array(name, y)
    if len(quantiles) > 1 and array.shape in ((len(array),) if array.ndim else (), (len(array), 1)):
        column = real_targets(array, m, 1, dtype, name, check_finite)
        return np.repeat(column, k, axis=1)
    return real_targets(array, m, k, dtype, name, check_finite)


def within(name: str, y: Array, most: float | None = None) -> None:
    """Require targets >= 0, and <= ``most`` where that is given; NaN passes."""
    if not y.size:
        return
    least, largest = float(y.min()), float(y.max())
    if most is not None and (least < 0 or largest > most):
        raise ValueError(
            f"{name} holds {least if least < 0 else largest:g}, expected targets 0..{most:g}: for the numbers of "
            "classes use the loss 'cross_entropy', for other values 'squared_error'"
        )
    if least < 0:
        raise ValueError(f"{name} holds {least:g}, expected counts >= 0: for other values use the loss 'squared_error'")


def _numbers(name: str, values: ArrayLike, check: Callable[[str, Any], float]) -> tuple[float, ...]:
    """A number, or a list of at least one, as a tuple of checked ones."""
    array = any_array(name, values)
    if array.ndim == 0:
        return (check(name, array.item() if isinstance(values, np.ndarray) else values),)
    array = real_array(name, array)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} has shape {array.shape}, expected a number or a list of at least one")
    return tuple(check(f"{name}[{i}]", value) for i, value in enumerate(array.tolist()))


def _checked(name: str, outputs: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Any, ...]:
    """Outputs, targets and weights, as kernels take them."""
    outputs = outputs_of(name, outputs)
    m, k = outputs.shape
    return outputs, real_targets(y, m, k, outputs.dtype), sample_weights(sample_weight, m, outputs.dtype)


def _binary(
    scores: ArrayLike, y: ArrayLike, pos_weight: ArrayLike | None, sample_weight: ArrayLike | None
) -> tuple[Any, ...]:
    weights = pos_weights(pos_weight)
    outputs, targets, v = _checked("scores", scores, y, sample_weight)
    one_or_each("pos_weight", weights, outputs.shape[1])
    within("y", targets, 1.0)
    return outputs, targets, v, np.array(weights)


def _counts(scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Any, ...]:
    outputs, targets, v = _checked("scores", scores, y, sample_weight)
    within("y", targets)
    return outputs, targets, v


def _quantiles(pred: ArrayLike, y: ArrayLike, quantiles: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Any, ...]:
    chosen = checked_quantiles(quantiles)
    pred = outputs_of("pred", pred)
    m, k = pred.shape
    y = of_quantiles(y, m, k, pred.dtype, chosen)
    return pred, y, sample_weights(sample_weight, m, pred.dtype), np.array(chosen)


def _value(name: str, outputs: Array, *given: Any) -> float:
    return float(getattr(active(), name)(outputs, *given))


def _both(name: str, outputs: Array, *given: Any) -> tuple[float, Array]:
    return with_gradient(getattr(active(), f"{name}_backward"), outputs, *given)
