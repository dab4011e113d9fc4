"""The bar that ``verbose=True`` shows beside scikit-learn's lines."""

import contextlib
import sys
from types import TracebackType
from typing import Any

from ..training.progress import bar


class Progress:
    """A bar of tqdm over several epochs, on a terminal or in a notebook, where tqdm is installed."""

    def __init__(self, mlp: Any, epochs: int) -> None:
        self._bar = bar(epochs, "epoch") if mlp.verbose and epochs > 1 else None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def lines(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context whose printed lines stand above the bar."""
        return contextlib.nullcontext() if self._bar is None else self._bar.external_write_mode(file=sys.stdout)

    def advance(self, **values: float) -> None:
        """Note that an epoch is over, with what it reached."""
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in values.items()}, refresh=False)
            self._bar.update()
