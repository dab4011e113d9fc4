"""``to_sklearn``: scikit-learn's own class in the same state, which predicts the same and trains on the same way."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

import sklearn.neural_network as theirs
from sklearn import config_context

import fastnn.sklearn as ours
from tests.processes import run
from tests.sklearn.pairs import (
    RELEASE,
    Pair,
    assert_close,
    assert_same_answers,
    assert_same_state,
    data,
    every_estimator,
    multilabel,
    same,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:Stochastic Optimizer", "ignore:lbfgs failed to converge", "ignore:.*iprint:DeprecationWarning"
)

SETTINGS = {"hidden_layer_sizes": (6, 5), "max_iter": 5, "random_state": 0}


def fitted(name, **settings):
    """An estimator of fastnn, the data it was fitted to, and scikit-learn's in the same state."""
    X, y = data("iris")
    model = getattr(ours, name)(**SETTINGS | settings).fit(X, y)
    return Pair(model, model.to_sklearn()), X, y


@every_estimator
class TestSame:
    @pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
    def test_state_and_answers(self, name, solver):
        both, X, _ = fitted(name, solver=solver)
        assert type(both.theirs) is getattr(theirs, name)
        assert_same_state(both, 0)
        assert_same_answers(both, X)
        mine, converted = (model.get_params() for model in both)
        assert converted == {parameter: mine[parameter] for parameter in getattr(theirs, name)().get_params()}

    def test_nothing_else(self, name):
        X, y = data("iris")
        model = getattr(ours, name)(**SETTINGS).fit(X, y, validation_data=(X, y))
        expected = getattr(theirs, name)(**SETTINGS).fit(X, y)
        assert vars(model.to_sklearn()).keys() == vars(expected).keys()

    @pytest.mark.parametrize("solver", ["adam", "sgd"])
    def test_partial_fit_goes_on(self, name, solver):
        both, X, y = fitted(name, solver=solver, learning_rate="invscaling")
        for _ in range(3):
            same(both, lambda model: model.partial_fit(X[::2], y[::2]))
        assert_same_answers(both, X)

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 2},
            {"solver": "lbfgs"},
            {"early_stopping": True, "n_iter_no_change": 2},
        ],
    )
    def test_a_warm_start_goes_on(self, name, settings):
        both, X, y = fitted(name, warm_start=True, **settings)
        rtol = 1e-6 if settings.get("solver") == "lbfgs" else 1e-9
        for _ in range(2):
            same(both, lambda model: model.fit(X, y), rtol)
        assert_same_answers(both, X, rtol)

    def test_a_stream_of_random_numbers_goes_on(self, name):
        rng = np.random.RandomState(3)
        both, X, y = fitted(name, random_state=rng)
        assert both.theirs.random_state is both.theirs._random_state is not rng
        same(both, lambda model: model.partial_fit(X, y))
        same(both, lambda model: model.fit(X, y))

    def test_no_array_is_shared(self, name):
        both, X, y = fitted(name)
        before = [array.copy() for array in both.theirs.coefs_ + both.theirs._optimizer.ms]
        both.ours.partial_fit(X, y)
        for array, expected in zip(both.theirs.coefs_ + both.theirs._optimizer.ms, before, strict=True):
            np.testing.assert_array_equal(array, expected)
        expected = both.ours.predict(X)
        both.theirs.coefs_[0][...] = 0
        np.testing.assert_array_equal(both.ours.predict(X), expected)

    def test_unfitted(self, name):
        converted = getattr(ours, name)(alpha=0.5, activation=["tanh"]).to_sklearn()
        assert repr(converted) == f"{name}(activation='tanh', alpha=0.5)"
        assert vars(converted).keys() == vars(getattr(theirs, name)()).keys()

    def test_it_is_read_where_fastnn_is_not(self, name, tmp_path):
        both, X, _ = fitted(name)
        (tmp_path / "model.pickle").write_bytes(pickle.dumps((both.theirs, X)))
        run(
            "import pickle, sys, numpy\n"
            "sys.modules['fastnn'] = None\n"
            f"model, X = pickle.load(open({str(tmp_path / 'model.pickle')!r}, 'rb'))\n"
            f"numpy.save({str(tmp_path / 'found.npy')!r}, model.predict(X))\n"
        )
        assert_close(np.load(tmp_path / "found.npy"), both.ours.predict(X), 1e-9, "predict")


def test_labels():
    X, several = multilabel()
    model = ours.MLPClassifier(**SETTINGS).fit(X, several)
    np.testing.assert_array_equal(model.to_sklearn().predict(X), model.predict(X))
    X, y = data("iris")
    for names in (np.array(["b", "c", "a"])[y], np.array(["yes", "no"])[y // 2]):
        both = Pair(model := ours.MLPClassifier(**SETTINGS).fit(X, names), model.to_sklearn())
        assert_same_answers(both, X)
        same(both, lambda model, names=names: model.partial_fit(X, names))


@pytest.mark.skipif(RELEASE < (1, 7), reason="this scikit-learn has no Poisson loss")
def test_poisson():
    both, X, y = fitted("MLPRegressor", loss="poisson")
    assert_same_answers(both, X)
    same(both, lambda model: model.partial_fit(X, y))


@every_estimator
def test_precision(name):
    """It computes in float64 what fastnn was told to compute in float32: the same up to rounding."""
    both, X, y = fitted(name, dtype="float32")
    assert both.theirs.coefs_[0].dtype == np.float32
    for _ in range(2):
        for mine, converted in zip(*(model.coefs_ + model.intercepts_ for model in both), strict=True):
            np.testing.assert_allclose(mine, converted, rtol=1e-4, atol=1e-5)
        for model in both:
            model.partial_fit(X, y)


@every_estimator
class TestWithoutCounterpart:
    @pytest.mark.parametrize("activation", ["leaky_relu", ["leaky_relu"] * 2])
    def test_leaky_relu(self, name, activation):
        with pytest.raises(ValueError, match="activation 'leaky_relu' has no counterpart in scikit-learn, which has"):
            fitted(name, activation=activation)

    def test_an_activation_for_each_layer(self, name):
        with pytest.raises(ValueError, match=r"^activation is \('relu', 'tanh'\), but scikit-learn has one activation"):
            fitted(name, activation=("relu", "tanh"))

    @pytest.mark.parametrize(
        ("sizes", "activation", "expected"), [((4, 3), ["tanh"] * 2, "tanh"), ((), [], "identity")]
    )
    def test_one_activation_for_all_layers_has_one(self, name, sizes, activation, expected):
        both, X, y = fitted(name, hidden_layer_sizes=sizes, activation=activation, warm_start=True)
        assert both.theirs.activation == expected
        same(both, lambda model: model.set_params(warm_start=False).fit(X, y))
        assert_same_answers(both, X)

    def test_the_layers_that_are_there_count(self, name):
        both, X, _ = fitted(name, activation=["tanh", "tanh"], dropout=[0.0, 0.0])
        assert_same_answers(Pair(both.ours.set_params(hidden_layer_sizes=(9,)), both.ours.to_sklearn()), X)

    @pytest.mark.parametrize(
        ("settings", "shown"),
        [
            ({"class_weight": "balanced"}, "'balanced'"),
            ({"label_smoothing": 0.25}, "0.25"),
            ({"stratify": True, "early_stopping": True}, "True"),
            ({"dropout": 0.5}, "0.5"),
            ({"dropout": [0.0, 0.5]}, r"\[0.0, 0.5\]"),
        ],
    )
    def test_what_further_training_would_leave_out(self, name, settings, shown):
        (own, *_) = settings
        if name == "MLPRegressor" and own != "dropout":
            pytest.skip("a classifier's")
        X, y = data("iris")
        model = getattr(ours, name)(**SETTINGS | settings).fit(X, y)
        default = getattr(ours, name)().get_params()[own]
        message = rf"^{own} is {shown}, which has no counterpart in scikit-learn.* set_params\({own}={default}\) first$"
        with pytest.raises(ValueError, match=message):
            model.to_sklearn()
        converted = model.set_params(**{own: default}).to_sklearn()
        assert_same_answers(Pair(model, converted), X)

    @pytest.mark.parametrize("settings", [{"callbacks": [lambda *_: None]}, {"n_threads": 1}, {"dropout": [0.0, 0]}])
    def test_what_changes_no_epoch_is_left_out(self, name, settings):
        both, X, y = fitted(name, **settings)
        assert not vars(both.theirs).keys() & settings.keys()
        same(both, lambda model: model.partial_fit(X, y).coefs_)


def test_stratify_counts_only_with_early_stopping():
    both, X, y = fitted("MLPClassifier", stratify=True)
    same(both, lambda model: model.partial_fit(X, y).coefs_)


def test_a_callback_may_keep_it():
    X, y = data("iris")
    kept = []
    model = ours.MLPClassifier(**SETTINGS, callbacks=[lambda estimator, *_: kept.append(estimator.to_sklearn())])
    model.fit(X, y, X_val=X, y_val=y)
    for epochs, converted in enumerate(kept, 1):
        expected = theirs.MLPClassifier(**SETTINGS | {"max_iter": epochs}).fit(X, y)
        assert_close(converted.coefs_, expected.coefs_, 1e-9, "coefs_")


@every_estimator
@pytest.mark.skipif(RELEASE < (1, 7), reason="this scikit-learn has no sample weights to request")
def test_requests_of_metadata_stay(name):
    with config_context(enable_metadata_routing=True):
        model = getattr(ours, name)().set_fit_request(sample_weight="w", X_val=True, y_val=True)
        requests = model.set_score_request(sample_weight=False).to_sklearn().get_metadata_routing()
        assert requests.fit.requests == {"sample_weight": "w"}
        assert requests.score.requests == {"sample_weight": False}
        assert requests.partial_fit.requests["sample_weight"] is None


def test_a_subclass():
    class Mine(ours.MLPClassifier):
        def __init__(self, extra=1, **settings):
            super().__init__((3,), **settings)
            self.extra = extra

    X, y = data("iris")
    model = Mine(extra=2)
    model.fit(X, y)
    converted = model.to_sklearn()
    assert type(converted) is theirs.MLPClassifier
    assert not vars(converted).keys() & {"dropout", "class_weight", "callbacks"}
    assert_same_answers(Pair(model, converted), X)
