"""Initial weights: functions of a generator and a shape (n_in, n_out)."""

from collections.abc import Callable

import numpy as np

from .validation import Array

Initializer = Callable[[np.random.Generator, tuple[int, int]], Array]


def he(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Return normal weights of standard deviation √(2 / n_in), for layers that a ReLU follows.

    Source: K. He et al., Delving deep into rectifiers, ICCV 2015, equation 10.
    """
    return rng.normal(0.0, np.sqrt(2 / shape[0]), shape)


def glorot(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Return uniform weights in ±√(6 / (n_in + n_out)), for layers that tanh, sigmoid or nothing follows.

    Source: X. Glorot and Y. Bengio, Understanding the difficulty of training deep feedforward neural networks,
    AISTATS 2010, equation 16.
    """
    limit = np.sqrt(6 / (shape[0] + shape[1]))
    return rng.uniform(-limit, limit, shape)


def zeros(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Return zeros, which suit a single linear layer only: in a deeper network all hidden units would stay equal."""
    return np.zeros(shape)


BY_NAME: dict[str, Initializer] = {"he": he, "glorot": glorot, "zeros": zeros}
