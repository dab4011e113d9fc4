"""Data in pieces: a source of chunks trains as its arrays do, holds a few of them, and is refused by name."""

import contextlib
import functools
import itertools
import re
import threading
import tracemalloc

import numpy as np
import pytest

import fastnn as fnn
from tests.test_fit_refusals import state
from tests.training import assert_same_weights, labelled, network, weights
from tests.user_code import AbsoluteError, UserReLU

on_both_backends = pytest.mark.usefixtures("backend")

SIZES = [9, 4, 30, 1, 6]  # of chunks: some go together into a store of 15, one is larger


def own_network():
    return fnn.Sequential(fnn.Linear(6, 8), UserReLU(), fnn.Dropout(0.3), fnn.Linear(8, 3), dtype="float64")


def with_means():
    return fnn.Sequential(fnn.Linear(6, 8), fnn.BatchNorm(8), fnn.ReLU(), fnn.Dropout(0.3), fnn.Linear(8, 3))


NUMBERS = np.ones((50, 6)), np.zeros(50, int)
NETWORKS = [network, with_means, own_network]


@pytest.fixture
def data(rng):
    return labelled(rng)


def cut(*arrays, sizes=SIZES):
    """A list of chunks."""
    return list(zip(*(np.split(array, np.cumsum(sizes)[:-1]) for array in arrays), strict=True))


class Again:
    """What can be iterated again and again, and gives its chunks in one array each time."""

    def __init__(self, chunks):
        self.chunks = chunks

    def __iter__(self):
        room = [np.empty((50, *a.shape[1:]), a.dtype) for a in self.chunks[0]]
        for chunk in self.chunks:
            for place, array in zip(room, chunk, strict=True):
                place[: len(array)] = array
            yield [place[: len(chunk[0])] for place in room]


class Indexed:
    def __init__(self, chunks):
        self.chunks = chunks

    def __len__(self):
        return len(self.chunks)

    def __getitem__(self, place):
        return self.chunks[place]


SOURCES = {
    "list": lambda chunks: chunks,
    "tuple": tuple,
    "indexed": Indexed,
    "iterable": Again,
    "function of an iterator": lambda chunks: lambda: iter(chunks),
    "function of a list": lambda chunks: lambda: chunks,
}


def fitted(make, X, y=None, **settings):
    model = make()
    history = model.fit(X, y, **{"optimizer": fnn.Adam(0.01), "epochs": 3, "batch_size": 8, "verbose": 0, **settings})
    return model, history


def assert_same_bits(one, other):
    np.testing.assert_array_equal(one[0]._stack.params, other[0]._stack.params)
    assert one[0]._stack.rng.bit_generator.state == other[0]._stack.rng.bit_generator.state
    assert dict(one[1]) == dict(other[1])


def assert_alike(one, other):
    """The same bits of weights, and losses to rounding."""
    np.testing.assert_array_equal(weights(one[0]), weights(other[0]))
    assert list(one[1]) == list(other[1])
    for name, values in one[1].items():
        assert values == pytest.approx(other[1][name], rel=1e-5)


@on_both_backends
@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": fnn.SGD(fnn.schedules.cosine(0.1, 30, per="step"), momentum=0.9, clip_norm=1.0), "l2": 0.01},
        {"accumulate": 3, "batch_size": 9, "class_weight": "balanced"},
        {"accumulate": 3, "batch_size": 25, "class_weight": {1: 2.0}},
        {"batch_size": 100, "validation_data": (np.ones((3, 6)), [0, 1, 2])},
    ],
    ids=lambda settings: " ".join(settings) or "plain",
)
def test_one_chunk_trains_to_the_bits_of_its_arrays(make, settings, data):
    """Whatever the buffer: a chunk is never divided."""
    for kind in ("list", "iterable"):
        for buffer in (None, 20):
            source = SOURCES[kind]([data])
            optimizer = settings.get("optimizer", fnn.Adam(0.01))
            found = fitted(make, source, buffer=buffer, **{**settings, "optimizer": optimizer.afresh()})
            assert_same_bits(found, fitted(make, *data, **{**settings, "optimizer": optimizer.afresh()}))


@on_both_backends
@pytest.mark.parametrize(
    ("make", "kind"), [*((network, kind) for kind in SOURCES), *((n, "list") for n in NETWORKS[1:])]
)
def test_batches_are_those_of_arrays(make, kind, data):
    """Without another order the weights have the same bits, however the samples are cut."""
    v = np.linspace(0, 2, 50)
    settings = {"shuffle": False, "l2": 0.01}
    source = SOURCES[kind](cut(*data, v))
    by_step = fnn.SGD(fnn.schedules.cosine(0.1, 30, per="step"))
    for more in (
        {"optimizer": by_step},
        {"accumulate": 2, "batch_size": 5, "class_weight": [1, 0, 3]},
        {"batch_size": 40},
    ):
        for buffer in (None, 2, 30):
            found = fitted(make, source, buffer=buffer, **settings, **more)
            assert_alike(found, fitted(make, *data, sample_weight=v, **settings, **more))


class Seen(UserReLU):
    """Notes the first column of every batch in training."""

    def forward(self, x, training=False):
        if training:
            self.seen.append(x[:, 0].astype(int).tolist())
        return super().forward(x, training)


def orders(source, **settings):
    """The samples of each epoch, in the order in which they come."""
    layer = Seen()
    layer.seen = []
    model = fnn.Sequential(layer, fnn.Linear(1, 1), seed=3)
    model.fit(source, loss="squared_error", optimizer=fnn.SGD(1e-9), epochs=2, batch_size=4, verbose=0, **settings)
    sizes = [len(batch) for batch in layer.seen]
    assert sizes == [4] * 12 + [2] + [4] * 12 + [2]
    samples = [*itertools.chain(*layer.seen)]
    assert all(sorted(samples[start : start + 50]) == list(range(50)) for start in (0, 50))
    return samples[:50], samples[50:]


def test_the_order_of_samples():
    x = np.arange(50.0)[:, None]
    chunks = cut(x, x, sizes=[10] * 5)
    assert orders(chunks, shuffle=False, buffer=40) == (list(range(50)),) * 2
    both = [orders(source, buffer=40) for source in (chunks, lambda: iter(chunks))]
    for first, second in both:
        assert first != second
    of_list, of_iterator = both
    # Two chunks go together into one store; batches of four divide their 20 samples.
    stores = [[sorted({s // 10 for s in epoch[i : i + 20]}) for i in (0, 20, 40)] for epoch in of_iterator]
    assert stores == [[[0, 1], [2, 3], [4]]] * 2
    assert of_iterator[0][:20] != sorted(of_iterator[0][:20])
    stores = [[sorted({s // 10 for s in epoch[i : i + 20]}) for i in (0, 20, 40)] for epoch in of_list]
    assert all(sorted(itertools.chain(*epoch)) == list(range(5)) for epoch in stores)
    assert stores[0] != stores[1]


def test_what_does_not_fill_a_batch_is_among_the_first_of_the_next_store():
    x = np.arange(50.0)[:, None]
    first, _ = orders(lambda: iter(cut(x, x)), buffer=30)
    assert sorted(first[:12]) != list(range(12))  # one of the first store's 13 goes over
    assert set(range(13)) <= set(first[:16])


def test_labels_that_are_names(data):
    X, y = data
    names = np.array(["red", "blue", "a green that is longer"])[y]
    for settings in ({}, {"class_weight": "balanced"}, {"class_weight": {"red": 3}}):
        settings |= {"validation_data": (X, names), "shuffle": False, "metrics": ["f1"]}
        found = fitted(network, lambda: iter(cut(X, names)), **settings)
        expected = fitted(network, X, names, **settings)
        del expected[1]["f1"]  # of the training data, which a source would give once more for it
        assert_alike(found, expected)
        np.testing.assert_array_equal(found[0].predict(X), expected[0].predict(X))
    again = [(X[:5], names[:5])]  # by the classes from before
    found[0].fit(again, epochs=1, verbose=0)
    with pytest.raises(ValueError, match=r"chunk 1 .*: y holds label 'pink' in row 0, but the classes are"):
        found[0].fit([*again, (X[:1], ["pink"])], verbose=0)


@on_both_backends
def test_targets_of_several_outputs_and_of_a_loss_of_ones_own(data):
    X, _ = data
    for loss, y in (("squared_error", X[:, :3]), (AbsoluteError(), X[:, 0]), ("cross_entropy", np.eye(3)[[0] * 50])):
        settings = {"loss": loss, "shuffle": False}
        assert_alike(fitted(network, Again(cut(X, y)), buffer=20, **settings), fitted(network, X, y, **settings))

    class Names(AbsoluteError):
        def forward(self, pred, y):
            return super().forward(pred, (y == "yes") * 1.0)

        def backward(self, pred, y):
            return super().backward(pred, (y == "yes") * 1.0)

    chunks = [([[0]], ["no"]), ([[1], [2]], ["yes", "no"])]
    found = [fnn.Sequential(fnn.Linear(1, 1)) for _ in range(2)]
    found[0].fit(chunks, loss=Names(), shuffle=False, verbose=0)
    found[1].fit([[0], [1], [2]], ["no", "yes", "no"], loss=Names(), shuffle=False, verbose=0)
    assert_same_weights(*found)


@on_both_backends
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64, int])
def test_numbers_of_any_kind(kind, data):
    X = np.arange(300).reshape(50, 6) % 7
    X = (X - 3 * (kind is not np.uint8)).astype(kind)
    found = fitted(with_means, Again(cut(X, data[1])), shuffle=False)
    assert_alike(found, fitted(with_means, X, data[1], shuffle=False))


def test_callbacks_stop_and_restore(data):
    settings = {"validation_data": data, "shuffle": False, "epochs": 30}
    results = []
    for arguments in (data, (cut(*data),)):
        stopping = fnn.EarlyStopping(patience=2, min_delta=0.1)
        plateau = fnn.ReduceOnPlateau(patience=1)
        results.append((*fitted(network, *arguments, callbacks=[stopping, plateau], **settings), stopping.best_epoch))
    assert results[0][2] == results[1][2] < 28
    assert_alike(*results)


class Listener:
    """Notes the places of updates."""

    def __init__(self):
        self.heard = []

    def __call__(self, model, epoch, values):
        pass

    def after_batch(self, model, epoch, batch, loss):
        self.heard.append((epoch, batch))


def test_what_is_called_after_each_update(data, tmp_path):
    """The same bits as without, updates counted through all stores, and by a training that goes on as well."""
    by_step = {"optimizer": fnn.SGD(fnn.schedules.cosine(0.1, 12, per="step")), "accumulate": 2}
    whole = fitted(network, cut(*data), buffer=20, **by_step)
    for epochs, first in ((1, 1), (3, 2)):
        listener = Listener()
        settings = by_step | {"optimizer": by_step["optimizer"].afresh(), "callbacks": [listener]}
        found = fitted(network, cut(*data), buffer=20, epochs=epochs, checkpoint=tmp_path / "run.npz", **settings)
        assert listener.heard == [(epoch, i) for epoch in range(first, epochs + 1) for i in (1, 2, 3, 4)]
    np.testing.assert_array_equal(weights(found[0]), weights(whole[0]))


class TestCheckpoint:
    @pytest.mark.parametrize("make", NETWORKS)
    def test_goes_on_to_the_same_bits(self, make, data, tmp_path):
        path = tmp_path / "run.npz"
        chunks = cut(*data)
        whole = fitted(make, chunks, buffer=20)
        for epochs in (1, 3):
            found = fitted(make, chunks, buffer=20, epochs=epochs, checkpoint=path)
        assert_same_bits(found, whole)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"buffer": 22}, "written with buffer=20, but buffer is 22"),
            ({"class_weight": "balanced"}, "written with class_weight=None, but class_weight is "),
            (
                {"X": cut(np.ones((50, 6)), np.zeros((50, 3))[:, 0].astype(int), np.ones(50))},
                "written with sample_weight=False, but",
            ),
            ({"X": cut(np.ones((50, 6), np.uint8), np.zeros(50, int))}, r"with X=\['chunks', 6, '<f8'\], but X is"),
            ({"X": cut(np.ones((50, 6)), np.zeros(50, int))[:3]}, "gave 3 chunks with 43 samples, but 5 with 50 in"),
        ],
    )
    def test_of_other_data(self, settings, message, data, tmp_path):
        path = tmp_path / "run.npz"
        fitted(network, cut(*data), buffer=20, epochs=2, checkpoint=path)
        settings = {"X": cut(*data), "buffer": 20, **settings}
        with pytest.raises(ValueError, match=message):
            fitted(network, checkpoint=path, **settings)


def huge(n):
    """A function of n chunks, and which of them were asked for."""
    asked = []

    def source():
        for i in range(n):
            asked.append(i)
            yield np.full((100, 50), i / n, np.float32), np.zeros(100, int)

    return source, asked


def test_memory_is_that_of_the_buffer():
    source, asked = huge(100)  # 2 MB
    model = fnn.Sequential(fnn.Linear(50, 2))
    model.fit(source, epochs=1, buffer=1000, batch_size=50, verbose=0)
    asked.clear()
    tracemalloc.start()
    try:
        model.fit(source, epochs=2, buffer=1000, batch_size=50, verbose=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert asked == [0, *range(100), *range(100)]
    assert 1000 * 208 < peak < 1000 * 208 * 1.6


def test_the_next_chunks_are_read_while_these_train():
    """The layer waits until the source has been asked for a chunk of the next store."""
    gone_on = threading.Event()

    class Waiting(UserReLU):
        def forward(self, x, training=False):
            assert not training or gone_on.wait(30)
            return super().forward(x, training)

    def source():
        for i in range(4):
            if i == 3:
                gone_on.set()
            yield np.ones((10, 2)), np.zeros(10, int)

    model = fnn.Sequential(Waiting(), fnn.Linear(2, 2))
    gone_on.set()
    model.forward(np.ones((1, 2)))
    gone_on.clear()
    model.fit(source, epochs=1, buffer=20, verbose=0)


def test_a_list_of_arrays_is_not_copied(data, monkeypatch):
    """An array that fills a store alone trains where it lies."""
    seen = []
    module = fnn.backend.active()
    original = module.train_epoch
    monkeypatch.setattr(
        module, "train_epoch", lambda n, p, batches, *rest: seen.append(batches.x) or original(n, p, batches, *rest)
    )
    X, y = data
    fitted(network, cut(X, y, sizes=[25, 25]), buffer=50, epochs=1, batch_size=5)
    assert [np.shares_memory(x, X) for x in seen] == [True, True]
    seen.clear()
    fitted(network, Indexed(cut(X, y, sizes=[25, 25])), buffer=50, epochs=1, batch_size=5)
    assert [np.shares_memory(x, X) for x in seen] == [False, False]


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
    "width of the first": ([(X[:, :5], Y)], ValueError, "X has 5 columns, but the model has 6 inputs"),
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


class Loader:
    """As that of PyTorch whose workers persist: its iterator, always the same, starts anew."""

    persistent_workers = True

    def __init__(self, chunks):
        self.chunks, self.asked = chunks, 0

    def __iter__(self):
        self.asked += 1
        self.left = iter(self.chunks)
        return self.walk

    @functools.cached_property
    def walk(self):
        loader = self

        class Walk:
            def __iter__(self):
                return self

            def __next__(self):
                return next(loader.left)

        return Walk()


def test_a_loader_that_returns_one_iterator_which_starts_anew(data):
    loader = Loader(cut(*data))
    assert_alike(fitted(network, loader, shuffle=False), fitted(network, *data, shuffle=False))
    assert loader.asked == 4  # for the first chunk, and for each epoch


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


def test_a_line_an_epoch(data, capsys):
    fitted(network, cut(*data), epochs=2, verbose=1)
    assert re.fullmatch(r"(epoch \d/2 .*samples/s.*\n){2}", capsys.readouterr().out)
