"""The one decorator of every compiled function: flags, the named fastmath set, and what of Numba kernels need."""

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import numpy.ma  # Numba would, at the first call, where a signal can interrupt it
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.ccallback import CFunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import _Intrinsic, intrinsic

from ...loading import stop_if_unwanted, undisturbed
from .cache import Cache
from .libraries import FinishedLibrary, InlineLibrary, Library, LightLibrary, PartLibrary
from .lowering import without_references
from .turns import one_turn

if config.DISABLE_JIT:
    raise ValueError(
        f"NUMBA_DISABLE_JIT is {config.DISABLE_JIT}, but kernels run compiled only: unset it, or run their twins with "
        "FASTNN_BACKEND=numpy"
    )

# Contraction into fused multiply-adds is all that kernels allow: no nnan and no ninf, so NaN and infinity survive, and
# no reassoc, so a sum has one order whatever the loop around it looks like.
FASTMATH = ("contract",)

_OPTIONS = {"error_model": "numpy"}

if hasattr(os, "register_at_fork"):
    # A child that is forked while another thread compiles would wait for that thread forever.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


# What Numba does to closures, to its own functions in Python and to expressions of whole arrays: kernels have none.
_UNNEEDED = {"inline_closure_likes", "inline_overloads", "nopython_rewrites", "ir_processing"}


def _counts_references(kind: Any) -> bool:
    """Whether values of a Numba type hold on to memory; a function of others need not look after each of them."""
    if isinstance(kind, types.BaseTuple):
        return any(map(_counts_references, kind))
    return isinstance(kind, (types.Buffer, types.Optional, types.Omitted))


class _Remembering:
    """Looks up once what an operator, an intrinsic or a kernel gives for some types, where Numba does it each time."""

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        """The signature of a call."""
        signatures = None if kws else _signatures_of(func)
        if signatures is None:
            return super().resolve_function_type(func, args, kws)  # type: ignore[misc]
        known = signatures.get(args)
        if known is None:
            known = signatures[args] = super().resolve_function_type(func, args, kws)  # type: ignore[misc]
        return known


_signatures: dict[Any, dict[Any, Any]] = {}
_twins: dict[int, Any] = {}


def _signatures_of(function: Any) -> dict[Any, Any] | None:
    """By types of arguments the known signatures of a function, or None where they may depend on more."""
    if isinstance(function, types.Dispatcher):
        return getattr(function.dispatcher, "signatures_known", None)
    if not isinstance(function, types.Function):
        return None
    key = function.typing_key
    is_plain = getattr(key, "__module__", "") == "_operator" or isinstance(key, _Intrinsic)
    return _signatures.setdefault(function, {}) if is_plain else None


def _remembering(context: Any) -> Any:
    """Numba's types of everything, as they are, with a memory."""
    if isinstance(context, _Remembering):
        return context
    if id(context) not in _twins:
        twin = object.__new__(type("Remembering", (_Remembering, type(context)), {}))
        twin.__dict__ = context.__dict__
        _twins[id(context)] = twin
    return _twins[id(context)]


class _AnyCompiler(Compiler):
    """Compiles into a library of ours."""

    library: type[JITCodeLibrary] = Library

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        stop_if_unwanted()
        self.state.library = self.library(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)


class _Compiler(_AnyCompiler):
    """Compiles kernels, for which much of Numba is not needed."""

    def __init__(self, typing: Any, target: Any, library: Any, args: Any, result: Any, flags: Any, *rest: Any) -> None:
        flags.nrt = any(map(_counts_references, args))
        super().__init__(_remembering(typing), target, library, args, result, flags, *rest)

    def define_pipelines(self) -> list[Any]:
        pipelines = super().define_pipelines()
        for pipeline in pipelines:
            steps = [step for step in pipeline.passes if step[0].name() not in _UNNEEDED]
            flags = self.state.flags
            pipeline.passes = steps if flags.nrt or flags.debuginfo else without_references(steps)
            pipeline.finalize()
        return pipelines


class _FinishedCompiler(_Compiler):
    library = FinishedLibrary


class _LightCompiler(_Compiler):
    library = LightLibrary


class _InlineCompiler(_Compiler):
    library = InlineLibrary


class UsersCompiler(_AnyCompiler):
    """Compiles a user's function, in which anything may stand, to be linked into its callers."""

    library = PartLibrary

    def __init__(self, typing: Any, target: Any, library: Any, args: Any, result: Any, flags: Any, *rest: Any) -> None:
        flags.nrt = True  # whatever the kernel has that is just being compiled
        super().__init__(typing, target, library, args, result, flags, *rest)


# New objects after which something was compiled, and not just loaded.
_MANY = 50_000


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage meanwhile: what Numba makes stays, and to look through it takes a tenth of the time.

    Nor at once after compiling, for which all that is new counts as old, unless something is frozen and would be no
    more.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > _MANY and gc.get_freeze_count() == 0:
            gc.freeze()
            gc.unfreeze()
        if was_enabled:
            gc.enable()


def _undisturbed(compile: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def compile_kernel(signature: Any) -> Any:
        def in_one_turn() -> Any:
            with one_turn():
                return compile(signature)

        with _no_collection():
            return undisturbed(in_one_turn)

    return compile_kernel


def kernel(function: Callable[..., Any]) -> Any:
    """Compile an entry point: called from Python, cached on disk, releases the GIL."""
    dispatcher = numba.njit(nogil=True, no_cfunc_wrapper=True, pipeline_class=_Compiler, **_OPTIONS)(function)
    dispatcher._cache = Cache(function)
    dispatcher.compile = _undisturbed(dispatcher.compile)
    dispatcher.get_call_template = _refuse_callers
    return dispatcher


def _refuse_callers(args: Any, kws: Any) -> Any:
    """Say that an entry point cannot be linked into compiled code, as the cache keeps machine code alone."""
    raise TypeError("an entry point is called from Python alone: what compiled code calls is inline")


def inline(function: Callable[..., Any], compiler: type[Compiler] = _InlineCompiler) -> Any:
    """Compile a function that only other compiled functions call."""
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": compiler, **_OPTIONS}
    dispatcher = numba.njit(**options)(function)
    dispatcher.signatures_known = {}
    template = dispatcher.get_call_template
    # Or Numba would compile a function anew for every constant that it is called with.
    dispatcher.get_call_template = lambda args, kws: template([types.unliteral(arg) for arg in args], kws)
    return dispatcher


def caller(signature: Callable[[Any], Any]) -> Any:
    """A compiled function (address, pointer to the dtype, arguments) that calls code of a signature at an address."""

    @intrinsic
    def call(typing: Any, address: Any, like: Any, arguments: Any) -> Any:
        of_dtype = signature(like.dtype)

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            values = cgutils.unpack_tuple(builder, args[2])
            kinds = [context.get_value_type(kind) for kind in of_dtype.args]
            gives = of_dtype.return_type != types.void
            result = context.get_value_type(of_dtype.return_type) if gives else ir.VoidType()
            pointer = ir.FunctionType(result, kinds).as_pointer()
            value = builder.call(builder.inttoptr(args[0], pointer), values)
            return value if gives else context.get_dummy_value()

        return of_dtype.return_type(types.intp, like, types.Tuple(of_dtype.args)), emit

    return call


class Shared:
    """A compiled function that others call through its address, so that its code is compiled and cached just once.

    Numba links the code of a callee into every caller and optimises it there again: for the matrix product, seconds
    for each entry point. ``signature`` gives the Numba signature for a float type. A function is ``finished`` if it
    calls LLVM code by hand, which optimising makes no faster, see ``finished_module``, and ``light`` if its loops are
    in functions behind addresses. ``name`` tells functions apart that one piece of code makes.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        signature: Callable[[Any], Any],
        finished: bool = False,
        light: bool = False,
        name: str = "",
    ) -> None:
        if name:
            function.__qualname__ = f"{function.__qualname__}.{name}"
        self._function, self._signature, self._name = function, signature, name
        self._compiler = _FinishedCompiler if finished else _LightCompiler if light else _Compiler
        self._compiled: dict[Any, CFunc] = {}
        self._addresses: dict[Any, int] = {}

    def caller(self) -> Any:
        """A compiled function (address, dtype, arguments...) that calls the code at an address."""
        return caller(self._signature)

    def address(self, dtype: Any) -> int:
        """The address of the code for a NumPy dtype, compiled or loaded at the first call."""
        address = self._addresses.get(dtype)
        if address is None:
            address = self._addresses[dtype] = int(_undisturbed(self._compile)(dtype).address)
        return address

    def addresses(self, dtype: Any) -> tuple[int, ...]:
        """The address alone in a tuple, as what is made of several functions gives theirs."""
        return (self.address(dtype),)

    def assembly(self, dtype: Any) -> str:
        """The machine code, to be read, if it was compiled in this process."""
        return str(self._compile(np.dtype(dtype))._library.get_asm_str())

    @global_compiler_lock
    def _compile(self, dtype: Any) -> CFunc:
        if dtype in self._compiled:  # by another thread meanwhile
            return self._compiled[dtype]
        compiled = self._uncompiled(dtype)
        compiled.compile()
        self._compiled[dtype] = compiled
        return compiled

    def file_name(self, dtype: Any) -> str:
        """The name of the file in the cache for a dtype."""
        uncompiled = self._uncompiled(dtype)
        return str(uncompiled._cache.file_name(uncompiled._sig))

    def is_kept(self, dtype: Any) -> bool:
        """Whether the code for a dtype is there, or can be loaded."""
        uncompiled = self._uncompiled(dtype)
        return dtype in self._compiled or bool(uncompiled._cache.is_kept(uncompiled._sig))

    def _uncompiled(self, dtype: Any) -> CFunc:
        kind = self._signature(numba.from_dtype(np.dtype(dtype)))
        function = CFunc(self._function, (kind.args, kind.return_type), {}, _OPTIONS, pipeline_class=self._compiler)
        function._cache = Cache(self._function, self._name)
        return function


def shared(
    signature: Callable[[Any], Any], finished: bool = False, light: bool = False
) -> Callable[[Callable[..., Any]], Shared]:
    """Compile a function once for each dtype, to be called through its address; see ``Shared``."""
    return lambda function: Shared(function, signature, finished, light)
