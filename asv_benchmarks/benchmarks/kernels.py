"""Every public function of arrays."""

import copy

import numpy as np

import fastnn as fnn

from .common import BACKENDS, CASES, DTYPES, assert_agrees, benchmark, on_reference, use


def profile(name):
    """The benchmark of that function, at each of its sizes."""
    function = getattr(fnn, name)
    sizes = {CASES.label(sizes): sizes for sizes in CASES.FUNCTIONS[name][0]}

    def prepare(backend, dtype, size):
        given = CASES.arguments(name, sizes[size], dtype, use(backend))
        expected = on_reference(CASES.outcome, function, copy.deepcopy(given))
        for found, right in zip(CASES.outcome(function, copy.deepcopy(given)), expected, strict=True):
            assert_agrees(found, right, dtype)
        return lambda: function(*given)

    prepare.__name__ = f"time_{name}"
    return benchmark(name, {"backend": BACKENDS, "dtype": DTYPES, "size": tuple(sizes)})(prepare)


globals().update({f"time_{name}": profile(name) for name in CASES.FUNCTIONS})


@benchmark(
    "matmul of 512 x 512 in float32, by precision", {"backend": BACKENDS, "precision": ("highest", "high", "medium")}
)
def time_matmul_precision(backend, precision):
    """On the matrix unit where the CPU has one, else all alike."""
    a, b = use(backend).standard_normal((2, 512, 512), np.float32)

    def product():
        with fnn.use_matmul_precision(precision):
            return fnn.matmul(a, b)

    error = np.abs(product() - a.astype(np.float64) @ b) / (np.abs(a) @ np.abs(b))
    assert error.max() < {"highest": 1e-6, "high": 1e-5, "medium": 4e-3}[precision]
    return product
