"""The scripts as a user runs them: each in a process of its own, and what is the same there in this one."""

import math
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn import commands
from fastnn.commands import measure

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]
SMALL = ("--hidden", "8", "--epochs", "3")


def run(script, *arguments, cwd, path=()):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))}
    command = [sys.executable, ROOT / "scripts" / script, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8")


def succeed(*arguments, cwd):
    done = run(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def png_size(path):
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">2I", header[16:])


def held_out(x, y, seed):
    rows = np.random.default_rng(seed).permutation(len(x))[: len(x) // 5]
    return x[rows], y[rows]


def toy(n=60):
    """Two classes that the sign of the first feature tells apart."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(n, 3)).round(3)
    return x, (x[:, 0] > 0).astype(np.int64)


def write_idx(folder):
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 3), np.uint8)
    for stem, array in {"images-idx3": images, "labels-idx1": (images[:, 1, 1] > 127).astype(np.uint8)}.items():
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        for part in ("train", "t10k"):
            (folder / f"{part}-{stem}-ubyte").write_bytes(header + array.tobytes())
    return folder


class TestTrain:
    @pytest.mark.parametrize("backend", ["numba", "numpy"])
    def test_digits(self, tmp_path, backend):
        out = succeed("train.py", *SMALL, "--backend", backend, "--seed", 3, cwd=tmp_path)
        assert "1438 samples to train on, 359 held out, 64 features, 10 classes" in out
        assert (
            len(re.findall(r"^epoch \d/3  loss [\d.]+  val_loss [\d.]+  val_accuracy [\d.]+ .* samples/s$", out, re.M))
            == 3
        )
        assert png_size(tmp_path / "out" / "learning_curve.png") >= (1000, 500)
        assert "loaded again it predicts the same to the last bit" in out

        model = fnn.load(tmp_path / "out" / "model.npz")
        x, y = held_out(*fnn.datasets.load_digits(), seed=3)
        accuracy = np.mean(model.predict(x) == y)
        assert f"accuracy {accuracy:.2%}" in out
        assert accuracy > 0.5

        other = "numpy" if backend == "numba" else "numba"
        assert float(re.search(rf"on the {other} backend: .* differ by at most (\S+)$", out, re.M)[1]) < 1e-3
        assert re.search(rf"^{backend} [\d.]+ s, {other} [\d.]+ s, {other} / {backend} = [\d.]+$", out, re.M)

    def test_settings_reach_the_model(self, here, tmp_path):
        out = tmp_path / "elsewhere" / "deep"
        arguments = ("--hidden", "7,5", "--dtype", "float64", "--optimizer", "adam", "--lr", "0.01", "--l2", "0")
        here("train.py", *arguments, "--epochs", 1, "--batch-size", 100, "--out", out)
        model = fnn.load(out / "model.npz")
        assert model.dtype == np.float64
        assert [w.shape for w in model.parameters()] == [(64, 7), (7,), (7, 5), (5,), (5, 10), (10,)]

    def test_no_hidden_layer(self, here, tmp_path):
        here("train.py", "--hidden", "", "--epochs", 1, "--backend", "numpy")
        assert [w.shape for w in fnn.load(tmp_path / "out" / "model.npz").parameters()] == [(64, 10), (10,)]

    def test_idx_folder_brings_its_own_test_images(self, here, tmp_path):
        out = here("train.py", "--data", write_idx(tmp_path / "idx"), *SMALL)
        assert "40 samples to train on, 40 held out, 9 features, 2 classes" in out

    @pytest.mark.parametrize("suffix", ["csv", "npz"])
    def test_tables(self, here, tmp_path, suffix):
        x, y = toy()
        data = tmp_path / f"toy.{suffix}"
        if suffix == "csv":
            np.savetxt(data, np.column_stack([x, y]), fmt="%g", delimiter=",", header="a,b,c,label", comments="")
        else:
            np.savez(data, X=x, y=y)
        out = here("train.py", "--data", data, "--hidden", 8, "--epochs", 60, "--optimizer", "sgd")
        assert "48 samples to train on, 12 held out, 3 features, 2 classes" in out
        accuracy = np.mean(fnn.load(tmp_path / "out" / "model.npz").predict(x) == y)
        assert accuracy > 0.9

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--epochs", "0"), r"argument --epochs: '0' is not a whole number >= 1"),
            (("--batch-size", "2.5"), r"argument --batch-size: '2.5' is not a whole number >= 1"),
            (("--hidden", "30,-1"), r"argument --hidden: '-1' is not a whole number >= 1"),
            (("--lr", "0"), r"argument --lr: '0' is not a number > 0"),
            (("--lr", "inf"), r"argument --lr: 'inf' is not a number > 0"),
            (("--l2", "-1"), r"argument --l2: '-1' is not a number >= 0"),
            (("--seed", "-1"), r"argument --seed: '-1' is not a whole number >= 0"),
            (("--optimizer", "rprop"), r"argument --optimizer: invalid choice: 'rprop'"),
            (("--data", "nowhere.csv"), r"nowhere\.csv does not exist"),
            (("--data", "nowhere"), r"nowhere is missing"),
            (("--data", "some.txt"), r"some\.txt is no IDX folder, \.csv or \.npz file"),
            (("--data", "."), r"holds none of train-images-idx3-ubyte, "),
            (("--data", "ragged.csv"), r"ragged\.csv, line 2: 1 fields, expected 3"),
            (("--data", "few.csv"), r"2 samples are too few to hold a fifth out"),
            (("--data", "flat.npz"), r"X has shape \(6,\), expected one row of features a sample"),
            (("--data", "real.npz"), r"labels have dtype float64 and shape \(5,\), expected whole numbers 0, 1, 2"),
            (("--data", "negative.npz"), r"labels reach from -1 to 0, expected 0 to the number of classes - 1"),
            (("--data", "huge.npz"), r"labels reach from 0 to 99, expected 0 to the number of classes - 1"),
            (("--data", "nan.npz"), r"X .*NaN"),
            (("--lr", "1e30", "--backend", "numpy"), r"diverged in epoch 1 of 30, at its batch \d+"),
            (("--out", "some.txt"), r"--out is some\.txt, which is a file, expected a folder"),
        ],
    )
    def test_errors_are_one_line(self, refused, tmp_path, arguments, message):
        (tmp_path / "some.txt").write_text("text")
        (tmp_path / "ragged.csv").write_text("1,2,0\n3\n")
        (tmp_path / "few.csv").write_text("1,2,0\n3,4,1\n")
        x = np.arange(12.0).reshape(6, 2)
        broken = {
            "flat": (x[:, 0], np.zeros(6, int)),
            "real": (x, np.full(6, 0.5)),
            "negative": (x, np.array([0, 0, 0, 0, 0, -1])),
            "huge": (x, np.array([0, 0, 0, 0, 0, 99])),
            "nan": (x * np.nan, np.zeros(6, int)),
        }
        for name, (features, labels) in broken.items():
            np.savez(tmp_path / f"{name}.npz", X=features, y=labels)
        refused("train.py", arguments, message)

    def test_divergence_keeps_the_model_and_the_epochs_before(self, tmp_path):
        # An epoch is one step, in which the penalty alone multiplies every weight by 1 - 2 lr l2 = -1.1e7.
        np.savez(tmp_path / "toy.npz", X=toy(10)[0], y=toy(10)[1])
        settings = ("--optimizer", "sgd", "--lr", 10, "--l2", 550_000, "--batch-size", 8, "--hidden", "")
        arguments = ("--data", "toy.npz", *settings, "--epochs", 30, "--backend", "numpy")
        done = run("train.py", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert re.fullmatch(
            r"train\.py: error: training diverged in epoch [2-9] of 30, at its batch 1, .*\n", done.stderr
        )
        assert "model: out/model.npz, at its last finite weights" in done.stdout.replace("\\", "/")
        weights = fnn.load(tmp_path / "out" / "model.npz").parameters()
        assert all(np.isfinite(w).all() for w in weights)
        assert np.abs(weights[0]).max() > 1e6
        assert png_size(tmp_path / "out" / "learning_curve.png") >= (1000, 500)

    def test_divergence_in_the_first_epoch_keeps_the_model(self, refused, tmp_path):
        refused("train.py", ("--lr", "1e30", "--backend", "numpy"), "diverged in epoch 1 of")
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.npz"]

    def test_the_model_is_saved_before_the_picture(self, refused, tmp_path):
        (tmp_path / "out" / "learning_curve.png").mkdir(parents=True)
        arguments = ("--epochs", "1", "--backend", "numpy")
        refused("train.py", arguments, r"learning_curve\.png")
        assert fnn.load(tmp_path / "out" / "model.npz").predict(np.zeros((1, 64))).shape == (1,)


def expect_one_line(script, arguments, message, cwd, path=()):
    done = run(script, *arguments, cwd=cwd, path=path)
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(rf"{re.escape(script)}: error: .*{message}.*\n", done.stderr), done.stderr


@pytest.mark.parametrize("script", ["train.py", "overfitting.py", "search.py", "roofline.py"])
def test_without_matplotlib(tmp_path, script):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not installed')")
    expect_one_line(script, (), r"needs matplotlib: pip install fastnn\[plots\]", tmp_path, path=[tmp_path])


class TestOverfitting:
    def test_the_penalty_shrinks_the_weights(self, tmp_path):
        arguments = ("--samples", 40, "--hidden", 32, "--epochs", 60, "--l2", "0.1,0,0.01", "--backend", "numpy")
        out = succeed("overfitting.py", *arguments, cwd=tmp_path)
        assert "64-32-10 on 40 digits, 20% of them with a random label, 60 epochs" in out
        rows = [line.split() for line in out.splitlines() if "%" in line and "digits" not in line]
        l2, train, test, _, size = ([float(cell.rstrip("%")) for cell in column] for column in zip(*rows, strict=True))
        assert l2 == [0, 0.01, 0.1]
        assert size[0] > size[1] > size[2]
        assert train[0] < train[1] < train[2]
        assert test[0] > train[0]
        assert png_size(tmp_path / "out" / "overfitting.png") >= (1200, 1000)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--samples", "1797"), r"--samples is 1797, but there are 1797 digits and some must be held out"),
            (("--wrong", "1.5"), r"argument --wrong: '1\.5' is not a number from 0 to 1"),
            (("--out", __file__), r"--out is .*test_scripts\.py, which is a file, expected a folder"),
            (("--l2", "0,x"), r"argument --l2: 'x' is not a number >= 0"),
        ],
    )
    def test_errors_are_one_line(self, refused, arguments, message):
        refused("overfitting.py", arguments, message)


def table_rows(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "][2:]


class TestMnist:
    def test_the_errors_are_those_of_the_settings(self, here, tmp_path):
        folder = write_idx(tmp_path / "idx")
        rows = table_rows(here("mnist.py", folder, "--seeds", 2))
        assert [row[:2] for row in rows] == [
            ["9-2", "10 epochs, batch 128, lr 0.1"],
            ["9-128-2", "20 epochs, batch 64, lr 0.05, λ 1e-5"],
            ["9-500-300-2", "20 epochs, batch 64, lr 0.05, λ 2e-5"],
        ]
        (x, y), _ = fnn.datasets.load_idx(folder)
        errors = []
        for seed in range(2):
            model = fnn.Sequential(fnn.Linear(9, 2), seed=seed)
            optimizer = fnn.SGD(lambda e: 0.1 * 0.5 * (1 + math.cos(math.pi * e / 10)) + 1e-5, 0.9, nesterov=True)
            model.fit(x, y, optimizer=optimizer, epochs=10, batch_size=128, verbose=0)
            errors.append(100 * np.mean(model.predict(x) != y))
        assert [f"{error:.2f}%" for error in errors] == rows[0][3].split(", ")
        for _, _, mean, each, seconds in rows:
            values = [float(value.rstrip("%")) for value in each.split(", ")]
            assert float(mean.rstrip("%")) == pytest.approx(np.mean(values), abs=0.011)
            assert float(seconds) >= 0

    def test_quick_is_one_seed_and_one_epoch(self, tmp_path):
        rows = table_rows(succeed("mnist.py", write_idx(tmp_path / "idx"), "--quick", cwd=tmp_path))
        assert [row[1].split(",")[0] for row in rows] == ["1 epoch"] * 3
        assert all(row[2] == row[3] for row in rows)

    def test_docs(self, tmp_path, monkeypatch):
        results = tmp_path / "docs" / "results"
        results.mkdir(parents=True)
        folder = write_idx(tmp_path / "idx")
        monkeypatch.setattr(measure, "ROOT", tmp_path)
        arguments = ["mnist", str(folder), "--seeds", "1", "--docs"]
        monkeypatch.setattr("sys.argv", ["somewhere/fastnn/__main__.py", *arguments])
        commands.main(arguments)
        text = (results / "mnist.md").read_text(encoding="utf-8")
        command = re.escape(f"python -m fastnn mnist {folder} --seeds 1")
        assert re.fullmatch(rf"Made by `{command}`\.\n\nMeasured on .*\| 9-2 \|.*\n", text, re.S)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((".",), r"holds none of train-images-idx3-ubyte, "),
            ((), r"the following arguments are required: FOLDER"),
            ((".", "--seeds", "0"), r"argument --seeds: '0' is not a whole number >= 1"),
            ((".", "--quick", "--docs"), r"argument --docs: not allowed with argument --quick"),
        ],
    )
    def test_errors_are_one_line(self, refused, arguments, message):
        refused("mnist.py", arguments, message)
