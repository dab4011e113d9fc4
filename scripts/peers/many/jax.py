"""JAX: the epoch of all networks as one compiled function with the gather inside, weights donated.

It has four forms, of which a trial of each finds the fastest for the problem at hand: `vmap` of a scan over the
batches, a scan of a `vmap`, and a loop over the networks by themselves or a group at a time. The orders of the samples
come from NumPy, as everyone's: drawn within the function, by a `vmap` of `jax.random.permutation`, they cost more than
the training of a small network.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from comparison.many_problems import Many
from comparison.problems import CROSS_ENTROPY, Layers
from comparison.rules import BETA1, BETA2, MOMENTS, SGD, adam_rate
from peers.jax import cross_entropy, scores, use_dtype

NAME = "JAX"
GROUP = 16
TRIALS = 3


class Trainer:
    """Epochs in the fastest form."""

    def __init__(self, problem: Many) -> None:
        use_dtype(problem.dtype)
        self._problem = problem
        self._x = jax.device_put(problem.x, may_alias=True)
        self._y = jnp.asarray(problem.y.astype(np.int32) if problem.y.ndim == 1 else problem.y)
        self._settings = jnp.asarray(problem.rates), jnp.asarray(problem.penalties)
        compiled = {name: jax.jit(form, donate_argnums=0) for name, form in forms(problem).items()}
        self.form = min(compiled, key=lambda name: self._tried(compiled[name]))
        self._epoch = compiled[self.form]

    def prepare(self) -> None:
        """Go back to the initial weights."""
        problem = self._problem
        self._rngs = [np.random.default_rng(problem.seed(k)) for k in range(problem.count)]
        layers = jax.tree.map(jnp.array, problem.stacked())
        moments = [jax.tree.map(jnp.zeros_like, layers) for _ in range(MOMENTS[problem.network.rule])]
        self._state = jax.block_until_ready((layers, moments, jnp.zeros(problem.count, problem.dtype)))

    def run(self) -> None:
        """Train."""
        for _ in range(self._problem.epochs):
            self._state = self._epoch(self._state, orders(self._problem, self._rngs), *self._settings, self._x, self._y)
        jax.block_until_ready(self._state)

    def layers(self, k: int) -> Layers:
        """The weights of a network as they are now."""
        return [tuple(np.asarray(parameter[k]) for parameter in layer) for layer in self._state[0]]

    def _tried(self, epoch: Callable) -> float:
        """The best time of an epoch after the one that compiles."""
        self._epoch, best = epoch, float("inf")
        for trial in range(TRIALS + 1):
            self.prepare()
            start = time.perf_counter()
            self.run()
            if trial:
                best = min(best, time.perf_counter() - start)
        return best


def orders(problem: Many, rngs: list[np.random.Generator]) -> np.ndarray:
    """The rows (networks, steps, batch) of an epoch, an order of its own for each network."""
    network = problem.network
    drawn = np.stack([rng.permutation(len(problem.x)) for rng in rngs]).astype(np.int32)
    return drawn.reshape(problem.count, network.steps, network.batch)


def forms(problem: Many) -> dict[str, Callable]:
    """The states of all networks after an epoch, from those before, the orders, rates, penalties, x and y."""
    step = step_function(problem)

    def alone(state, order, lr, l2, x, y):
        return jax.lax.scan(lambda state, rows: (step(state, rows, lr, l2, x, y), None), state, order)[0]

    def in_step(state, order, lr, l2, x, y):
        together = jax.vmap(step, in_axes=(0, 0, 0, 0, None, None))
        rows = jnp.swapaxes(order, 0, 1)
        return jax.lax.scan(lambda state, rows: (together(state, rows, lr, l2, x, y), None), state, rows)[0]

    def mapped(state, order, lr, l2, x, y, size=None):
        return jax.lax.map(lambda one: alone(*one, x, y), (state, order, lr, l2), batch_size=size)

    found = {
        "vmap of scan": jax.vmap(alone, in_axes=(0, 0, 0, 0, None, None)),
        "scan of vmap": in_step,
        "map of scan": mapped,
    }
    if problem.count > GROUP:
        found[f"map of vmap by {GROUP}"] = lambda *given: mapped(*given, size=GROUP)
    return found


def step_function(problem: Many) -> Callable:
    """The layers, moments and number of steps of one network after a step, from those before."""
    each, is_plain = jax.tree.map, problem.network.rule == SGD

    def loss(layers, x, y):
        s = scores(layers, x)
        return cross_entropy(s, y) if problem.network.loss == CROSS_ENTROPY else jnp.square(s - y).sum(axis=1).mean()

    def step(state, rows, lr, l2, x, y):
        layers, moments, t = state
        gradients = jax.grad(loss)(layers, x[rows], y[rows])
        if is_plain:
            kept = 1 - 2 * lr * l2
            pairs = zip(layers, gradients, strict=True)
            return [(kept * w - lr * dw, b - lr * db) for (w, b), (dw, db) in pairs], moments, t
        gradients = [(dw + 2 * l2 * w, db) for (w, _), (dw, db) in zip(layers, gradients, strict=True)]
        rate, eps = adam_rate(lr, t + 1)
        m = each(lambda m, d: BETA1 * m + (1 - BETA1) * d, moments[0], gradients)
        v = each(lambda v, d: BETA2 * v + (1 - BETA2) * d * d, moments[1], gradients)
        return each(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + eps), layers, m, v), [m, v], t + 1

    return step
