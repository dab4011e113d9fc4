"""check_gradients passes right gradients and finds every kind of wrong one."""

import numpy as np
import pytest

import fastnn as fnn
from tests.cases import each_pair
from tests.user_code import AbsoluteError, Pairs, UserCrossEntropy, UserLinear, UserReLU

ACTIVATIONS = [
    *(fnn.Identity, fnn.ReLU, fnn.LeakyReLU, fnn.Tanh, fnn.Sigmoid, fnn.GELU, lambda: fnn.GELU("tanh"), UserReLU),
    *(fnn.SiLU, fnn.Mish, lambda: fnn.ELU(0.7), fnn.SELU, fnn.Softplus, fnn.HardSwish),
]
LOSSES = ["cross_entropy", "squared_error", "own"]


@pytest.fixture
def data(rng):
    return rng.normal(size=(7, 4)), rng.integers(3, size=7)


def network(activation, dtype="float32"):
    return fnn.Sequential(fnn.Linear(4, 6), activation, fnn.Linear(6, 3, bias=False), dtype=dtype)


@pytest.mark.usefixtures("backend")
class TestRight:
    @pytest.mark.parametrize(("activation", "loss", "dtype"), each_pair(ACTIVATIONS, LOSSES, ["float32", "float64"]))
    def test_layers_and_losses(self, activation, loss, data, dtype):
        X, y = data
        loss = UserCrossEntropy() if loss == "own" else loss
        y = np.eye(3)[y] if loss == "squared_error" else y
        assert fnn.check_gradients(network(activation(), dtype), X, y, loss=loss, l2=0.1) < 1e-7

    def test_users_layers_are_widened(self, data, rng):
        X, y = data
        layer = UserLinear(rng.normal(size=(4, 6)).astype(np.float32), np.zeros(6, np.float32))
        model = fnn.Sequential(layer, Pairs(), fnn.Linear(3, 3))
        assert fnn.check_gradients(model, X, y) < 1e-7
        assert layer.weight.dtype == np.float32

    def test_loss_of_the_model(self, data):
        X, _ = data
        model = fnn.Sequential(fnn.Linear(4, 1))
        model.loss = AbsoluteError()
        assert fnn.check_gradients(model, X, np.zeros(7)) < 1e-7

    def test_model_and_data_are_left_alone(self, data):
        model, (X, y) = network(fnn.Tanh()), data
        before = [p.copy() for p in model.parameters()], X.copy()
        fnn.check_gradients(model, X, y, n_checks=3)
        for now, then in zip(model.parameters(), before[0], strict=True):
            np.testing.assert_array_equal(now, then)
        np.testing.assert_array_equal(X, before[1])
        assert model.layers[0].weight_grad is None

    def test_no_gradient_at_all(self):
        model = fnn.Sequential(fnn.Linear(2, 3, init="zeros"), fnn.ReLU(), fnn.Linear(3, 1, init="zeros"))
        assert fnn.check_gradients(model, [[1.0, 2.0]], [[0.0]], loss="squared_error") == 0


@pytest.mark.usefixtures("backend")
class TestWrong:
    def test_one_weight_of_many(self, data):
        class Wrong(UserLinear):
            def backward(self, dy):
                dx = super().backward(dy)
                self.weight_grad[2, 3] *= 1.5
                return dx

        model = fnn.Sequential(Wrong(np.ones((4, 6)) / 3, np.zeros(6)), fnn.Tanh(), fnn.Linear(6, 3))
        assert fnn.check_gradients(model, *data) > 1e-3

    def test_gradient_of_the_input(self, data):
        class Wrong(Pairs):
            def backward(self, dy):
                return 1.01 * super().backward(dy)

        assert fnn.check_gradients(fnn.Sequential(Wrong(), fnn.Linear(2, 3)), *data) > 5e-3

    def test_loss(self, data):
        class Wrong(UserCrossEntropy):
            def backward(self, scores, y):
                return 2 * super().backward(scores, y)

        assert fnn.check_gradients(network(fnn.Tanh()), *data, loss=Wrong()) > 0.4

    def test_a_gradient_that_is_zero(self, data):
        class Dead(UserReLU):
            def backward(self, dy):
                return 0 * dy

        assert fnn.check_gradients(network(Dead()), *data) == pytest.approx(1)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"loss": "hinge"}, ValueError, "loss is 'hinge', expected"),
        ({"l2": -1}, ValueError, "l2 is -1, expected a finite number >= 0"),
        ({"n_checks": 0}, ValueError, "n_checks is 0, expected a positive integer"),
    ],
)
def test_refused(settings, error, message, data):
    with fnn.use_backend("numpy"), pytest.raises(error, match=message):
        fnn.check_gradients(network(fnn.ReLU()), *data, **settings)
    with fnn.use_backend("numpy"), pytest.raises(ValueError, match="y holds label 5, but the model has 3 outputs"):
        fnn.check_gradients(network(fnn.ReLU()), data[0], data[1] * 0 + 5)
