"""What users and pickles make of fitted arrays: followed as in scikit-learn, or refused."""

import pickle

import numpy as np
import pytest
import scipy.sparse

from tests.sklearn.misfits import MISFITS, reshape
from tests.sklearn.pairs import (
    CLASSIFIER,
    REGRESSOR,
    Pair,
    assert_close,
    assert_same_answers,
    data,
    ends_early,
    every_estimator,
    outcome,
    pair,
    same,
)

X, Y = data("iris")

pytestmark = ends_early
every_solver = pytest.mark.parametrize("solver", ["adam", "sgd"])


def fitted(name=CLASSIFIER, **settings):
    """Both estimators with layers of 12 and 7 units, after two epochs."""
    both = pair(name, **{"max_iter": 2, **settings})
    for model in both:
        model.fit(X, Y)
    return both


every_misfit = pytest.mark.parametrize(("change", "message"), MISFITS.items(), ids=[f.__name__ for f in MISFITS])


def without_an_array(model):
    del model.coefs_[1]


def with_a_layer_less(model):
    del model.coefs_[1], model.intercepts_[1]


def with_a_layer_more(model):
    model.coefs_.append(np.ones((3, 2)))
    model.intercepts_.append(np.ones(2))


NUMBERS = {
    without_an_array: "coefs_ has 2 arrays and intercepts_ 3, but n_layers_ is 4: each layer behind the input needs",
    with_a_layer_less: "coefs_ has 2 arrays and intercepts_ 2, but n_layers_ is 4",
    with_a_layer_more: "coefs_ has 4 arrays and intercepts_ 4, but n_layers_ is 4",
}
every_number = pytest.mark.parametrize(("change", "message"), NUMBERS.items(), ids=[f.__name__ for f in NUMBERS])


class TestPrediction:
    @pytest.mark.parametrize("rows", [X, X[:1], X.astype(np.float32), scipy.sparse.csr_array(X)])
    @every_misfit
    @every_estimator
    def test_shapes(self, name, change, message, rows):
        both = fitted(name)
        for model in both:
            change(model)
        for method in ["predict"] + ["predict_proba"] * (name == CLASSIFIER):
            expected = outcome(lambda method=method: getattr(both.theirs, method)(rows))
            assert expected.error[0] is ValueError
            with pytest.raises(ValueError, match=message):
                getattr(both.ours, method)(rows)

    @every_number
    def test_numbers_of_arrays(self, change, message):
        model = fitted().ours
        change(model)
        with pytest.raises(ValueError, match=message):
            model.predict_proba(X)

    @pytest.mark.parametrize("dtype", [complex, object, "U3"])
    @pytest.mark.parametrize("which", ["coefs_", "intercepts_"])
    def test_what_is_no_real_number(self, which, dtype):
        model = fitted().ours
        getattr(model, which)[1] = np.ones(getattr(model, which)[1].shape).astype(dtype)
        with pytest.raises(ValueError, match=rf"^{which}\[1\] holds \S+, expected real numbers"):
            model.predict(X)

    def test_fewer_classes_than_the_classifier_has(self):
        model = fitted().ours
        model.coefs_[2], model.intercepts_[2] = model.coefs_[2][:, :2], model.intercepts_[2][:2]
        with pytest.raises(ValueError, match=r"coefs_\[2\] has 2 columns, but n_outputs_ is 3"):
            model.predict_proba(X)

    def test_some_of_the_outputs_of_a_regressor(self):
        both = pair(REGRESSOR, max_iter=2)
        for model in both:
            model.fit(X, X)
            model.coefs_[2], model.intercepts_[2] = model.coefs_[2][:, 1:3], model.intercepts_[2][1:3]
        assert same(both, lambda model: model.predict(X)).value.shape == (150, 2)

    @pytest.mark.parametrize(("attribute", "value"), [("strides", (8, 64)), ("dtype", np.dtype(np.int64))])
    @every_estimator
    def test_what_can_be_set_in_place(self, name, attribute, value):
        both = fitted(name, hidden_layer_sizes=(8, 8))
        for model in both:
            reshape(model.coefs_[1], value, attribute)
        assert_same_answers(both, X)

    def test_another_number_of_layers(self):
        model = fitted().ours
        model.n_layers_ = 3
        with pytest.raises(ValueError, match="coefs_ has 3 arrays and intercepts_ 3, but n_layers_ is 3"):
            model.predict(X)

    @pytest.mark.parametrize("change", [lambda b: b[None], lambda b: b[:1], lambda b: np.float64(0.5)])
    def test_intercepts_that_numpy_would_add(self, change):
        both = fitted(hidden_layer_sizes=(1, 3))
        for model in both:
            model.intercepts_[0] = change(model.intercepts_[0])
        same(both, lambda model: model.predict_proba(X))

    @pytest.mark.parametrize("dtype", [int, np.float16, np.float32, np.longdouble])
    def test_other_real_numbers(self, dtype):
        both = fitted()
        for model in both:
            model.coefs_[0] = (10 * model.coefs_[0]).astype(dtype)
        mine, expected = (model.predict_proba(X).astype(float) for model in both)
        np.testing.assert_allclose(mine, expected, rtol=1e-9)


class TestTraining:
    @pytest.mark.parametrize("settings", [{"solver": s, "warm_start": w} for s in ("adam", "sgd") for w in (0, 1)])
    @every_misfit
    @every_estimator
    def test_shapes(self, name, change, message, settings):
        both = fitted(name, **settings | {"warm_start": bool(settings["warm_start"])})
        method = "fit" if settings["warm_start"] else "partial_fit"
        for model in both:
            change(model)
        expected = outcome(lambda: getattr(both.theirs, method)(X, Y))
        assert expected.error[0] in (ValueError, AttributeError)
        self.refused(both.ours, lambda model: getattr(model, method)(X, Y), message)

    @every_number
    @every_estimator
    def test_numbers_of_arrays(self, name, change, message):
        model = fitted(name).ours
        change(model)
        self.refused(model, lambda model: model.partial_fit(X, Y), message)

    @every_misfit
    def test_lbfgs(self, change, message):
        model = fitted(solver="lbfgs", warm_start=True).ours
        change(model)
        self.refused(model, lambda model: model.fit(X, Y), message)

    @pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
    def test_fewer_outputs_than_classes(self, solver):
        both = fitted(solver=solver, warm_start=True)
        for model in both:
            model.coefs_[2], model.intercepts_[2] = model.coefs_[2][:, :2], model.intercepts_[2][:2]
        assert outcome(lambda: both.theirs.fit(X, Y)).error[0] is ValueError
        self.refused(both.ours, lambda model: model.fit(X, Y), r"coefs_\[2\] has 2 columns, but n_outputs_ is 3")

    @pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
    def test_other_outputs_of_a_regressor(self, solver):
        both = fitted(REGRESSOR, solver=solver, warm_start=True)
        assert outcome(lambda: both.theirs.fit(X, X[:, :2])).error[0] is ValueError
        message = r"y has 2 outputs, but coefs_\[2\] has 1 columns: use warm_start=False and fit to start afresh"
        self.refused(both.ours, lambda model: model.fit(X, X[:, :2]), message)

    def test_lbfgs_with_other_units(self):
        model = fitted(solver="lbfgs", warm_start=True).ours.set_params(hidden_layer_sizes=(3, 4))
        message = r"hidden_layer_sizes asks for \[3, 4\] units, but training goes on with \[12, 7\]: use warm_start=F"
        self.refused(model, lambda model: model.fit(X, Y), message)

    @every_solver
    def test_other_solvers_go_on_with_the_units_there_are(self, solver):
        both = fitted(solver=solver, warm_start=True)
        for model in both:
            model.set_params(hidden_layer_sizes=(3, 4))
        same(both, lambda model: model.fit(X, Y))

    def test_moments_of_other_layers(self):
        model = fitted().ours
        model.coefs_[0], model.intercepts_[0] = np.ones((4, 9)), np.ones(9)
        model.coefs_[1] = np.ones((9, 7))
        with pytest.raises(ValueError, match=r"shapes \[\(4, 9\), .*, but the optimizer was made for \[\(4, 12\), "):
            model.partial_fit(X, Y)

    def refused(self, model, act, message):
        before, vectors = dict(vars(model)), [array.copy() for array in model.coefs_ + model.intercepts_]
        with pytest.raises(ValueError, match=message):
            act(model)
        assert vars(model) == before
        for array, vector in zip(model.coefs_ + model.intercepts_, vectors, strict=True):
            np.testing.assert_array_equal(array, vector)


class TestPickle:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @every_estimator
    def test_half_precision_stays(self, name, dtype):
        both = fitted(name)
        for model in both:
            model.coefs_ = [coef.astype(np.float16) for coef in model.coefs_]
            model.intercepts_ = [intercept.astype(np.float16) for intercept in model.intercepts_]
        both = Pair(*(pickle.loads(pickle.dumps(model)) for model in both))
        assert {array.dtype for array in both.ours.coefs_ + both.ours.intercepts_} == {np.dtype(np.float16)}
        assert_close(both.ours.coefs_, both.theirs.coefs_, 0, "coefs_")
        same(both, lambda model: model.predict(X.astype(dtype)), rtol=1e-5)
        before = both.ours.predict(X)
        assert not np.array_equal(both.ours.partial_fit(X, Y).coefs_[0], before)

    @every_misfit
    def test_what_does_not_fit_is_loaded_and_named_when_used(self, change, message):
        model = fitted().ours
        change(model)
        model = pickle.loads(pickle.dumps(model))
        with pytest.raises(ValueError, match=message):
            model.predict(X)
