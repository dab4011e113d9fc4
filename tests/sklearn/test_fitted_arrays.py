"""What users, callbacks and pickles make of fitted arrays and of data: followed as in scikit-learn, or refused."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn import neural_network as theirs

import fastnn.sklearn as ours
from tests.sklearn.pairs import (
    CLASSIFIER,
    ESTIMATORS,
    RELEASE,
    Pair,
    assert_close,
    assert_same_answers,
    data,
    outcome,
    pair,
    same,
)

REGRESSOR = "MLPRegressor"
X, Y = data("iris")
IN_ORDER = {"hidden_layer_sizes": (12, 7), "random_state": 3, "shuffle": False, "batch_size": 40}
SMALL = {"hidden_layer_sizes": (6,), "random_state": 0, "max_iter": 3, "batch_size": 40}

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer", "ignore:lbfgs failed to converge")
every_estimator = pytest.mark.parametrize("name", ESTIMATORS)
every_solver = pytest.mark.parametrize("solver", ["adam", "sgd"])


def fitted(name=CLASSIFIER, **settings):
    """Both estimators with layers of 12 and 7 units, after two epochs."""
    both = pair(name, **{"max_iter": 2, **settings})
    for model in both:
        model.fit(X, Y)
    return both


def reshape(array, shape, attribute="shape"):
    """Give an array another shape in place, of which newer releases of NumPy warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        setattr(array, attribute, shape)


def more_rows(model):
    model.coefs_[0] = np.vstack([model.coefs_[0]] * 2)


def fewer_rows(model):
    model.coefs_[0] = model.coefs_[0][:3]


def fewer_units(model):
    model.coefs_[1] = model.coefs_[1][:, :5]


def a_wider_intercept(model):
    model.intercepts_[0] = np.zeros(13)


def a_column_as_intercept(model):
    model.intercepts_[0] = np.zeros((12, 1))


def another_shape_in_place(model):
    reshape(model.coefs_[0], (12, 4))


def another_intercept_in_place(model):
    reshape(model.intercepts_[0], (4, 3))


def no_axes(model):
    model.coefs_[1] = np.float64(2.0)


MISFITS = {
    more_rows: r"X has 4 features, but coefs_\[0\] has 8 rows: they must be equal",
    fewer_rows: r"X has 4 features, but coefs_\[0\] has 3 rows",
    fewer_units: r"coefs_ have shapes \[\(4, 12\), \(12, 5\), \(7, \d\)\], but the columns of one must be the rows of",
    a_wider_intercept: r"intercepts_ have shapes \[\(13,\), \(7,\), \(\d,\)\], but coefs_ have .*: there must be one",
    a_column_as_intercept: r"intercepts_ have shapes \[\(12, 1\), ",
    another_shape_in_place: r"coefs_ have shapes \[\(12, 4\), \(12, 7\), ",
    another_intercept_in_place: r"intercepts_ have shapes \[\(4, 3\), ",
    no_axes: r"coefs_ have shapes \[\(4, 12\), \(\), ",
}
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


def halve(model):
    model.coefs_ = [0.5 * coef for coef in model.coefs_]
    model.intercepts_ = [0.5 * intercept for intercept in model.intercepts_]


def replace_one(model):
    model.coefs_[1] = np.asfortranarray(-model.coefs_[1])


def replace_an_intercept(model):
    model.intercepts_[0] = np.linspace(-1, 1, 12)


def widen(model):
    model.coefs_[0] = model.coefs_[0].astype(np.float64) + 1e-3


class TestCallbacks:
    """A callback's arrays train on, as those that are put there between two calls of scikit-learn's partial_fit."""

    @pytest.mark.parametrize("change", [halve, replace_one, replace_an_intercept])
    @pytest.mark.parametrize("solver", [{"solver": "adam"}, {"solver": "sgd"}, {"solver": "sgd", "momentum": 0.0}])
    @every_estimator
    def test_replaced_arrays_train_on(self, name, solver, change):
        def callback(model, epoch, values):
            if epoch in (2, 3):
                change(model)

        settings = {**IN_ORDER, **solver}
        mine = getattr(ours, name)(**settings, max_iter=5, callbacks=[callback]).fit(X, Y)
        expected, losses = getattr(theirs, name)(**settings), []
        for epoch in range(1, 6):
            expected.partial_fit(X, Y, **({"classes": [0, 1, 2]} if name == CLASSIFIER else {}))
            losses.append(expected.loss_)
            callback(expected, epoch, {})
        assert_close(mine.coefs_, expected.coefs_, 1e-9, "coefs_")
        assert_close(mine.intercepts_, expected.intercepts_, 1e-9, "intercepts_")
        np.testing.assert_allclose(mine.loss_curve_, losses, rtol=1e-9)
        np.testing.assert_allclose(mine.predict(X), expected.predict(X), rtol=1e-9)

    def test_in_another_dtype(self):
        small, seen = X.astype(np.float32), []

        def callback(model, epoch, values):
            seen.append(model.coefs_[1].dtype.name)
            if epoch == 1:
                widen(model)

        mine = ours.MLPRegressor(**IN_ORDER, max_iter=3, callbacks=[callback]).fit(small, Y)
        assert seen == ["float32", "float64", "float64"]
        expected = theirs.MLPRegressor(**IN_ORDER).partial_fit(small, Y)
        widen(expected)
        expected.partial_fit(small, Y).partial_fit(small, Y)
        np.testing.assert_allclose(mine.predict(X), expected.predict(X), rtol=1e-5, atol=1e-6)

    def test_after_the_last_epoch(self):
        model = ours.MLPClassifier(**IN_ORDER, max_iter=1, callbacks=[lambda model, *_: halve(model)]).fit(X, Y)
        plain = theirs.MLPClassifier(**IN_ORDER, max_iter=1).fit(X, Y)
        halve(plain)
        assert_close(model.coefs_, plain.coefs_, 1e-9, "coefs_")
        assert_close(model.predict_proba(X), plain.predict_proba(X), 1e-9, "predict_proba")

    def test_velocities_of_the_optimizer(self):
        def forget(model):
            model._optimizer.velocities = [np.zeros_like(v) for v in model._optimizer.velocities]

        settings = {**IN_ORDER, "solver": "sgd"}
        mine = ours.MLPRegressor(**settings, max_iter=4, callbacks=[lambda model, *_: forget(model)]).fit(X, Y)
        expected = theirs.MLPRegressor(**settings)
        for _ in range(4):
            forget(expected.partial_fit(X, Y))
        assert_close(mine.coefs_, expected.coefs_, 1e-9, "coefs_")

    @pytest.mark.parametrize("change", MISFITS, ids=[change.__name__ for change in MISFITS])
    def test_what_does_not_fit_is_refused_in_the_next_epoch(self, change):
        def callback(model, epoch, values):
            seen.append(epoch)
            change(model)

        seen = []
        message = (
            r"X has shape \(150, 4\) and y \(150, 3\), but coefs_ lead from [38] |^(coefs|intercepts)_ have shapes"
        )
        with pytest.raises(ValueError, match=message):
            ours.MLPClassifier(**IN_ORDER, max_iter=4, callbacks=[callback]).fit(X, Y)
        assert seen == [1]

    def test_what_does_not_fit_after_the_last_epoch(self):
        with pytest.raises(ValueError, match=r"coefs_ have shapes \["):
            ours.MLPClassifier(**IN_ORDER, max_iter=1, callbacks=[lambda model, *_: fewer_units(model)]).fit(X, Y)


class TestDataOfTheUser:
    """Nothing that becomes of the user's arrays while training runs moves an address, or is more than other values."""

    @pytest.mark.parametrize("shape", [(600, 1), (1, 600)])
    @every_estimator
    def test_the_shape_of_samples(self, name, shape):
        samples = X.copy()
        mine = getattr(ours, name)(**SMALL, callbacks=[lambda *_: reshape(samples, shape)]).fit(samples, Y)
        plain = getattr(ours, name)(**SMALL).fit(X, Y)
        np.testing.assert_array_equal(mine.coefs_[0], plain.coefs_[0])

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @every_estimator
    def test_the_shape_of_samples_while_they_are_predicted(self, name, dtype):
        samples = X.astype(dtype)

        class Raced(getattr(ours, name)):
            def _outputs(self, weights, x, *rest):
                reshape(samples, (1, 600))
                return super()._outputs(weights, x, *rest)

        model = Raced(**SMALL).fit(X, Y)
        np.testing.assert_array_equal(model.predict(samples), model.predict(X.astype(dtype)))

    @every_estimator
    def test_targets(self, name):
        targets = Y.copy()
        mine = getattr(ours, name)(**SMALL, callbacks=[lambda *_: targets.fill(10**10)]).fit(X, targets)
        plain = getattr(ours, name)(**SMALL).fit(X, Y)
        np.testing.assert_array_equal(mine.coefs_[0], plain.coefs_[0])

    @pytest.mark.skipif(RELEASE < (1, 7), reason="new in scikit-learn 1.7")
    def test_weights(self):
        weights = np.linspace(0.5, 2, 150)

        def callback(*_):
            weights.fill(np.nan)
            reshape(weights, (2, 75))

        mine = ours.MLPClassifier(**SMALL, callbacks=[callback]).fit(X, Y, sample_weight=weights)
        plain = ours.MLPClassifier(**SMALL).fit(X, Y, sample_weight=np.linspace(0.5, 2, 150))
        np.testing.assert_array_equal(mine.coefs_[0], plain.coefs_[0])

    @pytest.mark.parametrize("part", ["indices", "indptr"])
    @pytest.mark.parametrize("kind", ["csr_array", "csc_array"])
    def test_the_structure_of_a_sparse_matrix(self, kind, part):
        samples = getattr(scipy.sparse, kind)(X)
        callbacks = [lambda *_: getattr(samples, part).fill(10**9)]
        mine = ours.MLPClassifier(**SMALL, callbacks=callbacks).fit(samples, Y)
        plain = ours.MLPClassifier(**SMALL).fit(getattr(scipy.sparse, kind)(X), Y)
        np.testing.assert_array_equal(mine.coefs_[0], plain.coefs_[0])

    def test_a_sparse_matrix_that_leads_astray(self):
        samples = scipy.sparse.csr_array(X)
        samples.indices[7] = 10**9
        with pytest.raises(ValueError, match="indices"):
            ours.MLPClassifier(**SMALL).fit(samples, Y)

    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_the_shape_of_validation_data(self, early_stopping):
        samples = X.copy()
        model = ours.MLPClassifier(
            **SMALL, early_stopping=early_stopping, callbacks=[lambda *_: reshape(samples, (1, 600))]
        )
        with pytest.raises(ValueError, match=r"X has 600 features, but coefs_\[0\] has 4 rows"):
            model.fit(X, Y, validation_data=(samples, Y))

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    @pytest.mark.parametrize(
        ("cut", "message"),
        [
            (lambda x, y: (x[:, :3], y), r"X has shape \(150, 3\) and y \(150, 2\), but coefs_ lead from 4 features"),
            (lambda x, y: (x[:100], y), r"X has shape \(100, 4\) and y \(150, 2\)"),
            (lambda x, y: (x, y[:, :1]), r"X has shape \(150, 4\) and y \(150, 1\), but .* to 2 outputs"),
        ],
    )
    def test_a_subclass_that_hands_on_less_than_was_checked(self, cut, message, solver):
        class Less(ours.MLPRegressor):
            def _fit_stochastic(self, x, y, *rest):
                super()._fit_stochastic(*cut(x, y), *rest)

            def _fit_lbfgs(self, x, y, *rest):
                super()._fit_lbfgs(*cut(x, y), *rest)

        with pytest.raises(ValueError, match=message):
            Less(**SMALL, solver=solver).fit(X, X[:, :2])

    @pytest.mark.skipif(RELEASE < (1, 7), reason="new in scikit-learn 1.7")
    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_a_subclass_that_hands_on_fewer_weights(self, solver):
        class Less(ours.MLPRegressor):
            def _fit_stochastic(self, x, y, weights, *rest):
                super()._fit_stochastic(x, y, weights[:100], *rest)

            def _fit_lbfgs(self, x, y, weights, *rest):
                super()._fit_lbfgs(x, y, weights[:100], *rest)

        with pytest.raises(ValueError, match=r"sample_weight has shape \(100,\), expected \(150,\)"):
            Less(**SMALL, solver=solver).fit(X, Y, sample_weight=np.ones(150))
