"""Single kernels: products against the FMA peak, functions of rows against a plain copy, and both against the peers."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

import peers
from comparison.peak import peak_task
from comparison.settings import Settings, say
from comparison.tables import advantage, contenders, micro, on, row_of_times, summary
from comparison.training import NETWORKS
from fastnn.commands import measure

SQUARE = (32, 64, 128, 256, 512, 1024, 2048, 4096)
# As in a forward pass of one sample.
ONE_ROW = ("x w: (1, 64) (64, 100)", (1, 64), (64, 100), "")
# The last does not fit into a core's own caches in either dtype.
ROWS = ((64, 10), (1024, 10), (256, 1000), (8, 32000), (4096, 4096))
QUICK_SQUARE, QUICK_ROWS = (64,), ROWS[:1]
# How many times as fast as the best peer: of products in the shapes of training, and of functions of rows.
SHAPE_TARGET, ROWS_TARGET = 1.2, 1.5
# The share of the peak, of square products of this size and more.
PEAK_TARGET, LARGE = {1: 0.9, 2: 0.85}, 512
COPY = "copy"


def measure_all(settings: Settings) -> list[dict]:
    """Seconds a call of each contender, for each dtype, kernel and shape."""
    return [*measure_products(settings), *measure_rows(settings)]


def measure_products(settings: Settings) -> Iterator[dict]:
    """Square products, and the products of a training step of each network."""
    modules = peers.load(settings.peers, "product")
    rng = np.random.default_rng(0)
    square = [(f"{n} x {n} x {n}", (n, n), (n, n), "") for n in (QUICK_SQUARE if settings.quick else SQUARE)]
    shapes = [*square, *training_shapes(), ONE_ROW]
    for dtype in settings.dtypes:
        chains, operations = peak_task(dtype, settings.cores)
        for name, a_shape, b_shape, turned in shapes[:: 12 if settings.quick else 1]:
            a, b = (
                rng.standard_normal(shape[::-1] if operand in turned else shape).astype(dtype)
                for operand, shape in (("a", a_shape), ("b", b_shape))
            )
            a, b = a.T if "a" in turned else a, b.T if "b" in turned else b
            tasks = {module.NAME: module.product(a, b) for module in modules}
            for contender, task in tasks.items():
                check_product(contender, name, task(), a, b)
            seconds = timed(tasks | {"peak": chains}, settings)
            peak = operations / seconds.pop("peak")
            flops = 2 * a_shape[0] * a_shape[1] * b_shape[1]
            record = {"kind": "square" if name[0].isdigit() else "training", "dtype": dtype, "case": name}
            yield record | {"seconds": seconds, "flops": flops, "peak": peak}
            say(f"kernels, {dtype}, {name}: {advantage(seconds):.2f} times as fast")


def training_shapes() -> list[tuple[str, tuple[int, int], tuple[int, int], str]]:
    """Name, shapes and the transposed operand of each product of a step of each network, each shape once."""
    found = {}
    for network in NETWORKS:
        m = network.batch
        for layer, (n_in, n_out) in enumerate(itertools.pairwise(network.widths)):
            products = [("x w", (m, n_in), (n_in, n_out), ""), ("xᵀ dy", (n_in, m), (m, n_out), "a")]
            products += [("dy wᵀ", (m, n_out), (n_out, n_in), "b")] * (layer > 0)
            for name, a, b, turned in products:
                found[name, a, b] = (f"{name}: {a} {b}", a, b, turned)
    return list(found.values())


def measure_rows(settings: Settings) -> Iterator[dict]:
    """Functions of rows, and a plain copy of the rows beside them."""
    modules = peers.load(settings.peers, "rows")
    rng = np.random.default_rng(0)
    for dtype in settings.dtypes:
        for m, k in QUICK_ROWS if settings.quick else ROWS:
            s, y = rng.standard_normal((m, k)).astype(dtype), rng.integers(0, k, m)
            functions = {module.NAME: module.rows(s, y) for module in modules}
            out = np.empty_like(s)
            for name, expected in expected_rows(s, y).items():
                tasks = {contender: own[name] for contender, own in functions.items()}
                for contender, task in tasks.items():
                    check_rows(contender, f"{name}, {m} x {k}", task(), expected)
                seconds = timed(tasks | {COPY: lambda out=out, s=s: np.copyto(out, s)}, settings)
                copy = seconds.pop(COPY)
                yield {"kind": "rows", "dtype": dtype, "case": f"{name}, {m} x {k}", "seconds": seconds, COPY: copy}
                say(f"kernels, {dtype}, {name}, {m} x {k}: {advantage(seconds):.2f} times as fast")


def expected_rows(s: NDArray, y: NDArray) -> dict[str, tuple[NDArray, ...]]:
    """What each function has to return, in float64."""
    s = s.astype(np.float64)
    highest, index = s.max(axis=1, keepdims=True), np.arange(len(s))
    lse = highest + np.log(np.exp(s - highest).sum(axis=1, keepdims=True))
    p = np.exp(s - lse)
    gradient = p.copy()
    gradient[index, y] -= 1
    return {
        "softmax": (p,),
        "log-softmax": (s - lse,),
        "log-sum-exp": (lse[:, 0],),
        "cross-entropy and gradient": (np.mean(lse[:, 0] - s[index, y]), gradient / len(s)),
    }


def timed(tasks: dict[str, Callable[[], object]], settings: Settings) -> dict[str, float]:
    """The best time of a call of each."""
    seconds = 0.01 if settings.quick else 0.06 * len(tasks)
    return measure.best_times(tasks, seconds=seconds, rounds=settings.rounds, pause=settings.pause)


def check_product(contender: str, name: str, result: object, a: NDArray, b: NDArray) -> None:
    """No figure for a wrong result."""
    result, eps = np.asarray(result), np.finfo(a.dtype).eps
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not (np.abs(result - a @ b) <= a.shape[1] * eps * (np.abs(a) @ np.abs(b))).all():
        raise ValueError(f"{contender} computes another product than a b for {name}")


def check_rows(contender: str, name: str, result: object, expected: tuple[NDArray, ...]) -> None:
    """No figure for a wrong result."""
    results = [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,))]
    tolerance = 100 * np.finfo(results[-1].dtype).eps
    for found, right in zip(results, expected, strict=True):
        if not np.allclose(found, right, rtol=tolerance, atol=tolerance * np.abs(right).max()):
            raise ValueError(f"{contender} computes something else for {name}")


def tables(records: list[dict]) -> str:
    """Products with their share of the peak, functions of rows with a copy beside them."""
    parts = []
    for cores in dict.fromkeys(record["cores"] for record in records):
        chosen = [record for record in records if record["cores"] == cores]
        for kind, title, target in (
            ("square", f"Square products {on(cores)}, µs.", 1.0),
            ("training", f"Products in the shapes of training {on(cores)}, µs.", SHAPE_TARGET),
        ):
            of_kind = [record for record in chosen if record["kind"] == kind]
            names = contenders(of_kind)
            most = PEAK_TARGET[min(cores, 2)]
            rows = [[*row_of_times(r, names, target), gigaflops(r), share(r, most)] for r in of_kind]
            header = ["products", "shape", *names, "times as fast", "GFLOP/s", "of the FMA peak"]
            parts += [title, measure.markdown(header, rows), summary(of_kind)]
        of_rows = [record for record in chosen if record["kind"] == "rows"]
        names = contenders(of_rows)
        rows = [[*row_of_times(r, names, ROWS_TARGET), micro(r[COPY]), f"{copies(r):.1f}"] for r in of_rows]
        header = ["rows", "function, shape", *names, "times as fast", COPY, "fastnn / copy"]
        parts += [f"Functions of rows {on(cores)}, µs.", measure.markdown(header, rows), summary(of_rows)]
    return "\n\n".join(parts)


def gigaflops(record: dict) -> str:
    """Operations a nanosecond."""
    return f"{record['flops'] / record['seconds'][peers.OURS] / 1e9:.0f}"


def share(record: dict, target: float) -> str:
    """The share of the FMA peak of all cores; bold where a large square product misses its target."""
    value = record["flops"] / record["seconds"][peers.OURS] / record["peak"]
    misses = record["kind"] == "square" and record["flops"] >= 2 * LARGE**3 and value < target
    return f"**{value:.0%}**" if misses else f"{value:.0%}"


def copies(record: dict) -> float:
    """How many plain copies fastnn takes."""
    return record["seconds"][peers.OURS] / record[COPY]
