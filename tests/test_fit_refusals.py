"""Everything that fit and evaluate refuse, and that a refusal changes nothing; divergence; Ctrl-C."""

import copy
import pickle
import signal
import threading

import numpy as np
import pytest

import fastnn as fnn
from tests.test_losses import BAD_LABELS, BAD_VALUES, BAD_WEIGHTS
from tests.user_code import AbsoluteError, UserCrossEntropy, UserReLU, UserSquares

X = np.arange(8.0).reshape(4, 2)
Y = np.array([0, 2, 1, 0])

BAD_SETTINGS = [
    ({"loss": "hinge"}, ValueError, "loss is 'hinge', expected 'cross_entropy', .*, 'poisson' or an object"),
    (
        {"loss": fnn.CrossEntropy},
        TypeError,
        "loss is <class .*, expected 'cross_entropy', .*, 'poisson' or an object",
    ),
    (
        {"optimizer": "adagrad"},
        ValueError,
        "optimizer is 'adagrad', expected 'sgd', 'adam', 'adamw', 'rmsprop' or an object such as",
    ),
    (
        {"optimizer": None},
        TypeError,
        "optimizer is None, expected 'sgd', 'adam', 'adamw', 'rmsprop' or an object such as",
    ),
    ({"optimizer": fnn.SGD(lr=lambda e: -0.1)}, ValueError, r"lr\(0\) is -0.1, expected a finite number >= 0"),
    ({"optimizer": fnn.SGD(lr=lambda e: np.nan)}, ValueError, r"lr\(0\) is nan, expected a finite number >= 0"),
    ({"optimizer": fnn.Adam(eps=1e-60)}, ValueError, "eps is 1e-60, which vanishes in float32"),
    ({"l2": -1e-4}, ValueError, "l2 is -0.0001, expected a finite number >= 0"),
    ({"l2": np.inf}, ValueError, "l2 is inf, expected a finite number >= 0"),
    ({"l2": 10**400}, ValueError, "l2 is inf, expected a finite number >= 0"),
    ({"l2": None}, TypeError, "l2 is None, expected a finite number >= 0"),
    ({"epochs": 0}, ValueError, "epochs is 0, expected a positive integer"),
    ({"epochs": 10**5000}, ValueError, r"epochs is more than 2\*\*63 - 1, expected a positive integer"),
    ({"epochs": 2.5}, TypeError, "epochs is 2.5, expected a positive integer"),
    ({"batch_size": 0}, ValueError, "batch_size is 0, expected a positive integer"),
    ({"batch_size": -32}, ValueError, "batch_size is -32, expected a positive integer"),
    ({"batch_size": "32"}, TypeError, "batch_size is '32', expected a positive integer"),
    ({"shuffle": "yes"}, TypeError, "shuffle is 'yes', expected True or False"),
    ({"verbose": 7}, ValueError, "verbose is 7, expected 0 or 1"),
    ({"validation_split": 0}, ValueError, "validation_split is 0, expected a finite number > 0 and < 1"),
    ({"validation_split": 1}, ValueError, "validation_split is 1, expected a finite number > 0 and < 1"),
    ({"validation_split": "a"}, TypeError, "validation_split is 'a', expected a finite number > 0 and < 1"),
    (
        {"validation_split": 0.5, "validation_data": (X, Y)},
        ValueError,
        "validation_data and validation_split are both given: expected one of them",
    ),
    ({"validation_data": X}, TypeError, r"validation_data is not a pair, expected \(X, y\)"),
    ({"validation_data": (X, Y, Y)}, TypeError, r"is not a pair, .*, such as \[\(X, y, sample_weight\)\]"),
    ({"validation_data": (X[:, :1], Y)}, ValueError, "X of validation_data has 1 columns, but the model has 2 inputs"),
    ({"validation_data": (X * np.nan, Y)}, ValueError, "X of validation_data holds NaN or infinite values"),
    ({"validation_data": (X, Y[1:])}, ValueError, "y of validation_data has 3 rows, but there are 4 samples"),
    ({"validation_data": (X, Y + 1)}, ValueError, "y of validation_data holds label 3, but the model has 3 outputs"),
]


def network(*, layer=None, dtype="float32"):
    return fnn.Sequential(fnn.Linear(2, 5), layer or fnn.ReLU(), fnn.Linear(5, 3), dtype=dtype)


def state(model):
    return pickle.dumps((model._stack.params, model.loss, dict(model.history), model._stack.rng.bit_generator.state))


@pytest.mark.usefixtures("backend")
class TestRefused:
    @pytest.mark.parametrize(("settings", "error", "message"), BAD_SETTINGS)
    def test_settings(self, settings, error, message):
        self.refuse(X, Y, settings, error, message)

    @pytest.mark.parametrize(("y", "error", "message"), BAD_LABELS)
    def test_labels(self, y, error, message):
        self.refuse(X, y, {}, error, message)

    @pytest.mark.parametrize(("y", "error", "message"), BAD_VALUES)
    def test_values(self, y, error, message):
        self.refuse(X, y, {"loss": "squared_error"}, error, message)

    @pytest.mark.parametrize(("v", "error", "message"), BAD_WEIGHTS)
    def test_weights(self, v, error, message):
        self.refuse(X, Y, {"sample_weight": v}, error, message)

    @pytest.mark.parametrize(
        ("y", "error", "message"),
        [
            (1.0, ValueError, r"y has shape \(\), expected one row for each of 4 samples"),
            ([1.0], ValueError, "y has 1 rows, but there are 4 samples"),
            ([1.0, np.nan, 0, 0], ValueError, "y holds NaN or infinite values"),
            ([[1.0], [1.0, 2.0], 0, 0], ValueError, "y is ragged"),
        ],
    )
    def test_y_of_a_users_loss(self, y, error, message):
        self.refuse(X, y, {"loss": AbsoluteError()}, error, message)

    def refuse(self, X, y, settings, error, message):
        model = network()
        before = state(model)
        with pytest.raises(error, match=message):
            model.fit(X, y, **{"epochs": 3, "verbose": 0, **settings})
        assert state(model) == before

    def test_evaluate(self):
        model = network()
        model.loss = "cross_entropy"
        for y, error, message in BAD_LABELS:
            with pytest.raises(error, match=message):
                model.evaluate(X, y)
        for v, error, message in BAD_WEIGHTS:
            with pytest.raises(error, match=message):
                model.evaluate(X, Y, sample_weight=v)

    def test_a_refused_fit_leaves_the_optimizer_to_its_model(self):
        first, optimizer = network(), fnn.SGD(lr=0.1, momentum=0.9)
        first.fit(X, Y, optimizer=optimizer, epochs=2, verbose=0)
        with pytest.raises(ValueError, match="y holds label 3"):
            network().fit(X, Y + 1, optimizer=optimizer, verbose=0)
        assert (optimizer.epoch, optimizer.steps) == (2, 2)
        assert optimizer.belongs_to(first._stack)

    @pytest.mark.parametrize("layer", [fnn.ReLU, UserReLU])
    def test_a_later_learning_rate_stops_before_its_epoch(self, layer):
        rates = [0.1, 0.05, -1]
        models = network(layer=layer()), network(layer=layer())
        optimizer = fnn.SGD(lr=rates.__getitem__)
        with pytest.raises(ValueError, match=r"lr\(2\) is -1, expected a finite number >= 0"):
            models[0].fit(X, Y, optimizer=optimizer, epochs=10**9, verbose=0)
        history = models[1].fit(X, Y, optimizer=fnn.SGD(lr=rates.__getitem__), epochs=2, verbose=0)
        assert models[0].history == history
        assert state(models[0]) == state(models[1])
        assert (optimizer.epoch, optimizer.steps) == (2, 2)

    def test_a_learning_rate_is_asked_for_once_an_epoch(self):
        asked = []
        optimizer = fnn.SGD(lr=lambda epoch: asked.append(epoch) or 0.1)
        model = network()
        for _ in range(2):
            model.fit(X, Y, optimizer=optimizer, epochs=2, verbose=0)
        assert asked == [0, 1, 2, 3]

    def test_loss_of_a_model(self):
        model = network()
        with pytest.raises(ValueError, match="loss is 'hinge', expected"):
            model.loss = "hinge"
        assert model.loss is None


@pytest.mark.usefixtures("backend")
class TestDivergence:
    """Samples grow from batch to batch, so the place where training leaves the finite numbers is known."""

    LOSSES = ("built in", "own")

    @staticmethod
    def fit(model, X, y, which, **settings):
        loss = UserSquares() if which == "own" else "squared_error"
        model.fit(X, y, loss=loss, **{"shuffle": False, "verbose": 0, **settings})

    @pytest.mark.parametrize("which", LOSSES)
    def test_the_batch_whose_update_overflows(self, which):
        # w = 1 - 0.1 * 2 * (1 - 0) * 1 = 0.8; then the gradient 2 * 0.8e30 * 1e30 overflows
        model = fnn.Sequential(fnn.Linear(1, 1, init=[[1]], bias=False))
        with pytest.raises(fnn.DivergenceError) as caught:
            self.fit(model, [[1], [1e30], [1], [1]], [0, 0, 0, 0], which, optimizer=fnn.SGD(0.1), batch_size=1)
        assert (caught.value.epoch, caught.value.batch) == (0, 1)
        assert model.layers[0].weight.item() == pytest.approx(0.8)
        assert model.history == {}

    @pytest.mark.parametrize("which", LOSSES)
    def test_the_very_last_update(self, which):
        model = fnn.Sequential(fnn.Linear(1, 1, init=[[1]], bias=False))
        with pytest.raises(fnn.DivergenceError) as caught:
            self.fit(model, [[1], [1e30]], [0, 0], which, optimizer=fnn.SGD(0.1), batch_size=1, epochs=1)
        assert (caught.value.epoch, caught.value.batch) == (0, 1)
        assert model.layers[0].weight.item() == pytest.approx(0.8)

    @pytest.mark.parametrize("which", LOSSES)
    def test_an_epoch_later(self, which):
        optimizer = fnn.SGD(lr=lambda epoch: 1e-3 if epoch < 2 else 3e38, momentum=0.5)
        model = fnn.Sequential(fnn.Linear(1, 1, init=[[1]], bias=False))
        X, y = np.arange(1.0, 7)[:, None], np.zeros(6)
        expected = copy.deepcopy(model)
        self.fit(expected, X, y, which, optimizer=fnn.SGD(1e-3, 0.5), batch_size=2, epochs=2)
        with pytest.raises(
            fnn.DivergenceError, match=r"diverged in epoch 3 of 9, at its batch 1, .* use a smaller lr"
        ) as caught:
            self.fit(model, X, y, which, optimizer=optimizer, batch_size=2, epochs=9)
        assert (caught.value.epoch, caught.value.batch) == (2, 0)
        assert model.layers[0].weight == expected.layers[0].weight
        assert len(model.history["loss"]) == optimizer.epoch == 2
        assert optimizer.steps == 6
        optimizer.lr = 1e-3
        self.fit(model, X, y, which, optimizer=optimizer, batch_size=2)
        assert np.isfinite(model.history["loss"]).all()

    def test_network_with_too_large_a_step(self, rng):
        X, y = rng.normal(size=(64, 2)), rng.integers(3, size=64)
        for layer in (fnn.ReLU(), UserReLU()):
            model = network(layer=layer)
            with pytest.raises(fnn.DivergenceError):
                model.fit(X, y, optimizer=fnn.SGD(lr=1e30), batch_size=8, epochs=50, verbose=0)
            assert all(np.isfinite(p).all() for p in model.parameters())

    def test_a_loss_that_fails_once(self):
        class Once(UserSquares):
            calls = 0

            def forward(self, pred, y):
                self.calls += 1
                return np.nan if self.calls == 2 else super().forward(pred, y)

        model = fnn.Sequential(fnn.Linear(1, 1, init=[[1]], bias=False), dtype="float64")
        with pytest.raises(fnn.DivergenceError) as caught:
            model.fit(np.ones((6, 1)), np.zeros(6), loss=Once(), optimizer=fnn.SGD(0.1), batch_size=2, verbose=0)
        assert caught.value.batch == 2
        assert model.layers[0].weight.item() == pytest.approx(0.8**3)

    def test_error_survives_pickling(self):
        error = pickle.loads(pickle.dumps(fnn.DivergenceError(3, 17, 20)))
        assert (error.epoch, error.batch, error.epochs) == (3, 17, 20)
        assert str(error).startswith("training diverged in epoch 4 of 20, at its batch 18, and the model")


class Press(UserCrossEntropy):
    """A loss during which Ctrl-C is pressed, at the given calls."""

    def __init__(self, *calls):
        self.calls, self.at = 0, calls

    def forward(self, scores, y):
        self.calls += 1
        for _ in range(self.at.count(self.calls)):
            signal.raise_signal(signal.SIGINT)
        return super().forward(scores, y)


@pytest.fixture
def interruptible():
    """Ctrl-C as in a terminal: a process started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("backend", "interruptible")
class TestInterrupt:
    def test_once_ends_after_the_epoch(self, capsys):
        model, expected = network(dtype="float64"), network(dtype="float64")
        before = signal.getsignal(signal.SIGINT)
        history = model.fit(X, Y, loss=Press(3), batch_size=2, epochs=10)
        assert history.interrupted
        assert len(history["loss"]) == 2
        assert capsys.readouterr().out.splitlines()[-1] == "interrupted: stopped after epoch 2 of 10"
        assert signal.getsignal(signal.SIGINT) is before
        expected.fit(X, Y, batch_size=2, epochs=2, verbose=0)
        np.testing.assert_allclose(model.parameters()[0], expected.parameters()[0], rtol=1e-12)
        assert not model.fit(X, Y, epochs=1, verbose=0).interrupted

    def test_twice_ends_at_once(self):
        model, expected = network(dtype="float64"), network(dtype="float64")
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y, loss=Press(3, 3), batch_size=2, epochs=10, verbose=0)
        assert signal.getsignal(signal.SIGINT) is before
        assert len(model.history["loss"]) == 1
        expected.fit(X, Y, batch_size=2, epochs=1, verbose=0)
        np.testing.assert_allclose(model.parameters()[0], expected.parameters()[0], rtol=1e-12)

    def test_built_in_network_stops_too(self, monkeypatch):
        model = network()
        monkeypatch.setattr(
            "fastnn.training.progress.progress_line", lambda *args: signal.raise_signal(signal.SIGINT) or ""
        )
        assert model.fit(X, Y, epochs=10).interrupted
        assert len(model.history["loss"]) == 1

    def test_other_threads_leave_signals_alone(self):
        histories = []
        with fnn.use_backend("numpy"):
            network()
        thread = threading.Thread(target=lambda: histories.append(network().fit(X, Y, epochs=2, verbose=0)))
        thread.start()
        thread.join()
        assert len(histories[0]["loss"]) == 2

    def test_an_ignored_signal_stays_ignored(self):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            assert not network().fit(X, Y, loss=Press(1, 1), epochs=2, verbose=0).interrupted
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("backend")
class TestFoundInTheFirstEpoch:
    """X and y are looked at more closely where the first epoch goes wrong; then it must leave no trace."""

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("where", ["X", "y"])
    @pytest.mark.parametrize(
        "optimizer", [fnn.SGD(lr=0.01), fnn.SGD(lr=lambda epoch: 0.0), fnn.Adam()], ids=["sgd", "still", "adam"]
    )
    def test_values_that_are_not_finite_leave_no_trace(self, value, where, optimizer):
        rng = np.random.default_rng(0)
        data = {"X": rng.normal(size=(50, 4)).astype(np.float32), "y": rng.normal(size=(50, 2)).astype(np.float32)}
        model, twin = (fnn.Sequential(fnn.Linear(4, 8), fnn.ReLU(), fnn.Linear(8, 2), seed=1) for _ in range(2))
        settings = {"loss": "squared_error", "epochs": 2, "batch_size": 16, "verbose": 0}
        other = fnn.Sequential(fnn.Linear(4, 2), seed=2)
        other.fit(data["X"], data["y"], optimizer=optimizer, **settings)
        state = [slot.copy() for slot in optimizer.state()]
        bad = {name: array.copy() for name, array in data.items()}
        bad[where][37, 1] = value
        loss, history, before = model.loss, model.history, [p.copy() for p in model.parameters()]
        with pytest.raises(ValueError, match=f"{where} holds NaN or infinite values"):
            model.fit(bad["X"], bad["y"], optimizer=optimizer, **settings)
        assert (model.loss, model.history) == (loss, history)
        assert model.history is history
        for p, expected in zip(model.parameters(), before, strict=True):
            np.testing.assert_array_equal(p, expected)
        assert optimizer.belongs_to(other._stack)
        for slot, expected in zip(optimizer.state(), state, strict=True):
            np.testing.assert_array_equal(slot, expected)
        for trained in model, twin:
            trained.fit(data["X"], data["y"], optimizer="sgd", **settings)
        for p, expected in zip(model.parameters(), twin.parameters(), strict=True):
            np.testing.assert_array_equal(p, expected)

    def test_an_activation_in_front_hides_nothing(self):
        model = fnn.Sequential(fnn.Tanh(), fnn.Linear(2, 1))
        with pytest.raises(ValueError, match="X holds NaN or infinite values"):
            model.fit([[np.inf, 0.0]], [[0.0]], loss="squared_error", epochs=1, verbose=0)
