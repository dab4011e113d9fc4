"""Activations as layers, elementwise and without parameters."""

from typing import Literal

from ..ops.activations import activate, activate_backward, gelu_operation
from ..validation import Array, number
from .layers import BuiltIn, built_in, shown


class Elementwise(BuiltIn):
    """A built-in layer that is elementwise, without parameters, as wide as what comes."""


class BuiltInActivation(Elementwise):
    """A built-in activation: an operation and its gradient, which takes what the class says it keeps, x or y."""

    _SAVED = ("_kept",)
    _kept: Array | None = None

    def forward(self, x: Array, training: bool = False) -> Array:
        """Return y (m, k), elementwise, for x (m, k)."""
        y = activate(self.operation, x, *self.numbers())
        if training:
            self._kept = x if self.keeps == "x" else y
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (m, k) from dy (m, k)."""
        if self._kept is None:
            raise ValueError(f"{self!r} has nothing to go back from: call forward(x, training=True) first")
        return activate_backward(self.operation, dy, (self.keeps, self._kept), *self.numbers())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={shown(getattr(self, name))}' for name in self.arguments)})"


@built_in
class Identity(BuiltInActivation):
    """The activation y = x."""

    operation = "identity"
    keeps = "y"
    vanishes = True


@built_in
class ReLU(BuiltInActivation):
    """The activation y = max(x, 0)."""

    operation = "relu"
    keeps = "y"
    rectifier = 0.0


@built_in
class LeakyReLU(BuiltInActivation):
    """The activation y = x where x > 0, else slope x.

    Parameters
    ----------
    slope : float
        Finite and >= 0.
    """

    operation = "leaky_relu"
    arguments = settings = ("slope",)
    keeps = "y"

    def __init__(self, slope: float = 0.01) -> None:
        self._slope = number("slope", slope, least=0)

    @property
    def slope(self) -> float:
        """The slope where x <= 0, fixed when the layer is made."""
        return self._slope

    @property
    def rectifier(self) -> float:  # type: ignore[override]  # a class's constant elsewhere
        """The slope."""
        return self._slope


@built_in
class Tanh(BuiltInActivation):
    """The activation y = tanh x."""

    operation = "tanh"
    keeps = "y"


@built_in
class Sigmoid(BuiltInActivation):
    """The activation y = 1 / (1 + e^-x)."""

    operation = "sigmoid"
    keeps = "y"


@built_in
class GELU(BuiltInActivation):
    """The activation y = x Φ(x), Φ the distribution function of the normal distribution.

    Parameters
    ----------
    approximate : {"none", "tanh"}
        Φ(x) = (1 + erf(x/√2))/2 itself, or (1 + tanh(√(2/π) (x + 0.044715 x³)))/2 for it, which costs a little less and
        is what some models were trained with.

    Raises
    ------
    ValueError
        If ``approximate`` is neither.

    Notes
    -----
    Source: D. Hendrycks and K. Gimpel, Gaussian error linear units (GELUs), arXiv 1606.08415, 2016.
    """

    arguments = ("approximate",)
    keeps = "x"
    format = 3

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        gelu_operation(approximate)  # which refuses what is no formula
        self._approximate = approximate

    @property
    def approximate(self) -> Literal["none", "tanh"]:
        """The formula, fixed when the layer is made."""
        return self._approximate

    @property
    def operation(self) -> str:  # type: ignore[override]  # a class's constant elsewhere
        """The operation of the formula."""
        return gelu_operation(self._approximate)


@built_in
class SiLU(BuiltInActivation):
    """The activation y = x σ(x), σ the sigmoid; also known as swish.

    At -inf it is NaN, as -inf 0 is, and its slope at both infinities.

    Notes
    -----
    Source: S. Elfwing, E. Uchibe and K. Doya, Sigmoid-weighted linear units for neural network function approximation
    in reinforcement learning, Neural Networks 107, 2018.
    """

    operation = "silu"
    keeps = "x"
    format = 5


@built_in
class Mish(BuiltInActivation):
    """The activation y = x tanh(log(1 + e^x)).

    At -inf it is NaN, as -inf 0 is, and its slope at both infinities.

    Notes
    -----
    Source: D. Misra, Mish: a self regularized non-monotonic activation function, BMVC 2020.
    """

    operation = "mish"
    keeps = "x"
    format = 5


@built_in
class ELU(BuiltInActivation):
    """The activation y = x where x > 0, else alpha (e^x - 1).

    Its slope at 0 is alpha.

    Parameters
    ----------
    alpha : float
        Finite and >= 0: for large negative x the activation is -alpha.

    Raises
    ------
    ValueError
        If ``alpha`` is out of its range.
    TypeError
        If it is not a number.

    Notes
    -----
    Source: D.-A. Clevert, T. Unterthiner and S. Hochreiter, Fast and accurate deep network learning by exponential
    linear units (ELUs), ICLR 2016.
    """

    operation = "elu"
    arguments = settings = ("alpha",)
    keeps = "x"
    format = 5

    def __init__(self, alpha: float = 1.0) -> None:
        self._alpha = number("alpha", alpha, least=0)

    @property
    def alpha(self) -> float:
        """How far down it goes, fixed when the layer is made."""
        return self._alpha


@built_in
class SELU(BuiltInActivation):
    """The activation y = λ x where x > 0, else λ α (e^x - 1), λ = 1.0507009873554805 and α = 1.6732632423543772.

    What comes with mean 0 and variance 1 leaves so, through many layers whose weights have mean 0 and variance 1/n_in.

    Notes
    -----
    Source: G. Klambauer, T. Unterthiner, A. Mayr and S. Hochreiter, Self-normalizing neural networks, NeurIPS 2017.
    """

    operation = "selu"
    keeps = "x"
    format = 5


@built_in
class Softplus(BuiltInActivation):
    """The activation y = log(1 + e^x), which is positive everywhere: a smooth ReLU.

    It is computed by this formula for large x too, where others return x from some x on.

    Notes
    -----
    Source: C. Dugas et al., Incorporating second-order functional knowledge for better option pricing, NeurIPS 2000.
    """

    operation = "softplus"
    keeps = "x"
    format = 5


@built_in
class HardSwish(BuiltInActivation):
    """The activation y = x min(max(x + 3, 0), 6) / 6, a cheap stand-in for :class:`SiLU`.

    At -inf it is NaN, as -inf 0 is.

    Notes
    -----
    Source: A. Howard et al., Searching for MobileNetV3, ICCV 2019, section 5.2.
    """

    operation = "hard_swish"
    keeps = "x"
    format = 5
