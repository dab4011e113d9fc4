"""JAX: a whole epoch as one compiled function, a scan over the batches with the gather inside, weights donated."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from comparison.problems import CROSS_ENTROPY, Layers, Problem

NAME = "JAX"


class Trainer:
    """Epochs of SGD."""

    def __init__(self, problem: Problem) -> None:
        use_dtype(problem.dtype)
        self._problem = problem
        # Without a copy, where the samples lie at a multiple of 64 bytes.
        self._x = jax.device_put(problem.x, may_alias=True)
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


def cross_entropy(s: jax.Array, y: jax.Array) -> jax.Array:
    """The mean loss of scores."""
    return (jax.nn.logsumexp(s, axis=1) - jnp.take_along_axis(s, y[:, None], axis=1)[:, 0]).mean()


def epoch_function(problem: Problem):
    """Layers after an epoch, as a function of layers, x, y and the order (steps, batch)."""
    lr = problem.network.lr
    decay = 1 - 2 * lr * problem.l2

    def loss(layers, x, y):
        s = scores(layers, x)
        if problem.network.loss == CROSS_ENTROPY:
            return cross_entropy(s, y)
        return jnp.square(s - y).sum(axis=1).mean()

    def epoch(layers, x, y, order):
        def step(layers, rows):
            gradients = jax.grad(loss)(layers, x[rows], y[rows])
            pairs = zip(layers, gradients, strict=True)
            return [(decay * w - lr * dw, b - lr * db) for (w, b), (dw, db) in pairs], None

        return jax.lax.scan(step, layers, order)[0]

    return epoch


def product(a: NDArray, b: NDArray) -> Callable[[], jax.Array]:
    """A b; an array of JAX has no strides, so a transposed operand is transposed in the compiled function."""
    use_dtype(a.dtype)
    turned = [not operand.flags.c_contiguous for operand in (a, b)]
    operands = [jnp.array(o.T if t else o) for o, t in zip((a, b), turned, strict=True)]
    multiply = jax.jit(lambda *given: jnp.matmul(*(o.T if t else o for o, t in zip(given, turned, strict=True))))
    return lambda: multiply(*operands).block_until_ready()


def rows(s: NDArray, y: NDArray) -> dict[str, Callable[[], object]]:
    """Functions of the rows of s."""
    use_dtype(s.dtype)
    s, y = jnp.array(s), jnp.array(y.astype(np.int32))
    functions = {
        "softmax": jax.jit(lambda s, y: jax.nn.softmax(s, axis=1)),
        "log-softmax": jax.jit(lambda s, y: jax.nn.log_softmax(s, axis=1)),
        "log-sum-exp": jax.jit(lambda s, y: jax.nn.logsumexp(s, axis=1)),
        "cross-entropy and gradient": jax.jit(jax.value_and_grad(cross_entropy)),
    }
    return {name: lambda f=f: jax.block_until_ready(f(s, y)) for name, f in functions.items()}


def predictor(layers: Layers, x: NDArray) -> Callable[[], jax.Array]:
    """Probabilities of the classes of x."""
    use_dtype(x.dtype)
    layers, x = jax.tree.map(jnp.array, layers), jnp.array(x)
    predict = jax.jit(lambda layers, x: jax.nn.softmax(scores(layers, x), axis=1))
    return lambda: predict(layers, x).block_until_ready()


def use_dtype(dtype: np.dtype) -> None:
    """Have float64 where it is asked for; JAX knows it as a setting of the process."""
    jax.config.update("jax_enable_x64", dtype == np.float64)
