import numpy as np
import pytest

import fastnn as fnn
from fastnn import kernels, reference
from fastnn.reference.dropout import keeps, key_of, mix
from tests.networks import batches, build, objective, rule

TWINS = pytest.mark.parametrize("twin", [kernels, reference], ids=["kernels", "reference"])


def lowbias32(x):
    """C. Wellons' hash of 32 bits, in Python's integers."""
    for multiplier, bits in ((0x7FEB352D, 16), (0x846CA68B, 15)):
        x = (x ^ (x >> bits)) * multiplier % 2**32
    return x ^ (x >> 16)


def test_the_first_outputs_of_splitmix64():
    assert mix(0) == 0xE220A8397B1DCDAF
    assert [mix(1234567 + i * 0x9E3779B97F4A7C15) for i in range(2)] == [6457827717110365317, 3203168211198807973]


def test_the_mask_element_by_element():
    key, rate = 2**63 - 5, 0.4
    expected = [
        [lowbias32(((mix(key + i) >> 32) + j * 0x9E3779B9) % 2**32) / 2**32 >= rate for j in range(37)]
        for i in range(5)
    ]
    np.testing.assert_array_equal(keeps(key, 5, 37, rate), expected)


@TWINS
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1 - 2**-30])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (4, 64), (5, 133), (0, 3), (3, 0)])
def test_what_is_kept_is_scaled_and_the_rest_is_zero(twin, shape, rate, rng, dtype):
    x, out = rng.normal(size=shape).astype(dtype), np.full(shape, np.nan, dtype)
    twin.dropout(x, rate, 12345, out)
    expected = np.where(keeps(12345, *shape, rate), x.astype(np.float64) / (1 - rate), 0)
    np.testing.assert_allclose(out, expected, rtol=4 * np.finfo(dtype).eps)


@TWINS
def test_in_place_and_what_is_dropped_may_be_anything(twin, dtype):
    x = np.full((2, 40), np.nan, dtype)
    twin.dropout(x, 0.5, 3, x)
    np.testing.assert_array_equal(np.isnan(x), keeps(3, 2, 40, 0.5))
    assert (x[~np.isnan(x)] == 0).all()


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.8])
def test_each_unit_is_dropped_with_that_probability_and_independently(rate):
    """Shares and correlations of 2000 x 400 bits lie within five standard deviations; their seed is fixed."""
    m, n = 2000, 400
    dropped = ~keeps(99, m, n, rate) - rate
    deviation = np.sqrt(rate * (1 - rate))
    assert abs(dropped.mean()) < 5 * deviation / np.sqrt(m * n)
    assert np.abs(dropped.mean(axis=0)).max() < 5 * deviation / np.sqrt(m)
    assert np.abs(dropped.mean(axis=1)).max() < 5 * deviation / np.sqrt(n)
    for other in (np.roll(dropped, 1, axis=0), np.roll(dropped, 1, axis=1), ~keeps(100, m, n, rate) - rate):
        assert abs((dropped * other).mean()) < 5 * deviation**2 / np.sqrt(m * n)


def test_keys_differ_by_seed_update_and_op():
    keys = [key_of(seed, t, i) for seed in (0, 1, 2**63 - 1) for t in (0, 1, 2, 10**9) for i in range(5)]
    assert len(set(keys)) == len(keys)


CASES = {
    "behind an activation": (13, [17, "relu", ("dropout", 0.4), 5]),
    "behind a linear layer": (13, [17, ("dropout", 0.4), (20, False), "tanh", 5]),
    "of the input": (13, [("dropout", 0.2), 17, "sigmoid", 5]),
    "of the output": (13, [17, ("leaky_relu", 0.1), 5, ("dropout", 0.1)]),
    "twice, and an activation alone": (13, [17, ("dropout", 0.3), ("dropout", 0.5), "tanh", "relu", 5]),
}


def trained(twin, network, params, data, rule_):
    params = params.copy()
    rule_ = rule_._replace(slots=rule_.slots.copy())
    losses = [
        twin.train_epoch(network, params, data, objective("cross_entropy", 0.01), rule_._replace(step=step))
        for step in (7, 12)
    ]
    return losses, params


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_epoch_drops_what_its_twin_drops(case, name, rng, dtype):
    network, params = build(case, rng, dtype)
    data = batches(rng.normal(size=(37, 13)).astype(dtype), rng.integers(0, 5, 37), 8, order=rng.permutation(37))
    rule_ = rule(name, params, 0.01)
    losses, ours = trained(kernels, network, params, data, rule_)
    expected, theirs = trained(reference, network, params, data, rule_)
    tolerance = 1e-11 if dtype == np.float64 else 2e-4
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    assert trained(kernels, network._replace(seed=3), params, data, rule_)[0] != losses


def test_an_epoch_by_hand(dtype):
    """One linear unit with dropout before it: pred = Σ w_j x_j k_j / (1 - rate), dw_j = 2 (pred - y) x_j k_j / ..."""
    rate, lr, n = 0.25, 0.01, 9
    network, params = build((n, [("dropout", rate), (1, False)]), np.random.default_rng(0), dtype)
    x, y = np.linspace(-1, 1, n, dtype=dtype)[None], np.array([[0.5]], dtype)
    w = params[:n].astype(np.float64)
    kept = keeps(key_of(network.seed, 1, 0), 1, n, rate)[0] / (1 - rate) * x[0]
    assert 0 < np.count_nonzero(kept) < n - 1
    kernels.train_epoch(network, params, batches(x, y, 1), objective("squared_error"), rule("sgd", params, lr))
    np.testing.assert_allclose(params[:n], w - lr * 2 * (w @ kept - 0.5) * kept, rtol=1e-5)


def test_inference_drops_nothing(backend, rng, dtype):
    """A network that is lowered for it has no dropout."""
    layers = fnn.Linear(13, 7), fnn.Dropout(0.5), fnn.ReLU(), fnn.Dropout(0.3), fnn.Linear(7, 5), fnn.Dropout(0.9)
    model = fnn.Sequential(*layers, dtype=np.dtype(dtype).name)
    (w, b), (v, c) = ((layer.weight, layer.bias) for layer in (layers[0], layers[4]))
    x = rng.normal(size=(40, 13)).astype(dtype)
    np.testing.assert_allclose(model.forward(x), np.maximum(x @ w + b, 0) @ v + c, rtol=1e-4, atol=1e-5)
    assert "dropout" not in model._stack.inference.names
    assert model._stack.network.names == ("", "dropout", "relu", "dropout", "", "dropout")
