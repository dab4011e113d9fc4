"""Optimizers and schedules: their updates by hand, whose state they hold, and what they refuse."""

import copy
import math
import pickle
import threading

import numpy as np
import pytest

import fastnn as fnn
from fastnn.nn import optimizers
from tests.user_code import UserLinear, UserSquares

X, Y = [[1.0]], [[0.0]]


def parabola(w=1.0):
    """The model ŷ = w x, whose squared error at (1, 0) is w² with the gradient 2 w."""
    return fnn.Sequential(fnn.Linear(1, 1, init=[[w]], bias=False), dtype="float64")


def step(model, optimizer):
    pred = model.forward(X, training=True)
    model.backward(fnn.squared_error_backward(pred, Y))
    optimizer.step(model)
    return model.parameters()[0].item()


# w after three steps from 1 on w², worked by hand. The velocities are -0.2, -0.26, -0.238 for momentum and
# -0.2, -0.24, -0.208 for Nesterov; Adam and RMSprop without memory move by lr
# along the sign of the gradient, RMSprop with momentum then by 0.1, 0.15 and 0.175.
BY_HAND = [
    (fnn.SGD(lr=0.1), [0.8, 0.64, 0.512]),
    (fnn.SGD(lr=0.1, momentum=0.5), [0.8, 0.54, 0.302]),
    (fnn.SGD(lr=0.1, momentum=0.5, nesterov=True), [0.7, 0.44, 0.248]),
    (fnn.Adam(lr=0.1, beta1=0.0, beta2=0.0, eps=1e-12), [0.9, 0.8, 0.7]),
    (fnn.RMSprop(lr=0.1, alpha=0.0, eps=1e-12), [0.9, 0.8, 0.7]),
    (fnn.RMSprop(lr=0.1, alpha=0.0, eps=1e-12, momentum=0.5), [0.9, 0.75, 0.575]),
]


class ByStep:
    """0.1 over the number of the update, from 1."""

    def __init__(self, per="step", leaps=None):
        self.per, self.leaps, self.asked = per, leaps, []

    def __call__(self, step):
        self.asked.append(step)
        return 1e300 if step == self.leaps else 0.1 / (step + 1)


@pytest.mark.usefixtures("backend")
class TestSteps:
    @pytest.mark.parametrize(("optimizer", "expected"), BY_HAND, ids=lambda v: repr(v)[:40])
    def test_by_hand(self, optimizer, expected):
        optimizer, model = copy.deepcopy(optimizer), parabola()
        np.testing.assert_allclose([step(model, optimizer) for _ in expected], expected, rtol=1e-9)
        assert optimizer.steps == 3

    def test_adam_with_its_moments(self):
        model, optimizer = parabola(), fnn.Adam(lr=0.1)
        w, m, v = 1.0, 0.0, 0.0
        for t in range(1, 5):
            g = 2 * w
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            w -= 0.1 * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
            assert step(model, optimizer) == pytest.approx(w, rel=1e-12)

    @pytest.mark.parametrize("momentum", [0.0, 0.8])
    def test_rmsprop_with_its_mean(self, momentum):
        """As PyTorch writes it: square_avg = α square_avg + (1 - α) g², buf = μ buf + g / (√square_avg + eps)."""
        model, optimizer = parabola(), fnn.RMSprop(lr=0.1, alpha=0.9, eps=1e-3, momentum=momentum)
        w, square_avg, buf = 1.0, 0.0, 0.0
        for _ in range(5):
            g = 2 * w
            square_avg = 0.9 * square_avg + 0.1 * g * g
            buf = momentum * buf + g / (math.sqrt(square_avg) + 1e-3)
            w -= 0.1 * buf
            assert step(model, optimizer) == pytest.approx(w, rel=1e-12)

    def test_state_belongs_to_one_model(self):
        optimizer = fnn.SGD(lr=0.1, momentum=0.5)
        first = parabola()
        step(first, optimizer)
        assert step(parabola(), optimizer) == pytest.approx(0.8)
        assert optimizer.steps == 1
        assert step(first, optimizer) == pytest.approx(0.8 - 0.16)

    def test_another_model_starts_at_the_first_epoch(self):
        optimizer = fnn.SGD(lr=lambda epoch: 0.1 / (epoch + 1))
        step(parabola(), optimizer)
        optimizer.epoch = 3
        assert step(parabola(), optimizer) == pytest.approx(0.8)
        assert optimizer.epoch == 0

    def test_state_does_not_keep_a_model_alive_or_follow_copies(self):
        optimizer, model = fnn.SGD(lr=0.1, momentum=0.5), parabola()
        step(model, optimizer)
        for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
            assert twin.lr == 0.1
            assert step(parabola(), twin) == pytest.approx(0.8)

    def test_one_model_at_a_time(self):
        class Waiting(UserSquares):
            def forward(self, pred, y):
                entered.set()
                assert leave.wait(60)
                return super().forward(pred, y)

        entered, leave = threading.Event(), threading.Event()
        optimizer, first, second = fnn.SGD(lr=0.1, momentum=0.5), parabola(), parabola(3.0)
        settings = {"optimizer": optimizer, "epochs": 3, "verbose": 0}
        thread = threading.Thread(target=lambda: first.fit(X, [0.0], loss=Waiting(), **settings))
        thread.start()
        try:
            assert entered.wait(60)
            with pytest.raises(ValueError, match=r"SGD\(.* is busy training a model .* make an optimizer for each"):
                second.fit(X, Y, loss="squared_error", **settings)
            with pytest.raises(ValueError, match="is busy training a model at this moment"):
                step(second, optimizer)
            assert (second.parameters()[0], second.loss, second.history) == (3, None, {})
        finally:
            leave.set()
            thread.join()
        assert first.parameters()[0].item() == pytest.approx(0.302)
        assert (optimizer.steps, optimizer.belongs_to(first._stack)) == (3, True)
        second.fit(X, Y, loss="squared_error", **settings)
        assert second.parameters()[0].item() == pytest.approx(3 * 0.302)

    def test_a_failed_fit_sets_the_optimizer_free(self):
        class Failing(UserSquares):
            def forward(self, pred, y):
                raise RuntimeError("as a user's code may")

        optimizer = fnn.SGD(lr=0.1)
        with pytest.raises(RuntimeError, match="as a user's"):
            parabola().fit(X, [0.0], loss=Failing(), optimizer=optimizer, verbose=0)
        assert step(parabola(), optimizer) == pytest.approx(0.8)

    def test_learning_rate_of_the_epoch(self):
        optimizer, model = fnn.SGD(lr=lambda epoch: 0.1 / (epoch + 1)), parabola()
        assert step(model, optimizer) == pytest.approx(0.8)
        optimizer.epoch = 1
        assert step(model, optimizer) == pytest.approx(0.72)

    @pytest.mark.parametrize("loss", ["squared_error", UserSquares()], ids=["compiled", "layer by layer"])
    def test_learning_rate_of_the_update(self, loss):
        """w² from 1, a sample a batch: w *= 1 - 2 lr; updates are counted from fit to fit, and in one's own loops."""
        schedule = ByStep()
        optimizer, model = fnn.SGD(lr=schedule), parabola()
        X, y = np.ones((3, 1)), np.zeros(3)
        settings = {"loss": loss, "optimizer": optimizer, "batch_size": 1, "epochs": 2, "verbose": 0}
        model.fit(X, y, **settings)
        model.fit(X[:1], y[:1], **{**settings, "epochs": 1})
        assert step(model, optimizer) == pytest.approx(np.prod([1 - 0.2 / (t + 1) for t in range(8)]), rel=1e-12)
        assert schedule.asked == list(range(8))
        assert optimizer.rate(99) == pytest.approx(0.1 / 9)
        step(parabola(), optimizer)
        assert schedule.asked[-1] == 0

    @pytest.mark.parametrize("loss", ["squared_error", UserSquares()], ids=["compiled", "layer by layer"])
    def test_the_update_that_leaves_the_finite_numbers(self, loss):
        """Update 7, the fourth of the second epoch, leaps; the loss of the batch behind it overflows."""
        model, optimizer = parabola(), fnn.SGD(lr=ByStep(leaps=7))
        with pytest.raises(fnn.DivergenceError) as error:
            model.fit(np.ones((4, 1)), np.zeros(4), loss=loss, optimizer=optimizer, batch_size=1, epochs=9, verbose=0)
        assert (error.value.epoch, error.value.batch) == (2, 0)

    def test_a_users_layer_moves_like_a_built_in_one(self):
        for optimizer, expected in BY_HAND:
            layer = UserLinear(np.asfortranarray(np.ones((1, 1))), np.zeros(1))
            model = fnn.Sequential(layer, dtype="float64")
            optimizer = copy.deepcopy(optimizer)
            layer.bias[0] = 0
            values = []
            for _ in expected:
                values.append(step(model, optimizer))
                layer.bias[0] = 0
            np.testing.assert_allclose(values, expected, rtol=1e-9)

    def test_no_gradients_yet(self):
        with pytest.raises(ValueError, match=r"no gradients yet: call model.backward\(dy\) before optimizer.step"):
            fnn.SGD().step(parabola())

    def test_bad_learning_rate_changes_nothing(self):
        model, optimizer = parabola(), fnn.SGD(lr=lambda epoch: -1)
        with pytest.raises(ValueError, match=r"lr\(0\) is -1, expected a finite number >= 0"):
            step(model, optimizer)
        assert model.parameters()[0] == 1
        assert optimizer.steps == 0

    def test_eps_that_vanishes(self):
        model = fnn.Sequential(fnn.Linear(1, 1))
        with pytest.raises(ValueError, match=r"eps is 1e-60, which vanishes in float32: expected at least 1e-30"):
            step(model, fnn.Adam(eps=1e-60))
        with pytest.raises(ValueError, match=r"eps is 1e-39, which vanishes in float32: expected at least 1e-30"):
            step(model, fnn.RMSprop(eps=1e-39))
        step(parabola(), fnn.Adam(eps=1e-60))
        step(parabola(), fnn.RMSprop(eps=1e-39))


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        (fnn.SGD(momentum=0.5), "momentum"),
        (fnn.SGD(momentum=0.5), "nesterov"),
        (fnn.SGD(), "rule_name"),
        (fnn.SGD(), "n_slots"),
        *[(fnn.Adam(), name) for name in ("beta1", "beta2", "eps", "rule_name", "n_slots")],
        *[(fnn.RMSprop(), name) for name in ("alpha", "eps", "momentum", "rule_name", "n_slots")],
    ],
)
def test_settings_are_fixed(optimizer, name):
    before = getattr(optimizer, name)
    with pytest.raises(AttributeError, match=name):
        setattr(optimizer, name, 0.9)
    assert getattr(optimizer, name) == before


def test_another_learning_rate_is_checked():
    optimizer = fnn.SGD(lr=0.1)
    for lr, error in [(0, ValueError), (np.nan, ValueError), ("fast", TypeError)]:
        with pytest.raises(error, match=r"lr is .*, expected a finite number > 0"):
            optimizer.lr = lr
    assert optimizer.lr == 0.1
    optimizer.lr = lambda epoch: 0.05
    assert step(parabola(), optimizer) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: fnn.SGD(lr=0), ValueError, "lr is 0, expected a finite number > 0"),
        (lambda: fnn.SGD(lr=10**400), ValueError, "lr is inf, expected a finite number > 0"),
        (lambda: fnn.SGD(lr=-(10**400)), ValueError, "lr is -inf, expected a finite number > 0"),
        (lambda: fnn.SGD(lr=-0.1), ValueError, "lr is -0.1, expected a finite number > 0"),
        (lambda: fnn.Adam(lr=np.inf), ValueError, "lr is inf, expected a finite number > 0"),
        (lambda: fnn.SGD(lr="fast"), TypeError, "lr is 'fast', expected a finite number > 0"),
        (lambda: fnn.SGD(lr=None), TypeError, "lr is None, expected a finite number > 0"),
        (lambda: fnn.SGD(momentum=1.0), ValueError, "momentum is 1, expected a finite number >= 0 and < 1"),
        (lambda: fnn.SGD(momentum=-0.1), ValueError, "momentum is -0.1, expected a finite number >= 0 and < 1"),
        (lambda: fnn.SGD(nesterov=True), ValueError, "nesterov=True needs a momentum > 0"),
        (lambda: fnn.SGD(momentum=0.9, nesterov=1), TypeError, "nesterov is 1, expected True or False"),
        (lambda: fnn.Adam(beta1=1.0), ValueError, "beta1 is 1, expected a finite number >= 0 and < 1"),
        (lambda: fnn.Adam(beta2=-1), ValueError, "beta2 is -1, expected a finite number >= 0 and < 1"),
        (lambda: fnn.Adam(eps=0), ValueError, "eps is 0, expected a finite number > 0"),
        (lambda: fnn.SGD(lr=ByStep("batch")), ValueError, "lr.per is 'batch', expected 'epoch' or 'step'"),
        (lambda: fnn.RMSprop(lr=0), ValueError, "lr is 0, expected a finite number > 0"),
        (lambda: fnn.RMSprop(alpha=1), ValueError, "alpha is 1, expected a finite number >= 0 and < 1"),
        (lambda: fnn.RMSprop(eps=0), ValueError, "eps is 0, expected a finite number > 0"),
        (lambda: fnn.RMSprop(momentum=1), ValueError, "momentum is 1, expected a finite number >= 0 and < 1"),
        (lambda: fnn.SGD(lr=lambda epoch: None).rate(3), TypeError, r"lr\(3\) is None, expected a finite number >= 0"),
        (
            lambda: optimizers.resolve("adagrad"),
            ValueError,
            "optimizer is 'adagrad', expected 'sgd', 'adam', 'adamw', 'rmsprop' or an obj",
        ),
        (
            lambda: optimizers.resolve(fnn.SGD),
            TypeError,
            "optimizer is <class .*, expected 'sgd', 'adam', 'adamw', 'rmsprop' or an object",
        ),
    ],
)
def test_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_repr():
    assert repr(fnn.SGD(0.1, 0.9, True)) == "SGD(lr=0.1, momentum=0.9, nesterov=True)"
    assert repr(fnn.RMSprop(momentum=0.5)) == "RMSprop(lr=0.01, alpha=0.99, eps=1e-08, momentum=0.5)"
    assert repr(fnn.Adam()) == "Adam(lr=0.001, beta1=0.9, beta2=0.999, eps=1e-08)"
