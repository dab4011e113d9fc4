"""What has to be kept of a training so that it can go on: numbers, texts and arrays, as a file can hold them."""

import hashlib
import json
import math
from typing import Any

import numpy as np

from .. import files, npz
from ..validation import Array

_MARK = "$array"
_PLAIN = bool, int, float, str, type(None)
_LARGEST_HEADER = 1 << 28  # bytes: the histories of millions of epochs


def parted(value: Any, arrays: dict[str, Array], name: str) -> Any:
    """Return a value as JSON holds it, whose arrays are put among the ``arrays`` instead.

    Raises
    ------
    TypeError
        If there is something else in it than numbers, texts, arrays, None, and lists and dicts of such.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError(f"{name} is an array of objects, expected one of numbers or texts")
        key = f"a{len(arrays)}"
        arrays[key] = value
        return {_MARK: key}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or key == _MARK:
                raise TypeError(f"{name} has the key {key!r}, expected a str")
        return {key: parted(item, arrays, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [parted(item, arrays, f"{name}[{i}]") for i, item in enumerate(value)]
    if type(value) not in _PLAIN:
        raise TypeError(f"{name} is {value!r}, expected numbers, texts, arrays, None, or lists and dicts of these")
    return value


def joined(value: Any, arrays: dict[str, Array]) -> Any:
    """Return a value that :func:`parted` took apart; what was a tuple is a list."""
    if isinstance(value, dict):
        if set(value) == {_MARK}:
            return arrays[value[_MARK]]
        return {key: joined(item, arrays) for key, item in value.items()}
    return [joined(item, arrays) for item in value] if isinstance(value, list) else value


def write(path: str, kind: str, state: dict[str, Any], before: str | None = None) -> None:
    """Write a state as one file, whole or not at all; what stood there is found at ``before``.

    Raises
    ------
    TypeError
        If something in it cannot be held by a file.
    OSError
        If the file cannot be written.
    """
    arrays: dict[str, Array] = {}
    parts = parted(state, arrays, "the state")
    header = np.array(json.dumps({"kind": kind, "state": parts}))
    digest = np.array(_digest(header.item(), arrays))
    try:
        files.replace(path, lambda file: npz.write(file, {"header": header, "digest": digest, **arrays}), before)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), path) from error


def read(path: str, kind: str) -> dict[str, Any]:
    """Return a state from a file.

    Raises
    ------
    ValueError
        If the file is of another kind, or damaged.
    OSError
        If it cannot be read.
    """
    with npz.opened(path) as archive:
        for name in ("header", "digest"):
            if name not in archive.names:
                raise ValueError(f"{path} is not {kind}: it has no {name}")
            shape, dtype = archive.declared(name)
            if shape != () or dtype.kind != "U" or dtype.itemsize > _LARGEST_HEADER:
                raise ValueError(f"{path} is not {kind}: its {name} is that of something else")
        header, digest = (archive.read(name).item() for name in ("header", "digest"))
        arrays = {name: archive.read(name) for name in archive.names if name not in ("header", "digest")}
    if _digest(header, arrays) != digest:
        raise ValueError(f"{path} is damaged: its contents do not have the digest that was written with them")
    content = json.loads(header)
    if content.get("kind") != kind:
        raise ValueError(f"{path} is not {kind}, but {content.get('kind')}")
    state: dict[str, Any] = joined(content["state"], arrays)
    return state


def _digest(header: str, arrays: dict[str, Array]) -> str:
    found = hashlib.sha256(header.encode())
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data if array.size else b"")
    return found.hexdigest()


def described(value: Any) -> Any:
    """Return an argument as it can be compared with that of another process: numbers as they are, objects by name."""
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, np.generic):
        return described(value.item())
    if isinstance(value, (list, tuple)):
        return [described(item) for item in value]
    if isinstance(value, dict):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {_digest('', {'': value})[:16]}"
    shown = repr(value)
    return f"{type(value).__module__}.{type(value).__qualname__}" if " at 0x" in shown else shown
