"""Files that are replaced whole or not at all."""

import contextlib
import os
import time
import uuid
from collections.abc import Callable
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PREFIX, _SUFFIX = ".fastnn-", ".tmp"
_ABANDONED_AFTER = 3600.0


def replace(path: str | os.PathLike[str], write: Callable[[BinaryIO], None]) -> None:
    """Let ``write`` fill a new file and put it in the place of ``path``, which stays as it is where that fails.

    The new file stands beside ``path`` meanwhile. Whatever is raised removes it; what a killed process left of its own
    is removed by the next call for the same folder.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    _clear(folder)
    temporary = os.path.join(folder, f"{_PREFIX}{uuid.uuid4().hex}{_SUFFIX}")
    try:
        with _new(temporary) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:
                os.replace(temporary, target)  # as long as it is locked
        if fcntl is None:
            os.replace(temporary, target)  # Windows does not rename an open file
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def _new(path: str) -> BinaryIO:
    """A new file, locked for as long as it is open; unlike one of tempfile's it has the permissions of any other."""
    while True:
        file = open(path, "xb")  # noqa: SIM115
        if fcntl is None:
            return file
        with contextlib.suppress(OSError):  # where a file system knows no locks, nobody finds the file without one
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(path):  # nobody took it for abandoned before it was locked
            return file
        file.close()


def _clear(folder: str) -> None:
    """Remove the new files that nobody is writing any more."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
                with contextlib.suppress(OSError):
                    _remove_abandoned(os.path.join(folder, name))


def _remove_abandoned(path: str) -> None:
    if fcntl is None:
        if time.time() - os.path.getmtime(path) > _ABANDONED_AFTER:
            os.remove(path)
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises OSError while its writer lives
        os.remove(path)
    finally:
        os.close(descriptor)
