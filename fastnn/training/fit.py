"""Training: the loop over the epochs of a plan, alone or asking for them together with others.

What trains for an epoch comes from where the samples come from, see :mod:`.supply`. A network of built-in layers under
a built-in loss and optimizer trains in one compiled call an epoch, any other layer by layer; both are a function of the
order of the samples, the learning rate and the updates made before.
"""

import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DivergenceError
from ..nn.stack import Stack
from ..schedules import is_known
from ..transaction import Copies, Place, Transaction
from ..validation import Array
from .history import History
from .interrupts import Interrupt
from .plan import Plan
from .progress import Report
from .together import Outcome, Request
from .watching import Values

if TYPE_CHECKING:
    from ..model import Sequential

ShouldStop = Callable[[int, Values], bool]
# What a network in training asks for, nothing where it has trained for an epoch by itself; what it is answered; and
# what it leaves behind.
Training = Generator[Request | None, Outcome | None, History]

_MOST_EPOCHS, _MOST_SAMPLES, _MOST_WORK = 16, 1 << 14, 1 << 25


def run(model: "Sequential", plan: Plan, should_stop: ShouldStop, interrupt: Interrupt | None = None) -> History:
    """Train through the epochs of ``plan``, or until ``should_stop(epoch, values)``, and return their history.

    See :func:`training` for what is left where something is raised.
    """
    history = History()
    # A number that overflows is reported as divergence, with its place, and not as a warning as well.
    with interrupt or Interrupt() as interrupt, np.errstate(over="ignore", invalid="ignore"):
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
    return places if plan.compiled and not plan.supply.runs_layers else places + stack.changing()


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
    most = _most_at_once(stack, plan) if together else 1
    trainer = plan.supply.trainer(stack, plan, most)
    trainer.listen(model)
    transaction.protect([stack.params, *optimizer.state(), *stack.user_parameters()])
    _hand_over(model, plan, history)
    epoch = one_by_one = 0
    earlier: Sequence[float] = ()
    checkpoint = plan.checkpoint
    if checkpoint is not None:
        epoch = checkpoint.restore(model, plan, trainer, history)
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
        request = trainer.request(rates, optimizer.steps) if together else None
        if request is not None:
            outcome = yield request
            assert outcome is not None, "what asks is answered"
            if n > 1 and (outcome.error or outcome.failed >= 0 or not transaction.is_finite()):
                transaction.rewind()
                one_by_one = epoch + n
                continue
            if outcome.error:
                raise outcome.error
            earlier, loss, failed = outcome.losses[:-1], outcome.losses[-1], outcome.failed
        else:
            loss, failed = trainer(trainer.draw(), rates[0], optimizer.steps)
        if failed >= 0 or not transaction.is_finite():
            transaction.rewind()
            trainer.check_again()
            # In the same order as before, and so are the units that are dropped.
            batch = trainer.replay(trainer.draw(), rates[0], Copies(transaction.arrays))
            transaction.commit()
            raise DivergenceError(epoch, batch, plan.epochs)
        seconds = time.perf_counter() - started
        optimizer.steps += n * plan.updates
        optimizer.epoch += n
        values = {"loss": loss} | trainer.values_after()
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
            checkpoint.write(model, plan, trainer, history, is_over or epoch == plan.epochs)
        if is_over:
            report.ended(epoch, "interrupted" if history.interrupted else "a callback returned True")
            break
        if together and not plan.compiled:
            yield None
    return history


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
