"""Callbacks: when they are called, what they may do; early stopping on sequences made by hand and in fit."""

import copy
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastnn as fnn
from tests.test_fit_refusals import state
from tests.training import assert_same_weights, labelled, network, weights
from tests.user_code import UserCrossEntropy, UserLinear

SHORT = {"epochs": 4, "batch_size": 16, "verbose": 0}


@pytest.fixture
def data(rng):
    return labelled(rng)


@pytest.mark.usefixtures("backend")
class TestCalls:
    @pytest.mark.parametrize("loss", ["cross_entropy", UserCrossEntropy()], ids=["compiled", "layer by layer"])
    def test_each_is_called_after_each_epoch(self, loss, data):
        calls, model = [], network()
        callbacks = [lambda *call, name=name: calls.append((name, *call)) for name in "ab"]
        history = model.fit(*data, loss=loss, callbacks=callbacks, validation_data=data, **SHORT)
        records = [dict(zip(history, values, strict=True)) for values in zip(*history.values(), strict=True)]
        assert calls == [(name, model, i + 1, record) for i, record in enumerate(records) for name in "ab"]
        assert not history.stopped

    def test_the_model_is_that_of_the_end_of_the_epoch(self, data):
        seen = []
        network().fit(*data, callbacks=(lambda model, *_: seen.append(copy.deepcopy(model)),), **SHORT)
        for epochs, model in enumerate(seen, 1):
            expected = network()
            expected.fit(*data, **{**SHORT, "epochs": epochs})
            assert_same_weights(model, expected, rtol=0)

    @pytest.mark.parametrize("answer", [True, np.True_])
    def test_true_stops_after_all_were_called(self, answer, data, capsys):
        calls, model, expected = [], network(), network()
        callbacks = [lambda m, epoch, v: answer if epoch == 2 else None, lambda m, epoch, v: calls.append(epoch)]
        history = model.fit(*data, callbacks=callbacks, epochs=10)
        assert (history.stopped, history.interrupted) == (True, False)
        assert calls == [1, 2]
        assert capsys.readouterr().out.splitlines()[-1] == "a callback returned True: stopped after epoch 2 of 10"
        expected.fit(*data, epochs=2, verbose=0)
        assert model.history == expected.history
        assert_same_weights(model, expected, rtol=0)
        assert not model.fit(*data, epochs=1, verbose=0).stopped

    @pytest.mark.parametrize("answer", [None, False, 1, "yes", np.False_])
    def test_nothing_else_stops(self, answer, data):
        assert len(network().fit(*data, callbacks=[lambda *_: answer], **SHORT)["loss"]) == 4

    @pytest.mark.parametrize("error", [ValueError, KeyError])
    def test_an_error_leaves_the_end_of_its_epoch(self, error, data):
        def fails(model, epoch, values):
            if epoch == 2:
                raise error("mine")

        model, expected = network(), network()
        with pytest.raises(error, match="mine"):
            model.fit(*data, callbacks=[fails], **SHORT)
        expected.fit(*data, **{**SHORT, "epochs": 2})
        assert_same_weights(model, expected, rtol=0)
        assert model.history == expected.history
        model.fit(*data, **SHORT)

    def test_it_may_set_the_learning_rate(self, data):
        def halve(model, epoch, values):
            optimizer.lr /= 2

        optimizer = fnn.SGD(lr=0.2)
        model, expected = network(), network()
        model.fit(*data, optimizer=optimizer, callbacks=[halve], **SHORT)
        expected.fit(*data, optimizer=fnn.SGD(lr=fnn.schedules.exponential_decay(0.2, 0.5)), **SHORT)
        assert_same_weights(model, expected)

    def test_it_may_change_the_weights(self, data):
        def clip(model, epoch, values):
            np.clip(model.layers[0].weight, -0.1, 0.1, out=model.layers[0].weight)

        model = network()
        model.fit(*data, callbacks=[clip], **SHORT)
        assert np.abs(model.layers[0].weight).max() == 0.1

    def test_ctrl_c_during_a_callback(self, data):
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            history = network().fit(*data, callbacks=[lambda *_: signal.raise_signal(signal.SIGINT)], **SHORT)
        finally:
            signal.signal(signal.SIGINT, before)
        assert (history.interrupted, history.stopped, len(history["loss"])) == (True, False, 1)

    @pytest.mark.parametrize(
        ("callbacks", "message"),
        [
            (fnn.EarlyStopping(), r"callbacks is EarlyStopping\(patience=10, .*\), expected a list of functions, such"),
            (3, "callbacks is 3, expected a list of functions"),
            ([print, "stop"], r"callbacks\[1\] is 'stop', expected a function of \(model, epoch, values\)"),
            ([fnn.EarlyStopping], r"callbacks\[0\] is <class .*>, expected a function of"),
        ],
    )
    def test_refused(self, callbacks, message, data):
        model = network()
        before = state(model)
        with pytest.raises(TypeError, match=message):
            model.fit(*data, callbacks=callbacks, **SHORT)
        assert state(model) == before


class Recorder:
    """A callback with all three methods."""

    def __init__(self, fails=None):
        self.calls, self.fails = [], fails

    def record(self, name, *given):
        self.calls.append((name, *given))
        if self.fails == name:
            raise ValueError(f"{name} fails")

    def begin(self, model, names):
        self.record("begin", names)

    def __call__(self, model, epoch, values):
        self.record("call", epoch)

    def end(self, model):
        self.record("end")


@pytest.mark.usefixtures("backend")
class TestBeginAndEnd:
    def test_around_the_epochs(self, data):
        recorder = Recorder()
        for settings, names in [
            ({}, ("loss",)),
            ({"validation_data": data}, ("loss", "val_loss", "val_accuracy")),
            ({"validation_data": data, "loss": UserCrossEntropy()}, ("loss", "val_loss")),
        ]:
            recorder.calls.clear()
            history = network().fit(*data, callbacks=[recorder], **{**SHORT, "epochs": 2, **settings})
            assert recorder.calls == [("begin", names), ("call", 1), ("call", 2), ("end",)]
            assert tuple(history) == names

    def test_an_error_at_the_begin_changes_nothing(self, data):
        first, second, model = Recorder(), Recorder(fails="begin"), network()
        before = state(model)
        with pytest.raises(ValueError, match="begin fails"):
            model.fit(*data, callbacks=[first, second], **SHORT)
        assert state(model) == before
        assert [call[0] for call in first.calls] == ["begin", "end"]
        assert [call[0] for call in second.calls] == ["begin"]

    def test_the_end_comes_after_an_error_too(self, data):
        first, second = Recorder(), Recorder(fails="call")
        with pytest.raises(ValueError, match="call fails"):
            network().fit(*data, callbacks=[first, second], **SHORT)
        assert [call[0] for call in first.calls] == [call[0] for call in second.calls] == ["begin", "call", "end"]

    def test_an_optimizer_at_work_comes_first(self, data):
        recorder, optimizer = Recorder(), fnn.SGD()
        with optimizer.held(), pytest.raises(ValueError, match="is busy training"):
            network().fit(*data, optimizer=optimizer, callbacks=[recorder], **SHORT)
        assert recorder.calls == []


def stand_in():
    """A model with one parameter."""
    parameter = np.zeros(2)
    return SimpleNamespace(parameters=lambda: [parameter])


def follow(stopping, values, model=None):
    """Feed values to a callback as fit does, the parameter being the epoch, and return the epoch that it stops at."""
    model = model or stand_in()
    stopping.begin(model, ("loss", "val_loss", "val_accuracy"))
    stopped = None
    for epoch, value in enumerate(values, 1):
        model.parameters()[0][...] = epoch
        if stopping(model, epoch, {stopping.monitor: value}):
            stopped = epoch
            break
    stopping.end(model)
    return stopped, model.parameters()[0][0]


class TestSequences:
    @pytest.mark.parametrize(
        ("settings", "values", "stopped", "best"),
        [
            ({"patience": 2}, [3, 2, 1, 1, 1, 0], 5, 3),
            ({"patience": 1}, [3, 2, 2.5, 1], 3, 2),
            ({"patience": 3}, [5, 4, 4.5, 4.5, 3, 2], None, 6),
            ({"patience": 2, "monitor": "val_accuracy"}, [0.5, 0.7, 0.6, 0.7, 0.9], 4, 2),
            ({"patience": 2, "monitor": "loss"}, [1, 2, 3], 3, 1),
            # 0.3 at once improve by more than 0.25; 0.1 a time do so every third epoch
            ({"patience": 3, "min_delta": 0.25}, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4], None, 7),
            ({"patience": 2, "min_delta": 0.25}, [1, 0.9, 0.8, 0.7, 0.6], 3, 3),
            ({"patience": 2, "min_delta": 0.5}, [2, 1.5, 1.5, 1], 3, 2),
            ({"patience": 2}, [np.nan, np.inf, 3], 2, 0),
            ({"patience": 3}, [np.nan, 3, np.nan, 2, np.inf, 4, 5], 7, 4),
            ({"patience": 2, "restore_best": False}, [1, 2, 3], 3, None),
            ({"patience": 5}, [], None, 0),
        ],
    )
    def test_by_hand(self, settings, values, stopped, best):
        stopping = fnn.EarlyStopping(**settings)
        found = follow(stopping, values)
        assert found[0] == stopped
        if best is not None:
            assert found[1] == (best or stopped or 0)
            assert stopping.best_epoch == (best or None)
            assert stopping.best_value == (values[best - 1] if best else None)
        else:
            assert found[1] == stopped

    @given(
        st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0]), min_size=1, max_size=20),
        st.integers(1, 5),
        st.sampled_from([0.0, 0.5, 0.75]),
        st.sampled_from(["loss", "val_accuracy"]),
    )
    def test_by_the_definition(self, values, patience, min_delta, monitor):
        """Stop at the first epoch whose last ``patience`` epochs hold no improvement; of equals the first is best."""
        losses = values if monitor == "loss" else [-value for value in values]
        improved = [1]
        for epoch, loss in enumerate(losses, 1):
            if losses[improved[-1] - 1] - loss > min_delta:
                improved.append(epoch)
        ends = [
            e for e in range(1, len(losses) + 1) if not any(e - patience < i <= e for i in improved) and e > patience
        ]
        seen = losses[: ends[0]] if ends else losses
        stopping = fnn.EarlyStopping(patience, min_delta, monitor)
        assert follow(stopping, values) == (ends[0] if ends else None, 1 + int(np.argmin(seen)))
        assert stopping.best_value == values[int(np.argmin(seen))]

    def test_each_fit_starts_afresh(self):
        stopping = fnn.EarlyStopping(patience=2, monitor="loss")
        assert follow(stopping, [1, 2, 3]) == (3, 1)
        assert follow(stopping, [9, 8, 9, 9]) == (4, 2)
        assert (stopping.best_epoch, stopping.best_value) == (2, 8)

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"patience": 0}, ValueError, "patience is 0, expected a positive integer"),
            ({"patience": 1.5}, TypeError, "patience is 1.5, expected a positive integer"),
            ({"min_delta": -1}, ValueError, "min_delta is -1, expected a finite number >= 0"),
            ({"monitor": "hits"}, ValueError, "monitor is 'hits', expected 'loss', 'accuracy', .* mode='min' or mode="),
            ({"monitor": "hits", "mode": "up"}, ValueError, "mode is 'up', expected 'min', 'max' or None"),
            ({"monitor": 3}, TypeError, "monitor is 3, expected the name of a value of the history"),
            ({"restore_best": 1}, TypeError, "restore_best is 1, expected True or False"),
        ],
    )
    def test_refused(self, settings, error, message):
        with pytest.raises(error, match=message):
            fnn.EarlyStopping(**settings)

    def test_repr(self):
        expected = "EarlyStopping(patience=3, min_delta=0.5, monitor='loss', restore_best=True)"
        assert repr(fnn.EarlyStopping(3, 0.5, "loss")) == expected


@pytest.mark.usefixtures("backend")
class TestEarlyStopping:
    """A rate that is reasonable for three epochs and then throws the weights about."""

    @staticmethod
    def fit(model, data, stopping, rate=lambda epoch: 0.1 if epoch < 3 else 20.0, **settings):
        X, y = data
        held_out = (X[40:], y[40:])
        callbacks = [stopping] if stopping else []
        settings = {"epochs": 50, "batch_size": 8, "validation_data": held_out, "verbose": 0, **settings}
        return model.fit(X[:40], y[:40], optimizer=fnn.SGD(lr=rate), callbacks=callbacks, **settings)

    def expected(self, data, epochs, make=network, **settings):
        model = make()
        self.fit(model, data, None, epochs=epochs, **settings)
        return model

    @staticmethod
    def user_network():
        """One with parameters outside of the model's buffer."""
        rng = np.random.default_rng(0)
        return fnn.Sequential(UserLinear(rng.normal(size=(6, 5)), np.zeros(5)), fnn.Linear(5, 3), dtype="float64")

    @pytest.mark.parametrize("make", ["network", "user_network"])
    def test_the_best_weights_come_back(self, make, data):
        make = network if make == "network" else self.user_network
        model, stopping = make(), fnn.EarlyStopping(patience=4)
        history = self.fit(model, data, stopping)
        best = int(np.argmin(history["val_loss"])) + 1
        assert history.stopped
        assert len(history["loss"]) == best + 4 < 50
        assert (stopping.best_epoch, stopping.best_value) == (best, min(history["val_loss"]))
        assert_same_weights(model, self.expected(data, best, make), rtol=0)
        measured = model.evaluate(data[0][40:], data[1][40:])
        assert measured["loss"] == pytest.approx(stopping.best_value, rel=1e-12)

    def test_running_means_come_back_too(self, data):
        def make():
            return fnn.Sequential(fnn.Linear(6, 5), fnn.BatchNorm(5), fnn.ReLU(), fnn.Linear(5, 3), dtype="float64")

        model, stopping = make(), fnn.EarlyStopping(patience=4)
        self.fit(model, data, stopping)
        expected = self.expected(data, stopping.best_epoch, make)
        for name in ("running_mean", "running_variance"):
            np.testing.assert_array_equal(getattr(model.layers[1], name), getattr(expected.layers[1], name))
        assert model.evaluate(data[0][40:], data[1][40:])["loss"] == pytest.approx(stopping.best_value, rel=1e-12)

    def test_the_last_weights_stay_if_wanted(self, data):
        model, stopping = network(), fnn.EarlyStopping(patience=4, restore_best=False)
        history = self.fit(model, data, stopping)
        assert_same_weights(model, self.expected(data, len(history["loss"])), rtol=0)

    def test_when_the_epochs_run_out(self, data):
        model, stopping = network(), fnn.EarlyStopping(patience=40)
        history = self.fit(model, data, stopping, epochs=8)
        assert (history.stopped, len(history["loss"])) == (False, 8)
        assert stopping.best_epoch < 8
        assert_same_weights(model, self.expected(data, stopping.best_epoch), rtol=0)

    def test_after_ctrl_c(self, data):
        def press(model, epoch, values):
            if epoch == 7:
                signal.raise_signal(signal.SIGINT)

        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            model, stopping = network(), fnn.EarlyStopping(patience=40)
            X, y = data
            history = model.fit(
                X[:40],
                y[:40],
                optimizer=fnn.SGD(lr=lambda epoch: 0.1 if epoch < 3 else 20.0),
                callbacks=[press, stopping],
                validation_data=(X[40:], y[40:]),
                batch_size=8,
                verbose=0,
            )
        finally:
            signal.signal(signal.SIGINT, before)
        assert (history.interrupted, len(history["loss"])) == (True, 7)
        assert_same_weights(model, self.expected(data, stopping.best_epoch), rtol=0)

    def test_after_divergence(self, data):
        model, stopping = network(), fnn.EarlyStopping(patience=40)
        with pytest.raises(fnn.DivergenceError):
            self.fit(model, data, stopping, rate=lambda epoch: [0.1, 0.1, 20.0, 20.0, 1e308][epoch], l2=1.0)
        assert np.isfinite(weights(model)).all()
        assert len(model.history["loss"]) > stopping.best_epoch
        expected = self.expected(
            data, stopping.best_epoch, rate=lambda epoch: [0.1, 0.1, 20.0, 20.0, 1e308][epoch], l2=1.0
        )
        assert_same_weights(model, expected, rtol=0)

    @pytest.mark.parametrize(
        ("monitor", "settings", "message"),
        [
            (
                "val_loss",
                {},
                "monitor is 'val_loss', but the history will hold 'loss': give fit validation_data or validation_spl",
            ),
            (
                "val_accuracy",
                {},
                "monitor is 'val_accuracy', but the history will hold 'loss': give fit validation_data",
            ),
            (
                "val_accuracy",
                {"loss": "squared_error", "validation_data": "the same"},
                "will hold 'loss', 'val_loss': use the loss 'cross_entropy', or monitor='val_loss'",
            ),
        ],
    )
    def test_a_value_that_will_not_come(self, monitor, settings, message, data):
        X, y = data
        y = np.eye(3)[y] if "loss" in settings else y
        settings = {name: (X, y) if name == "validation_data" else value for name, value in settings.items()}
        model = network()
        before = state(model)
        with pytest.raises(ValueError, match=message):
            model.fit(X, y, callbacks=[fnn.EarlyStopping(monitor=monitor)], **settings, **SHORT)
        assert state(model) == before


def test_a_fit_within_a_callback(data):
    """The inner fit has a history of its own; the outer one returns its own."""
    model = network()
    history = model.fit(*data, callbacks=[lambda m, epoch, v: epoch == 1 and m.fit(*data, **SHORT) and False], **SHORT)
    assert len(history["loss"]) == SHORT["epochs"]
