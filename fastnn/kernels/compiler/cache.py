"""The cache of compiled kernels on disk: never stale, filled by any number of processes, done without where it must be.

Numba's own cache looks at the file of the function it compiles, so an edit in a callee that lives in another file goes
unseen, and two processes that save different signatures of one function at once can mix them up in its index. Here the
folder carries a fingerprint of everything that a compiled kernel depends on, and each signature has a file of its own,
replaced as a whole.
"""

import contextlib
import functools
import hashlib
import importlib.resources
import logging
import os
import pickle
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import config
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

from ... import codes
from . import turns
from .cpu import ISA, target
from .store import distrust, make, prune, read, write

# Primed by ``python -m fastnn.warmup --all-users``. Beside the sources it would outlive them when they are uninstalled.
KERNELS = __package__.rpartition(".")[0]
FOR_ALL_USERS = Path(sys.prefix, "var", "cache", "fastnn")

_log = logging.getLogger("fastnn")


def fingerprint(sources: Any = None) -> str | None:
    """A digest of all that compiled code depends on: the kernels' files, the codes, the compiler, its options, the CPU.

    None where the files cannot be read, as in a frozen application: what kernels are made of is not known there.
    """
    digest = hashlib.sha256()
    try:
        files = list(_files(sources or importlib.resources.files(KERNELS)))
    except OSError:
        files = []
    for name, content in files:
        digest.update(name.encode() + b"\0" + content + b"\0")
    versions = numba.__version__, llvmlite.__version__, np.__version__, platform.python_version()
    options = config.OPT, config.BOUNDSCHECK, config.LOOP_VECTORIZE, config.SLP_VECTORIZE, config.DEBUGINFO_DEFAULT
    numbers = (f"{name} {value}" for name, value in vars(codes).items() if name.isupper())
    digest.update("\0".join(map(str, (*versions, *options, ISA.name, *target(), *numbers))).encode())
    return digest.hexdigest()[:24] if files else None


def _files(folder: Any) -> Iterator[tuple[str, bytes]]:
    """Sources, or the bytecode that is there instead, in a folder or an archive."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith((".py", ".pyc")):
            yield entry.name, entry.read_bytes()
        elif entry.is_dir() and entry.name != "__pycache__":
            yield from _files(entry)


FINGERPRINT = fingerprint()


def _folders() -> list[Path]:
    """Where compiled kernels may lie: all are read, the last one is written."""
    if FINGERPRINT is None:
        return []
    if config.CACHE_DIR:
        return [Path(config.CACHE_DIR, "fastnn", FINGERPRINT)]
    user = Path(AppDirs(appname="fastnn", appauthor=False).user_cache_dir, FINGERPRINT)
    return [FOR_ALL_USERS / FINGERPRINT, user] if os.name == "posix" else [user]


FOLDERS = _folders()


def keep_for_all_users() -> Path:
    """Let what is compiled from now on lie where all users read it; OSError if this user, or anybody else, cannot."""
    if FINGERPRINT is None or os.name != "posix":
        raise PermissionError("a folder for all users needs sources on disk, and a system that shows who can write it")
    folder = FOR_ALL_USERS / FINGERPRINT
    make(folder)  # and prune nothing: those who only read it cannot mark what they use
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} cannot be written")
    FOLDERS[:] = [folder]
    return folder


def made_folder() -> Path:
    """The folder that is written; OSError if there can be none. Beside a new one, those that nobody uses go."""
    folder = FOLDERS[-1]
    is_new = not folder.exists()
    make(folder)
    if is_new:
        prune(folder.parent)
    return folder


# By the names of the files that other processes are about to write, how to wait for each; see ``ahead``.
AHEAD: dict[str, Callable[[], None]] = {}


class Cache(NullCache):
    """The compiled signatures of one function: read from every folder, written to the last."""

    def __init__(self, function: Callable[..., Any], name: str = "") -> None:
        self._name = f"{Path(function.__code__.co_filename).stem}.{name or function.__qualname__}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for this signature, or None."""
        # Whoever compiles takes in all that Numba and its extensions know, and imports scipy for it; code does not.
        rtsys.initialize(target_context)
        compiled = self._load(sig, target_context)
        if compiled is None:
            _announce()
        if AHEAD and (wait := AHEAD.pop(self.file_name(sig), None)) is not None:
            wait()  # or it would stay for as long as this process, where it was through before
            compiled = self._load(sig, target_context) if compiled is None else compiled
        if compiled is None and FOLDERS:
            try:
                place = made_folder() / self.file_name(sig)
            except OSError:
                return None
            turns.wait(place)
            compiled = self._load(sig, target_context)
        return compiled

    def _load(self, sig: Any, target_context: Any) -> Any:
        for folder in FOLDERS:
            content = read(folder / self.file_name(sig))
            # What was whole when it was written may still not fit, as when Numba itself was changed: a miss.
            with contextlib.suppress(Exception):
                if content is not None:
                    compiled = CompileResult._rebuild(target_context, *pickle.loads(content))
                    _mark_used(folder)
                    return compiled
        return None

    def is_kept(self, sig: Any) -> bool:
        """Whether there is a file for this signature."""
        return any((folder / self.file_name(sig)).exists() for folder in FOLDERS)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function, unless it holds addresses of this process or the folder cannot be written."""
        if data.library.has_dynamic_globals or not FOLDERS:
            return
        with contextlib.suppress(OSError, RuntimeError):  # of the disk, and of LLVM, which compiled it
            write(made_folder() / self.file_name(sig), dumps(_without_bitcode(data)))

    def file_name(self, sig: Any) -> str:
        """The name of the file for a signature."""
        return f"{self._name}-{hashlib.sha256(str(sig).encode()).hexdigest()[:16]}.nbc"


def _without_bitcode(compiled: Any) -> tuple[Any, ...]:
    """What Numba keeps of a compiled function, but of its bitcode only the names of what it defines.

    Numba keeps that to link it into callers, which entry points have none of, and to know the names; reading it takes
    longer than reading the machine code.
    """
    (name, kind, (code, _)), *rest = compiled._reduce()
    module = compiled.library._get_module_for_linking()
    names, nothing = ir.Module(), ir.FunctionType(ir.VoidType(), [])
    for each in (*module.functions, *module.global_variables):
        if not each.is_declaration and not each.name.startswith("llvm."):
            block = ir.Function(names, nothing, each.name).append_basic_block()
            ir.IRBuilder(block).unreachable()
    return (name, kind, (code, llvm.parse_assembly(str(names)).as_bitcode())), *rest


@functools.cache
def _mark_used(folder: Path) -> None:
    """Note down, once a process, that the folder is in use, for whoever prunes."""
    with contextlib.suppress(OSError):
        os.utime(folder)


@functools.cache
def _announce() -> None:
    """Say once a process that kernels are being compiled: it takes seconds, and silence looks like a hang."""
    reason = distrust(FOLDERS[-1]) if FOLDERS else "the files of fastnn cannot be read"
    kept = "later processes load them" if reason is None else f"they are not kept, because {reason}"
    _log.warning("fastnn: compiling kernels for this CPU, once for each dtype; %s", kept)
