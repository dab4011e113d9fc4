"""Arrays that NumPy saved."""

import os

from .. import npz
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
        length. All but damage within the numbers is found before anything large is read.
    """
    file = existing_file(path)
    with npz.opened(file) as archive:
        for name in (x, y):
            if name not in archive.names:
                raise ValueError(f"{file} holds no array {name!r}, but {', '.join(map(repr, archive.names)) or 'none'}")
        of_x, of_y = archive.declared(x).shape, archive.declared(y).shape
        if not of_x or not of_y or of_x[0] != of_y[0]:
            raise ValueError(f"{file}: {x} has shape {of_x} and {y} has shape {of_y}, expected as many rows in both")
        return archive.read(x), archive.read(y)
