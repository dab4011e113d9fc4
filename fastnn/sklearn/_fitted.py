"""What a user may have made of a fitted perceptron's arrays: every use of them begins with these checks."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin

from ..validation import Array


def fitted_arrays(mlp: Any) -> tuple[list[Array], list[Array]]:
    """Return ``coefs_`` and ``intercepts_`` as arrays of real numbers, (n, k) and (k,), that follow on one another.

    Raises
    ------
    ValueError
        If they hold other than real numbers, or their numbers or shapes fit neither each other nor ``n_layers_``, nor
        the ``n_outputs_`` of a classifier.
    """
    coefs, intercepts = _real("coefs_", mlp.coefs_), _real("intercepts_", mlp.intercepts_)
    if not len(coefs) == len(intercepts) == mlp.n_layers_ - 1 > 0:
        raise ValueError(
            f"coefs_ has {len(coefs)} arrays and intercepts_ {len(intercepts)}, but n_layers_ is {mlp.n_layers_}: each "
            "layer behind the input needs one of both"
        )
    shapes = [coef.shape for coef in coefs]
    if any(len(shape) != 2 for shape in shapes) or any(a[1] != b[0] for a, b in pairwise(shapes)):
        raise ValueError(f"coefs_ have shapes {shapes}, but the columns of one must be the rows of the next")
    if not all(map(_is_bias, intercepts, coefs)):
        raise ValueError(
            f"intercepts_ have shapes {[intercept.shape for intercept in intercepts]}, but coefs_ have {shapes}: there "
            "must be one number for each column"
        )
    if isinstance(mlp, ClassifierMixin) and shapes[-1][1] != getattr(mlp, "n_outputs_", shapes[-1][1]):
        raise ValueError(f"coefs_[{len(coefs) - 1}] has {shapes[-1][1]} columns, but n_outputs_ is {mlp.n_outputs_}")
    wide = [np.broadcast_to(b.reshape(-1), w.shape[1:]) for w, b in zip(coefs, intercepts, strict=True)]
    return coefs, wide


def fitted_norms(mlp: Any, wanted: Sequence[dict[str, Array]], norm: str) -> list[dict[str, Array]]:
    """Return ``norms_`` as arrays of real numbers, of the names and shapes that the layers have, or none without any.

    Raises
    ------
    ValueError
        If they are others.
    """
    if not norm:
        return []
    given = getattr(mlp, "norms_", None)
    if given is None:
        raise ValueError(
            f"{norm}_norm is True, but the fitted layers have no normalisation: use warm_start=False and fit to start "
            "afresh"
        )
    names = [list(arrays) for arrays in wanted]
    if [list(arrays) for arrays in given] != names:
        raise ValueError(f"norms_ hold {[list(arrays) for arrays in given]}, expected {names}")
    found = [dict(zip(arrays, _real("norms_", [*arrays.values()]), strict=True)) for arrays in given]
    for i, (arrays, others) in enumerate(zip(found, wanted, strict=True)):
        for name, array in arrays.items():
            if array.shape != others[name].shape:
                raise ValueError(f"norms_[{i}][{name!r}] has shape {array.shape}, expected {others[name].shape}")
    return found


def check_width(n_features: int, coefs: Sequence[Array]) -> None:
    """Refuse samples with other features than the first coefficients have rows."""
    if n_features != len(coefs[0]):
        raise ValueError(f"X has {n_features} features, but coefs_[0] has {len(coefs[0])} rows: they must be equal")


def check_going_on(mlp: Any, coefs: Sequence[Array], n_features: int, n_outputs: int) -> None:
    """Refuse samples, targets and layers that do not fit the coefficients with which training is to go on.

    A stochastic solver goes on with the units there are, whatever ``hidden_layer_sizes`` asks for, as in scikit-learn.

    Raises
    ------
    ValueError
    """
    check_width(n_features, coefs)
    there, fix = coefs[-1].shape[1], "use warm_start=False and fit to start afresh"
    if n_outputs != there:
        raise ValueError(f"y has {n_outputs} outputs, but coefs_[{len(coefs) - 1}] has {there} columns: {fix}")
    if mlp.solver != "lbfgs":
        return
    wanted, units = [int(n) for n in np.ravel(mlp.hidden_layer_sizes)], [coef.shape[1] for coef in coefs[:-1]]
    if wanted != units:
        raise ValueError(f"hidden_layer_sizes asks for {wanted} units, but training goes on with {units}: {fix}")


def _real(name: str, arrays: Sequence[Any]) -> list[Array]:
    result = [np.asarray(array) for array in arrays]
    for i, array in enumerate(result):
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name}[{i}] holds {array.dtype}, expected real numbers")
    return result


def _is_bias(intercept: Array, coef: Array) -> bool:
    """Whether NumPy would add it to rows as wide as the coefficients: (k,), or a single number for all."""
    return intercept.size == 1 or (intercept.size == coef.shape[1] and intercept.shape[-1] == coef.shape[1])
