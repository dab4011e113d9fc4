"""The whole path in seconds: data, a network, training, predictions, a saved model. The first thing to run."""

import numpy as np
import pytest

import fastnn as fnn


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_whole_path(backend, loss, tmp_path, capsys):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2)).astype(np.float32)
    y = (np.hypot(*X.T) > 1).astype(int) if loss == "cross_entropy" else X @ [[1.0], [-2.0]] + 3
    train, held_out = slice(0, 300), slice(300, 400)

    model = fnn.Sequential(fnn.Linear(2, 16), fnn.ReLU(), fnn.Linear(16, 2 if loss == "cross_entropy" else 1), seed=1)
    history = model.fit(
        X[train],
        y[train],
        loss=loss,
        optimizer=fnn.Adam(lr=0.03),
        l2=1e-5,
        epochs=30,
        batch_size=20,
        validation_data=(X[held_out], y[held_out]),
    )
    assert len(history["loss"]) == len(history["val_loss"]) == 30
    assert history["loss"][-1] < history["loss"][0] / 3
    assert capsys.readouterr().out.count("samples/s") == 30

    model.save(tmp_path / "model.npz")
    same = fnn.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(same.predict(X), model.predict(X))
    measured = same.evaluate(X[held_out], y[held_out])
    assert measured["loss"] == pytest.approx(history["val_loss"][-1])
    if loss == "cross_entropy":
        assert measured["accuracy"] == np.mean(model.predict(X[held_out]) == y[held_out]) > 0.9
        np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-6)
    assert fnn.check_gradients(model, X[:10], y[:10], l2=0.01) < 1e-6
