"""Layers on their own: initial weights, views, and what they refuse."""

import re

import numpy as np
import pytest

import fastnn as fnn


def weight(*layers, **settings):
    return fnn.Sequential(*layers, **settings).layers[0].weight


class TestInitialWeights:
    def test_he_is_normal_of_variance_2_over_n_in(self):
        w = weight(fnn.Linear(200, 500))
        assert w.mean() == pytest.approx(0, abs=1e-3)
        assert w.var() == pytest.approx(2 / 200, rel=0.02)
        assert np.mean(np.abs(w) < 0.1) == pytest.approx(0.6827, abs=0.01)

    def test_glorot_is_uniform(self):
        w, limit = weight(fnn.Linear(200, 500, init="glorot")), np.sqrt(6 / 700)
        assert 0.99 * limit < np.abs(w).max() <= limit * (1 + 1e-6)
        assert w.var() == pytest.approx(limit**2 / 3, rel=0.02)

    def test_zeros_arrays_and_functions(self):
        np.testing.assert_array_equal(weight(fnn.Linear(3, 2, init="zeros")), np.zeros((3, 2)))
        given = np.arange(6).reshape(3, 2)
        np.testing.assert_array_equal(weight(fnn.Linear(3, 2, init=given)), given)
        np.testing.assert_array_equal(weight(fnn.Linear(3, 2, init=given.tolist())), given)
        drawn = weight(fnn.Linear(3, 2, init=lambda rng, shape: rng.integers(5, size=shape)), seed=7)
        np.testing.assert_array_equal(drawn, np.random.default_rng(7).integers(5, size=(3, 2)))

    def test_bias(self):
        for bias, expected in [(True, [0, 0]), ([1, 2], [1, 2])]:
            np.testing.assert_array_equal(fnn.Sequential(fnn.Linear(3, 2, bias=bias)).layers[0].bias, expected)
        for bias in (False, np.False_):
            assert fnn.Sequential(fnn.Linear(3, 2, bias=bias)).layers[0].bias is None
        np.testing.assert_array_equal(fnn.Sequential(fnn.Linear(3, 2, bias=np.True_)).layers[0].bias, [0, 0])

    def test_given_arrays_are_copied(self):
        given = np.ones((1, 1), np.float32)
        weight(fnn.Linear(1, 1, init=given))[...] = 5
        assert given == 1


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: fnn.Linear(0, 2), ValueError, "n_in is 0, expected a positive integer"),
        (lambda: fnn.Linear(2, -1), ValueError, "n_out is -1, expected a positive integer"),
        (lambda: fnn.Linear(10**20, 3), ValueError, r"n_in is more than 2\*\*63 - 1, expected a positive integer"),
        (lambda: fnn.Linear(2**30, 2**30), ValueError, "n_in is 1073741824 and n_out is .*: no memory holds that many"),
        (lambda: fnn.Linear(2.0, 1), TypeError, "n_in is 2.0, expected a positive integer"),
        (lambda: fnn.Linear(True, 1), TypeError, "n_in is True, expected a positive integer"),
        (
            lambda: fnn.Linear(2, 1, init="xavier"),
            ValueError,
            "init is 'xavier', expected 'he', 'glorot', 'zeros', a f",
        ),
        (lambda: fnn.Linear(2, 1, init=[[1, 2]]), ValueError, r"init has shape \(1, 2\), expected \(2, 1\)"),
        (lambda: fnn.Linear(2, 1, init=[[1], [np.nan]]), ValueError, "init holds NaN or infinite values"),
        (lambda: fnn.Linear(2, 1, init=[["a"], ["b"]]), TypeError, "init holds <U1 values, expected real numbers"),
        (lambda: fnn.Linear(2, 1, bias=[1, 2]), ValueError, r"bias has shape \(2,\), expected \(1,\)"),
        (
            lambda: fnn.Linear(2, 1, bias=None),
            TypeError,
            "bias is None, expected True, False or an array",
        ),
        (lambda: fnn.Linear(2, 1, bias=1), TypeError, r"bias is 1, expected True, False or an array of shape \(1,\)"),
        (lambda: fnn.Linear(2, 1, bias="no"), TypeError, "bias is 'no', expected True, False or an array"),
        (lambda: weight(fnn.Linear(2, 1, init=lambda rng, shape: 1.0)), ValueError, r"init has shape \(\), expected"),
        (
            lambda: weight(fnn.Linear(1, 1, init=[[1e300]])),
            ValueError,
            "weight holds values beyond the range of float32",
        ),
        (lambda: fnn.LeakyReLU(-1), ValueError, "slope is -1, expected a finite number >= 0"),
        (lambda: fnn.Linear(2, 1).weight, ValueError, r"Linear\(2, 1\) has no weight yet: parameters are made when"),
        (lambda: fnn.Linear(2, 1).bias, ValueError, r"Linear\(2, 1\) has no bias yet: parameters are made when"),
        (lambda: fnn.Linear(2, 1).backward([[1.0]]), ValueError, r"Linear\(2, 1\) has no input to go back to"),
        (lambda: fnn.Tanh().backward([[1.0]]), ValueError, r"Tanh\(\) has nothing to go back from"),
    ],
)
def test_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_weight_and_bias_are_what_the_model_uses(backend):
    model = fnn.Sequential(fnn.Linear(2, 1, init="zeros"))
    layer = model.layers[0]
    layer.weight = [[1], [2]]
    layer.bias = [0.5]
    layer.weight[0] = 3
    np.testing.assert_array_equal(model.forward([[1, 1]]), [[5.5]])
    np.testing.assert_array_equal(model.parameters()[0], [[3], [2]])


def test_the_slope_is_fixed():
    layer = fnn.LeakyReLU(0.5)
    with pytest.raises(AttributeError, match="slope"):
        layer.slope = 0.1
    assert layer.slope == 0.5


def test_assignment_is_checked():
    layer, plain = fnn.Linear(2, 1, init="zeros"), fnn.Linear(1, 1, bias=False)
    fnn.Sequential(layer, plain)
    for value, error, message in [
        ([1, 2], ValueError, "weight has shape (2,), expected (2, 1)"),
        ([[1], [np.inf]], ValueError, "weight holds NaN or infinite values"),
        ([[1], [1e39]], ValueError, "weight holds values beyond the range of float32"),
    ]:
        with pytest.raises(error, match=re.escape(message)):
            layer.weight = value
    with pytest.raises(ValueError, match=re.escape("bias has shape (2,), expected (1,)")):
        layer.bias = [1, 2]
    with pytest.raises(ValueError, match=re.escape("Linear(1, 1, bias=False) was made without a bias")):
        plain.bias = [1]
    np.testing.assert_array_equal(layer.weight, [[0], [0]])


@pytest.mark.usefixtures("backend")
class TestAlone:
    """A layer of a model, called by the user."""

    def test_linear(self, dtype):
        layer = fnn.Linear(2, 2, init=[[1, 2], [3, 4]], bias=False)
        fnn.Sequential(layer, dtype=dtype)
        assert layer.weight_grad is None
        assert layer.gradients() == []
        layer.forward(np.array([[5, 5]], dtype))
        with pytest.raises(ValueError, match="has no input to go back to"):
            layer.backward(np.array([[1, 0]], dtype))
        np.testing.assert_array_equal(layer.forward(np.array([[1, 1]], dtype), training=True), [[4, 6]])
        np.testing.assert_array_equal(layer.backward(np.array([[1, 0]], dtype), l2=0.5), [[1, 3]])
        np.testing.assert_array_equal(layer.weight_grad, [[2, 2], [4, 4]])
        assert layer.bias_grad is None
        with pytest.raises(ValueError, match="x has 3 columns, but w has 2 rows"):
            layer.forward(np.ones((1, 3), dtype))

    @pytest.mark.parametrize(
        ("layer", "y", "dx"),
        [
            (fnn.Identity(), [-1, 2], [3, 3]),
            (fnn.ReLU(), [0, 2], [0, 3]),
            (fnn.LeakyReLU(0.5), [-0.5, 2], [1.5, 3]),
            (fnn.Tanh(), np.tanh([-1, 2]), 3 / np.cosh([-1, 2]) ** 2),
            (fnn.Sigmoid(), 1 / (1 + np.exp([1, -2])), 3 / (2 + 2 * np.cosh([-1, 2]))),
        ],
    )
    def test_activation(self, layer, y, dx):
        np.testing.assert_allclose(layer.forward(np.array([[-1.0, 2.0]]), training=True), [y], rtol=1e-14)
        np.testing.assert_allclose(layer.backward(np.array([[3.0, 3.0]])), [dx], rtol=1e-14)
