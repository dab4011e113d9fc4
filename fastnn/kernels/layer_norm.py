"""Layer normalisation: each row less its mean, over its standard deviation, scaled and shifted unit by unit.

A row keeps its mean and 1 / √(variance + eps) for the backward pass. See ``fastnn.reference.layer_norm``.
"""

import math

import numpy as np

from .compiler.jit import Shared, inline
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
)
from .simd.vector import fma, get, lanes, load, load_part, put, reduce_add, shift, splat, store_part
from .simd.vectormath import sum_of


@inline
def _sum_of_squares(x, mean, n):
    """Σ (x - mean)²."""
    width = lanes(x)
    total = splat(x, 0.0)
    i = 0
    while i + width <= n:
        centred = load(x, i) - mean
        total = fma(centred, centred, total)
        i += width
    if i < n:
        centred = load_part(x, i, n - i, mean) - mean
        total = fma(centred, centred, total)
    return reduce_add(total)


def _forward(rows, n_in, n_out, x, x_ld, y, y_ld, kept, params, settings, step, key, row):
    width, bias = lanes(x), shift(params, aligned(n_in))
    for r in range(rows):
        source, out = shift(x, r * x_ld), shift(y, r * y_ld)
        mean = sum_of(source, n_in) / n_in
        put(kept, 2 * r, mean)
        mean = get(kept, 2 * r)
        put(kept, 2 * r + 1, 1.0 / math.sqrt(_sum_of_squares(source, mean, n_in) / n_in + get(settings, 0)))
        scale = get(kept, 2 * r + 1)
        for i in range(0, n_in, width):
            count = min(width, n_in - i)
            normed = (load_part(source, i, count, 0.0) - mean) * scale
            store_part(out, i, count, fma(normed, load_part(params, i, count, 0.0), load_part(bias, i, count, 0.0)))


def _backward(rows, n_in, n_out, d, d_ld, x, x_ld, y, y_ld, dx, dx_ld, kept, params, settings, step, key, row):
    width = lanes(x)
    for r in range(rows):
        gradient, source, out = shift(d, r * d_ld), shift(x, r * x_ld), shift(dx, r * dx_ld)
        mean, scale = get(kept, 2 * r), get(kept, 2 * r + 1)
        total, product = splat(x, 0.0), splat(x, 0.0)
        for i in range(0, n_in, width):
            count = min(width, n_in - i)
            g = load_part(gradient, i, count, 0.0) * load_part(params, i, count, 0.0)
            total = total + g
            product = fma(g, (load_part(source, i, count, mean) - mean) * scale, product)
        common, along = reduce_add(total) / n_in, reduce_add(product) / n_in
        for i in range(0, n_in, width):
            count = min(width, n_in - i)
            g = load_part(gradient, i, count, 0.0) * load_part(params, i, count, 0.0)
            normed = (load_part(source, i, count, 0.0) - mean) * scale
            store_part(out, i, count, (g - common - normed * along) * scale)


def _gradient(m, n_in, n_out, d, d_ld, x, x_ld, y, y_ld, kept, params, settings, step, which, first, count, out):
    """Of the weight for which = 0, of the bias for 1."""
    width = lanes(x)
    for j in range(0, count, width):
        n, at = min(width, count - j), first + j
        total = splat(x, 0.0)
        for r in range(m):
            g = load_part(d, r * d_ld + at, n, 0.0)
            if which == 0:
                normed = (load_part(x, r * x_ld + at, n, 0.0) - get(kept, 2 * r)) * get(kept, 2 * r + 1)
                total = fma(g, normed, total)
            else:
                total = total + g
        store_part(out, j, n, total)


OPERATIONS["layer_norm"] = LAYER_NORM = Operation(
    Shared(_forward, forward_signature), Shared(_backward, backward_signature), Shared(_gradient, gradient_signature)
)


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float, out: np.ndarray) -> None:
    """out (m, n) = (x - mean) / √(variance + eps) weight + bias, row by row."""
    apply_to(LAYER_NORM, x, out, np.empty((len(x), 2), x.dtype), (weight, bias), eps)


def layer_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    eps: float,
    dx: np.ndarray,
    dweight: np.ndarray,
    dbias: np.ndarray,
) -> None:
    """dx (m, n), dweight and dbias (n,) from dy (m, n)."""
    kept, out = np.empty((len(x), 2), x.dtype), np.empty_like(x)
    apply_to(LAYER_NORM, x, out, kept, (weight, bias), eps)
    back_through(LAYER_NORM, dy, x, dx, kept, (weight, bias), eps)
    for which, gradient in enumerate((dweight, dbias)):
        gradient_of(LAYER_NORM, which, dy, x, gradient, kept, (weight, bias), eps)
