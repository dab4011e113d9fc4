"""fastnn itself, through its public API, exactly as a user calls it."""

from collections.abc import Callable
from itertools import islice

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn
from comparison.problems import (
    BATCH_NORM,
    BINARY,
    DELTA,
    GELU,
    GELU_TANH,
    HUBER,
    NORM_EPS,
    RELU,
    SILU,
    Layers,
    Network,
    Problem,
)
from comparison.rules import (
    ADAM,
    ADAMW,
    ALPHA,
    BETA1,
    BETA2,
    CLIP_NORM,
    CLIPPED,
    EPS,
    MOMENTUM,
    NESTEROV,
    RMSPROP,
    SGD,
    WEIGHT_DECAY,
)

NAME = "fastnn"
at_precision = fnn.use_matmul_precision
OPTIMIZERS = {
    SGD: fnn.SGD,
    MOMENTUM: lambda lr: fnn.SGD(lr, momentum=BETA1),
    NESTEROV: lambda lr: fnn.SGD(lr, momentum=BETA1, nesterov=True),
    ADAM: lambda lr: fnn.Adam(lr, BETA1, BETA2, EPS),
    ADAMW: lambda lr: fnn.AdamW(lr, BETA1, BETA2, EPS, WEIGHT_DECAY),
    RMSPROP: lambda lr: fnn.RMSprop(lr, ALPHA, EPS),
    CLIPPED: lambda lr: fnn.SGD(lr, clip_norm=CLIP_NORM),
}
ACTIVATIONS = {RELU: fnn.ReLU, GELU: fnn.GELU, GELU_TANH: lambda: fnn.GELU(approximate="tanh"), SILU: fnn.SiLU}
LOSSES = {HUBER: fnn.Huber(DELTA), BINARY: fnn.BinaryCrossEntropy()}


class Trainer:
    """`fit` on a model with the given weights, its epoch's loss and its checks of the data included."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def prepare(self) -> None:
        """Make a model of the initial weights."""
        network = self._problem.network
        self._model = model(self._problem.layers(), network, self._problem.seed)
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


def model(layers: Layers, network: Network | None = None, seed: int = 0) -> fnn.Sequential:
    """A model with these weights, by default of plain layers with ReLU between them."""
    activation = ACTIVATIONS[network.activation if network else RELU]
    built: list[fnn.Layer] = []
    for w, b, *norm in layers[:-1]:
        hidden = [
            fnn.Linear(*w.shape, init=w, bias=b),
            *(_normalisation(network, len(b)) for _ in norm[:1]),
            activation(),
        ]
        has_way_around = network is not None and network.residual and w.shape[0] == w.shape[1]
        built += [fnn.Residual(*hidden)] if has_way_around else hidden
    w, b = layers[-1]
    made = fnn.Sequential(*built, fnn.Linear(*w.shape, init=w, bias=b), dtype=w.dtype, seed=seed)
    for parameter, value in zip(made.parameters(), (part for layer in layers for part in layer), strict=True):
        parameter[...] = value
    return made


def _normalisation(network: Network | None, n: int) -> fnn.Layer:
    is_of_batch = network is not None and network.normalised == BATCH_NORM
    return fnn.BatchNorm(n, eps=NORM_EPS) if is_of_batch else fnn.LayerNorm(n, NORM_EPS)


def product(a: NDArray, b: NDArray) -> Callable[[], NDArray]:
    """A b into an array made once."""
    out = np.empty((a.shape[0], b.shape[1]), a.dtype)
    return lambda: fnn.matmul(a, b, out=out)


def rows(s: NDArray, y: NDArray) -> dict[str, Callable[[], object]]:
    """Functions of the rows of s, into arrays made once where they are as large as s."""
    out = np.empty_like(s)
    return {
        "softmax": lambda: fnn.softmax(s, out=out),
        "log-softmax": lambda: fnn.log_softmax(s, out=out),
        "log-sum-exp": lambda: fnn.logsumexp(s),
        "cross-entropy and gradient": lambda: fnn.cross_entropy_and_gradient(s, y),
    }


def predictor(layers: Layers, x: NDArray) -> Callable[[], NDArray]:
    """Probabilities of the classes of x."""
    own = model(layers)
    return lambda: own.predict_proba(x)
