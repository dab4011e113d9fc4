"""A call that raises has changed nothing: faults at arrays, calls and allocations, and what they cost."""

import contextlib
import copy
import itertools
import signal
import subprocess
import sys

import numpy as np
import pytest

import fastnn as fnn
from tests.faults import KINDS, Fault, Watched, at_a_call, at_an_array, contents, fingerprint, problem
from tests.training import assert_same_weights, labelled, network, weights
from tests.user_code import Pairs, UserLinear, UserReLU

SHORT = {"epochs": 3, "batch_size": 16, "verbose": 0}


@pytest.fixture
def data(rng):
    return labelled(rng)


class Injected(Exception):
    """Raised by the code of a user."""


class Failing(UserReLU):
    """A layer that fails once, at one of its backward or training passes, counted from 0."""

    def __init__(self, at, method="backward", error=Injected):
        self.method, self.fault = method, Fault(at, error)

    def forward(self, x, training=False):
        if training and self.method == "forward":
            self.fault()
        return super().forward(x, training)

    def backward(self, dy):
        if self.method == "backward":
            self.fault()
        return super().backward(dy)


@pytest.mark.usefixtures("backend")
class TestFit:
    @pytest.mark.parametrize("kind", KINDS)
    def test_an_array_that_cannot_be_made(self, kind, monkeypatch):
        watched, left = Watched(kind, epochs=2), []
        for at in itertools.count():
            fault = Fault(at)
            watched.start()
            try:
                with at_an_array(fault, monkeypatch):
                    watched.fit()
            except MemoryError:
                left.append(watched.epochs_made())
            else:
                assert not fault.came
                break
        assert len(left) > 20
        assert left == sorted(left)
        assert set(left) == {0, 1}

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_interruption_at_a_call(self, kind):
        watched, left = Watched(kind, epochs=2), []
        for at in itertools.count(0, 1 if kind == "compiled" else 11):
            fault = Fault(at, KeyboardInterrupt)
            watched.start()
            try:
                with at_a_call(fault, leave_out=("interrupts.py",)):
                    watched.fit()
            except KeyboardInterrupt:
                left.append(watched.epochs_made())
            else:
                assert not fault.came
                break
        assert left == sorted(left)
        assert {0, 1} <= set(left) <= {0, 1, 2}

    def test_the_moments_of_another_model_come_back(self, data):
        optimizer, first = fnn.Adam(lr=0.05), network()
        twin_optimizer, twin = copy.deepcopy((optimizer, first))
        first.fit(*data, optimizer=optimizer, **SHORT)
        model = fnn.Sequential(fnn.Linear(6, 4), Failing(at=1), fnn.Linear(4, 3))
        with pytest.raises(Injected):
            model.fit(*data, optimizer=optimizer, **SHORT)
        first.fit(*data, optimizer=optimizer, **SHORT)
        for _ in range(2):
            twin.fit(*data, optimizer=twin_optimizer, **SHORT)
        assert_same_weights(first, twin, rtol=0)

    @pytest.mark.parametrize("at", [0, 3, 4, 9])
    def test_a_layer_that_fails_and_then_does_not(self, at, data):
        """The second fit goes on as if nothing had come between."""
        models = [fnn.Sequential(fnn.Linear(6, 4), fnn.Dropout(0.5), Failing(n), fnn.Linear(4, 3)) for n in (at, 10**9)]
        optimizers = fnn.SGD(lr=0.1, momentum=0.9), fnn.SGD(lr=0.1, momentum=0.9)
        with pytest.raises(Injected):
            models[0].fit(*data, optimizer=optimizers[0], **SHORT)
        made = at // 4
        assert len(models[0].history.get("loss", [])) == optimizers[0].epoch == made
        models[0].fit(*data, optimizer=optimizers[0], **{**SHORT, "epochs": 3 - made})
        models[1].fit(*data, optimizer=optimizers[1], **SHORT)
        assert_same_weights(*models, rtol=0)

    def test_gradients_of_a_pass_before_are_left_alone(self, data):
        model = fnn.Sequential(fnn.Linear(6, 4), Failing(at=1), fnn.Linear(4, 3), dtype="float64")
        scores = model.forward(data[0], training=True)
        model.backward(np.ones_like(scores))
        gradients = [model.layers[0].weight_grad.copy(), model.layers[2].bias_grad.copy()]
        with pytest.raises(Injected):
            model.fit(*data, **SHORT)
        np.testing.assert_array_equal(model.layers[0].weight_grad, gradients[0])
        np.testing.assert_array_equal(model.layers[2].bias_grad, gradients[1])

    def test_divergence_leaves_the_last_finite_point(self):
        """Parameters, moments and updates belong together: those of the batch before, see tests.test_fit_refusals."""
        optimizer = fnn.SGD(lr=0.1, momentum=0.5)
        model = fnn.Sequential(fnn.Linear(1, 1, init=[[1]], bias=False))
        with pytest.raises(fnn.DivergenceError):
            model.fit(
                [[1], [1e30]], [0, 0], loss="squared_error", optimizer=optimizer, batch_size=1, shuffle=False, verbose=0
            )
        assert (optimizer.steps, optimizer.epoch, optimizer.belongs_to(model._stack)) == (1, 0, True)
        np.testing.assert_allclose(optimizer.state()[0].ravel()[0], -0.2)
        assert isinstance(model.loss, fnn.SquaredError)
        assert model.history == {}

    def test_the_batch_is_looked_for_among_the_same_numbers(self, rng):
        """The same samples with the same units dropped, or it could not be found."""

        class Recorder(UserReLU):
            def forward(self, x, training=False):
                if training:
                    seen.append(x.copy())
                return x

            def backward(self, dy):
                return dy

        seen = []
        model = fnn.Sequential(fnn.Dropout(0.5), Recorder(), fnn.Linear(4, 1), dtype="float64")
        optimizer = fnn.SGD(lr=lambda epoch: [1e-3, 1e100][epoch])
        X, y = rng.normal(size=(40, 4)), rng.normal(size=40)
        with pytest.raises(fnn.DivergenceError) as caught:
            model.fit(X, y, loss="squared_error", optimizer=optimizer, batch_size=5, epochs=2, verbose=0)
        batches = caught.value.batch + 1
        assert 1 < batches < 8
        assert len(seen) == 8 + 2 * batches
        np.testing.assert_array_equal(seen[8 : 8 + batches], seen[-batches:])

    def test_an_interruption_while_the_batch_is_looked_for_undoes_the_epoch(self):
        class Interrupted(UserLinear):
            calls = 0

            def forward(self, x, training):
                self.calls += training
                if self.calls == 5:
                    raise KeyboardInterrupt
                return super().forward(x, training)

        layer = Interrupted(np.ones((1, 1)), np.zeros(1))
        model, optimizer = fnn.Sequential(layer, dtype="float64"), fnn.SGD(lr=0.1)
        before = fingerprint(model, optimizer)
        with pytest.raises(KeyboardInterrupt):  # one pass finds that the epoch failed, the next one where
            model.fit(
                [[1], [1], [1e200]], [0, 0, 0], loss="squared_error", optimizer=optimizer, batch_size=1, shuffle=False
            )
        assert layer.calls == 5
        assert fingerprint(model, optimizer) == before

    def test_lists_that_a_callback_keeps_in_the_history_are_its_own(self, data):
        def note(model, epoch, values):
            model.history.setdefault("seen", []).extend([epoch, epoch])

        model = fnn.Sequential(fnn.Linear(6, 4), Failing(at=9), fnn.Linear(4, 3))
        with pytest.raises(Injected):
            model.fit(*data, callbacks=[note], **SHORT)
        assert model.history["seen"] == [1, 1, 2, 2]
        assert len(model.history["loss"]) == 2


@pytest.mark.parametrize(("name", "kind", "stride"), [("numba", "compiled", 5), ("numpy", "layer by layer", 31)])
def test_an_allocation_that_fails(name, kind, stride):
    """Compiled kernels that are called from Python, layer by layer, end the process: numba does not expect it."""
    pytest.importorskip("_testcapi")
    command = [sys.executable, "-m", "tests.faults", name, kind, str(stride)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert child.returncode == 0, child.stderr[-2000:]
    assert int(child.stdout) > 50


@pytest.mark.usefixtures("backend")
class TestOtherCalls:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        "call",
        [
            lambda model, optimizer, data: model.evaluate(*data),
            lambda model, optimizer, data: model.forward(data[0], training=True),
            lambda model, optimizer, data: fnn.check_gradients(model, *data, n_checks=2),
            lambda model, optimizer, data: fnn.profile(model, *data, optimizer=optimizer, seconds=1e-9),
        ],
        ids=["evaluate", "forward", "check_gradients", "profile"],
    )
    def test_an_array_that_cannot_be_made(self, kind, call, monkeypatch):
        model, _, optimizer, data = problem(kind)
        model.loss = "cross_entropy"
        call(model, optimizer, data)
        before, failed = fingerprint(model, optimizer), 0
        for at in itertools.count(0, 3):
            fault = Fault(at)
            try:
                with at_an_array(fault, monkeypatch):
                    call(model, optimizer, data)
            except MemoryError:
                failed += 1
                assert fingerprint(model, optimizer) == before
            if not fault.came:
                break
        assert failed

    def test_a_training_pass_that_fails_leaves_the_one_before(self, data):
        X = data[0]
        layers = fnn.Linear(6, 4), fnn.Dropout(0.5), fnn.Tanh(), Failing(at=1, method="forward"), fnn.Linear(4, 3)
        model = fnn.Sequential(*layers, dtype="float64")
        scores, drawn = model.forward(X, training=True), model._stack.rng.bit_generator.state
        expected = model.backward(np.ones_like(scores))
        with pytest.raises(Injected):
            model.forward(X[:20] * 3, training=True)
        assert model._stack.rng.bit_generator.state == drawn
        np.testing.assert_array_equal(model.backward(np.ones_like(scores)), expected)

    def test_no_step_along_half_a_gradient(self, data):
        model = fnn.Sequential(fnn.Linear(6, 4), Failing(at=1), fnn.Linear(4, 3))
        scores = model.forward(data[0], training=True)
        model.backward(np.ones_like(scores))
        before = weights(model)
        with pytest.raises(Injected):
            model.backward(np.ones_like(scores))
        with pytest.raises(ValueError, match="the model has no gradients yet"):
            fnn.SGD().step(model)
        np.testing.assert_array_equal(weights(model), before)
        model.backward(np.ones_like(scores))
        fnn.SGD().step(model)

    def test_a_step_that_fails_leaves_the_optimizer_to_its_model(self, data):
        layer = UserLinear(np.ones((6, 3)), np.zeros(3))
        model, other, optimizer = fnn.Sequential(layer), network(), fnn.Adam()
        other.fit(*data, optimizer=optimizer, **SHORT)
        model.backward(np.ones_like(model.forward(data[0], training=True)))
        layer.gradients = lambda: [layer.weight_grad]
        before = contents(other, optimizer)
        with pytest.raises(ValueError, match=r"gradients of .* have shapes"):
            optimizer.step(model)
        assert contents(other, optimizer) == before
        assert (layer.weight == 1).all()


class TestConstruction:
    """A Sequential that cannot be built leaves its layers free for the next one."""

    def refuse(self, layers, error, message, **settings):
        with pytest.raises(error, match=message):
            fnn.Sequential(*layers, **settings)
        assert not any(layer.is_bound for layer in layers if hasattr(layer, "is_bound"))
        assert [p.shape for p in fnn.Sequential(*layers, dtype="float64").parameters()] == [(2, 3), (3,), (3, 1), (1,)]

    def test_weights_that_the_dtype_does_not_hold(self):
        layers = fnn.Linear(2, 3), fnn.Dropout(), fnn.Linear(3, 1, init=np.full((3, 1), 1e300))
        self.refuse(layers, ValueError, "weight holds values beyond the range of float32")

    def test_an_initialiser_that_fails_once(self):
        fault = Fault(0, Injected)
        layers = fnn.Linear(2, 3), fnn.Dropout(), fnn.Linear(3, 1, init=fault.before(fnn.initializers.he))
        self.refuse(layers, Injected, "injected")

    @pytest.mark.parametrize("at", range(3))  # the buffer, and views into it for each linear layer
    def test_memory_that_runs_out_on_the_way(self, at, monkeypatch):
        fault = Fault(at)
        for name in ("aligned_zeros", "views"):
            monkeypatch.setattr(fnn.nn.stack, name, fault.before(getattr(fnn.nn.stack, name)))
        self.refuse((fnn.Linear(2, 3), fnn.Dropout(), fnn.Linear(3, 1)), MemoryError, "injected")

    def test_a_layer_of_another_model_stays_its_own(self):
        mine, free = fnn.Linear(2, 3), fnn.Linear(3, 2)
        model = fnn.Sequential(mine)
        with pytest.raises(ValueError, match=r"layer 1, .* belongs to another model already"):
            fnn.Sequential(free, mine)
        assert mine.is_bound
        assert np.shares_memory(mine.weight, model._stack.params)
        assert not free.is_bound


@pytest.mark.usefixtures("backend")
class TestInterrupts:
    @pytest.fixture(autouse=True)
    def interruptible(self):
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    def test_what_is_put_right_is_not_disturbed(self, data):
        """Ctrl-C held down: the second one ends the epoch, all others find it being undone."""

        class Held(Pairs):
            calls = 0

            def forward(self, x, training=False):
                self.calls += training
                if self.calls == 6:
                    signal.raise_signal(signal.SIGINT)
                    try:
                        signal.raise_signal(signal.SIGINT)
                    finally:
                        for _ in range(5):
                            signal.raise_signal(signal.SIGINT)
                return super().forward(x, training)

        model, expected = (fnn.Sequential(fnn.Linear(6, 6), layer) for layer in (Held(), Pairs()))
        with pytest.raises(KeyboardInterrupt):
            model.fit(*data, **SHORT)
        expected.fit(*data, **{**SHORT, "epochs": 1})
        assert model.history == expected.history
        assert_same_weights(model, expected, rtol=0)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_nor_what_is_put_right_after_another_error(self, data, monkeypatch):
        def restore(copies):
            signal.raise_signal(signal.SIGINT)
            whole(copies)

        class Pressed(Exception):
            """One press, and then an error."""

            def __init__(self, message):
                signal.raise_signal(signal.SIGINT)

        whole = fnn.transaction.Copies.restore
        monkeypatch.setattr(fnn.transaction.Copies, "restore", restore)
        layers = fnn.Linear(6, 4), Failing(at=6, error=Pressed), fnn.Linear(4, 3)
        model, expected = fnn.Sequential(*layers), fnn.Sequential(*copy.deepcopy(layers))
        with pytest.raises(Pressed):
            model.fit(*data, **SHORT)
        expected.fit(*data, **{**SHORT, "epochs": 1})
        assert_same_weights(model, expected, rtol=0)

    def test_the_handler_is_put_back_whenever_they_come(self, data):
        for at in itertools.count():
            presses = Fault(at, lambda message: None)

            def press(fault=presses):
                fault.calls += 1
                if fault.calls - fault.at in (1, 2):
                    signal.raise_signal(signal.SIGINT)

            with contextlib.suppress(KeyboardInterrupt), at_a_call(press):
                network().fit(*data, **{**SHORT, "epochs": 1, "batch_size": 50})
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, at
            if not presses.came:
                break
