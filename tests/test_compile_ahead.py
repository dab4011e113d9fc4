"""A kernel that another process compiles ahead: it is found, and where that cannot be, nothing is lost but time."""

import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from fastnn.kernels.compiler import ahead, cache
from fastnn.kernels.network import epoch
from fastnn.kernels.threading.team import get_num_threads
from tests.processes import ROOT, finish

FLOAT32 = np.dtype(np.float32)
# A module with a function that compiles in a moment, and ways of compiling it.
TINY = """
import os, pathlib, time
from fastnn.kernels.compiler.jit import shared

@shared(lambda dtype: dtype(dtype))
def double(x):
    return x + x

def compile_it(dtype):
    double.address(dtype)

def fail(dtype):
    raise ValueError(dtype)

def linger(dtype):
    pathlib.Path("helper").write_text(str(os.getpid()))
    time.sleep(60)
"""
# Says how often it runs, and whether it found what it needs in the cache.
SCRIPT = """
import ctypes, os, pathlib, sys, time, types
import numpy as np
import fastnn.kernels.compiler.ahead as ahead
import tiny

os.sched_getaffinity = lambda process: {0, 1}
os.cpu_count = lambda: 2
FLOAT32 = np.dtype("float32")
ahead.compile_ahead([tiny.double], types.SimpleNamespace(__module__="tiny", __name__=sys.argv[1]), FLOAT32, 2)
assert len(ahead._helpers) == 1
if sys.argv[1] == "linger":
    note = pathlib.Path("helper")
    while not (note.exists() and note.read_text()):
        time.sleep(0.01)
    if sys.argv[2] == "forked":
        if (child := os.fork()) == 0:
            assert not ahead._helpers and not ahead.cache.AHEAD
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        os.kill(int(note.read_text()), 0)
    os._exit(0) if sys.argv[2] == "ended" else sys.exit()
double = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_float)(tiny.double.address(FLOAT32))
print("result", double(3), tiny.double._compile(FLOAT32).cache_hits, len(ahead._helpers))
"""


@pytest.fixture
def run(tmp_path):
    """Run the script with each of some arguments, at once, in folders of their own, and return what they print."""

    def in_processes(*arguments):
        running = {}
        for each in arguments:
            folder = tmp_path / each
            folder.mkdir()
            (folder / "tiny.py").write_text(TINY)
            (folder / "script.py").write_text(SCRIPT)
            environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
            command = [sys.executable, "-W", "error", "script.py", *each.split()]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            running[each] = subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)
        found = {each: finish(process) for each, process in running.items()}
        assert all(len(err.splitlines()) <= 1 for _, err in found.values()), found  # that kernels are compiled
        return [out.split() for out, _ in found.values()]

    return in_processes


def test_the_helper_compiles(run):
    assert run("compile_it") == [["result", "6.0", "1", "0"]]


def test_a_helper_that_fails(run):
    assert run("fail", "missing") == [["result", "6.0", "0", "0"]] * 2


@pytest.mark.skipif(os.name != "posix", reason="asks for processes by signal")
def test_a_helper_ends_with_its_process(run, tmp_path):
    """However that ends; a forked process leaves it alone."""
    ways = "linger ended", "linger exits", "linger forked"
    run(*ways)
    latest = time.monotonic() + 30
    for way in ways:
        while _runs(int((tmp_path / way / "helper").read_text())):
            assert time.monotonic() < latest
            time.sleep(0.01)


def _runs(process):
    """Whether a process runs; one that nobody has asked for since it ended does not."""
    status = f"/proc/{process}/stat"
    if os.path.exists("/proc/self/stat"):
        try:
            with open(status) as file:
                return file.read().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def ordered(monkeypatch, tmp_path):
    """What helpers are ordered to do, of which none runs, on two CPUs and with a cache that is empty."""
    orders = []
    monkeypatch.setattr(ahead, "_Helper", lambda order, turn: orders.append(order))
    monkeypatch.setattr(ahead, "_helpers", {})
    monkeypatch.setattr(cache, "AHEAD", {})
    monkeypatch.setattr(cache, "FOLDERS", [tmp_path / "cache"])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3.11")
    return orders


def order(n_threads=2, kept=False):
    functions = [
        SimpleNamespace(is_kept=lambda dtype: kept, file_name=lambda dtype, name=name: f"{name}-{dtype}")
        for name in ("kernel", "other")
    ]
    ahead.compile_ahead(functions, SimpleNamespace(__module__="m", __name__="f"), FLOAT32, n_threads)


def test_one_helper_for_a_kernel(ordered):
    order()
    order()
    (one,) = ordered
    assert (one["module"], one["function"], one["dtype"]) == ("m", "f", "float32")
    assert list(cache.AHEAD) == ["kernel-float32", "other-float32"]


def test_whoever_comes_first_waits(ordered, monkeypatch):
    """For whichever of the files, and the one who needs the other does not wait again."""
    waits = []
    helper = SimpleNamespace(wait=lambda: waits.append("helper"))
    monkeypatch.setattr(ahead, "_Helper", lambda order, turn: helper)
    order()
    for name in ("other-float32", "kernel-float32"):
        cache.AHEAD.pop(name)()
        assert waits == ["helper"]


def test_a_helper_that_ctrl_c_leaves_at_work_is_disowned_in_a_child(ordered, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    disowned = []
    helper = SimpleNamespace(wait=interrupted, disown=lambda: disowned.append("helper"))
    monkeypatch.setattr(ahead, "_lock", ahead._lock)
    monkeypatch.setattr(ahead, "_Helper", lambda order, turn: helper)
    order()
    with pytest.raises(KeyboardInterrupt):
        cache.AHEAD.pop("other-float32")()
    ahead._disown_all()
    assert disowned == ["helper"]


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (os, "sched_getaffinity", lambda process: {1}),
        (sys, "executable", "/usr/bin/an_application"),
        (sys, "executable", None),
        (sys, "frozen", True),
        (cache, "FOLDERS", []),
        (cache, "FOLDERS", [ROOT / "README.md" / "below"]),
    ],
)
def test_no_helper_where_none_can_be(ordered, monkeypatch, where, name, value):
    monkeypatch.setattr(where, name, value, raising=False)
    order()
    assert not ordered


@pytest.mark.parametrize("arguments", [{"n_threads": 1}, {"kept": True}], ids=str)
def test_no_helper_where_none_is_needed(ordered, arguments):
    order(**arguments)
    assert not ordered


def test_a_child_can_have_helpers_whatever_another_thread_did_as_it_was_forked(ordered, monkeypatch):
    monkeypatch.setattr(ahead, "_lock", threading.Lock())
    assert ahead._lock.acquire()
    ahead._disown_all()
    assert not ahead._lock.locked()
    order()
    assert ordered


def test_no_helper_where_another_process_has_one(ordered, monkeypatch):
    monkeypatch.setattr(ahead.Turn, "comes", lambda turn: False)
    order()
    assert not ordered


@pytest.mark.parametrize("is_kept", [False, True])
def test_the_first_epoch_has_a_helper_unless_the_product_is_there(monkeypatch, is_kept):
    calls = []
    monkeypatch.setattr(epoch, "compile_ahead", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(epoch, "TILE", SimpleNamespace(is_kept=lambda dtype: is_kept))
    epoch._prepare.__wrapped__(FLOAT32)
    expected = ((epoch.EPOCH, epoch.BATCH, epoch.UPDATE), epoch.compile_epoch, FLOAT32, get_num_threads())
    assert calls == ([] if is_kept else [expected])
