"""What outputs are compared with, y, and how much each sample weighs."""

import numpy as np
from numpy.typing import ArrayLike

from .arrays import (
    INT64,
    LARGEST,
    SMALLEST_NORMAL,
    Array,
    DType,
    any_array,
    dimensions,
    finite,
    real_array,
    same_length,
)

TARGET_SUM_TOLERANCE = 1e-4


def class_targets(y: ArrayLike, m: int, k: int, dtype: DType, name: str = "y") -> Array:
    """Return y for cross-entropy over scores (m, k): labels (m,) as int64, or targets (m, k) as ``dtype``."""
    plain = type(y) is np.ndarray and y.dtype is INT64 and y.shape == (m,) and m > 0 and y.flags.c_contiguous
    if plain and np.maximum.reduce(y.view(np.uint64)) < k:  # type: ignore[union-attr]  # negative ones come out large
        return y  # type: ignore[return-value]
    array = any_array(name, y)
    if array.dtype.kind in "SUT" or (array.dtype.kind == "O" and array.size and isinstance(array.flat[0], str)):
        fix = f"use np.unique({name}, return_inverse=True)[1]"
        raise TypeError(f"{name} holds strings, expected integer labels 0..{k - 1}: {fix}")
    array = real_array(name, array if array.ndim else y)
    if array.ndim == 2 and array.shape == (m, k) and not (k == 1 and array.dtype.kind in "iu"):
        return _distributions(array, dtype, name)
    if array.ndim != 1:
        hint = f": use np.ravel({name})" if array.shape == (m, 1) else ""
        raise ValueError(f"{name} has shape {array.shape}, expected labels ({m},) or targets ({m}, {k}){hint}")
    same_length(name, array, m)
    if array.dtype.kind == "b":
        raise TypeError(f"{name} holds booleans, expected integer labels: use {name}.astype(int)")
    if array.dtype.kind == "f":
        whole = np.isfinite(array).all() and (array == np.floor(array)).all()
        fix = f"use {name}.astype(int)" if whole else "for real-valued targets use the loss 'squared_error'"
        came = f"{array.dtype} labels" if whole else "fractional, NaN or infinite labels"
        raise ValueError(f"{name} holds {came}, expected integers 0..{k - 1}: {fix}")
    for label in (array.min(), array.max()):
        if not 0 <= label < k:
            fix = f"labels must be 0..{k - 1}" if k > 1 else "use 2 outputs for 2 classes, or the loss 'squared_error'"
            outputs = f"{k} outputs" if k != 1 else "1 output"
            raise ValueError(f"{name} holds label {label}, but the model has {outputs}: {fix}")
    return np.ascontiguousarray(array, np.int64)


def real_targets(y: ArrayLike, m: int, k: int, dtype: DType, name: str = "y", check_finite: bool = True) -> Array:
    """Return y (m, k) for the squared error as ``dtype``; (m,) is taken as (m, 1) where there is one output."""
    array = real_array(name, y)
    if array.ndim == 1 and k == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != k:
        wanted = f"({m}, {k})" + (f" or ({m},)" if k == 1 else "")
        hint = ": one-hot encode the labels, or use the loss 'cross_entropy'" if array.ndim == 1 else ""
        raise ValueError(f"{name} has shape {array.shape}, expected {wanted}{hint}")
    same_length(name, array, m)
    if check_finite or array.dtype != dtype:
        finite(name, array, dtype)
    return np.ascontiguousarray(array, dtype)


def sample_weights(v: ArrayLike | None, m: int, dtype: DType, name: str = "sample_weight") -> Array | None:
    """Return sample weights (m,) as ``dtype``, in which they are finite, >= 0, not all zero and have a finite sum.

    None stays None.
    """
    if v is None:
        return None
    array = real_array(name, v)
    dimensions(name, array, 1)
    same_length(name, array, m)
    finite(name, array, dtype)
    if array.size and array.min() < 0:
        raise ValueError(f"{name} holds {array.min():g}, expected weights >= 0")
    if not array.any():
        raise ValueError(f"{name} sums to zero, expected at least one positive weight")
    weights = np.ascontiguousarray(array, dtype)
    if weights.max() < SMALLEST_NORMAL[dtype]:  # training takes smaller ones for zero
        raise ValueError(f"{name} vanishes in {dtype}, the largest is {array.max():g}: divide it by its largest value")
    with np.errstate(over="ignore"):
        total = float(weights.sum(dtype=np.float64))
    if total > LARGEST[dtype]:
        raise ValueError(f"{name} has a sum beyond the range of {dtype}: divide it by its largest value")
    return weights


def _distributions(array: Array, dtype: DType, name: str) -> Array:
    finite(name, array, dtype)
    targets = np.ascontiguousarray(array, dtype)
    if targets.size and targets.min() < 0:
        raise ValueError(f"{name} holds {targets.min():g}, expected targets >= 0 whose rows sum to 1")
    off = np.abs(targets.sum(axis=1, dtype=np.float64) - 1)
    if off.size and off.max() > TARGET_SUM_TOLERANCE:
        row = int(off.argmax())
        total = targets[row].sum(dtype=np.float64)
        raise ValueError(f"row {row} of {name} sums to {total:g}, expected 1: divide each row by its sum")
    return targets
