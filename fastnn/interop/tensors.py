"""Models as safetensors: arrays by name, and the architecture in the file's metadata."""

import json
import os
from typing import Any

import numpy as np

from .. import files, serialization
from ..libraries import library
from ..model import Sequential
from ..nn.layers import checked, flattened
from .estimators import model_of

_KEY = "fastnn"


def to_safetensors(model: Any, path: str | os.PathLike[str]) -> None:
    """Save a model as a file of safetensors, whose metadata carry its layers, its loss and its labels.

    The arrays have the names that they have in fastnn, behind the place of the layer among all, as "0.weight" (n_in,
    n_out). Like :meth:`fastnn.Sequential.save` it replaces a file whole or not at all, and no pickle is in it.

    Parameters
    ----------
    model : Sequential or an estimator of fastnn.sklearn
    path : path

    Raises
    ------
    ImportError
        If safetensors is missing.
    TypeError
        If the model is none, or a layer is not built in.
    ValueError
        If a weight is NaN or infinite.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import fastnn as fnn
    >>> from fastnn.interop import from_safetensors, to_safetensors
    >>> model = fnn.Sequential(fnn.Linear(4, 3))
    >>> to_safetensors(model, "model.safetensors")  # doctest: +SKIP
    >>> model = from_safetensors("model.safetensors")  # doctest: +SKIP
    """
    safetensors = library("safetensors.numpy", "safetensors", "to_safetensors")
    model = model_of(model)
    header, arrays = serialization.content_of(model._stack, model._meaning)
    # The library takes the memory of an array as it lies, so of a view only where that is the array's alone.
    plain = {name: np.array(array, order="C") for name, array in arrays.items()}
    data = safetensors.save(plain, metadata={_KEY: json.dumps(header)})
    files.replace(path, lambda file: file.write(data))


def from_safetensors(path: str | os.PathLike[str]) -> Sequential:
    """Return the model in a file that :func:`to_safetensors` wrote; it predicts the same bits.

    Parameters
    ----------
    path : path

    Returns
    -------
    Sequential

    Raises
    ------
    ImportError
        If safetensors is missing.
    OSError
        If the file cannot be read.
    ValueError
        If it is damaged, carries no architecture, or its arrays are not those of the layers.
    """
    safetensors = library("safetensors", "safetensors", "from_safetensors")
    try:
        with safetensors.safe_open(os.fspath(path), "np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()} if _KEY in metadata else {}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is no file of safetensors, or damaged: {error}") from None
    if _KEY not in metadata:
        raise ValueError(
            f"{path} carries no architecture of fastnn: build the model, and load the arrays of PyTorch's into it with "
            "from_torch(safetensors.torch.load_file(path), into=model)"
        )
    with serialization.of_content(path):
        content = serialization.content_from(json.loads(metadata[_KEY]))
        for i, layer in enumerate(flattened(content.layers)):
            for name, shape in layer.shapes().items():
                if f"{i}.{name}" not in arrays:
                    raise ValueError(f"'{i}.{name}' is missing")
                checked(f"{i}.{name}", arrays[f"{i}.{name}"], shape)
            layer.start_from({name: arrays.pop(f"{i}.{name}") for name in layer.shapes()})
        if arrays:
            raise ValueError(f"it holds {min(arrays)!r}, which is of no layer")
        model = Sequential(*content.layers, dtype=np.dtype(content.dtype))
        model._meaning = content.meaning
    return model
