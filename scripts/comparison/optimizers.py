"""What momentum and Adam cost over plain SGD: fastnn against itself."""

from dataclasses import replace

import numpy as np

import _measure as measure
from comparison.problems import Network, learnable
from comparison.rules import RULES, SGD
from comparison.settings import Settings, say
from comparison.tables import micro, on, times
from peers.ours import Trainer

NETWORK = Network((784, 256, 256, 10), batch=128, steps=100)
QUICK_NETWORK = Network((64, 32, 10), batch=32, steps=4)
MOST = 1.15


def measure_all(settings: Settings) -> list[dict]:
    """Seconds a step with each optimizer."""
    network = QUICK_NETWORK if settings.quick else NETWORK
    records = []
    for dtype in settings.dtypes:
        problem = learnable(network, dtype, settings.epochs)
        trainers = {rule: Trainer(replace(problem, network=replace(network, rule=rule))) for rule in RULES}
        for trainer in trainers.values():
            trainer.prepare()
            trainer.run()
        tasks = {name: (trainer.prepare, trainer.run) for name, trainer in trainers.items()}
        best = measure.best_rounds(tasks, settings.rounds, settings.pause)
        seconds = {name: time / (network.steps * settings.epochs) for name, time in best.items()}
        records.append({"dtype": np.dtype(dtype).name, "case": network.name, "seconds": seconds})
        say(f"optimizers, {dtype}: µs a step: {', '.join(f'{n} {micro(t)}' for n, t in seconds.items())}")
    return records


def tables(records: list[dict]) -> str:
    """Each time with its ratio to SGD, bold above the target."""
    parts = []
    for cores in dict.fromkeys(record["cores"] for record in records):
        rows = [row(record) for record in records if record["cores"] == cores]
        header = ["optimizers", "network, batch", *RULES]
        parts += [f"fastnn's optimizers {on(cores)}: µs a step (over SGD).", measure.markdown(header, rows)]
    return "\n\n".join(parts)


def row(record: dict) -> list[str]:
    """The cells of a dtype."""
    sgd = record["seconds"][SGD]
    cells = [f"{micro(seconds)} ({times(seconds / sgd, MOST)})" for seconds in record["seconds"].values()]
    return [record["dtype"], record["case"], *cells]
