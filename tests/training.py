"""What the tests of fit share: a small problem, a small network, and its weights in a row."""

import numpy as np

import fastnn as fnn


def labelled(rng):
    """50 samples of 6 features and their labels 0..2, which no linear model separates."""
    X = rng.normal(size=(50, 6))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int) + (X[:, 2] > 1)


def network(**settings):
    layers = fnn.Linear(6, 9), fnn.ReLU(), fnn.Linear(9, 5, bias=False), fnn.Tanh(), fnn.Linear(5, 3)
    return fnn.Sequential(*layers, **{"dtype": "float64", **settings})


def weights(model):
    return np.concatenate([p.ravel() for p in model.parameters()])


def assert_same_weights(first, second, rtol=1e-9):
    np.testing.assert_allclose(weights(first), weights(second), rtol=rtol, atol=rtol)
