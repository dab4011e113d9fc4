"""Standardisation as a layer: by hand, from data of any layout, and as part of a model."""

import numpy as np
import pytest

import fastnn as fnn
from tests.many import labelled
from tests.training import assert_same_weights
from tests.user_code import UserReLU


def test_by_hand(backend, dtype):
    model = fnn.Sequential(fnn.Standardize(2, [1, 2], [2, 0.5]), dtype=np.dtype(dtype).name)
    np.testing.assert_array_equal(model.forward([[3.0, 2.0]]), [[1, 0]])
    model.forward([[3.0, 2.0]], training=True)
    np.testing.assert_array_equal(model.backward([[1.0, 1.0]]), [[0.5, 2]])
    assert model.parameters() == []


@pytest.mark.parametrize("rows", [3, 40_000])
def test_from_data(rows, rng):
    X = rng.normal([1e6, 0, 5], [1, 3, 0], (rows, 3))
    layer = fnn.Standardize(3).adapt(X)
    fnn.Sequential(layer, dtype="float64")
    np.testing.assert_allclose(layer.mean, X.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(layer.scale, [*X.std(axis=0)[:2], 1], rtol=1e-9)


@pytest.mark.parametrize("value", [0.1, -1e8 / 3])
def test_the_roundings_of_a_feature_that_is_constant_are_no_scale(value):
    X = np.full((50_000, 2), value)
    X[:, 1] += np.arange(50_000) % 2 * 0.001
    layer = fnn.Standardize(2).adapt(X)
    fnn.Sequential(layer, dtype="float64")
    assert layer.scale[0] == 1
    assert layer.scale[1] == pytest.approx(0.0005, rel=1e-3)


def test_from_some_columns_and_after_the_model_was_made(rng):
    X = rng.integers(0, 9, (50, 3)).astype(np.uint8)
    model = fnn.Sequential(fnn.Standardize(3), fnn.Linear(3, 2))
    assert model.layers[0].adapt(X, columns=[2, 0]) is model.layers[0]
    np.testing.assert_allclose(model.layers[0].mean, [X[:, 0].mean(), 0, X[:, 2].mean()], rtol=1e-6)
    assert model.layers[0].scale[1] == 1


def test_a_memory_map_of_bytes_is_read_block_by_block(rng, tmp_path):
    X = np.memmap(tmp_path / "x.dat", np.uint8, "w+", shape=(70_000, 4))
    X[...] = rng.integers(0, 256, X.shape)
    layer = fnn.Standardize(4).adapt(X)
    model = fnn.Sequential(layer, fnn.Linear(4, 2), seed=0)
    np.testing.assert_allclose(layer.mean, np.mean(X, axis=0, dtype=float), rtol=1e-6)
    history = model.fit(X, (X[:, 0] > 127).astype(int), batch_size=256, epochs=2, verbose=0)
    assert history["loss"][-1] < 0.5


def test_it_stays_as_it_is_in_training_and_is_saved(backend, rng, tmp_path):
    X, y = labelled(rng)
    models = []
    for rectifier in (fnn.ReLU, UserReLU):
        layers = fnn.Standardize(6).adapt(X), fnn.Linear(6, 5), rectifier(), fnn.Linear(5, 3)
        models.append(fnn.Sequential(*layers, dtype="float64"))
        models[-1].fit(X, y, optimizer=fnn.AdamW(weight_decay=0.1), l2=0.1, epochs=2, verbose=0)
    assert_same_weights(*models)
    np.testing.assert_array_equal(models[0].layers[0].mean, fnn.Sequential(fnn.Standardize(6).adapt(X), dtype="float64")
                                  .layers[0].mean)  # fmt: skip
    models[0].save(tmp_path / "m.npz")
    np.testing.assert_array_equal(fnn.load(tmp_path / "m.npz").forward(X), models[0].forward(X))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "n is 0"),
        ((2, [1, 2, 3]), ValueError, r"mean has shape \(3,\), expected \(2,\)"),
        ((2, 0, [1, 0]), ValueError, "scale is 0 for feature 1"),
        ((2, 0, np.nan), ValueError, "scale is nan"),
        ((2, "a"), TypeError, "mean is 'a'"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=message):
        fnn.Standardize(*arguments)


@pytest.mark.parametrize(
    ("X", "columns", "error", "message"),
    [
        (np.ones((3, 5)), None, ValueError, "X has 5 columns"),
        ([[1.0, np.nan]], None, ValueError, "X holds NaN or infinite values"),
        (np.ones((3, 2)), [2], ValueError, r"columns holds 2, but X has the columns 0\.\.1"),
        (np.ones((3, 2)), [0.5], TypeError, "columns is .* expected a list of integers"),
    ],
)
def test_data_that_are_refused_change_nothing(X, columns, error, message):
    layer = fnn.Standardize(2, 3.0)
    with pytest.raises(error, match=message):
        layer.adapt(X, columns)
    assert fnn.Sequential(layer).layers[0].mean.tolist() == [3, 3]


def test_a_scale_that_was_set_to_zero_is_refused_by_fit(rng):
    X, y = labelled(rng)
    model = fnn.Sequential(fnn.Standardize(6), fnn.Linear(6, 3))
    model.layers[0].scale = [1, 1, 0, 1, 1, 1]
    with pytest.raises(ValueError, match=r"scale of Standardize\(6\) is 0 for feature 2"):
        model.fit(X, y, verbose=0)


def test_adapts_to_a_source_of_chunks(rng):
    X = rng.normal(3, 2, size=(50, 4)).astype(np.float32)
    expected = fnn.Standardize(4).adapt(X, columns=[0, 2])
    chunks = [(X[:20], None), (X[20:21], None), [X[21:], None]]
    for source in (chunks, lambda: iter(chunks)):
        found = fnn.Standardize(4).adapt(source, columns=[0, 2])
        for name in ("mean", "scale"):
            np.testing.assert_allclose(found._initial[name], expected._initial[name], rtol=1e-12)
    with pytest.raises(ValueError, match="chunk 1 of the source: X has 3 columns, but the model has 4 inputs"):
        found.adapt([chunks[0], (X[:, :3], None)])
    with pytest.raises(ValueError, match="the source is empty: expected at least one chunk"):
        found.adapt(lambda: [])
    np.testing.assert_allclose(found._initial["mean"], expected._initial["mean"], rtol=1e-12)
