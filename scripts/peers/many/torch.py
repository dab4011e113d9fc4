"""PyTorch: the models stacked by `torch.func.stack_module_state`, one `vmap` of `grad` a step, the update in place."""

import numpy as np
import torch
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from comparison.many_problems import Many
from comparison.problems import CROSS_ENTROPY, Layers
from comparison.rules import BETA1, BETA2, MOMENTS, SGD, adam_rate

NAME = "torch.func"


class Trainer:
    """Epochs of all networks in step."""

    def __init__(self, problem: Many) -> None:
        self._problem = problem
        self._x, self._y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
        template = module(problem.layers(0)).to("meta")

        def loss(parameters, x, y):
            s = functional_call(template, parameters, x)
            if problem.network.loss == CROSS_ENTROPY:
                return functional.cross_entropy(s, y)
            return functional.mse_loss(s, y, reduction="sum") / len(y)

        self._gradients = vmap(grad(loss))

    def prepare(self) -> None:
        """Go back to the initial weights."""
        problem = self._problem
        self._rngs = [np.random.default_rng(problem.seed(k)) for k in range(problem.count)]
        self._parameters, _ = stack_module_state([module(problem.layers(k)) for k in range(problem.count)])
        self._parameters = {name: p.detach() for name, p in self._parameters.items()}
        self._moments = {
            name: [torch.zeros_like(p) for _ in range(MOMENTS[problem.network.rule])]
            for name, p in self._parameters.items()
        }
        self._rates, self._penalties = torch.from_numpy(problem.rates), torch.from_numpy(2 * problem.penalties)
        self._t = 0

    def run(self) -> None:
        """Train."""
        problem = self._problem
        for _ in range(problem.epochs):
            order = torch.from_numpy(np.stack([rng.permutation(len(problem.x)) for rng in self._rngs]))
            for rows in order.split(problem.network.batch, dim=1):
                self._t += 1
                gradients = self._gradients(self._parameters, self._x[rows], self._y[rows])
                for name, gradient in gradients.items():
                    self._update(self._parameters[name], gradient, *self._moments[name])

    def _update(self, w, dw, *moments) -> None:
        rates, penalties = ((given.view(-1, *[1] * (w.ndim - 1))) for given in (self._rates, self._penalties))
        is_penalised = w.ndim == 3
        if self._problem.network.rule == SGD:
            if is_penalised:
                w.mul_(1 - rates * penalties)
            w.addcmul_(dw, rates, value=-1)
            return
        m, v = moments
        if is_penalised:
            dw = dw.addcmul_(w, penalties)
        m.lerp_(dw, 1 - BETA1)
        v.mul_(BETA2).addcmul_(dw, dw, value=1 - BETA2)
        rate, eps = adam_rate(1.0, self._t)
        w.addcdiv_(m * rates, v.sqrt().add_(eps), value=-rate)

    def layers(self, k: int) -> Layers:
        """The weights of a network as they are now."""
        parameters = iter(self._parameters.values())
        return [(w[k].T.numpy(), b[k].numpy()) for w, b in zip(parameters, parameters, strict=True)]


def module(layers: Layers) -> torch.nn.Sequential:
    """A module with these weights."""
    found = []
    for w, b in layers:
        linear = torch.nn.Linear(*w.shape, dtype=torch.from_numpy(w).dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w.T))
            linear.bias.copy_(torch.from_numpy(b))
        found += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*found[:-1])
