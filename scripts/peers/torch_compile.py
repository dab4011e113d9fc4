"""PyTorch, compiled: gather, forward, backward and update of a step as one graph, in C++ and without guards."""

from collections.abc import Callable

import torch
from numpy.typing import NDArray

from comparison.problems import Layers, Problem
from comparison.rules import CLIPPED, clip_factor

from .torch import counts, loss_function, scores, tensors, update_function, zeros

NAME = "torch.compile"


class Trainer:
    """Epochs of an update rule."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._x, self._y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
        loss, update, penalty = loss_function(problem), update_function(problem.network), 2 * problem.l2

        def step(layers, moments, t, x, y, rows) -> None:
            gradients = torch.func.grad(loss)(layers, x.index_select(0, rows), y.index_select(0, rows))
            for number in t:
                number.add_(1)
            of_weight = penalty
            if problem.network.rule == CLIPPED:
                gradients, of_weight = clipped(layers, gradients, penalty), None
            for layer, of_layer, kept in zip(layers, gradients, moments, strict=True):
                for i, (parameter, gradient, of_one) in enumerate(zip(layer, of_layer, kept, strict=True)):
                    update(parameter, gradient, None if i else of_weight, *of_one, *t)

        self._step = compiled(step)

    def prepare(self) -> None:
        """Go back to the initial weights."""
        self._rng = self._problem.generator()
        self._layers = tensors(self._problem.layers())
        network = self._problem.network
        self._moments = [[zeros(network, parameter) for parameter in layer] for layer in self._layers]
        # Not a scalar: compiled code gets a copy of those.
        self._t = [torch.zeros(1, dtype=self._x.dtype)] if counts(network) else []

    @torch.no_grad()
    def run(self) -> None:
        """Train."""
        for _ in range(self._problem.epochs):
            order = torch.from_numpy(self._rng.permutation(len(self._x)))
            for rows in order.split(self._problem.network.batch):
                self._step(self._layers, self._moments, self._t, self._x, self._y, rows)

    def layers(self) -> Layers:
        """The weights as they are now."""
        return [tuple(parameter.numpy() for parameter in layer) for layer in self._layers]

    def moments(self) -> list[NDArray]:
        """What the update rule keeps."""
        return [moment.numpy() for of_layer in self._moments for of_one in of_layer for moment in of_one]


def clipped(layers, gradients, penalty: float):
    """The gradients with the penalty's, at most of the norm that they may have."""
    gradients = [(dw + penalty * w, *rest) for (w, *_), (dw, *rest) in zip(layers, gradients, strict=True)]
    squares = sum(gradient.square().sum() for of_layer in gradients for gradient in of_layer)
    factor = clip_factor(squares.sqrt()).clamp(max=1)
    return [tuple(gradient * factor for gradient in of_layer) for of_layer in gradients]


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
