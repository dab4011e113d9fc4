"""Networks side by side use the memory that is theirs: all of it ends where the process may read no further."""

import sys

import pytest

from tests.processes import run

# In a process of its own, which ends where a kernel reads or writes behind an array.
GUARDED = """
import numpy as np
import fastnn as fnn
from fastnn import kernels
from fastnn.kernels.lanes import jobs, room
from fastnn.kernels.network import whole
from tests.stress.subjects import guarded

class Numpy:
    def __getattr__(self, name):
        return getattr(np, name)

    def zeros(self, shape, dtype=float):
        return guarded(np.zeros(shape, dtype))

clipped = fnn.SGD(0.01, clip_norm=0.1)
for dtype in ("float32", "float64"):  # before NumPy has another name where code is compiled
    fnn.Sequential(fnn.Linear(2, 2), dtype=dtype).fit(np.eye(2), [0, 1], optimizer=clipped, epochs=1, verbose=0)
jobs.np = room.np = whole.np = Numpy()
room.aligned = jobs.aligned = lambda shape, dtype: guarded(np.zeros(shape, dtype))
train, lanes = kernels.train_lanes, []

def train_lanes(jobs):
    lanes.append(len(jobs))
    return train(jobs)

kernels.lanes_pay, kernels.train_lanes = lambda *numbers: True, train_lanes
rng = np.random.default_rng(0)
M = 23

def networks(d, k, dtype):
    layers = lambda: [fnn.Linear(d, k), fnn.LeakyReLU(0.1), fnn.LayerNorm(k), fnn.Dropout(0.2), fnn.Linear(k, k)]
    return [fnn.Sequential(*layers(), dtype=dtype, seed=i) for i in range(3)]

def weights(models):
    return [model._stack.params.tobytes() for model in models]

widths = (1, 2), (2, 1), (1, 1), (15, 17), (17, 15), (16, 33), (33, 16)
for d, k, dtype in [(*pair, dtype) for pair in widths for dtype in ("float32", "float64")]:
    goals = [
        ("cross_entropy", guarded(rng.integers(0, k, M)), dtype),
        ("squared_error", guarded(rng.normal(size=(M, k)).astype(dtype)), np.uint8),
        ("huber", guarded(rng.normal(size=(M, k)).astype(dtype)), "float64"),
        (fnn.Pinball(rng.uniform(0.1, 0.9, k)), guarded(rng.normal(size=(M, k)).astype(dtype)), dtype),
    ]
    ways = (1, "adam"), (7, "sgd"), (M, "adam"), (5, clipped)
    for (loss, y, x_dtype), (batch_size, optimizer) in zip(goals, ways):
        X = guarded(rng.integers(0, 5, (M, d)).astype(x_dtype))
        settings = dict(loss=loss, optimizer=optimizer, epochs=2, batch_size=batch_size, verbose=0)
        models, alone = networks(d, k, dtype), networks(d, k, dtype)
        v = guarded(rng.uniform(size=M).astype(dtype))
        fnn.fit_many(models, X, y, sample_weight=[v, None, v], l2=[0.1, 0.0, 0.0], **settings)
        for model, weight, l2 in zip(alone, (v, None, v), (0.1, 0.0, 0.0)):
            model.fit(X, y, sample_weight=weight, l2=l2, **settings)
        assert weights(models) == weights(alone), (d, k, dtype, loss)
        stacks = [model._stack for model in models]
        out = guarded(np.zeros((3, M, k), dtype))
        most = kernels.count_lanes(out.dtype)
        for start in range(0, 3, most):
            some = slice(start, start + most)
            kernels.forward_lanes([(stack.inference, stack.params) for stack in stacks[some]], X, out[some], True)
        assert [part.tobytes() for part in out] == [stack.outputs(X, softmax=True).tobytes() for stack in stacks]
assert lanes
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are guarded by mprotect")
def test_nothing_is_read_or_written_behind_it():
    run(GUARDED, FASTNN_NUM_THREADS=1)
