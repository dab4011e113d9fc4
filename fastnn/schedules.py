"""Learning rates as functions of the epoch, which counts from 0: any such function can be an optimizer's ``lr``."""

import math
from collections.abc import Callable

from .validation import number, positive_int

Schedule = Callable[[int], float]


def step_decay(lr: float, factor: float = 0.5, every: int = 10) -> Schedule:
    """Return the schedule lr · factor^⌊epoch / every⌋, for lr > 0 and factor > 0."""
    lr, factor, every = number("lr", lr, above=0), number("factor", factor, above=0), positive_int("every", every)
    return lambda epoch: lr * factor ** (epoch // every)


def exponential_decay(lr: float, factor: float = 0.95) -> Schedule:
    """Return the schedule lr · factor^epoch, for lr > 0 and factor > 0."""
    return step_decay(lr, factor, every=1)


def cosine_decay(lr: float, epochs: int, final: float = 0.0) -> Schedule:
    """Return the schedule that falls from lr > 0 to final >= 0 along half a cosine within ``epochs``, and stays there.

    Source: I. Loshchilov and F. Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017, equation 5.
    """
    lr, epochs, final = number("lr", lr, above=0), positive_int("epochs", epochs), number("final", final, least=0)
    return lambda epoch: final + (lr - final) * (1 + math.cos(math.pi * min(epoch / epochs, 1))) / 2


def linear_warmup(schedule: float | Schedule, epochs: int) -> Schedule:
    """Return a learning rate or a function of the epoch scaled by 1/n, 2/n, ..., 1 over the first n epochs."""
    epochs = positive_int("epochs", epochs)
    if not callable(schedule):
        lr = number("schedule", schedule, above=0)
        return lambda epoch: lr * min((epoch + 1) / epochs, 1)
    return lambda epoch: schedule(epoch) * min((epoch + 1) / epochs, 1)
