"""What fit shows: a bar on a terminal where tqdm is installed, else lines."""

import io
import re
import sys
import types
from contextlib import redirect_stderr, redirect_stdout

import pytest

import fastnn as fnn
from tests.training import labelled, network

SHORT = {"epochs": 4, "batch_size": 16}


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Notebook(io.StringIO):
    """Of the module that ipykernel's stream has."""


Notebook.__module__ = "ipykernel.iostream"


@pytest.fixture
def data(rng):
    return labelled(rng)


def fit(data, out=Terminal, err=Terminal, **settings):
    """Return what a fit wrote to standard output and error."""
    with redirect_stdout(out()) as shown, redirect_stderr(err()) as errors:
        history = network().fit(*data, **{**SHORT, **settings})
    return history, shown.getvalue(), errors.getvalue()


class TestBar:
    @pytest.fixture(autouse=True)
    def tqdm(self):
        return pytest.importorskip("tqdm")

    def test_on_a_terminal(self, data):
        history, shown, errors = fit(data, validation_data=data)
        assert shown == ""
        last = errors.rpartition("\r")[2]
        assert re.search(r"100%.* 4/4 ", last)
        for name, values in history.items():
            assert f"{name}={values[-1]:.4g}" in last
        assert last.endswith("\n")

    def test_lines_of_callbacks_stand_above_it(self, data):
        with redirect_stderr(Terminal()) as terminal, redirect_stdout(terminal):
            network().fit(*data, callbacks=[lambda model, epoch, values: print(f"mine {epoch}")], **SHORT)
        lines = [line.rpartition("\r")[2] for line in terminal.getvalue().splitlines() if "mine" in line]
        assert lines == [f"mine {epoch}" for epoch in range(1, 5)]

    @pytest.mark.parametrize("error", [None, KeyError])
    def test_it_ends_with_the_training(self, error, data):
        def stop(model, epoch, values):
            if epoch == 2:
                if error:
                    raise error
                return True

        with redirect_stdout(Terminal()) as shown, redirect_stderr(Terminal()) as errors:
            if error:
                with pytest.raises(error):
                    network().fit(*data, callbacks=[stop], **SHORT)
            else:
                network().fit(*data, callbacks=[stop], **SHORT)
        assert errors.getvalue().endswith("\n")
        assert "2/4" in errors.getvalue()
        assert shown.getvalue() == ("" if error else "a callback returned True: stopped after epoch 2 of 4\n")

    @pytest.mark.parametrize(("out", "err"), [(io.StringIO, Terminal), (Terminal, io.StringIO)])
    def test_lines_into_a_file(self, out, err, data):
        _, shown, errors = fit(data, out, err)
        assert [line.split("  ")[0] for line in shown.splitlines()] == [f"epoch {i}/4" for i in range(1, 5)]
        assert errors == ""

    def test_silence(self, data):
        assert fit(data, verbose=0)[1:] == ("", "")


def test_in_a_notebook(data, monkeypatch):
    class Bar:
        def __init__(self, **settings):
            made.append(settings)

        def external_write_mode(self, file):
            return redirect_stdout(file)

        def set_postfix(self, values, refresh):
            shown.append(values)

        def update(self):
            shown.append("update")

        def close(self):
            shown.append("close")

    made, shown = [], []
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=Bar))
    history, out, _ = fit(data, Notebook, Notebook)
    assert out == ""
    assert made == [{"total": 4, "unit": "epoch", "leave": True}]
    values = [{"loss": f"{loss:.4g}"} for loss in history["loss"]]
    assert shown == [item for each in values for item in (each, "update")] + ["close"]


def test_without_tqdm(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    _, shown, errors = fit(data)
    assert shown.count("epoch") == 4
    assert errors == ""


def test_without_streams(data, monkeypatch):
    """As pythonw starts a program."""
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    assert len(fnn.Sequential(fnn.Linear(6, 3)).fit(*data, **SHORT)["loss"]) == 4
