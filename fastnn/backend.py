"""Which twin runs: the compiled kernels ("numba") or their reference in pure NumPy ("numpy").

Numba is imported at the first use of its backend, so importing fastnn stays as cheap as importing NumPy.
"""

import functools
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from .loading import undisturbed
from .validation import positive_int

MODULES = {"numba": "fastnn.kernels", "numpy": "fastnn.reference"}

_loaded: dict[str, Any] = {}
_chosen: ContextVar[Any] = ContextVar("fastnn_backend", default=None)


def active() -> Any:
    """Return the module whose functions compute: :mod:`fastnn.kernels` or :mod:`fastnn.reference`."""
    return _chosen.get() or _loaded.get("default") or _load_default()


@contextmanager
def use_backend(name: Literal["numba", "numpy"]) -> Iterator[None]:
    """Run everything inside the ``with`` block on the named backend.

    The choice holds for the current thread (and for the current task of asyncio); a thread that is started inside the
    block starts with the default, which is the environment variable ``FASTNN_BACKEND`` or else "numba".

    Parameters
    ----------
    name : {"numba", "numpy"}
        The compiled kernels, or their twins in pure NumPy.

    Raises
    ------
    ValueError
        If there is no backend of that name.
    """
    token = _chosen.set(_load(name, "backend"))
    try:
        yield
    finally:
        _chosen.reset(token)


def set_num_threads(n: int) -> None:
    """Let the compiled kernels use ``n`` threads; the results are the same bits for every ``n``.

    Raises
    ------
    TypeError, ValueError
        If ``n`` is not a positive integer, or more than 1024.
    """
    n, threads = positive_int("n", n), _threads()
    if n > threads.MOST:
        raise ValueError(f"n is {n}, expected at most {threads.MOST} threads")
    threads.set_num_threads(n)


def get_num_threads() -> int:
    """Return the number of threads that the compiled kernels use."""
    return int(_threads().get_num_threads())


@contextmanager
def limit_threads(n: int) -> Iterator[None]:
    """Let compiled kernels use at most ``n`` of their threads inside the block, for calls from the current thread."""
    with _threads().limit_threads(n):
        yield


def share_out(calls: Sequence[Callable[[], None]]) -> None:
    """Make calls that use one thread each on the threads of the compiled kernels; the NumPy backend has one."""
    if active() is _loaded.get("numba"):
        _threads().share_out(calls)
        return
    for call in calls:
        call()


def _threads() -> Any:
    return _import("fastnn.kernels.threading.team")


def _load_default() -> Any:
    module = _load(os.environ.get("FASTNN_BACKEND", "numba"), "FASTNN_BACKEND")
    _loaded["default"] = module
    return module


def _load(name: str, origin: str) -> Any:
    if not isinstance(name, str) or name not in MODULES:
        raise ValueError(f"{origin} is {name!r}, but the backends are {', '.join(map(repr, MODULES))}")
    if name not in _loaded:
        _loaded[name] = _import(MODULES[name])
    return _loaded[name]


@functools.cache
def _import(module: str) -> Any:
    return undisturbed(lambda: importlib.import_module(module))
