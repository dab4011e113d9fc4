"""The models of an ensemble: what they must agree in, and what they say together."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from . import ops
from .backend import active
from .model import Sequential
from .nn import losses
from .nn.loss import BuiltInLoss, Link, linked
from .training.evaluation import Means
from .training.labels import are_same, listed
from .validation import Array, DType, features, finite, own_view

_ELEMENTS = 1 << 20  # outputs of all members that are held at once, where nobody asked for each
_FEWEST_ROWS = 256


class Together:
    """The models as one that has outputs for samples: the mean of their outputs.

    Parameters
    ----------
    models : sequence of Sequential
    dtype : numpy.dtype
        The widest of theirs.
    """

    def __init__(self, models: Sequence[Sequential], dtype: DType) -> None:
        self.models, self.dtype = models, dtype
        self.n_in = next((model._stack.n_in for model in models if model._stack.n_in is not None), None)
        self.block = _FEWEST_ROWS

    def features(self, X: Any) -> Array:
        """Return X as an array that every member takes as it is, and checks itself."""
        return features(own_view(X), self.n_in, self.dtype, check_finite=False)

    def check_codes(self, x: Array) -> None:
        """Raise ValueError for codes that a table of a member has no row for."""
        for model in self.models:
            model._stack.check_codes(x)

    def output_width(self, x: Array) -> int:
        """Return the number of outputs, which says how many samples go through at a time."""
        k = self.models[0]._stack.output_width(x)
        self.block = max(_FEWEST_ROWS, _ELEMENTS // (len(self.models) * k) // _FEWEST_ROWS * _FEWEST_ROWS)
        return k

    def each(self, x: Array) -> Array:
        """Return the outputs (members, m, k) of each."""
        return outputs_of(self.models, x, "identity", self.dtype)

    def outputs(self, x: Array) -> Array:
        """Return the mean of the outputs."""
        return mean_of(self.each(x), self.dtype)


class PooledMeans(Means):
    """The means over samples of what a loss measures of several models together."""

    _stack: Together

    def _outputs(self, x: Array) -> Array:
        """The outputs that stand for the mean of what those of the members stand for."""
        self._each, loss = self._stack.each(x), self.loss
        return loss.pooled(self._each) if isinstance(loss, BuiltInLoss) else mean_of(self._each, self._stack.dtype)

    def _predictions(self, outputs: Array) -> Array:
        link = self.loss.link
        means = ops.softmax(self._each) if link == "softmax" else linked(link, self._each)
        found: Array = self.loss.decisions(mean_of(means, self._stack.dtype))
        return found


def outputs_of(models: Sequence[Sequential], x: Array, link: Link, dtype: DType) -> Array:
    """Return what the outputs (members, m, k) of every model for features stand for, in the widest dtype.

    Models of the same layers answer side by side, a model in each lane of a vector.
    """
    softmax = link == "softmax"
    first = models[0]._stack.outputs(x, softmax)
    found = np.empty((len(models), *first.shape), dtype)
    found[0] = first
    for members in _alike(models, len(x)):
        if len(members) > 1:
            _side_by_side(models, members, x, softmax, found)
            continue
        (i,) = members
        outputs = models[i]._stack.outputs(x, softmax)
        if outputs.shape != first.shape:
            raise ValueError(f"models[{i}] has {outputs.shape[1]} outputs, but models[0] has {first.shape[1]}")
        found[i] = outputs
    return linked(link, found)


def _alike(models: Sequence[Sequential], samples: int) -> list[list[int]]:
    """Return the places, but for the first, of models that answer faster side by side, and of each of the others."""
    groups: dict[Any, list[int]] = {}
    for i, model in enumerate(models[1:], start=1):
        network = model._stack.inference
        key = None if network is None else (network.ops.tobytes(), network.spans.tobytes(), network.names, model.dtype)
        groups.setdefault(i if key is None else key, []).append(i)
    units = []
    for members in groups.values():
        stack = models[members[0]]._stack
        most = active().count_lanes(stack.dtype)
        for start in range(0, len(members), most):
            unit = members[start : start + most]
            pays = stack.inference is not None and active().lanes_pay(stack.inference, stack.dtype, samples, len(unit))
            units += [unit] if pays else [[i] for i in unit]
    return units


def _side_by_side(models: Sequence[Sequential], members: list[int], x: Array, softmax: bool, found: Array) -> None:
    """Write the outputs of models of the same layers."""
    stacks = [models[i]._stack for i in members]
    samples = features(x, stacks[0].n_in, stacks[0].dtype, check_finite=False)
    for stack in stacks:
        stack.check_codes(samples)
    outputs = np.empty((len(members), *found.shape[1:]), stacks[0].dtype)
    if not active().forward_lanes([(stack.inference, stack.params) for stack in stacks], samples, outputs, softmax):
        finite("X", samples, stacks[0].dtype)
    found[members] = outputs


def mean_of(outputs: Array, dtype: DType) -> Array:
    """Return the mean over the members as ``dtype``."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean: Array = outputs.mean(axis=0, dtype=np.float64).astype(dtype)
    return mean


def checked(models: Iterable[Sequential]) -> tuple[Sequential, ...]:
    """Return models that agree."""
    if isinstance(models, (Sequential, str)) or not isinstance(models, Iterable):
        raise TypeError(f"models is {models!r}, expected a list of Sequential models")
    found = tuple(models)
    if not found:
        raise ValueError("models is empty, expected at least one Sequential")
    for i, model in enumerate(found):
        if not isinstance(model, Sequential):
            raise TypeError(f"models[{i}] is {model!r}, expected a Sequential")
    seen: dict[int, int] = {}
    for i, model in enumerate(found):
        if seen.setdefault(id(model), i) != i:
            raise ValueError(f"models[{i}] is models[{seen[id(model)]}] once more: give each once")
    _agree("inputs", [model._stack.n_in for model in found])
    _agree("outputs", [model._stack.widths[-1] for model in found])
    agree_in_meaning(found)
    return found


def _agree(what: str, widths: Sequence[int | None]) -> None:
    """Require that all widths that are known are equal."""
    known = [(i, width) for i, width in enumerate(widths) if width is not None]
    for i, width in known:
        if width != known[0][1]:
            raise ValueError(
                f"models[{i}] has {counted(width, what[:-1])}, but models[{known[0][0]}] has {known[0][1]}: they must "
                "be equal"
            )


def agree_in_meaning(models: Sequence[Sequential]) -> None:
    """Require that all losses that are known say the same of what outputs stand for."""
    known = [(i, model.loss) for i, model in enumerate(models) if model.loss is not None]
    for i, loss in known:
        if losses.link(loss) != losses.link(known[0][1]):
            raise ValueError(
                f"models[{i}] was trained with {loss!r}, but models[{known[0][0]}] with {known[0][1]!r}: the outputs "
                "of all must be class scores, or those of none, and stand for the same"
            )
        if not are_same(models[i].classes_, models[known[0][0]].classes_):
            raise ValueError(
                f"models[{i}] has the classes {_shown(models[i])}, but models[{known[0][0]}] has "
                f"{_shown(models[known[0][0]])}: they must be equal"
            )


def _shown(model: Sequential) -> str:
    return "0, 1, ..." if model.classes_ is None else listed(model.classes_)


def is_same(loss: Any, other: Any) -> bool:
    """Whether two losses measure the same, as far as it can be known of a user's own."""
    if losses.is_built_in(loss) and type(loss) is type(other):
        return bool(loss.config() == other.config())
    return loss is other or bool(loss == other)


def alike(models: Sequence[Sequential]) -> list[tuple[str, list[int]]]:
    """What models look like, each with the places of neighbours that look alike."""
    shown = enumerate(map(repr, models))
    return [(text, [i for i, _ in group]) for text, group in groupby(shown, key=lambda pair: pair[1])]


def counted(number: int, thing: str) -> str:
    """Return so many things in words."""
    return f"{number} {thing}{'s' * (number != 1)}"
