"""Many networks in training: all that ask for epochs are answered together, round by round."""

import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import MODULES, active, get_num_threads
from . import together
from .callbacks import begun
from .each import at
from .fit import training
from .history import History
from .interrupts import Interrupt
from .plan import Plan
from .together import Outcome, Request

if TYPE_CHECKING:
    from ..model import Sequential

_IN_FLIGHT = 64  # networks to a thread, so that memory is that of some at a time


@dataclass(eq=False)
class Network:
    """A network that is to be trained: its place among the models, what was asked, and what came of it."""

    place: int
    model: "Sequential"
    plan: Plan
    history: History = field(default_factory=History)
    life: Generator[Request | None, Outcome | None, Any] | None = None
    counted: int = 0

    def prepare(self, interrupt: Interrupt) -> None:
        """Take hold of the model and of the optimizer and begin the callbacks, all that may be refused."""
        self.history.optimizer = self.plan.optimizer
        self.life = self._live(interrupt)
        next(self.life)

    def go_on(self, outcome: Outcome | None, interrupt: Interrupt) -> tuple[bool, Request | None]:
        """Return whether the training goes on, and for which epochs it asks, if it does."""
        assert self.life is not None, "it was prepared"
        stack = self.model._stack
        stack.guest = threading.get_ident()
        try:
            return True, self.life.send(outcome)
        except StopIteration:
            return False, None
        except Exception as error:
            if error.__traceback__ is not None:
                error.__traceback__ = error.__traceback__.tb_next
                traceback.clear_frames(error.__traceback__)  # or the history would keep all data alive
            self.history.error = error
            return False, None
        finally:
            stack.guest = None

    def leave(self) -> None:
        """End the training where it is, at its last whole epoch, and the callbacks with it."""
        if self.life is not None:
            try:
                self.life.close()
            except Exception as error:
                self.history.error = error

    def epochs_since(self, ended: bool) -> int:
        """Return the epochs made since the last time that this was asked; those that will not be made are over too."""
        made = self.plan.epochs if ended else len(self.history.get("loss", ()))
        since, self.counted = made - self.counted, made
        return since

    def _live(self, interrupt: Interrupt) -> Generator[Request | None, Outcome | None, Any]:
        model, plan = self.model, self.plan
        with model._stack.held(None), plan.optimizer.held(), begun(model, plan) as should_stop:
            yield None
            try:
                if plan.make_weights is not None:
                    plan.sample_weight = plan.make_weights()
                yield from training(model, plan, should_stop, self.history, interrupt, together=True)
            except Exception:
                interrupt.deaf = False  # all is put right, and the others go on
                raise
            finally:
                plan.sample_weight = None


def train(networks: Sequence[Network], advance: Callable[[int], Any]) -> None:
    """Train networks until all have ended, or Ctrl-C was pressed, and tell ``advance`` how many epochs are over.

    What a network raises is in its history, but for what ends the process. Before anything changes, ValueError and
    TypeError of what cannot begin come through, with the place of the model.
    """
    with Interrupt() as interrupt:
        try:
            for network in networks:
                with at(network.place):
                    network.prepare(interrupt)
                if network.plan.make_weights is not None:
                    network.plan.sample_weight = None  # until it is needed
            # A number that overflows is reported as divergence, with its place, and not as a warning as well.
            with np.errstate(over="ignore", invalid="ignore"):
                _rounds(deque(_grouped(networks)), interrupt, advance)
        except BaseException:
            interrupt.deaf = True  # until all networks have been put right
            for network in networks:
                network.leave()
            raise
        interrupt.deaf = True  # or it could leave its handler in place


def _rounds(waiting: deque[Network], interrupt: Interrupt, advance: Callable[[int], Any]) -> None:
    most = _IN_FLIGHT * (get_num_threads() if active().__name__ == MODULES["numba"] else 1)
    flying: list[tuple[Network, Request | None]] = []
    while flying or waiting:
        asking = [request for _, request in flying if request is not None]
        outcomes = iter(together.train(asking) if asking else ())
        still, over = [], 0
        for network, request in flying:
            outcome = None if request is None else next(outcomes)
            goes_on, request = network.go_on(outcome, interrupt)
            over += network.epochs_since(ended=not goes_on)
            if goes_on:
                still.append((network, request))
        while waiting and len(still) < most and not interrupt.requested:
            network = waiting.popleft()
            goes_on, request = network.go_on(None, interrupt)
            over += network.epochs_since(ended=not goes_on)
            if goes_on:
                still.append((network, request))
        flying = still
        advance(over)
        if interrupt.requested:
            for network in waiting:
                network.leave()
                network.history.interrupted = True
            waiting.clear()


def _grouped(networks: Iterable[Network]) -> list[Network]:
    """Return those of one kind, which train side by side, one behind the other."""
    groups: dict[Any, list[Network]] = {}
    for network in networks:
        groups.setdefault(_kind(network), []).append(network)
    return [network for group in groups.values() for network in group]


def _kind(network: Network) -> Any:
    stack, plan = network.model._stack, network.plan
    if stack.network is None or not plan.compiled:
        return None
    ops, spans, settings, names, *_ = stack.network
    layers = ops.tobytes(), spans.tobytes(), settings.tobytes(), names, stack.dtype
    weighted = plan.sample_weight is not None or plan.make_weights is not None
    data = plan.batch_size, plan.x.dtype, plan.y.ndim, weighted
    objective, rule = plan.objective, (plan.optimizer.rule_name, plan.optimizer.n_slots)
    return layers, data, objective.loss, objective.settings, objective.l2 > 0, rule
