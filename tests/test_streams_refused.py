"""Data in pieces that cannot be trained on is refused by name, and whatever fails in between has changed nothing."""

import contextlib
import threading

import numpy as np
import pytest

import fastnn as fnn
from tests.streams import NETWORKS, Again, assert_same_bits, cut, fitted
from tests.test_fit_refusals import state
from tests.training import labelled, network
from tests.user_code import UserReLU

on_both_backends = pytest.mark.usefixtures("backend")


@pytest.fixture
def data(rng):
    return labelled(rng)


X, Y = np.arange(24.0).reshape(4, 6), np.array([0, 2, 1, 0])
GOOD = (X, Y)


def later(chunks):
    """Good chunks when it is asked for the first one, and others in an epoch."""
    given = iter([[GOOD], chunks, chunks])
    return lambda: iter(next(given))


def same_twice(iterator):
    return lambda: iterator


BAD = {
    "nothing to iterate": (3, TypeError, r"y is missing, and X is 3: expected fit\(X, y\), or a source of chunks"),
    "text": ("X.npy", TypeError, "y is missing, and X is 'X.npy'"),
    "class": (Again, TypeError, "y is missing, and X is <class "),
    "mapping": ({0: GOOD}, TypeError, "y is missing, and X is "),
    "array": (X, TypeError, "y is None, expected an array of real numbers"),
    "rows": (
        X.tolist(),
        TypeError,
        r"chunk 0 of the source is a list of 6, expected \(X, y\) or",
    ),
    "pair": (GOOD, TypeError, r"chunk 0 of the source is an array of shape \(4, 6\), expected \(X, y\)"),
    "generator": ((GOOD for _ in range(2)), TypeError, "the source is a generator, which gives its chunks only once"),
    "zip": (zip([X], [Y], strict=True), TypeError, "the source is a zip, which gives its chunks only once"),
    "the same iterator": (same_twice(iter([GOOD, GOOD])), TypeError, "has returned the same iterator twice"),
    "function of none": (lambda: None, TypeError, "the function that is the source returned None, expected an iter"),
    "empty": ([], ValueError, r"the source is empty, \[\]: expected at least one chunk"),
    "empty later": (later([]), ValueError, "the source gave no chunk this time: it must give the same ones"),
    "empty chunk": ([GOOD, (X[:0], Y[:0])], ValueError, r"chunk 1 .*: X is empty: it has shape \(0, 6\)"),
    "width": (
        [GOOD, (X[:, :5], Y)],
        ValueError,
        "chunk 1 .*: X has 5 columns, but that of the first",
    ),
    "width of the first": ([(X[:, :5], Y)], ValueError, "chunk 0 of the source: X has 5 columns, but the model has 6"),
    "samples": ([*zip(X, Y, strict=True)], ValueError, r"chunk 0 of the source: X has shape \(6,\), expected"),
    "dtype": (
        [GOOD, (X.astype(np.float32), Y)],
        ValueError,
        "chunk 1 .*: X holds float32, but that of the first chunk float64: give all chunks one dtype",
    ),
    "labels and targets": (
        [GOOD, (X, np.eye(3)[Y])],
        ValueError,
        "chunk 1 .*: y holds float64, but that of the first chunk int64",
    ),
    "not finite": ([GOOD, (X * np.nan, Y)], ValueError, "chunk 1 .*: X holds NaN or infinite values"),
    "label": (
        [GOOD, GOOD, (X, Y + 1)],
        ValueError,
        "chunk 2 .*: y holds label 3, but the model has 3 outputs",
    ),
    "lengths": ([GOOD, (X, Y[1:])], ValueError, "chunk 1 .*: y has 3 rows, but there are 4 samples"),
    "weights in the first": (
        [(X, Y, Y), GOOD],
        ValueError,
        "chunk 1 .*: it has no weights, but the first",
    ),
    "weights in the second": (
        [GOOD, (X, Y, Y)],
        ValueError,
        "chunk 1 .*: it has weights, but the first",
    ),
    "negative weights": (
        [(X, Y, Y), (X, Y, -Y)],
        ValueError,
        "chunk 1 .*: sample_weight holds -2, expected",
    ),
    "no weight": ([(X, Y, Y * 0)] * 2, ValueError, "the weights in all chunks of the source are zero"),
    "names": (
        [(X, [*"abca"]), (X, Y)],
        ValueError,
        "chunk 1 .*: y holds numbers, but that of the first chunk",
    ),
    "numbers": ([GOOD, (X, [*"abca"])], TypeError, "chunk 1 .*: y holds strings, expected integer labels"),
}
BAD_SETTINGS = [
    ({"sample_weight": Y}, "sample_weight is given beside a source: let each of its chunks be"),
    ({"validation_split": 0.2}, "validation_split needs arrays: leave chunks out of the source"),
    ({"metrics": ["f1"]}, "metrics of a source are those of validation data, .*: give validation_data"),
    ({"buffer": 0}, "buffer is 0, expected a positive integer"),
    ({"class_weight": {3: 1}}, "class_weight has the key 3, but the model has 3 outputs"),
    ({"class_weight": "even"}, r"class_weight is 'even', expected 'balanced', a dict or an array \(3,\)"),
    ({"loss": "squared_error", "class_weight": {0: 1}}, "class_weight needs classes, but the loss is"),
    ({"batch_size": 0}, "batch_size is 0, expected a positive integer"),
    ({"epochs": 0}, "epochs is 0, expected a positive integer"),
]


def no_reader_is_left():
    return all(thread.name != "fastnn reader" for thread in threading.enumerate())


class TestRefused:
    def refuse(self, source, error, message, **settings):
        model, optimizer = network(), fnn.SGD(0.1, momentum=0.9)
        before = state(model)
        with pytest.raises(error, match=message):
            model.fit(source, **{"optimizer": optimizer, "verbose": 0, **settings})
        assert state(model) == before
        assert (optimizer.epoch, optimizer.steps, optimizer.belongs_to(model._stack)) == (0, 0, False)
        assert no_reader_is_left()

    @pytest.mark.parametrize("name", BAD)
    def test_sources(self, name):
        source, error, message = BAD[name]
        if name in ("generator", "zip", "the same iterator", "empty later"):  # once more for the other twin
            source = {
                "generator": lambda: (GOOD for _ in range(2)),
                "zip": lambda: zip([X], [Y], strict=True),
                "the same iterator": lambda: same_twice(iter([GOOD, GOOD])),
                "empty later": lambda: later([]),
            }[name]()
        self.refuse(source, error, message)

    @pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS)
    def test_settings(self, settings, message):
        self.refuse([(X, X[:, :3] if "loss" in settings else Y)], ValueError, message, **settings)

    def test_labels_that_are_no_chunks(self):
        class All(Again):
            def labels(self):
                return Y

        self.refuse(All([GOOD]), ValueError, r"chunk 0 .*: y has shape \(\), expected labels", class_weight="balanced")

    def test_a_buffer_for_arrays(self):
        with pytest.raises(ValueError, match="buffer is 10, but X and y are arrays, of which nothing is held"):
            network().fit(X, Y, buffer=10)

    @pytest.mark.parametrize("buffer", [10**16, 10**18])
    def test_a_buffer_that_no_memory_holds(self, buffer):
        half = f"{buffer // 2:,}"
        message = f"buffer is read in two halves, of which one is {half} samples of 56 bytes, .* GiB, for which"
        self.refuse([GOOD], MemoryError, message, buffer=buffer)

    def test_a_last_batch_that_is_too_small(self):
        make = lambda: fnn.Sequential(fnn.Linear(6, 8), fnn.BatchNorm(8), fnn.Linear(8, 3))  # noqa: E731
        chunks = cut(np.ones((9, 6)), np.zeros(9, int), sizes=[3, 6])
        with pytest.raises(ValueError, match="batch_size is 4 for 9 samples, which leaves 1 to the last batch"):
            make().fit(chunks, batch_size=4, verbose=0)
        make().fit(chunks, batch_size=3, verbose=0)


class Mine(Exception):
    pass


def breaking(epoch, chunk, error):
    """A source that raises an error in some epoch, counted from 1, at some chunk."""
    times = []

    def source():
        times.append(None)
        for i, pair in enumerate(cut(*DATA)):
            if len(times) == epoch + 1 and i == chunk:
                raise error
            yield pair

    return source


DATA = labelled(np.random.default_rng(0))


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("error", [Mine("of the source"), OSError("gone"), SystemExit(3)])
def test_what_the_source_raises_comes_as_it_is(make, error):
    """In the first epoch nothing has changed; later all is as at the end of the last whole one."""
    for epoch, chunk in ((1, 3), (3, 0), (3, 4)):
        model, optimizer = make(), fnn.Adam(0.01)
        before = state(model)
        with pytest.raises(type(error)) as caught:
            model.fit(breaking(epoch, chunk, error), optimizer=optimizer, buffer=16, epochs=5, batch_size=8, verbose=0)
        assert caught.value is error
        assert no_reader_is_left()
        if epoch == 1:
            assert state(model) == before
            assert optimizer.steps == 0
        else:
            whole = fitted(make, lambda: iter(cut(*DATA)), epochs=epoch - 1, buffer=16)
            assert_same_bits((model, model.history), whole)
            assert (optimizer.epoch, optimizer.steps) == (2, 14)


def test_counts_that_change(data):
    chunks = cut(*data)
    given = iter([chunks, chunks, chunks, [*chunks, chunks[0]]])
    model = network()
    with pytest.raises(ValueError, match="gave 6 chunks with 59 samples, but 5 with 50 in the epoch before"):
        model.fit(lambda: iter(next(given)), epochs=4, batch_size=8, optimizer=fnn.Adam(0.01), verbose=0)
    assert_same_bits((model, model.history), fitted(network, lambda: iter(chunks), epochs=2))


@on_both_backends
@pytest.mark.parametrize("which", ["compiled", "own"])
@pytest.mark.parametrize("make_source", [lambda chunks: chunks, Again])
def test_divergence_names_the_batch(which, make_source):
    """As in the arrays of the chunks, whose values grow from batch to batch."""
    layers = [UserReLU()] if which == "own" else []
    x = np.array([1, 2, 1, 1, 1e30, 1, 1, 2, 1, 1.0])[:, None]
    y = np.zeros(10)
    settings = {"loss": "squared_error", "optimizer": fnn.SGD(0.01), "batch_size": 2, "shuffle": False, "verbose": 0}
    for more in ({}, {"accumulate": 2}):
        found = []
        for arguments in ((x, y), (make_source(cut(x, y, sizes=[3, 3, 4])),)):
            model = fnn.Sequential(fnn.Linear(1, 1, init=[[1]], bias=False), *layers)
            extra = {} if len(arguments) == 2 else {"buffer": 6}
            with pytest.raises(fnn.DivergenceError) as caught:
                model.fit(*arguments, **settings, **more, **extra)
            found.append((caught.value.epoch, caught.value.batch, model.layers[0].weight.item()))
        assert found[0] == found[1]
    assert no_reader_is_left()


def test_divergence_that_shows_where_all_weights_are_zero(data):
    X, _ = data
    chunks = [(X[:25], X[:25, 0], np.ones(25)), (X[25:], X[25:, 0], np.zeros(25))]
    model = fnn.Sequential(fnn.Linear(6, 1, init=np.ones((6, 1))), dtype="float64")
    settings = {"loss": "squared_error", "optimizer": fnn.SGD(1e308), "batch_size": 25, "shuffle": False, "buffer": 2}
    with pytest.raises(fnn.DivergenceError, match="diverged in epoch 1"):
        model.fit(lambda: iter(chunks), **settings, verbose=0)


def test_a_list_whose_array_changes_while_it_trains(data):
    """What is no label any more ends the training with a message, as with arrays."""
    X, y = data
    y = y.copy()

    class Changing(UserReLU):
        def forward(self, x, training=False):
            if training:
                y[:] = 99
            return super().forward(x, training)

    chunks = [(X[:25], y[:25]), (X[25:], y[25:])]
    model = fnn.Sequential(fnn.Linear(6, 8), Changing(), fnn.Linear(8, 3))
    before = state(model)
    with pytest.raises((ValueError, IndexError)), contextlib.suppress(fnn.DivergenceError):
        model.fit(chunks, buffer=20, batch_size=8, verbose=0)
    assert state(model) == before


def test_a_keyboard_interrupt_leaves_no_reader(data):
    """Not even one that waits for a store."""

    class Interrupted(UserReLU):
        def forward(self, x, training=False):
            if training:
                raise KeyboardInterrupt
            return super().forward(x, training)

    model = fnn.Sequential(fnn.Linear(6, 8), Interrupted(), fnn.Linear(8, 3))
    with pytest.raises(KeyboardInterrupt):
        model.fit(cut(*data), buffer=10, verbose=0)
    assert no_reader_is_left()
