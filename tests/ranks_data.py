"""What the processes of ``tests.ranks`` train on, their shares of it, and how they compare what they have."""

import hashlib

import numpy as np

import fastnn as fnn
from tests.user_code import UserCrossEntropy, UserLinear, UserReLU

N, BATCH = 61, 16
rng = np.random.default_rng(0)
X, Y, WEIGHTS = rng.normal(size=(N, 6)), rng.integers(0, 3, N), rng.uniform(0.1, 3, N)
X[:, 5] = rng.integers(0, 7, N)
QUIET = {"verbose": 0, "batch_size": BATCH}


def own_layer():
    return UserLinear(np.random.default_rng(1).normal(size=(6, 9)), np.zeros(9))


NETS = {
    "plain": lambda: [fnn.Linear(6, 9), fnn.ReLU(), fnn.Linear(9, 3, lr_scale=0.5)],
    "dropout": lambda: [fnn.Linear(6, 9), fnn.ReLU(), fnn.Dropout(0.3), fnn.Linear(9, 3)],
    "batch norm": lambda: [
        fnn.Linear(6, 9, bias=False),
        fnn.BatchNorm(9),
        fnn.Tanh(),
        fnn.Residual(fnn.Linear(9, 9, bias=False), fnn.BatchNorm(9), fnn.Dropout(0.2)),
        fnn.Linear(9, 3),
    ],
    "tables": lambda: [fnn.Embedding({5: (7, 2)}), fnn.Linear(7, 9), fnn.ReLU(), fnn.Linear(9, 3)],
    "own layers": lambda: [own_layer(), UserReLU(), fnn.LayerNorm(9), fnn.Linear(9, 3)],
}
OPTIMIZERS = {
    "plain": lambda: fnn.Adam(0.01, clip_norm=0.3),
    "dropout": lambda: fnn.AdamW(fnn.schedules.cosine(0.05, 30, per="step"), weight_decay=0.1),
    "batch norm": lambda: fnn.SGD(0.1, momentum=0.9),
    "tables": lambda: fnn.Adam(0.02),
    "own layers": lambda: fnn.RMSprop(0.01, clip_norm=0.5),
}
MORE = {
    "plain": {"l2": 0.01, "class_weight": "balanced", "sample_weight": WEIGHTS},
    "dropout": {"l2": 0.01, "accumulate": 2},
    "batch norm": {"sample_weight": WEIGHTS},
    "tables": {"l2": 0.01},
    "own layers": {"loss": UserCrossEntropy(), "accumulate": 2},
}


def network(name, seed=0, dtype="float64"):
    return fnn.Sequential(*NETS[name](), dtype=dtype, seed=seed)


def sizes(kind, ranks):
    if ranks == 1:
        return [N]
    few = N // (ranks - 1)
    return {
        "even": [N // ranks + (i < N % ranks) for i in range(ranks)],
        "uneven": [N - 2 * (ranks - 1)] + [2] * (ranks - 1),
        "empty": [*[few] * (ranks - 2), N - few * (ranks - 2), 0],
    }[kind]


def share(kind, comm):
    ends = np.cumsum([0, *sizes(kind, comm.size)])
    return slice(ends[comm.rank], ends[comm.rank + 1])


def at(rows, settings):
    """The arguments of a rank."""
    return {name: value[rows] if name == "sample_weight" else value for name, value in settings.items()}


def digest(model, optimizer, history):
    found = hashlib.sha256(repr(sorted(history.items())).encode())
    for array in [*model.parameters(), model.flat_parameters(), *optimizer.state()]:
        found.update(array.tobytes())
    return found.hexdigest()


def as_one(comm, *values):
    """Whether all processes have the same."""
    return len(set(comm.allgather(values))) == 1
