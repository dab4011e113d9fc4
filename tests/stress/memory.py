"""Memory that runs out: a limit on the address space, or the n-th allocation of Python that fails, at any moment.

A call then works or says that there is no memory. What it would have changed is as before, or as after one of its whole
epochs.
"""

import contextlib
import itertools
import os
import resource
import warnings
from pathlib import Path

import numpy as np

import fastnn as fnn
from tests.stress.core import CHANGED, HELD, RAISED, Broken
from tests.stress.subjects import NETWORKS, OPTIMIZERS, Control, model, problem, state, targets

try:
    from _testcapi import remove_mem_hooks, set_nomemory
except ImportError:  # some builds of Python leave it out
    set_nomemory = None

PER_CHILD = 1
# SciPy's BLAS waits for ever where it finds no room for its threads.
ENVIRONMENT = {"FASTNN_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}

D, K, EPOCHS = 200, 10, 3
MIB = 1 << 20
WORK = ("fit", "fit", "fit", "predict_proba", "evaluate", "matmul", "softmax", "save", "load", "Sequential", "wide fit",
        "lbfgs", "adam", "sparse", "fit_many")  # fmt: skip
# Headroom in MiB that makes the work fail here or there.
ROOM = {"wide fit": 330, "matmul": 8, "softmax": 8, "save": 1, "load": 2, "Sequential": 4, "lbfgs": 8, "sparse": 3}

CONTROL = Control()
_GIVEN = {}


def prepare(folder):
    _GIVEN["X"], _GIVEN["y"] = problem(4000, D, K)
    _GIVEN["wide"] = np.zeros((12_000, 2000), np.float32), np.arange(12_000) % K
    _GIVEN["square"] = np.ones((700, 700), np.float32)
    _GIVEN["path"] = folder / "model.npz"
    saved = model("hidden", 1000, K)
    saved.loss = "cross_entropy"
    saved.save(_GIVEN["path"])
    fnn.warmup(["float32"])
    CONTROL.remember()
    case = {"network": "user", "optimizer": "adam", "y": "labels", "batch_size": 512}
    _GIVEN["saved"] = str(_folder() / "other.npz")
    for work in dict.fromkeys(WORK):  # to load all that is compiled: LLVM ends a process in which it finds no memory
        DO[work](*SET_UP.get(work, _nothing)({**case, "work": work}))
    for network, y in itertools.product(NETWORKS, ("labels", "one-hot", "values")):
        _fit_many(*_many_fits({**case, "network": network, "y": y, "batch_size": 4000}))


def draw(rng):
    work = str(rng.choice(WORK))
    case = {"work": work, "threads": int(rng.choice([1, 2]))}
    if work in ("fit", "fit_many"):
        case |= {
            "network": str(rng.choice(list(NETWORKS))),
            "optimizer": str(rng.choice(list(OPTIMIZERS))),
            "y": str(rng.choice(["labels", "one-hot", "values"])),
            "batch_size": int(rng.choice([33, 512, 4000])),
        }
    if set_nomemory and rng.random() < 0.4 and work != "wide fit":
        return {**case, "failing_allocation": int(10 ** rng.uniform(0, 3.5))}
    most = ROOM.get(work, 12)
    return {**case, "headroom_mib": round(float(rng.uniform(0.6 if work == "wide fit" else 0, 1) * most), 3)}


def _nothing(case):
    return ()


def _a_fit(case):
    k = 1 if case["y"] == "values" else K
    y = targets(_GIVEN["y"], K, case["y"])
    return model(case["network"], D, k), OPTIMIZERS[case["optimizer"]](), y, case["batch_size"]


def _fit(subject, optimizer, y, batch_size, epochs=EPOCHS):
    loss = "squared_error" if y.shape[-1] == 1 else "cross_entropy"
    subject.fit(_GIVEN["X"], y, loss=loss, optimizer=optimizer, epochs=epochs, batch_size=batch_size,
                validation_data=(_GIVEN["X"], y), verbose=0)  # fmt: skip


def _many_fits(case):
    """Networks of one kind, of which most train side by side."""
    *_, y, batch_size = _a_fit(case)
    return [_a_fit(case)[0] for _ in range(10)], [_a_fit(case)[1] for _ in range(10)], y, batch_size


def _fit_many(subjects, optimizers, y, batch_size):
    """Train them, and raise what ended the training of the first that did not come to its end."""
    loss = "squared_error" if y.shape[-1] == 1 else "cross_entropy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        histories = fnn.fit_many(subjects, _GIVEN["X"], y, loss=loss, optimizer=optimizers, epochs=EPOCHS,
                                 batch_size=batch_size, validation_data=(_GIVEN["X"], y), verbose=0)  # fmt: skip
    for history in histories:
        if history.error is not None:
            raise history.error


def _trained(case):
    subject = model("hidden", D, K)
    subject.loss = "cross_entropy"
    return (subject,)


def _estimator(case):
    from fastnn.sklearn import MLPClassifier

    solver = case.get("work") if case.get("work") in ("lbfgs", "adam") else "sgd"
    return (MLPClassifier((50,), solver=solver, max_iter=2, random_state=0, batch_size=500),)


def _fit_estimator(estimator):
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(_GIVEN["X"], _GIVEN["y"]).predict_proba(_GIVEN["X"])


def _fit_sparse(estimator):
    from scipy.sparse import csr_array

    x = csr_array(_GIVEN["X"][:500])
    estimator.partial_fit(x, _GIVEN["y"][:500], classes=np.arange(K))
    estimator.predict(x)


# What a kind of work is given; what it does with that; what of it must not change where the work fails.
SET_UP = {
    "fit": _a_fit, "fit_many": _many_fits,
    "wide fit": lambda case: (fnn.Sequential(fnn.Linear(2000, 100), fnn.ReLU(), fnn.Linear(100, K)), fnn.SGD()),
    "predict_proba": _trained, "evaluate": _trained, "save": _trained, "lbfgs": _estimator, "adam": _estimator,
    "sparse": _estimator, "Sequential": lambda case: (fnn.Linear(1000, 300), fnn.Dropout(), fnn.Linear(300, 3)),
}  # fmt: skip
DO = {
    "fit": _fit, "fit_many": _fit_many,
    "wide fit": lambda subject, optimizer: subject.fit(*_GIVEN["wide"], optimizer=optimizer, epochs=1,
                                                       batch_size=12_000, verbose=0),
    "predict_proba": lambda subject: subject.predict_proba(_GIVEN["X"]),
    "evaluate": lambda subject: subject.evaluate(_GIVEN["X"], _GIVEN["y"]),
    "save": lambda subject: subject.save(_GIVEN["saved"]),
    "matmul": lambda: fnn.matmul(_GIVEN["square"], _GIVEN["square"].T),
    "softmax": lambda: fnn.softmax(_GIVEN["square"], axis=0),
    "load": lambda: fnn.load(str(_GIVEN["path"])),
    "Sequential": lambda *layers: fnn.Sequential(*layers),
    "lbfgs": _fit_estimator, "adam": _fit_estimator, "sparse": _fit_sparse,
}  # fmt: skip


def attempt(case):
    fnn.set_num_threads(case["threads"])
    CONTROL.check()  # which starts the threads: Python waits for ever for one that finds no memory to begin
    given = SET_UP.get(case["work"], _nothing)(case)
    _GIVEN["saved"] = str(_folder() / "other.npz")
    watched = given[:2] if case["work"] in ("fit", "wide fit", "predict_proba", "evaluate", "save") else ()
    if case["work"] == "fit_many":
        watched = tuple(zip(*given[:2], strict=True))
    before = _states(case, watched)
    try:
        with _limited(case):
            DO[case["work"]](*given)
    except Exception as error:
        if not _is_shortage(case, error):
            raise
        outcome = RAISED
    else:
        outcome = HELD
    if watched and outcome is RAISED:
        _compare(case, _states(case, watched), before)
    if case["work"] == "Sequential" and outcome is RAISED:
        fnn.Sequential(*given)  # whose layers belong to no model
    CONTROL.check()
    _files_are_whole()
    return outcome


def _states(case, watched):
    """What is watched, network by network where there are many."""
    if not watched:
        return set()
    return {state(*each) for each in watched} if case["work"] == "fit_many" else {state(*watched)}


def _is_shortage(case, error):
    """Whether an error says that memory is short; where it fails Python, Python itself has odd words for it."""
    if "failing_allocation" in case:
        return not isinstance(error, fnn.DivergenceError)
    if isinstance(error, SystemError):  # NumPy's
        return "exception set" in str(error) or "without setting an exception" in str(error)
    return isinstance(error, MemoryError)


@contextlib.contextmanager
def _limited(case):
    if "failing_allocation" in case:
        set_nomemory(case["failing_allocation"], case["failing_allocation"] + 1)
        try:
            yield
        finally:
            remove_mem_hooks()
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    used = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(case["headroom_mib"] * MIB), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _compare(case, found, allowed):
    """What was watched is as before, or as after one of the epochs of the same fit without a limit."""
    if case["work"] in ("fit", "fit_many"):
        for epochs in range(1, EPOCHS + 1):
            subject, optimizer, y, batch_size = _a_fit(case)
            _fit(subject, optimizer, y, batch_size, epochs)
            allowed = allowed | {state(subject, optimizer)}
    if not found <= allowed:
        raise Broken(CHANGED, f"{case['work']} raised MemoryError and left something between the states it may leave")


def _folder():
    """A folder of the child's own."""
    folder = _GIVEN["path"].parent / f"saved-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    return folder


def _files_are_whole():
    left = [path for path in _folder().iterdir() if path.name != "other.npz"]
    if left:
        raise Broken(CHANGED, f"save left {left}")
    for path in (_GIVEN["path"], *_folder().iterdir()):
        fnn.load(path)
