"""NumPy, as its experts write a training loop: buffers made once, every operation in place, no gradient of the input.

The gradient of the scores is scaled by lr once, so that every gradient that follows from it is an update already.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from comparison.problems import CROSS_ENTROPY, Layers, Problem

NAME = "NumPy"


class Trainer:
    """Epochs of SGD."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        m, widths, dtype = problem.network.batch, problem.network.widths, problem.dtype
        self._activations = [np.empty((m, n), dtype) for n in widths]
        self._gradients = [np.empty((m, n), dtype) for n in widths]
        self._positive = [(np.empty((m, n), bool), np.empty((m, n), dtype)) for n in widths]
        self._updates = problem.layers()
        self._scores = Rows(self._activations[-1])
        self._rows = np.arange(m)
        self._multiply = multiplication(max(dw.size for dw, _ in self._updates))
        # A zero that needs no conversion.
        self._zero = dtype.type(0)
        self._ones = np.ones(m, dtype)

    def prepare(self) -> None:
        """Go back to the initial weights."""
        self._layers, self._rng = self._problem.layers(), self._problem.generator()

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
        decay = 1 - 2 * problem.network.lr * problem.l2
        for i in range(last, -1, -1):
            (w, b), (dw, db), a = layers[i], self._updates[i], activations[i]
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
            w *= decay
            w -= dw
            b -= db

    def _gradient_of_the_scores(self, s, y):
        """lr times the gradient of the mean loss, written over the scores."""
        lr, m = self._problem.network.lr, len(s)
        if self._problem.network.loss == CROSS_ENTROPY:
            self._scores.softmax(s)
            s[self._rows, y] -= 1
            s *= lr / m
        else:
            s -= y
            s *= 2 * lr / m
        return s

    def layers(self) -> Layers:
        """The weights as they are now."""
        return self._layers


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
