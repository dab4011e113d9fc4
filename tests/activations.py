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


def _tanh(x):
    """The tanh of GELU's approximation, as PyTorch writes it."""
    return np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


def _tanh_slope(x):
    return (1 - _tanh(x) ** 2) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)


# λ and α of SELU, as PyTorch has them.
_SCALE, _ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

ACTIVATIONS = {
    "identity": Activation(lambda x: x, np.ones_like),
    "relu": Activation(lambda x: np.where(x > 0, x, 0), lambda x: (x > 0) * 1.0),
    "leaky_relu": Activation(
        lambda x, slope: np.where(x > 0, x, slope * x), lambda x, slope: np.where(x > 0, 1, slope), settings=(0.1,)
    ),
    "tanh": Activation(np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "sigmoid": Activation(special.expit, lambda x: special.expit(x) * special.expit(-x)),
    "gelu": Activation(
        lambda x: x * special.ndtr(x),
        lambda x: special.ndtr(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi),
        keeps="x",
    ),
    "gelu_tanh": Activation(
        lambda x: x / 2 * (1 + _tanh(x)), lambda x: (1 + _tanh(x) + x * _tanh_slope(x)) / 2, keeps="x"
    ),
    "silu": Activation(
        lambda x: x * special.expit(x),
        lambda x: special.expit(x) * (1 + x * special.expit(-x)),
        keeps="x",
    ),
    "mish": Activation(
        lambda x: x * np.tanh(-special.log_expit(-x)),
        lambda x: np.tanh(-special.log_expit(-x)) + x * special.expit(x) / np.cosh(special.log_expit(-x)) ** 2,
        keeps="x",
    ),
    "elu": Activation(
        lambda x, alpha: np.where(x > 0, x, alpha * special.expm1(np.minimum(x, 0))),
        lambda x, alpha: np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0))),
        settings=(0.7,),
        keeps="x",
    ),
    "selu": Activation(
        lambda x: _SCALE * np.where(x > 0, x, _ALPHA * special.expm1(np.minimum(x, 0))),
        lambda x: _SCALE * np.where(x > 0, 1, _ALPHA * np.exp(np.minimum(x, 0))),
        keeps="x",
    ),
    "softplus": Activation(lambda x: -special.log_expit(-x), special.expit, keeps="x"),
    "hard_swish": Activation(
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
        lambda x: np.select([x <= -3, x >= 3], [0, 1], x / 3 + 0.5),
        keeps="x",
    ),
}
