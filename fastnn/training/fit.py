"""Training: what ``fit`` was asked for, checked, and the loop over its epochs.

A network of built-in layers under a built-in loss and optimizer trains in one compiled call an epoch, any other layer
by layer; both are a function of the order of the samples, the learning rate and the updates made before.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..backend import active
from ..errors import DivergenceError
from ..nn import losses, optimizers
from ..nn.lowering import Batches, Objective
from ..nn.optimizers import Optimizer
from ..nn.stack import Lap, Stack, no_lap
from ..transaction import Copies, Place, Transaction
from ..validation import FLOAT64, Array, features, finite, flag, number, own_view, positive_int, sample_weights
from .callbacks import Callback, Values, check_callbacks
from .class_weights import weighted
from .history import History, progress_line
from .interrupts import Interrupt

if TYPE_CHECKING:
    from ..model import Sequential

Epoch = Callable[[Array, float, int], tuple[float, int]]

_CHUNK = 1 << 16


@dataclass
class Plan:
    """The checked arguments of a fit.

    Its arrays are views of its own where they are not copies: a callback or a thread that gives its array another shape
    or dtype moves nothing here.
    """

    x: Array
    y: Array
    sample_weight: Array | None
    outputs: int
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
        return Objective(self.loss.operation, self.l2, losses.smoothing(self.loss, self.y), numbers=self.loss.numbers())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the values of an epoch."""
        if self.validation is None:
            return ("loss",)
        return ("loss", "val_loss", "val_accuracy") if losses.classifies(self.loss) else ("loss", "val_loss")


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
    if losses.is_built_in(loss):
        loss.check(stack.dtype)
    for layer in stack.built_in:
        layer.check(stack.dtype)
    first = optimizer.epoch if optimizer.belongs_to(stack) else 0
    lr = optimizer.rate(first)
    stack.check_finite()
    compiled = stack.network is not None and losses.is_built_in(loss) and optimizers.is_built_in(optimizer)
    # A first linear layer lets no value that is not finite pass unseen: the first epoch ends with weights that are not
    # finite either. So this check, which takes longer than an epoch of a small network, can wait for such an end.
    check_finite = not (check_later and compiled and stack.starts_linear)
    x = features(own_view(x), stack.n_in, stack.dtype, check_finite=check_finite)
    m, k = len(x), stack.output_width(x)
    validation = None
    if validation_data is not None:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
            raise TypeError("validation_data is not a pair, expected (X, y)")
        x_val, y_val = map(own_view, validation_data)
        x_val = features(x_val, x.shape[1], stack.dtype, "X of validation_data")
        y_val = losses.targets(loss, y_val, len(x_val), k, stack.dtype, "y of validation_data")
        validation = x_val, y_val
    y = losses.targets(loss, own_view(y), m, k, stack.dtype, check_finite=check_finite)
    sample_weight = own_view(sample_weight)
    weights = sample_weights(sample_weight, m, stack.dtype)
    if class_weight is not None:
        weights = weighted(class_weight, loss, y, k, sample_weight, stack.dtype)
    return Plan(
        x=x,
        y=y,
        sample_weight=weights,
        outputs=k,
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


def run(model: "Sequential", plan: Plan, should_stop: Callable[[int, Values], bool]) -> History:
    """Train through the epochs of ``plan``, or until ``should_stop(epoch, values)``, and return their history.

    Whatever is raised within the first epoch leaves the model and the optimizer as they were; later, as they were at
    the end of the last whole epoch. Only DivergenceError leaves the last finite weights.
    """
    stack, history = model._stack, History()
    transaction = Transaction(_places(model, plan), stack.rng)
    # A number that overflows is reported as divergence, with its place, and not as a warning as well.
    with Interrupt() as interrupt, np.errstate(over="ignore", invalid="ignore"):
        try:
            _train(model, plan, history, transaction, interrupt, should_stop)
        except BaseException:
            interrupt.deaf = True  # nothing may come before this: a second Ctrl-C would leave things half undone
            transaction.rollback()
            history.cut(plan.names, transaction.commits)
            raise
        interrupt.deaf = True  # or it could leave its handler in place
    return history


def _places(model: "Sequential", plan: Plan) -> list[Place]:
    """The attributes that training changes; the compiled epoch knows nothing of the layers'."""
    stack = model._stack
    places: list[Place] = [(model, ("_loss", "history")), (plan.optimizer, plan.optimizer._STATE)]
    return places if plan.compiled else places + stack.places()


def _train(
    model: "Sequential",
    plan: Plan,
    history: History,
    transaction: Transaction,
    interrupt: Interrupt,
    should_stop: Callable[[int, Values], bool],
) -> None:
    stack, optimizer, samples = model._stack, plan.optimizer, len(plan.x)
    optimizer.bind(stack)
    train = epoch_of(stack, plan)
    transaction.protect([stack.params, *optimizer.state(), *stack.user_parameters()])
    model._loss, model.history = plan.loss, history
    order = np.arange(samples, dtype=np.int64)
    for epoch in range(plan.epochs):
        lr = plan.lr
        if epoch:
            lr = optimizer.rate(optimizer.epoch)
            transaction.begin()
        started = time.perf_counter()
        if plan.shuffle:
            _shuffle(order, stack.rng)
        loss, failed = train(order, lr, optimizer.steps)
        if failed >= 0 or not transaction.is_finite():
            transaction.rewind()
            _check_again(stack, plan)
            batch = _replay(train, transaction, plan, order, lr, stack.rng)
            transaction.commit()
            raise DivergenceError(epoch, batch, plan.epochs)
        seconds = time.perf_counter() - started
        optimizer.steps += -(-samples // plan.batch_size)
        optimizer.epoch += 1
        values = {"loss": loss} | _validated(stack, plan)
        history.record(values)
        transaction.commit()
        if plan.verbose:
            print(progress_line(epoch + 1, plan.epochs, values, samples / seconds), flush=True)
        try:
            history.stopped = should_stop(epoch + 1, values)
        finally:
            model._loss, model.history = plan.loss, history  # which a fit within a callback has set to its own
        history.interrupted = interrupt.requested
        if history.stopped or history.interrupted:
            if plan.verbose:
                why = "interrupted" if history.interrupted else "a callback returned True"
                print(f"{why}: stopped after epoch {epoch + 1} of {plan.epochs}", flush=True)
            return


def _check_again(stack: Stack, plan: Plan) -> None:
    """Raise ValueError if parameters or data are why numbers are not finite.

    ``prepare`` may have put this off, and the arrays are the user's, who can change them at any time.
    """
    stack.check_finite()
    finite("X", plan.x, stack.dtype)
    losses.check_labels(plan.loss, plan.y, plan.outputs, stack.dtype, "y")
    finite("y", plan.y, FLOAT64)  # in the model's dtype by now, unless a loss of the user's own takes it as it came
    sample_weights(plan.sample_weight, len(plan.x), stack.dtype)


def _validated(stack: Stack, plan: Plan) -> dict[str, float]:
    """The values of the validation data, if there are any."""
    if plan.validation is None:
        return {}
    measured = evaluate(stack, plan.loss, *plan.validation, None, "y of validation_data")
    return {f"val_{name}": value for name, value in measured.items()}


def evaluate(
    stack: Stack, loss: Any, x: Array, y: Array, sample_weight: Array | None, name: str = "y"
) -> dict[str, float]:
    """Return the loss and, for cross-entropy, the accuracy of checked data, block by block under a built-in loss."""
    rows = stack.block if losses.is_built_in(loss) else len(x)
    total = right = weights = 0.0
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        v = None if sample_weight is None else sample_weight[part]
        outputs = stack.outputs(x[part])
        share = len(outputs) if v is None else float(v.sum(dtype=np.float64))
        total += share * losses.value(loss, outputs, y[part], v)
        if losses.classifies(loss):
            labels = y[part] if y.ndim == 1 else y[part].argmax(axis=1)
            right += float(np.average(outputs.argmax(axis=1) == labels, weights=v)) * share if share else 0.0
        weights += share
    if not math.isfinite(total):
        losses.check_labels(loss, y, outputs.shape[1], stack.dtype, name)
    measured = {"loss": total / weights}
    return measured | {"accuracy": right / weights} if losses.classifies(loss) else measured


def epoch_of(stack: Stack, plan: Plan, seconds: Array | None = None, lap: Lap = no_lap) -> Epoch:
    """Return what trains for an epoch: the compiled call, which may add to a table of ``seconds``, or layer by layer.

    See :mod:`fastnn.reference.network.epoch` for the table; ``lap(layer, phase)`` is called as a phase of a layer is
    over, or of the step for None.
    """
    return _compiled_epoch(stack, plan, seconds) if plan.compiled else _layerwise_epoch(stack, plan, lap)


def _compiled_epoch(stack: Stack, plan: Plan, seconds: Array | None) -> Epoch:
    network, objective, slots = stack.seeded(), plan.objective, plan.optimizer.state()[0]

    def train(order: Array, lr: float, step: int) -> tuple[float, int]:
        batches = Batches(plan.x, plan.y, plan.sample_weight, order, plan.batch_size)
        rule = plan.optimizer.rule(slots, lr, step)
        loss, failed = active().train_epoch(network, stack.params, batches, objective, rule, seconds)
        return float(loss), int(failed)

    return train


def _layerwise_epoch(stack: Stack, plan: Plan, lap: Lap) -> Epoch:
    stack.forget_gradients()  # those of an earlier pass are the user's until this fit is through

    def train(order: Array, lr: float, step: int) -> tuple[float, int]:
        total = weights = 0.0
        for batch, start in enumerate(range(0, len(order), plan.batch_size)):
            rows = order[start : start + plan.batch_size]
            x, y = plan.x[rows], plan.y[rows]
            v = None if plan.sample_weight is None else plan.sample_weight[rows]
            lap(None, "gather")
            outputs = stack.forward(x, training=True, lap=lap)
            loss, gradient = losses.value_and_gradient(plan.loss, outputs, y, v)
            lap(None, "loss")
            loss += plan.l2 * stack.sum_of_squares()
            share = len(rows) if v is None else float(v.sum(dtype=np.float64))
            total, weights = total + share * loss, weights + share
            if not np.isfinite(loss):
                return math.nan, batch
            lap(None, "rest")
            stack.backward(gradient, plan.l2, lap)
            plan.optimizer.update(stack, lr, step + batch + 1)
            lap(None, "update")
        return (total / weights if weights else 0.0), -1

    return train


def _shuffle(order: Array, rng: np.random.Generator) -> None:
    """Write ``rng.permutation(len(order))`` into ``order``, without an array beside it."""
    for start in range(0, len(order), _CHUNK):
        part = order[start : start + _CHUNK]
        part[...] = np.arange(start, start + len(part))
    rng.shuffle(order)


def _replay(
    train: Epoch, transaction: Transaction, plan: Plan, order: Array, lr: float, rng: np.random.Generator
) -> int:
    """Train the epoch again batch by batch, up to the first that leaves the finite numbers, and return which it is.

    A user's layer may draw random numbers and come through this time: then that is the last batch.
    """
    if plan.shuffle:
        _shuffle(order, rng)  # so that units are dropped as before
    last = Copies(transaction.arrays)
    for start in range(0, len(order), plan.batch_size):
        last.keep()
        _, failed = train(order[start : start + plan.batch_size], lr, plan.optimizer.steps)
        if failed >= 0 or not last.is_finite():
            last.restore()
            break
        plan.optimizer.steps += 1
    return start // plan.batch_size
