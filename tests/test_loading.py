"""Calls that no signal handler can break off: what it raises is raised at the end."""

import contextlib
import contextvars
import gc
import itertools
import signal
import sys
import threading
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from numba import types

from fastnn import backend, loading
from fastnn.kernels.compiler import jit
from fastnn.loading import stop_if_unwanted, undisturbed
from tests.interrupting import Interrupt

VARIABLE = contextvars.ContextVar("VARIABLE", default="elsewhere")


class Interrupted(BaseException):
    """With a truth value of its own, as an exception may have."""

    def __bool__(self):
        return False


@pytest.fixture
def handled():
    """Let a signal raise Interrupted in the main thread, and return a function that sends it."""
    seen = []

    def handle(number, frame):
        seen.append(number)
        raise Interrupted(len(seen))

    before = signal.signal(signal.SIGINT, handle)
    yield SimpleNamespace(send=lambda: signal.raise_signal(signal.SIGINT), seen=seen, handler=handle)
    signal.signal(signal.SIGINT, before)


def test_what_a_call_returns_and_raises():
    VARIABLE.set("here")
    assert undisturbed(VARIABLE.get) == "here"
    with pytest.raises(ZeroDivisionError):
        undisturbed(lambda: 1 // 0)


@pytest.mark.parametrize("times", [1, 1000])
def test_an_interruption_waits_for_the_end(times, handled):
    """Each reaches its handler at once, and the first is what is raised, also in place of another error."""
    done = []

    def work():
        for _ in range(times):
            handled.send()
        done.append(len(handled.seen))
        raise ZeroDivisionError

    with pytest.raises(Interrupted, match="1"):
        undisturbed(work)
    assert done == [times]
    assert signal.getsignal(signal.SIGINT) is handled.handler
    with pytest.raises(Interrupted):
        handled.send()


def test_an_interruption_ends_what_can_be_ended(handled):
    def work():
        handled.send()
        stop_if_unwanted()
        pytest.fail("went on")

    with pytest.raises(Interrupted):
        undisturbed(work)
    stop_if_unwanted()  # nothing is left of it


def test_nothing_of_an_interruption_waits_for_the_collector(handled):
    """Or finalisers would run at any later moment, where a handler that raises is not heard."""
    made = []

    def work():
        thing = Thing()
        made.append(weakref.ref(thing))
        handled.send()

    gc.disable()
    try:
        with contextlib.suppress(Interrupted):
            undisturbed(work)
        assert made[0]() is None
    finally:
        gc.enable()


class Thing:
    """What a weak reference can stand for."""


def test_a_call_within_a_call(handled):
    def work():
        undisturbed(handled.send)
        return "done"

    made = []
    with pytest.raises(Interrupted):
        undisturbed(lambda: made.append(work()))
    assert made == ["done"]


def test_other_threads_hear_no_signals():
    """So nothing changes for theirs, and what the main thread is to stop for does not stop them."""
    found = []

    def elsewhere():
        before = signal.getsignal(signal.SIGINT)
        found.append(undisturbed(lambda: signal.getsignal(signal.SIGINT)) is before)
        stop_if_unwanted()
        found.append("went on")

    def work():
        loading._current.raised.append(Interrupted())
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    with pytest.raises(Interrupted):
        undisturbed(work)
    assert found == [True, "went on"]


def test_what_has_no_handler_in_python_is_left_alone(monkeypatch):
    replaced, replace = [], signal.signal
    monkeypatch.setattr(signal, "signal", lambda number, handler: replaced.append(number) or replace(number, handler))
    undisturbed(lambda: None)
    handled = [number for number in signal.valid_signals() if callable(signal.getsignal(number))]
    assert sorted(set(replaced)) == sorted(handled)


def test_an_interruption_at_any_moment_of_its_beginning_and_end(handled):
    """Nothing is left in the place of a handler."""
    for n in itertools.count(1):
        made, interrupt = [], Interrupt(n, [loading.__file__], handled.send)
        sys.settrace(interrupt)
        try:
            undisturbed(lambda: made.append(1))  # noqa: B023 - called at once
        except Interrupted:
            pass
        finally:
            sys.settrace(None)
        assert signal.getsignal(signal.SIGINT) is handled.handler
        with pytest.raises(Interrupted):
            handled.send()
        assert undisturbed(lambda: "works") == "works"
        assert not loading._current.raised
        if interrupt.left > 0:
            break
    assert made == [1]
    assert n > 5


def test_what_is_loaded_so(monkeypatch, handled):
    """Modules, entry points, and functions with an address."""
    found = [backend._import.__wrapped__("threading")]

    def look(*_):
        found.append(signal.getsignal(signal.SIGINT) is not handled.handler)

    monkeypatch.setattr(backend, "importlib", SimpleNamespace(import_module=look))
    backend._import.__wrapped__("threading")
    monkeypatch.setattr(jit.Cache, "load_overload", look)
    monkeypatch.setattr(jit.Cache, "save_overload", lambda *_: None)
    assert jit.kernel(lambda number: number + 1)(1) == 2
    assert jit.shared(lambda dtype: types.void(types.CPointer(dtype)))(lambda pointer: None).address(np.float32)
    assert found == [threading, True, True, True]
