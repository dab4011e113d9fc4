"""Loading and compiling code where no signal handler can break it off half-way.

A handler that raises, as that of Ctrl-C does, would leave Numba imported in part, for good, or end the process where
LLVM calls back into Python. Handlers run in the main thread alone, so another thread loads, and the main thread waits.
"""

import _imp
import _thread
import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class _Job(Generic[Result]):
    """A call in a thread of its own, and what came of it."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self.unwanted = False
        self._call, self._context = call, contextvars.copy_context()
        self._result: list[Result] = []
        self._error: BaseException | None = None
        self._begun, self._running = threading.Lock(), threading.Lock()
        self._running.acquire()

    def result(self) -> Result:
        """What the call returns; what it raises, or a signal handler did meanwhile, is raised at its end."""
        interruption, is_started = None, False
        while True:
            try:  # an interruption may come at any moment, and the job be started twice
                if not is_started:
                    self._start()
                    is_started = True
                with self._running:
                    break
            except BaseException as error:
                self.unwanted = True
                if interruption is None:
                    interruption = error
        raised = self._error if interruption is None else interruption
        if raised is not None:
            raise raised
        return self._result[0]

    def _start(self) -> None:
        try:
            _thread.start_new_thread(self._run, ())  # a single step, unlike Thread.start, which must not be interrupted
        except RuntimeError:  # there is no thread to be had
            self._run()

    def _run(self) -> None:
        if not self._begun.acquire(blocking=False):
            return
        _here.job = self
        try:
            self._result.append(self._context.run(self._call))
        except BaseException as error:
            self._error = error
        finally:
            _here.job = None
            self._running.release()


_here = threading.local()


def undisturbed(call: Callable[[], Result]) -> Result:
    """Return call(); what a signal handler raises in the meantime is raised at its end."""
    # The lock of all imports may be left to the main thread, for good, where an import of the user's was interrupted.
    if threading.get_ident() != threading.main_thread().ident or _imp.lock_held():
        return call()
    return _Job(call).result()


def stop_if_unwanted() -> None:
    """End an undisturbed call here, where it can end, if the main thread waits only to raise."""
    job = getattr(_here, "job", None)
    if job is not None and job.unwanted:
        raise KeyboardInterrupt
