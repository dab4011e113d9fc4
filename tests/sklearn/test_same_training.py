"""How training starts, goes on and ends: as in scikit-learn, warnings, printed lines and generators included."""

import io

import numpy as np
import pytest

from tests.sklearn.pairs import (
    CLASSIFIER,
    DATASETS,
    RELEASE,
    assert_same_answers,
    data,
    every_estimator,
    multilabel,
    outcome,
    pair,
    same,
    same_fit,
)

DATA = {CLASSIFIER: "wine", "MLPRegressor": "linnerud"}
SGD = {"solver": "sgd", "learning_rate_init": 0.05}

every_solver = pytest.mark.parametrize("solver", [SGD, {"solver": "adam"}], ids=["sgd", "adam"])


class TestBatches:
    @pytest.mark.parametrize("batch_size", [1, 7, 59, 177, 178])
    def test_sizes_that_do_not_divide(self, batch_size):
        same_fit(pair(CLASSIFIER, batch_size=batch_size, max_iter=3), *data("wine"))

    @every_estimator
    def test_more_than_there_are_samples(self, name):
        result = same_fit(pair(name, batch_size=1000, max_iter=3), *data(DATA[name]))
        assert "clipped" in result.warned[0][1]

    @every_solver
    @every_estimator
    def test_in_the_order_given(self, name, solver):
        same_fit(pair(name, shuffle=False, batch_size=13, max_iter=4, **solver), *data(DATA[name]))


class TestRandomState:
    @every_estimator
    def test_a_generator_is_left_where_scikit_learn_leaves_it(self, name):
        both = pair(name, max_iter=3)
        for estimator in both:
            estimator.set_params(random_state=np.random.RandomState(5))
        same_fit(both, *data(DATA[name]))
        assert both.ours.random_state.random_sample() == both.theirs.random_state.random_sample()

    def test_none_is_numpys_own(self):
        both = pair(CLASSIFIER, max_iter=3, random_state=None)

        def fit(estimator):
            np.random.seed(11)  # noqa: NPY002  (which None stands for)
            return estimator.fit(*data("iris"))

        same(both, fit)
        assert_same_answers(both, data("iris")[0])


class TestEnd:
    def test_of_the_iterations(self):
        result = same_fit(pair(CLASSIFIER, max_iter=3), *data("wine"))
        assert "Maximum iterations (3) reached" in result.warned[0][1]

    @pytest.mark.parametrize("patience", [1, 4, np.inf])
    @pytest.mark.parametrize("tol", [0.0, 1e-3, 0.05])
    @every_solver
    def test_of_the_improvement(self, solver, tol, patience):
        settings = {"tol": tol, "n_iter_no_change": patience, "max_iter": 60, "verbose": True}
        same_fit(pair(CLASSIFIER, **settings, **solver), *data("iris"))

    def test_of_an_adaptive_rate(self):
        settings = {"learning_rate": "adaptive", "tol": 1e-2, "n_iter_no_change": 1, "verbose": True}
        result = same_fit(pair(CLASSIFIER, **(SGD | settings)), *data("iris"))
        assert "Setting learning rate to" in result.printed
        assert "Learning rate too small. Stopping." in result.printed

    @pytest.mark.parametrize("verbose", [False, True, 0, 1, 10])
    def test_what_is_printed(self, verbose):
        result = same_fit(pair(CLASSIFIER, verbose=verbose, max_iter=4, early_stopping=True), *data("wine"))
        assert ("Iteration 4, loss" in result.printed) == bool(verbose)
        assert ("Validation score" in result.printed) == bool(verbose)


class TestEarlyStopping:
    @pytest.mark.parametrize("solver", [SGD, SGD | {"learning_rate": "adaptive"}, {"solver": "adam"}])
    @pytest.mark.parametrize("name", DATASETS)
    def test_same_answers(self, name, solver):
        settings = {"early_stopping": True, "max_iter": 30, "n_iter_no_change": 3, "verbose": True}
        result = same_fit(pair(DATASETS[name], **settings, **solver), *data(name), rtol=1e-7)
        assert "Validation score" in result.printed

    def test_the_best_weights_are_restored(self):
        both = pair(CLASSIFIER, early_stopping=True, learning_rate_init=0.3, n_iter_no_change=5, tol=0.0)
        same_fit(both, *data("breast_cancer"), rtol=1e-6)
        assert max(both.ours.validation_scores_) > both.ours.validation_scores_[-1]

    def test_several_labels(self):
        same_fit(pair(CLASSIFIER, early_stopping=True, max_iter=20, validation_fraction=0.3), *multilabel())

    @pytest.mark.parametrize("fraction", [0.0, 0.001])
    @every_estimator
    def test_a_validation_set_that_is_too_small(self, name, fraction):
        both = pair(name, early_stopping=True, validation_fraction=fraction, max_iter=2)
        X, y = data(DATA[name])
        result = same(both, lambda estimator: estimator.fit(X, y))
        assert result.error or RELEASE < (1, 7)

    def test_and_a_warm_start(self):
        both = pair(CLASSIFIER, early_stopping=True, warm_start=True, max_iter=4)
        for _ in range(3):
            same_fit(both, *data("wine"))


class TestWarmStart:
    @every_solver
    @every_estimator
    def test_fits_go_on(self, name, solver):
        both = pair(name, warm_start=True, max_iter=3, **solver)
        for _ in range(3):
            same_fit(both, *data(DATA[name]))
        assert len(both.ours.loss_curve_) == 9

    def test_of_lbfgs(self):
        both = pair(CLASSIFIER, warm_start=True, max_iter=2, solver="lbfgs")
        for _ in range(2):
            same_fit(both, *data("wine"), rtol=1e-6)

    def test_with_other_settings_and_other_data(self):
        both, (X, y) = pair(CLASSIFIER, warm_start=True, max_iter=3), data("wine")
        same_fit(both, X, y)
        for estimator in both:
            estimator.set_params(learning_rate_init=0.1, alpha=0.3, batch_size=11, beta_1=0.5)
        same_fit(both, X[::2], y[::2])
        for estimator in both:
            estimator.set_params(**SGD)
        same_fit(both, X, y)

    def test_other_classes_are_refused(self):
        both, (X, y) = pair(CLASSIFIER, warm_start=True, max_iter=2), data("wine")
        same_fit(both, X, y)
        result = same(both, lambda estimator: estimator.fit(X, y + 1))
        assert "warm_start can only be used" in result.error[1]

    @every_estimator
    def test_a_fit_without_it_starts_again(self, name):
        both, (X, y) = pair(name, max_iter=3), data(DATA[name])
        same_fit(both, X, y)
        first = both.ours.coefs_[0].copy()
        same_fit(both, X, y)
        np.testing.assert_array_equal(both.ours.coefs_[0], first)
        same_fit(both, X[:, ::2], y)


class TestPartialFit:
    @pytest.mark.parametrize("schedule", ["constant", "invscaling", "adaptive"])
    @every_solver
    @every_estimator
    def test_goes_on(self, name, solver, schedule):
        both, (X, y) = pair(name, learning_rate=schedule, tol=10.0, n_iter_no_change=1, **solver), data(DATA[name])
        same(both, lambda estimator: start(estimator, X[:9], y[:9], np.unique(y)))
        for rows in (slice(9), slice(4, 19), slice(2), slice(None)):
            same(both, lambda estimator, rows=rows: estimator.partial_fit(X[rows], y[rows]))
        assert_same_answers(both, X)

    def test_after_a_fit_and_before_one(self):
        both, (X, y) = pair(CLASSIFIER, max_iter=3), data("iris")
        same_fit(both, X, y)
        for _ in range(3):
            same(both, lambda estimator: estimator.partial_fit(X, y))
        same_fit(both, X, y)

    def test_several_labels(self):
        both, (X, y) = pair(CLASSIFIER), multilabel()
        same(both, lambda estimator: estimator.partial_fit(X, y, classes=np.arange(4)))
        same(both, lambda estimator: estimator.partial_fit(X[:50], y[:50]))
        assert_same_answers(both, X)

    def test_a_changed_rate_is_that_of_the_first_call(self):
        both, (X, y) = pair("MLPRegressor", **SGD), data("diabetes")
        same(both, lambda estimator: estimator.partial_fit(X, y))
        for estimator in both:
            estimator.set_params(learning_rate_init=1e-5, alpha=2.0)
        same(both, lambda estimator: estimator.partial_fit(X, y))

    def test_lbfgs_has_none_for_classes(self):
        result = same(pair(CLASSIFIER, solver="lbfgs"), lambda estimator: estimator.partial_fit(*data("iris")))
        assert result.error[0] is AttributeError

    def test_lbfgs_trains_to_its_end_for_values(self):
        both = pair("MLPRegressor", solver="lbfgs", max_iter=3)
        same(both, lambda estimator: estimator.partial_fit(*data("linnerud")), rtol=1e-6)

    def test_early_stopping_is_refused(self):
        result = same(pair("MLPRegressor", early_stopping=True), lambda e: e.partial_fit(*data("linnerud")))
        assert result.error[1] == "partial_fit does not support early_stopping=True"


def start(estimator, X, y, classes):
    """The first call of partial_fit."""
    arguments = {"classes": classes} if hasattr(estimator, "predict_proba") else {}
    return estimator.partial_fit(X, y, **arguments)


class InterruptedAfter(io.StringIO):
    """An output at which the user presses Ctrl-C when the given text comes."""

    def __init__(self, text):
        super().__init__()
        self._text = text

    def write(self, text):
        if self._text in text:
            raise KeyboardInterrupt
        return super().write(text)


class TestInterrupt:
    @pytest.mark.parametrize("early_stopping", [False, True])
    @every_estimator
    def test_training_ends_and_the_model_is_usable(self, name, early_stopping, monkeypatch):
        both = pair(name, early_stopping=early_stopping, max_iter=9, verbose=True)

        def fit(estimator):
            monkeypatch.setattr("sys.stdout", InterruptedAfter("Iteration 3"))
            return estimator.fit(*data(DATA[name]))

        result = same(both, fit)
        assert result.warned == [(UserWarning, "Training interrupted by user.")]
        assert both.ours.n_iter_ == len(both.ours.loss_curve_) == 3
        assert_same_answers(both, data(DATA[name])[0])


class TestDivergence:
    @pytest.mark.parametrize(
        ("solver", "activation", "rate"),
        [
            ("sgd", "identity", 10.0),
            ("sgd", "relu", 1e10),
            ("sgd", "tanh", 1e100),
            ("sgd", "logistic", 1e300),
            ("adam", "relu", 1e300),
        ],
    )
    @every_estimator
    def test_weights_that_are_not_finite_are_refused(self, name, solver, activation, rate):
        settings = {"solver": solver, "activation": activation, "learning_rate_init": rate, "max_iter": 20}
        both = pair(name, **settings)
        mine, expected = (outcome(lambda e=estimator: e.fit(*data(DATA[name]))) for estimator in both)
        assert "Solver produced non-finite parameter weights" in expected.error[1]
        assert mine.error == expected.error
        assert mine.warned == expected.warned
        assert both.ours.n_iter_ == both.theirs.n_iter_
        assert both.ours.loss_curve_[0] == pytest.approx(both.theirs.loss_curve_[0], rel=1e-9)

    @every_estimator
    def test_large_steps_that_stay_finite(self, name):
        both = pair(name, learning_rate_init=1e10, max_iter=3, activation="identity")
        same_fit(both, *data(DATA[name]), rtol=1e-6)
        assert both.ours.loss_curve_[1] > 1e10
