"""``python -m fastnn``: the commands by name, from a folder that holds nothing, with the package alone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn import commands
from fastnn.commands import compare, measure
from tests.processes import ROOT

NAMES = ["train", "search", "overfitting", "mnist", "profile", "roofline", "warmup", "compare"]


def start(*arguments, cwd, package=ROOT, module="fastnn"):
    """Run ``python -m fastnn`` in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(package)}
    command = [sys.executable, "-W", "error", "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8")


def fail(capsys, *arguments):
    """What a command of this process says on its way out."""
    with pytest.raises(SystemExit, match="2"):
        commands.main(arguments)
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds the package and nothing else, as a wheel leaves it."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(Path(fnn.__file__).parent, folder / "fastnn", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


class TestByName:
    def test_without_arguments_it_lists_the_commands(self, installed, tmp_path):
        done = start(cwd=tmp_path, package=installed)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("usage: python -m fastnn [-h] [--version] COMMAND ...\n")
        listed = done.stdout.partition("commands:\n")[2].partition("\n\n")[0]
        assert re.findall(r"^  (\w+)  +\S.*$", listed, re.M) == NAMES == list(commands.COMMANDS)

    @pytest.mark.parametrize("name", [name for name in NAMES if name != "compare"])
    def test_help_has_examples(self, name, capsys):
        with pytest.raises(SystemExit, match="0"):
            commands.main([name, "--help"])
        shown = capsys.readouterr().out
        assert shown.startswith(f"usage: python -m fastnn {name} [-h]")
        assert f"\nexamples:\n  python -m fastnn {name}" in shown

    def test_another_name(self, capsys):
        message = fail(capsys, "trian")
        assert message.startswith("python -m fastnn: error: argument COMMAND: invalid choice: 'trian' (choose from ")
        assert all(name in message for name in NAMES)

    def test_version(self, capsys):
        with pytest.raises(SystemExit, match="0"):
            commands.main(["--version"])
        assert capsys.readouterr().out == f"fastnn {fnn.__version__}\n"

    def test_the_program_goes_by_its_own_name(self, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", [str(Path("bin") / "fastnn"), "warmup", "float16"])
        with pytest.raises(SystemExit, match="2"):
            commands.main()
        assert capsys.readouterr().err.startswith("fastnn warmup: error: dtype is 'float16'")

    def test_nothing_heavy_is_imported_to_list_them(self):
        code = """
import sys
import fastnn
assert "fastnn.commands" not in sys.modules
from fastnn.commands import main
main([])
assert not {"numba", "matplotlib", "sklearn", "fastnn.commands.train"} & set(sys.modules)
"""
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


class TestFromAnEmptyFolder:
    def test_a_command(self, installed, tmp_path):
        pytest.importorskip("matplotlib")
        settings = ("--samples", 30, "--hidden", 4, "--epochs", 2, "--l2", "0,1", "--backend", "numpy")
        done = start("overfitting", *settings, cwd=tmp_path, package=installed)
        assert done.returncode == 0, done.stderr
        assert "64-4-10 on 30 digits, 20% of them with a random label, 2 epochs" in done.stdout
        assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")] == [
            str(Path("out") / "overfitting.png")
        ]

    def test_its_error_is_one_line(self, installed, tmp_path):
        done = start("mnist", "nowhere", cwd=tmp_path, package=installed)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(r"python -m fastnn mnist: error: .*nowhere.*\n", done.stderr), done.stderr

    def test_compare_says_where_it_is(self, installed, tmp_path):
        done = start("compare", "--rounds", 3, cwd=tmp_path, package=installed)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(
            r"python -m fastnn compare: error: the comparison is not part of the installed package: unpack fastnn's "
            r"source .*, run pip install -e '\.\[peers\]' in it, and there python scripts/compare\.py\n",
            done.stderr,
        )


def test_compare_is_the_script_of_a_checkout(tmp_path):
    assert (compare.SCRIPTS / "compare.py").is_file()
    done = start("compare", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: python -m fastnn compare [-h]")
    assert "--peers" in done.stdout
    assert "examples:\n  python -m fastnn compare --cores 1 2" in done.stdout


def test_a_table_for_documentation_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=r"--docs is for a checkout of fastnn, but .* holds no docs/results"):
        measure.put_in_docs("mnist", "text")


class TestProfile:
    def test_the_digits(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        commands.main(["profile", "--hidden", "7,5", "--batch-size", "16", "--seconds", "0.01"])
        shown = capsys.readouterr().out
        assert shown.startswith("64-7-5-10\none training step of 16 samples, float32, numba, ")
        assert re.findall(r"^Linear\(\d+, \d+\)(?: \+ ReLU\(\))?", shown, re.M) == [
            "Linear(64, 7) + ReLU()", "Linear(7, 5) + ReLU()", "Linear(5, 10)",
        ]  # fmt: skip
        assert list(tmp_path.iterdir()) == []

    def test_what_it_is_asked_for(self, tmp_path, monkeypatch, capsys):
        np.savez(tmp_path / "toy.npz", X=np.ones((10, 3)), y=np.arange(10) % 4)
        asked = []

        def note(model, x, y, **settings):
            asked.append((model, x.shape, y.shape, settings, fnn.get_num_threads(), fnn.backend.active().__name__))
            return "a table"

        before = fnn.get_num_threads()
        monkeypatch.setattr(fnn, "profile", note)
        given = "--hidden 6 --optimizer adam --l2 0.5 --dtype float64 --threads 1 --seconds 2 --batch-size 5"
        try:
            commands.main(["profile", "--data", str(tmp_path / "toy.npz"), *given.split(), "--backend", "numpy"])
        finally:
            fnn.set_num_threads(before)
        assert capsys.readouterr().out == "3-6-4\na table\n"
        ((model, x, y, settings, threads, backend),) = asked
        assert (x, y, threads, backend, model.dtype) == ((8, 3), (8,), 1, "fastnn.reference", np.float64)
        assert isinstance(settings.pop("optimizer"), fnn.Adam)
        assert settings == {"l2": 0.5, "batch_size": 5, "seconds": 2.0}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("--seconds 0", "argument --seconds: '0' is not a number > 0"),
            ("--threads 0", "argument --threads: '0' is not a whole number >= 1"),
            ("--data nowhere", "nowhere is missing"),
        ],
    )
    def test_errors_are_one_line(self, arguments, message, capsys):
        assert fail(capsys, "profile", *arguments.split()) == f"python -m fastnn profile: error: {message}\n"
