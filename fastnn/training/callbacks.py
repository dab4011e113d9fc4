"""Callbacks: what ``fit`` calls after each epoch, and the one that stops in time."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..validation import Array, flag, number, positive_int

if TYPE_CHECKING:
    from ..model import Sequential

Values = dict[str, float]
Callback = Callable[["Sequential", int, Values], Any]

# The sign of a change for the better.
_BETTER = {"loss": -1, "val_loss": -1, "val_accuracy": 1}


class EarlyStopping:
    """A callback that stops the training once a value has not improved for long, and restores the best weights.

    ``model.fit(..., validation_data=(Xv, yv), callbacks=[fnn.EarlyStopping(patience=5)])``. The same object may serve
    one ``fit`` after the other: each starts afresh.

    Parameters
    ----------
    patience : int
        Training stops once so many epochs in a row did not improve the value.
    min_delta : float
        An epoch improves the value only if it betters the last one that did by more than this.
    monitor : {"val_loss", "loss", "val_accuracy"}
        The value of the history: losses get better as they fall, the accuracy as it rises.
    restore_best : bool
        Whether the model gets back the parameters of the epoch with the best value, however the training ends: stopped,
        with all its epochs, interrupted, or by an error. The state of the optimizer stays that of the last epoch.

    Attributes
    ----------
    best_epoch : int or None
        The epoch with the best value, from 1; None before the first.
    best_value : float or None
        The value of that epoch.

    Raises
    ------
    ValueError
        If a setting is out of its range or unknown; by ``fit``, before anything changes, if its history will not hold
        the monitored value.
    TypeError
        If a setting is of another type.
    """

    best_epoch: int | None
    best_value: float | None
    _best: list[Array]
    _improved_epoch: int
    _improved_value: float | None

    def __init__(
        self,
        patience: int = 10,
        min_delta: float = 0.0,
        monitor: Literal["val_loss", "loss", "val_accuracy"] = "val_loss",
        restore_best: bool = True,
    ) -> None:
        self.patience = positive_int("patience", patience)
        self.min_delta = number("min_delta", min_delta, least=0)
        if monitor not in tuple(_BETTER):
            raise ValueError(f"monitor is {monitor!r}, expected {', '.join(map(repr, _BETTER))}")
        self.monitor = monitor
        self.restore_best = flag("restore_best", restore_best)
        self._start()

    def begin(self, model: "Sequential", names: tuple[str, ...]) -> None:
        """Forget the last training; ``names`` are those of the values to come."""
        if self.monitor not in names:
            fix = "give fit validation_data" if "val_loss" not in names else "use the loss 'cross_entropy'"
            raise ValueError(
                f"monitor is {self.monitor!r}, but the history will hold {', '.join(map(repr, names))}: {fix}, or "
                f"monitor={names[-1]!r}"
            )
        self._start()

    def __call__(self, model: "Sequential", epoch: int, values: Values) -> bool:
        """Return whether the training has gone on without improvement for ``patience`` epochs."""
        value = values[self.monitor]
        if self._betters(value, self.best_value):
            if self.restore_best:
                self._best = [p.copy() for p in model.parameters()]
            self.best_epoch, self.best_value = epoch, value
        if self._betters(value, self._improved_value, self.min_delta):
            self._improved_epoch, self._improved_value = epoch, value
        return epoch - self._improved_epoch >= self.patience

    def end(self, model: "Sequential") -> None:
        """Restore the parameters of the best epoch."""
        if self._best:
            for p, best in zip(model.parameters(), self._best, strict=True):
                p[...] = best
        self._best = []

    def _betters(self, value: float, other: float | None, least: float = 0.0) -> bool:
        if other is None:
            return bool(np.isfinite(value))
        return _BETTER[self.monitor] * (value - other) > least

    def _start(self) -> None:
        self.best_epoch = self.best_value = None
        self._improved_epoch, self._improved_value = 0, None
        self._best = []

    def __repr__(self) -> str:
        return (
            f"EarlyStopping(patience={self.patience}, min_delta={self.min_delta:g}, monitor={self.monitor!r}, "
            f"restore_best={self.restore_best})"
        )


def asks_to_stop(answer: Any) -> bool:
    """Return whether what a callback returned is True, of Python or NumPy, and not just anything that is not zero."""
    return isinstance(answer, (bool, np.bool_)) and bool(answer)


def check_callbacks(callbacks: Iterable[Callback] | None) -> tuple[Callback, ...]:
    """Return the callbacks, all of which can be called; None is none."""
    if callbacks is None:
        return ()
    if callable(callbacks) or not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks is {callbacks!r}, expected a list of functions, such as [fnn.EarlyStopping()]")
    checked = tuple(callbacks)
    for i, callback in enumerate(checked):
        if isinstance(callback, type) or not callable(callback):
            raise TypeError(f"callbacks[{i}] is {callback!r}, expected a function of (model, epoch, values)")
    return checked


def begun(
    callbacks: tuple[Callback, ...], model: "Sequential", names: tuple[str, ...]
) -> AbstractContextManager[Callable[[int, Values], bool]]:
    """Return a context of what calls all callbacks and tells whether one wants to stop; they begin and end with it."""
    return _begun(callbacks, model, names) if callbacks else nullcontext(_never)


def _never(epoch: int, values: Values) -> bool:
    return False


@contextmanager
def _begun(
    callbacks: tuple[Callback, ...], model: "Sequential", names: tuple[str, ...]
) -> Iterator[Callable[[int, Values], bool]]:
    with ExitStack() as ends:
        for callback in callbacks:
            if hasattr(callback, "begin"):
                callback.begin(model, names)
            if hasattr(callback, "end"):
                ends.callback(callback.end, model)

        def after_epoch(epoch: int, values: Values) -> bool:
            answers = [callback(model, epoch, values) for callback in callbacks]
            return any(map(asks_to_stop, answers))

        yield after_epoch
