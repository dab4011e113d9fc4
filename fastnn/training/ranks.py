"""The processes that train one network, and what they exchange, over a communicator of mpi4py.

Nothing here relies on an order in which MPI adds numbers up: sums are formed in one binary tree by exchanges of pairs,
of which both add the same two numbers. While a process waits it looks for news of another one's error, wherever that
was raised, so that none waits for ever.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import numpy as np

from ..errors import RankError
from ..loading import undisturbed
from ..validation import Array, natural, positive_int

_VALUE, _ARRAY, _ERROR = 1, 2, 3
_KINDS = {kind.__name__: kind for kind in (ValueError, TypeError)}
# From so many bytes on each process adds up a part of the numbers, which halves what is sent at twice the latency.
HALVES_FROM = 1 << 18
_PATIENT, _WAIT = 2000, 50e-6  # looks until a process lets others have its CPU for so many seconds
# Longer messages would leave only once the process that sends them waits for something.
_MOST_OF_MESSAGE, _LAST_WAIT = 1000, 1.0
# Seconds in which the others come to the call of which one has an error to tell.
_LAST_MEETING = 10.0
# What MPI may write to or read from: after an error, or Ctrl-C at any moment, it lives as long as the process.
_IN_USE: dict[int, Any] = {}

Combine = Callable[[Array, Array], Any]


def communicator(comm: Any) -> Any:
    """Return ``comm``, a communicator of mpi4py.

    Raises
    ------
    TypeError, ValueError
        If it is none, or one that links two groups, or that of a process which is not among its group.
    """
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not isinstance(comm, mpi.Comm):
        raise TypeError(
            f"comm is {comm!r}, expected a communicator of mpi4py, such as MPI.COMM_WORLD: "
            "pip install 'fastnn[mpi]', and from mpi4py import MPI"
        )
    if comm == mpi.COMM_NULL or not isinstance(comm, mpi.Intracomm):
        raise ValueError(f"comm is {comm!r}, expected one group of processes, such as MPI.COMM_WORLD")
    return comm


class Ranks:
    """The processes of a communicator, of which this is number ``rank`` of ``size``.

    Every method that exchanges something is called in a block of :meth:`guarded`, and raises what that was told of in
    another process.
    """

    def __init__(self, comm: Any) -> None:
        self._given = communicator(comm)
        self._mpi: Any = sys.modules["mpi4py.MPI"]
        self._comm: Any = None  # one of our own, from ``_meet`` on
        self._meeting: Any = None
        self.rank, self.size = int(self._given.Get_rank()), int(self._given.Get_size())
        self._power = 1 << (self.size.bit_length() - 1)  # the processes of the tree; each of the rest leans on one
        self._is_over = self._is_agreed = False

    def threads(self) -> int:
        """Return this process's share of the CPUs of its machine, unless it was told how many threads to use."""
        machines = self.gather(self._mpi.Get_processor_name())
        here = machines.count(machines[self.rank])
        return 1 << 30 if os.environ.get("FASTNN_NUM_THREADS") else max(1, (os.cpu_count() or 1) // here)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Tell all others what is raised here, and free the communicator where none waits for another one."""
        try:
            self._meet()
            yield
        except BaseException as error:
            if self._is_agreed:
                self._comm.Free()
            elif not self._is_over:
                self._tell(error)
            raise
        self._comm.Free()

    def _meet(self, within: float = math.inf) -> bool:
        """Make a communicator of our own with all others, and return whether they came within so many seconds."""
        if self._meeting is None:
            undisturbed(self._begin_to_meet)
        end = time.monotonic() + within
        self._until(lambda: self._meeting.Test() or time.monotonic() >= end, _nothing)
        is_made = bool(self._meeting.Test())
        if is_made:
            _IN_USE.pop(id(self), None)
        return is_made

    def _begin_to_meet(self) -> None:
        self._comm, self._meeting = self._given.Idup()
        _IN_USE[id(self)] = self, self._comm, self._meeting

    def refuse(self, message: str) -> NoReturn:
        """Raise ValueError in every process, each of which has found the same reason."""
        self.agree()
        raise ValueError(message)

    def agree(self) -> None:
        """Note that every process raises what this one is about to raise, since each has the same numbers."""
        self._is_agreed = True

    def _tell(self, error: BaseException) -> None:
        self._is_over, is_heard = True, False
        with suppress(Exception):  # of MPI, or for want of memory
            is_heard = self._meet(_LAST_MEETING)
        if not is_heard:
            return
        try:
            message = str(error)
        except Exception:
            message = ""
        if len(message) > _MOST_OF_MESSAGE:
            message = f"{message[:_MOST_OF_MESSAGE]}..."
        news = self._pickled((self.rank, type(error).__name__, message))
        sent: list[Any] = []
        _IN_USE[id(sent)] = sent, news
        for other in range(self.size):
            if other != self.rank:
                sent.append(self._comm.Isend(news, other, _ERROR))
        end = time.monotonic() + _LAST_WAIT
        while not (is_sent := self._mpi.Request.Testall(sent)) and time.monotonic() < end:
            time.sleep(_WAIT)
        if is_sent:
            del _IN_USE[id(sent)]

    def _look(self) -> None:
        """Raise what another process has raised."""
        if not self._comm.iprobe(source=self._mpi.ANY_SOURCE, tag=_ERROR):
            return
        rank, kind, message = self._comm.recv(source=self._mpi.ANY_SOURCE, tag=_ERROR)
        self._is_over = True
        if kind in _KINDS:
            raise _KINDS[kind](f"rank {rank}: {message}")
        raise RankError(rank, f"{kind}: {message}" if message else kind)

    def _until(self, is_done: Callable[[], Any], look: Callable[[], Any] | None = None) -> Any:
        """Wait until something is true, and return it."""
        look, looks = look or self._look, 0
        while not (found := is_done()):
            looks += 1
            look()
            if looks > _PATIENT:
                time.sleep(_WAIT)
            elif looks > 20:
                _give_way()
        return found

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in their order, in each of them."""
        values = self.to_first(value)
        return self.from_first(values)  # type: ignore[no-any-return]

    def to_first(self, value: Any) -> list[Any] | None:
        """Return the values of all processes, in their order, in the first; None in the others."""
        if self.rank != 0:
            self._send(value, 0)
            return None
        return [value, *(self._receive(other) for other in range(1, self.size))]

    def from_first(self, value: Any) -> Any:
        """Return the value that the first process gave."""
        if self.rank != 0:
            return self._receive(0)
        for other in range(1, self.size):
            self._send(value, other)
        return value

    def _send(self, value: Any, to: int) -> None:
        self._swap(self._pickled(value), to, None, _VALUE)

    def _receive(self, source: int) -> Any:
        status = self._mpi.Status()
        self._until(lambda: self._comm.Iprobe(source, _VALUE, status))
        data = bytearray(status.Get_count(self._mpi.BYTE))
        self._swap(None, source, [data, self._mpi.BYTE], _VALUE)
        return self._mpi.pickle.loads(data)

    def _pickled(self, value: Any) -> list[Any]:
        return [self._mpi.pickle.dumps(value), self._mpi.BYTE]

    def any(self, *told: bool) -> list[bool]:
        """Return of each whether it is true in one of the processes."""
        return [any(column) for column in zip(*self.gather(told), strict=True)]

    def sum(self, array: Array) -> None:
        """Add up the contiguous array (n,) of all processes, in place and to the same bits in each."""
        self.combine(array, _add)

    def combine(self, array: Array, function: Combine, by_elements: bool = True) -> None:
        """Combine the contiguous arrays (n,) of all processes in a binary tree, in place.

        ``function(own, other)`` writes what the two make into the first, and must make the same of them in either
        order. It may get a part of the elements ``by_elements``.
        """
        rank, power = self.rank, self._power
        if self.size == 1:
            return
        if rank >= power:
            self._swap(array, rank - power, None)
            self._swap(None, rank - power, array)
            return
        spare = np.empty_like(array)
        has_one_more = rank + power < self.size
        if has_one_more:
            self._swap(None, rank + power, spare)
            function(array, spare)
        if array.nbytes >= HALVES_FROM and power > 2 and by_elements:
            self._in_halves(array, spare, function)
        else:
            for bit in range(power.bit_length() - 1):
                self._swap(array, rank ^ 1 << bit, spare)
                function(array, spare)
        if has_one_more:
            self._swap(array, rank + power, None)

    def _in_halves(self, array: Array, spare: Array, function: Combine) -> None:
        """Combine a part of the array, half of the part before with each partner, and exchange the parts backwards."""
        start, end = 0, len(array)
        ways = []
        for bit in range(self._power.bit_length() - 1):
            partner, middle = self.rank ^ 1 << bit, (start + end) // 2
            own, other = (start, middle), (middle, end)
            if self.rank >> bit & 1:
                own, other = other, own
            self._swap(array[slice(*other)], partner, spare[slice(*own)])
            function(array[slice(*own)], spare[slice(*own)])
            ways.append((partner, own, other))
            start, end = own
        for partner, own, other in reversed(ways):
            self._swap(array[slice(*own)], partner, array[slice(*other)])

    def _swap(self, out: Any, partner: int, into: Any, tag: int = _ARRAY) -> None:
        """Send one buffer and receive another one."""
        waiting: list[Any] = []
        _IN_USE[id(waiting)] = waiting, out, into
        if into is not None:
            waiting.append(self._comm.Irecv(into, partner, tag))
        if out is not None:
            waiting.append(self._comm.Isend(out, partner, tag))
        self._until(lambda: self._mpi.Request.Testall(waiting))
        del _IN_USE[id(waiting)]


def _add(own: Array, other: Array) -> None:
    own += other


def _nothing() -> None:
    pass


_give_way: Callable[[], Any] = getattr(os, "sched_yield", lambda: time.sleep(0))


def rank_rows(n: int, comm: Any, stripes: int | None = None) -> slice:
    """Return which of n samples a process is to hold, for ``fit`` with ``comm=``: one of as many equal parts.

    Parameters
    ----------
    n : int
        The samples of all processes.
    comm : mpi4py.MPI.Comm
    stripes : int, optional
        As given to ``fit``: then the parts are made of whole stripes.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described, or the stripes cannot be dealt out evenly.
    """
    n, comm = natural("n", n), communicator(comm)
    size, rank = comm.Get_size(), comm.Get_rank()
    return slice(*bounds(n, check_stripes(stripes, size), size)[rank : rank + 2])


def check_stripes(stripes: int | None, size: int) -> int:
    """Return into how many stripes the samples are cut, of which each process holds as many."""
    if stripes is None:
        return size
    stripes = positive_int("stripes", stripes)
    if stripes & (stripes - 1) or stripes % size:
        raise ValueError(
            f"stripes is {stripes} for {size} ranks, expected a power of two that the ranks divide, such as 8 for 1, "
            "2, 4 or 8 of them"
        )
    return stripes


def bounds(n: int, stripes: int, size: int) -> list[int]:
    """Return where the samples of each process begin, and the last end."""
    of_stripes = [n * stripe // stripes for stripe in range(stripes + 1)]
    return of_stripes[:: stripes // size]
