"""The yardsticks: what they compute and count, and how a rate is taken; never how fast this machine is."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from fastnn.kernels import machine


def test_triad(rng, dtype):
    n = 12 * machine.width(dtype)
    a, b, c = np.zeros(n, dtype), rng.normal(size=n).astype(dtype), rng.normal(size=n).astype(dtype)
    machine._triad(a, b, c, dtype(0.5), 3)
    np.testing.assert_allclose(a, b + 0.5 * c, rtol=1e-6)


@pytest.mark.parametrize("kib", [0, 1, 10, 300, 5000])
def test_the_bytes_of_a_triad(kib, dtype):
    """Three arrays of whole groups of four vectors, as often as 64 MiB need."""
    task, moved = machine.triad_task(kib << 10, dtype)
    a, b, c, scalar, times = task.args
    group = 3 * 4 * machine.width(dtype) * np.dtype(dtype).itemsize
    used = a.nbytes + b.nbytes + c.nbytes
    assert a.dtype == b.dtype == c.dtype == dtype
    assert used % group == 0
    assert used == group if kib == 0 else (kib << 10) - group < used <= max(kib << 10, group)
    assert moved == times * used >= 64 << 20
    task()
    assert (a == 1 + scalar * 2).all()


def test_the_operations_of_the_chains(dtype):
    """Twelve chains of multiply-adds, two operations an element."""
    task, flops = machine.fma_task(dtype, steps=7)
    assert flops == 7 * 12 * 2 * machine.width(dtype)
    assert math.isfinite(task())


@pytest.mark.parametrize("threads", [1, 2])
def test_rates(threads, dtype):
    for rate in (machine.fma_peak(dtype, 0.001, threads), machine.bandwidth(1 << 14, 0.001, threads, dtype)):
        assert math.isfinite(rate)
        assert rate > 0


@pytest.mark.parametrize("threads", [1, 3])
def test_the_best_of_all_tries_counts(threads, monkeypatch):
    """Tries of 4, 2 and 5 seconds, and then the time is up."""
    readings = iter([0, 0, 4, 5, 6, 8, 9, 10, 15, 15])
    monkeypatch.setattr(machine, "time", SimpleNamespace(perf_counter=lambda: float(next(readings))))
    calls = []
    assert machine._best_rate([lambda: calls.append(1)] * threads, 70, 12.0) == threads * 70 / 2
    assert len(calls) == 4 * threads
