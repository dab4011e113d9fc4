"""PyTorch, compiled: gather, forward, backward and update of a step as one graph, in C++ and without guards."""

from collections.abc import Callable

import torch
from numpy.typing import NDArray

from comparison.problems import Layers, Problem

from .torch import loss_function, scores, tensors

NAME = "torch.compile"


class Trainer:
    """Epochs of SGD."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._x, self._y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
        loss, lr = loss_function(problem), problem.network.lr
        decay = 1 - 2 * lr * problem.l2

        def step(layers, x, y, rows) -> None:
            gradients = torch.func.grad(loss)(layers, x.index_select(0, rows), y.index_select(0, rows))
            for (w, b), (dw, db) in zip(layers, gradients, strict=True):
                w.mul_(decay).sub_(dw, alpha=lr)
                b.sub_(db, alpha=lr)

        self._step = compiled(step)

    def prepare(self) -> None:
        """Go back to the initial weights."""
        self._rng = self._problem.generator()
        self._layers = tensors(self._problem.layers())

    @torch.no_grad()
    def run(self) -> None:
        """Train."""
        for _ in range(self._problem.epochs):
            order = torch.from_numpy(self._rng.permutation(len(self._x)))
            for rows in order.split(self._problem.network.batch):
                self._step(self._layers, self._x, self._y, rows)

    def layers(self) -> Layers:
        """The weights as they are now."""
        return [(w.numpy(), b.numpy()) for w, b in self._layers]


def predictor(layers: Layers, x: NDArray) -> Callable[[], torch.Tensor]:
    """Probabilities of the classes of x."""
    layers, x = tensors(layers), torch.from_numpy(x)
    predict = compiled(lambda layers, x: torch.softmax(scores(layers, x), 1))
    return lambda: predict(layers, x)


def compiled(function: Callable) -> Callable:
    """The function as a graph of its own."""
    torch.compiler.reset()
    options = {"cpp_wrapper": True, "guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    return torch.compile(function, fullgraph=True, dynamic=False, options=options)
