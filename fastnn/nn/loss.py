"""What a loss is: a user's own, and what a built-in one declares, with what it says of the outputs it was made for."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from ..backend import active
from ..validation import Array, DType, real_targets
from .layers import shown

# What makes of outputs that which they stand for: classes' probabilities, a probability each, means of counts.
Link: TypeAlias = Literal["identity", "softmax", "sigmoid", "exp"]

# In place; the softmax comes with the outputs, from the pass that computes them.
_LINKS: dict[Link, Callable[[Array], Any]] = {
    "sigmoid": lambda outputs: active().sigmoid(outputs, outputs),
    "exp": lambda outputs: np.exp(outputs, out=outputs),
}


def linked(link: Link, outputs: Array) -> Array:
    """Return what contiguous outputs stand for, written over them; for "softmax" it is they themselves."""
    if link in _LINKS:
        with np.errstate(over="ignore"):  # as in the outputs themselves
            _LINKS[link](outputs)
    return outputs


@runtime_checkable
class Loss(Protocol):
    """What a loss is: a value and its gradient with respect to the model's outputs.

    A loss of your own is any object with these methods. ``y`` holds the batch's rows of the array given to ``fit``.
    ``sample_weight`` (m,) is passed as a third argument if and only if ``fit`` or ``evaluate`` was given one. The loss
    of an epoch is the mean over its batches, weighted by their sizes (or by the sums of their weights).
    """

    def forward(self, pred: Array, y: Array, /) -> float:
        """Return the loss of the outputs ``pred`` (m, k) against ``y``."""

    def backward(self, pred: Array, y: Array, /) -> ArrayLike:
        """Return the gradient (m, k) of the loss with respect to ``pred``."""


class BuiltInLoss:
    """A loss that kernels and twins know by a name.

    What the outputs of a model mean follows from the loss that it was trained with. ``predict`` gives what
    :meth:`predictions` makes of them, ``predict_proba`` what ``link`` makes of them where that are probabilities, and
    ``evaluate`` the means of :meth:`measures`. An ensemble averages what ``link`` makes of its members' outputs.

    Attributes
    ----------
    name : str
    arguments : tuple of str
        What the constructor takes, attributes of the same names: what is saved.
    settings : tuple of str
        The numbers among them that kernel and twin take, in their order.
    classifies : bool
        Whether y may hold the numbers of classes, a score of each among the outputs.
    link : {"identity", "softmax", "sigmoid", "exp"}
        What makes of the outputs that which they stand for: softmax and sigmoid make probabilities.
    measured : tuple of str
        What is measured beside the loss, the keys of :meth:`measures`.
    format : int
        The first format of saved models that has it.
    """

    name: ClassVar[str]
    arguments: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[tuple[str, ...]] = ()
    classifies: ClassVar[bool] = False
    link: ClassVar[Link] = "identity"
    measured: ClassVar[tuple[str, ...]] = ()
    format: ClassVar[int] = 1

    @property
    def operation(self) -> str:
        """The name of its kernel and of its twin."""
        return self.name

    def check(self, dtype: DType) -> None:
        """Raise ValueError or TypeError where the loss does not work in the dtype of a model."""

    def targets(self, y: ArrayLike, m: int, k: int, dtype: DType, name: str = "y", check_finite: bool = True) -> Array:
        """Return y as the kernel takes it for outputs (m, k); without ``check_finite`` it may hold NaN and inf."""
        array = real_targets(y, m, k, dtype, name, check_finite)
        self.check_targets(array, k, dtype, name)
        return array

    def check_targets(self, y: Array, k: int, dtype: DType, name: str = "y") -> None:
        """Raise ValueError if targets that :meth:`targets` returned hold what the loss cannot take, NaN aside."""

    def smoothing_left(self, y: Array) -> float:
        """Return the label smoothing that :meth:`targets` has left to do for y."""
        return 0.0

    def predictions(self, outputs: Array) -> Array:
        """Return what is predicted where these are the outputs (m, k); they may be overwritten."""
        return linked(self.link, outputs)

    def decisions(self, means: Array) -> Array:
        """Return what is predicted where ``link`` made these (m, k) of outputs, or they are a mean of such."""
        return means

    def pooled(self, outputs: Array) -> Array:
        """Return the outputs (m, k) that stand for the mean of what those of many (members, m, k) stand for."""
        with np.errstate(over="ignore", invalid="ignore"):
            mean: Array = outputs.mean(axis=0, dtype=np.float64).astype(outputs.dtype)
        return mean

    def measures(self, predicted: Array, y: Array) -> dict[str, Array]:
        """Return what is measured of each sample (m,), for what :meth:`predictions` returned and targets y."""
        return {}

    def classes_of(self, k: int) -> int:
        """Return how many classes k outputs tell apart, one of which is right; 0 where they do nothing like it."""
        return 0

    def compute(self, pred: Array, y: Array, sample_weight: Array | None) -> float:
        """Return the loss of checked arrays."""
        return float(getattr(active(), self.name)(pred, y, sample_weight, *self.given()))

    def compute_backward(self, pred: Array, y: Array, sample_weight: Array | None, out: Array) -> float:
        """Return the loss of checked arrays, and its gradient in ``out``."""
        return float(getattr(active(), f"{self.name}_backward")(pred, y, sample_weight, *self.given(), out))

    def numbers(self) -> tuple[float, ...]:
        """Return the settings as the epoch takes them."""
        return tuple(float(getattr(self, name)) for name in self.settings)

    def given(self) -> tuple[Any, ...]:
        """Return the settings as the functions of kernels and twins take them."""
        return self.numbers()

    def config(self) -> dict[str, Any]:
        """Return what the constructor takes to make a loss like this one."""
        return {name: getattr(self, name) for name in self.arguments}

    @property
    def needs_format(self) -> int:
        """The first format of saved models that can say it."""
        return self.format

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={shown(value)}' for name, value in self.config().items())})"
