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

import numpy as np
import pytest
from sklearn import model_selection
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning

import fastnn.sklearn as ours
from fastnn.sklearn import MLPClassifier
from fastnn.sklearn import _together as backend
from fastnn.training import gathering
from tests.interrupting import Interrupt
from tests.sklearn.test_searches import GRID, SETTINGS, assert_same_results, samples

quiet = pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.{ConvergenceWarning.__name__}")
not_finite = pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite:UserWarning")
pytestmark = pytest.mark.usefixtures("nothing_is_left")
X, Y = samples("classifier")


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

    @pytest.mark.parametrize("settings", [{"cv": "three"}, {"scoring": "unknown"}, {"cv": 1000}])
    def test_what_scikit_learn_refuses(self, settings):
        with pytest.raises(ValueError, match=r"cv|unknown|n_splits"):
            ours.GridSearchCV(MLPClassifier(**SETTINGS), GRID, **{"cv": 3, "n_jobs": 1, **settings}).fit(X, Y)

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


@pytest.fixture
def ctrl_c_is_heard():
    """A shell's background job ignores SIGINT, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@quiet
@pytest.mark.usefixtures("ctrl_c_is_heard")
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
