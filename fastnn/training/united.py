"""The gradient of a batch whose samples many processes hold, layer by layer: what a layer takes of the whole batch.

:class:`BatchNorm` takes its means over all processes, and the masks of :class:`Dropout` are those of the rows of the
whole batch, as in a compiled epoch. Stripes go one by one where nothing is taken of the whole batch, else side by side.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backend import active
from ..nn import losses
from ..nn.chain import call_list
from ..nn.dropout import Dropout
from ..nn.layers import BuiltIn, back, is_built_in
from ..nn.normalisation import BatchNorm
from ..nn.stack import Stack
from ..reference.dropout import key_of
from ..validation import FLOAT64, Array, computed, real_array
from .plan import Plan
from .ranks import Ranks

Part = Array | None  # what a stripe has of something, None for one without samples


class Task(NamedTuple):
    """What a stripe brings to a batch: its samples, the first row they have in it, and their share in the mean loss."""

    rows: Array
    at: int
    share: float


class Pass:
    """Passes forward and back of the stripes of this process through a batch.

    Parameters
    ----------
    stack, plan : the layers, and what they train for
    ranks : Ranks
    seed : what the masks of dropout follow from
    """

    def __init__(self, stack: Stack, plan: Plan, ranks: Ranks, seed: int) -> None:
        self._stack, self._plan, self._ranks, self.seed = stack, plan, ranks, seed
        network = stack.network
        ops = [(leaf,) for leaf in range(len(stack.leaves))] if network is None else network.layers
        self._ops = {id(stack.leaves[leaf]): op for op, leaves in enumerate(ops) for leaf in leaves}
        self._places = {id(leaf): i for i, leaf in enumerate(stack.leaves)}
        self._spans = {
            i: slice(min(spans.values()), _end(stack, i, max(spans.values()))) for i, spans in stack.spans.items()
        }

    def add_gradients(self, tasks: Sequence[Task], draw: int, rows: int, buffer: Array) -> list[float]:
        """Add the gradient of each stripe to its row of ``buffer``, and return its mean loss, 0 without samples.

        ``draw`` is the number of the batch since the first of all, and ``rows`` are the samples of all processes.
        """
        stack, plan = self._stack, self._plan
        stack.own_gradient()
        self._saved: dict[tuple[int, int], dict[str, Any]] = {}
        self._keys = {place: key_of(self.seed, draw, op) for place, op in self._ops.items()}
        self._rows, self._tasks, self._buffer = rows, tasks, buffer
        everyone = range(len(tasks))
        side_by_side = any(_unites(leaf) for leaf in stack.leaves)
        groups = [everyone] if side_by_side else [range(i, i + 1) for i in everyone if len(tasks[i].rows)]
        found = [0.0] * len(tasks)
        for group in groups:
            self._group = group
            xs: list[Part] = [None] * len(tasks)
            for s in group:
                if len(tasks[s].rows):
                    xs[s] = plan.x[tasks[s].rows].astype(stack.dtype, copy=False)
            outputs = self._forward(stack.layers, xs)
            ds: list[Part] = [None] * len(tasks)
            for s in group:
                pred, own = outputs[s], tasks[s].rows
                if pred is not None:
                    v = None if plan.sample_weight is None else plan.sample_weight[own]
                    found[s], d = losses.value_and_gradient(plan.loss, pred, plan.y[own], v)
                    ds[s] = d * d.dtype.type(tasks[s].share)
            self._backward(stack.layers[stack.first_trained :], ds)
        self._saved = {}
        return found

    def _forward(self, layers: Sequence[Any], xs: list[Part]) -> list[Part]:
        for layer in layers:
            if _unites(layer):
                xs = self._norm(layer, xs)
            elif isinstance(layer, BuiltIn) and layer.parts:
                ys = self._forward(layer.parts, xs)
                xs = [None if x is None or y is None else x + y for x, y in zip(xs, ys, strict=True)]
            else:
                xs = [None if x is None else self._through(layer, s, x) for s, x in enumerate(xs)]
        return xs

    def _through(self, layer: Any, s: int, x: Array) -> Array:
        """The output of a layer for the samples of stripe s."""
        if is_built_in(layer) and isinstance(layer, Dropout):
            return self._dropped(layer, s, x)
        y = computed("forward", layer, layer.forward(x, True), len(x), None, self._stack.dtype)
        if len(self._group) > 1:
            self._saved[id(layer), s] = vars(layer).copy()
        return y

    def _dropped(self, layer: Dropout, s: int, x: Array) -> Array:
        key = (self._keys[id(layer)] + self._tasks[s].at + 2**63) % 2**64 - 2**63  # as a kernel's int64 wraps
        out = np.empty(x.shape, x.dtype)
        active().dropout(np.ascontiguousarray(x), layer.rate, key, out)
        return out

    def _backward(self, layers: Sequence[Any], ds: list[Part]) -> list[Part]:
        for layer in reversed(layers):
            if _unites(layer):
                ds = self._norm_backward(layer, ds)
            elif isinstance(layer, BuiltIn) and layer.parts:
                dxs = self._backward(layer.parts, ds)
                ds = [None if d is None or dx is None else d + dx for d, dx in zip(ds, dxs, strict=True)]
            else:
                ds = [None if d is None else self._back(layer, s, d) for s, d in enumerate(ds)]
        return ds

    def _back(self, layer: Any, s: int, d: Array) -> Array:
        """The gradient at the input of a layer for the samples of stripe s, whose gradients go to its row."""
        if is_built_in(layer) and isinstance(layer, Dropout):
            return self._dropped(layer, s, d)
        if len(self._group) > 1:
            vars(layer).update(self._saved[id(layer), s])
        dx = computed("backward", layer, back(layer, d, 0.0), len(d), None, self._stack.dtype)
        self._keep(layer, s)
        return dx

    def _keep(self, layer: Any, s: int) -> None:
        """Add the gradients that a layer has found to the row of stripe s."""
        place = self._places[id(layer)]
        if place in self._spans:
            span, gradient = self._spans[place], self._stack.gradient
            assert gradient is not None
            self._buffer[s, span] += gradient[span]
        if is_built_in(layer) or self._stack.rates[place] is None:
            return
        parameters, gradients = call_list(layer, "parameters"), call_list(layer, "gradients")
        if [np.shape(g) for g in gradients] != [p.shape for p in parameters]:
            raise ValueError(
                f"gradients of {layer!r} have shapes {[np.shape(g) for g in gradients]}, but its parameters have "
                f"{[p.shape for p in parameters]}: they must be equal after backward"
            )
        starts = own_places(self._stack)
        for p, g in zip(parameters, gradients, strict=True):
            if id(p) in starts:
                start = starts[id(p)]
                self._buffer[s, start : start + p.size] += real_array(f"gradients of {layer!r}", g).ravel()

    def _norm(self, layer: BatchNorm, xs: list[Part]) -> list[Part]:
        """Normalise by the mean and the variance of the whole batch, which the running ones follow."""
        n, place = layer.n or 0, id(layer)
        moments = np.zeros((len(xs), 1 + 2 * n))
        for s, x in enumerate(xs):
            if x is not None:
                mean = x.mean(axis=0, dtype=FLOAT64)
                moments[s, 0], moments[s, 1 : 1 + n] = len(x), mean
                moments[s, 1 + n :] = np.square(x - mean).sum(axis=0)
        whole = folded(moments, _unite)
        self._ranks.combine(whole, _unite, by_elements=False)
        m, mean, square = whole[0], whole[1 : 1 + n], whole[1 + n :]
        scale = 1 / np.sqrt(square / m + layer.eps)
        layer.running_mean += (layer.momentum * (mean - layer.running_mean)).astype(self._stack.dtype)
        unbiased = square / max(1.0, m - 1)
        layer.running_variance += (layer.momentum * (unbiased - layer.running_variance)).astype(self._stack.dtype)
        ys: list[Part] = []
        for s, x in enumerate(xs):
            if x is None:
                ys.append(None)
                continue
            normed = ((x - mean) * scale).astype(x.dtype)
            self._saved[place, s] = {"normed": normed, "scale": scale}
            ys.append(normed * layer.weight + layer.bias)
        return ys

    def _norm_backward(self, layer: BatchNorm, ds: list[Part]) -> list[Part]:
        n, place = layer.n or 0, id(layer)
        sums = np.zeros((len(ds), 2 * n))
        for s, d in enumerate(ds):
            if d is not None:
                normed = self._saved[place, s]["normed"]
                sums[s, :n], sums[s, n:] = d.sum(axis=0, dtype=FLOAT64), (d * normed).sum(axis=0, dtype=FLOAT64)
                layer.keep_gradients(weight=sums[s, n:], bias=sums[s, :n])
                self._keep(layer, s)
        whole = folded(sums, np.add)
        self._ranks.sum(whole)
        dxs: list[Part] = []
        for s, d in enumerate(ds):
            if d is None:
                dxs.append(None)
                continue
            kept = self._saved[place, s]
            centred = d - (whole[:n] + kept["normed"] * whole[n:]) / self._rows
            dxs.append((centred * (kept["scale"] * layer.weight)).astype(d.dtype))
        return dxs


def own_places(stack: Stack) -> dict[int, int]:
    """Return where the gradients of parameters of a user's own layers begin, by the arrays' identity."""
    places, at = {}, stack.params.size
    for p in stack.user_parameters():
        places[id(p)] = at
        at += p.size
    return places


def folded(rows: Array, function: Any) -> Array:
    """Return the rows (k, n), k a power of two, made one in a binary tree, the first of them overwritten."""
    step = 1
    while step < len(rows):
        for i in range(0, len(rows), 2 * step):
            function(rows[i], rows[i + step], rows[i]) if function is np.add else function(rows[i], rows[i + step])
        step *= 2
    whole: Array = rows[0]
    return whole


def _unite(own: Array, other: Array) -> None:
    """Of a count, means and sums of squares around them those of both together (Chan, Golub and LeVeque, 1983)."""
    n = (len(own) - 1) // 2
    a, b = own[0], other[0]
    if a + b == 0:
        return
    delta = own[1 : 1 + n] - other[1 : 1 + n]
    own[1 + n :] += other[1 + n :]
    own[1 + n :] += np.square(delta) * (a * b / (a + b))
    own[1 : 1 + n] = (own[1 : 1 + n] * a + other[1 : 1 + n] * b) / (a + b)
    own[0] = a + b


def _unites(layer: Any) -> bool:
    """Whether a layer takes means over the whole batch."""
    return is_built_in(layer) and isinstance(layer, BatchNorm) and layer.learns


def _end(stack: Stack, leaf: int, last: int) -> int:
    """Where the parameters of a leaf end, the last of which begins there."""
    later = [start for spans in stack.spans.values() for start in spans.values() if start > last]
    return min(later, default=stack.params.size)
