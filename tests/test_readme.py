"""What the README shows is what happens."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn

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


def test_a_layer_of_your_own(capsys):
    (code,) = blocks("layer")
    exec(code, {})
    error, accuracy = (float(line.split()[-1]) for line in capsys.readouterr().out.splitlines())
    assert error < 1e-6
    assert accuracy > 0.9


def test_labels_that_are_names(capsys):
    (code,) = blocks("labels")
    exec(code, {})
    shown = capsys.readouterr().out.split()
    assert shown[:2] == ["['even'", "'odd']"]
    assert float(shown[-1]) > 0.8


def test_rates_that_change(capsys):
    (code,) = blocks("schedules")
    exec(code, {})
    shown, accuracy, fell = capsys.readouterr().out.splitlines()
    assert shown.startswith("cosine(lr=0.2, length=10, final=0.0, warmup=2, per='epoch') [0.067, 0.133, 0.2, 0.192, ")
    assert float(accuracy.split()[-1]) > 0.9
    assert int(fell.split()[3]) > 0


def test_what_helps_against_overfitting(capsys):
    (code,) = blocks("regularise")
    exec(code, {})
    epochs, accuracy = capsys.readouterr().out.splitlines()
    assert int(epochs.split()[2]) < 500
    assert float(accuracy.split()[-1].rstrip("%")) > 90


def test_gradients_as_a_whole(capsys):
    (code,) = blocks("whole")
    exec(code, {})
    losses = [[float(n) for n in NUMBER.findall(line.split(":")[1])] for line in capsys.readouterr().out.splitlines()]
    assert losses[0][0] > 2 * losses[1][0]
    assert losses[0][1] > losses[1][1]


def test_from_one_task_to_the_next(capsys):
    (code,) = blocks("transfer")
    exec(code, {})
    accuracy, *table = capsys.readouterr().out.splitlines()
    assert float(accuracy.split()[-1].rstrip("%")) > 75
    assert "6,405 parameters, 2,245 of them trainable, float32" in table[-1]


def test_what_outputs_mean():
    (code,) = blocks("meanings")
    names = {}
    exec(code, names)
    model, X, tags = (names[name] for name in ("model", "X", "tags"))
    assert model.predict(X).shape == model.predict_proba(X).shape == (500, 2)
    assert model.evaluate(X, tags)["accuracy"] > 0.9
    assert np.mean(names["low"] < names["high"]) > 0.9


def test_several_models_as_one(here, capsys):
    code, expected = blocks("ensemble")
    exec(code, {})
    found, figure = capsys.readouterr().out, re.compile(r"\d+(\.\d+)?")
    assert figure.sub("#", found) == figure.sub("#", expected)
    values = [[float(each[0]) for each in figure.finditer(text)] for text in (found, expected)]
    assert np.all(np.abs(np.subtract(*values)) <= [0.02, 0.02, 0.02, 0.02, 2, *[0] * (len(values[0]) - 5)])
    assert values[0][0] < values[0][1]
    assert values[0][2] > values[0][3]


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


def test_the_profile_is_a_table(capsys):
    (code,) = blocks("profile")
    exec(code, {})
    assert {"Linear(64, 128)", "Linear(128, 10)"} <= set(re.findall(r"Linear\(\d+, \d+\)", capsys.readouterr().out))


def test_functions_of_the_users_own(capsys):
    (code,) = blocks("own")
    exec(code, {})
    error, accuracy, loss = capsys.readouterr().out.splitlines()
    assert float(error.split()[-1]) < 1e-6
    assert float(accuracy.split()[-1]) > 0.9
    first, last = (float(number) for number in loss.removeprefix("loss of a copy ").split(" -> "))
    assert last < first


def test_errors_look_like_this(here):
    x, y = fnn.datasets.load_digits()
    model = fnn.Sequential(fnn.Linear(64, 10))
    Path("table.csv").write_text("1,2\n3,4\nfour,6\n")
    (code,) = blocks("errors")
    pairs = re.findall(r"^(\w.*)\n# ValueError: (.*)$", code, re.M)
    assert len(pairs) == 4
    for statement, message in pairs:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            exec(statement, {"fnn": fnn, "model": model, "X": x, "y": y})


def test_every_formula_has_its_function():
    rows = re.findall(r"^\| .* \| `([\w/]+)\.py` \| (.*) \|$", README, re.M)
    section = README.split("## The formulas, and where each one lives")[1].split("\n## ")[0]
    assert len(rows) == len(re.findall(r"^\| ", section, re.M)) - 1
    for file, functions in rows:
        module = importlib.import_module(f"fastnn.reference.{file.replace('/', '.')}")
        for function in re.findall(r"`(\w+)`", functions):
            assert getattr(module, function).__module__ == module.__name__


def test_every_file_has_its_place():
    """Each at the top, and each room."""
    section = README.split("## How it is built")[1].split("\n## ")[0]
    named = set(re.findall(r"`([\w/]+)`", "".join(re.findall(r"^\| (.*?) \|", section, re.M))))
    fastnn = Path(fnn.__file__).parent
    files = {path.stem for path in fastnn.glob("*.py")} - {"__init__"}
    rooms = [*fastnn.glob("*/__init__.py"), *fastnn.glob("kernels/*/__init__.py")]
    assert named == files | {f"{path.parent.relative_to(fastnn).as_posix()}/" for path in rooms}


def test_the_measured_tables_have_their_markers():
    for name in ("mnist", "compare", "compare_sklearn"):
        assert re.search(rf"^<!-- {name}:begin -->\n(.*\n)*?<!-- {name}:end -->$", README, re.M)
