"""Whole networks: a training epoch, inference, and the memory of training."""

import numpy as np

import fastnn as fnn

from .common import BACKENDS, DTYPES, NETWORKS, OnBackend, assert_agrees, blobs, build, on_reference


class Epoch(OnBackend):
    """One epoch of 50 batches with plain SGD: divide by 50 for the time of a step. Training goes on from run to run."""

    params = (BACKENDS, DTYPES, tuple(NETWORKS))
    param_names = ("backend", "dtype", "network, batch")

    def setup(self, backend, dtype, network):
        self.use(backend)
        widths, batch_size = NETWORKS[network]
        self.data = blobs(50 * batch_size, widths, dtype)
        self.model, twin = build(widths, dtype), build(widths, dtype)
        self.settings = {"l2": 1e-4, "epochs": 1, "batch_size": batch_size, "verbose": 0}
        self.time_epoch()
        expected = on_reference(lambda: twin.fit(*self.data, optimizer=fnn.SGD(lr=0.01), **self.settings))
        np.testing.assert_allclose(self.model.history["loss"], expected["loss"], rtol=1e-3)

    def time_epoch(self, *parameters):
        self.model.fit(*self.data, optimizer=fnn.SGD(lr=0.01), **self.settings)


class Inference(OnBackend):
    """Probabilities of one row, as a service asks for them, and of many."""

    params = (BACKENDS, ("64-100-10, 32", "784-256-256-10, 128"), (1, 64, 4096))
    param_names = ("backend", "network", "rows")

    def setup(self, backend, network, rows):
        self.use(backend)
        widths, _ = NETWORKS[network]
        self.model = build(widths)
        self.x, _ = blobs(rows, widths)
        assert_agrees(self.time_predict_proba(), on_reference(self.model.predict_proba, self.x), "float32")

    def time_predict_proba(self, *parameters):
        return self.model.predict_proba(self.x)


class Memory:
    """The peak of a process that trains on 47 MB of bytes; asv counts the data, the interpreter and Numba too."""

    params = (BACKENDS,)
    param_names = ("backend",)
    timeout = 300

    def setup(self, backend):
        rng = np.random.default_rng(0)
        self.x, self.y = rng.integers(0, 256, (60_000, 784), np.uint8), rng.integers(0, 10, 60_000)

    def peakmem_data_alone(self, backend):
        pass

    def peakmem_fit(self, backend):
        with fnn.use_backend(backend):
            build((784, 128, 10)).fit(self.x, self.y, optimizer=fnn.SGD(lr=1e-6), epochs=1, batch_size=64, verbose=0)
