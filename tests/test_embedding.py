"""Embeddings: by hand, on both paths of training, which rows a batch moves, and codes that are none."""

import copy

import numpy as np
import pytest

import fastnn as fnn
from fastnn import kernels
from tests.many import OPTIMIZERS, assert_as_alone
from tests.training import assert_same_weights
from tests.user_code import UserReLU

COLUMNS = {3: (50, 3), 1: (4, 2)}


def coded(rng, m=60):
    """60 samples of three features, with codes in columns 1 and 3, and their labels 0..2, which follow from those."""
    X = rng.normal(size=(m, 5))
    X[:, 1], X[:, 3] = rng.integers(0, 4, m), rng.integers(0, 50, m)
    return X, (X[:, 1] + X[:, 3]).astype(int) % 3


def model(dtype="float64", rectifier=fnn.ReLU, columns=COLUMNS, seed=1):
    layers = fnn.Linear(8, 9), rectifier(), fnn.Linear(9, 3)
    return fnn.Sequential(fnn.Embedding(columns), *layers, dtype=dtype, seed=seed)


def test_by_hand(backend, dtype):
    embedding = fnn.Embedding({2: (2, 1), 0: (3, 2)})
    each = fnn.Sequential(embedding, fnn.Linear(4, 4, init=np.eye(4)), dtype=np.dtype(dtype).name)
    assert each._stack.n_in == 3
    embedding.assign("table0", [[1, 2], [3, 4], [5, 6]])
    embedding.assign("table2", [[7], [8]])
    assert list(embedding.tables) == [0, 2]
    X = [[2, 9, 0], [0, 10, 1], [2, 11, 0]]
    np.testing.assert_array_equal(each.forward(X), [[9, 5, 6, 7], [10, 1, 2, 8], [11, 5, 6, 7]])
    each.forward(X, training=True)
    dx = each.backward(np.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(dx, [[0, 0, 0], [0, 4, 0], [0, 8, 0]])
    np.testing.assert_array_equal(embedding.table_grads[0], [[5, 6], [0, 0], [1 + 9, 2 + 10]])
    np.testing.assert_array_equal(embedding.table_grads[2], [[3 + 11], [7]])


def test_compiled_and_layer_by_layer_train_alike(backend, rng):
    X, y = coded(rng)
    for name in ("sgd", "momentum", "adam", "adamw", "rule"):
        models = [model(), model(rectifier=UserReLU)]
        for each in models:
            assert fnn.check_gradients(each, X[:9], y[:9], l2=0.1) < 1e-6
            each.fit(X, y, optimizer=OPTIMIZERS[name](), l2=0.01, epochs=3, batch_size=16, verbose=0)
        assert_same_weights(*models)


@pytest.mark.parametrize("rectifier", [fnn.ReLU, UserReLU])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_batch_moves_the_rows_of_its_codes_alone(name, rectifier, backend, rng):
    """Those of others keep their values and their state, though it would move them."""
    X, y = coded(rng)
    each, optimizer = model(rectifier=rectifier), OPTIMIZERS[name]()
    each.fit(X, y, optimizer=optimizer, epochs=2, verbose=0)
    some = X[X[:, 3] < 10]
    before = [p.copy() for p in each.layers[0].tables.values()]
    start = each._stack.spans[0]["table3"]
    slots = optimizer.state()[0][:, start : start + 150].copy().reshape(-1, 50, 3)
    each.fit(some, y[X[:, 3] < 10], optimizer=optimizer, epochs=2, verbose=0)
    held = np.isin(np.arange(50), some[:, 3])
    changed = (each.layers[0].tables[3] != before[1]).any(axis=1)
    np.testing.assert_array_equal(changed, held)
    after = optimizer.state()[0][:, start : start + 150].reshape(-1, 50, 3)
    np.testing.assert_array_equal(after[:, ~held], slots[:, ~held])


def test_a_step_of_a_loop_of_ones_own_moves_them_alone_too(backend, rng):
    X, _ = coded(rng)
    each, optimizer = model(), fnn.Adam()
    for rows in (X, X[:2]):
        before = each.layers[0].tables[3].copy()
        outputs = each.forward(rows, training=True)
        each.backward(np.ones_like(outputs))
        each.forward(X, training=True)  # which has no gradients yet
        optimizer.step(each)
    changed = (each.layers[0].tables[3] != before).any(axis=1)
    np.testing.assert_array_equal(changed, np.isin(np.arange(50), X[:2, 3]))


@pytest.mark.parametrize("m", [1, 2, 3, 100, 1000])
def test_gradients_of_many_samples_are_summed_in_any_width(m, rng, dtype):
    """A step along the gradient of Σ of the outputs, whose rows are the counts of the codes."""
    columns = {0: (7, 33), 1: (2000, 1), 2: (5, 2)}
    X = np.stack([rng.integers(0, n, m) for n, _ in columns.values()], axis=1).astype(dtype)
    each = fnn.Sequential(
        fnn.Embedding(columns), fnn.Linear(36, 1, init=np.ones((36, 1)), bias=False), dtype=np.dtype(dtype).name
    )
    before = {column: table.copy() for column, table in each.layers[0].tables.items()}
    y = each.forward(X) - dtype(0.5)  # so that every gradient is 2 · 0.5 / m
    each.fit(X, y, loss="squared_error", optimizer=fnn.SGD(lr=1), epochs=1, batch_size=m, shuffle=False, verbose=0)
    for column, (categories, _) in columns.items():
        counts = np.bincount(X[:, column].astype(int), minlength=categories)
        moved = before[column] - each.layers[0].tables[column]
        np.testing.assert_allclose(moved, np.broadcast_to(counts[:, None] / m, moved.shape), atol=1e-3)


def test_networks_trained_at_once_have_the_bits_of_one_alone(rng):
    X, y = coded(rng)
    models = [model(dtype, seed=seed) for dtype in ("float32", "float64") for seed in range(3)]
    assert_as_alone(models, X, y, [{"epochs": 2, "optimizer": "adam"}] * len(models))
    expected = np.mean([each.forward(X) for each in models], axis=0)
    np.testing.assert_allclose(fnn.Ensemble(models).outputs(X), expected, rtol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_networks_side_by_side_have_the_bits_of_one_alone(clip_norm, accumulate, rng, dtype, monkeypatch):
    """Each with its own samples, so with its own rows of the tables, and one with tables that are frozen."""
    X, y = coded(rng)
    trained = []
    monkeypatch.setattr(kernels, "lanes_pay", lambda *numbers: True)
    monkeypatch.setattr(
        kernels, "train_lanes", lambda jobs, train=kernels.train_lanes: trained.append(len(jobs)) or train(jobs)
    )
    models = [model(dtype, seed=seed) for seed in range(3)]
    models[2].layers[0].trainable = False
    twins, rows = copy.deepcopy(models), [rng.permutation(len(X))[: len(X) - k] for k in range(3)]
    settings = {"epochs": 3, "batch_size": 8, "accumulate": accumulate, "l2": 0.01, "verbose": 0}
    optimizers = [[fnn.Adam(0.01 * (1 + k), clip_norm=clip_norm) for k in range(3)] for _ in range(2)]
    with fnn.use_backend("numba"):
        together = fnn.fit_many(models, X, y, rows=rows, optimizer=optimizers[0], **settings)
        for history, each, twin, own, optimizer in zip(together, models, twins, rows, optimizers[1], strict=True):
            assert history["loss"] == twin.fit(X[own], y[own], optimizer=optimizer, **settings)["loss"]
            np.testing.assert_array_equal(each._stack.params, twin._stack.params)
    assert sum(trained) >= 3 or kernels.count_lanes(np.dtype(dtype)) == 1
    expected = np.mean([each.forward(X) for each in models], axis=0)
    np.testing.assert_allclose(fnn.Ensemble(models).outputs(X), expected, rtol=1e-5, atol=1e-6)


def test_large_tables_are_not_copied_for_few_samples():
    large = fnn.Sequential(fnn.Embedding({0: (10_000, 8)}), fnn.Linear(8, 9))
    for each, samples, pays in ((large, 1, False), (large, 1000, True), (model(), 1, True)):
        assert kernels.lanes_pay(each._stack.inference, each.dtype, samples, 100) == pays


def test_it_is_saved_and_behind_features_that_are_standardised(rng, tmp_path):
    X, y = coded(rng)
    scaler = fnn.Standardize(5).adapt(X, columns=[0, 2, 4])
    each = fnn.Sequential(scaler, fnn.Embedding(COLUMNS), fnn.Linear(8, 3))
    each.fit(X, y, epochs=1, verbose=0)
    each.save(tmp_path / "m.npz")
    np.testing.assert_array_equal(fnn.load(tmp_path / "m.npz").forward(X), each.forward(X))
    each.layers[0].adapt(X)
    with pytest.raises(ValueError, match=r"changes column 1, whose codes an Embedding takes: adapt it to the other"):
        each.forward(X)


@pytest.mark.parametrize(("value", "shown"), [(50, "50"), (-1, "-1"), (2.5, "2.5"), (1e30, "1e\\+30")])
def test_numbers_that_are_no_codes_name_their_row(value, shown, rng):
    X, y = coded(rng)
    each = model()
    X[7, 3] = value
    message = rf"X holds {shown} in row 7 of column 3, but Embedding\(.* has the codes 0\.\.49 there"
    for call in (
        lambda: each.fit(X, y, verbose=0),
        lambda: each.forward(X),
        lambda: each.forward(X, training=True),
        lambda: each.fit(X[:5], y[:5], validation_data=(X, y), verbose=0),
        lambda: fnn.fit_many([each], X, y, rows=np.array([1, 7]), verbose=0),
        lambda: fnn.Ensemble([model(), model(seed=2)]).outputs(X),
    ):
        before = each._stack.params.copy()
        with pytest.raises(ValueError, match=message.replace("X holds", "X.* holds")):
            call()
        np.testing.assert_array_equal(each._stack.params, before)
    fnn.fit_many([each], X, y, rows=np.array([1, 8]), verbose=0)


def test_codes_that_change_after_they_were_checked(backend, rng):
    """They move no address: what is computed with them is NaN, and the fit says why."""
    X, y = coded(rng)
    each = model()

    def spoil(model, epoch, values):
        X[:, 3] = 1e15

    with pytest.raises(ValueError, match=r"X holds 1e\+15 in row 0 of column 3"):
        each.fit(X, y, epochs=3, callbacks=[spoil], verbose=0)
    assert np.isfinite(each._stack.params).all()


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({}, ValueError, "columns is empty"),
        ([3], TypeError, "columns is .* expected a mapping"),
        ({-1: (3, 2)}, ValueError, "column is -1, expected an integer >= 0"),
        ({"a": (3, 2)}, TypeError, "column is 'a', expected an integer >= 0"),
        ({0: 3}, TypeError, r"columns\[0\] is 3, expected \(categories, width\)"),
        ({0: (0, 2)}, ValueError, "categories of column 0 is 0"),
        ({0: (3, 2.5)}, TypeError, "width of column 0 is 2.5"),
        ({0: (2**25, 2)}, ValueError, "categories of column 0 are 33554432, expected at most 16777216"),
    ],
)
def test_refusals(columns, error, message):
    with pytest.raises(error, match=message):
        fnn.Embedding(columns)


def test_places_where_there_are_no_codes():
    with pytest.raises(ValueError, match=r"follows Linear\(3, 3\), which gives no codes"):
        fnn.Sequential(fnn.Linear(3, 3), fnn.Embedding({0: (3, 2)}))
    with pytest.raises(ValueError, match="takes codes from column 5, but there are 3 columns"):
        fnn.Sequential(fnn.Standardize(3), fnn.Embedding({5: (3, 2)}))
    with pytest.raises(ValueError, match="has no tables yet"):
        fnn.Embedding({0: (3, 2)}).read("table0")
    with pytest.raises(ValueError, match="has no input to go back to"):
        fnn.Embedding({0: (3, 2)}).backward(np.ones((1, 2)))
