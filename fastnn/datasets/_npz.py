"""Arrays that NumPy saved."""

import os
import zipfile
import zlib

import numpy as np

from ..validation import Array
from ._checks import existing_file


def load_npz(path: str | os.PathLike[str], x: str = "X", y: str = "y") -> tuple[Array, Array]:
    """Load X and y from a file written by ``numpy.savez`` or ``numpy.savez_compressed``.

    Parameters
    ----------
    path : path
        The ``.npz`` file. Pickled data is refused.
    x, y : str
        The names of the two arrays in the file.

    Returns
    -------
    X, y : arrays
        As they were saved, dtype and shape included.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is no NPZ file or a damaged one, has no array of that name, holds pickled objects, or X and y differ in
        length.
    """
    file = existing_file(path)
    if not zipfile.is_zipfile(file):
        raise ValueError(f"{file} is no NPZ file, or a truncated one: expected what numpy.savez writes")
    with np.load(file, allow_pickle=False) as arrays:
        for name in (x, y):
            if name not in arrays.files:
                raise ValueError(f"{file} holds no array {name!r}, but {', '.join(map(repr, arrays.files)) or 'none'}")
        features, targets = (_member(arrays, name, file) for name in (x, y))
    if features.ndim == 0 or targets.ndim == 0 or len(features) != len(targets):
        raise ValueError(
            f"{file}: {x} has shape {features.shape} and {y} has shape {targets.shape}, expected as many rows in both"
        )
    return features, targets


def _member(arrays: np.lib.npyio.NpzFile, name: str, file: os.PathLike[str]) -> Array:
    try:
        array = arrays[name]
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{file}: array {name!r} cannot be read: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{file}: {name!r} holds no array in NumPy's format")
    return array
