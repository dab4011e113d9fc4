"""What processes do together in the tests of ``fit`` with ``comm=``: ``mpiexec -n 3 python -m tests.ranks NAME``.

The first one prints what was found as JSON.
"""

import json
import os
import signal
import sys
import warnings
from itertools import pairwise

import numpy as np

import fastnn as fnn
from fastnn.training.ranks import HALVES_FROM, Ranks
from fastnn.training.stripes import dealt
from tests import ranks_failing
from tests.ranks_data import BATCH, MORE, NETS, OPTIMIZERS, QUIET, N, X, Y, as_one, at, digest, network, share, sizes


def united(comm):
    """The result is that of one process which gets the same batches in one array."""
    found = {}
    for kind in ("even", "uneven", "empty"):
        of_ranks = np.array(sizes(kind, comm.size))
        starts, rows = np.cumsum([0, *of_ranks]), share(kind, comm)
        cuts = dealt(of_ranks, BATCH)
        spans = [(starts[r] + a[r], starts[r] + b[r]) for a, b in pairwise(cuts) for r in range(comm.size)]
        order = np.concatenate([np.arange(*span) for span in spans])
        for name in NETS:
            settings = {**QUIET, **MORE[name], "epochs": 3, "shuffle": False}
            models = network(name, seed=comm.rank), network(name)
            rules = OPTIMIZERS[name](), OPTIMIZERS[name]()
            history = models[0].fit(X[rows], Y[rows], optimizer=rules[0], comm=comm, **at(rows, settings))
            whole = models[1].fit(X[order], Y[order], optimizer=rules[1], **at(order, settings))
            pairs = [*zip(models[0].parameters(), models[1].parameters(), strict=True)]
            pairs += zip(rules[0].state(), rules[1].state(), strict=True)
            pairs += [(np.array(history["loss"]), np.array(whole["loss"]))]
            error = max(float(np.abs(a - b).max(initial=0) / (np.abs(b).max(initial=0) + 1e-9)) for a, b in pairs)
            same = as_one(comm, digest(models[0], rules[0], history), rules[0].steps, rules[0].epoch)
            found[f"{kind}, {name}"] = error, same, rules[0].steps == rules[1].steps
    return found


def stripes(comm):
    """What is to be the same on any number of ranks."""
    found = {}
    for name in NETS:
        for sync in ("step", "epoch"):
            if (name, sync) == ("batch norm", "epoch"):
                continue
            rows = fnn.rank_rows(N, comm, stripes=8)
            model, rule = network(name, dtype="float32"), OPTIMIZERS[name]()
            settings = at(rows, {**QUIET, **MORE[name], "epochs": 3, "stripes": 8, "sync": sync})
            history = model.fit(X[rows], Y[rows], optimizer=rule, comm=comm, **settings)
            assert as_one(comm, digest(model, rule, history))
            found[f"{name}, {sync}"] = digest(model, rule, history)
    return found


def histories(comm):
    """Values of the validation data and metrics, callbacks, Ctrl-C: all of them agree on all ranks."""
    found = {}
    rows, names = share("uneven", comm), np.array(["a", "b", "c"], object)[Y]
    seen = []
    settings = {
        **QUIET,
        "epochs": 60,
        "validation_data": (X[rows], names[rows])
        if comm.rank < comm.size - 1 or comm.size == 1
        else (X[:0], names[:0]),
        "metrics": ["f1", "balanced_accuracy"],
        "callbacks": [fnn.EarlyStopping(patience=1), lambda model, epoch, values: seen.append(tuple(values.values()))],
        "optimizer": fnn.Adam(0.3),
    }
    model = network("plain", seed=comm.rank)
    history = model.fit(X[rows], names[rows], comm=comm, **settings)
    assert as_one(comm, repr(sorted(history.items())), history.stopped, tuple(seen), model.flat_parameters().tobytes())
    there = slice(0, N) if comm.size == 1 else slice(0, sum(sizes("uneven", comm.size)[:-1]))
    measured = model.evaluate(X[there], names[there], metrics=["f1"])
    best = settings["callbacks"][0].best_epoch - 1
    found["classes"] = model.classes_.tolist()
    found["stopped"] = history.stopped and len(history["loss"]) < 60
    found["values"] = [abs(history[f"val_{name}"][best] - measured[name]) for name in ("loss", "accuracy", "f1")]
    whole = model.evaluate(X, names, metrics=["f1"])["f1"]
    found["f1"] = abs(history["f1"][best] - whole)

    def asks(model, epoch, values):
        return comm.rank == comm.size - 1 and epoch == 2

    history = network("plain").fit(X[rows], Y[rows], comm=comm, callbacks=[asks], epochs=9, **QUIET)
    found["asked"] = as_one(comm, history.stopped, len(history["loss"])) and (
        history.stopped,
        len(history["loss"]),
    ) == (True, 2)

    def presses(model, epoch, values):
        if comm.rank == comm.size - 1 and epoch == 3:
            os.kill(os.getpid(), signal.SIGINT)

    history = network("plain").fit(X[rows], Y[rows], comm=comm, callbacks=[presses], epochs=9, **QUIET)
    found["interrupted"] = as_one(comm, history.interrupted, len(history["loss"])) and (
        history.interrupted,
        len(history["loss"]),
    ) == (True, 3)

    class Hears:
        def __init__(self):
            self.heard = []

        def __call__(self, model, epoch, values):
            self.loss = values["loss"]

        def after_batch(self, model, epoch, batch, loss):
            self.heard.append(loss)

    hears, quiet = Hears(), network("dropout")
    model = network("dropout")
    settings = {**QUIET, "epochs": 1, "optimizer": fnn.SGD(0.1)}
    model.fit(X[rows], Y[rows], comm=comm, callbacks=[hears], **settings)
    quiet.fit(X[rows], Y[rows], comm=comm, **{**settings, "optimizer": fnn.SGD(0.1)})
    found["heard"] = as_one(comm, tuple(hears.heard)) and bool(
        (model.flat_parameters() == quiet.flat_parameters()).all()
    )
    found["mean"] = abs(np.average(hears.heard, weights=[16, 16, 16, 13]) - hears.loss)
    return found


def averaged(comm):
    """With one update an epoch, the mean of all steps is the step along the mean gradient."""
    found = {}
    for kind in ("even", "uneven", "empty"):
        rows = share(kind, comm)
        models, settings = [network("plain", seed=5) for _ in range(2)], {"epochs": 3, "verbose": 0, "batch_size": N}
        models[0].fit(X[rows], Y[rows], comm=comm, sync="epoch", optimizer=fnn.SGD(0.1), **settings)
        models[1].fit(X, Y, optimizer=fnn.SGD(0.1), **settings)
        error = np.abs(models[0].flat_parameters() - models[1].flat_parameters()).max()
        found[kind] = float(error), as_one(comm, models[0].flat_parameters().tobytes())
        history = models[0].fit(X[rows], Y[rows], comm=comm, sync="epoch", optimizer="adam", epochs=40, **QUIET)
        found[f"{kind}, learns"] = as_one(comm, tuple(history["loss"])) and history["loss"][-1] < history["loss"][0]
    return found


def sums(comm):
    """Short arrays and long ones, which are added up in parts, come out of the same tree."""
    ranks, found = Ranks(comm), []
    with ranks.guarded():
        for n in (1, 1000, HALVES_FROM // 4 + 3):
            every = np.random.default_rng(n).normal(size=(comm.size, n)).astype(np.float32)
            own, power = every[comm.rank].copy(), 1 << (comm.size.bit_length() - 1)
            ranks.sum(own)
            rows = [row + every[power + i] if power + i < comm.size else row for i, row in enumerate(every[:power])]
            while len(rows) > 1:
                rows = [a + b for a, b in zip(rows[::2], rows[1::2], strict=True)]
            found.append(bool((own == rows[0]).all()) and as_one(comm, own.tobytes()))
    return found


AGREEING = united, stripes, histories, averaged, sums
SCENARIOS = {f.__name__: f for f in (*AGREEING, *ranks_failing.SCENARIOS)}


def main():
    from mpi4py import MPI

    warnings.simplefilter("error")
    found = {name: SCENARIOS[name](MPI.COMM_WORLD) for name in sys.argv[1:]}
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
