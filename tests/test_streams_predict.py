"""Data in pieces that are not trained on: what ``evaluate``, ``predict`` and validation find is that of the arrays."""

import collections
import tracemalloc

import numpy as np
import pytest

import fastnn as fnn
from fastnn.training import distributed
from tests.test_fit_refusals import state
from tests.training import assert_same_weights, labelled, network
from tests.user_code import AbsoluteError, Pairs, UserCrossEntropy

on_both_backends = pytest.mark.usefixtures("backend")

SIZES = [9, 4, 30, 1, 6]


@pytest.fixture
def data(rng):
    return labelled(rng)


def cut(*arrays):
    return list(zip(*(np.split(array, np.cumsum(SIZES)[:-1]) for array in arrays), strict=True))


def in_one_place(chunks):
    """Chunks in the same memory, each of which overwrites the one before."""
    room = [np.empty((50, *a.shape[1:]), a.dtype) for a in chunks[0]]
    for chunk in chunks:
        for place, array in zip(room, chunk, strict=True):
            place[: len(array)] = array
        yield [place[: len(chunk[0])] for place in room]


SOURCES = {
    "list": lambda chunks: chunks,
    "deque": collections.deque,
    "iterator": iter,
    "function": lambda chunks: lambda: in_one_place(chunks),
    "generator": in_one_place,
}


def known(loss, outputs=3, **settings):
    model = fnn.Sequential(fnn.Linear(6, 8), fnn.Tanh(), fnn.Linear(8, outputs), **{"dtype": "float64", **settings})
    model.loss = loss
    return model


def worst(y, outputs):
    """A metric that is no mean."""
    return np.abs(outputs.max(axis=1) - y.reshape(len(y), -1)[:, 0]).max()


LOSSES = {
    "labels": ("cross_entropy", 3, lambda X, y: y, ["f1", worst]),
    "targets": ("cross_entropy", 3, lambda X, y: np.eye(3)[y], ["balanced_accuracy"]),
    "binary": ("binary_cross_entropy", 1, lambda X, y: (y > 0) * 1, ["accuracy", worst]),
    "values": ("squared_error", 2, lambda X, y: X[:, :2], ["r2", "rmse", worst]),
    "own loss": (AbsoluteError(), 1, lambda X, y: X[:, 0], [worst]),
    "own loss of labels": (UserCrossEntropy(), 3, lambda X, y: y, [worst]),
}


@on_both_backends
@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("name", LOSSES)
def test_what_is_measured_is_that_of_the_arrays(name, kind, data, backend):
    X, y = data
    loss, outputs, of, metrics = LOSSES[name]
    y = of(X, y)
    model = known(loss, outputs, dtype="float32" if kind == "deque" else "float64")
    for more in (None, metrics):
        assert model.evaluate(SOURCES[kind](cut(X, y)), metrics=more) == pytest.approx(
            model.evaluate(X, y, metrics=more), rel=1e-6 if kind == "deque" else 1e-12
        )
    if name == "own loss":  # that knows no weights
        return
    v = np.where(np.arange(50) < 9, 0, np.linspace(0, 2, 50))  # those of the first chunk are all zero
    found = model.evaluate(SOURCES[kind](cut(X, y, v)), metrics=metrics)
    assert found == pytest.approx(model.evaluate(X, y, v, metrics=metrics), rel=1e-6 if kind == "deque" else 1e-12)


def test_the_mean_cross_entropy(data):
    X, y = data
    model = known("cross_entropy")
    v = np.linspace(0, 2, 50)
    scores = model.forward(X)
    losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(50), y]
    found = model.evaluate(iter(cut(X, y, v)))
    assert found["loss"] == pytest.approx(np.average(losses, weights=v))
    assert found["accuracy"] == pytest.approx(np.average(scores.argmax(axis=1) == y, weights=v))


@on_both_backends
def test_one_chunk_has_the_bits_of_its_arrays(data, backend):
    X, y = (np.tile(array, (300, 1))[:10_000] if array.ndim == 2 else np.tile(array, 300)[:10_000] for array in data)
    model = fnn.Sequential(fnn.Linear(6, 300), fnn.ReLU(), fnn.Linear(300, 3))
    model.loss = "cross_entropy"
    v = np.linspace(0, 1, len(X))
    assert model._stack.block < len(X)
    assert model.evaluate([(X, y, v)], metrics=["f1"]) == model.evaluate(X, y, v, metrics=["f1"])
    np.testing.assert_array_equal(model.predict_proba([(X, y)]), model.predict_proba(X))


ALONE = {
    "arrays": lambda chunks: [x for x, _ in chunks],
    "iterator of arrays": lambda chunks: (x for x, _ in chunks),
    "tuples of one": lambda chunks: [(x,) for x, _ in chunks],
    "lists": lambda chunks: ([x.tolist(), y.tolist()] for x, y in chunks),
}


PROBABILITIES = "cross_entropy", "binary_cross_entropy"


@on_both_backends
@pytest.mark.parametrize("kind", [*SOURCES, *ALONE])
def test_the_answers_to_all_chunks_come_one_after_the_other(kind, data, backend):
    """Whatever their targets are."""
    X, _ = data
    chunks = cut(X, np.full(50, np.nan))
    for loss, outputs in (("cross_entropy", 3), ("binary_cross_entropy", 2), ("poisson", 1), (UserCrossEntropy(), 3)):
        model = known(loss, outputs)
        methods = [model.predict, model.predict_proba] if loss in PROBABILITIES else [model.predict]
        for method in methods:
            found, expected = method({**SOURCES, **ALONE}[kind](chunks)), method(X)
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            np.testing.assert_allclose(found, expected, rtol=1e-13)


@on_both_backends
@pytest.mark.parametrize("kind", SOURCES)
def test_several_models_together(kind, data, backend):
    X, y = data
    v = np.where(np.arange(50) < 9, 0, np.linspace(0, 2, 50))  # those of the first chunk are all zero
    for name, loss, outputs in (("labels", "cross_entropy", 3), ("binary", "binary_cross_entropy", 1)):
        together = fnn.Ensemble([known(loss, outputs, seed=0), known(loss, outputs, seed=1, dtype="float32")])
        t = LOSSES[name][2](X, y)
        expected = together.evaluate(X, t, v, metrics=LOSSES[name][3])
        assert together.evaluate(SOURCES[kind](cut(X, t, v)), metrics=LOSSES[name][3]) == pytest.approx(expected, 1e-6)
        for method in (together.predict, together.predict_proba, together.std):
            np.testing.assert_allclose(method(SOURCES[kind](cut(X, y))), method(X), rtol=1e-5, atol=1e-6)
        of_each = together.predict_proba(SOURCES[kind](cut(X, y)), each=True)
        np.testing.assert_allclose(of_each, together.predict_proba(X, each=True), rtol=1e-5)


def test_codes_that_a_member_does_not_know(data):
    X, y = data
    codes = np.c_[X[:, :5], y]
    models = [fnn.Sequential(fnn.Embedding({5: (n, 2)}), fnn.Linear(7, 3)) for n in (4, 3)]
    models[0].loss = models[1].loss = "cross_entropy"
    chunks = [(codes, y), (np.where(codes == 2, 3, codes), y)]
    with pytest.raises(ValueError, match=r"chunk 1 of the source: X holds 3 in row \d+ of column 5, but Embedding"):
        fnn.Ensemble(models).evaluate(chunks)


def test_labels_that_are_names_and_targets_in_one_row(data):
    X, y = data
    names = np.array(["red", "blue", "a green that is longer"])[y]
    model = network()
    model.fit(cut(X, names), epochs=2, verbose=0)
    np.testing.assert_array_equal(model.predict(iter(cut(X, names))), model.predict(X))
    assert model.evaluate(iter(cut(X, names))) == pytest.approx(model.evaluate(X, names))
    together = fnn.Ensemble([model])
    np.testing.assert_array_equal(together.predict(iter(cut(X, names))), model.predict(X))
    assert together.evaluate(iter(cut(X, names))) == pytest.approx(model.evaluate(X, names))
    model = known("squared_error", 1)
    model.fit(X, X[:, 0], loss="squared_error", epochs=1, verbose=0)
    assert model.predict(iter(cut(X, y))).shape == (50,)


def test_a_width_that_the_first_chunk_tells(data):
    X, y = data
    model = fnn.Sequential(Pairs())
    model.loss = "cross_entropy"
    assert model.evaluate(iter(cut(X, y))) == pytest.approx(model.evaluate(X, y))
    for method in (model.predict, model.evaluate):
        with pytest.raises(ValueError, match="chunk 1 of the source: X has 4 columns, but that of the first chunk 6"):
            method([(X, y), (X[:, :4], y)])
    with pytest.raises(ValueError, match="chunk 0 of validation_data: X has 4 columns, but the model has 6 inputs"):
        model.fit(X, y, validation_data=[(X[:, :4], y)], verbose=0)


def test_one_pass_is_enough_for_means_and_deviations(data):
    found, expected = (fnn.Standardize(6).adapt(X) for X in (in_one_place(cut(*data)), data[0]))
    models = [fnn.Sequential(layer) for layer in (found, expected)]
    np.testing.assert_allclose(models[0].forward(data[0]), models[1].forward(data[0]), rtol=1e-5, atol=1e-6)


class Columns:
    """Knows a way to X alone."""

    def __init__(self, X):
        self.X = X

    def __iter__(self):
        raise AssertionError("asked for all")

    def features(self):
        return iter(np.split(self.X, [20]))


def test_a_source_is_asked_for_no_more_than_x(data):
    model = known("cross_entropy")
    np.testing.assert_array_equal(model.predict(Columns(data[0])), model.predict(data[0]))


def test_rows_of_numbers_are_no_source(data):
    X, _ = data
    model = known("cross_entropy")
    for make in (list, tuple, collections.deque):
        np.testing.assert_array_equal(model.predict(make(X[:2].tolist())), model.predict(X[:2]))
    with pytest.raises(ValueError, match=r"X has shape \(2, 50, 6\), expected"):
        model.predict([X.tolist(), X.tolist()])


def test_memory_is_that_of_a_chunk_and_the_answers():
    def source():
        for _ in range(100):
            yield np.zeros((1000, 50), np.float32), np.zeros(1000, int)

    model = fnn.Sequential(fnn.Linear(50, 2))
    model.loss = "cross_entropy"
    for call, answers in ((model.predict, 800_000), (model.evaluate, 0)):
        call(source)
        tracemalloc.start()
        try:
            call(source)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2 * answers + 3 * 208_000


class TestValidation:
    @pytest.mark.parametrize("kind", ["list", "deque", "function"])
    def test_the_history_is_that_of_the_arrays(self, kind, data):
        settings = {"epochs": 3, "metrics": ["f1"], "optimizer": "adam", "verbose": 0}
        models = [network() for _ in range(3)]
        expected = models[0].fit(*data, validation_data=data, **settings)
        found = models[1].fit(*data, validation_data=SOURCES[kind](cut(*data)), **settings)
        of_source = models[2].fit([data], validation_data=SOURCES[kind](cut(*data)), **settings)
        assert_same_weights(models[0], models[1], rtol=0)
        assert list(found) == list(expected)
        for name, values in found.items():
            assert values == pytest.approx(expected[name])
        assert dict(of_source) == {name: values for name, values in found.items() if name != "f1"}

    def test_weights_and_stopping(self, data):
        X, y = data
        chunks = cut(X, y, np.linspace(0, 1, 50))
        stopping = fnn.EarlyStopping(patience=2, min_delta=0.1)
        model = network()
        history = model.fit(X, y, validation_data=chunks, epochs=50, callbacks=[stopping], verbose=0)
        assert history.stopped
        expected = model.evaluate(X, y, np.linspace(0, 1, 50))["loss"]
        assert history["val_loss"][stopping.best_epoch - 1] == pytest.approx(expected)

    def test_a_training_that_goes_on(self, data, tmp_path):
        settings = {"validation_data": cut(*data), "verbose": 0}
        expected, model = network().fit(*data, epochs=3, **settings), network()
        for epochs in (1, 3):
            found = model.fit(*data, epochs=epochs, checkpoint=tmp_path / "run.npz", **settings)
            model = network()
        assert dict(found) == dict(expected)
        settings["validation_data"] = cut(data[0].astype(np.float32), data[1])
        with pytest.raises(ValueError, match=r"with validation data=\['chunks', \[6, '<f8'\]"):
            model.fit(*data, epochs=3, checkpoint=tmp_path / "run.npz", **settings)

    @pytest.mark.parametrize("source", [tuple, lambda chunks: lambda: iter(chunks)])
    def test_networks_that_train_at_once(self, source, data):
        models = [network(seed=seed) for seed in range(2)]
        found = fnn.fit_many(models, *data, validation_data=source(cut(*data)), epochs=2, verbose=0)
        for seed, history in enumerate(found):
            alone = network(seed=seed).fit(*data, validation_data=cut(*data), epochs=2, verbose=0)
            assert dict(history) == dict(alone)


X, Y = np.arange(24.0).reshape(4, 6), np.array([0, 2, 1, 0])
GOOD = (X, Y)
# What is wrong for evaluate and for validation data; the first pattern is completed by what the data are called.
BAD = {
    "empty": ([], ValueError, r"{} is empty, \[\]: expected at least one chunk"),
    "nothing comes": (lambda: iter([]), ValueError, "{} is empty, a function: expected at least one chunk"),
    "no pair": (lambda: [X], TypeError, r"chunk 0 of {} is an array of shape \(4, 6\), expected \(X, y\) or"),
    "width": ([(X[:, :5], Y)], ValueError, "chunk 0 of {}: X has 5 columns, but the model has 6 inputs"),
    "width later": ([GOOD, (X[:, :5], Y)], ValueError, "chunk 1 of {}: X has 5 columns, but that of the first"),
    "dtype": ([GOOD, (X.astype("f"), Y)], ValueError, "chunk 1 of {}: X holds float32, but that of the first chunk"),
    "label": ([GOOD, (X, Y + 1)], ValueError, "chunk 1 of {}: y holds label 3, but the model has 3 outputs"),
    "not finite": ([GOOD, (X * np.nan, Y)], ValueError, "chunk 1 of {}: X holds NaN or infinite values"),
    "weights": ([GOOD, (X, Y, Y)], ValueError, "chunk 1 of {}: it has weights, but the first chunk has none"),
    "no weight": ([(X, Y, Y * 0)] * 2, ValueError, "the weights in all chunks of {} are zero, expected at least one"),
}


class TestRefused:
    @pytest.mark.parametrize("name", BAD)
    def test_sources(self, name):
        source, error, message = BAD[name]
        alone = known("cross_entropy")
        for each in (alone, fnn.Ensemble([alone])):
            with pytest.raises(error, match=message.format("the source")):
                each.evaluate(source)
        if name == "empty":  # a list without anything may be anything
            return
        model, optimizer = network(), fnn.SGD(0.1, momentum=0.9)
        before = state(model)
        with pytest.raises(error, match=message.format("validation_data")):
            model.fit(X, Y, validation_data=source, optimizer=optimizer, verbose=0)
        assert state(model) == before
        assert optimizer.steps == 0

    @pytest.mark.parametrize(
        ("source", "error", "message"),
        [
            (lambda: iter([]), ValueError, "the source is empty, a function: expected at least one chunk"),
            ([(X, Y), (X[:, :5], Y)], ValueError, "chunk 1 of the source: X has 5 columns, but that of the first"),
            ([X[:, :5], X], ValueError, "chunk 0 of the source: X has 5 columns, but the model has 6 inputs"),
            ([X, X * np.nan], ValueError, "chunk 1 of the source: X holds NaN or infinite values"),
            (iter([[1] * 4]), TypeError, r"chunk 0 .* is a list of 4, expected .* given as predict\(X\)"),
            (lambda: None, TypeError, "the function that is the source returned None, expected an iterator"),
            ({0: GOOD}, TypeError, "X is a dict, expected an array of real numbers"),
            (iter([3.0]), ValueError, r"chunk 0 of the source: X has shape \(\), expected \(samples, features\)"),
        ],
    )
    def test_what_is_to_be_predicted(self, source, error, message):
        with pytest.raises(error, match=message):
            known("cross_entropy").predict(source)

    def test_arguments(self):
        model = known("cross_entropy")
        with pytest.raises(TypeError, match=r"y is missing, and X is 3: expected evaluate\(X, y\), or a source"):
            model.evaluate(3)
        with pytest.raises(TypeError, match="y is None, expected an array of real numbers"):
            model.evaluate(X)
        with pytest.raises(ValueError, match="sample_weight is given beside a source: let each of its chunks be"):
            model.evaluate([GOOD], sample_weight=Y)
        for call in (model.evaluate, model.fit, fnn.Ensemble([model]).evaluate):
            with pytest.raises(ValueError, match="y is given beside a source of chunks: let each of its chunks be"):
                call([GOOD], Y)
        with pytest.raises(ValueError, match="metrics holds 'r2', which needs values"):
            model.evaluate([GOOD], metrics=["r2"])
        settings = {"buffer": None, "validation_split": None, "callbacks": None, "metrics": None}
        settings |= {"loss": "cross_entropy", "optimizer": "sgd", "validation_data": [GOOD, GOOD]}
        with pytest.raises(ValueError, match="validation_data is a source of chunks, but with comm it is arrays"):
            distributed._checked(settings, Y)  # before any other process is asked for something
        with pytest.raises(TypeError, match="validation_data is a list_iterator, which gives its chunks only once"):
            model.fit(X, Y, validation_data=iter([GOOD]), verbose=0)


def test_tables(data, tmp_path):
    """Whatever gives chunks of its own accord, of which predict reads no target."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    X, y = data
    X = X.astype(np.float32)
    table = pa.table({"y": y, **{f"x{i}": column for i, column in enumerate(X.T)}})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=20)
    np.savetxt(tmp_path / "t.csv", np.c_[y, X], "%.9g", ",", header=",".join(table.column_names), comments="")
    model = known("cross_entropy")
    for kind, name in ((fnn.datasets.ParquetSource, "t.parquet"), (fnn.datasets.CsvSource, "t.csv")):
        source = kind(tmp_path / name, "y")
        np.testing.assert_allclose(model.predict_proba(source), model.predict_proba(X), rtol=1e-6)
        assert model.evaluate(source) == pytest.approx(model.evaluate(X, y))
        assert "val_loss" in network().fit(source, validation_data=source, epochs=1, verbose=0)
        without = kind(tmp_path / name, "x0", columns=[f"x{i}" for i in range(6) if i] + ["y"])
        assert model.predict(without).shape == (50,)
