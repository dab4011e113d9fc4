"""A limit on the threads of the kernels for the calls of one estimator."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ..backend import limit_threads

_UNLIMITED: AbstractContextManager[Any] = nullcontext()


def limited_threads(n: int | None) -> AbstractContextManager[Any]:
    """Return a context in which kernels called from this thread use at most n threads, or as many as ever for None."""
    return _UNLIMITED if n is None else limit_threads(n)
