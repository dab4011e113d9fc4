"""Data in pieces: a source gives its chunks (X, y) or (X, y, sample_weight) once more for each epoch."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol, TypeAlias

import numpy as np

from .validation import Array, own_view


class Indexed(Protocol):
    """Chunks by their places."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, place: int, /) -> Sequence[Any]:
        """Return one of them."""


# What ``fit`` takes in the place of X where there is no y: whatever gives chunks, or a function that returns it.
Chunks: TypeAlias = Iterable[Sequence[Any]] | Indexed | Callable[[], Iterable[Sequence[Any]]]


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
        if isinstance(given, str | bytes | Mapping | set | frozenset | type) or not (
            self.is_indexed or hasattr(given, "__iter__") or callable(given)
        ):
            raise TypeError(
                f"y is missing, and X is {_short(given)}: expected fit(X, y), or a source of chunks, such as a list of "
                "pairs (X, y) or a function that returns an iterator of them"
            )
        # Nothing else is asked for an iterator here: that may open files, or start processes.
        if not self.is_indexed and hasattr(given, "__next__") and iter(given) is given:
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

    def features(self) -> Iterator[tuple[int, Any]]:
        """Yield the X of each chunk with its place; a source may have a method that reads nothing else."""
        return self._only("features", 0)

    def labels(self) -> Iterator[tuple[int, Any]]:
        """Yield the y of each chunk with its place; a source may have a method that reads nothing else."""
        return self._only("labels", 1)

    def _only(self, name: str, part: int) -> Iterator[tuple[int, Any]]:
        own = getattr(self._given, name, None)
        if callable(own):
            yield from enumerate(own())
        else:
            for place, parts in self.chunks(self.draw(None)):
                yield place, parts[part]

    def _start(self) -> Iterator[Any]:
        given = self._given
        if not hasattr(given, "__iter__"):
            given = given()
            if not hasattr(given, "__iter__"):
                raise TypeError(f"the function that is the source returned {_short(given)}, expected an iterator")
        iterator: Iterator[Any] = iter(given)
        # With persistent_workers a DataLoader of PyTorch returns the same one, which does start anew.
        if iterator is self._last and not getattr(given, "persistent_workers", False):
            raise TypeError(
                f"the source {_short(self._given)} has returned the same iterator twice, which gives its chunks only "
                "once: each epoch needs one that starts anew"
            )
        self._last = iterator
        return iterator


def is_source(value: Any) -> bool:
    """Return whether a value that may be an array of numbers is a source of chunks instead."""
    if hasattr(value, "__array__") or hasattr(value, "shape") or np.isscalar(value) or value is None:
        return False
    if not isinstance(value, list | tuple):
        return True
    return bool(value) and isinstance(value[0], list | tuple) and len(value[0]) in (2, 3) and np.ndim(value[0][0]) == 2


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
    return shown if len(shown) <= 80 and " at 0x" not in shown else f"a {type(value).__name__}"


@contextmanager
def of_chunk(place: int) -> Iterator[None]:
    """Say of which chunk a ValueError or TypeError is."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if type(error) not in (ValueError, TypeError):
            raise
        raise type(error)(f"chunk {place} of the source: {error}") from error
