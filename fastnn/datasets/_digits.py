"""The UCI handwritten digits, embedded."""

import importlib
import io

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..validation import Array
from ._checks import real_dtype


def load_digits(dtype: DTypeLike = "float32") -> tuple[Array, NDArray[np.int64]]:
    """Load 1797 handwritten digits of 8 x 8 pixels.

    Parameters
    ----------
    dtype : {"float32", "float64", "uint8"}
        The dtype of X. Floats are scaled to [0, 1]; "uint8" gives the pixels as they are stored, 0 to 16.

    Returns
    -------
    X : (1797, 64) array of dtype
        One image a row, its pixels row by row: ``X[i].reshape(8, 8)`` is image i, 0 is the background.
    y : (1797,) int64
        The digits, 0 to 9.

    Raises
    ------
    ValueError
        dtype is none of the three.

    Notes
    -----
    The test part of the Optical Recognition of Handwritten Digits data set, written by 13 people, in the order of
    scikit-learn's copy. Source: E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998,
    https://doi.org/10.24432/C50P49, licence CC BY 4.0.
    """
    real = real_dtype(dtype, "uint8")
    resources = importlib.import_module("importlib.resources")  # not before it is needed, to import fastnn quickly
    content = resources.files(__package__).joinpath("digits.npz").read_bytes()  # which may lie in an archive
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        pixels, labels = arrays["X"], arrays["y"]
    images = pixels if real == np.uint8 else np.divide(pixels, 16, dtype=real)
    return images, labels.astype(np.int64)
