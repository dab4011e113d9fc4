"""Chunks read in a thread of its own: while the samples in one store train, the other one is filled."""

import math
import threading
from collections.abc import Iterator
from contextlib import closing
from contextvars import copy_context
from queue import Empty, SimpleQueue
from types import TracebackType

from ..chunks import Source
from ..validation import Array
from .sources import Chunk, Form

_PATIENCE = 0.1


class Store:
    """Memory for so many samples, kept from one filling to the next.

    Attributes
    ----------
    held : Chunk
        The samples in it.
    """

    def __init__(self, like: Chunk, size: int) -> None:
        self._like, self._size, self._filled = like, size, 0
        self._room: Chunk = like
        self._as_it_is: Chunk | None = None

    def __len__(self) -> int:
        return self._filled if self._as_it_is is None else len(self._as_it_is.x)

    @property
    def held(self) -> Chunk:
        """The samples in it."""
        return self._room.part(slice(self._filled)) if self._as_it_is is None else self._as_it_is

    def empty(self) -> None:
        """Let go of the samples."""
        self._filled, self._as_it_is = 0, None

    def hold(self, chunk: Chunk) -> None:
        """Hold a chunk, and nothing else, without a copy."""
        self._as_it_is = chunk

    def add(self, chunk: Chunk) -> None:
        """Copy the samples of a chunk behind those that are there."""
        n = len(chunk.x)
        if n > len(self._room.x):  # what is in it never stays where another chunk does not fit
            self._room = self._made(max(n, self._size))
        self._room.write(self._filled, chunk)
        self._filled += n

    def _made(self, n: int) -> Chunk:
        try:
            return self._like.room(n)
        except (MemoryError, ValueError):  # of NumPy, for what no address could reach
            sample = sum(array[:0].itemsize * math.prod(array.shape[1:]) for array in self._like if array is not None)
            raise MemoryError(
                f"buffer is read in two halves, of which one is {n:,} samples of {sample:,} bytes, "
                f"{n * sample / 2**30:,.3g} GiB, for which there is no memory: give a smaller buffer"
            ) from None


class Stopped(Exception):
    """Nobody waits for more chunks."""


class Reading:
    """The chunks of an epoch, as stores filled one after the other, in a thread that ends with the context.

    A store takes whole chunks, as many as fit, and at least one. Arrays in a list are there in any case: such a one,
    if it fills a store alone, is used where it lies. Everything else is copied, so a source may give the same array
    again and again.

    Parameters
    ----------
    source : Source
    order : ndarray
        The places of its chunks.
    form : Form
    stores : list of two Store
    size : int
        How many samples a store is to hold.

    Attributes
    ----------
    chunks, samples : int
        How many have come, once all have.
    """

    def __init__(self, source: Source, order: Array, form: Form, stores: list[Store], size: int) -> None:
        self._source, self._order, self._form, self._size = source, order, form, size
        self._free, self._ready = SimpleQueue[Store](), SimpleQueue[tuple[Store, bool, BaseException | None]]()
        for store in stores:
            store.empty()
            self._free.put(store)
        self._stop, self._nothing = False, Store(form.empty, 0)
        self.chunks = self.samples = 0
        run = copy_context().run
        self._thread = threading.Thread(target=run, args=(self._work,), name="fastnn reader", daemon=True)

    def __enter__(self) -> "Reading":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop = True
        self._free.put(self._nothing)  # or it could wait for one for ever
        self._thread.join()

    def stores(self) -> Iterator[tuple[Chunk, bool]]:
        """Yield the samples of each store once it is filled, valid until the next, and whether they are the last.

        Whatever the source raises is raised here.
        """
        is_last = False
        while not is_last:
            store, is_last, error = self._next()
            if error is not None:
                raise error
            yield store.held, is_last
            store.empty()
            self._free.put(store)

    def _next(self) -> tuple[Store, bool, BaseException | None]:
        """Wait, and look in between for signals, which need not wake this thread everywhere."""
        while True:
            try:
                return self._ready.get(timeout=_PATIENCE)
            except Empty:
                continue

    def _work(self) -> None:
        try:
            self._fill()
        except Stopped:
            return
        except BaseException as error:
            self._ready.put((self._nothing, True, error))

    def _fill(self) -> None:
        store: Store | None = None
        with closing(self._source.chunks(self._order)) as chunks:
            for place, parts in chunks:
                with self._source.at(place):
                    chunk = self._form.checked(parts)
                n = len(chunk.x)
                if store is not None and len(store) + n > self._size:
                    self._ready.put((store, False, None))
                    store = None
                if store is None:
                    store = self._take()
                if n >= self._size and self._source.is_list:
                    store.hold(chunk)
                else:
                    store.add(chunk)
                self.chunks += 1
                self.samples += n
                if self._stop:
                    raise Stopped
        if store is None:
            raise ValueError("the source gave no chunk this time: it must give the same ones in each epoch")
        self._ready.put((store, True, None))

    def _take(self) -> Store:
        store = self._free.get()
        if self._stop:
            raise Stopped
        return store
