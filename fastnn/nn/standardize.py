"""Standardisation as a layer."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backend import active
from ..chunks import Chunks, Source, is_source
from ..validation import FLOAT64, Array, DType, features, finite, number, positive_int, real_array
from .layers import BuiltIn, Parameter, built_in, checked

_BLOCK = 1 << 14


@built_in
class Standardize(BuiltIn):
    """Features less their mean, over their scale: numbers that are known before training, which does not change them.

    As the first layer it makes a network take data as they come, such as the bytes of a memory map, without a copy of
    all of them. The model is saved with it, so that prediction takes the same features.

    Parameters
    ----------
    n : int
        The features.
    mean, scale : float or array_like (n,)
        y = (x - mean) / scale, no scale 0; from data by :meth:`adapt`.

    Attributes
    ----------
    mean, scale : ndarray (n,)
        Views into the model's parameters; assigning to them writes the values.

    Raises
    ------
    ValueError
        If n is not positive, an array does not fit or is not finite, or a scale is 0.
    TypeError
        If n is no integer, or something does not hold real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn as fnn
    >>> X = np.array([[0, 10], [200, 30]], np.uint8)
    >>> model = fnn.Sequential(fnn.Standardize(2).adapt(X), fnn.Linear(2, 3))
    >>> model.layers[0].mean, model.layers[0].scale
    (array([100.,  20.], dtype=float32), array([100.,  10.], dtype=float32))
    """

    operation = "standardize"
    arguments = ("n",)
    buffers = ("mean", "scale")
    format = 5
    mean = Parameter("What is taken from the features (n,), a view into the model's parameters.")
    scale = Parameter("What the features are divided by (n,), a view into the model's parameters.")

    def __init__(self, n: int, mean: ArrayLike = 0.0, scale: ArrayLike = 1.0) -> None:
        self.n_in = self.n_out = positive_int("n", n)
        self._initial = {name: self._numbers(name, value) for name, value in (("mean", mean), ("scale", scale))}
        _check_scale("scale", self._initial["scale"])

    @property
    def n(self) -> int | None:
        """The features, fixed when the layer is made."""
        return self.n_in

    def adapt(self, X: ArrayLike | Chunks, columns: Sequence[int] | None = None) -> "Standardize":
        """Take mean and standard deviation of each feature from data, and return the layer.

        The deviation is that of all m numbers, √(Σ (x - mean)² / m), as scikit-learn's StandardScaler has it; where it
        is 0, or no more than rounding, the scale is 1. Data are read block by block.

        Parameters
        ----------
        X : array_like (m, n), or a source of chunks as of :meth:`fastnn.Sequential.fit`
            Finite numbers, in any memory layout, memory maps included.
        columns : sequence of int, optional
            The features to take; the others are passed on as they are, such as codes of categories.

        Raises
        ------
        ValueError, TypeError
            If X is not as described, or a column is none of X.
        """
        n = self.n or 0
        chosen = _columns(columns, n)
        count, mean, squares = 0, np.zeros(len(chosen)), np.zeros(len(chosen))
        for block in _blocks(X, n, chosen):
            of_block = block.mean(axis=0)
            before, count = count, count + len(block)
            delta = of_block - mean
            mean += delta * (len(block) / count)
            squares += np.square(block - of_block).sum(axis=0) + delta**2 * (before * len(block) / count)
        if not count:
            raise ValueError("the source is empty: expected at least one chunk (X, y)")
        found = {"mean": np.zeros(n), "scale": np.ones(n)}
        deviation = np.sqrt(squares / count)
        # Of numbers that are all equal the roundings of their mean are left, which are no scale.
        rounding = count * np.abs(mean) * np.finfo(np.float64).eps
        found["mean"][chosen], found["scale"][chosen] = mean, np.where(deviation > rounding, deviation, 1.0)
        if self.is_bound:
            for name, values in found.items():
                setattr(self, name, values)
        else:
            self._initial = found
        return self

    def leaves_alone(self, columns: Iterable[int]) -> None:
        """Raise ValueError unless these features, which are codes, are passed on as they are."""
        for column in columns:
            if self.mean[column] != 0 or self.scale[column] != 1:
                raise ValueError(
                    f"{self!r} changes column {column}, whose codes an Embedding takes: adapt it to the other columns, "
                    "adapt(X, columns=...)"
                )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of mean and scale."""
        return {"mean": (self.n_in or 0,), "scale": (self.n_in or 0,)}

    def initial(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the numbers given, or those of the data."""
        return self._initial

    def check(self, dtype: DType) -> None:
        """Raise ValueError where a scale is 0."""
        _check_scale(f"scale of {self!r}", self.scale)

    def forward(self, x: Array, training: bool = False) -> Array:
        """Return (x - mean) / scale (m, n) for x (m, n)."""
        out = np.empty(x.shape, x.dtype)
        active().standardize(np.ascontiguousarray(x), self.mean, self.scale, out)
        return out

    def backward(self, dy: Array) -> Array:
        """Return dy / scale (m, n) for dy (m, n)."""
        out = np.empty(dy.shape, dy.dtype)
        active().standardize_backward(np.ascontiguousarray(dy), self.mean, self.scale, out)
        return out

    def _numbers(self, name: str, value: ArrayLike) -> Array:
        n = self.n_in or 0
        return np.full(n, number(name, value)) if np.ndim(value) == 0 else checked(name, value, (n,))


def _blocks(X: Any, n: int, columns: Array) -> Iterator[Array]:
    """Some columns of data, block by block."""
    if not is_source(X, alone=True):
        yield from _of_rows(features(X, n, FLOAT64, check_finite=False), columns)
        return
    source = Source(X, "adapt(X)", again=False)
    for place, x in source.features():
        with source.at(place):
            yield from _of_rows(features(x, n, FLOAT64, check_finite=False), columns)


def _of_rows(x: Array, columns: Array) -> Iterator[Array]:
    for start in range(0, len(x), _BLOCK):
        block = x[start : start + _BLOCK][:, columns].astype(np.float64)
        finite("X", block, FLOAT64)
        yield block


def _check_scale(name: str, scale: Array) -> None:
    zeros = np.flatnonzero(scale == 0)
    if len(zeros):
        raise ValueError(f"{name} is 0 for feature {zeros[0]}: expected other numbers, 1 to leave a feature as it is")


def _columns(columns: Any, n: int) -> Array:
    """The places of features, all of them for None."""
    if columns is None:
        return np.arange(n)
    chosen = real_array("columns", columns)
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
        raise TypeError(f"columns is {columns!r}, expected a list of integers")
    for column in chosen:
        if not 0 <= column < n:
            raise ValueError(f"columns holds {column}, but X has the columns 0..{n - 1}")
    return chosen
