"""The IDX format of MNIST and its relatives: a big-endian header (magic number, sizes), then bytes."""

import gzip
import io
import math
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..npz import DEFLATE_LIMIT
from ..validation import Array, DType
from ._checks import real_dtype

UNSIGNED_BYTE = 0x08
CHUNK = 1 << 20

File = gzip.GzipFile | io.BufferedReader
Arrays = tuple[Array, NDArray[np.int64]]


def load_idx(folder: str | os.PathLike[str], dtype: DTypeLike = "float32") -> tuple[Arrays, Arrays]:
    """Load a folder of IDX files that are named like MNIST's, plain or gzipped.

    The four files are ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
    ``t10k-labels-idx1-ubyte``, each also found with a dot before ``idx`` and with ``.gz`` at its end. Fashion-MNIST and
    KMNIST are such folders too.

    Parameters
    ----------
    folder : path
        The folder that holds the four files.
    dtype : {"float32", "float64", "uint8"}
        The dtype of X. Floats are the bytes divided by 255; "uint8" gives the bytes as they are, a quarter of the
        memory, which ``fit`` and ``predict`` take as readily.

    Returns
    -------
    (X_train, y_train), (X_test, y_test)
        X (m, pixels) of dtype, one image a row, and y (m,) int64. Reading holds these and one chunk of 1 MiB.

    Raises
    ------
    FileNotFoundError
        A file is missing; the message names what was looked for.
    ValueError
        A file is no IDX file of unsigned bytes, is truncated or too long, or holds another number of labels than
        there are images; or dtype is none of the three.

    Notes
    -----
    Format: Y. LeCun, C. Cortes and C. J. C. Burges, The MNIST database of handwritten digits.
    """
    real = real_dtype(dtype, "uint8")
    files = [(_find(folder, f"{part}-images", 3), _find(folder, f"{part}-labels", 1)) for part in ("train", "t10k")]
    train, test = (_load_pair(images, labels, real) for images, labels in files)
    return train, test


def _find(folder: str | os.PathLike[str], stem: str, ndim: int) -> Path:
    names = [f"{stem}{joint}idx{ndim}-ubyte{suffix}" for suffix in ("", ".gz") for joint in "-."]
    for name in names:
        if (path := Path(folder, name)).is_file():
            return path
    raise FileNotFoundError(f"{Path(folder)} holds none of {', '.join(names)}")


def _load_pair(images: Path, labels: Path, dtype: DType) -> Arrays:
    x = _read(images, 3, dtype)
    y = _read(labels, 1, np.dtype(np.uint8)).astype(np.int64)
    if len(x) != len(y):
        raise ValueError(f"{images.name} holds {len(x)} images, but {labels.name} holds {len(y)} labels")
    return x.reshape(len(x), math.prod(x.shape[1:])), y


def _read(path: Path, ndim: int, dtype: DType) -> Array:
    """The array of one file, floats scaled to [0, 1]."""
    with path.open("rb") as raw:
        gzipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        limit = path.stat().st_size * (DEFLATE_LIMIT if gzipped else 1)
        try:
            with gzip.open(raw) if gzipped else raw as file:
                shape = _read_header(path, file, ndim)
                return _read_body(path, file, shape, dtype, limit)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is a damaged or truncated gzip file: {error}") from error


def _read_header(path: Path, file: File, ndim: int) -> list[int]:
    header = file.read(4 + 4 * ndim)
    expected = bytes([0, 0, UNSIGNED_BYTE, ndim])
    if header[:4] != expected:
        raise ValueError(
            f"{path} starts with {header[:4].hex(' ') or 'nothing'}, expected {expected.hex(' ')}: "
            f"an IDX file of unsigned bytes, ndim {ndim}"
        )
    if len(header) < 4 + 4 * ndim:
        raise ValueError(f"{path} is truncated: it ends within its header")
    return [int(size) for size in np.frombuffer(header, ">u4", offset=4)]


def _read_body(path: Path, file: File, shape: list[int], dtype: DType, limit: int) -> Array:
    size = math.prod(shape)
    if size > limit:
        raise ValueError(f"{path} is truncated: its header promises {size} bytes, more than the file can hold")
    out = np.empty(size, dtype)
    for start in range(0, size, CHUNK):
        wanted = min(CHUNK, size - start)
        chunk = np.frombuffer(file.read(wanted), np.uint8)
        if len(chunk) < wanted:
            raise ValueError(f"{path} is truncated: its header promises {size} bytes, it holds {start + len(chunk)}")
        if dtype == np.uint8:
            out[start : start + wanted] = chunk
        else:
            np.divide(chunk, 255, out=out[start : start + wanted], dtype=dtype)
    if file.read(1):
        raise ValueError(f"{path} is too long: its header promises {size} bytes, and more follow")
    return out.reshape(shape)
