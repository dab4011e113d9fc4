"""The weights of a perceptron as one flat buffer, and its layers as data for the compiled kernels."""

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.neural_network._base import ACTIVATIONS

from ..nn.activations import (
    ELU,
    GELU,
    SELU,
    HardSwish,
    Identity,
    LeakyReLU,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from ..nn.dropout import Dropout
from ..nn.linear import Linear
from ..nn.lowering import Network, aligned_zeros, layout, lower, views
from ..nn.normalisation import BatchNorm, LayerNorm
from ..validation import FLOAT32, FLOAT64, Array, DType
from ._fitted import fitted_arrays, fitted_norms
from ._parameters import hidden_activations, norm_of

_LAYERS = {
    "identity": Identity,
    "logistic": Sigmoid,
    "tanh": Tanh,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "gelu": GELU,
    "silu": SiLU,
    "mish": Mish,
    "elu": ELU,
    "selu": SELU,
    "softplus": Softplus,
    "hard_swish": HardSwish,
}
_NORMS = {"layer": LayerNorm, "batch": BatchNorm}
Norms = list[dict[str, Array]]


class Layout:
    """Where the weights of each layer are in a flat buffer, and the layers as data.

    Parameters
    ----------
    units : the inputs, and the units of every layer
    activations : the name of each hidden layer's activation
    logistic : whether predictions end in a logistic function, which training has inside its loss
    norm : the normalisation between the product of each hidden layer and its activation: "layer", "batch" or ""

    Attributes
    ----------
    scores, outputs : Network
        The network up to its scores, and with the logistic function behind them if there is one.
    after_first_product : Network
        The outputs from the first layer's values on, before its activation.
    """

    def __init__(self, units: Sequence[int], activations: Sequence[str], logistic: bool, norm: str) -> None:
        self.units, self.norm = tuple(units), norm
        self._groups = groups_of(units, activations, norm)
        layers = [layer for group in self._groups for layer in group]
        spans, self.size = layout(layers)
        self._parameters = [(layers[i], places) for i, places in spans.items()]
        self.scores = _lowered(layers, spans, units[0])
        if logistic:
            layers = [*layers[:-1], Sigmoid()]
        self.outputs = _lowered(layers, spans, units[0], training=False)
        behind = {i - 1: places for i, places in spans.items() if i}
        self.after_first_product = _lowered(layers[1:], behind, units[1], training=False)

    def views(self, buffer: Array) -> tuple[list[Array], list[Array], Norms]:
        """Return the coefficients and the intercepts of all layers, and what normalisation has, as views."""
        found = [(layer, views(layer, places, buffer)) for layer, places in self._parameters]
        linear = [view for layer, view in found if isinstance(layer, Linear)]
        norms = [view for layer, view in found if not isinstance(layer, Linear)]
        return [view["weight"] for view in linear], [view["bias"] for view in linear], norms

    def with_dropout(self, rates: Sequence[float], seed: int) -> Network:
        """Return the network up to its scores with a dropout behind each hidden layer whose rate is not 0."""
        layers: list[Any] = []
        for group, rate in zip(self._groups, [*rates, 0.0], strict=True):
            layers += group
            layers += [Dropout(rate)] if rate else []
        return _lowered(layers, layout(layers)[0], self.units[0])._replace(seed=seed)


def groups_of(units: Sequence[int], activations: Sequence[str], norm: str) -> list[list[Any]]:
    """Return new layers, those of each product together: it, its normalisation, and its activation."""
    groups: list[list[Any]] = []
    for (n_in, n_out), name in zip(pairwise(units), [*activations, "identity"], strict=True):
        normalisation = [_NORMS[norm](n_out)] if norm and len(groups) < len(activations) else []
        groups.append([Linear(n_in, n_out, init="zeros"), *normalisation, _LAYERS[name]()])
    return groups


@functools.lru_cache(maxsize=64)
def _layout(units: tuple[int, ...], activations: tuple[str, ...], logistic: bool, norm: str) -> Layout:
    return Layout(units, activations, logistic, norm)


class Weights:
    """Coefficients and intercepts as views into one flat buffer, for a fitted perceptron.

    Attributes
    ----------
    layout : Layout
    dtype : float32 or float64
    buffer : ndarray (layout.size,)
    coefs, intercepts, norms : lists of views, the last in dicts
    exact : bool
        Whether the arrays of the perceptron had the dtype of the buffer.

    Raises
    ------
    ValueError
        If the arrays of the perceptron are no network, see :func:`fitted_arrays`.
    """

    def __init__(self, mlp: Any) -> None:
        coefs, intercepts = fitted_arrays(mlp)
        self._made_for = _described(mlp)
        units = (len(coefs[0]), *(coef.shape[1] for coef in coefs))
        names, logistic, norm = hidden_activations(mlp, len(coefs) - 1), mlp.out_activation_ == "logistic", norm_of(mlp)
        self.layout = _layout(units, tuple(names), logistic, norm)
        narrow = np.result_type(*coefs, *intercepts) in (np.float16, FLOAT32)
        self.dtype = FLOAT32 if narrow else FLOAT64
        self.buffer = aligned_zeros(self.layout.size, self.dtype)
        self.coefs, self.intercepts, self.norms = self.layout.views(self.buffer)
        given = coefs + intercepts + arrays_of(fitted_norms(mlp, self.norms, norm))
        own = self.coefs + self.intercepts + arrays_of(self.norms)
        copy(own, given)
        self.exact = all(array.dtype == self.dtype for array in given)
        self._views = [(view, view.strides, view.dtype) for view in own]

    def belong_to(self, mlp: Any) -> bool:
        """Return whether the perceptron still uses these views as they were made, for what they were laid out for.

        Shape (which shows in the strides), strides and dtype of an array can be set in place.
        """
        coefs, intercepts = mlp.coefs_, mlp.intercepts_
        if len(coefs) != len(self.coefs) or len(intercepts) != len(coefs):
            return False
        arrays = [*coefs, *intercepts]
        if self.layout.norm:
            arrays += arrays_of(getattr(mlp, "norms_", []))
            if len(arrays) != len(self._views):
                return False
        for array, (view, strides, dtype) in zip(arrays, self._views):  # noqa: B905 - of every call
            if array is not view or array.strides != strides or array.dtype is not dtype:
                return False
        return self._made_for == _described(mlp)

    def params(self, dtype: DType) -> Array:
        """Return the flat buffer, or a copy of it in another dtype."""
        if dtype is self.dtype:
            return self.buffer
        params = aligned_zeros(self.layout.size, dtype)
        params[...] = self.buffer
        return params


def _described(mlp: Any) -> tuple[Any, ...]:
    """What an estimator, and scikit-learn's table of functions, say of its layers; a list may change later."""
    hidden, outputs = mlp.activation, mlp.out_activation_
    if not isinstance(hidden, str):
        hidden = tuple(hidden)
    return hidden, outputs, mlp.n_layers_, ACTIVATIONS.get(hidden), ACTIVATIONS.get(outputs), norm_of(mlp)


def copy(targets: Sequence[Array], sources: Sequence[Array]) -> None:
    """Copy each array into its target."""
    for target, source in zip(targets, sources, strict=True):
        target[...] = source


def new_norms(norm: str, units: Sequence[int], dtype: Any) -> Norms:
    """Return what normalisation of each hidden layer has before any training."""
    generator = np.random.default_rng(0)  # of which nothing is drawn
    return [{name: value.astype(dtype) for name, value in _NORMS[norm](n).initial(generator).items()} for n in units]


def arrays_of(norms: Sequence[dict[str, Array]]) -> list[Array]:
    """Return all arrays of some normalisations."""
    return [array for norm in norms for array in norm.values()]


def _lowered(layers: list[Any], spans: Any, n_in: int, training: bool = True) -> Network:
    network = lower(layers, spans, n_in, training)
    assert network is not None, "every layer is built in"
    return network
