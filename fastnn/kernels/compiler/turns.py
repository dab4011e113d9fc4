"""Turns at a file: of the processes that would make the same one at once, one does, and the others wait for it.

A turn is a lock of the operating system, which falls with its process however that ends. It is a lock on a file beside
the one that is made, which whoever had the turn removes. No thread waits for a turn while it has one, so that none
waits in a circle; and where there are no locks, or a wait was in vain, each makes its own as if it were alone.
"""

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ...loading import stop_if_unwanted

# Seconds after which nobody waits for a turn any longer.
PATIENCE = 60.0
_PAUSE = 0.01
_HELD = errno.EAGAIN, errno.EACCES, errno.EDEADLK
_in_vain = threading.Event()  # set where this process has waited without use


class Turn:
    """A turn at making the file ``path``."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path.with_name(f"{path.name}.turn"), -1

    def comes(self) -> bool:
        """Whether nobody else has it, and then it is had here; where there are no locks, everybody has it."""
        try:
            for _ in range(3):  # to be had it must be on the file that the others find, which the last one removes
                if self._file < 0:
                    self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
                if not _lock(self._file):
                    return False
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(self._file), os.stat(self._path)):
                        return True
                self.leave()
        except OSError:
            self.leave()
        return True

    def end(self) -> None:
        """Let others have it."""
        if self._file < 0:
            return
        if os.name != "posix":  # an open file cannot be removed there, nor one that another process has opened since
            self.leave()
        with contextlib.suppress(OSError):
            self._path.unlink()
        self.leave()

    def leave(self) -> None:
        """Ask for it no more."""
        file, self._file = self._file, -1
        if file >= 0:
            with contextlib.suppress(OSError):
                os.close(file)


def _lock(file: int) -> bool:
    """Whether an open file could be locked, which only this process then is; OSError where files have no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # forked processes have no part in it
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    except ImportError as error:
        raise OSError(error) from None
    return True


class _Here(threading.local):
    """The turn of this thread, which it may take in a block of ``one_turn``."""

    may_take = False
    turn: Turn | None = None


_here = _Here()


@contextlib.contextmanager
def one_turn() -> Iterator[None]:
    """Let ``wait`` take a turn meanwhile, one at a time, which ends with this."""
    if _here.may_take:
        yield
        return
    _here.may_take = True
    try:
        yield
    finally:
        turn, _here.may_take, _here.turn = _here.turn, False, None
        if turn is not None:
            turn.end()


def wait(path: Path) -> None:
    """Wait until nobody else makes the file: it is there, or this thread has the turn, or there was no use in waiting.

    Who had the turn before and left no file has died, or cannot keep what it makes, which may be true for all: whoever
    waited for it does not wait again.
    """
    if not _here.may_take or _here.turn is not None:
        return
    before, turn, latest = _state(path), Turn(path), None
    try:
        while not turn.comes():
            latest = latest or time.monotonic() + (0 if _in_vain.is_set() else PATIENCE)
            if _state(path) != before or time.monotonic() >= latest:
                turn.leave()
                break
            stop_if_unwanted()
            time.sleep(_PAUSE)
        else:
            _here.turn = turn
    except BaseException:
        turn.leave()
        raise
    if latest is not None and _state(path) is None:
        _in_vain.set()


def _state(path: Path) -> tuple[int, ...] | None:
    """What tells a file from the one that it replaces."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        return status.st_ino, status.st_mtime_ns, status.st_size
    return None
