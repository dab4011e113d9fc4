"""NumPy, as its experts write a training loop: buffers made once, every operation in place, no gradient of the input.

The gradient of the scores is scaled by lr once, so that every gradient that follows from it is an update already.
"""

import numpy as np

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
        self._by_class, self._one_each = np.empty((widths[-1], m), dtype), np.empty(m, dtype)
        self._rows = np.arange(m)
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
            np.matmul(activations[i], w, out=a)
            a += b
            if i < last:
                np.maximum(a, 0, out=a)
        d = self._gradient_of_the_scores(activations[-1], y)
        decay = 1 - 2 * problem.network.lr * problem.l2
        for i in range(last, -1, -1):
            (w, b), (dw, db), a = layers[i], self._updates[i], activations[i]
            np.matmul(a.T, d, out=dw)
            np.matmul(self._ones, d, out=db)
            if i:
                before = self._gradients[i]
                np.matmul(d, w.T, out=before)
                is_positive, positive = self._positive[i]
                np.greater(a, 0, out=is_positive)
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
            # Class by class: what runs over the few classes is then vectorised along the samples.
            p, one_each = self._by_class, self._one_each
            np.copyto(p, s.T)
            np.subtract(p, np.maximum.reduce(p, axis=0, out=one_each), out=p)
            np.exp(p, out=p)
            np.divide(p, np.add.reduce(p, axis=0, out=one_each), out=s.T)
            s[self._rows, y] -= 1
            s *= lr / m
        else:
            s -= y
            s *= 2 * lr / m
        return s

    def layers(self) -> Layers:
        """The weights as they are now."""
        return self._layers
