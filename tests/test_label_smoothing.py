"""Label smoothing: the formula by hand, in every way of training and measuring, and what is refused."""

import json

import numpy as np
import pytest
from scipy import special

import fastnn as fnn
from tests.training import assert_same_weights, labelled, network
from tests.user_code import UserReLU

pytestmark = pytest.mark.usefixtures("backend")

SCORES = [[1.0, 2.0, 0.5], [8.0, -4.0, 7.0], [0.0, 0.0, 0.0], [-3.0, 1.0, 4.0]]
LABELS = [1, 2, 0, 0]
SOFT = [[0.2, 0.5, 0.3], [0.0, 0.0, 1.0], [0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]
WEIGHTS = [1.0, 0.0, 2.5, 0.5]


@pytest.fixture
def data(rng):
    return labelled(rng)


def user_network(**settings):
    """The network of tests.training, layer by layer."""
    layers = fnn.Linear(6, 9), UserReLU(), fnn.Linear(9, 5, bias=False), fnn.Tanh(), fnn.Linear(5, 3)
    return fnn.Sequential(*layers, **{"dtype": "float64", **settings})


def smoothed(y, eps, k=3):
    return (1 - eps) * (np.eye(k)[y] if np.ndim(y) == 1 else np.asarray(y)) + eps / k


class TestLoss:
    def test_two_classes_by_hand(self):
        """Scores 0 and log 3 are 1/4 and 3/4; ε = 0.2 makes the targets 0.1 and 0.9."""
        loss = fnn.CrossEntropy(label_smoothing=0.2)
        scores = [[0.0, np.log(3.0)]]
        assert loss.forward(scores, [1]) == pytest.approx(0.1 * np.log(4) + 0.9 * np.log(4 / 3))
        np.testing.assert_allclose(loss.backward(scores, [1]), [[0.25 - 0.1, 0.75 - 0.9]], rtol=1e-12)

    @pytest.mark.parametrize("y", [LABELS, SOFT], ids=["labels", "targets"])
    @pytest.mark.parametrize("v", [None, WEIGHTS], ids=["unweighted", "weighted"])
    def test_value_and_gradient(self, y, v, dtype):
        loss, scores = fnn.CrossEntropy(0.3), np.array(SCORES, dtype)
        tolerance = 20 * float(np.finfo(dtype).eps)
        targets = smoothed(y, 0.3)
        per_sample = -(targets * special.log_softmax(SCORES, axis=1)).sum(axis=1)
        assert loss.forward(scores, y, v) == pytest.approx(np.average(per_sample, weights=v), rel=tolerance)
        shares = np.full(4, 0.25) if v is None else np.array(v) / 4
        expected = (special.softmax(SCORES, axis=1) - targets) * shares[:, None]
        gradient = loss.backward(scores, y, v)
        assert gradient.dtype == dtype
        np.testing.assert_allclose(gradient, expected, rtol=tolerance, atol=tolerance)

    def test_without_it_the_loss_is_as_ever(self):
        assert fnn.CrossEntropy(0).forward(SCORES, LABELS) == fnn.cross_entropy(SCORES, LABELS)
        assert repr(fnn.CrossEntropy()) == repr(fnn.CrossEntropy(label_smoothing=0)) == "CrossEntropy()"
        assert repr(fnn.CrossEntropy(0.1)) == "CrossEntropy(label_smoothing=0.1)"

    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            (1, ValueError, "label_smoothing is 1, expected a finite number >= 0 and < 1"),
            (-0.1, ValueError, "label_smoothing is -0.1, expected a finite number >= 0"),
            (np.nan, ValueError, "label_smoothing is nan, expected a finite number"),
            ("a", TypeError, "label_smoothing is 'a', expected a finite number"),
        ],
    )
    def test_refused(self, value, error, message):
        with pytest.raises(error, match=message):
            fnn.CrossEntropy(label_smoothing=value)

    @pytest.mark.parametrize(
        ("scores", "y", "message"),
        [
            (SCORES, [0, 3, 0, 0], "y holds label 3, but the model has 3 outputs: labels must be 0..2"),
            (SCORES, [0, 0, 0], "y has 3 rows, but there are 4 samples"),
            (SCORES[0], [0], r"scores has shape \(3,\), expected 2 dimensions"),
            (np.zeros((0, 3)), [], "scores is empty"),
        ],
    )
    def test_bad_arrays_are_refused_as_ever(self, scores, y, message):
        for method in (fnn.CrossEntropy(0.1).forward, fnn.CrossEntropy(0.1).backward):
            with pytest.raises(ValueError, match=message):
                method(scores, y)

    def test_it_is_fixed(self):
        with pytest.raises(AttributeError, match="label_smoothing"):
            fnn.CrossEntropy(0.1).label_smoothing = 0.2


class TestFit:
    @pytest.mark.parametrize("make", [network, user_network])
    @pytest.mark.parametrize("form", ["labels", "targets"])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_as_with_smoothed_targets(self, make, form, weighted, data):
        X, y = data
        y = y if form == "labels" else np.random.default_rng(0).dirichlet(np.ones(3), 50)
        before = y.copy()
        settings = {
            "optimizer": "adam",
            "l2": 0.01,
            "epochs": 3,
            "batch_size": 16,
            "sample_weight": np.linspace(0, 2, 50) if weighted else None,
            "verbose": 0,
        }
        model, expected = make(), network()
        one = model.fit(X, y, loss=fnn.CrossEntropy(0.1), validation_data=(X[:20], y[:20]), **settings)
        other = expected.fit(X, smoothed(y, 0.1), validation_data=(X[:20], smoothed(y[:20], 0.1)), **settings)
        assert_same_weights(model, expected)
        for name in ("loss", "val_loss", "val_accuracy"):
            np.testing.assert_allclose(one[name], other[name], rtol=1e-9)
        np.testing.assert_array_equal(y, before)

    @pytest.mark.parametrize("make", [network, user_network])
    def test_evaluate_measures_the_same_loss(self, make, data):
        X, y = data
        model = make()
        model.fit(X, y, loss=fnn.CrossEntropy(0.2), epochs=2, verbose=0)
        log_p = special.log_softmax(model.forward(X), axis=1)
        v = np.linspace(0, 2, 50)
        for targets in (y, np.eye(3)[y]):
            measured = model.evaluate(X, targets, v)
            per_sample = -(smoothed(y, 0.2) * log_p).sum(axis=1)
            assert measured["loss"] == pytest.approx(np.average(per_sample, weights=v), rel=1e-9)
            assert measured["accuracy"] == pytest.approx(np.average(log_p.argmax(axis=1) == y, weights=v))

    def test_a_subclass_smooths_once(self, data):
        class Mine(fnn.CrossEntropy):
            pass

        X, y = data
        for targets in (y, np.eye(3)[y]):
            models = network(), network()
            for model, loss in zip(models, (Mine(0.3), fnn.CrossEntropy(0.3)), strict=True):
                model.fit(X, targets, loss=loss, epochs=2, validation_data=(X, targets), verbose=0)
            assert_same_weights(*models)
            assert models[0].history["val_loss"] == pytest.approx(models[1].history["val_loss"], rel=1e-9)

    def test_gradients(self, data):
        assert fnn.check_gradients(network(), *data, loss=fnn.CrossEntropy(0.4)) < 1e-6

    def test_the_profile_trains_with_it(self, data):
        model = network()
        fnn.profile(model, *data, loss=fnn.CrossEntropy(0.1), seconds=0.002)


class TestFile:
    def test_it_is_saved(self, tmp_path):
        model = network()
        model.loss = fnn.CrossEntropy(0.25)
        model.save(tmp_path / "m.npz")
        same = fnn.load(tmp_path / "m.npz")
        assert same.loss.label_smoothing == 0.25
        same.loss = "cross_entropy"
        same.save(tmp_path / "m.npz")
        assert fnn.load(tmp_path / "m.npz").loss.label_smoothing == 0

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"label_smoothing": 2}, "label_smoothing is 2, expected a finite number"),
            ({"gamma": 2}, "unexpected keyword argument 'gamma'"),
        ],
    )
    def test_a_file_with_other_settings(self, settings, message, tmp_path):
        path = tmp_path / "m.npz"
        self.rewrite(path, lambda header: header.update(loss_settings=settings))
        with pytest.raises(ValueError, match=f"m.npz is not a valid model: .*{message}"):
            fnn.load(path)

    def test_a_file_of_an_older_version(self, tmp_path):
        def age(header):
            assert header["format"] == 1
            del header["loss_settings"]

        self.rewrite(tmp_path / "m.npz", age)
        assert fnn.load(tmp_path / "m.npz").loss.label_smoothing == 0

    @staticmethod
    def rewrite(path, edit):
        model = network()
        model.loss = "cross_entropy"
        model.save(path)
        with np.load(path) as archive:
            arrays = dict(archive)
        header = json.loads(str(arrays["header"]))
        edit(header)
        np.savez(path, **{**arrays, "header": np.array(json.dumps(header))})
