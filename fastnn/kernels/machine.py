"""What this machine can do at most: the yardsticks that the kernels are measured against."""

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .compiler.cpu import ISA
from .compiler.jit import kernel
from .simd.vector import data, fma, lanes, load, reduce_add, store

_CHAINS = 12  # independent sums: more than the latency times the throughput of a fused multiply-add
# What one call does at least, so that starting it, and on several threads waiting for the last, costs little beside it.
_TRIAD_BYTES = 1 << 26
# About ten milliseconds: under wide vectors the clock takes one or two to come to rest.
_STEPS = 5_000_000


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


@kernel
def _triad(a, b, c, scalar, times):
    """a = b + scalar c, several times; the length is a multiple of four vectors."""
    x, y, z, w = data(a), data(b), data(c), lanes(data(a))
    for _ in range(times):
        for i in range(0, len(a), 4 * w):
            for j in range(i, i + 4 * w, w):
                store(x, j, fma(load(z, j), scalar, load(y, j)))


def fma_peak(dtype: Any, seconds: float = 0.1, threads: int = 1) -> float:
    """The most floating-point operations a second that ``threads`` cores did in several tries, registers only.

    A fused multiply-add counts as two, over the full vector width of this CPU.
    """
    task, flops = fma_task(dtype)
    return _best_rate([task] * threads, flops, seconds)


def fma_task(dtype: Any, steps: int = _STEPS) -> tuple[Callable[[], object], int]:
    """Multiply-adds at the peak, to be timed in turns with something else, and how many operations they are."""
    x = np.linspace(0, 1e-3, (2 + _CHAINS) * width(dtype)).astype(dtype)
    return functools.partial(_fma_chains, x, steps), 2 * _CHAINS * width(dtype) * steps


def bandwidth(n_bytes: int, seconds: float = 0.1, threads: int = 1, dtype: Any = np.float32) -> float:
    """The most bytes a second that a triad over ``n_bytes`` of memory, shared by the threads, moved in several tries.

    Read and written bytes are counted once each, as the STREAM benchmark does (J. D. McCalpin, Memory bandwidth and
    machine balance in current high performance computers, IEEE TCCA Newsletter, 1995); that a cache reads what it is
    going to overwrite is not.
    """
    tasks = [triad_task(n_bytes // threads, dtype) for _ in range(threads)]
    return _best_rate([task for task, _ in tasks], tasks[0][1], seconds)


def triad_task(n_bytes: int, dtype: Any = np.float32) -> tuple[Callable[[], object], int]:
    """A triad a = b + s c over three arrays of ``n_bytes`` in all, and the bytes that a call moves."""
    unit = 4 * width(dtype)
    n = max(1, n_bytes // (3 * np.dtype(dtype).itemsize * unit)) * unit
    a, b, c = (np.full(n, value, dtype) for value in (0, 1, 2))
    once = 3 * a.nbytes
    times = -(-_TRIAD_BYTES // once)
    scalar = a.dtype.type(0.5)
    return functools.partial(_triad, a, b, c, scalar, times), times * once


def width(dtype: Any) -> int:
    """How many elements a vector of this CPU holds."""
    return ISA.lanes(np.dtype(dtype).itemsize)


def _best_rate(tasks: Sequence[Callable[[], object]], amount: int, seconds: float) -> float:
    """The best of ``len(tasks) * amount`` over the time of all tasks at once, each on a thread of its own."""
    for task in tasks:
        task()
    best, end = 0.0, time.perf_counter() + seconds
    with ThreadPoolExecutor(len(tasks)) as pool:
        while best == 0.0 or time.perf_counter() < end:
            start = time.perf_counter()
            if len(tasks) == 1:
                tasks[0]()
            else:
                for done in [pool.submit(task) for task in tasks]:
                    done.result()
            best = max(best, len(tasks) * amount / (time.perf_counter() - start))
    return best
