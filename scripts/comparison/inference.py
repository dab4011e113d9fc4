"""Inference: one row through a small network, and ten thousand through a larger one, to the probabilities."""

import numpy as np

import peers
from comparison.problems import initial_layers
from comparison.settings import Settings, say
from comparison.tables import advantage, contenders, micro, on, row_of_times, summary
from fastnn.commands import measure

CASES = (((64, 100, 10), 1), ((784, 256, 256, 10), 10_000))
QUICK_CASES = (((64, 100, 10), 1), ((64, 100, 10), 100))


def measure_all(settings: Settings) -> list[dict]:
    """Seconds a call of each contender, for each dtype and network."""
    modules = peers.load(settings.peers, "predictor")
    records = []
    for dtype in settings.dtypes:
        for widths, m in QUICK_CASES if settings.quick else CASES:
            layers = initial_layers(widths, np.dtype(dtype))
            x = np.random.default_rng(0).standard_normal((m, widths[0])).astype(dtype)
            case = f"{'-'.join(map(str, widths))}, {m:,} row{'s' * (m > 1)}"
            tasks = {module.NAME: module.predictor(layers, x) for module in modules}
            expected = np.array(tasks[peers.OURS]())
            for name, task in tasks.items():
                if not np.allclose(np.asarray(task()), expected, rtol=0, atol=100 * np.finfo(dtype).eps):
                    raise ValueError(f"{case}, {dtype}: {name} predicts other probabilities than fastnn")
            seconds = measure.best_times(
                tasks,
                seconds=(0.002 if settings.quick else 0.2) * len(tasks),
                rounds=settings.rounds,
                pause=settings.pause,
            )
            records.append({"dtype": dtype, "case": case, "seconds": seconds})
            times = ", ".join(f"{name} {micro(time)}" for name, time in seconds.items())
            say(f"inference, {dtype}, {case}: µs: {times}, {advantage(seconds):.2f} times as fast")
    return records


def tables(records: list[dict]) -> str:
    """A table for each number of cores."""
    names = contenders(records)
    parts = []
    for cores in dict.fromkeys(record["cores"] for record in records):
        chosen = [record for record in records if record["cores"] == cores]
        rows = [row_of_times(record, names, target=1.0) for record in chosen]
        table = measure.markdown(["inference", "network, rows", *names, "times as fast"], rows)
        parts += [f"Probabilities {on(cores)}, µs.", table, summary(chosen)]
    return "\n\n".join(parts)
