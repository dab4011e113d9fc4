"""Arrays that change while fastnn works on them: by a callback, a schedule, a layer or a loss, or from another thread.

All arrays end at a page that nobody may read. What is no label must make training raise, with the weights of the last
whole epoch before it; everything else may train or raise, and what comes after is right in any case.
"""

import contextlib
import threading
import time
import warnings

import numpy as np

import fastnn as fnn
from tests.stress.core import CHANGED, HELD, RAISED, WRONG, Broken
from tests.stress.subjects import (
    DOCUMENTED,
    FORMS,
    NETWORKS,
    OPTIMIZERS,
    Control,
    guarded,
    model,
    problem,
    reform,
    state,
    targets,
)
from tests.user_code import UserCrossEntropy

PER_CHILD = 25
ENVIRONMENT = {"FASTNN_NUM_THREADS": "2"}

M, D, K, EPOCHS = 240, 20, 5, 4
LOSSES = {"labels": "cross_entropy", "one-hot": "cross_entropy", "values": "squared_error"}

INTEGERS = (-1, K, K + 1, 10**10, -(10**10), 2**62, -(2**63), 2**63 - 1)
FLOATS = (np.nan, np.inf, -np.inf, 3e38, -1.0, 0.0, 1e-42)


WHO = ("callback", "begin", "schedule", "layer", "loss", "thread", "threads beside predict", "thread beside evaluate")

CONTROL = Control()


def prepare(folder):
    CONTROL.remember()
    fnn.warmup(["float32"])


def draw(rng):
    case = {
        "network": str(rng.choice(list(NETWORKS))),
        "y": str(rng.choice(["labels", "labels", "one-hot", "values"])),
        "optimizer": str(rng.choice(list(OPTIMIZERS))),
        "threads": int(rng.choice([1, 2])),
        "batch_size": int(rng.choice([7, 60, M])),
        "who": str(rng.choice(WHO)),
        "what": str(rng.choice(["y", "y", "X", "v", "y_val", "X_val", "weights"])),
        "epoch": int(rng.integers(1, EPOCHS)),
        "rows": float(rng.choice([0.01, 1])),
    }
    # No array of a prediction may take another form: a view for each would make one row a few per cent slower.
    if rng.random() < 0.25 and case["what"] != "weights" and case["who"] != "threads beside predict":
        return {**case, "form": str(rng.choice(list(FORMS)))}
    integers = case["y"] == "labels" and case["what"] in ("y", "y_val")
    values = INTEGERS if integers else FLOATS
    return {**case, "value": values[rng.integers(len(values))]}


class Change:
    """What happens to the data of a case, and whether it did."""

    def __init__(self, case, data):
        self._case, self._data, self.happened = case, data, False

    def __call__(self):
        self.happened = True
        for array in self._data:
            if "form" in self._case:
                reform(array, self._case["form"])
            else:
                rows = max(1, int(len(array) * self._case["rows"]))
                array[-rows:] = self._case["value"]


class Ending(fnn.Layer):
    """An identity that calls a function in its pass number ``at``."""

    def __init__(self, function, at):
        self._function, self._at = function, at

    def forward(self, x, training=False):
        self._at -= training
        if self._at == 0:
            self._function()
        return x

    def backward(self, dy):
        return dy


class Loss(UserCrossEntropy):
    """A loss that calls a function in its pass number ``at``."""

    def __init__(self, function, at):
        self._function, self._at = function, at

    def forward(self, scores, y, sample_weight=None):
        self._at -= 1
        if self._at == 0:
            self._function()
        return fnn.CrossEntropy().forward(scores, y, sample_weight)

    def backward(self, scores, y, sample_weight=None):
        return fnn.CrossEntropy().backward(scores, y, sample_weight)


class Begin:
    """A callback with nothing but a beginning."""

    def __init__(self, function):
        self._function = function

    def begin(self, model, names):
        self._function()

    def __call__(self, model, epoch, values):
        pass


def attempt(case):
    fnn.set_num_threads(case["threads"])
    x, y = problem(M, D, K)
    data = {"X": x, "y": targets(y, K, case["y"]), "v": np.ones(M, np.float32)}
    data |= {"X_val": data["X"][::2].copy(), "y_val": data["y"][::2].copy()}
    data = {name: guarded(array) for name, array in data.items()}
    subject = model(case["network"], D, 1 if case["y"] == "values" else K)
    kind = _outcome(case, subject, data)
    if not all(np.isfinite(p).all() for p in subject.parameters()) and case["what"] != "weights":
        raise Broken(WRONG, "a parameter is not finite")
    CONTROL.check()
    return kind


def _outcome(case, subject, data):
    changed = subject.parameters() if case["what"] == "weights" else [data[case["what"]]]
    change = Change(case, changed)
    arguments = {
        "loss": LOSSES[case["y"]], "optimizer": OPTIMIZERS[case["optimizer"]](), "l2": 1e-4, "epochs": EPOCHS,
        "batch_size": case["batch_size"], "sample_weight": data["v"], "verbose": 0,
        "validation_data": (data["X_val"], data["y_val"]),
    }  # fmt: skip
    settings, beside = _hooked(case, change, subject, arguments)
    try:
        with beside:
            _work(case, subject, data, settings)
    except DOCUMENTED as error:
        # Divergence leaves the last finite weights, which may be those of a batch.
        if change.happened and case["who"] == "callback" and not isinstance(error, fnn.DivergenceError):
            _compare_with_whole_epochs(case, subject, settings["optimizer"])
        return RAISED
    if change.happened and _is_no_label(case):
        _complain_of_silence(case, subject)
    return HELD


def _hooked(case, change, subject, arguments):
    """The arguments of fit with the change in its place, and a context in which it happens all the time."""
    who, beside = case["who"], contextlib.nullcontext()
    if who == "callback":
        arguments["callbacks"] = [lambda _, epoch, __: change() if epoch == case["epoch"] else None]
    elif who == "begin":
        arguments["callbacks"] = [Begin(change)]
    elif who == "schedule":
        arguments["optimizer"] = fnn.SGD(lr=lambda epoch: change() or 0.01 if epoch == case["epoch"] else 0.01)
    elif who == "layer":
        subject.__init__(*NETWORKS["user"](D, subject.layers[-1].n_out), Ending(change, 3), seed=3)
    elif who == "loss" and case["y"] != "values":
        arguments["loss"] = Loss(change, 3)
    else:
        beside = _all_the_time(change)
    return arguments, beside


@contextlib.contextmanager
def _all_the_time(change):
    """Change the arrays, and change them back, from another thread."""
    before, ended = [array.copy() for array in change._data], threading.Event()
    shapes = [(array.shape, array.strides, array.dtype) for array in change._data]

    def write():
        while not ended.is_set():
            change()
            time.sleep(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                for array, values, (shape, strides, dtype) in zip(change._data, before, shapes, strict=True):
                    array.dtype = dtype
                    array.shape, array.strides = shape, strides
                    array[...] = values

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join()


def _work(case, subject, data, settings):
    if "beside" not in case["who"]:
        subject.fit(data["X"], data["y"], **settings)
        return
    subject.loss = LOSSES[case["y"]]
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        with contextlib.suppress(*DOCUMENTED):
            if "predict" in case["who"]:
                subject.predict(data["X"])
                subject.forward(data["X"][:1])
            else:
                subject.evaluate(data["X"], data["y"], data["v"])


def _is_no_label(case):
    return case["y"] == "labels" and case["what"] in ("y", "y_val") and "value" in case


def _complain_of_silence(case, subject):
    """What is no label was there for whole epochs, and must have shown."""
    if "thread" in case["who"]:
        return
    if case["what"] == "y":
        raise Broken(WRONG, "trained on what is no label, and said nothing")
    if np.isfinite(subject.history["val_loss"]).all():
        raise Broken(WRONG, "measured what is no label, and said nothing")


def _compare_with_whole_epochs(case, subject, optimizer):
    """After an exception everything is as it was at the end of the epoch after which the arrays changed."""
    if case["what"] == "weights":
        return
    x, y = problem(M, D, K)
    y = targets(y, K, case["y"])
    same = model(case["network"], D, 1 if case["y"] == "values" else K)
    other = OPTIMIZERS[case["optimizer"]]()
    whole = len(subject.history.get("loss", ()))
    if whole < case["epoch"]:
        raise Broken(CHANGED, f"the history holds {whole} epochs, but {case['epoch']} were over")
    if whole > case["epoch"]:
        return  # what was changed did no harm at first
    same.fit(
        x, y, loss=LOSSES[case["y"]], optimizer=other, l2=1e-4, epochs=whole, batch_size=case["batch_size"],
        sample_weight=np.ones(M, np.float32), validation_data=(x[::2].copy(), y[::2].copy()), verbose=0,
    )  # fmt: skip
    states = [state(subject, optimizer), state(same, other)]
    if states[0] != states[1]:
        raise Broken(CHANGED, f"model and optimizer are not those of the {whole} epochs before the change")
