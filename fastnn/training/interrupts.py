"""Ctrl-C while a model trains: asked once it ends the fit after the current epoch, asked twice at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """A context in which SIGINT sets ``requested``; a second one raises KeyboardInterrupt, unless ``deaf`` is set.

    It is set where things are put right after an exception, which nothing may disturb, and before the context ends.
    Only the main thread can catch signals, and a process that ignores SIGINT keeps ignoring it: elsewhere the context
    does nothing. Python hears no signal before a compiled function returns, and then one for all that came meanwhile.
    """

    def __init__(self) -> None:
        self.requested = self.deaf = False
        self._previous: Any = None

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.requested and not self.deaf:
            raise KeyboardInterrupt
        self.requested = True
