"""Dropout with a mask that is hashed from its place; see ``fastnn.reference.dropout``."""

import numpy as np

from .compiler.jit import Shared, inline, kernel
from .operations import OPERATIONS, Operation, backward_signature, forward_signature
from .simd.address import as_writeable
from .simd.random import hash_at_least, row_key
from .simd.vector import data, get, lanes, load, load_part, select, shift, store, store_part


@inline
def threshold_of(rate):
    """The rate as a fraction of 2^32."""
    return int(rate * 4294967296.0)


@inline
def dropout_row(x, key, rate, out, n):
    """out[j] = x[j] / (1 - rate) where the hash of j is at least the rate, else 0; key is that of the row."""
    width, threshold, scale = lanes(x), threshold_of(rate), 1.0 / (1.0 - rate)
    for j in range(0, n, width):
        count = min(width, n - j)
        keeps = hash_at_least(x, key, j, threshold)
        if count == width:
            store(out, j, select(keeps, load(x, j) * scale, 0.0))
        else:
            store_part(out, j, count, select(keeps, load_part(x, j, count, 0.0) * scale, 0.0))


@inline
def _drop(rows, n, x, x_ld, y, y_ld, settings, key, row):
    for r in range(rows):
        dropout_row(shift(x, r * x_ld), row_key(key, row + r), get(settings, 0), shift(y, r * y_ld), n)


def _forward(rows, n_in, n_out, x, x_ld, y, y_ld, kept, params, settings, step, key, row):
    _drop(rows, n_out, x, x_ld, y, y_ld, settings, key, row)


def _backward(rows, n_in, n_out, d, d_ld, x, x_ld, y, y_ld, dx, dx_ld, kept, params, settings, step, key, row):
    _drop(rows, n_in, d, d_ld, dx, dx_ld, settings, key, row)


OPERATIONS["dropout"] = Operation(Shared(_forward, forward_signature), Shared(_backward, backward_signature))


@kernel
def _dropout(x, rate, key, out):
    m, n = x.shape
    for i in range(m):
        dropout_row(shift(data(x), i * n), row_key(key, i), rate, shift(data(out), i * n), n)


def dropout(x: np.ndarray, rate: float, key: int, out: np.ndarray) -> None:
    """out (m, n) = x / (1 - rate) with probability 1 - rate, else 0."""
    _dropout(as_writeable(x), float(rate), key, out)
