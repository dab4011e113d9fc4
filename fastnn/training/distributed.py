"""A fit that many processes make together, each with its own samples, over a communicator of mpi4py."""

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import MODULES, active, limit_threads
from ..chunks import is_source
from ..nn import losses, optimizers
from ..nn.stack import Stack
from ..validation import Array, any_array, own_view, real_array, same_length, sample_weights
from .callbacks import begun, check_callbacks
from .class_weights import of_samples
from .evaluation import Validation
from .fit import ShouldStop, run
from .history import History
from .interrupts import Interrupt
from .labels import NAMES, as_classes, coded
from .metrics import check_metrics
from .plan import Plan, prepare
from .ranks import Ranks, bounds, check_stripes
from .resuming import Checkpoint, described_layer, made_with, opened, short, states
from .state import described
from .striped import World, batch_size_of, check_sync
from .stripes import Stripes
from .watching import Values

if TYPE_CHECKING:
    from ..model import Sequential


def fit(model: "Sequential", X: Any, y: Any, comm: Any, stripes: Any, sync: Any, settings: dict[str, Any]) -> History:
    """Train a model with all processes of a communicator; see :meth:`fastnn.Sequential.fit`."""
    ranks = Ranks(comm)
    with ranks.guarded(), _limited(ranks.threads()):
        settings = _checked(settings, y)
        count = check_stripes(stripes, ranks.size)
        _agree(ranks, _facts(model._stack, X, y, stripes, sync, settings))
        every, path = settings.pop("checkpoint_every"), settings.pop("checkpoint")
        plan = _planned(model, X, y, ranks, (count, stripes is not None), sync, settings)
        kept = opened(path, every) if ranks.rank == 0 else None
        if kept is not None:
            kept.check(model._stack, plan)
        plan.checkpoint = Meeting(ranks, kept)
        plan.verbose = plan.verbose and ranks.rank == 0
        with ExitStack() as stack:
            stack.enter_context(model._stack.held(threading.get_ident()))
            stack.enter_context(plan.optimizer.held())
            should_stop = stack.enter_context(begun(model, plan))
            history = _run(model, plan, ranks, should_stop)
        ranks.gather(None)
    return history


def _limited(threads: int) -> AbstractContextManager[Any]:
    """A context in which compiled kernels use so many threads at most."""
    return limit_threads(threads) if active().__name__ == MODULES["numba"] else nullcontext()


def _run(model: "Sequential", plan: Plan, ranks: Ranks, should_stop: ShouldStop) -> History:
    interrupt = _Agreed()

    def decide(epoch: int, values: Values) -> bool:
        stop, interrupt.requested = ranks.any(should_stop(epoch, values), interrupt.pressed)
        return stop

    return run(model, plan, decide, interrupt)


class _Agreed(Interrupt):
    """Ctrl-C that counts once all processes know of it."""

    pressed = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.pressed and not self.deaf:
            raise KeyboardInterrupt
        self.pressed = True


class Meeting:
    """Where all processes begin: with what the first one has, which may come out of a checkpoint.

    Parameters
    ----------
    ranks : Ranks
    kept : Checkpoint or None
        That of the first process, the only one that reads and writes.
    """

    def __init__(self, ranks: Ranks, kept: Checkpoint | None) -> None:
        self._ranks, self._kept = ranks, kept

    def at_most(self, epoch: int) -> int:
        """Return how many epochs may be trained before it is to be written."""
        return 1

    def restore(self, model: "Sequential", plan: Plan, train: Any, history: History) -> int:
        """Put everything as it is in the first process, and return how many epochs were trained."""
        stack, optimizer, news = model._stack, plan.optimizer, None
        arrays = [stack.params, *optimizer.state(), *stack.user_parameters()]
        if self._ranks.rank == 0:
            epoch = 0 if self._kept is None else self._kept.restore(model, plan, train, history)
            counts = optimizer.steps, optimizer.epoch
            rate = None if callable(optimizer.lr) else optimizer.lr
            drawn = stack.rng.bit_generator.state, stack.seed, train.seed
            past = dict(history), history.stopped, states(plan) if epoch else []
            news = epoch, arrays, counts, rate, plan.lr, drawn, past
        epoch, sent, counts, rate, plan.lr, drawn, past = self._ranks.from_first(news)
        if self._ranks.rank != 0:
            for array, value in zip(arrays, sent, strict=True):
                array[...] = value
            optimizer.steps, optimizer.epoch = counts
            if rate is not None:
                optimizer.lr = rate
            stack.rng.bit_generator.state, stack.seed = drawn[:2]
            if drawn[2] is not None:
                train.seed = drawn[2]
            history.update(past[0])
            history.stopped = past[1]
            for callback, value in zip(plan.callbacks if epoch else (), past[2], strict=True):
                if value is not None:
                    callback.load_state_dict(value)  # type: ignore[attr-defined]
        return int(epoch)

    def write(self, model: "Sequential", plan: Plan, train: Any, history: History, is_over: bool) -> None:
        """Let the first process write everything, if it is time or the training is over."""
        if self._kept is not None:
            self._kept.write(model, plan, train, history, is_over)


def _checked(settings: dict[str, Any], y: Any) -> dict[str, Any]:
    """The arguments of fit, as far as they can be told without the data."""
    settings, buffer = settings.copy(), settings["buffer"]
    del settings["buffer"]
    if y is None or buffer is not None:
        raise ValueError(
            "comm is given with a source or its buffer, but takes arrays: give each rank its samples as X and y, "
            "such as memory maps, or leave comm out"
        )
    if settings["validation_split"] is not None:
        raise ValueError(
            "validation_split and comm are both given: set the samples aside beforehand, and give each rank its share "
            "of them as validation_data"
        )
    found = {
        **settings,
        "loss": losses.resolve(settings["loss"]),
        "optimizer": optimizers.resolve(settings["optimizer"]),
        "callbacks": check_callbacks(settings["callbacks"]),
    }
    check_metrics(settings["metrics"])
    data = settings["validation_data"]
    if is_source(data):
        raise ValueError(
            "validation_data is a source of chunks, but with comm it is arrays: give each rank its share as (X, y)"
        )
    if data is not None and (not isinstance(data, (tuple, list)) or len(data) != 2):
        raise TypeError("validation_data is not a pair, expected (X, y)")
    return found


def _facts(stack: Stack, X: Any, y: Any, stripes: Any, sync: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """What must be the same in all processes, by the names that a user knows."""
    optimizer = settings["optimizer"]
    given = {name: settings[name] is not None for name in ("sample_weight", "validation_data")}
    facts = {
        **made_with(),
        "layers": [described_layer(layer) for layer in stack.layers],
        "dtype": stack.dtype.name,
        "generator": type(stack.rng.bit_generator).__name__,
        "shapes of parameters": [(list(p.shape), p.dtype.name) for p in stack.user_parameters()],
        "stripes": stripes,
        "sync": check_sync(sync),
        **{f"{name} (whether it is given)": value for name, value in given.items()},
        "optimizer": [type(optimizer).__name__, *optimizer._settings(), optimizer.clip_norm],
        "lr": optimizer.lr,
        "callbacks": [getattr(callback, "__qualname__", callback) for callback in settings["callbacks"]],
        "metrics": [metric.name for metric in check_metrics(settings["metrics"])],
        **{
            name: settings[name]
            for name in ("loss", "l2", "epochs", "batch_size", "accumulate", "shuffle", "class_weight", "checkpoint")
        },
        "checkpoint_every": repr(settings["checkpoint_every"]),
    }
    if _length(X) != 0:
        facts |= {f"{name} (its dtype)": _kind(value) for name, value in (("X", X), ("y", y))}
    return {name: described(value) for name, value in facts.items()}


def _kind(value: Any) -> str | None:
    """The dtype of an array, whose length does not count where it holds texts."""
    dtype = getattr(value, "dtype", None)
    return None if dtype is None else "texts or objects" if getattr(dtype, "kind", "O") in NAMES else str(dtype)


def _agree(ranks: Ranks, facts: dict[str, Any]) -> None:
    """Raise ValueError if something is not the same in all processes."""
    first: dict[str, tuple[int, Any]] = {}
    for rank, found in enumerate(ranks.gather(facts)):
        for name, value in found.items():
            other, expected = first.setdefault(name, (rank, value))
            if value != expected:
                ranks.refuse(
                    f"{name} is {short(value)} on rank {rank}, but {short(expected)} on rank {other}: it must be the "
                    "same on all ranks"
                )


def _length(X: Any) -> int | None:
    """How many samples there are, None where that is not known."""
    shape = getattr(X, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else None
    return len(X) if hasattr(X, "__len__") else None


def _planned(
    model: "Sequential", X: Any, y: Any, ranks: Ranks, stripes: tuple[int, bool], sync: str, settings: dict[str, Any]
) -> Plan:
    stack, loss, n = model._stack, settings["loss"], _length(X)
    given, by_class = settings.pop("sample_weight"), settings.pop("class_weight")
    data = settings.pop("validation_data")
    sizes = [found or 0 for found in ranks.gather(n)]
    if not sum(sizes):
        ranks.refuse("X is empty on all ranks: expected at least one sample on one of them")
    classes = _classes(model, y, ranks) if losses.takes_names(loss) else None
    own_x, own_y = (X, y) if n != 0 else _in_place_of_none(stack, X, y, classes)
    has_validation = data is not None and _length(data[0]) != 0
    plan = prepare(
        stack,
        own_x,
        own_y,
        validation_data=data if has_validation else None,
        sample_weight=None,
        classes=classes,
        total=lambda: sum(sizes),
        **settings,
    )
    if data is not None and not has_validation:
        plan.validation = Validation(plan.x[:0], plan.y[:0], None, "y of validation_data")
    if data is not None and not any(ranks.gather(has_validation)):
        ranks.refuse("X of validation_data is empty on all ranks: expected at least one sample on one of them")
    plan.sample_weight = _weights(stack, plan, (given, by_class), n or 0, ranks)
    count, is_given = stripes
    cut = _stripes(sizes, ranks, count, plan.batch_size, is_given)
    weighted = plan.sample_weight is not None
    arguments = {
        "X": [cut.total, plan.x.shape[1], plan.x.dtype.str],
        "y": [cut.total, *plan.y.shape[1:], plan.y.dtype.str],
        "sample_weight or class_weight": ["given" if weighted else "none", described(by_class)],
        "validation data": data is not None,
        "stripes": count if is_given else None,
        "sync": sync,
    }
    plan.supply = World(ranks, cut, sync, arguments, has_validation)
    if sync == "epoch":
        _check_shares(stack, plan, cut, ranks)
    return plan


def _in_place_of_none(stack: Stack, X: Any, y: Any, classes: Array | None) -> tuple[Array, Any]:
    """A sample that is checked in place of none, and never trained on."""
    x, targets = any_array("X", X), any_array("y", y)
    width = x.shape[1] if x.ndim == 2 else stack.n_in or 1
    if len(targets):
        raise ValueError(f"y has {len(targets)} rows, but there are 0 samples: they must be equal")
    if classes is not None:
        return np.zeros((1, width)), classes[:1]
    one = np.zeros((1, *targets.shape[1:]), targets.dtype if targets.dtype.kind in "fiu" else np.float64)
    if one.ndim == 2:
        one[0, 0] = 1
    elif not len(one.shape[1:]) and one.dtype.kind == "f":
        one = one.astype(np.int64)
    return np.zeros((1, width)), one


def _classes(model: "Sequential", y: Any, ranks: Ranks) -> Array | None:
    """The classes of all processes where labels are no numbers: those that the first one's model has, if it has."""
    array = any_array("y", own_view(y))
    found = coded(array, None)[1] if array.ndim == 1 and len(array) and array.dtype.kind in NAMES else None
    own = [] if found is None else found.tolist()
    every = ranks.gather((own, None if model._classes is None else model._classes.tolist()))
    if not any(labels for labels, _ in every):
        return None
    return as_classes(every[0][1] or sorted({label for labels, _ in every for label in labels}))


def _weights(stack: Stack, plan: Plan, settings: tuple[Any, Any], n: int, ranks: Ranks) -> Array | None:
    """The weights of this process's samples, which may all be zero where another one has others."""
    given, by_class = settings
    if given is None and by_class is None:
        return None
    weights = np.ones(n)
    if given is not None:
        array = real_array("sample_weight", given)
        same_length("sample_weight", np.ravel(array), n)
        checked = sample_weights(np.append(array, 1.0), n + 1, np.dtype(np.float64))
        assert checked is not None
        weights *= checked[:n]
    if by_class is not None:
        k, y = plan.outputs, plan.y
        own = np.clip(y[:n], 0, k - 1) if y.ndim == 1 and y.dtype.kind == "i" else y[:0]
        counts = np.bincount(own.astype(np.int64).ravel(), minlength=k)[:k]
        total = np.sum(ranks.gather(counts), axis=0)
        weights *= of_samples(by_class, plan.loss, y, k, plan.classes, total)[:n]
    if not sum(ranks.gather(float(weights.sum()))):
        ranks.refuse("sample_weight sums to zero over all ranks, expected at least one positive weight")
    return weights.astype(stack.dtype) if n else np.zeros(len(plan.x), stack.dtype)


def _stripes(sizes: list[int], ranks: Ranks, count: int, batch_size: int, is_given: bool) -> Stripes:
    """The stripes of all samples, of which each process holds as many."""
    own, total = count // ranks.size, sum(sizes)
    if not is_given:
        return Stripes(sizes, ranks.rank, 1, batch_size)
    places = bounds(total, count, ranks.size)
    for rank, n in enumerate(sizes):
        expected = places[rank + 1] - places[rank]
        if n != expected:
            ranks.refuse(
                f"X has {n} rows on rank {rank}, but with stripes={count} it holds {expected} of the {total} samples: "
                "give each rank what fastnn.rank_rows says"
            )
    of_stripes = np.diff(bounds(total, count, count)).tolist()
    return Stripes(of_stripes, ranks.rank * own, own, batch_size)


def _check_shares(stack: Stack, plan: Plan, cut: Stripes, ranks: Ranks) -> None:
    """Refuse stripes whose batches, each taken by itself, are too small for a layer."""
    for stripe, n in enumerate(cut.sizes):
        size = batch_size_of(n, plan)
        for layer in stack.built_in:
            if n and layer.learns and (n % size or size) < layer.least_samples:
                ranks.refuse(
                    f"stripe {stripe} has {n} samples, which leaves {n % size or size} to its last batch, but "
                    f"{layer!r} needs at least {layer.least_samples}: choose another batch_size, or sync='step'"
                )


def needs_comm(stripes: Any, sync: Any) -> None:
    """Raise ValueError for arguments that say nothing to a single process."""
    settings: Mapping[str, bool] = {"stripes": stripes is not None, "sync": sync != "step"}
    for name, is_given in settings.items():
        if is_given:
            raise ValueError(f"{name} is given without comm: it says how the processes of a communicator work together")
