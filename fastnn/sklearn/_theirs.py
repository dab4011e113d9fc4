"""What the kernels do not know is left to scikit-learn's own code.

People register activations in scikit-learn's tables, replace what stands there, set ``out_activation_`` by hand, and
bring optimizers or targets of their own.
"""

import inspect
from typing import Any

from scipy.sparse import issparse
from sklearn.neural_network import _base as functions
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from ..validation import Array
from ._epochs import Samples
from ._objective import has_one_label, loss_of, name_of_loss
from ._parameters import dropout_rates, n_hidden

# scikit-learn 1.6 knows no sample weights here, and passes them nowhere.
WEIGHTED = "sample_weight" in inspect.signature(BaseMultilayerPerceptron._fit_stochastic).parameters
_HIDDEN = ("identity", "logistic", "tanh", "relu")
_OUTPUTS = ("identity", "logistic", "softmax", "exp")
_LOSSES = {
    "log_loss": "log_loss",
    "binary_log_loss": "binary_log_loss",
    "squared_error": "squared_loss",
    "poisson": "poisson_loss",
}


def unknown_hidden(mlp: Any) -> str | None:
    """Return what it is about the hidden layers that only scikit-learn's own code computes, or None."""
    for name in [mlp.activation] if isinstance(mlp.activation, str) else mlp.activation:
        if name in functions.ACTIVATIONS and not (
            name in _HIDDEN
            and _is_theirs(functions.ACTIVATIONS, name, f"inplace_{name}")
            and _is_theirs(functions.DERIVATIVES, name, f"inplace_{name}_derivative")
        ):
            return f"activation {name!r}, as it stands in scikit-learn's tables,"
    return None


def unknown_outputs(mlp: Any) -> str | None:
    """Return what it is about the way to the outputs that only scikit-learn's own code computes, or None."""
    name = getattr(mlp, "out_activation_", None)
    if name not in _OUTPUTS or not _is_theirs(functions.ACTIVATIONS, name, f"inplace_{name}"):
        return f"out_activation_ {name!r}"
    return unknown_hidden(mlp)


def unknown_training(mlp: Any, y: Array) -> str | None:
    """Return what it is about training on y (n, k) that only scikit-learn's own code does, or None."""
    name = name_of_loss(mlp)
    if loss_of(mlp) is None or not _is_theirs(functions.LOSS_FUNCTIONS, name, _LOSSES[name]):
        return f"loss {mlp.loss!r} after out_activation_ {mlp.out_activation_!r}"
    of_labels = y.dtype == bool and mlp._kind_of_labels() == "multiclass"
    if mlp.out_activation_ == "softmax" and not (of_labels or has_one_label(y)):
        return "y, which has not one label for each sample,"
    optimizer = type(vars(mlp).get("_optimizer"))
    if optimizer not in (SGDOptimizer, AdamOptimizer, type(None)):
        return f"the optimizer {optimizer.__name__}"
    return unknown_outputs(mlp)


def check_their_code(mlp: Any, what: str, training: bool) -> None:
    """Refuse what is fastnn's own where ``what`` is left to scikit-learn's code, which does not have it.

    Raises
    ------
    ValueError
    """
    one = isinstance(mlp.activation, str)
    lacking = {
        "activation for each layer": not one,
        f"activation {mlp.activation!r}": one and mlp.activation not in functions.ACTIVATIONS,
        "layer_norm": mlp.layer_norm,
        "batch_norm": mlp.batch_norm,
        f"optimizer {mlp.optimizer!r}": training and mlp.optimizer is not None,
        "clip_norm": training and mlp.clip_norm is not None,
        "dropout": training and any(dropout_rates(mlp, n_hidden(mlp))),
        "label_smoothing": training and getattr(mlp, "label_smoothing", 0.0) > 0,
        "class_weight": training and not WEIGHTED and getattr(mlp, "class_weight", None) is not None,
    }
    for name, used in lacking.items():
        if used:
            raise ValueError(f"{what} is left to scikit-learn's own code, which has no {name}: do without one of them")


class TheirEpochs:
    """Passes over the training samples by scikit-learn's own functions."""

    def __init__(self, mlp: Any, samples: Samples) -> None:
        self._mlp, self._samples = mlp, samples
        self._x = samples.x.tocsr() if issparse(samples.x) else samples.x

    def suit(self) -> bool:
        """Return whether training is still left to scikit-learn's own code."""
        return unknown_training(self._mlp, self._samples.y) is not None

    def run(self, order: Array) -> Any:
        """Train on the samples in this order, and return the loss of the epoch."""
        mlp, (_, y, v, batch_size, _), total = self._mlp, self._samples, 0.0
        params, n = mlp.coefs_ + mlp.intercepts_, len(mlp.coefs_)
        activations, deltas, *gradients = ([None] * m for m in (n + 1, n, n, n))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            activations[0] = self._x[rows]
            weights = [] if not WEIGHTED else [None if v is None else v[rows]]
            loss, *gradients = mlp._backprop(activations[0], y[rows], *weights, activations, deltas, *gradients)
            total += loss * len(rows)
            mlp._optimizer.update_params(params, gradients[0] + gradients[1])
        return total / len(order)


def _is_theirs(table: dict[str, Any], name: str, function: str) -> bool:
    """Whether a table has scikit-learn's own function under a name."""
    return name in table and table[name] is getattr(functions, function, None)
