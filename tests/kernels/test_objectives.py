"""Losses, label smoothing, conventions of counting and rules of the compiled epoch, against NumPy and SciPy by hand."""

import math

import numpy as np
import pytest
from scipy import special

from fastnn import kernels, reference
from fastnn.nn.lowering import Objective, OptimizerSpec, Reduction
from tests.networks import batches, build

TWINS = pytest.mark.parametrize("twin", [kernels, reference], ids=["kernels", "reference"])
CROSS_ENTROPY, SQUARED_ERROR = "cross_entropy", "squared_error"
BINARY, POISSON = "bounded_binary_cross_entropy", "poisson_deviance"
CASE = (6, [9, "tanh", 11])
BOUNDS = Reduction(least=0.5, most=2.5)
SKLEARN = Reduction(value=0.5, gradient=0.25, penalty_per_batch=True, mean_over_rows=True, stop=False)


def sample_losses(loss, s, y, smoothing=0.0, least=-np.inf, most=np.inf):
    """The loss of each sample and its gradient with respect to the scores, in float64."""
    s, k = s.astype(np.float64), s.shape[1]
    if loss == CROSS_ENTROPY:
        targets = np.eye(k)[y] * (1 - smoothing) + smoothing / k if y.ndim == 1 else y
        return np.clip(-(targets * special.log_softmax(s, axis=1)).sum(axis=1), least, most), special.softmax(
            s, axis=1
        ) - targets
    if loss == SQUARED_ERROR:
        return ((s - y) ** 2).sum(axis=1), 2 * (s - y)
    if loss == BINARY:
        logs = [np.clip(-special.log_expit(x), least, most) for x in (s, -s)]
        return (y * logs[0] + (1 - y) * logs[1]).sum(axis=1), special.expit(s) - y
    return (special.xlogy(y, y / np.exp(s)) - y + np.exp(s)).sum(axis=1), np.exp(s) - y


def targets_of(loss, n, k, rng):
    if loss == CROSS_ENTROPY:
        return rng.integers(0, k, n)
    if loss == POISSON:
        return rng.poisson(1.0, (n, k)).astype(np.float64)
    return rng.uniform(size=(n, k)) if loss == BINARY else rng.normal(size=(n, k))


def one_linear_layer(k, n_in, rng, dtype):
    """A network whose scores are x W."""
    network, params = build((n_in, [(k, False)]), rng, dtype)
    return network, params, params[: n_in * k].reshape(n_in, k)


def gradient_of(twin, network, params, data, goal, step=0):
    """The loss of an epoch of the rule that accumulates the gradient, and the gradient."""
    slots, before = np.zeros((1, len(params)), params.dtype), params.copy()
    total = len(data.order) if data.sample_weight is None else data.sample_weight.sum(dtype=np.float64)
    rule = OptimizerSpec("accumulate", (1 / total,), slots, step)
    loss, failed = twin.train_epoch(network, params, data, goal, rule)
    assert failed == -1
    np.testing.assert_array_equal(params, before)
    return loss, slots[0]


@TWINS
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("bounds", [Reduction(), BOUNDS], ids=["", "bounded"])
@pytest.mark.parametrize("k", [1, 2, 8, 16, 23])
@pytest.mark.parametrize("loss", [CROSS_ENTROPY, SQUARED_ERROR, BINARY, POISSON])
def test_loss_and_gradient(loss, k, bounds, smoothing, weighted, twin, rng, dtype):
    network, params, w = one_linear_layer(k, 5, rng, dtype)
    x, y, l2 = rng.normal(size=(29, 5)).astype(dtype), targets_of(loss, 29, k, rng), 0.03
    y = y if y.ndim == 1 else y.astype(dtype)
    v = rng.uniform(0.1, 2, 29).astype(dtype) if weighted else None
    measured, gradient = gradient_of(twin, network, params, batches(x, y, 8, v), Objective(loss, l2, smoothing, bounds))
    w = w.astype(np.float64)
    losses, ds = sample_losses(loss, x @ w, y, smoothing, bounds.least, bounds.most)
    share = np.full(29, 1 / 29) if v is None else v.astype(np.float64) / v.sum(dtype=np.float64)
    tolerance = 1e-12 if dtype == np.float64 else 2e-5
    np.testing.assert_allclose(measured, share @ losses + l2 * (w**2).sum(), rtol=tolerance)
    expected = x.T.astype(np.float64) @ (ds * share[:, None]) + 2 * l2 * w
    np.testing.assert_allclose(gradient[: w.size].reshape(w.shape), expected, rtol=tolerance, atol=tolerance)


@TWINS
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_the_bounded_binary_loss_is_that_of_rounded_probabilities(target, twin, rng):
    """As scikit-learn has it: log of p and of 1 - p as they are stored, between eps and 1 - eps."""
    eps = np.finfo(np.float64).eps
    x, network = rng.normal(size=(200, 1)) * 25, build((1, [(1, False)]), rng, np.float64)[0]
    params = np.zeros(16)
    params[0] = 1
    p = np.clip(special.expit(x), eps, 1 - eps)
    bounds = Reduction(least=-math.log1p(-eps), most=-math.log(eps), stop=False)
    loss, _ = gradient_of(
        twin, network, params, batches(x, np.full((200, 1), target), 200), Objective(BINARY, 0.0, 0.0, bounds)
    )
    np.testing.assert_allclose(loss, -np.log(p if target else 1 - p).mean(), rtol=1e-12)


# e^-708 is the smallest that an epoch keeps: what is subnormal counts as zero.
SCORES = [(x, 1.0, x) for x in (0.0, 1e-300, 1.0, 36.8, 40.0, 708.0, 1e6)] + [(1e200, 1e150, math.inf)]


@TWINS
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("target", [0.0, 1.0])
@pytest.mark.parametrize(("x", "w", "score"), SCORES)
def test_the_binary_loss_keeps_its_digits(x, w, score, target, sign, twin):
    """One sample with the score x w: log(1 + e^-|s|) far from 0 too, and no inf - inf where the score overflows."""
    w, score = sign * w, sign * score
    network, params = build((1, [(1, False)]), np.random.default_rng(0), np.float64)
    params[0] = w
    slots, data = np.zeros((1, len(params))), batches(np.full((1, 1), x), np.array([[target]]), 1)
    rule = OptimizerSpec("accumulate", (1.0,), slots, 0)
    loss, _ = twin.train_epoch(network, params, data, Objective(BINARY, 0.0, 0.0, Reduction(stop=False)), rule)
    s = score if target else -score
    expected = math.log1p(math.exp(-s)) if s > -700 else -s
    np.testing.assert_allclose(loss, expected, rtol=4e-16)
    np.testing.assert_allclose(slots[0, 0], (special.expit(score) - target) * x, rtol=1e-15)


@TWINS
@pytest.mark.parametrize("loss", [CROSS_ENTROPY, SQUARED_ERROR, BINARY, POISSON])
def test_gradients_of_a_deep_network_are_central_differences(loss, twin, rng):
    network, params = build(CASE, rng, np.float64)
    x, y = rng.normal(size=(13, 6)), targets_of(loss, 13, 11, rng)
    data, goal = batches(x, y, 5, rng.uniform(0.5, 2, 13)), Objective(loss, 0.02, 0.1 if loss == CROSS_ENTROPY else 0.0)
    _, gradient = gradient_of(twin, network, params, data, goal)
    for i in rng.choice(np.flatnonzero(params), 25, replace=False):
        values = []
        for h in (1e-6, -1e-6):
            moved = params.copy()
            moved[i] += h
            values.append(gradient_of(twin, network, moved, data, goal)[0])
        np.testing.assert_allclose(gradient[i], (values[0] - values[1]) / 2e-6, rtol=1e-6, atol=1e-8)


@TWINS
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_the_convention_of_counting(weighted, twin, rng, dtype):
    """Two batches, 8 and 5 rows: factors, the penalty over each batch's weight, and the mean over rows, by hand."""
    network, params, w = one_linear_layer(3, 4, rng, dtype)
    x, y = rng.normal(size=(13, 4)).astype(dtype), rng.normal(size=(13, 3)).astype(dtype)
    v = rng.uniform(0.5, 2, 13).astype(dtype) if weighted else np.ones(13, dtype)
    exact, lr, l2 = w.astype(np.float64), 0.05, 0.4
    total = 0.0
    for rows in (slice(0, 8), slice(8, 13)):
        losses, ds = sample_losses(SQUARED_ERROR, x[rows].astype(np.float64) @ exact, y[rows])
        weights = v[rows].astype(np.float64)
        weight = weights.sum()
        total += len(losses) * (0.5 * (weights @ losses) / weight + l2 / weight * (exact**2).sum())
        gradient = x[rows].T.astype(np.float64) @ (0.25 * ds * weights[:, None]) / weight
        exact = exact - lr * (gradient + 2 * l2 / weight * exact)
    data = batches(x, y, 8, v if weighted else None)
    sgd = OptimizerSpec("sgd", (lr,), np.zeros((0, len(params)), dtype), 0)
    loss, failed = twin.train_epoch(network, params, data, Objective(SQUARED_ERROR, l2, 0.0, SKLEARN), sgd)
    tolerance = 1e-13 if dtype == np.float64 else 1e-5
    assert failed == -1
    np.testing.assert_allclose(loss, total / 13, rtol=tolerance)
    np.testing.assert_allclose(w, exact, rtol=tolerance, atol=tolerance)


@TWINS
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_without_stop_an_epoch_goes_on(bad, twin, rng, dtype):
    network, params = build(CASE, rng, dtype)
    x, y = rng.normal(size=(12, 6)).astype(dtype), rng.integers(0, 11, 12)
    x[5] = bad
    sgd = OptimizerSpec("sgd", (0.1,), np.zeros((0, len(params)), dtype), 0)
    loss, failed = twin.train_epoch(
        network, params, batches(x, y, 4), Objective(CROSS_ENTROPY, 0.1, 0.0, Reduction(stop=False)), sgd
    )
    assert failed == -1
    assert math.isnan(loss)
    assert np.isnan(params[: 6 * 9]).all()


@TWINS
def test_adam_with_a_plain_eps(twin, rng, dtype):
    """D. P. Kingma and J. Ba, section 2: lr_t = lr √(1 - β2^t) / (1 - β1^t), w -= lr_t m / (√v + eps)."""
    network, params, w = one_linear_layer(3, 4, rng, dtype)
    x, y = rng.normal(size=(6, 4)).astype(dtype), rng.integers(0, 3, 6)
    lr, beta1, beta2, eps, t = 0.02, 0.8, 0.95, 0.3, 5
    slots = rng.uniform(0.1, 0.2, size=(2, len(params))).astype(dtype)
    m, v = (slot[:12].reshape(4, 3).astype(np.float64) for slot in slots)
    exact = w.astype(np.float64)
    g = x.T.astype(np.float64) @ sample_losses(CROSS_ENTROPY, x @ exact, y)[1] / 6
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    exact = exact - lr * math.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (np.sqrt(v) + eps)
    rule = OptimizerSpec("plain_adam", (lr, beta1, beta2, eps), slots, t - 1)
    twin.train_epoch(network, params, batches(x, y, 6), Objective(CROSS_ENTROPY, 0.0), rule)
    np.testing.assert_allclose(w, exact, rtol=1e-12 if dtype == np.float64 else 1e-5)
    np.testing.assert_allclose(slots[1, :12].reshape(4, 3), v, rtol=1e-12 if dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("loss", [CROSS_ENTROPY, SQUARED_ERROR, BINARY, POISSON])
@pytest.mark.parametrize("name", ["sgd", "nesterov", "plain_adam"])
def test_the_kernel_trains_like_its_twin(name, loss, rng, dtype):
    network, params = build(CASE, rng, dtype)
    x, y = rng.normal(size=(37, 6)).astype(dtype), targets_of(loss, 37, 11, rng)
    y = y if y.ndim == 1 else y.astype(dtype)
    data, results = batches(x, y, 8, rng.uniform(0.1, 2, 37).astype(dtype), rng.permutation(37)), []
    for twin in (kernels, reference):
        n_slots, settings = {"sgd": (0, ()), "nesterov": (1, (0.9,)), "plain_adam": (2, (0.9, 0.999, 1e-3))}[name]
        trained, slots = params.copy(), np.zeros((n_slots, len(params)), dtype)
        goal = Objective(loss, 0.01, 0.1, SKLEARN._replace(least=1e-3, most=3.0))
        losses = [
            twin.train_epoch(network, trained, data, goal, OptimizerSpec(name, (0.01, *settings), slots, 5 * epoch))
            for epoch in range(3)
        ]
        results.append((losses, trained))
    tolerance = 1e-11 if dtype == np.float64 else 2e-4
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=tolerance)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=tolerance, atol=tolerance)
