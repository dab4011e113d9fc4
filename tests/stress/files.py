"""Damaged files: flipped bits, zeroed pages, what was cut off or exchanged, in saved models and in files of data.

A loader says that the file is damaged, or returns what the file says; a saved model in which bits flipped is loaded
with its very parameters or not at all. A process that is killed while it saves leaves one of the models, whole.
"""

import gzip
import os
import resource
import signal
import time
import warnings
from pathlib import Path

import numpy as np

import fastnn as fnn
from tests.stress import damage
from tests.stress.core import CHANGED, HELD, RAISED, WRONG, Broken
from tests.stress.subjects import NETWORKS, fingerprint, model

PER_CHILD = 50
ENVIRONMENT = {"FASTNN_BACKEND": "numpy"}  # no kernel takes part, and none has to be loaded

_HEADROOM = 64 << 20  # less than a bomb takes
_FILES = {}
_MODELS = {}


def prepare(folder):
    (folder / "idx").mkdir()
    _make_models(folder)
    _make_data(folder)
    _FILES["folder"] = folder


def _make_models(folder):
    for kind in set(NETWORKS) - {"user"}:
        for dtype in ("float32", "float64"):
            saved = model(kind, 30, 7, dtype)
            saved.loss = fnn.CrossEntropy(0.1) if kind == "deep" else "squared_error"
            _FILES[f"model {kind} {dtype}"] = folder / f"{kind}-{dtype}.npz"
            saved.save(_FILES[f"model {kind} {dtype}"])
            _MODELS[f"model {kind} {dtype}"] = _said_by(saved)


def _make_data(folder):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 8)).astype(np.float32), rng.integers(0, 4, 50)
    np.savez(folder / "plain.npz", X=x, y=y)
    np.savez_compressed(folder / "compressed.npz", X=x, y=y)
    rows = [",".join(map(str, [*row, k])) for row, k in zip(x, y, strict=True)]
    text = "\n".join(["a,b,c,d,e,f,g,h,label", *rows])
    (folder / "table.csv").write_text(text)
    for suffix in ("gz", "bz2", "xz"):
        opener = __import__({"gz": "gzip", "bz2": "bz2", "xz": "lzma"}[suffix]).open
        with opener(folder / f"table.csv.{suffix}", "wt") as file:
            file.write(text)
    for part, m in (("train", 40), ("t10k", 20)):
        images, labels = rng.integers(0, 256, (m, 5, 5), np.uint8), rng.integers(0, 10, m, np.uint8)
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte.gz", labels)):
            content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
            (folder / "idx" / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    archives = [folder / "plain.npz", folder / "compressed.npz"]
    for path in (*folder.glob("table.*"), *archives, *(folder / "idx").iterdir()):
        _FILES[f"data {path.name}"] = path


def draw(rng):
    if rng.random() < 0.02:
        return {"file": "kill", "after": round(float(rng.exponential(0.01)), 5), "network": "hidden"}
    file = str(rng.choice(sorted(name for name in _FILES if name != "folder")))
    kinds = damage.ALL if file.endswith("npz") or file.startswith("model") else damage.OF_BYTES
    return {"file": file, "damage": str(rng.choice(list(kinds))), "at": round(float(rng.random()), 6),
            "more": int(rng.integers(1 << 30))}  # fmt: skip


def attempt(case):
    if case["file"] == "kill":
        return _killed(case)
    path = _FILES[case["file"]]
    content = bytearray(path.read_bytes())
    damage.ALL[case["damage"]](content, case["at"], case["more"])
    folder = _FILES["folder"] / f"{os.getpid()}"
    folder.mkdir(exist_ok=True)
    if path.parent.name == "idx":
        for other in path.parent.iterdir():
            (folder / other.name).write_bytes(other.read_bytes())
    damaged = folder / path.name
    damaged.write_bytes(content)
    _limit_memory()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            loaded = _load(damaged)
        except ValueError:
            return RAISED
        except MemoryError:
            if "data" in case["file"] and _is_honest_bomb(case):
                return RAISED
            raise
    if isinstance(loaded, fnn.Sequential):
        _check_model(case, loaded)
    return HELD


def _is_honest_bomb(case):
    """Whether an array that someone may want is as large as its file says."""
    return case["damage"] == "bomb" and case["at"] >= 0.5


def _load(path):
    if path.name.endswith("ubyte") or path.name.endswith("ubyte.gz"):
        return fnn.datasets.load_idx(path.parent)
    if path.name.startswith("table"):
        return fnn.datasets.load_csv(path)
    return fnn.datasets.load_npz(path) if path.stem in ("plain", "compressed") else fnn.load(path)


def _limit_memory():
    """Once a child: what takes more than a small file may ask for is a failure."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:
        limit = pages * resource.getpagesize() + _HEADROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _check_model(case, loaded):
    """What comes of flipped bits is the very model; what comes of an archive that was made anew is one that works."""
    x = np.ones((3, loaded.layers[0].n_in or 30), loaded.dtype)
    loaded.forward(x)
    if case["damage"] not in damage.OF_ARCHIVES and _said_by(loaded) != _MODELS[case["file"]]:
        raise Broken(WRONG, "a model that is not the one that was saved")


def _said_by(saved):
    return fingerprint([repr(saved), repr(saved.loss)], saved.parameters())


def _killed(case):
    """Two models take turns at one path until the process is killed: one of them is there."""
    folder = _FILES["folder"] / f"{os.getpid()}-kill"
    folder.mkdir(exist_ok=True)
    path = folder / "model.npz"
    models = [fnn.Sequential(fnn.Linear(100, 300), seed=seed) for seed in (1, 2)]
    models[0].save(path)
    parent, child = os.getpid(), os.fork()
    if child == 0:
        while os.getppid() == parent:
            for saved in models:
                saved.save(path)
        os._exit(0)
    time.sleep(case["after"])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if _said_by(fnn.load(path)) not in map(_said_by, models):
        raise Broken(WRONG, "a file that is neither the model before nor the one after")
    models[0].save(path)
    if left := [other.name for other in folder.iterdir() if other != path]:
        raise Broken(CHANGED, f"{left}, left by a killed process, outlived the next save")
    return HELD
