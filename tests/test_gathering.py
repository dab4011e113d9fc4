"""Tasks that take turns: what they ask for is answered together, what they change is theirs."""

import contextlib
import threading
import warnings
from contextvars import ContextVar

import numpy as np
import pytest

import fastnn as fnn
from fastnn.backend import active
from fastnn.nn.lowering import Batches, Objective, OptimizerSpec
from fastnn.training import gathering, together
from fastnn.training.gathering import Abandoned, Call, Gathering, ask
from fastnn.training.process_state import enter, leave
from fastnn.training.together import Outcome, Request

which = ContextVar("which", default="none")


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("fastnn task")] == []


@contextlib.contextmanager
def gathered(most=100):
    """A gathering, and a call of the code that opens it."""
    opened = Gathering(most)
    call = Call(opened)
    try:
        yield call
    finally:
        call.abandon()
        opened.close()


def run(call, *functions):
    """Run functions as tasks, and return their jobs in the order in which they ended."""
    jobs, ended = [call.submit(function) for function in functions], []
    while len(ended) < len(jobs):
        ended += call.wait()
    return ended


def answers(monkeypatch, train):
    """Have requests, which may be anything, answered by a function; return the batches of them that came."""
    asked = []
    monkeypatch.setattr(together, "train", lambda requests: asked.append(list(requests)) or train(requests))
    return asked


def numbers(requests):
    return [Outcome([request]) for request in requests]


def network(seed):
    """A small network, and a request for two of its epochs."""
    model = fnn.Sequential(fnn.Linear(3, 4), fnn.ReLU(), fnn.Linear(4, 2), seed=seed)
    stack, rng = model._stack, np.random.default_rng(seed)
    x, y = rng.normal(size=(20, 3)).astype("float32"), rng.integers(0, 2, 20)
    batches = tuple(Batches(x, y, None, rng.permutation(20), 8) for _ in range(2))
    rules = tuple(OptimizerSpec("sgd", (0.1,), np.zeros((0, len(stack.params)), "float32"), step) for step in (0, 3))
    return stack.params, Request(stack.seeded(), stack.params, batches, Objective("cross_entropy", 0.0, 0.0), rules)


def test_the_same_bits_as_alone():
    alone, outcomes = [], []
    for seed in range(5):
        params, request = network(seed)
        outcome = ask(request)
        alone.append((params.copy(), outcome.losses))
    found = [network(seed) for seed in range(5)]
    with gathered() as call:
        jobs = [call.submit(lambda request=request: ask(request)) for _, request in found]
        while not all(job.is_over for job in jobs):
            call.wait()
        outcomes = [job.result for job in jobs]
    for (params, _), outcome, (expected, losses) in zip(found, outcomes, alone, strict=True):
        np.testing.assert_array_equal(params, expected)
        assert outcome.losses == losses
        assert len(losses) == 2


def test_all_that_run_are_answered_at_once(monkeypatch):
    asked = answers(monkeypatch, numbers)

    def task(n):
        return [ask((n, i)).losses[0] for i in range(n)]

    with gathered() as call:
        jobs = run(call, *(lambda n=n: task(n) for n in (1, 3, 2, 0)))
    assert asked == [[(1, 0), (3, 0), (2, 0)], [(3, 1), (2, 1)], [(3, 2)]]
    assert [job.result for job in jobs] == [[], [(1, 0)], [(2, 0), (2, 1)], [(3, 0), (3, 1), (3, 2)]]


def test_no_more_than_so_many_at_once(monkeypatch):
    asked = answers(monkeypatch, numbers)
    with gathered(2) as call:
        run(call, *(lambda n=n: ask(n) for n in range(5)))
    assert asked == [[0, 1], [2, 3], [4]]


def test_calls_within_tasks(monkeypatch):
    asked = answers(monkeypatch, numbers)

    def outer(n):
        inner = Call(gathering.current())
        jobs = run(inner, *(lambda i=i: ask((n, i)).losses[0] for i in range(3)))
        return sorted(job.result for job in jobs)

    with gathered(4) as call:
        jobs = run(call, *(lambda n=n: outer(n) for n in range(3)))
    assert sorted(job.result for job in jobs) == [[(n, 0), (n, 1), (n, 2)] for n in range(3)]
    assert [len(requests) for requests in asked] == [4, 4, 1]


def test_threads_serve_one_task_after_the_other():
    with gathered() as call:
        jobs = run(call, *[threading.get_ident] * 20)
    assert len({job.result for job in jobs}) == 1


def test_what_fails_is_told_to_each(monkeypatch):
    answers(monkeypatch, lambda requests: 1 / 0)
    with gathered() as call:
        jobs = run(call, *[lambda: ask(1).error] * 3)
    assert [type(job.result) for job in jobs] == [ZeroDivisionError] * 3


def test_what_a_task_raises(monkeypatch):
    answers(monkeypatch, numbers)
    error = SystemExit("of a task")

    def fail():
        ask(1)
        raise error

    with gathered() as call:
        jobs = run(call, fail, lambda: ask(2).losses)
    assert [job.error for job in jobs] == [error, None]


def test_those_that_are_abandoned_end_where_they_ask(monkeypatch):
    answers(monkeypatch, numbers)
    seen = []

    def endless(n):
        try:
            while True:
                ask(n)
        finally:
            seen.append(n)
            with pytest.raises(Abandoned):
                ask(n)  # which does not begin anything any more

    def with_others():
        inner = Call(gathering.current())
        try:
            run(inner, lambda: endless(1), lambda: endless(2))
        finally:
            seen.append("others")
            inner.abandon()
            assert inner.running == 0

    with gathered(4) as call:
        call.submit(lambda: endless(0))
        call.submit(with_others)
        call.submit(lambda: None)
        call.submit(lambda: endless(3))
        call.wait()
    assert sorted(map(str, seen)) == ["0", "1", "2", "others"]  # and the last has not begun


def test_contexts_are_those_of_the_caller():
    def change():
        before = which.get()
        which.set("of a task")
        return before, active().__name__

    which.set("of the caller")
    with fnn.use_backend("numpy"), gathered() as call:
        jobs = run(call, change, change)
    assert [job.result for job in jobs] == [("of the caller", "fastnn.reference")] * 2
    assert which.get() == "of the caller"


def test_warnings_are_each_tasks_own(monkeypatch):
    answers(monkeypatch, numbers)

    def task(n):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for i in range(3):
                warnings.warn(f"{n} {i}", stacklevel=1)
                ask(n)
        return [str(w.message) for w in caught]

    filters = warnings.filters
    with gathered() as call:
        jobs = run(call, *(lambda n=n: task(n) for n in range(3)))
    assert [job.result for job in jobs] == [[f"{n} {i}" for i in range(3)] for n in range(3)]
    assert warnings.filters is filters


def test_what_was_shown_by_other_filters_is_forgotten():
    shown = []

    def warn():
        warnings.warn("the same", stacklevel=1)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        first = leave()
        warn()
        enter(first._replace(filters=[("always", None, Warning, None, 0)]))
        warn()
        warn()
        enter(first)
        shown += caught
        warn()
        warn()
    assert len(shown) == 3
    assert len(caught) == 4


def test_a_wait_for_nothing_is_an_error():
    opened = Gathering(3)
    try:
        with pytest.raises(RuntimeError, match="what no task will do"):
            Call(opened).wait()
    finally:
        opened.close()


def test_after_the_end():
    opened = Gathering(3)
    call = Call(opened)
    run(call, lambda: None)
    opened.close()
    opened.close()
    call.abandon()
    with pytest.raises(RuntimeError, match="have ended"):
        call.wait()
