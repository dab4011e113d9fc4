"""fit: the same weights as by hand, step by step, layer by layer and on either twin; histories, orders, output."""

import re
import tracemalloc

import numpy as np
import pytest

import fastnn as fnn
from tests.training import assert_same_weights, labelled, network, weights
from tests.user_code import UserCrossEntropy, UserLinear, UserReLU

OPTIMIZERS = {
    "sgd": lambda: fnn.SGD(lr=0.1),
    "momentum": lambda: fnn.SGD(lr=0.05, momentum=0.9),
    "nesterov": lambda: fnn.SGD(lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda: fnn.Adam(lr=0.01, eps=1e-4),
    "schedule": lambda: fnn.SGD(lr=fnn.schedules.exponential_decay(0.1, 0.5)),
}


@pytest.fixture
def data(rng):
    return labelled(rng)


@pytest.mark.usefixtures("backend")
class TestSameWeights:
    def test_one_step_by_hand(self, dtype):
        model = fnn.Sequential(fnn.Linear(2, 1, init=[[1], [2]], bias=[0.5]), dtype=dtype)
        # predictions 3.5 and 0.5, errors 0.5 and -0.5, gradient dw = (0.5, 0.5) + 2 0.25 (1, 2), db = 0
        X, y = [[1, 1], [0, 0]], [3, 1]
        history = model.fit(X, y, loss="squared_error", optimizer=fnn.SGD(lr=0.5), l2=0.25, epochs=1, verbose=0)
        assert history == {"loss": [0.25 + 0.25 * 5]}
        np.testing.assert_array_equal(model.layers[0].weight, [[0.5], [1.25]])
        np.testing.assert_array_equal(model.layers[0].bias, [0.5])

    @pytest.mark.parametrize("name", OPTIMIZERS)
    @pytest.mark.parametrize("weighted", [False, True])
    def test_as_step_by_step(self, name, weighted, data):
        X, y = data
        v = np.linspace(0, 2, 50) if weighted else None
        model, by_step = network(), network()
        history = model.fit(
            X,
            y,
            optimizer=OPTIMIZERS[name](),
            l2=0.01,
            epochs=3,
            batch_size=16,
            shuffle=False,
            sample_weight=v,
            verbose=0,
        )
        optimizer = OPTIMIZERS[name]()
        for epoch in range(3):
            optimizer.epoch = epoch if epoch else 0
            total, shares = 0.0, 0.0
            for start in range(0, 50, 16):
                rows = slice(start, start + 16)
                vb = None if v is None else v[rows]
                scores = by_step.forward(X[rows], training=True)
                share = len(scores) if v is None else vb.sum()
                penalty = 0.01 * sum((layer.weight**2).sum() for layer in by_step.layers[::2])
                total += share * (fnn.cross_entropy(scores, y[rows], vb) + penalty)
                shares += share
                by_step.backward(fnn.cross_entropy_backward(scores, y[rows], vb), l2=0.01)
                optimizer.step(by_step)
            assert history["loss"][epoch] == pytest.approx(total / shares, rel=1e-9)
        assert_same_weights(model, by_step)

    @pytest.mark.parametrize("name", OPTIMIZERS)
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("part", ["layer", "loss", "parameters"])
    def test_compiled_and_layer_by_layer(self, part, name, weighted, data):
        X, y = data
        compiled, own = network(), network()
        if part == "layer":
            own = fnn.Sequential(*_rebuilt(own, activation=UserReLU()), dtype="float64")
        if part == "parameters":
            first = UserLinear(own.layers[0].weight.copy(), own.layers[0].bias.copy())
            own = fnn.Sequential(first, *_rebuilt(own)[1:], dtype="float64")
        own._stack.rng = np.random.default_rng(5)
        compiled._stack.rng = np.random.default_rng(5)
        settings = {
            "l2": 0.0 if part == "parameters" else 0.01,
            "epochs": 2,
            "batch_size": 16,
            "sample_weight": np.linspace(0, 2, 50) if weighted else None,
            "validation_data": (X[:20], y[:20]),
            "verbose": 0,
        }
        one = compiled.fit(X, y, optimizer=OPTIMIZERS[name](), **settings)
        loss = UserCrossEntropy() if part == "loss" else "cross_entropy"
        other = own.fit(X, y, optimizer=OPTIMIZERS[name](), loss=loss, **settings)
        assert_same_weights(compiled, own)
        for key in ("loss", "val_loss"):
            np.testing.assert_allclose(one[key], other[key], rtol=1e-9)
        assert ("val_accuracy" in other) == (part != "loss")

    def test_a_batch_of_zero_weights_teaches_nothing(self, data):
        X, y = data
        v = np.repeat([1.0, 0.0, 1.0], [16, 16, 18])
        few, all_of_them = network(), network()
        few.fit(np.delete(X, slice(16, 32), 0), np.delete(y, slice(16, 32)), batch_size=16, shuffle=False, verbose=0)
        for layers in (all_of_them, fnn.Sequential(*_rebuilt(network(), activation=UserReLU()), dtype="float64")):
            layers.fit(X, y, batch_size=16, sample_weight=v, shuffle=False, verbose=0)
            assert_same_weights(few, layers)

    def test_fitting_twice_continues(self, data):
        for make in OPTIMIZERS.values():
            whole, parts, optimizer = network(), network(), make()
            expected = whole.fit(*data, optimizer=make(), epochs=5, verbose=0)
            first = parts.fit(*data, optimizer=optimizer, epochs=2, verbose=0)
            second = parts.fit(*data, optimizer=optimizer, epochs=3, verbose=0)
            assert_same_weights(whole, parts, rtol=0)
            assert first["loss"] + second["loss"] == expected["loss"]
            assert optimizer.epoch == 5
            assert optimizer.steps == 10

    def test_order_of_the_seed(self, data):
        X, y = data
        shuffled, given = network(seed=3), network(seed=3)
        shuffled.fit(X, y, batch_size=16, epochs=2, verbose=0)
        optimizer = fnn.SGD(lr=0.01)
        for _ in range(2):
            order = given._stack.rng.permutation(50)
            given.fit(X[order], y[order], optimizer=optimizer, batch_size=16, epochs=1, shuffle=False, verbose=0)
        assert_same_weights(shuffled, given, rtol=1e-12)
        other = network(seed=4)
        other.layers[0].weight = given.layers[0].weight
        assert not np.allclose(weights(other), weights(shuffled))


def _rebuilt(model, activation=None):
    """New layers with the weights of ``model``, its first activation replaced."""
    layers = []
    for layer in model.layers:
        if isinstance(layer, fnn.Linear):
            bias = False if layer.bias is None else layer.bias.copy()
            layers.append(fnn.Linear(layer.n_in, layer.n_out, init=layer.weight.copy(), bias=bias))
        else:
            layers.append(type(layer)())
    if activation is not None:
        layers[1] = activation
    return layers


def test_twins_train_alike(data):
    for dtype, rtol in (("float64", 1e-9), ("float32", 2e-4)):
        models = []
        for name in ("numba", "numpy"):
            with fnn.use_backend(name):
                models.append(network(dtype=dtype))
                models[-1].fit(*data, optimizer=OPTIMIZERS["nesterov"](), l2=0.01, epochs=3, batch_size=16, verbose=0)
        assert_same_weights(*models, rtol=rtol)


@pytest.mark.usefixtures("backend")
class TestInput:
    @pytest.mark.parametrize(
        "kind", ["fortran", "strided", "float32", "read-only", "list", "memmap", "int", "big-endian"]
    )
    def test_layouts_and_dtypes_of_x(self, kind, data, tmp_path):
        X, y = np.rint(data[0] * 4), data[1]
        expected = network()
        expected.fit(X, y, epochs=2, verbose=0)
        given = {
            "fortran": np.asfortranarray(X),
            "strided": np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
            "float32": X.astype(np.float32),
            "read-only": X.copy(),
            "list": X.tolist(),
            "memmap": np.memmap(tmp_path / "x", X.dtype, "w+", shape=X.shape),
            "int": X.astype(np.int16),
            "big-endian": X.astype(">f8"),
        }[kind]
        if kind == "memmap":
            given[...] = X
        if kind == "read-only":
            given.flags.writeable = False
        model = network()
        model.fit(given, y, epochs=2, verbose=0)
        assert_same_weights(model, expected, rtol=1e-12)

    def test_bytes_are_numbers(self, rng, dtype):
        X, y = rng.integers(256, size=(20, 6)).astype(np.uint8), rng.integers(3, size=20)
        models = network(dtype=dtype), network(dtype=dtype)
        for model, x in zip(models, (X, X.astype(dtype)), strict=True):
            model.fit(x, y, optimizer=fnn.SGD(lr=1e-5), epochs=2, verbose=0)
        assert_same_weights(*models, rtol=1e-6)

    def test_soft_targets_and_one_hot_integers(self, data):
        X, y = data
        models = [network() for _ in range(3)]
        for model, targets in zip(models, (y, np.eye(3)[y], np.eye(3, dtype=int)[y]), strict=True):
            model.fit(X, targets, epochs=2, verbose=0)
        assert_same_weights(models[0], models[1])
        assert_same_weights(models[0], models[2])

    def test_data_are_left_alone(self, data):
        X, y = data
        before = X.copy(), y.copy()
        network().fit(X, y, epochs=2, verbose=0)
        np.testing.assert_array_equal(X, before[0])
        np.testing.assert_array_equal(y, before[1])

    def test_a_batch_may_be_larger_than_the_data(self, data):
        models = network(), network()
        for model, size in zip(models, (50, 10**12), strict=True):
            model.fit(*data, batch_size=size, epochs=1, verbose=0)
        assert_same_weights(*models, rtol=0)

    def test_names_of_optimizers(self, data):
        models = [network() for _ in range(4)]
        for model, optimizer in zip(models, ("sgd", fnn.SGD(), "adam", fnn.Adam()), strict=True):
            model.fit(*data, optimizer=optimizer, epochs=1, verbose=0)
        assert_same_weights(models[0], models[1], rtol=0)
        assert_same_weights(models[2], models[3], rtol=0)


@pytest.mark.usefixtures("backend")
class TestMemory:
    @pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "fortran", "strided"])
    def test_x_is_never_copied(self, kind, rng):
        dtype = np.dtype(kind if kind[-1].isdigit() else "float32")
        X = np.zeros((8000 // dtype.itemsize, 1000), dtype, order="F" if kind == "fortran" else "C")
        X = np.repeat(X, 2, axis=0)[::2] if kind == "strided" else X
        y = rng.integers(3, size=len(X))
        model = fnn.Sequential(fnn.Linear(1000, 4), fnn.ReLU(), fnn.Linear(4, 3))
        model.fit(X[:40], y[:40], epochs=1, verbose=0)
        model.predict(X[:40])
        model.evaluate(X[:40], y[:40])  # or its kernel is compiled while memory is counted
        tracemalloc.start()
        try:
            model.fit(X, y, epochs=1, validation_data=(X, y), verbose=0)
            model.predict(X)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < X.nbytes / 2

    def test_one_order_at_a_time(self):
        X, y = np.zeros((10**6, 1), np.float32), np.zeros((10**6, 1), np.float32)
        model = fnn.Sequential(fnn.Linear(1, 1))
        settings = {"loss": "squared_error", "epochs": 2, "batch_size": 10_000, "verbose": 0}
        model.fit(X[:2000], y[:2000], **settings)
        tracemalloc.start()
        try:
            model.fit(X, y, **settings)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1.5 * 8 * len(X)


class TestOutput:
    def test_a_line_an_epoch(self, data, capsys, backend):
        history = network().fit(*data, epochs=11, validation_data=data)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 11
        pattern = r"epoch  3/11  loss (\S+)  val_loss (\S+)  val_accuracy (\S+)  [\d,]+ samples/s"
        shown = re.fullmatch(pattern, lines[2])
        assert [float(v) for v in shown.groups()] == pytest.approx([v[2] for v in history.values()], abs=1e-4)

    def test_silence(self, data, capsys, backend):
        network().fit(*data, epochs=2, verbose=0)
        assert capsys.readouterr().out == ""

    def test_history_stays_on_the_model(self, data, backend):
        model = network()
        assert model.history == {}
        assert model.fit(*data, epochs=2, verbose=0) is model.history
        assert model.history.interrupted is False
        assert isinstance(model.loss, fnn.CrossEntropy)
