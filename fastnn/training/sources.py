"""Data in pieces: a source gives its chunks (X, y) or (X, y, sample_weight) once more for each epoch."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..nn import losses
from ..nn.stack import Stack
from ..validation import FLOAT64, INT64, REAL, Array, DType, any_array, features, own_view, sample_weights
from .class_weights import balanced
from .labels import coded, coded_as

# What ``fit`` takes in the place of X where there is no y: whatever gives chunks, or a function that returns it.
Chunks: TypeAlias = Iterable[Sequence[Any]] | Callable[[], Iterable[Sequence[Any]]]


class Source:
    """What gives chunks again and again, by their places where it has such.

    Raises
    ------
    TypeError
        If it is nothing of the kind, or can be gone through once only.
    """

    def __init__(self, given: Any) -> None:
        self._given = given
        self._last: Any = None
        self.is_indexed = hasattr(given, "__len__") and hasattr(given, "__getitem__")
        self.is_list = isinstance(given, list | tuple)
        if isinstance(given, str | bytes | Mapping | set | frozenset) or not (
            self.is_indexed or hasattr(given, "__iter__") or (callable(given) and not isinstance(given, type))
        ):
            raise TypeError(
                f"y is missing, and X is {_short(given)}: expected fit(X, y), or a source of chunks, such as a list of "
                "pairs (X, y) or a function that returns an iterator of them"
            )
        if not self.is_indexed and hasattr(given, "__iter__") and iter(given) is given:
            raise TypeError(
                f"the source is {_short(given)}, which gives its chunks only once, but each epoch needs them: give a "
                "list, an object whose __iter__ starts anew, or a function that returns such an iterator"
            )

    def __len__(self) -> int:
        """How many chunks there are, where they have places."""
        n: int = len(self._given)
        return n

    def draw(self, rng: np.random.Generator | None) -> Array:
        """Return the places of an epoch's chunks in the order that ``rng`` draws; none where they have no places."""
        if not self.is_indexed:
            return np.arange(0)
        order = np.arange(len(self))
        if rng is not None and len(order) > 1:
            rng.shuffle(order)
        return order

    def first(self) -> tuple[Any, ...]:
        """Return the parts of the first chunk.

        Raises
        ------
        ValueError, TypeError
            If there is none, or it is no chunk.
        """
        with closing(self.chunks(self.draw(None))) as chunks:
            for _, chunk in chunks:
                return chunk
        raise ValueError(f"the source is empty, {_short(self._given)}: expected at least one chunk (X, y)")

    def chunks(self, order: Array) -> Generator[tuple[int, tuple[Any, ...]]]:
        """Yield the chunks of an epoch, each with its place; ``order`` is as :meth:`draw` has returned."""
        if self.is_indexed:
            for place in order.tolist():
                yield place, _parts(self._given[place], place)
            return
        with _closing(self._start()) as chunks:
            for place, chunk in enumerate(chunks):
                yield place, _parts(chunk, place)

    def _start(self) -> Iterator[Any]:
        given = self._given
        if not hasattr(given, "__iter__"):
            given = given()
            if not hasattr(given, "__iter__"):
                raise TypeError(f"the function that is the source returned {_short(given)}, expected an iterator")
        iterator: Iterator[Any] = iter(given)
        if iterator is self._last:
            raise TypeError(
                f"the source {_short(self._given)} has returned the same iterator twice, which gives its chunks only "
                "once: each epoch needs one that starts anew"
            )
        self._last = iterator
        return iterator


@contextmanager
def _closing(iterator: Any) -> Iterator[Any]:
    """Let an iterator that has something to close, as a generator that holds a file open, do so at once."""
    try:
        yield iterator
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _parts(chunk: Any, place: int) -> tuple[Any, ...]:
    if not isinstance(chunk, tuple | list) or len(chunk) not in (2, 3):
        came = f"a {type(chunk).__name__} of {len(chunk)}" if isinstance(chunk, tuple | list) else _short(chunk)
        raise TypeError(
            f"chunk {place} of the source is {came}, expected (X, y) or (X, y, sample_weight); data that are no source "
            "of chunks are given as fit(X, y)"
        )
    return tuple(map(own_view, chunk))


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    shown = repr(value)
    return shown if len(shown) <= 80 else f"a {type(value).__name__}"


@contextmanager
def of_chunk(place: int) -> Iterator[None]:
    """Say of which chunk a ValueError or TypeError is."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if type(error) not in (ValueError, TypeError):
            raise
        raise type(error)(f"chunk {place} of the source: {error}") from error


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


def _room(like: Array, n: int) -> Array:
    return np.empty((n, *like.shape[1:]), like.dtype)


class Form:
    """What every chunk of a source must be like, as the first one was.

    Parameters
    ----------
    stack : Stack
    loss : loss
    outputs : int
    classes : ndarray or None
        What labels that are no numbers stand for.
    of_classes : ndarray (outputs,) or None
        The weight of each class.
    first : tuple
        The parts of the first chunk.
    """

    def __init__(
        self,
        stack: Stack,
        loss: Any,
        outputs: int,
        classes: Array | None,
        of_classes: Array | None,
        first: tuple[Any, ...],
    ) -> None:
        self._stack, self._loss, self._outputs, self._classes = stack, loss, outputs, classes
        self._of_classes = of_classes
        self._parts = len(first)
        self._like: Chunk | None = None
        with of_chunk(0):
            self._like = self.checked(first).room(0)

    @property
    def empty(self) -> Chunk:
        """A chunk without samples."""
        assert self._like is not None, "the first one was checked"
        return self._like

    def checked(self, parts: tuple[Any, ...]) -> Chunk:
        """Return a chunk for training.

        Raises
        ------
        ValueError, TypeError
            If it holds what training cannot take, or is unlike the first one.
        """
        stack, like = self._stack, self._like
        if len(parts) != self._parts:
            has, had = ("no weights", "some") if self._parts == 3 else ("weights", "none")
            raise ValueError(f"it has {has}, but the first chunk has {had}: give them in every chunk, or in none")
        x = any_array("X", parts[0])
        if like is not None and x.ndim == 2 and x.shape[1] != like.x.shape[1]:
            raise ValueError(f"X has {x.shape[1]} columns, but that of the first chunk {like.x.shape[1]}")
        x = features(parts[0], stack.n_in, stack.dtype)
        stack.check_codes(x)
        y = self.targets(parts[1], len(x))
        for name, one, first in () if like is None else (("X", x, like.x), ("y", y, like.y)):
            if one.dtype != first.dtype:
                raise ValueError(
                    f"{name} holds {one.dtype}, but that of the first chunk {first.dtype}: give all chunks one dtype"
                )
            if one.shape[1:] != first.shape[1:]:
                shape = ", ".join(map(str, ("m", *first.shape[1:])))
                raise ValueError(f"{name} has shape {one.shape}, but that of the first chunk ({shape})")
        return Chunk(x, y, self._weights(parts[2] if len(parts) == 3 else None, y))

    def targets(self, y: Any, m: int) -> Array:
        """Return y of m samples in the form that the loss takes."""
        y = coded_as(y, self._classes)
        array = losses.targets(self._loss, y, m, self._outputs, self._stack.dtype)
        return array.astype(object) if array.dtype.kind in "SU" else array

    def _weights(self, v: Any, y: Array) -> Array | None:
        m, dtype = len(y), self._stack.dtype
        if self._of_classes is None:
            return None if v is None else _weights(v, m, dtype)
        weights = self._of_classes[np.clip(y, 0, self._outputs - 1)]
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


def names_in(source: Source) -> Array:
    """Return the classes that the labels of all chunks name, sorted."""
    found: dict[Any, None] = {}
    for place, (_, y, *_) in source.chunks(source.draw(None)):
        with of_chunk(place):
            classes = coded(y, None)[1]
            if classes is None:
                raise ValueError("y holds numbers, but that of the first chunk labels (m,) that are names")
        found.update(dict.fromkeys(classes.tolist()))
    labels = np.empty(len(found), object)
    labels[:] = list(found)
    every = coded(labels, None)[1]
    assert every is not None, "these are names"
    return every


def balanced_by(source: Source, form: Form, k: int) -> Array:
    """Return the weight (k,) of each class, by how many samples of all chunks it has."""
    counts = np.zeros(k, INT64)
    for place, (x, y, *_) in source.chunks(source.draw(None)):
        with of_chunk(place):
            counts += np.bincount(form.targets(y, len(x)), minlength=k)
    return balanced(counts)
