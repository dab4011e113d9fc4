"""How exact a float32 product must be, in PyTorch's words; where the CPU has no faster way, all are the most exact."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias

import numpy as np

LEVELS = ("highest", "high", "medium")
Level: TypeAlias = Literal["highest", "high", "medium"]

# Not 0 once any other level than the most exact was asked for, as compiled code reads it that cannot know for whom.
WAS_LESS = np.zeros(1, np.int64)
_chosen: ContextVar[str | None] = ContextVar("fastnn_matmul_precision", default=None)
_default: str | None = None


def set_matmul_precision(precision: Level) -> None:
    """Let float32 products be computed to a precision, in all threads.

    On a CPU with a matrix unit for bfloat16 (Intel's AMX), a float32 is split into up to three bfloat16 there, each of
    8 binary digits, and a product is the sum of some products of these parts, added up in float32. It reaches every
    product that is large enough to gain: those of :func:`fastnn.matmul` and :func:`fastnn.linear`, of training, with
    all three products of a layer, and of prediction. float64 is never split, and where there is no such unit, all
    products are those of "highest".

    Parameters
    ----------
    precision : {"highest", "high", "medium"}
        "highest", the default, is as exact as float32 multiply-adds are: six products of parts. "high" takes three,
        for an error of about 2^-16 of a product, and "medium" one, of about 2^-8.

    Raises
    ------
    ValueError
        If there is no such precision.

    See Also
    --------
    use_matmul_precision : The same for a ``with`` block.
    """
    global _default
    _default = _checked("precision", precision)


def get_matmul_precision() -> str:
    """Return the precision of float32 products: "highest", "high" or "medium".

    It is that of the innermost :func:`use_matmul_precision` block, or else what :func:`set_matmul_precision` has set,
    or else the environment variable ``FASTNN_MATMUL_PRECISION``, or "highest".

    Raises
    ------
    ValueError
        If the variable holds no such precision.
    """
    return _chosen.get() or _default or _initial()


@contextmanager
def use_matmul_precision(precision: Level) -> Iterator[None]:
    """Compute float32 products inside the ``with`` block to a precision, see :func:`set_matmul_precision`.

    The choice holds for the current thread (and for the current task of asyncio) and all that it calls; a call that has
    begun keeps the precision that it began with.

    Parameters
    ----------
    precision : {"highest", "high", "medium"}

    Raises
    ------
    ValueError
        If there is no such precision.

    Examples
    --------
    >>> import fastnn as fnn
    >>> with fnn.use_matmul_precision("medium"):
    ...     fnn.get_matmul_precision()
    'medium'
    """
    token = _chosen.set(_checked("precision", precision))
    try:
        yield
    finally:
        _chosen.reset(token)


def _initial() -> str:
    global _default
    _default = _checked("FASTNN_MATMUL_PRECISION", os.environ.get("FASTNN_MATMUL_PRECISION", "").strip() or "highest")
    return _default


def _checked(name: str, precision: Any) -> str:
    if not isinstance(precision, str) or precision not in LEVELS:
        raise ValueError(f"{name} is {precision!r}, expected one of {', '.join(map(repr, LEVELS))}")
    if precision != LEVELS[0]:
        WAS_LESS[0] = 1
    return precision
