"""Sources of chunks, the networks that train on them, and how two fits are compared."""

import numpy as np
import pytest

import fastnn as fnn
from tests.training import network, weights
from tests.user_code import UserReLU

SIZES = [9, 4, 30, 1, 6]  # of chunks: some go together into a store of 15, one is larger


def own_network():
    return fnn.Sequential(fnn.Linear(6, 8), UserReLU(), fnn.Dropout(0.3), fnn.Linear(8, 3), dtype="float64")


def with_means():
    return fnn.Sequential(fnn.Linear(6, 8), fnn.BatchNorm(8), fnn.ReLU(), fnn.Dropout(0.3), fnn.Linear(8, 3))


NETWORKS = [network, with_means, own_network]


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
