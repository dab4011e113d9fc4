"""The parameters that are added to scikit-learn's own: their types, their constraints, and what they mean together.

Every default leaves scikit-learn's behaviour as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions

from ..training.checkpoint import ModelCheckpoint
from ..training.watching import ReduceOnPlateau, Watching
from ..validation import Array
from ._validation import Given

Activation: TypeAlias = Literal[
    "identity",
    "logistic",
    "tanh",
    "relu",
    "leaky_relu",
    "gelu",
    "silu",
    "mish",
    "elu",
    "selu",
    "softplus",
    "hard_swish",
]
Solver: TypeAlias = Literal["lbfgs", "sgd", "adam"]
LearningRate: TypeAlias = Literal["constant", "invscaling", "adaptive"]
ClassWeight: TypeAlias = Mapping[Any, float] | Literal["balanced"] | Sequence[Mapping[Any, float]]
Dropout: TypeAlias = float | Sequence[float] | Array
Precision: TypeAlias = Literal["float32", "float64"] | type[np.float32] | type[np.float64]
Callback: TypeAlias = Callable[[Any, int, dict[str, float]], Any]

ACTIVATIONS: tuple[str, ...] = get_args(Activation)
MOST_THREADS = 1024

SHARED_CONSTRAINTS: dict[str, Any] = {
    "activation": [StrOptions(set(ACTIVATIONS)), list, tuple],
    "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple, np.ndarray],
    "dtype": [StrOptions({"float32", "float64"}), Options(type, {np.float32, np.float64}), None],
    "callbacks": [list, tuple, None],
    "optimizer": [StrOptions({"adamw"}), None],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "layer_norm": ["boolean"],
    "batch_norm": ["boolean"],
    "n_threads": [Interval(Integral, 1, MOST_THREADS, closed="both"), None],
}
CLASSIFIER_CONSTRAINTS: dict[str, Any] = {
    "class_weight": [dict, HasMethods(["keys", "__getitem__"]), list, StrOptions({"balanced"}), None],
    "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    "stratify": ["boolean"],
    **SHARED_CONSTRAINTS,
}


def n_hidden(mlp: Any) -> int:
    """Return the number of hidden layers that ``hidden_layer_sizes`` asks for."""
    sizes = mlp.hidden_layer_sizes
    return len(list(sizes)) if hasattr(sizes, "__iter__") else 1


def hidden_activations(mlp: Any, n_layers: int) -> list[str]:
    """Return the activation of each of ``n_layers`` hidden layers.

    Raises
    ------
    ValueError
        If ``activation`` is a sequence of another length, or names one that does not exist.
    """
    if isinstance(mlp.activation, str):
        return [mlp.activation] * n_layers
    names = list(mlp.activation)
    if len(names) != n_layers:
        raise ValueError(
            f"activation has {len(names)} names, but there are {n_layers} hidden layers: "
            "give one name for each, or one str for all"
        )
    for name in names:
        if name not in ACTIVATIONS:
            raise ValueError(f"activation holds {name!r}, expected names out of {', '.join(map(repr, ACTIVATIONS))}")
    return names


def dropout_rates(mlp: Any, n_layers: int) -> list[float]:
    """Return the rate at which each of ``n_layers`` hidden layers drops its units.

    Raises
    ------
    ValueError
        If ``dropout`` is a sequence of another length, or one of its rates is not in [0, 1).
    """
    if isinstance(mlp.dropout, Real):
        return [float(mlp.dropout)] * n_layers
    rates = list(np.atleast_1d(mlp.dropout)) if isinstance(mlp.dropout, np.ndarray) else list(mlp.dropout)
    if len(rates) != n_layers:
        raise ValueError(
            f"dropout has {len(rates)} rates, but there are {n_layers} hidden layers: "
            "give one rate for each, or one number for all"
        )
    for rate in rates:
        if not isinstance(rate, Real) or not 0 <= float(rate) < 1:
            raise ValueError(f"dropout holds {rate!r}, expected rates with 0 <= rate < 1")
    return [float(rate) for rate in rates]


def norm_of(mlp: Any) -> str:
    """Return which normalisation stands behind the product of each hidden layer: "layer", "batch" or none, ""."""
    return "layer" if mlp.layer_norm else "batch" if mlp.batch_norm else ""


def check_together(mlp: Any, incremental: bool, given: Given | None) -> None:
    """Refuse parameters that do not fit together, before anything is trained.

    Raises
    ------
    AttributeError, IndexError
        If training is to go on with more, or fewer, hidden layers than there are, as in scikit-learn.
    TypeError
        If a callback cannot be called.
    ValueError
        If ``activation`` or ``dropout`` do not fit the hidden layers, or the solver or ``partial_fit`` cannot do what
        is asked for.
    """
    kept = mlp.n_layers_ - 2 if hasattr(mlp, "coefs_") and (incremental or mlp.warm_start) else n_hidden(mlp)
    if kept != n_hidden(mlp):
        raise (AttributeError if kept < n_hidden(mlp) else IndexError)(
            f"hidden_layer_sizes asks for {n_hidden(mlp)} hidden layers, but training goes on with {kept}: use "
            "warm_start=False and fit to start afresh"
        )
    hidden_activations(mlp, n_hidden(mlp))
    rates = dropout_rates(mlp, n_hidden(mlp))
    for callback in mlp.callbacks or ():
        if isinstance(callback, Watching):
            fix = "early_stopping=True, with validation_data in fit for a set of your own"
            if isinstance(callback, ReduceOnPlateau):
                fix = "learning_rate='adaptive' with the solver 'sgd'"
            if isinstance(callback, ModelCheckpoint):
                fix = "a function that pickles the estimator"
            raise TypeError(f"callbacks holds {callback!r}, which is for fastnn.Sequential: use {fix}")
        if not callable(callback):
            raise TypeError(f"callbacks holds {callback!r}, expected functions callback(estimator, epoch, values)")
    if mlp.layer_norm and mlp.batch_norm:
        raise ValueError("layer_norm and batch_norm are both True: choose one of them")
    if mlp.solver == "lbfgs":
        asked = {
            "dropout": any(rates),
            "callbacks": mlp.callbacks,
            "optimizer": mlp.optimizer is not None,
            "clip_norm": mlp.clip_norm is not None,
            "layer_norm": mlp.layer_norm,
            "batch_norm": mlp.batch_norm,
        }
        if given is not None:
            asked[given.name] = True
        for name, is_asked in asked.items():
            if is_asked:
                raise ValueError(f"solver 'lbfgs' has no epochs, so {name} does not apply: use solver 'adam' or 'sgd'")
    if mlp.optimizer is not None and mlp.solver != "adam":
        raise ValueError(f"optimizer {mlp.optimizer!r} is a form of solver 'adam', but the solver is {mlp.solver!r}")
    class_weight = getattr(mlp, "class_weight", None)
    if incremental and isinstance(class_weight, str) and class_weight == "balanced":
        raise ValueError(
            "class_weight 'balanced' is unknown to partial_fit, which sees a part of the classes: pass "
            "class_weight=dict(zip(classes, compute_class_weight('balanced', classes=classes, y=y_all)))"
        )
