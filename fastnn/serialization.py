"""Models as .npz files: a header in JSON, and the arrays of each linear layer. No pickle."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from . import files, npz
from .nn import losses
from .nn.layers import BUILT_IN, is_built_in
from .nn.stack import Stack, check_layers
from .validation import REAL, finite, float_dtype

FORMAT = 3  # the newest; a model is written in the first one that has all of it, see BuiltIn.format
_KIND = "fastnn model"
_LARGEST_HEADER = 1 << 26  # bytes: more than any network needs that fits into memory


def write(path: str | os.PathLike[str], stack: Stack, loss: Any) -> None:
    """Save a model; see :meth:`fastnn.Sequential.save`."""
    known = loss if losses.is_built_in(loss) else None
    header = {
        "kind": _KIND,
        "format": max([1 if known is None else known.needs_format, *(layer.format for layer in stack.built_in)]),
        "dtype": stack.dtype.name,
        "loss": next((name for name, loss in losses.BUILT_IN.items() if type(known) is loss), None),
        "loss_settings": {} if known is None else known.config(),
        "layers": [_describe(i, layer) for i, layer in enumerate(stack.layers)],
    }
    arrays = {"header": np.array(json.dumps(header))}
    arrays |= {f"{i}.{name}": getattr(stack.layers[i], name) for i, spans in stack.spans.items() for name in spans}
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
            built = [_build(i, entry) for i, entry in enumerate(header["layers"])]
            check_layers(built)
            dtype, loss = float_dtype(header["dtype"]).name, _loss(header["loss"], header.get("loss_settings", {}))
        shapes = {f"{i}.{name}": shape for i, layer in enumerate(built) for name, shape in layer.shapes().items()}
        for name, shape in shapes.items():
            _check_array(path, archive, name, shape)
        arrays = {name: archive.read(name) for name in shapes}
    with _of_content(path):
        for i, layer in enumerate(built):
            layer.start_from({name: arrays[f"{i}.{name}"] for name in layer.shapes()})
    return built, dtype, loss


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
    if not is_built_in(layer):
        raise TypeError(f"layer {i}, {layer!r}, is not built in: save knows {', '.join(BUILT_IN)}")
    return {"class": type(layer).__name__, **layer.config()}


def _build(i: int, entry: dict[str, Any]) -> Any:
    name = entry["class"]
    if name not in BUILT_IN:
        raise ValueError(f"layer {i} has the class {name!r}, which this version of fastnn does not know")
    return BUILT_IN[name](**{argument: entry[argument] for argument in BUILT_IN[name].arguments})


def _loss(name: Any, settings: dict[str, Any]) -> losses.Loss | None:
    if name is None:
        return None
    is_known = isinstance(name, str) and name in losses.BUILT_IN
    return losses.BUILT_IN[name](**settings) if is_known else losses.resolve(name, **settings)
