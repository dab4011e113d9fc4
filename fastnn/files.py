"""Files that are replaced whole or not at all."""

import contextlib
import os
import shutil
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


def replace(path: str | os.PathLike[str], write: Callable[[BinaryIO], object], before: str | None = None) -> None:
    """Let ``write`` fill a new file and put it in the place of ``path``, which stays as it is where that fails.

    What stood there is found at ``before``, if that is given, and at every moment there is a whole file at ``path``.
    The new file stands beside it meanwhile; errors name ``path`` in its place. Whatever is raised removes it; what a
    killed process left of its own is removed by the next call for the same folder.
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
                _put(temporary, target, before)  # as long as it is locked
        if fcntl is None:
            _put(temporary, target, before)  # Windows does not rename an open file
    except OSError as error:
        if str(error.filename).startswith(temporary.removesuffix(_SUFFIX)):  # of which nobody knows
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def _put(temporary: str, target: str, before: str | None) -> None:
    if before is not None and os.path.exists(target):
        aside = f"{temporary.removesuffix(_SUFFIX)}-{_SUFFIX}"
        try:
            try:
                os.link(target, aside)
            except OSError:  # of a file system without links
                shutil.copyfile(target, aside)
            os.replace(aside, before)
        finally:
            with contextlib.suppress(FileNotFoundError):  # it is left where both are one file already
                os.remove(aside)
    os.replace(temporary, target)


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
