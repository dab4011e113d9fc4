"""A rate for each update: fit against a loop of one's own that sets a number before each step."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn import schedules
from tests.training import assert_same_weights, labelled, network, weights
from tests.user_code import UserReLU

BATCH = 16  # four batches of the 50 samples, the last of two
MAKERS = {
    "sgd": lambda lr: fnn.SGD(lr),
    "nesterov": lambda lr: fnn.SGD(lr, momentum=0.9, nesterov=True),
    "adam": lambda lr: fnn.Adam(lr),
}


def schedule():
    return schedules.one_cycle(0.05, 12, warmup=5, per="step")


@pytest.fixture
def data(rng):
    return labelled(rng)


def looped(make, X, y, epochs, model=None):
    """Train batch by batch, each at the rate of its number."""
    model, optimizer, rate = model or network(), make(0.1), schedule()
    for t in range(4 * epochs):
        rows = slice(t % 4 * BATCH, t % 4 * BATCH + BATCH)
        optimizer.lr = max(rate(t), 1e-300)
        scores = model.forward(X[rows], training=True)
        model.backward(fnn.cross_entropy_backward(scores, y[rows]))
        optimizer.step(model)
    return model


def fit(model, optimizer, X, y, epochs, **settings):
    settings = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **settings}
    return model.fit(X, y, optimizer=optimizer, epochs=epochs, **settings)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
class TestFit:
    def test_each_update_has_its_rate(self, make, data):
        model = network()
        fit(model, make(schedule()), *data, 3)
        assert_same_weights(model, looped(make, *data, 3))

    def test_a_second_fit_goes_on_counting(self, make, data):
        model, optimizer = network(), make(schedule())
        fit(model, optimizer, *data, 1)
        fit(model, optimizer, *data, 2)
        assert_same_weights(model, looped(make, *data, 3))

    def test_layer_by_layer(self, make, data):
        def mine():
            return fnn.Sequential(fnn.Linear(6, 9), UserReLU(), fnn.Linear(9, 3), dtype="float64")

        model = mine()
        fit(model, make(schedule()), *data, 2)
        assert_same_weights(model, looped(make, *data, 2, mine()))

    def test_in_a_loop_of_ones_own(self, make, data):
        X, y = data
        model, optimizer = network(), make(schedule())
        for t in range(8):
            rows = slice(t % 4 * BATCH, t % 4 * BATCH + BATCH)
            scores = model.forward(X[rows], training=True)
            model.backward(fnn.cross_entropy_backward(scores, y[rows]))
            optimizer.step(model)
        assert_same_weights(model, looped(make, *data, 2))


def test_warmup_of_a_schedule_by_step_counts_steps(data):
    rate = schedules.linear_warmup(schedules.exponential(0.1, 0.9, per="step"), 3)
    model, expected, optimizer = network(), network(), fnn.SGD()
    fit(model, fnn.SGD(rate), *data, 1)
    for t in range(4):
        rows = slice(t * BATCH, t * BATCH + BATCH)
        optimizer.lr = rate(t)
        expected.backward(fnn.cross_entropy_backward(expected.forward(data[0][rows], training=True), data[1][rows]))
        optimizer.step(expected)
    assert_same_weights(model, expected)


def test_many_networks_have_the_bits_of_each_alone(data):
    models, alone = ([network(seed=i, dtype="float32") for i in range(3)] for _ in range(2))
    makers = [lambda: fnn.SGD(schedule()), lambda: fnn.SGD(0.05), lambda: fnn.SGD(schedules.cosine(0.1, 4))]
    fnn.fit_many(models, *data, optimizer=[make() for make in makers], batch_size=BATCH, epochs=4, verbose=0)
    for model, make, many in zip(alone, makers, models, strict=True):
        fit(model, make(), *data, 4, shuffle=True)
        np.testing.assert_array_equal(weights(model), weights(many))


def test_a_rate_that_is_wrong_later_changes_nothing_of_its_epoch(data):
    class Wrong:
        per = "step"

        def __call__(self, t):
            return 0.05 if t < 6 else float("nan")

    model, expected, optimizer = network(), network(), fnn.SGD(Wrong())
    with pytest.raises(ValueError, match=r"lr\(6\) is nan, expected a finite number >= 0"):
        fit(model, optimizer, *data, 3)
    fit(expected, fnn.SGD(0.05), *data, 1)
    assert_same_weights(model, expected, rtol=0)
    assert optimizer.steps == 4
