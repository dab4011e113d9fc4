"""What a step costs after 50 epochs, when moments of dead units and of a network that is sure have decayed to nothing.

On the way they stay below the smallest normal number, for long or for good: 0.9 times the smallest of all rounds to
itself. Intel's cores take some 150 cycles for each that they meet, AMD's none. An epoch from fresh weights meets none.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import peers
from comparison.agreement import check
from comparison.problems import Network, Problem, random_labels, separable
from comparison.rules import ADAM, MOMENTS, MOMENTUM, NESTEROV, SGD
from comparison.settings import Settings, say
from comparison.tables import advantage, contenders, micro, on, ratio, summary, times
from fastnn.commands import measure

NETWORK, EPOCHS = Network((50, 64, 10), batch=32, steps=64, lr=0.1), 50
QUICK_NETWORK, QUICK_EPOCHS = Network((20, 8, 10), batch=32, steps=4, lr=0.1), 2


class Data(NamedTuple):
    """What makes the problem, Adam's learning rate, and how far losses may be apart after the first epoch."""

    make: Callable[[Network, str], Problem]
    adam_lr: float
    tolerance: float


# The steps on separable data are wild at first: one rounding more leads elsewhere, in float32 at once.
DATA = {"random labels": Data(random_labels, 0.02, 1e-3), "separable": Data(separable, 0.1, 0.5)}
# After so many steps all have parted by some; and of two networks that are sure, none is better by its loss of 1e-9.
TOLERANCE, LEAST = 0.1, 0.1
# Who may do the work, and what its name in the tables ends with.
FORMS = {"Trainer": "", "FlushingTrainer": ", flushing"}
# Of the rules that keep the same moments, one.
RULES = (SGD, MOMENTUM, NESTEROV, ADAM)
# How many times the µs of a fresh network fastnn may take.
MOST = 1.15


def measure_all(settings: Settings) -> list[dict]:
    """Seconds a step of a network after 50 epochs and of a fresh one, for each dtype, problem and update rule."""
    records = []
    # torch.compile takes seconds for each.
    chosen = list(DATA)[:1] if settings.quick else DATA
    for dtype, data, rule in itertools.product(settings.dtypes, chosen, RULES):
        record = measure_rule(rule, data, dtype, settings)
        records.append(record)
        seconds, fresh = record["seconds"], record["fresh"]
        line = ", ".join(f"{name} {micro(seconds[name])} (fresh {micro(fresh[name])})" for name in seconds)
        say(f"subnormals, {dtype}, {record['case']}: µs a step: {line}")
    return records


def measure_rule(rule: str, data: str, dtype: str, settings: Settings) -> dict:
    """The best of several second epochs, and of as many that follow 50."""
    network, epochs = (QUICK_NETWORK, QUICK_EPOCHS) if settings.quick else (NETWORK, EPOCHS)
    problem, case = make_problem(rule, data, dtype, network), f"{rule}, {data}"
    # Both are there before either trains: a new one makes torch.compile forget what it compiled.
    fresh, old = (trainers(problem, settings.peers) for _ in range(2))
    check(losses_after(1, fresh, problem), dtype, case, DATA[data].tolerance, LEAST)
    losses = losses_after(epochs, old, problem)
    check(losses, dtype, f"{case}, after {epochs} epochs", TOLERANCE, LEAST)
    kept = {name: trainer.moments() for name, trainer in old.items() if MOMENTS[rule]}
    # An epoch goes before each that is timed: it brings back to the caches what the others drove out.
    tasks = {("fresh", name): (partial(train, 1, trainer), trainer.run) for name, trainer in fresh.items()}
    tasks |= {("old", name): (trainer.run, trainer.run) for name, trainer in old.items()}
    best = measure.best_rounds(tasks, settings.rounds, settings.pause)
    return {
        "dtype": dtype,
        "case": case,
        "network": network.name,
        "epochs": epochs,
        "seconds": {name: best["old", name] / network.steps for name in old},
        "fresh": {name: best["fresh", name] / network.steps for name in fresh},
        "losses": losses,
        "subnormal": {name: subnormal_share(moments) for name, moments in kept.items()},
    }


def make_problem(rule: str, data: str, dtype: str, network: Network) -> Problem:
    """What the network has to learn, by an update rule at its learning rate."""
    lr = DATA[data].adam_lr if rule == ADAM else network.lr
    return DATA[data].make(replace(network, rule=rule, lr=lr), dtype)


def trainers(problem: Problem, keys: Sequence[str]) -> dict[str, Any]:
    """One of each contender, in each of its forms."""
    return {
        module.NAME + suffix: getattr(module, form)(problem)
        for module in peers.load(keys, "Trainer")
        for form, suffix in FORMS.items()
        if hasattr(module, form)
    }


def losses_after(epochs: int, trainers: Mapping[str, Any], problem: Problem) -> dict[str, float]:
    """Train each from the start, and say what loss it reached."""
    for trainer in trainers.values():
        train(epochs, trainer)
    return {name: problem.objective(trainer.layers()) for name, trainer in trainers.items()}


def train(epochs: int, trainer: Any) -> None:
    """Train from the start."""
    trainer.prepare()
    for _ in range(epochs):
        trainer.run()


def subnormal_share(moments: Sequence[NDArray]) -> float:
    """The share of numbers that lie between zero and the smallest normal one."""
    numbers = np.concatenate([moment.ravel() for moment in moments])
    return float(((numbers != 0) & (np.abs(numbers) < np.finfo(numbers.dtype).tiny)).mean())


def tables(records: list[dict]) -> str:
    """Each time with its ratio to that from fresh weights, fastnn's bold above the target."""
    names = contenders(records)
    parts = []
    for cores in dict.fromkeys(record["cores"] for record in records):
        chosen = [record for record in records if record["cores"] == cores]
        after = f"after {chosen[0]['epochs']} epochs"
        title = (
            f"Training {chosen[0]['network']} {on(cores)}, {after}: µs a step (over one of a fresh network), and how "
            "many of a contender's moments are subnormal at most."
        )
        header = [after, "optimizer, data", *names, "times as fast", "subnormal"]
        parts += [title, measure.markdown(header, [row(record, names) for record in chosen]), summary(chosen)]
    return "\n\n".join(parts)


def row(record: dict, names: Sequence[str]) -> list[str]:
    """The cells of an update rule on a problem."""
    seconds, shares = record["seconds"], record["subnormal"].values()
    cells = [cell(record, name) if name in seconds else "-" for name in names]
    subnormal = f"{max(shares):.0%}" if shares else "-"
    return [record["dtype"], record["case"], *cells, ratio(advantage(seconds)), subnormal]


def cell(record: dict, name: str) -> str:
    """The time of a contender, and how many times that of a fresh network it is."""
    seconds = record["seconds"][name]
    most = MOST if name == peers.OURS else math.inf
    return f"{micro(seconds)} ({times(seconds / record['fresh'][name], most)})"
