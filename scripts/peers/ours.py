"""fastnn itself, through its public API, exactly as a user calls it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn
from comparison.problems import Layers, Problem
from comparison.rules import ADAM, BETA1, BETA2, EPS, MOMENTUM, NESTEROV, SGD

NAME = "fastnn"
OPTIMIZERS = {
    SGD: fnn.SGD,
    MOMENTUM: lambda lr: fnn.SGD(lr, momentum=BETA1),
    NESTEROV: lambda lr: fnn.SGD(lr, momentum=BETA1, nesterov=True),
    ADAM: lambda lr: fnn.Adam(lr, BETA1, BETA2, EPS),
}


class Trainer:
    """`fit` on a model with the given weights, its epoch's loss and its checks of the data included."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def prepare(self) -> None:
        """Make a model of the initial weights."""
        network = self._problem.network
        self._model = model(self._problem.layers(), self._problem.seed)
        self._optimizer = OPTIMIZERS[network.rule](network.lr)

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

    def moments(self) -> list[NDArray]:
        """What the update rule keeps."""
        return self._optimizer.state()


def model(layers: Layers, seed: int = 0) -> fnn.Sequential:
    """A model with these weights and ReLU between its layers."""
    built = [layer for w, b in layers for layer in (fnn.Linear(*w.shape, init=w, bias=b), fnn.ReLU())]
    return fnn.Sequential(*built[:-1], dtype=layers[0][0].dtype, seed=seed)


def product(a: NDArray, b: NDArray) -> Callable[[], NDArray]:
    """A b into an array made once."""
    out = np.empty((a.shape[0], b.shape[1]), a.dtype)
    return lambda: fnn.matmul(a, b, out=out)


def rows(s: NDArray, y: NDArray) -> dict[str, Callable[[], object]]:
    """Functions of the rows of s."""
    return {
        "softmax": lambda: fnn.softmax(s),
        "log-softmax": lambda: fnn.log_softmax(s),
        "log-sum-exp": lambda: fnn.logsumexp(s),
        "cross-entropy and gradient": lambda: fnn.cross_entropy_and_gradient(s, y),
    }


def predictor(layers: Layers, x: NDArray) -> Callable[[], NDArray]:
    """Probabilities of the classes of x."""
    own = model(layers)
    return lambda: own.predict_proba(x)
