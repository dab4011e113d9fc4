"""Calls that no signal handler can break off: they run in a thread of their own, for which the main thread waits."""

import _imp
import _thread
import contextvars
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from numba import types
from numba.core.compiler_lock import global_compiler_lock

from fastnn import backend
from fastnn.kernels import _jit
from fastnn.loading import stop_if_unwanted, undisturbed

VARIABLE = contextvars.ContextVar("VARIABLE", default="elsewhere")


class Interrupted(BaseException):
    """With a truth value of its own, as an exception may have."""

    def __bool__(self):
        return False


@pytest.fixture
def interrupted():
    """Call undisturbed(call) and raise Interrupted in the main thread so many times meanwhile."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("no timer that interrupts on this system")
    left = 0

    def interrupt(*_):
        nonlocal left
        left -= 1
        if left == 0:
            signal.setitimer(signal.ITIMER_REAL, 0)
        raise Interrupted

    def call_interrupted(call, times):
        nonlocal left
        left = times
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        undisturbed(call)

    before = signal.signal(signal.SIGALRM, interrupt)
    yield call_interrupted
    signal.signal(signal.SIGALRM, before)


def test_what_a_call_returns_and_raises():
    """In the context of the caller, and in another thread."""
    VARIABLE.set("here")
    assert undisturbed(VARIABLE.get) == "here"
    assert undisturbed(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        undisturbed(lambda: 1 // 0)


def test_an_interruption_waits_for_the_end(interrupted):
    done = []

    def work():
        while signal.getitimer(signal.ITIMER_REAL) != (0, 0):
            time.sleep(0.01)
        done.append("work")

    with pytest.raises(Interrupted):
        interrupted(work, times=3)
    assert done == ["work"]


def test_an_interruption_ends_what_can_be_ended(interrupted):
    def work():
        while True:
            stop_if_unwanted()
            time.sleep(0.001)

    with pytest.raises(Interrupted):
        interrupted(work, times=1)
    stop_if_unwanted()  # nobody waits for this thread


def test_another_thread_needs_none():
    idents = []
    thread = threading.Thread(target=lambda: idents.append((threading.get_ident(), undisturbed(threading.get_ident))))
    thread.start()
    thread.join()
    ((outer, inner),) = idents
    assert inner == outer == thread.ident
    assert undisturbed(lambda: undisturbed(threading.get_ident) == threading.get_ident())


def test_no_thread_can_be_had(monkeypatch):
    def refuse(function, args):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    assert undisturbed(threading.get_ident) == threading.get_ident()


@pytest.mark.parametrize("fails", ["before", "after"])
def test_an_interruption_of_the_start(fails, monkeypatch):
    """Whether the thread runs by then or not, the call is made once."""
    made, start = [], _thread.start_new_thread

    def interrupted_once(function, args):
        monkeypatch.undo()
        if fails == "after":
            start(function, args)
        raise Interrupted

    monkeypatch.setattr(_thread, "start_new_thread", interrupted_once)
    with pytest.raises(Interrupted):
        undisturbed(lambda: made.append(1))
    assert made == [1]


def test_a_lock_that_this_thread_holds():
    """Another thread would wait for it, and this one for the other."""
    assert _jit._undisturbed(threading.get_ident) != threading.get_ident()
    with global_compiler_lock:
        assert _jit._undisturbed(threading.get_ident) == threading.get_ident()
    _imp.acquire_lock()
    try:
        assert undisturbed(threading.get_ident) == threading.get_ident()
    finally:
        _imp.release_lock()


def test_what_is_loaded_so(monkeypatch):
    """Modules, entry points, and functions with an address."""
    found = [backend._import.__wrapped__("threading")]
    monkeypatch.setattr(backend, "importlib", SimpleNamespace(import_module=lambda name: threading.get_ident()))
    found.append(backend._import.__wrapped__("threading"))
    monkeypatch.setattr(_jit.Cache, "load_overload", lambda *_: found.append(threading.get_ident()))
    monkeypatch.setattr(_jit.Cache, "save_overload", lambda *_: None)
    assert _jit.kernel(lambda number: number + 1)(1) == 2
    assert _jit.shared(lambda dtype: types.void(types.CPointer(dtype)))(lambda pointer: None).address(np.float32)
    assert found[0] is threading
    assert len(found) == 4
    assert threading.get_ident() not in found
