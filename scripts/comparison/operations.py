"""What an operation costs in training, beside what its arithmetic costs: fastnn against itself.

The sum of what the network takes without it and of what its kernels take alone, on arrays of the same sizes, is what
the network with it may take, and little more. Where it stands in the place of another kernel, that is taken off; what
a product does at its end, as ReLU and plain SGD, counts as nothing. A call from Python costs what it costs on a single
element, and that is no arithmetic.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from comparison.optimizers import RATES
from comparison.problems import (
    BATCH_NORM,
    DELTA,
    GELU,
    GELU_TANH,
    HUBER,
    LAYER_NORM,
    NORM_EPS,
    SILU,
    WORDS,
    Network,
    learnable,
)
from comparison.rules import ADAMW, BETA1, BETA2, EPS, WEIGHT_DECAY
from comparison.settings import Settings, say
from comparison.tables import micro, on, times
from comparison.training import AUTOENCODER, MIDDLE, QUICK_NETWORKS, SMALL
from fastnn.commands import measure
from peers.ours import Trainer

# How many times what its arithmetic costs an operation may cost a network.
MOST = 1.1

Arrays = Callable[..., list[NDArray]]
Calls = list[measure.Task]


class Operation(NamedTuple):
    """A name, a network that has it and one that does not, and the calls of its kernels in a step.

    ``alone(network, arrays)`` gives those calls, and those of what it replaces; ``arrays(count, m, n)`` makes arrays,
    or small ones for the cost of the calls.
    """

    name: str
    network: Network
    without: Network
    alone: Callable[[Network, Arrays], tuple[Calls, Calls]]


def operations(classifiers: Sequence[Network], regression: Network) -> Iterator[Operation]:
    """Each operation in each network of classes, or in that of targets."""
    for network in classifiers:
        for activation in (GELU, GELU_TANH, SILU):
            yield Operation(WORDS[activation], replace(network, activation=activation), network, activations)
        for kind in (LAYER_NORM, BATCH_NORM):
            yield Operation(kind, replace(network, normalised=kind), network, normalisations)
        yield Operation(ADAMW, replace(network, rule=ADAMW, lr=RATES[ADAMW]), network, updates)
    yield Operation(WORDS[HUBER], replace(regression, loss=HUBER), regression, losses)


def activations(network: Network, arrays: Arrays) -> tuple[Calls, Calls]:
    """Forward and backward over each hidden layer."""
    from fastnn import kernels

    forward, backward = (getattr(kernels, network.activation + suffix) for suffix in ("", "_backward"))
    calls: Calls = []
    for n in network.widths[1:-1]:
        x, d, out = arrays(3, network.batch, n)
        calls += [lambda x=x, out=out: forward(x, out), lambda d=d, x=x, out=out: backward(d, x, out)]
    return calls, []


def normalisations(network: Network, arrays: Arrays) -> tuple[Calls, Calls]:
    """The backward kernel over each hidden layer, which makes the forward pass as well."""
    from fastnn import kernels

    calls: Calls = []
    for n in network.widths[1:-1]:
        x, d, out = arrays(3, network.batch, n)
        scale, shift, of_scale, of_shift = (array[0] for array in arrays(4, 1, n))
        if network.normalised == BATCH_NORM:
            mean, variance = (array[0] for array in arrays(2, 1, n))
            given = (d, x, scale, shift, mean, variance, 0.1, NORM_EPS, out, of_scale, of_shift)
            calls.append(lambda given=given: kernels.batch_norm_backward(*given))
            continue
        given = (d, x, scale, shift, NORM_EPS, out, of_scale, of_shift)
        calls.append(lambda given=given: kernels.layer_norm_backward(*given))
    return calls, []


def losses(network: Network, arrays: Arrays) -> tuple[Calls, Calls]:
    """The loss with its gradient, and the squared error with its own."""
    from fastnn import kernels

    s, y, out = arrays(3, network.batch, network.widths[-1])
    huber = [lambda: kernels.huber_backward(s, y, None, DELTA, out)]
    return huber, [lambda: kernels.squared_error_backward(s, y, None, out)]


def updates(network: Network, arrays: Arrays) -> tuple[Calls, Calls]:
    """An update of as many numbers as there are parameters."""
    from fastnn import kernels

    n = sum((n_in + 1) * n_out for n_in, n_out in zip(network.widths, network.widths[1:], strict=False))
    w, dw, m, v = (array[0] for array in arrays(4, 1, n))
    np.abs(v, out=v)
    settings = (network.lr, BETA1, BETA2, EPS, WEIGHT_DECAY, 1)
    return [lambda: kernels.adamw_update(w, dw, m, v, *settings)], []


def measure_all(settings: Settings) -> list[dict]:
    """Seconds a step without and with each operation, and of its kernels alone, for each dtype."""
    classifiers, regression = (
        (QUICK_NETWORKS[:1], QUICK_NETWORKS[1]) if settings.quick else ((SMALL, MIDDLE), AUTOENCODER)
    )
    return [
        measure_operation(operation, dtype, settings)
        for dtype in settings.dtypes
        for operation in operations(classifiers, regression)
    ]


def measure_operation(operation: Operation, dtype: str, settings: Settings) -> dict:
    """The best of several rounds: both networks, and every call as often as there are steps."""
    network = operation.network
    tasks: dict[str, tuple[measure.Task, measure.Task]] = {}
    for name, each in (("with", network), ("without", operation.without)):
        trainer = Trainer(learnable(each, dtype))
        tasks[name] = trainer.prepare, trainer.run
    for size, arrays in (("whole", normal_arrays(dtype)), ("single", normal_arrays(dtype, single=True))):
        for kind, calls in zip(("own", "replaced"), operation.alone(network, arrays), strict=True):
            tasks[f"{kind}, {size}"] = nothing, repeated(calls, network.steps)
    for prepare, run in tasks.values():  # compiles
        prepare()
        run()
    best = {name: time / network.steps for name, time in measure.best_rounds(tasks, settings.rounds).items()}
    alone = {kind: best[f"{kind}, whole"] - best[f"{kind}, single"] for kind in ("own", "replaced")}
    record = {
        "dtype": dtype,
        "operation": operation.name,
        "network": operation.without.name,
        "with": best["with"],
        "without": best["without"],
        "alone": alone["own"] - alone["replaced"],
    }
    say(f"operations, {dtype}, {operation.name}: {share(record):.2f} times what its arithmetic costs")
    return record


def normal_arrays(dtype: str, single: bool = False) -> Arrays:
    """What makes normal numbers of a shape, or of one element whatever the shape."""
    rng = np.random.default_rng(0)
    return lambda count, m, n: list(rng.standard_normal((count, 1, 1) if single else (count, m, n)).astype(dtype))


def repeated(calls: Sequence[measure.Task], count: int) -> measure.Task:
    """All calls one after the other, so many times."""

    def run() -> None:
        for _ in range(count):
            for call in calls:
                call()

    return run


def nothing() -> None:
    """What comes before a call of kernels."""


def share(record: dict) -> float:
    """How many times as much as the network without it and its own arithmetic."""
    return record["with"] / (record["without"] + record["alone"])


def tables(records: list[dict]) -> str:
    """A row for each operation; bold where it costs more than it may."""
    parts = []
    for cores in dict.fromkeys(record["cores"] for record in records):
        rows = [
            [
                *(record[name] for name in ("dtype", "operation", "network")),
                *(micro(record[name]) for name in ("without", "alone", "with")),
                times(share(record), MOST),
            ]
            for record in records
            if record["cores"] == cores
        ]
        title = (
            f"What operations cost fastnn {on(cores)}, µs a step: the network without, the operation's kernels alone "
            "(less what they replace), the network with it, and how many times the sum of the first two that is."
        )
        header = ["operations", "operation", "network, batch", "without", "alone", "with", "over the sum"]
        parts += [title, measure.markdown(header, rows)]
    return "\n\n".join(parts)
