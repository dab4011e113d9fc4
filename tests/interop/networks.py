"""Networks with every layer that there is, and what they are asked."""

import numpy as np

import fastnn as fnn

ACTIVATIONS = (
    fnn.Identity,
    fnn.ReLU,
    lambda: fnn.LeakyReLU(0.1),
    fnn.Tanh,
    fnn.Sigmoid,
    fnn.GELU,
    lambda: fnn.GELU("tanh"),
    fnn.SiLU,
    fnn.Mish,
    lambda: fnn.ELU(0.7),
    fnn.SELU,
    fnn.Softplus,
    fnn.HardSwish,
)


def batch_norm(n, rng):
    """One that has seen data."""
    layer = fnn.BatchNorm(n, momentum=0.2, eps=1e-3)
    layer.start_from(
        {
            "weight": rng.normal(size=n),
            "bias": rng.normal(size=n),
            "running_mean": rng.normal(size=n),
            "running_variance": rng.uniform(0.5, 2, n),
        }
    )
    return layer


def layer_norm(n, rng):
    layer = fnn.LayerNorm(n, eps=1e-4)
    layer.start_from({"weight": rng.normal(size=n), "bias": rng.normal(size=n)})
    return layer


def inputs(dtype="float32"):
    """Samples (40, 6) for :func:`every_layer`, columns 2 and 4 of which hold codes."""
    rng = np.random.default_rng(0)
    X = 2 * rng.normal(size=(40, 6))
    X[:, 2], X[:, 4] = rng.integers(0, 3, 40), rng.integers(0, 5, 40)
    return X.astype(dtype)


def every_layer(dtype="float32", outputs=3):
    """A model with each of the built-in layers, and the samples that it takes."""
    rng, X = np.random.default_rng(1), inputs(dtype)
    layers = [
        fnn.Standardize(6).adapt(X, columns=[0, 1, 3, 5]),
        fnn.Embedding({2: (3, 2), 4: (5, 3)}),
        fnn.Linear(9, 8, bias=rng.normal(size=8)),
    ]
    for activation in ACTIVATIONS:
        layers += [activation(), fnn.Linear(8, 8, bias=rng.normal(size=8))]
    block = fnn.Residual(fnn.Tanh(), fnn.Linear(8, 8))
    layers += [
        batch_norm(8, rng),
        fnn.Residual(layer_norm(8, rng), fnn.Linear(8, 8, bias=False), block, fnn.SiLU()),
        fnn.Dropout(0.3),
        fnn.Linear(8, outputs),
    ]
    return fnn.Sequential(*layers, dtype=dtype, seed=2), X
