"""What the loaders check alike."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..validation import DType


def real_dtype(dtype: DTypeLike, *others: str) -> DType:
    """The dtype asked for, which must be float32, float64 or one of the others."""
    names = ("float32", "float64", *others)
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.name not in names:
        raise ValueError(f"dtype is {dtype!r}, expected one of {', '.join(names)}")
    return found


def check_list(name: str, value: Any) -> None:
    """Require what can be gone through, or a text."""
    if not isinstance(value, Iterable):
        raise TypeError(f"{name} is {value!r}, expected a list")


def existing_file(path: str | os.PathLike[str]) -> Path:
    """The path of a file that is there."""
    file = Path(path)
    if not file.is_file():
        what = "is a folder, not a file" if file.is_dir() else "does not exist"
        raise FileNotFoundError(f"{file} {what}")
    return file
