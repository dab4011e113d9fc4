"""Layers and losses that a user writes, in the same fit: what they are told, what they may return, and what not."""

import itertools

import numpy as np
import pytest

import fastnn as fnn
from tests.training import assert_same_weights, labelled, network, weights
from tests.user_code import AbsoluteError, Pairs, UserCrossEntropy, UserLinear, UserReLU

pytestmark = pytest.mark.usefixtures("backend")


@pytest.fixture
def data(rng):
    return labelled(rng)


@pytest.mark.parametrize(("widths", "rows"), [((1, 1 << 15), 32), ((1 << 13, 2), 64), ((1, 3, 1), 100)])
def test_rows_go_through_in_blocks(widths, rows):
    """So many that the widest of all layers, the input included, has half a million elements, but 32 at least."""

    class Wide(Pairs):
        def __init__(self, n_in, n_out):
            self.n_in, self.n_out = n_in, n_out

        def forward(self, x, training=False):
            seen.append(len(x))
            return np.zeros((len(x), self.n_out), x.dtype)

    seen = []
    model = fnn.Sequential(*(Wide(*pair) for pair in itertools.pairwise(widths)))
    model.loss = "squared_error"
    X, y = np.zeros((100, widths[0]), np.float32), np.zeros((100, widths[-1]), np.float32)
    for call in (lambda: model.predict(X), lambda: model.evaluate(X, y)):
        seen.clear()
        call()
        assert sum(seen) == 100 * len(model.layers)
        assert max(seen) == rows


def test_evaluate_holds_the_outputs_of_a_block(monkeypatch):
    """Of built-in layers too, whose kernel would take all rows at once."""
    model = fnn.Sequential(fnn.Linear(1, 1 << 13))
    model.loss, outputs, seen = "squared_error", model._stack.outputs, []
    monkeypatch.setattr(model._stack, "outputs", lambda x: seen.append(len(x)) or outputs(x))
    model.evaluate(np.zeros((100, 1), np.float32), np.zeros((100, 1 << 13), np.float32))
    assert seen == [64, 36]


def test_a_layer_of_unknown_width(data):
    model = fnn.Sequential(fnn.Linear(6, 8), Pairs(), fnn.Linear(4, 6), fnn.Tanh(), Pairs())
    X, y = data
    history = model.fit(X, y, optimizer=fnn.Adam(lr=0.05), epochs=40, validation_data=data, verbose=0)
    assert history["loss"][-1] < history["loss"][0] / 2
    assert model.evaluate(X, y)["accuracy"] == history["val_accuracy"][-1] == np.mean(model.predict(X) == y)
    with pytest.raises(ValueError, match="y holds label 3, but the model has 3 outputs"):
        model.fit(X, y + 1, verbose=0)


def test_layers_know_whether_they_train(data):
    class Recorder(Pairs):
        def forward(self, x, training=False):
            seen.append((training, len(x)))
            return super().forward(x)

    seen = []
    model = fnn.Sequential(fnn.Linear(6, 6), Recorder())
    model.fit(*data, batch_size=25, epochs=1, validation_data=data, verbose=0)
    assert seen == [(False, 1), (True, 25), (True, 25), (False, 50)]


def test_parameters_of_any_layout(data):
    models = []
    for order in "CF":
        layer = UserLinear(np.array(np.arange(18.0).reshape(6, 3) / 20, order=order), np.zeros(6)[::2])
        models.append(fnn.Sequential(layer, dtype="float64"))
        models[-1].fit(*data, optimizer="adam", epochs=2, verbose=0)
    assert_same_weights(*models)
    assert not np.allclose(models[0].parameters()[0], np.arange(18.0).reshape(6, 3) / 20)


def test_a_loss_of_its_own(rng):
    X = rng.normal(size=(60, 2))
    y = X @ [3.0, -1.0]
    model = fnn.Sequential(fnn.Linear(2, 1), dtype="float64")
    schedule = fnn.schedules.exponential_decay(0.1, 0.95)
    history = model.fit(X, y, loss=AbsoluteError(), optimizer=fnn.SGD(lr=schedule), epochs=80, verbose=0)
    assert list(history) == ["loss"]
    np.testing.assert_allclose(model.layers[0].weight.ravel(), [3, -1], atol=0.02)
    np.testing.assert_array_equal(model.predict(X), model.forward(X)[:, 0])
    assert list(model.evaluate(X, y)) == ["loss"]


def test_a_loss_is_given_the_weights(data):
    X, y = data
    model = network()
    v = np.linspace(0, 2, len(y))
    model.loss = UserCrossEntropy()
    expected = fnn.cross_entropy(model.forward(X), y, v)
    assert model.evaluate(X, y, sample_weight=v) == {"loss": pytest.approx(expected)}


def test_a_loss_may_take_any_y():
    class Names(AbsoluteError):
        def forward(self, pred, y):
            return super().forward(pred, (y == "yes") * 1.0)

        def backward(self, pred, y):
            return super().backward(pred, (y == "yes") * 1.0)

    model = fnn.Sequential(fnn.Linear(1, 1))
    model.fit([[0], [1]], ["no", "yes"], loss=Names(), epochs=1, verbose=0)


def test_subclasses_run_their_own_code(data):
    class Doubled(fnn.Linear):
        def forward(self, x, training=False):
            return 2 * super().forward(x, training)

        def backward(self, dy, l2=0.0):
            return super().backward(2 * dy, l2)

    class Scaled(fnn.CrossEntropy):
        def backward(self, scores, y, sample_weight=None):
            return 0 * super().backward(scores, y, sample_weight)

    model = fnn.Sequential(Doubled(6, 3), dtype="float64")
    W, b = model.parameters()
    np.testing.assert_allclose(model.forward(data[0]), 2 * (data[0] @ W + b), rtol=1e-12)
    assert fnn.check_gradients(model, *data) < 1e-8
    before = weights(model)
    model.fit(*data, loss=Scaled(), epochs=1, verbose=0)
    np.testing.assert_array_equal(weights(model), before)
    assert set(model.evaluate(*data)) == {"loss", "accuracy"}


@pytest.mark.parametrize("base", [fnn.SGD, fnn.Adam])
def test_an_optimizer_of_ones_own_makes_its_own_updates(base, data):
    class Signs(base):
        def update(self, stack, lr, t):
            stack.params -= lr * np.sign(stack.gradient)

    models = network(), network()
    models[0].fit(*data, optimizer=Signs(lr=0.01), batch_size=50, shuffle=False, epochs=1, verbose=0)
    scores = models[1].forward(data[0], training=True)
    models[1].backward(fnn.cross_entropy_backward(scores, data[1]))
    for layer in models[1].layers[::2]:
        for p, g in zip(layer.parameters(), layer.gradients(), strict=True):
            p -= 0.01 * np.sign(g)
    assert_same_weights(*models)


@pytest.mark.parametrize(
    ("method", "result", "error", "message"),
    [
        (
            "forward",
            np.zeros((2, 3)),
            ValueError,
            r"forward of Pairs returned shape \(2, 3\), expected \(1, outputs\)",
        ),
        ("forward", None, TypeError, "forward of Pairs is None, expected an array of real numbers"),
        (
            "backward",
            np.zeros((50, 2)),
            ValueError,
            r"backward of Pairs returned shape \(50, 2\), expected \(50, 6\)",
        ),
    ],
)
def test_a_layer_that_returns_nonsense(method, result, error, message, data):
    layer = Pairs()
    setattr(layer, method, lambda *args: result)
    model = fnn.Sequential(fnn.Linear(6, 6), layer)
    before = weights(model)
    with pytest.raises(error, match=message):
        model.fit(*data, batch_size=50, epochs=1, verbose=0)
    np.testing.assert_array_equal(weights(model), before)


@pytest.mark.parametrize(
    ("method", "result", "error", "message"),
    [
        ("forward", np.zeros(2), TypeError, r"forward of AbsoluteError returned .*, expected a number"),
        ("forward", "low", TypeError, "forward of AbsoluteError returned 'low', expected a number"),
        ("backward", np.zeros((2, 2)), ValueError, r"backward of AbsoluteError returned shape \(2, 2\), exp"),
    ],
)
def test_a_loss_that_returns_nonsense(method, result, error, message):
    loss = AbsoluteError()
    setattr(loss, method, lambda *args: result)
    with pytest.raises(error, match=message):
        fnn.Sequential(fnn.Linear(1, 1)).fit([[1], [2]], [1.0, 2.0], loss=loss, epochs=1, verbose=0)


def test_parameters_that_cannot_be_trained(data):
    for weight in (np.ones((6, 3), int), [[1.0]]):
        layer = UserLinear(np.ones((6, 3)), np.zeros(3))
        layer.weight = weight
        with pytest.raises(TypeError, match=r"parameters of .* must be writeable float32 or float64 arrays"):
            fnn.Sequential(layer).fit(*data, verbose=0)


def test_gradients_that_do_not_fit(data):
    layer = UserLinear(np.ones((6, 3)), np.zeros(3))
    layer.gradients = lambda: [layer.weight_grad]
    with pytest.raises(ValueError, match=r"gradients of .* have shapes \[\(6, 3\)\], but its parameters have"):
        fnn.Sequential(layer).fit(*data, verbose=0)


def test_an_attribute_of_a_name_that_ours_have_means_nothing(data):
    """Ours have a tuple of names there, and are handed the penalty for it."""
    models = [fnn.Sequential(fnn.Linear(6, 5), layer, fnn.Linear(5, 3), seed=1) for layer in (UserReLU(), UserReLU())]
    models[0].layers[1].penalised = True
    for model in models:
        model.fit(*data, l2=0.1, epochs=2, verbose=0)
    assert_same_weights(*models, rtol=0)


def test_an_exception_leaves_the_weights_of_the_last_epoch(data):
    class Failing(Pairs):
        calls = 0

        def backward(self, dy):
            self.calls += 1
            if self.calls == 6:
                raise RuntimeError("as a user's code may")
            return super().backward(dy)

    def model(layer):
        return fnn.Sequential(UserLinear(np.ones((6, 6)), np.zeros(6)), fnn.Linear(6, 6), layer, dtype="float64")

    failing, expected = model(Failing()), model(Pairs())
    expected.fit(*data, optimizer="adam", batch_size=25, epochs=2, verbose=0)
    with pytest.raises(RuntimeError, match="as a user's code may"):
        failing.fit(*data, optimizer="adam", batch_size=25, epochs=5, verbose=0)
    assert len(failing.history["loss"]) == 2
    assert_same_weights(failing, expected, rtol=0)
