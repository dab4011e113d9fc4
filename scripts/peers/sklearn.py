"""scikit-learn's multi-layer perceptron, one `partial_fit` an epoch.

Its objective in fastnn's words, for batches of m: mean(loss_i) + alpha / (2 m) Σ W², so alpha = 2 λ m. For the squared
error it descends along (ŷ - y) / m, half of the gradient here: so twice the learning rate and half of alpha; or, with
Adam, whose steps do not grow with the gradient, half of its eps.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier, MLPRegressor

from comparison.problems import CROSS_ENTROPY, RELU, SQUARED_ERROR, Layers, Network, Problem
from comparison.rules import ADAM, ADAMW, BETA1, BETA2, CLIPPED, EPS, NESTEROV, RMSPROP, SGD

NAME = "scikit-learn"


def trains(network: Network) -> bool:
    """Whether it has such layers, such a loss and such a rule."""
    plain = network.activation == RELU and not network.normalised and not network.residual
    return plain and network.loss in (CROSS_ENTROPY, SQUARED_ERROR) and network.rule not in (ADAMW, RMSPROP, CLIPPED)


class Trainer:
    """Epochs of an update rule."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        network = problem.network
        share = 0.5 if network.loss == SQUARED_ERROR else 1.0
        self._order = Order()
        self._model = model(
            network.loss,
            problem.layers(),
            alpha=2 * problem.l2 * network.batch * share,
            batch_size=network.batch,
            random_state=self._order,
            **solver(network, share),
        )
        self._y = targets(problem.y, network.widths[-1])

    def prepare(self) -> None:
        """Go back to the initial weights, and to a new optimizer."""
        vars(self._model).pop("_optimizer", None)
        self._order.generator = self._problem.generator()
        write(self._model, self._problem.layers())

    def run(self) -> None:
        """Train."""
        for _ in range(self._problem.epochs):
            self._model.partial_fit(self._problem.x, self._y)

    def layers(self) -> Layers:
        """The weights as they are now."""
        return list(zip(self._model.coefs_, self._model.intercepts_, strict=True))

    def moments(self) -> list[NDArray]:
        """What the update rule keeps."""
        kept = vars(self._model._optimizer)
        return [moment for name in ("velocities", "ms", "vs") for moment in kept.get(name, [])]


def solver(network: Network, share: float) -> dict[str, Any]:
    """The settings of an update rule along a share of the gradient."""
    if network.rule == ADAM:
        settings = {"solver": "adam", "beta_1": BETA1, "beta_2": BETA2, "epsilon": EPS * share}
        return settings | {"learning_rate_init": network.lr}
    momentum = 0 if network.rule == SGD else BETA1
    settings = {"solver": "sgd", "momentum": momentum, "nesterovs_momentum": network.rule == NESTEROV}
    return settings | {"learning_rate_init": network.lr / share}


class Order(np.random.RandomState):
    """A generator whose `shuffle` is the common order of the samples."""

    generator = np.random.default_rng(0)

    def shuffle(self, x: NDArray) -> None:
        """Write the order of an epoch into x, which holds 0, 1, 2, ..."""
        x[:] = self.generator.permutation(len(x))


def predictor(layers: Layers, x: NDArray) -> Callable[[], NDArray]:
    """Probabilities of the classes of x."""
    fitted = model(CROSS_ENTROPY, layers)
    return lambda: fitted.predict_proba(x)


def model(loss: str, layers: Layers, **settings: Any) -> MLPClassifier | MLPRegressor:
    """An estimator with these weights: the first call of partial_fit makes arrays, over which they are written."""
    n_in, n_out, dtype = layers[0][0].shape[0], layers[-1][0].shape[1], layers[0][0].dtype
    hidden = [w.shape[1] for w, _ in layers[:-1]]
    m = max(n_out, settings.get("batch_size", 200))
    x, classes = np.zeros((m, n_in), dtype), np.arange(n_out)
    if loss == CROSS_ENTROPY:
        made = MLPClassifier(hidden_layer_sizes=hidden, **settings)
        made.partial_fit(x, targets(np.arange(m) % n_out, n_out), classes=classes)
        made.out_activation_ = "softmax"
    else:
        made = MLPRegressor(hidden_layer_sizes=hidden, **settings)
        made.partial_fit(x, targets(np.zeros((m, n_out), dtype), n_out))
    write(made, layers)
    return made


def targets(y: NDArray, outputs: int) -> NDArray:
    """Y as scikit-learn takes it. Rows of 0 and 1 give two classes two outputs, as everyone else here has them."""
    if y.ndim == 1:
        return np.eye(outputs, dtype=np.int64)[y] if outputs == 2 else y
    return y.ravel() if outputs == 1 else y


def write(model: MLPClassifier | MLPRegressor, layers: Layers) -> None:
    """Put weights into an estimator."""
    for w, b, (given_w, given_b) in zip(model.coefs_, model.intercepts_, layers, strict=True):
        w[...], b[...] = given_w, given_b
