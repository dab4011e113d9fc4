"""Loading and compiling code where no signal handler can break it off half-way.

A handler that raises, as that of Ctrl-C does, would leave Numba imported in part, for good, or end the process where
LLVM calls back into Python. So handlers run as ever meanwhile, but what they raise is raised at the end: another thread
could load undisturbed too, but to wait for it would be Python code again, which interruptions can break off.
"""

import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Deferral:
    """Stands between the signals and their handlers in Python; while it ``is_on`` it keeps what these raise."""

    def __init__(self) -> None:
        self.is_on, self.raised = False, list[BaseException]()
        self._replaced: list[tuple[int, Any, Any]] = []

    def begin(self) -> None:
        """Take the place of all handlers; one that raises before its turn ends this, and ``end`` puts all right."""
        self.is_on = True
        for number in sorted(signal.valid_signals()):
            handler = signal.getsignal(number)
            if callable(handler):
                mine = self._deferring(handler)
                self._replaced.append((number, mine, handler))
                signal.signal(number, mine)

    def end(self) -> None:
        """Give the place back, to that of Ctrl-C last of those that are used, since from then on it may raise here."""
        try:
            for number, mine, handler in reversed(self._replaced):
                if signal.getsignal(number) is mine:
                    signal.signal(number, handler)
        finally:
            self.is_on = False

    def first(self) -> BaseException:
        """Hand over what was raised first, and forget all: it knows the frame it struck, and all that was loaded there.

        As part of a cycle it would be collected at any later moment, and what a handler raises then, Python swallows.
        """
        error = self.raised[0]
        self.raised = []
        return error

    def _deferring(self, handler: Callable[[int, Any], Any]) -> Callable[[int, Any], Any]:
        def handle(number: int, frame: Any) -> Any:
            if not self.is_on:
                return handler(number, frame)
            try:
                handler(number, frame)
            except BaseException as error:
                self.raised.append(error)

        return handle


_current = _Deferral()


def undisturbed(call: Callable[[], Result]) -> Result:
    """Return call(); what a signal handler raises in the meantime is raised at its end."""
    global _current
    if threading.get_ident() != threading.main_thread().ident or _current.is_on:  # no handler runs here, or none raises
        return call()
    _current = deferral = _Deferral()
    try:
        deferral.begin()
        return call()
    finally:
        deferral.end()
        if deferral.raised:
            raise deferral.first()


def stop_if_unwanted() -> None:
    """End an undisturbed call here, where it can end, if a handler has raised something in the meantime."""
    if _current.is_on and _current.raised and threading.get_ident() == threading.main_thread().ident:
        raise _current.raised[0]
