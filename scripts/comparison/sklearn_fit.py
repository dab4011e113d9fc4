"""Whole calls of `fit`, as many epochs for both."""

from typing import NamedTuple

from sklearn.base import clone

import peers
from comparison.settings import say
from comparison.sklearn_problems import DIGITS, MNIST, TABLE, THEIRS, Settings, check, ended_early, estimators, load
from comparison.tables import advantage, ratio
from fastnn.commands import measure

TOLERANCE = {"float32": 1e-3, "float64": 1e-9}


class Case(NamedTuple):
    """Data, hidden layers, epochs, and how many times as fast as scikit-learn fastnn has to be."""

    data: str
    hidden: tuple[int, ...]
    epochs: int
    target: float


CASES = (
    Case(DIGITS, (100,), 50, 6.0),
    Case(MNIST, (100,), 2, 3.0),
    Case(MNIST, (256, 256), 2, 2.5),
    Case(TABLE, (32,), 50, 10.0),
)
QUICK_CASES = (Case(DIGITS, (100,), 2, 6.0), Case(TABLE, (32,), 2, 10.0))
SOLVERS = ("adam", "sgd")


def measure_all(settings: Settings) -> list[dict]:
    """Seconds of a fit and final loss of both, for each dtype, case and solver."""
    cases = [
        (case, solver, dtype)
        for case in (QUICK_CASES if settings.quick else CASES)
        for dtype in settings.dtypes
        for solver in SOLVERS
    ]
    return [measure_case(*each, settings) for each in cases]


def measure_case(case: Case, solver: str, dtype: str, settings: Settings) -> dict:
    """The best of several rounds, each library once a round; what compiles comes before."""
    x, y = load(case.data, dtype, settings)
    models = estimators(case.hidden, solver=solver, max_iter=case.epochs)
    network = "-".join(map(str, (x.shape[1], *case.hidden, len(set(y.tolist())))))
    name = f"{settings.named(case.data)}, {network}"
    with ended_early():
        for model in models.values():
            clone(model).set_params(max_iter=1).fit(x[:400], y[:400])
        tasks = {key: (lambda: None, lambda model=model: model.fit(x, y)) for key, model in models.items()}
        seconds = measure.best_rounds(tasks, settings.rounds)
    what = f"fit, {dtype}, {name}, {solver}"
    check(f"{what}: loss curves", {key: model.loss_curve_ for key, model in models.items()}, TOLERANCE[dtype])
    say(f"{what}: {seconds[peers.OURS]:.3f} s, {advantage(seconds):.2f} times as fast")
    return {
        "dtype": dtype,
        "case": name,
        "solver": solver,
        "epochs": models[peers.OURS].n_iter_,
        "seconds": seconds,
        "losses": {key: float(model.loss_) for key, model in models.items()},
        "target": case.target,
    }


def tables(records: list[dict]) -> str:
    """A row for each fit, its losses beside its times."""
    names = (peers.OURS, THEIRS)
    header = ["fit", "data, network", "solver", "epochs", *names, "times as fast", "target"]
    rows = []
    for record in records:
        cells = [f"{record['seconds'][name]:.3g} ({record['losses'][name]:.6g})" for name in names]
        gain = ratio(advantage(record["seconds"]), record["target"])
        about = [record["dtype"], record["case"], record["solver"], str(record["epochs"])]
        rows.append([*about, *cells, gain, f"{record['target']:g}"])
    return "Training on 1 core: s a fit (final loss).\n\n" + measure.markdown(header, rows)
