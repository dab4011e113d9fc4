"""What differs on other systems, as far as it can be imitated on this one."""

import os
import sys

import numpy as np
import pytest
import scipy.sparse

import fastnn as fnn
from fastnn.kernels.threading import team
from fastnn.sklearn import MLPClassifier
from tests.every_call import signatures


class Narrow:
    """NumPy before 2.0 on Windows, where integers have 32 bits unless a dtype is named."""

    def __getattr__(self, name):
        return getattr(np, name)

    def arange(self, *args, dtype=None, **kwargs):
        return narrowed(np.arange(*args, dtype=dtype, **kwargs), dtype)

    def array(self, values, dtype=None, **kwargs):
        return narrowed(np.array(values, dtype, **kwargs), dtype or isinstance(values, np.ndarray))

    class random:
        RandomState = np.random.RandomState

        @staticmethod
        def default_rng(seed=None):
            return NarrowGenerator(np.random.default_rng(seed).bit_generator)


class NarrowGenerator(np.random.Generator):
    def permutation(self, x, axis=0):
        return narrowed(super().permutation(x, axis), isinstance(x, np.ndarray))


def narrowed(array, dtype):
    return array.astype(np.int32) if dtype in (None, False) and array.dtype == np.int64 else array


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
def test_kernels_get_indices_of_64_bits(monkeypatch):
    """Others would be compiled for, or read as what they are not."""
    X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    y = np.arange(40) % 3

    def train(width):
        for given in (X, scipy.sparse.csr_matrix(X)):
            MLPClassifier((width,), max_iter=2, batch_size=8, tol=0).fit(given, y).predict(given)
        model = fnn.Sequential(fnn.Linear(5, width), fnn.ReLU(), fnn.Dropout(0.5), fnn.Linear(width, 3), seed=0)
        model.fit(X, y, epochs=1, batch_size=8, validation_data=(X, y), verbose=0)
        model.evaluate(X, y)
        fnn.profile(model, X, y, seconds=0.01)
        fnn.check_gradients(model, X, y)

    with fnn.use_backend("numba"):
        train(4)
        compiled = signatures()
        for name, module in list(sys.modules.items()):
            if name.startswith("fastnn.") and vars(module).get("np") is np:
                monkeypatch.setattr(module, "np", Narrow())
        train(6)
    assert signatures() == compiled


def test_a_system_that_does_not_say_which_cpus_a_process_may_use(monkeypatch):
    for name in ("FASTNN_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert team._initial_threads() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert team._initial_threads() == 1
