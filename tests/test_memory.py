"""Data that memory cannot hold: a fit takes no more memory for more samples."""

import os
import sys

import pytest

from tests.processes import run

# The kernels are tried here, whichever twin the environment chooses: once is enough.
pytestmark = pytest.mark.skipif(os.environ.get("FASTNN_BACKEND") == "numpy", reason="tries the kernels")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory that a process writes to")
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_file_larger_than_memory(dtype, tmp_path):
    """All rows but the last are zero, so the probabilities are equal until something was learned, which 1e-30 forbids.

    A sparse file stands for the data: it takes no room on the disk either.
    """
    code = f"""
import re, resource
from pathlib import Path
import numpy as np
import fastnn as fnn

path, shape = {str(tmp_path / "X")!r}, (200_000 if {dtype!r} == "uint8" else 80_000, 784)
X = np.memmap(path, {dtype!r}, "w+", shape=shape)
X[-1] = 1
X = np.memmap(path, {dtype!r}, "r", shape=shape)
y = np.arange(len(X)) % 10

def model():
    return fnn.Sequential(fnn.Linear(784, 16), fnn.ReLU(), fnn.Linear(16, 10), seed=0)

settings = dict(optimizer=fnn.SGD(lr=1e-30), batch_size=256, epochs=1, verbose=0)
model().fit(np.ones((600, 784), X.dtype), y[:600], validation_data=(np.ones((600, 784), X.dtype), y[:600]), **settings)
trained = model()
trained.loss = "cross_entropy"
trained.predict_proba(np.ones((600, 784), X.dtype))
first, second = trained.layers[0], trained.layers[2]
scores = np.maximum(np.ones(784) @ first.weight + first.bias, 0) @ second.weight + second.bias

written = int(re.search(r"VmData:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
limit = written + X.nbytes // 4
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.array(X)
except MemoryError:
    pass
else:
    raise AssertionError("the limit does not hold")

history = trained.fit(X, y, validation_data=(X, y), **settings)
np.testing.assert_allclose([*history["loss"], *history["val_loss"]], np.log(10), rtol=1e-4)
np.testing.assert_allclose(history["val_accuracy"], 0.1, atol=1e-5)
p = trained.predict_proba(X)
np.testing.assert_array_equal(p[:-1], np.float32(0.1))
np.testing.assert_allclose(p[-1], np.exp(scores) / np.exp(scores).sum(), rtol=1e-5)
assert trained.predict(X)[-1] == scores.argmax()
assert abs(trained.evaluate(X, y)["loss"] - np.log(10)) < 1e-4
"""
    run(code, FASTNN_BACKEND="numba")
