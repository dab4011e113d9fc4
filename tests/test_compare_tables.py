"""The tables of the comparison with the peers, made of times that are given."""

import numpy as np
import pytest

from tests.comparing import cells, module
from tests.comparing import scripts as scripts


def test_precision():
    section = module("comparison.precision")
    seconds = {"fastnn": 1.0, "fastnn, high": 0.5, "fastnn, medium": 0.4, "NumPy": 2.0}
    seconds |= {"PyTorch": 1.4, "PyTorch, medium": 0.3}
    record = {"cores": 1, "kind": "product", "case": "a", "seconds": seconds}
    assert section.row(record, list(seconds))[-3:] == ["**1.40**", "2.00", "**0.75**"]
    a = np.full((2, 64), 1 / 3, np.float32)
    section.check("one", "medium", 1.003 * (a @ a.T), a, a.T)
    with pytest.raises(ValueError, match="one computes another product than a b"):
        section.check("one", "high", 1.003 * (a @ a.T), a, a.T)


def test_training():
    def record(cores, case, ours, numpy, **others):
        seconds = {"fastnn": ours, "NumPy": numpy, **others}
        losses = dict.fromkeys(seconds, 0.125)
        return {
            "cores": cores,
            "dtype": "float32",
            "case": case,
            "rule": "SGD",
            "seconds": seconds,
            "losses": losses,
            "flops": 400,
            "peak": 1e8,
        }

    records = [
        record(1, "a", 10e-6, 20e-6, JAX=15e-6),
        record(1, "b", 10e-6, 5e-6),
        record(2, "a", 8e-6, 8.4e-6, JAX=16e-6),
        record(2, "b", 12.5e-6, 25e-6),
    ]
    text = module("comparison.training").tables(records)
    one, two = cells(text)
    assert one == [
        ["training", "network, batch", "fastnn", "NumPy", "JAX", "times as fast", "of the FMA peak"],
        ["float32", "a", "10.0 (0.125)", "20.0 (0.125)", "15.0 (0.125)", "1.50", "40%"],
        ["float32", "b", "10.0 (0.125)", "5.00 (0.125)", "-", "**0.50**", "40%"],
    ]
    assert two[0] == [*one[0], "than on one core"]
    assert [row[-3:] for row in two[1:]] == [["1.05", "50%", "1.25"], ["2.00", "32%", "**0.80**"]]
    assert "Training on 1 core:" in text
    assert "Training on 2 cores:" in text
    # sqrt(1.5 * 0.5) and sqrt(1.05 * 2).
    assert "geometric mean 0.87, smallest 0.50" in text
    assert "geometric mean 1.45, smallest 1.05" in text


def test_kernels():
    def record(kind, **values):
        seconds = {"fastnn": 10e-6, "NumPy": 11.5e-6}
        return {"cores": 1, "kind": kind, "dtype": "float64", "case": kind, "seconds": seconds, **values}

    flops = 2 * 512**3
    records = [
        record("square", flops=flops, peak=flops / 8.5e-6),
        record("square", flops=850, peak=1e8),
        record("training", flops=120_000, peak=2.4e10),
        record("rows", copy=2.5e-6),
    ]
    square, training, rows = cells(module("comparison.kernels").tables(records))
    assert square[0][-2:] == training[0][-2:] == ["GFLOP/s", "of the FMA peak"]
    assert square[1] == ["float64", "square", "10.0", "11.5", "1.15", "26844", "**85%**"]
    assert square[2] == ["float64", "square", "10.0", "11.5", "1.15", "0", "85%"]
    assert training[1] == ["float64", "training", "10.0", "11.5", "**1.15**", "12", "50%"]
    assert rows[1] == ["float64", "rows", "10.0", "11.5", "**1.15**", "2.50", "4.0"]


def test_inference():
    def record(case, **seconds):
        return {"cores": 1, "dtype": "float64", "case": case, "seconds": seconds}

    inference = module("comparison.inference")
    records = [record("a", fastnn=4e-6, NumPy=5e-6, JAX=2e-6), record("b", fastnn=1.5e-4, NumPy=1.5e-3)]
    (table,) = cells(inference.tables(records))
    assert table[1:] == [
        ["float64", "a", "4.00", "5.00", "2.00", "**0.50**"],
        ["float64", "b", "150.0", "1,500", "-", "10.00"],
    ]
    text = inference.tables([record("a", fastnn=4e-6)])
    assert cells(text)[0][1] == ["float64", "a", "4.00", "-"]
    assert text.endswith("Nobody to compare with.")


def test_optimizers():
    def record(rule, **seconds):
        return {"cores": 1, "dtype": "float32", "case": "a", "rule": rule, "seconds": seconds}

    records = [record("SGD", fastnn=1e-3, JAX=1e-3, NumPy=2e-3), record("AdamW", fastnn=1.2e-3, JAX=1.5e-3)]
    text = module("comparison.optimizers").tables(records)
    (table,) = cells(text)
    assert table == [
        ["optimizers", "rule", "fastnn", "JAX", "NumPy", "times as fast"],
        ["float32", "SGD", "1,000 (1.00)", "1,000 (1.00)", "2,000 (1.00)", "**1.00**"],
        ["float32", "AdamW", "1,200 (**1.20**)", "1,500 (1.50)", "-", "1.25"],
    ]
    assert text.startswith("Training a on 1 core by each update rule: ")


def test_operations():
    def record(name, whole):
        return {
            "cores": 1,
            "dtype": "float32",
            "operation": name,
            "network": "a",
            "with": whole,
            "without": 8e-4,
            "alone": 2e-4,
        }

    records = [record("GELU", 1.05e-3), record("Huber", 1.2e-3)]
    (table,) = cells(module("comparison.operations").tables(records))
    assert table == [
        ["operations", "operation", "network, batch", "without", "alone", "with", "over the sum"],
        ["float32", "GELU", "a", "800.0", "200.0", "1,050", "1.05"],
        ["float32", "Huber", "a", "800.0", "200.0", "1,200", "**1.20**"],
    ]


def test_what_runs_alone_is_the_arithmetic_of_a_step(monkeypatch):
    """Each kernel over every array that a step of the network has for it, and over single elements for the call."""
    operations, problems = module("comparison.operations"), module("comparison.problems")
    calls = []
    names = (
        "gelu",
        "gelu_backward",
        "gelu_tanh",
        "gelu_tanh_backward",
        "silu",
        "silu_backward",
        "layer_norm_backward",
    )
    for name in (*names, "batch_norm_backward"):
        monkeypatch.setattr(f"fastnn.kernels.{name}", lambda *given, name=name: calls.append((name, given[0].shape)))
    for name in ("huber_backward", "squared_error_backward", "adamw_update"):
        monkeypatch.setattr(f"fastnn.kernels.{name}", lambda *given, name=name: calls.append((name, given[0].shape)))
    classes = problems.Network((5, 7, 8, 3), 4, 1)
    found = {}
    for operation in operations.operations([classes], problems.Network((5, 6), 2, 1, "squared_error")):
        for kind, tasks in zip(
            "+-", operation.alone(operation.network, operations.normal_arrays("float32")), strict=True
        ):
            calls.clear()
            operations.repeated(tasks, 1)()
            found[operation.name, kind] = list(calls)
    assert found == {
        ("GELU", "+"): [(name, (4, n)) for n in (7, 8) for name in ("gelu", "gelu_backward")],
        ("GELU by tanh", "+"): [(name, (4, n)) for n in (7, 8) for name in ("gelu_tanh", "gelu_tanh_backward")],
        ("SiLU", "+"): [(name, (4, n)) for n in (7, 8) for name in ("silu", "silu_backward")],
        ("LayerNorm", "+"): [("layer_norm_backward", (4, 7)), ("layer_norm_backward", (4, 8))],
        ("BatchNorm", "+"): [("batch_norm_backward", (4, 7)), ("batch_norm_backward", (4, 8))],
        ("Huber", "+"): [("huber_backward", (2, 6))],
        ("Huber", "-"): [("squared_error_backward", (2, 6))],
        ("AdamW", "+"): [("adamw_update", (5 * 7 + 7 + 7 * 8 + 8 + 8 * 3 + 3,))],
        **{(name, "-"): [] for name in ("GELU", "GELU by tanh", "SiLU", "LayerNorm", "BatchNorm", "AdamW")},
    }
    (single,) = operations.normal_arrays("float32", single=True)(1, 5, 6)
    assert single.shape == (1, 1)


def test_subnormals():
    def record(case, shares, **seconds):
        times = {"network": "50-64-10, 32", "epochs": 50, "seconds": seconds, "fresh": dict.fromkeys(seconds, 1e-5)}
        return {"cores": 1, "dtype": "float32", "case": case, "subnormal": shares} | times

    records = [
        record("SGD, separable", {}, fastnn=1.15e-5, NumPy=1.3e-5),
        record("Adam, separable", {"fastnn": 0.0, "NumPy": 0.274}, fastnn=2e-5, NumPy=3e-5, JAX=1.6e-5),
    ]
    text = module("comparison.subnormals").tables(records)
    (table,) = cells(text)
    assert table == [
        ["after 50 epochs", "optimizer, data", "fastnn", "NumPy", "JAX", "times as fast", "subnormal"],
        ["float32", "SGD, separable", "11.5 (1.15)", "13.0 (1.30)", "-", "1.13", "-"],
        ["float32", "Adam, separable", "20.0 (**2.00**)", "30.0 (3.00)", "16.0 (1.60)", "**0.80**", "27%"],
    ]
    assert text.startswith("Training 50-64-10, 32 on 1 core, after 50 epochs: ")
    assert "smallest 0.80" in text


def test_the_products_of_the_issue_are_all_there():
    names = [name for name, *_ in module("comparison.kernels").training_shapes()]
    # A layer has three products, the first of a network two; 784-256 at 128 stands in two networks.
    assert len(set(names)) == len(names)
    assert {"x w: (32, 20) (20, 32)", "xᵀ dy: (784, 128) (128, 256)", "dy wᵀ: (128, 784) (784, 256)"} <= set(names)
    assert not any("dy wᵀ" in name and name.endswith("784)") for name in names)


def test_flops_of_a_step():
    network = module("comparison.problems").Network((784, 1024, 1024, 10), batch=256, steps=1)
    forward = 784 * 1024 + 1024 * 1024 + 1024 * 10
    assert network.flops == 2 * 256 * (2 * forward + 1024 * 1024 + 1024 * 10)
