"""An epoch of many networks at once, each with its own weights, order, learning rate and penalty."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import peers
from comparison.agreement import check
from comparison.many_problems import Many, many
from comparison.peak import peak_task
from comparison.problems import SQUARED_ERROR, Network
from comparison.rules import ADAM, SGD
from comparison.settings import Settings as CommonSettings
from comparison.settings import say
from comparison.tables import micro, on, ratio
from fastnn.commands import measure

LOOP, JAX = "fit in a loop", "JAX"
SAMPLES = 2048
NETWORKS = tuple(
    Network(widths, batch, SAMPLES // batch, **({"loss": SQUARED_ERROR, "lr": 2e-3} if widths[-1] == 1 else {}))
    for widths, batch in (
        ((10, 16, 2), 16),
        ((20, 32, 2), 32),
        ((13, 32, 32, 1), 32),
        ((20, 64, 64, 3), 64),
        ((54, 64, 64, 7), 128),
        ((64, 100, 10), 32),
    )
)
QUICK_NETWORKS = (Network((10, 16, 2), 16, 3), Network((13, 8, 8, 1), 32, 2, SQUARED_ERROR, 2e-3))
RULES = {SGD: None, ADAM: 1e-3}
# How many times as fast as JAX a cell has to be, and their geometric mean.
TARGETS = {"float32": (2.5, 6.0), "float64": (1.3, 3.0)}
# The share of the FMA peak of one core that float32 has to reach, where layers and batches are 32 wide.
SHARES, WIDE = {SGD: 0.45, ADAM: 1 / 3}, 32
# How many times as fast as one core two have to be, for so many networks.
SPEEDUP, MANY = 1.8, 32
# How far losses may be apart: Adam divides by roots of what rounding makes of gradients near zero.
TOLERANCES = {"float32": {SGD: 1e-3, ADAM: 1e-3}, "float64": {SGD: 1e-9, ADAM: 1e-7}}
# Networks whose losses are compared.
COMPARED = 5


@dataclass(frozen=True)
class Settings(CommonSettings):
    """With the numbers of networks."""

    counts: tuple[int, ...] = (16, 64, 256)


def measure_all(settings: Settings) -> list[dict]:
    """Seconds a step of one network, for each dtype, update rule, network and number of networks."""
    return measure_cases(settings, ["loop", *settings.peers], settings.counts, "together")


def measure_cases(settings: Settings, keys: Sequence[str], counts: Iterable[int], what: str) -> list[dict]:
    """The records of every case, fastnn's `fit_many` beside these contenders."""
    records = []
    for dtype in settings.dtypes:
        for rule, lr in RULES.items():
            for network in QUICK_NETWORKS if settings.quick else NETWORKS:
                by_rule = replace(network, rule=rule, lr=lr or network.lr)
                for count in counts:
                    record = measure_case(many(by_rule, dtype, count, settings.epochs), keys, settings)
                    records.append(record)
                    say(f"{what}, {dtype}, {rule}, {count} x {network.name}: µs a step of one: {line(record)}")
    return records


def measure_case(problem: Many, keys: Sequence[str], settings: Settings) -> dict:
    """The best of several rounds, each contender once a round; the compiling call and its losses come before."""
    network, dtype = problem.network, problem.dtype.name
    trainers = {}
    for key in ("ours", *keys):
        module = peers.load_one(f"many.{key}")
        trainers[module.NAME] = module.Trainer(problem)
    for trainer in trainers.values():
        trainer.prepare()
        trainer.run()
    for k in sorted({round(i * (problem.count - 1) / (COMPARED - 1)) for i in range(COMPARED)}):
        losses = {name: problem.objective(k, trainer.layers(k)) for name, trainer in trainers.items()}
        check(losses, dtype, f"{network.name}, network {k} of {problem.count}", TOLERANCES[dtype][network.rule])
    chains, operations = peak_task(dtype, settings.cores)
    tasks = {name: (trainer.prepare, trainer.run) for name, trainer in trainers.items()}
    best = measure.best_rounds(tasks | {"peak": (lambda: None, chains)}, settings.rounds, settings.pause)
    peak = operations / best.pop("peak")
    steps = network.steps * problem.epochs * problem.count
    return {
        "dtype": dtype,
        "rule": network.rule,
        "case": network.name,
        "count": problem.count,
        "seconds": {name: seconds / steps for name, seconds in best.items()},
        "forms": {name: trainer.form for name, trainer in trainers.items() if hasattr(trainer, "form")},
        "flops": network.flops,
        "peak": peak,
        "is_wide": min(network.widths[1:-1]) >= WIDE and network.batch >= WIDE,
    }


def line(record: dict) -> str:
    """The times of all, for the log, and the form that JAX took."""
    forms = {name: f" ({form})" for name, form in record["forms"].items()}
    return ", ".join(f"{name} {micro(s)}{forms.get(name, '')}" for name, s in record["seconds"].items())


def tables(records: list[dict]) -> str:
    """A table and a summary for each number of cores."""
    names = list(dict.fromkeys(name for record in records for name in record["seconds"]))
    alone = {key_of(record): record["seconds"][peers.OURS] for record in records if record["cores"] == 1}
    parts = []
    for cores in dict.fromkeys(record["cores"] for record in records):
        chosen = [record for record in records if record["cores"] == cores]
        speedups = cores > 1 and bool(alone)
        header = ["many", "optimizer", "network, batch", "networks", *names]
        header += [f"over {name}" for name in names if name != peers.OURS] + ["of the FMA peak"]
        header += ["than on one core"] * speedups
        rows = [row(record, names) + [speedup(record, alone)] * speedups for record in chosen]
        title = f"Training many networks {on(cores)}: µs a step of one network, and how many times as fast fastnn is."
        parts += [title, measure.markdown(header, rows), summary(chosen, names)]
    return "\n\n".join(parts)


def key_of(record: dict) -> tuple:
    """What a record measures, on whatever number of cores."""
    return tuple(record[name] for name in ("dtype", "rule", "case", "count"))


def row(record: dict, names: Sequence[str]) -> list[str]:
    """The cells of a case: times, ratios to each contender, the share of the peak of all cores."""
    seconds = record["seconds"]
    cells = [micro(seconds[name]) if name in seconds else "-" for name in names]
    for name in names:
        if name != peers.OURS:
            target = TARGETS[record["dtype"]][0] if name == JAX else 1.0
            cells.append(ratio(over(record, name), target))
    share = record["flops"] / seconds[peers.OURS] / record["peak"]
    least = SHARES[record["rule"]] if record["is_wide"] and record["dtype"] == "float32" else 0.0
    cells.append(f"{share:.0%}" if share >= least else f"**{share:.0%}**")
    return [record["dtype"], record["rule"], record["case"], str(record["count"]), *cells]


def speedup(record: dict, alone: dict[tuple, float]) -> str:
    """How many times as fast as on one core."""
    key = key_of(record)
    if key not in alone:
        return "-"
    return ratio(alone[key] / record["seconds"][peers.OURS], SPEEDUP if record["count"] >= MANY else 1.0)


def over(record: dict, name: str) -> float:
    """How many times as fast as a contender fastnn is; NaN where that one is not there."""
    seconds = record["seconds"]
    return seconds.get(name, math.nan) / seconds[peers.OURS]


def summary(records: Sequence[dict], names: Sequence[str]) -> str:
    """The geometric mean and the smallest of the ratios to each contender, by dtype."""
    lines = []
    for dtype in dict.fromkeys(record["dtype"] for record in records):
        chosen = [record for record in records if record["dtype"] == dtype]
        for name in names:
            ratios = [value for record in chosen if not math.isnan(value := over(record, name))]
            if name == peers.OURS or not ratios:
                continue
            mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
            least, target = TARGETS[dtype] if name == JAX else (1.0, 1.0)
            lines.append(
                f"{dtype} over {name}: geometric mean {ratio(mean, target)}, smallest {ratio(min(ratios), least)}"
            )
    return "; ".join(lines) + "." if lines else "Nobody to compare with."
