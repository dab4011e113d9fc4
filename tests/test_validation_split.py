"""A share of the samples for validation: which they are, and that fit does with them what it does with two arrays."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastnn as fnn
from fastnn.training.splitting import split
from tests.many import assert_as_alone, small
from tests.training import assert_same_weights, labelled, network, weights

SHORT = {"epochs": 3, "batch_size": 16, "verbose": 0}


@pytest.fixture
def data(rng):
    return labelled(rng)


def counts(share, labels):
    """How many of each class are held out."""
    labels = np.asarray(labels)
    _, held_out = split(share, len(labels), None, labels, 0)
    return [int(np.sum(labels[held_out] == c)) for c in np.unique(labels)]


class TestSplit:
    @pytest.mark.parametrize(
        ("share", "sizes", "expected"),
        [
            (0.2, [50, 30, 20], [10, 6, 4]),
            (0.5, [3, 3], [2, 1]),
            (0.1, [90, 9, 1], [9, 1, 0]),
            (0.1, [95, 5], [9, 1]),  # one of the rare class, though its share is half of one
            (0.01, [50, 50], [1, 0]),  # too few for one of each
            (0.9, [10, 2, 1], [9, 1, 0]),  # each class keeps one to train on
            (0.3, [1, 1, 1, 7], [0, 0, 0, 3]),
        ],
    )
    def test_of_each_class_by_hand(self, share, sizes, expected):
        assert counts(share, np.repeat(np.arange(len(sizes)), sizes)) == expected

    def test_classes_of_one_sample_each_are_split_all_the_same(self):
        train, held_out = split(0.4, 5, None, np.arange(5), 0)
        assert (len(train), len(held_out)) == (3, 2)

    @given(
        st.floats(0.01, 0.99),
        st.lists(st.integers(0, 4), min_size=2, max_size=60),
        st.booleans(),
        st.integers(0, 3),
    )
    def test_what_holds_of_every_split(self, share, labels, stratified, seed):
        labels, n = np.array(labels), len(labels)
        train, held_out = split(share, n, None, labels if stratified else None, seed)
        assert sorted([*train, *held_out]) == list(range(n))
        assert len(train) > 0 < len(held_out)
        assert (np.diff(train) > 0).all()
        assert (np.diff(held_out) > 0).all()
        wanted = min(max(round(share * n), 1), n - 1)
        _, sizes = np.unique(labels, return_counts=True)
        if not stratified or sizes.max() == 1:
            assert len(held_out) == wanted
        else:
            assert len(held_out) == min(wanted, (sizes - 1).sum())
            assert set(labels) == set(labels[train])
            if wanted >= np.count_nonzero(sizes > 1):
                assert {c for c, m in zip(np.unique(labels), sizes, strict=True) if m > 1} <= set(labels[held_out])
        again = split(share, n, None, labels if stratified else None, seed)
        assert all(np.array_equal(a, b) for a, b in zip((train, held_out), again, strict=True))

    def test_another_seed_draws_others(self):
        assert len({tuple(split(0.3, 40, None, None, seed)[1]) for seed in range(5)}) == 5

    def test_it_is_random_and_not_the_end(self):
        drawn = np.concatenate([split(0.2, 50, None, None, seed)[1] for seed in range(400)])
        expected = 400 * 0.2
        assert np.abs(np.bincount(drawn, minlength=50) - expected).max() < 6 * np.sqrt(expected * 0.8)

    def test_rows_as_the_samples_that_they_choose(self, rng):
        labels, rows = rng.integers(0, 3, 40), rng.permutation(40)[:25]
        train, held_out = split(0.3, 40, rows, labels, 7)
        expected = split(0.3, 25, None, labels[rows], 7)
        np.testing.assert_array_equal(train, rows[expected[0]])
        np.testing.assert_array_equal(held_out, rows[expected[1]])

    def test_rows_that_come_twice_are_on_one_side(self, rng):
        rows = rng.integers(0, 30, 60)
        train, held_out = split(0.3, 40, rows, None, 0)
        assert not set(train) & set(held_out)
        assert set(train) | set(held_out) == set(rows)
        np.testing.assert_array_equal(train, [row for row in rows if row not in held_out])
        assert len(set(held_out)) == len(held_out) == round(0.3 * len(set(rows)))


@pytest.mark.usefixtures("backend")
class TestFit:
    @pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
    def test_as_with_two_arrays(self, loss, data):
        X, y = data
        y = y if loss == "cross_entropy" else np.eye(3)[y]
        v = np.linspace(1, 2, 50)
        model, expected = network(seed=3), network(seed=3)
        train, held_out = split(0.3, 50, None, y if y.ndim == 1 else None, 3)
        history = model.fit(X, y, loss=loss, validation_split=0.3, sample_weight=v, **SHORT)
        settings = {"loss": loss, "validation_data": (X[held_out], y[held_out]), "sample_weight": v[train], **SHORT}
        assert history == expected.fit(X[train], y[train], **settings)
        assert_same_weights(model, expected, rtol=0)

    def test_of_both_classes_of_a_binary_output(self, data):
        X = data[0]
        rare = np.arange(50) % 25 == 3
        model = fnn.Sequential(fnn.Linear(6, 1), dtype="float64", seed=3)
        history = model.fit(X, rare, loss="binary_cross_entropy", validation_split=0.3, **SHORT)
        held_out = split(0.3, 50, None, rare.astype(int), 3)[1]
        assert rare[held_out].sum() == 1
        assert history["val_loss"][-1] == pytest.approx(model.evaluate(X[held_out], rare[held_out])["loss"])

    def test_the_next_fit_sets_the_same_aside(self, data):
        X, y = data
        model, optimizer = network(seed=4), fnn.SGD(momentum=0.9)
        model.fit(X, y, optimizer=optimizer, validation_split=0.2, **SHORT)
        model, optimizer = copy.deepcopy((model, optimizer))
        model.fit(X, y, optimizer=optimizer, validation_split=0.2, **SHORT)
        _, held_out = split(0.2, 50, None, y, 4)
        assert model.history["val_loss"][-1] == model.evaluate(X[held_out], y[held_out])["loss"]

    def test_samples_set_aside_are_checked_before_training(self, data):
        X, y = data
        model = network(seed=3)
        before = weights(model)
        X[split(0.3, 50, None, y, 3)[1][0]] = np.nan
        with pytest.raises(ValueError, match="X holds NaN or infinite values"):
            model.fit(X, y, validation_split=0.3, **SHORT)
        np.testing.assert_array_equal(weights(model), before)

    def test_balanced_weights_count_the_samples_trained_on(self, data):
        X, y = data
        model, expected = network(), network()
        train, _ = split(0.3, 50, None, y, 0)
        model.fit(X, y, class_weight="balanced", validation_split=0.3, **SHORT)
        expected.fit(X[train], y[train], class_weight="balanced", **SHORT)
        assert_same_weights(model, expected, rtol=0)

    def test_early_stopping_watches_them(self, data):
        stopping = fnn.EarlyStopping(patience=2)
        history = network().fit(*data, validation_split=0.3, callbacks=[stopping], **{**SHORT, "epochs": 200})
        assert stopping.best_value == min(history["val_loss"])

    def test_one_sample(self):
        with pytest.raises(ValueError, match=r"validation_split is 0\.5, but there is 1 sample: expected at least 2"):
            network().fit(np.zeros((1, 6)), [0], validation_split=0.5, **SHORT)

    def test_batches_are_those_of_the_samples_trained_on(self, data):
        model = fnn.Sequential(fnn.Linear(6, 4), fnn.BatchNorm(4), fnn.Linear(4, 3))
        with pytest.raises(ValueError, match="batch_size is 17 for 35 samples, which leaves 1 to the last batch"):
            model.fit(*data, validation_split=0.3, **{**SHORT, "batch_size": 17})
        model.fit(*data, validation_split=0.3, **{**SHORT, "batch_size": 49})

    def test_many_as_each_alone(self, data):
        X, y = data
        models = [small(seed) for seed in range(4)]
        rows = [None, np.arange(50) % 5 != 0, np.arange(40), None]
        shares = [0.2, 0.3, 0.5, None]
        settings = [{"rows": r, "validation_split": share} for r, share in zip(rows, shares, strict=True)]
        histories = assert_as_alone(models, X, y, settings)
        assert ["val_loss" in history for history in histories] == [True, True, True, False]
