"""What workers of Dask, Ray and loky do in the tests: ``python -m tests.clusters dask`` prints what came of it as JSON.

Fits, many networks at once, and searches are compared with those of this process.
"""

import json
import sys
import warnings
from contextlib import contextmanager

import joblib
import numpy as np

import fastnn as fnn

X, Y = (data[:300] for data in fnn.datasets.load_digits())


def network(seed):
    return fnn.Sequential(fnn.Linear(64, 16), fnn.ReLU(), fnn.Dropout(0.1), fnn.Linear(16, 10), seed=seed)


class Both:
    """A model and its optimizer in one object: of a tuple Dask would pickle each by itself."""

    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer


def trained(both):
    """A model and its optimizer, which may come from elsewhere, after two more epochs."""
    both.model.fit(X, Y, optimizer=both.optimizer, epochs=2, verbose=0)
    return both


def afresh(seed):
    return trained(Both(network(seed), fnn.Adam(0.01)))


def from_states(model, state):
    """The same from two objects, of which each is pickled by itself."""
    optimizer = fnn.Adam(0.01)
    optimizer.load_state_dict(state, model)
    return trained(Both(model, optimizer))


def many(seeds):
    models = [network(seed) for seed in seeds]
    fnn.fit_many(models, X, Y, optimizer="adam", epochs=2, verbose=0)
    return models


def threads(_):
    return fnn.get_num_threads()


def fitted(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of three epochs
        return estimator.fit(X, Y)


@contextmanager
def dask():
    from distributed import Client, LocalCluster

    cluster = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(**cluster) as workers, Client(workers) as client, joblib.parallel_config("dask"):

        def call(function, *arguments):
            return client.gather(client.map(function, *arguments, pure=False))

        yield call


@contextmanager
def ray():
    import ray
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    register_ray()

    def call(function, *arguments):
        return ray.get([ray.remote(function).remote(*each) for each in zip(*arguments, strict=True)])

    with joblib.parallel_config("ray"):
        yield call
    ray.shutdown()


@contextmanager
def loky():
    def call(function, *arguments):
        return joblib.Parallel(2)(joblib.delayed(function)(*each) for each in zip(*arguments, strict=True))

    with joblib.parallel_config("loky", n_jobs=2):
        yield call


def same(models, others):
    return all(
        np.array_equal(a.flat_parameters(), b.flat_parameters()) and np.array_equal(a.forward(X), b.forward(X))
        for a, b in zip(models, others, strict=True)
    )


def found(call):
    from fastnn.sklearn import GridSearchCV, MLPClassifier, cross_val_score

    here = [trained(afresh(seed)) for seed in (1, 2)]
    before = call(afresh, [1, 2])  # there and back again, with the state of the optimizer
    states = [both.optimizer.state_dict() for both in before]
    ways = call(from_states, [both.model for both in before], states), call(trained, before)
    are_same = [
        (a.optimizer.steps, a.optimizer.epoch) == (b.optimizer.steps, b.optimizer.epoch)
        and all(map(np.array_equal, a.optimizer.state(), b.optimizer.state()))
        for way in ways
        for a, b in zip(way, here, strict=True)
    ]
    groups = call(many, [[0, 1, 2], [3, 4]])
    estimator = MLPClassifier((16,), max_iter=3, random_state=0)
    grid = {"alpha": [1e-4, 1e-2], "learning_rate_init": [1e-3, 1e-2]}
    search, alone = (GridSearchCV(estimator, grid, cv=2, n_jobs=2) for _ in range(2))
    fitted(search)
    scores = cross_val_score(estimator, X, Y, cv=3)
    with joblib.parallel_config("sequential"):
        fitted(alone)
        expected = cross_val_score(estimator, X, Y, cv=3)
    (there,) = call(fitted, [MLPClassifier((16,), max_iter=3, random_state=0)])
    return {
        "threads": call(threads, [0, 1]),
        "models": all(same([both.model for both in way], [both.model for both in here]) for way in ways),
        "optimizers": all(are_same),
        "fit_many": same([model for group in groups for model in group], many(range(5))),
        "search": bool(
            np.array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
            and search.best_params_ == alone.best_params_
            and all(map(np.array_equal, search.best_estimator_.coefs_, alone.best_estimator_.coefs_))
        ),
        "scores": bool(np.array_equal(scores, expected)),
        "estimator": all(map(np.array_equal, there.coefs_, fitted(estimator).coefs_)),
    }


def main():
    warnings.simplefilter("ignore")
    with {"dask": dask, "ray": ray, "loky": loky}[sys.argv[1]]() as call:
        print(json.dumps(found(call)), flush=True)


if __name__ == "__main__":
    from tests import clusters  # whose functions workers find under this name

    clusters.main()
