"""Training on arrays: all samples are there, and any of them may come next."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import active
from ..nn import losses
from ..nn.stack import Stack
from ..validation import FLOAT64, Array, finite, sample_weights
from .compiled import CompiledEpoch, epoch_of
from .evaluation import training_values
from .rows import check_finite, own_rows
from .supply import Supply, Trainer
from .together import Request

if TYPE_CHECKING:
    from .plan import Plan

_CHUNK = 1 << 16


class Arrays(Supply):
    """The samples of a plan's own arrays."""

    def samples(self, plan: "Plan") -> int:
        """Return how many samples an epoch has."""
        return plan.samples

    def described(self, plan: "Plan") -> dict[str, Any]:
        """Return what a checkpoint tells the data by."""
        return {
            "X": [*plan.x.shape, plan.x.dtype.str],
            "y": [*plan.y.shape, plan.y.dtype.str],
            "rows": plan.rows,
            "sample_weight or class_weight": plan.sample_weight,
            "validation data": plan.validation and plan.validation.described(),
        }

    def trainer(self, stack: Stack, plan: "Plan", most: int) -> "ArrayTrainer":
        """Return what trains."""
        return ArrayTrainer(stack, plan, most)


ARRAYS = Arrays()


class ArrayTrainer(Trainer):
    """What trains on the samples of arrays, in orders that the model's generator draws.

    Parameters
    ----------
    stack : Stack
    plan : Plan
    most : int
        For so many epochs at once there are orders.
    """

    def __init__(self, stack: Stack, plan: "Plan", most: int) -> None:
        super().__init__(stack, plan, epoch_of(stack, plan))
        self._rows = None if plan.rows is None else own_rows(plan.rows, len(plan.x))
        self._rng = stack.rng if plan.shuffle else None
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

    def request(self, rates: list[float | Array], step: int) -> Request | None:
        """Return what epochs at these rates take, or None where they run layer by layer or somebody listens."""
        train = self._train
        if self._heard is not train or not isinstance(train, CompiledEpoch):
            return None
        return train.request(*self._later(len(rates)), rates, step)

    def _later(self, n: int) -> tuple[list[Array], Callable[[], None]]:
        """Memory for the orders of n epochs, valid until others are drawn, and what draws them."""
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

    def check_again(self) -> None:
        """Raise ValueError if parameters or data are why numbers are not finite."""
        check_again(self._stack, self._plan)
        if (v := weights_of(self._plan)) is not None:
            sample_weights(v, self._plan.samples, self._stack.dtype)

    def values_after(self) -> dict[str, float]:
        """Return the values of an epoch beside its loss."""
        values = training_values(self._stack, self._plan) if self._plan.metrics else {}
        return values | super().values_after()


def _nothing() -> None:
    """Orders that stay as they are are not drawn."""


def check_again(stack: Stack, plan: "Plan") -> None:
    """Raise ValueError if parameters, X or y are why numbers are not finite."""
    rows = plan.rows if plan.rows is not None else slice(None)
    stack.check_finite()
    check_finite(plan.x, "X", stack.dtype, plan.rows)
    stack.check_codes(plan.x, "X", plan.rows)
    losses.check_again(plan.loss, plan.y[rows], plan.outputs, stack.dtype, "y")
    finite("y", plan.y[rows], FLOAT64)  # in the model's dtype by now, unless a loss of the user's own takes what came


def weights_of(plan: "Plan") -> Array | None:
    """Return the weights of the samples that count."""
    v = plan.sample_weight
    return v if v is None or plan.rows is None else v[plan.rows]
