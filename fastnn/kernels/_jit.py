"""The one decorator of every compiled function: flags, the named fastmath set, and a cache that is never stale.

Numba's own cache looks at the file of the function it compiles, so an edit in a callee that lives in another file goes
unseen. Here the cache folder carries a digest of everything that a compiled kernel depends on: all sources of this
folder, Numba, llvmlite, Python, and the CPU. A change of any of them is another folder.
"""

import contextlib
import hashlib
import logging
import os
import platform
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _CacheLocator
from numba.core.ccallback import CFunc
from numba.extending import intrinsic
from numba.misc.appdirs import AppDirs

from ._cpu import ISA, target

# Contraction into fused multiply-adds is all that kernels allow: no nnan and no ninf, so NaN and infinity survive, and
# no reassoc, so a sum has one order whatever the loop around it looks like.
FASTMATH = ("contract",)

_FOLDER = Path(__file__).parent
_log = logging.getLogger("fastnn")


def fingerprint() -> str:
    """A digest of all that compiled code depends on."""
    digest = hashlib.sha256()
    for path in sorted(_FOLDER.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    facts = (numba.__version__, llvmlite.__version__, platform.python_version(), ISA.name, *target())
    digest.update("\0".join(facts).encode())
    digest.update(os.environ.get("NUMBA_BOUNDSCHECK", "").encode())
    return digest.hexdigest()[:24]


def _cache_folders() -> list[Path]:
    """Where compiled kernels may lie, best first; any of them may be missing or read-only."""
    if config.CACHE_DIR:
        return [Path(config.CACHE_DIR) / "fastnn" / _FINGERPRINT]
    user = AppDirs(appname="fastnn", appauthor=False).user_cache_dir
    return [_FOLDER / "__pycache__" / _FINGERPRINT, Path(user) / _FINGERPRINT]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


_FINGERPRINT = fingerprint()
_FOLDERS = _cache_folders()


class _Locator(_CacheLocator):
    """Points Numba's cache at the folder of the fingerprint."""

    def __init__(self) -> None:
        self._folder = next((folder for folder in _FOLDERS if _writable(folder)), _FOLDERS[0])

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "_Locator":
        return cls()

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return _FINGERPRINT

    def get_disambiguator(self) -> str:
        return "1"


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _Cache(FunctionCache):
    """Reads from every folder, writes to the first that can be written, and does without where none can."""

    _impl_class = _CacheImpl

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        for folder in _FOLDERS:
            self._cache_file = IndexDataCacheFile(str(folder), self._impl.filename_base, _FINGERPRINT)
            # A file that another process is writing, or that a full disk cut short, is a miss, not an error.
            with contextlib.suppress(Exception):
                loaded = super().load_overload(sig, target_context)
                if loaded is not None:
                    return loaded
        _announce()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, _FINGERPRINT)
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


_announced = False


def _announce() -> None:
    """Say once a process that kernels are being compiled: it takes seconds, and silence looks like a hang."""
    global _announced
    if not _announced:
        _announced = True
        _log.warning("fastnn: compiling kernels for this CPU, once for each dtype; later processes load them")


def kernel(function: Callable[..., Any]) -> Any:
    """Compile an entry point: called from Python, cached on disk, releases the GIL."""
    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = _Cache(function)
    return dispatcher


def inline(function: Callable[..., Any]) -> Any:
    """Compile a function that only other compiled functions call."""
    return numba.njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


class Shared:
    """A compiled function that others call through its address, so that its code is compiled and cached just once.

    Numba links the code of a callee into every caller and optimises it there again: for the matrix product, seconds
    for each entry point. ``signature`` gives the Numba signature for a float type.
    """

    def __init__(self, function: Callable[..., Any], signature: Callable[[Any], Any]) -> None:
        self._function, self._signature = function, signature
        self._compiled: dict[Any, CFunc] = {}
        self._lock = threading.Lock()

    def caller(self) -> Any:
        """A compiled function (address, dtype, arguments...) that calls the code at an address."""
        of_dtype = self._signature

        @intrinsic
        def call(typing: Any, address: Any, like: Any, arguments: Any) -> Any:
            signature = of_dtype(like.dtype)

            def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                values = cgutils.unpack_tuple(builder, args[2])
                kinds = [context.get_value_type(kind) for kind in signature.args]
                pointer = ir.FunctionType(ir.VoidType(), kinds).as_pointer()
                builder.call(builder.inttoptr(args[0], pointer), values)
                return context.get_dummy_value()

            return types.void(types.intp, like, types.Tuple(signature.args)), emit

        return call

    def address(self, dtype: Any) -> int:
        """The address of the code for a NumPy dtype, compiled or loaded at the first call."""
        compiled = self._compiled.get(dtype)
        if compiled is None:
            with self._lock:
                compiled = self._compiled.get(dtype) or self._compile(dtype)
                self._compiled[dtype] = compiled
        return int(compiled.address)

    def _compile(self, dtype: Any) -> CFunc:
        kind = self._signature(numba.from_dtype(np.dtype(dtype)))
        compiled = CFunc(self._function, (kind.args, kind.return_type), {}, {"error_model": "numpy"})
        compiled._cache = _Cache(self._function)
        compiled.compile()
        return compiled


def shared(signature: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Shared]:
    """Compile a function once for each dtype, to be called through its address; see ``Shared``."""
    return lambda function: Shared(function, signature)
