"""Products and training at the levels of precision that fastnn and PyTorch have for float32."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType, SimpleNamespace

import numpy as np
from numpy.typing import NDArray

import peers
from comparison.kernels import timed
from comparison.problems import Network, learnable
from comparison.settings import Settings, say
from comparison.tables import contenders, micro, on, ratio
from comparison.training import MIDDLE, measure_network
from fastnn.commands import measure

LEVELS = ("highest", "high", "medium")
# What may be lost of |A| |B|, the rounding of a sum aside.
LOST = {"highest": 0.0, "high": 2.0**-15, "medium": 2.0**-7}
PRODUCTS = (("512 x 512 x 512", 512, 512, 512), ("1024 x 1024 x 1024", 1024, 1024, 1024), ("x w", 256, 784, 1024))
QUICK_PRODUCTS = (("150 x 150 x 150", 150, 150, 150),)
NETWORKS = (MIDDLE, Network((784, 1024, 1024, 10), batch=256, steps=20))
QUICK_NETWORKS = (Network((20, 32, 2), batch=32, steps=4),)
# How many times as fast as the best peer at its highest precision: products, and the two networks.
TARGETS = {"product": 1.5, MIDDLE.name: 1.3, NETWORKS[1].name: 1.6}
HIGH_TARGET, MEDIUM_TARGET = 1.3, 1.0
# Losses of networks trained with fewer digits.
TOLERANCE = 0.02


def measure_all(settings: Settings) -> list[dict]:
    """Seconds of each contender at each of its levels."""
    return [*measure_products(settings), *measure_training(settings)]


def levels_of(module: ModuleType) -> tuple[str, ...]:
    """PyTorch's "high" is the same as "highest" on a CPU; others have no levels."""
    if module.NAME == peers.OURS:
        return LEVELS
    return ("highest", "medium") if hasattr(module, "at_precision") else ("highest",)


def at(module: ModuleType, level: str) -> contextlib.AbstractContextManager[None]:
    """What a contender computes inside is of that precision."""
    return module.at_precision(level) if hasattr(module, "at_precision") else contextlib.nullcontext()


def named(name: str, level: str) -> str:
    """The contender at a level: that of the name alone is the highest."""
    return name if level == "highest" else f"{name}, {level}"


def within(module: ModuleType, level: str, task: Callable[[], object]) -> Callable[[], object]:
    """The task at a level."""

    def run() -> object:
        with at(module, level):
            return task()

    return run


def measure_products(settings: Settings) -> Iterator[dict]:
    """Products of float32 matrices."""
    rng = np.random.default_rng(0)
    for name, m, k, n in QUICK_PRODUCTS if settings.quick else PRODUCTS:
        a, b = (rng.standard_normal(shape, np.float32) for shape in ((m, k), (k, n)))
        tasks = {}
        for module in peers.load(settings.peers, "product"):
            for level in levels_of(module):
                name_at = named(module.NAME, level)
                tasks[name_at] = within(module, level, module.product(a, b))
                check(name_at, level, tasks[name_at](), a, b)
        yield {"kind": "product", "case": name, "seconds": timed(tasks, settings)}
        say(f"precision, {name}")


def check(contender: str, level: str, result: object, a: NDArray, b: NDArray) -> None:
    """No figure for a result that is further off than its precision."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    bound = (a.shape[1] * np.finfo(np.float32).eps + LOST[level]) * (np.abs(a) @ np.abs(b))
    if not (np.abs(np.asarray(result) - a @ b) <= bound).all():
        raise ValueError(f"{contender} computes another product than a b")


def measure_training(settings: Settings) -> Iterator[dict]:
    """An epoch of each network."""
    for network in QUICK_NETWORKS if settings.quick else NETWORKS:
        modules = [
            SimpleNamespace(NAME=named(module.NAME, level), Trainer=trainer_at(module, level))
            for module in peers.load_trainers(settings.peers, network)
            for level in levels_of(module)
        ]
        problem = learnable(network, "float32", settings.epochs)
        record = measure_network(modules, problem, settings, TOLERANCE)
        yield {"kind": "training", "case": network.name, "seconds": record["seconds"]}
        say(f"precision, {network.name}")


def trainer_at(module: ModuleType, level: str) -> Callable[..., object]:
    """The module's trainer, which trains at a level."""

    class Trainer(module.Trainer):
        def run(self) -> None:
            with at(module, level):
                super().run()

    return Trainer


def tables(records: list[dict]) -> str:
    """Times at each level, and how they compare."""
    parts = []
    for cores in dict.fromkeys(record["cores"] for record in records):
        for kind, title in (("product", "Products"), ("training", "Training, a step,")):
            chosen = [record for record in records if record["cores"] == cores and record["kind"] == kind]
            names = contenders(chosen)
            header = [kind, *names, "highest / best peer's", "high / highest", "medium / best medium"]
            rows = [row(record, names) for record in chosen]
            parts += [f"{title} by precision {on(cores)}, µs.", measure.markdown(header, rows)]
    return "\n\n".join(parts)


def row(record: Mapping, names: list[str]) -> list[str]:
    """The cells of a case: times, and how many times as fast fastnn is; bold where a target is missed."""
    seconds = record["seconds"]
    own = {level: seconds[named(peers.OURS, level)] for level in LEVELS}
    target = TARGETS.get(record["case"], TARGETS["product"])
    return [
        record["case"],
        *(micro(seconds[name]) if name in seconds else "-" for name in names),
        ratio(best_peer(seconds, "highest") / own["highest"], target),
        ratio(own["highest"] / own["high"], HIGH_TARGET),
        ratio(best_peer(seconds, "medium") / own["medium"], MEDIUM_TARGET),
    ]


def best_peer(seconds: Mapping[str, float], level: str) -> float:
    """The time of the fastest peer at a level; NaN without one."""
    theirs = [
        time
        for name, time in seconds.items()
        if not name.startswith(peers.OURS) and name == named(name.split(", ")[0], level)
    ]
    return min(theirs, default=math.nan)
