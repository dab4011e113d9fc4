"""Lowering: a list of layers as a few small arrays over one flat parameter buffer.

:mod:`fastnn.codes` says what stands in the rows. All that a compiled call takes is bundled here.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..codes import (
    ADD,
    BIAS_AT,
    COLUMNS,
    FROZEN,
    INPUTS,
    KEEPS,
    KEEPS_X,
    KEEPS_Y,
    KEPT,
    KIND,
    LINEAR,
    N_SETTINGS,
    OPERATION,
    OUTPUTS,
    PARAMETERS,
    SETTINGS,
    SLOPE_AT,
    SOURCE,
    SPAN,
    STRIDE,
    SUMS,
    TAKES_KEY,
    WEIGHT,
)
from ..validation import Array, DType
from .activations import Identity
from .layers import BuiltIn, is_built_in, rates_of

ALIGNMENT = 64
_KEEPS = {"": 0, "x": KEEPS_X, "y": KEEPS_Y, "xy": KEEPS_X | KEEPS_Y}


class Network(NamedTuple):
    """The layers as data, without an address: those are looked up anew in each call.

    Attributes
    ----------
    ops : (n, 13) int64, spans : (k, 6) int64, settings : float64
        See :mod:`fastnn.codes`.
    names : tuple of str
        The operation behind each op, "" for a linear one.
    layers : tuple of tuples of int
        The places of the layers that each op stands for.
    seed : int
        From 0 to 2^63; decides which units a dropout drops.
    scales : (n,) float64 or None
        A factor of the learning rate for the parameters of each op; None where all are 1.
    row : int
        The place of the first row in a batch of which the rows at hand are a part, for what a dropout drops of them.
    """

    ops: Array
    spans: Array
    settings: Array
    names: tuple[str, ...]
    layers: tuple[tuple[int, ...], ...]
    seed: int = 0
    scales: Array | None = None
    row: int = 0


class Batches(NamedTuple):
    """The data of an epoch: x (n, inputs), y, sample_weight (n,) or None, order (m,) int64, and the batch size."""

    x: Array
    y: Array
    sample_weight: Array | None
    order: Array
    batch_size: int


class Reduction(NamedTuple):
    """How losses are counted.

    ``least`` and ``most`` bound the cross-entropy of a sample, and both logarithms of the binary one, which with a
    finite ``most`` are taken of rounded probabilities. ``value`` and ``gradient`` are factors of a batch's mean loss
    and of its gradient. With ``penalty_per_batch`` the factor of Σ w² is divided by the weight of a batch: the sum of
    its samples' weights, or its size. With ``mean_over_rows`` a batch counts by its size in the mean over an epoch,
    even if its samples have weights. Without ``stop`` training goes on after a loss that is not finite.
    """

    least: float = -math.inf
    most: float = math.inf
    value: float = 1.0
    gradient: float = 1.0
    penalty_per_batch: bool = False
    mean_over_rows: bool = False
    stop: bool = True


class Objective(NamedTuple):
    """What training minimises: the name of a loss, the factor of Σ w², label smoothing, and how losses are counted.

    ``numbers`` are the settings of a loss that has some of its own.
    """

    loss: str
    l2: float
    smoothing: float = 0.0
    reduction: Reduction = Reduction()
    numbers: tuple[float, ...] = ()

    @property
    def settings(self) -> tuple[float, ...]:
        """The numbers that the kernel takes."""
        return self.numbers or (self.smoothing, self.reduction.least, self.reduction.most)


class OptimizerSpec(NamedTuple):
    """How training moves: the name of a rule, its settings, its slots (s, n_params) and the updates made before.

    The first of the settings is the learning rate, in whose place ``rates`` (n,) float64 may give one for each update.
    ``clip_norm`` is the greatest norm of the gradient with its penalty, and ``accumulate`` says of how many batches it
    is that of all their samples.
    """

    name: str
    settings: tuple[float, ...]
    slots: Array
    step: int
    rates: Array | None = None
    clip_norm: float | None = None
    accumulate: int = 1


# Where each parameter of a layer starts in the flat buffer, by its name.
Spans = dict[str, int]


def layout(layers: Sequence[Any]) -> tuple[dict[int, Spans], int]:
    """Return where the parameters of each built-in layer that has some start, and the size of the flat buffer.

    Every array starts at a multiple of ``STRIDE`` elements; the gaps stay zero.
    """
    spans: dict[int, Spans] = {}
    size = 0
    for i, layer in enumerate(layers):
        for name, shape in layer.shapes().items() if isinstance(layer, BuiltIn) else ():
            spans.setdefault(i, {})[name] = size
            size += -(-math.prod(shape) // STRIDE) * STRIDE
    return spans, size


def lower(layers: Sequence[Any], spans: dict[int, Spans], n_in: int | None, training: bool = True) -> Network | None:
    """Return the layers as data, or None where one of them has no name or the width of the input is not known.

    Without ``training`` there is nothing in it that is for training alone.
    """
    if n_in is None or not layers:
        return None
    lowered = _Lowered(spans, n_in, rates_of(layers) if training else None)
    if not lowered.add_all(layers):
        return None
    if lowered.is_empty:
        lowered.add(0, Identity())
    return lowered.network()


class _Lowered:
    """The rows of a network, an op after the other; see :mod:`fastnn.codes` for the columns."""

    def __init__(self, spans: dict[int, Spans], width: int, rates: list[float | None] | None) -> None:
        """Take where parameters start, the inputs, and in training the factors of the learning rate for each leaf."""
        self._parameters, self._width, self._training = spans, width, rates is not None
        self._rates = rates
        self._leaves = 0
        self._sources: set[int] = set()
        self._ops: list[list[int]] = []
        self._spans: list[tuple[int, ...]] = []
        self._settings: list[float] = []
        self._names: list[str] = []
        self._layers: list[tuple[int, ...]] = []
        self._scales: list[float] = []

    def add_all(self, layers: Sequence[Any]) -> bool:
        """Add layers one behind the other, and return whether all of them have names."""
        for layer in layers:
            if not is_built_in(layer):
                return False
            if layer.parts:
                if not self._add_around(layer.parts):
                    return False
                continue
            i = self._leaves
            self._leaves += 1
            if not layer.vanishes and (self._training or layer.in_inference):
                self.add(i, layer)
        return True

    def _add_around(self, layers: Sequence[Any]) -> bool:
        """Add x + f(x), f being some layers."""
        self._part_rectifier()
        start, first = len(self._ops), self._leaves
        self._sources.add(start)
        if not self.add_all(layers):
            return False
        op = [0] * COLUMNS
        op[KIND], op[INPUTS], op[OUTPUTS], op[BIAS_AT], op[SLOPE_AT] = ADD, self._width, self._width, -1, -1
        op[SOURCE] = start
        self._append(op, "", first)
        return True

    def _part_rectifier(self) -> None:
        """Let a rectifier be an op of its own: gradients from both ways are added behind it."""
        if self._ops and self._ops[-1][SLOPE_AT] >= 0:
            self._ops[-1][SLOPE_AT] = -1
            *others, i = self._layers[-1]
            self._layers[-1] = tuple(others)
            self._sources.add(len(self._ops))
            self.add(i, self._rectifier)

    def add(self, i: int, layer: BuiltIn) -> None:
        """Add leaf i."""
        spans = self._parameters.get(i, {})
        at = len(self._settings)
        last = self._ops[-1] if self._ops else None
        # What is added to the output of further layers is wanted as it comes out of this one.
        is_free = last is not None and len(self._ops) not in self._sources
        if layer.rectifier is not None and last and is_free and last[KIND] == LINEAR and last[SLOPE_AT] < 0:
            last[SLOPE_AT] = at
            self._settings.append(layer.rectifier)
            self._rectifier = layer
            self._layers[-1] = (*self._layers[-1], i)
            return
        numbers = layer.numbers()
        is_linear = layer.operation == "linear"
        op = [0] * COLUMNS
        op[KIND] = LINEAR if is_linear else OPERATION
        op[INPUTS], op[OUTPUTS] = self._width, layer.outputs_for(self._width) or self._width
        op[WEIGHT] = min(spans.values(), default=0)
        op[BIAS_AT] = spans.get("bias", -1) if is_linear else -1
        op[SETTINGS], op[N_SETTINGS] = at, len(numbers)
        op[SLOPE_AT] = -1
        rate = 1.0 if self._rates is None else self._rates[i]
        is_frozen = rate is None
        is_trained = self._training and not is_frozen
        is_other = bool(layer.operation_in_inference) and not is_trained
        keeps = 0 if is_other else _KEEPS[layer.keeps]
        op[KEEPS] = keeps | (TAKES_KEY if layer.draws else 0) | (FROZEN if is_frozen else 0)
        op[KEPT] = layer.kept
        op[PARAMETERS] = 0 if is_linear else len(spans)
        op[SUMS] = layer.sums if is_trained else 0
        if not is_linear:
            shapes, widths = layer.shapes(), layer.row_widths()
            for which, (name, start) in enumerate(spans.items()):
                trained = int(name not in layer.buffers and not is_frozen)
                size = math.prod(shapes[name])
                self._spans.append((len(self._ops), which, start, size, trained, widths.get(name, 0)))
        self._settings += numbers
        operation = layer.operation_in_inference if is_other else layer.operation
        self._append(op, "" if is_linear else operation, i, rate if spans else None)

    def _append(self, op: list[int], name: str, layer: int, rate: float | None = None) -> None:
        self._ops.append(op)
        self._scales.append(1.0 if rate is None else rate)
        self._names.append(name)
        self._layers.append((layer,))
        self._width = op[OUTPUTS]

    @property
    def is_empty(self) -> bool:
        """Whether there is no op yet."""
        return not self._ops

    def network(self) -> Network | None:
        """Return the network, None without an op."""
        if self.is_empty:
            return None
        ops = np.array(self._ops, np.int64)
        spans = np.array(self._spans, np.int64).reshape(-1, SPAN)
        settings, scales = np.array([*self._settings, 0.0]), np.array(self._scales)
        network = Network(ops, spans, settings, tuple(self._names), tuple(self._layers))
        return network if np.all(scales == 1) else network._replace(scales=scales)


def input_width(layers: Sequence[Any]) -> int | None:
    """Return the inputs of the first layer, which those behind it may tell, or None."""
    passed: list[BuiltIn] = []
    for layer in layers:
        width: int | None = getattr(layer, "n_in", None)
        if width is not None or not isinstance(layer, BuiltIn):
            for earlier in reversed(passed):
                width = earlier.inputs_for(width)
            return width
        passed.append(layer)
    return None


def views(layer: BuiltIn, spans: Spans, buffer: Array) -> dict[str, Array]:
    """Return the parameters of ``layer`` as views into a flat buffer."""
    shapes = layer.shapes()
    return {name: buffer[at : at + math.prod(shapes[name])].reshape(shapes[name]) for name, at in spans.items()}


def aligned_zeros(shape: int | tuple[int, ...], dtype: DType) -> Array:
    """Return zeros that start at the boundary of a cache line, as the vectors of the kernels like it."""
    shape = shape if isinstance(shape, tuple) else (shape,)
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(n_bytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + n_bytes].view(dtype).reshape(shape)
