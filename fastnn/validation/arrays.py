"""Arrays: of what kind their values are, and whether they are finite; X as kernels take it."""

import math
import sys
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
DType = np.dtype[Any]
FloatType: TypeAlias = (
    Literal["float32", "float64"] | type[np.float32] | type[np.float64] | np.dtype[np.float32] | np.dtype[np.float64]
)

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
UINT8 = np.dtype(np.uint8)
INT64 = np.dtype(np.int64)
LARGEST = {FLOAT32: float(np.finfo(np.float32).max), FLOAT64: float(np.finfo(np.float64).max)}
SMALLEST_NORMAL = {FLOAT32: float(np.finfo(np.float32).tiny), FLOAT64: float(np.finfo(np.float64).tiny)}
REAL = "fiub"
_CHUNK = 1 << 18
_SMALL = 1 << 12
_SAFE_SUM_OF_SQUARES = 1e36
_MOST_COLUMNS_NAMED = 5


def _is_masked(value: Any) -> bool:
    """Whether a value is missing, without the import of numpy.ma, as whoever has a masked array has imported it."""
    masked_array = getattr(sys.modules.get("numpy.ma"), "MaskedArray", ())
    return isinstance(value, masked_array) and bool(np.ma.is_masked(value))


def any_array(name: str, value: ArrayLike) -> Array:
    """Return ``value`` as an array of anything, without a copy where it is one."""
    if type(value) is np.ndarray:
        return value
    if _is_masked(value):
        raise ValueError(
            f"{name} is a masked array with masked values: choose what they are with its method filled(value), or "
            "leave them out with compressed()"
        )
    columns = _columns(value)
    if columns and all(kind in REAL for _, _, kind in columns):
        dtypes = {dtype for _, dtype, _ in columns}
        if len(dtypes) > 1 or not all(isinstance(dtype, np.dtype) for dtype in dtypes):
            return _from_columns(value, dtypes)
    try:
        return np.asarray(value)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(f"{name} is ragged: its rows differ in length") from None


def own_view(value: Any) -> Any:
    """Return an array as a view, whose shape and dtype nobody else can change, and anything else as it is."""
    return value.view() if isinstance(value, np.ndarray) else value


def depth(value: Any) -> int:
    """Return how many dimensions there are to a value, looking at the first elements of lists alone."""
    if hasattr(value, "shape"):
        return len(value.shape)
    if isinstance(value, (list, tuple)):
        return 1 + (depth(value[0]) if value else 0)
    return 1 if isinstance(value, (range, memoryview)) else 0


def real_array(name: str, value: ArrayLike) -> Array:
    """Return ``value`` as an array of real numbers of any dtype and shape, without a copy where it is one."""
    array = any_array(name, value)
    if array.ndim == 0 and array.dtype.kind == "O":
        came = "None" if value is None else f"a {type(value).__name__}"
        fix = f": use {name}.toarray()" if hasattr(value, "toarray") else ""
        raise TypeError(f"{name} is {came}, expected an array of real numbers{fix}")
    if array.dtype.kind not in REAL:
        wrong = [f"{column!r} ({dtype})" for column, dtype, kind in _columns(value) if kind not in REAL]
        if array.ndim == 2 and wrong:
            named = ", ".join(wrong[:_MOST_COLUMNS_NAMED])
            more = f" and {len(wrong) - _MOST_COLUMNS_NAMED} more" if len(wrong) > _MOST_COLUMNS_NAMED else ""
            raise TypeError(
                f"{name} holds no real numbers in the column{'s' * (len(wrong) > 1)} {named}{more}: encode them "
                "(pandas.get_dummies), convert them (astype) or leave them out"
            )
        raise TypeError(f"{name} holds {array.dtype} values, expected real numbers: use {name}.astype(float)")
    return array


def _columns(value: Any) -> list[tuple[Any, Any, str]]:
    """Name, dtype and NumPy's kind of each column of a data frame or a series, as far as they have kinds.

    pandas is known by its methods and never imported.
    """
    if not (hasattr(value, "to_numpy") and hasattr(value, "dtype" if np.ndim(value) == 1 else "dtypes")):
        return []
    is_frame = len(getattr(value, "shape", ())) == 2 and hasattr(value, "dtypes")
    pairs: Iterable[Any] = zip(value.columns, value.dtypes, strict=True) if is_frame else [(None, value.dtype)]
    return [(name, dtype, dtype.kind) for name, dtype in pairs if hasattr(dtype, "kind")]


def _from_columns(frame: Any, dtypes: Iterable[Any]) -> Array:
    """Return columns of real numbers, whose dtypes differ or are pandas' own, as one array; what is missing is NaN.

    NumPy by itself makes objects of them.
    """
    common = np.result_type(*(getattr(d, "numpy_dtype", getattr(d, "subtype", d)) for d in dtypes))
    if common.kind != "f" and np.asarray(frame.isna()).any():
        common = FLOAT64
    missing = {"na_value": np.nan} if common.kind == "f" else {}
    return np.asarray(frame.to_numpy(dtype=common, **missing))


def are_plain(*values: Any) -> bool:
    """Whether all are plain arrays of one float dtype, which need no conversion: the quick way past the door."""
    first = values[0]
    if type(first) is not np.ndarray:
        return False
    dtype = first.dtype
    if dtype is not FLOAT32 and dtype is not FLOAT64:
        return False
    for value in values:  # noqa: SIM110 - a generator for all() takes longer than what follows
        if type(value) is not np.ndarray or value.dtype is not dtype:
            return False
    return True


def float_arrays(*named: tuple[str, ArrayLike]) -> list[Array]:
    """Return the named values as arrays of one dtype: float32 where NumPy's promotion stays within it, else float64."""
    values: list[Any] = [value for _, value in named]
    if are_plain(*values):
        return values
    arrays = [real_array(name, value) for name, value in named]
    dtype = FLOAT32 if np.result_type(*arrays) in (FLOAT32, np.float16) else FLOAT64
    return [array.astype(dtype, copy=False) for array in arrays]


def contiguous(array: Array) -> Array:
    """Return ``array`` in C order and aligned; unlike ``np.ascontiguousarray`` this keeps a 0-d array 0-d."""
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else np.array(array, order="C")


def dimensions(name: str, array: Array, ndim: int) -> None:
    """Require that ``array`` has ``ndim`` dimensions."""
    if array.ndim != ndim:
        raise ValueError(f"{name} has shape {array.shape}, expected {ndim} dimension{'s' * (ndim != 1)}")


def same_shape(name: str, array: Array, other_name: str, other: Array) -> None:
    """Require that ``array`` has the shape of ``other``."""
    if array.shape != other.shape:
        raise ValueError(f"{name} has shape {array.shape}, but {other_name} has {other.shape}: they must be equal")


def finite(name: str, array: Array, dtype: DType) -> None:
    """Require that every value is finite, and stays so in ``dtype``; memory is bounded for any size of ``array``."""
    if array.dtype.kind != "f":
        return
    largest = LARGEST[dtype]
    if is_surely_finite(array):
        return
    table = array if array.ndim else array[None]
    rows = max(1, _CHUNK * len(table) // max(array.size, 1))
    for start in range(0, len(table) if array.size else 0, rows):
        chunk = table[start : start + rows]
        least, most = float(np.minimum.reduce(chunk, axis=None)), float(np.maximum.reduce(chunk, axis=None))
        if not -largest <= least <= most <= largest:
            if np.isfinite(chunk).all():
                raise ValueError(f"{name} holds values beyond the range of {dtype}: scale it, or use dtype='float64'")
            raise ValueError(f"{name} holds NaN or infinite values: remove or replace them first")


def is_surely_finite(array: Array) -> bool:
    """Return whether ``array`` is a short one, not empty, whose values are surely finite in any dtype.

    On one row this takes half the time of any other reduction. Squares cannot cancel, so a small sum proves every value
    small; a large one proves nothing.
    """
    return 0 < array.size <= _SMALL and float(np.vdot(array, array)) <= _SAFE_SUM_OF_SQUARES


def are_finite(arrays: Iterable[Array]) -> bool:
    """Return whether every value of every array is finite."""
    return all(is_surely_finite(a) or (math.isfinite(a.min()) and math.isfinite(a.max())) for a in arrays if a.size)


def features(x: ArrayLike, n_in: int | None, dtype: DType, name: str = "X", check_finite: bool = True) -> Array:
    """Return X (m, n_in) for the kernels: float32, float64 or uint8 in any memory layout are passed on as they are.

    Without ``check_finite`` the caller finds out by itself, for arrays that are passed on.
    """
    if type(x) is np.ndarray and x.dtype is dtype and x.ndim == 2 and x.shape[1] == n_in and x.size:
        if check_finite:
            finite(name, x, dtype)
        return x
    if type(x) is not np.ndarray or (x.dtype is not dtype and x.dtype not in (FLOAT32, FLOAT64, UINT8)):
        x = real_array(name, x)
        if x.dtype not in (FLOAT32, FLOAT64, UINT8):
            finite(name, x, dtype)
            x = x.astype(dtype)
    if x.ndim != 2:
        hint = f"; for a single sample use {name}[None, :]" if x.ndim == 1 else ""
        raise ValueError(f"{name} has shape {x.shape}, expected (samples, features){hint}")
    if n_in is not None and x.shape[1] != n_in:
        raise ValueError(f"{name} has {x.shape[1]} columns, but the model has {n_in} inputs: they must be equal")
    if x.size == 0:
        raise ValueError(f"{name} is empty: it has shape {x.shape}, expected at least one sample and one feature")
    if check_finite:
        finite(name, x, dtype)
    return x


def same_length(name: str, array: Array, m: int) -> None:
    """Require one row of ``array`` for each of ``m`` samples."""
    if len(array) != m:
        raise ValueError(f"{name} has {len(array)} rows, but there are {m} samples: they must be equal")


def computed(method: str, owner: Any, result: Any, m: int, width: int | None, dtype: DType) -> Array:
    """Return what a method of a layer or a loss computed as a contiguous (m, width) array of ``dtype``."""
    name = f"{method} of {type(owner).__name__}"
    array = real_array(name, result)
    if array.ndim != 2 or len(array) != m or (width is not None and array.shape[1] != width):
        expected = f"({m}, {'outputs' if width is None else width})"
        raise ValueError(f"{name} returned shape {array.shape}, expected {expected}")
    return np.ascontiguousarray(array, dtype)


def checked_out(out: Array, shape: tuple[int, ...], dtype: DType) -> Array:
    """Return ``out`` as the plain array that it is or wraps."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is a {type(out).__name__}, expected an ndarray")
    if out.dtype != dtype:
        raise TypeError(f"out holds {out.dtype} values, expected {dtype}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, expected {shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only: pass an array that can be written")
    return any_array("out", out)


def may_overlap(out: Array, operand: Array) -> bool:
    """Whether they may share memory, which two arrays that own theirs do not."""
    if out is operand:
        return True
    return not (out.flags.owndata and operand.flags.owndata) and np.may_share_memory(out, operand)
