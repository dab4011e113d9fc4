"""Fits that are trained together: what goes wrong in one of them, what each says, and what is left behind."""

import _thread
import os
import signal
import sys
import threading
import warnings
from collections import Counter
from contextlib import redirect_stdout
from io import StringIO

import joblib
import numpy as np
import pytest
import sklearn
from joblib.parallel import LokyBackend
from sklearn import ensemble, model_selection
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn as fnn
import fastnn.sklearn as ours
from fastnn.sklearn import MLPClassifier
from fastnn.sklearn import _together as backend
from fastnn.training import gathering
from tests.interrupting import Interrupt
from tests.sklearn.pairs import data
from tests.sklearn.test_searches import GRID, SETTINGS, assert_same_results, samples, watch

quiet = pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.{ConvergenceWarning.__name__}")
not_finite = pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite:UserWarning")
X, Y = samples("classifier")


@pytest.fixture(autouse=True)
def nothing_is_left():
    filters, shows, config = warnings.filters, warnings.showwarning, sklearn.get_config()
    before = list(filters), sys.stdout, joblib.parallel.get_active_backend()[1], fnn.get_num_threads()
    yield
    assert warnings.filters is filters
    assert (warnings.showwarning, sklearn.get_config()) == (shows, config)
    assert (list(filters), sys.stdout, joblib.parallel.get_active_backend()[1], fnn.get_num_threads()) == before
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("fastnn task")] == []


def both(estimator, grid=GRID, **settings):
    """The same search twice, and what each warned of."""
    found = []
    for module in (ours, model_selection):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            search = module.GridSearchCV(estimator, grid, cv=3, **settings).fit(X, Y)
        found.append((search, Counter((w.category, str(w.message).partition("Below")[0]) for w in caught)))
    (mine, mine_warned), (same, same_warned) = found
    assert_same_results(mine.cv_results_, same.cv_results_)
    assert mine_warned == same_warned
    return mine, mine_warned


class TestErrors:
    def test_parameters_that_do_not_fit(self):
        mine, warned = both(MLPClassifier(**SETTINGS), {"alpha": [-1.0, 1e-3], "hidden_layer_sizes": [(3,), (0,)]})
        assert np.isnan(mine.cv_results_["mean_test_score"]).sum() == 3
        assert [category for category, _ in warned].count(FitFailedWarning) == 1
        assert warned.total() == 3 + 1 + 1 + 1  # fits that have not converged, failures, scores, and the refit

    def test_a_score_of_ones_own(self):
        mine, _ = both(MLPClassifier(**SETTINGS), {"alpha": [-1.0, 1e-3]}, error_score=-7)
        assert mine.cv_results_["mean_test_score"][0] == -7

    def test_candidates_that_diverge(self):
        grid = {"learning_rate_init": [1e30, 1e-3], "solver": ["sgd"], "max_iter": [4, 9]}
        both(MLPClassifier(**SETTINGS), grid, scoring=losses)
        both(MLPClassifier(**SETTINGS), grid)

    @quiet
    @pytest.mark.parametrize("error", [RuntimeError("from a callback"), SystemExit("another")])
    def test_the_first_is_raised(self, error):
        ran = []

        def fail(estimator, epoch, values):
            ran.append((estimator.alpha, epoch))
            if (estimator.alpha, epoch) == (1.0, 2):
                raise error

        estimator = MLPClassifier(**SETTINGS, callbacks=[fail])
        with pytest.raises(type(error), match=str(error)) as caught:
            ours.GridSearchCV(estimator, {"alpha": [1e-3, 1.0]}, cv=2, error_score="raise").fit(X, Y)
        assert caught.value is error or error.args[:1] == caught.value.args[:1]
        assert max(epoch for _, epoch in ran) == 2  # the others have gone no further

    @quiet
    @not_finite
    def test_one_of_them_alone(self):
        def fail(estimator, epoch, values):
            if estimator.alpha == 1.0:
                raise RuntimeError("from a callback")

        with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 4"):
            search = ours.GridSearchCV(MLPClassifier(**SETTINGS, callbacks=[fail]), {"alpha": [1e-3, 1.0]}, cv=2).fit(
                X, Y
            )
        assert np.isfinite(search.cv_results_["mean_test_score"]).tolist() == [True, False]

    @quiet
    @not_finite
    def test_within_another_search(self):
        inner = ours.GridSearchCV(MLPClassifier(**SETTINGS), {"alpha": [1e-3, -1.0]}, cv=2, error_score="raise")
        with pytest.raises(ValueError, match="'alpha' parameter"):
            ours.cross_val_score(inner, X, Y, cv=3, error_score="raise")
        with pytest.warns(FitFailedWarning, match="3 fits failed out of a total of 6"):
            ours.GridSearchCV(inner, {"param_grid": [{"alpha": [1e-3]}, {"alpha": [1e-3, -1.0]}]}, cv=3).fit(X, Y)

    @quiet
    def test_where_the_candidates_come_from(self):
        def candidates():
            yield {"alpha": 1.0}
            raise LookupError("no more candidates")

        class Search(ours.GridSearchCV):
            def _run_search(self, evaluate_candidates):
                evaluate_candidates(candidates())

        with pytest.raises(LookupError, match="no more candidates"):
            Search(MLPClassifier(**SETTINGS), {}).fit(X, Y)


def losses(estimator, X, y):
    return estimator.loss_


class TestWarnings:
    def test_each_fit_that_has_not_converged(self):
        _, warned = both(MLPClassifier(**SETTINGS))
        assert warned.total() == 4 * 3 + 1

    @pytest.mark.parametrize("action", ["default", "once", "module"])
    def test_what_python_shows(self, action):
        shown = []
        for module in (ours, model_selection):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter(action)
                module.GridSearchCV(MLPClassifier(**SETTINGS), GRID, cv=3).fit(X, Y)
            shown.append(len(caught))
        assert shown[0] == shown[1]

    def test_an_error(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            with pytest.raises(ConvergenceWarning):
                ours.cross_val_score(MLPClassifier(**SETTINGS), X, Y, error_score="raise")

    @quiet
    def test_each_task_catches_its_own(self):
        found = ours.cross_validate(Catching(MLPClassifier(**SETTINGS)), X, Y, cv=4, return_estimator=True)
        for i, estimator in enumerate(found["estimator"]):
            assert estimator.caught_ == [f"epoch {epoch} of {estimator.name_}" for epoch in (1, 2, 3, 4, 5, 6)]
            assert estimator.printed_ == "".join(f"{epoch} {estimator.name_}\n" for epoch in (1, 2, 3, 4, 5, 6))
            assert estimator.name_ not in [other.name_ for other in found["estimator"][:i]]


class Catching(ClassifierMixin, BaseEstimator):
    """Catches what its own network warns of and prints."""

    def __init__(self, model=None):
        self.model = model

    def fit(self, X, y):
        self.name_, self.classes_ = float(X.sum()), np.unique(y)
        with warnings.catch_warnings(record=True) as caught, redirect_stdout(StringIO()) as printed:
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("always", "epoch")
            self.model_ = clone(self.model).set_params(callbacks=[self.say]).fit(X, y)
        self.caught_, self.printed_ = [str(w.message) for w in caught], printed.getvalue()
        return self

    def say(self, estimator, epoch, values):
        warnings.warn(f"epoch {epoch} of {self.name_}", stacklevel=1)
        print(epoch, self.name_)

    def predict(self, X):
        return self.model_.predict(X)


@quiet
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


@quiet
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
        both(OneVsRestClassifier(MLPClassifier(**SETTINGS)), grid)

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


class Cluster(LokyBackend):
    """Workers elsewhere, as far as fastnn can tell: processes with memory of their own."""

    def effective_n_jobs(self, n_jobs):
        return 2


@quiet
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


@quiet
class TestInterruptions:
    @pytest.mark.parametrize("raise_signal", [_thread.interrupt_main, lambda: os.kill(os.getpid(), signal.SIGINT)])
    def test_ctrl_c_ends_all_after_their_epoch(self, raise_signal):
        seen = []

        def callback(estimator, epoch, values):
            seen.append(epoch)
            if len(seen) == 5:
                raise_signal()

        estimator = MLPClassifier(
            **SETTINGS | {"max_iter": 10_000, "tol": 0, "n_iter_no_change": 10_000}, callbacks=[callback]
        )
        with pytest.raises(KeyboardInterrupt):
            ours.cross_val_score(estimator, X, Y, cv=3)
        assert max(seen) < 2000

    def test_at_any_moment(self):
        """Wherever in the calling thread it comes, all threads end, and it is raised."""
        files = {gathering.__file__, backend.__file__}
        estimator, n, come = MLPClassifier(**SETTINGS | {"max_iter": 2}), 0, True

        def interrupt():
            raise KeyboardInterrupt

        while come:
            n += 1
            tracer = Interrupt(n, files, interrupt)
            sys.settrace(tracer)
            try:
                ours.cross_val_score(estimator, X, Y, cv=2)
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(None)
            come = tracer.left <= 0
            for thread in threading.enumerate():
                if thread.name.startswith("fastnn task"):
                    thread.join(20)
                    assert not thread.is_alive(), n
        assert n > 40


@quiet
def test_data_of_another_kind():
    digits, labels = data("wine")
    assert ours.cross_val_score(MLPClassifier(**SETTINGS), digits.tolist(), labels.tolist()).shape == (5,)
