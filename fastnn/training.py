"""Training: what ``fit`` was asked for, checked, and the loop over its epochs.

A network of built-in layers under a built-in loss and optimizer trains in one compiled call an epoch, any other layer
by layer; both are a function of the order of the samples, the learning rate and the updates made before.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import losses, optimizers
from .backend import active
from .callbacks import Callback, Values, check_callbacks
from .class_weights import weighted
from .errors import DivergenceError
from .history import History, progress_line
from .interrupts import Interrupt
from .losses import CrossEntropy
from .lowering import Batches, Objective
from .optimizers import Optimizer
from .stack import Stack
from .validation import Array, features, finite, flag, is_surely_finite, number, positive_int, sample_weights

Epoch = Callable[[Array, float, int], tuple[float, int]]

_CHUNK = 1 << 16


@dataclass
class Plan:
    """The checked arguments of a fit."""

    x: Array
    y: Array
    sample_weight: Array | None
    loss: Any
    optimizer: Optimizer
    lr: float
    epochs: int
    l2: float
    batch_size: int
    shuffle: bool
    validation: tuple[Array, Array] | None
    verbose: bool
    compiled: bool
    callbacks: tuple[Callback, ...]

    @property
    def objective(self) -> Objective:
        """What the compiled epoch minimises."""
        return Objective(self.loss.code, self.l2, losses.smoothing(self.loss, self.y))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the values of an epoch."""
        if self.validation is None:
            return ("loss",)
        return ("loss", "val_loss", "val_accuracy") if isinstance(self.loss, CrossEntropy) else ("loss", "val_loss")


def prepare(
    stack: Stack,
    x: ArrayLike,
    y: ArrayLike,
    *,
    loss: Any,
    optimizer: Any,
    l2: float,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    validation_data: Any,
    sample_weight: ArrayLike | None,
    verbose: int,
    class_weight: Any = None,
    callbacks: Iterable[Callback] | None = None,
    check_later: bool = False,
) -> Plan:
    """Check the arguments of a fit, without changing anything.

    With ``check_later`` it may be left to ``run`` to find out whether X and y are finite.
    """
    loss, optimizer = losses.resolve(loss), optimizers.resolve(optimizer)
    l2, shuffle = number("l2", l2, least=0), flag("shuffle", shuffle)
    epochs, batch_size = positive_int("epochs", epochs), positive_int("batch_size", batch_size)
    if verbose not in (0, 1):
        raise ValueError(f"verbose is {verbose!r}, expected 0 or 1")
    callbacks = check_callbacks(callbacks)
    optimizer.check(stack.dtype)
    first = optimizer.epoch if optimizer.belongs_to(stack) else 0
    lr = optimizer.rate(first)
    stack.user_parameters()
    compiled = stack.network is not None and losses.is_built_in(loss) and optimizers.is_built_in(optimizer)
    # A first linear layer lets no value that is not finite pass unseen: the first epoch ends with weights that are not
    # finite either. So this check, which takes longer than an epoch of a small network, can wait for such an end.
    check_finite = not (check_later and compiled and stack.starts_linear)
    x = features(x, stack.n_in, stack.dtype, check_finite=check_finite)
    m, k = len(x), stack.output_width(x)
    validation = None
    if validation_data is not None:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
            raise TypeError("validation_data is not a pair, expected (X, y)")
        x_val = features(validation_data[0], x.shape[1], stack.dtype, "X of validation_data")
        validation = x_val, losses.targets(loss, validation_data[1], len(x_val), k, stack.dtype, "y of validation_data")
    y = losses.targets(loss, y, m, k, stack.dtype, check_finite=check_finite)
    weights = sample_weights(sample_weight, m, stack.dtype)
    if class_weight is not None:
        weights = weighted(class_weight, loss, y, k, sample_weight, stack.dtype)
    return Plan(
        x=x,
        y=y,
        sample_weight=weights,
        loss=loss,
        optimizer=optimizer,
        lr=lr,
        epochs=epochs,
        l2=l2,
        batch_size=min(batch_size, m),
        shuffle=shuffle,
        validation=validation,
        verbose=bool(verbose),
        compiled=compiled,
        callbacks=callbacks,
    )


def run(stack: Stack, plan: Plan, history: History, stops: Callable[[int, Values], bool]) -> None:
    """Train through the epochs of ``plan``, or until ``stops(epoch, values)``, and record them in ``history``.

    A ValueError before the end of the first epoch leaves everything but ``history`` as it was.
    """
    optimizer, samples, epochs, rng = plan.optimizer, len(plan.x), plan.epochs, stack.rng
    before = rng.bit_generator.state, dict(vars(optimizer))
    optimizer.bind(stack)
    train = _compiled_epoch(stack, plan) if plan.compiled else _layerwise_epoch(stack, plan)
    state = _State([stack.params, *optimizer.state(), *stack.user_parameters()])
    order = np.arange(samples, dtype=np.int64)
    # A number that overflows is reported as divergence, with its place, and not as a warning as well.
    with Interrupt() as interrupt, np.errstate(over="ignore", invalid="ignore"):
        for epoch in range(epochs):
            lr = optimizer.rate(optimizer.epoch) if epoch else plan.lr
            started = time.perf_counter()
            state.keep()
            try:
                if plan.shuffle:
                    _shuffle(order, rng)
                drawn = rng.bit_generator.state
                loss, failed = train(order, lr, optimizer.steps)
            except BaseException:
                state.restore()
                raise
            if failed >= 0 or not state.is_finite():
                state.restore()
                if epoch == 0:
                    _check_data(stack, plan, *before)
                rng.bit_generator.state = drawn  # the replay drops the same units
                raise DivergenceError(epoch, _replay(train, state, plan, order, lr), epochs)
            seconds = time.perf_counter() - started
            optimizer.steps += -(-samples // plan.batch_size)
            optimizer.epoch += 1
            values = {"loss": loss}
            if plan.validation is not None:
                measured = evaluate(stack, plan.loss, *plan.validation, None)
                values |= {f"val_{name}": value for name, value in measured.items()}
            history.record(values)
            if plan.verbose:
                print(progress_line(epoch + 1, epochs, values, samples / seconds), flush=True)
            history.stopped = stops(epoch + 1, values)
            history.interrupted = interrupt.requested
            if history.stopped or history.interrupted:
                if plan.verbose:
                    why = "interrupted" if history.interrupted else "a callback returned True"
                    print(f"{why}: stopped after epoch {epoch + 1} of {epochs}", flush=True)
                return


def _check_data(stack: Stack, plan: Plan, state: Any, attributes: dict[str, Any]) -> None:
    """Raise the ValueError that ``prepare`` put off, if the data are to blame, as if nothing had happened."""
    try:
        finite("X", plan.x, stack.dtype)
        finite("y", plan.y, stack.dtype)
    except ValueError:
        stack.rng.bit_generator.state = state
        vars(plan.optimizer).update(attributes)
        raise


def evaluate(stack: Stack, loss: Any, x: Array, y: Array, sample_weight: Array | None) -> dict[str, float]:
    """Return the loss and, for cross-entropy, the accuracy of checked data, block by block under a built-in loss."""
    rows = stack.block if losses.is_built_in(loss) else len(x)
    total = right = weights = 0.0
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        v = None if sample_weight is None else sample_weight[part]
        outputs = stack.outputs(x[part])
        share = len(outputs) if v is None else float(v.sum(dtype=np.float64))
        total += share * losses.value(loss, outputs, y[part], v)
        if isinstance(loss, CrossEntropy):
            labels = y[part] if y.ndim == 1 else y[part].argmax(axis=1)
            right += float(np.average(outputs.argmax(axis=1) == labels, weights=v)) * share if share else 0.0
        weights += share
    measured = {"loss": total / weights}
    return measured | {"accuracy": right / weights} if isinstance(loss, CrossEntropy) else measured


def _compiled_epoch(stack: Stack, plan: Plan) -> Epoch:
    network, objective, slots = stack.seeded(), plan.objective, plan.optimizer.state()[0]

    def train(order: Array, lr: float, step: int) -> tuple[float, int]:
        batches = Batches(plan.x, plan.y, plan.sample_weight, order, plan.batch_size)
        rule = plan.optimizer.rule(slots, lr, step)
        loss, failed = active().train_epoch(network, stack.params, batches, objective, rule)
        return float(loss), int(failed)

    return train


def _layerwise_epoch(stack: Stack, plan: Plan) -> Epoch:
    def train(order: Array, lr: float, step: int) -> tuple[float, int]:
        total = weights = 0.0
        for batch, start in enumerate(range(0, len(order), plan.batch_size)):
            rows = order[start : start + plan.batch_size]
            v = None if plan.sample_weight is None else plan.sample_weight[rows]
            outputs = stack.forward(plan.x[rows], training=True)
            loss, gradient = losses.value_and_gradient(plan.loss, outputs, plan.y[rows], v)
            loss += plan.l2 * stack.sum_of_squares()
            share = len(rows) if v is None else float(v.sum(dtype=np.float64))
            total, weights = total + share * loss, weights + share
            if not np.isfinite(loss):
                return total / weights, batch
            stack.backward(gradient, plan.l2)
            plan.optimizer.update(stack, lr, step + batch + 1)
        return (total / weights if weights else 0.0), -1

    return train


def _shuffle(order: Array, rng: np.random.Generator) -> None:
    """Write ``rng.permutation(len(order))`` into ``order``, without an array beside it."""
    for start in range(0, len(order), _CHUNK):
        part = order[start : start + _CHUNK]
        part[...] = np.arange(start, start + len(part))
    rng.shuffle(order)


def _replay(train: Epoch, state: "_State", plan: Plan, order: Array, lr: float) -> int:
    """Train again batch by batch, up to the first that leaves the finite numbers, and return which it is.

    A user's layer may draw random numbers and come through this time: then that is the last batch.
    """
    for start in range(0, len(order), plan.batch_size):
        state.keep()
        _, failed = train(order[start : start + plan.batch_size], lr, plan.optimizer.steps)
        if failed >= 0 or not state.is_finite():
            state.restore()
            return start // plan.batch_size
        plan.optimizer.steps += 1
    return start // plan.batch_size


class _State:
    """The arrays that training changes, and a copy of them to go back to."""

    def __init__(self, arrays: list[Array]) -> None:
        self._arrays = arrays
        self._kept = [np.empty_like(array) for array in arrays]

    def keep(self) -> None:
        for array, kept in zip(self._arrays, self._kept, strict=True):
            np.copyto(kept, array)

    def restore(self) -> None:
        for array, kept in zip(self._arrays, self._kept, strict=True):
            np.copyto(array, kept)

    def is_finite(self) -> bool:
        return all(
            is_surely_finite(a) or (math.isfinite(a.min()) and math.isfinite(a.max())) for a in self._arrays if a.size
        )
