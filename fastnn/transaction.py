"""A point to go back to where training fails: attributes by reference, arrays by copy, the state of a generator."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from .validation import Array, are_finite

Place = tuple[Any, tuple[str, ...]]


class Attributes:
    """What some attributes of some objects refer to at the moment, to be put back."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._noted = [(owner, name, getattr(owner, name)) for owner, names in places for name in names]

    def restore(self) -> None:
        """Let each refer to its object again."""
        for owner, name, value in self._noted:
            if getattr(owner, name) is not value:
                setattr(owner, name, value)


class Copies:
    """Arrays that training changes, and a copy of each, made now or at the last :meth:`keep`, to go back to."""

    def __init__(self, arrays: Iterable[Array]) -> None:
        self.arrays = tuple(arrays)
        self._kept = [np.empty_like(array) for array in self.arrays]
        self.keep()

    def keep(self) -> None:
        """Copy the arrays as they are."""
        for array, kept in zip(self.arrays, self._kept, strict=True):
            np.copyto(kept, array)

    def restore(self) -> None:
        """Write the copies back, which allocates nothing of size."""
        for array, kept in zip(self.arrays, self._kept, strict=True):
            np.copyto(array, kept)

    def is_finite(self) -> bool:
        """Return whether all numbers in the arrays are finite."""
        return are_finite(self.arrays)


class Transaction:
    """All that a training changes, and the last point at which it was whole.

    The first point is taken at the start, another one by each :meth:`begin`, and each may be left for good. That is one
    assignment, the last one, so an interruption comes before it or after. A point may lead over several steps, which
    are then made together or not at all.

    Parameters
    ----------
    places : pairs of an object and the names of its attributes
    rng : numpy.random.Generator

    Attributes
    ----------
    commits : how many steps were left for good
    goal : how many they will be once the last point is left; it may be moved
    """

    def __init__(self, places: Iterable[Place], rng: np.random.Generator) -> None:
        self.commits, self.goal = 0, 1
        self._places, self._bits = tuple(places), rng.bit_generator
        self._attributes, self._copies = Attributes(self._places), Copies([])
        self._drawn = self._shuffled = self._bits.state

    def protect(self, arrays: Iterable[Array]) -> None:
        """Take arrays in, and let :meth:`rewind` lead here; :meth:`rollback` still undoes all since the start."""
        self._copies = Copies(arrays)
        self._shuffled = self._bits.state

    def begin(self, goal: int) -> None:
        """Take a new point, or the last one once more, which leads to so many steps."""
        self._attributes = Attributes(self._places)
        self._drawn = self._shuffled = self._bits.state
        self._copies.keep()
        self.goal = goal

    def commit(self) -> None:
        """Leave the point for good."""
        self.commits = self.goal

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The arrays that were taken in."""
        return self._copies.arrays

    def is_finite(self) -> bool:
        """Return whether all numbers in them are finite."""
        return self._copies.is_finite()

    def rewind(self) -> None:
        """Go back with the arrays and the generator, to train the same once more."""
        self._copies.restore()
        self._bits.state = self._shuffled

    def rollback(self) -> None:
        """Undo everything since the last point, unless that was left for good."""
        if self.commits < self.goal:
            self._copies.restore()
            self._bits.state = self._drawn
            self._attributes.restore()
