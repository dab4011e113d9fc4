"""Calls of `predict`, of one row and of many, each with all its checks of the input."""

import peers
from comparison.settings import say
from comparison.sklearn_problems import DIGITS, MNIST, THEIRS, Settings, check, ended_early, estimators, load
from comparison.tables import advantage, micro, ratio
from fastnn.commands import measure

CASES = ((DIGITS, (100,)), (MNIST, (100,)))
# Rows, and how many times as fast as scikit-learn fastnn has to be.
ROWS = ((1, 3.0), (10_000, 2.0))
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


def measure_all(settings: Settings) -> list[dict]:
    """Seconds a call of both, for each dtype, network and number of rows."""
    records = []
    for data, hidden in CASES[:1] if settings.quick else CASES:
        for dtype in settings.dtypes:
            x, y = load(data, dtype, settings)
            models = estimators(hidden, max_iter=3)
            with ended_early():
                for model in models.values():
                    model.fit(x[:2000], y[:2000])
            for rows, target in ROWS:
                batch = x.repeat(-(-rows // len(x)), axis=0)[:rows].copy()
                case = f"{settings.named(data)}, {x.shape[1]}-{hidden[0]}-10, {rows:,} row{'s' * (rows > 1)}"
                found = {name: model.predict_proba(batch) for name, model in models.items()}
                check(f"predict, {dtype}, {case}: probabilities", found, TOLERANCE[dtype])
                seconds = measure.best_times(
                    {name: lambda model=model, batch=batch: model.predict(batch) for name, model in models.items()},
                    seconds=0.01 if settings.quick else 1.0,
                    rounds=settings.rounds,
                )
                records.append({"dtype": dtype, "case": case, "seconds": seconds, "target": target})
                say(f"predict, {dtype}, {case}: {advantage(seconds):.2f} times as fast")
    return records


def tables(records: list[dict]) -> str:
    """A row for each network and number of rows."""
    names = (peers.OURS, THEIRS)
    rows = []
    for record in records:
        seconds, target = record["seconds"], record["target"]
        cells = [micro(seconds[name]) for name in names]
        rows.append([record["dtype"], record["case"], *cells, ratio(advantage(seconds), target), f"{target:g}"])
    header = ["predict", "data, network, rows", *names, "times as fast", "target"]
    return "Prediction of labels on 1 core, µs a call.\n\n" + measure.markdown(header, rows)
