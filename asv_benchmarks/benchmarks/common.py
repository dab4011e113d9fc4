"""What the benchmarks share."""

import contextlib
import functools
import inspect
import runpy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import fastnn as fnn

# The case table of the tests, by its path: an environment of asv holds the package alone.
CASES = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "tests" / "cases.py")))
BACKENDS = ("numba", "numpy")
DTYPES = ("float32", "float64")

_chosen = contextlib.ExitStack()


def benchmark(name, parameters, **settings):
    """Turn a function that prepares a measurement into a benchmark of asv.

    The function gets a value of each of the ``parameters``, {name: values}. In setup it compiles what is to be
    measured, compares it with the reference and returns it, as a function without arguments. asv repeats the setup
    before every sample; what is prepared stays. A sample is a single call, since some calls work in place.

    ``name`` is what the pages show; ``settings`` are attributes of the benchmark as asv defines them.
    """

    def decorate(prepare):
        prepared = functools.cache(prepare)

        def run(*values):
            return prepared(*values)()

        def setup(*values):
            prepared(*values)

        run.__name__, run.pretty_name, run.pretty_source = prepare.__name__, name, inspect.getsource(prepare)
        setup.pretty_source = ""
        run.setup, run.param_names, run.params = setup, tuple(parameters), tuple(parameters.values())
        vars(run).update({"number": 1, "repeat": (10, 1000, 0.5), "timeout": 300} | settings)
        return run

    return decorate


def use(backend):
    """Run everything that follows in this process on that backend."""
    _chosen.enter_context(fnn.use_backend(backend))
    return np.random.default_rng(0)


def on_reference(function, *arguments):
    """What the reference says."""
    with fnn.use_backend("numpy"):
        return function(*arguments)


def assert_agrees(found, expected, dtype):
    """Compare with the reference: elementwise, within 64 roundings at the size of the values."""
    scale = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=64 * np.finfo(dtype).eps * scale)


def build(widths, dtype, hidden=lambda n: [fnn.ReLU()]):
    """Linear layers of these widths, and after all but the last what ``hidden`` makes of the number of their units."""
    *inner, last = pairwise(widths)
    layers = [layer for sizes in inner for layer in (fnn.Linear(*sizes), *hidden(sizes[1]))]
    return fnn.Sequential(*layers, fnn.Linear(*last), dtype=dtype, seed=0)
