"""scikit-learn's multi-layer perceptron, one `partial_fit` an epoch.

Its objective in fastnn's words, for batches of m: mean(loss_i) + alpha / (2 m) Σ W², so alpha = 2 λ m. For the squared
error it descends along (ŷ - y) / m, half of the gradient here: so twice the learning rate and half of alpha.
"""

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from comparison.problems import CROSS_ENTROPY, Layers, Problem

NAME = "scikit-learn"


class Trainer:
    """Epochs of SGD."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        network = problem.network
        classifies = network.loss == CROSS_ENTROPY
        half = 1 if classifies else 2
        self._y = np.eye(network.widths[-1], dtype=problem.dtype)[problem.y] if classifies else problem.y
        self._y = self._y.astype(np.int64) if classifies else self._y
        self._model = (MLPClassifier if classifies else MLPRegressor)(
            hidden_layer_sizes=network.widths[1:-1],
            solver="sgd",
            alpha=2 * problem.l2 * network.batch / half,
            batch_size=network.batch,
            learning_rate_init=network.lr * half,
            momentum=0,
            nesterovs_momentum=False,
            shuffle=False,
            random_state=0,
        )
        # The first call makes the weights, over which prepare then writes.
        some = slice(0, network.batch)
        if classifies:
            # Labels as rows of 0 and 1 make two classes two outputs, as everyone else here has them.
            self._model.partial_fit(problem.x[some], self._y[some], classes=np.arange(network.widths[-1]))
            self._model.out_activation_ = "softmax"
        else:
            self._model.partial_fit(problem.x[some], self._targets(some))

    def _targets(self, rows):
        y = self._y[rows]
        return y.ravel() if y.shape[1] == 1 else y

    def prepare(self) -> None:
        """Go back to the initial weights."""
        self._rng = self._problem.generator()
        for own, given in zip(self.layers(), self._problem.layers(), strict=True):
            for destination, source in zip(own, given, strict=True):
                destination[...] = source

    def run(self) -> None:
        """Train."""
        for _ in range(self._problem.epochs):
            order = self._rng.permutation(len(self._problem.x))
            self._model.partial_fit(self._problem.x[order], self._targets(order))

    def layers(self) -> Layers:
        """The weights as they are now."""
        return list(zip(self._model.coefs_, self._model.intercepts_, strict=True))
