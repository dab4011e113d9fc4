"""Learning rates as functions of the epoch or of the update, which count from 0, for an optimizer's ``lr``.

Any function of the epoch can be one. Those made here are objects, so that they go into pickles and to other processes
together with their optimizer; they show themselves as the call that makes them, and ``plot()`` draws their rates. With
``per="step"`` they are functions of the number of the update.
"""

from .kinds import KnownSchedule, Schedule, is_known
from .makers import (
    cosine,
    cosine_decay,
    exponential,
    exponential_decay,
    linear,
    linear_warmup,
    one_cycle,
    piecewise,
    step,
    step_decay,
)

__all__ = [
    "KnownSchedule",
    "Schedule",
    "cosine",
    "cosine_decay",
    "exponential",
    "exponential_decay",
    "is_known",
    "linear",
    "linear_warmup",
    "one_cycle",
    "piecewise",
    "step",
    "step_decay",
]
