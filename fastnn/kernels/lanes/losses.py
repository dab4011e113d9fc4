"""Losses of networks side by side, a network in each lane: the numbers of ``loss_rows`` to the last bit.

There a row of outputs is some vectors, which are summed lane by lane and then over the lanes, by halves. Here every
output is a vector, and the sums are taken in that order. A loss that has no form of its own here is called network by
network, on rows that were transposed.
"""

from typing import Any

import numpy as np
from numba import types

from ..compiler.jit import Shared, caller, inline
from ..elementwise_losses import ELEMENTWISE_LOSSES
from ..loss_rows import binary
from ..operations import FLOAT64, N, Settings, setting
from ..simd.sums import by_halves
from ..simd.vector import fma, get, lanes, load, select, shift, splat, store
from ..simd.vectormath import divide, vexp_nonpositive, vlog
from ..simd.wide import load_wide, narrowed, rounded_product, widened


def lane_loss_signature(dtype: Any) -> Any:
    """(rows, n, scores, s_ld, gradient, d_ld, labels, targets, t_ld, shares, share_ld, settings, losses, terms, sums).

    All but ``shares`` and ``settings``, float64, are vectors with a lane for each network. ``labels`` (rows,) are
    numbers of the dtype, NaN for one that is none, or ``t_ld`` > 0 and the targets are t_ld elements apart. Row r is
    multiplied by shares[r share_ld]. ``losses`` and ``terms`` (rows,) are written, ``sums`` is memory for two vectors a
    lane.
    """
    p = types.CPointer(dtype)
    return types.void(N, N, p, N, p, N, p, p, N, FLOAT64, N, FLOAT64, p, p, p)


call_lane_loss = caller(lane_loss_signature)

# By the name of the loss.
LANE_LOSSES: dict[str, Shared] = {}


def _lane_loss(name: str) -> Any:
    def register(function: Any) -> Any:
        LANE_LOSSES[name] = Shared(function, lane_loss_signature, name=f"{name}_lanes")
        return function

    return register


@inline
def _add(sums, c, n, x, in_pairs):
    """Add output c of n to the lane of a sum that it would be in, where ``in_pairs`` every other vector has its own."""
    width = lanes(sums)
    pairs = n // (2 * width) * 2 * width if in_pairs else 0
    odd = c < pairs and c // width % 2 == 1
    place = (c % width + (width if odd else 0)) * width
    if c < (2 * width if odd else width):
        store(sums, place, x)
    else:
        store(sums, place, load(sums, place) + x)


@inline
def _total(sums, n, in_pairs):
    """The sum of all, the two of a pair first."""
    width = lanes(sums)
    if in_pairs and n >= 2 * width:
        for j in range(width):
            store(sums, j * width, load(sums, j * width) + load(sums, (width + j) * width))
    return by_halves(sums, min(n, width))


@_lane_loss("cross_entropy")
def _cross_entropy(rows, n, s, s_ld, d, d_ld, labels, targets, t_ld, shares, share_ld, settings, losses, terms, sums):
    width = lanes(s)
    numbers = Settings(settings, width)
    smoothing = load_wide(settings, 0, s)
    wide_low, wide_high = smoothing / float(n), 1.0 - smoothing
    low, high = narrowed(wide_low, s), narrowed(wide_high, s)
    smooths = False
    for lane in range(width):
        smooths = smooths or get(settings, lane) != 0.0
    for r in range(rows):
        row, out = shift(s, r * s_ld), shift(d, r * d_ld)
        share = setting(load(row, 0), Settings(shift(shares, r * share_ld), width), 0)
        top = load(row, 0)
        for c in range(1, n):
            x = load(row, c * width)
            top = select(x > top, x, top)
        for c in range(n):
            e = vexp_nonpositive(load(row, c * width) - top)
            store(out, c * width, e)
            _add(sums, c, n, e, True)
        total = _total(sums, n, True)
        inverse = 1.0 / total
        store(losses, r * width, total)
        if t_ld == 0:
            label, score = load(labels, r * width), splat(s, 0.0)
            share = select(label == label, share, np.nan)
            for c in range(n):
                is_label, x = label == float(c), load(row, c * width)
                score = select(is_label, x, score)
                rest = divide(load(out, c * width), total, inverse) - low
                store(out, c * width, select(is_label, rest - high, rest) * share)
                if smooths:
                    _add(sums, c, n, x, False)
            term = top - score
            if smooths:
                of_all = rounded_product(widened(_total(sums, n, False)), wide_low)
                smoothed = narrowed(widened(top) - rounded_product(widened(score), wide_high) - of_all, s)
                term = select(setting(term, numbers, 0) == 0.0, term, smoothed)
            store(terms, r * width, select(label == label, term, np.nan))
        else:
            for c in range(n):
                x, y = load(row, c * width), load(targets, r * t_ld + c * width)
                p = divide(load(out, c * width), total, inverse)
                store(out, c * width, (p - y) * share)
                place = c % width * width
                before = splat(s, 0.0) if c < width else load(sums, place)
                store(sums, place, fma(y, select(y == 0.0, 0.0, x), before))
            store(terms, r * width, top - _total(sums, n, False))
    lowest, highest = setting(low, numbers, 1), setting(low, numbers, 2)
    for r in range(rows):
        loss = vlog(load(losses, r * width)) + load(terms, r * width)
        store(losses, r * width, select(loss > highest, highest, select(loss < lowest, lowest, loss)))


@_lane_loss("squared_error")
def _squared_error(rows, n, s, s_ld, d, d_ld, labels, targets, t_ld, shares, share_ld, settings, losses, terms, sums):
    width = lanes(s)
    for r in range(rows):
        row, out = shift(s, r * s_ld), shift(d, r * d_ld)
        twice = setting(load(row, 0), Settings(shift(shares, r * share_ld), width), 0) * 2.0
        for c in range(n):
            difference = load(row, c * width) - load(targets, r * t_ld + c * width)
            place = c % width * width
            before = splat(s, 0.0) if c < width else load(sums, place)
            store(sums, place, fma(difference, difference, before))
            store(out, c * width, difference * twice)
        store(losses, r * width, _total(sums, n, False))


@_lane_loss("bounded_binary_cross_entropy")
def _bounded_binary_cross_entropy(
    rows, n, s, s_ld, d, d_ld, labels, targets, t_ld, shares, share_ld, settings, losses, terms, sums
):
    width = lanes(s)
    least, most = get(settings, width), get(settings, 2 * width)
    for r in range(rows):
        row, out = shift(s, r * s_ld), shift(d, r * d_ld)
        share = setting(load(row, 0), Settings(shift(shares, r * share_ld), width), 0)
        if n == 1:
            difference, loss = binary(load(row, 0), load(targets, r * t_ld), least, most)
            exact = rounded_product(widened(difference), load_wide(shares, r * share_ld, s))
            store(out, 0, narrowed(exact, s))
            store(losses, r * width, loss)
        else:
            for c in range(n):
                difference, loss = binary(load(row, c * width), load(targets, r * t_ld + c * width), least, most)
                store(out, c * width, difference * share)
                _add(sums, c, n, loss, False)
            store(losses, r * width, _total(sums, n, False))


def _elementwise(function: Any, has_numbers: bool) -> Any:
    """The form in lanes of a loss of ``elementwise_losses``."""

    def rows_of(rows, n, s, s_ld, d, d_ld, labels, targets, t_ld, shares, share_ld, settings, losses, terms, sums):
        width, numbers = lanes(s), Settings(settings, lanes(s))
        several = has_numbers and get(settings, 0) == float(n)
        for r in range(rows):
            row, out = shift(s, r * s_ld), shift(d, r * d_ld)
            share = setting(load(row, 0), Settings(shift(shares, r * share_ld), width), 0)
            for c in range(n):
                x, y = load(row, c * width), load(targets, r * t_ld + c * width)
                w = setting(x, numbers, 1 + (c if several else 0)) if has_numbers else splat(s, 0.0)
                slope, loss = function(x, y, w)
                if n == 1:
                    exact = rounded_product(widened(slope), load_wide(shares, r * share_ld, s))
                    store(out, 0, narrowed(exact, s))
                    store(losses, r * width, loss)
                else:
                    store(out, c * width, slope * share)
                    _add(sums, c, n, loss, False)
            if n > 1:
                store(losses, r * width, _total(sums, n, False))

    return rows_of


for _name, _of in ELEMENTWISE_LOSSES.items():
    _lane_loss(_name)(_elementwise(*_of))
