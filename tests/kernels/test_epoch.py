import numpy as np
import pytest

import fastnn as fnn
from fastnn import kernels, reference
from fastnn.codes import BIAS_AT, FROZEN, INPUTS, KEEPS, KIND, LINEAR, OUTPUTS, WEIGHT
from fastnn.kernels.network.whole import PIECE, whole_of
from tests.cases import LAYOUTS, NETWORKS, each_pair
from tests.judge import assert_within, eps, written
from tests.networks import ACTIVATION_LAYERS, RULES, SCALED, batches, build, frozen, objective, problem, rule, scaled

LOSS_OF = {"labels": "cross_entropy", "soft": "cross_entropy", "squared": "squared_error"}
# Of the largest change: what the roundings of forward and backward make of it.
RELATIVE = {np.float32: 1e-3, np.float64: 1e-11}


def wide(array):
    return array.astype(np.float64) if array is not None and array.dtype == np.float32 else array


def train(module, network, params, data, goal, rule_, epochs=1):
    """Train copies; the losses and failures of the epochs, the parameters and the slots."""
    slots = rule_.slots.copy()
    results = []

    def write(out):
        out[...] = params
        for epoch in range(epochs):
            step = rule_.step + epoch * -(-len(data.order) // data.batch_size)
            results.append(module.train_epoch(network, out, data, goal, rule_._replace(slots=slots, step=step)))

    trained = written(write, params.shape, params.dtype)
    return results, trained, slots


def check(network, params, data, goal, rule_, epochs=2, learns=True):
    """Kernels in the dtype of params against the reference in float64."""
    exact_data = data._replace(x=wide(data.x), y=wide(data.y), sample_weight=wide(data.sample_weight))
    expected = train(
        reference, network, wide(params), exact_data, goal, rule_._replace(slots=wide(rule_.slots)), epochs
    )
    results, trained, slots = train(kernels, network, params, data, goal, rule_, epochs)
    assert [failed for _, failed in results] == [failed for _, failed in expected[0]] == [-1] * epochs
    rounding, relative = 64 * eps(params.dtype), RELATIVE[params.dtype.type]
    losses = [loss for loss, _ in expected[0]]
    np.testing.assert_allclose([loss for loss, _ in results], losses, rtol=relative, atol=rounding)
    moved = np.abs(expected[1] - params).max(initial=0)
    assert_within(trained, expected[1], rounding * (1 + np.abs(expected[1])) + relative * moved)
    for slot, exact in zip(slots, expected[2], strict=True):
        assert_within(
            slot, exact, np.full(exact.shape, relative * np.abs(exact).max(initial=0) + eps(params.dtype) ** 2)
        )
    assert trained.dtype == slots.dtype == params.dtype
    np.testing.assert_array_equal(trained[params == 0], 0)
    assert moved > 10 * rounding or not learns, "nothing was learned, so nothing was tested"


@pytest.mark.parametrize(("case", "name", "targets"), each_pair(NETWORKS, RULES, [*LOSS_OF]))
def test_every_network_loss_and_rule(case, targets, name, rng, dtype):
    """Each network with each rule, and the losses in turn: a rule sees of them no more than the gradient."""
    case = NETWORKS[case]
    network, params = build(case, rng, dtype)
    x, y = problem(case, 37, targets, rng, dtype)
    weights = rng.uniform(0, 2, 37).astype(dtype) if name != "momentum" else None
    goal = objective(LOSS_OF[targets], 0.01 if name != "nesterov" else 0.0)
    # A softmax of one column is 1 whatever its score, so only a penalty trains it.
    learns = len(params) > 0 and (network.ops[-1, 2] > 1 or targets == "squared" or goal.l2 > 0)
    data, lr = batches(x, y, 8, weights, rng.permutation(37)), 0.002 if targets == "squared" or name in SCALED else 0.02
    check(network, params, data, goal, rule(name, params, lr), learns=learns)


SMALL = (13, [17, "relu", (33, False), ("leaky_relu", 0.1), 5])


DEEP = (13, ["tanh", 17, "relu", (33, False), "tanh", 70, ("leaky_relu", 0.1), 5])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("places", [(0,), (1, 2), (3,), (0, 1, 2), (0, 3)], ids=str)
def test_frozen_ops(places, name, rng, dtype):
    """They stay as they are with their state, and no penalty is for them."""
    network, params = build(DEEP, rng, dtype)
    network = frozen(network, *places)
    x, y = problem(DEEP, 37, "labels", rng, dtype)
    data, goal, state = batches(x, y, 8), objective("cross_entropy", 0.05), rule(name, params, 0.02)
    check(network, params, data, goal, state)
    _, trained, slots = train(kernels, network, params, data, goal, state)
    for op in network.ops[network.ops[:, KIND] == LINEAR]:
        end = op[WEIGHT] + op[INPUTS] * op[OUTPUTS]
        for part in (slice(op[WEIGHT], end), *[slice(at, at + op[OUTPUTS]) for at in [op[BIAS_AT]] if at >= 0]):
            is_kept = np.array_equal(trained[part], params[part])
            assert is_kept == bool(op[KEEPS] & FROZEN)
            assert not is_kept or not slots[:, part].any()


@pytest.mark.parametrize("name", RULES)
def test_a_learning_rate_for_each_op_and_each_update(name, rng, dtype):
    network, params = build(DEEP, rng, dtype)
    x, y = problem(DEEP, 37, "labels", rng, dtype)
    data, goal, state = batches(x, y, 8), objective("cross_entropy", 0.05), rule(name, params, 1e3)
    rates = np.array([0.01, 0.02, 0.0, 0.001, 0.03]) / (4 if name in SCALED else 1)
    check(scaled(network), params, data, goal, state._replace(rates=rates))
    check(network, params, data, goal, state._replace(rates=rates))
    check(scaled(network), params, data, goal, state._replace(settings=(0.002, *state.settings[1:])))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("clip_norm", "accumulate"), [(0.3, 1), (None, 3), (0.3, 2), (100.0, 1)])
def test_the_gradient_as_a_whole(clip_norm, accumulate, name, rng, dtype):
    """Clipped, summed over batches, of which the last group has fewer, and the last batch fewer samples."""
    network, params = build(DEEP, rng, dtype)
    x, y = problem(DEEP, 37, "labels", rng, dtype)
    weights = rng.uniform(0, 2, 37).astype(dtype) if accumulate == 3 else None
    data, goal = batches(x, y, 5, weights, rng.permutation(37)), objective("cross_entropy", 0.05)
    lr = 0.004 if name in SCALED else 0.02
    state = rule(name, params, lr)._replace(clip_norm=clip_norm, accumulate=accumulate)
    check(scaled(frozen(network, 1)), params, data, goal, state)
    check(network, params, data, objective("cross_entropy"), state)


def test_dropout_draws_for_each_batch_of_an_update(rng, dtype):
    case = 13, [64, "relu", ("dropout", 0.5), 5]
    network, params = build(case, rng, dtype)
    x, y = problem(case, 37, "labels", rng, dtype)
    check(network, params, batches(x, y, 5), objective("cross_entropy"), rule("sgd", params)._replace(accumulate=3))


def test_clipping_by_more_than_the_norm_changes_no_bit_of_a_rule_with_state(rng, dtype):
    network, params = build(DEEP, rng, dtype)
    x, y = problem(DEEP, 37, "labels", rng, dtype)
    data, goal, state = batches(x, y, 8), objective("cross_entropy", 0.05), rule("adam", params, 0.01)
    found = [train(kernels, network, params, data, goal, state._replace(clip_norm=limit)) for limit in (None, 1e9)]
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    np.testing.assert_array_equal(found[0][2], found[1][2])


@pytest.mark.parametrize("batch_size", [1, 2, 5, 14, 15, 36, 37, 38, 1000])
@pytest.mark.parametrize("targets", LOSS_OF)
def test_batch_sizes(batch_size, targets, rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 37, targets, rng, dtype)
    check(network, params, batches(x, y, batch_size), objective(LOSS_OF[targets], 0.01), rule("sgd", params, 0.005), 3)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("x_dtype", [np.uint8, np.float32, np.float64])
def test_x_in_any_layout_and_dtype(x_dtype, layout, rng, dtype, tmp_path):
    network, params = build(SMALL, rng, dtype)
    values = rng.integers(0, 256, (37, 13))
    x = (values if x_dtype == np.uint8 else values / 64).astype(x_dtype)
    given = (
        LAYOUTS[layout](x, tmp_path)
        if x_dtype != np.uint8 or layout in ("c", "fortran", "read-only", "memmap")
        else x[::-1][::-1]
    )
    data = batches(given, rng.integers(0, 5, 37), 8, order=rng.permutation(37))
    check(network, params, data, objective("cross_entropy"), rule("sgd", params, 1e-5 if x_dtype == np.uint8 else 0.01))


def test_uint8_in_a_strided_view(rng, dtype):
    network, params = build(SMALL, rng, dtype)
    big = rng.integers(0, 256, (80, 40)).astype(np.uint8)
    data = batches(big[2::2, 30:4:-2], rng.integers(0, 5, 39), 8, order=np.arange(37))
    check(network, params, data, objective("cross_entropy"), rule("sgd", params, 1e-5))


def test_a_repeated_row_of_x(rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x = np.broadcast_to(rng.normal(size=13).astype(dtype), (37, 13))
    check(network, params, batches(x, rng.integers(0, 5, 37), 8), objective("cross_entropy"), rule("sgd", params, 0.02))


def test_only_the_rows_of_the_order_are_read(rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 50, "labels", rng, dtype)
    order = np.array([40, 3, 3, 17, 49, 0, 21, 3, 8, 40])
    unused = np.setdiff1d(np.arange(50), order)
    x[unused], y[unused] = np.nan, 2**40
    check(network, params, batches(x, y, 4, order=order), objective("cross_entropy"), rule("sgd", params, 0.02))


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_a_batch_whose_weights_are_zero(name, rng, dtype):
    """Its loss and gradient are 0, and the penalty and the velocity still move the weights."""
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 24, "labels", rng, dtype)
    weights = rng.uniform(size=24).astype(dtype)
    weights[8:16] = 0
    check(network, params, batches(x, y, 8, weights), objective("cross_entropy", 0.1), rule(name, params, 0.02))


def test_an_epoch_without_any_weight(rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 24, "labels", rng, dtype)
    results, trained, _ = train(
        kernels, network, params, batches(x, y, 8, np.zeros(24, dtype)), objective("cross_entropy"), rule("sgd", params)
    )
    assert results == [(0.0, -1)]
    np.testing.assert_array_equal(trained, params)


def test_an_empty_epoch(rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 3, "labels", rng, dtype)
    data = batches(x, y, 8, order=np.empty(0, np.int64))
    results, trained, _ = train(kernels, network, params, data, objective("cross_entropy", 0.1), rule("sgd", params))
    assert results == [(0.0, -1)]
    np.testing.assert_array_equal(trained, params)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam"])
@pytest.mark.parametrize("targets", LOSS_OF)
def test_training_stops_before_the_update_of_a_batch_without_a_finite_loss(targets, name, value, rng, dtype):
    case = (6, [18, "tanh", 5])
    network, params = build(case, rng, dtype)
    x, y = problem(case, 40, targets, rng, dtype)
    goal, start = objective(LOSS_OF[targets], 0.01), rule(name, params, 0.02)
    _, expected, expected_slots = train(kernels, network, params, batches(x[:24], y[:24], 8), goal, start)
    # An infinity alone would leave tanh at 1; beside its negative it makes a NaN.
    x[25, :] = value
    x[25, 0] = -value
    [(loss, failed)], trained, slots = train(kernels, network, params, batches(x, y, 8), goal, start)
    assert failed == reference.train_epoch(network, params.copy(), batches(x, y, 8), goal, start)[1] in (3, -1)
    assert failed == 3 or value != value
    if failed == 3:
        assert not np.isfinite(loss)
        np.testing.assert_array_equal(trained, expected)
        np.testing.assert_array_equal(slots, expected_slots)


def test_a_loss_beyond_the_range_of_the_type_stops_training(rng, dtype):
    case = (2, [(1, False)])
    network, params = build(case, rng, dtype)
    x = np.ones((6, 2), dtype)
    y = np.zeros((6, 1), dtype)
    y[4] = np.inf
    [(loss, failed)], _, _ = train(
        kernels, network, params, batches(x, y, 2), objective("squared_error"), rule("sgd", params)
    )
    assert (loss, failed) == (np.inf, 2)


def test_weights_that_are_not_finite_stop_training_at_once(rng, dtype):
    network, params = build(SMALL, rng, dtype)
    params[network.ops[1, 3]] = np.nan
    x, y = problem(SMALL, 9, "labels", rng, dtype)
    for l2, weights in [(0.0, None), (0.1, None), (0.1, np.zeros(9, dtype))]:
        [(_, failed)], trained, _ = train(
            kernels, network, params, batches(x, y, 4, weights), objective("cross_entropy", l2), rule("sgd", params)
        )
        assert failed == 0
        np.testing.assert_array_equal(trained, params)


def test_labels_are_never_read_as_float(rng, dtype):
    """A width past 2^24 would not fit, but the last of many classes must be hit exactly."""
    case = (3, [2000])
    network, params = build(case, rng, dtype)
    x = rng.normal(size=(8, 3)).astype(dtype)
    y = np.array([1999, 0, 1, 1998, 1024, 1023, 999, 1000])
    check(network, params, batches(x, y, 4), objective("cross_entropy"), rule("sgd", params, 0.5), 1)


@pytest.mark.parametrize("name", RULES)
def test_a_batch_past_the_cache_blocks(name, rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 2300, "labels", rng, dtype)
    data = batches(x, y, 1100, rng.uniform(size=2300).astype(dtype))
    check(network, params, data, objective("cross_entropy", 0.01), rule(name, params, 0.02))


def test_the_same_call_gives_the_same_bits(rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x, y = problem(SMALL, 37, "labels", rng, dtype)
    args = network, params, batches(x, y, 8), objective("cross_entropy", 0.01), rule("adam", params, 0.02)
    first, second = train(kernels, *args), train(kernels, *args)
    assert first[0] == second[0]
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS)
def test_forward(case, rng, dtype):
    network, params = build(case, rng, dtype)
    for m in (0, 1, 2, 13, 14, 15, 29, 100, 301):
        x, y = problem(case, m, "squared", rng, dtype)
        check_forward(network, params, x, y.shape)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("x_dtype", [np.float32, np.float64])
def test_forward_of_any_layout_and_dtype(x_dtype, layout, rng, dtype, tmp_path):
    network, params = build(SMALL, rng, dtype)
    check_forward(network, params, LAYOUTS[layout](rng.normal(size=(31, 13)).astype(x_dtype), tmp_path), (31, 5))


def test_forward_of_uint8(rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x = rng.integers(0, 256, (40, 30)).astype(np.uint8)
    check_forward(network, params, x[::2, 26::-2][:, :13], (20, 5))
    check_forward(network, params, np.ascontiguousarray(x[:, :13]), (40, 5))


@pytest.mark.parametrize("activation", ACTIVATION_LAYERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_activations_in_a_network_meet_infinities_as_they_do_alone(value, activation, dtype):
    """What reaches the activation is (value, -value)."""
    x = np.array([[value]], dtype)
    for case in [(1, [(2, False), activation]), (1, [(2, False), "identity", activation])]:
        network, params = build(case, np.random.default_rng(0), dtype)
        params[:2] = 1, -1
        out = written(lambda out, net=network, p=params: kernels.forward(net, p, x, out), (1, 2), dtype)
        expected = np.empty((1, 2), dtype)
        reference.forward(network, params, x, expected)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_forward_keeps_a_bad_row_to_itself(value, rng, dtype):
    network, params = build(SMALL, rng, dtype)
    x = rng.normal(size=(31, 13)).astype(dtype)
    clean = written(lambda out: kernels.forward(network, params, x, out), (31, 5), dtype)
    x[17, 4] = value
    out = written(lambda out: kernels.forward(network, params, x, out), (31, 5), dtype)
    assert not np.isfinite(out[17]).any()
    np.testing.assert_array_equal(np.delete(out, 17, 0), np.delete(clean, 17, 0))


def check_forward(network, params, x, shape):
    out = written(lambda out: kernels.forward(network, params, x, out), shape, params.dtype)
    expected = np.empty(shape)
    reference.forward(network, wide(params), wide(x), expected)
    scale = 1 + np.abs(expected).max(initial=0)
    assert_within(out, expected, np.full(shape, 64 * eps(params.dtype) * scale))


def test_rows_that_no_batch_holds_are_not_read_for_the_norm():
    """The pieces leave out a table of rows, whose squares have a sum of their own, and cover all else once."""
    layers = [fnn.Embedding({0: (5000, 3)}), fnn.Linear(3, 3001), fnn.LayerNorm(3001), fnn.Linear(3001, 1)]
    stack = fnn.Sequential(*layers)._stack
    whole = whole_of(stack.network.spans, stack.params, 1.0, 1)
    read = np.zeros(stack.params.size, int)
    for start, end in whole.pieces:
        assert 0 < end - start <= PIECE
        read[start:end] += 1
    rest = stack.spans[1]["weight"]
    assert rest == 15008
    assert not read[:rest].any()
    assert (read[rest:] == 1).all()
    assert len(whole.sums) == len(whole.pieces) + len(stack.network.spans)
