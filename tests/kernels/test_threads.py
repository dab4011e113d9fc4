"""Work is split over output tiles, never over a sum, so any number of threads gives the same bits."""

import gc
import importlib
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest

from fastnn import kernels
from fastnn.kernels.gemm import shares
from fastnn.kernels.threading import team
from tests.networks import batches, build, for_inference, frozen, objective, problem, rule, scaled

# One of which the first op is frozen, and every op has a learning rate of its own.
DEEP = (40, [256, "tanh", 130, "relu", 33, "tanh", 3])


@pytest.fixture
def on_threads(monkeypatch):
    """Call a function on 1, 2, 3, 5 and 8 team, however small its work, and return the results."""
    before = team.get_num_threads()
    monkeypatch.setattr(team, "GRAIN", 1)
    monkeypatch.setattr(team, "WAKING_GRAIN", 1)
    monkeypatch.setattr(team.PROFIT, "WINDOW", np.inf)
    monkeypatch.setattr(importlib.import_module("fastnn.kernels.network.epoch"), "STEP_GRAIN", 1)

    def call(function):
        results = []
        for n in (1, 2, 3, 5, 8):
            team.set_num_threads(n)
            assert team.get_num_threads() == n
            results.append(function())
        return results

    yield call
    team.set_num_threads(before)


@pytest.mark.parametrize("shape", [(1, 1, 1), (64, 784, 128), (257, 300, 129), (600, 700, 500)], ids=str)
def test_matmul(shape, on_threads, rng, dtype):
    m, k, n = shape
    a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)

    def call():
        out = np.empty((m, n), dtype)
        kernels.matmul(a, b, out)
        return out

    one, *more = on_threads(call)
    for result in more:
        np.testing.assert_array_equal(result, one)


@pytest.mark.parametrize("shape", [(3, 70, 40), (300, 257, 129)], ids=str)
def test_linear_and_its_gradients(shape, on_threads, rng, dtype):
    m, d, k = shape
    x, w, dy = (rng.normal(size=size).astype(dtype) for size in [(m, d), (d, k), (m, k)])

    def call():
        out, dx, dw, db = (np.empty(size, dtype) for size in [(m, k), (m, d), (d, k), k])
        kernels.linear(x, w, w[0], out)
        kernels.linear_backward(dy, x, w, 0.1, dx, dw, db)
        return out, dx, dw, db

    one, *more = on_threads(call)
    for result in more:
        for first, second in zip(one, result, strict=True):
            np.testing.assert_array_equal(second, first)


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam"])
@pytest.mark.parametrize(
    "case",
    [
        (20, [32, "relu", 2]),
        (40, [256, "tanh", 3]),
        (300, [513, "relu", 130, "tanh", 10]),
        (40, [64, "relu", ("dropout", 0.5), 7]),
        DEEP,
    ],
    ids=str,
)
def test_epoch_and_forward(case, name, on_threads, rng, dtype):
    network, params = build(case, rng, dtype)
    x, y = problem(case, 300, "labels", rng, dtype)
    network = scaled(frozen(network, 0)) if case == DEEP else network

    def call():
        trained, state = params.copy(), rule(name, params, 0.01)
        loss = kernels.train_epoch(network, trained, batches(x, y, 128), objective("cross_entropy", 1e-3), state)
        out = np.empty((len(x), case[1][-1]), dtype)
        kernels.forward(for_inference(network), trained, x, out)
        return loss, trained, state.slots, out

    one, *more = on_threads(call)
    for result in more:
        assert result[0] == one[0]
        for first, second in zip(one[1:], result[1:], strict=True):
            np.testing.assert_array_equal(first, second)


def test_the_norm_of_the_gradient(on_threads, rng, dtype):
    """Of several pieces, clipped and summed over batches."""
    network, params = build(DEEP, rng, dtype)
    x, y = problem(DEEP, 300, "labels", rng, dtype)

    def call():
        trained, state = params.copy(), rule("momentum", params, 0.1)._replace(clip_norm=0.01, accumulate=2)
        loss = kernels.train_epoch(network, trained, batches(x, y, 64), objective("cross_entropy", 1e-3), state)
        return loss, trained, state.slots

    one, *more = on_threads(call)
    for result in more:
        assert result[0] == one[0]
        np.testing.assert_array_equal(result[1], one[1])
        np.testing.assert_array_equal(result[2], one[2])


@pytest.mark.parametrize("shape", [(64, 10), (3001, 10), (1000, 100), (8, 32000)], ids=str)
def test_softmax_and_cross_entropy(shape, on_threads, rng, dtype):
    s, y = rng.normal(size=shape).astype(dtype), rng.integers(0, shape[1], shape[0])
    soft = rng.random(shape).astype(dtype)

    def call():
        p, gradient = np.empty_like(s), np.empty_like(s)
        kernels.softmax(s, p)
        means = [kernels.cross_entropy(s, of, None) for of in (y, soft)]
        return [*means, kernels.cross_entropy_backward(s, y, None, gradient)], p, gradient

    one, *more = on_threads(call)
    for result in more:
        assert result[0] == one[0]
        np.testing.assert_array_equal(result[1], one[1])
        np.testing.assert_array_equal(result[2], one[2])


def test_a_call_keeps_its_memory_where_a_signal_handler_makes_a_larger_one_before_it(monkeypatch):
    monkeypatch.setattr(shares, "_kept", shares._Kept())
    dtype, plans = np.dtype(np.float32), iter([4, 6])
    monkeypatch.setattr(shares, "plan_for", lambda work: next(plans))
    call = shares.shares_of(0, dtype)
    memory = weakref.ref(shares._kept.others[dtype])
    shares.shares_of(0, dtype)
    assert shares._kept.others[dtype] is not memory() is not None
    del call
    assert memory() is None


def test_several_python_threads_at_once(rng, dtype):
    """Who finds no idle helper works alone, and nobody works in the scratch memory of another."""
    case = (300, [513, "relu", 10])
    network, params = build(case, rng, dtype)
    x, y = problem(case, 600, "labels", rng, dtype)
    data, goal = batches(x, y, 200), objective("cross_entropy", 1e-3)

    def call(_=None):
        trained, out = params.copy(), np.empty((600, 10), dtype)
        kernels.train_epoch(network, trained, data, goal, rule("sgd", params, 0.01))
        kernels.forward(network, trained, x, out)
        return out

    expected = call()
    with ThreadPoolExecutor(4) as pool:
        for out in pool.map(call, range(12)):
            np.testing.assert_array_equal(out, expected)


def test_the_number_may_change_while_others_compute(rng):
    """The workspaces and the team of one call belong together."""
    before = team.get_num_threads()
    case = (64, [512, "relu", 10])
    network, params = build(case, rng, np.float32)
    x, y = problem(case, 1800, "labels", rng, np.float32)

    def train(_):
        trained = params.copy()
        kernels.train_epoch(network, trained, batches(x, y, 600), objective("cross_entropy"), rule("sgd", params, 0.01))
        return trained

    expected = train(None)
    try:
        with ThreadPoolExecutor(2) as pool:
            running = pool.map(train, range(60))
            for n in [1, 4] * 200:
                team.set_num_threads(n)
            for trained in running:
                np.testing.assert_array_equal(trained, expected)
    finally:
        team.set_num_threads(before)


def test_a_team_that_is_replaced_at_work_ends_with_it():
    before = team.get_num_threads()
    team.set_num_threads(4)

    def task(thread, n_threads):
        if thread == 0:
            team.set_num_threads(1)

    try:
        team.run(task, 10**12)
        for thread in threading.enumerate():
            if thread.name == "fastnn":
                thread.join(60)
                assert not thread.is_alive()
    finally:
        team.set_num_threads(before)


def test_an_exception_releases_the_helpers(monkeypatch):
    """What keeps the calling thread from its part ends the wait of the others, and the helpers are idle again."""
    before = team.get_num_threads()
    team.set_num_threads(3)
    released = threading.Event()

    def task(thread, n_threads):
        if thread == 0:
            raise KeyboardInterrupt
        assert released.wait(60)

    try:
        with pytest.raises(KeyboardInterrupt):
            team.run(task, 10**12, abort=released.set)
        sizes = []
        team.run(lambda thread, n_threads: sizes.append(n_threads), 10**12)
        assert sizes == [3, 3, 3]
    finally:
        team.set_num_threads(before)


def test_helpers_keep_nothing_of_a_call_alive():
    before = team.get_num_threads()
    team.set_num_threads(2)
    array = np.zeros(10)
    gone = weakref.ref(array)

    def task(thread, n_threads, array=array):
        array[thread] = n_threads

    try:
        team.run(task, 10**12)
        assert list(array[:2]) == [2, 2]
        del task, array
        gc.collect()
        assert gone() is None
    finally:
        team.set_num_threads(before)


def test_a_helpers_exception_is_raised():
    before = team.get_num_threads()
    team.set_num_threads(2)

    def task(thread, n_threads):
        if thread == 1:
            raise MemoryError("no room")

    try:
        with pytest.raises(MemoryError, match="no room"):
            team.run(task, 10**12)
    finally:
        team.set_num_threads(before)


def test_an_aborted_epoch_ends():
    """A thread that waits at the barrier leaves when told that the other will never come."""
    barrier = importlib.import_module("fastnn.kernels.threading.barrier")
    data = importlib.import_module("fastnn.kernels.simd.vector").data

    @numba.njit(nogil=True)
    def wait(sync):
        return barrier.barrier(data(sync), 2)

    sync = np.zeros(16, np.int64)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait, sync)
        sync[barrier.ABORTED] = 1
        assert waiting.result(120) is False


def test_a_thread_outlives_the_main_thread():
    """Helpers can be had after the interpreter has begun to wait for its team."""
    code = """
import threading, time
import numpy as np
from fastnn import kernels
from fastnn.kernels.threading import team

team.set_num_threads(2)
kernels.matmul(np.ones((4, 4)), np.ones((4, 4)), np.empty((4, 4)))

def work():
    time.sleep(0.5)
    out = np.empty((600, 600))
    kernels.matmul(np.ones((600, 600)), np.ones((600, 600)), out)
    print(out.min() == out.max() == 600)

threading.Thread(target=work).start()
"""
    args = {"cwd": Path(__file__).parents[2], "capture_output": True, "text": True, "timeout": 120}
    assert subprocess.run([sys.executable, "-c", code], **args).stdout == "True\n"


def test_a_helper_that_fails_ends_the_epoch_of_all():
    """In a process of its own: who waits for it inside compiled code would wait for ever."""
    code = """
import importlib, threading
import numpy as np
from fastnn import kernels
from fastnn.kernels.threading import team
from tests.networks import batches, build, objective, problem, rule

epoch = importlib.import_module("fastnn.kernels.network.epoch")
rng, case = np.random.default_rng(0), (64, [512, "relu", 10])
network, params = build(case, rng, np.float32)
x, y = problem(case, 1200, "labels", rng, np.float32)
call = lambda: kernels.train_epoch(network, params.copy(), batches(x, y, 600), objective("cross_entropy"),
                                   rule("sgd", params))
team.set_num_threads(3)
team.PROFIT.WINDOW = np.inf
before, workspace = call(), epoch.workspace

def fails(*args):
    if threading.current_thread() is not threading.main_thread():
        raise MemoryError("no room")
    return workspace(*args)

for _ in range(20):
    epoch.workspace = fails
    try:
        call()
    except MemoryError as error:
        print(error)
    epoch.workspace = workspace
    assert call() == before
"""
    args = {"cwd": Path(__file__).parents[2], "capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run([sys.executable, "-c", code], **args)
    assert done.stdout == 20 * "no room\n", done.stderr


def test_a_job_that_cannot_be_queued_is_not_waited_for(monkeypatch):
    """The one before it, which waits for all as at a barrier, is released."""
    before = team.get_num_threads()
    team.set_num_threads(3)
    aborted = threading.Event()

    class LittleRoom(deque):
        left = 1

        def append(self, job):
            if LittleRoom.left == 0:
                raise MemoryError("no room")
            LittleRoom.left -= 1
            super().append(job)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(team, "deque", LittleRoom)
            patch.setattr(team, "_jobs", [LittleRoom() for _ in range(3)])
            with pytest.raises(MemoryError, match="no room"):
                team.run(lambda thread, n_threads: aborted.wait(60), 10**12, abort=aborted.set)
            assert aborted.is_set()
            LittleRoom.left = 10
            sizes = []
            team.run(lambda thread, n_threads: sizes.append(n_threads), 10**12)
        assert sizes == [3, 3, 3]
    finally:
        team.set_num_threads(before)


def test_where_no_more_threads_can_be_started(monkeypatch):
    """Those that can share the work, and the others are tried again at the next call."""
    before = team.get_num_threads()
    team.set_num_threads(4)
    left, start = [1], threading.Thread.start

    def start_if_there_is_room(thread):
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    def sizes():
        found = []
        team.run(lambda thread, n_threads: found.append(n_threads), 10**12)
        return found

    try:
        team.set_num_threads(1)
        while any(thread.name == "fastnn" for thread in threading.enumerate()):
            time.sleep(0.001)
        team.set_num_threads(4)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start_if_there_is_room)
            assert sizes() == [2, 2]
            assert sizes() == [2, 2]
        assert sizes() == [4, 4, 4, 4]
    finally:
        team.set_num_threads(before)
