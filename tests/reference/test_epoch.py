import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fastnn import reference
from tests.cases import NETWORKS
from tests.judge import eps
from tests.networks import batches, build, evaluate, frozen, objective, penalised_loss, problem, rule

LOSS_OF = {"labels": "cross_entropy", "soft": "cross_entropy", "squared": "squared_error"}


@pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS)
def test_forward_against_numpy_and_scipy(case, rng, dtype):
    network, params = build(case, rng, dtype)
    x, y = problem(case, 5, "squared", rng, dtype)
    out = np.full_like(y, np.nan)
    reference.forward(network, params, x, out)
    np.testing.assert_allclose(out, evaluate(network, params, x), rtol=1e3 * eps(dtype), atol=1e3 * eps(dtype))


@pytest.mark.parametrize("targets", LOSS_OF)
@pytest.mark.parametrize("case", [*NETWORKS.values()][:-4])
def test_one_step_against_central_differences(case, targets, rng):
    """SGD with lr 1 moves the parameters by the gradient of mean loss + l2 Σ w²."""
    network, params = build(case, rng, np.float64)
    x, y = problem(case, 6, targets, rng, np.float64)
    v, l2, step = rng.uniform(0, 2, 6), 0.05, 1e-6
    before = params.copy()
    loss, failed = reference.train_epoch(
        network, params, batches(x, y, 6, v), objective(LOSS_OF[targets], l2), rule("sgd", params, lr=1.0)
    )
    assert failed == -1
    assert loss == pytest.approx(penalised_loss(network, before, x, y, targets, v, l2), rel=1e-12)
    for i in rng.permutation(np.flatnonzero(before))[:40]:
        above, below = before.copy(), before.copy()
        above[i] += step
        below[i] -= step
        rise = penalised_loss(network, above, x, y, targets, v, l2) - penalised_loss(
            network, below, x, y, targets, v, l2
        )
        assert before[i] - params[i] == pytest.approx(rise / (2 * step), rel=1e-5, abs=1e-8)
    np.testing.assert_array_equal(params[before == 0], 0)


def fit_with(estimator, x, y, epochs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator(max_iter=epochs).fit(x, y)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_epochs_against_scikit_learn(task, name, rng):
    """Alpha is 2 λ m for cross-entropy; its squared error is half of ours, so lr doubles and alpha halves."""
    x, m, l2, lr, epochs = rng.normal(size=(24, 5)), 8, 0.01, 0.05, 3
    y = np.arange(24) % 3 if task == "classification" else rng.normal(size=24)
    half = 1 if task == "classification" else 2
    solver = {"solver": "adam", "epsilon": 1e-14} if name == "adam" else {"solver": "sgd"}
    cls = MLPClassifier if task == "classification" else MLPRegressor

    def estimator(rate=lr * (half if name != "adam" else 1), **more):
        return cls(
            hidden_layer_sizes=(7,),
            activation="tanh",
            alpha=2 * l2 * m / half,
            batch_size=m,
            learning_rate_init=rate,
            shuffle=False,
            momentum=0.0 if name == "sgd" else 0.9,
            nesterovs_momentum=name == "nesterov",
            random_state=1,
            **solver,
            **more,
        )

    untrained = fit_with(lambda max_iter: estimator(1e-300, max_iter=max_iter), x, y, 1)
    expected = fit_with(lambda max_iter: estimator(max_iter=max_iter), x, y, epochs)
    k = 3 if task == "classification" else 1
    network, params = build((5, [7, "tanh", k]), rng, np.float64)
    (w1, b1), (w2, b2) = network.ops[[0, -1], 3:5]
    views = [
        params[w1 : w1 + 35].reshape(5, 7),
        params[b1 : b1 + 7],
        params[w2 : w2 + 7 * k].reshape(7, k),
        params[b2 : b2 + k],
    ]
    for view, start in zip(
        views, [v for pair in zip(untrained.coefs_, untrained.intercepts_, strict=True) for v in pair], strict=True
    ):
        view[...] = start
    loss = "cross_entropy" if task == "classification" else "squared_error"
    target = y if task == "classification" else y[:, None]
    state = rule(name, params, lr)
    if name == "adam":
        state = state._replace(settings=(*state.settings[:3], 1e-14))
    for epoch in range(epochs):
        value, failed = reference.train_epoch(network, params, batches(x, target, m), objective(loss, l2), state)
        state = state._replace(step=state.step + 3)
        assert failed == -1
        assert value == pytest.approx(half * expected.loss_curve_[epoch], rel=1e-10)
    for view, end in zip(
        views, [v for pair in zip(expected.coefs_, expected.intercepts_, strict=True) for v in pair], strict=True
    ):
        np.testing.assert_allclose(view, end, rtol=1e-8, atol=1e-10)


def test_the_order_and_a_smaller_last_batch(rng):
    """w of a 1-1 network without bias under SGD: w -= lr 2 mean(x (x w - y)), worked batch by batch."""
    network, params = build((1, [(1, False)]), rng, np.float64)
    params[0] = 0.0
    x, y = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [0.0], [2.0]])
    loss, failed = reference.train_epoch(
        network,
        params,
        batches(x, y, 2, order=np.array([2, 0, 1])),
        objective("squared_error"),
        rule("sgd", params, 0.1),
    )
    # Samples 3 and 1 at w = 0: loss (4 + 1) / 2, gradient -7; sample 2 at w = 0.7: loss 1.96, gradient 2 · 2 · 1.4.
    assert failed == -1
    assert loss == pytest.approx((2 * 2.5 + 1.96) / 3)
    assert params[0] == pytest.approx(0.7 - 0.56)


def test_a_learning_rate_for_each_update_and_op(rng):
    """Two weights in a row, ŷ = a b x at x = 1 for y = 0: the gradients of (a b)² are 2 a b², 2 a² b."""
    network, params = build((1, [(1, False), (1, False)]), rng, np.float64)
    first, second = network.ops[:, 3]
    params[first], params[second] = a, b = 1.0, 2.0
    x, y = np.ones((2, 1)), np.zeros((2, 1))
    spec = rule("sgd", params, 99.0)._replace(rates=np.array([0.1, 0.02]))
    network = network._replace(scales=np.array([1.0, 0.5]))
    reference.train_epoch(network, params, batches(x, y, 1), objective("squared_error"), spec)
    for lr in (0.1, 0.02):
        a, b = a - lr * 2 * a * b * b, b - 0.5 * lr * 2 * a * a * b
    assert (params[first], params[second]) == pytest.approx((a, b), rel=1e-12)


def test_a_frozen_op_and_its_penalty(rng):
    """As above; the penalty is for b alone: the loss is (a b)² + λ b², and b moves by 2 a² b + 2 λ b."""
    network, params = build((1, [(1, False), (1, False)]), rng, np.float64)
    first, second = network.ops[:, 3]
    params[first], params[second] = 1.5, 2.0
    goal, data = objective("squared_error", 0.25), batches(np.ones((1, 1)), np.zeros((1, 1)), 1)
    loss, _ = reference.train_epoch(frozen(network, 0), params, data, goal, rule("sgd", params, 0.1))
    assert loss == pytest.approx(9 + 0.25 * 4)
    assert params[first] == 1.5
    assert params[second] == pytest.approx(2 - 0.1 * (2 * 2.25 * 2 + 0.5 * 2))


def test_clipping_by_hand(rng):
    """ŷ = a b x at x = 1, y = 0 with a = 3, b = 4: the gradient is (2 a b², 2 a² b) + 2 λ (a, b), its norm known."""
    network, params = build((1, [(1, False), (1, False)]), rng, np.float64)
    first, second = network.ops[:, 3]
    for clip_norm in (1.0, 1e3):
        params[first], params[second] = 3.0, 4.0
        data, goal = batches(np.ones((1, 1)), np.zeros((1, 1)), 1), objective("squared_error", 0.5)
        spec = rule("sgd", params, 0.01)._replace(clip_norm=clip_norm)
        reference.train_epoch(network, params, data, goal, spec)
        gradient = np.array([2 * 3 * 16 + 3, 2 * 9 * 4 + 4.0])
        factor = min(1, clip_norm / (np.hypot(*gradient) + 1e-6))
        np.testing.assert_allclose(params[[first, second]], [3, 4] - 0.01 * factor * gradient, rtol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("weighted", [False, True])
def test_batches_that_are_accumulated_are_one(weighted, name, rng):
    """A rule of 12 samples a batch, and of 5, 5 and 2 that are summed; the penalty counts once."""
    case = (3, [4, "tanh", 2])
    network, params = build(case, rng, np.float64)
    x, y = problem(case, 24, "labels", rng, np.float64)
    v = rng.uniform(0, 2, 24) if weighted else None
    together, apart = params.copy(), params.copy()
    goal, spec = objective("cross_entropy", 0.1), rule(name, params, 0.1)
    reference.train_epoch(network, together, batches(x, y, 12, v), goal, spec)
    own = rule(name, params, 0.1)._replace(accumulate=3)
    order = np.arange(24)
    for step, part in enumerate((order[:12], order[12:])):
        reference.train_epoch(network, apart, batches(x, y, 5, v, part), goal, own._replace(step=step))
    np.testing.assert_allclose(apart, together, rtol=1e-12, atol=1e-14)


def test_a_batch_counts_by_its_weights(rng):
    network, params = build((1, [(1, False)]), rng, np.float64)
    params[0] = 1.0
    x, y, v = np.ones((3, 1)), np.array([[0.0], [3.0], [5.0]]), np.array([3.0, 1.0, 0.0])
    loss, failed = reference.train_epoch(
        network, params, batches(x, y, 1, v), objective("squared_error", 0.5), rule("sgd", params, 0.25)
    )
    # w = 1: loss 1 + 0.5, then w = 1 - 0.25 (2 + 1) = 0.25: loss 2.75² + 0.5 w², then w = 0.25 + 0.25 (5.5 - 0.25),
    # and the sample without weight leaves only the penalty: w -= 0.25 w.
    assert failed == -1
    assert loss == pytest.approx((3 * 1.5 + 2.75**2 + 0.5 * 0.25**2) / 4)
    assert params[0] == pytest.approx((0.25 + 0.25 * 5.25) * 0.75)


def test_adam_counts_its_steps_across_batches_and_epochs(rng):
    case = (3, [2])
    network, params = build(case, rng, np.float64)
    x, y = problem(case, 6, "labels", rng, np.float64)
    together, apart = params.copy(), params.copy()
    reference.train_epoch(network, together, batches(x, y, 2), objective("cross_entropy"), rule("adam", params))
    state = rule("adam", params)
    for number in range(3):
        order = np.arange(2 * number, 2 * number + 2)
        state = state._replace(step=number)
        reference.train_epoch(network, apart, batches(x, y, 2, order=order), objective("cross_entropy"), state)
    np.testing.assert_array_equal(together, apart)


@pytest.mark.parametrize("x_dtype", [np.uint8, np.float32, np.float64])
def test_x_of_another_dtype_is_converted(x_dtype, rng, dtype):
    case = (4, [3, "relu", 2])
    network, params = build(case, rng, dtype)
    x, y = rng.integers(0, 255, (5, 4)).astype(x_dtype), np.array([0, 1, 1, 0, 1])
    expected = params.copy()
    reference.train_epoch(
        network, expected, batches(x.astype(dtype), y, 2), objective("cross_entropy"), rule("sgd", params, 1e-3)
    )
    reference.train_epoch(network, params, batches(x, y, 2), objective("cross_entropy"), rule("sgd", params, 1e-3))
    np.testing.assert_array_equal(params, expected)


def test_training_stops_before_the_update_of_a_batch_without_a_finite_loss(rng, dtype):
    case = (4, [3, "relu", 2])
    network, params = build(case, rng, dtype)
    x, y = problem(case, 8, "labels", rng, dtype)
    expected = params.copy()
    reference.train_epoch(network, expected, batches(x[:4], y, 2), objective("cross_entropy"), rule("sgd", params))
    x[5, 1] = np.inf
    loss, failed = reference.train_epoch(
        network, params, batches(x, y, 2), objective("cross_entropy"), rule("sgd", params)
    )
    assert failed == 2
    assert not np.isfinite(loss)
    np.testing.assert_array_equal(params, expected)


def test_a_batch_without_weight_can_still_fail(rng, dtype):
    network, params = build((2, [2]), rng, dtype)
    params[0] = np.nan
    x, y, v = np.ones((2, 2), dtype), np.array([0, 1]), np.zeros(2, dtype)
    _, failed = reference.train_epoch(
        network, params, batches(x, y, 2, v), objective("cross_entropy", 0.1), rule("sgd", params)
    )
    assert failed == 0


def test_an_empty_epoch(rng, dtype):
    network, params = build((2, [2]), rng, dtype)
    expected = params.copy()
    x, y = np.empty((0, 2), dtype), np.empty(0, np.int64)
    assert reference.train_epoch(
        network, params, batches(x, y, 2), objective("cross_entropy"), rule("sgd", params)
    ) == (0.0, -1)
    np.testing.assert_array_equal(params, expected)
