"""JAX: a whole epoch as one compiled function, a scan over the batches with the gather inside, weights donated."""

import jax
import jax.numpy as jnp
import numpy as np

from comparison.problems import CROSS_ENTROPY, Layers, Problem

NAME = "JAX"


class Trainer:
    """Epochs of SGD."""

    def __init__(self, problem: Problem) -> None:
        jax.config.update("jax_enable_x64", problem.dtype == np.float64)
        self._problem = problem
        self._x = jnp.asarray(problem.x)
        self._y = jnp.asarray(problem.y.astype(np.int32) if problem.y.ndim == 1 else problem.y)
        self._epoch = jax.jit(epoch_function(problem), donate_argnums=0)

    def prepare(self) -> None:
        """Go back to the initial weights."""
        self._rng = self._problem.generator()
        self._layers = [(jnp.array(w), jnp.array(b)) for w, b in self._problem.layers()]

    def run(self) -> None:
        """Train."""
        network = self._problem.network
        for _ in range(self._problem.epochs):
            order = self._rng.permutation(len(self._x)).astype(np.int32).reshape(network.steps, network.batch)
            self._layers = self._epoch(self._layers, self._x, self._y, order)
        jax.block_until_ready(self._layers)

    def layers(self) -> Layers:
        """The weights as they are now."""
        return [(np.asarray(w), np.asarray(b)) for w, b in self._layers]


def scores(layers, x):
    """The outputs of the last layer."""
    for w, b in layers[:-1]:
        x = jax.nn.relu(x @ w + b)
    return x @ layers[-1][0] + layers[-1][1]


def epoch_function(problem: Problem):
    """Layers after an epoch, as a function of layers, x, y and the order (steps, batch)."""
    lr = problem.network.lr
    decay = 1 - 2 * lr * problem.l2

    def loss(layers, x, y):
        s = scores(layers, x)
        if problem.network.loss == CROSS_ENTROPY:
            return (jax.nn.logsumexp(s, axis=1) - jnp.take_along_axis(s, y[:, None], axis=1)[:, 0]).mean()
        return jnp.square(s - y).sum(axis=1).mean()

    def epoch(layers, x, y, order):
        def step(layers, rows):
            gradients = jax.grad(loss)(layers, x[rows], y[rows])
            pairs = zip(layers, gradients, strict=True)
            return [(decay * w - lr * dw, b - lr * db) for (w, b), (dw, db) in pairs], None

        return jax.lax.scan(step, layers, order)[0]

    return epoch
