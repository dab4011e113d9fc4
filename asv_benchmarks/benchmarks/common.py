"""What the benchmarks share."""

from itertools import pairwise

import numpy as np

import fastnn as fnn

BACKENDS = ("numba", "numpy")
DTYPES = ("float32", "float64")
TOLERANCE = {"float32": 2e-4, "float64": 1e-10}

# name: widths and batch size
NETWORKS = {
    "20-32-2, 32": ((20, 32, 2), 32),
    "64-100-10, 32": ((64, 100, 10), 32),
    "784-128-10, 64": ((784, 128, 10), 64),
    "784-256-256-10, 128": ((784, 256, 256, 10), 128),
}


class OnBackend:
    """A benchmark whose first parameter is the backend.

    ``setup`` of a subclass ends by calling what it times once, which compiles it, and compares the result with the
    reference; so what is timed is right, and compiled.
    """

    timeout = 300

    def use(self, backend):
        self._chosen = fnn.use_backend(backend)
        self._chosen.__enter__()
        return np.random.default_rng(0)

    def teardown(self, *parameters):
        self._chosen.__exit__(None, None, None)


def assert_agrees(actual, expected, dtype):
    """Compare with the reference: elementwise, within the tolerance of the dtype at the size of the values."""
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE[dtype] * scale)


def on_reference(function, *arguments):
    """What the reference says."""
    with fnn.use_backend("numpy"):
        return function(*arguments)


def build(widths, dtype="float32"):
    """Linear layers of these widths, a ReLU between each two."""
    layers = [layer for n_in, n_out in pairwise(widths) for layer in (fnn.Linear(n_in, n_out), fnn.ReLU())]
    return fnn.Sequential(*layers[:-1], dtype=dtype)


def blobs(samples, widths, dtype="float32"):
    """Samples of as many classes as the network has outputs, each class around a centre of its own."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, widths[-1], samples)
    centres = rng.normal(size=(widths[-1], widths[0]))
    return (centres[y] + rng.normal(size=(samples, widths[0]))).astype(dtype), y
