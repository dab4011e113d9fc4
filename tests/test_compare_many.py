"""The comparison of many networks at once: everyone does the same work, and nothing is left out of the tables."""

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.comparing import cells, module
from tests.comparing import scripts as scripts
from tests.test_peers import trained_by_hand
from tests.test_scripts import expect_one_line

KEYS = ("ours", "loop", "torch", "jax")
FORMS = ("vmap of scan", "scan of vmap", "map of scan", "map of vmap by 2")
# Adam makes a whole step of a gradient that is nothing but rounding.
TOLERANCE = {("SGD", "float32"): 2e-5, ("Adam", "float32"): 5e-4, ("SGD", "float64"): 1e-12, ("Adam", "float64"): 1e-11}


def section(name):
    return module(f"comparison.many_{name}")


def peer(key):
    if key in ("torch", "jax"):
        pytest.importorskip(key)
    return module("peers").load_one(f"many.{key}")


def settings(**changes):
    defaults = {"dtypes": ("float32",), "rounds": 1, "quick": True, "counts": (3,)}
    return section("training").Settings(**(defaults | changes))


def many(widths=(5, 7, 3), loss="cross_entropy", rule="SGD", dtype="float64", count=5, epochs=2):
    network = module("comparison.problems").Network(widths, 6, 4, loss, lr=0.05, rule=rule)
    return section("problems").many(network, dtype, count, epochs)


def problem_of(given, k):
    """What one network has to do, as a problem of its own."""
    network = replace(given.network, lr=float(given.rates[k]))
    problem = module("comparison.problems").Problem(
        network, given.x, given.y, given.epochs, float(given.penalties[k]), given.seed(k)
    )
    vars(problem)["_initial"] = given.layers(k)
    return problem


def assert_steps_by_hand(trainer, given):
    """The second time everything starts again."""
    for _ in range(2):
        trainer.prepare()
        trainer.run()
        for k in range(given.count):
            right = trained_by_hand(problem_of(given, k))
            for found, expected in zip(trainer.layers(k), right, strict=True):
                for p, q in zip(found, expected, strict=True):
                    assert p.dtype == given.dtype
                    tolerance = TOLERANCE[given.network.rule, given.dtype.name]
                    np.testing.assert_allclose(p, q, rtol=0, atol=tolerance)


class TestPeers:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("rule", ["SGD", "Adam"])
    @pytest.mark.parametrize(
        ("widths", "loss"), [((5, 7, 3), "cross_entropy"), ((4, 6, 5, 1), "squared_error")], ids=["labels", "values"]
    )
    @pytest.mark.parametrize("key", KEYS)
    def test_trainers_take_the_same_steps(self, key, widths, loss, rule, dtype):
        given = many(widths, loss, rule, dtype)
        assert_steps_by_hand(peer(key).Trainer(given), given)

    @pytest.mark.parametrize("rule", ["SGD", "Adam"])
    @pytest.mark.parametrize("form", FORMS)
    def test_every_form_of_jax(self, form, rule, monkeypatch):
        jax, given = peer("jax"), many(rule=rule)
        monkeypatch.setattr(jax, "GROUP", 2)
        found = jax.forms(given)
        assert tuple(found) == FORMS
        monkeypatch.setattr(jax, "forms", lambda problem: {form: found[form]})
        trainer = jax.Trainer(given)
        assert trainer.form == form
        assert_steps_by_hand(trainer, given)

    def test_jax_takes_its_fastest_form(self, monkeypatch):
        jax, given = peer("jax"), many()
        times = dict(zip(FORMS, (3.0, 1.0, 2.0, 4.0), strict=True))
        monkeypatch.setattr(jax, "GROUP", 2)
        monkeypatch.setattr(jax.jax, "jit", lambda form, donate_argnums: form)
        by_function = {}
        original = jax.forms

        def forms(problem):
            found = original(problem)
            by_function.update({found[name]: times[name] for name in found})
            return found

        monkeypatch.setattr(jax, "forms", forms)
        monkeypatch.setattr(jax.Trainer, "_tried", lambda self, epoch: by_function[epoch])
        assert jax.Trainer(given).form == "scan of vmap"

    def test_each_network_has_settings_of_its_own(self):
        given = many(count=4)
        assert len({*given.rates.tolist()}) == len({*given.penalties.tolist()}) == 4
        weights = [given.layers(k)[0][0] for k in range(4)]
        assert len({w.tobytes() for w in weights}) == 4
        for k in range(4):
            np.testing.assert_array_equal(given.stacked()[0][0][k], weights[k])
        given.layers(0)[0][0][...] = 0
        assert np.abs(given.layers(0)[0][0]).max() > 0


class TestAgreement:
    def test_no_time_for_other_work(self, monkeypatch):
        training, loop = section("training"), peer("loop")

        class Wrong(loop.Trainer):
            NAME = "Wrong"

            def prepare(self):
                super().prepare()
                self._penalties = [100 * l2 for l2 in self._penalties]

        monkeypatch.setattr(loop, "Trainer", Wrong)
        message = r"^5-7-3, 6, network 0 of 5, float64: fit in a loop reached the loss .*, but fastnn "
        with pytest.raises(ValueError, match=message):
            training.measure_case(many(), ["loop"], settings())

    def test_one_wrong_network_is_enough(self, monkeypatch):
        training, loop = section("training"), peer("loop")

        class Wrong(loop.Trainer):
            def prepare(self):
                super().prepare()
                self._penalties[-1] *= 100

        monkeypatch.setattr(loop, "Trainer", Wrong)
        with pytest.raises(ValueError, match=r"network 4 of 5, float64: fit in a loop reached the loss"):
            training.measure_case(many(), ["loop"], settings())

    def test_no_time_for_other_scores(self, monkeypatch):
        pytest.importorskip("sklearn")
        search = section("search")
        monkeypatch.setattr(search, "cold", lambda *_: None)

        def fresh(name, *arguments, environment, script):
            return {"seconds": 1.0, "scores": [0.9, 0.8 if name == "fastnn" else 0.81]}

        monkeypatch.setattr(search, "in_fresh_process", fresh)
        with pytest.raises(ValueError, match=r"^search, float32, 20 features, \(32,\), 200 iterations: scores: fastnn"):
            search.measure_all(settings())


class TestSections:
    @pytest.mark.parametrize("name", ["training", "few", "ensemble"])
    def test_each_measures_and_fills_its_tables(self, name):
        records = [record | {"cores": 1} for record in section(name).measure_all(settings())]
        tables = cells(section(name).tables(json.loads(json.dumps(records))))
        assert tables
        for header, *rows in tables:
            assert len(rows) == {"training": 4, "few": 8, "ensemble": 3}[name]
            assert all(len(row) == len(header) and all(row) for row in rows)

    def test_search(self, monkeypatch):
        pytest.importorskip("sklearn")
        search = section("search")
        chosen = [case for case in search.CASES if case.is_bagging or (case.is_scaled and case.data == "20 features")]
        monkeypatch.setattr(search, "CASES", chosen)
        monkeypatch.setattr(search, "in_fresh_process", lambda *given, **_: search.run(*given))
        monkeypatch.setattr(search, "users_environment", dict)
        with module("comparison.sklearn_problems").ended_early():
            records = json.loads(json.dumps(search.measure_all(settings())))
        ((header, *rows),) = cells(search.tables(records))
        assert [row[1] for row in rows] == [case.name for case in chosen]
        assert all(len(row) == len(header) and all(row) for row in rows)
        assert set(records[0]["cold"]) == {"search", "fit"}

    def test_each_search_has_a_process_of_its_own(self, monkeypatch):
        pytest.importorskip("sklearn")
        search, calls = section("search"), []

        def fresh(*arguments, environment, script):
            assert not [name for name in environment if name.endswith("_NUM_THREADS")]
            calls.append((*arguments, "NUMBA_CACHE_DIR" in environment))
            seconds = {"fastnn": 2.0, "scikit-learn": 30.0}[arguments[0]] - len(calls) / 100
            return {"seconds": seconds, "scores": [0.5, 0.75]}

        monkeypatch.setattr(search, "in_fresh_process", fresh)
        monkeypatch.setattr(search, "CASES", search.CASES[:1])
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
        (record,) = search.measure_all(settings(rounds=2, quick=False))
        pair = [(name, "0", "float32", "full", "warm", False) for name in ("fastnn", "scikit-learn")]
        cold = [("fastnn", case, "float32", "full", "cold", True) for case in ("0", "fit")]
        assert calls == [*pair, *pair, *cold]
        assert record["seconds"] == {"fastnn": 1.97, "scikit-learn": 29.96}
        assert record["cold"] == {"search": 1.95, "fit": 1.94}
        assert record["score"] == 0.75

    def test_the_searches_of_the_issue(self):
        pytest.importorskip("sklearn")
        search = section("search")
        assert np.prod([len(values) for values in search.GRID.values()]) == 24
        searches = [case for case in search.CASES if not case.is_bagging]
        assert sum(case.is_scaled for case in searches) == 2
        assert {(case.data, case.hidden) for case in searches} >= {("20 features", (32,)), ("digits", (100,))}
        theirs = search.built("scikit-learn", searches[1], search.GRID, 200)
        ours = search.built("fastnn", searches[1], search.GRID, 200)
        for each, package in ((ours, "fastnn"), (theirs, "sklearn")):
            assert type(each).__module__.startswith(package)
            assert type(each.estimator[-1]).__module__.startswith(package)
            assert (each.cv, each.n_jobs) == (5, 2)
            assert set(each.param_grid) == {"mlpclassifier__alpha", "mlpclassifier__learning_rate_init"}
        bags = [search.built(name, search.CASES[-1], {}, 3) for name in ("fastnn", "scikit-learn")]
        assert [type(each).__module__.split(".")[0] for each in bags] == ["fastnn", "sklearn"]
        assert {(each.n_estimators, each.n_jobs, each.random_state) for each in bags} == {(16, 2, 0)}


class TestTables:
    def test_training(self):
        def record(cores, ours, loop, jax=None, **changes):
            seconds = {"fastnn": ours, "fit in a loop": loop} | ({} if jax is None else {"JAX": jax})
            about = {"dtype": "float32", "rule": "SGD", "case": "a", "count": 64, "forms": {}}
            return about | {"cores": cores, "seconds": seconds, "flops": 400, "peak": 1e8, "is_wide": True} | changes

        records = [
            record(1, 10e-6, 40e-6, 60e-6),
            record(1, 8e-6, 7e-6, 16e-6, case="b", count=16),
            record(1, 10e-6, 15e-6, 14e-6, dtype="float64", is_wide=True),
            record(1, 11e-6, 15e-6, rule="Adam"),
            record(2, 5e-6, 20e-6, 60e-6),
            record(2, 6e-6, 7e-6, 18e-6, case="b", count=16),
            record(2, 6e-6, 15e-6, 9e-6, dtype="float64"),
        ]
        text = section("training").tables(records)
        one, two = cells(text)
        names = ["fastnn", "fit in a loop", "JAX"]
        ratios = ["over fit in a loop", "over JAX", "of the FMA peak"]
        assert one == [
            ["many", "optimizer", "network, batch", "networks", *names, *ratios],
            ["float32", "SGD", "a", "64", "10.0", "40.0", "60.0", "4.00", "6.00", "**40%**"],
            ["float32", "SGD", "b", "16", "8.00", "7.00", "16.0", "**0.88**", "**2.00**", "50%"],
            ["float64", "SGD", "a", "64", "10.0", "15.0", "14.0", "1.50", "1.40", "40%"],
            ["float32", "Adam", "a", "64", "11.0", "15.0", "-", "1.36", "-", "36%"],
        ]
        assert two[0] == [*one[0], "than on one core"]
        assert [row[-1] for row in two[1:]] == ["2.00", "1.33", "**1.67**"]
        assert "on 1 core: µs a step of one network" in text
        # sqrt(6 · 2) and cbrt(4 · 0.875 · 1.3636).
        assert "float32 over fit in a loop: geometric mean 1.68, smallest **0.88**" in text
        assert "float32 over JAX: geometric mean **3.46**, smallest **2.00**" in text
        assert "float64 over JAX: geometric mean **1.40**, smallest 1.40" in text
        assert "float32 over JAX: geometric mean 6.00, smallest 3.00" in text

    def test_few(self):
        def record(cores, ours):
            about = {"dtype": "float32", "rule": "SGD", "case": "a", "count": 1, "cores": cores}
            return about | {"seconds": {"fastnn": ours, "fit in a loop": 10e-6}}

        text = section("few").tables([record(1, 10.3e-6), record(2, 10.4e-6)])
        assert [table[1] for table in cells(text)] == [
            ["float32", "SGD", "a", "1", "10.3", "10.0", "1.03"],
            ["float32", "SGD", "a", "1", "10.4", "10.0", "**1.04**"],
        ]

    def test_ensemble(self):
        def record(dtype, what, together):
            seconds = {"one network": 10e-6, "ensemble of 16": together}
            return {"dtype": dtype, "case": "a", "what": what, "cores": 1, "seconds": seconds}

        records = [record("float32", "fit", 51e-6), record("float64", "fit", 51e-6), record("float32", "b", 170e-6)]
        ((_, *rows),) = cells(section("ensemble").tables(records))
        assert [row[-1] for row in rows] == ["**5.10**", "5.10", "**17.00**"]

    def test_search(self):
        pytest.importorskip("sklearn")
        record = {"dtype": "float64", "case": "a", "seconds": {"fastnn": 2.0, "scikit-learn": 23.0}}
        record |= {"target": 12.0, "score": 0.95, "cold": {"search": 9.0, "fit": 4.0}}
        text = section("search").tables([record, record | {"target": 11.5, "cold": None}])
        ((_, *rows),) = cells(text)
        about = ["float64", "a", "2.00", "23.00"]
        assert rows == [[*about, "**11.50**", "12", "0.9500"], [*about, "11.50", "11.5", "0.9500"]]
        assert text.endswith(
            "With an empty kernel cache, float64: the search in the first row 9.0 s, a single fit 4.0 s."
        )
        assert "over 24 settings" in text


class TestCommand:
    def test_missing_peers_are_skipped_and_the_rest_is_measured(self, tmp_path, monkeypatch, capsys):
        command, peers, raw = module("compare_many"), module("peers"), tmp_path / "raw.json"
        for key in ("jax", "torch"):
            monkeypatch.setitem(peers.PEERS, key, (("no_such_module",), f"pip install {key}"))
        arguments = ["--quick", "--only", "together", "--cores", "1", "--dtypes", "float64", "--json", str(raw)]
        monkeypatch.setattr("sys.argv", ["somewhere/scripts/compare_many.py", *arguments])
        command.main(command.build_parser().parse_args(arguments))
        out, err = capsys.readouterr()
        assert "jax is not installed and is skipped: pip install jax\n" in err
        assert " Skipped: jax, torch." in out
        ((header, *rows),) = cells(out)
        assert header[4:6] == ["fastnn", "fit in a loop"]
        assert [row[:2] for row in rows] == [["float64", rule] for rule in ("SGD", "SGD", "Adam", "Adam")]
        assert {record["cores"] for record in json.loads(raw.read_text())["records"]["together"]} == {1}

    def test_docs(self, tmp_path, monkeypatch, capsys):
        pytest.importorskip("sklearn")
        command, asked = module("compare_many"), []

        def measured(function, given):
            asked.append((function.__module__, given.cores, given.counts, given.rounds, given.peers))
            return []

        monkeypatch.setattr(module("comparison.command"), "in_own_process", measured)
        monkeypatch.setattr(module("fastnn.commands.measure"), "available_cores", lambda: 2)
        monkeypatch.setattr(module("fastnn.commands.measure"), "ROOT", tmp_path)
        results = tmp_path / "docs" / "results"
        results.mkdir(parents=True)
        arguments = ["--docs", "--rounds", "2", "--networks", "8", "32", "--peers"]
        monkeypatch.setattr("sys.argv", ["somewhere/scripts/compare_many.py", *arguments])
        command.main(command.build_parser().parse_args(arguments))
        where = [("training", 1), ("training", 2), ("few", 1), ("ensemble", 1), ("ensemble", 2), ("search", 2)]
        assert asked == [(f"comparison.many_{name}", cores, (8, 32), 2, ()) for name, cores in where]
        out = capsys.readouterr().out.strip()
        text = f"Made by `python scripts/compare_many.py --rounds 2 --networks 8 32 --peers`.\n\n{out}\n"
        assert (results / "compare_many.md").read_text(encoding="utf-8") == text

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--only", "speed"), r"argument --only: invalid choice: 'speed'"),
            (("--networks", "0"), r"argument --networks: '0' is not a whole number >= 1"),
            (("--peers", "numpy"), r"argument --peers: invalid choice: 'numpy'"),
            (("--only", "together"), r"together needs 2 cores, but this process may use 1: ask for fewer with --cores"),
            (("--cores", "1"), r"search needs 2 cores, but this process may use 1: leave it out, see --only"),
            (("--quick", "--docs"), r"argument --docs: not allowed with argument --quick"),
        ],
    )
    def test_errors_are_one_line(self, arguments, message, monkeypatch, capsys):
        monkeypatch.setattr(module("fastnn.commands.measure"), "available_cores", lambda: 1)
        monkeypatch.setattr(sys, "argv", ["compare_many.py", *arguments])
        with pytest.raises(SystemExit, match="2"):
            module("fastnn.commands.arguments").run(module("compare_many").main, module("compare_many").build_parser)
        assert re.fullmatch(rf"compare_many\.py: error: .*{message}.*\n", capsys.readouterr().err)

    def test_without_scikit_learn(self, tmp_path):
        (tmp_path / "sklearn.py").write_text("raise ImportError('not installed')")
        arguments = ("--only", "search")
        message = r"(pip install 'fastnn\[sklearn\]'|search needs 2 cores)"
        expect_one_line("compare_many.py", arguments, message, tmp_path, path=[tmp_path])
