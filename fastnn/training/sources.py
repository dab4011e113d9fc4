"""The chunks of a source in the form that training takes, and what is to be known of all of them beforehand."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from ..chunks import Source
from ..nn import losses
from ..validation import FLOAT64, INT64, REAL, Array, DType, any_array, features, sample_weights
from .labels import coded, coded_as


class Chunk(NamedTuple):
    """Some samples in the form that training takes."""

    x: Array
    y: Array
    sample_weight: Array | None

    def part(self, rows: Any) -> "Chunk":
        """Return some of its samples."""
        v = self.sample_weight
        return Chunk(self.x[rows], self.y[rows], None if v is None else v[rows])

    def followed_by(self, other: "Chunk") -> "Chunk":
        """Return the samples of both."""
        both = self.room(len(self.x) + len(other.x))
        both.write(0, self)
        both.write(len(self.x), other)
        return both

    def room(self, n: int) -> "Chunk":
        """Return memory for n samples like these."""
        v = self.sample_weight
        return Chunk(_room(self.x, n), _room(self.y, n), None if v is None else _room(v, n))

    def write(self, start: int, other: "Chunk") -> None:
        """Write other samples to the places from ``start`` on."""
        for room, values in zip(self, other, strict=True):
            if room is not None and values is not None:
                room[start : start + len(values)] = values


class Answering(Protocol):
    """What has outputs for samples: layers, or those of several models."""

    @property
    def n_in(self) -> int | None:
        """The columns of X, None where no layer says it."""

    @property
    def dtype(self) -> DType:
        """That of outputs."""

    @property
    def block(self) -> int:
        """How many samples go through at a time."""

    def features(self, X: ArrayLike) -> Array:
        """Return X as it is taken."""

    def check_codes(self, x: Array) -> None:
        """Raise ValueError for codes that a table has no row for."""

    def output_width(self, x: Array) -> int:
        """Return the number of outputs a sample."""

    def outputs(self, X: Array) -> Array:
        """Return the outputs."""


def _room(like: Array, n: int) -> Array:
    return np.empty((n, *like.shape[1:]), like.dtype)


class Form:
    """What every chunk of a source must be like, as the first one was that was checked.

    Parameters
    ----------
    stack : Answering
    loss : loss
    outputs : int or None
        None where the first chunk is to tell.
    classes : ndarray or None
        What labels that are no numbers stand for.
    of_classes : ndarray (outputs,), optional
        The weight of each class.
    n_in : int, optional
        The columns of X, where it is not the model that knows.
    """

    def __init__(
        self,
        stack: Answering,
        loss: Any,
        outputs: int | None,
        classes: Array | None,
        of_classes: Array | None = None,
        n_in: int | None = None,
    ) -> None:
        self._stack, self._loss, self._outputs, self._classes = stack, loss, outputs, classes
        self._of_classes, self._n_in = of_classes, stack.n_in if n_in is None else n_in
        self._parts = 0
        self._like: Chunk | None = None

    @property
    def outputs(self) -> int:
        """How many outputs the targets are for."""
        assert self._outputs is not None, "the first chunk told"
        return self._outputs

    @property
    def is_weighted(self) -> bool:
        """Whether chunks come with weights of their samples."""
        return self._parts == 3

    @property
    def empty(self) -> Chunk:
        """A chunk without samples."""
        assert self._like is not None, "the first one was checked"
        return self._like

    def described(self) -> list[Any]:
        """Return what a checkpoint tells X by, and y."""
        x, y, _ = self.empty
        return [[x.shape[1], x.dtype.str], [*y.shape[1:], y.dtype.str]]

    def checked(self, parts: tuple[Any, ...]) -> Chunk:
        """Return a chunk as training takes it.

        Raises
        ------
        ValueError, TypeError
            If it holds what training cannot take, or is unlike the first one.
        """
        stack, like = self._stack, self._like
        if like is not None and len(parts) != self._parts:
            has, had = ("no weights", "some") if self.is_weighted else ("weights", "none")
            raise ValueError(f"it has {has}, but the first chunk has {had}: give them in every chunk, or in none")
        x = features(parts[0], self._n_in if like is None else None, stack.dtype)
        if like is not None and x.shape[1] != like.x.shape[1]:
            raise ValueError(f"X has {x.shape[1]} columns, but that of the first chunk {like.x.shape[1]}")
        stack.check_codes(x)
        if self._outputs is None:
            self._outputs = stack.output_width(x)
        y = self.targets(parts[1], len(x))
        for name, one, first in () if like is None else (("X", x, like.x), ("y", y, like.y)):
            if one.dtype != first.dtype:
                raise ValueError(
                    f"{name} holds {one.dtype}, but that of the first chunk {first.dtype}: give all chunks one dtype"
                )
            if one.shape[1:] != first.shape[1:]:
                shape = ", ".join(map(str, ("m", *first.shape[1:])))
                raise ValueError(f"{name} has shape {one.shape}, but that of the first chunk ({shape})")
        chunk = Chunk(x, y, self._weights(parts[2] if len(parts) == 3 else None, y))
        if like is None:
            self._parts, self._like = len(parts), chunk.room(0)
        return chunk

    def targets(self, y: Any, m: int) -> Array:
        """Return y of m samples in the form that the loss takes."""
        y = coded_as(y, self._classes)
        array = losses.targets(self._loss, y, m, self.outputs, self._stack.dtype)
        return array.astype(object) if array.dtype.kind in "SU" else array

    def counts(self, source: Source) -> Array:
        """Return how many samples of all chunks each class has."""
        counts = np.zeros(self.outputs, INT64)
        for place, y in source.labels():
            with source.at(place):
                m = len(np.atleast_1d(any_array("y", y)))  # which may be no chunk's, but a label
                counts += np.bincount(self.targets(y, m), minlength=self.outputs)
        return counts

    def _weights(self, v: Any, y: Array) -> Array | None:
        m, dtype = len(y), self._stack.dtype
        if self._of_classes is None:
            return None if v is None else _weights(v, m, dtype)
        weights = self._of_classes[np.clip(y, 0, self.outputs - 1)]
        if v is None:
            return _weights(weights, m, dtype, "class_weight")
        weights *= _weights(v, m, FLOAT64)
        return _weights(weights, m, dtype, "class_weight times sample_weight")


def _weights(v: Any, m: int, dtype: DType, name: str = "sample_weight") -> Array:
    """Return checked weights, which may all be zero, as those of one chunk among others."""
    array = any_array(name, v)
    if array.shape == (m,) and array.dtype.kind in REAL and not array.any():
        return np.zeros(m, dtype)
    weights = sample_weights(array, m, dtype, name)
    assert weights is not None
    return weights


def names_in(source: Source) -> tuple[Array, Array]:
    """Return the classes that the labels of all chunks name, sorted, and how many samples each has."""
    counts: dict[Any, int] = {}
    for place, y in source.labels():
        with source.at(place):
            codes, classes = coded(y, None)
            if classes is None:
                raise ValueError("y holds numbers, but that of the first chunk labels (m,) that are names")
        for label, count in zip(classes.tolist(), np.bincount(codes).tolist(), strict=True):
            counts[label] = counts.get(label, 0) + count
    labels = np.empty(len(counts), object)
    labels[:] = list(counts)
    every = coded(labels, None)[1]
    assert every is not None, "these are names"
    return every, np.array([counts[label] for label in every.tolist()], INT64)
