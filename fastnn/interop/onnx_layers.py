"""Layers, and what a model predicts, as nodes of ONNX."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import serialization
from ..model import Sequential
from ..nn import losses
from ..nn.activations import BuiltInActivation
from ..nn.dropout import Dropout
from ..nn.embedding import Embedding
from ..nn.layers import BUILT_IN, is_built_in
from ..nn.linear import Linear
from ..nn.normalisation import BatchNorm, LayerNorm
from ..nn.own import Activation as OwnActivation
from ..nn.residual import Residual
from ..nn.standardize import Standardize
from ..validation import FLOAT32, FLOAT64, INT64, Array, finite
from . import onnx_forms
from .onnx_graph import Graph


class Labels(NamedTuple):
    """How an estimator of scikit-learn's names its outputs.

    ``classes`` (k,) are what the scores stand for, None where there are several labels a sample; ``binary`` whether one
    score tells two apart; a regressor has neither, and gives what it predicts under the name "variable".
    """

    classes: Array | None = None
    binary: bool = False


class Ends(NamedTuple):
    """What a graph takes and gives: names, dtypes, and shapes in which a word is a size that is not known."""

    inputs: list[tuple[str, Any, list[Any]]]
    outputs: list[tuple[str, Any, list[Any]]]
    metadata: dict[str, Any]


def of_model(model: Sequential, dtype: Any, scores: bool) -> tuple[Graph, Ends]:
    """Return the graph of a model and its ends."""
    graph = Graph(dtype or model.dtype)
    n_in = width_of(model)
    found = layers(graph, model.layers, "X", n_in)
    k = model._stack.widths[-1]
    inputs = [("X", graph.dtype, ["m", n_in])]
    if scores:
        graph.add("Identity", found, to="scores")
        return graph, Ends(inputs, [("scores", graph.dtype, ["m", k])], meaning(model, found))
    return graph, Ends(inputs, predicted(graph, model, found, k), meaning(model, found))


def width_of(model: Sequential) -> int:
    """Return how many columns the input of a model has."""
    n_in = model._stack.n_in
    if n_in is None:
        raise ValueError(f"{model!r} takes inputs of any width, but ONNX needs one: begin with a Linear or a LayerNorm")
    return n_in


def meaning(model: Sequential, found: str) -> dict[str, Any]:
    """What :func:`from_onnx` reads of the model beside the graph."""
    return {"scores": found, **serialization.describe_meaning(model._meaning)}


def layers(graph: Graph, chain: Any, x: str, width: int | None) -> str:
    """Append layers, and return the name of what comes out."""
    for i, layer in enumerate(chain):
        if not is_built_in(layer) or not (type(layer) in _WRITERS or isinstance(layer, BuiltInActivation)):
            known = ", ".join(name for name, kind in BUILT_IN.items() if not issubclass(kind, OwnActivation))
            raise TypeError(f"layer {i}, {layer!r}, has no form in ONNX: to_onnx knows {known}")
        with graph.within(f"{i}_{type(layer).__name__}"):
            if isinstance(layer, Residual):
                x = graph.add("Add", layers(graph, layer.layers, x, width), x)
            elif isinstance(layer, BuiltInActivation):
                x = onnx_forms.write(graph, layer, x)
            elif isinstance(layer, Embedding):
                x = _embedding(graph, layer, x, width)
            else:
                x = _WRITERS[type(layer)](graph, layer, x)
        width = layer.outputs_for(width)
    return x


def _parameter(graph: Graph, layer: Any, name: str) -> str:
    array = layer.read(name)
    finite(f"{name} of {layer!r}", array, graph.dtype)
    return graph.constant(array, name=name)


def _linear(graph: Graph, layer: Linear, x: str) -> str:
    weight = _parameter(graph, layer, "weight")
    if not layer.has_bias:
        return graph.add("MatMul", x, weight)
    return graph.add("Gemm", x, weight, _parameter(graph, layer, "bias"))


def _standardize(graph: Graph, layer: Standardize, x: str) -> str:
    return graph.add("Div", graph.add("Sub", x, _parameter(graph, layer, "mean")), _parameter(graph, layer, "scale"))


def _layer_norm(graph: Graph, layer: LayerNorm, x: str) -> str:
    given = [_parameter(graph, layer, name) for name in ("weight", "bias")]
    return graph.add("LayerNormalization", x, *given, axis=-1, epsilon=layer.eps)


def _batch_norm(graph: Graph, layer: BatchNorm, x: str) -> str:
    given = [_parameter(graph, layer, name) for name in ("weight", "bias", "running_mean", "running_variance")]
    return graph.add("BatchNormalization", x, *given, epsilon=layer.eps, momentum=1 - layer.momentum)


def _dropout(graph: Graph, layer: Dropout, x: str) -> str:
    return graph.add("Dropout", x, graph.constant(layer.rate, FLOAT32, "ratio"))


def _embedding(graph: Graph, layer: Embedding, x: str, width: int | None) -> str:
    others = [column for column in range(width or 0) if column not in layer.columns]
    parts = [graph.add("Gather", x, graph.constant(others, INT64, "others"), axis=1)] if others else []
    for column, name in zip(layer.columns, layer.shapes(), strict=True):
        codes = graph.cast(graph.add("Gather", x, graph.constant(column, INT64, f"column{column}"), axis=1), INT64)
        parts.append(graph.add("Gather", _parameter(graph, layer, name), codes, axis=0))
    return graph.add("Concat", *parts, axis=1)


_WRITERS: dict[type, Callable[..., str]] = {
    Linear: _linear,
    Standardize: _standardize,
    LayerNorm: _layer_norm,
    BatchNorm: _batch_norm,
    Dropout: _dropout,
    Embedding: _embedding,
    Residual: layers,
}


def predicted(
    graph: Graph, model: Sequential, scores: str, k: int | None, labels: Labels | None = None
) -> list[tuple[str, Any, list[Any]]]:
    """Append what the scores mean, and return the outputs of the graph."""
    link = losses.link(model.loss)
    classes = labels.classes if labels is not None else model.classes_
    if link == "softmax":
        probabilities = graph.add("Softmax", scores, to="probabilities", axis=1)
        place = graph.add("ArgMax", scores, axis=1, keepdims=0)
        return [label(graph, place, classes, ["m"]), (probabilities, graph.dtype, ["m", k])]
    if link == "sigmoid":
        return _binary(graph, scores, k, classes, labels, model._meaning.flat)
    name = "outputs" if labels is None else "variable"
    is_flat = labels is None and model._meaning.flat and k == 1
    if is_flat:
        scores = graph.add("Squeeze", scores, graph.constant([1], INT64))
    graph.add("Exp" if link == "exp" else "Identity", scores, to=name)
    return [(name, graph.dtype, ["m"] if is_flat else ["m", k])]


def _binary(
    graph: Graph, scores: str, k: int | None, classes: Array | None, labels: Labels | None, flat: bool
) -> list[tuple[str, Any, list[Any]]]:
    both = labels is not None and labels.binary
    is_so = graph.cast(graph.add("Greater", scores, graph.constant(0)), INT64)
    shape: list[Any] = ["m", k]
    if k == 1 and (both or flat or classes is not None):
        is_so, shape = graph.add("Squeeze", is_so, graph.constant([1], INT64)), ["m"]
    if both:
        of_one = graph.add("Sigmoid", scores)
        of_zero = graph.add("Sub", graph.constant(1), of_one)
        graph.add("Concat", of_zero, of_one, to="probabilities", axis=1)
    else:
        graph.add("Sigmoid", scores, to="probabilities")
    return [label(graph, is_so, classes, shape), ("probabilities", graph.dtype, ["m", 2 if both else k])]


def label(graph: Graph, place: str, classes: Array | None, shape: list[Any]) -> tuple[str, Any, list[Any]]:
    """Append the labels for places among the classes."""
    if classes is None:
        graph.add("Identity", place, to="label")
        return "label", INT64, shape
    names = _as_onnx_has(classes)
    graph.add("Gather", graph.constant(names, names.dtype, "classes"), place, to="label", axis=0)
    return "label", names.dtype, shape


def _as_onnx_has(classes: Array) -> Array:
    """Labels as int64, float64 or strings."""
    values = classes.tolist()
    if all(isinstance(value, str) for value in values):
        return np.array(values, object)
    if all(isinstance(value, (bool, int)) for value in values):
        return np.array(values, INT64)
    if all(isinstance(value, float) for value in values):
        return np.array(values, FLOAT64)
    raise TypeError(f"classes_ are {values!r}, but labels of ONNX are all strings or all numbers: train with those")
