"""Settings: numbers within bounds, flags, seeds and the dtype of a model."""

import math
import operator
from typing import Any

import numpy as np

from .arrays import FLOAT32, FLOAT64, SMALLEST_NORMAL, DType

_LARGEST_INT = (1 << 63) - 1


def eps_within(eps: float, dtype: DType, factor: float = 1.0) -> None:
    """Require that eps, times a factor, is not what training takes for zero in ``dtype``."""
    if eps * factor < SMALLEST_NORMAL[dtype]:
        raise ValueError(f"eps is {eps:g}, which vanishes in {dtype}: expected at least 1e-30")


def positive_int(name: str, value: Any) -> int:
    """Return ``value`` as an int of at least 1."""
    return _integer(name, value, 1, "a positive integer")


def natural(name: str, value: Any) -> int:
    """Return ``value`` as an int of at least 0."""
    return _integer(name, value, 0, "an integer >= 0")


def _integer(name: str, value: Any, least: int, expected: str) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}, expected {expected}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected {expected}") from None
    if number < least:
        raise ValueError(f"{name} is {number}, expected {expected}")
    if number > _LARGEST_INT:
        raise ValueError(f"{name} is more than 2**63 - 1, expected {expected} below 2**63")
    return number


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> float:
    """Return ``value`` as a finite float that is > ``above``, >= ``least``, < ``below`` and <= ``most``."""
    bounds = [(">", above), (">=", least), ("<", below), ("<=", most)]
    limits = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
    expected = f"a finite number {limits}".rstrip()
    if not _is_real_number(value):
        raise TypeError(f"{name} is {value!r}, expected {expected}")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}, expected {expected}") from None
    wrong = (
        not math.isfinite(result)
        or (above is not None and result <= above)
        or (least is not None and result < least)
        or (below is not None and result >= below)
        or (most is not None and result > most)
    )
    if wrong:
        raise ValueError(f"{name} is {result:g}, expected {expected}")
    return result


def _is_real_number(value: Any) -> bool:
    """Whether ``value`` may be one real number; ``float`` takes text, bytes, flags and NumPy's complex numbers too."""
    kind = type(value)
    if kind is float or kind is int:
        return True
    if isinstance(value, bool) or not (hasattr(kind, "__float__") or hasattr(kind, "__index__")):
        return False
    if np.ma.is_masked(value):
        return False
    return getattr(getattr(value, "dtype", None), "kind", "f") in "fiu" and getattr(value, "ndim", 0) == 0


def flag(name: str, value: Any) -> bool:
    """Return ``value``, which must be True or False, as a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}, expected True or False")
    return bool(value)


def generator(seed: Any) -> np.random.Generator:
    """Return the generator of a seed: an integer >= 0, or None for another one each time."""
    if seed is not None and (isinstance(seed, (bool, np.bool_)) or not isinstance(seed, (int, np.integer))):
        raise TypeError(f"seed is {seed!r}, expected an integer >= 0 or None")
    if seed is not None and seed < 0:
        raise ValueError(f"seed is {seed}, expected an integer >= 0 or None")
    return np.random.default_rng(seed)


def float_dtype(dtype: Any) -> DType:
    """Return the dtype of a model: float32 or float64."""
    try:
        name = None if dtype is None else np.dtype(dtype).name
    except TypeError:
        name = None
    if name not in ("float32", "float64"):
        raise ValueError(f"dtype is {dtype!r}, expected 'float32' or 'float64'")
    return FLOAT32 if name == "float32" else FLOAT64
