"""fastnn itself, through its public API, exactly as a user calls it."""

import fastnn as fnn
from comparison.problems import Layers, Problem

NAME = "fastnn"


class Trainer:
    """`fit` on a model with the given weights, its epoch's loss and its checks of the data included."""

    def __init__(self, problem: Problem, make_optimizer=fnn.SGD) -> None:
        self._problem, self._make_optimizer = problem, make_optimizer

    def prepare(self) -> None:
        """Make a model of the initial weights."""
        layers = [
            layer for w, b in self._problem.layers() for layer in (fnn.Linear(*w.shape, init=w, bias=b), fnn.ReLU())
        ]
        self._model = fnn.Sequential(*layers[:-1], dtype=self._problem.dtype, seed=self._problem.seed)
        self._optimizer = self._make_optimizer(self._problem.network.lr)

    def run(self) -> None:
        """Train."""
        problem = self._problem
        self._model.fit(
            problem.x,
            problem.y,
            loss=problem.network.loss,
            optimizer=self._optimizer,
            l2=problem.l2,
            epochs=problem.epochs,
            batch_size=problem.network.batch,
            verbose=0,
        )

    def layers(self) -> Layers:
        """The weights as they are now."""
        parameters = self._model.parameters()
        return list(zip(parameters[::2], parameters[1::2], strict=True))
