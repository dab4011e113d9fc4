"""Batch normalisation: each unit less its mean over the batch, over its standard deviation, scaled and shifted.

Sums over the batch are formed block by block, of as many rows as a tile of a product has, of which every thread's share
is a multiple, and put together in order, so that they do not depend on threads. An op has ``4 + 4 blocks`` rows of
sums, each as wide as the units take in the flat buffer:

    the means, 1 / √(variance + eps), Σ d and Σ d x̂
    two rows for each block: its mean and its Σ (x - mean)²
    two rows for each block: its Σ d and its Σ d x̂

Every thread puts the sums of all blocks together for itself, and writes the same numbers to the first four rows, each
of them once and for all. See
``fastnn.reference.batch_norm``.
"""

import numpy as np

from .compiler.jit import Shared, inline
from .gemm.tile import most_rows
from .operations import (
    OPERATIONS,
    Operation,
    aligned,
    apply_to,
    back_through,
    backward_signature,
    forward_signature,
    gradient_of,
    gradient_signature,
    rows_of_sums,
)
from .simd.vector import fma, get, lanes, load, load_part, shift, splat, store, store_part
from .simd.vectormath import vsqrt

# The rows of sums.
MEAN, SCALE, SUM, ALONG, BLOCKS = range(5)


@inline
def _row(kept, n, k):
    """Row k of the sums of n units."""
    return shift(kept, k * aligned(n))


@inline
def _blocks(m, like):
    return (m + most_rows(like) - 1) // most_rows(like)


def _forward_sums(rows, n_in, n_out, x, x_ld, y, y_ld, kept, params, settings, step, key, row):
    width, m, height = lanes(x), min(rows, key - row), most_rows(x)
    for first in range(0, m, height):
        block, count = BLOCKS + 2 * ((row + first) // height), min(height, m - first)
        source, means, squares = shift(x, first * x_ld), _row(kept, n_in, block), _row(kept, n_in, block + 1)
        for j in range(0, n_in, width):
            n = min(width, n_in - j)
            total = load_part(source, j, n, 0.0)
            for r in range(1, count):
                total = total + load_part(source, r * x_ld + j, n, 0.0)
            mean = total * (1.0 / count)
            square = splat(x, 0.0)
            for r in range(count):
                centred = load_part(source, r * x_ld + j, n, 0.0) - mean
                square = fma(centred, centred, square)
            store_part(means, j, n, mean)
            store_part(squares, j, n, square)


@inline
def _united(kept, n_in, m, j, n):
    """The mean and Σ (x - mean)² of n units from j on, block after block as Chan, Golub and LeVeque (1983) have it."""
    mean, square = load_part(_row(kept, n_in, BLOCKS), j, n, 0.0), load_part(_row(kept, n_in, BLOCKS + 1), j, n, 0.0)
    height = most_rows(kept)
    for block in range(1, _blocks(m, kept)):
        before, count = block * height, min(height, m - block * height)
        share = count / (before + count)
        delta = load_part(_row(kept, n_in, BLOCKS + 2 * block), j, n, 0.0) - mean
        mean = fma(delta, splat(mean, share), mean)
        square = square + load_part(_row(kept, n_in, BLOCKS + 2 * block + 1), j, n, 0.0)
        square = fma(delta * delta, splat(mean, before * share), square)
    return mean, square


def _forward(rows, n_in, n_out, x, x_ld, y, y_ld, kept, params, settings, step, key, row):
    """Settings: momentum and eps. The thread with the first row takes the batch into the running statistics."""
    width, bias = lanes(x), shift(params, aligned(n_in))
    running_mean, running_variance = shift(params, 2 * aligned(n_in)), shift(params, 3 * aligned(n_in))
    means, scales, momentum = _row(kept, n_in, MEAN), _row(kept, n_in, SCALE), get(settings, 0)
    for j in range(0, n_in, width):
        n = min(width, n_in - j)
        mean, square = _united(kept, n_in, key, j, n)
        store_part(means, j, n, mean)
        variance = square * (1.0 / key) + get(settings, 1)
        store_part(scales, j, n, 1.0 / vsqrt(variance, variance))
        if row == 0:
            old = load_part(running_mean, j, n, 0.0)
            store_part(running_mean, j, n, fma(mean - old, splat(old, momentum), old))
            old = load_part(running_variance, j, n, 0.0)
            unbiased = square * (1.0 / max(1, key - 1))
            store_part(running_variance, j, n, fma(unbiased - old, splat(old, momentum), old))
    _normalise(rows, n_in, x, x_ld, y, y_ld, means, scales, params, bias)


@inline
def _normalise(rows, n_in, x, x_ld, y, y_ld, means, scales, weight, bias):
    """y = (x - mean) scale weight + bias."""
    width = lanes(x)
    for j in range(0, n_in, width):
        n = min(width, n_in - j)
        mean, factor = load_part(means, j, n, 0.0), load_part(scales, j, n, 0.0) * load_part(weight, j, n, 0.0)
        offset = load_part(bias, j, n, 0.0)
        if n == width:
            for r in range(rows):
                store(y, r * y_ld + j, fma(load(x, r * x_ld + j) - mean, factor, offset))
        else:
            for r in range(rows):
                store_part(y, r * y_ld + j, n, fma(load_part(x, r * x_ld + j, n, 0.0) - mean, factor, offset))


def _backward_sums(rows, n_in, n_out, d, d_ld, x, x_ld, y, y_ld, dx, dx_ld, kept, params, settings, step, key, row):
    width, m, height = lanes(x), min(rows, key - row), most_rows(x)
    for first in range(0, m, height):
        block, count = BLOCKS + 2 * (_blocks(key, x) + (row + first) // height), min(height, m - first)
        sums, alongs = _row(kept, n_in, block), _row(kept, n_in, block + 1)
        for j in range(0, n_in, width):
            n = min(width, n_in - j)
            mean, scale = load_part(_row(kept, n_in, MEAN), j, n, 0.0), load_part(_row(kept, n_in, SCALE), j, n, 0.0)
            total, along = splat(x, 0.0), splat(x, 0.0)
            for r in range(first, first + count):
                g = load_part(d, r * d_ld + j, n, 0.0)
                total = total + g
                along = fma(g, load_part(x, r * x_ld + j, n, 0.0) - mean, along)
            store_part(sums, j, n, total)
            store_part(alongs, j, n, along * scale)


@inline
def _unite_gradients(kept, n_in, m):
    """Σ d and Σ d x̂ over the batch, block after block."""
    width, first = lanes(kept), BLOCKS + 2 * _blocks(m, kept)
    for k in range(2):
        out = _row(kept, n_in, SUM + k)
        for j in range(0, n_in, width):
            n = min(width, n_in - j)
            total = load_part(_row(kept, n_in, first + k), j, n, 0.0)
            for block in range(1, _blocks(m, kept)):
                total = total + load_part(_row(kept, n_in, first + 2 * block + k), j, n, 0.0)
            store_part(out, j, n, total)


def _backward(rows, n_in, n_out, d, d_ld, x, x_ld, y, y_ld, dx, dx_ld, kept, params, settings, step, key, row):
    width = lanes(x)
    _unite_gradients(kept, n_in, key)
    means, scales, share = _row(kept, n_in, MEAN), _row(kept, n_in, SCALE), 1.0 / key
    for j in range(0, n_in, width):
        n = min(width, n_in - j)
        mean, scale = load_part(means, j, n, 0.0), load_part(scales, j, n, 0.0)
        common = load_part(_row(kept, n_in, SUM), j, n, 0.0) * share
        along = load_part(_row(kept, n_in, ALONG), j, n, 0.0) * scale * share
        factor = scale * load_part(params, j, n, 0.0)
        for r in range(rows):
            centred = load_part(x, r * x_ld + j, n, 0.0) - mean
            g = load_part(d, r * d_ld + j, n, 0.0) - common - centred * along
            store_part(dx, r * dx_ld + j, n, g * factor)


def _gradient(m, n_in, n_out, d, d_ld, x, x_ld, y, y_ld, kept, params, settings, step, which, first, count, out):
    """Of the weight for which = 0, of the bias for 1."""
    _unite_gradients(kept, n_in, m)
    sums, width = _row(kept, n_in, ALONG if which == 0 else SUM), lanes(x)
    for j in range(0, count, width):
        n = min(width, count - j)
        store_part(out, j, n, load_part(sums, first + j, n, 0.0))


def _inference(rows, n_in, n_out, x, x_ld, y, y_ld, kept, params, settings, step, key, row):
    """By the running statistics, which stay."""
    width, size, bias = lanes(x), aligned(n_in), shift(params, aligned(n_in))
    for j in range(0, n_in, width):
        n = min(width, n_in - j)
        mean, factor = load_part(shift(params, 2 * size), j, n, 0.0), _factor(params, settings, n_in, j, n)
        offset = load_part(bias, j, n, 0.0)
        for r in range(rows):
            store_part(y, r * y_ld + j, n, fma(load_part(x, r * x_ld + j, n, 0.0) - mean, factor, offset))


def _inference_backward(
    rows, n_in, n_out, d, d_ld, x, x_ld, y, y_ld, dx, dx_ld, kept, params, settings, step, key, row
):
    width = lanes(x)
    for j in range(0, n_in, width):
        n = min(width, n_in - j)
        factor = _factor(params, settings, n_in, j, n)
        for r in range(rows):
            store_part(dx, r * dx_ld + j, n, load_part(d, r * d_ld + j, n, 0.0) * factor)


@inline
def _factor(params, settings, n_in, j, n):
    """Weight / √(running variance + eps) of n units from j on."""
    variance = load_part(shift(params, 3 * aligned(n_in)), j, n, 1.0)
    return load_part(params, j, n, 0.0) / vsqrt(variance + get(settings, 1), variance)


OPERATIONS["batch_norm"] = BATCH_NORM = Operation(
    Shared(_forward, forward_signature),
    Shared(_backward, backward_signature),
    Shared(_gradient, gradient_signature),
    sums=Shared(_forward_sums, forward_signature),
    backward_sums=Shared(_backward_sums, backward_signature),
)
OPERATIONS["batch_norm_inference"] = INFERENCE = Operation(
    Shared(_inference, forward_signature), Shared(_inference_backward, backward_signature)
)


def batch_norm(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    momentum: float,
    eps: float,
    out: np.ndarray,
) -> None:
    """out (m, n) = (x - mean of x) / √(variance of x + eps) weight + bias; running mean and variance follow."""
    parameters = weight, bias, mean, variance
    flat = apply_to(BATCH_NORM, x, out, _sums(x), parameters, momentum, eps)
    for p, start in ((mean, 2), (variance, 3)):
        p[...] = flat[start * (flat.size // 4) :][: p.size]


def batch_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    momentum: float,
    eps: float,
    dx: np.ndarray,
    dweight: np.ndarray,
    dbias: np.ndarray,
    dmean: np.ndarray | None = None,
    dvariance: np.ndarray | None = None,
) -> None:
    """dx (m, n), dweight and dbias (n,) from dy (m, n)."""
    parameters, sums = (weight, bias, mean, variance), _sums(x)
    apply_to(BATCH_NORM, x, np.empty_like(x), sums, parameters, momentum, eps)
    back_through(BATCH_NORM, dy, x, dx, sums, parameters, momentum, eps)
    for which, gradient in enumerate((dweight, dbias)):
        gradient_of(BATCH_NORM, which, dy, x, gradient, sums, parameters, momentum, eps)


def batch_norm_inference(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    momentum: float,
    eps: float,
    out: np.ndarray,
) -> None:
    """out (m, n) = (x - mean) / √(variance + eps) weight + bias."""
    apply_to(INFERENCE, x, out, np.empty(0, x.dtype), (weight, bias, mean, variance), momentum, eps)


def batch_norm_inference_backward(
    dy: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    momentum: float,
    eps: float,
    dx: np.ndarray,
    *gradients: np.ndarray,
) -> None:
    """dx (m, n) = dy weight / √(variance + eps); nothing else is trained."""
    back_through(INFERENCE, dy, dy, dx, np.empty(0, dy.dtype), (weight, bias, mean, variance), momentum, eps)


def _sums(x: np.ndarray) -> np.ndarray:
    """Memory for what the kernel sums over the rows of x."""
    m, n = x.shape
    return np.empty((rows_of_sums.py_func(m), aligned.py_func(n)), x.dtype)
