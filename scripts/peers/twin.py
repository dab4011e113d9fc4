"""fastnn on its other backend: the twin of every kernel in plain NumPy, written to be read and not to be fast."""

from collections.abc import Callable

from numpy.typing import NDArray

import fastnn as fnn

from . import ours

NAME = "NumPy twin"


class Trainer(ours.Trainer):
    """The same `fit`."""

    def run(self) -> None:
        """Train."""
        with fnn.use_backend("numpy"):
            super().run()


def rows(s: NDArray, y: NDArray) -> dict[str, Callable[[], object]]:
    """Functions of the rows of s."""
    return {name: on_twin(function) for name, function in ours.rows(s, y).items()}


def on_twin(function: Callable[[], object]) -> Callable[[], object]:
    """The function on that backend."""

    def run() -> object:
        with fnn.use_backend("numpy"):
            return function()

    return run
