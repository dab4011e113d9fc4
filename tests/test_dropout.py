"""Dropout: which units, in which passes, and the same training by hand, layer by layer, on either twin and reloaded."""

import copy
import itertools
import json
import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastnn as fnn
from fastnn.backend import active
from fastnn.nn.lowering import OptimizerSpec
from fastnn.reference.dropout import keeps, key_of
from tests.networks import batches, build, objective
from tests.training import assert_same_weights, labelled, weights
from tests.user_code import Pairs, UserCrossEntropy, UserReLU

pytestmark = pytest.mark.usefixtures("backend")


@pytest.fixture
def data(rng):
    return labelled(rng)


def network(*, activation=None, **settings):
    layers = fnn.Dropout(0.1), fnn.Linear(6, 40), activation or fnn.ReLU(), fnn.Dropout(0.5), fnn.Linear(40, 3)
    return fnn.Sequential(*layers, **{"dtype": "float64", **settings})


def drawn(model):
    """The integers that the model's generator will give."""
    rng = copy.deepcopy(model._stack.rng)
    while True:
        yield int(rng.integers(1 << 63))


def train_by_hand(model, X, y, masks, lr=0.1, batch_size=16, epochs=2):
    """The weights of network() after plain SGD, in NumPy; masks(t, i, m, n) are those of update t and layer i."""
    w1, b1, w2, b2 = (p.copy() for p in model.parameters())
    losses, t = [], 0
    for _ in range(epochs):
        total = 0.0
        for start in range(0, len(X), batch_size):
            t += 1
            x, labels = X[start : start + batch_size], y[start : start + batch_size]
            m = len(x)
            x = x * masks(t, 0, m, 6) / 0.9
            z = x @ w1 + b1
            mask = masks(t, 3, m, 40) / 0.5
            h = np.maximum(z, 0) * mask
            p = np.exp(h @ w2 + b2)
            p /= p.sum(axis=1, keepdims=True)
            total -= np.log(p[np.arange(m), labels]).sum()
            ds = (p - np.eye(3)[labels]) / m
            dz = ds @ w2.T * mask * (z > 0)
            for parameter, gradient in ((w1, x.T @ dz), (b1, dz.sum(0)), (w2, h.T @ ds), (b2, ds.sum(0))):
                parameter -= lr * gradient
        losses.append(total / len(X))
    return np.concatenate([w.ravel() for w in (w1, b1, w2, b2)]), losses


class TestTraining:
    def test_compiled_as_by_hand(self, data):
        """The ops of the network are those of the layers, less the ReLU, which belongs to its linear layer."""
        model = network()
        seed = next(drawn(model))
        expected, losses = train_by_hand(
            model, *data, lambda t, i, m, n: keeps(key_of(seed, t, {0: 0, 3: 2}[i]), m, n, {0: 0.1, 3: 0.5}[i])
        )
        history = model.fit(*data, optimizer=fnn.SGD(0.1), epochs=2, batch_size=16, shuffle=False, verbose=0)
        np.testing.assert_allclose(weights(model), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(history["loss"], losses, rtol=1e-9)

    @pytest.mark.parametrize("part", ["layer", "loss", "optimizer"])
    def test_layer_by_layer_as_by_hand(self, part, data):
        class UserSGD(fnn.SGD):
            pass

        model = network(activation=UserReLU() if part == "layer" else None)
        keys = drawn(model)
        expected, losses = train_by_hand(model, *data, lambda t, i, m, n: keeps(next(keys), m, n, {0: 0.1, 3: 0.5}[i]))
        history = model.fit(
            *data,
            loss=UserCrossEntropy() if part == "loss" else "cross_entropy",
            optimizer=UserSGD(0.1) if part == "optimizer" else fnn.SGD(0.1),
            epochs=2,
            batch_size=16,
            shuffle=False,
            verbose=0,
        )
        np.testing.assert_allclose(weights(model), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(history["loss"], losses, rtol=1e-9)

    def test_step_by_step_as_by_hand(self, data):
        X, y = data
        model, optimizer = network(), fnn.SGD(0.1)
        keys = drawn(model)
        expected, _ = train_by_hand(model, X, y, lambda t, i, m, n: keeps(next(keys), m, n, {0: 0.1, 3: 0.5}[i]))
        for start in [*range(0, 50, 16)] * 2:
            scores = model.forward(X[start : start + 16], training=True)
            model.backward(fnn.cross_entropy_backward(scores, y[start : start + 16]))
            optimizer.step(model)
        np.testing.assert_allclose(weights(model), expected, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("activation", [fnn.ReLU, UserReLU])
    def test_the_seed_decides(self, activation, data):
        settings = {"epochs": 2, "batch_size": 16, "verbose": 0, "optimizer": "adam"}
        models = [network(activation=activation(), seed=seed) for seed in (3, 3, 3)]
        models[2]._stack.rng.random()
        for model in models:
            model.fit(*data, shuffle=False, **settings)
        assert_same_weights(*models[:2], rtol=0)
        assert not np.allclose(weights(models[0]), weights(models[2]))

    def test_another_fit_drops_other_units(self, data):
        """With lr almost 0 the weights stay, and the losses differ by their masks alone."""
        model = network()
        losses = []
        for _ in range(2):
            losses += model.fit(*data, optimizer=fnn.SGD(1e-12), epochs=2, shuffle=False, verbose=0)["loss"]
        assert len({round(loss, 6) for loss in losses}) == 4

    def test_nothing_is_drawn_where_nothing_is_dropped(self, data):
        model = fnn.Sequential(fnn.Linear(6, 3))
        before = model._stack.rng.bit_generator.state
        model.fit(*data, shuffle=False, epochs=2, verbose=0)
        model.forward(data[0], training=True)
        assert model._stack.rng.bit_generator.state == before

    def test_a_refused_fit_draws_nothing(self, data):
        X, y = data
        model = fnn.Sequential(fnn.Linear(6, 8), fnn.Dropout(0.5), fnn.Linear(8, 3))
        before = model._stack.rng.bit_generator.state
        with pytest.raises(ValueError, match="X holds NaN or infinite values"):
            model.fit(np.where(X > 1, np.nan, X), y, verbose=0)
        assert model._stack.rng.bit_generator.state == before

    @pytest.mark.parametrize("layer", [fnn.Identity, UserReLU])
    def test_divergence_is_found_where_the_unit_was_kept(self, layer):
        """x = 1e30 overflows in the first batch whose one unit stays."""
        model = fnn.Sequential(fnn.Linear(1, 1, init=[[1]], bias=False), layer(), fnn.Dropout(0.9))
        keys = drawn(model)
        if layer is fnn.Identity:
            seed = next(keys)
            keys = (key_of(seed, t, 1) for t in range(1, 41))
        kept = [bool(keeps(key, 1, 1, 0.9)) for key in itertools.islice(keys, 40)]
        assert 0 < kept.index(True) < 39
        with pytest.raises(fnn.DivergenceError) as caught:
            model.fit(
                np.full((40, 1), 1e30), np.zeros(40), loss="squared_error", batch_size=1, shuffle=False, verbose=0
            )
        assert caught.value.batch == kept.index(True)
        assert model.layers[0].weight == 1

    def test_a_rate_of_zero_changes_nothing(self, data):
        X, y = data
        models = [
            fnn.Sequential(fnn.Linear(6, 9), *drop, fnn.Tanh(), fnn.Linear(9, 3)) for drop in ([], [fnn.Dropout(0)])
        ]
        for model in models:
            model.fit(X, y, epochs=2, shuffle=False, verbose=0)
        assert_same_weights(*models, rtol=1e-6)


def test_threads_make_no_difference(rng):
    X, y = rng.normal(size=(512, 300)).astype(np.float32), rng.integers(10, size=512)
    models, before = [], fnn.get_num_threads()
    try:
        for threads in (1, 2, 3):
            fnn.set_num_threads(threads)
            layers = fnn.Dropout(0.2), fnn.Linear(300, 256), fnn.ReLU(), fnn.Dropout(0.5), fnn.Linear(256, 10)
            models.append(fnn.Sequential(*layers))
            with fnn.use_backend("numba"):
                models[-1].fit(X, y, batch_size=128, epochs=2, verbose=0)
    finally:
        fnn.set_num_threads(before)
    for model in models[1:]:
        assert_same_weights(models[0], model, rtol=0)


def test_a_share_of_a_batch_drops_what_its_rows_do_in_the_whole(rng):
    network, params = build((6, [("dropout", 0.3), 9, "tanh", ("dropout", 0.5), 3]), rng, np.float64)
    x, y = rng.normal(size=(12, 6)), rng.integers(0, 3, 12)

    def gradient(start, end, row):
        """The sum over these samples."""
        rule = OptimizerSpec("accumulate", (1.0,), np.zeros((1, len(params))), 4)
        taken = batches(x, y, end - start, order=range(start, end))
        active().train_epoch(network._replace(row=row), params, taken, objective("cross_entropy"), rule, None)
        return rule.slots[0]

    whole, first = gradient(0, 12, 0), gradient(0, 5, 0)
    np.testing.assert_allclose(first + gradient(5, 12, 5), whole, rtol=1e-9, atol=1e-12)
    assert np.abs(first + gradient(5, 12, 0) - whole).max() > 0.1


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-9), ("float32", 2e-4)])
@pytest.mark.parametrize("activation", [fnn.ReLU, UserReLU])
def test_twins_train_alike(activation, dtype, rtol, data):
    models = []
    for name in ("numba", "numpy"):
        with fnn.use_backend(name):
            models.append(network(activation=activation(), dtype=dtype))
            models[-1].fit(*data, optimizer=fnn.SGD(0.05, 0.9), epochs=3, batch_size=16, verbose=0)
    assert_same_weights(*models, rtol=rtol)


PLACES = {
    "first": lambda: [fnn.Dropout(0.3), fnn.Linear(6, 3)],
    "last": lambda: [fnn.Linear(6, 3), fnn.Dropout(0.3)],
    "twice in a row": lambda: [fnn.Linear(6, 8), fnn.Dropout(0.3), fnn.Dropout(0.2), fnn.Linear(8, 3)],
    "before the activation": lambda: [fnn.Linear(6, 8), fnn.Dropout(0.3), fnn.Tanh(), fnn.Linear(8, 3)],
    "after two activations": lambda: [fnn.Linear(6, 8), fnn.Tanh(), fnn.ReLU(), fnn.Dropout(0.3), fnn.Linear(8, 3)],
    "around an activation": lambda: [fnn.Dropout(0.1), fnn.Tanh(), fnn.Dropout(0.1), fnn.Linear(6, 3)],
    "among a user's layers": lambda: [fnn.Linear(6, 8), fnn.Dropout(0.3), Pairs(), fnn.Dropout(0.1), fnn.Linear(4, 3)],
}


@pytest.mark.parametrize("place", PLACES)
class TestPlaces:
    def test_all_units_predict(self, place, data):
        X, y = data
        model = fnn.Sequential(*PLACES[place](), dtype="float64")
        model.fit(X, y, epochs=2, validation_data=data, verbose=0)
        without = fnn.Sequential(
            *(layer for layer in PLACES[place]() if not isinstance(layer, fnn.Dropout)), dtype="float64"
        )
        without.loss = "cross_entropy"
        for ours, theirs in zip(without.parameters(), model.parameters(), strict=True):
            ours[...] = theirs
        np.testing.assert_array_equal(model.forward(X), without.forward(X))
        if model._stack.network is not None:
            np.testing.assert_array_equal(model._stack.inference.ops, without._stack.network.ops)
        np.testing.assert_array_equal(model.predict(X), without.predict(X))
        np.testing.assert_array_equal(model.predict_proba(X), without.predict_proba(X))
        measured = model.evaluate(X, y)
        assert measured == without.evaluate(X, y)
        assert measured == {name: model.history[f"val_{name}"][-1] for name in measured}

    def test_training_learns_with_right_gradients(self, place, data):
        model = fnn.Sequential(*PLACES[place](), dtype="float64")
        assert fnn.check_gradients(model, data[0][:10], data[1][:10], l2=0.1) < 1e-6
        before = weights(model)
        model.fit(*data, optimizer=fnn.SGD(0.05), epochs=30, verbose=0)
        losses = model.history["loss"]
        assert np.mean(losses[-5:]) < losses[0]
        assert not np.allclose(before, weights(model))


def test_a_wrong_gradient_is_found(data):
    class Unscaled(fnn.Dropout):
        def backward(self, dy):
            return super().backward(dy) * (1 - self.rate)

    model = fnn.Sequential(fnn.Linear(6, 20), Unscaled(0.3), fnn.Linear(20, 3))
    assert fnn.check_gradients(model, *data) > 0.1


class TestAlone:
    @given(rate=st.floats(0, 0.99), m=st.integers(1, 40), n=st.integers(1, 40))
    def test_zero_or_divided(self, rate, m, n):
        layer = fnn.Dropout(rate)
        fnn.Sequential(layer)
        x = np.arange(1.0, m * n + 1).reshape(m, n)
        y = layer.forward(x, training=True)
        kept = y != 0
        np.testing.assert_allclose(y, np.where(kept, x / (1 - rate), 0), rtol=1e-12)
        np.testing.assert_allclose(layer.backward(2 * x), 2 * y, rtol=1e-12)
        assert layer.forward(x) is x
        assert x[-1, -1] == m * n

    @pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
    def test_as_many_as_the_rate_says(self, rate, dtype):
        layer = fnn.Dropout(rate)
        fnn.Sequential(layer)
        first, second = (layer.forward(np.ones((400, 250), dtype), training=True) for _ in range(2))
        assert first.dtype == dtype
        # four standard deviations of a binomial share of 10^5
        assert np.mean(first == 0) == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / 1e5))
        assert np.mean((first == 0) & (second == 0)) == pytest.approx(rate**2, abs=0.01)
        assert first.mean() == pytest.approx(1, abs=0.05)

    def test_any_layout(self):
        layer = fnn.Dropout(0.5)
        fnn.Sequential(layer)
        x = np.arange(1.0, 13).reshape(3, 4)
        y = layer.forward(np.asfortranarray(x), training=True)
        np.testing.assert_array_equal(layer.backward(np.repeat(x, 2, axis=1)[:, ::2]), y)


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda: fnn.Dropout(1), ValueError, "rate is 1, expected a finite number >= 0 and < 1"),
        (lambda: fnn.Dropout(-0.1), ValueError, "rate is -0.1, expected a finite number >= 0 and < 1"),
        (lambda: fnn.Dropout(np.nan), ValueError, "rate is nan, expected a finite number"),
        (lambda: fnn.Dropout("half"), TypeError, "rate is 'half', expected a finite number"),
        (
            lambda: fnn.Dropout(0.5).forward([[1.0]], training=True),
            ValueError,
            r"Dropout\(0.5\) draws from its model's generator: it gets one when a Sequential is built of it",
        ),
        (lambda: fnn.Dropout(0.5).backward([[1.0]]), ValueError, r"Dropout\(0.5\) dropped nothing yet to go back thr"),
    ],
)
def test_refused(act, error, message):
    with pytest.raises(error, match=message):
        act()


def test_refused_in_a_model():
    layer = fnn.Dropout(0.5)
    fnn.Sequential(fnn.Linear(2, 2), layer)
    with pytest.raises(ValueError, match=r"layer 0, Dropout\(0.5\), belongs to another model already: make a new one"):
        fnn.Sequential(layer, fnn.Linear(2, 2))
    layer.forward(np.ones((3, 2)), training=True)
    with pytest.raises(ValueError, match=r"dy has shape \(2, 2\), but x has \(3, 2\): they must be equal"):
        layer.backward(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"x has shape \(2,\), expected 2 dimensions"):
        layer.forward(np.ones(2), training=True)
    with pytest.raises(AttributeError, match="rate"):
        layer.rate = 0.1


class TestCopies:
    @pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
    @pytest.mark.parametrize("activation", [fnn.ReLU, UserReLU])
    def test_a_copy_trains_on_as_the_original(self, clone, activation, data):
        model = network(activation=activation())
        model.fit(*data, epochs=1, verbose=0)
        same = clone(model)
        for one in (model, same):
            one.fit(*data, epochs=2, verbose=0)
        assert_same_weights(model, same, rtol=0)
        np.testing.assert_array_equal(model.forward(data[0], training=True), same.forward(data[0], training=True))

    def test_a_copied_layer_belongs_to_no_model(self):
        model = network()
        fnn.Sequential(copy.deepcopy(model.layers[0]), fnn.Linear(6, 3))

    def test_saved_and_loaded(self, data, tmp_path):
        model = network()
        model.fit(*data, epochs=1, verbose=0)
        model.save(tmp_path / "m.npz")
        with np.load(tmp_path / "m.npz") as archive:
            header = json.loads(str(archive["header"]))
        assert header["format"] == 2
        assert header["layers"][3] == {"class": "Dropout", "rate": 0.5}
        same = fnn.load(tmp_path / "m.npz")
        assert repr(same) == repr(model)
        np.testing.assert_array_equal(same.predict_proba(data[0]), model.predict_proba(data[0]))
        same.fit(*data, epochs=1, verbose=0)

    def test_a_file_with_a_wrong_rate(self, tmp_path):
        network().save(tmp_path / "m.npz")
        with np.load(tmp_path / "m.npz") as archive:
            arrays = dict(archive)
        arrays["header"] = np.array(str(arrays["header"]).replace('"rate": 0.5', '"rate": 1.5'))
        np.savez(tmp_path / "m.npz", **arrays)
        with pytest.raises(ValueError, match=r"m.npz is not a valid model: rate is 1.5, expected a finite number"):
            fnn.load(tmp_path / "m.npz")


def test_what_a_user_sees():
    model = network()
    assert repr(model.layers[3]) == "Dropout(0.5)"
    rows = [line.split() for line in model.summary().splitlines()]
    assert rows[2] == ["Dropout(0.1)", "6", "0"]
    assert rows[5] == ["Dropout(0.5)", "40", "0"]
    assert fnn.Sequential(fnn.Dropout(0.5)).summary().splitlines()[2].split() == ["Dropout(0.5)", "?", "0"]
    np.testing.assert_array_equal(fnn.Sequential(fnn.Dropout(0.5)).forward([[1, 2]]), [[1, 2]])


@pytest.mark.parametrize("activation", [fnn.ReLU, UserReLU])
def test_the_profile_has_a_row_for_each(activation, data):
    model = network(activation=activation())
    state = model._stack.rng.bit_generator.state
    result = fnn.profile(model, *data, seconds=0.002)
    assert model._stack.rng.bit_generator.state == state
    phases = {(part.layer, part.name, part.phase): part for part in result.parts}
    assert phases[0, "Dropout(0.1)", "forward"].flops == 0
    assert phases[3, "Dropout(0.5)", "forward"].seconds > 0
    assert phases[3, "Dropout(0.5)", "backward"].seconds > 0
    assert ((0, "Dropout(0.1)", "backward") in phases) == (activation is UserReLU)
    assert re.search(r"^Dropout\(0.5\) +forward", str(result), re.M)
