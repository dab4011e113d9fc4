"""A stopwatch inside compiled code: each lap adds the seconds since the last one to a cell of a table."""

from typing import NamedTuple

import numpy as np

from ..compiler.jit import inline
from ..simd.vector import get, put
from ..threading.ticks import system_clock, ticks

# The columns of the table: an op's row, and the last row, for what belongs to no op.
FORWARD, BACKWARD, UPDATE = range(3)
GATHER, LOSS, REST = range(3)


class Clock(NamedTuple):
    """The table of seconds, (0, 0) for no laps at all; the ticks of the last lap; where the clock is, and its tick."""

    seconds: np.ndarray
    last: np.ndarray
    address: int
    tick: float


OFF = Clock(np.empty((0, 0)), np.zeros(1, np.int64), 0, 0.0)


def clock_of(seconds: np.ndarray | None) -> Clock:
    """A clock that adds to ``seconds``, or the one that is off for None."""
    return OFF if seconds is None else Clock(seconds, np.zeros(1, np.int64), *system_clock())


@inline
def begin(clock):
    """Begin the first lap."""
    if clock.seconds.rows != 0:
        put(clock.last.p, 0, ticks(clock.address))


@inline
def lap(clock, row, column):
    """Add the time since the last lap to a cell, a negative row counting from the end."""
    seconds = clock.seconds
    if seconds.rows != 0:
        now, place = ticks(clock.address), (row + seconds.rows if row < 0 else row) * seconds.cols + column
        put(seconds.p, place, get(seconds.p, place) + (now - get(clock.last.p, 0)) * clock.tick)
        put(clock.last.p, 0, now)
