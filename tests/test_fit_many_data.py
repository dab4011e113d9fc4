"""fit_many: the data of each network, rows of data that all share, validation data, and what is copied."""

import tracemalloc

import numpy as np
import pytest

import fastnn as fnn
from fastnn.training import rounds
from tests import many
from tests.many import assert_as_alone, folds, networks, small

SHORT = {"epochs": 3, "batch_size": 16}


@pytest.fixture
def data(rng):
    return many.labelled(rng)


@pytest.mark.usefixtures("backend")
class TestRows:
    @pytest.mark.parametrize("names", [("tanh", "norm"), ("dropout", "user")])
    def test_folds_and_bootstraps(self, names, data, rng):
        X, y = data
        models = networks(*names, *names)
        rows = [train for train, _ in folds(60, 4)] + [rng.integers(60, size=m) for m in (1, 60, 90, 200)]
        settings = [{"rows": r, "validation_rows": folds(60, 4)[i % 4][1], **SHORT} for i, r in enumerate(rows)]
        assert_as_alone(models, X, y, settings)

    def test_ways_to_say_them(self, data):
        X, y = data
        mask, places = np.arange(60) % 3 != 0, np.flatnonzero(np.arange(60) % 3 != 0)
        ways = [mask, places, places.tolist(), mask.tolist(), tuple(places), places.astype(np.uint8), range(60), None]
        models = [small() for _ in ways]
        histories = fnn.fit_many(models, X, y, rows=ways, verbose=0)
        assert all(history == histories[0] for history in histories[:6])
        assert histories[6] == histories[7] != histories[0]
        for way in ways[:-1]:
            if not isinstance(way, range):
                assert fnn.fit_many([small()], X, y, rows=way, verbose=0) == histories[:1]

    def test_weights_and_classes(self, data, rng):
        X, y = data
        v = rng.uniform(0, 2, 60)
        rows = [rng.integers(60, size=50) for _ in range(4)] + [None, None]
        settings = [
            {"rows": r, "sample_weight": weights, "class_weight": classes, "l2": 0.01, **SHORT}
            for r, weights, classes in zip(
                rows,
                (v, None, v, None, v, None),
                (None, "balanced", {0: 2.0}, [1, 2, 0], "balanced", None),
                strict=True,
            )
        ]
        models = [small(seed, dtype) for seed, dtype in enumerate(["float32", "float64"] * 3)]
        assert_as_alone(models, X, y, settings)

    def test_one_argument_for_all(self, data, rng):
        X, y = data
        models, v, rows = [small(seed) for seed in range(3)], rng.uniform(0, 2, 60), rng.integers(60, size=40)
        own = {"rows": rows, "validation_rows": rows[:9], "sample_weight": v, "class_weight": [1, 2, 3], **SHORT}
        assert_as_alone(models, X, y, [own] * 3, own)

    def test_lists_of_numbers_are_one_for_all(self, data):
        X, y = data
        v, rows = np.linspace(0, 1, 60), np.arange(50)
        listed, expected = [small(seed) for seed in range(2)], [small(seed) for seed in range(2)]
        settings = {"class_weight": [1, 2, 3], "verbose": 0}
        one = fnn.fit_many(listed, X.tolist(), y.tolist(), rows=rows.tolist(), sample_weight=v.tolist(), **settings)
        other = fnn.fit_many(expected, X, y, rows=rows, sample_weight=v, **settings)
        assert one == other
        assert one[0] != one[1]

    @pytest.mark.parametrize("names", [("tanh",), ("norm",), ("user",)])
    def test_what_is_wrong_elsewhere_does_no_harm(self, names, data):
        """X, labels and weights of samples that nobody trains on."""
        X, y, v = data[0].copy(), data[1].copy(), np.linspace(0, 1, 60)
        X[5], y[5], v[5] = np.nan, -1, -1
        X[6], y[6], v[6] = np.inf, 99, np.nan
        rows = np.r_[7:60, 7, 8]
        models = networks(*names, *names)
        settings = [
            {"rows": rows, "validation_rows": rows[:7], **SHORT},
            {"rows": rows, "sample_weight": v, **SHORT},
        ] * 2
        assert_as_alone(models, X, y, settings)
        targets = np.where(np.isin(np.arange(60), rows)[:, None], np.eye(3)[data[1]], np.nan)
        settings = [{"rows": rows, "loss": "squared_error", "class_weight": None, **SHORT}] * 4
        assert_as_alone(models, X, targets, settings)

    def test_data_of_each_have_rows_of_their_own(self, rng):
        sets = [many.labelled(rng, n) for n in (20, 40)]
        X, y = map(list, zip(*sets, strict=True))
        settings = [{"rows": rng.integers(n, size=30), "validation_rows": np.arange(9), **SHORT} for n in (20, 40)]
        assert_as_alone([small(0), small(1)], X, y, settings)

    def test_rows_that_change_meanwhile_move_nothing(self, data):
        """Or kernels would read elsewhere."""
        X, y = data
        rows = np.arange(40)
        model, expected = small(), small()
        expected.fit(X[:40], y[:40], verbose=0)
        fnn.fit_many([model], X, y, rows=rows, callbacks=[lambda *call: rows.fill(10**9)], verbose=0)
        np.testing.assert_array_equal(model._stack.params, expected._stack.params)


@pytest.mark.usefixtures("backend")
class TestValidation:
    def test_data_of_each_and_for_all(self, data):
        X, y = data
        models = [small(seed) for seed in range(3)]
        pairs = [(X[:20], y[:20]), None, (X[20:], y[20:])]
        assert_as_alone(models, X, y, [{"validation_data": pair, **SHORT} for pair in pairs])
        own = {"validation_data": pairs[0], **SHORT}
        assert_as_alone(models, X, y, [own] * 3, own)

    def test_a_loss_of_the_users_and_targets(self, data):
        X, y = data
        targets = np.eye(3)[y]
        settings = [{"loss": loss, "validation_rows": np.arange(0, 60, 7), **SHORT} for loss in ("huber", Halved())]
        settings += [{"loss": fnn.CrossEntropy(0.1), "validation_rows": np.arange(60) < 9, **SHORT}]
        assert_as_alone([small(seed) for seed in range(3)], X, targets, settings)

    def test_blocks(self, data, monkeypatch):
        models = [small(seed) for seed in range(2)]
        for model in models:
            model._stack.block = 7
        assert_as_alone(models, *data, [{"validation_rows": np.arange(1, 40), **SHORT}] * 2)


class Halved:
    """Half the squared error, as a user writes it."""

    def forward(self, pred, y):
        return float(np.square(pred - y).sum(axis=1).mean() / 2)

    def backward(self, pred, y):
        return (pred - y) / len(y)


class TestMemory:
    def test_x_is_never_copied_and_checked_once(self, monkeypatch):
        X, y = np.zeros((4000, 500), np.float32), np.arange(4000) % 3
        rows = [np.arange(i, 4000, 2) for i in (0, 1)] * 10
        models = [fnn.Sequential(fnn.Linear(500, 3), seed=seed) for seed in range(20)]
        settings = {"epochs": 1, "batch_size": 256, "verbose": 0}
        fnn.fit_many(models, X, y, rows=rows, validation_rows=rows[::-1], **settings)
        looked = []
        finite = fnn.validation.finite
        monkeypatch.setattr(
            fnn.validation.arrays, "finite", lambda name, x, dtype: looked.append(name) or finite(name, x, dtype)
        )
        tracemalloc.start()
        try:
            fnn.fit_many(models, X, y, rows=rows, validation_rows=rows[::-1], **settings)
            fnn.fit_many(models, X, y, **settings)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < X.nbytes / 2
        assert looked.count("X") == 1

    @pytest.mark.parametrize("kind", ["list", "int16"])
    def test_other_dtypes_are_converted_once(self, kind, data, monkeypatch):
        X, y = data[0].tolist() if kind == "list" else np.rint(data[0] * 9).astype(np.int16), data[1].astype(np.int16)
        made, train = [], rounds.together.train
        monkeypatch.setattr(rounds.together, "train", lambda requests: made.extend(requests) or train(requests))
        fnn.fit_many([small(seed) for seed in range(5)], X, y, class_weight="balanced", verbose=0)
        for name in ("x", "y", "sample_weight"):
            assert len({id(getattr(request.batches[0], name)) for request in made}) == 1
