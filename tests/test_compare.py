"""The comparison with the peers: nothing is left out of the tables."""

import itertools
import json
import math
import os
import re
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.special

from tests.comparing import cells, module, peer, problem
from tests.comparing import scripts as scripts


class TestAgreement:
    def test_whoever_differs_is_named(self):
        check = module("comparison.agreement").check
        check({"fastnn": 2.0, "NumPy": 2.005}, "float32", "a network")
        message = (
            r"^a network, float32: JAX reached the loss 2\.009, PyTorch reached the loss nan, but fastnn 2: they must "
            r"agree within 0\.003, or they do not do the same work$"
        )
        losses = {"fastnn": 2.0, "NumPy": 2.0005, "JAX": 2.009, "PyTorch": math.nan}
        with pytest.raises(ValueError, match=message):
            check(losses, "float32", "a network")
        with pytest.raises(ValueError, match=r"NumPy reached the loss 2\.0005, but .* within 1e-09"):
            check({"fastnn": 2.0, "NumPy": 2.0005}, "float64", "a network")
        check({"fastnn": 2.0, "NumPy": 2.1}, "float64", "a network", tolerance=0.1)
        # Of losses next to nothing, a tenth of 0.5 may be between them.
        check({"fastnn": 1e-9, "NumPy": 0.04}, "float32", "a network", tolerance=0.1, least=0.5)
        with pytest.raises(ValueError, match=r"NumPy reached the loss 0\.06, but fastnn 1e-09: .* within 0\.1,"):
            check({"fastnn": 1e-9, "NumPy": 0.06}, "float32", "a network", tolerance=0.1, least=0.5)

    def test_the_loss_is_that_of_all_samples_and_the_penalty(self):
        for loss in ("cross_entropy", "squared_error"):
            given = replace(problem((5, 7, 3), loss, "float64", steps=500), l2=0.01)
            (w, b), (v, c) = layers = [(w, b + 0.5) for w, b in given.layers()]
            outputs = np.maximum(given.x @ w + b, 0) @ v + c
            if loss == "cross_entropy":
                mean = -scipy.special.log_softmax(outputs, axis=1)[np.arange(3000), given.y].mean()
            else:
                mean = ((outputs - given.y) ** 2).sum() / 3000
            assert given.objective(layers) == pytest.approx(mean + 0.01 * ((w**2).sum() + (v**2).sum()), rel=1e-12)

    def test_no_time_for_other_work(self):
        training, numpy = module("comparison.training"), peer("numpy")

        class Wrong(numpy.Trainer):
            def __init__(self, given):
                super().__init__(replace(given, l2=10 * given.l2))

        modules = [peer("ours"), SimpleNamespace(NAME="Wrong", Trainer=Wrong)]
        with pytest.raises(ValueError, match=r"^5-7-3, 6, float64: Wrong reached the loss .*, but fastnn "):
            training.measure_network(modules, problem((5, 7, 3), "cross_entropy", "float64"), settings())

    def test_no_time_for_another_update_rule(self, monkeypatch):
        numpy = peer("numpy")

        class Plain(numpy.Trainer):
            def __init__(self, given):
                super().__init__(replace(given, network=replace(given.network, rule="SGD")))

        monkeypatch.setattr("peers.load", lambda *_: [peer("ours"), SimpleNamespace(NAME="Plain", Trainer=Plain)])
        measure_rule = module("comparison.subnormals").measure_rule
        assert set(measure_rule("SGD", "random labels", "float32", settings())["seconds"]) == {"fastnn", "Plain"}
        message = r"^momentum, random labels, float32: Plain reached the loss .* they must agree within 0\.001"
        with pytest.raises(ValueError, match=message):
            measure_rule("momentum", "random labels", "float32", settings())

    def test_no_time_for_a_wrong_kernel(self):
        kernels, a = module("comparison.kernels"), np.ones((2, 3))
        kernels.check_product("NumPy", "2 x 3 x 2", a @ a.T, a, a.T)
        with pytest.raises(ValueError, match=r"^NumPy computes another product than a b for 2 x 3 x 2$"):
            kernels.check_product("NumPy", "2 x 3 x 2", a @ a.T + 1e-9, a, a.T)
        expected = kernels.expected_rows(a, np.zeros(2, int))
        for name, right in expected.items():
            kernels.check_rows("JAX", name, right, expected[name])
            with pytest.raises(ValueError, match=f"^JAX computes something else for {name}$"):
                kernels.check_rows("JAX", name, tuple(part + 1e-9 for part in right), expected[name])

    def test_no_time_for_other_probabilities(self, monkeypatch):
        inference, zeros = module("comparison.inference"), SimpleNamespace(NAME="Zeros", rows=None)
        zeros.predictor = lambda layers, x: lambda: np.zeros((len(x), 10), x.dtype)
        monkeypatch.setattr("peers.load", lambda keys, ability: [peer("ours"), zeros])
        with pytest.raises(ValueError, match=r"^64-100-10, 1 row, float32: Zeros predicts other probabilities than"):
            inference.measure_all(settings())

    def test_a_fresh_process_that_fails_says_why(self):
        with pytest.raises(RuntimeError, match=r"^fresh\.py epoch numpy nowhere\.npz failed: .*nowhere\.npz"):
            module("comparison.fresh").in_fresh_process("epoch", "numpy", "nowhere.npz")


def settings(**changes):
    defaults = {"peers": ("numpy",), "dtypes": ("float32",), "rounds": 1, "quick": True}
    return module("comparison.settings").Settings(**(defaults | changes))


class TestTables:
    @pytest.mark.parametrize(
        "name",
        ["training", "optimizers", "operations", "subnormals", "kernels", "precision", "inference", "start", "memory"],
    )
    def test_every_section_measures_and_fills_its_tables(self, name):
        assert name in module("compare").SECTIONS
        section = module(f"comparison.{name}")
        if name == "memory" and not os.path.exists("/proc/self/clear_refs"):
            assert section.measure_all(settings()) == []
            return
        records = json.loads(json.dumps([record | {"cores": 1} for record in section.measure_all(settings())]))
        tables = cells(section.tables(records))
        assert tables
        for header, *rows in tables:
            assert rows
            assert all(len(row) == len(header) and all(row) for row in rows)


class TestTiming:
    def test_rounds_prepare_before_the_clock_and_take_everyone_in_turn(self, monkeypatch):
        measure, calls, clock = module("fastnn.commands.measure"), [], {"now": 0.0}
        monkeypatch.setattr(measure.time, "perf_counter", lambda: clock["now"])

        def task(name, prepares, runs):
            def advance(kind, seconds):
                calls.append(f"{kind} {name}")
                clock["now"] += next(seconds)

            return (lambda: advance("prepare", prepares)), (lambda: advance("run", runs))

        tasks = {
            name: task(name, itertools.repeat(100), runs)
            for name, runs in (("a", iter((3, 2, 4))), ("b", iter((5, 7, 6))))
        }
        assert measure.best_rounds(tasks, 3) == {"a": 2, "b": 5}
        assert [call for call in calls if call.startswith("run")] == [
            "run a",
            "run b",
            "run b",
            "run a",
            "run a",
            "run b",
        ]
        assert calls[:4] == ["prepare a", "run a", "prepare b", "run b"]

    def test_the_peak_is_that_of_all_cores_at_once(self, monkeypatch):
        running, most = threading.Barrier(2, timeout=30), []
        monkeypatch.setattr("fastnn.kernels.machine.fma_task", lambda dtype: (lambda: most.append(1), 70))
        task, operations = module("comparison.peak").peak_task("float32", cores=1)
        task()
        assert operations == 70
        assert len(most) == 2  # once to compile
        monkeypatch.setattr("fastnn.kernels.machine.fma_task", lambda dtype: (meet, 70))
        waits = iter((False, True, True))

        def meet():
            if next(waits):
                running.wait()

        task, operations = module("comparison.peak").peak_task("float64", cores=2)
        task()
        assert operations == 140
        assert next(waits, None) is None

    def test_pinned_lets_go_again(self, monkeypatch):
        pinned = []
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {5, 2, 3}, raising=False)
        monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: pinned.append(set(cores)), raising=False)
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
        with module("fastnn.commands.measure").pinned(2):
            assert pinned == [{2, 3}]
            assert os.environ["OMP_NUM_THREADS"] == os.environ["FASTNN_NUM_THREADS"] == "2"
        assert pinned == [{2, 3}, {5, 2, 3}]
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert "FASTNN_NUM_THREADS" not in os.environ


class TestCommand:
    def test_missing_peers_are_skipped_and_the_rest_is_measured(self, tmp_path, monkeypatch, capsys):
        compare, peers, raw = module("compare"), module("peers"), tmp_path / "raw.json"
        monkeypatch.setitem(peers.PEERS, "jax", (("numpy", "no_such_module"), "pip install jax"))
        arguments = ["--quick", "--only", "training", "--peers", "jax", "numpy", "--dtypes", "float64"]
        compare.main(compare.build_parser().parse_args([*arguments, "--json", str(raw)]))
        out, err = capsys.readouterr()
        assert "jax is not installed and is skipped: pip install jax\n" in err
        assert " Skipped: jax." in out
        ((header, *rows),) = cells(out)
        assert header[2:4] == ["fastnn", "NumPy"]
        assert [row[0] for row in rows] == ["float64"] * 5
        (first, second, gelu, batch_norm, huber) = json.loads(raw.read_text())["records"]["training"]
        assert first["cores"] == second["cores"] == 1
        assert set(first["seconds"]) == set(first["losses"]) == {"fastnn", "NumPy"}
        assert set(gelu["seconds"]) == set(batch_norm["seconds"]) == set(huber["seconds"]) == {"fastnn"}
        assert first["losses"]["NumPy"] == pytest.approx(first["losses"]["fastnn"], rel=1e-9)

    def test_docs(self, tmp_path, monkeypatch, capsys):
        compare, asked = module("compare"), []

        def measured(function, settings):
            asked.append((function.__module__, settings.cores))
            return [
                {"dtype": "float32", "case": "some network", "seconds": {"fastnn": 1e-6, "JAX": settings.cores * 3e-6}}
            ]

        monkeypatch.setattr(module("comparison.command"), "in_own_process", measured)
        monkeypatch.setattr(module("fastnn.commands.measure"), "available_cores", lambda: 2)
        monkeypatch.setattr(module("fastnn.commands.measure"), "ROOT", tmp_path)
        results = tmp_path / "docs" / "results"
        results.mkdir(parents=True)
        arguments = ["--only", "inference", "--cores", "1", "2", "--peers", "numpy", "--docs"]
        monkeypatch.setattr("sys.argv", ["somewhere/scripts/compare.py", *arguments])
        compare.main(compare.build_parser().parse_args(arguments))
        assert asked == [("comparison.inference", 1), ("comparison.inference", 2)]
        out = capsys.readouterr().out.strip()
        one, two = cells(out)
        assert one[1] == ["float32", "some network", "1.00", "3.00", "3.00"]
        assert two[1] == ["float32", "some network", "1.00", "6.00", "6.00"]
        command = "python scripts/compare.py --only inference --cores 1 2 --peers numpy"
        assert (results / "compare_inference.md").read_text(encoding="utf-8") == f"Made by `{command}`.\n\n{out}\n"

    def test_cores_of_a_section(self):
        cores_of = module("compare").cores_of
        assert cores_of("training", [2, 1]) == [2, 1]
        assert cores_of("memory", [2, 1]) == [2]
        # Alone, the kernels of an operation run on one.
        assert cores_of("operations", [2]) == [1]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--cores", "1", "99999"), r"--cores is 99999, but this process may use \d+: ask for fewer"),
            (("--cores", "0"), r"argument --cores: '0' is not a whole number >= 1"),
            (("--rounds", "x"), r"argument --rounds: 'x' is not a whole number >= 1"),
            (("--epochs", "0"), r"argument --epochs: '0' is not a whole number >= 1"),
            (("--only", "speed"), r"argument --only: invalid choice: 'speed'"),
            (("--peers", "theano"), r"argument --peers: invalid choice: 'theano'"),
            (("--quick", "--docs"), r"argument --docs: not allowed with argument --quick"),
        ],
    )
    def test_errors_are_one_line(self, arguments, message, capsys):
        compare, common = module("compare"), module("fastnn.commands.arguments")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["compare.py", *arguments])
            with pytest.raises(SystemExit, match="2"):
                common.run(compare.main, compare.build_parser)
        assert re.fullmatch(rf"compare\.py: error: {message}.*\n", capsys.readouterr().err)
