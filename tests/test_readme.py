"""What the README shows is what happens."""

import re
from pathlib import Path

import numpy as np
import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"\d+\.\d+")


def blocks(name):
    """The code blocks between the markers of that name."""
    section = re.search(rf"<!-- {name}:begin -->\n(.*)<!-- {name}:end -->", README, re.S)[1]
    return re.findall(r"```\w+\n(.*?)```", section, re.S)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_prints_what_it_says(here, capsys):
    code, expected = blocks("example")
    exec(code, {})
    found = capsys.readouterr().out
    # Another CPU may round one sample to the other side; the text around the figures stays.
    assert NUMBER.sub("#", found) == NUMBER.sub("#", expected)
    figures = [[float(figure) for figure in NUMBER.findall(text)] for text in (found, expected)]
    assert np.all(np.abs(np.subtract(*figures)) <= [0.02, 0.02, 1])


def test_many_networks_at_once(capsys):
    (code,) = blocks("many")
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["0.001", "0.003", "0.01", "0.03"]
    assert all(float(line.split()[-1].rstrip("%")) > 85 for line in lines)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_searches(capsys):
    pytest.importorskip("sklearn")
    (code,) = blocks("searches")
    exec(code, {})
    ours = capsys.readouterr().out
    names = {"BaggingClassifier": "sklearn.ensemble", "GridSearchCV, cross_val_score": "sklearn.model_selection"}
    imports = "\n".join(f"from {module} import {name}" for name, module in names.items())
    theirs = re.sub(r"(from fastnn.sklearn import ).*", rf"\1MLPClassifier\n{imports}", code)
    exec(theirs.replace("n_jobs=2", "n_jobs=1"), {})
    assert ours == capsys.readouterr().out


def test_in_place_of_scikit_learn(capsys):
    pytest.importorskip("sklearn")
    (code,) = blocks("sklearn")
    exec(code, {})
    ours = capsys.readouterr().out
    exec(code.replace("fastnn.sklearn", "sklearn.neural_network"), {})
    assert ours == capsys.readouterr().out
    assert float(ours.split()[-1].rstrip("%")) > 95


def test_a_table_of_data(here, capsys):
    pytest.importorskip("pandas")
    (code,) = blocks("table")
    exec(code, {})
    share, shape = capsys.readouterr().out.splitlines()
    assert 65 < int(share.split("%")[0]) < 95
    assert shape == "(1, 3)"


def test_it_is_one_page():
    assert len(README.encode()) <= 14_000
    assert README.count("\n") <= 250


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
