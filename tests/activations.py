"""The one table of activations: the settings that kernel and twin are tried with, and the formula without fastnn."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special


class Activation(NamedTuple):
    """An activation of ``fastnn.kernels`` and ``fastnn.reference``, whose backward pass takes its x or its y.

    ``value`` and ``slope``, the derivative, are functions of x and the settings.
    """

    value: Callable
    slope: Callable
    settings: tuple[float, ...] = ()
    keeps: str = "y"

    def kept(self, x, y):
        """What the backward pass takes beside the gradient."""
        return x if self.keeps == "x" else y


ACTIVATIONS = {
    "identity": Activation(lambda x: x, np.ones_like),
    "relu": Activation(lambda x: np.where(x > 0, x, 0), lambda x: (x > 0) * 1.0),
    "leaky_relu": Activation(
        lambda x, slope: np.where(x > 0, x, slope * x), lambda x, slope: np.where(x > 0, 1, slope), settings=(0.1,)
    ),
    "tanh": Activation(np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "sigmoid": Activation(special.expit, lambda x: special.expit(x) * special.expit(-x)),
}
