"""The weights of a perceptron as one flat buffer, and its layers as data for the compiled kernels."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..layers import Identity, LeakyReLU, Linear, ReLU, Sigmoid, Tanh
from ..lowering import ACTIVATION, DROPOUT, Network, aligned_zeros, layout, lower, views
from ..validation import FLOAT32, FLOAT64, Array, DType
from ._parameters import hidden_activations

_LAYERS = {"identity": Identity, "logistic": Sigmoid, "tanh": Tanh, "relu": ReLU, "leaky_relu": LeakyReLU}


class Plan:
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
        self._linear = layers[::2]
        spans, self.size = layout(layers)
        self._spans = [spans[i] for i in range(0, len(layers), 2)]
        self.scores = _lowered(layers, spans)
        self.outputs = _lowered([*layers[:-1], Sigmoid()], spans) if logistic else self.scores
        self.after_first_product = _without_first_product(self.outputs)

    def views(self, buffer: Array) -> tuple[list[Array], list[Array]]:
        """Return the coefficients and the intercepts of all layers, as views into a flat buffer."""
        pairs = [views(layer, span, buffer) for layer, span in zip(self._linear, self._spans, strict=True)]
        return [weight for weight, _ in pairs], [bias for _, bias in pairs if bias is not None]

    def with_dropout(self, rates: Sequence[float], seed: int) -> Network:
        """Return the network up to its scores with a dropout behind each hidden layer whose rate is not 0."""
        ops, slopes = [], []
        for op, slope, rate in zip(self.scores.ops, self.scores.slopes, [*rates, 0.0], strict=True):
            ops.append(op)
            slopes.append(slope)
            if rate:
                ops.append(np.array([DROPOUT, op[2], op[2], -1, -1, 0]))
                slopes.append(rate)
        return Network(np.array(ops, np.int64), np.array(slopes, np.float64), seed)


class Weights:
    """Coefficients and intercepts as views into one flat buffer, for a fitted perceptron.

    Attributes
    ----------
    plan : Plan
    buffer : ndarray (plan.size,), float32 or float64
    coefs, intercepts : lists of views
    """

    def __init__(self, mlp: Any) -> None:
        coefs, intercepts = mlp.coefs_, mlp.intercepts_
        units = [len(coefs[0]), *(coef.shape[1] for coef in coefs)]
        self._made_for = _activations(mlp)
        self.plan = Plan(units, hidden_activations(mlp, len(coefs) - 1), mlp.out_activation_ == "logistic")
        dtype = FLOAT32 if np.result_type(*coefs, *intercepts) == FLOAT32 else FLOAT64
        self.buffer = aligned_zeros(self.plan.size, dtype)
        self.coefs, self.intercepts = self.plan.views(self.buffer)
        shapes = [np.shape(coef) for coef in coefs]
        if shapes != [view.shape for view in self.coefs]:
            raise ValueError(f"coefs_ have shapes {shapes}, but the columns of one must be the rows of the next")
        copy(self.coefs + self.intercepts, [*coefs, *intercepts])

    @property
    def dtype(self) -> DType:
        """The dtype of the buffer."""
        return self.buffer.dtype

    def belong_to(self, mlp: Any) -> bool:
        """Return whether the perceptron still uses these views, and the activations they were laid out for."""
        if len(mlp.coefs_) != len(self.coefs) or len(mlp.intercepts_) != len(self.intercepts):
            return False
        same = all(map(_is, self.coefs, mlp.coefs_)) and all(map(_is, self.intercepts, mlp.intercepts_))
        return same and self._made_for == _activations(mlp)

    def params(self, dtype: DType) -> Array:
        """Return the flat buffer, or a copy of it in another dtype."""
        if dtype == self.buffer.dtype:
            return self.buffer
        params = aligned_zeros(self.plan.size, dtype)
        params[...] = self.buffer
        return params


def _activations(mlp: Any) -> tuple[Any, str]:
    """The activations that an estimator has at the moment; a list may change later."""
    hidden = mlp.activation
    return hidden if isinstance(hidden, str) else tuple(hidden), mlp.out_activation_


def copy(targets: Sequence[Array], sources: Sequence[Array]) -> None:
    """Copy each array into its target."""
    for target, source in zip(targets, sources, strict=True):
        target[...] = source


def _lowered(layers: list[Any], spans: Any) -> Network:
    network = lower(layers, spans, layers[0].n_in)
    assert network is not None, "every layer is built in"
    return network


def _without_first_product(network: Network) -> Network:
    ops = network.ops.copy()
    _, _, width, _, _, activation = ops[0]
    ops[0] = [ACTIVATION, width, width, -1, -1, activation]
    return network._replace(ops=ops)


def _is(a: Any, b: Any) -> bool:
    return a is b
