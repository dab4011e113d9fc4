"""The callback that saves a model while it trains."""

import os
import string
from typing import TYPE_CHECKING, Any

from ..serialization import check_layers_saved
from ..validation import flag
from .watching import Mode, Values, Watching

if TYPE_CHECKING:
    from ..model import Sequential


class ModelCheckpoint(Watching):
    """A callback that saves the model whenever a value of the history is better than before, or after each epoch.

    ``model.fit(..., validation_data=(Xv, yv), callbacks=[fnn.ModelCheckpoint("best.npz")])``. Each file is written as
    by :meth:`Sequential.save`, so that an interruption leaves the earlier one whole, and :func:`fastnn.load` reads it.

    Parameters
    ----------
    path : str or path-like
        Where to save. It may hold the number of the epoch, from 1, and values of the history in braces, as
        "{epoch}.npz" or "{epoch:03d} {val_loss:.3f}.npz", and for :func:`fit_many` "{model}", the place of the model.
    monitor : str
        The value of the history: "val_loss", "loss", "val_accuracy", or one that ``metrics`` of ``fit`` ask for.
    save_best_only : bool
        Whether to save only after an epoch that is the best so far, or after each.
    mode : {"min", "max"}, optional
        Whether the value gets better as it falls or as it rises, for metrics of your own; others are known.

    Attributes
    ----------
    best_epoch : int or None
        The epoch with the best value that was saved, from 1; None before the first.
    best_value : float or None
        The value of that epoch.
    saved : str or None
        The last file.

    Raises
    ------
    ValueError
        If a setting is unknown; by ``fit``, before anything changes, if its history will not hold a value that is
        named, there is no such folder, or one path is for many models.
    TypeError
        If a setting is of another type; by ``fit``, if the model cannot be saved.
    OSError
        By ``fit``, which it ends after the epoch, if a file cannot be written.
    """

    best_epoch: int | None = None
    best_value: float | None = None
    saved: str | None = None
    _place: tuple[int, int] = (0, 1)

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        save_best_only: bool = True,
        mode: Mode | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
            raise TypeError(f"path is {path!r}, expected a str or a path")
        self.path = os.fspath(path)
        self.save_best_only = flag("save_best_only", save_best_only)
        self._fields = _fields(self.path)

    def begin(self, model: "Sequential", names: tuple[str, ...]) -> None:
        """Forget the last training; ``names`` are those of the values to come."""
        if self.save_best_only:
            self._check(names)
        models = self._place[1]
        for name in self._fields:
            if name not in ("epoch", "model", *names):
                known = ", ".join(f"{{{name}}}" for name in ("epoch", "model", *names))
                raise ValueError(f"path is {self.path!r}, which holds {{{name}}}: expected {known}")
        if models > 1 and "model" not in self._fields:
            raise ValueError(
                f"path is {self.path!r} for {models} models: put {{model}} into it, the place of each, or give each a "
                "callback of its own"
            )
        folder = os.path.dirname(self._path(1, dict.fromkeys(names, 0.5)))
        if folder and "{" not in os.path.dirname(self.path) and not os.path.isdir(folder):
            raise ValueError(f"path is {self.path!r}, but there is no folder {folder!r}: make it first")
        check_layers_saved(model.layers)
        self.best_epoch = self.best_value = self.saved = None

    def __call__(self, model: "Sequential", epoch: int, values: Values) -> None:
        """Save the model if it is the best so far, or each time."""
        value = values.get(self.monitor)
        is_best = value is not None and self._betters(value, self.best_value)
        if self.save_best_only and not is_best:
            return
        path = self._path(epoch, values)
        model.save(path)
        self.saved = path
        if is_best:
            self.best_epoch, self.best_value = epoch, value

    def end(self, model: "Sequential") -> None:
        """Forget the place among many models."""
        self._place = 0, 1

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` takes to go on from here."""
        return {"best_epoch": self.best_epoch, "best_value": self.best_value, "saved": self.saved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where the state was taken."""
        self.best_epoch, self.best_value, self.saved = state["best_epoch"], state["best_value"], state["saved"]

    def at(self, place: int, models: int) -> None:
        """Take a place among so many models."""
        self._place = place, models

    def _path(self, epoch: int, values: Values) -> str:
        try:
            return self.path.format(**{**values, "epoch": epoch, "model": self._place[0]})
        except (ValueError, TypeError) as error:
            raise ValueError(f"path is {self.path!r}, which cannot be filled in: {error}") from None

    def __repr__(self) -> str:
        return (
            f"ModelCheckpoint({self.path!r}, monitor={self.monitor!r}, save_best_only={self.save_best_only}"
            f"{self._shown_mode})"
        )


def _fields(path: str) -> set[str]:
    """The names in braces."""
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(path) if name is not None}
    except ValueError as error:
        raise ValueError(
            f"path is {path!r}, whose braces do not fit ({error}): write {{{{ for one of its own"
        ) from None
    for name in names:
        if not name.isidentifier():
            raise ValueError(f"path is {path!r}, which holds {{{name}}}: expected names, such as {{epoch}}")
    return names


def numbered(callbacks: Any, place: int, models: int) -> Any:
    """Let callbacks know which of the models that share their path theirs is, and return them."""
    for callback in callbacks:
        if isinstance(callback, ModelCheckpoint):
            callback.at(place, models)
    return callbacks
