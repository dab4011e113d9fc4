"""What trains for an epoch of arrays: one compiled call, or the layers one by one."""

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..backend import active
from ..nn.lowering import Batches, Network, OptimizerSpec
from ..nn.stack import Lap, Stack, no_lap
from ..validation import Array
from .layerwise import layerwise_epoch
from .together import Request

if TYPE_CHECKING:
    from .plan import Plan


# What trains for an epoch: it takes the order of the samples, the learning rate or one for each update, and how many
# updates came before, and returns the loss and the batch that failed, or -1.
Epoch = Callable[[Any, float | Array, int], tuple[float, int]]


def epoch_of(stack: Stack, plan: "Plan", seconds: Array | None = None, lap: Lap = no_lap) -> Epoch:
    """Return what trains for an epoch: the compiled call, which may add to a table of ``seconds``, or layer by layer.

    See :mod:`fastnn.reference.network.epoch` for the table; ``lap(layer, phase)`` is called as a phase of a layer is
    over, or of the step for None.
    """
    return CompiledEpoch(stack, plan, seconds) if plan.compiled else layerwise_epoch(stack, plan, lap)


class CompiledEpoch:
    """What trains for an epoch in one call, or says what that call takes."""

    def __init__(self, stack: Stack, plan: "Plan", seconds: Array | None) -> None:
        network = stack.seeded()
        assert network is not None, "a compiled plan has a network"
        self._stack, self._network, self._params, self._seconds = stack, network, stack.params, seconds
        self._plan, self._objective, self._slots = plan, plan.objective, plan.optimizer.state()[0]
        # What the epochs on these samples have in common; a stream sets the plan to others.
        self._kept: dict[Any, Any] = {}
        self._kept_x = plan.x

    @property
    def seed(self) -> int | None:
        """What decides which units a dropout drops, None where nothing does."""
        return self._network.seed if self._stack.draws else None

    @seed.setter
    def seed(self, seed: int) -> None:
        self._network = self._network._replace(seed=seed)

    def planned(self, plan: "Plan") -> "CompiledEpoch":
        """Return what trains for an epoch of another plan, of which the network and the slots are the same."""
        twin = copy.copy(self)
        twin._plan, twin._kept, twin._kept_x = plan, {}, plan.x
        return twin

    def __call__(self, order: Array, lr: float | Array, step: int) -> tuple[float, int]:
        """Return the loss of an epoch in this order, after ``step`` updates, and the batch that failed, or -1."""
        plan = self._plan
        batches = Batches(plan.x, plan.y, plan.sample_weight, order, plan.batch_size)
        rule, network = self._rule(lr, step), self._learning()
        if plan.x is not self._kept_x:
            self._kept, self._kept_x = {}, plan.x
        common = self._params, batches, self._objective, rule, self._seconds, self._kept
        loss, failed = active().train_epoch(network, *common)
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
        plan = self._plan
        rule = plan.optimizer.rule(self._slots, lr, step)
        return rule if plan.accumulate == 1 else rule._replace(accumulate=plan.accumulate)

    def _learning(self) -> Network:
        """The network as its layers learn at the moment, which callbacks may have changed."""
        network = self._stack.network if self._plan.callbacks else None
        if network is not None and network.ops is not self._network.ops:
            self._network = network._replace(seed=self._network.seed)
        return self._network
