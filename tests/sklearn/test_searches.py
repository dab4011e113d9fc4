"""The eleven names against scikit-learn's: every bit with the same estimator, up to rounding with its own."""

import pickle
import threading

import joblib
import numpy as np
import pytest
import sklearn
from scipy.stats import loguniform
from sklearn import ensemble, model_selection
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn as fnn
import fastnn.sklearn as ours
from fastnn.sklearn import MLPClassifier, MLPRegressor
from tests.sklearn.pairs import RELEASE, data

pytestmark = pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.{ConvergenceWarning.__name__}")

NAMES = [name for name in ours.__all__ if not name.startswith("MLP")]
SETTINGS = {"hidden_layer_sizes": (5,), "max_iter": 6, "random_state": 0, "learning_rate_init": 0.01}
GRID = {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(5,), (4, 3)]}
SEARCHES = {
    "GridSearchCV": {"param_grid": GRID},
    "RandomizedSearchCV": {"param_distributions": {"alpha": loguniform(1e-4, 1)}, "n_iter": 4, "random_state": 0},
    "HalvingGridSearchCV": {"param_grid": GRID, "random_state": 0, "min_resources": 30},
    "HalvingRandomSearchCV": {"param_distributions": GRID, "random_state": 0, "min_resources": 30},
}
every_search = pytest.mark.parametrize("name", SEARCHES)
every_kind = pytest.mark.parametrize("kind", ["classifier", "regressor"])
OF_KIND = {
    "classifier": (MLPClassifier, TheirClassifier, "iris"),
    "regressor": (MLPRegressor, TheirRegressor, "diabetes"),
}


def samples(kind):
    """A hundred samples of all classes."""
    X, y = data(OF_KIND[kind][2])
    rows = np.random.default_rng(0).permutation(len(X))[:100]
    return X[rows], y[rows]


def assert_same_results(mine, expected, rtol=0.0):
    """All but the times are equal: floats within rtol, and all else exactly."""
    assert mine.keys() == expected.keys()
    for name, values in expected.items():
        if "time" in str(name):
            assert np.shape(mine[name]) == np.shape(values)
        elif rtol and np.asarray(values).dtype.kind == "f":
            np.testing.assert_allclose(
                np.asarray(mine[name], float), np.asarray(values, float), rtol, err_msg=str(name)
            )
        else:
            np.testing.assert_array_equal(mine[name], values, err_msg=str(name))


def calls(module, estimator, X, y):
    """What the functions return, by name and kind of call."""
    settings = {"param_name": "alpha", "param_range": [1e-3, 1.0], "cv": 3}
    found = {"cross_validate": module.cross_validate(estimator, X, y, return_train_score=True)}
    found["cross_val_score"] = module.cross_val_score(estimator, X, y, cv=4)
    found["cross_val_predict"] = module.cross_val_predict(estimator, X, y)
    if hasattr(estimator, "predict_proba"):
        found["probabilities"] = module.cross_val_predict(estimator, X, y, method="predict_proba")
    found["validation_curve"] = module.validation_curve(estimator, X, y, **settings)
    found["learning_curve"] = module.learning_curve(estimator, X, y, train_sizes=[0.5, 1.0], cv=3)
    found["incremental"] = module.learning_curve(
        estimator, X, y, train_sizes=[0.5, 1.0], cv=3, exploit_incremental_learning=True
    )
    curves = {name: dict(enumerate(value)) for name, value in found.items() if isinstance(value, tuple)}
    return found | {name: {"it": v} for name, v in found.items() if isinstance(v, np.ndarray)} | curves


@every_kind
@every_search
def test_searches(name, kind):
    mine, theirs, _ = OF_KIND[kind]
    X, y = samples(kind)
    search = getattr(ours, name)(mine(**SETTINGS), **SEARCHES[name], return_train_score=True).fit(X, y)
    same, other = (
        getattr(model_selection, name)(estimator(**SETTINGS), **SEARCHES[name], return_train_score=True).fit(X, y)
        for estimator in (mine, theirs)
    )
    assert_same_results(search.cv_results_, same.cv_results_)
    assert_same_results(search.cv_results_, other.cv_results_, rtol=1e-6)
    assert search.best_params_ == same.best_params_ == other.best_params_
    np.testing.assert_array_equal(search.predict(X), same.predict(X))
    assert search.score(X, y) == same.score(X, y) == pytest.approx(other.score(X, y), rel=1e-6)
    assert type(search.best_estimator_) is mine


@every_kind
def test_functions(kind):
    mine, theirs, _ = OF_KIND[kind]
    X, y = samples(kind)
    found = calls(ours, mine(**SETTINGS), X, y)
    same, other = (calls(model_selection, estimator(**SETTINGS), X, y) for estimator in (mine, theirs))
    for name, values in found.items():
        assert_same_results(values, same[name])
        assert_same_results(values, other[name], rtol=1e-6)


@every_kind
@pytest.mark.parametrize("settings", [{}, {"bootstrap": False}, {"max_features": 0.5, "max_samples": 0.7}])
def test_bagging(kind, settings):
    mine, theirs, _ = OF_KIND[kind]
    name, (X, y) = f"Bagging{kind.capitalize()}", samples(kind)
    settings = {"n_estimators": 5, "random_state": 3, **settings}
    many = getattr(ours, name)(mine(**SETTINGS), **settings).fit(X, y)
    same, other = (getattr(ensemble, name)(e(**SETTINGS), **settings).fit(X, y) for e in (mine, theirs))
    assert [member.random_state for member in many.estimators_] == [m.random_state for m in same.estimators_]
    for member, alone in zip(many.estimators_, same.estimators_, strict=True):
        np.testing.assert_array_equal(member.coefs_[0], alone.coefs_[0])
        assert member.loss_curve_ == alone.loss_curve_
    for features, expected in zip(many.estimators_features_, same.estimators_features_, strict=True):
        np.testing.assert_array_equal(features, expected)
    for drawn, expected in zip(many.estimators_samples_, same.estimators_samples_, strict=True):
        np.testing.assert_array_equal(drawn, expected)
    method = "predict_proba" if kind == "classifier" else "predict"
    np.testing.assert_array_equal(getattr(many, method)(X), getattr(same, method)(X))
    np.testing.assert_allclose(getattr(many, method)(X), getattr(other, method)(X), 1e-6)


@pytest.mark.parametrize("n_jobs", [1, 2, -1])
def test_bagging_takes_all_members_together_whatever_n_jobs_is(n_jobs, monkeypatch):
    sizes, X, y = watch(monkeypatch), *samples("classifier")
    many = ours.BaggingClassifier(MLPClassifier(**SETTINGS), 5, random_state=0, n_jobs=n_jobs).fit(X, y)
    assert max(sizes) == 5
    assert many.n_jobs == n_jobs
    alone = ensemble.BaggingClassifier(MLPClassifier(**SETTINGS), 5, random_state=0).fit(X, y)
    np.testing.assert_allclose(many.predict_proba(X), alone.predict_proba(X), 1e-14)


def test_bagging_goes_on_where_it_stopped():
    X, y = samples("classifier")
    many, alone = (
        module.BaggingClassifier(MLPClassifier(**SETTINGS), 2, random_state=0, warm_start=True)
        for module in (ours, ensemble)
    )
    for model in (many, alone):
        model.fit(X, y).set_params(n_estimators=5).fit(X, y)
    np.testing.assert_array_equal(many.predict_proba(X), alone.predict_proba(X))


def test_bagging_out_of_bag():
    X, y = samples("classifier")
    many, alone = (
        module.BaggingClassifier(MLPClassifier(**SETTINGS), 20, random_state=0, oob_score=True).fit(X, y)
        for module in (ours, ensemble)
    )
    assert many.oob_score_ == alone.oob_score_


def watch(monkeypatch):
    """The number of requests that each call answers."""
    from fastnn.training import together

    sizes, train = [], together.train
    monkeypatch.setattr(together, "train", lambda requests: sizes.append(len(requests)) or train(requests))
    return sizes


@pytest.mark.parametrize("cv", [2, 5])
def test_all_fits_are_trained_together(cv, monkeypatch):
    sizes, X, y = watch(monkeypatch), *samples("classifier")
    ours.GridSearchCV(MLPClassifier(**SETTINGS), GRID, cv=cv, refit=False).fit(X, y)
    assert sizes == [4 * cv]  # and all epochs at once, since none of them could be the last


def test_each_stops_by_itself():
    X, y = samples("classifier")
    estimator = MLPClassifier(**SETTINGS | {"max_iter": 60, "tol": 1e-2, "n_iter_no_change": 2})
    grid = {"learning_rate_init": [0.1, 0.01, 1e-4], "learning_rate": ["constant", "adaptive", "invscaling"]}
    grid |= {"solver": ["sgd", "adam"], "early_stopping": [False, True]}
    mine, same = (
        module.GridSearchCV(estimator, grid, cv=2, scoring=end, refit=False).fit(X, y)
        for module in (ours, model_selection)
    )
    assert_same_results(mine.cv_results_, same.cv_results_)
    assert len(set(mine.cv_results_["split0_test_epochs"])) > 5


def end(estimator, X, y):
    """Where training has ended."""
    return {"epochs": estimator.n_iter_, "weights": estimator.coefs_[0].sum(), "drawn": estimator._random_state.rand()}


@pytest.mark.parametrize("settings", [{"dropout": 0.5}, {"dtype": "float32"}, {"shuffle": False}, {"warm_start": True}])
def test_other_settings(settings):
    X, y = samples("classifier")
    mine, same = (
        module.GridSearchCV(MLPClassifier(**SETTINGS, **settings), GRID, cv=3, scoring="neg_log_loss").fit(X, y)
        for module in (ours, model_selection)
    )
    assert_same_results(mine.cv_results_, same.cv_results_)


def test_a_number_of_threads(monkeypatch):
    seen = []
    before = fnn.get_num_threads()
    fnn.set_num_threads(3)
    try:
        for n_jobs in (None, 1, 2, 8, -1, -2):
            callbacks = [lambda *args: seen.append(fnn.get_num_threads())]
            estimator = MLPClassifier(**SETTINGS | {"max_iter": 1}, callbacks=callbacks)
            ours.cross_val_score(estimator, *samples("classifier"), cv=2, n_jobs=n_jobs)
        with joblib.parallel_config(n_jobs=1):
            ours.cross_val_score(estimator, *samples("classifier"), cv=2)
        assert fnn.get_num_threads() == 3
    finally:
        fnn.set_num_threads(before)
    assert seen[::2] == seen[1::2] == [3, 1, 2, 3, 3, 2, 1]


@pytest.mark.parametrize("n_jobs", [0, 1.5, "two"])
def test_what_scikit_learn_refuses(n_jobs):
    errors = []
    for module in (ours, model_selection):
        with pytest.raises(ValueError, match="n_jobs") as caught:
            module.GridSearchCV(MLPClassifier(**SETTINGS), GRID, n_jobs=n_jobs).fit(*samples("classifier"))
        errors.append((caught.type, str(caught.value)))
    assert errors[0][0] is errors[1][0]


def test_the_names():
    assert {"GridSearchCV", "HalvingRandomSearchCV", "BaggingRegressor", "learning_curve"} <= {*NAMES} <= {*dir(ours)}
    assert len(NAMES) == 11
    with pytest.raises(AttributeError, match="no attribute 'GridSearch'"):
        ours.GridSearch  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_they_are_scikit_learns_own_extended(name):
    mine = getattr(ours, name)
    theirs = getattr(ensemble if name.startswith("Bagging") else model_selection, name)
    assert pickle.loads(pickle.dumps(mine)) is mine
    assert mine.__doc__.startswith(f"scikit-learn's {name}, with ")
    assert mine.__doc__.endswith(theirs.__doc__.rstrip().rpartition("\n")[2].strip())
    assert not isinstance(mine, type) or issubclass(mine, theirs)


@every_search
def test_copies(name):
    search = getattr(ours, name)(MLPClassifier(**SETTINGS), **SEARCHES[name], cv=3, n_jobs=2)
    theirs = getattr(model_selection, name)(MLPClassifier(**SETTINGS), **SEARCHES[name], cv=3, n_jobs=2)
    assert repr(search) == repr(theirs)
    assert search.get_params().keys() == theirs.get_params().keys() | {"checkpoint"}
    assert type(clone(search)) is type(search)
    X, y = samples("classifier")
    fitted = pickle.loads(pickle.dumps(search.fit(X, y)))
    np.testing.assert_array_equal(fitted.predict(X), search.predict(X))
    assert fitted.cv_results_.keys() == search.cv_results_.keys()


class TestAround:
    """What scikit-learn's searches can do with their scores and metadata."""

    def both(self, estimator, grid=GRID, params=None, **settings):
        X, y = samples("classifier")
        mine, same = (
            module.GridSearchCV(estimator, grid, cv=3, **settings).fit(X, y, **params or {})
            for module in (ours, model_selection)
        )
        assert_same_results(mine.cv_results_, same.cv_results_)
        return mine, same

    def test_several_metrics(self):
        scoring = ["accuracy", "neg_log_loss"]
        mine, same = self.both(
            MLPClassifier(**SETTINGS), scoring=scoring, refit="neg_log_loss", return_train_score=True
        )
        assert mine.best_params_ == same.best_params_
        assert mine.multimetric_

    def test_a_choice_of_the_users(self):
        mine, _ = self.both(MLPClassifier(**SETTINGS), refit=lambda results: 2)
        assert mine.best_index_ == 2

    def test_without_a_refit(self):
        assert not hasattr(self.both(MLPClassifier(**SETTINGS), refit=False)[0], "best_estimator_")

    @pytest.mark.skipif(RELEASE < (1, 7), reason="this scikit-learn weighs no samples")
    def test_weights(self):
        weights = np.random.default_rng(0).uniform(0.1, 2, 100)
        self.both(MLPClassifier(**SETTINGS), params={"sample_weight": weights})

    @pytest.mark.skipif(RELEASE < (1, 7), reason="this scikit-learn weighs no samples")
    def test_routed_metadata(self):
        weights = np.random.default_rng(0).uniform(0.1, 2, 100)
        with sklearn.config_context(enable_metadata_routing=True):
            estimator = (
                MLPClassifier(**SETTINGS).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
            )
            mine, _ = self.both(estimator, params={"sample_weight": weights})
            pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=True), estimator)
            grid = {f"mlpclassifier__{name}": values for name, values in GRID.items()}
            self.both(pipeline, grid, params={"sample_weight": weights})
        unweighted = ours.GridSearchCV(MLPClassifier(**SETTINGS), GRID, cv=3).fit(*samples("classifier"))
        assert any(mine.cv_results_["mean_test_score"] != unweighted.cv_results_["mean_test_score"])

    def test_groups(self):
        X, y = samples("classifier")
        cv = model_selection.GroupKFold(3)
        mine, same = (
            module.cross_val_score(MLPClassifier(**SETTINGS), X, y, cv=cv, groups=np.arange(100) % 7)
            for module in (ours, model_selection)
        )
        np.testing.assert_array_equal(mine, same)

    def test_fitted_estimators(self):
        X, y = samples("classifier")
        pipeline = make_pipeline(StandardScaler(), MLPClassifier(**SETTINGS))
        mine, same = (
            module.cross_validate(pipeline, X, y, cv=3, return_estimator=True, return_indices=True)
            for module in (ours, model_selection)
        )
        for one, other in zip(mine["estimator"], same["estimator"], strict=True):
            np.testing.assert_array_equal(one.predict(X), other.predict(X))
            assert one.memory is None
        for one, other in zip(mine["indices"]["test"], same["indices"]["test"], strict=True):
            np.testing.assert_array_equal(one, other)

    def test_a_search_within(self):
        X, y = samples("classifier")
        mine, same = (
            module.cross_validate(module.GridSearchCV(MLPClassifier(**SETTINGS), GRID, cv=2), X, y, cv=2)
            for module in (ours, model_selection)
        )
        assert_same_results(mine, same)

    def test_scikit_learns_search_within(self):
        X, y = samples("classifier")
        search = model_selection.GridSearchCV(MLPClassifier(**SETTINGS), GRID, cv=2, n_jobs=2)
        mine, same = (module.cross_validate(search, X, y, cv=2) for module in (ours, model_selection))
        assert_same_results(mine, same)

    def test_an_ensemble_within(self, monkeypatch):
        sizes = watch(monkeypatch)
        grid = {"estimator__alpha": [1e-3, 1.0]}
        X, y = samples("classifier")
        mine, same = (
            module.GridSearchCV(bagging.BaggingClassifier(MLPClassifier(**SETTINGS), 3, random_state=0), grid, cv=2)
            for module, bagging in ((ours, ours), (model_selection, ensemble))
        )
        assert_same_results(mine.fit(X, y).cv_results_, same.fit(X, y).cv_results_)
        assert max(sizes) == 2 * 2 * 3
        assert [thread for thread in threading.enumerate() if thread.name.startswith("fastnn task")] == []
