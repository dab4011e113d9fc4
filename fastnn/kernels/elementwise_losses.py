"""Losses that are a sum over the outputs: one function of an output and its target, with its derivative, is all of it.

Each has two forms, which come by themselves: of rows, in which an output is a lane, and of networks side by side, in
which every output is a vector, see ``lanes.losses``. Both add up in the same order. A product that either might add to
something else is a ``rounded_product``, so that neither makes a fused multiply-add of it where the other does not.
"""

from typing import Any

import numpy as np

from .compiler.jit import Shared, inline
from .losses import LOSSES, loss_signature, with_gradient
from .simd.vector import absolute, fma, get, lanes, load_part, put, reduce_add, select, shift, splat, store_part
from .simd.vectormath import vexp, vexp_nonpositive, vlog1p_of_share
from .simd.wide import load_wide_part, narrowed, rounded_product

# By the name of a loss: its function, and whether it has numbers.
ELEMENTWISE_LOSSES: dict[str, tuple[Any, bool]] = {}


def elementwise_loss(name: str, nothing: tuple[float, float], has_numbers: bool = False) -> Any:
    """Register a function as the loss of that name.

    ``function(x, y, w)`` gives the derivative at the outputs x and the loss for the targets y, all vectors. With
    ``has_numbers`` the settings are how many numbers there are, and then one for all outputs, or one for each, which w
    holds; without, w says nothing. ``nothing`` are an output and a target without loss, whatever w is, which fill the
    lanes that a row leaves empty.
    """

    def register(function: Any) -> Any:
        LOSSES[name] = Shared(_rows(function, nothing, has_numbers), loss_signature, name=name)
        ELEMENTWISE_LOSSES[name] = function, has_numbers
        return function

    return register


def _rows(function: Any, nothing: tuple[float, float], has_numbers: bool) -> Any:
    no_output, no_target = nothing

    def rows_of(rows, n, s, s_ld, d, d_ld, labels, targets, order, shares, settings, step, losses, target_terms):
        width = lanes(s)
        several = has_numbers and get(settings, 0) == float(n)  # another count reads no further than the first
        same = splat(s, get(settings, 1) if has_numbers else 0.0)
        if n == 1:  # samples with one output each come together into vectors
            for r in range(rows):
                put(target_terms, r, get(s, r * s_ld))
                put(losses, r, get(targets, get(order, r)))
            for i in range(0, rows, width):
                count = min(width, rows - i)
                x, y = load_part(target_terms, i, count, no_output), load_part(losses, i, count, no_target)
                slope, loss = function(x, y, same)
                store_part(target_terms, i, count, slope)
                store_part(losses, i, count, loss)
            for r in range(rows):
                put(d, r * d_ld, get(target_terms, r) * get(shares, r))
            return
        for r in range(rows):
            row, target, out = shift(s, r * s_ld), shift(targets, get(order, r) * n), shift(d, r * d_ld)
            total = splat(s, 0.0)
            for i in range(0, n, width):
                count = min(width, n - i)
                x, y = load_part(row, i, count, no_output), load_part(target, i, count, no_target)
                w = narrowed(load_wide_part(settings, 1 + i, count, s), s) if several else same
                slope, loss = function(x, y, w)
                store_part(out, i, count, slope * get(shares, r))
                total = total + loss
            put(losses, r, reduce_add(total))

    return rows_of


@elementwise_loss("absolute_error", nothing=(0.0, 0.0))
@inline
def _absolute_error(x, y, w):
    r = x - y
    return select(r > 0.0, 1.0, select(r < 0.0, -1.0, r)), absolute(r)


@elementwise_loss("pinball", nothing=(0.0, 0.0), has_numbers=True)
@inline
def _pinball(x, y, w):
    r = y - x
    slope = select(r > 0.0, w * -1.0, select(r < 0.0, 1.0 - w, r))
    return slope, rounded_product(r, select(r > 0.0, w, w - 1.0))


@elementwise_loss("poisson", nothing=(-np.inf, 0.0))
@inline
def _poisson(x, y, w):
    """A target of 0 takes nothing off, even for a score of -inf."""
    mean = vexp(x)
    return mean - y, mean - select(y == 0.0, 0.0, rounded_product(y, x))


@elementwise_loss("binary_cross_entropy", nothing=(np.inf, 1.0), has_numbers=True)
@inline
def _binary_cross_entropy(x, y, w):
    """-log σ(x) is log(1 + e^-|x|) + max(-x, 0), of terms that are not negative; a target without weight costs nothing.

    So nothing cancels where the loss is small, and no infinity meets a factor of 0.
    """
    e = vexp_nonpositive(absolute(x) * -1.0)
    larger = 1.0 / (e + 1.0)
    smaller, log = e * larger, vlog1p_of_share(e)
    p, q = select(x < 0.0, smaller, larger), select(x < 0.0, larger, smaller)
    of_one, of_zero = select(x < 0.0, log - x, log), select(x < 0.0, log, log + x)
    one, zero = y * w, 1.0 - y
    loss_of_one = select(y == 0.0, 0.0, rounded_product(one, of_one))
    loss_of_zero = select(y == 1.0, 0.0, rounded_product(zero, of_zero))
    return fma(zero, p, rounded_product(one, q) * -1.0), loss_of_one + loss_of_zero


def absolute_error(pred: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None) -> float:
    """The mean over samples of Σ_outputs |pred - y|."""
    return absolute_error_backward(pred, y, sample_weight, np.empty_like(pred))


def absolute_error_backward(
    pred: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, out: np.ndarray
) -> float:
    """out (m, k) = sign(pred - y) v_i / Σ v, and the loss is returned."""
    return with_gradient("absolute_error", pred, y, sample_weight, out)


def pinball(pred: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, quantiles: np.ndarray) -> float:
    """The mean over samples of Σ_outputs max(q r, (q - 1) r), r = y - pred, q one quantile or that of each output."""
    return pinball_backward(pred, y, sample_weight, quantiles, np.empty_like(pred))


def pinball_backward(
    pred: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, quantiles: np.ndarray, out: np.ndarray
) -> float:
    """out (m, k) = -q v_i / Σ v where r > 0, (1 - q) v_i / Σ v where r < 0, else 0, and the loss is returned."""
    return with_gradient("pinball", pred, y, sample_weight, out, len(quantiles), *quantiles)


def poisson(scores: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None) -> float:
    """The mean over samples of Σ_outputs e^s - y s, for y >= 0."""
    return poisson_backward(scores, y, sample_weight, np.empty_like(scores))


def poisson_backward(scores: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, out: np.ndarray) -> float:
    """out (m, k) = (e^s - y) v_i / Σ v, and the loss is returned."""
    return with_gradient("poisson", scores, y, sample_weight, out)


def binary_cross_entropy(
    scores: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, pos_weight: np.ndarray
) -> float:
    """The mean of Σ_outputs -p y log σ(s) - (1 - y) log σ(-s), for one weight p of what is 1 or one for each output."""
    return binary_cross_entropy_backward(scores, y, sample_weight, pos_weight, np.empty_like(scores))


def binary_cross_entropy_backward(
    scores: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, pos_weight: np.ndarray, out: np.ndarray
) -> float:
    """out (m, k) = ((1 - y) σ(s) - p y σ(-s)) v_i / Σ v, and the loss is returned."""
    return with_gradient("binary_cross_entropy", scores, y, sample_weight, out, len(pos_weight), *pos_weight)
