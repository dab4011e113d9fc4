"""What outputs mean is what the loss says: predict, predict_proba, evaluate, validation and ensembles ask it."""

import numpy as np
import pytest
from scipy import special
from sklearn import metrics

import fastnn as fnn

pytestmark = pytest.mark.usefixtures("backend")


@pytest.fixture
def X(rng):
    return rng.normal(size=(50, 3))


def fitted(loss, X, y, k, seed=0, **settings):
    model = fnn.Sequential(fnn.Linear(3, 6), fnn.Tanh(), fnn.Linear(6, k), dtype="float64", seed=seed)
    model.fit(X, y, loss=loss, optimizer=fnn.Adam(0.02), epochs=8, verbose=0, **settings)
    return model


def several(X):
    """Labels of two things at once."""
    return np.stack([X[:, 0] > 0, X[:, 1] * X[:, 2] > 0.2], axis=1)


class TestBinary:
    def test_several_labels(self, X):
        y = several(X)
        model = fitted("binary_cross_entropy", X, y, 2)
        scores = model.forward(X)
        labels, probabilities = model.predict(X), model.predict_proba(X)
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(labels, scores > 0)
        np.testing.assert_allclose(probabilities, special.expit(scores), rtol=1e-14)
        measured = model.evaluate(X, y)
        assert set(measured) == {"loss", "accuracy"}
        assert measured["accuracy"] == pytest.approx((labels == y).mean())
        assert measured["loss"] == pytest.approx(fnn.binary_cross_entropy(scores, y))
        v = np.linspace(0, 1, 50)
        accuracy = np.average((labels == y).mean(axis=1), weights=v)
        assert model.evaluate(X, y, v)["accuracy"] == pytest.approx(accuracy)

    def test_one_label(self, X):
        """Whole numbers, booleans or probabilities, in a row or in a column."""
        y = several(X)[:, 1]
        models = [fitted("binary_cross_entropy", X, given, 1) for given in (y, y.astype(int), y[:, None] * 1.0)]
        for model in models:
            np.testing.assert_array_equal(model.forward(X), models[0].forward(X))
        assert models[2].predict(X).shape == models[0].predict_proba(X).shape == (50, 1)
        assert set(np.unique(models[0].predict(X))) <= {0, 1}
        soft = np.where(y, 0.9, 0.2)
        assert models[0].evaluate(X, soft)["accuracy"] == models[0].evaluate(X, y)["accuracy"]

    def test_validation(self, X):
        y = several(X)
        stopping = fnn.EarlyStopping(patience=3, monitor="val_accuracy")
        model = fitted(fnn.BinaryCrossEntropy(2), X, y, 2, validation_data=(X[:20], y[:20]), callbacks=[stopping])
        assert list(model.history) == ["loss", "val_loss", "val_accuracy"]
        assert max(model.history["val_accuracy"]) == stopping.best_value == model.evaluate(X[:20], y[:20])["accuracy"]

    def test_block_by_block(self, rng):
        """More samples than go through at once."""
        model = fnn.Sequential(fnn.Linear(3, 1 << 13), fnn.Linear(1 << 13, 1), dtype="float64")
        model.loss = "binary_cross_entropy"
        X = rng.normal(size=(200, 3))
        assert model._stack.block < 200
        y = X[:, 0] > 0
        measured = model.evaluate(X, y)
        assert measured["accuracy"] == pytest.approx(np.mean(model.predict(X)[:, 0] == y))
        assert measured["loss"] == pytest.approx(fnn.binary_cross_entropy(model.forward(X), y))

    def test_classes_have_no_weights(self, X):
        with pytest.raises(ValueError, match="class_weight needs classes, but the loss is BinaryCrossEntropy"):
            fitted("binary_cross_entropy", X, several(X)[:, 0], 1, class_weight="balanced")


class TestValues:
    def test_means_of_counts(self, X, rng):
        y = rng.poisson(np.exp(X[:, :2] / 2))
        model = fitted("poisson", X, y, 2)
        np.testing.assert_allclose(model.predict(X), np.exp(model.forward(X)), rtol=1e-14)
        assert set(model.evaluate(X, y)) == {"loss"}
        with pytest.raises(ValueError, match="trained with the poisson: its outputs are values, not class scores"):
            model.predict_proba(X)

    def test_a_mean_beyond_the_largest_number_is_infinite(self):
        model = fnn.Sequential(fnn.Linear(1, 1, init="zeros"))
        model.layers[0].weight = [[1.0]]
        model.loss = "poisson"
        np.testing.assert_array_equal(model.predict([[1000.0], [0.0]]), [[np.inf], [1.0]])

    @pytest.mark.parametrize("loss", ["absolute_error", fnn.Pinball([0.3, 0.6]), "squared_error", "huber"], ids=str)
    def test_outputs_as_they_are(self, loss, X):
        model = fitted(loss, X, X[:, :2], 2)
        np.testing.assert_array_equal(model.predict(X), model.forward(X))
        assert set(model.evaluate(X, X[:, :2])) == {"loss"}
        with pytest.raises(ValueError, match="its outputs are values, not class scores"):
            model.predict_proba(X)


class TestEnsembles:
    def test_mean_probabilities_of_labels(self, X, tmp_path):
        y = several(X)
        ensemble = fnn.Ensemble([fitted("binary_cross_entropy", X, y, 2, seed) for seed in range(3)])
        ensemble.save(tmp_path / "e.npz")
        ensemble = fnn.Ensemble.load(tmp_path / "e.npz")
        each = special.expit(np.stack([model.forward(X) for model in ensemble]))
        p = each.mean(axis=0)
        np.testing.assert_allclose(ensemble.predict_proba(X, each=True), each, rtol=1e-14)
        np.testing.assert_allclose(ensemble.predict_proba(X), p, rtol=1e-14)
        np.testing.assert_allclose(ensemble.std(X), each.std(axis=0), rtol=1e-9)
        np.testing.assert_array_equal(ensemble.predict(X), p > 0.5)
        assert ensemble.predict(X).dtype == np.int64
        measured = ensemble.evaluate(X, y)
        loss = -(np.where(y, np.log(p), np.log1p(-p))).sum(axis=1)
        assert measured["loss"] == pytest.approx(loss.mean())
        assert measured["accuracy"] == pytest.approx(((p > 0.5) == y).mean())
        v = np.linspace(0, 1, 50)
        weighted = ensemble.evaluate(X, y, v)
        assert weighted["loss"] == pytest.approx(np.average(loss, weights=v))
        assert weighted["accuracy"] == pytest.approx(np.average(((p > 0.5) == y).mean(axis=1), weights=v))

    def test_no_probability_is_too_small_for_the_loss(self):
        """σ(1000) is 1 in float64, and log(1 - 1) would be -inf."""
        models = [fnn.Sequential(fnn.Linear(1, 1, init="zeros"), dtype="float64") for _ in range(2)]
        for model, bias in zip(models, (1000.0, 2000.0), strict=True):
            model.loss, model.layers[0].bias = "binary_cross_entropy", [bias]
        # 1 - p is (e^-1000 + e^-2000) / 2.
        assert fnn.Ensemble(models).evaluate([[0.0]], [0])["loss"] == pytest.approx(1000 + np.log(2), rel=1e-14)

    def test_means_of_counts(self, X, rng):
        y = rng.poisson(np.exp(X[:, :1] / 2))
        ensemble = fnn.Ensemble([fitted("poisson", X, y, 1, seed) for seed in range(2)])
        each = np.exp(np.stack([model.forward(X) for model in ensemble]))
        mean = each.mean(axis=0)
        np.testing.assert_allclose(ensemble.predict(X), mean, rtol=1e-14)
        np.testing.assert_allclose(ensemble.std(X), each.std(axis=0), rtol=1e-9)
        np.testing.assert_allclose(ensemble.outputs(X), np.log(each).mean(axis=0), rtol=1e-12)
        assert ensemble.evaluate(X, y) == {"loss": pytest.approx((mean - y * np.log(mean)).mean())}
        with pytest.raises(ValueError, match=r"models\[0\] was trained with Poisson\(\), so its outputs need not be"):
            ensemble.predict_proba(X)

    @pytest.mark.parametrize(
        ("first", "second"),
        [("poisson", "squared_error"), ("binary_cross_entropy", "cross_entropy"), ("binary_cross_entropy", "huber")],
    )
    def test_members_that_mean_something_else(self, first, second):
        models = [fnn.Sequential(fnn.Linear(3, 2)) for _ in range(2)]
        for model, loss in zip(models, (first, second), strict=True):
            model.loss = loss
        with pytest.raises(ValueError, match=r"models\[1\] was trained with .*: the outputs of all must be"):
            fnn.Ensemble(models)

    def test_members_whose_values_are_of_several_losses(self, X):
        ensemble = fnn.Ensemble([fitted(loss, X, X[:, :1], 1) for loss in ("absolute_error", "huber", "pinball")[:2]])
        np.testing.assert_allclose(ensemble.predict(X), ensemble.outputs(X))


class TestMetrics:
    """Those with names measure what the outputs stand for, a user's functions get the outputs."""

    def test_of_one_label(self, X):
        y = several(X)[:, 0]
        names = ["accuracy", "balanced_accuracy", "f1"]
        model = fitted("binary_cross_entropy", X, y, 1, metrics=[*names, sum_of_outputs], validation_data=(X, y))
        predicted = model.predict(X).ravel()
        expected = {
            "accuracy": metrics.accuracy_score(y, predicted),
            "balanced_accuracy": metrics.balanced_accuracy_score(y, predicted),
            "f1": metrics.f1_score(y, predicted),
            "sum_of_outputs": model.forward(X).sum(),
        }
        last = {name: values[-1] for name, values in model.history.items()}
        assert {name: last[name] for name in expected} == pytest.approx(expected)
        assert {name: last[f"val_{name}"] for name in expected} == pytest.approx(expected)
        v = np.linspace(0, 1, 50)
        weighted = model.evaluate(X, y, v, metrics=["f1"])
        assert weighted["f1"] == pytest.approx(metrics.f1_score(y, predicted, sample_weight=v))

    def test_of_several_labels(self, X):
        y = several(X)
        model = fitted("binary_cross_entropy", X, y, 2, metrics=["accuracy"])
        assert model.history["accuracy"][-1] == pytest.approx((model.predict(X) == y).mean())
        f1 = metrics.f1_score(y, model.predict(X), average="macro")
        assert model.evaluate(X, y, metrics=["f1"])["f1"] == pytest.approx(f1)
        with pytest.raises(ValueError, match="metrics holds 'mse', which needs values"):
            model.evaluate(X, y, metrics=["mse"])

    def test_of_means(self, X, rng):
        y = rng.poisson(np.exp(X[:, :2] / 2))
        model = fitted("poisson", X, y, 2, metrics={"mae": "mae", "scores": sum_of_outputs})
        assert model.history["mae"][-1] == pytest.approx(np.abs(model.predict(X) - y).mean())
        assert model.history["scores"][-1] == pytest.approx(model.forward(X).sum())


def sum_of_outputs(y, outputs):
    return outputs.sum()


def test_what_a_subclass_of_the_users_says(X):
    """A loss that extends a built-in one and predicts otherwise."""

    class Careful(fnn.BinaryCrossEntropy):
        def predictions(self, outputs):
            return (outputs > 2).astype(np.int64)

    y = several(X)
    model = fitted(Careful(), X, y, 2)
    labels = model.forward(X) > 2
    np.testing.assert_array_equal(model.predict(X), labels)
    assert model.evaluate(X, y)["accuracy"] == pytest.approx((labels == y).mean())


class TestNames:
    """Two classes by their names and one output."""

    def test_from_fit_to_a_file(self, X, tmp_path):
        y = np.where(several(X)[:, 0], "ham", "eggs")
        model = fitted("binary_cross_entropy", X, y, 1, metrics=["f1"], validation_data=(X, y))
        same = fitted("binary_cross_entropy", X, y == "ham", 1)
        np.testing.assert_array_equal(model.forward(X), same.forward(X))
        assert model.classes_.tolist() == ["eggs", "ham"]
        np.testing.assert_array_equal(model.predict(X), np.where(same.predict(X).ravel() == 1, "ham", "eggs"))
        assert model.evaluate(X, y) == same.evaluate(X, y == "ham")
        model.save(tmp_path / "m.npz")
        np.testing.assert_array_equal(fnn.load(tmp_path / "m.npz").predict(X), model.predict(X))
        ensemble = fnn.Ensemble([model, fitted("binary_cross_entropy", X, y, 1, seed=1)])
        assert set(ensemble.predict(X)) == {"eggs", "ham"}
        assert ensemble.evaluate(X, y)["accuracy"] == np.mean(ensemble.predict(X) == y)

    @pytest.mark.parametrize(
        ("k", "names", "message"),
        [
            (1, "abc", "y holds 3 different labels, but under this loss the model has 1 output: expected 2 of them"),
            (1, "a", "y holds 1 different labels, but under this loss the model has 1 output: expected 2 of them"),
            (
                2,
                "ab",
                r"y holds 2 different labels, but .* has 2 outputs: expected 0 or 1 for each of the outputs \(2 co",
            ),
        ],
    )
    def test_refused(self, k, names, message, X):
        with pytest.raises(ValueError, match=message):
            fitted("binary_cross_entropy", X, np.array([*names])[np.arange(50) % len(names)], k)
