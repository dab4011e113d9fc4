"""Standardisation: each unit less a mean of its own, over a scale of its own; see ``fastnn.reference.standardize``."""

import numpy as np

from .compiler.jit import Shared
from .operations import OPERATIONS, Operation, aligned, apply_to, back_through, backward_signature, forward_signature
from .simd.vector import lanes, load_part, shift, store_part


def _forward(rows, n_in, n_out, x, x_ld, y, y_ld, kept, params, settings, step, key, row):
    width, scales = lanes(x), shift(params, aligned(n_in))
    for j in range(0, n_in, width):
        n = min(width, n_in - j)
        mean, scale = load_part(params, j, n, 0.0), load_part(scales, j, n, 1.0)
        for r in range(rows):
            store_part(y, r * y_ld + j, n, (load_part(x, r * x_ld + j, n, 0.0) - mean) / scale)


def _backward(rows, n_in, n_out, d, d_ld, x, x_ld, y, y_ld, dx, dx_ld, kept, params, settings, step, key, row):
    width, scales = lanes(d), shift(params, aligned(n_in))
    for j in range(0, n_in, width):
        n = min(width, n_in - j)
        scale = load_part(scales, j, n, 1.0)
        for r in range(rows):
            store_part(dx, r * dx_ld + j, n, load_part(d, r * d_ld + j, n, 0.0) / scale)


OPERATIONS["standardize"] = STANDARDIZE = Operation(
    Shared(_forward, forward_signature, name="standardize"),
    Shared(_backward, backward_signature, name="standardize_backward"),
)


def standardize(x: np.ndarray, mean: np.ndarray, scale: np.ndarray, out: np.ndarray) -> None:
    """out (m, n) = (x - mean) / scale."""
    apply_to(STANDARDIZE, x, out, np.empty(0, x.dtype), (mean, scale))


def standardize_backward(
    dy: np.ndarray, mean: np.ndarray, scale: np.ndarray, dx: np.ndarray, *gradients: np.ndarray
) -> None:
    """dx (m, n) = dy / scale; nothing is trained."""
    back_through(STANDARDIZE, dy, dy, dx, np.empty(0, dy.dtype), (mean, scale))
