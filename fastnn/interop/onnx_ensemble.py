"""Ensembles as ONNX: the graphs of the members side by side, and the mean of what their outputs stand for."""

from typing import Any

from ..ensemble import Ensemble
from ..nn import losses
from ..validation import INT64
from . import onnx_layers
from .onnx_graph import Graph
from .onnx_layers import Ends

# What is averaged of the outputs of each member.
_LINKS: dict[str, tuple[str, dict[str, Any]]] = {
    "softmax": ("Softmax", {"axis": 1}),
    "sigmoid": ("Sigmoid", {}),
    "exp": ("Exp", {}),
    "identity": ("Identity", {}),
}


def of_ensemble(ensemble: Ensemble, dtype: Any, scores: bool) -> tuple[Graph, Ends]:
    """Return the graph of an ensemble and its ends, which are named as those of a model."""
    graph, models = Graph(dtype or ensemble.dtype), ensemble.models
    n_in = next((model._stack.n_in for model in models if model._stack.n_in is not None), None)
    n_in = onnx_layers.width_of(models[0]) if n_in is None else n_in
    is_unknown = all(model.loss is None for model in models)
    link = "identity" if scores or is_unknown else losses.link(ensemble._known("to_onnx"))
    kind, attributes = _LINKS[link]
    parts = []
    for i, model in enumerate(models):
        with graph.within(f"model{i}"):
            parts.append(graph.add(kind, onnx_layers.layers(graph, model.layers, "X", n_in), **attributes))
    count, k = graph.constant(len(parts)), models[-1]._stack.widths[-1]
    is_flat = k == 1 and not scores and (all(model._flat for model in models) or ensemble.classes_ is not None)
    shape: list[Any] = ["m"] if is_flat else ["m", k]
    name = "scores" if scores else "probabilities" if link in ("softmax", "sigmoid") else "outputs"
    is_squeezed = is_flat and name == "outputs"
    mean = graph.add("Div", graph.add("Sum", *parts), count, to="" if is_squeezed else name)
    if is_squeezed:
        graph.add("Squeeze", mean, graph.constant([1], INT64), to=name)
    outputs = [(name, graph.dtype, ["m"] if is_squeezed else ["m", k])]
    if name == "probabilities":
        if link == "softmax":
            place, shape = graph.add("ArgMax", mean, axis=1, keepdims=0), ["m"]
        else:
            place = graph.cast(graph.add("Greater", mean, graph.constant(0.5)), INT64)
            place = graph.add("Squeeze", place, graph.constant([1], INT64)) if is_flat else place
        outputs.insert(0, onnx_layers.label(graph, place, ensemble.classes_, shape))
    return graph, Ends([("X", graph.dtype, ["m", n_in])], outputs, {})
