"""Data in pieces: a source gives its chunks (X, y) or (X, y, sample_weight), for training once more in each epoch."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol, TypeAlias

import numpy as np

from .validation import Array, depth, own_view


class Indexed(Protocol):
    """Chunks by their places."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, place: int, /) -> Sequence[Any]:
        """Return one of them."""


# What ``fit`` takes in the place of X where there is no y: whatever gives chunks, or a function that returns it.
Chunks: TypeAlias = Iterable[Sequence[Any]] | Indexed | Callable[[], Iterable[Sequence[Any]]]


class Source:
    """What gives chunks, by their places where it has such.

    Parameters
    ----------
    given : what may be one
    call : str
        How data that are no source are given, as messages say it.
    name : str
        What it is called.
    again : bool
        Whether its chunks are needed again and again.

    Raises
    ------
    TypeError
        If it is nothing of the kind, or can be gone through once only, and that is not enough.
    """

    def __init__(self, given: Any, call: str = "fit(X, y)", name: str = "the source", again: bool = True) -> None:
        self._given, self._call, self.name = given, call, name
        self._last: Any = None
        self.is_indexed = _is_indexed(given)
        self.is_list = isinstance(given, list | tuple)
        if not _gives_chunks(given):
            raise TypeError(
                f"y is missing, and X is {_short(given)}: expected {call}, or a source of chunks, such as a list of "
                "pairs (X, y) or a function that returns an iterator of them"
            )
        # Nothing else is asked for an iterator here: that may open files, or start processes.
        if again and not self.is_indexed and hasattr(given, "__next__") and iter(given) is given:
            raise TypeError(
                f"{name} is {_short(given)}, which gives its chunks only once, but each epoch needs them: give a "
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
        raise self.is_empty()

    def is_empty(self) -> ValueError:
        """Return what is raised where there is no chunk."""
        return ValueError(f"{self.name} is empty, {_short(self._given)}: expected at least one chunk (X, y)")

    def once(self) -> Generator[tuple[int, tuple[Any, ...]]]:
        """Yield all chunks in their order, each with its place; there is one at least."""
        place = None
        for place, parts in self.chunks(self.draw(None)):
            yield place, parts
        if place is None:
            raise self.is_empty()

    def chunks(self, order: Array) -> Generator[tuple[int, tuple[Any, ...]]]:
        """Yield the chunks of an epoch, each with its place; ``order`` is as :meth:`draw` has returned."""
        with closing(self._whole(order)) as chunks:
            for place, chunk in chunks:
                yield place, self._parts(chunk, place)

    def _whole(self, order: Array) -> Generator[tuple[int, Any]]:
        """Yield the chunks as they are."""
        if self.is_indexed:
            for place in order.tolist():
                yield place, self._given[place]
            return
        with _closing(self._start()) as chunks:
            yield from enumerate(chunks)

    def features(self) -> Generator[tuple[int, Any]]:
        """Yield the X of each chunk with its place; a source may have a method that reads nothing else.

        Here a chunk may also be an array by itself, or (X,).
        """
        own = getattr(self._given, "features", None)
        if callable(own):
            yield from enumerate(own())
            return
        for place, chunk in self._whole(self.draw(None)):
            is_alone = not isinstance(chunk, list | tuple)
            yield place, own_view(chunk) if is_alone else self._parts(chunk, place, least=1)[0]

    def labels(self) -> Iterator[tuple[int, Any]]:
        """Yield the y of each chunk with its place; a source may have a method that reads nothing else."""
        own = getattr(self._given, "labels", None)
        if callable(own):
            yield from enumerate(own())
            return
        for place, parts in self.chunks(self.draw(None)):
            yield place, parts[1]

    @contextmanager
    def at(self, place: int) -> Iterator[None]:
        """Say of which chunk a ValueError or TypeError is."""
        try:
            yield
        except (ValueError, TypeError) as error:
            if type(error) not in (ValueError, TypeError):
                raise
            raise type(error)(f"chunk {place} of {self.name}: {error}") from error

    def _parts(self, chunk: Any, place: int, least: int = 2) -> tuple[Any, ...]:
        if not isinstance(chunk, tuple | list) or not least <= len(chunk) <= 3:
            came = f"a {type(chunk).__name__} of {len(chunk)}" if isinstance(chunk, tuple | list) else _short(chunk)
            raise TypeError(
                f"chunk {place} of {self.name} is {came}, expected (X, y) or (X, y, sample_weight); data that are no "
                f"source of chunks are given as {self._call}"
            )
        return tuple(map(own_view, chunk))

    def _start(self) -> Iterator[Any]:
        given = self._given
        if not hasattr(given, "__iter__"):
            given = given()
            if not hasattr(given, "__iter__"):
                raise TypeError(f"the function that is {self.name} returned {_short(given)}, expected an iterator")
        iterator: Iterator[Any] = iter(given)
        # With persistent_workers a DataLoader of PyTorch returns the same one, which does start anew.
        if iterator is self._last and not getattr(given, "persistent_workers", False):
            raise TypeError(
                f"{self.name}, {_short(self._given)}, has returned the same iterator twice, which gives its chunks "
                "only once: each epoch needs one that starts anew"
            )
        self._last = iterator
        return iterator


def is_array(value: Any) -> bool:
    """Return whether a value is an array of some library, or a table as of pandas."""
    return hasattr(value, "__array__") or hasattr(value, "shape")


def is_source(value: Any, alone: bool = False) -> bool:
    """Return whether a value that may be an array of numbers is a source of chunks instead.

    Rows of numbers may stand in a list too, of which the first element tells. With ``alone`` an array there is a chunk.
    """
    if is_array(value) or np.isscalar(value) or not _gives_chunks(value):
        return False
    if not isinstance(value, Sequence):
        return True
    first = value[0] if len(value) else None
    if isinstance(first, list | tuple):
        return (1 if alone else 2) <= len(first) <= 3 and depth(first[0]) == 2
    return alone and is_array(first) and depth(first) == 2


def _gives_chunks(value: Any) -> bool:
    """Whether a value may be a source, from which nothing was read yet."""
    if isinstance(value, str | bytes | Mapping | set | frozenset | type):
        return False
    return _is_indexed(value) or hasattr(value, "__iter__") or callable(value)


def _is_indexed(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__getitem__")


@contextmanager
def _closing(iterator: Any) -> Iterator[Any]:
    """Let an iterator that has something to close, as a generator that holds a file open, do so at once."""
    try:
        yield iterator
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    shown = repr(value)
    return shown if len(shown) <= 80 and " at 0x" not in shown else f"a {type(value).__name__}"
