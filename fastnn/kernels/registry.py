"""Compiled functions by their names: those of fastnn, and those that a user's names bring along."""

from collections.abc import Callable
from typing import Any


class Registry(dict[str, Any]):
    """What stands behind each name of fastnn's; behind any other, what ``make`` makes at its first use."""

    make: Callable[[Any], Any]

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}

    def __missing__(self, name: Any) -> Any:
        known = self.made.get(name)
        return self.made.setdefault(str(name), self.make(name)) if known is None else known
