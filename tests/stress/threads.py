"""Forks and threads: many at once, children forked in the middle, and another number of threads meanwhile.

Everywhere the bits are those of a call that is alone, and every thread and child comes to its end.
"""

import gc
import os
import signal
import threading
import time
import warnings

import numpy as np

import fastnn as fnn
from tests.stress.core import CRASHED, HELD, HUNG, WRONG, Broken
from tests.stress.subjects import NETWORKS, OPTIMIZERS, Control, model, problem, state

PER_CHILD = 1
ENVIRONMENT = {"FASTNN_NUM_THREADS": "2"}

M, D, K = 1000, 30, 7
LIMIT = 60  # seconds that a child or a thread may take
_GIVEN = {}
CONTROL = Control()


def prepare(folder):
    _GIVEN["X"], _GIVEN["y"] = problem(M, D, K)
    warnings.simplefilter("ignore")  # of scikit-learn, for two epochs; of Python, for a fork beside threads
    fnn.warmup(["float32"])
    CONTROL.remember()
    for name, work in WORK.items():
        _GIVEN[name] = work()


def draw(rng):
    return {
        "workers": [str(name) for name in rng.choice(list(WORK), size=int(rng.integers(1, 7)))],
        "rounds": int(rng.integers(1, 4)),
        "threads": int(rng.choice([1, 2, 3, 8])),
        "meanwhile": str(rng.choice(MEANWHILE)),
        "forks": int(rng.choice([0, 0, 1, 3])),
    }


def _fit(network="hidden", optimizer="adam"):
    subject, chosen = model(network, D, K), OPTIMIZERS[optimizer]()
    subject.fit(_GIVEN["X"], _GIVEN["y"], optimizer=chosen, epochs=2, batch_size=200, verbose=0)
    return state(subject, chosen)


def _fit_many():
    """Most train side by side, a few of them alone."""
    subjects = [model(network, D, K) for network in ["hidden"] * 12 + list(NETWORKS)]
    optimizers = [OPTIMIZERS["nesterov"]() for _ in subjects]
    fnn.fit_many(subjects, _GIVEN["X"], _GIVEN["y"], optimizer=optimizers, epochs=2, batch_size=100, verbose=0)
    outputs = fnn.Ensemble(subjects).predict_proba(_GIVEN["X"])
    return "".join(map(state, subjects, optimizers)).encode() + outputs.tobytes()


def _predict():
    subject = model("deep", D, K)
    subject.loss = "cross_entropy"
    outputs = [subject.predict_proba(_GIVEN["X"]), subject.predict(_GIVEN["X"][:1]), subject.forward(_GIVEN["X"])]
    return b"".join(output.tobytes() for output in outputs) + repr(subject.evaluate(_GIVEN["X"], _GIVEN["y"])).encode()


def _functions():
    x, y = _GIVEN["X"], _GIVEN["y"]
    loss, gradient = fnn.cross_entropy_and_gradient(x[:, :K], y)
    return b"".join(map(np.ndarray.tobytes, (fnn.matmul(x, x.T), fnn.softmax(x), gradient))) + repr(loss).encode()


def _estimator():
    from fastnn.sklearn import MLPClassifier

    estimator = MLPClassifier((20,), max_iter=2, random_state=0, n_threads=2)
    return estimator.fit(_GIVEN["X"], _GIVEN["y"]).predict_proba(_GIVEN["X"]).tobytes()


WORK = {
    "fit": _fit,
    "fit_many": _fit_many,
    "predict": _predict,
    "functions": _functions,
    "estimator": _estimator,
    **{network: lambda network=network: _fit(network, "nesterov") for network in NETWORKS},
}
MEANWHILE = ("nothing", "set_num_threads", "warmup", "collect", "models come and go")


def attempt(case):
    fnn.set_num_threads(case["threads"])
    ended, faults = threading.Event(), []
    threads = [threading.Thread(target=_work, args=(name, case["rounds"], faults)) for name in case["workers"]]
    beside = threading.Thread(target=_disturb, args=(case["meanwhile"], ended, faults))
    for thread in (*threads, beside):
        thread.start()
    children = [_fork(case, i) for i in range(case["forks"])]
    for thread in threads:
        thread.join(LIMIT)
    ended.set()
    beside.join(LIMIT)
    if any(thread.is_alive() for thread in (*threads, beside)):
        raise Broken(HUNG, "a thread does not end")
    for child in children:
        _wait_for(child)
    if faults:
        raise faults[0]
    CONTROL.check()
    return HELD


def _work(name, rounds, faults):
    try:
        for _ in range(rounds):
            if WORK[name]() != _GIVEN[name]:
                raise Broken(WRONG, f"{name} has other bits than alone")
    except BaseException as error:
        faults.append(error)


def _disturb(how, ended, faults):
    try:
        for i in range(10**9):
            if ended.wait(0.002):
                return
            if how == "set_num_threads":
                fnn.set_num_threads(1 + i % 4)
            elif how == "collect":
                gc.collect()
            elif how == "warmup":
                fnn.warmup(["float32"])
            elif how == "models come and go":
                model("dropout", D, K).forward(_GIVEN["X"][:3])
    except BaseException as error:
        faults.append(error)


def _fork(case, i):
    """A child that computes what one of the threads does."""
    time.sleep(0.003 * i)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(LIMIT)
            faults = []
            _work(case["workers"][i % len(case["workers"])], 1, faults)
            status = len(faults)
            if faults:
                print(faults[0], flush=True)
        finally:
            os._exit(status)
    return child


def _wait_for(child):
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGALRM:
        raise Broken(HUNG, "a forked child does not end")
    if status:
        raise Broken(CRASHED if status < 0 else WRONG, f"a forked child ended with status {status}")
