"""Frozen layers, and layers with a learning rate of their own: what training leaves alone, and what it moves less."""

import copy
import pickle

import numpy as np
import pytest

import fastnn as fnn
from tests.many import OPTIMIZERS, labelled
from tests.user_code import UserCrossEntropy, UserLinear, UserReLU

SETTINGS = {"epochs": 3, "batch_size": 16, "shuffle": False, "verbose": 0, "l2": 0.01}


class Fixed(fnn.Layer):
    """x W + b as a function, which has no parameters."""

    def __init__(self, weight, bias):
        self.weight, self.bias = weight.copy(), bias.copy()
        self.n_in, self.n_out = weight.shape

    def forward(self, x, training=False):
        return x @ self.weight + self.bias

    def backward(self, dy):
        return dy @ self.weight.T


@pytest.fixture
def data(rng):
    return labelled(rng)


def network(frozen=(), activation=fnn.Tanh, **settings):
    """Three linear layers with activations between, some of them frozen."""
    shapes = (6, 8), (8, 7), (7, 3)
    layers = []
    for i, shape in enumerate(shapes):
        layers += [fnn.Linear(*shape, trainable=i not in frozen, **settings), activation()]
    return fnn.Sequential(*layers[:-1], dtype="float64", seed=1)


def linear(model):
    return [layer for layer in model.layers if isinstance(layer, fnn.Linear)]


@pytest.mark.usefixtures("backend")
class TestTraining:
    @pytest.mark.parametrize("name", OPTIMIZERS)
    @pytest.mark.parametrize("activation", [fnn.ReLU, UserReLU])
    def test_behind_frozen_layers_it_is_training_on_what_they_give(self, activation, name, data):
        X, y = data
        model = network(frozen=(0, 1), activation=activation)
        before = [p.copy() for p in model.parameters()]
        last = linear(model)[-1]
        head = fnn.Sequential(fnn.Linear(7, 3, init=last.weight.copy(), bias=last.bias.copy()), dtype="float64")
        features = fnn.Sequential(*copy.deepcopy(model.layers[:-1]), dtype="float64")
        for layer, twin in zip(features.layers, model.layers, strict=False):
            if isinstance(layer, fnn.Linear):
                layer.weight, layer.bias = twin.weight, twin.bias
        optimizer = OPTIMIZERS[name]()
        history = model.fit(X, y, optimizer=optimizer, **SETTINGS)
        expected = head.fit(features.forward(X), y, optimizer=OPTIMIZERS[name](), **SETTINGS)
        np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-9)
        np.testing.assert_allclose(last.weight, head.layers[0].weight, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(last.bias, head.layers[0].bias, rtol=1e-7, atol=1e-9)
        for now, then in zip(model.parameters()[:4], before[:4], strict=True):
            np.testing.assert_array_equal(now, then)
        state = optimizer.state()[0]
        assert not state[:, : model._stack.spans[4]["weight"]].any()
        assert not np.array_equal(last.weight, before[4])

    @pytest.mark.parametrize("name", ["sgd", "adamw"])
    @pytest.mark.parametrize("place", [1, 2])
    def test_gradients_go_back_through_frozen_layers(self, place, name, data):
        X, y = data
        model = network(frozen=(place,))
        twin = copy.deepcopy(model)
        layers = list(twin.layers)
        layers[2 * place] = Fixed(layers[2 * place].weight, layers[2 * place].bias)
        starts = [(layer.weight.copy(), layer.bias.copy()) for layer in layers if isinstance(layer, fnn.Linear)]
        fresh = [fnn.Linear(*w.shape, init=w, bias=b) for w, b in starts]
        fixed = [fresh.pop(0) if isinstance(layer, fnn.Linear) else copy.deepcopy(layer) for layer in layers]
        expected = fnn.Sequential(*fixed, dtype="float64")
        histories = [m.fit(X, y, optimizer=OPTIMIZERS[name](), **SETTINGS) for m in (model, expected)]
        np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-9)
        ours = [p for i, layer in enumerate(linear(model)) if i != place for p in layer.parameters()]
        for p, q in zip(ours, expected.parameters(), strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-7, atol=1e-9)

    def test_a_frozen_normalisation_keeps_its_parameters(self, data):
        layers = fnn.Linear(6, 5), fnn.LayerNorm(5, trainable=False), fnn.Linear(5, 3)
        model = fnn.Sequential(*layers, dtype="float64")
        model.layers[1].weight, model.layers[1].bias = np.arange(1.0, 6), np.full(5, 0.5)
        model.fit(*data, optimizer="adam", **SETTINGS)
        np.testing.assert_array_equal(model.layers[1].weight, np.arange(1.0, 6))
        np.testing.assert_array_equal(model.layers[1].bias, 0.5)

    @pytest.mark.parametrize("activation", [fnn.Tanh, UserReLU])
    def test_what_no_rule_updates(self, activation, data):
        """A rule that moves even what has no gradient; the running variance stays at its start without a momentum."""
        X, y = data
        layers = fnn.Linear(6, 5, init="zeros", bias=False, trainable=False), fnn.BatchNorm(5, momentum=1e-300)
        model = fnn.Sequential(*layers, activation(), fnn.Linear(5, 3), dtype="float64")
        rule = fnn.UpdateRule(lambda w, g, lr, t: w - lr, lr=0.1)
        model.fit(X, y, optimizer=rule, **{**SETTINGS, "batch_size": 20})
        np.testing.assert_allclose(model.layers[1].weight, 1 - 0.9)
        np.testing.assert_array_equal(model.layers[1].running_variance, 1)

    def test_a_users_layers(self, data, rng):
        """By an attribute of the class or of the object; the way back ends at the first that trains."""

        class Frozen(UserLinear):
            trainable = False

            def backward(self, dy):
                raise AssertionError("there is nothing to train here")

        first = Frozen(rng.normal(size=(6, 8)), np.zeros(8))
        last = UserLinear(rng.normal(size=(8, 3)), np.zeros(3))
        model = fnn.Sequential(first, fnn.Tanh(), fnn.Linear(8, 8), last, dtype="float64")
        last.trainable = False
        before = [p.copy() for p in model.parameters()]
        model.fit(*data, optimizer="adam", **SETTINGS)
        moved = [not np.array_equal(now, then) for now, then in zip(model.parameters(), before, strict=True)]
        assert moved == [False, False, True, True, False, False]

    @pytest.mark.parametrize("activation", [fnn.Tanh, UserReLU])
    def test_flags_count_from_the_next_epoch_on(self, activation, data):
        model, seen = network(activation=activation), []
        first = model.layers[0]
        first.trainable = False

        def thaw(model, epoch, values):
            seen.append(first.weight.copy())
            first.trainable = epoch >= 2

        start = first.weight.copy()
        model.fit(*data, callbacks=[thaw], **SETTINGS)
        np.testing.assert_array_equal(seen[0], start)
        np.testing.assert_array_equal(seen[1], start)
        assert not np.array_equal(seen[2], start)
        first.trainable = False
        kept = first.weight.copy()
        model.fit(*data, **SETTINGS)
        np.testing.assert_array_equal(first.weight, kept)

    def test_a_loop_of_ones_own(self, data):
        X, y = data
        model, optimizer = network(frozen=(0,)), fnn.AdamW(weight_decay=0.5)
        before = [p.copy() for p in model.parameters()]
        for _ in range(3):
            model.backward(fnn.cross_entropy_backward(model.forward(X, training=True), y), l2=0.1)
            optimizer.step(model)
        moved = [not np.array_equal(now, then) for now, then in zip(model.parameters(), before, strict=True)]
        assert moved == [False, False, True, True, True, True]

    def test_a_frozen_residual_freezes_what_it_is_made_of(self, data):
        block = fnn.Residual(fnn.Linear(6, 6), fnn.Tanh(), fnn.Linear(6, 6, lr_scale=0.5))
        model = fnn.Sequential(block, fnn.Linear(6, 3), dtype="float64")
        block.trainable = False
        before = [p.copy() for p in model.parameters()]
        history = model.fit(*data, **SETTINGS)
        moved = [not np.array_equal(now, then) for now, then in zip(model.parameters(), before, strict=True)]
        assert moved == [False] * 4 + [True] * 2
        own = fnn.Sequential(fnn.Residual(*map(as_users, block.layers)), fnn.Linear(6, 3), dtype="float64")
        own.layers[0].trainable = False
        for p, q in zip(own.parameters(), before, strict=True):
            p[...] = q
        np.testing.assert_allclose(own.fit(*data, **SETTINGS)["loss"], history["loss"], rtol=1e-9)

    @pytest.mark.parametrize("loss", [fnn.CrossEntropy(), UserCrossEntropy()], ids=["compiled", "layer by layer"])
    def test_it_freezes_what_normalises_batches(self, loss, data):
        """Running means stay, batches are normalised by them, and one sample may be a batch, however deep it is."""
        X, y = data
        inner = fnn.BatchNorm(6)
        block = fnn.Residual(fnn.Residual(fnn.Linear(6, 6), inner), trainable=False)
        model = fnn.Sequential(block, fnn.Linear(6, 3), dtype="float64")
        np.testing.assert_array_equal(model.forward(X, training=True), model.forward(X))
        model.fit(X, y, loss=loss, **{**SETTINGS, "batch_size": len(X) - 1})
        assert not inner.running_mean.any()
        block.trainable = True
        model.fit(X, y, loss=loss, **SETTINGS)
        assert inner.running_mean.all()
        free = fnn.BatchNorm(6)
        fnn.Residual(free, trainable=False)
        assert fnn.Sequential(free).layers[0].learns

    def test_gradients_are_those_of_the_loss_without_the_frozen_weights(self, data):
        X, y = data
        assert fnn.check_gradients(network(frozen=(0, 2)), X[:8], y[:8], l2=0.3) < 1e-7

    def test_values_that_are_not_finite_do_not_pass_a_frozen_layer(self, data):
        """A rectifier would make 0 of -inf, and no weight would show it."""
        X, y = data
        model = fnn.Sequential(fnn.Linear(6, 4, init=-np.ones((6, 4)), trainable=False), fnn.ReLU(), fnn.Linear(4, 3))
        X[7, 2] = np.inf
        with pytest.raises(ValueError, match="X holds NaN or infinite values"):
            model.fit(X, y, **SETTINGS)

    def test_many_networks_at_once(self, data):
        models = [network(frozen=(i % 3,), lr_scale=0.5 + i / 8) for i in range(9)]
        twins = copy.deepcopy(models)
        settings = {**SETTINGS, "optimizer": "adamw"}
        fnn.fit_many(models, *data, **settings)
        for model, twin in zip(models, twins, strict=True):
            twin.fit(*data, **settings)
            np.testing.assert_array_equal(model._stack.params, twin._stack.params)
            assert model.history == twin.history


def as_users(layer):
    """A layer that does the same, of a user's own class."""
    copied = copy.deepcopy(layer)
    copied.__class__ = type(f"Own{type(layer).__name__}", (type(layer),), {})
    return copied


@pytest.mark.usefixtures("backend")
class TestScales:
    @pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ("function", "by step", "schedule")])
    @pytest.mark.parametrize("activation", [fnn.Tanh, UserReLU])
    def test_half_of_twice_the_rate(self, activation, name, data):
        """A layer at half the rate, and the others at a quarter, of an optimizer with twice and four times the rate."""
        model, twin = network(activation=activation), network(activation=activation)
        for layer in twin.layers:
            layer.lr_scale = 0.5
        optimizer, doubled = OPTIMIZERS[name](), OPTIMIZERS[name]()
        doubled.lr = 2 * optimizer.lr
        histories = [m.fit(*data, optimizer=o, **SETTINGS) for m, o in ((model, optimizer), (twin, doubled))]
        assert histories[0]["loss"] == histories[1]["loss"]
        np.testing.assert_array_equal(model._stack.params, twin._stack.params)

    def test_each_layer_has_its_own(self):
        """One step of SGD: w -= lr scale dw, the gradients from a backward pass of the same network."""
        layers = [fnn.Linear(4, 4, lr_scale=scale) for scale in (0.0, 0.25, 1.0, 3.0)]
        model = fnn.Sequential(*layers, dtype="float64")
        X, y = np.eye(4), np.arange(4)
        before = [p.copy() for p in model.parameters()]
        model.backward(fnn.cross_entropy_backward(model.forward(X, training=True), y), l2=0.1)
        gradients = [g.copy() for layer in layers for g in layer.gradients()]
        expected = [
            p - 0.5 * scale * g
            for p, g, scale in zip(before, gradients, np.repeat([0.0, 0.25, 1.0, 3.0], 2), strict=True)
        ]
        stepped = copy.deepcopy(model)
        stepped.forward(X, training=True)
        stepped.backward(fnn.cross_entropy_backward(stepped.forward(X, training=True), y), l2=0.1)
        fnn.SGD(lr=0.5).step(stepped)
        model.fit(X, y, optimizer=fnn.SGD(lr=0.5), l2=0.1, epochs=1, batch_size=4, verbose=0)
        for trained in (model, stepped):
            for p, q in zip(trained.parameters(), expected, strict=True):
                np.testing.assert_allclose(p, q, rtol=1e-12, atol=1e-15)

    def test_a_users_layer(self, data, rng):
        weight = rng.normal(size=(6, 3))
        slow, fast = UserLinear(weight.copy(), np.zeros(3)), UserLinear(weight.copy(), np.zeros(3))
        slow.lr_scale = 0.5
        for layer, lr in ((slow, 0.2), (fast, 0.1)):
            fnn.Sequential(layer, dtype="float64").fit(*data, optimizer=fnn.SGD(lr, momentum=0.5), **SETTINGS)
        np.testing.assert_array_equal(slow.weight, fast.weight)


@pytest.mark.parametrize("activation", [fnn.Tanh, UserReLU])
def test_the_profile_has_no_way_back_to_what_is_frozen(activation, data, backend):
    profile = fnn.profile(network(frozen=(0, 1), activation=activation), *data, seconds=0.01)
    times = {(part.layer, part.phase): part.seconds for part in profile.parts}
    # A layer of the user's own may do more on the way back than it says.
    before = (0, 1, 2, 3) if activation is fnn.Tanh else (0,)
    assert not any(times.get((layer, "backward"), 0) for layer in before)
    assert not any(times.get((layer, "update"), 0) for layer in (0, 2))
    assert times[0, "forward"] > 0


class TestDeclared:
    def test_shown_and_counted(self):
        model = fnn.Sequential(
            fnn.Linear(4, 6, trainable=False), fnn.LayerNorm(6, lr_scale=0.1), UserLinear(np.ones((6, 3)), np.ones(3))
        )
        model.layers[2].trainable = False
        text = model.summary()
        assert "Linear(4, 6, trainable=False)" in text
        assert "LayerNorm(6, 1e-05, lr_scale=0.1)" in text
        assert "UserLinear, frozen" in text
        assert "63 parameters, 12 of them trainable, float32" in text
        assert "trainable" not in network().summary()

    @pytest.mark.parametrize("through", [pickle, copy, "file"], ids=["pickle", "copy", "file"])
    def test_kept_in_copies_and_files(self, through, tmp_path):
        inner = fnn.Linear(6, 6, lr_scale=0.25)
        model = fnn.Sequential(fnn.Linear(4, 6, trainable=False), fnn.Residual(inner), fnn.LayerNorm(6, lr_scale=2))
        model.layers[1].trainable = False
        if through == "file":
            model.save(tmp_path / "m.npz")
            same = fnn.load(tmp_path / "m.npz")
        else:
            same = pickle.loads(pickle.dumps(model)) if through is pickle else copy.deepcopy(model)
        assert repr(same) == repr(model)
        assert "Residual(Linear(6, 6, lr_scale=0.25), trainable=False)" in repr(same)
        assert same._stack.rates == [None, None, 2.0]

    def test_the_format_of_files(self, tmp_path):
        for settings, expected in (({}, 1), ({"trainable": False}, 5), ({"lr_scale": 0.5}, 5)):
            fnn.Sequential(fnn.Linear(4, 6, **settings)).save(tmp_path / "m.npz")
            with np.load(tmp_path / "m.npz") as archive:
                assert f'"format": {expected}' in str(archive["header"])

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda: fnn.Linear(2, 2, trainable=0), TypeError, "trainable is 0, expected True or False"),
            (lambda: fnn.Linear(2, 2, lr_scale=-1), ValueError, "lr_scale is -1, expected a finite number >= 0"),
            (lambda: fnn.LayerNorm(2, lr_scale="slow"), TypeError, "lr_scale is 'slow', expected a finite number >= 0"),
            (lambda: setattr(network().layers[0], "trainable", None), TypeError, "trainable is None, expected True"),
        ],
    )
    def test_refused(self, call, error, message):
        with pytest.raises(error, match=message):
            call()

    def test_a_users_attributes_are_checked_before_anything_changes(self, data):
        layer = UserLinear(np.ones((6, 3)), np.zeros(3))
        model = fnn.Sequential(layer)
        for name, value, error, message in [
            ("trainable", "no", TypeError, "trainable of .*UserLinear object.* is 'no', expected True or False"),
            ("lr_scale", -1, ValueError, "lr_scale of .*UserLinear object.* is -1, expected a finite number >= 0"),
        ]:
            setattr(layer, name, value)
            with pytest.raises(error, match=message):
                model.fit(*data, verbose=0)
            delattr(layer, name)
        np.testing.assert_array_equal(layer.weight, 1)

    @pytest.mark.parametrize("activation", [fnn.Tanh, UserReLU])
    def test_nothing_is_left_to_train(self, activation, data):
        model = network(frozen=(0, 1, 2), activation=activation)
        with pytest.raises(ValueError, match="all layers with parameters are frozen: set trainable=True for those"):
            model.fit(*data, verbose=0)
        assert model.history == {}
