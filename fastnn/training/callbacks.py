"""Callbacks: what ``fit`` calls after each epoch, and the one that stops in time."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from ..validation import Array, flag
from .watching import Mode, Values, Waiting

if TYPE_CHECKING:
    from ..model import Sequential
    from .plan import Plan

Callback = Callable[["Sequential", int, Values], Any]


class EarlyStopping(Waiting):
    """A callback that stops the training once a value has not improved for long, and restores the best weights.

    ``model.fit(..., validation_data=(Xv, yv), callbacks=[fnn.EarlyStopping(patience=5)])``. The same object may serve
    one ``fit`` after the other: each starts afresh.

    Parameters
    ----------
    patience : int
        Training stops once so many epochs in a row did not improve the value.
    min_delta : float
        An epoch improves the value only if it betters the last one that did by more than this.
    monitor : str
        The value of the history: "val_loss", "loss", "val_accuracy", or one that ``metrics`` of ``fit`` ask for.
    restore_best : bool
        Whether the model gets back the parameters of the epoch with the best value, however the training ends: stopped,
        with all its epochs, interrupted, or by an error. The state of the optimizer stays that of the last epoch.
    mode : {"min", "max"}, optional
        Whether the value gets better as it falls or as it rises, for metrics of your own; others are known.

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

    def __init__(
        self,
        patience: int = 10,
        min_delta: float = 0.0,
        monitor: str = "val_loss",
        restore_best: bool = True,
        mode: Mode | None = None,
    ) -> None:
        super().__init__(patience, min_delta, monitor, mode)
        self.restore_best = flag("restore_best", restore_best)
        self._start()

    def begin(self, model: "Sequential", names: tuple[str, ...]) -> None:
        """Forget the last training; ``names`` are those of the values to come."""
        self._check(names)
        self._start()

    def __call__(self, model: "Sequential", epoch: int, values: Values) -> bool:
        """Return whether the training has gone on without improvement for ``patience`` epochs."""
        value = values[self.monitor]
        if self._betters(value, self.best_value):
            if self.restore_best:
                self._best = [array.copy() for array in _restored(model)]
            self.best_epoch, self.best_value = epoch, value
        return self._has_waited(epoch, value)

    def end(self, model: "Sequential") -> None:
        """Restore the parameters of the best epoch."""
        if self._best:
            for array, best in zip(_restored(model), self._best, strict=True):
                array[...] = best
        self._best = []

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` takes to go on from here, the best weights included."""
        own = {"best_epoch": self.best_epoch, "best_value": self.best_value, "best": [*self._best]}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where the state was taken."""
        super().load_state_dict(state)
        self.best_epoch, self.best_value, self._best = state["best_epoch"], state["best_value"], [*state["best"]]

    def _start(self) -> None:
        self._wait_from(0)
        self.best_epoch = self.best_value = None
        self._best = []

    def __repr__(self) -> str:
        return (
            f"EarlyStopping(patience={self.patience}, min_delta={self.min_delta:g}, monitor={self.monitor!r}, "
            f"restore_best={self.restore_best}{self._shown_mode})"
        )


def _restored(model: "Sequential") -> list[Array]:
    """The parameters of a model, and what its layers keep of the data, as running means."""
    stack = getattr(model, "_stack", None)
    layers = () if stack is None else stack.built_in
    return [*model.parameters(), *(getattr(layer, name) for layer in layers for name in layer.buffers)]


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


def begun(model: "Sequential", plan: "Plan") -> AbstractContextManager[Callable[[int, Values], bool]]:
    """Return a context of what calls all callbacks and tells whether one wants to stop; they begin and end with it."""
    return _begun(model, plan) if plan.callbacks else nullcontext(_never)


def _never(epoch: int, values: Values) -> bool:
    return False


@contextmanager
def _begun(model: "Sequential", plan: "Plan") -> Iterator[Callable[[int, Values], bool]]:
    callbacks = plan.callbacks  # all that after_epoch refers to, so that an error of theirs keeps no data alive
    with ExitStack() as ends:
        for callback in callbacks:
            if hasattr(callback, "begin"):
                more = {"optimizer": plan.optimizer} if _takes_optimizer(callback.begin) else {}
                callback.begin(model, plan.names, **more)
            if hasattr(callback, "end"):
                ends.callback(callback.end, model)

        def after_epoch(epoch: int, values: Values) -> bool:
            answers = [callback(model, epoch, values) for callback in callbacks]
            return any(map(asks_to_stop, answers))

        yield after_epoch


def _takes_optimizer(begin: Callable[..., Any]) -> bool:
    try:
        return "optimizer" in inspect.signature(begin).parameters
    except (TypeError, ValueError):  # of a function that is not Python's
        return False
