"""What callbacks make of fitted arrays, and of the user's data, while training runs: followed, or refused."""

import numpy as np
import pytest
import scipy.sparse
from sklearn import neural_network as theirs

import fastnn.sklearn as ours
from tests.sklearn.misfits import MISFITS, fewer_units, reshape
from tests.sklearn.pairs import (
    CLASSIFIER,
    RELEASE,
    assert_close,
    data,
    ends_early,
    every_estimator,
)

X, Y = data("iris")
IN_ORDER = {"hidden_layer_sizes": (12, 7), "random_state": 3, "shuffle": False, "batch_size": 40}
SMALL = {"hidden_layer_sizes": (6,), "random_state": 0, "max_iter": 3, "batch_size": 40}

pytestmark = ends_early


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
