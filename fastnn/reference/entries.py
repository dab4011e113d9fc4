"""The quick ways into compiled functions, of which the twin has none."""

from typing import Any


class _Nothing:
    """Takes any name for that of a function which leaves its work to others."""

    def __getattr__(self, name: str) -> Any:
        return _nothing


def _nothing(*arguments: Any) -> None:
    """What an entry gives that has changed nothing."""


quick = _Nothing()
