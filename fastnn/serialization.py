"""Models as .npz files: a header in JSON, and the arrays of each linear layer. No pickle."""

import io
import json
import os
import uuid
from typing import Any

import numpy as np

from . import layers, losses
from .dropout import Dropout
from .stack import Stack, check_layers
from .validation import finite, float_dtype

FORMAT = 2  # that of label smoothing and dropout; a model without them is written as 1, which every version reads
_ACTIVATIONS = {c.__name__: c for c in (layers.Identity, layers.ReLU, layers.LeakyReLU, layers.Tanh, layers.Sigmoid)}
_CLASSES: dict[str, type] = {"Linear": layers.Linear, **_ACTIVATIONS, "Dropout": Dropout}
_KIND = "fastnn model"
_MAGIC = b"PK\x03\x04"


def write(path: str | os.PathLike[str], stack: Stack, loss: Any) -> None:
    """Save a model; see :meth:`fastnn.Sequential.save`."""
    is_smoothed = type(loss) is losses.CrossEntropy and loss.label_smoothing > 0
    settings = {"label_smoothing": loss.label_smoothing} if is_smoothed else {}
    header = {
        "kind": _KIND,
        "format": FORMAT if settings or stack.dropouts() else 1,
        "dtype": stack.dtype.name,
        "loss": loss.name if losses.is_built_in(loss) else None,
        "loss_settings": settings,
        "layers": [_describe(i, layer) for i, layer in enumerate(stack.layers)],
    }
    arrays = {"header": np.array(json.dumps(header))}
    for i in stack.spans:
        arrays[f"{i}.weight"] = stack.layers[i].weight
        if stack.layers[i].has_bias:
            arrays[f"{i}.bias"] = stack.layers[i].bias
    for name in list(arrays)[1:]:
        finite(name, arrays[name], stack.dtype)
    target = os.path.realpath(path)
    temporary = os.path.join(os.path.dirname(target), f".{uuid.uuid4().hex}.tmp")
    try:
        # Unlike a file of tempfile's, this one has the permissions that the user's umask gives.
        with open(temporary, "xb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # the stub takes a name for allow_pickle
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        if os.path.exists(temporary):
            os.remove(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error
        raise


def read(path: str | os.PathLike[str]) -> tuple[list[Any], str, losses.Loss | None]:
    """Return the layers, the dtype and the loss in a saved file."""
    header, arrays = _contents(path)
    if not isinstance(header, dict) or header.get("kind") != _KIND or not isinstance(header.get("format"), int):
        raise ValueError(f"{path} is not a saved fastnn model: its header is that of something else")
    if header["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {header['format']}, but this version of fastnn reads up to {FORMAT}: update fastnn"
        )
    try:
        built = [_build(i, entry, arrays) for i, entry in enumerate(header["layers"])]
        check_layers(built)
        return built, float_dtype(header["dtype"]).name, _loss(header["loss"], header.get("loss_settings", {}))
    except KeyError as error:
        raise ValueError(f"{path} is not a valid model: {error} is missing") from None
    except (TypeError, ValueError, ArithmeticError, MemoryError) as error:
        raise ValueError(f"{path} is not a valid model: {error}") from None


def _contents(path: str | os.PathLike[str]) -> tuple[Any, dict[str, Any]]:
    with open(path, "rb") as file:
        content = file.read(len(_MAGIC))
        if content != _MAGIC:
            raise ValueError(f"{path} is not a saved fastnn model: it is no .npz file")
        content += file.read()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    # The file is read, so whatever is raised now is about its bytes: zipfile, zlib and NumPy know a dozen types of it.
    except Exception as error:
        if "allow_pickle" in str(error):
            raise ValueError(f"{path} holds pickled data, which could run code and is never loaded") from None
        raise ValueError(f"{path} is damaged or was cut off: {error}") from None
    try:
        return json.loads(str(arrays.pop("header"))), arrays
    except (KeyError, ValueError, RecursionError):
        raise ValueError(f"{path} is not a saved fastnn model: it has no header") from None


def _describe(i: int, layer: Any) -> dict[str, Any]:
    if type(layer) not in _CLASSES.values():
        raise TypeError(f"layer {i}, {layer!r}, is not built in: save knows {', '.join(_CLASSES)}")
    entry: dict[str, Any] = {"class": type(layer).__name__}
    if isinstance(layer, layers.Linear):
        entry |= {"n_in": layer.n_in, "n_out": layer.n_out, "bias": layer.has_bias}
    if isinstance(layer, layers.LeakyReLU):
        entry["slope"] = layer.slope
    if isinstance(layer, Dropout):
        entry["rate"] = layer.rate
    return entry


def _build(i: int, entry: dict[str, Any], arrays: dict[str, Any]) -> Any:
    name = entry["class"]
    if name == "Linear":
        weight, bias = arrays[f"{i}.weight"], arrays[f"{i}.bias"] if entry["bias"] else False
        return layers.Linear(entry["n_in"], entry["n_out"], init=weight, bias=bias)
    if name == "LeakyReLU":
        return layers.LeakyReLU(entry["slope"])
    if name == "Dropout":
        return Dropout(entry["rate"])
    if name not in _ACTIVATIONS:
        raise ValueError(f"layer {i} has the class {name!r}, which this version of fastnn does not know")
    return _ACTIVATIONS[name]()


def _loss(name: Any, settings: dict[str, Any]) -> losses.Loss | None:
    return None if name is None else losses.resolve(name, **settings)
