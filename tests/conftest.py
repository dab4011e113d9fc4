"""Fixtures that every folder of tests shares."""

import collections
import os
import re
import sys
import zlib

import numpy as np
import pytest
from hypothesis import settings

from tests.cases import DTYPES

settings.register_profile("fastnn", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("fastnn")


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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """A process for each CPU, but few, since each loads, and holds, what all of the tests need."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cpus, 4) if cpus > 1 else 0


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Where nobody says which tests, all of them are shared among processes, if pytest-xdist is there.

    Each process has a stretch of its own, as files share data and kernels, and takes over from another when it is done.
    """
    option = config.option
    if hasattr(config, "workerinput") or not hasattr(option, "numprocesses"):
        return
    ways = "keyword", "markexpr", "lf", "failedfirst", "stepwise", "trace", "benchmark_only"
    some = any(getattr(option, name, None) for name in ways)
    if option.numprocesses is None and config.args_source is config.ArgsSource.TESTPATHS and not some:
        option.numprocesses = "auto"
    if option.numprocesses and option.dist == "no":
        option.dist = "worksteal"


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
