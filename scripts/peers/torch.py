"""PyTorch, eager: autograd, batches by index_select, no wait for a value.

The update is written out: torch.optim.SGD, fused or foreach, costs more a step where a network has few layers.
"""

from collections.abc import Callable

import torch
from numpy.typing import NDArray
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
        self._layers = tensors(self._problem.layers())
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
        x = torch.addmm(b, x, w).relu_()
    return torch.addmm(layers[-1][1], x, layers[-1][0])


def loss_function(problem: Problem):
    """The mean loss of a batch, without the penalty."""
    if problem.network.loss == CROSS_ENTROPY:
        return lambda layers, x, y: functional.cross_entropy(scores(layers, x), y)
    return lambda layers, x, y: functional.mse_loss(scores(layers, x), y, reduction="sum") / len(x)


def product(a: NDArray, b: NDArray) -> Callable[[], torch.Tensor]:
    """A b into an array made once."""
    a, b = torch.from_numpy(a), torch.from_numpy(b)
    out = torch.empty((a.shape[0], b.shape[1]), dtype=a.dtype)
    return lambda: torch.mm(a, b, out=out)


def rows(s: NDArray, y: NDArray) -> dict[str, Callable[[], object]]:
    """Functions of the rows of s, into arrays made once."""
    s, y = torch.from_numpy(s), torch.from_numpy(y)
    out, column = torch.empty_like(s), torch.empty(len(s), dtype=s.dtype)
    leaf = s.detach().requires_grad_()

    def loss_and_gradient() -> tuple[torch.Tensor, torch.Tensor]:
        loss = functional.cross_entropy(leaf, y)
        return loss.detach(), torch.autograd.grad(loss, leaf)[0]

    return {
        "softmax": lambda: torch.softmax(s, 1, out=out),
        "log-softmax": lambda: torch.log_softmax(s, 1, out=out),
        "log-sum-exp": lambda: torch.logsumexp(s, 1, out=column),
        "cross-entropy and gradient": loss_and_gradient,
    }


def predictor(layers: Layers, x: NDArray) -> Callable[[], torch.Tensor]:
    """Probabilities of the classes of x.

    No tensor here wants a gradient; to enter inference mode in each call would cost another 2 µs.
    """
    layers, x = tensors(layers), torch.from_numpy(x)
    return lambda: torch.softmax(scores(layers, x), 1)


def tensors(layers: Layers) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The layers in PyTorch's words, over the same memory."""
    return [(torch.from_numpy(w), torch.from_numpy(b)) for w, b in layers]
