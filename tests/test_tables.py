"""What prompts and notebooks show: models, summaries, profiles and histories."""

import copy
import pickle
from html.parser import HTMLParser

import numpy as np
import pytest

import fastnn as fnn
from fastnn.tables import Table
from fastnn.tools.profile import Part, Profile


class Cells(HTMLParser):
    """The cells of a table, row by row, and whatever of it was left open."""

    def __init__(self, html):
        super().__init__()
        self.rows, self.open, self.title = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "caption" in self.open:
            self.title += data
        else:
            self.rows[-1][-1] += data


def cells(shown):
    found = Cells(shown._repr_html_())
    assert found.open == []
    return found.rows


@pytest.fixture
def model():
    return fnn.Sequential(fnn.Linear(2, 300), fnn.ReLU(), fnn.Linear(300, 2, bias=False))


def test_summary(model):
    text = """\
layer                       outputs  parameters
-----------------------------------------------
Linear(2, 300)                  300         900
ReLU()                          300           0
Linear(300, 2, bias=False)        2         600
-----------------------------------------------
1,500 parameters, float32, 5.9 KiB"""
    summary = model.summary()
    assert isinstance(summary, str)
    assert summary == str(summary) == repr(summary) == f"{summary}" == text
    expected = [
        ["layer", "outputs", "parameters"],
        ["Linear(2, 300)", "300", "900"],
        ["ReLU()", "300", "0"],
        ["Linear(300, 2, bias=False)", "2", "600"],
        ["1,500 parameters, float32, 5.9 KiB"],
    ]
    for shown in (summary, model, copy.deepcopy(summary), pickle.loads(pickle.dumps(summary))):
        assert cells(shown) == expected


def test_names_are_escaped():
    class Odd(fnn.Layer):
        def forward(self, x, training=False):
            return x

        def backward(self, dy):
            return dy

    Odd.__name__ = "<b>&amp;"
    assert cells(fnn.Sequential(Odd()))[1] == ["<b>&amp;", "?", "0"]


def test_profile():
    parts = (
        Part(0, "Linear(2, 3)", "forward", 2e-6, 4_000_000, 2e12, 0.5, 0.25),
        Part(0, "Linear(2, 3)", "update", 1e-6, 0, 0.0, 0.0, 0.125),
        Part(None, "step", "loss", 5e-6, 0, 0.0, 0.0, 0.625),
    )
    profile = Profile(parts, 4e12, 1, 32, 10, "float32", "numba")
    text = """\
one training step of 32 samples, float32, numba, 1 thread, FMA peak 4,000 GFLOP/s

layer         phase     µs  of the step  MFLOP  GFLOP/s  of the peak
--------------------------------------------------------------------
Linear(2, 3)  forward  2.0        25.0%  4.000   2000.0        50.0%
              update   1.0        12.5%
step          loss     5.0        62.5%
--------------------------------------------------------------------
total                  8.0       100.0%  4.000    500.0        12.5%"""
    assert str(profile) == repr(profile) == text
    found = Cells(profile._repr_html_())
    assert found.title == text.splitlines()[0]
    assert found.rows[1] == ["Linear(2, 3)", "forward", "2.0", "25.0%", "4.000", "2000.0", "50.0%"]
    assert found.rows[-1] == ["total", "", "8.0", "100.0%", "4.000", "500.0", "12.5%"]
    assert [row[0] for row in found.rows] == ["layer", "Linear(2, 3)", "", "step", "total"]


def test_history(model):
    X, y = np.eye(2), [0, 1]
    history = model.fit(X, y, epochs=3, validation_data=(X, y), verbose=0)
    header, *rows = cells(history)
    assert header == ["epoch", "loss", "val_loss", "val_accuracy"]
    assert rows == [
        [str(i + 1), *(f"{history[name][i]:.4g}" for name in ("loss", "val_loss", "val_accuracy"))] for i in range(3)
    ]
    assert repr(history) == repr(dict(history))


def test_a_long_history_shows_its_ends():
    history = fnn.History(loss=[1 / i for i in range(1, 101)])
    history.stopped = True
    rows = cells(history)[1:]
    note = rows.pop()
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5", "…", "96", "97", "98", "99", "100"]
    assert rows[0] == ["1", "1"]
    assert rows[-1] == ["100", "0.01"]
    assert note == ["stopped by a callback"]
    assert [row[0] for row in cells(fnn.History(loss=[1.0] * 11))[1:]] == [str(i) for i in range(1, 12)]
    assert cells(fnn.History()) == [["epoch"]]


def test_a_table_without_rows():
    assert Table(("a", "b"), []).text() == "a  b\n----"
