"""``scripts/train.py`` on tables: labels as text, columns by name, and messages that speak of its options."""

import csv
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn import commands

pytest.importorskip("matplotlib")


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """The command, run in this process on the NumPy backend: what it prints, or the line it ends with."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments, "--backend", "numpy"])
        try:
            commands.run("train")
        except SystemExit:
            return capsys.readouterr().err
        return capsys.readouterr().out

    return run


def toy():
    """Two classes that the sign of the first feature tells apart."""
    x = np.random.default_rng(5).normal(size=(60, 3)).round(3)
    return x, (x[:, 0] > 0).astype(int)


def accuracy():
    x, y = toy()
    return np.mean(fnn.load("out/model.npz").predict(x) == y)


SETTINGS = ("--hidden", "", "--epochs", "60", "--optimizer", "sgd")


@pytest.mark.parametrize(
    ("header", "tab"), [(["class", "a", "b", "2026"], "tab"), (None, "\\t")], ids=["header", "none"]
)
def test_labels_as_text_in_the_first_column(train, header, tab):
    x, y = toy()
    words = np.array(["blue", "red, dark"])[y]
    rows = [[word, *row] for word, row in zip(words, x.tolist(), strict=True)]
    with open("toy.csv", "w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([header, *rows] if header else rows)
    label = ("--label", "class", "--header") if header else ("--label", "0")
    out = train("--data", "toy.csv", "--delimiter", tab, *label, *SETTINGS)
    assert "48 samples to train on, 12 held out, 3 features, 2 classes\nclasses: 0 is blue, 1 is red, dark\n" in out
    assert accuracy() > 0.9


def test_labels_as_text_in_an_array_of_another_name(train):
    x, y = toy()
    np.savez("toy.npz", X=x, kind=np.array(["blue", "red"])[y])
    assert "classes: 0 is blue, 1 is red" in train("--data", "toy.npz", "--label", "kind", *SETTINGS)
    assert accuracy() > 0.9


@pytest.mark.parametrize("label", ["-2", "2", "c"])
def test_labels_as_numbers_in_a_column(train, label):
    x, y = toy()
    table = np.column_stack([x[:, :2], y, x[:, 2]])
    np.savetxt("toy.csv", table, fmt="%g", delimiter=",", header="a,b,c,d", comments="")
    out = train("--data", "toy.csv", "--label", label, *SETTINGS)
    assert "3 features, 2 classes\nlayer" in out
    assert accuracy() > 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--data real.npz", "the labels have dtype float64 and shape (5,), expected .* or text: --label says which"),
        ("--data real.npz --label z", "real.npz holds no array 'z', but 'X', 'y'"),
        ("--data mixed.csv", "mixed.csv, line 3, column 3: 'b' is no finite number; labels are numbers in every row"),
        ("--data mixed.csv --label 3", "--label is column 3, but mixed.csv has 3 columns: expected 0..2"),
        ("--data mixed.csv --label k", "mixed.csv has no column 'k': its header names 'u', 'v', 'w'"),
        ("--data mixed.csv --delimiter ;", "'1,2,3' is no finite number; pass --delimiter ',' if that is what stands"),
        ("--data mixed.csv --delimiter ::", "argument --delimiter: '::' is not one character, nor tab"),
        ('--data mixed.csv --delimiter "', "--delimiter is '\"', expected one character, no quote"),
        ("--data year.csv", "year.csv, line 1, column 1: 'u' is no finite number; if it names .*, pass --header"),
        ("--data year.csv --label 0", "'1' is no text, but the labels before it are; if the first .*, pass --header"),
        ("--data large.csv", "large.csv holds a number too large for float32: pass --dtype 'float64'"),
        ("--data single.csv", "has a single column, expected features and a label: is --delimiter ',' right?"),
        ("--label 0", "--label is for a .csv or .npz file, but --data is not given"),
        ("--data . --label 0", "--label is for a .csv or .npz file, but --data is ."),
        ("--data real.npz --delimiter ,", "--delimiter is for a .csv file, but --data is real.npz"),
        ("--data real.npz --header", "--header is for a .csv file, but --data is real.npz"),
    ],
)
def test_messages_speak_of_options(train, arguments, message):
    np.savez("real.npz", X=np.ones((6, 2)), y=np.full(6, 0.5))
    Path("mixed.csv").write_text("u,v,w\n1,2,3\n4,5,b\n")
    Path("year.csv").write_text("u,2001,2002\n" + "1,2,0\n" * 9)
    Path("large.csv").write_text("1e300,0\n" * 9)
    Path("single.csv").write_text("1\n" * 9)
    error = train(*arguments.split())
    pattern = re.escape(message).replace(r"\.\*", ".*")
    assert re.fullmatch(rf"train\.py: error: .*{pattern}.*\n", error), error
