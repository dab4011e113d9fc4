"""What fastnn adds to scikit-learn's parameters, against computations by hand and scikit-learn's own classes."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.sparse import csr_matrix
from scipy.special import expit, softmax
from sklearn import neural_network
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.preprocessing import scale
from sklearn.utils.class_weight import compute_sample_weight

import fastnn.sklearn
import fastnn.sklearn._training as training
from fastnn.sklearn import MLPClassifier, MLPRegressor
from tests.sklearn.pairs import RELEASE

# scikit-learn 1.6 hands on what new releases of scipy no longer want.
OF_SCIPY = "ignore:.*iprint:DeprecationWarning"
pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer", "ignore:lbfgs failed to converge", OF_SCIPY)

X, Y = scale(load_iris().data), load_iris().target
SMALL = {"hidden_layer_sizes": (6, 5), "max_iter": 4, "random_state": 0}
ONE_STEP = {"solver": "sgd", "momentum": 0.0, "batch_size": len(X), "warm_start": True, "max_iter": 1, "alpha": 0.0}


def step(model, X, y):
    """The parameters before and after one more epoch, and the loss it had."""
    before = [array.copy() for array in model.coefs_ + model.intercepts_]
    model.fit(X, y)
    return before, [array.copy() for array in model.coefs_ + model.intercepts_], model.loss_curve_[-1]


class TestClassWeight:
    @pytest.mark.skipif(RELEASE < (1, 7), reason="this scikit-learn has no sample weights to compare with")
    @pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
    @pytest.mark.parametrize("class_weight", ["balanced", {0: 1.0, 1: 0.5, 2: 4.0}, {2: 3.0}])
    def test_weighs_the_samples(self, class_weight, solver):
        X_, y = X[:120], Y[:120]  # 50, 50 and 20
        ours = MLPClassifier(**SMALL, solver=solver, class_weight=class_weight).fit(X_, y)
        theirs = neural_network.MLPClassifier(**SMALL, solver=solver)
        theirs.fit(X_, y, sample_weight=compute_sample_weight(class_weight, y))
        np.testing.assert_allclose(ours.predict_proba(X_), theirs.predict_proba(X_), rtol=1e-6)

    @pytest.mark.skipif(RELEASE < (1, 7), reason="this scikit-learn has no sample weights to compare with")
    def test_times_that_of_the_samples(self):
        v = np.random.RandomState(1).uniform(0.5, 2, len(X))
        names = np.array(["b", "a", "c"])[Y]
        weight = {"a": 2.0, "b": 0.25, "c": 1.0}
        settings = {**SMALL, "early_stopping": True, "max_iter": 12}
        if RELEASE < (1, 9):  # whose early stopping cannot compare str
            names, weight = Y, {0: 0.25, 1: 2.0, 2: 1.0}
        ours = MLPClassifier(**settings, class_weight=weight).fit(X, names, sample_weight=v)
        theirs = neural_network.MLPClassifier(**settings)
        theirs.fit(X, names, sample_weight=v * compute_sample_weight(weight, names))
        np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_)
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-9)

    @pytest.mark.skipif(RELEASE < (1, 7), reason="this scikit-learn has no sample weights to compare with")
    @pytest.mark.parametrize("class_weight", ["balanced", [{0: 1.0, 1: 3.0}, {0: 2.0, 1: 1.0}, {0: 1.0, 1: 1.0}]])
    def test_of_several_labels(self, class_weight):
        X_, several = make_multilabel_classification(60, 5, n_classes=3, random_state=0)
        ours = MLPClassifier(**SMALL, class_weight=class_weight).fit(X_, several)
        theirs = neural_network.MLPClassifier(**SMALL)
        theirs.fit(X_, several, sample_weight=compute_sample_weight(class_weight, several))
        np.testing.assert_allclose(ours.predict_proba(X_), theirs.predict_proba(X_), rtol=1e-9)

    def test_a_loss_by_hand(self):
        model = MLPClassifier(hidden_layer_sizes=(), class_weight={0: 1.0, 1: 2.0, 2: 0.5}, random_state=0, **ONE_STEP)
        (w, b), _, loss = step(model.fit(X, Y), X, Y)
        v = np.array([1.0, 2.0, 0.5])[Y]
        losses = -np.log(softmax(X @ w + b, axis=1)[np.arange(len(Y)), Y])
        assert loss == pytest.approx((v * losses).sum() / v.sum(), rel=1e-12)

    def test_in_parts_that_lack_a_class(self):
        model = MLPClassifier(hidden_layer_sizes=(), class_weight={1: 5.0, 2: 3.0}, random_state=0, solver="sgd")
        model.partial_fit(X[:100], Y[:100], classes=[0, 1, 2])
        w, b = model.coefs_[0].copy(), model.intercepts_[0].copy()
        model.set_params(alpha=0.0, batch_size=100).partial_fit(X[:100], Y[:100])
        v = np.array([1.0, 5.0, 3.0])[Y[:100]]
        losses = -np.log(softmax(X[:100] @ w + b, axis=1)[np.arange(100), Y[:100]])
        assert model.loss_ == pytest.approx((v * losses).sum() / v.sum(), rel=1e-12)


class TestLabelSmoothing:
    def test_several_classes_by_hand(self):
        model = MLPClassifier(hidden_layer_sizes=(), label_smoothing=0.3, random_state=0, **ONE_STEP)
        (w, b), (w_after, b_after), loss = step(model.fit(X, Y), X, Y)
        targets = 0.7 * np.eye(3)[Y] + 0.1
        p = softmax(X @ w + b, axis=1)
        assert loss == pytest.approx(-(targets * np.log(p)).sum(axis=1).mean(), rel=1e-12)
        np.testing.assert_allclose(w_after, w - 0.001 * X.T @ (p - targets) / len(X), rtol=1e-12)
        np.testing.assert_allclose(b_after, b - 0.001 * (p - targets).mean(axis=0), rtol=1e-12)

    @pytest.mark.parametrize("several", [False, True])
    def test_two_classes_by_hand(self, several):
        y = np.column_stack([Y == 0, Y > 0, Y == 2]).astype(int) if several else (Y == 1).astype(int)
        model = MLPClassifier(hidden_layer_sizes=(), label_smoothing=0.2, random_state=0, **ONE_STEP)
        (w, b), (w_after, b_after), loss = step(model.fit(X, y), X, y)
        targets = 0.8 * y.reshape(len(y), -1) + 0.1
        p = expit(X @ w + b)
        by_hand = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum(axis=1).mean()
        assert loss == pytest.approx(by_hand, rel=1e-12)
        np.testing.assert_allclose(w_after, w - 0.001 * X.T @ (p - targets) / len(X), rtol=1e-12)
        np.testing.assert_allclose(b_after, b - 0.001 * (p - targets).mean(axis=0), rtol=1e-12)

    def test_the_full_loss(self):
        model = MLPClassifier(hidden_layer_sizes=(), label_smoothing=0.3, solver="lbfgs", alpha=0.0, max_iter=1000)
        p = model.fit(X, Y).predict_proba(X)
        assert model.loss_ == pytest.approx(-((0.7 * np.eye(3)[Y] + 0.1) * np.log(p)).sum(axis=1).mean(), rel=1e-9)
        assert p.max() < 0.95


class TestDropout:
    WIDTH, RATE = 2000, 0.3

    def model(self, **settings):
        settings = {"dropout": self.RATE, "activation": "identity", "alpha": 0.0, "batch_size": 1} | settings
        model = MLPRegressor(hidden_layer_sizes=(self.WIDTH,), solver="sgd", momentum=0.0, random_state=0, **settings)
        return model.partial_fit(X[:1], [1.0])

    def test_a_step_by_hand(self):
        model = self.model()
        (w1, w2), (b1, b2) = ([array.copy() for array in arrays] for arrays in (model.coefs_, model.intercepts_))
        x, y, lr = X[1:2], 0.5, 0.001
        model.partial_fit(x, [y])
        kept = (model.coefs_[1] != w2).ravel()
        assert abs(kept.sum() - 0.7 * self.WIDTH) < 5 * np.sqrt(self.WIDTH * 0.3 * 0.7)
        h = (x @ w1 + b1) * kept / 0.7
        error = h @ w2 + b2 - y
        of_hidden = error @ w2.T * kept / 0.7
        np.testing.assert_allclose(model.loss_, 0.5 * error[0, 0] ** 2, rtol=1e-9)
        np.testing.assert_allclose(model.coefs_[1], w2 - lr * h.T @ error, rtol=1e-9)
        np.testing.assert_allclose(model.intercepts_[1], b2 - lr * error[0], rtol=1e-9)
        np.testing.assert_allclose(model.coefs_[0], w1 - lr * x.T @ of_hidden, rtol=1e-9)
        np.testing.assert_allclose(model.intercepts_[0], b1 - lr * of_hidden[0], rtol=1e-9)

    def test_every_update_drops_others(self):
        model, seen = self.model(), []
        for _ in range(3):
            before = model.coefs_[1].copy()
            model.partial_fit(X[1:2], [0.5])
            seen.append((model.coefs_[1] != before).ravel())
        agree = [np.mean(a == b) for a, b in [(seen[0], seen[1]), (seen[1], seen[2]), (seen[0], seen[2])]]
        np.testing.assert_allclose(agree, 0.3**2 + 0.7**2, atol=0.06)

    def test_a_rate_for_each_layer(self):
        settings = {**SMALL, "hidden_layer_sizes": (6, 400), "max_iter": 1, "solver": "sgd", "batch_size": 1}
        settings |= {"momentum": 0.0, "alpha": 0.0, "activation": "identity", "warm_start": True}
        model = MLPRegressor(**settings, dropout=[0.0, 0.5]).fit(X[:1], [1.0])
        before = [coef.copy() for coef in model.coefs_]
        model.fit(X[:1], [0.5])
        changed = [np.mean(after != coef) for after, coef in zip(model.coefs_, before, strict=True)]
        assert changed[0] == 1.0
        assert 0.3 < changed[2] < 0.7

    def test_predictions_drop_nothing(self):
        model = MLPClassifier(**SMALL, dropout=0.5).fit(X, Y)
        h = X
        for w, b in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
            h = np.maximum(h @ w + b, 0)
        expected = softmax(h @ model.coefs_[-1] + model.intercepts_[-1], axis=1)
        np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-12)

    @pytest.mark.parametrize("solver", ["adam", "sgd"])
    def test_a_seed_gives_the_same_network(self, solver):
        a, b = (MLPClassifier(**SMALL, solver=solver, dropout=0.5).fit(X, Y) for _ in range(2))
        c = MLPClassifier(**SMALL, solver=solver).fit(X, Y)
        np.testing.assert_array_equal(a.coefs_[0], b.coefs_[0])
        assert (a.coefs_[0] != c.coefs_[0]).any()

    def test_sparse_samples_drop_the_same(self):
        a, b = (MLPClassifier(**SMALL, dropout=0.5, batch_size=40).fit(x, Y) for x in (X, csr_matrix(X)))
        np.testing.assert_allclose(a.coefs_[0], b.coefs_[0], rtol=1e-12)


FUNCTIONS = {
    "identity": lambda z: z,
    "logistic": expit,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
}


class TestActivations:
    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    @pytest.mark.parametrize("name", ["identity", "logistic", "tanh", "relu"])
    def test_the_same_name_twice(self, name, solver):
        one, each = (MLPClassifier(**SMALL, solver=solver, activation=given).fit(X, Y) for given in (name, [name] * 2))
        np.testing.assert_array_equal(one.predict_proba(X), each.predict_proba(X))

    @pytest.mark.parametrize("names", [("tanh", "leaky_relu"), ("logistic", "relu"), "leaky_relu"])
    def test_a_step_by_central_differences(self, names):
        y = X[:, 0] * X[:, 1]
        settings = ONE_STEP | {"learning_rate_init": 0.01}
        model = MLPRegressor(hidden_layer_sizes=(4, 3), activation=names, random_state=1, **settings).fit(X, y)
        before, after, loss = step(model, X, y)
        functions = [FUNCTIONS[name] for name in ([names] * 2 if isinstance(names, str) else names)]

        def value(flat):
            arrays, start = [], 0
            for array in before:
                arrays.append(flat[start : start + array.size].reshape(array.shape))
                start += array.size
            h = X
            for w, b, f in zip(arrays[:3], arrays[3:], [*functions, FUNCTIONS["identity"]], strict=True):
                h = f(h @ w + b)
            return 0.5 * np.mean((h[:, 0] - y) ** 2)

        start, end = (np.concatenate([array.ravel() for array in arrays]) for arrays in (before, after))
        assert loss == pytest.approx(value(start), rel=1e-12)
        units = np.eye(len(start)) * 1e-6
        differences = [(value(start + unit) - value(start - unit)) / 2e-6 for unit in units]
        np.testing.assert_allclose((start - end) / 0.01, differences, rtol=1e-5, atol=1e-8)

    def test_initial_weights_suit_each_layer(self):
        model = MLPRegressor(**SMALL | {"activation": ["logistic", "relu"], "solver": "sgd", "max_iter": 1})
        model.set_params(learning_rate_init=1e-300).fit(X, Y)
        rng = np.random.RandomState(0)
        for i, (factor, n_in, n_out) in enumerate([(2, 4, 6), (6, 6, 5), (6, 5, 1)]):
            bound = np.sqrt(factor / (n_in + n_out))
            np.testing.assert_array_equal(model.coefs_[i], rng.uniform(-bound, bound, (n_in, n_out)))
            np.testing.assert_array_equal(model.intercepts_[i], rng.uniform(-bound, bound, n_out))

    @pytest.mark.parametrize("activation", ["logistic", "tanh"])
    def test_initial_weights_without_hidden_layers(self, activation):
        settings = {"hidden_layer_sizes": (), "activation": activation, "max_iter": 1, "random_state": 0}
        ours, theirs = (module.MLPRegressor(**settings).fit(X, Y) for module in (fastnn.sklearn, neural_network))
        np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=1e-12)

    def test_without_hidden_layers(self):
        none, one = (
            MLPClassifier(hidden_layer_sizes=(), activation=given, max_iter=3, random_state=0).fit(X, Y)
            for given in ([], "identity")
        )
        np.testing.assert_array_equal(none.coefs_[0], one.coefs_[0])


class TestDtype:
    @pytest.mark.parametrize("dtype", ["float32", np.float32])
    @pytest.mark.parametrize("solver", ["adam", "sgd"])
    def test_float32(self, solver, dtype):
        model = MLPClassifier(**SMALL, solver=solver, dtype=dtype).fit(X, Y)
        theirs = neural_network.MLPClassifier(**SMALL, solver=solver).fit(X.astype(np.float32), Y)
        assert {array.dtype for array in model.coefs_ + model.intercepts_} == {np.dtype(np.float32)}
        assert model.predict_proba(X).dtype == np.float32
        np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), rtol=1e-4)

    def test_float64(self):
        X_ = X.astype(np.float32)
        model = MLPClassifier(**SMALL, dtype="float64").fit(X_, Y)
        theirs = neural_network.MLPClassifier(**SMALL).fit(X_.astype(np.float64), Y)
        np.testing.assert_allclose(model.predict_proba(X_), theirs.predict_proba(X_.astype(np.float64)), rtol=1e-9)

    def test_as_it_comes(self):
        for dtype in (np.float32, np.float64):
            model = MLPRegressor(**SMALL).fit(X.astype(dtype), Y)
            assert model.coefs_[0].dtype == model.predict(X.astype(dtype)).dtype == dtype


class TestStratify:
    @pytest.mark.parametrize("stratify", [False, True])
    def test_shares_of_the_classes(self, monkeypatch, stratify):
        labels = np.array([0] * 100 + [1] * 30 + [2] * 20)
        held_out = []

        def split(*arrays, **settings):
            parts = original(*arrays, **settings)
            held_out.append(np.bincount(labels[parts[1]], minlength=3).tolist())
            return parts

        original = training.train_test_split
        monkeypatch.setattr(training, "train_test_split", split)
        settings = {**SMALL, "early_stopping": True, "validation_fraction": 0.2}
        for seed in range(5):
            MLPClassifier(**settings | {"random_state": seed}, stratify=stratify).fit(X, labels)
        assert all(counts == [20, 6, 4] for counts in held_out) == stratify


class TestBlocks:
    """L-BFGS sees the samples in blocks, which must not show."""

    @pytest.mark.parametrize("form", [np.asarray, csr_matrix])
    @pytest.mark.parametrize("least", [None, 0.0, -0.2])
    def test_the_full_loss(self, least, form):
        if least is not None and RELEASE < (1, 7):
            pytest.skip("this scikit-learn has no sample weights to compare with")
        rng = np.random.RandomState(0)
        X_ = rng.normal(size=(2500, 4))
        y = np.tanh(X_ @ rng.normal(size=4)) + rng.normal(size=2500)
        weights = {} if least is None else {"sample_weight": rng.uniform(least, 2, 2500)}
        settings = SMALL | {"solver": "lbfgs", "alpha": 5.0}
        if least is not None and least < 0:
            weights["sample_weight"][:1024] -= weights["sample_weight"][:1024].mean()  # a whole block weighs nothing
        ours, theirs = (
            module.MLPRegressor(**settings).fit(form(X_), y, **weights) for module in (fastnn.sklearn, neural_network)
        )
        assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-9)
        np.testing.assert_allclose(ours.predict(X_), theirs.predict(X_), rtol=1e-6, atol=1e-9)
