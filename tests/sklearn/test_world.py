"""scikit-learn's tools around an estimator: its own checks, searches, ensembles, workers, pickles and copies."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pytest
import sklearn.neural_network as theirs
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingRegressor, VotingClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import fastnn.sklearn as ours
from tests.processes import run
from tests.sklearn.pairs import ESTIMATORS, assert_close, data, every_estimator, outcome

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.{ConvergenceWarning.__name__}"),
    # Python 3.12 warns of every fork of a process with threads, which joblib's multiprocessing does.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

SETTINGS = {"hidden_layer_sizes": (6,), "max_iter": 8, "random_state": 0}


def results(estimator):
    """What each of scikit-learn's checks says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checks = check_estimator(estimator, on_fail=None, on_skip=None)
    return {str(check["check_name"]): (check["status"], check["exception"]) for check in checks}


@every_estimator
def test_scikit_learns_own_checks(name):
    mine, expected = (results(getattr(module, name)(max_iter=30)) for module in (ours, theirs))
    assert mine.keys() >= expected.keys()
    worse = {check: mine[check] for check in mine if mine[check][0] != expected.get(check, ["passed"])[0]}
    assert not worse
    assert sum(status == "passed" for status, _ in mine.values()) > 40


class TestParameters:
    @every_estimator
    def test_all_of_scikit_learns_with_the_same_defaults(self, name):
        mine, expected = getattr(ours, name)().get_params(), getattr(theirs, name)().get_params()
        assert {key: mine[key] for key in expected} == expected

    @every_estimator
    def test_in_the_same_places(self, name):
        positional = ["loss", (3,), "tanh"] if "loss" in getattr(theirs, name)().get_params() else [(3,), "tanh"]
        mine, expected = (getattr(module, name)(*positional).get_params() for module in (ours, theirs))
        assert {key: mine[key] for key in expected} == expected

    @every_estimator
    def test_clones_and_reprs(self, name):
        model = getattr(ours, name)(alpha=0.5, hidden_layer_sizes=(2, 3)).set_params(tol=1e-3)
        twin = clone(model)
        assert type(twin) is type(model)
        assert twin.get_params() == model.get_params()
        assert repr(model) == repr(getattr(theirs, name)(alpha=0.5, hidden_layer_sizes=(2, 3), tol=1e-3))
        with pytest.raises(ValueError, match="Invalid parameter 'alfa'"):
            model.set_params(alfa=1)
        with pytest.raises(NotFittedError):
            model.predict([[0.0]])

    @every_estimator
    def test_it_is_scikit_learns_kind(self, name):
        model = getattr(ours, name)()
        assert isinstance(model, getattr(theirs, name))
        assert is_classifier(model) == (name == "MLPClassifier")
        assert is_regressor(model) == (name == "MLPRegressor")


class TestTools:
    """Each tool gives with fastnn's estimator what it gives with scikit-learn's."""

    def both(self, use, name="MLPClassifier", rtol=1e-6):
        mine, expected = (use(getattr(module, name)(**SETTINGS)) for module in (ours, theirs))
        assert_close(mine, expected, rtol, use.__name__)

    def test_pipeline(self):
        X, y = data("wine")
        self.both(lambda model: make_pipeline(StandardScaler(), model).fit(X * 3 + 1, y).predict_proba(X))

    def test_grid_search(self):
        X, y = data("iris")

        def search(model):
            grid = {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(4,), (5, 5)]}
            found = GridSearchCV(model, grid, cv=3).fit(X, y)
            return [found.cv_results_["mean_test_score"], found.best_params_, found.predict(X)]

        self.both(search)

    @every_estimator
    def test_cross_validation(self, name):
        X, y = data("iris")
        self.both(lambda model: cross_val_score(model, X, y, cv=3), name)
        method = "predict_proba" if name == "MLPClassifier" else "predict"
        self.both(lambda model: cross_val_predict(model, X, y, cv=3, method=method), name)

    def test_voting(self):
        X, y = data("iris")
        other = LogisticRegression()
        self.both(
            lambda model: VotingClassifier([("a", model), ("b", other)], voting="soft").fit(X, y).predict_proba(X)
        )

    @pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
    def test_calibration(self, method):
        X, y = data("breast_cancer")
        self.both(lambda model: CalibratedClassifierCV(model, method=method, cv=3).fit(X, y).predict_proba(X))

    @every_estimator
    def test_permutation_importance(self, name):
        X, y = data("iris")
        repeats = {"n_repeats": 3, "random_state": 0}
        self.both(lambda model: permutation_importance(model.fit(X, y), X, y, **repeats).importances, name)

    def test_bagging(self):
        X, y = data("diabetes")
        self.both(lambda model: BaggingRegressor(model, 3, random_state=0).fit(X, y).predict(X), "MLPRegressor")

    def test_several_outputs(self):
        X, y = data("iris")
        self.both(lambda model: MultiOutputClassifier(model).fit(X, np.column_stack([y, y > 0])).predict(X))


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_workers(backend):
    X, y = data("iris")
    model = ours.MLPClassifier(**SETTINGS)
    expected = cross_val_score(model, X, y, cv=4)
    ours.MLPClassifier(**SETTINGS).fit(X, y)  # fastnn's threads have run before the process forks
    with joblib.parallel_backend(backend, n_jobs=2):
        found = cross_val_score(model, X, y, cv=4)
    np.testing.assert_array_equal(found, expected)


def test_fits_in_threads_do_not_meet():
    X, y = data("wine")
    models = [ours.MLPClassifier(**SETTINGS | {"random_state": seed, "alpha": 0.1 * seed}) for seed in range(8)]
    expected = [clone(model).fit(X, y).coefs_ for model in models]
    found = joblib.Parallel(n_jobs=4, backend="threading")(joblib.delayed(model.fit)(X, y) for model in models)
    for model, coefs in zip(found, expected, strict=True):
        for mine, right in zip(model.coefs_, coefs, strict=True):
            np.testing.assert_array_equal(mine, right)


class TestCopies:
    def test_a_pickle_is_read_where_only_fastnn_is_imported(self, tmp_path):
        X, y = data("iris")
        models = [getattr(ours, name)(**SETTINGS, solver=solver) for name in ESTIMATORS for solver in ("adam", "lbfgs")]
        (tmp_path / "models.pickle").write_bytes(pickle.dumps([model.fit(X, y) for model in models]))
        np.save(tmp_path / "X.npy", X)
        run(
            "import pickle, fastnn, numpy\n"
            f"folder = {str(tmp_path)!r}\n"
            "models = pickle.load(open(folder + '/models.pickle', 'rb'))\n"
            "X = numpy.load(folder + '/X.npy')\n"
            "numpy.save(folder + '/found.npy', [model.predict(X) for model in models])\n"
        )
        np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), [model.predict(X) for model in models])

    @every_estimator
    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
    def test_copies_predict_and_train_on(self, name, copied):
        X, y = data("iris")
        model = getattr(ours, name)(**SETTINGS).fit(X, y)
        twin = copied(model)
        np.testing.assert_array_equal(twin.predict(X), model.predict(X))
        before = model.coefs_[0].copy()
        twin.partial_fit(X, y)
        np.testing.assert_array_equal(model.coefs_[0], before)
        assert not np.array_equal(twin.coefs_[0], before)

    @every_estimator
    def test_a_copy_trains_on_as_scikit_learns_does(self, name):
        X, y = data("iris")
        mine, expected = (getattr(module, name)(**SETTINGS).fit(X, y) for module in (ours, theirs))
        for _ in range(3):
            mine, expected = (copy.deepcopy(model).partial_fit(X, y) for model in (mine, expected))
        assert_close(mine.coefs_, expected.coefs_, 1e-9, "coefs_")

    def test_a_pickle_is_not_much_larger_than_scikit_learns(self):
        X, y = data("digits")
        mine, expected = (len(pickle.dumps(module.MLPClassifier(max_iter=1).fit(X, y))) for module in (ours, theirs))
        assert mine <= 1.1 * expected


class TestWeightsOfTheUser:
    """What a user writes into coefs_ and intercepts_ is what predicts, and what trains on."""

    def changed(self, change, name="MLPClassifier"):
        X, y = data("iris")
        mine, expected = (getattr(module, name)(**SETTINGS).fit(X, y) for module in (ours, theirs))
        for model in (mine, expected):
            model.predict(X)
            change(model)
        assert_close(mine.predict(X), expected.predict(X), 1e-9, "predict")
        for model in (mine, expected):
            model.partial_fit(X, y)
        assert_close(mine.coefs_, expected.coefs_, 1e-9, "coefs_")
        assert_close(mine.predict(X), expected.predict(X), 1e-9, "predict")

    @every_estimator
    def test_in_place(self, name):
        def change(model):
            model.coefs_[0][:2] *= -1.0
            model.intercepts_[-1] += 0.5

        self.changed(change, name)

    @every_estimator
    def test_an_array_replaced(self, name):
        def change(model):
            model.coefs_[1] = np.asfortranarray(2 * model.coefs_[1])
            model.intercepts_[0] = np.zeros_like(model.intercepts_[0])

        self.changed(change, name)

    def test_the_lists_replaced(self):
        def change(model):
            model.coefs_ = [-w for w in model.coefs_]
            model.intercepts_ = [b + 1 for b in model.intercepts_]

        self.changed(change)

    def test_a_warm_start_begins_with_them(self):
        X, y = data("iris")
        both = [module.MLPClassifier(**SETTINGS, warm_start=True).fit(X, y) for module in (ours, theirs)]
        for model in both:
            model.coefs_[0][...] = 0.25
            model.fit(X, y)
        assert_close(both[0].coefs_, both[1].coefs_, 1e-9, "coefs_")

    def test_other_shapes_are_not_read_past_their_end(self):
        X, y = data("iris")
        both = [module.MLPClassifier(**SETTINGS).fit(X, y) for module in (ours, theirs)]
        for model in both:
            model.coefs_[0] = model.coefs_[0][:, :3]
        mine, expected = (outcome(lambda model=model: model.predict(X)) for model in both)
        assert mine.error
        assert mine.error[0] is expected.error[0]
