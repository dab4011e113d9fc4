"""Dropout as a layer; where a network is data the compiled epoch drops by itself, from a seed drawn for each fit."""

import numpy as np

from ..backend import active
from ..validation import Array, contiguous, dimensions, float_arrays, number, same_shape
from .activations import Elementwise
from .layers import built_in


@built_in
class Dropout(Elementwise):
    """Dropout: in training each unit is zero with probability ``rate``, and the others are divided by 1 - rate.

    Otherwise the layer is the identity: ``predict``, ``evaluate`` and validation take all units. Which units are zero
    changes from batch to batch and follows from the seed of the model, at any number of threads and on both backends.

    Parameters
    ----------
    rate : float
        0 <= rate < 1.

    Raises
    ------
    ValueError
        If the rate is out of its range.
    TypeError
        If it is not a number.

    Notes
    -----
    Source: N. Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, JMLR 15, 2014; the
    division in training, instead of a product afterwards, leaves the expected output of each unit as it is.
    """

    operation = "dropout"
    arguments = settings = ("rate",)
    draws = True
    in_inference = False
    format = 2
    _SAVED = ("_key", "_x")
    _key: int = 0
    _x: Array | None = None

    def __init__(self, rate: float = 0.5) -> None:
        self._rate = number("rate", rate, least=0, below=1)

    @property
    def rate(self) -> float:
        """The probability that a unit is zero in training, fixed when the layer is made."""
        return self._rate

    def forward(self, x: Array, training: bool = False) -> Array:
        """Return x (m, k), with units dropped when ``training``: others in each such pass."""
        if not training:
            return x
        if self._rng is None:
            raise ValueError(f"{self!r} draws from its model's generator: it gets one when a Sequential is built of it")
        (x,) = float_arrays(("x", x))
        dimensions("x", x, 2)
        self._x, self._key = x, draw_seed(self._rng)
        return self._masked(x)

    def backward(self, dy: Array) -> Array:
        """Return dx (m, k) from dy (m, k): zero where the last training pass dropped, else dy / (1 - rate)."""
        if self._x is None:
            raise ValueError(f"{self!r} dropped nothing yet to go back through: call forward(x, training=True) first")
        (dy,) = float_arrays(("dy", dy))
        same_shape("dy", dy, "x", self._x)
        return self._masked(dy)

    def _masked(self, x: Array) -> Array:
        out = np.empty(x.shape, x.dtype)
        active().dropout(contiguous(x), self.rate, self._key, out)
        return out


def draw_seed(rng: np.random.Generator) -> int:
    """Return what masks follow from, an integer from 0 to 2^63."""
    return int(rng.integers(1 << 63))
