"""fit_many: each network as fit trains it alone, to the bit; arguments for all and for each; output."""

import copy
import pickle
import re
import sys
import tracemalloc
import types

import numpy as np
import pytest

import fastnn as fnn
from fastnn.training import rounds
from tests import many
from tests.faults import contents
from tests.many import assert_as_alone, folds, small
from tests.user_code import AbsoluteError, UserCrossEntropy, UserLinear, UserReLU

SHORT = {"epochs": 3, "batch_size": 16}


@pytest.fixture
def data(rng):
    return many.data(rng)


def elu():
    return fnn.Activation(lambda x: x if x > 0 else np.exp(x) - 1, lambda x, y: 1.0 if x > 0 else y + 1, name="elu")


ARCHITECTURES = {
    "linear": lambda: [fnn.Linear(6, 3)],
    "tanh": lambda: [fnn.Linear(6, 5), fnn.Tanh(), fnn.Linear(5, 3)],
    "deep": lambda: [fnn.Linear(6, 9), fnn.ReLU(), fnn.Linear(9, 4, bias=False), fnn.GELU(), fnn.Linear(4, 3)],
    "dropout": lambda: [fnn.Dropout(0.1), fnn.Linear(6, 20), fnn.LeakyReLU(0.1), fnn.Dropout(0.5), fnn.Linear(20, 3)],
    "norm": lambda: [fnn.LayerNorm(6), fnn.Linear(6, 8), fnn.LayerNorm(8), fnn.Sigmoid(), fnn.Linear(8, 3)],
    "own": lambda: [fnn.Linear(6, 5), elu(), fnn.Linear(5, 3)],
    "user": lambda: [fnn.Linear(6, 5), UserReLU(), fnn.Dropout(0.2), fnn.Linear(5, 3)],
    "parameters": lambda: [UserLinear(np.full((6, 4), 0.1), np.zeros(4)), fnn.Tanh(), fnn.Linear(4, 3)],
}
OPTIMIZERS = {
    "sgd": lambda: fnn.SGD(lr=0.1),
    "momentum": lambda: fnn.SGD(lr=0.05, momentum=0.9),
    "nesterov": lambda: fnn.SGD(lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda: fnn.Adam(lr=0.01),
    "adamw": lambda: fnn.AdamW(lr=0.01, weight_decay=0.1),
    "rule": lambda: fnn.UpdateRule(lambda w, g, lr, t: w - lr * g / t, lr=0.1, name="slow"),
    "function": lambda: fnn.SGD(lr=lambda epoch: 0.1 / (epoch + 1)),
    "schedule": lambda: fnn.Adam(lr=fnn.schedules.linear_warmup(fnn.schedules.cosine_decay(0.05, 20), 3)),
}


def networks(*names, dtypes=("float32", "float64")):
    pairs = [(name, dtype) for name in names for dtype in dtypes]
    return [fnn.Sequential(*ARCHITECTURES[name](), dtype=dtype, seed=i) for i, (name, dtype) in enumerate(pairs)]


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

    @pytest.mark.parametrize(("epochs", "samples", "work"), [(1, 99, 99), (16, 150, 10**9), (16, 10**9, 10**4), (3, 10**9, 10**9)])
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
        sets = [many.data(rng, n) for n in (10, 33, 60, 200)]
        sets[1] = sets[1][0].astype(np.float32), sets[1][1].astype(np.int8)
        sets[2] = np.asfortranarray(sets[2][0]), sets[2][1]
        sets[3] = np.rint(sets[3][0] * 9).astype(np.int16), sets[3][1]
        X, y = map(list, zip(*sets, strict=True))
        assert_as_alone(models, X, y, [SHORT] * 4)


@pytest.mark.usefixtures("backend")
class TestRows:
    @pytest.mark.parametrize("names", [("tanh", "norm"), ("dropout", "user")])
    def test_folds_and_bootstraps(self, names, data, rng):
        X, y = data
        models = networks(*names, *names)
        rows = [train for train, _ in folds(60, 4)] + [rng.integers(60, size=m) for m in (1, 60, 90, 200)]
        settings = [{"rows": r, "validation_rows": folds(60, 4)[i % 4][1], **SHORT} for i, r in enumerate(rows)]
        assert_as_alone(models, X, y, settings)

    def test_ways_to_say_them(self, data):
        X, y = data
        mask, places = np.arange(60) % 3 != 0, np.flatnonzero(np.arange(60) % 3 != 0)
        ways = [mask, places, places.tolist(), mask.tolist(), tuple(places), places.astype(np.uint8), range(60), None]
        models = [small() for _ in ways]
        histories = fnn.fit_many(models, X, y, rows=ways, verbose=0)
        assert all(history == histories[0] for history in histories[:6])
        assert histories[6] == histories[7] != histories[0]
        for way in ways[:-1]:
            if not isinstance(way, range):
                assert fnn.fit_many([small()], X, y, rows=way, verbose=0) == histories[:1]

    def test_weights_and_classes(self, data, rng):
        X, y = data
        v = rng.uniform(0, 2, 60)
        rows = [rng.integers(60, size=50) for _ in range(4)] + [None, None]
        settings = [
            {"rows": r, "sample_weight": weights, "class_weight": classes, "l2": 0.01, **SHORT}
            for r, weights, classes in zip(
                rows, (v, None, v, None, v, None), (None, "balanced", {0: 2.0}, [1, 2, 0], "balanced", None), strict=True
            )
        ]
        models = [small(seed, dtype) for seed, dtype in enumerate(["float32", "float64"] * 3)]
        assert_as_alone(models, X, y, settings)

    def test_one_argument_for_all(self, data, rng):
        X, y = data
        models, v, rows = [small(seed) for seed in range(3)], rng.uniform(0, 2, 60), rng.integers(60, size=40)
        own = {"rows": rows, "validation_rows": rows[:9], "sample_weight": v, "class_weight": [1, 2, 3], **SHORT}
        assert_as_alone(models, X, y, [own] * 3, own)

    def test_lists_of_numbers_are_one_for_all(self, data):
        X, y = data
        v, rows = np.linspace(0, 1, 60), np.arange(50)
        listed, expected = [small(seed) for seed in range(2)], [small(seed) for seed in range(2)]
        settings = {"class_weight": [1, 2, 3], "verbose": 0}
        one = fnn.fit_many(listed, X.tolist(), y.tolist(), rows=rows.tolist(), sample_weight=v.tolist(), **settings)
        other = fnn.fit_many(expected, X, y, rows=rows, sample_weight=v, **settings)
        assert one == other
        assert one[0] != one[1]

    @pytest.mark.parametrize("names", [("tanh",), ("norm",), ("user",)])
    def test_what_is_wrong_elsewhere_does_no_harm(self, names, data):
        """X, labels and weights of samples that nobody trains on."""
        X, y, v = data[0].copy(), data[1].copy(), np.linspace(0, 1, 60)
        X[5], y[5], v[5] = np.nan, -1, -1
        X[6], y[6], v[6] = np.inf, 99, np.nan
        rows = np.r_[7:60, 7, 8]
        models = networks(*names, *names)
        settings = [{"rows": rows, "validation_rows": rows[:7], **SHORT}, {"rows": rows, "sample_weight": v, **SHORT}] * 2
        assert_as_alone(models, X, y, settings)
        targets = np.where(np.isin(np.arange(60), rows)[:, None], np.eye(3)[data[1]], np.nan)
        settings = [{"rows": rows, "loss": "squared_error", "class_weight": None, **SHORT}] * 4
        assert_as_alone(models, X, targets, settings)

    def test_data_of_each_have_rows_of_their_own(self, rng):
        sets = [many.data(rng, n) for n in (20, 40)]
        X, y = map(list, zip(*sets, strict=True))
        settings = [{"rows": rng.integers(n, size=30), "validation_rows": np.arange(9), **SHORT} for n in (20, 40)]
        assert_as_alone([small(0), small(1)], X, y, settings)

    def test_rows_that_change_meanwhile_move_nothing(self, data):
        """Or kernels would read elsewhere."""
        X, y = data
        rows = np.arange(40)
        model, expected = small(), small()
        expected.fit(X[:40], y[:40], verbose=0)
        fnn.fit_many([model], X, y, rows=rows, callbacks=[lambda *call: rows.fill(10**9)], verbose=0)
        np.testing.assert_array_equal(model._stack.params, expected._stack.params)


@pytest.mark.usefixtures("backend")
class TestValidation:
    def test_data_of_each_and_for_all(self, data):
        X, y = data
        models = [small(seed) for seed in range(3)]
        pairs = [(X[:20], y[:20]), None, (X[20:], y[20:])]
        assert_as_alone(models, X, y, [{"validation_data": pair, **SHORT} for pair in pairs])
        own = {"validation_data": pairs[0], **SHORT}
        assert_as_alone(models, X, y, [own] * 3, own)

    def test_a_loss_of_the_users_and_targets(self, data):
        X, y = data
        targets = np.eye(3)[y]
        settings = [{"loss": loss, "validation_rows": np.arange(0, 60, 7), **SHORT} for loss in ("huber", Halved())]
        settings += [{"loss": fnn.CrossEntropy(0.1), "validation_rows": np.arange(60) < 9, **SHORT}]
        assert_as_alone([small(seed) for seed in range(3)], X, targets, settings)

    def test_blocks(self, data, monkeypatch):
        models = [small(seed) for seed in range(2)]
        for model in models:
            model._stack.block = 7
        assert_as_alone(models, *data, [{"validation_rows": np.arange(1, 40), **SHORT}] * 2)


class Halved:
    """Half the squared error, as a user writes it."""

    def forward(self, pred, y):
        return float(np.square(pred - y).sum(axis=1).mean() / 2)

    def backward(self, pred, y):
        return (pred - y) / len(y)


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
            models, *data, [{"optimizer": fnn.Adam(lr=0.02), **SHORT} for _ in models], {"optimizer": optimizer, **SHORT}
        )
        assert optimizer.steps == 20
        assert before != contents(first, optimizer)
        assert all(history.optimizer.belongs_to(model._stack) for history, model in zip(histories, models, strict=True))

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


class TestMemory:
    def test_x_is_never_copied_and_checked_once(self, monkeypatch):
        X, y = np.zeros((4000, 500), np.float32), np.arange(4000) % 3
        rows = [np.arange(i, 4000, 2) for i in (0, 1)] * 10
        models = [fnn.Sequential(fnn.Linear(500, 3), seed=seed) for seed in range(20)]
        settings = {"epochs": 1, "batch_size": 256, "verbose": 0}
        fnn.fit_many(models, X, y, rows=rows, validation_rows=rows[::-1], **settings)
        looked = []
        finite = fnn.validation.finite
        monkeypatch.setattr(fnn.validation, "finite", lambda name, x, dtype: looked.append(name) or finite(name, x, dtype))
        tracemalloc.start()
        try:
            fnn.fit_many(models, X, y, rows=rows, validation_rows=rows[::-1], **settings)
            fnn.fit_many(models, X, y, **settings)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < X.nbytes / 2
        assert looked.count("X") == 1

    @pytest.mark.parametrize("kind", ["list", "int16"])
    def test_other_dtypes_are_converted_once(self, kind, data, monkeypatch):
        X, y = data[0].tolist() if kind == "list" else np.rint(data[0] * 9).astype(np.int16), data[1].astype(np.int16)
        made, train = [], rounds.together.train
        monkeypatch.setattr(rounds.together, "train", lambda requests: made.extend(requests) or train(requests))
        fnn.fit_many([small(seed) for seed in range(5)], X, y, class_weight="balanced", verbose=0)
        for name in ("x", "y", "sample_weight"):
            assert len({id(getattr(request.batches[0], name)) for request in made}) == 1


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
