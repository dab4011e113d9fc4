"""What is seen of a training: a bar of tqdm on a terminal or in a notebook, where tqdm is installed, or else lines."""

import contextlib
import importlib
import sys
from typing import Any

from .history import progress_line


def bar(total: int, unit: str, leave: bool = False) -> Any:
    """Return a bar over so many units, or None where none can be shown."""
    if not _is_watched(sys.stderr):
        return None
    try:
        tqdm = importlib.import_module("tqdm.auto")
    except ImportError:
        return None
    return tqdm.tqdm(total=total, unit=unit, leave=leave)


class Report:
    """What a fit shows with ``verbose=1``: a bar with the values of the last epoch, or a line an epoch.

    Lines that go elsewhere than to a terminal or a notebook are lines whatever else is there.
    """

    def __init__(self, epochs: int, verbose: bool) -> None:
        self._epochs, self._verbose = epochs, verbose
        self._bar = bar(epochs, "epoch", leave=True) if verbose and _is_watched(sys.stdout) else None

    def epoch(self, epoch: int, values: dict[str, float], samples_per_second: float) -> None:
        """Show the values of an epoch, counted from 1."""
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in values.items()}, refresh=False)
            self._bar.update()
        elif self._verbose:
            print(progress_line(epoch, self._epochs, values, samples_per_second), flush=True)

    def resumed(self, epoch: int) -> None:
        """Say that so many epochs were trained before."""
        if self._bar is not None:
            self._bar.update(epoch)
        elif self._verbose:
            print(f"going on after epoch {epoch} of {self._epochs}", flush=True)

    def lines(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context whose printed lines stand above the bar."""
        return contextlib.nullcontext() if self._bar is None else self._bar.external_write_mode(file=sys.stdout)

    def ended(self, epoch: int, why: str) -> None:
        """Say why no more epochs come."""
        if self._verbose:
            self.close()
            print(f"{why}: stopped after epoch {epoch} of {self._epochs}", flush=True)

    def close(self) -> None:
        """Let the bar stand as it is."""
        if self._bar is not None:
            self._bar.close()


def _is_watched(stream: Any) -> bool:
    """Whether what is written goes to a terminal or into a notebook."""
    return stream is not None and (type(stream).__module__.startswith("ipykernel") or stream.isatty())
