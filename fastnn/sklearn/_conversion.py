"""From an estimator of fastnn to scikit-learn's own class in the same state."""

import copy
from typing import Any, TypeVar

from sklearn import config_context
from sklearn.neural_network._base import ACTIVATIONS

from ._parameters import dropout_rates, hidden_activations, n_hidden, norm_of

Theirs = TypeVar("Theirs")

# What fit keeps beyond scikit-learn's attributes.
_OWN_ATTRIBUTES = ("validation_loss_curve_", "norms_", "_best_norms", "_skl_callbacks")
_ROUTED = ("fit", "partial_fit", "score")


def in_class(mlp: Any, theirs: type[Theirs]) -> Theirs:
    """Return an estimator of scikit-learn's class ``theirs`` with a copy of the parameters and the fitted state.

    Raises
    ------
    ValueError
        If predictions or further training need what that class does not have.
    """
    if norm_of(mlp):
        raise ValueError(f"{norm_of(mlp)}_norm is True, which has no counterpart in scikit-learn")
    activation = _one_activation(mlp)
    _check_training(mlp)
    result, left_out = theirs(), {*mlp._own_parameters, *_OWN_ATTRIBUTES, "_metadata_request"}
    state = {name: value for name, value in mlp.__getstate__().items() if name not in left_out}
    vars(result).update(copy.deepcopy(state), activation=activation)
    if hasattr(mlp, "_metadata_request"):
        _request(result, mlp.get_metadata_routing())
    return result


def _one_activation(mlp: Any) -> str:
    """Return the activation of all hidden layers."""
    names = [mlp.activation]
    if not isinstance(mlp.activation, str):
        names = sorted(set(hidden_activations(mlp, _n_hidden(mlp)))) or ["identity"]
    if len(names) > 1:
        raise ValueError(f"activation is {mlp.activation!r}, but scikit-learn has one activation for all hidden layers")
    if names[0] not in ACTIVATIONS:
        raise ValueError(
            f"activation {names[0]!r} has no counterpart in scikit-learn, which has {', '.join(map(repr, ACTIVATIONS))}"
        )
    return str(names[0])


def _check_training(mlp: Any) -> None:
    """Refuse what predictions do not depend on, but epochs to come do.

    Callbacks, the limit on threads and the precision, which is a matter of rounding, are no part of that.
    """
    asked = {
        "class_weight": getattr(mlp, "class_weight", None) is not None,
        "label_smoothing": getattr(mlp, "label_smoothing", 0.0) != 0,
        "stratify": getattr(mlp, "stratify", False) and mlp.early_stopping,
        "optimizer": mlp.optimizer is not None,
        "clip_norm": mlp.clip_norm is not None,
        "dropout": any(dropout_rates(mlp, _n_hidden(mlp))),
    }
    for name, is_asked in asked.items():
        if is_asked:
            raise ValueError(
                f"{name} is {getattr(mlp, name)!r}, which has no counterpart in scikit-learn: further training would "
                f"leave it out. Predictions do not depend on it: set_params({name}={getattr(type(mlp), name)!r}) first"
            )


def _n_hidden(mlp: Any) -> int:
    return len(mlp.coefs_) - 1 if hasattr(mlp, "coefs_") else n_hidden(mlp)


def _request(estimator: Any, routing: Any) -> None:
    """Let an estimator request the metadata that another does, as far as its methods take them."""
    with config_context(enable_metadata_routing=True):
        known = estimator.get_metadata_routing()
        for method in _ROUTED:
            requests = {
                name: alias
                for name, alias in getattr(routing, method).requests.items()
                if name in getattr(known, method).requests
            }
            if requests:
                getattr(estimator, f"set_{method}_request")(**requests)
