import importlib
import sys

import numpy as np
import pytest

import fastnn as fnn


@pytest.fixture
def program():
    """The module behind ``python -m fastnn.warmup``; its import must not hide the function of that name for long."""
    function = fnn.warmup
    yield importlib.import_module("fastnn.warmup")
    fnn.warmup = function


def signatures():
    """How often each entry point has been compiled or loaded."""
    count = {}
    for name in ("_product", "activations", "epoch", "losses", "matmul", "softmax", "updates"):
        for key, value in vars(importlib.import_module(f"fastnn.kernels.{name}")).items():
            if hasattr(value, "signatures") and hasattr(value, "py_func"):
                count[name, key] = len(value.signatures)
    return count


def test_nothing_is_compiled_after_it(rng):
    fnn.warmup()
    before = signatures()
    x, y = rng.normal(size=(40, 5)), rng.integers(0, 3, 40)
    y.setflags(write=False)
    x.setflags(write=False)
    weights = np.ones(40)
    weights.setflags(write=False)
    for dtype in ("float32", "float64"):
        layers = fnn.Linear(5, 7), fnn.LeakyReLU(), fnn.Linear(7, 4), fnn.Sigmoid(), fnn.Linear(4, 3, bias=False)
        model = fnn.Sequential(*layers, dtype=dtype)
        model.fit(
            x, y, optimizer=fnn.Adam(), l2=0.1, epochs=1, sample_weight=weights, validation_data=(x, y), verbose=0
        )
        model.predict_proba(x)
        scores = model.forward(x)
        scores.setflags(write=False)
        fnn.softmax(scores), fnn.cross_entropy(scores, y), fnn.tanh(scores), fnn.matmul(scores.T, scores)
        fnn.squared_error(scores, np.zeros_like(scores))
        fnn.matmul(np.ones((300, 300), dtype), np.ones((300, 300), dtype))
    assert signatures() == before


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
