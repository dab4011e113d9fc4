"""Functions behind addresses: when they are compiled, and that each is compiled once."""

import contextlib
import ctypes
import itertools
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from numba import types
from numba.core.bytecode import FunctionIdentity

import fastnn as fnn
from fastnn.kernels.compiler import cache, jit, libraries
from fastnn.kernels.network.inference import _prepared
from fastnn.kernels.network.layers import addressed
from fastnn.kernels.operations import OPERATIONS, Operation
from fastnn.kernels.simd.vector import put

FLOAT32 = np.dtype(np.float32)


class Recorded:
    """Stands for a function behind an address, and knows whether that was asked for."""

    def __init__(self, function):
        self._function, self.asked = function, False

    def address(self, dtype):
        self.asked = True
        return self._function.address(dtype)


@pytest.fixture
def recorded(monkeypatch):
    operation = Operation(*(Recorded(function) for function in OPERATIONS["layer_norm"][:3]))
    monkeypatch.setitem(OPERATIONS, "layer_norm", operation)
    _prepared.cache_clear(), addressed.cache_clear()
    yield operation
    _prepared.cache_clear(), addressed.cache_clear()


def test_inference_needs_the_forward_pass_alone(recorded):
    model = fnn.Sequential(fnn.LayerNorm(3), fnn.Linear(3, 2))
    model.forward(np.ones((2, 3)))
    assert [function.asked for function in recorded[:3]] == [True, False, False]
    model.fit(np.ones((2, 3)), np.array([0, 1]), epochs=1, verbose=0)
    assert [function.asked for function in recorded[:3]] == [True, True, True]


def test_threads_that_need_a_function_at_once_compile_it_once(monkeypatch):
    """Else the second one's would take the place of the first one's, whose address is in use by then."""
    made, both = [], threading.Barrier(2)

    def compiled(*args, **kwargs):
        def compile():
            made.append(None)
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.2)  # in vain, where the other thread is kept out

        return SimpleNamespace(compile=compile, address=len(made))

    monkeypatch.setattr(jit, "CFunc", compiled)
    monkeypatch.setattr(jit, "Cache", lambda function, name: None)
    function = jit.Shared(lambda x: None, lambda dtype: SimpleNamespace(args=(dtype,), return_type=dtype))
    threads = [threading.Thread(target=function.address, args=(FLOAT32,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_functions_of_one_name_are_two(monkeypatch):
    """As those of two users may be called in the cache's files of two processes, where each counted its functions."""
    monkeypatch.setattr(cache, "FOLDERS", [])
    monkeypatch.setattr(libraries.Library, "_optimize_final_module", lambda library: None)  # and nothing is inlined

    def answer_of(number):
        monkeypatch.setattr(FunctionIdentity, "_unique_ids", itertools.count(1_000_000_000))

        @jit.inline
        def inner():
            return number

        def outer(out):
            put(out, 0, inner())

        out = np.zeros(1)
        code = jit.Shared(outer, lambda dtype: types.void(types.CPointer(dtype)), name=f"answer_{number:.0f}")
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code.address(out.dtype))(out.ctypes.data)
        return out[0]

    assert [answer_of(number) for number in (1.0, 2.0)] == [1.0, 2.0]
