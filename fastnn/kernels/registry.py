"""Compiled functions by their names: those of fastnn, and those that a user's names bring along."""

from collections.abc import Callable
from typing import Any


class Registry(dict[str, Any]):
    """What stands behind each name; one that is no name of fastnn's is made by ``make`` at its first use."""

    make: Callable[[Any], Any]

    def __missing__(self, name: Any) -> Any:
        return self.setdefault(str(name), self.make(name))
