"""Models as .npz files: a header in JSON, and the arrays of each layer, under a prefix for each member. No pickle."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np

from . import files, npz
from .nn import losses, optimizer_files
from .nn.chain import check_layers
from .nn.layers import BUILT_IN, BuiltIn, flattened, is_built_in
from .nn.loss import Loss
from .nn.optimizer import Optimizer
from .nn.stack import Stack
from .training.labels import as_classes
from .validation import REAL, Array, finite, float_dtype

FORMAT = 6  # the newest; a model is written in the first one that has all of it, see BuiltIn.format
_OF_MEMBERS = 4  # the first that has several models in one file
_OF_MEANING = 5  # the first that has labels that are no integers, and knows one output for targets (m,) from (m, 1)
_LEARNING = 5  # the first in which layers may be frozen, or have a factor of the learning rate
_OF_OPTIMIZER = 6  # the first that may hold an optimizer
_KIND = "fastnn model"
_LARGEST_HEADER = 1 << 26  # bytes: more than any network needs that fits into memory


class Meaning(NamedTuple):
    """What the outputs of a model are meant for: a loss, the labels that they stand for, targets (m,) if ``flat``."""

    loss: Any = None
    classes: Array | None = None
    flat: bool = False


class Content(NamedTuple):
    """What a file says of one model."""

    layers: list[Any]
    dtype: str
    meaning: Meaning
    optimizer: optimizer_files.Kept | None = None


# Where a model is written to or read from.
Target: TypeAlias = "str | os.PathLike[str] | BinaryIO"


def write(path: Target, stack: Stack, meaning: Meaning, optimizer: Any = None) -> None:
    """Save a model; see :meth:`fastnn.Sequential.save`."""
    header = _header_of(stack, meaning)
    if optimizer is None:
        _write(path, header, [("", stack)])
        return
    with optimizer.held() if hasattr(optimizer, "held") else nullcontext():
        header |= {"format": _OF_OPTIMIZER, "optimizer": optimizer_files.describe(optimizer, stack)}
        _write(path, header, [("", stack)], dict(optimizer_files.states(optimizer, stack)))


def write_members(path: Target, members: Sequence[tuple[Stack, Meaning]]) -> None:
    """Save several models, with what their outputs mean, in one file; see :meth:`fastnn.Ensemble.save`."""
    needed = max(_OF_MEMBERS, *(_needed(*member) for member in members))
    header: dict[str, Any] = {"kind": _KIND, "format": needed, "members": []}
    for i, (stack, meaning) in enumerate(members):
        with _of_member(_prefix(i)):
            header["members"].append(_model(stack, meaning))
    _write(path, header, [(_prefix(i), stack) for i, (stack, _) in enumerate(members)])


def _write(
    path: Target, header: dict[str, Any], stacks: Iterable[tuple[str, Stack]], more: dict[str, Array] | None = None
) -> None:
    arrays = {"header": np.array(json.dumps(header)), **(more or {})}
    for prefix, stack in stacks:
        arrays |= _arrays(stack, prefix)
    if not isinstance(path, (str, os.PathLike)):
        npz.write(path, arrays)
        return
    try:
        files.replace(path, lambda file: npz.write(file, arrays))
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def _arrays(stack: Stack, prefix: str = "") -> dict[str, Array]:
    """The arrays of a model by their names, all of them finite."""
    arrays = {f"{prefix}{i}.{name}": stack.leaves[i].read(name) for i, spans in stack.spans.items() for name in spans}
    for name, array in arrays.items():
        finite(name, array, stack.dtype)
    return arrays


def _header_of(stack: Stack, meaning: Meaning) -> dict[str, Any]:
    return {"kind": _KIND, "format": _needed(stack, meaning), **_model(stack, meaning)}


def content_of(stack: Stack, meaning: Meaning) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return what describes a model in a file of another format, and its arrays by name."""
    return _header_of(stack, meaning), _arrays(stack)


def content_from(header: Any) -> Content:
    """Return what such a description says of a model, without its arrays."""
    if not isinstance(header, dict) or header.get("kind") != _KIND or not isinstance(header.get("format"), int):
        raise ValueError("its description is that of something else")
    if header["format"] > FORMAT:
        raise ValueError(f"it has format {header['format']}, but this version of fastnn reads up to {FORMAT}")
    return _content(header)


def _known(loss: Any) -> Any:
    return loss if losses.is_built_in(loss) else None


def _needed(stack: Stack, meaning: Meaning) -> int:
    """The first format that has all of a model."""
    known = _known(meaning.loss)
    formats = [1 if known is None else int(known.needs_format)]
    if meaning.classes is not None or meaning.flat:
        formats.append(_OF_MEANING)
    for layer in _all(stack.layers):
        formats += [layer.format, _LEARNING if layer.learning else 1]
    return max(formats)


def _model(stack: Stack, meaning: Meaning) -> dict[str, Any]:
    """What the header says of a model."""
    layers = [_describe(i, layer) for i, layer in enumerate(stack.layers)]
    return {**describe_meaning(meaning), "dtype": stack.dtype.name, "layers": layers}


def describe_meaning(meaning: Meaning) -> dict[str, Any]:
    """Return what a header says of the outputs of a model."""
    known = _known(meaning.loss)
    more: dict[str, Any] = {"flat": True} if meaning.flat else {}
    if meaning.classes is not None:
        more["classes"] = _plain(meaning.classes.tolist())
    return more | {
        "loss": next((name for name, loss in losses.BUILT_IN.items() if type(known) is loss), None),
        "loss_settings": {} if known is None else known.config(),
    }


def meaning_of(entry: dict[str, Any], k: int | None) -> Meaning:
    """Return what a header says that the k outputs of a model mean."""
    loss = _loss(entry["loss"], entry.get("loss_settings", {}))
    if k is not None and loss is not None:
        k = losses.classes_of(loss, k) or k
    return Meaning(loss, _classes(entry.get("classes"), k), entry.get("flat") is True)


def check_layers_saved(layers: Iterable[Any]) -> None:
    """Raise TypeError if a model of these layers cannot be saved."""
    for i, layer in enumerate(layers):
        _describe(i, layer)


def _prefix(member: int) -> str:
    """What stands before the names of the arrays of a member."""
    return f"{member}/"


def read(path: Target, optimizer: bool = False) -> Content | list[Content]:
    """Return the model in a saved file, with its ``optimizer`` if that is wanted, or the members of an ensemble.

    What its header says of the arrays is compared with their own headers before any of them is read.
    """
    with npz.opened(path) as archive:
        header = _header(path, archive)
        with of_content(path):
            found = _contents(header)
        shapes = {
            f"{prefix}{i}.{name}": shape
            for prefix, content in found
            for i, layer in enumerate(flattened(content.layers))
            for name, shape in layer.shapes().items()
        }
        made = _optimizer(path, header) if optimizer else None
        if made is not None:
            shapes |= optimizer_files.shapes(made, flattened(found[0][1].layers))
        for name, shape in shapes.items():
            _check_array(path, archive, name, shape)
        arrays = {name: archive.read(name) for name in shapes}
    for prefix, content in found:
        with of_content(path), _of_member(prefix):
            for i, layer in enumerate(flattened(content.layers)):
                layer.start_from({name: arrays[f"{prefix}{i}.{name}"] for name in layer.shapes()})
    contents = [content for _, content in found]
    if made is not None:
        entry, names = header["optimizer"], [name for name in arrays if name.startswith("optimizer.")]
        kept = optimizer_files.Kept(made, entry["steps"], entry["epoch"], {name: arrays[name] for name in names})
        return contents[0]._replace(optimizer=kept)
    return contents if "members" in header else contents[0]


def _optimizer(path: Target, header: dict[str, Any]) -> Optimizer:
    """The optimizer that a header describes, without its state."""
    if "optimizer" not in header:
        raise ValueError(f"{path} holds no optimizer: save both with model.save(path, optimizer=optimizer)")
    with of_content(path):
        entry = header["optimizer"]
        for name in ("steps", "epoch"):
            if type(entry[name]) is not int or entry[name] < 0:
                raise ValueError(f"{name} of the optimizer is {entry[name]!r}, expected a number of them")
        return optimizer_files.build(entry)


def _contents(header: dict[str, Any]) -> list[tuple[str, Content]]:
    """Each model that a header describes, after the prefix of its arrays."""
    if "members" not in header:
        return [("", _content(header))]
    found = []
    for i, entry in enumerate(header["members"]):
        with _of_member(_prefix(i)):
            found.append((_prefix(i), _content(entry)))
    return found


def _content(entry: dict[str, Any]) -> Content:
    built = [_build(i, layer) for i, layer in enumerate(entry["layers"])]
    meaning = meaning_of(entry, check_layers(built)[-1])
    return Content(built, float_dtype(entry["dtype"]).name, meaning)


def _classes(labels: Any, k: int | None) -> Array | None:
    """The labels of k classes as a header lists them."""
    if labels is None:
        return None
    if not isinstance(labels, list) or len(set(_plain(labels))) != len(labels) or k not in (None, len(labels)):
        raise ValueError(f"classes are {labels!r}, expected a different label for each of {k} classes")
    return as_classes(labels)


def _plain(labels: list[Any]) -> list[Any]:
    """Labels that a header can hold: strings, or integers."""
    for kind in (str, int):
        if all(type(label) is kind for label in labels):
            return labels
    raise TypeError(
        f"classes_ are {labels!r}, but a file holds labels that are all strings, or all int: train with those"
    )


@contextmanager
def _of_member(prefix: str) -> Iterator[None]:
    """Whatever is raised within is about the member whose arrays have this prefix."""
    place = f"models[{prefix.rstrip('/')}]: " if prefix else ""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{place}{error} is missing") from None
    except TypeError as error:
        raise TypeError(f"{place}{error}") from None
    except ValueError as error:
        raise ValueError(f"{place}{error}") from None


def _header(path: Target, archive: npz.Archive) -> dict[str, Any]:
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


def _check_array(path: Target, archive: npz.Archive, name: str, shape: tuple[int, ...]) -> None:
    if name not in archive.names:
        raise ValueError(f"{path} is not a valid model: {name!r} is missing")
    declared = archive.declared(name)
    if declared.shape != shape:
        raise ValueError(f"{path} is not a valid model: {name} has shape {declared.shape}, expected {shape}")
    if declared.dtype.kind not in REAL:
        raise ValueError(f"{path} is not a valid model: {name} holds {declared.dtype} values, expected real numbers")


@contextmanager
def of_content(path: Target) -> Iterator[None]:
    """Whatever is raised within is about the header of a model that is not one of fastnn's making."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{path} is not a valid model: {error} is missing") from None
    except RecursionError:
        raise ValueError(f"{path} is not a valid model: it is nested too deeply") from None
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"{path} is not a valid model: {error}") from None


def _describe(i: int, layer: Any) -> dict[str, Any]:
    if not is_built_in(layer):
        raise TypeError(f"layer {i}, {layer!r}, is not built in: save knows {', '.join(BUILT_IN)}")
    if layer.parts:
        described: dict[str, Any] = {"layers": [_describe(i, part) for part in layer.parts]}
    else:
        described = layer.config()
    return {"class": type(layer).__name__, **described, **layer.learning}


def _all(layers: Iterable[Any]) -> Iterator[Any]:
    """Built-in layers, and those that they are made of."""
    for layer in layers:
        if isinstance(layer, BuiltIn):
            yield layer
            yield from _all(layer.parts)


def _build(i: int, entry: dict[str, Any]) -> Any:
    name = entry["class"]
    if name not in BUILT_IN:
        raise ValueError(f"layer {i} has the class {name!r}, which this version of fastnn does not know")
    if "layers" in BUILT_IN[name].arguments:
        layer = BUILT_IN[name](*(_build(i, part) for part in entry["layers"]))
    else:
        layer = BUILT_IN[name](**{argument: entry[argument] for argument in BUILT_IN[name].arguments})
    for attribute in ("trainable", "lr_scale"):
        if attribute in entry:
            setattr(layer, attribute, entry[attribute])
    return layer


def _loss(name: Any, settings: dict[str, Any]) -> Loss | None:
    if name is None:
        return None
    is_known = isinstance(name, str) and name in losses.BUILT_IN
    return losses.BUILT_IN[name](**settings) if is_known else losses.resolve(name, **settings)
