"""fit_many: each network as fit trains it alone, to the bit; optimizers, callbacks and output."""

import copy
import pickle
import re
import sys
import types

import numpy as np
import pytest

import fastnn as fnn
from fastnn.training import rounds
from tests import many
from tests.faults import contents
from tests.many import ARCHITECTURES, OPTIMIZERS, assert_as_alone, folds, networks, small
from tests.user_code import AbsoluteError, UserCrossEntropy

SHORT = {"epochs": 3, "batch_size": 16}


@pytest.fixture
def data(rng):
    return many.labelled(rng)


@pytest.mark.usefixtures("backend")
class TestAsAlone:
    def test_any_mix_of_layers_and_dtypes(self, data):
        models = networks(*ARCHITECTURES) + networks("tanh", "dropout")[::-1]
        settings = [{"optimizer": fnn.Adam(lr=0.001 * (i + 1)), **SHORT} for i in range(len(models))]
        assert_as_alone(models, *data, settings)

    def test_any_mix_of_rules(self, data):
        models = [small(seed, dtype) for dtype in ("float32", "float64") for seed in range(len(OPTIMIZERS))]
        settings = [{"optimizer": make(), **SHORT} for make in [*OPTIMIZERS.values()] * 2]
        assert_as_alone(models, *data, settings)

    def test_settings_of_each(self, data):
        models = [small(seed) for seed in range(6)]
        settings = [
            {"l2": l2, "epochs": epochs, "batch_size": batch_size, "shuffle": shuffle}
            for l2, epochs, batch_size, shuffle in zip(
                (0.0, 0.01, 0.1, 0.0, 1e-4, 0.01),
                (1, 40, 7, 16, 17, 33),
                (60, 7, 16, 1000, 1, 59),
                (True, True, False, True, False, True),
                strict=True,
            )
        ]
        assert_as_alone(models, *data, settings)

    def test_losses_of_each(self, data):
        X, y = data
        models = [small(seed, dtype) for dtype in ("float32", "float64") for seed in range(7)]
        losses = ["cross_entropy", fnn.CrossEntropy(label_smoothing=0.1), "squared_error", "huber", fnn.Huber(0.1)]
        losses += [UserCrossEntropy(), fnn.CrossEntropy(label_smoothing=0.2)]
        one_hot, settings = np.eye(3)[y], [{"loss": loss, **SHORT} for loss in losses * 2]
        ys = [y, y, one_hot, one_hot, one_hot, y, one_hot] * 2
        assert_as_alone(models, X, ys, settings)

    def test_one_output_for_many_targets(self, rng):
        """A network for each column."""
        X, columns = rng.normal(size=(50, 4)), list(rng.normal(size=(3, 50)))
        models = [fnn.Sequential(fnn.Linear(4, 3), fnn.ReLU(), fnn.Linear(3, 1), seed=seed) for seed in range(3)]
        losses = ["squared_error", AbsoluteError(), "huber"]
        assert_as_alone(models, X, columns, [{"loss": loss, **SHORT} for loss in losses])

    @pytest.mark.parametrize("flight", [1, 2, 5])
    def test_fewer_in_flight_than_there_are(self, flight, data, monkeypatch):
        monkeypatch.setattr(rounds, "_IN_FLIGHT", flight)
        models = networks("tanh", "user", "linear", "tanh")
        settings = [{"epochs": 1 + 5 * i % 7, "batch_size": 16} for i in range(len(models))]
        assert_as_alone(models, *data, settings)

    @pytest.mark.parametrize(
        ("epochs", "samples", "work"), [(1, 99, 99), (16, 150, 10**9), (16, 10**9, 10**4), (3, 10**9, 10**9)]
    )
    def test_however_many_epochs_are_asked_for_at_once(self, epochs, samples, work, data, monkeypatch):
        asked = []
        train = rounds.together.train

        def counting(requests):
            asked.extend(len(request.rules) for request in requests)
            return train(requests)

        monkeypatch.setattr(rounds.together, "train", counting)
        for name, value in (("_MOST_EPOCHS", epochs), ("_MOST_SAMPLES", samples), ("_MOST_WORK", work)):
            monkeypatch.setattr(fnn.training.fit, name, value)
        models = networks("tanh", "dropout")
        assert_as_alone(models, *data, [{"optimizer": OPTIMIZERS["schedule"](), "epochs": 10} for _ in models])
        n = 60 * small()._stack.params.size + 1
        assert max(asked) == min(epochs, samples // 60 or 1, max(work // n, 1), 10)
        assert sum(asked) == 10 * len(models)

    def test_nothing_comes_between_epochs_of_a_callback(self, data, monkeypatch):
        """What is written in Python hears of every epoch before the next."""
        seen = []

        def see(model, epoch, values):
            seen.append((model, epoch, values, model.layers[0].weight.copy()))

        models = [small(seed) for seed in range(3)]
        twins = copy.deepcopy(models)
        fnn.fit_many(models, *data, callbacks=[see], verbose=0)
        heard, seen[:] = list(seen), []
        for model, twin in zip(models, twins, strict=True):
            twin.fit(*data, callbacks=[see], verbose=0)
            own = [entry[1:] for entry in heard if entry[0] is model]
            expected = [entry[1:] for entry in seen if entry[0] is twin]
            assert repr(own) == repr(expected)

    def test_functions_of_the_epoch_are_called_before_it(self, data):
        def lr(epoch):
            seen.append(model.layers[0].weight.tobytes())
            return 0.1

        seen, model = [], small()
        fnn.fit_many(
            [model, small(1)], *data, optimizer=[fnn.SGD(lr=fnn.schedules.linear_warmup(lr, 3)), "sgd"], verbose=0
        )
        assert len(seen) == len(set(seen)) == 10

    def test_going_on_with_the_same_optimizers(self, data):
        models = networks("tanh", "norm")
        settings = [{"optimizer": OPTIMIZERS[name](), **SHORT} for name in ("momentum", "adam", "schedule", "adamw")]
        twins = copy.deepcopy([*zip(models, settings, strict=True)])
        for _ in range(2):
            assert_as_alone(models, *data, settings)
        for twin, own in twins:
            twin.fit(*data, verbose=0, **{**own, "epochs": 6})
        for model, own, (twin, theirs) in zip(models, settings, twins, strict=True):
            np.testing.assert_array_equal(model._stack.params, twin._stack.params)
            np.testing.assert_array_equal(own["optimizer"].state()[0], theirs["optimizer"].state()[0])
            assert own["optimizer"].steps == theirs["optimizer"].steps

    def test_data_of_each(self, rng):
        models = [small(seed, dtype) for seed, dtype in enumerate(["float32", "float64"] * 2)]
        sets = [many.labelled(rng, n) for n in (10, 33, 60, 200)]
        sets[1] = sets[1][0].astype(np.float32), sets[1][1].astype(np.int8)
        sets[2] = np.asfortranarray(sets[2][0]), sets[2][1]
        sets[3] = np.rint(sets[3][0] * 9).astype(np.int16), sets[3][1]
        X, y = map(list, zip(*sets, strict=True))
        assert_as_alone(models, X, y, [SHORT] * 4)


class Recorder:
    """A callback with state, one for each model."""

    def __init__(self, stop=None):
        self.begun = self.ended = 0
        self.epochs, self.stop = [], stop

    def begin(self, model, names):
        self.begun += 1

    def __call__(self, model, epoch, values):
        self.epochs.append(epoch)
        model.recorder = self
        return epoch == self.stop

    def end(self, model):
        self.ended += 1


@pytest.mark.usefixtures("backend")
class TestCallbacks:
    def test_early_stopping_of_each_and_copies_for_all(self, data):
        X, y = data
        stopping = fnn.EarlyStopping(patience=2)
        models = [small(seed) for seed in range(4)]
        settings = [
            {"validation_rows": validation, "rows": train, "optimizer": fnn.Adam(lr=0.05), "epochs": 30}
            for train, validation in folds(60, 4)
        ]
        own = [{**one, "callbacks": [copy.deepcopy(stopping)]} for one in settings]
        histories = assert_as_alone(models, X, y, own, {**many.as_lists(settings), "callbacks": [stopping]})
        assert len({len(history["loss"]) for history in histories}) > 1
        assert all(history.stopped for history in histories)
        assert stopping.best_epoch is None
        lists = [fnn.EarlyStopping(patience=1 + i) for i in range(4)]
        settings = [{**one, "callbacks": [each]} for one, each in zip(settings, lists, strict=True)]
        assert_as_alone([small(seed) for seed in range(4)], X, y, settings)
        assert all(each.best_epoch for each in lists)

    def test_each_model_begins_and_ends_its_own(self, data):
        models, given = [small(seed) for seed in range(3)], Recorder(stop=4)
        histories = fnn.fit_many(models, *data, callbacks=[given], verbose=0)
        found = [model.recorder for model in models]
        assert len({id(recorder) for recorder in [given, *found]}) == 4
        assert [(r.begun, r.ended, r.epochs) for r in found] == [(1, 1, [1, 2, 3, 4])] * 3
        assert given.epochs == []
        assert all(history.stopped for history in histories)

    def test_lists_of_each(self, data):
        first, last = Recorder(), Recorder(stop=2)
        models = [small(seed) for seed in range(4)]
        fnn.fit_many(models, *data, callbacks=[[first], None, (), iter([last])], verbose=0)
        assert (first.epochs, last.epochs) == (list(range(1, 11)), [1, 2])
        assert [len(model.history["loss"]) for model in models] == [10, 10, 10, 2]

    def test_copies_have_data_and_models_in_common(self, data):
        class Holding(Recorder):
            def __call__(self, model, epoch, values):
                assert self.X is data[0]
                assert self.model is models[0]
                super().__call__(model, epoch, values)

        models, given = [small(seed) for seed in range(2)], Holding()
        given.X, given.model = data[0], models[0]
        fnn.fit_many(models, *data, callbacks=(given,), verbose=0)
        assert models[0].recorder is not models[1].recorder

    def test_a_fit_within_is_that_of_fit_within(self, data):
        def inner(model, epoch, values):
            model.fit(*data, epochs=1, verbose=0)

        assert_as_alone([small(seed) for seed in range(2)], *data, [{"callbacks": [inner], **SHORT}] * 2)

    def test_schedules_with_state_are_copied(self, data):
        class Counting:
            calls = 0

            def __call__(self, epoch):
                self.calls += 1
                return 0.1 / self.calls

        optimizer = fnn.SGD(lr=Counting())
        models = [small(seed) for seed in range(3)]
        own = [{"optimizer": copy.deepcopy(optimizer), **SHORT} for _ in models]
        histories = assert_as_alone(models, *data, own, {"optimizer": optimizer, **SHORT})
        assert [history.optimizer.lr.calls for history in histories] == [3, 3, 3]
        assert optimizer.lr.calls == 0


@pytest.mark.usefixtures("backend")
class TestOptimizers:
    def test_one_for_all_is_copied(self, data):
        optimizer, first = fnn.Adam(lr=0.02), small()
        first.fit(*data, optimizer=optimizer, verbose=0)
        before = contents(first, optimizer)
        models = [first, small(1)]
        histories = assert_as_alone(
            models,
            *data,
            [{"optimizer": fnn.Adam(lr=0.02), **SHORT} for _ in models],
            {"optimizer": optimizer, **SHORT},
        )
        assert optimizer.steps == 20
        assert before != contents(first, optimizer)
        assert all(history.optimizer.belongs_to(model._stack) for history, model in zip(histories, models, strict=True))

    def test_copies_carry_no_state(self, data):
        """Or that of a large network would be there many times."""
        optimizer = fnn.UpdateRule(lambda w, g, v, lr, t: (w - lr * g, g), lr=0.1, slots=1, name="kept")
        small().fit(*data, optimizer=optimizer, verbose=0)
        twin = optimizer.afresh()
        assert (twin.steps, twin.epoch, twin.state()[0].size, twin.lr) == (0, 0, 0, 0.1)
        assert (optimizer.steps, optimizer.state()[0].size) == (20, small()._stack.params.size)
        models = [small(seed) for seed in range(2)]
        assert_as_alone(models, *data, [{"optimizer": optimizer.afresh(), **SHORT} for _ in models])

    def test_those_of_a_list_are_used(self, data):
        optimizers = [fnn.Adam(), "adam", fnn.SGD()]
        histories = fnn.fit_many([small(seed) for seed in range(3)], *data, optimizer=optimizers, verbose=0)
        assert histories[0].optimizer is optimizers[0]
        assert isinstance(histories[1].optimizer, fnn.Adam)
        assert histories[2].optimizer is optimizers[2]

    def test_pickles_of_a_model_leave_it_out(self, data):
        (history,) = fnn.fit_many([model := small()], *data, optimizer=fnn.SGD(lr=lambda epoch: 0.1), verbose=0)
        for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            assert twin.history == history
            assert twin.history.optimizer is None
        assert history.optimizer is not None


class TestOutput:
    def test_a_line_at_the_end(self, data, capsys, backend):
        callbacks = [None, [lambda model, epoch, values: epoch == 3], None]
        fnn.fit_many([small(seed) for seed in range(3)], *data, callbacks=callbacks)
        out = capsys.readouterr()
        assert re.fullmatch(r"3 networks  23 epochs  \d+\.\d s  1 stopped by callbacks\n", out.out)
        assert out.err == ""

    def test_silence(self, data, capsys, backend):
        fnn.fit_many([small()], *data, verbose=0)
        assert capsys.readouterr() == ("", "")

    def test_a_bar(self, data, capsys, monkeypatch):
        class Bar:
            def __init__(self, **settings):
                self.settings, self.n, self.closed = settings, 0, False
                bars.append(self)

            def update(self, n):
                self.n += n

            def close(self):
                self.closed = True

        class Terminal:
            def isatty(self):
                return True

        bars = []
        monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
        monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=Bar))
        monkeypatch.setattr(sys, "stderr", Terminal())
        stop = [lambda model, epoch, values: epoch == 3]
        models = [small(0), small(1), networks("user")[0]]
        fnn.fit_many(models, *data, epochs=[10, 20, 5], callbacks=[None, stop, None])
        assert [(bar.settings["total"], bar.n, bar.closed) for bar in bars] == [(35, 35, True)]
        assert capsys.readouterr().out == ""


def test_any_iterable_of_models(data):
    models = [small(seed) for seed in range(3)]
    histories = fnn.fit_many(iter(models), *data, verbose=0)
    assert [model.history for model in models] == histories
