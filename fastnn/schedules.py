"""Learning rates as functions of the epoch, which counts from 0: any such function can be an optimizer's ``lr``.

Those made here are objects, so that they go into pickles and to other processes together with their optimizer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from .validation import number, positive_int

Schedule = Callable[[int], float]


def step_decay(lr: float, factor: float = 0.5, every: int = 10) -> Schedule:
    """Return the schedule lr · factor^⌊epoch / every⌋, for lr > 0 and factor > 0."""
    lr, factor, every = number("lr", lr, above=0), number("factor", factor, above=0), positive_int("every", every)
    return _StepDecay(lr, factor, every)


def exponential_decay(lr: float, factor: float = 0.95) -> Schedule:
    """Return the schedule lr · factor^epoch, for lr > 0 and factor > 0."""
    return _ExponentialDecay(number("lr", lr, above=0), number("factor", factor, above=0))


def cosine_decay(lr: float, epochs: int, final: float = 0.0) -> Schedule:
    """Return the schedule that falls from lr > 0 to final >= 0 along half a cosine within ``epochs``, and stays there.

    Source: I. Loshchilov and F. Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017, equation 5.
    """
    lr, epochs, final = number("lr", lr, above=0), positive_int("epochs", epochs), number("final", final, least=0)
    return _CosineDecay(lr, epochs, final)


def linear_warmup(schedule: float | Schedule, epochs: int) -> Schedule:
    """Return a learning rate or a function of the epoch scaled by 1/n, 2/n, ..., 1 over the first n epochs."""
    epochs = positive_int("epochs", epochs)
    return _LinearWarmup(schedule if callable(schedule) else number("schedule", schedule, above=0), epochs)


def is_known(lr: float | Schedule) -> bool:
    """Return whether all rates to come are known: those of a number, and of a schedule that is made here throughout."""
    if type(lr) is _LinearWarmup:
        return is_known(lr.schedule)
    return not callable(lr) or type(lr) in (_StepDecay, _ExponentialDecay, _CosineDecay)


class _Named:
    """A schedule that shows itself as the call that makes it."""

    name: ClassVar[str]

    def __repr__(self) -> str:
        settings: Any = fields(self)  # type: ignore[arg-type]
        return f"{self.name}({', '.join(f'{field.name}={getattr(self, field.name)!r}' for field in settings)})"


@dataclass(frozen=True, repr=False)
class _StepDecay(_Named):
    name = "step_decay"
    lr: float
    factor: float
    every: int

    def __call__(self, epoch: int) -> float:
        return self.lr * self.factor ** (epoch // self.every)


@dataclass(frozen=True, repr=False)
class _ExponentialDecay(_Named):
    name = "exponential_decay"
    lr: float
    factor: float

    def __call__(self, epoch: int) -> float:
        return self.lr * self.factor**epoch


@dataclass(frozen=True, repr=False)
class _CosineDecay(_Named):
    name = "cosine_decay"
    lr: float
    epochs: int
    final: float

    def __call__(self, epoch: int) -> float:
        return self.final + (self.lr - self.final) * (1 + math.cos(math.pi * min(epoch / self.epochs, 1))) / 2


@dataclass(frozen=True, repr=False)
class _LinearWarmup(_Named):
    name = "linear_warmup"
    schedule: float | Schedule
    epochs: int

    def __call__(self, epoch: int) -> float:
        lr = self.schedule(epoch) if callable(self.schedule) else self.schedule
        return lr * min((epoch + 1) / self.epochs, 1)
