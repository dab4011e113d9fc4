"""Functions of the user's in scikit-learn's perceptrons, which its documentation does not know, done with fastnn's.

Registered in its tables, put in the place of its own, outputs set by hand.
"""

import numpy as np
import pytest
import sklearn
from scipy.sparse import csc_matrix
from scipy.special import softmax
from sklearn import neural_network as theirs
from sklearn.neural_network import _base as functions

import fastnn.sklearn as ours
from tests.sklearn.pairs import (
    CLASSIFIER,
    REGRESSOR,
    RELEASE,
    assert_close,
    assert_same_answers,
    data,
    ends_early,
    every_estimator,
    multilabel,
    pair,
    same,
    same_fit,
)
from tests.sklearn.subclasses import SMALL, instances, subclasses

X, Y = data("iris")
TARGETS = 0.1 + 0.2 * Y

# scikit-learn's own code runs into overflows, of which NumPy tells.
pytestmark = ends_early
every_solver = pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
since_1_7 = pytest.mark.skipif(RELEASE < (1, 7), reason="new in scikit-learn 1.7")


def leak(z):
    np.copyto(z, 0.2 * z, where=z < 0)


def leak_derivative(z, delta):
    delta[z < 0] *= 0.2


@pytest.fixture
def leaky(monkeypatch):
    """An activation in scikit-learn's tables, and its check of parameters, which knows no such name, turned off."""
    monkeypatch.setitem(functions.ACTIVATIONS, "leaky", leak)
    monkeypatch.setitem(functions.DERIVATIVES, "leaky", leak_derivative)
    with sklearn.config_context(skip_parameter_validation=True):
        yield


@pytest.mark.usefixtures("leaky")
class TestRegisteredActivation:
    @pytest.mark.parametrize("early_stopping", [False, True])
    @every_solver
    @every_estimator
    def test_same_answers(self, name, solver, early_stopping):
        both = pair(name, activation="leaky", solver=solver, early_stopping=early_stopping, max_iter=6)
        same_fit(both, X, Y, rtol=1e-7)
        assert_same_answers(both, X[:1], rtol=1e-7)
        assert_same_answers(both, csc_matrix(X), rtol=1e-7)

    @pytest.mark.parametrize("settings", [{"batch_size": 40}, {"shuffle": False}])
    @every_estimator
    def test_of_sparse_samples(self, name, settings):
        same_fit(pair(name, activation="leaky", max_iter=4, **settings), csc_matrix(X), Y)

    @every_estimator
    def test_in_parts(self, name):
        both = pair(name, activation="leaky")
        classes = {"classes": [0, 1, 2]} if name == CLASSIFIER else {}
        for _ in range(3):
            same(both, lambda model: model.partial_fit(X, Y, **classes))
        assert_same_answers(both, X)

    @since_1_7
    def test_with_what_fastnn_adds(self):
        weights, seen = {0: 1.0, 1: 2.0, 2: 0.5}, []
        mine = ours.MLPClassifier(
            **SMALL,
            activation="leaky",
            max_iter=4,
            class_weight=weights,
            callbacks=[lambda *args: seen.append(args[2])],
        ).fit(X, Y, validation_data=(X, Y))
        expected = theirs.MLPClassifier(**SMALL, activation="leaky", max_iter=4)
        expected.fit(X, Y, sample_weight=np.array([1.0, 2.0, 0.5])[Y])
        np.testing.assert_allclose(mine.predict_proba(X), expected.predict_proba(X), rtol=1e-9)
        assert [values["loss"] for values in seen] == mine.loss_curve_
        p = expected.predict_proba(X)[np.arange(150), Y]
        assert seen[-1]["validation_loss"] == pytest.approx(-np.log(p).mean(), rel=1e-9)

    def test_in_float32(self):
        mine = ours.MLPRegressor(**SMALL, activation="leaky", max_iter=3, dtype="float32").fit(X, Y)
        expected = theirs.MLPRegressor(**SMALL, activation="leaky", max_iter=3).fit(X.astype(np.float32), Y)
        assert mine.predict(X).dtype == np.float32
        np.testing.assert_allclose(mine.predict(X), expected.predict(X.astype(np.float32)), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        ("lacking", "settings"),
        [
            ("dropout", {"dropout": 0.5}),
            ("label_smoothing", {"label_smoothing": 0.1}),
            ("label_smoothing", {"label_smoothing": 0.1, "solver": "lbfgs"}),
        ],
    )
    def test_without_what_scikit_learns_code_lacks(self, lacking, settings):
        model = ours.MLPClassifier(**SMALL, activation="leaky", **settings)
        message = f"^activation 'leaky', as it stands in .* left to scikit-learn's own code, which has no {lacking}: do"
        with pytest.raises(ValueError, match=message):
            model.fit(X, Y)
        assert not hasattr(model, "coefs_")

    @pytest.mark.skipif(RELEASE >= (1, 7), reason="this scikit-learn weighs samples")
    def test_without_weights_where_scikit_learn_has_none(self):
        with pytest.raises(ValueError, match="own code, which has no class_weight"):
            ours.MLPClassifier(**SMALL, activation="leaky", class_weight={0: 2.0}).fit(X, Y)


class TestReplacedFunctions:
    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_of_the_hidden_layers(self, monkeypatch, solver):
        before = pair(CLASSIFIER, solver=solver, max_iter=4, warm_start=True)
        same_fit(before, X, Y, rtol=1e-7)
        plain = before.ours.predict_proba(X)
        monkeypatch.setitem(functions.ACTIVATIONS, "relu", leak)
        monkeypatch.setitem(functions.DERIVATIVES, "relu", leak_derivative)
        assert_same_answers(before, X, rtol=1e-7)
        assert not np.array_equal(before.ours.predict_proba(X), plain)
        same_fit(before, X, Y, rtol=1e-6)
        same_fit(pair(CLASSIFIER, solver=solver, max_iter=4), X, Y, rtol=1e-7)

    def test_of_a_derivative_alone(self, monkeypatch):
        monkeypatch.setitem(functions.DERIVATIVES, "relu", leak_derivative)
        same_fit(pair(CLASSIFIER, max_iter=4), X, Y)

    def test_of_the_outputs(self, monkeypatch):
        def cooler(z):
            z[...] = softmax(z / 3, axis=1)

        monkeypatch.setitem(functions.ACTIVATIONS, "softmax", cooler)
        same_fit(pair(CLASSIFIER, max_iter=4), X, Y)

    @every_solver
    def test_of_the_loss(self, monkeypatch, solver):
        def absolute(y, prediction, *weights):
            return np.abs(y - prediction).mean()

        monkeypatch.setitem(functions.LOSS_FUNCTIONS, "squared_error", absolute)
        both = pair(REGRESSOR, solver=solver, max_iter=4)
        same_fit(both, X, TARGETS, rtol=1e-6)
        assert both.ours.loss_ < 3

    def test_a_name_of_fastnns_means_what_the_tables_say(self, monkeypatch):
        monkeypatch.setitem(functions.ACTIVATIONS, "leaky_relu", leak)
        monkeypatch.setitem(functions.DERIVATIVES, "leaky_relu", leak_derivative)
        with sklearn.config_context(skip_parameter_validation=True):
            same_fit(pair(CLASSIFIER, activation="leaky_relu", max_iter=4), X, Y)

    def test_for_one_layer_of_several(self, monkeypatch):
        monkeypatch.setitem(functions.ACTIVATIONS, "relu", leak)
        model = ours.MLPClassifier(**SMALL, activation=["relu", "tanh"])
        with pytest.raises(
            ValueError, match=r"^activation 'relu', as it .* which has no activation for each layer: do"
        ):
            model.fit(X, Y)

    def test_while_it_trains(self, monkeypatch):
        def callback(model, epoch, values):
            if epoch == 2:
                monkeypatch.setitem(functions.ACTIVATIONS, "relu", leak)
                monkeypatch.setitem(functions.DERIVATIVES, "relu", leak_derivative)

        settings = {**SMALL, "shuffle": False}
        mine = ours.MLPRegressor(**settings, max_iter=4, callbacks=[callback]).fit(X, Y)
        monkeypatch.undo()
        expected = theirs.MLPRegressor(**settings)
        for epoch in range(1, 5):
            callback(expected.partial_fit(X, Y), epoch, {})
        assert_close(mine.coefs_, expected.coefs_, 1e-9, "coefs_")
        assert_close(mine.predict(X), expected.predict(X), 1e-9, "predict")


class TestOutputsSetByHand:
    """The trick of those who want values between 0 and 1, or a distribution, out of a regressor."""

    def both(self, outputs, **settings):
        def initialize(base):
            def method(self, y, layer_units, dtype):
                base._initialize(self, y, layer_units, dtype)
                self.out_activation_ = outputs

            return method

        return instances(subclasses(REGRESSOR, {"_initialize": initialize}), **settings)

    @pytest.mark.parametrize("outputs", ["logistic", "tanh", "relu"])
    @every_solver
    def test_same_answers(self, outputs, solver):
        both = self.both(outputs, solver=solver, max_iter=20)
        same_fit(both, X, TARGETS, rtol=1e-6)
        assert_same_answers(both, X[:1], rtol=1e-6)

    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_it_stops_where_scikit_learn_stops(self, early_stopping):
        both = self.both("logistic", max_iter=400, tol=1e-3, n_iter_no_change=4, early_stopping=early_stopping)
        same_fit(both, X, TARGETS, rtol=1e-6)
        assert both.ours.n_iter_ < 400
        half_the_error = 0.5 * np.mean((both.ours.predict(X) - TARGETS) ** 2)
        assert early_stopping or both.ours.loss_ == pytest.approx(half_the_error, rel=0.1)

    def test_a_distribution(self):
        both = self.both("softmax", max_iter=10)
        same_fit(both, X, softmax(X[:, :3], axis=1))
        np.testing.assert_allclose(both.ours.predict(X).sum(axis=1), 1)

    def test_after_a_fit(self):
        both = pair(REGRESSOR, max_iter=4, warm_start=True)
        same_fit(both, X, TARGETS)
        for model in both:
            model.out_activation_ = "logistic"
        assert_same_answers(both, X)
        same(both, lambda model: model.fit(X, TARGETS))
        same(both, lambda model: model.partial_fit(X, TARGETS))
        for model in both:
            model.out_activation_ = "tanh"
        assert_same_answers(both, X)

    def test_of_a_classifier(self):
        X_, several = multilabel()
        both = pair(CLASSIFIER, max_iter=4, warm_start=True)
        same_fit(both, X_, several)
        for model in both:
            model.out_activation_ = "softmax"
        same(both, lambda model: model.fit(X_, several))
        assert_same_answers(both, X_)

    @since_1_7
    def test_with_validation_data(self):
        both = self.both("logistic", max_iter=4)
        both.ours.fit(X, TARGETS, validation_data=(X, TARGETS))
        expected = 0.5 * np.mean((both.theirs.fit(X, TARGETS).predict(X) - TARGETS) ** 2)
        assert both.ours.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize(
        ("activation", "lacking"),
        [(["tanh", "relu"], "activation for each layer"), ("leaky_relu", "activation 'leaky_relu'")],
    )
    def test_after_layers_of_fastnns(self, activation, lacking):
        message = (
            f"^loss 'squared_error' after out_activation_ 'logistic' is left to .* code, which has no {lacking}: do"
        )
        with pytest.raises(ValueError, match=message):
            self.both("logistic").ours.set_params(activation=activation).fit(X, TARGETS)
        model = ours.MLPRegressor(**SMALL, activation=activation, max_iter=1).fit(X, TARGETS)
        model.out_activation_ = "tanh"
        with pytest.raises(ValueError, match=f"^out_activation_ 'tanh' is left to .* which has no {lacking}: do"):
            model.predict(X)
