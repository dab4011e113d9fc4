"""Models as modules of PyTorch."""

from typing import Any

import numpy as np

from ..libraries import library
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
from ..nn.embedding import Embedding
from ..nn.layers import is_built_in
from ..nn.linear import Linear
from ..nn.normalisation import BatchNorm, LayerNorm
from ..nn.residual import Residual
from ..nn.standardize import Standardize
from .estimators import model_of

# From here on log(1 + e^x) is x to rounding in float64, and e^x is left alone.
SOFTPLUS_IS_X = 40.0
# The activations that PyTorch has under another name, or with arguments.
SIMPLE = {
    Identity: "Identity",
    ReLU: "ReLU",
    Tanh: "Tanh",
    Sigmoid: "Sigmoid",
    SiLU: "SiLU",
    Mish: "Mish",
    SELU: "SELU",
    HardSwish: "Hardswish",
}


def to_torch(model: Any) -> Any:
    """Return a model as a ``torch.nn.Sequential``, with copies of its weights.

    Its outputs are those of ``forward``, to rounding. It is in ``eval`` mode, as predictions need it for dropout and
    batch normalisation; ``.train()`` goes on training. What PyTorch has no module for becomes one of
    ``fastnn.interop.torch_modules``: Residual, Standardize and Embedding.

    Parameters
    ----------
    model : Sequential or an estimator of fastnn.sklearn

    Returns
    -------
    torch.nn.Sequential
        Frozen layers have ``requires_grad`` false. A factor of the learning rate has no counterpart and is left out.

    Raises
    ------
    ImportError
        If PyTorch is missing.
    TypeError
        If it is no model, or a layer is not built in.

    Examples
    --------
    >>> import fastnn as fnn
    >>> from fastnn.interop import to_torch
    >>> to_torch(fnn.Sequential(fnn.Linear(4, 8), fnn.ReLU(), fnn.Linear(8, 3)))  # doctest: +SKIP
    """
    torch = library("torch", "torch", "to_torch")
    return torch.nn.Sequential(*_modules(torch, model_of(model).layers)).eval()


def _modules(torch: Any, layers: Any) -> list[Any]:
    made = []
    for i, layer in enumerate(layers):
        module = _module(torch, layer) if is_built_in(layer) else None
        if module is None:
            raise TypeError(f"layer {i}, {layer!r}, has no counterpart in PyTorch that to_torch knows")
        if not layer.trainable:
            module.requires_grad_(False)
        made.append(module)
    return made


def _module(torch: Any, layer: Any) -> Any:
    """The module of a layer, None where there is none."""
    nn, kind = torch.nn, type(layer)
    if kind in SIMPLE:
        return getattr(nn, SIMPLE[kind])()
    if kind is LeakyReLU:
        return nn.LeakyReLU(layer.slope)
    if kind is ELU:
        return nn.ELU(layer.alpha)
    if kind is GELU:
        return nn.GELU(layer.approximate)
    if kind is Softplus:
        return nn.Softplus(threshold=SOFTPLUS_IS_X)
    if kind is Dropout:
        return nn.Dropout(layer.rate)
    if kind is Residual:
        return _own().Residual(*_modules(torch, layer.layers))
    if kind is Standardize:
        return _own().Standardize(_tensor(torch, layer.mean), _tensor(torch, layer.scale))
    return _with_arrays(torch, layer)


def _with_arrays(torch: Any, layer: Any) -> Any:
    nn, kind = torch.nn, type(layer)
    if kind is Linear:
        module = nn.Linear(layer.n_in, layer.n_out, bias=layer.has_bias)
        arrays = {"weight": layer.weight.T, **({"bias": layer.bias} if layer.has_bias else {})}
    elif kind is LayerNorm:
        module = nn.LayerNorm(layer.n, eps=layer.eps)
        arrays = {"weight": layer.weight, "bias": layer.bias}
    elif kind is BatchNorm:
        module = nn.BatchNorm1d(layer.n, eps=layer.eps, momentum=layer.momentum)
        arrays = {"weight": layer.weight, "bias": layer.bias}
        arrays |= {"running_mean": layer.running_mean, "running_var": layer.running_variance}
    elif kind is Embedding:
        module = _own().Embedding(layer.columns)
        arrays = {f"tables.{i}.weight": table for i, table in enumerate(layer.tables.values())}
    else:
        return None
    tensors = {name: _tensor(torch, array) for name, array in arrays.items()}
    module.to(next(iter(tensors.values())).dtype).load_state_dict(tensors, strict=False)
    return module


def _tensor(torch: Any, array: Any) -> Any:
    return torch.from_numpy(np.array(array, order="C"))


def _own() -> Any:
    return library("fastnn.interop.torch_modules", "torch", "to_torch")
