"""The comparison with scikit-learn: both do the same work, and nothing is left out of the tables."""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from tests.comparing import cells, module
from tests.comparing import scripts as scripts
from tests.test_scripts import expect_one_line, write_idx

pytest.importorskip("sklearn")

SECTIONS = ("fit", "predict", "search")


def section(name):
    return module(f"comparison.sklearn_{name}")


def settings(**changes):
    return module("comparison.sklearn_problems").Settings(**({"rounds": 1, "quick": True} | changes))


class TestAgreement:
    def test_whoever_differs_is_said(self):
        check = module("comparison.sklearn_problems").check
        check("a fit", {"fastnn": [4.0, 2.0], "scikit-learn": [4.0, 2.0004]}, 1e-3)
        message = (
            r"^a fit: fastnn and scikit-learn are 5\.0e-03 apart, but they must agree within 0\.001, or they do not"
        )
        with pytest.raises(ValueError, match=message):
            check("a fit", {"fastnn": [4.0, 2.0], "scikit-learn": [4.0, 2.02]}, 1e-3)
        for other in ([4.0], [4.0, np.nan]):
            with pytest.raises(ValueError, match=r"^a fit: fastnn and scikit-learn are (inf|nan) apart"):
                check("a fit", {"fastnn": [4.0, 2.0], "scikit-learn": other}, 1e-3)

    def test_both_get_the_same_settings(self):
        models = module("comparison.sklearn_problems").estimators((7, 5), solver="sgd", max_iter=3)
        ours, theirs = (models[name].get_params() for name in ("fastnn", "scikit-learn"))
        assert {name: ours[name] for name in theirs} == theirs
        assert theirs["hidden_layer_sizes"] == (7, 5)
        assert models["fastnn"].__module__.startswith("fastnn.")
        assert models["scikit-learn"].__module__.startswith("sklearn.")

    def test_no_time_for_other_work(self, monkeypatch):
        fit = section("fit")

        def other(hidden, **given):
            models = module("comparison.sklearn_problems").estimators(hidden, **given)
            models["fastnn"].set_params(alpha=1.0)
            return models

        monkeypatch.setattr(fit, "estimators", other)
        with pytest.raises(ValueError, match=r"^fit, float64, digits, 64-100-10, adam: loss curves: fastnn and scikit"):
            fit.measure_all(settings(dtypes=("float64",)))

    def test_no_time_for_other_probabilities(self, monkeypatch):
        predict = section("predict")

        def other(hidden, **given):
            models = module("comparison.sklearn_problems").estimators(hidden, **given)
            models["fastnn"].set_params(random_state=1)
            return models

        monkeypatch.setattr(predict, "estimators", other)
        with pytest.raises(ValueError, match=r"^predict, float64, digits, 64-100-10, 1 row: probabilities: fastnn and"):
            predict.measure_all(settings(dtypes=("float64",)))


class TestData:
    def test_mnist_is_what_the_folder_holds(self, tmp_path):
        folder, problems = write_idx(tmp_path / "idx"), module("comparison.sklearn_problems")
        given = settings(mnist=folder)
        x, y = problems.load("MNIST", "float32", given)
        (right_x, right_y), _ = fnn.datasets.load_idx(folder)
        np.testing.assert_array_equal(x, right_x)
        np.testing.assert_array_equal(y, right_y)
        assert given.named("MNIST") == "MNIST"

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize(("name", "shape", "classes"), [("digits", (1797, 64), 10), ("20 features", (2000, 20), 2)])
    def test_shapes(self, name, shape, classes, dtype):
        x, y = module("comparison.sklearn_problems").load(name, dtype, settings(quick=False))
        assert x.shape == shape
        assert x.dtype == dtype
        assert set(y) == set(range(classes))

    def test_data_of_mnists_size(self, monkeypatch):
        problems = module("comparison.sklearn_problems")
        assert settings().named("MNIST") == "MNIST-sized"
        x, y = problems.load("MNIST", "float32", settings(quick=False))
        problems._load.cache_clear()
        assert x.shape == (60_000, 784)
        assert set(y) == set(range(10))

    def test_the_search_has_24_settings(self):
        assert math.prod(map(len, section("search").GRID.values())) == 24


class TestSections:
    @pytest.mark.parametrize("name", ["fit", "predict"])
    def test_each_measures_and_fills_its_table(self, name):
        records = json.loads(json.dumps(section(name).measure_all(settings(dtypes=("float64",)))))
        ((header, *rows),) = cells(section(name).tables(records))
        assert len(rows) == {"fit": 4, "predict": 2}[name]
        assert all(len(row) == len(header) and all(row) for row in rows)

    def test_fit(self):
        def record(ours, theirs):
            about = {"dtype": "float32", "case": "a", "solver": "sgd", "epochs": 3, "target": 6.0}
            return about | {
                "seconds": {"fastnn": ours, "scikit-learn": theirs},
                "losses": {"fastnn": 0.5, "scikit-learn": 0.25},
            }

        ((_, *rows),) = cells(section("fit").tables([record(0.25, 1.5), record(0.25, 1.25)]))
        about = ["float32", "a", "sgd", "3", "0.25 (0.5)"]
        assert rows == [[*about, "1.5 (0.25)", "6.00", "6"], [*about, "1.25 (0.25)", "**5.00**", "6"]]

    def test_predict(self):
        record = {"dtype": "float64", "case": "a", "seconds": {"fastnn": 2e-5, "scikit-learn": 5e-5}, "target": 3.0}
        ((_, *rows),) = cells(section("predict").tables([record, record | {"target": 2.0}]))
        assert rows == [
            ["float64", "a", "20.0", "50.0", "**2.50**", "3"],
            ["float64", "a", "20.0", "50.0", "2.50", "2"],
        ]

    def test_search(self):
        seconds = {"fastnn": 10.0, "scikit-learn": 39.0}
        records = [
            {"cache": "empty", "seconds": seconds, "best": 0.95},
            {"cache": "primed", "seconds": seconds | {"fastnn": 5.0}, "best": 0.95},
        ]
        text = section("search").tables(records)
        ((_, *rows),) = cells(text)
        assert rows == [
            ["empty kernel cache", "10.0", "39.0", "**3.90**", "4", "0.9500"],
            ["primed kernel cache", "5.0", "39.0", "7.80", "4", "0.9500"],
        ]
        assert "over 24 settings" in text

    def test_the_first_search_finds_no_kernels_and_no_limits_on_threads(self, monkeypatch):
        search, calls = section("search"), []
        times = iter([9.0, 30.0, 4.0, 32.0])

        def fresh(name, size, environment, script):
            folder = Path(environment["NUMBA_CACHE_DIR"])
            calls.append((name, size, sorted(path.name for path in folder.iterdir())))
            assert not [name for name in environment if name.endswith("_NUM_THREADS")]
            assert Path(script).name == "sklearn_search.py"
            if name == "fastnn":
                (folder / "kernels").touch()
            return {"seconds": next(times), "scores": [0.9, 0.95]}

        monkeypatch.setattr(search, "in_fresh_process", fresh)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        records = search.measure_all(settings(quick=False))
        assert calls[0] == ("fastnn", "full", [])
        assert calls[1:] == [(name, "full", ["kernels"]) for name in ("scikit-learn", "fastnn", "scikit-learn")]
        assert [record["cache"] for record in records] == ["empty", "primed"]
        assert [record["seconds"] for record in records] == [
            {"fastnn": 9.0, "scikit-learn": 30.0},
            {"fastnn": 4.0, "scikit-learn": 32.0},
        ]
        assert records[0]["best"] == 0.95

    @pytest.mark.filterwarnings("ignore")  # as in the processes that are measured
    def test_both_searches_find_the_same(self):
        """One as it is measured, in a process of its own with two workers, the other in threads of this one."""
        import joblib

        search, settings = section("search"), {"environment": section("search").users_environment()}
        found = {"fastnn": search.in_fresh_process("fastnn", "quick", script=search.__file__, **settings)}
        with joblib.parallel_config("threading"):
            found["scikit-learn"] = search.search("scikit-learn", "quick")
        assert len(found["fastnn"]["scores"]) == 2
        np.testing.assert_allclose(found["fastnn"]["scores"], found["scikit-learn"]["scores"], atol=search.TOLERANCE)
        assert all(each["seconds"] > 0 for each in found.values())

    def test_a_search_that_fails_says_why(self):
        search = section("search")
        with pytest.raises(RuntimeError, match=r"^sklearn_search\.py nobody quick failed: KeyError: 'nobody'$"):
            search.in_fresh_process("nobody", "quick", script=search.__file__)


class TestCommand:
    def test_quick(self, tmp_path, capsys):
        command, raw = module("compare_sklearn"), tmp_path / "raw.json"
        arguments = ["--quick", "--only", "predict", "--dtypes", "float64", "--json", str(raw)]
        command.main(command.build_parser().parse_args(arguments))
        out = capsys.readouterr().out
        assert re.match(r"Measured on .*, scikit-learn \d", out)
        ((_, *rows),) = cells(out)
        assert [row[:2] for row in rows] == [
            ["float64", "digits, 64-100-10, 1 row"],
            ["float64", "digits, 64-100-10, 10,000 rows"],
        ]
        assert [record["cores"] for record in json.loads(raw.read_text())["records"]["predict"]] == [1, 1]

    def test_docs(self, tmp_path, monkeypatch, capsys):
        command, asked = module("compare_sklearn"), []

        def measured(function, given):
            asked.append((function.__module__, given.cores, given.rounds, given.mnist))
            return []

        monkeypatch.setattr(module("comparison.command"), "in_own_process", measured)
        monkeypatch.setattr(module("fastnn.commands.measure"), "available_cores", lambda: 2)
        monkeypatch.setattr(module("fastnn.commands.measure"), "ROOT", tmp_path)
        results = tmp_path / "docs" / "results"
        results.mkdir(parents=True)
        folder = write_idx(tmp_path / "idx")
        arguments = ["--docs", "--rounds", "2", "--mnist", str(folder)]
        monkeypatch.setattr("sys.argv", ["somewhere/scripts/compare_sklearn.py", *arguments])
        command.main(command.build_parser().parse_args(arguments))
        modules = zip(SECTIONS, (1, 1, 2), strict=True)
        assert asked == [(f"comparison.sklearn_{name}", cores, 2, folder) for name, cores in modules]
        out = capsys.readouterr().out.strip()
        text = f"Made by `python scripts/compare_sklearn.py --rounds 2 --mnist {folder}`.\n\n{out}\n"
        assert (results / "compare_sklearn.md").read_text(encoding="utf-8") == text

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--only", "speed"), r"argument --only: invalid choice: 'speed'"),
            (("--rounds", "0"), r"argument --rounds: '0' is not a whole number >= 1"),
            (("--quick", "--docs"), r"argument --docs: not allowed with argument --quick"),
            ((), r"the search needs 2 cores, but this process may use 1: leave it out, --only fit predict"),
            (("--only", "fit", "--mnist", "."), r"\. holds none of train-images-idx3-ubyte, "),
        ],
    )
    def test_errors_are_one_line(self, arguments, message, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(module("fastnn.commands.measure"), "available_cores", lambda: 1)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["compare_sklearn.py", *arguments])
        with pytest.raises(SystemExit, match="2"):
            module("fastnn.commands.arguments").run(
                module("compare_sklearn").main, module("compare_sklearn").build_parser
            )
        assert re.fullmatch(rf"compare_sklearn\.py: error: .*{message}.*\n", capsys.readouterr().err)

    def test_without_scikit_learn(self, tmp_path):
        (tmp_path / "sklearn.py").write_text("raise ImportError('not installed')")
        expect_one_line("compare_sklearn.py", (), r"pip install 'fastnn\[sklearn\]'", tmp_path, path=[tmp_path])
