"""The peak memory of a process that trains; the interpreter, the backend and the data count."""

import fastnn as fnn

from .common import BACKENDS, DTYPES, benchmark, build, use

SAMPLES, FEATURES, CLASSES = 20_000, 784, 10


def ready(backend, dtype):
    """A model with everything compiled and loaded, and its data."""
    rng = use(backend)
    # Drawn in its own dtype: a copy would be the peak.
    x, y = rng.random((SAMPLES, FEATURES), dtype), rng.integers(0, CLASSES, SAMPLES)
    model = build((FEATURES, 256, CLASSES), dtype)
    model.fit(x[:128], y[:128], epochs=1, batch_size=128, verbose=0)
    return model, x, y


@benchmark("peak memory before training", {"backend": BACKENDS, "dtype": DTYPES})
def peakmem_before(backend, dtype):
    held = ready(backend, dtype)
    return lambda: held


@benchmark("peak memory of training 784-256-10", {"backend": BACKENDS, "dtype": DTYPES})
def peakmem_fit(backend, dtype):
    model, x, y = ready(backend, dtype)
    return lambda: model.fit(x, y, optimizer=fnn.SGD(lr=1e-3), epochs=1, batch_size=128, verbose=0)
