"""Layer normalisation as a function and as a layer, by hand, by central differences, and on both paths of training."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn import kernels, reference
from tests.judge import eps
from tests.training import assert_same_weights
from tests.user_code import UserReLU

TWINS = pytest.mark.parametrize("twin", [kernels, reference], ids=["kernels", "reference"])
SHAPES = [(1, 1), (3, 2), (5, 16), (4, 17), (7, 33), (2, 100)]


def normed(x, weight, bias, e):
    x = x.astype(np.longdouble)
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + e) * weight + bias


@TWINS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values(shape, twin, rng, dtype):
    x, weight, bias = (rng.normal(size=size).astype(dtype) for size in (shape, shape[1], shape[1]))
    out = np.full(shape, np.nan, dtype)
    twin.layer_norm(x + 3, weight, bias, 1e-3, out)
    np.testing.assert_allclose(out, normed(x + dtype(3), weight, bias, 1e-3), rtol=0, atol=300 * eps(dtype))


def test_by_hand(backend):
    """Mean 2 and variance 2/3, of three units and not of a sample of them."""
    y = fnn.layer_norm([[1.0, 2.0, 3.0]], [1.0, 2.0, 3.0], [0.0, 0.0, 1.0], eps=1 / 3)
    np.testing.assert_allclose(y, [[-1, 0, 4]], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [0, 3])
def test_equal_units_become_the_bias(rows, backend, dtype):
    """Even with an eps that vanishes in float32."""
    x, weight, bias = np.full((rows, 5), 2, dtype), np.full(5, 3, dtype), np.arange(5).astype(dtype)
    np.testing.assert_array_equal(fnn.layer_norm(x, weight, bias, eps=1e-60), np.tile(bias, (rows, 1)))


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_gradients_are_central_differences(shape, backend, rng):
    given = [rng.normal(size=size) for size in (shape, shape[1], shape[1])]
    dy = rng.normal(size=shape)
    for array, gradient in zip(given, fnn.layer_norm_backward(dy, *given, eps=0.1), strict=True):
        for at in np.ndindex(array.shape):
            values, kept = [], array[at]
            for h in (1e-6, -1e-6):
                array[at] = kept + h
                values.append(float((normed(*given, 0.1) * dy).sum()))
            array[at] = kept
            assert gradient[at] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-7)


def model(activation, dtype="float64"):
    layers = fnn.LayerNorm(6), fnn.Linear(6, 9), fnn.LayerNorm(9, eps=1e-3), activation, fnn.Linear(9, 3)
    return fnn.Sequential(*layers, dtype=dtype, seed=3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_compiled_and_layer_by_layer_train_alike(optimizer, backend, rng):
    X, y = rng.normal(size=(70, 6)), rng.integers(0, 3, 70)
    models = [model(activation) for activation in (fnn.ReLU(), UserReLU())]
    for each in models:
        each.fit(X, y, optimizer=optimizer, l2=0.01, epochs=3, batch_size=16, verbose=0)
        assert fnn.check_gradients(each, X[:9], y[:9], l2=0.1) < 1e-6
    assert_same_weights(*models, rtol=1e-9)
    assert (models[0].layers[0].weight != 1).all()


def test_it_is_not_penalised(backend, rng):
    X, y = rng.normal(size=(20, 6)), rng.integers(0, 3, 20)
    each = model(fnn.ReLU())
    loss = [each.fit(X, y, optimizer=fnn.SGD(lr=1e-300), l2=l2, epochs=1, verbose=0)["loss"][0] for l2 in (0, 1)]
    squares = sum((each.layers[i].weight ** 2).sum() for i in (1, 4))
    assert loss[1] - loss[0] == pytest.approx(squares)


def test_saved_loaded_and_shown(backend, rng, tmp_path):
    X, y = rng.normal(size=(20, 6)).astype(np.float32), rng.integers(0, 3, 20)
    each = model(fnn.ReLU(), "float32")
    each.fit(X, y, epochs=2, verbose=0)
    each.save(tmp_path / "m.npz")
    same = fnn.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(same.forward(X), each.forward(X))
    assert repr(same.layers[2]) == "LayerNorm(9, 0.001)"
    assert "LayerNorm(9, 0.001)" in same.summary()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fnn.LayerNorm(0), ValueError, "n is 0, expected a positive integer"),
        (lambda: fnn.LayerNorm(2.5), TypeError, "n is 2.5, expected a positive integer"),
        (lambda: fnn.LayerNorm(2, eps=0), ValueError, "eps is 0, expected a finite number > 0"),
        (
            lambda: fnn.layer_norm([[1.0, 2.0]], [1.0], [0.0, 0.0]),
            ValueError,
            r"weight has shape \(1,\), expected \(2,\)",
        ),
        (lambda: fnn.layer_norm(np.ones((2, 0)), [], []), ValueError, r"x has shape \(2, 0\), expected at least one"),
        (lambda: fnn.LayerNorm(2).weight, ValueError, r"LayerNorm\(2, 1e-05\) has no weight yet"),
        (lambda: fnn.Sequential(fnn.Linear(2, 3), fnn.LayerNorm(4)), ValueError, "has 4 inputs, but layer 0 has 3"),
        (lambda: fnn.LayerNorm(2).backward([[1.0, 1.0]]), ValueError, "has no input to go back to"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
