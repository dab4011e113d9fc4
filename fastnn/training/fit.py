"""Training: the loop over the epochs of a plan, alone or asking for them together with others.

A network of built-in layers under a built-in loss and optimizer trains in one compiled call an epoch, any other layer
by layer; both are a function of the order of the samples, the learning rate and the updates made before.
"""

import copy
import functools
import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import active
from ..errors import DivergenceError
from ..nn import losses
from ..nn.lowering import Batches, Network, OptimizerSpec
from ..nn.stack import Lap, Stack, no_lap
from ..schedules import is_known
from ..transaction import Copies, Place, Transaction
from ..validation import FLOAT64, Array, finite, sample_weights
from .batches import heard
from .evaluation import values_after
from .history import History
from .interrupts import Interrupt
from .layerwise import layerwise_epoch
from .plan import Plan
from .progress import Report
from .replay import Epoch, find_batch
from .rows import check_finite, own_rows
from .streaming import Pieces, StreamPlan
from .together import Outcome, Request
from .watching import Values

if TYPE_CHECKING:
    from ..model import Sequential

ShouldStop = Callable[[int, Values], bool]
# What a network in training asks for, nothing where it has trained for an epoch by itself; what it is answered; and
# what it leaves behind.
Training = Generator[Request | None, Outcome | None, History]

_CHUNK = 1 << 16
_MOST_EPOCHS, _MOST_SAMPLES, _MOST_WORK = 16, 1 << 14, 1 << 25


def run(model: "Sequential", plan: Plan, should_stop: ShouldStop) -> History:
    """Train through the epochs of ``plan``, or until ``should_stop(epoch, values)``, and return their history.

    See :func:`training` for what is left where something is raised.
    """
    history = History()
    # A number that overflows is reported as divergence, with its place, and not as a warning as well.
    with Interrupt() as interrupt, np.errstate(over="ignore", invalid="ignore"):
        try:
            for _ in training(model, plan, should_stop, history, interrupt):
                pass
        except BaseException:
            interrupt.deaf = True
            raise
        interrupt.deaf = True  # or it could leave its handler in place
    return history


def training(
    model: "Sequential",
    plan: Plan,
    should_stop: ShouldStop,
    history: History,
    interrupt: Interrupt,
    together: bool = False,
) -> Training:
    """Train through the epochs of ``plan``, or until ``should_stop(epoch, values)``, and write their history.

    Whatever is raised within the first epoch leaves the model and the optimizer as they were; later, as they were at
    the end of the last whole epoch. Only DivergenceError leaves the last finite weights.

    With ``together`` it asks for its compiled epochs, several at once where nothing comes between them, and pauses
    after each other one, so that many networks train by turns. Whoever drives it sees to the warnings of NumPy.
    """
    transaction, report = Transaction(_places(model, plan), model._stack.rng), Report(plan.epochs, plan.verbose)
    try:
        yield from _train(model, plan, history, transaction, interrupt, should_stop, report, together)
    except BaseException:
        interrupt.deaf = True  # nothing may come before this: a second Ctrl-C would leave things half undone
        transaction.rollback()
        history.cut(plan.names, transaction.commits)
        raise
    finally:
        report.close()
    return history


def _places(model: "Sequential", plan: Plan) -> list[Place]:
    """The attributes that training changes; the compiled epoch knows nothing of the layers'."""
    stack = model._stack
    places: list[Place] = [(model, ("_loss", "_classes", "_flat", "history")), (plan.optimizer, plan.optimizer._STATE)]
    if plan.checkpoint is not None:
        places.append((stack, ("seed",)))
    return places if plan.compiled and plan.world is None else places + stack.changing()


def _train(
    model: "Sequential",
    plan: Plan,
    history: History,
    transaction: Transaction,
    interrupt: Interrupt,
    should_stop: ShouldStop,
    report: Report,
    together: bool,
) -> Training:
    stack, optimizer = model._stack, plan.optimizer
    optimizer.bind(stack)
    train = epoch_of(stack, plan)
    listened = train.heard(model) if isinstance(train, Pieces) else heard(model, plan, train)
    transaction.protect([stack.params, *optimizer.state(), *stack.user_parameters()])
    _hand_over(model, plan, history)
    most = _most_at_once(stack, plan) if together else 1
    orders = _orders(plan, stack, train, most)
    epoch = one_by_one = 0
    earlier: Sequence[float] = ()
    checkpoint = plan.checkpoint
    if checkpoint is not None:
        epoch = checkpoint.restore(model, plan, train, history)
        if epoch:
            transaction.goal = epoch
            transaction.commit()
            report.resumed(epoch)

    def rates_of(later: int) -> float | Array:
        return optimizer.rates(optimizer.epoch + later, optimizer.steps + later * plan.updates, plan.updates)

    while epoch < plan.epochs and not history.stopped:
        n = min(most, plan.epochs - epoch) if epoch >= one_by_one else 1
        if checkpoint is not None:
            n = min(n, checkpoint.at_most(epoch))
        rates = [rates_of(0)] if epoch else [plan.lr]
        if n > 1:
            try:
                rates += [rates_of(i) for i in range(1, n)]
            except (ValueError, OverflowError):  # which is to come after the epochs before it
                n, one_by_one = 1, epoch + n
        if epoch:
            transaction.begin(epoch + n)
        else:
            transaction.goal = n
        started = time.perf_counter()
        if together and listened is train and isinstance(train, CompiledEpoch):
            later, draw = orders.later(n)
            outcome = yield train.request(later, draw, rates, optimizer.steps)
            assert outcome is not None, "what asks is answered"
            if n > 1 and (outcome.error or outcome.failed >= 0 or not transaction.is_finite()):
                transaction.rewind()
                one_by_one = epoch + n
                continue
            if outcome.error:
                raise outcome.error
            earlier, loss, failed = outcome.losses[:-1], outcome.losses[-1], outcome.failed
        else:
            loss, failed = listened(orders.draw(), rates[0], optimizer.steps)
        if failed >= 0 or not transaction.is_finite():
            transaction.rewind()
            _check_again(stack, plan)
            batch = _replay(train, transaction, plan, orders, rates[0])
            transaction.commit()
            if plan.world is not None:
                plan.world.ranks.agree()
            raise DivergenceError(epoch, batch, plan.epochs)
        seconds = time.perf_counter() - started
        optimizer.steps += n * plan.updates
        optimizer.epoch += n
        values = {"loss": loss} | values_after(stack, plan)
        if earlier:
            history.setdefault("loss", []).extend(earlier)
        history.record(values)
        transaction.commit()
        epoch += n
        report.epoch(epoch, values, plan.all_samples / seconds)
        try:
            with report.lines():
                history.stopped = should_stop(epoch, values)
        finally:
            _hand_over(model, plan, history)  # of which a fit within a callback has set its own
        history.interrupted = interrupt.requested
        is_over = history.stopped or history.interrupted
        if checkpoint is not None:
            checkpoint.write(model, plan, train, history, is_over or epoch == plan.epochs)
        if is_over:
            report.ended(epoch, "interrupted" if history.interrupted else "a callback returned True")
            break
        if together and not plan.compiled:
            yield None
    return history


def _orders(plan: Plan, stack: Stack, train: Epoch, most: int) -> Any:
    """What draws the order of the samples of an epoch, or of the chunks or stripes that they come in."""
    if isinstance(train, Pieces):
        return train
    return Orders(plan, stack.rng, most) if plan.world is None else plan.world.orders(plan, stack.rng)


def _hand_over(model: "Sequential", plan: Plan, history: History) -> None:
    """Let the model know what its outputs are meant for, and the history."""
    model._loss, model._classes, model._flat, model.history = plan.loss, plan.classes, plan.flat, history


def _most_at_once(stack: Stack, plan: Plan) -> int:
    """How many epochs a network may ask for at once: those between which nothing is written in Python.

    No more than a moment takes, so that Ctrl-C is heard.
    """
    if plan.callbacks or plan.validation or plan.metrics or not plan.compiled or not is_known(plan.optimizer.lr):
        return 1
    return max(
        1, min(_MOST_EPOCHS, _MOST_SAMPLES // plan.samples, _MOST_WORK // (plan.samples * stack.params.size + 1))
    )


def _check_again(stack: Stack, plan: Plan) -> None:
    """Raise ValueError if parameters or data are why numbers are not finite.

    ``prepare`` may have put this off, and the arrays are the user's, who can change them at any time.
    """
    may_be_zero = isinstance(plan, StreamPlan)  # all weights of some samples among others
    plan = plan.part
    rows = plan.rows if plan.rows is not None else slice(None)
    stack.check_finite()
    check_finite(plan.x, "X", stack.dtype, plan.rows)
    stack.check_codes(plan.x, "X", plan.rows)
    losses.check_again(plan.loss, plan.y[rows], plan.outputs, stack.dtype, "y")
    finite("y", plan.y[rows], FLOAT64)  # in the model's dtype by now, unless a loss of the user's own takes what came
    if plan.sample_weight is not None and plan.world is None:
        v = plan.sample_weight[rows]
        if v.any() or not may_be_zero:
            sample_weights(v, plan.samples, stack.dtype)


def epoch_of(stack: Stack, plan: Plan, seconds: Array | None = None, lap: Lap = no_lap) -> Epoch:
    """Return what trains for an epoch: the compiled call, which may add to a table of ``seconds``, or layer by layer.

    See :mod:`fastnn.reference.network.epoch` for the table; ``lap(layer, phase)`` is called as a phase of a layer is
    over, or of the step for None.
    """
    if isinstance(plan, StreamPlan):
        return Pieces(stack, plan, epoch_of(stack, plan.part, seconds, lap))
    if plan.world is not None:
        return plan.world.epoch(stack, plan)
    return CompiledEpoch(stack, plan, seconds) if plan.compiled else layerwise_epoch(stack, plan, lap)


class CompiledEpoch:
    """What trains for an epoch in one call, or says what that call takes."""

    def __init__(self, stack: Stack, plan: Plan, seconds: Array | None) -> None:
        network = stack.seeded()
        assert network is not None, "a compiled plan has a network"
        self._stack, self._network, self._params, self._seconds = stack, network, stack.params, seconds
        self._plan, self._objective, self._slots = plan, plan.objective, plan.optimizer.state()[0]

    @property
    def seed(self) -> int | None:
        """What decides which units a dropout drops, None where nothing does."""
        return self._network.seed if self._stack.draws else None

    @seed.setter
    def seed(self, seed: int) -> None:
        self._network = self._network._replace(seed=seed)

    def planned(self, plan: Plan) -> "CompiledEpoch":
        """Return what trains for an epoch of another plan, of which the network and the slots are the same."""
        twin = copy.copy(self)
        twin._plan = plan
        return twin

    def __call__(self, order: Array, lr: float | Array, step: int) -> tuple[float, int]:
        """Return the loss of an epoch in this order, after ``step`` updates, and the batch that failed, or -1."""
        plan = self._plan
        batches = Batches(plan.x, plan.y, plan.sample_weight, order, plan.batch_size)
        rule, network = self._rule(lr, step), self._learning()
        loss, failed = active().train_epoch(network, self._params, batches, self._objective, rule, self._seconds)
        return float(loss), int(failed)

    def request(
        self, orders: list[Array], draw: Callable[[], None], rates: Sequence[float | Array], step: int
    ) -> Request:
        """Return what epochs in these orders, yet to be drawn, take, each at its rate, after ``step`` updates."""
        plan = self._plan
        rules = [self._rule(lr, step + i * plan.updates) for i, lr in enumerate(rates)]
        batches = [Batches(plan.x, plan.y, plan.sample_weight, order, plan.batch_size) for order in orders]
        return Request(self._learning(), self._params, tuple(batches), self._objective, tuple(rules), draw)

    def _rule(self, lr: float | Array, step: int) -> OptimizerSpec:
        """How an epoch moves."""
        return self._plan.optimizer.rule(self._slots, lr, step)._replace(accumulate=self._plan.accumulate)

    def _learning(self) -> Network:
        """The network as its layers learn at the moment, which callbacks may have changed."""
        network = self._stack.network if self._plan.callbacks else None
        return self._network if network is None else network._replace(seed=self._network.seed)


class Orders:
    """The orders of the samples, an epoch each, as ``rng`` draws them."""

    def __init__(self, plan: Plan, rng: np.random.Generator, most: int) -> None:
        self._rows = None if plan.rows is None else own_rows(plan.rows, len(plan.x))
        self._rng = rng if plan.shuffle else None
        self._orders = np.empty((most if plan.shuffle else 1, plan.samples), np.int64)
        if not plan.shuffle:
            self._in_turn(self._orders[0])

    def draw(self) -> Array:
        """Return the order of an epoch, valid until the next one is drawn."""
        order: Array = self._orders[0]
        if self._rng is not None:
            self._in_turn(order)
            self._rng.shuffle(order)
        return order

    def later(self, n: int) -> tuple[list[Array], Callable[[], None]]:
        """Return memory for the orders of n epochs, valid until others are drawn, and what draws them."""
        if self._rng is None:
            return [*self._orders] * n, _nothing
        orders = self._orders[:n]
        return [*orders], functools.partial(active().draw_orders, self._rng, self._rows, orders)

    def _in_turn(self, order: Array) -> None:
        """Write all samples, which then stand as in ``rng.permutation``, without an array beside them."""
        if self._rows is not None:
            order[...] = self._rows
            return
        for start in range(0, len(order), _CHUNK):
            part = order[start : start + _CHUNK]
            part[...] = np.arange(start, start + len(part))


def _nothing() -> None:
    """Orders that stay as they are are not drawn."""


def _replay(train: Epoch, transaction: Transaction, plan: Plan, orders: Any, lr: float | Array) -> int:
    """Train the epoch again update by update, up to one that leaves the finite numbers, and return of which batch.

    A user's layer may draw random numbers and come through this time: then that is the last batch.
    """
    order = orders.draw()  # as before, and so are the units that are dropped
    last = Copies(transaction.arrays)
    return train.replay(order, lr, last) if isinstance(train, Pieces) else find_batch(train, plan, order, lr, last)[1]
