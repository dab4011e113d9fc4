import importlib
import sys

import pytest

import fastnn as fnn
from tests.processes import run


@pytest.fixture
def program():
    """The module behind ``python -m fastnn.warmup``; its import must not hide the function of that name for long."""
    function = fnn.warmup
    yield importlib.import_module("fastnn.warmup")
    fnn.warmup = function


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
new = {{name for name, count in signatures().items() if count != before[name]}} - {{"_first_element"}}
assert not new, new
"""
    run(code, FASTNN_BACKEND="numba")


def test_another_dtype():
    with pytest.raises(ValueError, match="dtype is 'int8', expected 'float32' or 'float64'"):
        fnn.warmup(["int8"])


def test_program(program, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["warmup", "float64"])
    program.main()
    assert capsys.readouterr().out.startswith("kernels ready for float64 after ")
    monkeypatch.setattr(sys, "argv", ["warmup", "float16"])
    with pytest.raises(SystemExit, match="2"):
        program.main()
    assert "dtype is 'float16'" in capsys.readouterr().err
