"""A grid search on the digits in two workers, each time in a fresh process with fresh workers.

`python sklearn_search.py NAME full|quick` searches with one library, and prints a line of JSON. fastnn's first search
finds an empty folder for its compiled kernels, which the workers fill; the ones after find them there.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import peers
from comparison.fresh import in_fresh_process
from comparison.settings import say
from comparison.sklearn_problems import DIGITS, THEIRS, Settings, check, estimators, load
from comparison.tables import ratio
from fastnn.commands import measure

GRID = {
    "hidden_layer_sizes": [(50,), (100,), (100, 50)],
    "activation": ["relu", "tanh"],
    "alpha": [1e-4, 1e-1],
    "learning_rate_init": [1e-3, 3e-3],
}
QUICK_GRID = {"alpha": [1e-4, 1e-1], "max_iter": [2]}
# With all kernels still to be compiled in the workers, and with them on disk.
TARGETS = {"empty": 4.0, "primed": 4.0}
# Two settings may swap a digit or two on the border between classes.
TOLERANCE = 5e-3


def measure_all(settings: Settings) -> list[dict]:
    """Seconds of a search by both, twice: with an empty cache, and with what the first search left there."""
    size = "quick" if settings.quick else "full"
    seconds: dict[str, dict[str, float]] = {}
    scores: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = users_environment() | {"NUMBA_CACHE_DIR": folder}
        for cache in TARGETS:
            for name in (peers.OURS, THEIRS):
                result = in_fresh_process(name, size, environment=environment, script=__file__)
                seconds.setdefault(cache, {})[name] = result["seconds"]
                scores[name] = result["scores"]
                say(f"search, {name}, {cache} cache: {result['seconds']:.1f} s")
            check("search: mean scores", scores, TOLERANCE)
    return [{"cache": cache, "seconds": each, "best": max(scores[peers.OURS])} for cache, each in seconds.items()]


def users_environment() -> dict[str, str]:
    """The environment without limits on threads: scikit-learn's workers set their own."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    return kept | {"PYTHONWARNINGS": "ignore"}


def search(name: str, size: str) -> dict:
    """The seconds of a search, and the mean score of every setting."""
    from sklearn.model_selection import GridSearchCV

    x, y = load(DIGITS, "float64", Settings(quick=size == "quick"))
    model = estimators((100,))[name]
    grid = GridSearchCV(model, QUICK_GRID if size == "quick" else GRID, cv=5, n_jobs=2)
    start = time.perf_counter()
    grid.fit(x, y)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "scores": grid.cv_results_["mean_test_score"].tolist()}


def tables(records: list[dict]) -> str:
    """A row for the search that compiles, and one for those after it."""
    rows = []
    for record in records:
        ours, theirs = record["seconds"][peers.OURS], record["seconds"][THEIRS]
        target = TARGETS[record["cache"]]
        cells = [f"{ours:.1f}", f"{theirs:.1f}", ratio(theirs / ours, target), f"{target:g}", f"{record['best']:.4f}"]
        rows.append([f"{record['cache']} kernel cache", *cells])
    header = ["search", peers.OURS, THEIRS, "times as fast", "target", "best mean accuracy"]
    settings = len(GRID["hidden_layer_sizes"]) * 2**3
    title = f"GridSearchCV over {settings} settings on the digits, 5 folds, n_jobs=2 on 2 cores, float64, s."
    return f"{title}\n\n{measure.markdown(header, rows)}"


if __name__ == "__main__":
    print(json.dumps(search(*sys.argv[1:])))
