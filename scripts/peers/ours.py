"""fastnn itself, through its public API, exactly as a user calls it."""

from collections.abc import Callable
from itertools import islice

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn
from comparison.problems import DELTA, GELU, GELU_TANH, HUBER, NORM_EPS, RELU, Layers, Problem
from comparison.rules import ADAM, ADAMW, BETA1, BETA2, EPS, MOMENTUM, NESTEROV, SGD, WEIGHT_DECAY

NAME = "fastnn"
OPTIMIZERS = {
    SGD: fnn.SGD,
    MOMENTUM: lambda lr: fnn.SGD(lr, momentum=BETA1),
    NESTEROV: lambda lr: fnn.SGD(lr, momentum=BETA1, nesterov=True),
    ADAM: lambda lr: fnn.Adam(lr, BETA1, BETA2, EPS),
    ADAMW: lambda lr: fnn.AdamW(lr, BETA1, BETA2, EPS, WEIGHT_DECAY),
}
ACTIVATIONS = {RELU: fnn.ReLU, GELU: fnn.GELU, GELU_TANH: lambda: fnn.GELU(approximate="tanh")}
LOSSES = {HUBER: fnn.Huber(DELTA)}


class Trainer:
    """`fit` on a model with the given weights, its epoch's loss and its checks of the data included."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def prepare(self) -> None:
        """Make a model of the initial weights."""
        network = self._problem.network
        self._model = model(self._problem.layers(), network.activation, self._problem.seed)
        self._optimizer = OPTIMIZERS[network.rule](network.lr)

    def run(self) -> None:
        """Train."""
        problem = self._problem
        self._model.fit(
            problem.x,
            problem.y,
            loss=LOSSES.get(problem.network.loss, problem.network.loss),
            optimizer=self._optimizer,
            l2=problem.l2,
            epochs=problem.epochs,
            batch_size=problem.network.batch,
            verbose=0,
        )

    def layers(self) -> Layers:
        """The weights as they are now."""
        parameters = iter(self._model.parameters())
        return [tuple(islice(parameters, len(layer))) for layer in self._problem.layers()]

    def moments(self) -> list[NDArray]:
        """What the update rule keeps."""
        return self._optimizer.state()


def model(layers: Layers, activation: str = RELU, seed: int = 0) -> fnn.Sequential:
    """A model with these weights and the activation between its layers."""
    built: list[fnn.Layer] = []
    for w, b, *norm in layers:
        built += [fnn.Linear(*w.shape, init=w, bias=b), *(fnn.LayerNorm(len(b), NORM_EPS) for _ in norm[:1])]
        built.append(ACTIVATIONS[activation]())
    made = fnn.Sequential(*built[:-1], dtype=layers[0][0].dtype, seed=seed)
    for parameter, value in zip(made.parameters(), (part for layer in layers for part in layer), strict=True):
        parameter[...] = value
    return made


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
