"""Where the samples of a training come from: what a plan says of them, and what trains on them epoch by epoch.

They are arrays (:mod:`.arrays`), chunks of a source (:mod:`.streaming`), or arrays of many processes (:mod:`.striped`),
each by a class of both kinds here. All else of ``fit`` knows no more of them.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from ..nn.stack import Stack
from ..transaction import Copies
from ..validation import Array
from .compiled import Epoch
from .evaluation import validation_values
from .listeners import heard
from .replay import find_batch
from .together import Request

if TYPE_CHECKING:
    from ..model import Sequential
    from .plan import Plan


class Supply(ABC):
    """What gives the epochs of a plan their samples.

    Attributes
    ----------
    measures_training : bool
        Whether metrics are those of the training data too.
    runs_layers : bool
        Whether layers may run one by one although the plan is compiled.
    counts : tuple of int or None
        What a checkpoint keeps, as each epoch must have as many: None where nothing can change.
    """

    measures_training = True
    runs_layers = False
    counts: tuple[int, ...] | None = None

    @abstractmethod
    def samples(self, plan: "Plan") -> int:
        """Return how many samples an epoch has, 0 where nobody knows yet."""

    @abstractmethod
    def described(self, plan: "Plan") -> dict[str, Any]:
        """Return what a checkpoint tells the data by, under the names that a user knows."""

    @abstractmethod
    def trainer(self, stack: Stack, plan: "Plan", most: int) -> "Trainer":
        """Return what trains, and may be asked for so many epochs at once."""


class Trainer(ABC):
    """What trains for one epoch after the other.

    Parameters
    ----------
    stack : Stack
    plan : Plan
    train : function
        What trains for an epoch in a given order.
    """

    def __init__(self, stack: Stack, plan: "Plan", train: Epoch) -> None:
        self._stack, self._plan, self._train = stack, plan, train
        self._heard = train

    @property
    def seed(self) -> int | None:
        """What decides which units a dropout drops, None where nothing does."""
        return getattr(self._train, "seed", None)

    @seed.setter
    def seed(self, seed: int) -> None:
        self._train.seed = seed  # type: ignore[attr-defined]

    def listen(self, model: "Sequential") -> None:
        """Have the ``after_batch`` of callbacks called after each update from now on."""
        self._heard = heard(model, self._plan, self._train)

    @abstractmethod
    def draw(self) -> Any:
        """Return the order of an epoch, valid until the next one is drawn."""

    def __call__(self, order: Any, lr: float | Array, step: int) -> tuple[float, int]:
        """Return the loss of an epoch in this order, after ``step`` updates, and the batch that failed, or -1."""
        return self._heard(order, lr, step)

    def request(self, rates: list[float | Array], step: int) -> Request | None:
        """Return what epochs at these rates take, after ``step`` updates, or None where they are not to be asked for.

        Their orders are drawn as they begin.
        """
        return None

    @abstractmethod
    def check_again(self) -> None:
        """Raise ValueError if parameters or data are why numbers are not finite.

        ``prepare`` may have put this off, and the arrays are the user's, who can change them at any time.
        """

    def replay(self, order: Any, lr: float | Array, last: Copies) -> int:
        """Train an epoch that failed once more, as :func:`find_batch` does, and return the batch that it finds."""
        return find_batch(self._train, self._plan, order, lr, last)[1]

    def values_after(self) -> dict[str, float]:
        """Return the values of an epoch beside its loss."""
        return validation_values(self._stack, self._plan)
