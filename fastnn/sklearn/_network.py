"""The weights of a perceptron as one flat buffer, and its layers as data for the compiled kernels."""

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.neural_network._base import ACTIVATIONS

from ..nn.activations import Identity, LeakyReLU, ReLU, Sigmoid, Tanh
from ..nn.dropout import Dropout
from ..nn.linear import Linear
from ..nn.lowering import Network, aligned_zeros, layout, lower, views
from ..validation import FLOAT32, FLOAT64, Array, DType
from ._fitted import fitted_arrays
from ._parameters import hidden_activations

_LAYERS = {"identity": Identity, "logistic": Sigmoid, "tanh": Tanh, "relu": ReLU, "leaky_relu": LeakyReLU}


class Layout:
    """Where the weights of each layer are in a flat buffer, and the layers as data.

    Parameters
    ----------
    units : the inputs, and the units of every layer
    activations : the name of each hidden layer's activation
    logistic : whether predictions end in a logistic function, which training has inside its loss

    Attributes
    ----------
    scores, outputs : Network
        The network up to its scores, and with the logistic function behind them if there is one.
    after_first_product : Network
        The outputs from the first layer's values on, before its activation.
    """

    def __init__(self, units: Sequence[int], activations: Sequence[str], logistic: bool) -> None:
        layers: list[Any] = []
        for (n_in, n_out), name in zip(pairwise(units), [*activations, "identity"], strict=True):
            layers += [Linear(n_in, n_out, init="zeros"), _LAYERS[name]()]
        self.units = tuple(units)
        self._layers = layers
        spans, self.size = layout(layers)
        self._linear = [(layers[i], places) for i, places in spans.items()]
        self.scores = _lowered(layers, spans, units[0])
        if logistic:
            layers = [*layers[:-1], Sigmoid()]
        self.outputs = _lowered(layers, spans, units[0])
        self.after_first_product = _lowered(layers[1:], {i - 1: places for i, places in spans.items()}, units[1])

    def views(self, buffer: Array) -> tuple[list[Array], list[Array]]:
        """Return the coefficients and the intercepts of all layers, as views into a flat buffer."""
        found = [views(layer, places, buffer) for layer, places in self._linear]
        return [view["weight"] for view in found], [view["bias"] for view in found]

    def with_dropout(self, rates: Sequence[float], seed: int) -> Network:
        """Return the network up to its scores with a dropout behind each hidden layer whose rate is not 0."""
        layers: list[Any] = []
        for i, rate in enumerate([*rates, 0.0]):
            layers += self._layers[2 * i : 2 * i + 2]
            layers += [Dropout(rate)] if rate else []
        return _lowered(layers, layout(layers)[0], self.units[0])._replace(seed=seed)


@functools.lru_cache(maxsize=64)
def _layout(units: tuple[int, ...], activations: tuple[str, ...], logistic: bool) -> Layout:
    return Layout(units, activations, logistic)


class Weights:
    """Coefficients and intercepts as views into one flat buffer, for a fitted perceptron.

    Attributes
    ----------
    layout : Layout
    dtype : float32 or float64
    buffer : ndarray (layout.size,)
    coefs, intercepts : lists of views
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
        self.layout = _layout(units, tuple(hidden_activations(mlp, len(coefs) - 1)), mlp.out_activation_ == "logistic")
        narrow = np.result_type(*coefs, *intercepts) in (np.float16, FLOAT32)
        self.dtype = FLOAT32 if narrow else FLOAT64
        self.buffer = aligned_zeros(self.layout.size, self.dtype)
        self.coefs, self.intercepts = self.layout.views(self.buffer)
        copy(self.coefs + self.intercepts, coefs + intercepts)
        self.exact = all(array.dtype == self.dtype for array in coefs + intercepts)
        self._views = [(view, view.strides, view.dtype) for view in self.coefs + self.intercepts]

    def belong_to(self, mlp: Any) -> bool:
        """Return whether the perceptron still uses these views as they were made, for what they were laid out for.

        Shape (which shows in the strides), strides and dtype of an array can be set in place.
        """
        coefs, intercepts = mlp.coefs_, mlp.intercepts_
        if len(coefs) != len(self.coefs) or len(intercepts) != len(coefs):
            return False
        for array, (view, strides, dtype) in zip([*coefs, *intercepts], self._views):  # noqa: B905 - of every call
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
    return hidden, outputs, mlp.n_layers_, ACTIVATIONS.get(hidden), ACTIVATIONS.get(outputs)


def copy(targets: Sequence[Array], sources: Sequence[Array]) -> None:
    """Copy each array into its target."""
    for target, source in zip(targets, sources, strict=True):
        target[...] = source


def _lowered(layers: list[Any], spans: Any, n_in: int) -> Network:
    network = lower(layers, spans, n_in)
    assert network is not None, "every layer is built in"
    return network
