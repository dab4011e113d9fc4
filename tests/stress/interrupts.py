"""Storms of interrupts, from ten to 2,000 a second, while fastnn works.

The process lives, what it computes afterwards is right, and nothing is left between two states: a model, with its
optimizer, is as before the call or as after one of its whole epochs; a file is the one before or the one after.
"""

import contextlib
import os
import threading
import warnings
from functools import partial

import numpy as np

import fastnn as fnn
from tests.stress.core import CHANGED, HELD, RAISED, WRONG, Broken
from tests.stress.storm import Storm
from tests.stress.subjects import NETWORKS, OPTIMIZERS, Control, model, problem, state

PER_CHILD = 1
ENVIRONMENT = {"FASTNN_NUM_THREADS": "2"}

M, D, K, EPOCHS = 2000, 50, 10, 3
SECONDS = 0.2
COMPANIONS = 13  # networks of a fit_many, enough for lanes to pay
_GIVEN = {}
CONTROL = Control()


def prepare(folder):
    from fastnn.sklearn import MLPClassifier

    _GIVEN["X"], _GIVEN["y"] = problem(M, D, K)
    _GIVEN["square"] = np.ones((400, 400), np.float32)
    _GIVEN["path"] = folder / "model.npz"
    _GIVEN["estimator"] = MLPClassifier((30,), max_iter=3, random_state=0)
    fnn.warmup(["float32"])
    CONTROL.remember()
    saved = model("hidden", D, K)
    saved.loss = "cross_entropy"
    saved.save(_GIVEN["path"])


def draw(rng):
    case = {
        "work": str(rng.choice(list(WORK))),
        "hz": int(rng.choice([10, 100, 300, 1000, 2000])),
        "by": str(rng.choice(["SIGINT", "SIGINT", "KeyboardInterrupt"])),
        "once": bool(rng.random() < 0.7),
        "threads": int(rng.choice([1, 2])),
        "beside": bool(rng.random() < 0.25),
    }
    if case["work"] in ("fit", "fit_many"):
        case |= {"network": str(rng.choice(list(NETWORKS))), "optimizer": str(rng.choice(list(OPTIMIZERS)))}
        case["batch_size"] = int(rng.choice([50, 200, M]))
    return case


def attempt(case):
    fnn.set_num_threads(case["threads"])
    with _beside(case["beside"]):
        outcome = WORK[case["work"]](case, Storm(case["hz"], SECONDS, case["by"], case["once"]))
    CONTROL.check()
    _count_threads(case["threads"])
    return outcome


@contextlib.contextmanager
def _beside(wanted):
    """Let another thread compute all the while, whom no signal meets; its results are right."""
    ended, faults = threading.Event(), []

    def compute():
        try:
            while not ended.is_set():
                CONTROL.check()
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=compute)
    if wanted:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if wanted:
            thread.join()
    if faults:
        raise faults[0]


def _count_threads(size):
    """All helpers are at hand again."""
    from fastnn.kernels.threading import team

    sizes = []
    team.run(lambda rank, size: sizes.append(size), 10**12)
    if sizes != [size] * size:
        raise Broken(WRONG, f"{size} threads were to take part, but there were {sizes}")


def _again_and_again(storm, work, check=lambda outcome: None):
    """Do the work until the storm is over, and check what it left each time."""
    outcomes = {HELD}
    with storm:
        while storm.goes_on():
            outcome = storm.call(work)
            outcomes.add(outcome)
            check(outcome)
    return RAISED if RAISED in outcomes else HELD


def _fit_once(subject, optimizer, case, epochs=EPOCHS):
    subject.fit(_GIVEN["X"], _GIVEN["y"], optimizer=optimizer, epochs=epochs, batch_size=case["batch_size"],
                validation_data=(_GIVEN["X"][:200], _GIVEN["y"][:200]), verbose=0)  # fmt: skip


def _fit(case, storm):
    allowed = set()
    for epochs in range(EPOCHS + 1):
        subject, optimizer = model(case["network"], D, K), OPTIMIZERS[case["optimizer"]]()
        if epochs:
            _fit_once(subject, optimizer, case, epochs)
        allowed.add(state(subject, optimizer))
    outcomes = {HELD}
    with storm:
        while storm.goes_on():
            subject, optimizer = model(case["network"], D, K), OPTIMIZERS[case["optimizer"]]()
            outcomes.add(storm.call(lambda: _fit_once(subject, optimizer, case)))  # noqa: B023 - called at once
            if case["once"] and state(subject, optimizer) not in allowed:
                raise Broken(CHANGED, "an interrupted fit left something between the states it may leave")
    return RAISED if RAISED in outcomes else HELD


def _fit_many(case, storm):
    """Each network is left as after one of its own epochs, which most are asked for at once."""
    allowed = set()
    settings = {"batch_size": case["batch_size"], "verbose": 0}

    def made():
        return model(case["network"], D, K), OPTIMIZERS[case["optimizer"]]()

    for epochs in range(EPOCHS + 1):
        subject, optimizer = made()
        if epochs:
            subject.fit(_GIVEN["X"], _GIVEN["y"], optimizer=optimizer, epochs=epochs, **settings)
        allowed.add(state(subject, optimizer))
    outcomes = {HELD}
    with storm:
        while storm.goes_on():
            subjects, optimizers = map(list, zip(*[made() for _ in range(COMPANIONS)], strict=True))
            work = partial(
                fnn.fit_many, subjects, _GIVEN["X"], _GIVEN["y"], optimizer=optimizers,
                epochs=[1 + i % EPOCHS for i in range(COMPANIONS)], **settings,
            )  # fmt: skip
            outcomes.add(storm.call(work))
            if case["once"] and not allowed.issuperset(map(state, subjects, optimizers)):
                raise Broken(CHANGED, "an interrupted fit_many left something between the states it may leave")
    return RAISED if RAISED in outcomes else HELD


def _inference(case, storm):
    subject = model("hidden", D, K)
    subject.loss = "cross_entropy"
    before = state(subject)

    def check(outcome):
        if state(subject) != before:
            raise Broken(CHANGED, "predictions changed the model")

    def work():
        subject.predict_proba(_GIVEN["X"])
        subject.predict(_GIVEN["X"][:1])
        subject.evaluate(_GIVEN["X"], _GIVEN["y"])

    return _again_and_again(storm, work, check)


def _functions(case, storm):
    def work():
        fnn.matmul(_GIVEN["square"], _GIVEN["square"])
        fnn.softmax(_GIVEN["square"])
        fnn.cross_entropy_and_gradient(_GIVEN["X"][:, :K], _GIVEN["y"])

    return _again_and_again(storm, work)


def _save(case, storm):
    path = _GIVEN["path"].parent / f"saved-{os.getpid()}" / "model.npz"
    path.parent.mkdir()
    models = [fnn.Sequential(fnn.Linear(100, 300), seed=seed) for seed in (1, 2)]
    for saved in reversed(models):
        saved.save(path)
    bits = [saved.layers[0].weight.tobytes() for saved in models]

    def check(outcome):
        names = [file.name for file in path.parent.iterdir()]
        if case["once"] and names != [path.name]:
            raise Broken(CHANGED, f"an interrupted save left {names}")
        if fnn.load(path).layers[0].weight.tobytes() not in bits:
            raise Broken(WRONG, "an interrupted save left a file that is neither the one before nor the one after")

    return _again_and_again(storm, lambda: [saved.save(path) for saved in models], check)


def _load(case, storm):
    return _again_and_again(storm, lambda: fnn.load(_GIVEN["path"]))


def _sequential(case, storm):
    return _again_and_again(storm, lambda: fnn.Sequential(*NETWORKS["dropout"](D, K)))


def _estimator(case, storm):
    estimator = _GIVEN["estimator"]

    def work():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of training that was interrupted, or has not converged
            estimator.fit(_GIVEN["X"], _GIVEN["y"])
            estimator.predict(_GIVEN["X"])

    outcome = _again_and_again(storm, work)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(_GIVEN["X"], _GIVEN["y"])
    if not np.isfinite(estimator.predict_proba(_GIVEN["X"])).all():
        raise Broken(WRONG, "an estimator predicts no numbers")
    return outcome


WORK = {
    "fit": _fit, "fit_many": _fit_many, "inference": _inference, "functions": _functions, "save": _save, "load": _load,
    "Sequential": _sequential, "estimator": _estimator,
}  # fmt: skip
