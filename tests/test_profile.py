"""What profile counts, that its parts make up the whole, and that nothing changes; never how fast anything is."""

import itertools
import pickle
import re
from types import SimpleNamespace

import numpy as np
import pytest

import fastnn as fnn
from fastnn.reference.network import epoch as reference_epoch
from fastnn.tools import profile as profile_module
from fastnn.training.plan import prepare
from tests.training import labelled, network, weights
from tests.user_code import Pairs, UserCrossEntropy, UserLinear, UserReLU

SHORT = {"seconds": 0.002}


class UserSGD(fnn.SGD):
    """A subclass, whose updates the compiled epoch cannot make."""


class Squares:
    """A loss that keeps the sample weights it is given."""

    given = None

    def forward(self, pred, y, sample_weight=None):
        Squares.given = sample_weight
        return float(np.square(pred).mean())

    def backward(self, pred, y, sample_weight=None):
        return 2 * pred / pred.size


@pytest.fixture
def data(rng):
    return labelled(rng)


@pytest.fixture
def ticking(monkeypatch):
    """Each reading of the reference's clock and of the profile's own comes a second after the last, in long rounds."""
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr(reference_epoch, "time", clock)
    monkeypatch.setattr(profile_module, "time", clock)
    monkeypatch.setattr(profile_module, "_ROUND", 100.0)


def user_network():
    weight = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    layers = fnn.Tanh(), Pairs(), UserLinear(weight, np.zeros(4, np.float32)), fnn.Linear(4, 7), UserReLU()
    return fnn.Sequential(*layers, fnn.Linear(7, 3))


def table(result, *columns):
    return [tuple(getattr(part, column) for column in columns) for part in result.parts]


@pytest.mark.usefixtures("backend")
class TestCounts:
    def test_operations_by_hand(self, rng):
        """2 m n k for each product: 2 · 8 · 20 · 32 = 10240 and 2 · 8 · 32 · 2 = 1024."""
        model = fnn.Sequential(fnn.Linear(20, 32), fnn.ReLU(), fnn.Linear(32, 2))
        result = fnn.profile(model, rng.normal(size=(50, 20)), np.arange(50) % 2, batch_size=8, **SHORT)
        assert table(result, "layer", "name", "phase", "flops") == [
            (0, "Linear(20, 32) + ReLU()", "forward", 10240),
            (0, "Linear(20, 32) + ReLU()", "update", 10240),
            (2, "Linear(32, 2)", "forward", 1024),
            (2, "Linear(32, 2)", "backward", 1024),
            (2, "Linear(32, 2)", "update", 1024),
            (None, "step", "gather", 0),
            (None, "step", "loss", 0),
            (None, "step", "rest", 0),
        ]
        assert result.flops == 2 * 10240 + 3 * 1024

    def test_activations_that_are_an_op_of_their_own(self, rng):
        """Nothing goes back below the first linear layer."""
        layers = fnn.Tanh(), fnn.Linear(3, 4), fnn.ReLU(), fnn.Sigmoid(), fnn.LeakyReLU(0.1), fnn.Linear(4, 2)
        result = fnn.profile(fnn.Sequential(*layers), rng.normal(size=(9, 3)), np.arange(9) % 2, batch_size=2, **SHORT)
        assert table(result, "layer", "name", "phase", "flops")[:-3] == [
            (0, "Tanh()", "forward", 0),
            (1, "Linear(3, 4) + ReLU()", "forward", 48),
            (1, "Linear(3, 4) + ReLU()", "update", 48),
            (3, "Sigmoid()", "forward", 0),
            (3, "Sigmoid()", "backward", 0),
            (4, "LeakyReLU(slope=0.1)", "forward", 0),
            (4, "LeakyReLU(slope=0.1)", "backward", 0),
            (5, "Linear(4, 2)", "forward", 32),
            (5, "Linear(4, 2)", "backward", 32),
            (5, "Linear(4, 2)", "update", 32),
        ]

    def test_layer_by_layer(self, data):
        """A linear layer makes both gradients in its backward pass; a layer of the user's own counts none."""
        result = fnn.profile(user_network(), *data, batch_size=10, **SHORT)
        assert table(result, "layer", "name", "phase", "flops") == [
            *((i, name, phase, 0) for i, name in enumerate(("Tanh()", "Pairs", "UserLinear"))
              for phase in ("forward", "backward")),
            (3, "Linear(4, 7)", "forward", 2 * 10 * 4 * 7),
            (3, "Linear(4, 7)", "backward", 4 * 10 * 4 * 7),
            (4, "UserReLU", "forward", 0),
            (4, "UserReLU", "backward", 0),
            (5, "Linear(7, 3)", "forward", 2 * 10 * 7 * 3),
            (5, "Linear(7, 3)", "backward", 4 * 10 * 7 * 3),
            *((None, "step", phase, 0) for phase in ("gather", "loss", "update", "rest")),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "settings",
        [{"loss": UserCrossEntropy()}, {"optimizer": UserSGD()}],
        ids=["loss", "optimizer"],
    )
    def test_built_in_layers_run_one_by_one_under_what_is_not(self, settings, data):
        result = fnn.profile(network(), *data, **settings, **SHORT)
        assert [part.name for part in result.parts if part.phase == "forward"] == [
            "Linear(6, 9)", "ReLU()", "Linear(9, 5, bias=False)", "Tanh()", "Linear(5, 3)",
        ]  # fmt: skip
        assert result.flops == 3 * 2 * 32 * (6 * 9 + 9 * 5 + 5 * 3)

    @pytest.mark.parametrize("make", [network, user_network])
    def test_the_parts_make_up_the_whole(self, make, data):
        result = fnn.profile(make(), *data, **SHORT)
        assert sum(part.seconds for part in result.parts) == result.seconds > 0
        assert sum(part.share_of_step for part in result.parts) == pytest.approx(1)
        for part in result.parts:
            assert part.share_of_step == pytest.approx(part.seconds / result.seconds)
            assert part.flops_per_second * part.seconds == pytest.approx(part.flops)
            assert part.share_of_peak == pytest.approx(part.flops_per_second / result.peak)
        assert result.flops_per_second == pytest.approx(result.flops / result.seconds)
        assert result.share_of_peak == pytest.approx(result.flops / result.seconds / result.peak)

    def test_what_was_measured(self, data, backend):
        result = fnn.profile(network(), *data, batch_size=1000, **SHORT)
        assert (result.batch_size, result.dtype, result.threads) == (50, "float64", fnn.get_num_threads())
        assert result.steps >= 1


class TestTimes:
    """On a clock that ticks once a reading, the seconds of a part are its laps."""

    def test_of_a_network_as_data(self, ticking, data):
        with fnn.use_backend("numpy"):
            result = fnn.profile(network(), *data, batch_size=7, seconds=1000)
        assert result.backend == "numpy"
        assert result.steps > 1
        assert {part.phase: part.seconds for part in result.parts} == dict.fromkeys(
            ("forward", "update", "backward", "gather", "loss"), 1.0
        ) | {"rest": 2.0}
        assert len(result.parts) == 4 + 3 + 3 + 3
        assert result.seconds == 14

    def test_layer_by_layer(self, ticking, data):
        result = fnn.profile(user_network(), *data, batch_size=7, seconds=1000)
        assert result.steps > 1
        assert [part.seconds for part in result.parts] == [1.0] * (6 + 6 + 4)

    def test_the_fastest_round_counts(self, ticking, monkeypatch, data):
        """As a whole, not part by part; and neither the step that compiles nor the one that finds the speed."""
        spent = itertools.chain([(0, 0), (0, 0), (2, 3), (2.5, 0.5), (1, 3)], itertools.repeat((9, 9)))
        work = {(0, "some", "forward", 0): 30, (None, "step", "rest", None): 0}
        starts = []

        def compiled(stack, plan):
            trained = stack.params, plan.optimizer.state()[0]

            def run(order):
                starts.append([array.tobytes() for array in trained])
                for array in trained:
                    array += 1
                of_a_step = zip([(0, "forward"), (None, "rest")], next(spent), strict=True)
                return {part: seconds * len(order) / 10 for part, seconds in of_a_step}

            return work, run

        monkeypatch.setattr(profile_module, "_ROUND", 4.0)
        monkeypatch.setattr(profile_module, "_compiled", compiled)
        result = fnn.profile(network(), *data, optimizer="adam", batch_size=10, seconds=40)
        assert len(starts) > 5
        assert starts == starts[:1] * len(starts)  # each round starts from the same weights and the same state
        assert result.steps == 4
        assert table(result, "name", "phase", "seconds", "flops", "flops_per_second", "share_of_step") == [
            ("some", "forward", 2.5, 30, 12.0, 2.5 / 3),
            ("step", "rest", 0.5, 0, 0.0, 0.5 / 3),
        ]
        assert result.share_of_peak == 10 / result.peak

    @pytest.mark.parametrize("l2", [0.0, 0.01])
    @pytest.mark.parametrize(
        "optimizer", [fnn.SGD(lr=0.05), fnn.SGD(lr=0.05, momentum=0.9), fnn.Adam(lr=0.01)], ids=repr
    )
    @pytest.mark.parametrize("path", ["_compiled", "_layer_by_layer"])
    def test_the_steps_are_those_of_fit(self, path, optimizer, l2, data, rng, backend):
        v = rng.uniform(1, 2, 50)
        settings = {"loss": "cross_entropy", "l2": l2, "epochs": 1, "batch_size": 16, "shuffle": False}
        model, fitted = network(), network()
        plan = prepare(
            model._stack, *data, optimizer=pickle.loads(pickle.dumps(optimizer)), validation_data=None,
            sample_weight=v, verbose=0, **settings,
        )  # fmt: skip
        plan.optimizer.bind(model._stack)
        plan.compiled = path == "_compiled"
        _, run = getattr(profile_module, path)(model._stack, plan)
        run(np.arange(50))
        fitted.fit(*data, optimizer=optimizer, sample_weight=v, verbose=0, **settings)
        np.testing.assert_allclose(weights(model), weights(fitted), rtol=1e-9)


@pytest.mark.usefixtures("backend")
class TestUntouched:
    def test_a_fitted_model_and_its_optimizer(self, data):
        model, optimizer, twin = network(), fnn.SGD(lr=0.1, momentum=0.9), network()
        other = fnn.SGD(lr=0.1, momentum=0.9)
        for m, o in ((model, optimizer), (twin, other)):
            m.fit(*data, optimizer=o, epochs=2, verbose=0)
        before = self.seen(model, optimizer)
        fnn.profile(model, *data, optimizer=optimizer, **SHORT)
        assert self.seen(model, optimizer) == before
        # Training goes on as it would have done.
        for m, o in ((model, optimizer), (twin, other)):
            m.fit(*data, optimizer=o, epochs=2, verbose=0)
        np.testing.assert_array_equal(weights(model), weights(twin))

    @staticmethod
    def seen(model, optimizer):
        return (
            weights(model).tobytes(),
            [slots.tobytes() for slots in optimizer.state()],
            (optimizer.steps, optimizer.epoch, optimizer.belongs_to(model._stack)),
            model.history,
            model.loss,
            model._stack.rng.bit_generator.state,
        )

    def test_layers_and_losses_of_the_users_own(self, data):
        model, loss = user_network(), UserCrossEntropy()
        before = weights(model).tobytes()
        fnn.profile(model, *data, loss=loss, **SHORT)
        assert weights(model).tobytes() == before
        assert model.loss is None
        assert not any(hasattr(model.layers[i], name) for i, name in ((2, "x"), (2, "weight_grad"), (4, "positive")))

    def test_the_data(self, data):
        copies = [array.copy() for array in data]
        v = np.ones(50)
        fnn.profile(network(), *data, sample_weight=v, **SHORT)
        for array, kept in zip((*data, v), (*copies, np.ones(50)), strict=True):
            np.testing.assert_array_equal(array, kept)


class TestArguments:
    def test_the_loss_is_the_models_own(self, data, backend):
        model = network()
        model.loss = "squared_error"
        fnn.profile(model, data[0], np.ones((50, 3)), **SHORT)
        with pytest.raises(ValueError, match="one-hot encode the labels"):
            fnn.profile(model, *data, **SHORT)
        fnn.profile(model, *data, loss="cross_entropy", **SHORT)

    def test_sample_weights_arrive(self, data):
        fnn.profile(network(), *data, loss=Squares(), sample_weight=np.arange(50.0), batch_size=50, **SHORT)
        np.testing.assert_array_equal(np.sort(Squares.given), np.arange(50))

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"seconds": 0}, ValueError, "seconds is 0, expected a finite number > 0"),
            ({"seconds": np.inf}, ValueError, "seconds is inf, expected a finite number > 0"),
            ({"seconds": "1"}, TypeError, "seconds is '1', expected a finite number > 0"),
            ({"loss": "hinge"}, ValueError, "loss is 'hinge', expected 'cross_entropy', 'binary_cross_entropy'"),
            ({"loss": fnn.CrossEntropy}, TypeError, "loss is <class .*, expected 'cross_entropy'"),
            ({"optimizer": "adagrad"}, ValueError, "optimizer is 'adagrad', expected 'sgd', 'adam', 'adamw',"),
            ({"optimizer": fnn.SGD(lr=lambda e: -0.1)}, ValueError, r"lr\(0\) is -0.1, expected a finite number >= 0"),
            ({"l2": -1}, ValueError, "l2 is -1, expected a finite number >= 0"),
            ({"batch_size": 0}, ValueError, "batch_size is 0, expected a positive integer"),
            ({"batch_size": 2.5}, TypeError, "batch_size is 2.5, expected a positive integer"),
        ],
    )  # fmt: skip
    def test_settings(self, settings, error, message, data):
        with pytest.raises(error, match=f"^{message}"):
            fnn.profile(network(), *data, **settings)

    def test_what_is_no_model(self, data):
        with pytest.raises(TypeError, match=r"^model is Linear\(6, 3\), expected a Sequential"):
            fnn.profile(fnn.Linear(6, 3), *data)

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.ones((50, 5)), "X has 5 columns, but the model has 6 inputs: they must be equal"),
            (np.ones(50), r"X has shape \(50,\), expected \(samples, features\)"),
            (np.full((50, 6), np.nan), "X holds NaN or infinite values: remove or replace them first"),
        ],
    )
    def test_features(self, x, message, data):
        with pytest.raises(ValueError, match=f"^{message}"):
            fnn.profile(network(), x, data[1])

    def test_targets_and_weights(self, data):
        with pytest.raises(ValueError, match=r"^y holds label 3, but the model has 3 outputs: labels must be 0\.\.2"):
            fnn.profile(network(), data[0], data[1] + 1)
        with pytest.raises(ValueError, match=r"^sample_weight holds -1, expected weights >= 0"):
            fnn.profile(network(), *data, sample_weight=np.full(50, -1.0))

    @pytest.mark.parametrize(
        ("make", "optimizer"),
        [(network, fnn.SGD), (network, UserSGD), (user_network, fnn.SGD)],
        ids=["as data", "one by one", "of the user's own"],
    )
    def test_divergence(self, make, optimizer, data, backend, monkeypatch):
        """The first step multiplies every weight by 1 - 2e160, whose squares have no finite sum; a round has more."""
        monkeypatch.setattr(profile_module, "_ROUND", 2.0)
        model = make()
        before = weights(model).tobytes()
        with pytest.raises(fnn.DivergenceError, match="training diverged in epoch 1 of 1, at its batch 2,"):
            fnn.profile(model, *data, optimizer=optimizer(lr=1.0), l2=1e160, seconds=10)
        assert weights(model).tobytes() == before


class TestTable:
    @pytest.mark.parametrize("make", [network, user_network])
    def test_a_row_for_each_part(self, make, data, backend):
        result = fnn.profile(make(), *data, batch_size=16, **SHORT)
        title, blank, header, rule, *rows, closing, total = str(result).splitlines()
        assert blank == ""
        assert rule == closing == "-" * max(map(len, (header, *rows, total)))
        assert re.fullmatch(
            rf"one training step of 16 samples, {result.dtype}, {backend_name(result)}, (1 thread|up to \d+ threads), "
            r"FMA peak [\d,]+ GFLOP/s",
            title,
        )
        name = None
        for part, row in zip(result.parts, rows, strict=True):
            shown = row[: header.index("phase")].strip()
            name = shown or name
            assert name == part.name
            phase, micro, share, *work = row[header.index("phase") :].split()
            assert phase == part.phase
            self.compare((micro, share, *work), part.seconds, part.share_of_step, part.flops, part.share_of_peak)
        label, *cells = total.split()
        assert label == "total"
        self.compare(cells, result.seconds, 1, result.flops, result.share_of_peak)

    @staticmethod
    def compare(cells, seconds, share_of_step, flops, share_of_peak):
        micro, share, *work = (float(cell.rstrip("%").replace(",", "")) for cell in cells)
        assert micro == pytest.approx(seconds * 1e6, abs=0.051)
        assert share == pytest.approx(100 * share_of_step, abs=0.051)
        assert len(work) == 3 * (flops > 0)
        if work:
            expected = (flops / 1e6, flops / seconds / 1e9, 100 * share_of_peak)
            assert work == [pytest.approx(value, abs=0.051) for value in expected]

    def test_threads(self, data):
        before = fnn.get_num_threads()
        try:
            for threads, words in ((1, "1 thread"), (2, "up to 2 threads")):
                fnn.set_num_threads(threads)
                result = fnn.profile(network(), *data, **SHORT)
                assert result.threads == threads
                assert f", {words}, " in str(result)
        finally:
            fnn.set_num_threads(before)


def backend_name(result):
    assert result.backend in ("numba", "numpy")
    return result.backend
