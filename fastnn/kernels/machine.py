"""What this machine can do at most: the yardsticks that the kernels are measured against."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ._cpu import ISA
from ._jit import kernel
from ._vector import data, fma, lanes, load, reduce_add

_CHAINS = 12  # independent sums: more than the latency times the throughput of a fused multiply-add


@kernel
def _fma_chains(x, steps):
    """Twelve independent chains of multiply-adds that never leave the registers."""
    p, w = data(x), lanes(data(x))
    a, b = load(p, 0), load(p, w)
    # Each chain starts from a value of its own, or the compiler would see that they are the same.
    c0, c1, c2, c3 = load(p, 2 * w), load(p, 3 * w), load(p, 4 * w), load(p, 5 * w)
    c4, c5, d0, d1 = load(p, 6 * w), load(p, 7 * w), load(p, 8 * w), load(p, 9 * w)
    d2, d3, d4, d5 = load(p, 10 * w), load(p, 11 * w), load(p, 12 * w), load(p, 13 * w)
    for _ in range(steps):
        c0, c1, c2, c3 = fma(c0, a, b), fma(c1, a, b), fma(c2, a, b), fma(c3, a, b)
        c4, c5, d0, d1 = fma(c4, a, b), fma(c5, a, b), fma(d0, a, b), fma(d1, a, b)
        d2, d3, d4, d5 = fma(d2, a, b), fma(d3, a, b), fma(d4, a, b), fma(d5, a, b)
    total = c0 + c1 + c2 + c3 + c4 + c5 + d0 + d1 + d2 + d3 + d4 + d5
    return reduce_add(total)


def fma_peak(dtype: Any, seconds: float = 0.02) -> float:
    """The most floating-point operations a second that one core did in several tries, registers only.

    A fused multiply-add counts as two, over the full vector width of this CPU.
    """
    task, flops = fma_task(dtype)
    task()
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        task()
        best = max(best, flops / (time.perf_counter() - start))
    return best


def fma_task(dtype: Any, steps: int = 20_000) -> tuple[Callable[[], object], int]:
    """Multiply-adds at the peak, to be timed in turns with something else, and how many operations they are."""
    x = np.linspace(0, 1e-3, (2 + _CHAINS) * width(dtype)).astype(dtype)
    return (lambda: _fma_chains(x, steps)), 2 * _CHAINS * width(dtype) * steps


def width(dtype: Any) -> int:
    """How many elements a vector of this CPU holds."""
    return max(1, ISA.bits // (8 * np.dtype(dtype).itemsize))
