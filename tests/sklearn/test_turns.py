"""Fits that are trained together: whose turn it is, what runs beside them, and what travels to a cluster."""

import os
import sys
import threading
import warnings

import joblib
import numpy as np
import pytest
import sklearn
from joblib.parallel import LokyBackend
from sklearn import ensemble, model_selection
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn as fnn
import fastnn.sklearn as ours
from fastnn.sklearn import MLPClassifier
from fastnn.sklearn import _together as backend
from fastnn.training import gathering
from tests.sklearn.pairs import data
from tests.sklearn.test_searches import GRID, SETTINGS, assert_same_results, samples, watch

pytestmark = [
    pytest.mark.usefixtures("nothing_is_left"),
    pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.{ConvergenceWarning.__name__}"),
]
X, Y = samples("classifier")


class TestTurns:
    def test_callbacks_run_in_turn(self):
        seen, threads = [], []

        def callback(estimator, epoch, values):
            threads.append((threading.get_ident(), estimator.alpha))
            seen.append((epoch, estimator.alpha))

        grid = {"alpha": [0.1, 0.2, 0.3]}
        cv = [(np.arange(100), np.arange(100))]
        ours.GridSearchCV(MLPClassifier(**SETTINGS, callbacks=[callback]), grid, cv=cv, refit=False).fit(X, Y)
        assert seen == [(epoch, alpha) for epoch in (1, 2, 3, 4, 5, 6) for alpha in grid["alpha"]]
        assert len(set(threads)) == 3
        assert threading.get_ident() not in dict(threads)

    def test_never_two_at_once(self):
        inside, seen = [], []

        def callback(estimator, epoch, values):
            inside.append(1)
            threading.Event().wait(0.0005)
            seen.append(len(inside))
            inside.pop()

        ours.cross_val_score(MLPClassifier(**SETTINGS, callbacks=[callback]), X, Y, cv=4)
        assert set(seen) == {1}

    def test_contexts_are_the_callers(self, monkeypatch):
        seen = []

        def callback(estimator, epoch, values):
            backend = sys.modules["fastnn.backend"].active().__name__
            seen.append((backend, np.geterr()["over"], sklearn.get_config()["working_memory"]))

        estimator = MLPClassifier(**SETTINGS, callbacks=[callback])
        with fnn.use_backend("numpy"), np.errstate(over="raise"), sklearn.config_context(working_memory=7):
            ours.cross_val_score(estimator, X, Y, cv=2)
        assert set(seen) == {("fastnn.reference", "raise", 7)}

    def test_a_backend_of_a_tasks_own(self):
        names = set()

        class Numpy(MLPClassifier):
            def fit(self, X, y):
                with fnn.use_backend("numpy"):
                    names.add(sys.modules["fastnn.backend"].active().__name__)
                    return super().fit(X, y)

        mine = ours.cross_val_score(Numpy(**SETTINGS), X, Y, cv=2, scoring="neg_log_loss")
        with fnn.use_backend("numpy"):
            expected = model_selection.cross_val_score(MLPClassifier(**SETTINGS), X, Y, cv=2, scoring="neg_log_loss")
        np.testing.assert_array_equal(mine, expected)
        assert names == {"fastnn.reference"}

    def test_no_more_at_once_than_asked(self, monkeypatch):
        monkeypatch.setattr("fastnn.sklearn._parallel.TASKS_PER_THREAD", 3)
        sizes = watch(monkeypatch)
        mine = ours.GridSearchCV(MLPClassifier(**SETTINGS), GRID, cv=3, n_jobs=1).fit(X, Y)
        assert sizes == [3, 3, 3, 3]
        same = model_selection.GridSearchCV(MLPClassifier(**SETTINGS), GRID, cv=3).fit(X, Y)
        assert_same_results(mine.cv_results_, same.cv_results_)

    def test_nor_than_memory_allows(self, monkeypatch):
        monkeypatch.setattr("fastnn.sklearn._parallel._MOST_BYTES", 5 * X.nbytes)
        sizes = watch(monkeypatch)
        ours.GridSearchCV(MLPClassifier(**SETTINGS), GRID, cv=3, n_jobs=1, refit=False).fit(X, Y)
        assert sizes == [5, 5, 2]

    def test_where_there_can_be_no_more_threads(self, monkeypatch):
        started, start = [], threading.Thread.start

        def scarce(thread):
            if thread.name == "fastnn task":
                if len(started) == 2:
                    raise RuntimeError("can't start new thread")
                started.append(thread)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", scarce)
        sizes = watch(monkeypatch)
        ours.GridSearchCV(MLPClassifier(**SETTINGS), GRID, cv=2, refit=False).fit(X, Y)
        assert sizes == [2, 2, 2, 2]
        started[:] = [None, None]
        with pytest.raises(RuntimeError, match="can't start new thread"):
            ours.GridSearchCV(MLPClassifier(**SETTINGS), GRID, cv=2, refit=False).fit(X, Y)


class TestOthers:
    def test_without_ours_everything_is_scikit_learns(self, monkeypatch):
        seen = []
        monkeypatch.setattr(backend.TogetherBackend, "configure", lambda *args, **kwargs: seen.append(args))
        forest = ensemble.RandomForestClassifier(3, random_state=0)
        lbfgs = MLPClassifier(**SETTINGS | {"solver": "lbfgs"})
        for estimator in (forest, make_pipeline(StandardScaler(), LogisticRegression()), lbfgs):
            ours.cross_val_score(estimator, X, Y, cv=2)
            ours.BaggingClassifier(estimator, 2).fit(X, Y).predict(X)
        ours.BaggingClassifier(n_estimators=2).fit(X, Y)
        assert seen == []

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_they_run_in_their_turn(self, n_jobs):
        columns = ColumnTransformer([("a", StandardScaler(), [0, 1]), ("b", StandardScaler(), [2, 3])], n_jobs=2)
        pipeline = make_pipeline(columns, LogisticRegression())
        grid = [
            {"logisticregression": [LogisticRegression(C=0.1), MLPClassifier(**SETTINGS)]},
            {"logisticregression": [MLPClassifier(**SETTINGS)], "logisticregression__solver": ["lbfgs", "sgd"]},
        ]
        mine = ours.GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs).fit(X, Y)
        same = model_selection.GridSearchCV(pipeline, grid, cv=2).fit(X, Y)
        for name in ("split0_test_score", "split1_test_score", "rank_test_score"):
            np.testing.assert_array_equal(mine.cv_results_[name], same.cv_results_[name])

    def test_one_within_theirs(self):
        grid = {"estimator__alpha": [1e-3, 1.0]}
        estimator = OneVsRestClassifier(MLPClassifier(**SETTINGS))
        mine, same = (module.GridSearchCV(estimator, grid, cv=3).fit(X, Y) for module in (ours, model_selection))
        assert_same_results(mine.cv_results_, same.cv_results_)

    def test_the_refit_finds_joblib_as_it_was(self):
        seen = []

        class Looking(MLPClassifier):
            def fit(self, X, y):
                seen.append((len(X), type(joblib.parallel.get_active_backend()[0]).__name__))
                return super().fit(X, y)

        with joblib.parallel_config("threading", n_jobs=2):
            ours.GridSearchCV(Looking(**SETTINGS), {"alpha": [1.0]}, cv=2).fit(X, Y)
        assert seen == [(50, "SequentialBackend"), (50, "SequentialBackend"), (100, "ThreadingBackend")]

    def test_bagging_predicts_in_threads(self, monkeypatch):
        many = ours.BaggingClassifier(MLPClassifier(**SETTINGS), 4, random_state=0, n_jobs=2).fit(X, Y)
        for method in ("submit", "apply_async"):
            monkeypatch.setattr(LokyBackend, method, None, raising=False)
        alone = ensemble.BaggingClassifier(MLPClassifier(**SETTINGS), 4, random_state=0).fit(X, Y)
        np.testing.assert_allclose(many.predict_proba(X), alone.predict_proba(X), 1e-14)

    def test_threads_of_bagging_leave_the_filters_of_warnings(self):
        many = ours.BaggingClassifier(MLPClassifier(**SETTINGS), 4, random_state=0, n_jobs=2).fit(X, Y)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for _ in range(40):
                found, filters = warnings.filters, list(warnings.filters)
                many.predict_proba(X)
                assert warnings.filters is found
                assert found == filters
        finally:
            sys.setswitchinterval(interval)


class Cluster(LokyBackend):
    """Workers elsewhere, as far as fastnn can tell: processes with memory of their own."""

    def effective_n_jobs(self, n_jobs):
        return 2


class TestElsewhere:
    def test_whole_groups_travel(self):
        joblib.register_parallel_backend("cluster", Cluster)
        inner = ours.GridSearchCV(Named(**SETTINGS), GRID, cv=3, scoring=process, n_jobs=None)
        with joblib.parallel_config("cluster", n_jobs=2):
            mine = inner.fit(X, Y)
            score = ours.GridSearchCV(MLPClassifier(**SETTINGS), GRID, cv=3).fit(X, Y)
        same = model_selection.GridSearchCV(MLPClassifier(**SETTINGS), GRID, cv=3).fit(X, Y)
        assert_same_results(score.cv_results_, same.cv_results_)
        gathered = np.array([mine.cv_results_[f"split{i}_test_score"] for i in range(3)]).T.ravel()
        assert len(np.unique(gathered)) == 2
        with joblib.parallel_config("cluster", n_jobs=2), pytest.raises(ValueError, match="'alpha' parameter"):
            ours.cross_val_score(MLPClassifier(alpha=-1), X, Y, error_score="raise")


class Named(MLPClassifier):
    """Knows in which process it was trained, and in a gathering of how many."""

    def fit(self, X, y):
        assert gathering.current() is not None or len(X) == 100
        super().fit(X, y)
        self.process_ = os.getpid()
        return self


def process(estimator, X, y):
    return estimator.process_


def test_data_of_another_kind():
    digits, labels = data("wine")
    assert ours.cross_val_score(MLPClassifier(**SETTINGS), digits.tolist(), labels.tolist()).shape == (5,)
