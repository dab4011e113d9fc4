"""Batch normalisation: by hand, by central differences, on both paths of training, and the same bits everywhere."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn import kernels, reference
from fastnn.kernels.network import epoch
from tests.judge import eps
from tests.many import assert_as_alone, labelled
from tests.training import assert_same_weights
from tests.user_code import UserReLU

TWINS = pytest.mark.parametrize("twin", [kernels, reference], ids=["kernels", "reference"])
SHAPES = [(2, 1), (3, 2), (5, 16), (17, 33), (45, 7), (100, 20)]


def normed(x, weight, bias, e):
    x = x.astype(np.longdouble)
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + e) * weight + bias


@TWINS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values(shape, twin, rng, dtype):
    x, weight, bias = (rng.normal(size=size).astype(dtype) for size in (shape, shape[1], shape[1]))
    mean, variance = rng.normal(size=shape[1]).astype(dtype), rng.uniform(1, 2, shape[1]).astype(dtype)
    x += dtype(3)
    out, expected = np.full(shape, np.nan, dtype), normed(x, weight, bias, 1e-3)
    wanted = 0.8 * mean + 0.2 * x.mean(axis=0), 0.8 * variance + 0.2 * x.var(axis=0, ddof=1)
    twin.batch_norm(x, weight, bias, mean, variance, 0.2, 1e-3, out)
    np.testing.assert_allclose(out, expected, rtol=0, atol=2000 * eps(dtype))
    for running, value in zip((mean, variance), wanted, strict=True):
        np.testing.assert_allclose(running, value, rtol=100 * eps(dtype))
    twin.batch_norm_inference(x, weight, bias, mean, variance, 0.2, 1e-3, out)
    expected = (x - mean) / np.sqrt(variance + dtype(1e-3)) * weight + bias
    np.testing.assert_allclose(out, expected, rtol=0, atol=300 * eps(dtype))
    twin.batch_norm_inference_backward(x, weight, bias, mean, variance, 0.2, 1e-3, out)
    np.testing.assert_allclose(out, x * weight / np.sqrt(variance + dtype(1e-3)), rtol=100 * eps(dtype))


def test_far_from_zero_the_variance_keeps_its_digits(backend):
    """Which the mean of squares less the square of the mean would lose all of."""
    X = 1e4 + np.arange(60, dtype=np.float32).reshape(-1, 1) % 3
    model = fnn.Sequential(fnn.BatchNorm(1, momentum=1))
    model.forward(X, training=True)
    assert model.layers[0].running_variance[0] == pytest.approx(2 / 3 * 60 / 59, rel=1e-4)


@TWINS
def test_gradients_are_central_differences(twin, rng):
    x, weight, bias = (rng.normal(size=size) for size in ((5, 3), 3, 3))
    dy, running = rng.normal(size=(5, 3)), [np.zeros(3), np.ones(3)]
    found = [np.empty((5, 3)), np.empty(3), np.empty(3)]
    twin.batch_norm_backward(dy, x, weight, bias, *running, 0.1, 0.1, *found)
    np.testing.assert_array_equal(running, [[0] * 3, [1] * 3])
    for array, gradient in zip((x, weight, bias), found, strict=True):
        for at in np.ndindex(array.shape):
            values, kept = [], array[at]
            for h in (1e-6, -1e-6):
                array[at] = kept + h
                values.append(float((normed(x, weight, bias, 0.1) * dy).sum()))
            array[at] = kept
            assert gradient[at] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-7)


def model(activation=None, dtype="float64", seed=3):
    layers = fnn.Linear(6, 20, bias=False), fnn.BatchNorm(20), activation or fnn.ReLU(), fnn.Linear(20, 3)
    return fnn.Sequential(fnn.BatchNorm(6, momentum=0.3), *layers, dtype=dtype, seed=seed)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_compiled_and_layer_by_layer_train_alike(optimizer, backend, rng):
    X, y = labelled(rng, 70)
    models = [model(activation) for activation in (fnn.ReLU(), UserReLU())]
    for each in models:
        each.fit(X, y, optimizer=optimizer, l2=0.01, epochs=3, batch_size=16, verbose=0)
        assert fnn.check_gradients(each, X[:9], y[:9], l2=0.1) < 1e-6
    assert_same_weights(*models, rtol=1e-9)
    for layer in (0, 2):
        for name in ("running_mean", "running_variance"):
            np.testing.assert_allclose(*(getattr(each.layers[layer], name) for each in models), 1e-9, 1e-9)
    np.testing.assert_allclose(*(each.forward(X) for each in models), rtol=1e-8)


@pytest.mark.parametrize("rectifier", [fnn.ReLU, UserReLU])
def test_a_frozen_one_takes_the_running_statistics_and_leaves_them(rectifier, backend, rng):
    X, y = labelled(rng)
    each = model(rectifier())
    each.fit(X, y, epochs=2, batch_size=20, verbose=0)
    each.layers[2].trainable = False
    frozen = [getattr(each.layers[2], name).copy() for name in each.layers[2].shapes()]
    first = each.layers[1].weight.copy()
    assert fnn.check_gradients(each, X[:9], y[:9]) < 1e-6
    each.fit(X, y, optimizer="adam", epochs=2, batch_size=20, verbose=0)
    for name, value in zip(each.layers[2].shapes(), frozen, strict=True):
        np.testing.assert_array_equal(getattr(each.layers[2], name), value)
    assert (each.layers[1].weight != first).any()
    with pytest.raises(ValueError, match=r"BatchNorm\(6, "):
        each.fit(X[:41], y[:41], batch_size=20, verbose=0)
    each.layers[0].trainable = False
    each.fit(X[:41], y[:41], batch_size=20, epochs=1, verbose=0)


def test_prediction_of_a_sample_depends_on_no_other(backend, rng):
    X, y = labelled(rng)
    each = model()
    each.fit(X, y, epochs=2, batch_size=20, verbose=0)
    np.testing.assert_allclose(each.forward(X[:1]), each.forward(X)[:1], rtol=1e-12)


@pytest.mark.parametrize("batch_size", [7, 28, 60])
def test_the_same_bits_on_any_number_of_threads(batch_size, rng, dtype, monkeypatch):
    monkeypatch.setattr(epoch, "STEP_GRAIN", 1)
    X, y = labelled(rng, 118)
    found = []
    before = fnn.get_num_threads()
    for threads in (1, 2):
        fnn.set_num_threads(threads)
        try:
            each = model(dtype=np.dtype(dtype).name)
            each.fit(X, y, epochs=3, batch_size=batch_size, verbose=0)
        finally:
            fnn.set_num_threads(before)
        found.append(each._stack.params)
    np.testing.assert_array_equal(*found)


def test_networks_side_by_side_have_the_bits_of_one_alone(rng):
    X, y = labelled(rng, 62)
    pairs = [(seed, dtype) for seed in range(5) for dtype in ("float32", "float64")]
    models = [model(dtype=dtype, seed=seed) for seed, dtype in pairs]
    settings = [
        {"batch_size": size, "rows": np.arange(62 - 7 * (i % 2)), "optimizer": "adam", "epochs": 4}
        for i, size in enumerate([20, 20, 30, 62, 7] * 2)
    ]
    assert_as_alone(models, X, y, settings)


def test_it_is_saved(rng, tmp_path):
    X, y = labelled(rng)
    each = model(dtype="float32")
    each.fit(X, y, epochs=2, batch_size=20, verbose=0)
    each.save(tmp_path / "m.npz")
    np.testing.assert_array_equal(fnn.load(tmp_path / "m.npz").forward(X), each.forward(X))


def test_a_failing_pass_leaves_the_running_statistics(backend):
    class Failing(fnn.Layer):
        def forward(self, x, training=False):
            raise RuntimeError("no")

        def backward(self, dy):
            return dy

    each = fnn.Sequential(fnn.BatchNorm(2), Failing())
    with pytest.raises(RuntimeError):
        each.forward(np.arange(6.0).reshape(3, 2), training=True)
    np.testing.assert_array_equal(each.layers[0].running_mean, 0)


def test_a_batch_of_one_is_refused_before_anything_changes(rng):
    X, y = labelled(rng)
    each = model()
    before = each._stack.params.copy()
    for batch_size, samples in ((1, 60), (59, 60), (20, 41)):
        with pytest.raises(
            ValueError, match=r"leaves 1 to the last batch, but BatchNorm\(6, .* choose another batch_size"
        ):
            each.fit(X[:samples], y[:samples], batch_size=batch_size, verbose=0)
    with pytest.raises(ValueError, match=r"X has 1 sample, but in training BatchNorm\(6, .* needs at least 2"):
        each.forward(X[:1], training=True)
    np.testing.assert_array_equal(each._stack.params, before)
    for layer in each.layers:
        layer.trainable = False
    each.forward(X[:1], training=True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "n is 0"),
        ((3, 0.0), ValueError, "momentum is 0, expected a finite number > 0 and <= 1"),
        ((3, 1.5), ValueError, "momentum is 1.5, expected a finite number > 0 and <= 1"),
        ((3, 0.1, 0), ValueError, "eps is 0, expected a finite number > 0"),
        ((3, "a"), TypeError, "momentum is 'a'"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        fnn.BatchNorm(*arguments)


def test_an_eps_that_vanishes_is_refused(rng):
    X, y = labelled(rng)
    each = fnn.Sequential(fnn.BatchNorm(6, eps=1e-60), fnn.Linear(6, 3))
    with pytest.raises(ValueError, match="eps is 1e-60, which vanishes in float32"):
        each.fit(X, y, verbose=0)


def test_backward_needs_a_forward_pass():
    with pytest.raises(ValueError, match="has no input to go back to"):
        fnn.BatchNorm(2).backward(np.ones((1, 2)))
