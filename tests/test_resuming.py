"""Trainings that end early and go on: to the same bits, wherever they were broken off and whatever is on disk."""

import copy
import datetime
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fastnn as fnn
from fastnn.backend import MODULES, active
from tests.user_code import UserLinear, UserReLU

pytestmark = pytest.mark.usefixtures("backend")


@pytest.fixture
def data(rng):
    X = rng.normal(size=(60, 6))
    return X, rng.integers(0, 3, 60)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "run.npz")


class Broken(Exception):
    pass


def breaks_after(epoch):
    """A callback that breaks off, as a plain function without state."""

    def callback(model, now, values):
        if now == epoch:
            raise Broken

    return callback


def nothing(model, epoch, values):
    """What a call that is not to be broken off has in its place."""


nothing.__qualname__ = breaks_after(1).__qualname__

LAYERS = {
    "plain": lambda: [fnn.Linear(6, 9), fnn.Tanh(), fnn.Linear(9, 3)],
    "dropout and running means": lambda: [
        fnn.Linear(6, 9),
        fnn.BatchNorm(9),
        fnn.ReLU(),
        fnn.Dropout(0.3),
        fnn.Linear(9, 3),
    ],
    "layer by layer": lambda: [fnn.Linear(6, 9), UserReLU(), fnn.Dropout(0.3), fnn.Linear(9, 3)],
}
OPTIMIZERS = {
    "adam": lambda: fnn.Adam(0.01),
    "momentum": lambda: fnn.SGD(0.1, momentum=0.9, clip_norm=0.5),
    "by step": lambda: fnn.SGD(fnn.schedules.cosine(0.1, 50, per="step")),
}


def trained(kind, data, path, optimizer="adam", fault=None, seed=1, dtype="float32", **more):
    """A model, its optimizer and its history; ``fault`` is the epoch after which the training is broken off."""
    model = fnn.Sequential(*LAYERS[kind](), seed=seed, dtype=dtype)
    rule, history = OPTIMIZERS[optimizer](), None
    stopping = fnn.EarlyStopping(patience=3, monitor="loss")
    callbacks = [nothing if fault is None else breaks_after(fault), stopping, fnn.ReduceOnPlateau(monitor="loss")]
    callbacks = callbacks[: 2 if optimizer == "by step" else 3]
    settings = {"epochs": 6, "batch_size": 7, "l2": 0.01, "verbose": 0, "validation_split": 0.2} | more
    try:
        history = model.fit(*data, optimizer=rule, callbacks=callbacks, checkpoint=path, **settings)
    except Broken:
        assert fault is not None
    return model, rule, history


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert type(a) is type(b)
    np.testing.assert_array_equal(one[0]._stack.params, other[0]._stack.params)
    for a, b in zip(one[1].state(), other[1].state(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one[1].steps, one[1].epoch, one[1].lr) == (other[1].steps, other[1].epoch, other[1].lr) or callable(
        one[1].lr
    )
    assert dict(one[2]) == dict(other[2])
    assert one[0]._stack.rng.bit_generator.state == other[0]._stack.rng.bit_generator.state


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", LAYERS)
def test_goes_on_to_the_same_bits(kind, optimizer, data, path, dtype):
    dtype = np.dtype(dtype).name
    whole = trained(kind, data, None, optimizer, dtype=dtype)
    for fault in (1, 3):  # the second run is broken off as well, and written before the callback that breaks it
        assert trained(kind, data, path, optimizer, fault, dtype=dtype)[2] is None
    assert_same(trained(kind, data, path, optimizer, dtype=dtype), whole)


def test_the_model_of_another_process_may_start_from_elsewhere(data, path):
    """What is written says where the weights, the order of samples and the split come from."""
    whole = trained("plain", data, None, seed=1)
    trained("plain", data, path, fault=3, seed=1)
    assert_same(trained("plain", data, path, seed=2), whole)


def test_more_epochs_than_before(data, path):
    trained("plain", data, path, epochs=2)
    assert_same(trained("plain", data, path, epochs=6), trained("plain", data, None, epochs=6))


def test_a_finished_run_is_there_at_once(data, path, monkeypatch):
    first = trained("plain", data, path)
    written = os.stat(path).st_mtime_ns
    monkeypatch.setattr("fastnn.training.compiled.CompiledEpoch.__call__", None)
    assert_same(trained("plain", data, path), first)
    assert os.stat(path).st_mtime_ns == written


def test_a_run_that_a_callback_stopped_is_finished(data, path):
    models = [fnn.Sequential(*LAYERS["plain"](), seed=1) for _ in range(2)]
    for model in models:
        stopping = fnn.EarlyStopping(patience=1, min_delta=10.0, monitor="loss")
        history = model.fit(*data, epochs=50, callbacks=[stopping], checkpoint=path, verbose=0)
        assert history.stopped
        assert (len(history["loss"]), stopping.best_epoch) == (2, 2)
    np.testing.assert_array_equal(models[0]._stack.params, models[1]._stack.params)


def test_how_often(data, path):
    """Two epochs a file: what comes after the last one is trained again. Time counts as well."""
    found = []

    def look(model, epoch, values):
        found.append(os.path.exists(path) and os.stat(path).st_mtime_ns)

    settings = {"epochs": 5, "verbose": 0, "callbacks": [look]}
    fnn.Sequential(*LAYERS["plain"]()).fit(*data, checkpoint=path, checkpoint_every=2, **settings)
    assert found[0] is found[1] is False
    assert found[2] == found[3] != found[4]
    os.remove(path)
    hour = datetime.timedelta(hours=1)
    fnn.Sequential(*LAYERS["plain"]()).fit(*data, checkpoint=path, checkpoint_every=hour, **settings)
    assert found[5:] == [False] * 5
    assert os.path.exists(path)  # at the end in any case


def test_own_callbacks_with_state(data, path):
    class Sums:
        def begin(self, model, names):
            self.total, self.arrays = 0.0, [np.zeros(2)]

        def __call__(self, model, epoch, values):
            self.total += values["loss"]
            self.arrays[0] += epoch
            if epoch == 3 and not self.goes_on:
                raise Broken

        def state_dict(self):
            return {"total": self.total, "arrays": self.arrays, "note": ["a", None, True]}

        def load_state_dict(self, state):
            assert state["note"] == ["a", None, True]
            self.total, self.arrays = state["total"], state["arrays"]

    first, second = Sums(), Sums()
    first.goes_on, second.goes_on = False, True
    settings = {"epochs": 4, "checkpoint": path, "verbose": 0}
    with pytest.raises(Broken):
        fnn.Sequential(*LAYERS["plain"](), seed=1).fit(*data, callbacks=[first], **settings)
    history = fnn.Sequential(*LAYERS["plain"](), seed=1).fit(*data, callbacks=[second], **settings)
    assert second.total == sum(history["loss"])
    np.testing.assert_array_equal(second.arrays[0], [1 + 2 + 3 + 4] * 2)


def test_a_callback_whose_state_no_file_holds(data, path):
    class Odd:
        def __call__(self, model, epoch, values):
            raise AssertionError("no epoch is trained")

        def state_dict(self):
            return {"lock": object()}

        def load_state_dict(self, state):
            pass

    model = fnn.Sequential(*LAYERS["plain"](), seed=1)
    before = model._stack.params.copy()
    with pytest.raises(
        TypeError, match=r"callbacks\[0\]\.state_dict\(\)\['lock'\] is <object.*expected numbers, texts"
    ):
        model.fit(*data, callbacks=[Odd()], checkpoint=path, verbose=0)
    np.testing.assert_array_equal(model._stack.params, before)
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"batch_size": 8}, "was written with batch_size=7, but batch_size is 8: give what it was, another path, or"),
        ({"l2": 0.5}, "l2=0.01, but l2 is 0.5"),
        ({"validation_split": 0.5}, "rows=.*, but rows is"),
        ({"shuffle": False}, "shuffle=True, but shuffle is False"),
        ({"accumulate": 2}, "accumulate=1, but accumulate is 2"),
        ({"metrics": ["f1"]}, "metrics=.*, but metrics is"),
        ({"sample_weight": np.full(60, 0.5)}, "sample_weight or class_weight=None, but"),
        ({"optimizer": "momentum"}, r"optimizer=\['Adam', .*, but optimizer is \['SGD'"),
        ({"kind": "dropout and running means"}, "layers=.*, but layers is"),
        ({"dtype": "float64"}, "dtype='float32', but dtype is 'float64'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_arguments_are_refused_by_name(other, message, data, path):
    trained("plain", data, path, epochs=1)
    with pytest.raises(ValueError, match=message):
        trained(**{"kind": "plain", "data": data, "path": path, **other})
    with pytest.raises(ValueError, match=r"X=\[60, 6, '<f8'\], but X is \[59, 6, '<f8'\]"):
        trained("plain", (data[0][:59], data[1][:59]), path)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"checkpoint": 3}, TypeError, "checkpoint is 3, expected a str or a path"),
        ({"checkpoint": "no/such/run.npz"}, ValueError, "checkpoint is .*, but there is no folder .*: make it first"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every is 0, expected a positive integer"),
        ({"checkpoint_every": 2.5}, TypeError, "checkpoint_every is 2.5, expected a number of epochs, or a datetime"),
        ({"checkpoint_every": "5m"}, TypeError, "checkpoint_every is '5m', expected a number of epochs, or a datetime"),
        (
            {"checkpoint_every": datetime.timedelta(0)},
            ValueError,
            r"checkpoint_every is datetime.timedelta\(0\), expected a time > 0",
        ),
    ],
)
def test_refused(settings, error, message, data):
    with pytest.raises(error, match=message):
        fnn.Sequential(*LAYERS["plain"]()).fit(*data, **settings, verbose=0)


def damage(path, where=0.5):
    with open(path, "r+b") as file:
        file.seek(int(os.path.getsize(path) * where))
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x55]))


def test_a_damaged_file_says_so_and_the_one_before_it_is_used(data, path):
    whole = trained("plain", data, None)
    trained("plain", data, path, fault=4)
    damage(path)
    with pytest.warns(UserWarning, match=r"run\.npz is damaged.*; going on from the one before it, .*run\.npz\.before"):
        found = trained("plain", data, path)
    assert_same(found, whole)
    damage(path)
    damage(f"{path}.before")
    with pytest.raises(ValueError, match=r"run\.npz is damaged.*none before it that is whole: remove the file"):
        trained("plain", data, path)


def test_a_damaged_file_does_not_take_the_place_of_the_one_before_it(data, path):
    trained("plain", data, path, fault=4)
    kept = pathlib.Path(f"{path}.before").read_bytes()
    damage(path)
    with pytest.warns(UserWarning, match="going on from the one before it"):
        trained("plain", data, path, epochs=3)
    assert pathlib.Path(f"{path}.before").read_bytes() == kept
    trained("plain", data, path, epochs=4)
    assert pathlib.Path(f"{path}.before").read_bytes() != kept


def test_own_parameters_of_another_shape_are_refused(data, path):
    def fit(bias):
        model = fnn.Sequential(UserLinear(np.ones((6, 3)), bias))
        model.fit(*data, checkpoint=path, epochs=1, verbose=0)

    fit(np.zeros(3))
    with pytest.raises(
        ValueError, match=r"parameters and states of shapes .*\(3,\).*, but they are .*\(1, 3\).*: give"
    ):
        fit(np.zeros((1, 3)))


@pytest.mark.parametrize("size", [0, 1, 100, 1000])
def test_a_file_that_was_cut_off(size, data, path):
    trained("plain", data, path, epochs=1)
    with open(path, "r+b") as file:
        file.truncate(size)
    with pytest.raises(ValueError, match=r"no \.npz file|damaged"):
        trained("plain", data, path)


def test_a_model_is_no_checkpoint(data, path):
    fnn.Sequential(*LAYERS["plain"]()).save(path)
    with pytest.raises(ValueError, match=r"run\.npz is not a checkpoint of fastnn's fit: it has no digest"):
        trained("plain", data, path)


def test_of_a_newer_version(data, path, monkeypatch):
    monkeypatch.setattr("fastnn.training.resuming._FORMAT", 2)
    trained("plain", data, path, epochs=1)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has format 2, but this version of fastnn reads up to 1: update fastnn"):
        trained("plain", data, path)


def test_of_another_machine_goes_on_with_a_warning(data, path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "vax")
    trained("plain", data, path, fault=3)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="was written with another CPU: the training goes on, but its last digits"):
        assert_same(trained("plain", data, path), trained("plain", data, None))


def test_a_full_disk_leaves_the_file_before_it_and_the_model_at_its_last_epoch(data, path, monkeypatch):
    trained("plain", data, path, epochs=2)
    before = pathlib.Path(path).read_bytes()

    def full(file, arrays):
        file.write(b"x" * 100)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastnn.npz.write", full)
    with pytest.raises(OSError, match=r"No space left on device: .*run\.npz"):
        trained("plain", data, path)
    monkeypatch.undo()
    assert pathlib.Path(path).read_bytes() == before
    assert sorted(os.listdir(os.path.dirname(path))) == ["run.npz", "run.npz.before"]
    assert_same(trained("plain", data, path), trained("plain", data, None))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_folder_that_may_not_be_written(data, path):
    os.chmod(os.path.dirname(path), 0o500)
    with pytest.raises(PermissionError, match=r"run\.npz"):
        trained("plain", data, path)


def test_interrupted_by_ctrl_c(data, path):
    """What was whole when it came is written, however seldom that is asked for."""

    def press(model, epoch, values):
        if epoch == 2 and not path_existed:
            os.kill(os.getpid(), signal.SIGINT)

    path_existed = False
    settings = {"epochs": 5, "checkpoint": path, "checkpoint_every": 100, "callbacks": [press], "verbose": 0}
    models = [fnn.Sequential(*LAYERS["plain"](), seed=1) for _ in range(2)]
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs these tests may ignore it
    try:
        assert models[0].fit(*data, **settings).interrupted
    finally:
        signal.signal(signal.SIGINT, handler)
    path_existed = os.path.exists(path)
    assert path_existed
    assert len(models[1].fit(*data, **settings)["loss"]) == 5


def test_many_networks(data, tmp_path):
    X, y = data
    models = [fnn.Sequential(*LAYERS["dropout and running means"](), seed=k) for k in range(3)]
    alone = copy.deepcopy(models)
    for model in alone:
        model.fit(X, y, epochs=7, optimizer="adam", verbose=0)
    settings = {"optimizer": "adam", "checkpoint": tmp_path / "{model}.npz", "checkpoint_every": 3, "verbose": 0}
    fnn.fit_many(models, X, y, epochs=[4, 3, 7], **settings)
    assert sorted(os.listdir(tmp_path)) == ["0.npz", "0.npz.before", "1.npz", "2.npz", "2.npz.before"]
    others = [fnn.Sequential(*LAYERS["dropout and running means"](), seed=k + 9) for k in range(3)]
    histories = fnn.fit_many(others, X, y, epochs=7, **settings)
    for model, other, history in zip(alone, others, histories, strict=True):
        np.testing.assert_array_equal(model._stack.params, other._stack.params)
        assert history["loss"] == model.history["loss"]
    with pytest.raises(ValueError, match=r"checkpoint is 'run.npz' for 3 models: put \{model\} into it, the place of"):
        fnn.fit_many(others, X, y, checkpoint="run.npz", verbose=0)


PROGRAM = """
import sys
import numpy as np
import fastnn as fnn

rng = np.random.default_rng(0)
X, y = rng.normal(size=(400, 20)), rng.integers(0, 3, 400)
layers = fnn.Linear(20, 200), fnn.ReLU(), fnn.Dropout(0.2), fnn.Linear(200, 3)
model = fnn.Sequential(*layers, seed=3)
print("ready", flush=True)
model.fit(X, y, optimizer="adam", epochs=60, checkpoint=sys.argv[1] if len(sys.argv) > 2 else None, verbose=0)
np.save(sys.argv[-1], model._stack.params)
"""


def test_killed_at_any_moment(tmp_path):
    """In an epoch, and in the writing of a file, which takes most of the time here."""
    kills, rnd = int(os.environ.get("FASTNN_KILLS", "2")), random.Random(0)
    name = next(name for name, module in MODULES.items() if module == active().__name__)
    settings = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "FASTNN_BACKEND": name}}
    command = [sys.executable, "-c", PROGRAM]
    for kill in range(kills):
        with subprocess.Popen([*command, "run.npz", "resumed.npy"], stdout=subprocess.PIPE, **settings) as process:
            process.stdout.readline()
            while kill == 0 and not (tmp_path / "run.npz").exists():
                time.sleep(0.01)
            time.sleep(rnd.uniform(0, 0.4))
            process.kill()
    for arguments in (["run.npz", "resumed.npy"], ["whole.npy"]):
        subprocess.run([*command, *arguments], check=True, **settings)
    np.testing.assert_array_equal(np.load(tmp_path / "resumed.npy"), np.load(tmp_path / "whole.npy"))
