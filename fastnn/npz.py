"""Arrays from .npz files, whatever their bytes are: the arrays that numpy.savez wrote, or a ValueError.

What an array takes in memory stands in its header, and is compared with what the archive can hold, and by the caller
with what it expects, before anything is inflated.
"""

import errno
import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .validation import Array, DType

DEFLATE_LIMIT = 1032  # deflate never packs more than 1032 bytes into one
_SUFFIX = ".npy"
_LONGEST_HEADER = 1 << 14  # numpy.load takes 10,000 characters


def write(file: BinaryIO, arrays: dict[str, Any]) -> None:
    """Write arrays to an open file."""
    try:
        np.savez(file, **arrays)
    except ValueError as error:
        # What ends the writing of an archive early, Ctrl-C included, is hidden by its complaint of not being finished.
        raise (error.__context__ or error) from None


class Declared(NamedTuple):
    """What an array is by its header."""

    shape: tuple[int, ...]
    dtype: DType


@contextmanager
def opened(path: str | os.PathLike[str] | BinaryIO) -> "Iterator[Archive]":
    """Open an .npz file for reading, or read an open one.

    Raises
    ------
    ValueError
        If it is no .npz file, or a damaged one.
    TypeError
        If ``path`` is no path.
    OSError
        If it cannot be read.
    """
    given: Any = path
    if hasattr(given, "read") and not isinstance(given, os.PathLike):
        yield Archive(path, given)
        return
    with open(os.fspath(given), "rb") as file:  # or a number would be that of an open file
        yield Archive(path, file)


class Archive:
    """An open .npz file. Its methods raise ValueError for damaged bytes and for pickled objects.

    Attributes
    ----------
    names : list of str
        The names of the arrays.
    """

    def __init__(self, path: str | os.PathLike[str] | BinaryIO, file: BinaryIO) -> None:
        self._path = path
        if file.read(2) != b"PK":
            raise ValueError(f"{path} is no .npz file")
        import zipfile  # not above: it takes longer to import than the rest of fastnn.datasets

        self._expansion = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: DEFLATE_LIMIT}
        with self._judged("it"):
            self._zip = zipfile.ZipFile(file)
            self._size = file.seek(0, os.SEEK_END)
        self._members = {info.filename.removesuffix(_SUFFIX): info for info in self._zip.infolist()}
        self.names = list(self._members)
        self._declared: dict[str, Declared] = {}

    def declared(self, name: str) -> Declared:
        """Return the shape and the dtype of an array, which its bytes in the archive agree with."""
        if name not in self._declared:
            self._declared[name] = self._checked_header(name)
        return self._declared[name]

    def _checked_header(self, name: str) -> Declared:
        info = self._members[name]
        with self._judged(f"array {name!r}"):
            limit = self._expansion.get(info.compress_type, 0) * min(info.compress_size, self._size)
            if info.file_size > limit:
                raise ValueError(f"it cannot hold the {info.file_size} bytes that its directory promises")
            with self._zip.open(info) as member:
                start = io.BytesIO(member.read(_LONGEST_HEADER))
            shape, dtype = _read_header(start)
            size = start.tell() + math.prod(shape) * dtype.itemsize
            if not dtype.hasobject and (min(shape, default=0) < 0 or size != info.file_size):
                raise ValueError(f"its header promises {dtype} {shape}, {size} bytes, it holds {info.file_size}")
        if dtype.hasobject:
            raise ValueError(f"{self._path} holds pickled data, which could run code and is never loaded")
        return Declared(shape, dtype)

    def read(self, name: str) -> Array:
        """Return an array; MemoryError is left for one that is too large for the memory there is."""
        self.declared(name)
        with self._judged(f"array {name!r}", MemoryError), self._zip.open(self._members[name]) as member:
            array: Array = np.lib.format.read_array(member, allow_pickle=False)
        return array

    @contextmanager
    def _judged(self, what: str, *passing: type[Exception]) -> Iterator[None]:
        """Whatever is raised within is about the bytes, unless it comes from the disk or is one of ``passing``.

        zipfile, zlib, NumPy and the parser of Python that it uses know a dozen types of it.
        """
        try:
            yield
        except passing:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise
            raise ValueError(f"{self._path} is damaged or was cut off: {what} cannot be read: {error}") from None


def _read_header(file: BinaryIO) -> Declared:
    """Read the header of a .npy file, up to where the numbers begin."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:  # 3.0 differs from 2.0 in the encoding of names of fields
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    return Declared(shape, dtype)
