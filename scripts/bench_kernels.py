"""Measure the kernels on one core: against this machine's FMA peak, against NumPy, and training against its twin.

Every pair is timed in turns in one process that is pinned to one core, and the best times are compared. A row that
misses its target is printed like the others. --readme puts the tables into README.md.
"""

import argparse
import importlib.util
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import _measure as measure

measure.pin()

import numpy as np  # noqa: E402  (after pinning)

import fastnn as fnn  # noqa: E402
from fastnn import reference  # noqa: E402

DTYPES = ("float32", "float64")
SQUARE = (32, 64, 128, 256, 512, 1024)
# Name, shape of A, shape of B, and which of them is a transposed view: the products of a training step.
TRAINING = (
    ("x w", (64, 784), (784, 128), ""),
    ("xᵀ dy", (784, 64), (64, 128), "a"),
    ("dy wᵀ", (64, 128), (128, 784), "b"),
    ("x w", (128, 784), (784, 10), ""),
    ("x w", (1, 64), (64, 100), ""),
)
ROWS = ((1024, 10), (256, 1000), (8, 32000))
# Widths, batch size, and how many times as fast as its twin training has to be.
NETWORKS = (
    ((20, 32, 2), 32, 5),
    ((64, 100, 10), 32, 4),
    ((784, 128, 10), 64, 2),
    ((784, 256, 256, 10), 128, 2),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short look instead of a measurement")
    parser.add_argument("--readme", action="store_true", help="put the tables into README.md")
    parser.add_argument("--products-only", action="store_true", help="the square products alone")
    args = parser.parse_args()
    seconds = 0.05 if args.quick else 0.6
    sections = [f"Measured on {measure.machine()}; one core, best of many, in turns. BLAS of NumPy: {blas()}."]
    sections += [table_of_products(seconds, args.products_only)]
    if not args.products_only:
        sections += [table_of_rows(seconds), table_of_training(args.quick), table_of_costs()]
    text = "\n\n".join(sections)
    print(text)
    if args.readme:
        measure.put_in_readme("bench_kernels", text)


def blas() -> str:
    """The BLAS behind NumPy and the CPU that it chose its kernels for."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown (threadpoolctl is not installed)"
    found = [info for info in threadpool_info() if info["user_api"] == "blas"]
    return ", ".join(f"{i['internal_api']} {i['version']} ({i.get('architecture', '?')})" for i in found) or "none"


def table_of_products(seconds: float, square_only: bool) -> str:
    """Every product: time, GFLOP/s, share of the FMA peak of the full vector width, and the ratio to NumPy.

    The peak is measured in turns with each product, since the clock changes from second to second.
    """
    from fastnn.kernels.machine import fma_task

    rng = np.random.default_rng(0)
    shapes = [(f"{n} x {n} x {n}", (n, n), (n, n), "") for n in SQUARE]
    if not square_only:
        shapes += [(f"{name}: {a} {b}", a, b, view) for name, a, b, view in TRAINING]
    rows = []
    for dtype in DTYPES:
        for name, a_shape, b_shape, view in shapes:
            a = rng.standard_normal(a_shape[::-1] if view == "a" else a_shape).astype(dtype)
            b = rng.standard_normal(b_shape[::-1] if view == "b" else b_shape).astype(dtype)
            a, b = a.T if view == "a" else a, b.T if view == "b" else b
            out = np.empty((a_shape[0], b_shape[1]), dtype)
            check_product(fnn.matmul(a, b, out=out), a, b)
            chains, at_peak = fma_task(np.dtype(dtype))
            ours, theirs, chained = measure.best_times(
                lambda a=a, b=b, out=out: fnn.matmul(a, b, out=out),
                lambda a=a, b=b, out=out: np.matmul(a, b, out=out),
                chains,
                seconds=seconds,
            )
            flops = 2 * a_shape[0] * a_shape[1] * b_shape[1]
            share = (flops / ours) / (at_peak / chained)
            rows.append(
                (
                    dtype,
                    name,
                    micro(ours),
                    f"{flops / ours / 1e9:.0f}",
                    f"{share:.0%}",
                    micro(theirs),
                    ratio(theirs, ours),
                )
            )
    header = ("product", "shape", "fastnn, µs", "GFLOP/s", "of the FMA peak", "NumPy, µs", "times as fast")
    return measure.markdown(header, rows)


def check_product(result: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """No figure for a wrong result."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    bound = a.shape[1] * np.finfo(result.dtype).eps * (np.abs(a) @ np.abs(b))
    assert (np.abs(result - a @ b) <= bound).all()


def table_of_rows(seconds: float) -> str:
    """Softmax and its kin against their twins, the fastest plain NumPy."""
    rng = np.random.default_rng(0)
    rows = []
    for dtype in DTYPES:
        for m, k in ROWS:
            s = rng.standard_normal((m, k)).astype(dtype)
            y = rng.integers(0, k, m)
            out, column = np.empty_like(s), np.empty(m, dtype)
            pairs = kernels_and_twins(s, y, out, column)
            copy = measure.best_times(lambda s=s, out=out: np.copyto(out, s), seconds=seconds / 4)[0]
            for name, ours, theirs in pairs:
                best = measure.best_times(ours, theirs, seconds=seconds)
                rows.append((dtype, f"{name}, {m} x {k}", *map(micro, best), ratio(best[1], best[0]), micro(copy)))
    header = ("rows", "function", "fastnn, µs", "NumPy, µs", "times as fast", "copy, µs")
    return measure.markdown(header, rows)


def kernels_and_twins(
    s: np.ndarray, y: np.ndarray, out: np.ndarray, column: np.ndarray
) -> Iterator[tuple[str, Callable[[], object], Callable[[], object]]]:
    """The name, the kernel and the twin of each function of rows."""
    from fastnn import kernels

    for name in ("softmax", "log_softmax"):
        yield name, *(lambda name=name, of=of: getattr(of, name)(s, out) for of in (kernels, reference))
    yield "logsumexp", *(lambda of=of: of.logsumexp(s, column) for of in (kernels, reference))
    name = "cross_entropy and gradient"
    yield name, *(lambda of=of: of.cross_entropy_backward(s, y, None, out) for of in (kernels, reference))


def table_of_training(quick: bool) -> str:
    """An epoch of fit on either backend."""
    rows = []
    for dtype in DTYPES:
        for widths, batch, target in NETWORKS:
            steps = 5 if quick else 60
            tasks = [fit_task(widths, batch, steps, dtype, backend) for backend in ("numba", "numpy")]
            ours, theirs = (t / steps for t in measure.best_times(*tasks, seconds=0.2 if quick else 2.0, rounds=5))
            name = "-".join(map(str, widths))
            rows.append((dtype, f"{name}, {batch}", micro(ours), micro(theirs), ratio(theirs, ours), f"{target}"))
    header = ("training", "network, batch", "fastnn, µs a step", "NumPy twin", "times as fast", "target")
    return measure.markdown(header, rows)


def fit_task(widths: tuple[int, ...], batch: int, steps: int, dtype: str, backend: str) -> Callable[[], object]:
    """One epoch of SGD with ReLU, softmax cross-entropy and L2."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch * steps, widths[0])).astype(dtype)
    y = rng.integers(0, widths[-1], len(x))
    layers: list[fnn.Layer] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [fnn.Linear(n_in, n_out), fnn.ReLU()]
    model = fnn.Sequential(*layers[:-1], dtype=dtype, seed=0)
    optimizer = fnn.SGD(lr=0.001)

    def task() -> None:
        with fnn.use_backend(backend):
            model.fit(x, y, optimizer=optimizer, l2=1e-4, epochs=1, batch_size=batch, verbose=0)

    return task


FIRST_FIT = """
import time
start = time.perf_counter()
import numpy as np, fastnn as fnn
X, y = fnn.datasets.load_digits()
model = fnn.Sequential(fnn.Linear(64, 128), fnn.ReLU(), fnn.Linear(128, 10), dtype={dtype!r}, seed=0)
model.fit(X, y, epochs=1, verbose=0)
print(time.perf_counter() - start)
"""

IMPORT = """
import time
start = time.perf_counter()
import fastnn
print(time.perf_counter() - start)
"""

MEMORY = """
import resource, numpy as np, fastnn as fnn
X = np.random.default_rng(0).random((100_000, 784), dtype=np.float32)
y = np.arange(len(X)) % 10
model = fnn.Sequential(fnn.Linear(784, 256), fnn.ReLU(), fnn.Linear(256, 10), seed=0)
model.fit(X[:64], y[:64], epochs=1, verbose=0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model.fit(X, y, epochs=1, batch_size=128, verbose=0)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, X.nbytes / 2**20)
"""


def table_of_costs() -> str:
    """What a fresh process pays, and what training needs beyond X."""
    rows = [("import fastnn", f"{run(IMPORT, None)[0]:.2f} s")]
    for dtype in DTYPES:
        with tempfile.TemporaryDirectory() as cache:
            cold = run(FIRST_FIT.format(dtype=dtype), cache)[0]
            warm = min(run(FIRST_FIT.format(dtype=dtype), cache)[0] for _ in range(3))
        rows += [
            (f"fresh process to the end of the first digits epoch, {dtype}, empty cache", f"{cold:.1f} s"),
            (f"the same with a primed cache, {dtype}", f"{warm:.2f} s"),
        ]
    if importlib.util.find_spec("resource"):  # not on Windows
        more, x = run(MEMORY, None)
        rows += [(f"peak memory of training beyond X ({x:.0f} MiB), 784-256-10", f"{more:.1f} MiB")]
    return measure.markdown(("cost", "measured"), rows)


def run(code: str, cache: str | None) -> list[float]:
    """The numbers that a fresh interpreter prints."""
    env = os.environ | ({"NUMBA_CACHE_DIR": cache} if cache else {})
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(word) for word in done.stdout.split()]


def micro(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}" if seconds < 1e-3 else f"{seconds * 1e6:,.0f}"


def ratio(theirs: float, ours: float) -> str:
    return f"{theirs / ours:.2f}"


if __name__ == "__main__":
    main()
