"""Kernels compiled by a second process into the cache, while this one compiles what else a first call needs.

The helper is a Python process of its own, which is told on its standard input what to compile and never sees the
user's script, as one of ``multiprocessing`` would. It ends by itself when that input ends, as it does with this
process, however that goes. Where there can be none, or it fails, they are compiled here as ever.
"""

import atexit
import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...loading import stop_if_unwanted, undisturbed
from . import cache
from .cpu import available_cpus
from .turns import Turn

# Seconds after which nobody waits for a helper any longer.
PATIENCE = 60
_CODE = "import json, sys; order = json.loads(sys.stdin.readline()); sys.path[:] = order.pop('path'); " + (
    f"import importlib; importlib.import_module({__name__!r}).obey(**order)"
)


class _Helper:
    """A process that compiles one kernel, and the turn by which others see that they need start none."""

    def __init__(self, order: dict[str, Any], turn: Turn) -> None:
        self._turn = turn
        # In a group of its own, or Ctrl-C would reach it too, and on Windows without a console that opens.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        assert self._process.stdin is not None
        self._stdin = self._process.stdin
        atexit.register(self.end)
        with contextlib.suppress(OSError):
            self._stdin.write(json.dumps(order) + "\n")
            self._stdin.flush()

    def wait(self) -> None:
        """Wait until it is through."""
        latest = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < latest:
            stop_if_unwanted()
            time.sleep(0.005)
        self.end()

    def end(self) -> None:
        """End it, if it is not through."""
        atexit.unregister(self.end)
        self._process.kill()
        self._process.wait()
        self._turn.end()
        self._close()

    def disown(self) -> None:
        """Leave it to the process that this one was forked from."""
        atexit.unregister(self.end)
        self._process.returncode = 0
        self._turn.leave()
        self._close()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._stdin.close()


_helpers: dict[str, _Helper] = {}
_lock = threading.Lock()


def compile_ahead(functions: Sequence[Any], compile: Callable[[Any], None], dtype: np.dtype, n_threads: int) -> None:
    """Let a helper call ``compile(dtype)``, a function of a module, which compiles shared functions for a dtype.

    Whoever needs one of them meanwhile waits for it. There is no helper if the first is in the cache or another process
    has a helper for it, nor where kernels cannot be kept, where there is one CPU or one thread, or where this process
    is not Python's own program.
    """
    if n_threads < 2 or not _can_help() or functions[0].is_kept(dtype):
        return
    order = {
        "path": sys.path,
        "module": compile.__module__,
        "function": compile.__name__,
        "dtype": dtype.name,
        "fingerprint": cache.FINGERPRINT,
        "folder": str(cache.FOLDERS[-1]),
    }
    names = [function.file_name(dtype) for function in functions]
    name = names[0]
    with _lock, contextlib.suppress(OSError, ValueError, RuntimeError, TypeError):
        if name in _helpers:
            return
        turn = Turn(cache.made_folder() / f"{name}.ahead")
        if not turn.comes():
            turn.leave()
            return
        try:
            _helpers[name] = undisturbed(lambda: _Helper(order, turn))
        except BaseException:
            turn.end()
            raise
        for file in names:
            cache.AHEAD[file] = lambda: _wait_for(name)


def _wait_for(name: str) -> None:
    if (helper := _helpers.get(name)) is not None:
        helper.wait()
        _helpers.pop(name, None)  # not before: one that Ctrl-C leaves at work is still to be disowned in a child


def _can_help() -> bool:
    """Whether a second process may run, and what it leaves will be found."""
    program = Path(sys.executable or "").name
    is_python = bool(re.fullmatch(r"python[\d.]*[tdw]?(\.exe)?", program, re.IGNORECASE))
    return available_cpus() > 1 and is_python and not getattr(sys, "frozen", False) and bool(cache.FOLDERS)


def obey(module: str, function: str, dtype: str, fingerprint: str, folder: str) -> None:
    """Compile what was ordered, in a helper."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    kernels = importlib.import_module(module)
    if fingerprint == cache.FINGERPRINT:
        cache.FOLDERS[:] = [Path(folder)]
        getattr(kernels, function)(np.dtype(dtype))
    os._exit(0)


def _end_with_the_parent() -> None:
    os.read(0, 1)  # nothing more is written there
    os._exit(1)


def _disown_all() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have had the one before
    cache.AHEAD.clear()
    for helper in _helpers.values():
        helper.disown()
    _helpers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
