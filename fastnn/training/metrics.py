"""What ``fit`` and ``evaluate`` measure beside the loss: by names, or by functions of targets and outputs."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..nn import losses
from ..nn.loss import linked
from ..validation import Array

Weights = Array | None
Metrics = Iterable[str | Callable[[Array, Array], Any]] | Mapping[str, str | Callable[[Array, Array], Any]]
Measure = Callable[[Array, Array, Weights], float]


class Known(NamedTuple):
    """A metric that has a name: its function, the sign of a change for the better, and whether it is of classes."""

    function: Measure
    better: int
    classifies: bool


class Metric(NamedTuple):
    """What is measured, its name in the history, and which of :data:`BY_NAME` it is, or None for one of a user's."""

    name: str
    function: Callable[..., Any]
    known: str | None


def accuracy(y: Array, scores: Array, v: Weights) -> float:
    """Return the share of samples whose label has the largest score."""
    return float(np.average(scores.argmax(axis=1) == _labels(y), weights=v))


def balanced_accuracy(y: Array, scores: Array, v: Weights) -> float:
    """Return the mean over the classes in y of the share of their samples that are found."""
    found, _, there = _counts(y, scores, v)
    return float(np.mean(found[there > 0] / there[there > 0]))


def f1(y: Array, scores: Array, v: Weights) -> float:
    """Return the mean over classes, in y or predicted, of 2 found / (predicted + there)."""
    found, predicted, there = _counts(y, scores, v)
    either = predicted + there
    return float(np.mean(2 * found[either > 0] / either[either > 0]))


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


BY_NAME = {
    "accuracy": Known(accuracy, 1, True),
    "balanced_accuracy": Known(balanced_accuracy, 1, True),
    "f1": Known(f1, 1, True),
    "mse": Known(mse, -1, False),
    "rmse": Known(rmse, -1, False),
    "mae": Known(mae, -1, False),
    "r2": Known(r2, 1, False),
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
    is_users = not losses.is_built_in(loss) and y.ndim == 1 and y.dtype.kind in "iu"
    has_labels = is_users or losses.classes_of(loss, k) > 0
    has_values = not losses.classifies(loss) and y.shape == (len(y), k)
    for metric in metrics:
        if (
            metric.known is None
            or metric.known in losses.measured(loss)
            or (has_labels if BY_NAME[metric.known].classifies else has_values)
        ):
            continue
        what = "classes" if BY_NAME[metric.known].classifies else f"values ({len(y)}, {k})"
        raise ValueError(
            f"metrics holds {metric.known!r}, which needs {what}, but the loss is {loss!r} and y has shape {y.shape}: "
            "leave it out, or give a function of (y, outputs)"
        )


def measure(
    metrics: Iterable[Metric], loss: Any, y: Array, outputs: Array, sample_weight: Weights = None
) -> dict[str, float]:
    """Return the value of each metric of what ``loss`` says that outputs stand for.

    Functions of a user's get the outputs themselves, know nothing of weights, and only read the arrays.
    """
    values = {}
    for metric in metrics:
        if metric.known is not None and metric.known in losses.measured(loss):
            measures = loss.measures(loss.predictions(outputs.copy()), y)
            values[metric.name] = float(np.average(measures[metric.known], weights=sample_weight))
        elif metric.known is not None and BY_NAME[metric.known].classifies:
            scores, labels = losses.as_classes(loss, outputs, y)
            values[metric.name] = metric.function(labels, scores, sample_weight)
        elif metric.known is not None:
            means = linked(losses.link(loss), outputs.copy())
            values[metric.name] = metric.function(y, means, sample_weight)
        else:
            values[metric.name] = _number(metric.name, metric.function(_read_only(y), _read_only(outputs)))
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


def _labels(y: Array) -> Array:
    return y if y.ndim == 1 else y.argmax(axis=1)


def _counts(y: Array, scores: Array, v: Weights) -> tuple[Array, Array, Array]:
    """Return for each class the weight of its samples that are found, of those predicted, and of those there are."""
    k, predicted = scores.shape[1], scores.argmax(axis=1)
    labels = np.clip(_labels(y), 0, k - 1)  # a copy: another thread may write to the user's labels at any moment
    hits, v = predicted == labels, np.ones(len(y)) if v is None else v
    found = np.bincount(labels[hits], v[hits], k)
    return found, np.bincount(predicted, v, k), np.bincount(labels, v, k)


def _differences(y: Array, pred: Array) -> Array:
    return pred.astype(np.float64) - y


def _means(values: Array, v: Weights) -> Array:
    """The mean of each column."""
    return np.average(values, axis=0, weights=v)
