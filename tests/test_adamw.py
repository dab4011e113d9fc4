"""AdamW: Adam after a decay of the weights of linear layers, and of nothing else."""

import numpy as np
import pytest

import fastnn as fnn
from tests.training import assert_same_weights
from tests.user_code import UserReLU


def test_one_update_by_hand(backend, dtype):
    """In the first update m̂ / √v̂ is the sign of the gradient: w = 4 (1 - 0.5 · 0.1) - 0.5."""
    w, m, v = np.array([4.0], dtype), np.zeros(1, dtype), np.zeros(1, dtype)
    fnn.adamw_update(w, np.array([2.0], dtype), m, v, lr=0.5, weight_decay=0.1, t=1)
    np.testing.assert_allclose(w, [4 * 0.95 - 0.5], rtol=1e-6)


def test_without_a_decay_it_is_adam(backend, rng):
    X, y = rng.normal(size=(50, 4)), rng.integers(0, 3, 50)
    models = [fnn.Sequential(fnn.Linear(4, 6), fnn.Tanh(), fnn.Linear(6, 3), dtype="float64") for _ in range(2)]
    for model, optimizer in zip(models, (fnn.Adam(0.01), fnn.AdamW(0.01, weight_decay=0)), strict=True):
        model.fit(X, y, optimizer=optimizer, epochs=3, verbose=0)
    assert_same_weights(*models, rtol=1e-12)


@pytest.mark.parametrize("activation", [fnn.ReLU, UserReLU])
def test_weights_decay_and_biases_do_not(activation, backend):
    """An eps beside which every gradient is nothing leaves the decay alone: two updates, of 0.9 each."""
    layers = fnn.Linear(2, 3, bias=[1.0, 2.0, 3.0]), fnn.LayerNorm(3), activation(), fnn.Linear(3, 2, bias=[1.0, -1.0])
    model = fnn.Sequential(*layers, dtype="float64", seed=1)
    before = [p.copy() for p in model.parameters()]
    X, y = np.ones((4, 2)), np.array([0.0, 0.0])
    optimizer = fnn.AdamW(0.5, weight_decay=0.2, eps=1e250)
    model.fit(X, np.ones((4, 2)) * y, loss="squared_error", optimizer=optimizer, epochs=1, batch_size=2, verbose=0)
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_allclose(p, old * 0.81 if p.ndim == 2 else old, rtol=1e-12, atol=1e-200)


def test_compiled_and_layer_by_layer_train_alike(backend, rng):
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    models = [
        fnn.Sequential(fnn.Linear(4, 8), a, fnn.Linear(8, 3), dtype="float64", seed=2) for a in (fnn.ReLU(), UserReLU())
    ]
    for model in models:
        model.fit(X, y, optimizer=fnn.AdamW(0.02, weight_decay=0.3), l2=0.01, epochs=4, batch_size=16, verbose=0)
    assert_same_weights(*models, rtol=1e-9)


def test_settings():
    optimizer = fnn.AdamW(weight_decay=0.1)
    assert repr(optimizer) == "AdamW(lr=0.001, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.1)"
    with pytest.raises(AttributeError):
        optimizer.weight_decay = 0.2
    with pytest.raises(ValueError, match="weight_decay is -1, expected a finite number >= 0"):
        fnn.AdamW(weight_decay=-1)
