"""What callbacks have in common that watch a value of the history, and the one that lowers the learning rate."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ..validation import number, positive_int
from .metrics import BY_NAME, better

if TYPE_CHECKING:
    from ..model import Sequential
    from ..nn.optimizer import Optimizer

Values = dict[str, float]
Mode: TypeAlias = Literal["min", "max"]


def better_of(monitor: Any, mode: Any) -> int:
    """Return the sign of a change for the better of a value, as its name or the mode says."""
    if not isinstance(monitor, str):
        raise TypeError(f"monitor is {monitor!r}, expected the name of a value of the history, such as 'val_loss'")
    if mode is not None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode is {mode!r}, expected 'min', 'max' or None")
        return 1 if mode == "max" else -1
    sign = better(monitor)
    if sign is None:
        known = ", ".join(map(repr, ("loss", *BY_NAME)))
        raise ValueError(
            f"monitor is {monitor!r}, expected {known}, or one of these with 'val_' before it; for another metric say "
            "whether it gets better as it falls or rises: mode='min' or mode='max'"
        )
    return sign


class Watching(ABC):
    """A callback that watches a value of the history."""

    def __init__(self, monitor: str, mode: Mode | None) -> None:
        better_of(monitor, mode)
        self.monitor, self.mode = monitor, mode

    @abstractmethod
    def __call__(self, model: "Sequential", epoch: int, values: Values) -> Any:
        """Take the values of an epoch."""

    @property
    def _shown_mode(self) -> str:
        return "" if self.mode is None else f", mode={self.mode!r}"

    def _check(self, names: tuple[str, ...]) -> None:
        """Raise ValueError if the history will not hold the value."""
        if self.monitor not in names:
            metric = self.monitor.removeprefix("val_")
            fix = "use the loss 'cross_entropy'" if self.monitor == "val_accuracy" else f"give fit metrics={[metric]}"
            if self.monitor != metric and "val_loss" not in names:
                fix = "give fit validation_data or validation_split"
            raise ValueError(
                f"monitor is {self.monitor!r}, but the history will hold {', '.join(map(repr, names))}: {fix}, or "
                f"monitor={names[-1]!r}"
            )

    def _betters(self, value: float, other: float | None, least: float = 0.0) -> bool:
        """Return whether a value is better than another by more than ``least``; than None any finite one is."""
        if other is None:
            return bool(np.isfinite(value))
        return better_of(self.monitor, self.mode) * (value - other) > least


class Waiting(Watching):
    """A callback that waits for improvements of a value.

    An epoch improves it if it betters the last one that did by more than ``min_delta``.
    """

    _improved_epoch: int
    _improved_value: float | None

    def __init__(self, patience: int, min_delta: float, monitor: str, mode: Mode | None) -> None:
        self.patience = positive_int("patience", patience)
        self.min_delta = number("min_delta", min_delta, least=0)
        super().__init__(monitor, mode)
        self._wait_from(0)

    def _wait_from(self, epoch: int) -> None:
        """Wait for an improvement from an epoch on; before the first epoch, of any value."""
        self._improved_epoch = epoch
        if epoch == 0:
            self._improved_value = None

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` takes to go on from here."""
        return {"improved_epoch": self._improved_epoch, "improved_value": self._improved_value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where the state was taken."""
        self._improved_epoch, self._improved_value = state["improved_epoch"], state["improved_value"]

    def _has_waited(self, epoch: int, value: float) -> bool:
        """Return whether, with the value of this epoch, ``patience`` epochs in a row have brought no improvement."""
        if self._betters(value, self._improved_value, self.min_delta):
            self._improved_epoch, self._improved_value = epoch, value
        return epoch - self._improved_epoch >= self.patience


class ReduceOnPlateau(Waiting):
    """A callback that lowers the learning rate once a value has not improved for long.

    ``model.fit(..., validation_data=(Xv, yv), callbacks=[fnn.ReduceOnPlateau(patience=3)])``. It assigns ``lr`` of the
    optimizer that ``fit`` uses, which keeps it when the training is over. The same object may serve one ``fit`` after
    the other: each starts afresh, from the rate that the optimizer has by then.

    Parameters
    ----------
    factor : float
        What the rate is multiplied by, > 0 and < 1.
    patience : int
        The rate is lowered once so many epochs in a row did not improve the value, and again after as many more.
    min_delta : float
        An epoch improves the value only if it betters the last one that did by more than this.
    monitor : str
        The value of the history: "val_loss", "loss", "val_accuracy", or one that ``metrics`` of ``fit`` ask for.
    min_lr : float
        The rate is never lowered below this, >= 0.
    mode : {"min", "max"}, optional
        Whether the value gets better as it falls or as it rises, for metrics of your own; others are known.

    Attributes
    ----------
    reductions : list of int
        The epochs, from 1, after which the rate was lowered.

    Raises
    ------
    ValueError
        If a setting is out of its range or unknown; by ``fit``, before anything changes, if its history will not hold
        the monitored value, or the optimizer's learning rate is a schedule.
    TypeError
        If a setting is of another type.
    """

    _optimizer: "Optimizer | None" = None

    def __init__(
        self,
        factor: float = 0.5,
        patience: int = 5,
        min_delta: float = 0.0,
        monitor: str = "val_loss",
        min_lr: float = 0.0,
        mode: Mode | None = None,
    ) -> None:
        self.factor = number("factor", factor, above=0, below=1)
        super().__init__(patience, min_delta, monitor, mode)
        self.min_lr = number("min_lr", min_lr, least=0)
        self.reductions: list[int] = []

    def begin(self, model: "Sequential", names: tuple[str, ...], optimizer: "Optimizer") -> None:
        """Forget the last training; ``names`` are those of the values to come."""
        self._check(names)
        self._rate(optimizer)
        self._wait_from(0)
        self._optimizer, self.reductions = optimizer, []

    def __call__(self, model: "Sequential", epoch: int, values: Values) -> None:
        """Lower the learning rate if it is time."""
        if self._optimizer is not None and self._has_waited(epoch, values[self.monitor]):
            lr = self._rate(self._optimizer)
            lower = max(lr * self.factor, self.min_lr)
            if 0 < lower < lr:
                self._optimizer.lr = lower
                self.reductions.append(epoch)
            self._wait_from(epoch)

    def end(self, model: "Sequential") -> None:
        """Let go of the optimizer."""
        self._optimizer = None

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` takes to go on from here; the rate is the optimizer's."""
        return {**super().state_dict(), "reductions": [*self.reductions]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where the state was taken."""
        super().load_state_dict(state)
        self.reductions = [*state["reductions"]]

    @staticmethod
    def _rate(optimizer: "Optimizer") -> float:
        lr: Any = optimizer.lr
        if callable(lr):
            raise ValueError(
                f"lr of the optimizer is {lr!r}, but ReduceOnPlateau lowers a number: give the optimizer one, such as "
                "lr=0.1, or leave the callback out"
            )
        return float(lr)

    def __repr__(self) -> str:
        return (
            f"ReduceOnPlateau(factor={self.factor:g}, patience={self.patience}, min_delta={self.min_delta:g}, "
            f"monitor={self.monitor!r}, min_lr={self.min_lr:g}{self._shown_mode})"
        )
