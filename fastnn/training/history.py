"""What training leaves behind: the losses of each epoch, and the line that is printed for it."""

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..tables import Row, Table

if TYPE_CHECKING:
    from ..nn.optimizer import Optimizer

_SHOWN = 5  # epochs at each end of a long history


class History(dict[str, list[float]]):
    """The values of each epoch: "loss", "val_loss" and "val_accuracy" where there are validation data, and metrics.

    Attributes
    ----------
    interrupted : bool
        Whether Ctrl-C ended the training early.
    stopped : bool
        Whether a callback did.
    error : Exception or None
        What ended the training of one of many networks, see :func:`fastnn.fit_many`.
    optimizer : Optimizer or None
        The one that :func:`fastnn.fit_many` used. Pickles and copies of a history leave it out.
    """

    error: Exception | None = None
    optimizer: "Optimizer | None" = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.interrupted = False
        self.stopped = False

    def record(self, values: dict[str, float]) -> None:
        """Append the values of one epoch."""
        for name, value in values.items():
            self.setdefault(name, []).append(value)

    def cut(self, names: Iterable[str], epochs: int) -> None:
        """Forget the values of these names after so many epochs; lists that a callback keeps here are its own."""
        for name in names:
            if name in self:
                del self[name][epochs:]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "optimizer"}

    def _repr_html_(self) -> str:
        """Return a table of the epochs for a notebook, of many only the first and the last ones."""
        columns = [[f"{value:.4g}" for value in values] for values in self.values()]
        rows: list[Row] = [
            (str(i), *row) for i, row in enumerate(itertools.zip_longest(*columns, fillvalue=""), start=1)
        ]
        if len(rows) > 2 * _SHOWN + 1:
            rows[_SHOWN:-_SHOWN] = [["…"] * (1 + len(self))]
        ends = {
            "interrupted": self.interrupted,
            "stopped by a callback": self.stopped,
            f"ended by {type(self.error).__name__}": self.error is not None,
        }
        return Table(("epoch", *self), rows, 0, note=", ".join(end for end, is_so in ends.items() if is_so)).html()


def progress_line(epoch: int, epochs: int, values: dict[str, float], samples_per_second: float) -> str:
    """Return the line of an epoch, counted from 1: every value, and the speed of training."""
    parts = [f"epoch {epoch:{len(str(epochs))}d}/{epochs}"]
    parts += [f"{name} {value:.4f}" for name, value in values.items()]
    return "  ".join([*parts, f"{samples_per_second:,.0f} samples/s"])
