"""Huber's loss, by hand and by central differences, and on both paths of training."""

import numpy as np
import pytest
from scipy import special

import fastnn as fnn
from tests.training import assert_same_weights
from tests.user_code import UserReLU


@pytest.mark.parametrize("delta", [0.3, 1.0, 7.0])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (4, 16), (3, 17), (2, 40)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_values_and_gradients(weighted, shape, delta, backend, rng, dtype):
    pred, y = (rng.normal(size=shape).astype(dtype) * 2 for _ in range(2))
    v = rng.uniform(0.1, 1, shape[0]).astype(dtype) if weighted else None
    share = np.ones(shape[0]) if v is None else v.astype(np.float64)
    r = pred.astype(np.float64) - y
    expected = (special.huber(delta, r).sum(axis=1) * share).sum() / share.sum()
    value, gradient = fnn.huber_and_gradient(pred, y, delta, v)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    assert value == pytest.approx(expected, rel=tolerance)
    assert fnn.huber(pred, y, delta, v) == pytest.approx(expected, rel=tolerance)
    clipped = np.clip(r, -delta, delta) * (share / share.sum())[:, None]
    np.testing.assert_allclose(gradient, clipped, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(fnn.huber_backward(pred, y, delta, v), gradient)


@pytest.mark.parametrize(
    ("r", "value", "slope"), [(np.inf, np.inf, 2), (-np.inf, np.inf, -2), (np.nan, np.nan, np.nan)]
)
def test_what_is_not_finite(r, value, slope, backend, dtype):
    found, gradient = fnn.huber_and_gradient(np.array([[r]], dtype), [[0.0]], delta=2.0)
    np.testing.assert_equal((found, float(gradient[0, 0])), (value, slope))


def test_compiled_and_layer_by_layer_train_alike(backend, rng, tmp_path):
    X = rng.normal(size=(60, 4))
    y = X @ rng.normal(size=(4, 2)) + rng.standard_cauchy(size=(60, 2))
    models = [
        fnn.Sequential(fnn.Linear(4, 8), a, fnn.Linear(8, 2), dtype="float64", seed=2) for a in (fnn.ReLU(), UserReLU())
    ]
    for model in models:
        history = model.fit(X, y, loss=fnn.Huber(0.5), optimizer=fnn.SGD(0.05), epochs=4, verbose=0, batch_size=16)
        assert history["loss"][-1] < history["loss"][0]
        assert fnn.check_gradients(model, X[:9], y[:9]) < 1e-6
    assert_same_weights(*models, rtol=1e-9)
    models[0].save(tmp_path / "m.npz")
    same = fnn.load(tmp_path / "m.npz")
    assert same.loss.delta == 0.5
    assert repr(same.loss) == "Huber(delta=0.5)"
    np.testing.assert_array_equal(same.predict(X), models[0].forward(X))
    assert same.evaluate(X, y) == models[0].evaluate(X, y)
    with pytest.raises(ValueError, match="trained with the huber: its outputs are values, not class scores"):
        same.predict_proba(X)


def test_a_delta_that_vanishes():
    """Training takes what is smaller than the smallest normal number for zero."""
    x = np.ones((4, 2))
    model = fnn.Sequential(fnn.Linear(2, 1))
    with pytest.raises(ValueError, match="delta is 1e-40, which vanishes in float32: expected at least 1e-30"):
        model.fit(x, x[:, :1], loss=fnn.Huber(1e-40), verbose=0)
    fnn.Sequential(fnn.Linear(2, 1), dtype="float64").fit(x, x[:, :1], loss=fnn.Huber(1e-40), verbose=0)


@pytest.mark.parametrize(
    ("delta", "error"), [(0, ValueError), (-1, ValueError), (np.nan, ValueError), ("1", TypeError)]
)
def test_refused(delta, error):
    for call in (lambda: fnn.Huber(delta), lambda: fnn.huber([[1.0]], [[1.0]], delta)):
        with pytest.raises(error, match=r"delta is .*, expected a finite number > 0"):
            call()
