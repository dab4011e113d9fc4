"""Models of Keras as models, from the settings and the weights of their layers; Keras itself is not imported."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..model import Sequential
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
from ..nn.layers import BuiltIn
from ..nn.linear import Linear
from ..nn.normalisation import BatchNorm, LayerNorm
from ..nn.standardize import Standardize
from ..validation import FLOAT32, FLOAT64, Array

# The functions of keras.activations, with the numbers that they have there.
_ACTIVATIONS: dict[str, Callable[[], BuiltIn]] = {
    "linear": Identity,
    "relu": ReLU,
    "leaky_relu": lambda: LeakyReLU(0.2),
    "tanh": Tanh,
    "sigmoid": Sigmoid,
    "gelu": GELU,
    "silu": SiLU,
    "swish": SiLU,
    "mish": Mish,
    "elu": ELU,
    "selu": SELU,
    "softplus": Softplus,
    "hard_silu": HardSwish,
    "hard_swish": HardSwish,
}
_SOFTMAX = ("softmax", "log_softmax")
_SMALLEST_SCALE = 1e-7  # of a Normalization of Keras


def from_keras(model: Any) -> Sequential:
    """Return a model that computes what a ``keras.Sequential`` does, with its weights, running statistics and settings.

    Known are Dense, the activations, Dropout, BatchNormalization, LayerNormalization, Normalization, Rescaling, and,
    since samples are rows here, Flatten; a Sequential may hold others. A softmax at the end is taken off, and makes the
    loss "cross_entropy". Models of Keras 2 and 3 do, under any backend.

    Parameters
    ----------
    model : keras.Sequential
        Built, so that its weights are there.

    Returns
    -------
    Sequential
        float64 if any weight is.

    Raises
    ------
    TypeError
        If it is no Sequential, or of a subclass with a ``call`` of its own, or one of its layers or activations has no
        counterpart, which is named.
    ValueError
        If a setting of a layer has no counterpart, or a layer has no weights yet.

    Notes
    -----
    Keras takes the variance of a batch for the running one, fastnn that of a sample, m / (m - 1) times as large: this
    shows in further training alone.

    Examples
    --------
    >>> import keras  # doctest: +SKIP
    >>> from fastnn.interop import from_keras
    >>> model = from_keras(keras.Sequential([keras.layers.Dense(3, "softmax")]))  # doctest: +SKIP
    """
    reader = _Reader()
    for layer in _flat(model):
        if reader.is_soft:
            raise ValueError(f"a softmax stands before {layer.name!r}, but fastnn has it at the end alone")
        reader.read(layer)
    if not reader.layers:
        raise ValueError("model has no layers yet: build it, or call it once")
    made = Sequential(*reader.layers, dtype=FLOAT64 if reader.is_wide else FLOAT32)
    if reader.is_soft:
        made.loss = "cross_entropy"
    return made


def _flat(model: Any) -> Iterator[Any]:
    if not _is_sequential(model):
        raise TypeError(
            f"model is a {type(model).__name__}, expected a keras.Sequential: make one of its layers, if they are a "
            "chain"
        )
    own = next((name for name in ("__call__", "call") if _differs(type(model), name)), None)
    if own is not None:
        raise TypeError(
            f"{model.name!r} is a {type(model).__name__} with a {own} of its own, which may do more than its layers: "
            "make a keras.Sequential of its layers, if they are a chain"
        )
    for layer in model.layers:
        if _is_sequential(layer):
            yield from _flat(layer)
        else:
            yield layer


def _is_sequential(model: Any) -> bool:
    return any(map(_is_kerass, type(model).__mro__))


def _is_kerass(base: type) -> bool:
    return base.__name__ == "Sequential" and "keras" in base.__module__


def _differs(kind: type, name: str) -> bool:
    """Whether a subclass of Keras' Sequential has a method of its own of this name."""
    return getattr(kind, name) is not getattr(next(filter(_is_kerass, kind.__mro__)), name)


class _Reader:
    """Makes layers of those of Keras, one after the other."""

    def __init__(self) -> None:
        self.layers: list[BuiltIn] = []
        self.is_soft = self.is_wide = False

    def read(self, layer: Any) -> None:
        """Append what stands for a layer."""
        kind = type(layer).__name__
        if kind not in _READERS or "keras" not in type(layer).__module__:
            raise TypeError(
                f"{layer.name!r} is a {kind}, for which fastnn has no layer: from_keras knows {', '.join(_READERS)}"
            )
        config = layer.get_config()
        weights = [np.asarray(array) for array in layer.get_weights()]
        self.is_wide |= any(array.dtype == FLOAT64 for array in weights)
        for made in _READERS[kind](self, layer, config, weights):
            if made.shapes():
                made.trainable = bool(layer.trainable)
            self.layers.append(made)

    def activate(self, layer: Any, activation: Any) -> list[BuiltIn]:
        """Return an activation by its name, or note that the end is soft."""
        name = activation if isinstance(activation, str) else repr(activation)
        if name in _SOFTMAX:
            self.is_soft = True
            return []
        if name not in _ACTIVATIONS:
            raise TypeError(
                f"{layer.name!r} has the activation {name}, for which fastnn has no layer: from_keras knows "
                f"{', '.join(_ACTIVATIONS)}"
            )
        return [] if name == "linear" else [_ACTIVATIONS[name]()]

    def dense(self, layer: Any, config: dict[str, Any], weights: list[Array]) -> list[BuiltIn]:
        """Return a product."""
        if not weights:
            raise ValueError(f"{layer.name!r} has no weights yet: build the model, or call it once")
        product = Linear(*weights[0].shape, init=weights[0], bias=weights[1] if config["use_bias"] else False)
        return [product, *self.activate(layer, config["activation"])]

    def activation(self, layer: Any, config: dict[str, Any], weights: list[Array]) -> list[BuiltIn]:
        """Append an activation that is a layer."""
        return self.activate(layer, config["activation"])

    def relu(self, layer: Any, config: dict[str, Any], weights: list[Array]) -> list[BuiltIn]:
        """Return a ReLU, one with a slope too."""
        slope = float(config.get("negative_slope") or 0)
        _expect(layer, max_value=config.get("max_value") is None, threshold=not config.get("threshold"))
        return [LeakyReLU(slope) if slope else ReLU()]

    def leaky_relu(self, layer: Any, config: dict[str, Any], weights: list[Array]) -> list[BuiltIn]:
        """Return a ReLU with a slope, which Keras 2 calls alpha."""
        return [LeakyReLU(float(config["negative_slope"] if "negative_slope" in config else config["alpha"]))]

    def elu(self, layer: Any, config: dict[str, Any], weights: list[Array]) -> list[BuiltIn]:
        """Return an ELU."""
        return [ELU(float(config["alpha"]))]

    def softmax(self, layer: Any, config: dict[str, Any], weights: list[Array]) -> list[BuiltIn]:
        """Note that the end is soft."""
        _expect(layer, axis=config.get("axis", -1) in (-1, 1))
        self.is_soft = True
        return []

    def dropout(self, layer: Any, config: dict[str, Any], weights: list[Array]) -> list[BuiltIn]:
        """Return a dropout."""
        _expect(layer, noise_shape=config.get("noise_shape") is None)
        return [Dropout(float(config["rate"]))]

    def batch_norm(self, layer: Any, config: dict[str, Any], weights: list[Array]) -> list[BuiltIn]:
        """Return a normalisation by batch, whose momentum is 1 less that of Keras."""
        _expect(layer, axis=_is_last(config), center=config["center"], scale=config["scale"])
        momentum = round(1 - float(config["momentum"]), 12)
        made = BatchNorm(len(weights[0]), momentum=momentum, eps=float(config["epsilon"]))
        return _started(made, weights)

    def layer_norm(self, layer: Any, config: dict[str, Any], weights: list[Array]) -> list[BuiltIn]:
        """Return a normalisation by sample."""
        plain = not config.get("rms_scaling")
        _expect(layer, axis=_is_last(config), center=config["center"], scale=config["scale"], rms_scaling=plain)
        return _started(LayerNorm(len(weights[0]), eps=float(config["epsilon"])), weights)

    def normalization(self, layer: Any, config: dict[str, Any], weights: list[Array]) -> list[BuiltIn]:
        """Return a standardisation by what was adapted, or given."""
        _expect(layer, axis=_is_last(config), invert=not config.get("invert"))
        mean, variance = weights[:2] if weights else (config["mean"], config["variance"])
        given = [np.asarray(value, np.float64).ravel() for value in (mean, variance)]
        return [Standardize(len(given[0]), given[0], np.maximum(np.sqrt(given[1]), _SMALLEST_SCALE))]

    def rescaling(self, layer: Any, config: dict[str, Any], weights: list[Array]) -> list[BuiltIn]:
        """Return a standardisation that multiplies and adds."""
        width = self.layers[-1].n_out if self.layers else None
        scale, offset = (np.asarray(config[name], np.float64) for name in ("scale", "offset"))
        n = width or layer.input.shape[-1]
        return [Standardize(n, np.broadcast_to(-offset / scale, (n,)), np.broadcast_to(1 / scale, (n,)))]

    def nothing(self, layer: Any, config: dict[str, Any], weights: list[Array]) -> list[BuiltIn]:
        """Pass by what does nothing to the numbers of a row."""
        return []


_READERS: dict[str, Callable[..., list[BuiltIn]]] = {
    "Dense": _Reader.dense,
    "Activation": _Reader.activation,
    "ReLU": _Reader.relu,
    "LeakyReLU": _Reader.leaky_relu,
    "ELU": _Reader.elu,
    "Softmax": _Reader.softmax,
    "Dropout": _Reader.dropout,
    "BatchNormalization": _Reader.batch_norm,
    "LayerNormalization": _Reader.layer_norm,
    "Normalization": _Reader.normalization,
    "Rescaling": _Reader.rescaling,
    "Flatten": _Reader.nothing,
    "InputLayer": _Reader.nothing,
}


def _started(layer: BuiltIn, weights: list[Array]) -> list[BuiltIn]:
    """Let a layer start from weights that are in its order."""
    layer.start_from(dict(zip(layer.shapes(), weights, strict=True)))
    return [layer]


def _is_last(config: dict[str, Any]) -> bool:
    axis = config["axis"]
    return (axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis) in (-1, 1)


def _expect(layer: Any, **settings: bool) -> None:
    """Refuse a layer one of whose settings is not as here."""
    for name, fits in settings.items():
        if not fits:
            value = layer.get_config()[name]
            raise ValueError(f"{layer.name!r} has {name}={value!r}, which no layer of fastnn has")
