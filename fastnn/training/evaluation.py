"""The loss, the accuracy and other metrics, of data that a network is not trained on, and of those that it is."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..chunks import Source, is_array, is_source
from ..nn import losses
from ..nn.stack import Stack
from ..validation import Array, own_view, real_array, sample_weights
from .labels import coded_as
from .metrics import Metric, Metrics, check_metrics, left_of, measure, suit
from .sources import Answering, Form

if TYPE_CHECKING:
    from .plan import Plan


class Validation(NamedTuple):
    """Arrays to be evaluated after each epoch: the rows of x and y, all for None, and what y is called."""

    x: Array
    y: Array
    rows: Array | None
    name: str

    def measured(self, stack: Stack, loss: Any, metrics: Sequence[Metric]) -> dict[str, float]:
        """Return the loss and what else is measured."""
        return measured(Means(stack, loss, bool(metrics)), self.x, self.y, None, self.name, self.rows, metrics)

    def described(self) -> Any:
        """Return what a checkpoint tells them by."""
        return [*self.x.shape, *self.y.shape]


class ValidationChunks(NamedTuple):
    """Chunks to be evaluated after each epoch."""

    source: Source
    form: Form

    def measured(self, stack: Stack, loss: Any, metrics: Sequence[Metric]) -> dict[str, float]:
        """Return the loss and what else is measured, from one pass over the chunks."""
        return measured_in_chunks(Means(stack, loss, bool(metrics)), self.source, self.form, metrics)

    def described(self) -> Any:
        """Return what a checkpoint tells them by."""
        return ["chunks", *self.form.described(), self.form.is_weighted]


def validation_chunks(given: Any, form: Form) -> ValidationChunks:
    """Return validation data that are a source, of which the first chunk is checked."""
    source = Source(given, name="validation_data")
    first = source.first()
    with source.at(0):
        form.checked(first)
    return ValidationChunks(source, form)


def validation_values(stack: Stack, plan: "Plan") -> dict[str, float]:
    """Return what is measured of the validation data, if there are any."""
    if plan.validation is None:
        return {}
    values = plan.validation.measured(stack, plan.loss, plan.metrics)
    return {f"val_{name}": value for name, value in values.items()}


def training_values(stack: Stack, plan: "Plan") -> dict[str, float]:
    """Return the metrics of the training data, without weights."""
    rows = plan.rows
    outputs = outputs_of(stack, plan.x, rows)
    return measure(plan.metrics, plan.loss, plan.y if rows is None else plan.y[rows], outputs)


def outputs_of(stack: Stack, x: Array, rows: Array | None) -> list[Array]:
    """Return the outputs for x, or for the rows of it, block by block."""
    parts = [slice(start, start + stack.block) for start in range(0, len(x if rows is None else rows), stack.block)]
    return [stack.outputs(x[part if rows is None else rows[part]]) for part in parts]


def evaluate(
    stack: Answering,
    loss: Any,
    classes: Array | None,
    x: Any,
    y: Any,
    sample_weight: Any,
    metrics: Metrics | None,
    kind: "type[Means] | None" = None,
) -> dict[str, float]:
    """Check the arguments of ``evaluate``, and return the loss of arrays or of a source, and what else it measures."""
    chosen = check_metrics(metrics)
    means = (kind or Means)(stack, loss, bool(chosen))
    if y is None and not is_array(x):
        if sample_weight is not None:
            raise ValueError("sample_weight is given beside a source: let each of its chunks be (X, y, sample_weight)")
        source = Source(x, "evaluate(X, y)", again=False)
        return measured_in_chunks(means, source, Form(stack, loss, None, classes), chosen)
    refuse_beside(x, y)
    x = stack.features(own_view(x))
    k = stack.output_width(x)
    targets = losses.targets(loss, coded_as(own_view(y), classes), len(x), k, stack.dtype)
    weights = sample_weights(own_view(sample_weight), len(x), stack.dtype)
    suit(chosen, loss, targets, k)
    return measured(means, x, targets, weights, metrics=chosen)


def refuse_beside(x: Any, y: Any) -> None:
    """Raise ValueError for y beside a source, whose chunks are to hold it."""
    if y is not None and is_source(x):
        raise ValueError("y is given beside a source of chunks: let each of its chunks be (X, y)")


def measured(
    means: "Means",
    x: Array,
    y: Array,
    sample_weight: Array | None,
    name: str = "y",
    chosen: Array | None = None,
    metrics: Sequence[Metric] = (),
) -> dict[str, float]:
    """Return the means over checked data and what else is measured, block by block under a built-in loss.

    Of x and y only the rows at ``chosen`` count where they are given, for which there are no weights. For metrics all
    outputs are held.
    """
    means.add(x, y, sample_weight, name, chosen)
    values = means.values()
    y, v = (y, sample_weight) if chosen is None or not metrics else (y[chosen], None)
    return values | measure(left_of(metrics, values), means.loss, y, means.outputs, v)


def measured_in_chunks(means: "Means", source: Source, form: Form, metrics: Sequence[Metric] = ()) -> dict[str, float]:
    """Return the means over all samples of a source's chunks and what else is measured.

    A loss that is not built in is computed chunk by chunk. For metrics all outputs, targets and weights are held.
    """
    loss = means.loss
    targets, weights = [], []
    with closing(source.once()) as chunks:
        for place, parts in chunks:
            with source.at(place):
                x, y, v = form.checked(parts)
            suit(metrics, loss, y, form.outputs)
            means.add(x, y, v)
            if metrics:  # in copies, since a source may give the same arrays again and again
                targets.append(y.copy())
                weights.append(v if v is None else v.copy())
    if not means.weights:
        raise ValueError(f"the weights in all chunks of {source.name} are zero, expected at least one that is positive")
    values = means.values()
    left = left_of(metrics, values)
    if not left:
        return values
    every = np.concatenate([v for v in weights if v is not None]) if form.is_weighted else None
    return values | measure(left, loss, np.concatenate(targets), means.outputs, every)


def of_each_chunk(function: Callable[[Any], Array], given: Any, call: str, axis: int = 0) -> Array:
    """Return what a function makes of the X of each chunk of a source, one after the other; ``axis`` is that of rows.

    Raises
    ------
    ValueError, TypeError
        If there is no chunk, X is unlike that of the first one, or the function refuses it.
    """
    source = Source(given, call, again=False)
    found: list[Array] = []
    shape: tuple[int, ...] = ()
    with closing(source.features()) as chunks:
        for place, x in chunks:
            with source.at(place):
                array = real_array("X", own_view(x))
                shape = shape or array.shape[1:]
                if array.ndim == 2 and array.shape[1:] != shape:
                    raise ValueError(f"X has {array.shape[1]} columns, but that of the first chunk {shape[0]}")
                found.append(function(array))
    if not found:
        raise source.is_empty()
    return np.concatenate(found, axis)


class Means:
    """The means over samples that come in parts: of the loss, and of what else it measures.

    Attributes
    ----------
    loss : loss
    weights : float
        Those of all samples so far, or how many they are.
    outputs : list of ndarray
        Of all samples, block by block, if they are to be kept.
    """

    def __init__(self, stack: Answering, loss: Any, keep: bool) -> None:
        self._stack, self.loss, self._keep = stack, loss, keep
        self._totals = dict.fromkeys(("loss", *losses.measured(loss)), 0.0)
        self.weights = 0.0
        self.outputs: list[Array] = []

    def add(
        self, x: Array, y: Array, sample_weight: Array | None, name: str = "y", chosen: Array | None = None
    ) -> None:
        """Take more samples, block by block under a built-in loss; of x and y only the rows ``chosen`` if given."""
        loss, totals = self.loss, self._totals
        m = len(x) if chosen is None else len(chosen)
        rows = self._stack.block if losses.is_built_in(loss) else m
        for start in range(0, m, rows):
            part = slice(start, start + rows) if chosen is None else chosen[start : start + rows]
            v = None if sample_weight is None else sample_weight[part]
            outputs, targets = self._outputs(x[part]), y[part]
            if self._keep:
                self.outputs.append(outputs)
            share = len(outputs) if v is None else float(v.sum(dtype=np.float64))
            if not share:
                continue
            totals["loss"] += share * losses.value(loss, outputs, targets, v)
            if losses.measured(loss):
                for name_of, values in loss.measures(self._predictions(outputs), targets).items():
                    totals[name_of] += share * mean_of(values, v)
            self.weights += share
        if not math.isfinite(totals["loss"]):
            k, dtype = outputs.shape[1], self._stack.dtype
            losses.check_again(loss, y if chosen is None else y[chosen], k, dtype, name)

    def _outputs(self, x: Array) -> Array:
        """The outputs for some samples."""
        return self._stack.outputs(x)

    def _predictions(self, outputs: Array) -> Array:
        """What the outputs mean that came last; it may overwrite those that are not kept."""
        found: Array = self.loss.predictions(outputs.copy() if self._keep else outputs)
        return found

    def values(self) -> dict[str, float]:
        """Return the means."""
        return {name: total / self.weights for name, total in self._totals.items()}


def mean_of(values: Array, sample_weight: Array | None) -> float:
    """Return the mean over the samples, weighted where there are weights."""
    return float(values.mean() if sample_weight is None else np.average(values, weights=sample_weight))
