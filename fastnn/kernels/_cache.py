"""The cache of compiled kernels on disk: never stale, filled by any number of processes, done without where it must be.

Numba's own cache looks at the file of the function it compiles, so an edit in a callee that lives in another file goes
unseen, and two processes that save different signatures of one function at once can mix them up in its index. Here the
folder carries a fingerprint of everything that a compiled kernel depends on, and each signature has a file of its own,
replaced as a whole.
"""

import contextlib
import functools
import hashlib
import logging
import os
import pickle
import platform
import re
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

from ._cpu import ISA, target

# Days after which a fingerprint that no process uses is removed; a shared home folder serves several CPUs and versions.
KEEP_DAYS = 60

_SOURCES = Path(__file__).parent
_log = logging.getLogger("fastnn")


def fingerprint() -> str:
    """A digest of all that compiled code depends on: the sources of this folder, the compiler, its options, the CPU."""
    digest = hashlib.sha256()
    for path in sorted(_SOURCES.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    versions = numba.__version__, llvmlite.__version__, np.__version__, platform.python_version()
    options = config.OPT, config.BOUNDSCHECK, config.LOOP_VECTORIZE, config.SLP_VECTORIZE, config.DEBUGINFO_DEFAULT
    digest.update("\0".join(map(str, (*versions, *options, ISA.name, *target()))).encode())
    return digest.hexdigest()[:24]


FINGERPRINT = fingerprint()


def _folders() -> list[Path]:
    """Where compiled kernels may lie, best first; any of them may be missing or read-only."""
    if config.CACHE_DIR:
        return [Path(config.CACHE_DIR) / "fastnn" / FINGERPRINT]
    user = AppDirs(appname="fastnn", appauthor=False).user_cache_dir
    return [_SOURCES / "__pycache__" / FINGERPRINT, Path(user) / FINGERPRINT]


FOLDERS = _folders()


class Cache(NullCache):
    """The compiled signatures of one function: read from every folder, written to the first that can be written."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for this signature, or None."""
        target_context.refresh()
        for folder in FOLDERS:
            # A file that is missing, damaged or out of reach is a miss, not an error.
            with contextlib.suppress(Exception):
                compiled = CompileResult._rebuild(target_context, *pickle.loads(self._file(folder, sig).read_bytes()))
                _mark_used(folder)
                return compiled
        _announce()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function, unless it holds addresses of this process or no folder can be written."""
        if data.library.has_dynamic_globals:
            return
        content = dumps(data._reduce())
        for folder in FOLDERS:
            with contextlib.suppress(OSError):
                _replace(self._file(folder, sig), content)
                return

    def _file(self, folder: Path, sig: Any) -> Path:
        return folder / f"{self._name}-{hashlib.sha256(str(sig).encode()).hexdigest()[:16]}.nbc"


def _replace(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all, whoever else writes it."""
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        prune(path.parent.parent)
    unfinished = path.with_suffix(f".{uuid.uuid4().hex[:16]}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def prune(parent: Path) -> None:
    """Remove the folders of fingerprints that no process has used for KEEP_DAYS."""
    oldest = time.time() - KEEP_DAYS * 24 * 3600
    with contextlib.suppress(OSError):
        for folder in list(parent.iterdir()):
            is_ours = re.fullmatch("[0-9a-f]{24}", folder.name) and folder.is_dir()
            if is_ours and folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def _mark_used(folder: Path) -> None:
    """Note down, once a process, that the folder is in use, for whoever prunes."""
    with contextlib.suppress(OSError):
        os.utime(folder)


@functools.cache
def _announce() -> None:
    """Say once a process that kernels are being compiled: it takes seconds, and silence looks like a hang."""
    _log.warning("fastnn: compiling kernels for this CPU, once for each dtype; later processes load them")
