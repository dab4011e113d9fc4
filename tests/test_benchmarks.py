"""What the benchmarks measure, kernel beside twin: compared in every run, timed by ``pytest --benchmark-only``."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from tests.cases import FUNCTIONS, INFERENCE, TRAINING, arguments, label, outcome, samples
from tests.judge import assert_within, eps


def call(name, sizes):
    """A public function at one of its sizes."""
    return lambda dtype, rng: (getattr(fnn, name), arguments(name, sizes, dtype, rng))


def network(widths, dtype):
    layers = [layer for sizes in itertools.pairwise(widths) for layer in (fnn.Linear(*sizes), fnn.ReLU())]
    return fnn.Sequential(*layers[:-1], dtype=dtype, seed=0)


def epoch(widths, batch_size, batches, loss):
    """An epoch of SGD: its loss, and the first weights after it."""

    def prepare(dtype, rng):
        data = samples(batches * batch_size, widths, loss, dtype, rng)
        model = network(widths, dtype)
        settings = {"loss": loss, "l2": 1e-4, "epochs": 1, "batch_size": batch_size, "verbose": 0}

        def fit():
            history = model.fit(*data, optimizer=fnn.SGD(lr=1e-3), **settings)
            return np.array(history["loss"][-1:], dtype), model.layers[0].weight

        return fit, []

    return prepare


def prediction(widths, rows):
    """Probabilities of some rows."""
    return lambda dtype, rng: (
        network(widths, dtype).predict_proba,
        samples(rows, widths, "cross_entropy", dtype, rng)[:1],
    )


# name: (dtype, generator) -> a function and its arguments.
CASES = {
    **{
        f"{name}, {label(sizes)}": call(name, sizes)
        for name, (all_sizes, _) in FUNCTIONS.items()
        for sizes in all_sizes
    },
    **{f"epoch, {name}": epoch(*case) for name, case in TRAINING.items()},
    **{
        f"predict_proba, {name}, {rows}": prediction(TRAINING[name][0], rows)
        for name, rows in itertools.product(*INFERENCE)
    },
}
# What is compared: of each epoch some batches, and some of many rows.
COMPARED = {
    **CASES,
    **{f"epoch, {name}": epoch(*sizes, min(batches, 4), loss) for name, (*sizes, batches, loss) in TRAINING.items()},
    **{
        f"predict_proba, {name}, {rows}": prediction(TRAINING[name][0], min(rows, 2000))
        for name, rows in itertools.product(*INFERENCE)
    },
}
assert COMPARED.keys() == CASES.keys()
cases = pytest.mark.parametrize("case", CASES)


def results(case, dtype, backend):
    function, given = COMPARED[case](dtype, np.random.default_rng(0))
    with fnn.use_backend(backend):
        return outcome(function, given)


def assert_twins_agree(case, dtype):
    """Within 64 roundings at the size of the values, in an epoch within those that its batches hand on."""
    roundings = 512 if case.startswith("epoch") else 64
    for kernel, twin in zip(*(results(case, dtype, backend) for backend in ("numba", "numpy")), strict=True):
        bound = roundings * eps(dtype) * np.abs(twin).max(initial=0)
        assert_within(kernel, twin, np.full(twin.shape, bound))


@cases
def test_twins_agree(case, dtype):
    assert_twins_agree(case, dtype)


@cases
@pytest.mark.benchmark(min_rounds=3, max_time=0.2)
def test_time(case, dtype, backend, benchmark):
    benchmark.group, benchmark.name = f"{case}, {np.dtype(dtype)}", backend
    assert_twins_agree(case, dtype)
    function, given = CASES[case](dtype, np.random.default_rng(0))
    benchmark(function, *given)


def test_every_public_function_is_measured():
    assert sorted(FUNCTIONS) == sorted(fnn.ops.__all__)


def test_asv_profiles_every_public_function_on_both_backends():
    """In a fresh interpreter: the benchmarks set the number of threads when they are imported."""
    code = """
import importlib, json, pkgutil, re, sys
sys.path.append("asv_benchmarks")
import benchmarks
found = {}
for module in pkgutil.iter_modules(benchmarks.__path__, "benchmarks."):
    for name, value in vars(importlib.import_module(module.name)).items():
        if re.match("(time|timeraw|peakmem|track)_", name):
            found[f"{module.name}.{name}"] = [value.__name__ == name, value.param_names[0], value.params[0]]
print(json.dumps(found))
"""
    run = [sys.executable, "-c", code]
    output = subprocess.run(run, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True).stdout
    found = json.loads(output)
    assert {f"benchmarks.kernels.time_{name}" for name in fnn.ops.__all__} <= set(found)
    assert all(facts == [True, "backend", ["numba", "numpy"]] for facts in found.values())
    assert {name.split(".")[1] for name in found} == {"inference", "kernels", "many", "memory", "startup", "training"}
