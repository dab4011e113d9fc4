"""Damaged files of compiled kernels, processes that are killed while they fill the cache, interrupts while they load.

Whatever lies in the cache, the results are right: what is damaged is compiled again.
"""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time

import numba
import numpy as np

import fastnn as fnn
from tests.stress import damage
from tests.stress.core import HELD, WRONG, Broken
from tests.stress.storm import Storm
from tests.stress.subjects import fingerprint, model, problem

PER_CHILD = 1
ENVIRONMENT = {"FASTNN_NUM_THREADS": "2", "FASTNN_BACKEND": "numba"}

_FOLDER = {}


def _sgd_update():
    w = np.ones(21, np.float32)
    fnn.sgd_update(w, np.arange(21), 0.5)
    return [w]


def _softmax():
    return [fnn.softmax(np.arange(33, dtype=np.float32).reshape(3, 11))]


def _matmul():
    a = np.arange(300, dtype=np.float32).reshape(20, 15)
    return [fnn.matmul(a, a.T)]


def _fit():
    x, y = problem(100, 20, 5)
    trained = model("hidden", 20, 5)
    trained.fit(x, y, epochs=2, verbose=0)
    return [*trained.parameters(), trained.predict_proba(x)]


WORK = {f.__name__.strip("_"): f for f in (_sgd_update, _softmax, _matmul, _fit)}


def prepare(folder):
    """Let each kind of work fill the usual caches, and copy the files that it reads from there."""
    context = multiprocessing.get_context("fork")
    for work in WORK:
        process = context.Process(target=_fill, args=(work, folder / work))
        process.start()
        process.join()
        _FOLDER[work] = json.loads((folder / work / "found.json").read_text())
    _FOLDER["folder"] = folder


def _fill(work, folder):
    read = set()
    sys.addaudithook(lambda event, given: read.add(str(given[0])) if event == "open" else None)
    WORK[work]()
    from fastnn.kernels.compiler import cache

    home = folder / "fastnn" / cache.FINGERPRINT
    home.mkdir(parents=True)
    WORK[work]()
    names = []
    for path in sorted(read):
        if path.endswith(".nbc") and os.path.exists(path):  # it is looked for in several folders
            names.append(os.path.basename(path))
            shutil.copy(path, home)
    found = {"home": str(home.relative_to(folder)), "names": names, "results": fingerprint(WORK[work]())}
    (folder / "found.json").write_text(json.dumps(found))


def draw(rng):
    work = str(rng.choice(list(WORK), p=[0.4, 0.2, 0.2, 0.2]))
    if rng.random() < 0.1:
        return {"work": "sgd_update", "kill_after": round(float(rng.uniform(0, 1.5)), 3)}
    if rng.random() < 0.3:
        return {
            "work": work,
            "hz": int(rng.choice([30, 100, 1000])),
            "by": str(rng.choice(["SIGINT", "KeyboardInterrupt"])),
        }
    kinds = [*damage.OF_BYTES, "exchange"]
    return {"work": work, "file": int(rng.integers(1000)), "damage": str(rng.choice(kinds)),
            "at": round(float(rng.random()), 6), "more": int(rng.integers(1 << 30))}  # fmt: skip


def attempt(case):
    known = _FOLDER[case["work"]]
    caches = _FOLDER["folder"] / f"caches-{os.getpid()}"
    try:
        if "kill_after" in case:
            _fill_and_die(case, caches)
        else:
            _copy(case, known, caches)
        _use(caches)
        if "hz" in case:
            _interrupted(case)
        if fingerprint(WORK[case["work"]]()) != known["results"]:
            raise Broken(WRONG, f"{case['work']} has another result")
    finally:
        shutil.rmtree(caches, ignore_errors=True)
    return HELD


def _use(caches):
    os.environ["NUMBA_CACHE_DIR"] = str(caches)
    numba.config.reload_config()


def _copy(case, known, caches):
    home = caches / known["home"]
    shutil.copytree(_FOLDER["folder"] / case["work"] / known["home"], home, copy_function=os.link)
    if "damage" not in case:
        return
    name = known["names"][case["file"] % len(known["names"])]
    content = bytearray((home / name).read_bytes())
    if case["damage"] == "exchange":
        others = sorted(path for work in WORK for path in (_FOLDER["folder"] / work).rglob("*.nbc"))
        content[:] = random.Random(case["more"]).choice([p for p in others if p.name != name]).read_bytes()
    else:
        damage.OF_BYTES[case["damage"]](content, case["at"], case["more"])
    (home / name).unlink()  # or all links to it would be damaged
    (home / name).write_bytes(content)


def _interrupted(case):
    """Import and load under a storm, again and again until it is over, or the work came through."""
    with Storm(case["hz"], 0.5, case["by"]) as storm:
        while storm.goes_on() and storm.call(WORK[case["work"]]) is not HELD:
            pass


def _fill_and_die(case, caches):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        _use(caches)
        with contextlib.suppress(BaseException):
            WORK[case["work"]]()
        os._exit(0)
    time.sleep(case["kill_after"])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
