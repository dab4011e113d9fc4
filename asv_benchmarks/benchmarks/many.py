"""Many networks at once: an epoch of each, as an ensemble or a search trains them, and a grid search."""

import warnings

import numpy as np

import fastnn as fnn

from .common import BACKENDS, CASES, DTYPES, benchmark, build, on_reference, use

COUNT = 64
# Widths and batches, of networks whose layers are narrower than a vector of their own would be.
NETWORKS = {"10-16-2": ((10, 16, 2), 16), "20-32-2": ((20, 32, 2), 32), "64-100-10": ((64, 100, 10), 32)}
BATCHES = 16
OPTIMIZERS = {"SGD": fnn.SGD, "Adam": lambda lr: fnn.Adam(lr=lr / 10)}


@benchmark(
    "epoch of 64 networks at once",
    {"backend": BACKENDS, "dtype": DTYPES, "network": tuple(NETWORKS), "optimizer": tuple(OPTIMIZERS)},
)
def time_fit_many(backend, dtype, network, optimizer):
    """Each shuffled by itself, with a learning rate and a penalty of its own; training goes on from call to call."""
    widths, batch_size = NETWORKS[network]
    x, y = CASES.samples(BATCHES * batch_size, widths, "cross_entropy", dtype, use(backend))

    def fresh():
        models = [build(widths, dtype) for _ in range(COUNT)]
        rules = [OPTIMIZERS[optimizer](float(lr)) for lr in np.geomspace(1e-3, 1e-2, COUNT)]
        settings = {"optimizer": rules, "l2": np.geomspace(1e-5, 1e-3, COUNT).tolist(), "epochs": 1, "verbose": 0}
        return lambda: fnn.fit_many(models, x, y, batch_size=batch_size, **settings)

    def losses(histories):
        return [history["loss"][-1] for history in histories]

    measured = fresh()
    np.testing.assert_allclose(losses(measured()), losses(on_reference(fresh())), rtol=1e-3)
    return measured


@benchmark("probabilities of an ensemble of 16", {"backend": BACKENDS, "dtype": DTYPES, "rows": (1, 1000)})
def time_ensemble(backend, dtype, rows):
    x, _ = CASES.samples(rows, (20, 32, 2), "cross_entropy", dtype, use(backend))
    ensemble = fnn.Ensemble([build((20, 32, 2), dtype) for _ in range(16)])
    np.testing.assert_allclose(ensemble.predict_proba(x), on_reference(ensemble.predict_proba, x), rtol=1e-4)
    return lambda: ensemble.predict_proba(x)


@benchmark("GridSearchCV, 4 settings, 3 folds of 600 digits", {"backend": BACKENDS, "dtype": DTYPES})
def time_search(backend, dtype):
    """Where scikit-learn is installed, which asv's own environments are without."""
    try:
        from fastnn.sklearn import GridSearchCV, MLPClassifier
    except ImportError:
        raise NotImplementedError("scikit-learn is not installed") from None
    use(backend)
    x, y = (array[:600] for array in fnn.datasets.load_digits(dtype))
    grid = {"alpha": [1e-4, 1e-1], "learning_rate_init": [1e-3, 1e-2]}
    model = MLPClassifier((16,), max_iter=5, n_iter_no_change=10, batch_size=50, random_state=0)

    def searched():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # five epochs are not enough to converge
            return GridSearchCV(model, grid, cv=3, refit=False).fit(x, y).cv_results_["mean_test_score"]

    # A digit or two on the border between classes may change sides.
    np.testing.assert_allclose(searched(), on_reference(searched), atol=0.01)
    return searched
