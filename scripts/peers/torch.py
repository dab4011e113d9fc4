"""PyTorch, eager: autograd, batches by index_select, no wait for a value.

The update is written out: the fused and the foreach form of torch.optim.SGD cost more a step for networks of few layers.
"""

import torch
from torch.nn import functional

from comparison.problems import CROSS_ENTROPY, Layers, Problem

NAME = "PyTorch"


class Trainer:
    """Epochs of SGD."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._x, self._y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
        self._loss = loss_function(problem)

    def prepare(self) -> None:
        """Go back to the initial weights."""
        self._rng = self._problem.generator()
        self._layers = [(torch.from_numpy(w), torch.from_numpy(b)) for w, b in self._problem.layers()]
        self._weights = [w.requires_grad_() for w, _ in self._layers]
        self._biases = [b.requires_grad_() for _, b in self._layers]

    def run(self) -> None:
        """Train."""
        parameters = [*self._weights, *self._biases]
        lr = self._problem.network.lr
        decay = 1 - 2 * lr * self._problem.l2
        for _ in range(self._problem.epochs):
            order = torch.from_numpy(self._rng.permutation(len(self._x)))
            for rows in order.split(self._problem.network.batch):
                x, y = self._x.index_select(0, rows), self._y.index_select(0, rows)
                gradients = torch.autograd.grad(self._loss(self._layers, x, y), parameters)
                with torch.no_grad():
                    for parameter, gradient in zip(parameters, gradients, strict=True):
                        if parameter.ndim == 2:
                            parameter.mul_(decay)
                        parameter.sub_(gradient, alpha=lr)

    def layers(self) -> Layers:
        """The weights as they are now."""
        return [(w.detach().numpy(), b.detach().numpy()) for w, b in self._layers]


def scores(layers, x):
    """The outputs of the last layer."""
    for w, b in layers[:-1]:
        x = torch.relu(torch.addmm(b, x, w))
    return torch.addmm(layers[-1][1], x, layers[-1][0])


def loss_function(problem: Problem):
    """The mean loss of a batch, without the penalty."""
    if problem.network.loss == CROSS_ENTROPY:
        return lambda layers, x, y: functional.cross_entropy(scores(layers, x), y)
    return lambda layers, x, y: functional.mse_loss(scores(layers, x), y, reduction="sum") / len(x)
