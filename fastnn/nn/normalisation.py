"""Normalisation as layers."""

import numpy as np

from .. import ops
from ..validation import Array, number, positive_int
from .layers import BuiltIn, Gradient, Parameter, built_in


@built_in
class LayerNorm(BuiltIn):
    """Layer normalisation: each sample less its mean over the units, over its standard deviation, scaled and shifted.

    y = (x - mean) / √(variance + eps) weight + bias, the variance that of the n units, not of a sample of them. The
    layer works the same in training and in prediction, and on one sample at a time.

    Parameters
    ----------
    n : int
        The units.
    eps : float
        Added to the variance, > 0.

    Attributes
    ----------
    weight, bias : ndarray (n,)
        One and zero at first. Views into the model's parameters; assigning to them writes the values. They are not
        penalised.
    weight_grad, bias_grad : ndarray (n,), or None before the first ``model.backward``

    Raises
    ------
    ValueError
        If n is not positive or eps not > 0.
    TypeError
        If n is no integer or eps no number.

    Notes
    -----
    Source: J. L. Ba, J. R. Kiros and G. E. Hinton, Layer normalization, arXiv 1607.06450, 2016.

    Examples
    --------
    >>> import fastnn as fnn
    >>> model = fnn.Sequential(fnn.Linear(4, 8), fnn.LayerNorm(8), fnn.ReLU(), fnn.Linear(8, 3))
    """

    operation = "layer_norm"
    arguments = ("n", "eps")
    settings = ("eps",)
    keeps = "x"
    kept = 2
    format = 3
    weight = Parameter("What the units are multiplied by (n,), a view into the model's parameters.")
    bias = Parameter("What is added to the units (n,), a view into the model's parameters.")
    weight_grad = Gradient()
    bias_grad = Gradient()
    _SAVED = ("_x",)
    _x: Array | None = None

    def __init__(self, n: int, eps: float = 1e-5) -> None:
        self.n_in = self.n_out = positive_int("n", n)
        self._eps = number("eps", eps, above=0)

    @property
    def n(self) -> int | None:
        """The units, fixed when the layer is made."""
        return self.n_in

    @property
    def eps(self) -> float:
        """What is added to the variance, fixed when the layer is made."""
        return self._eps

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of weight and bias."""
        return {"weight": (self.n_in or 0,), "bias": (self.n_in or 0,)}

    def initial(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return ones and zeros."""
        return {"weight": np.ones(self.n_in or 0), "bias": np.zeros(self.n_in or 0)}

    def forward(self, x: Array, training: bool = False) -> Array:
        """Return y (m, n) for x (m, n)."""
        y = ops.layer_norm(x, self.weight, self.bias, self.eps)
        if training:
            self._x = x
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (m, n) from dy (m, n), and keep the gradients of weight and bias."""
        if self._x is None:
            raise ValueError(f"{self!r} has no input to go back to: call forward(x, training=True) first")
        dx, dweight, dbias = ops.layer_norm_backward(dy, self._x, self.weight, self.bias, self.eps)
        self.keep_gradients(weight=dweight, bias=dbias)
        return dx
