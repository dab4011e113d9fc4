"""Models as .npz files: a header in JSON, and the arrays of each linear layer. No pickle."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from . import files, layers, losses, npz
from .dropout import Dropout
from .stack import Stack, check_layers
from .validation import REAL, finite, float_dtype, positive_int

FORMAT = 2  # that of label smoothing and dropout; a model without them is written as 1, which every version reads
_ACTIVATIONS = {c.__name__: c for c in (layers.Identity, layers.ReLU, layers.LeakyReLU, layers.Tanh, layers.Sigmoid)}
_CLASSES: dict[str, type] = {"Linear": layers.Linear, **_ACTIVATIONS, "Dropout": Dropout}
_KIND = "fastnn model"
_LARGEST_HEADER = 1 << 26  # bytes: more than any network needs that fits into memory


def write(path: str | os.PathLike[str], stack: Stack, loss: Any) -> None:
    """Save a model; see :meth:`fastnn.Sequential.save`."""
    is_smoothed = type(loss) is losses.CrossEntropy and loss.label_smoothing > 0
    settings = {"label_smoothing": loss.label_smoothing} if is_smoothed else {}
    header = {
        "kind": _KIND,
        "format": FORMAT if settings or stack.dropouts else 1,
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
    try:
        files.replace(path, lambda file: _savez(file, arrays))
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def _savez(file: BinaryIO, arrays: dict[str, Any]) -> None:
    try:
        np.savez(file, **arrays)
    except ValueError as error:
        # What ends the writing of an archive early, Ctrl-C included, is hidden by its complaint of not being finished.
        raise (error.__context__ or error) from None


def read(path: str | os.PathLike[str]) -> tuple[list[Any], str, losses.Loss | None]:
    """Return the layers, the dtype and the loss in a saved file.

    What its header says of the arrays is compared with their own headers before any of them is read.
    """
    with npz.opened(path) as archive:
        header = _header(path, archive)
        with _of_content(path):
            shapes = _shapes(header["layers"])
        for name, shape in shapes.items():
            _check_array(path, archive, name, shape)
        arrays = {name: archive.read(name) for name in shapes}
    with _of_content(path):
        built = [_build(i, entry, arrays) for i, entry in enumerate(header["layers"])]
        check_layers(built)
        return built, float_dtype(header["dtype"]).name, _loss(header["loss"], header.get("loss_settings", {}))


def _header(path: str | os.PathLike[str], archive: npz.Archive) -> dict[str, Any]:
    none = f"{path} is not a saved fastnn model: it has no header"
    if "header" not in archive.names:
        raise ValueError(none)
    shape, dtype = archive.declared("header")
    if shape != () or dtype.kind != "U" or dtype.itemsize > _LARGEST_HEADER:
        raise ValueError(none)
    text = archive.read("header")
    try:
        header = json.loads(text.item())
    except (ValueError, RecursionError):
        raise ValueError(none) from None
    if not isinstance(header, dict) or header.get("kind") != _KIND or not isinstance(header.get("format"), int):
        raise ValueError(f"{path} is not a saved fastnn model: its header is that of something else")
    if header["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {header['format']}, but this version of fastnn reads up to {FORMAT}: update fastnn"
        )
    return header


def _shapes(entries: list[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array that the layers need, by its name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i, entry in enumerate(entries):
        if entry["class"] == "Linear":
            n_in, n_out = (positive_int(name, entry[name]) for name in ("n_in", "n_out"))
            shapes[f"{i}.weight"] = n_in, n_out
            if entry["bias"]:
                shapes[f"{i}.bias"] = (n_out,)
    return shapes


def _check_array(path: str | os.PathLike[str], archive: npz.Archive, name: str, shape: tuple[int, ...]) -> None:
    if name not in archive.names:
        raise ValueError(f"{path} is not a valid model: {name!r} is missing")
    declared = archive.declared(name)
    if declared.shape != shape:
        raise ValueError(f"{path} is not a valid model: {name} has shape {declared.shape}, expected {shape}")
    if declared.dtype.kind not in REAL:
        raise ValueError(f"{path} is not a valid model: {name} holds {declared.dtype} values, expected real numbers")


@contextmanager
def _of_content(path: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever is raised within is about the header of a model that is not one of fastnn's making."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{path} is not a valid model: {error} is missing") from None
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"{path} is not a valid model: {error}") from None


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
