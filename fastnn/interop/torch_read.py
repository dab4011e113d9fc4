"""Modules of PyTorch as models, and their state_dicts into models."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..libraries import library
from ..model import Sequential
from ..nn.activations import ELU, GELU, LeakyReLU, Softplus
from ..nn.dropout import Dropout
from ..nn.embedding import Embedding
from ..nn.layers import BuiltIn, checked
from ..nn.linear import Linear
from ..nn.normalisation import BatchNorm, LayerNorm
from ..nn.residual import Residual
from ..nn.standardize import Standardize
from ..validation import FLOAT32, FLOAT64, Array
from .torch_write import SIMPLE

_SOFTPLUS_LEAST = 15.0  # where log(1 + e^x) is x to float32's rounding
# Of parameters, their names in PyTorch where they have others there.
_NAMES = {"running_variance": "running_var"}


def from_torch(source: Any, into: Sequential | None = None) -> Sequential:
    """Return a model that computes what a ``torch.nn.Sequential`` does, or one into which a state_dict was loaded.

    Parameters
    ----------
    source : torch.nn.Sequential, or a state_dict
        Modules for which fastnn has layers, in a Sequential, which may hold others; with their weights, running
        statistics and settings. A softmax at the end is taken off, and makes the loss "cross_entropy". A state_dict has
        names and arrays alone, so the model comes from you; the arrays of safetensors do as well.
    into : Sequential, optional
        The model for a state_dict: its layers take, in their order, the arrays of modules in the order that they have
        there. A :class:`Standardize` keeps its own where there are none for it.

    Returns
    -------
    Sequential
        A new one, float64 if any parameter is, or ``into``.

    Raises
    ------
    ImportError
        If PyTorch is missing.
    TypeError
        If ``source`` is neither, or a module has no counterpart, which is named.
    ValueError
        If a setting of a module has no counterpart, or a name or a shape of the state_dict does not fit; the model is
        as it was then.

    Examples
    --------
    >>> import torch  # doctest: +SKIP
    >>> from fastnn.interop import from_torch
    >>> model = from_torch(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU()))  # doctest: +SKIP
    """
    if isinstance(source, Mapping):
        if not isinstance(into, Sequential):
            raise TypeError(
                f"into is {into!r}, expected a Sequential: a state_dict does not say which layers its arrays are of"
            )
        return _load(into, source)
    torch = library("torch", "torch", "from_torch")
    if not isinstance(source, torch.nn.Module):
        raise TypeError(f"source is {type(source).__name__}, expected a torch.nn.Sequential or a state_dict")
    if into is not None:
        raise ValueError("into is for a state_dict: pass source.state_dict(), or leave it out")
    modules, is_soft = [*_flat(torch, "", source)], False
    if modules and type(modules[-1][1]) in (torch.nn.Softmax, torch.nn.LogSoftmax):
        name, last = modules.pop()
        if last.dim not in (1, -1):
            raise ValueError(f"{name} has dim={last.dim}, expected 1: the outputs of a sample")
        is_soft = True
    if not modules:
        raise ValueError("source has no modules that could be layers")
    kinds = {str(parameter.dtype) for parameter in source.parameters()}
    reader = _Reader(torch)
    model = Sequential(*map(reader.layer, *zip(*modules, strict=True)), dtype=_dtype(kinds))
    if is_soft:
        model.loss = "cross_entropy"
    return model


def _dtype(kinds: set[str]) -> Any:
    return FLOAT64 if "torch.float64" in kinds else FLOAT32


def _flat(torch: Any, prefix: str, module: Any) -> Iterator[tuple[str, Any]]:
    """The modules that pass data on themselves, and where they are; those that do nothing to rows are left out."""
    if not _is_chain(torch, module):
        raise TypeError(
            f"{prefix or 'source'} is a {type(module).__name__}, whose forward is its own: pass the nn.Sequential of "
            "its modules, in the order in which it calls them"
        )
    for name, child in module.named_children():
        path = f"{prefix}.{name}" if prefix else f"module {name}"
        if _is_chain(torch, child):
            yield from _flat(torch, path, child)
        elif not (type(child) is torch.nn.Flatten and (child.start_dim, child.end_dim) == (1, -1)):
            yield path, child


def _is_chain(torch: Any, module: Any) -> bool:
    return isinstance(module, torch.nn.Sequential) and type(module).forward is torch.nn.Sequential.forward


class _Reader:
    """Makes layers of modules."""

    def __init__(self, torch: Any) -> None:
        nn = torch.nn
        own = library("fastnn.interop.torch_modules", "torch", "from_torch")
        self._torch, self._own = torch, own
        self._simple = {getattr(nn, name): layer for layer, name in SIMPLE.items()}
        self._makers: dict[type, Callable[[str, Any], BuiltIn]] = {
            nn.Linear: self._linear,
            nn.LayerNorm: self._layer_norm,
            nn.BatchNorm1d: self._batch_norm,
            nn.Dropout: lambda name, module: Dropout(module.p),
            nn.LeakyReLU: lambda name, module: LeakyReLU(module.negative_slope),
            nn.ELU: lambda name, module: ELU(module.alpha),
            nn.GELU: lambda name, module: GELU(module.approximate),
            nn.Softplus: self._softplus,
            own.Residual: self._residual,
            own.Standardize: self._standardize,
            own.Embedding: self._embedding,
        }

    def layer(self, name: str, module: Any) -> BuiltIn:
        """Return the layer of a module at a place."""
        kind = type(module)
        if kind in self._simple:
            return self._simple[kind]()
        if kind not in self._makers:
            known = ", ".join(sorted(known.__name__ for known in {*self._simple, *self._makers}))
            raise TypeError(f"{name} is {module!r}, for which fastnn has no layer: from_torch knows {known}")
        return self._makers[kind](name, module)

    def _linear(self, name: str, module: Any) -> BuiltIn:
        bias = False if module.bias is None else array_of(f"{name}.bias", module.bias)
        weight = array_of(f"{name}.weight", module.weight).T
        return Linear(*weight.shape, init=weight, bias=bias, trainable=_learns(name, module))

    def _layer_norm(self, name: str, module: Any) -> BuiltIn:
        if len(module.normalized_shape) != 1 or module.weight is None or module.bias is None:
            raise ValueError(f"{name} is {module!r}, but a LayerNorm has one dimension, a weight and a bias")
        layer = LayerNorm(module.normalized_shape[0], eps=module.eps, trainable=_learns(name, module))
        return _started(name, layer, module)

    def _batch_norm(self, name: str, module: Any) -> BuiltIn:
        if not module.affine or not module.track_running_stats or module.momentum is None:
            raise ValueError(
                f"{name} is {module!r}, but a BatchNorm has weight, bias, running statistics and a number as momentum"
            )
        # A frozen one of fastnn takes the running statistics in training, as one of PyTorch does in eval mode.
        trainable = _learns(name, module) or module.training
        layer = BatchNorm(module.num_features, momentum=module.momentum, eps=module.eps, trainable=trainable)
        return _started(name, layer, module)

    def _softplus(self, name: str, module: Any) -> BuiltIn:
        if module.beta != 1 or module.threshold < _SOFTPLUS_LEAST:
            raise ValueError(f"{name} is {module!r}, but a Softplus has beta=1 and no threshold")
        return Softplus()

    def _residual(self, name: str, module: Any) -> BuiltIn:
        found = [self.layer(*pair) for pair in _flat(self._torch, name, module.layers)]
        return Residual(*found)

    def _standardize(self, name: str, module: Any) -> BuiltIn:
        mean, scale = (array_of(f"{name}.{part}", getattr(module, part)) for part in ("mean", "scale"))
        return Standardize(mean.size, mean, scale)

    def _embedding(self, name: str, module: Any) -> BuiltIn:
        layer = Embedding(module.columns, trainable=_learns(name, module))
        tables = [array_of(f"{name}.tables.{i}.weight", table.weight) for i, table in enumerate(module.tables)]
        layer.start_from(dict(zip(layer.shapes(), tables, strict=True)))
        return layer


def _started(name: str, layer: BuiltIn, module: Any) -> BuiltIn:
    """Let a layer start from the arrays that a module has under the same names."""
    named = {each: _NAMES.get(each, each) for each in layer.shapes()}
    layer.start_from({each: array_of(f"{name}.{other}", getattr(module, other)) for each, other in named.items()})
    return layer


def _learns(name: str, module: Any) -> bool:
    """Whether the parameters of a module are trained, all of them or none."""
    wanted = {parameter.requires_grad for parameter in module.parameters()}
    if len(wanted) > 1:
        raise ValueError(f"{name} has parameters of which some are frozen, but a layer is frozen whole or not at all")
    return wanted != {False}


def array_of(name: str, value: Any) -> Array:
    """Return a tensor, or what NumPy takes for an array, as an array; half precision as float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) in ("torch.bfloat16", "torch.float16") else value).numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} holds {array.dtype}, expected real numbers")
    return array


def _load(model: Sequential, state: Mapping[str, Any]) -> Sequential:
    """Write the arrays of a state_dict into a model, all of them or none."""
    groups: dict[str, dict[str, Any]] = {}
    for key, value in state.items():
        module, _, name = str(key).rpartition(".")
        if name != "num_batches_tracked":
            groups.setdefault(module, {})[name] = value
    waiting = list(groups.items())
    found: list[tuple[BuiltIn, str, Array]] = []
    for i, layer in enumerate(model._stack.leaves):
        if isinstance(layer, BuiltIn):
            for names in _wanted(layer):
                if isinstance(layer, Standardize) and not (waiting and set(waiting[0][1]) == set(names)):
                    continue
                found += _taken(f"layer {i}, {layer!r},", layer, names, waiting)
    if waiting:
        module, arrays = waiting[0]
        raise ValueError(
            f"source holds {f'{module}.' if module else ''}{min(arrays)}, for which the model has no layer"
        )
    for layer, name, array in found:
        layer.assign(name, array)
    return model


def _wanted(layer: BuiltIn) -> list[dict[str, str]]:
    """The parameters of each module that a layer is in PyTorch, from their names there to those here."""
    if isinstance(layer, Embedding):
        return [{"weight": name} for name in layer.shapes()]
    return [{_NAMES.get(name, name): name for name in layer.shapes()}] if layer.shapes() else []


def _taken(
    what: str, layer: BuiltIn, names: dict[str, str], waiting: list[tuple[str, dict[str, Any]]]
) -> Iterator[tuple[BuiltIn, str, Array]]:
    """Take the arrays of a layer from the first module that waits."""
    if not waiting:
        raise ValueError(f"{what} finds no arrays in source, which holds too few modules")
    module, arrays = waiting.pop(0)
    if set(arrays) != set(names):
        raise ValueError(
            f"{what} takes {', '.join(names)}, but source holds {', '.join(arrays)} of {module or 'the module'} in "
            "its place"
        )
    for theirs, ours in names.items():
        key = f"{module}.{theirs}" if module else theirs
        array = array_of(key, arrays[theirs])
        array = array.T if isinstance(layer, Linear) and array.ndim == 2 else array
        view = layer.read(ours)
        if array.shape != view.shape:
            raise ValueError(
                f"{key} has shape {array.shape[::-1] if array.ndim == 2 else array.shape}, but {what} "
                f"takes {view.shape[::-1] if isinstance(layer, Linear) else view.shape}"
            )
        yield layer, ours, checked(key, array, view.shape, view.dtype)
