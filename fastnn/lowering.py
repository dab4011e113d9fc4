"""Lowering: a list of layers as a few small arrays over one flat parameter buffer.

:mod:`fastnn.reference.epoch` documents the rows of ``ops``. Everything that a compiled call takes is bundled here.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .dropout import Dropout
from .layers import Elementwise, Identity, LeakyReLU, Linear, ReLU, Sigmoid, Tanh
from .validation import Array, DType

# The codes of ops, losses and rules, see fastnn.reference.epoch.
LINEAR, ACTIVATION, DROPOUT = range(3)
CROSS_ENTROPY, SQUARED_ERROR, BINARY_CROSS_ENTROPY, POISSON = range(4)
SGD, MOMENTUM, NESTEROV, ADAM, ADAM_PLAIN, ACCUMULATE = range(6)
ALIGNMENT = 64
_STRIDE = 16
_CODES: dict[type, int] = {Identity: 0, ReLU: 1, LeakyReLU: 2, Tanh: 3, Sigmoid: 4}


class Network(NamedTuple):
    """The layers as data: ops (n, 6) int64, the slopes of leaky ReLUs and rates of dropouts (n,) float64, and a seed.

    The seed, from 0 to 2^63, decides which units a dropout drops.
    """

    ops: Array
    slopes: Array
    seed: int = 0


class Batches(NamedTuple):
    """The data of an epoch: x (n, inputs), y, sample_weight (n,) or None, order (m,) int64, and the batch size."""

    x: Array
    y: Array
    sample_weight: Array | None
    order: Array
    batch_size: int


class Convention(NamedTuple):
    """How losses are counted.

    ``least`` and ``most`` bound the cross-entropy of a sample, and both logarithms of the binary one, which with a
    finite ``most`` are taken of rounded probabilities. ``value`` and
    ``gradient`` are factors of a batch's mean loss and of its gradient. With ``penalty_per_batch`` the factor of Σ w²
    is divided by the weight of a batch: the sum of its samples' weights, or its size. With ``mean_over_rows`` a batch
    counts by its size in the mean over an epoch, even if its samples have weights. Without ``stop`` training goes on
    after a loss that is not finite.
    """

    least: float = -math.inf
    most: float = math.inf
    value: float = 1.0
    gradient: float = 1.0
    penalty_per_batch: bool = False
    mean_over_rows: bool = False
    stop: bool = True


class Objective(NamedTuple):
    """What training minimises: the code of a loss, the factor of Σ w², label smoothing, and how losses are counted."""

    loss: int
    l2: float
    smoothing: float = 0.0
    convention: Convention = Convention()


class Rule(NamedTuple):
    """How training moves: the code of an update, its settings, its slots (s, n_params) and the updates made before."""

    kind: int
    lr: float
    momentum: float
    beta2: float
    eps: float
    slots: Array
    step: int


class Span(NamedTuple):
    """Where the weight and the bias (-1: none) of a linear layer start in the flat buffer."""

    weight: int
    bias: int


def is_built_in(layer: Any) -> bool:
    """Return whether ``layer`` has an op code; a user's subclass has not."""
    return type(layer) in (Linear, Dropout) or type(layer) in _CODES


def layout(layers: Sequence[Any]) -> tuple[dict[int, Span], int]:
    """Return the span of each linear layer by its place, and the size of the flat buffer.

    Every array starts at a multiple of 16 elements, so vectors of any CPU load it aligned; the gaps stay zero.
    """
    spans, size = {}, 0
    for i, layer in enumerate(layers):
        if isinstance(layer, Linear):
            bias = size + _rounded(layer.n_in * layer.n_out)
            spans[i] = Span(size, bias if layer.has_bias else -1)
            size = bias + (_rounded(layer.n_out) if layer.has_bias else 0)
    return spans, size


def lower(layers: Sequence[Any], spans: dict[int, Span], n_in: int | None, training: bool = True) -> Network | None:
    """Return the layers as data, or None where one of them has no op code or the width of the input is not known.

    Without ``training`` there is no dropout in it.
    """
    rows: list[list[int]] = []
    slopes: list[float] = []
    width = n_in
    before: type | None = None
    for i, layer in enumerate(layers):
        if type(layer) is Linear:
            rows.append([LINEAR, layer.n_in, layer.n_out, *spans[i], _CODES[Identity]])
            slopes.append(0.0)
            width = layer.n_out
        elif type(layer) is Dropout and width is not None:
            if not training:
                continue
            rows.append([DROPOUT, width, width, -1, -1, _CODES[Identity]])
            slopes.append(layer.rate)
        elif type(layer) in _CODES and width is not None:
            if before is not Linear:
                rows.append([ACTIVATION, width, width, -1, -1, _CODES[Identity]])
                slopes.append(0.0)
            rows[-1][5] = _CODES[type(layer)]
            slopes[-1] = layer.slope if isinstance(layer, LeakyReLU) else 0.0
        else:
            return None
        before = type(layer)
    return Network(np.array(rows, np.int64), np.array(slopes, np.float64))


def input_width(layers: Sequence[Any]) -> int | None:
    """Return the inputs of the first layer that says so, looking past those as wide as what comes, or None."""
    for layer in layers:
        if not isinstance(layer, Elementwise):
            n_in: int | None = getattr(layer, "n_in", None)
            return n_in
    return None


def views(layer: Linear, span: Span, buffer: Array) -> tuple[Array, Array | None]:
    """Return the weight and the bias of ``layer`` as views into a flat buffer."""
    weight = buffer[span.weight : span.weight + layer.n_in * layer.n_out].reshape(layer.n_in, layer.n_out)
    return weight, buffer[span.bias : span.bias + layer.n_out] if span.bias >= 0 else None


def aligned_zeros(shape: int | tuple[int, ...], dtype: DType) -> Array:
    """Return zeros that start at the boundary of a cache line, as the vectors of the kernels like it."""
    shape = shape if isinstance(shape, tuple) else (shape,)
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(n_bytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + n_bytes].view(dtype).reshape(shape)


def _rounded(size: int) -> int:
    return -(-size // _STRIDE) * _STRIDE
