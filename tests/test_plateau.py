"""The learning rate that falls on a plateau: sequences by hand, and in fit and fit_many."""

import copy

import numpy as np
import pytest

import fastnn as fnn
from tests.test_fit_refusals import state
from tests.training import labelled, network, weights

SHORT = {"epochs": 12, "batch_size": 16, "verbose": 0}


@pytest.fixture
def data(rng):
    return labelled(rng)


def follow(callback, values, lr=1.0):
    """Feed values as fit does, and return the rate after each."""
    optimizer, rates = fnn.SGD(lr), []
    callback.begin(None, ("loss", "val_loss", "val_accuracy"), optimizer)
    for epoch, value in enumerate(values, 1):
        assert callback(None, epoch, {callback.monitor: value}) is None
        rates.append(optimizer.lr)
    callback.end(None)
    return rates


@pytest.mark.parametrize(
    ("settings", "values", "rates"),
    [
        ({"patience": 2}, [3, 2, 2, 2, 2, 2, 1], [1, 1, 1, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 1, "factor": 0.1}, [3, 3, 2, 3], [1, 0.1, 0.1, 0.01]),
        ({"patience": 1, "min_lr": 0.4}, [3, 3, 3, 3], [1, 0.5, 0.4, 0.4]),
        ({"patience": 1, "min_lr": 2}, [3, 3], [1, 1]),
        ({"patience": 2, "monitor": "val_accuracy"}, [0.5, 0.6, 0.6, 0.5], [1, 1, 1, 0.5]),
        ({"patience": 2, "min_delta": 0.5, "monitor": "loss"}, [3, 2.8, 2.6, 2], [1, 1, 0.5, 0.5]),
        ({"patience": 2}, [np.nan, np.nan, 1, 2, 2], [1, 0.5, 0.5, 0.5, 0.25]),
    ],
)
def test_by_hand(settings, values, rates):
    callback = fnn.ReduceOnPlateau(**settings)
    assert follow(callback, values) == pytest.approx(rates)
    assert callback.reductions == [i + 1 for i, (a, b) in enumerate(zip([1, *rates], rates, strict=False)) if b < a]
    assert follow(callback, values) == pytest.approx(rates)  # it starts afresh


def test_a_rate_that_would_vanish_stays():
    smallest = 5e-324
    assert follow(fnn.ReduceOnPlateau(patience=1), [1, 1], smallest) == [smallest, smallest]


@pytest.mark.usefixtures("backend")
class TestFit:
    def test_as_with_rates_set_by_hand(self, data):
        callback, optimizer, model = fnn.ReduceOnPlateau(patience=1, monitor="loss"), fnn.SGD(4.0), network()
        history = model.fit(*data, optimizer=optimizer, callbacks=[callback], **SHORT)
        reduced = [i + 2 for i, (a, b) in enumerate(zip(history["loss"], history["loss"][1:], strict=False)) if b >= a]
        assert reduced  # each is a plateau here, since the best may only come again below
        assert set(callback.reductions) >= set(reduced[:1])
        assert optimizer.lr == 4.0 * 0.5 ** len(callback.reductions)
        expected = network()
        rates = [4.0 * 0.5 ** sum(e <= epoch for e in callback.reductions) for epoch in range(12)]
        expected.fit(*data, optimizer=fnn.SGD(lambda epoch: rates[epoch]), **SHORT)
        np.testing.assert_array_equal(weights(model), weights(expected))

    def test_many_have_one_each(self, data):
        models = [network(seed=i) for i in range(3)]
        alone = copy.deepcopy(models)
        settings = {"validation_data": data, **SHORT}
        many = fnn.fit_many(
            models, *data, optimizer=fnn.SGD(4.0), callbacks=[fnn.ReduceOnPlateau(patience=1)], **settings
        )
        for model, twin, history in zip(models, alone, many, strict=True):
            optimizer, callback = fnn.SGD(4.0), fnn.ReduceOnPlateau(patience=1)
            expected = twin.fit(*data, optimizer=optimizer, callbacks=[callback], **settings)
            assert history.optimizer.lr == optimizer.lr < 4
            assert history == expected
            np.testing.assert_array_equal(weights(model), weights(twin))

    @pytest.mark.parametrize(
        ("callback", "lr", "message"),
        [
            (fnn.ReduceOnPlateau(), 0.1, "monitor is 'val_loss', but the history will hold 'loss': give fit valid"),
            (
                fnn.ReduceOnPlateau(monitor="loss"),
                fnn.schedules.linear(1, 5),
                r"lr of the optimizer is linear\(lr=1.0, .*, but ReduceOnPlateau lowers a number: give the optimizer",
            ),
        ],
    )
    def test_refused_before_anything_changes(self, callback, lr, message, data):
        model = network()
        before = state(model)
        with pytest.raises(ValueError, match=message):
            model.fit(*data, optimizer=fnn.SGD(lr), callbacks=[callback], **SHORT)
        assert state(model) == before


class OfOptimizer:
    """A callback of a user's, whose begin asks for the optimizer by name."""

    def begin(self, model, names, *, optimizer):
        self.optimizer = optimizer

    def __call__(self, model, epoch, values):
        self.optimizer.lr /= 2


def test_callbacks_of_ones_own_may_ask_for_the_optimizer(data):
    callback = OfOptimizer()
    optimizer = fnn.SGD(0.8)
    network().fit(*data, optimizer=optimizer, callbacks=[callback], **{**SHORT, "epochs": 3})
    assert callback.optimizer is optimizer
    assert optimizer.lr == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"factor": 1}, ValueError, "factor is 1, expected a finite number > 0 and < 1"),
        ({"patience": 0}, ValueError, "patience is 0, expected a positive integer"),
        ({"min_delta": -1}, ValueError, "min_delta is -1, expected a finite number >= 0"),
        ({"monitor": "hits"}, ValueError, "monitor is 'hits', expected 'loss', 'accuracy', "),
        ({"min_lr": -1}, ValueError, "min_lr is -1, expected a finite number >= 0"),
    ],
)
def test_refused(settings, error, message):
    with pytest.raises(error, match=message):
        fnn.ReduceOnPlateau(**settings)


def test_repr():
    shown = "ReduceOnPlateau(factor=0.5, patience=3, min_delta=0, monitor='loss', min_lr=0.001)"
    assert repr(fnn.ReduceOnPlateau(patience=3, monitor="loss", min_lr=1e-3)) == shown
    copy.deepcopy(fnn.ReduceOnPlateau())
