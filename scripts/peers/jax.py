"""JAX: a whole epoch as one compiled function, a scan over the batches with the gather inside, weights donated."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

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

NAME = "JAX"
ACTIVATIONS = {
    RELU: jax.nn.relu,
    GELU: partial(jax.nn.gelu, approximate=False),
    GELU_TANH: partial(jax.nn.gelu, approximate=True),
    SILU: jax.nn.silu,
}


class Trainer:
    """Epochs of an update rule."""

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
        layers = jax.tree.map(jnp.array, self._problem.layers())
        moments = [jax.tree.map(jnp.zeros_like, layers) for _ in range(MOMENTS[self._problem.network.rule])]
        self._state = jax.block_until_ready((layers, moments, jnp.zeros((), self._problem.dtype)))

    def run(self) -> None:
        """Train."""
        network = self._problem.network
        for _ in range(self._problem.epochs):
            order = self._rng.permutation(len(self._x)).astype(np.int32).reshape(network.steps, network.batch)
            self._state = self._epoch(self._state, self._x, self._y, order)
        jax.block_until_ready(self._state)

    def layers(self) -> Layers:
        """The weights as they are now."""
        return [tuple(np.asarray(parameter) for parameter in layer) for layer in self._state[0]]

    def moments(self) -> list[NDArray]:
        """What the update rule keeps."""
        return [np.asarray(moment) for moment in jax.tree.leaves(self._state[1])]


def scores(layers, x, network=None):
    """The outputs of the last layer; without a network those of plain layers with ReLU between them."""
    activate = ACTIVATIONS[network.activation if network else RELU]
    for w, b, *norm in layers[:-1]:
        hidden = x @ w + b
        if norm:
            hidden = normalised(hidden, 0 if network.normalised == BATCH_NORM else 1, *norm)
        hidden = activate(hidden)
        x = x + hidden if network and network.residual and x.shape == hidden.shape else hidden
    return x @ layers[-1][0] + layers[-1][1]


def normalised(x: jax.Array, axis: int, scale: jax.Array, shift: jax.Array) -> jax.Array:
    """Layer normalisation of the rows, along axis 1, or batch normalisation of the columns."""
    centred = x - x.mean(axis=axis, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(axis=axis, keepdims=True) + NORM_EPS) * scale + shift


def cross_entropy(s: jax.Array, y: jax.Array) -> jax.Array:
    """The mean loss of scores."""
    return (jax.nn.logsumexp(s, axis=1) - jnp.take_along_axis(s, y[:, None], axis=1)[:, 0]).mean()


def epoch_function(problem: Problem):
    """The layers, moments and number of steps after an epoch, from those before, x, y and the order (steps, batch)."""
    update = update_function(problem.network)

    def loss(layers, x, y):
        s = scores(layers, x, problem.network)
        if problem.network.loss == CROSS_ENTROPY:
            return cross_entropy(s, y)
        if problem.network.loss == BINARY:
            return (jax.nn.softplus(s) - s * y).sum(axis=1).mean()
        if problem.network.loss == HUBER:
            r = jnp.abs(s - y)
            return jnp.where(r <= DELTA, r * r / 2, DELTA * (r - DELTA / 2)).sum(axis=1).mean()
        return jnp.square(s - y).sum(axis=1).mean()

    def epoch(state, x, y, order):
        def step(state, rows):
            layers, moments, t = state
            gradients = jax.grad(loss)(layers, x[rows], y[rows])
            layers, gradients = penalised(problem, layers, gradients)
            layers, moments = update(layers, gradients, moments, t + 1)
            return (layers, moments, t + 1), None

        return jax.lax.scan(step, state, order)[0]

    return epoch


def penalised(problem: Problem, layers, gradients):
    """Layers and gradients with the penalty: in plain SGD it shrinks weights, in the others it joins their gradient.

    AdamW then shrinks the weights by its decay.
    """
    network, factor = problem.network, 2 * problem.l2
    if network.rule == SGD:
        return shrunk(layers, 1 - network.lr * factor), gradients
    gradients = [(dw + factor * w, *rest) for (w, *_), (dw, *rest) in zip(layers, gradients, strict=True)]
    return shrunk(layers, 1 - network.lr * WEIGHT_DECAY) if network.rule == ADAMW else layers, gradients


def shrunk(layers, factor: float):
    """The layers with their weights times a factor."""
    return [(factor * w, *rest) for w, *rest in layers]


def update_function(network: Network):
    """Layers and moments after a step, from those before, the gradients, and the step's number."""
    lr, each = network.lr, jax.tree.map

    def sgd(layers, gradients, moments, t):
        return each(lambda w, dw: w - lr * dw, layers, gradients), moments

    def momentum(layers, gradients, moments, t):
        v = each(lambda v, dw: BETA1 * v - lr * dw, *moments, gradients)
        return each(jnp.add, layers, v), [v]

    def nesterov(layers, gradients, moments, t):
        v = each(lambda v, dw: BETA1 * v - lr * dw, *moments, gradients)
        return each(lambda w, v, dw: w + BETA1 * v - lr * dw, layers, v, gradients), [v]

    def adam(layers, gradients, moments, t):
        rate, eps = adam_rate(lr, t)
        m = each(lambda m, dw: BETA1 * m + (1 - BETA1) * dw, moments[0], gradients)
        v = each(lambda v, dw: BETA2 * v + (1 - BETA2) * dw * dw, moments[1], gradients)
        return each(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + eps), layers, m, v), [m, v]

    def rmsprop(layers, gradients, moments, t):
        s = each(lambda s, dw: ALPHA * s + (1 - ALPHA) * dw * dw, *moments, gradients)
        return each(lambda w, s, dw: w - lr * dw / (jnp.sqrt(s) + EPS), layers, s, gradients), [s]

    def clipped(layers, gradients, moments, t):
        norm = jnp.sqrt(sum(jnp.vdot(dw, dw) for dw in jax.tree.leaves(gradients)))
        step = lr * jnp.minimum(1, clip_factor(norm))
        return each(lambda w, dw: w - step * dw, layers, gradients), moments

    rules = {SGD: sgd, MOMENTUM: momentum, NESTEROV: nesterov, ADAM: adam, ADAMW: adam, RMSPROP: rmsprop}
    return (rules | {CLIPPED: clipped})[network.rule]


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
