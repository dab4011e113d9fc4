"""Where the time of an epoch goes: both twins fill the same table."""

import ctypes
import itertools
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest

from fastnn import kernels, reference
from fastnn.kernels.network import clock as clock_module
from fastnn.kernels.network import epoch as kernels_epoch
from fastnn.kernels.threading import team
from fastnn.reference.network import epoch as reference_epoch
from tests.cases import NETWORKS
from tests.networks import RULES, batches, build, objective, problem, rule

posix = pytest.mark.skipif(os.name == "nt", reason="the clock of Windows is called in another way")


@pytest.fixture
def ticking(monkeypatch):
    """Both twins read a clock that moves on by one second each time it is read."""
    ticks = itertools.count(1000)

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_int64))
    def clock_gettime(which, place):
        assert which == time.CLOCK_MONOTONIC
        place[0], place[1] = next(ticks), 0
        return 0

    address = ctypes.cast(clock_gettime, ctypes.c_void_p).value
    monkeypatch.setattr(clock_module, "system_clock", lambda: (address, 1e-9))
    monkeypatch.setattr(reference_epoch, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    yield
    del clock_gettime


def laps(network, steps):
    """How often each cell gets a lap: no gradient goes below the first linear op, and only linear ops are updated."""
    linear = network.ops[:, 0] == 0
    after_the_first = np.cumsum(linear) - linear > 0
    rows = np.stack([np.ones(len(linear)), after_the_first, linear], axis=1)
    return steps * np.vstack([rows, [1, 1, 2]])


def timed(module, case, rng, dtype, name="sgd", samples=37, batch_size=8, epochs=1):
    """The network, and the table of some epochs."""
    network, params = build(case, rng, dtype)
    data = batches(*problem(case, samples, "labels", rng, dtype), batch_size)
    seconds = np.zeros((len(network.ops) + 1, 3))
    for _ in range(epochs):
        module.train_epoch(network, params, data, objective("cross_entropy", 0.01), rule(name, params, 0.01), seconds)
    return network, seconds


@posix
@pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])
@pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS)
def test_every_cell_gets_its_laps(case, module, ticking, rng):
    network, seconds = timed(module, case, rng, np.float32)
    np.testing.assert_allclose(seconds, laps(network, 5), rtol=1e-12)


@posix
@pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])
def test_seconds_are_added(module, ticking, rng, dtype):
    network, seconds = timed(module, NETWORKS["one hidden layer"], rng, dtype, "adam", epochs=3)
    np.testing.assert_allclose(seconds, laps(network, 15), rtol=1e-12)


@posix
def test_the_calling_thread_alone_is_timed(ticking, rng, dtype, monkeypatch):
    before = team.get_num_threads()
    monkeypatch.setattr(team, "GRAIN", 1)
    monkeypatch.setattr(team, "WAKING_GRAIN", 1)
    monkeypatch.setattr(kernels_epoch, "STEP_GRAIN", 1)
    team.set_num_threads(2)
    try:
        network, seconds = timed(kernels, NETWORKS["two hidden layers"], rng, dtype, samples=200, batch_size=100)
    finally:
        team.set_num_threads(before)
    np.testing.assert_allclose(seconds, laps(network, 2), rtol=1e-12)


@pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])
@pytest.mark.parametrize("name", RULES)
def test_the_clock_changes_no_bit(name, module, rng, dtype):
    case = NETWORKS["two hidden layers"]
    network, params = build(case, rng, dtype)
    data = batches(*problem(case, 37, "labels", rng, dtype), 8)
    results = []
    for clock in (None, np.zeros((len(network.ops) + 1, 3))):
        trained, state = params.copy(), rule(name, params)
        loss = module.train_epoch(network, trained, data, objective("cross_entropy", 0.01), state, clock)
        results.append((loss, trained.tobytes(), state.slots.tobytes()))
    assert results[0] == results[1]


@pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])
def test_the_parts_are_no_more_than_the_whole(module, rng, dtype):
    start = time.perf_counter()
    network, seconds = timed(module, NETWORKS["wide"], rng, dtype, samples=400, batch_size=20)
    whole = time.perf_counter() - start
    np.testing.assert_array_equal(seconds > 0, laps(network, 20) > 0)
    assert seconds.sum() <= whole


@pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])
def test_an_empty_epoch_takes_no_time(module, rng, dtype):
    network, params = build(NETWORKS["linear"], rng, dtype)
    data = batches(*problem(NETWORKS["linear"], 3, "labels", rng, dtype), 8, order=np.empty(0, np.int64))
    seconds = np.zeros((2, 3))
    module.train_epoch(network, params, data, objective("cross_entropy"), rule("sgd", params), seconds)
    np.testing.assert_array_equal(seconds, 0)
