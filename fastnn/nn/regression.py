"""Losses of outputs that are values, quantiles or logarithms of means."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import ops
from ..validation import SMALLEST_NORMAL, Array, DType, number
from .loss import BuiltInLoss


class SquaredError(BuiltInLoss):
    """The mean over samples of the sum over outputs of (pred - y)². See :func:`fastnn.squared_error`."""

    name = "squared_error"

    def forward(self, pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the loss."""
        return ops.squared_error(pred, y, sample_weight)

    def backward(self, pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Return the gradient (m, k) with respect to ``pred``."""
        return ops.squared_error_backward(pred, y, sample_weight)


class AbsoluteError(BuiltInLoss):
    """The mean over samples of the sum over outputs of |pred - y|, whose best constant is the median.

    Where pred = y its gradient is 0. See :func:`fastnn.absolute_error`.
    """

    name = "absolute_error"
    format = 5

    def forward(self, pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the loss."""
        return ops.absolute_error(pred, y, sample_weight)

    def backward(self, pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Return the gradient (m, k) with respect to ``pred``."""
        return ops.absolute_error_backward(pred, y, sample_weight)


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


class Pinball(BuiltInLoss):
    """The mean over samples of the sum over outputs of max(q r, (q - 1) r), r = y - pred: output j predicts quantile j.

    With several quantiles a model has one output for each, and y (m,) or (m, 1), of which all are quantiles; with y
    (m, k) output j is quantile j of column j. With one quantile it is that of every column of y (m, k). Outputs of
    different quantiles may cross. See :func:`fastnn.pinball`.

    Parameters
    ----------
    quantiles : float or array_like
        Each > 0 and < 1; the outputs are in their order.

    Raises
    ------
    ValueError
        If there is none or one is out of its range; by ``fit`` and others, if there are several but another number of
        outputs.
    TypeError
        If they are not real numbers.

    Notes
    -----
    Source: R. Koenker and G. Bassett, Regression quantiles, Econometrica 46, 1978.

    Examples
    --------
    >>> import fastnn as fnn
    >>> fnn.Pinball([0.25, 0.75]).forward([[1.0, 1.0]], [3.0])  # 0.25 · 2 + 0.75 · 2
    2.0
    """

    name = "pinball"
    arguments = ("quantiles",)
    format = 5

    def __init__(self, quantiles: float | ArrayLike = (0.1, 0.5, 0.9)) -> None:
        self._quantiles = ops.elementwise_losses.checked_quantiles(quantiles)

    @property
    def quantiles(self) -> tuple[float, ...]:
        """The quantiles, fixed when the loss is made."""
        return self._quantiles

    def check(self, dtype: DType) -> None:
        """Raise ValueError where a quantile is 0 or 1 in ``dtype``."""
        for q in self._quantiles:
            if not 0 < dtype.type(q) < 1:
                raise ValueError(f"quantiles holds {q!r}, which is {dtype.type(q):g} in {dtype}: use dtype='float64'")

    def targets(self, y: ArrayLike, m: int, k: int, dtype: DType, name: str = "y", check_finite: bool = True) -> Array:
        """Return y (m, k), a column of it once for each quantile."""
        return ops.elementwise_losses.of_quantiles(y, m, k, dtype, self._quantiles, name, check_finite)

    def numbers(self) -> tuple[float, ...]:
        """Return how many quantiles there are, and the quantiles."""
        return float(len(self._quantiles)), *self._quantiles

    def given(self) -> tuple[Any, ...]:
        """Return the quantiles as an array."""
        return (np.array(self._quantiles),)

    def forward(self, pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the loss."""
        return ops.pinball(pred, y, self._quantiles, sample_weight)

    def backward(self, pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Return the gradient (m, k) with respect to ``pred``."""
        return ops.pinball_backward(pred, y, self._quantiles, sample_weight)


class Poisson(BuiltInLoss):
    """The mean over samples of the sum over outputs of e^s - y s, for counts y >= 0 whose mean is e^s.

    The outputs s are logarithms: ``predict`` gives e^s. See :func:`fastnn.poisson`.

    Notes
    -----
    It is the negative logarithm of the likelihood without its part log y!, which no output changes, as in PyTorch's
    ``PoissonNLLLoss``.

    Examples
    --------
    >>> import fastnn as fnn
    >>> fnn.Poisson().forward([[0.0], [0.0]], [2, 5])  # e^0 for both
    1.0
    """

    name = "poisson"
    link = "exp"
    format = 5

    def check_targets(self, y: Array, k: int, dtype: DType, name: str = "y") -> None:
        """Raise ValueError if a count is negative."""
        ops.elementwise_losses.within(name, y)

    def pooled(self, outputs: Array) -> Array:
        """Return the logarithm of the mean of e^s."""
        pooled = ops.logsumexp(outputs, axis=0)
        pooled -= pooled.dtype.type(math.log(len(outputs)))
        return pooled

    def forward(self, scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the loss."""
        return ops.poisson(scores, y, sample_weight)

    def backward(self, scores: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Return the gradient (m, k) with respect to the scores."""
        return ops.poisson_backward(scores, y, sample_weight)
