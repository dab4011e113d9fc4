"""Whoever owns the labels may write to them after they were checked: a kernel then reads nothing but its own memory."""

import threading
import time

import numpy as np
import pytest

from fastnn import kernels, reference
from tests.networks import batches, build, objective, problem, rule

# What is no label of k classes, and what an index made of it would reach.
WRONG = [-1, "k", 10**10, -(10**10), np.iinfo(np.int64).min, np.iinfo(np.int64).max]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
@pytest.mark.parametrize("k", [1, 2, 10, 16, 17, 32, 33, 100])
@pytest.mark.parametrize("twin", [kernels, reference], ids=["kernels", "reference"])
def test_what_is_no_label_makes_its_row_nan_and_no_other(twin, k, wrong, rng, dtype):
    s, y = rng.normal(size=(5, k)).astype(dtype), rng.integers(0, k, 5)
    expected = np.empty_like(s)
    twin.cross_entropy_backward(s, y, None, expected)
    y[2] = k if wrong == "k" else wrong
    out = np.zeros_like(s)
    assert np.isnan(twin.cross_entropy(s, y, None))
    assert np.isnan(twin.cross_entropy_backward(s, y, None, out))
    assert np.isnan(out[2]).all()
    np.testing.assert_array_equal(np.delete(out, 2, axis=0), np.delete(expected, 2, axis=0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("wrong", WRONG, ids=str)
@pytest.mark.parametrize("twin", [kernels, reference], ids=["kernels", "reference"])
def test_an_epoch_stops_at_the_batch(twin, wrong, smoothing, rng, dtype):
    case = (7, [5, "relu", 4])
    network, params = build(case, rng, dtype)
    x, y = problem(case, 30, "labels", rng, dtype)
    goal = objective("cross_entropy")._replace(smoothing=smoothing)
    trained = params.copy()
    twin.train_epoch(network, trained, batches(x[:20], y[:20], 10), goal, rule("sgd", params))
    y[25] = 4 if wrong == "k" else wrong
    loss, failed = twin.train_epoch(network, params, batches(x, y, 10), goal, rule("sgd", params))
    assert np.isnan(loss)
    assert failed == 2
    np.testing.assert_array_equal(params, trained)


def test_another_thread_writes_while_an_epoch_runs(rng):
    """Ten million reads of labels that turn into addresses far away, and back, at any moment."""
    case = (4, [3])
    network, params = build(case, rng, np.float32)
    x, y = problem(case, 200_000, "labels", rng, np.float32)
    good, bad, ended = y.copy(), np.where(y % 2, -(10**12), 10**12), threading.Event()

    def write():
        while not ended.is_set():
            y[...] = bad
            time.sleep(0)
            y[...] = good

    writer = threading.Thread(target=write)
    writer.start()
    try:
        failed = set()
        for _ in range(50):
            failed.add(kernels.train_epoch(network, params.copy(), batches(x, y, 64), objective("cross_entropy"),
                                           rule("sgd", params))[1])  # fmt: skip
    finally:
        ended.set()
        writer.join()
    assert max(failed) >= 0  # it was seen
