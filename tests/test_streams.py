"""Data in pieces: a source of chunks trains as its arrays do, and holds a few of them."""

import functools
import itertools
import re
import threading
import tracemalloc

import numpy as np
import pytest

import fastnn as fnn
from tests.streams import NETWORKS, SOURCES, Again, Indexed, assert_alike, assert_same_bits, cut, fitted, with_means
from tests.training import assert_same_weights, labelled, network, weights
from tests.user_code import AbsoluteError, UserReLU

on_both_backends = pytest.mark.usefixtures("backend")


@pytest.fixture
def data(rng):
    return labelled(rng)


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
    """A function of n chunks, of 100 samples of 2,008 bytes each, and which of them were asked for."""
    asked = []

    def source():
        for i in range(n):
            asked.append(i)
            yield np.full((100, 500), i / n, np.float32), np.zeros(100, int)

    return source, asked


def test_memory_is_that_of_the_buffer():
    """Which is much beside the tuples that Python keeps for the next ones, two thousand of each length at most."""
    source, asked = huge(100)
    model = fnn.Sequential(fnn.Linear(500, 2))
    model.fit(source, epochs=1, buffer=1000, batch_size=50, verbose=0)
    asked.clear()
    tracemalloc.start()
    try:
        model.fit(source, epochs=2, buffer=1000, batch_size=50, verbose=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert asked == [0, *range(100), *range(100)]
    assert 1000 * 2008 < peak < 1000 * 2008 * 1.6


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


def test_a_line_an_epoch(data, capsys):
    fitted(network, cut(*data), epochs=2, verbose=1)
    assert re.fullmatch(r"(epoch \d/2 .*samples/s.*\n){2}", capsys.readouterr().out)
