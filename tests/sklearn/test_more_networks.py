"""Activations, AdamW and normalisation of the estimators, against a Sequential of the same layers."""

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.preprocessing import scale

import fastnn as fnn
from fastnn.sklearn import GridSearchCV, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")

X, Y = scale(load_iris().data), load_iris().target
SMALL = {"hidden_layer_sizes": (6, 5), "max_iter": 4, "random_state": 0, "alpha": 0.0, "batch_size": 40}
NORMS = {"layer_norm": fnn.LayerNorm, "batch_norm": fnn.BatchNorm}
ACTIVATIONS = {
    "gelu": fnn.GELU,
    "silu": fnn.SiLU,
    "mish": fnn.Mish,
    "elu": fnn.ELU,
    "selu": fnn.SELU,
    "softplus": fnn.Softplus,
    "hard_swish": fnn.HardSwish,
}
every_norm = pytest.mark.parametrize("norm", NORMS)


def sequential(model, norm=None, activation=fnn.ReLU):
    """A Sequential with the weights of an estimator."""
    layers = []
    for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        layers.append(fnn.Linear(*w.shape, init=np.array(w), bias=np.array(b)))
        if i < len(model.coefs_) - 1:
            layers += [NORMS[norm](w.shape[1])] if norm else []
            layers.append(activation())
    twin = fnn.Sequential(*layers, dtype="float64")
    norms = [layer for layer in twin.layers if isinstance(layer, (fnn.LayerNorm, fnn.BatchNorm))]
    for layer, values in zip(norms, getattr(model, "norms_", []), strict=True):
        for name, value in values.items():
            setattr(layer, name, value)
    return twin


def initial(**settings):
    """An estimator before any training: of one step of size 0."""
    return MLPClassifier(**{**SMALL, **settings, "max_iter": 1, "solver": "sgd", "learning_rate_init": 1e-300})


def assert_same(model, twin):
    arrays = [*model.coefs_, *model.intercepts_, *(a for norm in getattr(model, "norms_", []) for a in norm.values())]
    given = sorted(float(a) for array in arrays for a in np.ravel(array))
    values = [value for layer in twin.layers for value in layer.parameters()]
    values += [getattr(layer, name) for layer in twin.layers for name in layer.buffers]
    expected = sorted(float(a) for array in values for a in np.ravel(array))
    np.testing.assert_allclose(given, expected, rtol=1e-9, atol=1e-12)


class TestActivations:
    @pytest.mark.parametrize("name", ACTIVATIONS)
    def test_train_and_predict(self, name):
        twin = sequential(initial(activation=name).fit(X, Y), activation=ACTIVATIONS[name])
        model = MLPClassifier(**SMALL, activation=name, solver="sgd", shuffle=False).fit(X, Y)
        optimizer = fnn.SGD(0.001, momentum=0.9, nesterov=True)
        twin.fit(X, Y, optimizer=optimizer, batch_size=40, shuffle=False, epochs=4, verbose=0)
        assert_same(model, twin)
        np.testing.assert_allclose(model.predict_proba(X), twin.predict_proba(X), rtol=1e-9)
        np.testing.assert_allclose(model.predict_proba(csr_matrix(X)), twin.predict_proba(X), rtol=1e-9)

    def test_one_for_each_layer(self):
        model = MLPRegressor(**SMALL, activation=["silu", "elu"]).fit(X, X[:, 0])
        (w1, w2, w3), (b1, b2, b3) = model.coefs_, model.intercepts_
        first = X @ w1 + b1
        second = first / (1 + np.exp(-first)) @ w2 + b2
        second = np.where(second > 0, second, np.expm1(np.minimum(second, 0)))
        np.testing.assert_allclose(model.predict(X), (second @ w3 + b3)[:, 0], rtol=1e-9)

    def test_has_no_counterpart(self):
        with pytest.raises(ValueError, match="activation 'silu' has no counterpart in scikit-learn"):
            MLPClassifier(**SMALL, activation="silu").fit(X, Y).to_sklearn()


class TestAdamW:
    @pytest.mark.parametrize("decay", [0.0, 0.5])
    def test_is_that_of_fastnn(self, decay):
        twin = sequential(initial().fit(X, Y))
        model = MLPClassifier(**SMALL, optimizer="adamw", weight_decay=decay, shuffle=False).fit(X, Y)
        optimizer = fnn.AdamW(0.001, weight_decay=decay)
        twin.fit(X, Y, optimizer=optimizer, batch_size=40, shuffle=False, epochs=4, verbose=0)
        assert_same(model, twin)

    def test_goes_on_after_a_pickle(self):
        settings = {**SMALL, "optimizer": "adamw", "weight_decay": 0.3, "shuffle": False}
        model = MLPClassifier(**settings).fit(X, Y)
        parts = MLPClassifier(**settings).partial_fit(X, Y, classes=[0, 1, 2])
        for _ in range(3):
            parts = pickle.loads(pickle.dumps(parts)).partial_fit(X, Y)
        assert all(map(np.array_equal, model.coefs_, parts.coefs_))

    def test_the_decay_alone_changes_nothing(self):
        expected = MLPClassifier(**SMALL).fit(X, Y)
        assert all(map(np.array_equal, MLPClassifier(**SMALL, weight_decay=9).fit(X, Y).coefs_, expected.coefs_))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"solver": "sgd"}, "optimizer 'adamw' is a form of solver 'adam', but the solver is 'sgd'"),
            ({"solver": "lbfgs"}, "solver 'lbfgs' has no epochs, so optimizer does not apply"),
            ({"weight_decay": -1}, "'weight_decay' parameter .* must be a float in the range"),
            ({"optimizer": "lion"}, "'optimizer' parameter .* must be a str among {'adamw'} or None"),
        ],
    )
    def test_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            MLPClassifier(**{**SMALL, "optimizer": "adamw", **settings}).fit(X, Y)

    def test_has_no_counterpart(self):
        model = MLPClassifier(**SMALL, optimizer="adamw").fit(X, Y)
        with pytest.raises(ValueError, match=r"optimizer is 'adamw', which .*set_params\(optimizer=None\) first"):
            model.to_sklearn()
        theirs = model.set_params(optimizer=None).to_sklearn()
        np.testing.assert_allclose(theirs.predict_proba(X), model.predict_proba(X), rtol=1e-9)


class TestClipping:
    @pytest.mark.parametrize("optimizer", [None, "adamw"])
    def test_is_that_of_fastnn(self, optimizer):
        twin = sequential(initial().fit(X, Y))
        settings = {"solver": "adam" if optimizer else "sgd", "optimizer": optimizer, "learning_rate_init": 0.1}
        model = MLPClassifier(**SMALL, **settings, clip_norm=0.1, shuffle=False).fit(X, Y)
        plain = MLPClassifier(**SMALL, **settings, shuffle=False).fit(X, Y)
        assert not np.allclose(plain.coefs_[0], model.coefs_[0], rtol=1e-3)
        clipped = {"clip_norm": 0.1}
        rule = fnn.AdamW(0.1, **clipped) if optimizer else fnn.SGD(0.1, momentum=0.9, nesterov=True, **clipped)
        twin.fit(X, Y, optimizer=rule, batch_size=40, shuffle=False, epochs=4, verbose=0)
        assert_same(model, twin)
        sparse = MLPClassifier(**SMALL, **settings, clip_norm=0.1, shuffle=False).fit(csr_matrix(X), Y)
        np.testing.assert_allclose(sparse.predict_proba(X), model.predict_proba(X), rtol=1e-9)

    def test_a_limit_that_is_never_met_changes_nothing(self):
        model, expected = MLPClassifier(**SMALL, clip_norm=1e9).fit(X, Y), MLPClassifier(**SMALL).fit(X, Y)
        np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(X), rtol=1e-12)

    def test_in_a_search(self):
        grid = {"clip_norm": [None, 0.05, 1.0], "alpha": [1e-4, 1.0]}
        search = GridSearchCV(MLPClassifier(**SMALL), grid, cv=2).fit(X, Y)
        fold = next(folds(search, X, Y))
        for i, setting in enumerate(search.cv_results_["params"]):
            model = MLPClassifier(**{**SMALL, **setting}).fit(X[fold], Y[fold])
            assert search.cv_results_["split0_test_score"][i] == model.score(X[~fold], Y[~fold])

    def test_refused(self):
        with pytest.raises(ValueError, match=r"'clip_norm' parameter .* must be a float in the range"):
            MLPClassifier(**SMALL, clip_norm=0).fit(X, Y)
        with pytest.raises(ValueError, match="solver 'lbfgs' has no epochs, so clip_norm does not apply"):
            MLPClassifier(**SMALL, clip_norm=1, solver="lbfgs").fit(X, Y)
        with pytest.raises(ValueError, match=r"clip_norm is 1, which .*set_params\(clip_norm=None\) first"):
            MLPClassifier(**SMALL, clip_norm=1).fit(X, Y).to_sklearn()


@every_norm
class TestNorms:
    @pytest.mark.parametrize(("solver", "optimizer"), [("sgd", None), ("adam", "adamw")])
    def test_are_those_of_fastnn(self, norm, solver, optimizer):
        twin = sequential(initial(**{norm: True}).fit(X, Y), norm)
        if norm == "batch_norm":
            for layer in twin.layers:
                for name in layer.buffers:
                    getattr(layer, name)[...] = name == "running_variance"
        settings = {"solver": solver, "optimizer": optimizer, "shuffle": False, norm: True}
        model = MLPClassifier(**SMALL, **settings).fit(X, Y)
        rule = fnn.AdamW(0.001) if optimizer else fnn.SGD(0.001, momentum=0.9, nesterov=True)
        twin.fit(X, Y, optimizer=rule, batch_size=40, shuffle=False, epochs=4, verbose=0)
        assert_same(model, twin)
        np.testing.assert_allclose(model.predict_proba(X), twin.predict_proba(X), rtol=1e-9)
        np.testing.assert_allclose(model.predict_proba(csr_matrix(X)), twin.predict_proba(X), rtol=1e-9)
        assert (model.predict(X) == twin.predict(X)).all()

    def test_what_they_have(self, norm):
        model = MLPRegressor(**SMALL, **{norm: True}).fit(X, X[:, 1])
        names = ["weight", "bias", "running_mean", "running_variance"][: 2 if norm == "layer_norm" else 4]
        assert [list(arrays) for arrays in model.norms_] == [names] * 2
        assert [array.shape for arrays in model.norms_ for array in arrays.values()] == [
            *[(6,)] * len(names),
            *[(5,)] * len(names),
        ]
        twin = sequential(model, norm)
        np.testing.assert_allclose(model.predict(X), twin.forward(X)[:, 0], rtol=1e-9)
        model.norms_[0]["weight"][...] = 2  # views into what the kernels use
        np.testing.assert_allclose(model.predict(X), sequential(model, norm).forward(X)[:, 0], rtol=1e-9)
        model.norms_[1]["bias"] = np.arange(5.0)  # or others in their place
        np.testing.assert_allclose(model.predict(X), sequential(model, norm).forward(X)[:, 0], rtol=1e-9)

    def test_sparse_samples(self, norm):
        dense = MLPClassifier(**SMALL, **{norm: True}).fit(X, Y)
        model = MLPClassifier(**SMALL, **{norm: True}).fit(csr_matrix(X), Y)
        np.testing.assert_allclose(model.predict_proba(X), dense.predict_proba(X), rtol=1e-9)

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
    def test_copies_go_on(self, norm, duplicate):
        settings = {**SMALL, norm: True, "dropout": 0.2, "dtype": "float32"}
        model = MLPClassifier(**settings).partial_fit(X, Y, classes=[0, 1, 2])
        twin = duplicate(model)
        np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
        for each in (model, twin):
            each.partial_fit(X, Y)
        np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
        assert clone(model).get_params() == model.get_params()

    def test_the_best_come_back(self, norm):
        settings = {**SMALL, norm: True, "early_stopping": True, "learning_rate_init": 0.3, "max_iter": 40}
        kept = []
        model = MLPClassifier(
            **settings,
            callbacks=[lambda m, epoch, values: kept.append((values["validation_score"], copy.deepcopy(m.norms_)))],
        ).fit(X, Y)
        best = int(np.argmax([score for score, _ in kept]))
        assert best < len(kept) - 1
        for found, expected in zip(model.norms_, kept[best][1], strict=True):
            assert all(np.array_equal(found[name], expected[name]) for name in expected)
        twin = pickle.loads(pickle.dumps(model.set_params(callbacks=None)))
        assert twin._best_norms is twin.norms_  # which further training changes with the coefficients
        np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))

    def test_searched(self, norm):
        search = GridSearchCV(MLPClassifier(**SMALL), {norm: [False, True], "activation": ["relu", "silu"]}, cv=2)
        search.fit(X, Y)
        alone = [
            MLPClassifier(**SMALL, **setting).fit(X[fold], Y[fold]).score(X[~fold], Y[~fold])
            for setting in search.cv_results_["params"][-1:]
            for fold in folds(search, X, Y)
        ]
        scores = [search.cv_results_[f"split{i}_test_score"][-1] for i in range(2)]
        assert scores == alone

    def test_refused(self, norm):
        model = MLPClassifier(**SMALL, **{norm: True}).fit(X, Y)
        with pytest.raises(ValueError, match=f"{norm} is True, which has no counterpart in scikit-learn"):
            model.to_sklearn()
        with pytest.raises(ValueError, match=f"solver 'lbfgs' has no epochs, so {norm} does not apply"):
            MLPClassifier(**SMALL, **{norm: True}, solver="lbfgs").fit(X, Y)
        with pytest.raises(ValueError, match=f"'{norm}' parameter .* must be an instance of 'bool'"):
            MLPClassifier(**SMALL, **{norm: "yes"}).fit(X, Y)
        plain = MLPClassifier(**SMALL, warm_start=True).fit(X, Y).set_params(**{norm: True})
        for call in (plain.predict, lambda X: plain.fit(X, Y)):
            with pytest.raises(
                ValueError, match=f"{norm} is True, but the fitted layers have no normalisation: use warm"
            ):
                call(X)
        model.norms_[0]["bias"] = np.zeros(3)
        with pytest.raises(ValueError, match=r"norms_\[0\]\['bias'\] has shape \(3,\), expected \(6,\)"):
            model.predict(X)
        model.norms_ = model.norms_[:1]
        with pytest.raises(ValueError, match=r"norms_ hold \[\[.*\]\], expected \[\["):
            model.predict(X)


def folds(search, X, Y):
    from sklearn.model_selection import StratifiedKFold

    for train, _ in StratifiedKFold(2).split(X, Y):
        yield np.isin(np.arange(len(X)), train)


def test_both_norms():
    with pytest.raises(ValueError, match="layer_norm and batch_norm are both True: choose one of them"):
        MLPClassifier(**SMALL, layer_norm=True, batch_norm=True).fit(X, Y)


def test_a_batch_of_one_sample():
    settings = {**SMALL, "batch_norm": True, "batch_size": 149}
    with pytest.raises(ValueError, match="batch_size is 149 for 150 samples, which leaves 1 to the last batch"):
        MLPClassifier(**settings).fit(X, Y)
    with pytest.raises(ValueError, match="batch_size is 1 for 1 samples, which leaves 1"):
        MLPClassifier(**{**settings, "batch_size": 1}).partial_fit(X[:1], Y[:1], classes=[0, 1, 2])


def test_no_hidden_layer():
    model = MLPClassifier((), max_iter=3, random_state=0, layer_norm=True).fit(X, Y)
    assert model.norms_ == []
    expected = MLPClassifier((), max_iter=3, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))


def test_what_is_left_to_scikit_learn_has_none(monkeypatch):
    from sklearn.neural_network import _base

    model = MLPClassifier(**SMALL, layer_norm=True).fit(X, Y)
    monkeypatch.setitem(_base.ACTIVATIONS, "relu", lambda x: np.maximum(x, 0, out=x))
    for call in (model.predict, lambda X: clone(model).fit(X, Y)):
        with pytest.raises(ValueError, match="is left to scikit-learn's own code, which has no layer_norm: do without"):
            call(X)
    with pytest.raises(ValueError, match="which has no clip_norm: do without one of them"):
        MLPClassifier(**SMALL, clip_norm=1.0).fit(X, Y)
    with pytest.raises(ValueError, match="which has no optimizer 'adamw': do without one of them"):
        MLPClassifier(**SMALL, optimizer="adamw").fit(X, Y)
