"""Grid searches and bagging in two jobs: fastnn.sklearn's against scikit-learn's own, each in a fresh process.

`python many_search.py NAME CASE DTYPE full|quick warm|cold` runs one of them with one library, and prints a line of
JSON. Warm, a small one before the clock starts imports, compiles and starts the workers. Cold, fastnn finds an empty
folder for its compiled kernels.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import peers
from comparison.fresh import in_fresh_process
from comparison.many_training import Settings
from comparison.settings import say
from comparison.sklearn_problems import DIGITS, TABLE, THEIRS, WINE, check, estimators, load
from comparison.sklearn_problems import Settings as DataSettings
from comparison.sklearn_search import users_environment
from comparison.tables import advantage, ratio
from fastnn.commands import measure


class Case(NamedTuple):
    """Data, hidden layers, iterations, whether a scaler comes first, and how many times as fast fastnn has to be."""

    data: str
    hidden: tuple[int, ...]
    iterations: int
    targets: dict[str, float]
    is_scaled: bool = False
    is_bagging: bool = False

    @property
    def name(self) -> str:
        """What it searches, in words."""
        what = [f"{MEMBERS} bagged"] * self.is_bagging + ["StandardScaler"] * self.is_scaled
        return ", ".join([self.data, str(self.hidden), f"{self.iterations} iterations", *what])


MEMBERS, FOLDS, JOBS = 16, 5, 2
SMALL_TARGETS, WIDE_TARGETS = {"float64": 12.0, "float32": 20.0}, {"float64": 6.0, "float32": 8.0}
CASES = (
    Case(TABLE, (32,), 200, SMALL_TARGETS),
    Case(TABLE, (32,), 200, SMALL_TARGETS, is_scaled=True),
    Case(DIGITS, (100,), 200, WIDE_TARGETS),
    Case(DIGITS, (100,), 200, WIDE_TARGETS, is_scaled=True),
    Case(WINE, (32,), 40, {"float64": 6.0, "float32": 6.0}),
    Case(TABLE, (32,), 200, {"float64": 12.0, "float32": 12.0}, is_bagging=True),
)
GRID = {"alpha": np.geomspace(1e-5, 1e-2, 4).tolist(), "learning_rate_init": np.geomspace(3e-4, 1e-2, 6).tolist()}
QUICK_GRID = {"alpha": [1e-4, 1e-2]}
# Two settings may swap a sample or two on the border between classes.
TOLERANCE = 5e-3
# A search by scikit-learn takes a minute or two.
MOST_ROUNDS = 2


def measure_all(settings: Settings) -> list[dict]:
    """Seconds of both for each dtype and case, and of fastnn's first search with an empty cache beside a first fit."""
    size = "quick" if settings.quick else "full"
    records = []
    for dtype in settings.dtypes:
        for i, case in enumerate(CASES):
            best: dict[str, float] = {}
            scores: dict[str, list[float]] = {}
            for _ in range(min(settings.rounds, MOST_ROUNDS)):
                for name in (peers.OURS, THEIRS):
                    found = in_fresh_process(
                        name, str(i), dtype, size, "warm", environment=users_environment(), script=__file__
                    )
                    best[name] = min(best.get(name, float("inf")), found["seconds"])
                    scores[name] = found["scores"]
            what = f"search, {dtype}, {case.name}"
            say(f"{what}: {best[peers.OURS]:.2f} s, {advantage(best):.2f} times as fast")
            check(f"{what}: scores", scores, TOLERANCE)
            records.append(
                {
                    "dtype": dtype,
                    "case": case.name,
                    "seconds": best,
                    "target": case.targets[dtype],
                    "score": max(scores[peers.OURS]),
                    "cold": cold(dtype, size) if i == 0 else None,
                }
            )
    return records


def cold(dtype: str, size: str) -> dict[str, float]:
    """Seconds of fastnn's first search, and of its first fit, with an empty cache."""
    found = {}
    for name in ("search", "fit"):
        with tempfile.TemporaryDirectory() as folder:
            environment = users_environment() | {"NUMBA_CACHE_DIR": folder}
            arguments = (peers.OURS, "0" if name == "search" else "fit", dtype, size, "cold")
            found[name] = in_fresh_process(*arguments, environment=environment, script=__file__)["seconds"]
    return found


def run(name: str, case: str, dtype: str, size: str, state: str) -> dict[str, Any]:
    """The seconds of a search, and the mean scores of its settings; of a single fit for the case "fit"."""
    chosen, is_quick = CASES[0 if case == "fit" else int(case)], size == "quick"
    x, y = load(chosen.data, dtype, DataSettings(quick=is_quick))
    if state == "warm":
        built(name, chosen, QUICK_GRID, iterations=2).fit(x[::3], y[::3])
    iterations = 2 if is_quick else chosen.iterations
    if case == "fit":
        task: Any = estimators(chosen.hidden, max_iter=iterations)[name]
    else:
        task = built(name, chosen, QUICK_GRID if is_quick else GRID, iterations)
    start = time.perf_counter()
    task.fit(x, y)
    seconds = time.perf_counter() - start
    scores = task.cv_results_["mean_test_score"].tolist() if hasattr(task, "cv_results_") else [task.score(x, y)]
    return {"seconds": seconds, "scores": scores}


def built(name: str, case: Case, grid: dict[str, list], iterations: int) -> Any:
    """What is fitted: a search over the grid, or bags of networks."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = estimators(case.hidden, max_iter=iterations)[name]
    if case.is_bagging:
        return tool(name, "BaggingClassifier")(model, MEMBERS, n_jobs=JOBS, random_state=0)
    if case.is_scaled:
        prefix = type(model).__name__.lower()
        grid = {f"{prefix}__{key}": values for key, values in grid.items()}
        model = make_pipeline(StandardScaler(), model)
    return tool(name, "GridSearchCV")(model, grid, cv=FOLDS, n_jobs=JOBS)


def tool(name: str, cls: str) -> Any:
    """A class of fastnn.sklearn, or scikit-learn's own."""
    import sklearn.ensemble
    import sklearn.model_selection

    import fastnn.sklearn

    if name == peers.OURS:
        return getattr(fastnn.sklearn, cls)
    return getattr(sklearn.ensemble, cls, None) or getattr(sklearn.model_selection, cls)


def tables(records: list[dict]) -> str:
    """A row for each case, and what an empty cache costs."""
    names = (peers.OURS, THEIRS)
    rows, lines = [], []
    for record in records:
        seconds = record["seconds"]
        gain = ratio(advantage(seconds), record["target"])
        cells = [f"{seconds[name]:.2f}" for name in names]
        about = [record["dtype"], record["case"]]
        rows.append([*about, *cells, gain, f"{record['target']:g}", f"{record['score']:.4f}"])
        if record["cold"]:
            search, fit = record["cold"]["search"], record["cold"]["fit"]
            lines.append(f"{record['dtype']}: the search in the first row {search:.1f} s, a single fit {fit:.1f} s")
    header = ["search", "data, hidden layers", *names, "times as fast", "target", "best accuracy"]
    settings = int(np.prod([len(values) for values in GRID.values()]))
    title = f"GridSearchCV over {settings} settings, {FOLDS} folds, and BaggingClassifier, n_jobs={JOBS} on 2 cores: s."
    note = f"With an empty kernel cache, {'; '.join(lines)}." if lines else ""
    return "\n\n".join([title, measure.markdown(header, rows), *[note] * bool(note)])


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:])))
