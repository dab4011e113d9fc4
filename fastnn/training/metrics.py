"""What ``fit`` and ``evaluate`` measure beside the loss: by names, or by functions of targets and outputs.

A metric of classes counts them: each sample is of one class, or, after binary cross-entropy, each output is of two by
itself, and what is said of each output is averaged.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..nn import losses
from ..validation import Array

Weights = Array | None
Metrics = Iterable[str | Callable[[Array, Array], Any]] | Mapping[str, str | Callable[[Array, Array], Any]]


class Counts(NamedTuple):
    """The weight (outputs, classes) of the samples that are found, predicted, and there, of each class.

    Scores of classes count as one output; after binary cross-entropy each is one of two classes, 0 and 1.
    """

    found: Array
    predicted: Array
    there: Array
    is_binary: bool


class OfClasses(NamedTuple):
    """A metric that is computed from counts; it rises as it gets better."""

    function: Callable[[Counts], float]
    better: int = 1


class OfValues(NamedTuple):
    """A metric that is computed from targets (m, k), predictions and weights; -1 if it falls as it gets better."""

    function: Callable[[Array, Array, Weights], float]
    better: int = -1


class Metric(NamedTuple):
    """What is measured, its name in the history, and which of :data:`BY_NAME` it is, or None for one of a user's."""

    name: str
    function: Callable[..., Any]
    known: str | None


def accuracy(counts: Counts) -> float:
    """Return the share of samples, or of their outputs, whose class is found."""
    return float(counts.found.sum() / counts.there.sum())


def balanced_accuracy(counts: Counts) -> float:
    """Return the mean over the classes that there are of the share of their samples that are found."""
    return _mean_over_classes(counts.found, counts.there)


def f1(counts: Counts) -> float:
    """Return the mean over classes, there or predicted, of 2 found / (predicted + there); of a binary output, of 1."""
    first = 1 if counts.is_binary else 0
    return _mean_over_classes(2 * counts.found[:, first:], (counts.predicted + counts.there)[:, first:])


def mse(y: Array, pred: Array, v: Weights) -> float:
    """Return the mean over samples and outputs of (pred - y)²."""
    return float(np.mean(_means(np.square(_differences(y, pred)), v)))


def rmse(y: Array, pred: Array, v: Weights) -> float:
    """Return the mean over outputs of √ mean over samples of (pred - y)²."""
    return float(np.mean(np.sqrt(_means(np.square(_differences(y, pred)), v))))


def mae(y: Array, pred: Array, v: Weights) -> float:
    """Return the mean over samples and outputs of abs(pred - y)."""
    return float(np.mean(_means(np.abs(_differences(y, pred)), v)))


def r2(y: Array, pred: Array, v: Weights) -> float:
    """Return the mean over outputs of 1 - Σ (pred - y)² / Σ (y - mean)²; for y that are all equal 1 or 0, NaN for one.

    It is 1 if all is predicted exactly.
    """
    if len(y) < 2:
        return float("nan")
    left = _means(np.square(_differences(y, pred)), v)
    all_of_it = _means(np.square(y - _means(y, v)), v)
    shares = np.divide(left, all_of_it, out=(left > 0).astype(np.float64), where=all_of_it > 0)
    return float(np.mean(1 - shares))


BY_NAME: dict[str, OfClasses | OfValues] = {
    "accuracy": OfClasses(accuracy),
    "balanced_accuracy": OfClasses(balanced_accuracy),
    "f1": OfClasses(f1),
    "mse": OfValues(mse),
    "rmse": OfValues(rmse),
    "mae": OfValues(mae),
    "r2": OfValues(r2, 1),
}


def better(name: str) -> int | None:
    """Return the sign of a change for the better of a value of the history, or None where its name does not say it."""
    name = name.removeprefix("val_")
    if name == "loss":
        return -1
    return BY_NAME[name].better if name in BY_NAME else None


def check_metrics(metrics: Any) -> tuple[Metric, ...]:
    """Return metrics given as a list of names and functions, or as a mapping of names to them; None is none.

    Raises
    ------
    TypeError
        If something is neither.
    ValueError
        If a name is unknown, comes twice, or is that of another value of the history.
    """
    if metrics is None:
        return ()
    if isinstance(metrics, str) or callable(metrics) or not isinstance(metrics, Iterable):
        raise TypeError(f"metrics is {metrics!r}, expected a list of names and functions, such as ['accuracy']")
    pairs = [*metrics.items()] if isinstance(metrics, Mapping) else [(None, item) for item in metrics]
    found = [_metric(i if name is None else name, name, item) for i, (name, item) in enumerate(pairs)]
    names = [metric.name for metric in found]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ValueError(f"metrics holds two that are called {name!r}: give a dict of names and functions")
        if name == "loss" or name.startswith("val_"):
            raise ValueError(
                f"metrics holds one that is called {name!r}, as a value of the history is: give another name"
            )
    return tuple(found)


def _metric(place: Any, name: Any, item: Any) -> Metric:
    known = ", ".join(map(repr, BY_NAME))
    if isinstance(item, str):
        if item not in BY_NAME:
            raise ValueError(f"metrics[{place!r}] is {item!r}, expected {known} or a function of (y, outputs)")
        name, function = item if name is None else name, BY_NAME[item].function
    elif isinstance(item, type) or not callable(item):
        raise TypeError(f"metrics[{place!r}] is {item!r}, expected {known} or a function of (y, outputs)")
    else:
        name, function = getattr(item, "__name__", None) if name is None else name, item
    if not isinstance(name, str):
        raise TypeError(f"metrics[{place!r}] is {item!r}, which has no name: give a dict of names and functions")
    return Metric(name, function, item if isinstance(item, str) else None)


def suit(metrics: Iterable[Metric], loss: Any, y: Array, k: int) -> None:
    """Raise ValueError if a metric that has a name does not apply to checked targets for k outputs under a loss."""
    of_classes, of_values = _kinds(loss, y, k)
    for metric in metrics:
        known = None if metric.known is None else BY_NAME[metric.known]
        if known is None or (of_classes if isinstance(known, OfClasses) else of_values):
            continue
        what = "classes" if isinstance(known, OfClasses) else f"values ({len(y)}, {k})"
        raise ValueError(
            f"metrics holds {metric.known!r}, which needs {what}, but the loss is {loss!r} and y has shape {y.shape}: "
            "leave it out, or give a function of (y, outputs)"
        )


def _kinds(loss: Any, y: Array, k: int) -> tuple[bool, bool]:
    """Whether there are classes, and whether there are values; of a loss of a user's own, y alone says so."""
    if losses.is_built_in(loss):
        of_classes = losses.link(loss) in ("softmax", "sigmoid")
        return of_classes, not of_classes
    return y.ndim == 1 and y.dtype.kind in "iu", y.shape == (len(y), k)


def left_of(metrics: Iterable[Metric], measured: Mapping[str, float]) -> list[Metric]:
    """Return the metrics that were not measured with the loss."""
    return [metric for metric in metrics if metric.name not in measured or metric.known != metric.name]


def measure(
    metrics: Sequence[Metric], loss: Any, y: Array, blocks: Sequence[Array], sample_weight: Weights = None
) -> dict[str, float]:
    """Return the value of each metric of targets and outputs, which come in blocks of samples.

    Functions of a user's know nothing of weights, and only read the arrays.
    """
    values: dict[str, float] = {}
    if not metrics:
        return values
    counts, predicted, outputs = None, None, np.concatenate(blocks)
    with np.errstate(over="ignore", invalid="ignore"):
        for metric in metrics:
            known = None if metric.known is None else BY_NAME[metric.known]
            if known is None:
                values[metric.name] = _number(metric.name, metric.function(_read_only(y), _read_only(outputs)))
            elif isinstance(known, OfClasses):
                counts = _counted(loss, y, outputs, sample_weight) if counts is None else counts
                values[metric.name] = known.function(counts)
            else:
                predicted = losses.predictions(loss, outputs.copy()) if predicted is None else predicted
                values[metric.name] = known.function(y, predicted, sample_weight)
    return values


def _number(name: str, value: Any) -> float:
    array = np.asarray(value)
    if array.ndim != 0 or array.dtype.kind not in "fiub":
        raise TypeError(f"the metric {name} returned {value!r}, expected a number")
    return float(array)


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _counted(loss: Any, y: Array, outputs: Array, v: Weights) -> Counts:
    """Count the classes, those of each output by itself after binary cross-entropy."""
    v = np.ones(len(y)) if v is None else v.astype(np.float64)
    if losses.link(loss) == "sigmoid":
        predicted, there = losses.predictions(loss, outputs.copy()) > 0, y > 0.5
        sets = [(~predicted, ~there), (predicted, there)]
        found, guessed, real = (
            np.stack([v @ which for which in of], axis=1)
            for of in ([a & b for a, b in sets], [a for a, _ in sets], [b for _, b in sets])
        )
        return Counts(found, guessed, real, True)
    k, predicted = outputs.shape[1], outputs.argmax(axis=1)
    labels = y if y.ndim == 1 else y.argmax(axis=1)
    labels = np.clip(labels, 0, k - 1)  # a copy: another thread may write to the user's labels at any moment
    hits = predicted == labels
    of_each = (labels[hits], v[hits]), (predicted, v), (labels, v)
    found, guessed, real = (np.bincount(codes, weights, k)[None] for codes, weights in of_each)
    return Counts(found, guessed, real, False)


def _mean_over_classes(part: Array, whole: Array) -> float:
    """Return the mean over outputs of that of part / whole over the classes of which there is a whole; 0 of none."""
    counts = whole > 0
    shares = np.divide(part, whole, out=np.zeros_like(whole), where=counts)
    some = counts.any(axis=1)
    return float(np.mean(shares[some].sum(axis=1) / counts[some].sum(axis=1))) if some.any() else 0.0


def _differences(y: Array, pred: Array) -> Array:
    return pred.astype(np.float64) - y


def _means(values: Array, v: Weights) -> Array:
    """The mean of each column."""
    return np.average(values, axis=0, weights=v)
