"""Files of machine code on disk: read whole and undamaged from folders that nobody else can write, or not at all.

A folder is trusted if its path is absolute, if it and the one above belong to this user, to root or to whoever
installed fastnn, with nobody else to write into them, and if no folder further up is open to everybody. Each file
begins with a digest of its name and content, which guards against damage as the folder guards against strangers.
"""

import contextlib
import hashlib
import os
import re
import shutil
import stat
import time
import uuid
from pathlib import Path

# Days after which a fingerprint that no process uses is removed; a shared home folder serves several CPUs and versions.
KEEP_DAYS = 60

_DIGEST_SIZE = hashlib.sha256().digest_size


def read(path: Path) -> memoryview | None:
    """The content of a file; None if it is missing, out of reach, damaged, misplaced or not to be trusted."""
    with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
        if distrust(path.parent) is None and not _others_write(os.fstat(file.fileno())):
            whole = memoryview(file.read())
            content = whole[_DIGEST_SIZE:]
            return content if whole[:_DIGEST_SIZE] == _digest(path, content) else None
    return None


def write(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all, whoever else writes it; OSError if that cannot be."""
    make(path.parent)
    unfinished = path.with_suffix(f".{uuid.uuid4().hex[:16]}")
    try:
        with open(unfinished, "xb", opener=lambda name, flags: os.open(name, flags, 0o644)) as file:
            file.writelines((_digest(path, content), content))
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def make(folder: Path) -> None:
    """Make a folder, and those above it, into which nobody else can write; OSError if that cannot be."""
    if (reason := distrust(folder)) is not None:
        raise PermissionError(reason)
    for place in reversed((folder, *folder.parents)):
        place.mkdir(mode=0o755, exist_ok=True)


def distrust(folder: Path) -> str | None:
    """Why the machine code in a folder must not be run, or None; what does not exist yet is trusted."""
    if not folder.is_absolute():
        return f"{folder} is a relative path"
    if os.name != "posix":
        return None
    folder = folder.resolve()
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            status = place.stat()
            is_open = bool(status.st_mode & stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
            if is_open or (place in (folder, folder.parent) and _others_write(status)):
                return f"others can write into {place}"
    return None


def _others_write(status: os.stat_result) -> bool:
    """Whether somebody may write who has no say in this process otherwise."""
    if os.name != "posix":
        return False
    trusted = {os.geteuid(), 0}
    with contextlib.suppress(OSError):  # there is no such file in an archive
        trusted.add(os.stat(__file__).st_uid)
    return status.st_uid not in trusted or bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _digest(path: Path, content: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(f"{path.parent.name}/{path.name}\0".encode())
    digest.update(content)
    return digest.digest()


def prune(parent: Path) -> None:
    """Remove the folders of fingerprints that no process has used for KEEP_DAYS."""
    oldest = time.time() - KEEP_DAYS * 24 * 3600
    with contextlib.suppress(OSError):
        for folder in list(parent.iterdir()):
            is_ours = re.fullmatch("[0-9a-f]{24}", folder.name) and folder.is_dir()
            if is_ours and folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)
