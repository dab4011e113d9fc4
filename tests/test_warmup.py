import os
import re
import subprocess
import sys

import numpy as np
import pytest

import fastnn as fnn
from fastnn import commands
from fastnn.kernels.compiler import cache
from tests.processes import ROOT, run


def test_nothing_is_compiled_after_it(tmp_path):
    """Nor loaded: in a new process, since in this one earlier tests may have compiled more."""
    code = f"""
from pathlib import Path
import fastnn as fnn
from tests.every_call import call_everything, signatures

fnn.warmup()
before = signatures()
assert sum(count > 0 for count in before.values()) > 15
for dtype in ("float32", "float64"):
    call_everything(dtype, Path({str(tmp_path)!r}))
new = {{name for name, count in signatures().items() if count != before[name]}}
assert not new, new
"""
    run(code, FASTNN_BACKEND="numba")


def test_another_dtype():
    with pytest.raises(ValueError, match="dtype is 'int8', expected 'float32' or 'float64'"):
        fnn.warmup(["int8"])


def test_its_import(tmp_path):
    """The program has the name of the function, which means the same before and after its import."""
    code = """
import importlib, inspect, pickle, sys
import fastnn as fnn

function = fnn.warmup
import fastnn.warmup
from fastnn import warmup
from fastnn.warmup import __doc__ as doc
assert fnn.warmup is function is warmup is importlib.import_module("fastnn.warmup")
assert inspect.isfunction(function)
assert pickle.loads(pickle.dumps(fnn.warmup)) is function
assert doc == function.__doc__
"""
    run(code)


def test_program_in_a_process_of_its_own():
    process = subprocess.run(
        [sys.executable, "-W", "error", "-m", "fastnn.warmup", "float16"], cwd=ROOT, capture_output=True, text=True
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert "python -m fastnn.warmup: error: dtype is 'float16', expected 'float32' or 'float64'" in process.stderr


def test_what_does_not_compile_is_left_out():
    """It compiles what is fastnn's own, whatever a user has made."""
    layer = fnn.Activation(lambda x: "text", lambda x, y: 0.0)
    with fnn.use_backend("numba"), pytest.raises(TypeError, match="returns text"):
        layer.forward(np.ones((1, 1)))
    fnn.warmup(["float64"])


def test_program(capsys):
    commands.run("warmup", ["float64"])
    assert re.fullmatch(r"kernels ready for float64 after \d+\.\d s\n", capsys.readouterr().out)
    with pytest.raises(SystemExit, match="2"):
        commands.run("warmup", ["float16"])
    assert "dtype is 'float16'" in capsys.readouterr().err


def test_program_for_all_users(monkeypatch, capsys, tmp_path):
    """Where it keeps the kernels is tried with the cache; here, that it does so first, and whom the mask lets read."""
    done = []
    monkeypatch.setattr(fnn, "warmup", done.append)
    monkeypatch.setattr(cache, "keep_for_all_users", lambda: done.append(os.umask(0o077)) or tmp_path)
    mask = os.umask(0o077)
    try:
        commands.run("warmup", ["--all-users"])
        assert done == [0o022, ["float32", "float64"]]
        assert capsys.readouterr().out.endswith(f" s in {tmp_path}\n")
    finally:
        os.umask(mask)


def test_program_for_all_users_who_cannot_have_it(monkeypatch, capsys):
    def refuse():
        raise PermissionError("others can write into /open")

    monkeypatch.setattr(cache, "keep_for_all_users", refuse)
    mask = os.umask(0o022)
    try:
        with pytest.raises(SystemExit, match="2"):
            commands.run("warmup", ["--all-users", "float32"])
    finally:
        os.umask(mask)
    assert "error: others can write into /open" in capsys.readouterr().err
