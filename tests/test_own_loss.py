"""Losses of a user's own: two scalar functions, the mean over samples of the sum over outputs."""

import copy
import math
import pickle

import numpy as np
import pytest
from scipy import special

import fastnn as fnn
from tests import user_functions as own
from tests.judge import eps
from tests.training import assert_same_weights
from tests.user_code import UserReLU

# The loss and its derivative, and both by NumPy and SciPy of r = p - y.
PAIRS = {
    "gauss": (*(own.gauss, own.gauss_derivative, lambda r: -np.expm1(-r * r / 2), lambda r: r * np.exp(-r * r / 2)),),
    "huber": (own.huber, own.huber_derivative, lambda r: special.huber(0.5, r), lambda r: np.clip(r, -0.5, 0.5)),
    "log cosh": (
        *(lambda p, y: math.log(math.cosh(p - y)), lambda p, y: math.tanh(p - y)),
        *(lambda r: np.log(np.cosh(r)), np.tanh),
    ),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (4, 16), (2, 600)], ids=str)
@pytest.mark.parametrize("pair", PAIRS)
def test_values_and_gradients(pair, shape, weighted, backend, rng, dtype):
    value, derivative, exact, slope = PAIRS[pair]
    loss, (pred, y) = fnn.ElementwiseLoss(value, derivative), rng.normal(size=(2, *shape)).astype(dtype)
    v = rng.uniform(0.1, 1, shape[0]).astype(dtype) if weighted else None
    shares = np.ones(shape[0]) if v is None else v.astype(np.float64)
    shares = shares / shares.sum()
    r = pred.astype(np.float64) - y
    found, gradient = loss.forward(pred, y, v), loss.backward(pred, y, v)
    assert (type(found), gradient.dtype) == (float, dtype)
    assert found == pytest.approx((exact(r).sum(axis=1) * shares).sum(), rel=50 * eps(dtype), abs=4 * eps(dtype))
    np.testing.assert_allclose(gradient, slope(r) * shares[:, None], rtol=50 * eps(dtype), atol=8 * eps(dtype))


@pytest.mark.parametrize("outputs", [1, 2, 40])
def test_training_is_that_of_a_built_in_one(outputs, backend, rng, dtype):
    X, y = rng.normal(size=(50, 4)), rng.normal(size=(50, outputs))
    v = rng.uniform(0.5, 2, 50)
    models, histories = [], []
    for loss in (fnn.ElementwiseLoss(own.huber, own.huber_derivative), fnn.Huber(0.5)):
        models.append(fnn.Sequential(fnn.Linear(4, 9), fnn.Tanh(), fnn.Linear(9, outputs), dtype=dtype))
        histories.append(
            models[-1].fit(
                *(X, y), loss=loss, optimizer=fnn.SGD(0.1), l2=0.01, epochs=3, batch_size=16, sample_weight=v,
                validation_data=(X, y), verbose=0,
            )
        )  # fmt: skip
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=50 * eps(dtype))
    assert_same_weights(*models, rtol=500 * eps(dtype))
    assert models[0].evaluate(X, y, v)["loss"] == pytest.approx(
        models[1].evaluate(X, y, v)["loss"], rel=50 * eps(dtype)
    )
    np.testing.assert_array_equal(models[0].predict(X), models[0].forward(X))
    with pytest.raises(
        ValueError, match=r"trained with the ElementwiseLoss\(huber\): its outputs are values, not class"
    ):
        models[0].predict_proba(X)


def test_layer_by_layer_trains_alike_and_gradients_agree(backend, rng):
    X, y = rng.normal(size=(40, 4)), rng.normal(size=(40, 2))
    loss = fnn.ElementwiseLoss(own.gauss, own.gauss_derivative, name="welsch")
    models = [
        fnn.Sequential(fnn.Linear(4, 8), a, fnn.Linear(8, 2), dtype="float64", seed=2) for a in (fnn.ReLU(), UserReLU())
    ]
    for model in models:
        model.fit(X, y, loss=loss, optimizer=fnn.SGD(0.05), epochs=3, verbose=0, batch_size=16)
        assert fnn.check_gradients(model, X[:9], y[:9], n_checks=40) < 1e-6
    assert_same_weights(*models, rtol=1e-9)
    wrong = fnn.ElementwiseLoss(own.gauss, lambda p, y: 1.1 * (p - y))
    assert fnn.check_gradients(models[0], X[:9], y[:9], loss=wrong, n_checks=40) > 1e-3
    assert any(part.phase == "loss" for part in fnn.profile(models[0], X, y, seconds=0.001).parts)


def test_copies(backend, rng, tmp_path):
    X, y = rng.normal(size=(20, 4)), rng.normal(size=(20, 2))
    model = fnn.Sequential(fnn.Linear(4, 2))
    model.loss = fnn.ElementwiseLoss(own.gauss, own.gauss_derivative, name="welsch")
    model.save(tmp_path / "m.npz")
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fnn.load(tmp_path / "m.npz")):
        assert repr(other.loss) == "ElementwiseLoss(welsch)"
        assert (other.loss.value, other.loss.derivative) == (own.gauss, own.gauss_derivative)
        assert other.evaluate(X, y) == model.evaluate(X, y)
    model.loss = fnn.ElementwiseLoss(lambda p, y: p - y, lambda p, y: 1.0)
    assert copy.deepcopy(model).evaluate(X, y) == model.evaluate(X, y)
    message = "value .*<lambda> cannot be saved or pickled, since it cannot be imported as 'tests.test_own_loss:"
    with pytest.raises(TypeError, match=message):
        model.save(tmp_path / "m.npz")
    with pytest.raises(TypeError, match=message):
        pickle.dumps(model)
    assert repr(fnn.load(tmp_path / "m.npz").loss) == "ElementwiseLoss(welsch)"


def test_a_name_stands_for_one_pair():
    kept = fnn.ElementwiseLoss(own.gauss, own.gauss_derivative, name="mine")
    with pytest.raises(ValueError, match="name is 'mine', which another loss has whose functions are different"):
        fnn.ElementwiseLoss(own.huber, own.huber_derivative, name="mine")
    assert fnn.ElementwiseLoss(own.gauss, own.gauss_derivative, name="mine").operation == kept.operation


def test_refused(backend, rng):
    with pytest.raises(TypeError, match=r"value .*<lambda> takes \(p\), expected \(p, y\)"):
        fnn.ElementwiseLoss(lambda p: p, own.gauss_derivative)
    with pytest.raises(TypeError, match=r"derivative is 1.0, expected a function made by def or lambda: derivative"):
        fnn.ElementwiseLoss(own.gauss, 1.0)
    model = fnn.Sequential(fnn.Linear(4, 2))
    before = model.layers[0].weight.copy()
    X, y = rng.normal(size=(20, 4)), rng.normal(size=(20, 2))
    wrong = fnn.ElementwiseLoss(lambda p, y: (p, y), own.gauss_derivative)
    with pytest.raises(TypeError, match=r"value .*<lambda> returns .*, expected a real number"):
        model.fit(X, y, loss=wrong, epochs=1, verbose=0)
    np.testing.assert_array_equal(model.layers[0].weight, before)
    assert model.loss is None
    loss = fnn.ElementwiseLoss(own.gauss, own.gauss_derivative)
    with pytest.raises(ValueError, match=r"y has shape \(20,\), expected \(20, 2\)"):
        model.fit(X, y[:, 0], loss=loss, epochs=1, verbose=0)
    for method in (loss.forward, loss.backward):
        with pytest.raises(ValueError, match=r"pred has shape \(3,\)|pred .* 2"):
            method(np.ones(3), np.ones(3))
        with pytest.raises(ValueError, match="y has 4 rows, but there are 3 samples"):
            method(np.ones((3, 2)), np.ones((4, 2)))
        with pytest.raises(ValueError, match="sample_weight holds -1"):
            method(np.ones((3, 2)), np.ones((3, 2)), [-1, 1, 1])
    with pytest.raises(ValueError, match="loss is 'elementwise', expected 'cross_entropy'"):
        model.fit(X, y, loss="elementwise", epochs=1, verbose=0)
