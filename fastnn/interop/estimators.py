"""A fitted estimator of fastnn.sklearn as a model of its layers."""

from typing import Any

from ..model import Sequential
from ..nn.linear import Linear
from ..serialization import Meaning
from ..training.labels import as_classes
from ..validation import Array


def is_estimator(obj: Any) -> bool:
    """Return whether an object is one of the estimators, without importing scikit-learn for it."""
    return any(base.__module__ == "fastnn.sklearn._perceptron" for base in type(obj).__mro__)


def as_model(mlp: Any) -> Sequential:
    """Return a model that predicts as an estimator does, from a copy of its weights.

    Its loss is the one that says what the outputs mean, with the labels of ``classes_`` where a model has such.

    Raises
    ------
    ValueError
        If the estimator is not fitted, its arrays do not fit together, or what stands in scikit-learn's tables under
        the names of its functions is none of scikit-learn's.
    """
    from sklearn.exceptions import NotFittedError

    from ..sklearn._network import Weights, groups_of
    from ..sklearn._parameters import hidden_activations
    from ..sklearn._theirs import unknown_outputs

    if not hasattr(mlp, "coefs_"):
        raise NotFittedError(f"this {type(mlp).__name__} is not fitted yet: call fit first")
    left = unknown_outputs(mlp)
    if left is not None:
        raise ValueError(f"{left} is scikit-learn's own or a user's, and no layer of fastnn")
    weights = Weights(mlp)
    layout = weights.layout
    groups = groups_of(layout.units, hidden_activations(mlp, len(layout.units) - 2), layout.norm)
    made = [layer for group in groups for layer in group][:-1]  # without the identity behind the last product
    model = Sequential(*made, dtype=weights.dtype)
    linear, norms = ([layer for layer in made if isinstance(layer, Linear) == is_linear] for is_linear in (True, False))
    for layer, coef, intercept in zip(linear, weights.coefs, weights.intercepts, strict=True):
        layer.weight, layer.bias = coef, intercept
    for layer, arrays in zip([layer for layer in norms if layer.shapes()], weights.norms, strict=True):
        for name, array in arrays.items():
            layer.assign(name, array)
    model.loss = _LOSSES[mlp.out_activation_]
    model._meaning = Meaning(model.loss, _classes(mlp), not hasattr(mlp, "classes_") and mlp.n_outputs_ == 1)
    return model


_LOSSES: Any = {
    "softmax": "cross_entropy",
    "logistic": "binary_cross_entropy",
    "identity": "squared_error",
    "exp": "poisson",
}


def _classes(mlp: Any) -> Array | None:
    """The labels of an estimator as those of a model, None where a model has no such."""
    classes = getattr(mlp, "classes_", None)
    if classes is None or has_several(mlp):
        return None
    labels = classes.tolist()
    is_plain = all(type(label) is str for label in labels) or all(type(label) is int for label in labels)
    is_codes = labels == [*range(len(labels))] and type(labels[0]) is int
    return as_classes(labels) if is_plain and not is_codes else None


def has_several(mlp: Any) -> bool:
    """Return whether a classifier gives several labels a sample."""
    return bool(mlp._label_binarizer.y_type_.startswith("multilabel"))


def model_of(obj: Any) -> Sequential:
    """Return a Sequential itself, or an estimator as one; TypeError for what is neither."""
    if isinstance(obj, Sequential):
        return obj
    if not is_estimator(obj):
        raise TypeError(f"model is {obj!r}, expected a Sequential or an estimator of fastnn.sklearn")
    return as_model(obj)
