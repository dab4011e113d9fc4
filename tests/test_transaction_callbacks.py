"""Parameters that are not finite, trainings within callbacks, and what a callback keeps: no call leaves half of it."""

import numpy as np
import pytest

import fastnn as fnn
from tests.faults import Fault, fingerprint
from tests.training import assert_same_weights, labelled, network
from tests.user_code import UserCrossEntropy, UserLinear, UserReLU

SHORT = {"epochs": 3, "batch_size": 16, "verbose": 0}


@pytest.fixture
def data(rng):
    return labelled(rng)


class Injected(Exception):
    """Raised by the code of a user."""


@pytest.mark.usefixtures("backend")
class TestFitWithinACallback:
    def test_the_history_and_the_loss_are_those_of_the_outer(self, data):
        def inner(model, epoch, values):
            model.fit(*data, loss=UserCrossEntropy(), **{**SHORT, "epochs": 1})
            assert len(model.history["loss"]) == 1

        model = network()
        history = model.fit(*data, callbacks=[inner], **SHORT)
        assert model.history is history
        assert len(history["loss"]) == SHORT["epochs"]
        assert isinstance(model.loss, fnn.CrossEntropy)

    def test_and_if_the_callback_fails_afterwards(self, data):
        def inner(model, epoch, values):
            model.fit(*data, **{**SHORT, "epochs": 1})
            raise Injected

        model = network()
        with pytest.raises(Injected):
            model.fit(*data, callbacks=[inner], **{**SHORT, "validation_data": data})
        assert list(map(len, model.history.values())) == [1, 1, 1]

    def test_an_inner_fit_that_fails_leaves_the_outer_as_it_was(self, data):
        def inner(model, epoch, values):
            with pytest.raises(ValueError, match="y holds label 3"):
                model.fit(data[0], data[1] + 1, verbose=0)
            with pytest.raises(Injected):
                model.fit(*data, loss=FailingLoss(), **SHORT)

        class FailingLoss(UserCrossEntropy):
            def backward(self, *args):
                raise Injected

        model, expected = network(), network()
        model.fit(*data, callbacks=[inner], **SHORT)
        expected.fit(*data, **SHORT)
        assert model.history == expected.history
        assert_same_weights(model, expected, rtol=0)


@pytest.mark.usefixtures("backend")
class TestParametersThatAreNotFinite:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_are_refused_at_the_door(self, value, data):
        class Begun:
            def begin(self, model, names):
                raise AssertionError("the training has begun")

            def __call__(self, *call):
                pass

        model, optimizer = network(), fnn.SGD()
        model.layers[2].weight[1, 2] = value
        before = fingerprint(model, optimizer)
        with pytest.raises(ValueError, match=r"layer 2, Linear\(9, 5, bias=False\), holds NaN or infinite values"):
            model.fit(*data, optimizer=optimizer, callbacks=[Begun()], **SHORT)
        assert fingerprint(model, optimizer) == before

    def test_in_a_layer_of_a_users(self, data):
        model = fnn.Sequential(UserLinear(np.ones((6, 3)), np.array([0.0, 0.0, np.nan])))
        with pytest.raises(ValueError, match=r"layer 0, .*UserLinear.*, holds NaN or infinite values"):
            model.fit(*data, **SHORT)

    def test_in_a_large_layer(self):
        model = fnn.Sequential(fnn.Linear(100, 100), fnn.Linear(100, 2))
        model.layers[0].bias[99] = np.nan
        with pytest.raises(ValueError, match=r"layer 0, Linear\(100, 100\), holds NaN or infinite values"):
            model.fit(np.zeros((4, 100)), [0, 1, 0, 1], verbose=0)

    @pytest.mark.parametrize("layer", [fnn.ReLU, UserReLU])
    def test_that_a_callback_wrote_are_no_divergence(self, layer, data):
        def spoil(model, epoch, values):
            if epoch == 2:
                model.layers[0].bias[0] = np.nan

        model = fnn.Sequential(fnn.Linear(6, 4), layer(), fnn.Linear(4, 3))
        with pytest.raises(ValueError, match=r"layer 0, Linear\(6, 4\), holds NaN or infinite values"):
            model.fit(*data, callbacks=[spoil], **SHORT)
        assert len(model.history["loss"]) == 2


def test_early_stopping_that_cannot_copy_keeps_what_it_has(data):
    """What it says is best is what it restores."""
    copies = Fault(2)
    model, stopping = fnn.Sequential(fnn.Linear(6, 3)), fnn.EarlyStopping(monitor="loss")
    stopping.begin(model, ("loss",))

    class Parameter(np.ndarray):
        copy = copies.before(np.ndarray.copy)

    parameters = [p.view(Parameter) for p in model.parameters()]
    model.parameters = lambda: parameters
    stopping(model, 1, {"loss": 2.0})
    first = [np.array(p) for p in parameters]
    parameters[0][...] = 7
    with pytest.raises(MemoryError):
        stopping(model, 2, {"loss": 1.0})
    assert (stopping.best_epoch, stopping.best_value) == (1, 2.0)
    stopping.end(model)
    np.testing.assert_array_equal(parameters[0], first[0])


def test_early_stopping_restores_once(data, backend):
    """The best weights are gone with the end: they would come over those of a later training, and take up memory."""
    model, stopping = network(), fnn.EarlyStopping(monitor="loss")
    model.fit(*data, callbacks=[stopping], **SHORT)
    model.layers[0].weight[...] = 7
    stopping.end(model)
    assert (model.layers[0].weight == 7).all()
