"""Arrays of every kind that users hand in, and things that are none, for the texts of calls."""

import array
import decimal
import fractions
import mmap
import pathlib
import tempfile
import warnings

import numpy as np

import fastnn as fnn
from tests.stress.subjects import OPTIMIZERS, guarded
from tests.stress.subjects import model as build
from tests.user_code import UserReLU

try:
    import pandas as pd
except ImportError:
    pd = None

__all__ = [
    "OPTIMIZERS", "Odd", "OwnLoss", "UserReLU", "arr", "array", "build",
    "decimal", "fnn", "fractions", "np", "pathlib", "pd",
]  # fmt: skip

# What a word fills an array with; a number n fills it with integers below n.
FILLS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "positive": lambda rng, shape: rng.uniform(0.5, 2, shape),
    "shares": lambda rng, shape: _shares(rng.uniform(0.5, 2, shape)),
    "zeros": lambda rng, shape: np.zeros(shape),
    "nan": lambda rng, shape: np.full(shape, np.nan),
    "one nan": lambda rng, shape: _one(rng.normal(size=shape), np.nan),
    "inf": lambda rng, shape: _one(rng.normal(size=shape), np.inf),
    "-inf": lambda rng, shape: np.full(shape, -np.inf),
    "huge": lambda rng, shape: rng.normal(size=shape) * 1e38,
    "beyond float32": lambda rng, shape: rng.normal(size=shape) * 1e300,
    "subnormal": lambda rng, shape: rng.normal(size=shape) * 1e-42,
    "large integers": lambda rng, shape: rng.integers(-(2**62), 2**62, shape),
    "negative": lambda rng, shape: -rng.integers(1, 5, shape),
    "one wrong": lambda rng, shape: _one(rng.integers(0, 2, shape), 10**9),
}
DTYPES = (
    "f4",
    "f8",
    "f2",
    "g",
    ">f4",
    ">i8",
    "i1",
    "u1",
    "i4",
    "i8",
    "u8",
    "?",
    "c8",
    "O",
    "U5",
    "S3",
    "M8[s]",
    "i4,f4",
)


def _shares(values):
    return values / values.sum(axis=-1, keepdims=True) if values.ndim and values.size else values


def _one(values, value):
    values = np.asarray(values, float if not np.isfinite(value) else None)
    if values.size:
        values.flat[-1] = value
    return values


def arr(shape, dtype="f4", fill="normal", layout="plain"):
    """An array of that shape and dtype, filled and laid out by the words of FILLS and LAYOUTS."""
    rng = np.random.default_rng(7)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of what cannot be converted
        values = rng.integers(0, fill, shape) if isinstance(fill, int) else FILLS[fill](rng, shape)
        values = np.asarray(values).astype(dtype)
        return LAYOUTS[layout](values) if values.ndim or layout in _OF_SCALARS else values


def _embedded(values, steps):
    big = np.zeros([3 * n + 2 for n in values.shape], values.dtype)
    view = big[tuple(slice(None, None, steps[i % 2]) for i in range(values.ndim))]
    view = view[tuple(slice(n) for n in values.shape)]
    view[...] = values
    return view


def _read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


def _unaligned(values):
    memory = np.zeros(values.nbytes + 1, np.uint8)
    if values.dtype.hasobject:
        return values
    view = memory[1:].view(values.dtype).reshape(values.shape)
    view[...] = values
    return view


def _memmap(values):
    if values.size == 0 or values.dtype.hasobject:
        return values
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, values.dtype, "w+", shape=values.shape)
    mapped[...] = values
    return mapped


def _guarded(values):
    return values if values.dtype.hasobject or values.nbytes % mmap.PAGESIZE == 0 else guarded(values)


def _masked(values):
    mask = np.zeros(values.shape, bool)
    mask[..., :1] = True
    return np.ma.masked_array(values, mask)


def _pandas(values):
    if pd is None or values.ndim not in (1, 2) or values.dtype.kind == "V":
        return values
    return pd.Series(values) if values.ndim == 1 else pd.DataFrame(values)


class Sub(np.ndarray):
    """A subclass, of which every view is one too."""


class Wrapped:
    """What is no array, but makes one when asked."""

    def __init__(self, values):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        return self._values.astype(dtype or self._values.dtype)


class OwnLoss:
    """A loss of the user's own, with the answers of the built-in one."""

    def forward(self, pred, y, *weights):
        return fnn.CrossEntropy().forward(pred, y, *weights)

    def backward(self, pred, y, *weights):
        return fnn.CrossEntropy().backward(pred, y, *weights)


class Odd:
    """What answers, but not what was asked for."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        raise IndexError(i)

    def __float__(self):
        return float("nan")

    def __index__(self):
        return -7

    def __bool__(self):
        raise ValueError("an Odd is neither true nor false")


def _matrix(values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix(values) if values.ndim <= 2 else values


LAYOUTS = {
    "plain": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "strided": lambda values: _embedded(values, (2, 3)),
    "backwards": lambda values: _embedded(values, (-1, -2)),
    "transposed": lambda values: np.ascontiguousarray(values.T).T,
    "one row again and again": lambda values: np.broadcast_to(values[:1], values.shape),
    "read-only": _read_only,
    "unaligned": _unaligned,
    "memmap": _memmap,
    "guarded": _guarded,
    "masked": _masked,
    "masked nowhere": np.ma.masked_array,
    "matrix": _matrix,
    "subclass": lambda values: values.view(Sub),
    "pandas": _pandas,
    "wrapped": Wrapped,
    "list": lambda values: values.tolist(),
    "tuple": lambda values: tuple(values.tolist()),
    "ragged": lambda values: [*values.tolist(), [1, 2, 3, 4]],
    "iterator": lambda values: iter(values.tolist()),
}
_OF_SCALARS = ("read-only", "matrix", "wrapped", "list")
# In which what is right stays right.
HARMLESS = ("plain", "fortran", "strided", "backwards", "transposed", "read-only", "unaligned", "memmap", "guarded",
            "masked nowhere", "subclass", "pandas", "wrapped", "list")  # fmt: skip

# Things that are no arrays: those that nobody means as a number of something, and numbers of which many may be meant.
NONSENSE = (
    "None", "'x'", "''", "b'0.1'", "bytearray(b'0.1')", "'0.1'", "1j", "np.complex128(0.1 + 5j)", "float('nan')",
    "float('inf')", "-float('inf')", "-1", "-0.5", "-10**30", "-2**63", "1e-400", "[]", "()", "{}",
    "[1, 2]", "[[1], [2, 3]]", "object()", "int", "np.ndarray", "lambda *given: None", "lambda *given: -1",
    "range(3)", "iter([1])", "set()", "{1: 2}", "np.ma.masked", "np.datetime64('2020')", "...",
    "slice(3)", "pathlib.Path('nowhere')", "memoryview(b'abcd')", "array.array('f', [1, 2])", "fnn", "fnn.ReLU()",
    "fnn.SGD", "Odd()", "np.array(None)", "np.array([], 'f4')", "np.str_('sgd')", "float", "print",
    "np.array([0.1])", "np.array([[3]])",
)  # fmt: skip
NUMBERS = (
    "10**30", "2**63", "0", "1", "True", "False", "np.True_", "0.5", "2", "3.5", "np.float16(0.5)", "np.int64(3)",
    "np.uint8(3)",
    "np.array(2)", "np.array(0.1)", "fractions.Fraction(1, 3)", "decimal.Decimal('0.1')", "1e-30", "np.longdouble(0.3)",
)  # fmt: skip
JUNK = NONSENSE + NUMBERS
