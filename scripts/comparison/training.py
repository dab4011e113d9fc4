"""One epoch of SGD on networks from tiny to wide: every contender from the same weights in the same order."""

from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

import peers
from comparison.agreement import check
from comparison.peak import peak_task
from comparison.problems import (
    BATCH_NORM,
    BINARY,
    GELU,
    GELU_TANH,
    HUBER,
    LAYER_NORM,
    SILU,
    SQUARED_ERROR,
    Network,
    Problem,
    learnable,
)
from comparison.settings import Settings, say
from comparison.tables import TARGET, advantage, contenders, micro, on, ratio, summary
from fastnn.commands import measure

SMALL = Network((64, 100, 10), batch=32, steps=400)
MIDDLE = Network((784, 256, 256, 10), batch=128, steps=100)
AUTOENCODER = Network((784, 256, 784), batch=128, steps=80, loss=SQUARED_ERROR, lr=1e-3)
NETWORKS = (
    Network((20, 32, 2), batch=32, steps=400),
    SMALL,
    Network((784, 10), batch=128, steps=120),
    Network((784, 128, 10), batch=64, steps=200),
    MIDDLE,
    Network((784, 1024, 1024, 10), batch=256, steps=40),
    Network((13, 64, 64, 1), batch=16, steps=400, loss=SQUARED_ERROR),
    AUTOENCODER,
    replace(SMALL, activation=GELU),
    replace(SMALL, activation=SILU),
    replace(SMALL, normalised=LAYER_NORM),
    replace(SMALL, normalised=BATCH_NORM),
    replace(MIDDLE, activation=GELU),
    replace(MIDDLE, activation=GELU_TANH),
    replace(MIDDLE, activation=SILU),
    replace(MIDDLE, normalised=LAYER_NORM),
    replace(MIDDLE, normalised=BATCH_NORM),
    replace(MIDDLE, residual=True),
    replace(SMALL, loss=BINARY),
    replace(AUTOENCODER, loss=HUBER),
)
QUICK_NETWORKS = (
    Network((20, 32, 2), batch=32, steps=4),
    Network((13, 8, 1), batch=16, steps=4, loss=SQUARED_ERROR),
    Network((20, 8, 2), batch=32, steps=4, activation=GELU, normalised=LAYER_NORM),
    Network((20, 8, 8, 2), batch=32, steps=4, activation=SILU, normalised=BATCH_NORM, residual=True, loss=BINARY),
    Network((13, 8, 1), batch=16, steps=4, loss=HUBER, activation=GELU_TANH),
)


def measure_all(settings: Settings) -> list[dict]:
    """Seconds a step and final loss of each contender, for each dtype and network."""
    records = []
    for dtype in settings.dtypes:
        for network in QUICK_NETWORKS if settings.quick else NETWORKS:
            modules = peers.load_trainers(settings.peers, network)
            record = measure_network(modules, learnable(network, dtype, settings.epochs), settings)
            records.append(record)
            say(f"training, {dtype}, {network.name}: µs a step: {line(record)}")
    return records


def measure_network(
    modules: list[ModuleType], problem: Problem, settings: Settings, tolerance: float | None = None
) -> dict:
    """The best of several rounds, each contender once a round; the compiling call and its loss come before."""
    trainers = {module.NAME: module.Trainer(problem) for module in modules}
    losses = {}
    for name, trainer in trainers.items():
        trainer.prepare()
        trainer.run()
        losses[name] = problem.objective(trainer.layers())
    check(losses, problem.dtype.name, problem.network.name, tolerance)
    chains, operations = peak_task(problem.dtype.name, settings.cores)
    tasks = {name: (trainer.prepare, trainer.run) for name, trainer in trainers.items()}
    best = measure.best_rounds(tasks | {"peak": (lambda: None, chains)}, settings.rounds, settings.pause)
    peak = operations / best.pop("peak")
    network = problem.network
    steps = network.steps * problem.epochs
    return {
        "dtype": problem.dtype.name,
        "case": network.name,
        "rule": network.rule,
        "seconds": {name: seconds / steps for name, seconds in best.items()},
        "losses": losses,
        "flops": network.flops,
        "peak": peak,
    }


def line(record: dict) -> str:
    """The times of all, for the log."""
    return ", ".join(f"{name} {micro(seconds)}" for name, seconds in record["seconds"].items())


def tables(records: list[dict]) -> str:
    """A table and a summary for each number of cores."""
    names = contenders(records)
    alone = {(r["dtype"], r["case"]): r["seconds"][peers.OURS] for r in records if r["cores"] == 1}
    parts = []
    for cores in dict.fromkeys(record["cores"] for record in records):
        chosen = [record for record in records if record["cores"] == cores]
        header = ["training", "network, batch", *names, "times as fast", "of the FMA peak"]
        rows = [row(record, names) for record in chosen]
        if cores > 1 and alone:
            header.append("than on one core")
            for cells, record in zip(rows, chosen, strict=True):
                cells.append(ratio(alone[record["dtype"], record["case"]] / record["seconds"][peers.OURS], 1))
        title = f"Training {on(cores)}: µs a step (loss after the epoch)."
        parts += [title, measure.markdown(header, rows), summary(chosen)]
    return "\n\n".join(parts)


def row(record: dict, names: Sequence[str]) -> list[str]:
    """The cells of a network: each time with the loss that it led to, and the share of the peak of all cores."""
    seconds, losses = record["seconds"], record["losses"]
    cells = [f"{micro(seconds[name])} ({losses[name]:.5g})" if name in seconds else "-" for name in names]
    share = record["flops"] / seconds[peers.OURS] / record["peak"]
    target = TARGET if record["cores"] == 1 else 1.0
    return [record["dtype"], record["case"], *cells, ratio(advantage(seconds), target), f"{share:.0%}"]
