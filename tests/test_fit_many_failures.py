"""fit_many: networks that fail take no other with them, and Ctrl-C ends all of them."""

import copy
import gc
import itertools
import os
import re
import signal
import sys
import traceback
import weakref

import numpy as np
import pytest

import fastnn as fnn
from fastnn.training import rounds
from tests import many
from tests.faults import contents
from tests.many import alone, assert_as_alone, small
from tests.training import assert_same_weights
from tests.user_code import UserLinear, UserReLU

pytestmark = pytest.mark.usefixtures("backend")

SHORT = {"epochs": 3, "batch_size": 16}
X, Y = many.labelled(np.random.default_rng(0))


class Raising:
    """A callback that raises after an epoch, and counts its ends."""

    def __init__(self, at=2):
        self.at, self.ended = at, 0

    def __call__(self, model, epoch, values):
        if epoch == self.at:
            raise KeyError("as a user's code may")

    def end(self, model):
        self.ended += 1


def rising(at=8):
    return fnn.SGD(lr=fnn.schedules.step_decay(1e-3, factor=1e12, every=at))


class TestOneThatFails:
    def warned(self, places):
        listed = ", ".join(f"models[{i}]" for i in places)
        return pytest.warns(UserWarning, match=f"^exceptions ended the training of {re.escape(listed)}, each in")

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("at", [1, 3, 15, 16, 20])
    def test_divergence_takes_no_other_with_it(self, at, dtype):
        """In the midst of epochs that were asked for at once, the epoch and the batch are those of fit."""
        models = [fnn.Sequential(fnn.Linear(6, 8), fnn.ReLU(), fnn.Linear(8, 3), seed=i, dtype=dtype) for i in range(3)]
        settings = [{"loss": "squared_error", "epochs": 40, "batch_size": 16} for _ in models]
        settings[1]["optimizer"] = rising(at)
        settings[1]["rows"] = np.arange(50)
        with self.warned([1]):
            histories = assert_as_alone(models, X, np.eye(3)[Y], settings)
        assert isinstance(histories[1].error, fnn.DivergenceError)
        assert histories[1].error.epoch >= at
        assert len(histories[1]["loss"]) == histories[1].error.epoch
        assert [len(history["loss"]) for history in histories[::2]] == [40, 40]
        assert models[1].history is histories[1]

    @pytest.mark.parametrize("at", [0, 14, 15, 16])
    def test_divergence_in_the_last_batch_of_an_epoch(self, at):
        """Its loss is finite still, and so it was of the epochs that were asked for with it."""
        models = [fnn.Sequential(fnn.Linear(6, 3), seed=seed) for seed in range(2)]
        lr = fnn.schedules.step_decay(1e-3, factor=1e42, every=at) if at else 1e39
        settings = [{"optimizer": fnn.SGD(lr=lr), "batch_size": 60, "epochs": at + 1}, {"epochs": 20}]
        with self.warned([0]):
            histories = assert_as_alone(models, X, Y, settings)
        assert (histories[0].error.epoch, histories[0].error.batch) == (at, 0)

    @pytest.mark.parametrize("name", ["norm", "tanh"])
    def test_divergence_is_no_matter_of_other_samples(self, name):
        x, y, v = X.copy(), np.eye(3)[Y], np.ones(60)
        x[50:], y[50:], v[50:] = np.nan, np.nan, np.nan
        rows = np.arange(50)
        models = many.networks(name, name)
        settings = [{"optimizer": rising(2), "rows": rows, "sample_weight": v, "epochs": 9} for _ in models]
        settings = [{"loss": "squared_error", **one} for one in settings]
        with pytest.warns(UserWarning, match="exceptions ended"):
            histories = assert_as_alone(models, x, y, settings)
        assert all(isinstance(history.error, fnn.DivergenceError) for history in histories)

    def test_in_the_first_epoch(self):
        models = [small(seed) for seed in range(2)]
        settings = [SHORT, {"optimizer": fnn.SGD(lr=1e300), "loss": "squared_error", **SHORT}]
        with self.warned([1]):
            assert_as_alone(models, X, [Y, np.eye(3)[Y]], settings)

    def test_a_callback_that_raises(self):
        first, models = Raising(), [small(seed) for seed in range(4)]
        settings = [{"callbacks": [Raising(at)] if at else None, **SHORT} for at in (None, 1, 3, None)]
        settings[0]["callbacks"] = [first]
        with self.warned([0, 1, 2]):
            histories = assert_as_alone(models, X, Y, settings)
        assert first.ended == 1
        assert [len(history.get("loss", ())) for history in histories] == [2, 1, 3, 3]

    def test_a_schedule_that_raises(self):
        models = [small(seed) for seed in range(3)]
        settings = [{"optimizer": fnn.SGD(lr=lr), "epochs": 9} for lr in (lambda e: [0.1, 0.1, -1][e], lambda e: 0.1)]
        settings.append({"optimizer": fnn.SGD(lr=fnn.schedules.exponential_decay(1e-300, 1e61)), "epochs": 9})
        with pytest.warns(UserWarning, match="exceptions ended the training of models"):
            histories = assert_as_alone(models, X, Y, settings)
        assert len(histories[0]["loss"]) == 2
        assert histories[1].error is None

    def test_layers_and_losses_that_raise(self):
        class Failing(UserReLU):
            calls = 0

            def backward(self, dy):
                self.calls += 1
                if self.calls == 6:
                    raise ZeroDivisionError("as a user's code may")
                return super().backward(dy)

        models = [small(), fnn.Sequential(fnn.Linear(6, 4), Failing(), fnn.Linear(4, 3), dtype="float64"), small(2)]
        with self.warned([1]):
            histories = assert_as_alone(models, X, Y, [SHORT] * 3)
        assert len(histories[1]["loss"]) == 1

    @pytest.mark.parametrize("at", [0, 1, 17])
    def test_an_epoch_that_runs_out_of_memory(self, at, monkeypatch):
        """All is as at the end of the last whole epoch."""
        models, twin = [small(seed) for seed in range(3)], small(1)
        train, left = rounds.together.active().train_epoch, [at]

        def failing(network, params, *more):
            if params is models[1]._stack.params:
                left[0] -= 1
                if left[0] < 0:
                    params[:] = 7
                    raise MemoryError("injected")
            return train(network, params, *more)

        monkeypatch.setattr(rounds.together.active(), "train_epoch", failing)
        monkeypatch.setattr(rounds.together.active(), "lane_key", lambda job: None)
        optimizers = [fnn.Adam(), fnn.Adam(), fnn.Adam()]
        with self.warned([1]):
            histories = fnn.fit_many(models, X, Y, epochs=40, optimizer=optimizers, verbose=0)
        monkeypatch.undo()
        assert isinstance(histories[1].error, MemoryError)
        made = len(histories[1].get("loss", ()))
        assert 0 <= made <= at
        if made:
            optimizer, _ = alone(twin, X, Y, {"epochs": made, "optimizer": "adam"})
            assert contents(models[1], optimizers[1]) == contents(twin, optimizer)
        else:
            np.testing.assert_array_equal(models[1]._stack.params, twin._stack.params)
            assert models[1].history == {}
        assert [len(history["loss"]) for history in histories[::2]] == [40, 40]

    @pytest.mark.parametrize("at", ["before", "after"])
    def test_lanes_that_run_out_of_memory(self, at, monkeypatch):
        """Nothing is trained twice, whether the memory ends before the networks are trained or after."""
        models, backend = [small(seed) for seed in range(3)], rounds.together.active()
        train, left = backend.train_lanes, [2]

        def short(trained):
            for _ in trained:
                raise MemoryError("injected")
            yield

        def train_lanes(jobs):
            left[0] -= 1
            if left[0]:
                return train(jobs)
            if at == "before":
                raise MemoryError("injected")
            return short(list(train(jobs)))

        monkeypatch.setattr(backend, "lane_key", lambda job: 0)
        monkeypatch.setattr(backend, "lanes_pay", lambda *numbers: True)
        monkeypatch.setattr(backend, "count_lanes", lambda dtype: 3)
        monkeypatch.setattr(backend, "train_lanes", train_lanes)
        assert_as_alone(models, X, Y, [{"epochs": 40}] * 3)
        assert left[0] < 0

    def test_labels_that_a_callback_spoils(self):
        y = Y.copy()
        models = [small(seed) for seed in range(2)]
        with self.warned([0]):
            histories = fnn.fit_many(
                models, X, [y, Y], rows=np.arange(50), callbacks=[[lambda *call: y.__setitem__(49, 9)], None], verbose=0
            )
        assert "y holds label 9, but the model has 3 outputs" in str(histories[0].error)
        assert len(histories[0]["loss"]) == 1
        y[:] = 9
        with self.warned(range(1)):
            fnn.fit_many(models[:1], X, Y, callbacks=[Raising(1)], verbose=0)

    def test_its_data_are_kept_no_longer(self):
        x = X.copy()
        alive = weakref.ref(x)
        with self.warned([0]):
            (history,) = fnn.fit_many([small()], x, Y, callbacks=[Raising(2)], verbose=0)
        del x
        gc.collect()
        assert alive() is None
        assert "in __call__" in "".join(traceback.format_exception(history.error))

    def test_many_that_fail(self):
        models = [small(seed) for seed in range(25)]
        with pytest.warns(
            UserWarning, match=r"models\[18\], models\[19\] and 5 more, each in history.error; .* KeyError"
        ):
            fnn.fit_many(models, X, Y, callbacks=[Raising(1)], verbose=0)

    def test_a_line_says_so(self, capsys):
        with self.warned([0]):
            fnn.fit_many([small()], X, Y, callbacks=[Raising(3)])
        assert re.fullmatch(r"1 networks  3 epochs  \S+ s  1 ended by errors\n", capsys.readouterr().out)


@pytest.fixture
def interruptible():
    """Ctrl-C as in a terminal: a process started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press(times):
    for _ in range(times):
        signal.raise_signal(signal.SIGINT)


def kinds():
    first = UserLinear(np.full((6, 4), 0.1), np.zeros(4))
    by_layers = fnn.Sequential(first, fnn.Dropout(0.3), fnn.Linear(4, 3), dtype="float64")
    return [small(0), by_layers, small(2, "float32"), small(3)]


@pytest.mark.usefixtures("interruptible")
class TestInterrupts:
    def test_once_ends_all_after_their_epoch(self, monkeypatch, capsys):
        """Those in flight; those in line have not begun."""
        monkeypatch.setattr(rounds, "_IN_FLIGHT", 1)
        monkeypatch.setattr(rounds, "get_num_threads", lambda: 3)
        monkeypatch.setattr(rounds, "MODULES", {"numba": rounds.active().__name__})
        monkeypatch.setattr(fnn.training.fit, "_MOST_EPOCHS", 4)
        train, rounds_made, waits = rounds.together.train, [], Raising(1)

        def pressing(requests):
            rounds_made.append(len(requests))
            press(len(rounds_made) == 2)
            return train(requests)

        monkeypatch.setattr(rounds.together, "train", pressing)
        models, before = kinds(), signal.getsignal(signal.SIGINT)
        settings = [{"epochs": 99, "optimizer": fnn.Adam()} for _ in models]
        last = contents(models[2], fnn.SGD())
        histories = fnn.fit_many(models, X, Y, **many.as_lists(settings), callbacks=[None, None, [waits], None])
        assert signal.getsignal(signal.SIGINT) is before
        assert all(history.interrupted for history in histories)
        made = [len(history.get("loss", ())) for history in histories]
        assert [epochs > 0 for epochs in made] == [True, True, False, True]  # the fourth is of the first one's kind
        assert waits.ended == 1
        for model, history, epochs, twin in zip(models, histories, made, kinds(), strict=True):
            if epochs:
                optimizer, _ = alone(twin, X, Y, {"epochs": epochs, "optimizer": "adam"})
                assert contents(model, history.optimizer) == contents(twin, optimizer)
                model.predict(X)
            else:
                assert history == {}
        assert contents(models[2], fnn.SGD()) == last
        assert "4 interrupted" in capsys.readouterr().out
        assert not any(history.interrupted for history in fnn.fit_many(models, X, Y, verbose=0))

    @pytest.mark.parametrize("where", ["epochs", "callback", "layer"])
    def test_twice_raises_with_all_at_a_whole_epoch(self, where, monkeypatch):
        class Pressing(UserReLU):
            calls = 0

            def backward(self, dy):
                self.calls += 1
                press(2 * (where == "layer" and self.calls == 6))
                return super().backward(dy)

        def callback(model, epoch, values):
            press(2 * (where == "callback" and epoch == 2))

        train, made = rounds.together.train, []

        def pressing(requests):
            made.append(requests)
            outcomes = train(requests)
            press(2 * (where == "epochs" and len(made) == 2))
            return outcomes

        monkeypatch.setattr(rounds.together, "train", pressing)
        monkeypatch.setattr(fnn.training.fit, "_MOST_EPOCHS", 3)
        own = fnn.Sequential(fnn.Linear(6, 4), Pressing(), fnn.Linear(4, 3), dtype="float64")
        models, before = [small(0), own, small(2), small(3)], signal.getsignal(signal.SIGINT)
        twins = copy.deepcopy(models)
        optimizers, ends = [fnn.Adam() for _ in models], Raising(99)
        with pytest.raises(KeyboardInterrupt):
            fnn.fit_many(
                models, X, Y, epochs=20, optimizer=optimizers, callbacks=[None, None, [ends, callback], None], verbose=0
            )
        assert signal.getsignal(signal.SIGINT) is before
        assert ends.ended == 1
        epochs = [len(model.history.get("loss", ())) for model in models]
        assert max(epochs) > 0
        for model, optimizer, twin, n in zip(models, optimizers, twins, epochs, strict=True):
            if n:
                theirs, _ = alone(twin, X, Y, {"epochs": n, "optimizer": "adam"})
                assert contents(model, optimizer) == contents(twin, theirs)
            assert_same_weights(model, twin, rtol=0)
        assert {*epochs} <= {0, 1, 2, 3, 6}
        fnn.fit_many(models, X, Y, optimizer=optimizers, verbose=0)

    def test_twice_after_one_has_failed(self):
        def callback(model, epoch, values):
            press(2 * (epoch == 3))

        models = [small(seed) for seed in range(2)]
        with pytest.raises(KeyboardInterrupt):
            fnn.fit_many(models, X, Y, callbacks=[[Raising(1)], [callback]], verbose=0)
        assert [len(model.history["loss"]) for model in models] == [1, 3]

    def test_before_the_first_epoch(self):
        class Pressing(Raising):
            def begin(self, model, names):
                press(1)

        models = [small(seed) for seed in range(2)]
        before, callback = [state_of(model) for model in models], Pressing()
        histories = fnn.fit_many(models, X, Y, callbacks=[[callback], None], verbose=0)
        assert [state_of(model) for model in models] == before
        assert callback.ended == 1
        assert [(history, history.interrupted) for history in histories] == [({}, True)] * 2

    @pytest.mark.parametrize(("presses", "step"), [(2, 3), (50, 11)])
    def test_whenever_they_come(self, presses, step, monkeypatch):
        """Every model is at the end of a whole epoch, free, and the handler is put back."""
        monkeypatch.setattr(fnn.training.fit, "_MOST_EPOCHS", 2)
        wholes = []
        for place in range(3):
            wholes.append(set())
            for epochs in range(5):
                twin = kinds()[place]
                if epochs:
                    alone(twin, X, Y, {"epochs": epochs, "optimizer": "sgd", "batch_size": 30})
                wholes[-1].add(state_of(twin))
        folder = os.path.dirname(rounds.__file__)
        for at in itertools.count(0, step):
            models, calls, came = kinds()[:3], [0], False

            def heard(frame, event, argument, at=at, calls=calls):
                if event == "call" and frame.f_code.co_filename.startswith(folder):
                    calls[0] += 1
                    if at < calls[0] <= at + presses:
                        signal.raise_signal(signal.SIGINT)

            previous = sys.getprofile()
            sys.setprofile(heard)
            try:
                fnn.fit_many(models, X, Y, epochs=4, batch_size=30, verbose=0)
            except KeyboardInterrupt:
                came = True
            finally:
                sys.setprofile(previous)
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, at
            for model, states in zip(models, wholes, strict=True):
                assert state_of(model) in states, at
                assert not model._stack._lock.locked(), at
            if calls[0] <= at:
                assert not came
                break
        assert at > 100


def state_of(model):
    """What training changes of a model, but for its history, whose lists say how many epochs there were."""
    return repr((dict(model.history), model._stack.rng.bit_generator.state, [p.tobytes() for p in model.parameters()]))
