"""PyTorch, eager: autograd, batches by index_select, no wait for a value.

The update is written out: torch.optim, fused or foreach, costs more a step where a network has few layers. A rule that
keeps moments moves all parameters at once, which lie in one tensor; for plain SGD the copy of the gradients that this
takes would cost more than it saves.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import torch
from numpy.typing import NDArray
from torch.nn import functional

from comparison.problems import (
    BATCH_NORM,
    BINARY,
    CROSS_ENTROPY,
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
    flattened,
)
from comparison.rules import (
    ADAM,
    ADAMW,
    ALPHA,
    BETA1,
    BETA2,
    CLIPPED,
    EPS,
    MOMENTS,
    MOMENTUM,
    NESTEROV,
    RMSPROP,
    SGD,
    WEIGHT_DECAY,
    adam_rate,
    clip_factor,
)

NAME = "PyTorch"
ACTIVATIONS = {
    RELU: torch.relu_,
    GELU: functional.gelu,
    GELU_TANH: partial(functional.gelu, approximate="tanh"),
    SILU: functional.silu,
}


@contextlib.contextmanager
def at_precision(level: str) -> Iterator[None]:
    """Products of float32 in bfloat16 at "medium"."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(level)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Trainer:
    """Epochs of an update rule."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._x, self._y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
        self._loss, self._update = loss_function(problem), update_function(problem.network)
        self._penalty = 2 * problem.l2

    def prepare(self) -> None:
        """Go back to the initial weights."""
        self._rng, self._t = self._problem.generator(), 0
        flat, layers = flattened(self._problem.layers())
        self._flat, self._layers = torch.from_numpy(flat), tensors(layers)
        self._weights = [w.requires_grad_() for w, *_ in self._layers]
        self._others = [other.requires_grad_() for _, *others in self._layers for other in others]
        self._gradient, self._moments = torch.empty_like(self._flat), zeros(self._problem.network, self._flat)

    def run(self) -> None:
        """Train."""
        parameters = [*self._weights, *self._others]
        step = self._step_of_each if self._problem.network.rule == SGD else self._step_of_all
        for _ in range(self._problem.epochs):
            order = torch.from_numpy(self._rng.permutation(len(self._x)))
            for rows in order.split(self._problem.network.batch):
                x, y = self._x.index_select(0, rows), self._y.index_select(0, rows)
                gradients = torch.autograd.grad(self._loss(self._layers, x, y), parameters)
                with torch.no_grad():
                    step(parameters, gradients)

    def _step_of_each(self, parameters, gradients) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            self._update(parameter, gradient, self._penalty if parameter.ndim == 2 else None)

    def _step_of_all(self, _, gradients) -> None:
        torch.cat([gradient.view(-1) for gradient in gradients], out=self._gradient)
        network, n = self._problem.network, sum(w.numel() for w in self._weights)
        penalised(self._flat[:n], self._gradient[:n], self._penalty)
        if network.rule == ADAMW:
            decay(self._flat[:n], network.lr)
        if network.rule == CLIPPED:
            self._gradient.mul_(clip_factor(self._gradient.norm()).clamp(max=1))
        self._t += 1
        t = [self._t] if counts(network) else []
        self._update(self._flat, self._gradient, None, *self._moments, *t)

    def layers(self) -> Layers:
        """The weights as they are now."""
        return [tuple(parameter.detach().numpy() for parameter in layer) for layer in self._layers]

    def moments(self) -> list[NDArray]:
        """What the update rule keeps."""
        return [moment.numpy() for moment in self._moments]


class FlushingTrainer(Trainer):
    """The same with the CPU told to take subnormal numbers for zero, which counts for the thread that asks."""

    def run(self) -> None:
        """Train."""
        torch.set_flush_denormal(True)
        try:
            super().run()
        finally:
            torch.set_flush_denormal(False)


def zeros(network: Network, parameter: torch.Tensor) -> list[torch.Tensor]:
    """The moments of a parameter before the first step."""
    return [torch.zeros_like(parameter) for _ in range(MOMENTS[network.rule])]


def counts(network: Network) -> bool:
    """Whether the rule needs the number of the step."""
    return network.rule in (ADAM, ADAMW)


def update_function(network: Network) -> Callable:
    """A step in place, as a function of a parameter, its gradient, its penalty, its moments, and for Adam t.

    The penalty is the factor of the parameter in the gradient of the loss, None for what has neither a penalty nor a
    decay. The number of the step, t, is a tensor where it must not become a part of compiled code.
    """
    lr = network.lr

    def sgd(w, dw, penalty) -> None:
        if penalty:
            w.mul_(1 - lr * penalty)
        w.sub_(dw, alpha=lr)

    def momentum(w, dw, penalty, v) -> None:
        v.mul_(BETA1).add_(penalised(w, dw, penalty))
        w.sub_(v, alpha=lr)

    def nesterov(w, dw, penalty, v) -> None:
        dw = penalised(w, dw, penalty)
        v.mul_(BETA1).add_(dw)
        w.sub_(dw.add_(v, alpha=BETA1), alpha=lr)

    def adam(w, dw, penalty, m, v, t) -> None:
        rate, eps = adam_rate(lr, t)
        dw = penalised(w, dw, penalty)
        m.lerp_(dw, 1 - BETA1)
        v.mul_(BETA2).addcmul_(dw, dw, value=1 - BETA2)
        # As a quotient, since addcdiv_ takes no tensor for its factor.
        w.addcdiv_(m, v.sqrt().add_(eps).div_(-rate))

    def adamw(w, dw, penalty, m, v, t) -> None:
        dw = penalised(w, dw, penalty)
        if penalty is not None:
            decay(w, lr)
        adam(w, dw, None, m, v, t)

    def rmsprop(w, dw, penalty, s) -> None:
        dw = penalised(w, dw, penalty)
        s.mul_(ALPHA).addcmul_(dw, dw, value=1 - ALPHA)
        w.addcdiv_(dw, s.sqrt().add_(EPS), value=-lr)

    rules = {SGD: sgd, MOMENTUM: momentum, NESTEROV: nesterov, ADAM: adam, ADAMW: adamw, RMSPROP: rmsprop}
    return (rules | {CLIPPED: sgd})[network.rule]


def decay(w, lr: float) -> None:
    """What AdamW takes from the weights before its step."""
    w.mul_(1 - lr * WEIGHT_DECAY)


def penalised(w, dw, penalty):
    """The gradient, written over, with that of the penalty."""
    if penalty and torch.compiler.is_compiling():
        return dw + penalty * w  # PyTorch 2.14 makes one call of this and of the product before it, and forgets alpha
    return dw.add_(w, alpha=penalty) if penalty else dw


def scores(layers, x, network=None):
    """The outputs of the last layer; without a network those of plain layers with ReLU between them."""
    activate = ACTIVATIONS[network.activation if network else RELU]
    for w, b, *norm in layers[:-1]:
        hidden = torch.addmm(b, x, w)
        if norm and network.normalised == BATCH_NORM:
            # Without running statistics, which fastnn keeps and nobody here asks for.
            hidden = functional.batch_norm(hidden, None, None, *norm, training=True, eps=NORM_EPS)
        elif norm:
            hidden = functional.layer_norm(hidden, b.shape, *norm, eps=NORM_EPS)
        hidden = activate(hidden)
        x = x + hidden if network and network.residual and x.shape == hidden.shape else hidden
    return torch.addmm(layers[-1][1], x, layers[-1][0])


def loss_function(problem: Problem):
    """The mean loss of a batch, without the penalty."""
    outputs = partial(scores, network=problem.network)
    if problem.network.loss == CROSS_ENTROPY:
        return lambda layers, x, y: functional.cross_entropy(outputs(layers, x), y)
    if problem.network.loss == BINARY:
        measured = partial(functional.binary_cross_entropy_with_logits, reduction="sum")
        return lambda layers, x, y: measured(outputs(layers, x), y) / len(x)
    if problem.network.loss == HUBER:
        return lambda layers, x, y: functional.huber_loss(outputs(layers, x), y, reduction="sum", delta=DELTA) / len(x)
    return lambda layers, x, y: functional.mse_loss(outputs(layers, x), y, reduction="sum") / len(x)


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


def tensors(layers: Layers) -> list[tuple[torch.Tensor, ...]]:
    """The layers in PyTorch's words, over the same memory."""
    return [tuple(torch.from_numpy(parameter) for parameter in layer) for layer in layers]
