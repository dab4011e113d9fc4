"""GELU by both formulas: as functions, against mpmath, and as a layer of a model."""

import copy
import json
import pickle
import re

import mpmath
import numpy as np
import pytest
from scipy import special

import fastnn as fnn
from tests.judge import assert_within, eps
from tests.user_code import Pairs, UserCrossEntropy

APPROXIMATE = ("none", "tanh")


def exact(approximate, x):
    """Value and slope by mpmath, and what a relative error of eps in an exponent amounts to, relative to them."""
    x = mpmath.mpf(x)
    if approximate == "none":
        phi = mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi)
        cdf = mpmath.erfc(-x / mpmath.sqrt(2)) / 2
        return x * cdf, cdf + x * phi, x * x
    root = mpmath.sqrt(2 / mpmath.pi)
    u, slope = 2 * root * (x + mpmath.mpf("0.044715") * x**3), 2 * root * (1 + 3 * mpmath.mpf("0.044715") * x * x)
    s, t = 1 / (1 + mpmath.exp(-u)), 1 / (1 + mpmath.exp(u))
    return x * s, s + x * s * t * slope, abs(u)


@pytest.mark.usefixtures("backend")
class TestFunctions:
    @pytest.mark.parametrize("approximate", APPROXIMATE)
    def test_against_mpmath(self, approximate, rng, dtype):
        x = np.concatenate([rng.uniform(-13, 13, 150), rng.normal(size=150), rng.normal(size=50) * 1e-9]).astype(dtype)
        with mpmath.workprec(300):
            value, slope, growth = np.array([[float(v) for v in exact(approximate, float(v))] for v in x]).T
        # The exponent is the result of three or four roundings; fewer in the kernels, see their ulps.
        tiny = float(np.finfo(dtype).smallest_normal)
        bound = eps(dtype) * (4 + 4 * growth) * np.abs(value) + tiny
        assert_within(fnn.gelu(x, approximate), value, bound)
        dx = fnn.gelu_backward(np.full_like(x, -3), x, approximate)
        # The terms of the slope cancel near its root.
        assert_within(dx, -3 * slope, 3 * eps(dtype) * np.maximum(4, np.abs(slope)))

    def test_the_formula_itself_is_the_default(self, rng):
        x, dy = rng.normal(size=(2, 3, 4))
        np.testing.assert_allclose(fnn.gelu(x), x * special.ndtr(x), rtol=1e-14)
        np.testing.assert_array_equal(fnn.gelu_backward(dy, x), fnn.gelu_backward(dy, x, "none"))
        assert not np.allclose(fnn.gelu(x), fnn.gelu(x, "tanh"), rtol=1e-6)

    @pytest.mark.parametrize("approximate", APPROXIMATE)
    def test_infinities_are_those_of_the_formula(self, approximate, dtype):
        """As in PyTorch: -inf 0 is NaN, and so is the slope's inf 0."""
        x = np.array([np.inf, -np.inf, np.nan], dtype)
        np.testing.assert_array_equal(fnn.gelu(x, approximate), [np.inf, np.nan, np.nan])
        np.testing.assert_array_equal(fnn.gelu_backward(np.ones_like(x), x, approximate), [np.nan] * 3)

    @pytest.mark.parametrize("approximate", APPROXIMATE)
    def test_whatever_is_finite_has_a_slope(self, approximate, dtype):
        x = np.array([40, 1e10, 1e20, np.finfo(dtype).max], dtype)
        np.testing.assert_array_equal(fnn.gelu(np.concatenate([x, -x]), approximate), [*x, 0, 0, 0, 0])
        dx = fnn.gelu_backward(np.ones(8, dtype), np.concatenate([x, -x]), approximate)
        np.testing.assert_array_equal(dx, [1, 1, 1, 1, 0, 0, 0, 0])

    @pytest.mark.parametrize("approximate", ["erf", "", None, True, ["tanh"], b"none"], ids=repr)
    def test_no_formula(self, approximate):
        message = re.escape(f"approximate is {approximate!r}, expected 'none' or 'tanh'")
        for call in (lambda: fnn.gelu(1.0, approximate), lambda: fnn.gelu_backward(1.0, 1.0, approximate)):
            with pytest.raises(ValueError, match=message):
                call()
        with pytest.raises(ValueError, match=message):
            fnn.GELU(approximate)

    def test_the_backward_pass_takes_x(self):
        with pytest.raises(ValueError, match=r"dy has shape \(1,\), but x has \(2,\)"):
            fnn.gelu_backward([1.0], [1.0, 2.0])
        with pytest.raises(TypeError, match="x holds <U1 values"):
            fnn.gelu_backward([1.0], ["a"])


def network(*layers, dtype="float64"):
    """A model with both formulas, on what is a product's output and on what is not."""
    hidden = fnn.GELU("tanh"), fnn.Linear(6, 8), fnn.GELU(), fnn.GELU("tanh"), *layers
    return fnn.Sequential(*hidden, fnn.Linear(8, 3), dtype=dtype, seed=0)


@pytest.fixture
def data(rng):
    return rng.normal(size=(40, 6)), rng.integers(3, size=40)


@pytest.mark.usefixtures("backend")
class TestLayer:
    @pytest.mark.parametrize("approximate", APPROXIMATE)
    def test_alone(self, approximate, rng):
        layer, (x, dy) = fnn.GELU(approximate), rng.normal(size=(2, 5, 4))
        np.testing.assert_array_equal(layer.forward(x, training=True), fnn.gelu(x, approximate))
        np.testing.assert_array_equal(layer.backward(dy), fnn.gelu_backward(dy, x, approximate))

    def test_how_it_shows_itself(self):
        assert repr(fnn.GELU()) == "GELU(approximate='none')"
        text = str(network().summary())
        assert "GELU(approximate='none')" in text
        assert "GELU(approximate='tanh')" in text

    def test_the_formula_is_fixed(self):
        layer = fnn.GELU("tanh")
        with pytest.raises(AttributeError, match="approximate"):
            layer.approximate = "none"
        assert layer.approximate == "tanh"

    def test_gradients(self, data):
        X, y = data
        assert fnn.check_gradients(network(), X, y, l2=0.1) < 1e-7

    def test_both_ways_of_training_agree(self, data):
        """As data, and layer by layer under a loss of the user's own."""
        models = network(), network()
        X, y = data
        losses = [
            model.fit(X, y, loss=loss, optimizer="adam", epochs=3, batch_size=16, verbose=0)["loss"]
            for model, loss in zip(models, ("cross_entropy", UserCrossEntropy()), strict=True)
        ]
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-10)
        for one, other in zip(*(model.parameters() for model in models), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12)

    def test_profile(self, data):
        result = fnn.profile(network(), *data, seconds=0.001)
        assert ("GELU(approximate='none')", "backward") in {(part.name, part.phase) for part in result.parts}

    def test_copies(self, data):
        model = network()
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert [repr(layer) for layer in other.layers] == [repr(layer) for layer in model.layers]
            np.testing.assert_array_equal(other.forward(data[0]), model.forward(data[0]))

    def test_saved_models(self, data, tmp_path):
        model = network(dtype="float32")
        model.save(tmp_path / "m.npz")
        with np.load(tmp_path / "m.npz") as archive:
            arrays = dict(archive)
        header = json.loads(str(arrays["header"]))
        assert header["format"] == 3
        assert header["layers"][0] == {"class": "GELU", "approximate": "tanh"}
        same = fnn.load(tmp_path / "m.npz")
        assert repr(same) == repr(model)
        np.testing.assert_array_equal(same.forward(data[0]), model.forward(data[0]))
        header["layers"][0]["approximate"] = "erf"
        np.savez(tmp_path / "m.npz", **{**arrays, "header": np.array(json.dumps(header))})
        with pytest.raises(ValueError, match=r"m\.npz is not a valid model: approximate is 'erf', expected 'none' or"):
            fnn.load(tmp_path / "m.npz")


def test_backends_train_alike(data):
    X, y = data
    for make in (network, lambda: network(Pairs(), fnn.Linear(4, 8))):
        fitted = []
        for backend in ("numba", "numpy"):
            with fnn.use_backend(backend):
                model = make()
                model.fit(X, y, epochs=3, batch_size=16, verbose=0)
                fitted.append(model.parameters())
        for one, other in zip(*fitted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
