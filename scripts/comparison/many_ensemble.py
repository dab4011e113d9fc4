"""An ensemble of 16 networks, each shuffled by itself, against one of them: training, and what is predicted."""

from collections.abc import Callable

from numpy.typing import NDArray

import fastnn as fnn
from comparison.many_problems import many
from comparison.many_training import SAMPLES, Settings
from comparison.problems import Network
from comparison.settings import say
from comparison.tables import micro, on, times
from fastnn.commands import measure
from peers.many import loop, ours

MEMBERS, EPOCHS = 16, 10
NETWORK, QUICK_NETWORK = (Network((20, 32, 2), 32, steps) for steps in (SAMPLES // 32, 4))
ALONE, TOGETHER = "one network", f"ensemble of {MEMBERS}"
FIT = "fit"
# How many times as long as that of one network the training of all may take.
MOST = {"float32": 5.0}
ROWS = (SAMPLES, 1)


def measure_all(settings: Settings) -> list[dict]:
    """Seconds of both, for each dtype, of a fit and of probabilities."""
    records = []
    for dtype in settings.dtypes:
        network, epochs = (QUICK_NETWORK, 1) if settings.quick else (NETWORK, EPOCHS)
        trainers = {
            ALONE: loop.Trainer(many(network, dtype, 1, epochs)),
            TOGETHER: ours.Trainer(problem := many(network, dtype, MEMBERS, epochs)),
        }
        for trainer in trainers.values():
            trainer.prepare()
            trainer.run()
        tasks = {name: (trainer.prepare, trainer.run) for name, trainer in trainers.items()}
        found = {FIT: measure.best_rounds(tasks, settings.rounds, settings.pause)}
        ensemble = fnn.Ensemble(trainers[TOGETHER].models)
        for rows in ROWS:
            seconds = 0.01 if settings.quick else 1.0
            name = f"predict_proba, {rows:,} row{'s' * (rows > 1)}"
            predictors = predictors_of(ensemble, problem.x[:rows])
            found[name] = measure.best_times(predictors, seconds, settings.rounds, settings.pause)
        for what, seconds in found.items():
            records.append({"dtype": dtype, "case": network.name, "what": what, "seconds": seconds})
            say(f"ensemble, {dtype}, {what}: {seconds[TOGETHER] / seconds[ALONE]:.2f} times as long as of one")
    return records


def predictors_of(ensemble: fnn.Ensemble, x: NDArray) -> dict[str, Callable[[], object]]:
    """Calls that tell the probabilities of the classes of x."""
    return {ALONE: lambda: ensemble[0].predict_proba(x), TOGETHER: lambda: ensemble.predict_proba(x)}


def tables(records: list[dict]) -> str:
    """A table for each number of cores."""
    parts = []
    for cores in dict.fromkeys(record["cores"] for record in records):
        chosen = [record for record in records if record["cores"] == cores]
        rows = []
        for record in chosen:
            alone, together = (record["seconds"][name] for name in (ALONE, TOGETHER))
            most = MOST.get(record["dtype"], MEMBERS) if record["what"] == FIT else MEMBERS
            about = [record["dtype"], record["case"], record["what"]]
            rows.append([*about, micro(alone), micro(together), times(together / alone, most)])
        header = ["ensemble", "network, batch", "call", ALONE, TOGETHER, "times as long"]
        parts += [f"An ensemble {on(cores)}: µs a call.", measure.markdown(header, rows)]
    return "\n\n".join(parts)
