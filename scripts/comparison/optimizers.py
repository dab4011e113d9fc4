"""One network by every update rule: against the peers, and over plain SGD."""

from dataclasses import replace

import peers
from comparison.problems import Network, learnable
from comparison.rules import ADAM, ADAMW, RMSPROP, RULES, SGD
from comparison.settings import Settings, say
from comparison.tables import advantage, contenders, micro, on, ratio, summary, times
from comparison.training import MIDDLE, line, measure_network
from fastnn.commands import measure

QUICK_NETWORK = Network((64, 32, 10), batch=32, steps=4)
# The steps of these do not grow with the gradient; the first ones of RMSprop, whose mean starts at 0, are ten times lr.
RATES = {ADAM: 0.001, ADAMW: 0.001, RMSPROP: 0.0001}
# How far losses may be apart: scikit-learn adds eps before it corrects the moments, and the first steps of RMSprop go
# by the sign of a gradient, be it rounding.
TOLERANCES = {ADAM: 3e-3, RMSPROP: 5e-3}
# How many times the µs of SGD fastnn may take.
MOST = 1.15


def measure_all(settings: Settings) -> list[dict]:
    """Seconds a step and final loss of each contender, for each dtype and update rule."""
    network = QUICK_NETWORK if settings.quick else MIDDLE
    records = []
    for dtype in settings.dtypes:
        for rule in (SGD, ADAMW) if settings.quick else RULES:
            by_rule = replace(network, rule=rule, lr=RATES.get(rule, network.lr))
            modules = peers.load_trainers(settings.peers, by_rule)
            problem = learnable(by_rule, dtype, settings.epochs)
            record = measure_network(modules, problem, settings, TOLERANCES.get(rule))
            records.append(record)
            say(f"optimizers, {dtype}, {rule}: µs a step: {line(record)}")
    return records


def tables(records: list[dict]) -> str:
    """Each time with its ratio to SGD, fastnn's bold above the target."""
    names = contenders(records)
    parts = []
    for cores in dict.fromkeys(record["cores"] for record in records):
        chosen = [record for record in records if record["cores"] == cores]
        plain = {record["dtype"]: record["seconds"] for record in chosen if record["rule"] == SGD}
        rows = []
        for record in chosen:
            seconds, sgd = record["seconds"], plain[record["dtype"]]
            cells = [cell(name, seconds[name], sgd[name]) if name in seconds else "-" for name in names]
            rows.append([record["dtype"], record["rule"], *cells, ratio(advantage(seconds))])
        title = f"Training {chosen[0]['case']} {on(cores)} by each update rule: µs a step (over SGD)."
        parts += [title, measure.markdown(["optimizers", "rule", *names, "times as fast"], rows), summary(chosen)]
    return "\n\n".join(parts)


def cell(name: str, seconds: float, sgd: float) -> str:
    """A time, and how many times that of SGD it is."""
    over = times(seconds / sgd, MOST) if name == peers.OURS else times(seconds / sgd)
    return f"{micro(seconds)} ({over})"
