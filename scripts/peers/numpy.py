"""NumPy, as its experts write a training loop: buffers made once, every operation in place, no gradient of the input.

All parameters lie in one array, weights first, and so do their gradients: an update is a few calls for them all. The
gradient of the scores is scaled by lr once, so that every gradient that follows from it is an update already; not for
Adam and RMSprop, whose steps do not grow with the gradient, and not where its norm counts.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from comparison.problems import BINARY, CROSS_ENTROPY, DELTA, HUBER, RELU, Layers, Network, Problem, flattened
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

NAME = "NumPy"


def trains(network: Network) -> bool:
    """NumPy has no error function, and nobody writes other hidden layers by hand: the twin has them all."""
    plain = network.activation == RELU and not network.normalised and not network.residual
    return plain and network.loss != BINARY


class Trainer:
    """Epochs of an update rule."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        m, widths, dtype = problem.network.batch, problem.network.widths, problem.dtype
        self._activations = [np.empty((m, n), dtype) for n in widths]
        self._gradients = [np.empty((m, n), dtype) for n in widths]
        self._positive = [(np.empty((m, n), bool), np.empty((m, n), dtype)) for n in widths]
        self._gradient, self._layer_gradients = flattened(problem.layers())
        self._scores = Rows(self._activations[-1])
        self._rows = np.arange(m)
        self._multiply = multiplication(max(dw.size for dw, _ in self._layer_gradients))
        is_scaled = problem.network.rule in (ADAM, ADAMW, RMSPROP, CLIPPED)
        self._scale = 1.0 if is_scaled else problem.network.lr
        # A zero that needs no conversion.
        self._zero = dtype.type(0)
        self._ones = np.ones(m, dtype)

    def prepare(self) -> None:
        """Go back to the initial weights."""
        params, self._layers = flattened(self._problem.layers())
        self._update, self._rng = Update(self._problem, params, self._gradient, self._scale), self._problem.generator()

    def run(self) -> None:
        """Train."""
        problem, m = self._problem, self._problem.network.batch
        for _ in range(problem.epochs):
            order = self._rng.permutation(len(problem.x))
            for start in range(0, len(order), m):
                rows = order[start : start + m]
                self._step(rows, problem.y[rows])

    def _step(self, rows, y) -> None:
        problem, layers, activations = self._problem, self._layers, self._activations
        # Without a mode, take with out= writes to a buffer first.
        np.take(problem.x, rows, axis=0, out=activations[0], mode="clip")
        last = len(layers) - 1
        for i, (w, b) in enumerate(layers):
            a = activations[i + 1]
            self._multiply(activations[i], w, out=a)
            a += b
            if i < last:
                np.maximum(a, self._zero, out=a)
        d = self._gradient_of_the_scores(activations[-1], y)
        for i in range(last, -1, -1):
            w, (dw, db), a = layers[i][0], self._layer_gradients[i], activations[i]
            self._multiply(a.T, d, out=dw)
            self._multiply(self._ones, d, out=db)
            if i:
                before = self._gradients[i]
                self._multiply(d, w.T, out=before)
                is_positive, positive = self._positive[i]
                np.greater(a, self._zero, out=is_positive)
                np.copyto(positive, is_positive)
                before *= positive
                d = before
        self._update()

    def _gradient_of_the_scores(self, s, y):
        """The gradient of the mean loss, scaled, written over the scores."""
        scale, m = self._scale, len(s)
        if self._problem.network.loss == CROSS_ENTROPY:
            self._scores.softmax(s)
            s[self._rows, y] -= 1
            s *= scale / m
        elif self._problem.network.loss == HUBER:
            s -= y
            np.minimum(s, DELTA, out=s)
            np.maximum(s, -DELTA, out=s)
            s *= scale / m
        else:
            s -= y
            s *= 2 * scale / m
        return s

    def layers(self) -> Layers:
        """The weights as they are now."""
        return self._layers

    def moments(self) -> list[NDArray]:
        """What the update rule keeps."""
        return self._update.moments


class Update:
    """Steps of the parameters along a gradient that comes scaled, and without the penalty's."""

    def __init__(self, problem: Problem, params: NDArray, gradient: NDArray, scale: float) -> None:
        network = problem.network
        self.moments = [np.zeros_like(params) for _ in range(MOMENTS[network.rule])]
        self._params, self._gradient, self._work = params, gradient, np.empty_like(params)
        self._n_weights = sum(w.size for w, _ in problem.layers())
        self._penalty = 2 * problem.l2 * scale
        self._lr, self._t = network.lr, 0
        steps = {
            SGD: self._sgd,
            MOMENTUM: self._momentum,
            NESTEROV: self._nesterov,
            ADAM: self._adam,
            ADAMW: self._adamw,
            RMSPROP: self._rmsprop,
            CLIPPED: self._clipped,
        }
        self._step = steps[network.rule]

    def __call__(self) -> None:
        """Make the next step."""
        self._t += 1
        self._step(self._params, self._gradient, *self.moments)

    def _sgd(self, w: NDArray, dw: NDArray) -> None:
        w[: self._n_weights] *= 1 - self._penalty
        w -= dw

    def _momentum(self, w: NDArray, dw: NDArray, v: NDArray) -> None:
        self._penalise(w, dw)
        v *= BETA1
        v -= dw
        w += v

    def _nesterov(self, w: NDArray, dw: NDArray, v: NDArray) -> None:
        self._penalise(w, dw)
        v *= BETA1
        v -= dw
        np.multiply(v, BETA1, out=self._work)
        self._work -= dw
        w += self._work

    def _adam(self, w: NDArray, dw: NDArray, m: NDArray, v: NDArray) -> None:
        self._penalise(w, dw)
        self._move(w, dw, m, v)

    def _adamw(self, w: NDArray, dw: NDArray, m: NDArray, v: NDArray) -> None:
        self._penalise(w, dw)
        w[: self._n_weights] *= 1 - self._lr * WEIGHT_DECAY
        self._move(w, dw, m, v)

    def _move(self, w: NDArray, dw: NDArray, m: NDArray, v: NDArray) -> None:
        rate, eps = adam_rate(self._lr, self._t)
        work = self._work
        m *= BETA1
        m += np.multiply(dw, 1 - BETA1, out=work)
        v *= BETA2
        dw *= dw
        dw *= 1 - BETA2
        v += dw
        np.sqrt(v, out=work)
        work += eps
        np.divide(m, work, out=work)
        work *= rate
        w -= work

    def _rmsprop(self, w: NDArray, dw: NDArray, s: NDArray) -> None:
        self._penalise(w, dw)
        work = self._work
        s *= ALPHA
        np.multiply(dw, dw, out=work)
        work *= 1 - ALPHA
        s += work
        np.sqrt(s, out=work)
        work += EPS
        np.divide(dw, work, out=work)
        work *= self._lr
        w -= work

    def _clipped(self, w: NDArray, dw: NDArray) -> None:
        self._penalise(w, dw)
        dw *= self._lr * min(1.0, clip_factor(float(np.dot(dw, dw)) ** 0.5))
        w -= dw

    def _penalise(self, w: NDArray, dw: NDArray) -> None:
        """Add the gradient of the penalty."""
        if self._penalty:
            n = self._n_weights
            dw[:n] += np.multiply(w[:n], self._penalty, out=self._work[:n])


def multiplication(size: int) -> Callable[..., NDArray]:
    """np.dot for small results: its call costs less; np.matmul for larger ones: it does not fill `out` with 0 first."""
    return np.dot if size <= 8192 else np.matmul


class Rows:
    """Functions of the rows of an array, over buffers made once.

    Many rows of few elements are turned first: what runs over the few is then vectorised along the many.
    """

    def __init__(self, s: NDArray) -> None:
        self._turned = s.shape[1] <= 32 and len(s) > 1
        self._s = s.T if self._turned else s
        self._axis = 0 if self._turned else 1
        self._work = np.empty(self._s.shape, s.dtype)
        self._sums = np.empty((1, len(s)) if self._turned else (len(s), 1), s.dtype)

    def softmax(self, out: NDArray) -> NDArray:
        """E^(s - max) / Σ e^(s - max)."""
        self._shift()
        np.exp(self._work, out=self._work)
        np.divide(self._work, self._sum(self._work), out=self._as_work(out))
        return out

    def log_softmax(self, out: NDArray) -> NDArray:
        """(s - max) - log Σ e^(s - max)."""
        self._shift()
        log = self._log_of_sum(self._as_work(out))
        np.subtract(self._work, log, out=self._as_work(out))
        return out

    def logsumexp(self) -> NDArray:
        """Max + log Σ e^(s - max)."""
        highest = self._shift().copy()
        highest += self._log_of_sum(self._work)
        return highest.ravel()

    def loss_and_gradient(self, y: NDArray, out: NDArray) -> tuple[float, NDArray]:
        """Mean of -log softmax at the labels y, and (softmax - one-hot) / m."""
        rows = np.arange(len(y))
        self._shift()
        of_label = self._work.T[rows, y] if self._turned else self._work[rows, y]
        np.exp(self._work, out=self._work)
        sums = self._sum(self._work)
        np.divide(self._work, sums, out=self._as_work(out))
        out[rows, y] -= 1
        out /= len(y)
        return float((np.log(sums).ravel() - of_label).mean()), out

    def _as_work(self, out: NDArray) -> NDArray:
        return out.T if self._turned else out

    def _shift(self) -> NDArray:
        """Work = s - max; returns max."""
        if self._turned:
            np.copyto(self._work, self._s)
        source = self._work if self._turned else self._s
        highest = np.maximum.reduce(source, axis=self._axis, keepdims=True, out=self._sums)
        np.subtract(source, highest, out=self._work)
        return highest

    def _sum(self, exponentials: NDArray) -> NDArray:
        return np.add.reduce(exponentials, axis=self._axis, keepdims=True, out=self._sums)

    def _log_of_sum(self, buffer: NDArray) -> NDArray:
        """log Σ e^work, the exponentials written to the buffer."""
        return np.log(self._sum(np.exp(self._work, out=buffer)), out=self._sums)


def rows(s: NDArray, y: NDArray) -> dict[str, Callable[[], object]]:
    """Functions of the rows of s, into arrays made once."""
    own, out = Rows(s), np.empty_like(s)
    return {
        "softmax": lambda: own.softmax(out),
        "log-softmax": lambda: own.log_softmax(out),
        "log-sum-exp": own.logsumexp,
        "cross-entropy and gradient": lambda: own.loss_and_gradient(y, out),
    }


def product(a: NDArray, b: NDArray) -> Callable[[], NDArray]:
    """A b into an array made once."""
    out = np.empty((a.shape[0], b.shape[1]), a.dtype)
    multiply = multiplication(out.size)
    return lambda: multiply(a, b, out=out)


def predictor(layers: Layers, x: NDArray) -> Callable[[], NDArray]:
    """Probabilities of the classes of x, over buffers made once."""
    steps = [(w, b, np.empty((len(x), w.shape[1]), x.dtype)) for w, b in layers]
    *hidden, (last_w, last_b, s) = steps
    multiply = multiplication(max(buffer.size for _, _, buffer in steps))
    zero = x.dtype.type(0)
    own, out = Rows(s), np.empty_like(s)

    def predict() -> NDArray:
        a = x
        for w, b, buffer in hidden:
            a = multiply(a, w, out=buffer)
            a += b
            np.maximum(a, zero, out=a)
        np.add(multiply(a, last_w, out=s), last_b, out=s)
        return own.softmax(out)

    return predict
