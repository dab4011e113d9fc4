"""The compiled epoch and inference take subnormal numbers for zero, in every thread; nothing else does."""

import importlib

import numba
import numpy as np
import pytest

import fastnn as fnn
from fastnn import kernels
from fastnn.kernels.simd.subnormals import flushed
from fastnn.kernels.threading import team
from tests.networks import batches, build, objective, problem, rule


def tiny(dtype):
    """A quarter of the smallest normal number."""
    return np.finfo(dtype).smallest_normal / dtype(4)


def are_kept(dtype):
    """Whether this thread, as NumPy computes in it, knows subnormal numbers."""
    return bool((np.full(64, tiny(dtype)) * dtype(0.5) != 0).all())


def identity_network(dtype):
    network, params = build((2, [2]), np.random.default_rng(0), dtype)
    params[...] = 0
    start = network.ops[0, 3]
    params[start : start + 4] = [1, 0, 0, 1]
    return network, params


@pytest.mark.parametrize("rows", [1, 40, 4000])
def test_inference(rows, dtype, monkeypatch):
    monkeypatch.setattr(team, "GRAIN", 1)
    monkeypatch.setattr(team, "WAKING_GRAIN", 1)
    network, params = identity_network(dtype)
    x, out = np.full((rows, 2), tiny(dtype)), np.ones((rows, 2), dtype)
    x[:, 1] = 1
    before = team.get_num_threads()
    team.set_num_threads(3)
    try:
        assert kernels.forward(network, params, x, out)
    finally:
        team.set_num_threads(before)
    np.testing.assert_array_equal(out, [[0, 1]] * rows)
    assert are_kept(dtype)


@pytest.mark.parametrize("n", [1, 3])
def test_velocities_of_a_dead_unit_end_at_zero(n, rng, dtype, monkeypatch):
    """0.9 times the smallest subnormal number rounds to itself, so none would ever get there."""
    monkeypatch.setattr(importlib.import_module("fastnn.kernels.network.epoch"), "STEP_GRAIN", 1)
    monkeypatch.setattr(team, "GRAIN", 1)
    monkeypatch.setattr(team, "WAKING_GRAIN", 1)
    case = (20, [40, "relu", 3])
    network, params = build(case, rng, dtype)
    x, y = problem(case, 640, "labels", rng, dtype)
    (first, bias), last = network.ops[0, 3:5], network.ops[-1, 3]
    params[first : first + 800], params[bias : bias + 40] = 0, -1
    velocity = rule("momentum", params, 0.01)
    velocity.slots[0, first : first + 800] = np.finfo(dtype).smallest_normal * dtype(1.5)
    before = team.get_num_threads()
    team.set_num_threads(n)
    try:
        kernels.train_epoch(network, params, batches(x, y, 16), objective("cross_entropy"), velocity)
    finally:
        team.set_num_threads(before)
    assert not velocity.slots[0, first : first + 800].any()
    assert not velocity.slots[0, last : last + 120].any()  # nothing comes through the dead units
    assert are_kept(dtype)


def test_functions_on_arrays_keep_them(dtype):
    x = np.full((3, 4), tiny(dtype))
    np.testing.assert_array_equal(fnn.matmul(x, np.eye(4, dtype=dtype)), x)
    np.testing.assert_array_equal(fnn.linear(x, np.eye(4, dtype=dtype), x[0]), 2 * x)
    np.testing.assert_array_equal(fnn.relu(x), x)
    w = x.copy()
    fnn.sgd_update(w, x, 0.5)
    np.testing.assert_array_equal(w, x / 2)


def test_code_of_the_user_never_sees_the_flag(dtype):
    X, y = fnn.datasets.load_digits(dtype)
    seen = []

    class Own(fnn.ReLU):
        def forward(self, x, training=False):
            seen.append(are_kept(dtype))
            return super().forward(x, training)

    for activation in (fnn.ReLU(), Own()):
        model = fnn.Sequential(fnn.Linear(64, 8), activation, fnn.Linear(8, 10), dtype=np.dtype(dtype).name)
        model.fit(X[:100], y[:100], epochs=2, verbose=0, callbacks=[lambda *_: seen.append(are_kept(dtype))])
        model.predict(X[:100])
    assert len(seen) > 4
    assert all(seen)


def test_an_exception_leaves_the_flag_as_it_was(dtype):
    """As one of an index out of bounds does, with NUMBA_BOUNDSCHECK=1."""

    @numba.njit
    def inner(x, fails):
        x[0] *= 0.5
        if fails:
            raise IndexError("out of bounds")
        return x[0]

    @numba.njit
    def outer(x, fails):
        return flushed(inner, (x, fails))

    assert outer(np.full(1, tiny(dtype)), False) == 0
    assert are_kept(dtype)
    with pytest.raises(IndexError, match="out of bounds"):
        outer(np.full(1, tiny(dtype)), True)
    assert are_kept(dtype)
