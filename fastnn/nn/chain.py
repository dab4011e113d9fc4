"""Layers one after the other: whether they fit together, and what they are asked for."""

from collections.abc import Sequence
from typing import Any

from ..validation import positive_int
from . import activations
from .embedding import Embedding
from .layers import BuiltIn, Layer, flattened
from .lowering import input_width
from .standardize import Standardize


def call_list(layer: Any, method: str) -> list[Any]:
    """Return what an optional method of a layer returns, as a list."""
    return list(getattr(layer, method)()) if hasattr(layer, method) else []


def check_layers(layers: Sequence[Any], owner: str = "Sequential") -> list[int | None]:
    """Return the outputs of each layer, None where unknown, after checking that the layers fit together."""
    if not layers:
        raise ValueError(f"a {owner} needs at least one layer, such as Linear(64, 10)")
    widths: list[int | None] = []
    width = input_width(layers)
    seen: set[int] = set()
    for i, layer in enumerate(layers):
        if isinstance(layer, (list, tuple)):
            raise TypeError(f"layers are passed one by one, not as a list: {owner}(*layers)")
        if isinstance(layer, type):
            raise TypeError(f"layer {i} is the class {layer.__name__}, expected an object: {layer.__name__}(...)")
        if not all(callable(getattr(layer, method, None)) for method in ("forward", "backward")):
            raise TypeError(f"layer {i} is {layer!r}, expected a layer: an object with forward and backward methods")
        for leaf in flattened([layer]):
            if id(leaf) in seen:
                raise ValueError(f"layer {i} is an object that comes earlier too: make a new {leaf!r} for each place")
            if isinstance(leaf, BuiltIn) and leaf.is_bound:
                raise ValueError(f"layer {i}, {leaf!r}, belongs to another model already: make a new one")
            seen.add(id(leaf))
        n_in, n_out = (_declared(layer, i, name) for name in ("n_in", "n_out"))
        if n_in is not None and width is not None and n_in != width:
            raise ValueError(f"layer {i}, {layer!r}, has {n_in} inputs, but layer {i - 1} has {width} outputs")
        width = layer.outputs_for(width) if isinstance(layer, BuiltIn) else n_out
        widths.append(width)
    return widths


def _declared(layer: Layer, i: int, name: str) -> int | None:
    value = getattr(layer, name, None)
    return None if value is None else positive_int(f"{name} of layer {i}", value)


def coded(leaves: Sequence[Any]) -> list[tuple[Embedding, list[Standardize]]]:
    """The layers that take codes, each with those that the codes pass before."""
    found = []
    for i, layer in enumerate(leaves):
        if isinstance(layer, Embedding):
            passed = [earlier for earlier in leaves[:i] if not isinstance(earlier, activations.Identity)]
            for earlier in passed:
                if not isinstance(earlier, Standardize):
                    raise ValueError(
                        f"{layer!r} follows {earlier!r}, which gives no codes: let it be the first layer, or follow a "
                        "Standardize that leaves the codes alone"
                    )
            found.append((layer, passed))
    return found
