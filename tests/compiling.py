"""Compiles what most tests need, in a process beside the first of them: ``python -m tests.compiling``.

The networks side by side come first, which the tests need last of it, so that the two do not compile the same.
It ends with the process that started it, however that goes, see ``ahead``.
"""

import threading

import numpy as np

import fastnn as fnn
from fastnn.kernels.compiler.ahead import _end_with_the_parent


def side_by_side(dtype):
    """Train small networks in all lanes, and let them answer."""
    X, y = np.ones((4, 2), dtype), [0, 1, 0, 1]
    for optimizer in (fnn.SGD(), fnn.SGD(clip_norm=1.0)):
        models = [fnn.Sequential(fnn.Linear(2, 2), dtype=dtype, seed=i) for i in range(16)]
        fnn.fit_many(models, X, y, optimizer=optimizer, epochs=1, verbose=0)
    fnn.Ensemble(models).predict(X)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    for dtype in ("float32", "float64"):
        side_by_side(dtype)
    fnn.warmup()
