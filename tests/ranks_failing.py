"""What ends or is refused in the tests of ``fit`` with ``comm=``; ``tests.ranks`` runs it."""

import os
import signal
import threading
import time
from contextlib import nullcontext
from functools import partial
from unittest import mock

import numpy as np

import fastnn as fnn
from fastnn.training.ranks import _IN_USE, Ranks
from tests.ranks_data import MORE, OPTIMIZERS, QUIET, N, X, Y, as_one, at, digest, network, share


class Unprintable(Exception):
    """What has no message, and raises where it is asked for one."""

    def __str__(self):
        raise self


class Raises:
    """A layer that raises in the middle of an epoch."""

    n_in = n_out = None

    def __init__(self, kind):
        self.kind, self.passes = kind, 0

    def forward(self, x, training=False):
        self.passes += 1
        if self.kind is not None and self.passes == 6:
            raise self.kind("as a user's code may")
        return x

    def backward(self, dy):
        return dy


def refused(comm):
    """What each rank raises, and that nothing has changed; ``last`` is what the last of the ranks is given."""
    last = comm.rank == comm.size - 1
    rows = share("even", comm)
    x, y = X[rows], Y[rows]
    holes = x.copy()
    holes[0, 0] = np.nan
    validation = (x, y)

    def only(value, other):
        return value if last else other

    def made_by(setting):
        def call(fit):
            with setting:
                fit(x, y)

        return call

    calls = {
        "batch_size": lambda fit: fit(x, y, batch_size=only(8, 16)),
        "loss": lambda fit: fit(x, y, loss=only(fnn.CrossEntropy(label_smoothing=0.1), "cross_entropy")),
        "optimizer": lambda fit: fit(x, y, optimizer=only(fnn.SGD(0.01, momentum=0.9), "sgd")),
        "lr": lambda fit: fit(x, y, optimizer=fnn.SGD(only(0.02, 0.01))),
        "dtype of X": lambda fit: fit(only(x.astype(np.float32), x), y),
        "dtype of y": lambda fit: fit(x, only(y.astype(np.int32), y)),
        "weights": lambda fit: fit(x, y, sample_weight=only(np.ones(len(y)), None)),
        "validation": lambda fit: fit(x, y, validation_data=only(validation, None)),
        "stripes": lambda fit: fit(x, y, stripes=only(8, None)),
        "nan": lambda fit: fit(only(holes, x), y),
        "label": lambda fit: fit(x, only(y + 3, y)),
        "columns": lambda fit: fit(only(x[:, :5], x), y),
        "no stripes": lambda fit: fit(x, y, stripes=6),
        "rows of stripes": lambda fit: fit(x[: 2 + comm.rank], y[: 2 + comm.rank], stripes=8),
        "split": lambda fit: fit(x, y, validation_split=0.5),
        "source": lambda fit: fit([(x, y)], None),
        "buffer": lambda fit: fit(x, y, buffer=100),
        "sync": lambda fit: fit(x, y, sync="never"),
        "no samples": lambda fit: fit(x[:0], y[:0]),
        "no validation": lambda fit: fit(x, y, validation_data=(x[:0], y[:0])),
        "no weights": lambda fit: fit(x, y, sample_weight=np.zeros(len(y))),
        "rows of y": lambda fit: fit(only(x[:0], x), only(y[:2], y)),
        "no pair": lambda fit: fit(x, y, validation_data=(x, y, y)),
        "no sequence": lambda fit: fit(x, y, validation_data=3),
        "small shares": lambda fit: fit(x, y, sync="epoch", batch_size=13),
        "no group": lambda fit: fit(x, y, comm=type(comm)()),
        "version": made_by(mock.patch.object(fnn, "__version__", "0.0") if last else nullcontext()),
        "backend": made_by(fnn.use_backend("numpy") if last else nullcontext()),
    }
    found = {}
    for name, call in calls.items():
        model = network("batch norm" if name == "small shares" else "plain", seed=comm.rank)
        before = model.flat_parameters().copy()
        start = time.monotonic()
        try:
            call(partial(model.fit, comm=comm, **QUIET))
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
        else:
            told = "nothing"
        same = bool((model.flat_parameters() == before).all()) and model.history == {}
        found[name] = comm.gather((told, same, time.monotonic() - start))
    return found


def raising(comm):
    """A rank that raises while all train ends all, which keep the last whole epoch."""
    rows, found = share("even", comm), {}
    last = comm.rank == comm.size - 1
    for name, kind in {"ValueError": ValueError, "OSError": OSError, "KeyboardInterrupt": KeyboardInterrupt}.items():
        for layers in ([fnn.Linear(6, 9)], [fnn.Linear(6, 9), fnn.BatchNorm(9)]):
            model = fnn.Sequential(*layers, Raises(kind if last else None), fnn.Linear(9, 3), seed=comm.rank)
            before, start = model.flat_parameters().copy(), time.monotonic()
            try:
                model.fit(X[rows], Y[rows], comm=comm, epochs=3, **QUIET)
            except BaseException as error:
                told = f"{type(error).__name__}: {error}"
            first_epoch = bool((model.flat_parameters() != before).any())
            states = len(model.history["loss"]), first_epoch
            found[f"{name}, {len(layers)}"] = comm.gather((told, states, time.monotonic() - start))

    raised = {
        "callback": RuntimeError("in a callback"),
        "one's divergence": fnn.DivergenceError(0, 0, 1),
        "no message": Unprintable(),
        "long": OSError("a" * 10**6),
        "exit": SystemExit(0),
    }
    for name, error in raised.items():

        def breaks(model, epoch, values, error=error):
            if last and epoch == 2:
                raise error

        model = network("plain")
        try:
            model.fit(X[rows], Y[rows], comm=comm, epochs=5, callbacks=[breaks], **QUIET)
        except BaseException as error:
            told = type(error).__name__ if isinstance(error, Unprintable) else f"{type(error).__name__}: {error}"
        found[name] = comm.gather((told[:1100], (len(model.history["loss"]), True), 0.0))

    model = network("plain")
    try:
        model.fit(X[rows] * 1e150, X[rows][:, :3] * 1e150, loss="squared_error", comm=comm, epochs=5, **QUIET)
    except fnn.DivergenceError as error:
        told = f"{type(error).__name__}: {error}"
    kept = bool(np.isfinite(model.flat_parameters()).all()) and as_one(comm, model.flat_parameters().tobytes())
    found["divergence"] = comm.gather((told, (0, kept), 0.0))
    return found


def meeting(comm):
    """A rank that raises before or while it meets the others, which come later."""
    rows, found, begin = share("even", comm), {}, Ranks._begin_to_meet
    for name, error in {"before": MemoryError("no room"), "while": KeyboardInterrupt("now"), "none": None}.items():
        errors = [error] if error and comm.rank == comm.size - 1 else []

        def breaks(ranks, errors=errors, name=name):
            if not errors or name == "while":
                begin(ranks)
            if errors:
                raise errors.pop()

        model, told = network("plain"), None
        time.sleep(0 if errors else 0.2)
        try:
            with mock.patch.object(Ranks, "_begin_to_meet", breaks):
                model.fit(X[rows], Y[rows], comm=comm, epochs=1, **QUIET)
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        found[name] = comm.gather((told, len(_IN_USE)))
    return found


def surviving(comm):
    """Goes on from a checkpoint, and is killed after an epoch where the environment says so."""
    dies, name = int(os.environ.get("DIES_AFTER", "0")), os.environ["NET"]
    cut = None if os.environ.get("STRIPES") == "none" else 8
    rows = fnn.rank_rows(N, comm, stripes=cut)

    def die(model, epoch, values):
        if epoch == dies and comm.rank == comm.size - 1:
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)

    model, rule = network(name, seed=comm.rank), OPTIMIZERS[name]()
    stopping = fnn.EarlyStopping(patience=50, monitor="loss", restore_best=False)
    settings = at(rows, {**QUIET, **MORE[name], "epochs": 6, "stripes": cut, "checkpoint": os.environ["CHECKPOINT"]})
    history = model.fit(X[rows], Y[rows], optimizer=rule, comm=comm, callbacks=[stopping, die], **settings)
    assert as_one(comm, digest(model, rule, history), stopping.best_epoch)
    return {"digest": digest(model, rule, history), "loss": history["loss"]}


def interrupted(comm):
    """What MPI still writes to lives on where Ctrl-C on the first ends the waiting for the last, which is late."""
    ranks, array = Ranks(comm), np.full(1000, comm.rank, np.float32)
    if comm.rank == 0:
        threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
    try:
        with ranks.guarded():
            if comm.rank == comm.size - 1:
                time.sleep(0.6)
            ranks.sum(array)
    except BaseException as error:
        told = type(error).__name__
    kept = any(isinstance(buffer, np.ndarray) and len(buffer) == 1000 for held in _IN_USE.values() for buffer in held)
    return comm.gather((told, kept))


def unlike(comm):
    """Ranks that hold what is not their share of the stripes."""
    n = 10 if comm.rank == 0 else 20
    try:
        network("plain").fit(X[:n], Y[:n], comm=comm, stripes=8, **QUIET)
    except ValueError as error:
        return comm.gather(f"{type(error).__name__}: {error}")


SCENARIOS = refused, raising, meeting, surviving, interrupted, unlike
