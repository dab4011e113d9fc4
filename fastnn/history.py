"""What training leaves behind: the losses of each epoch, and the line that is printed for it."""

from typing import Any


class History(dict[str, list[float]]):
    """The values of each epoch: "loss", and "val_loss" and "val_accuracy" where there are validation data.

    Attributes
    ----------
    interrupted : bool
        Whether Ctrl-C ended the training early.
    stopped : bool
        Whether a callback did.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.interrupted = False
        self.stopped = False

    def record(self, values: dict[str, float]) -> None:
        """Append the values of one epoch."""
        for name, value in values.items():
            self.setdefault(name, []).append(value)


def progress_line(epoch: int, epochs: int, values: dict[str, float], samples_per_second: float) -> str:
    """Return the line of an epoch, counted from 1: every value, and the speed of training."""
    parts = [f"epoch {epoch:{len(str(epochs))}d}/{epochs}"]
    parts += [f"{name} {value:.4f}" for name, value in values.items()]
    return "  ".join([*parts, f"{samples_per_second:,.0f} samples/s"])
