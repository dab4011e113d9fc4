"""Binary cross-entropy, absolute error, pinball and Poisson's loss: values, gradients, digits, and what they refuse."""

import json
import re

import mpmath
import numpy as np
import pytest
from scipy import special

import fastnn as fnn
from tests.judge import eps
from tests.training import assert_same_weights
from tests.user_code import UserReLU


def binary(s, y, p):
    """The formula of PyTorch's BCEWithLogitsLoss, and its derivative."""
    log = np.log1p(np.exp(-np.abs(s))) + np.maximum(-s, 0)
    return (1 - y) * s + (1 + (p - 1) * y) * log, (1 - y) - (1 + (p - 1) * y) * special.expit(-s)


def pinball(s, y, q):
    return np.where(y > s, q * (y - s), (1 - q) * (s - y)), np.where(y > s, -q, np.where(y < s, 1 - q, 0))


def poisson(s, y, _):
    return np.exp(s) - y * s, np.exp(s) - y


def absolute(s, y, _):
    return np.abs(s - y), np.sign(s - y)


# The formula of an element and its derivative, and whether there are numbers for each output.
LOSSES = {
    "binary_cross_entropy": (binary, True),
    "absolute_error": (absolute, False),
    "pinball": (pinball, True),
    "poisson": (poisson, False),
}


def targets(name, shape, rng):
    if name == "binary_cross_entropy":
        return rng.choice([0, 1, 0.25], shape)
    return rng.poisson(1.0, shape) if name == "poisson" else rng.normal(size=shape)


@pytest.mark.usefixtures("backend")
class TestFunctions:
    @pytest.mark.parametrize("shape", [(1, 1), (37, 1), (5, 3), (4, 16), (3, 17), (2, 40)], ids=str)
    @pytest.mark.parametrize("name", LOSSES)
    @pytest.mark.parametrize("each", [False, True])
    def test_values_and_gradients(self, each, name, shape, rng, dtype):
        formula, has_numbers = LOSSES[name]
        s, y = (2 * rng.normal(size=shape)).astype(dtype), targets(name, shape, rng).astype(dtype)
        s[0, 0] = y[0, 0] = 1
        numbers = rng.uniform(0.1, 0.9, shape[1]) if each else 0.3
        given = (numbers,) if has_numbers else ()
        v = rng.uniform(0.1, 1, shape[0]).astype(dtype) if each else None
        weights = np.ones(shape[0]) if v is None else v.astype(np.float64)
        losses, slopes = formula(s.astype(np.float64), y.astype(np.float64), numbers)
        expected = (losses.sum(axis=1) * weights).sum() / weights.sum()
        value, gradient = getattr(fnn, f"{name}_and_gradient")(s, y, *given, v)
        tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-13, "atol": 1e-14}
        np.testing.assert_allclose([value, getattr(fnn, name)(s, y, *given, v)], expected, **tolerance)
        assert gradient.dtype == dtype
        np.testing.assert_allclose(gradient, slopes * (weights / weights.sum())[:, None], **tolerance)
        np.testing.assert_array_equal(getattr(fnn, f"{name}_backward")(s, y, *given, v), gradient)

    def test_defaults(self, rng):
        s, y = rng.normal(size=(2, 5, 3))
        assert fnn.binary_cross_entropy(s, y > 0) == fnn.binary_cross_entropy(s, y > 0, 1.0)
        assert fnn.pinball(s, y[:, 0]) == fnn.pinball(s, y[:, [0] * 3], [0.1, 0.5, 0.9])
        assert fnn.pinball(s, y[:, :1]) == fnn.pinball(s, y[:, 0])
        assert fnn.pinball(s, y, 0.5) == pytest.approx(fnn.absolute_error(s, y) / 2)

    @pytest.mark.parametrize("y", [0, 1, 0.25])
    def test_the_binary_loss_keeps_its_digits(self, y, dtype):
        """By mpmath; nothing is clipped, and nothing cancels where the loss is small."""
        s = np.array([-700, -80, -20, -1, -1e-6, 0, 1e-6, 1, 20, 80, 700], dtype)
        for score in s:
            with mpmath.workprec(2300):
                x = mpmath.mpf(float(score))
                one, zero = mpmath.log1p(mpmath.exp(-x)), mpmath.log1p(mpmath.exp(x))
                p = float(3 * y * one + (1 - y) * zero)
                slope = float((1 - y) / (1 + mpmath.exp(-x)) - 3 * y / (1 + mpmath.exp(x)))
            value, gradient = fnn.binary_cross_entropy_and_gradient([[score]], np.array([y], dtype), 3)
            tiny = float(np.finfo(dtype).smallest_normal) if dtype == np.float32 else 0
            assert value == pytest.approx(p, rel=8 * eps(gradient.dtype), abs=tiny)
            # Between the targets the two halves of a slope cancel.
            between = 4 * eps(gradient.dtype) * (0 < y < 1)
            assert gradient[0, 0] == pytest.approx(slope, rel=8 * eps(gradient.dtype), abs=tiny + between)

    @pytest.mark.parametrize(
        ("name", "s", "y", "value", "slope"),
        [
            ("binary_cross_entropy", np.inf, 1, 0, 0),
            ("binary_cross_entropy", -np.inf, 0, 0, 0),
            ("binary_cross_entropy", np.inf, 0, np.inf, 1),
            ("binary_cross_entropy", -np.inf, 1, np.inf, -1),
            ("binary_cross_entropy", np.nan, 1, np.nan, np.nan),
            ("absolute_error", np.inf, 1, np.inf, 1),
            ("absolute_error", -np.inf, 1, np.inf, -1),
            ("absolute_error", np.nan, 1, np.nan, np.nan),
            ("pinball", np.inf, 1, np.inf, 0.5),
            ("pinball", -np.inf, 1, np.inf, -0.5),
            ("pinball", np.nan, 1, np.nan, np.nan),
            ("poisson", -np.inf, 0, 0, 0),
            ("poisson", -np.inf, 1, np.inf, -1),
            ("poisson", np.inf, 0, np.inf, np.inf),
            ("poisson", np.inf, 1, np.nan, np.inf),
            ("poisson", np.nan, 0, np.nan, np.nan),
        ],
    )
    @pytest.mark.parametrize("k", [1, 2])
    def test_what_is_not_finite(self, k, name, s, y, value, slope, dtype):
        given = (0.5,) if name == "pinball" else ()
        found, gradient = getattr(fnn, f"{name}_and_gradient")(np.full((1, k), s, dtype), np.full((1, k), y), *given)
        np.testing.assert_equal((found, gradient.tolist()), (k * value, [[slope] * k]))

    @pytest.mark.parametrize(
        ("name", "y", "given", "error", "message"),
        [
            ("binary_cross_entropy", [[0, 2]], (), ValueError, r"y holds 2, expected targets 0\.\.1: for the numbers"),
            ("binary_cross_entropy", [[-0.5, 0]], (), ValueError, r"y holds -0\.5, expected targets 0\.\.1"),
            ("binary_cross_entropy", [[0, np.nan]], (), ValueError, "y holds NaN or infinite values"),
            ("binary_cross_entropy", [[0, 1]], (0,), ValueError, "pos_weight is 0, expected a finite number > 0"),
            ("binary_cross_entropy", [[0, 1]], ([1, -1],), ValueError, r"pos_weight\[1\] is -1, expected a finite"),
            (
                "binary_cross_entropy",
                [[0, 1]],
                ([1, 1, 1],),
                ValueError,
                "pos_weight holds 3 numbers for 2 outputs",
            ),
            ("binary_cross_entropy", [[0, 1]], ("1",), TypeError, "pos_weight is '1', expected a finite number > 0"),
            ("binary_cross_entropy", [[0, 1]], ([],), ValueError, r"pos_weight has shape \(0,\), expected a number or"),
            ("binary_cross_entropy", [[0, 1]], ([[1, 2]],), ValueError, r"pos_weight has shape \(1, 2\), expected a"),
            ("binary_cross_entropy", [[0, 1]], ([1, [2]],), ValueError, "pos_weight is ragged"),
            ("poisson", [[0, -1]], (), ValueError, "y holds -1, expected counts >= 0: for other values use the loss"),
            ("poisson", [0, 1], (), ValueError, r"y has shape \(2,\), expected \(1, 2\)"),
            ("pinball", [[0, 1]], (1,), ValueError, "quantiles is 1, expected a finite number > 0 and < 1"),
            (
                "pinball",
                [[0, 1]],
                ([0.5, 0],),
                ValueError,
                r"quantiles\[1\] is 0, expected a finite number > 0",
            ),
            ("pinball", [[0, 1]], ([],), ValueError, r"quantiles has shape \(0,\), expected a number or a list of at"),
            ("pinball", [[0, 1]], (), ValueError, "quantiles holds 3 numbers for 2 outputs: expected one or 2"),
            ("pinball", [[0, 1, 2]], ([0.5, 0.6],), ValueError, r"y has shape \(1, 3\), expected \(1, 2\)"),
            ("pinball", [0, 1], ([0.5, 0.6],), ValueError, "y has 2 rows, but there are 1 samples"),
            ("absolute_error", [[0, np.inf]], (), ValueError, "y holds NaN or infinite values"),
        ],
    )
    def test_refused(self, name, y, given, error, message):
        for part in ("", "_backward", "_and_gradient"):
            with pytest.raises(error, match=message):
                getattr(fnn, f"{name}{part}")([[0.0, 1.0]], y, *given)
        if (given and "[" in message) or "expected a finite" in message:
            makes = {"binary_cross_entropy": fnn.BinaryCrossEntropy, "pinball": fnn.Pinball}
            with pytest.raises(error, match=message):
                makes[name](*given)

    def test_a_number_in_an_array(self):
        assert fnn.Pinball(np.array(0.3)).quantiles == (0.3,)
        assert fnn.BinaryCrossEntropy(np.array([2, 3])).pos_weight == (2.0, 3.0)


LOSS_OBJECTS = [
    fnn.BinaryCrossEntropy(),
    fnn.BinaryCrossEntropy(3.0),
    fnn.BinaryCrossEntropy([3.0, 0.5]),
    fnn.AbsoluteError(),
    fnn.Pinball(0.3),
    fnn.Pinball([0.2, 0.7]),
    fnn.Poisson(),
]


def data_for(loss, rng, m=60):
    X = rng.normal(size=(m, 4))
    values = X @ rng.normal(size=(4, 2)) + rng.normal(size=(m, 2)) / 2
    y = {"binary_cross_entropy": values > 0, "poisson": rng.poisson(np.exp(values / 2))}.get(loss.name, values)
    return X, y


def network(*, activation=None, k=2, dtype="float64"):
    layers = fnn.Linear(4, 8), activation or fnn.ReLU(), fnn.Linear(8, k)
    return fnn.Sequential(*layers, dtype=dtype, seed=2)


@pytest.mark.parametrize("loss", LOSS_OBJECTS, ids=repr)
def test_compiled_and_layer_by_layer_train_alike(loss, backend, rng, tmp_path):
    X, y = data_for(loss, rng)
    models = [network(activation=a) for a in (fnn.ReLU(), UserReLU())]
    for model in models:
        history = model.fit(X, y, loss=loss, optimizer=fnn.SGD(0.02), epochs=4, verbose=0, batch_size=16)
        assert history["loss"][-1] < history["loss"][0]
        assert fnn.check_gradients(model, X[:9], y[:9]) < 1e-6
    assert_same_weights(*models, rtol=1e-9)
    models[0].save(tmp_path / "m.npz")
    same = fnn.load(tmp_path / "m.npz")
    assert repr(same.loss) == repr(loss)
    assert same.loss.config() == loss.config()
    for method in ("predict", "forward"):
        np.testing.assert_array_equal(getattr(same, method)(X), getattr(models[0], method)(X))
    assert same.evaluate(X, y) == models[0].evaluate(X, y)
    assert models[0].evaluate(X, y)["loss"] == pytest.approx(loss.forward(models[0].forward(X), y))
    with np.load(tmp_path / "m.npz") as archive:
        assert json.loads(str(archive["header"]))["format"] == 5


@pytest.mark.parametrize("loss", LOSS_OBJECTS, ids=repr)
def test_many_at_once_are_as_each_alone(loss, rng):
    X, y = data_for(loss, rng)
    models, alone = ([network(dtype="float32") for _ in range(5)] for _ in range(2))
    fnn.fit_many(models, X, y, loss=loss, epochs=2, l2=[0.01 * i for i in range(5)], verbose=0)
    for i, (model, other) in enumerate(zip(models, alone, strict=True)):
        other.fit(X, y, loss=loss, epochs=2, l2=0.01 * i, verbose=0)
        np.testing.assert_array_equal(model.forward(X), other.forward(X))


def test_many_at_once_of_any_numbers(rng):
    """Those with one number and those with one for each output are no neighbours."""
    X, y = data_for(fnn.BinaryCrossEntropy(), rng)
    losses = [fnn.BinaryCrossEntropy(w) for w in (None, [2, 3], 4, [0.5, 0.25], 5)]
    models, alone = ([network(dtype="float32") for _ in losses] for _ in range(2))
    fnn.fit_many(models, X, y, loss=losses, epochs=2, verbose=0)
    for model, other, loss in zip(models, alone, losses, strict=True):
        other.fit(X, y, loss=loss, epochs=2, verbose=0)
        np.testing.assert_array_equal(model.forward(X), other.forward(X))


@pytest.mark.usefixtures("backend")
class TestTraining:
    def test_quantiles_are_those_of_the_targets(self, rng):
        y = rng.exponential(size=4000)
        model = fnn.Sequential(fnn.Linear(1, 3), dtype="float64", seed=0)
        falling = fnn.Adam(lambda epoch: 0.05 / (1 + epoch))
        model.fit(np.zeros((4000, 1)), y, loss="pinball", optimizer=falling, epochs=20, verbose=0)
        found = model.predict([[0.0]])[0]
        np.testing.assert_allclose(found, np.quantile(y, [0.1, 0.5, 0.9]), atol=0.1)

    def test_a_rare_label_that_weighs_more_is_found(self, rng):
        X = rng.normal(size=(400, 1))
        y = (X[:, 0] + rng.normal(size=400) > 1.5).astype(int)
        found = []
        for weight in (1, 20):
            model = fnn.Sequential(fnn.Linear(1, 1), seed=0)
            model.fit(X, y, loss=fnn.BinaryCrossEntropy(weight), optimizer=fnn.Adam(0.05), epochs=20, verbose=0)
            found.append(model.predict(X)[y == 1].mean())
        assert found[0] < 0.7 < found[1]

    @pytest.mark.parametrize(
        ("loss", "y", "message"),
        [
            ("binary_cross_entropy", [0, 1, 2, 1], r"y holds 2, expected targets 0\.\.1"),
            ("binary_cross_entropy", [0, 1, -1, 1], r"y holds -1, expected targets 0\.\.1"),
            ("poisson", [0, 1, -2, 1], "y holds -2, expected counts >= 0"),
            ("pinball", [0, 1, 2, 1], "quantiles holds 3 numbers for 1 output: expected one$"),
            (fnn.Pinball([0.5, 0.6]), [0, 1, 2, 1], "quantiles holds 2 numbers for 1 output"),
            (fnn.BinaryCrossEntropy([1, 2]), [0, 1, 1, 1], "pos_weight holds 2 numbers for 1 output"),
            (fnn.BinaryCrossEntropy(1e300), [0, 1, 1, 1], r"pos_weight holds 1e\+300, which is beyond the range of fl"),
            (
                fnn.Pinball(1 - 1e-12),
                [0, 1, 1, 1],
                r"quantiles holds 0\.999999999999, which is 1 in float32",
            ),
        ],
    )
    def test_refused(self, loss, y, message):
        model = fnn.Sequential(fnn.Linear(2, 1))
        before = model.layers[0].weight.copy()
        with pytest.raises(ValueError, match=message):
            model.fit(np.ones((4, 2)), y, loss=loss, verbose=0)
        np.testing.assert_array_equal(model.layers[0].weight, before)
        assert model.loss is None
        if isinstance(loss, str) and loss != "pinball":
            model.loss = loss
            with pytest.raises(ValueError, match=message):
                model.evaluate(np.ones((4, 2)), y)
            with pytest.raises(ValueError, match=f"{message[:2]}of validation_data{message[1:]}"):
                model.fit(np.ones((4, 2)), np.abs(y) > 0, loss=loss, validation_data=(np.ones((4, 2)), y), verbose=0)

    @pytest.mark.parametrize(("loss", "wrong"), [("binary_cross_entropy", 7.0), ("poisson", -3.0)])
    def test_targets_that_change_meanwhile(self, loss, wrong):
        """What is merely out of range is trained on; where the loss is not finite, it is named."""
        X, y = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
        model = fnn.Sequential(fnn.Linear(2, 1), seed=0)

        def spoil(model, epoch, values):
            y[2] = wrong
            if epoch == 2:
                model.layers[0].bias[...] = 1e38

        with pytest.raises(ValueError, match=rf"y holds {wrong:g}, expected .* \(it was changed after the call"):
            model.fit(X, y, loss=loss, callbacks=[spoil], epochs=4, optimizer=fnn.SGD(1e30), verbose=0)
        assert len(model.history["loss"]) >= 1


def test_how_they_show_themselves():
    texts = "BinaryCrossEntropy()", "BinaryCrossEntropy(pos_weight=3)", "BinaryCrossEntropy(pos_weight=(3.0, 0.5))"
    assert [repr(loss) for loss in LOSS_OBJECTS[:3]] == [*texts]
    assert repr(fnn.Pinball()) == "Pinball(quantiles=(0.1, 0.5, 0.9))"
    for loss, name in ((fnn.BinaryCrossEntropy(2), "pos_weight"), (fnn.Pinball(), "quantiles")):
        with pytest.raises(AttributeError, match=re.escape(name)):
            setattr(loss, name, 0.5)
