"""Fixtures that every folder of tests shares."""

import collections
import os
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import settings

from tests.cases import DTYPES

settings.register_profile("fastnn", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("fastnn")

COMPILING = pytest.StashKey[subprocess.Popen]()


def pytest_collection_modifyitems(config, items):
    """With FASTNN_SAMPLE=n one in n of the cases of each test, and of each at least one."""
    n = int(os.environ.get("FASTNN_SAMPLE", 1))
    cases, kept, left = collections.Counter(), [], []
    for item in items:
        name = item.nodeid.partition("[")[0]
        # The start differs from test to test, or all would leave out the same dtype.
        (kept if cases[name] == 0 or (cases[name] + zlib.crc32(name.encode())) % n == 0 else left).append(item)
        cases[name] += 1
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept


def pytest_collection_finish(session):
    """Beside the first of many tests a process compiles what most of them need, if there is a CPU for it."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    is_twin = os.environ.get("FASTNN_BACKEND") == "numpy"
    if session.config.option.collectonly or len(session.items) < 1000 or cpus < 2 or is_twin:
        return
    environment = os.environ | {"FASTNN_NUM_THREADS": "1"}  # or it would start processes of its own
    files = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "tests.compiling"]
    process = subprocess.Popen(command, cwd=session.config.rootpath, env=environment, **files)
    session.config.stash[COMPILING] = process

    def end():
        process.kill()
        process.wait()
        process.stdin.close()

    session.config.add_cleanup(end)


def pytest_terminal_summary(terminalreporter, config):
    """Nothing needs that process, but where it fails somebody should know."""
    process = config.stash.get(COMPILING, None)
    if process is not None and process.poll():
        terminalreporter.line(f"python -m tests.compiling beside the tests ended with {process.returncode}", red=True)


@pytest.fixture
def rng(request):
    """A generator whose seed is the name of the test, so that no test depends on which others ran."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Run a command as its script does, but in this process, in an empty folder, and return what it printed."""
    from fastnn import commands

    def run(script, *arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        commands.run(script.removesuffix(".py"))
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(here, capsys):
    """Run a command that says in one line what is wrong."""

    def run(script, arguments, message):
        with pytest.raises(SystemExit, match="2"):
            here(script, *arguments)
        err = capsys.readouterr().err
        assert re.fullmatch(rf"{re.escape(script)}: error: .*{message}.*\n", err), err

    return run


@pytest.fixture(params=DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def dtype(request):
    return request.param


@pytest.fixture(params=["numba", "numpy"])
def backend(request):
    """Run the test once on each twin."""
    import fastnn

    with fastnn.use_backend(request.param):
        yield request.param
