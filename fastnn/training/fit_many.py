"""``fit_many``: many networks trained at once, each as ``fit`` trains it alone."""

import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..chunks import Chunks
from ..nn import losses
from ..nn.loss import Loss
from ..nn.losses import LossName
from ..nn.optimizer import Optimizer
from ..nn.optimizers import OptimizerName
from ..nn.stack import Stack
from ..validation import own_view
from .callbacks import Callback
from .each import (
    at,
    each,
    each_array,
    each_callbacks,
    each_data,
    each_optimizer,
    each_pair,
    each_path,
    is_each_array,
    is_each_metrics,
)
from .history import History
from .metrics import Metrics
from .plan import Plan, prepare
from .progress import bar
from .rounds import Network, train
from .rows import Rows

if TYPE_CHECKING:
    from ..model import Sequential

_MOST_NAMED = 20


def fit_many(
    models: "Iterable[Sequential]",
    X: ArrayLike | list[Any],
    y: ArrayLike | list[Any],
    *,
    rows: ArrayLike | list[Any] | None = None,
    loss: LossName | Loss | list[Any] = "cross_entropy",
    optimizer: OptimizerName | Optimizer | list[Any] = "sgd",
    l2: float | list[float] = 0.0,
    epochs: int | list[int] = 10,
    batch_size: int | list[int] = 32,
    accumulate: int | list[int] = 1,
    shuffle: bool | list[bool] = True,
    validation_data: tuple[ArrayLike, ArrayLike] | Chunks | list[Any] | None = None,
    validation_rows: ArrayLike | list[Any] | None = None,
    validation_split: float | list[Any] | None = None,
    sample_weight: ArrayLike | list[Any] | None = None,
    class_weight: Mapping[Any, float] | Literal["balanced"] | ArrayLike | list[Any] | None = None,
    callbacks: Iterable[Callback] | list[Any] | None = None,
    metrics: Metrics | list[Any] | None = None,
    checkpoint: str | os.PathLike[str] | list[Any] | None = None,
    checkpoint_every: int | timedelta | list[Any] = 1,
    verbose: int = 1,
) -> list[History]:
    """Train many models at once, each to the bits that :meth:`Sequential.fit` gives it alone.

    For a grid of settings, the folds of a cross-validation, an ensemble, or a network for each of many data sets. The
    models may be of any mix; those of the same layers train fastest together.

    Every argument but ``verbose`` is one for all models, or a list with one for each: a Python list is one for each,
    and an array, a tuple, a number or an object is for all. A list of numbers where an array may stand, and a list of
    rows for X, is one for all.

    Parameters
    ----------
    models : iterable of Sequential
        Different ones, none of which is in training elsewhere.
    X, y : array_like, or lists of them
        As of :meth:`Sequential.fit`. Those for all are checked once and never copied; those in a list may differ in
        length.
    rows : array_like (m,) of int or (n,) of bool, optional
        The samples to train on, by their places in X, in any order and as often as they stand there: the folds of a
        cross-validation, or a bootstrap. The result is that of ``fit(X[rows], y[rows], sample_weight=
        sample_weight[rows])``, but that labels which are strings or objects are the classes of all of y.
    loss, optimizer, l2, epochs, batch_size, accumulate, shuffle, validation_data, sample_weight, class_weight
        As of :meth:`Sequential.fit`. An optimizer object for all is copied for each model, and the copies start afresh;
        objects in a list keep their state, so fitting again with them continues. "balanced" counts the samples at
        ``rows``. Chunks as validation data for all are a tuple or come from a function, and each model reads them.
    validation_rows : array_like (m,) of int or (n,) of bool, optional
        Validation data as rows of the same X and y.
    validation_split : float, optional
        As of :meth:`Sequential.fit`, of the samples at ``rows``; one that comes several times there is on one side.
    callbacks : iterable of functions, or a list of such iterables, optional
        As of :meth:`Sequential.fit`. Callback objects for all are copied for each model, functions are not.
    metrics : list of names and functions, a dict, or a list of those, optional
        As of :meth:`Sequential.fit`.
    checkpoint, checkpoint_every
        As of :meth:`Sequential.fit`; a path for all holds "{model}", the place of each.
    verbose : {0, 1}
        1 shows a progress bar over networks and epochs, with tqdm on a terminal or in a notebook, else a line at the
        end.

    Returns
    -------
    list of History
        One for each model, in their order. Each has ``history.optimizer``, the one that was used, and
        ``history.error``: the exception that ended the training of that model, a :class:`DivergenceError` or whatever a
        callback, a layer, a loss or a schedule of yours raised, or None.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described; the message names the argument and the place of the model, and nothing has
        changed.

    Warns
    -----
    UserWarning
        Once, at the end, if the training of some models was ended by an exception. It takes no other model with it.

    Notes
    -----
    Layers, losses, callbacks and schedules that are written in Python run in the calling thread, by turns.

    A model whose training ends by an exception is left as ``fit`` leaves it. Ctrl-C ends all trainings after their
    current epoch, with ``history.interrupted`` true; models whose turn had not come are as they were, with an empty
    history. A second one raises KeyboardInterrupt, and every model is as at the end of its last whole epoch.

    Memory beyond X is that of the networks that are trained side by side, 64 a thread, however many there are.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn as fnn
    >>> X, y = fnn.datasets.load_digits()
    >>> models = [fnn.Sequential(fnn.Linear(64, 32), fnn.ReLU(), fnn.Linear(32, 10), seed=i) for i in range(3)]
    >>> folds = np.arange(len(X)) % 3
    >>> histories = fnn.fit_many(
    ...     models,
    ...     X,
    ...     y,
    ...     rows=[folds != i for i in range(3)],
    ...     validation_rows=[folds == i for i in range(3)],
    ...     optimizer=[fnn.Adam(lr=lr) for lr in (0.001, 0.003, 0.01)],
    ...     epochs=5,
    ...     verbose=0,
    ... )
    >>> [len(history["val_accuracy"]) for history in histories]
    [5, 5, 5]
    """
    if verbose not in (0, 1):
        raise ValueError(f"verbose is {verbose!r}, expected 0 or 1")
    chosen = _models(models)
    n = len(chosen)
    xs, ys = each_data(X, y, n)
    named: dict[str, list[Any]] = {
        "loss": [_resolved(item) for item in each("loss", loss, n)],
        "l2": each("l2", l2, n),
        "epochs": each("epochs", epochs, n),
        "batch_size": each("batch_size", batch_size, n),
        "accumulate": each("accumulate", accumulate, n),
        "shuffle": each("shuffle", shuffle, n),
        "rows": _named("rows", rows, n),
        "validation_rows": _named("validation_rows", validation_rows, n),
        "validation_data": each_pair(validation_data, n),
        "validation_split": each("validation_split", validation_split, n),
        "sample_weight": each_array("sample_weight", sample_weight, n),
        "class_weight": each_array("class_weight", class_weight, n),
        "metrics": each("metrics", metrics, n, is_each_metrics(metrics)),
        "checkpoint": each_path(checkpoint, n),
        "checkpoint_every": each("checkpoint_every", checkpoint_every, n),
        "optimizer": each_optimizer(optimizer, n),
        "callbacks": each_callbacks(callbacks, n, [*chosen, X, y, validation_data, sample_weight]),
    }
    plans, once = [], Once()
    for i, model in enumerate(chosen):
        settings = {name: values[i] for name, values in named.items()}
        with at(i):
            plans.append(prepare(model._stack, xs[i], ys[i], **settings, classes=model._classes, verbose=0, once=once))
    return _trained(chosen, plans, bool(verbose))


class Once:
    """What a check returned is returned again for the same objects, which stay alive for it: see ``given.Once``."""

    def __init__(self) -> None:
        self._kept: dict[Any, Any] = {}

    def __call__(self, check: Any, value: Any, *more: Any) -> Any:
        """Return ``check(value, *more)``."""
        key = check, id(value), *[item if isinstance(item, (int, str, np.dtype)) else id(item) for item in more]
        if key not in self._kept:
            self._kept[key] = value, more, check(own_view(value), *more)
        return self._kept[key][-1]


def _models(models: Any) -> "list[Sequential]":
    """The models, all different and each with layers of its own."""
    if not isinstance(models, Iterable) or isinstance(models, (str, bytes)):
        raise TypeError(f"models is {models!r}, expected a list of Sequentials")
    chosen = list(models)
    if not chosen:
        raise ValueError("models is empty, expected at least one Sequential")
    owners: dict[int, int] = {}
    for i, model in enumerate(chosen):
        stack = getattr(model, "_stack", None)
        if not isinstance(stack, Stack):
            raise TypeError(f"models[{i}] is {model!r}, expected a Sequential")
        if owners.setdefault(id(model), i) != i:
            raise ValueError(f"models[{i}] is the model that models[{owners[id(model)]}] is: make one for each place")
        for layer in stack.leaves:
            owner = owners.setdefault(id(layer), i)
            if owner != i:
                raise ValueError(f"models[{i}] has the layer {layer!r} in common with models[{owner}]: make new ones")
    return chosen


def _resolved(loss: Any) -> Any:
    """The loss that all models share which name it, so that their data are checked once."""
    return _BY_NAME.get(loss, loss) if isinstance(loss, str) else loss


_BY_NAME = {name: losses.resolve(name) for name in losses.BY_NAME}


def _named(name: str, value: Any, n: int) -> list[Rows]:
    """The rows of each model, which know where they stand."""
    labels = [f"{name}[{i}]" if is_each_array(value) else name for i in range(n)]
    return [Rows(*pair) for pair in zip(each_array(name, value, n), labels, strict=True)]


def _trained(models: "Sequence[Sequential]", plans: Sequence[Plan], verbose: bool) -> list[History]:
    networks = [Network(i, *pair) for i, pair in enumerate(zip(models, plans, strict=True))]
    total, started = sum(plan.epochs for plan in plans), time.perf_counter()
    shown = bar(total, "epoch", leave=True) if verbose else None
    try:
        train(networks, shown.update if shown is not None else lambda epochs: None)
    finally:
        if shown is not None:
            shown.close()
    histories = [network.history for network in networks]
    if verbose and shown is None:
        made = sum(len(history.get("loss", ())) for history in histories)
        ends = {
            "stopped by callbacks": sum(history.stopped for history in histories),
            "interrupted": sum(history.interrupted for history in histories),
            "ended by errors": sum(history.error is not None for history in histories),
        }
        parts = [f"{len(models):,} networks", f"{made:,} epochs", f"{time.perf_counter() - started:.1f} s"]
        print("  ".join([*parts, *[f"{count:,} {how}" for how, count in ends.items() if count]]), flush=True)
    _warn_of_errors(histories)
    return histories


def _warn_of_errors(histories: Sequence[History]) -> None:
    places = [i for i, history in enumerate(histories) if history.error is not None]
    if places:
        listed = ", ".join(f"models[{i}]" for i in places[:_MOST_NAMED])
        more = f" and {len(places) - _MOST_NAMED} more" if len(places) > _MOST_NAMED else ""
        first = histories[places[0]].error
        warnings.warn(
            f"exceptions ended the training of {listed}{more}, each in history.error; the first is "
            f"{type(first).__name__}: {first}",
            stacklevel=4,
        )
