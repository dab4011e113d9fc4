"""The classes of schedules: settings that are equal, pickle, and show and draw themselves."""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias

from ..libraries import library
from ..validation import positive_int

Schedule = Callable[[int], float]
Per: TypeAlias = Literal["epoch", "step"]

_ENOUGH = 0.01  # of the first rate, down to which an exponential decay is drawn
_MOST_DRAWN = 10_000


class KnownSchedule(ABC):
    """A schedule that shows itself as the call that makes it, and draws its rates.

    Attributes
    ----------
    per : {"epoch", "step"}
        Whether it is a function of the epoch or of the update.
    """

    name: ClassVar[str]
    per: Per

    def __call__(self, t: int) -> float:
        """Return the learning rate of an epoch or of an update, counted from 0."""
        return self._rate(t)

    @abstractmethod
    def _rate(self, t: int) -> float:
        """Return the rate."""

    @property
    @abstractmethod
    def _shown(self) -> int:
        """How many rates show what there is to see."""

    def plot(self, ax: Any = None, n: int | None = None) -> Any:
        """Draw the first rates, and return the Axes.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw, by default on a new figure.
        n : int, optional
            How many rates to draw, by default so many that all of the schedule is seen.

        Returns
        -------
        ax : matplotlib Axes

        Raises
        ------
        ImportError
            If matplotlib is missing, which the extra ``fastnn[plots]`` installs.
        """
        n = min(max(self._shown, 2), _MOST_DRAWN) if n is None else positive_int("n", n)
        if ax is None:
            _, ax = library("matplotlib.pyplot", "plots", "plot").subplots()
        ax.plot(range(n), [self(t) for t in range(n)], drawstyle="steps-post")
        ax.set_xlabel("epoch" if self.per == "epoch" else "update")
        ax.set_ylabel("learning rate")
        return ax

    def __repr__(self) -> str:
        settings: Any = fields(self)  # type: ignore[arg-type]
        return f"{self.name}({', '.join(f'{field.name}={getattr(self, field.name)!r}' for field in settings)})"


@dataclass(frozen=True, repr=False)
class StepDecay(KnownSchedule):
    """lr · factor^⌊epoch / every⌋."""

    name = "step_decay"
    per = "epoch"
    lr: float
    factor: float
    every: int

    def _rate(self, t: int) -> float:
        return self.lr * self.factor ** (t // self.every)

    @property
    def _shown(self) -> int:
        return 5 * self.every


@dataclass(frozen=True, repr=False)
class ExponentialDecay(KnownSchedule):
    """lr · factor^epoch."""

    name = "exponential_decay"
    per = "epoch"
    lr: float
    factor: float

    def _rate(self, t: int) -> float:
        return self.lr * self.factor**t

    @property
    def _shown(self) -> int:
        return _until_enough(self.factor)


@dataclass(frozen=True, repr=False)
class CosineDecay(KnownSchedule):
    """Half a cosine over the epochs."""

    name = "cosine_decay"
    per = "epoch"
    lr: float
    epochs: int
    final: float

    def _rate(self, t: int) -> float:
        return self.final + (self.lr - self.final) * _half_cosine(t / self.epochs)

    @property
    def _shown(self) -> int:
        return self.epochs + 1


@dataclass(frozen=True, repr=False)
class LinearWarmup(KnownSchedule):
    """Another schedule, scaled by 1/n, 2/n, ..., 1 over its first n rates."""

    name = "linear_warmup"
    schedule: float | Schedule
    epochs: int

    @property
    def per(self) -> Per:  # type: ignore[override]
        """That of the schedule which is scaled."""
        per: Per = getattr(self.schedule, "per", "epoch")
        return per

    def _rate(self, t: int) -> float:
        lr = self.schedule(t) if callable(self.schedule) else self.schedule
        return lr * min((t + 1) / self.epochs, 1)

    @property
    def _shown(self) -> int:
        return max(2 * self.epochs, self.schedule._shown if isinstance(self.schedule, KnownSchedule) else 0)


class _WithWarmup(KnownSchedule):
    """A decay that comes after a linear warm-up, whose last rate is one equal step below the decay's first."""

    lr: float
    warmup: int

    def _rate(self, t: int) -> float:
        if t < self.warmup:
            return self.lr * (t + 1) / (self.warmup + 1)
        return self._decay(t - self.warmup)

    @abstractmethod
    def _decay(self, t: int) -> float:
        """Return the rate t epochs or updates after the warm-up."""


@dataclass(frozen=True, repr=False)
class _Fall(_WithWarmup):
    """A fall from lr to ``final`` that is over after a length."""

    lr: float
    length: int
    final: float
    warmup: int
    per: Per

    def _decay(self, t: int) -> float:
        return self.final + (self.lr - self.final) * self._left(t / (self.length - self.warmup))

    @staticmethod
    @abstractmethod
    def _left(share: float) -> float:
        """Return what is left of the fall after a share of its length."""

    @property
    def _shown(self) -> int:
        return self.length + 1


class Cosine(_Fall):
    """A fall along half a cosine."""

    name = "cosine"

    @staticmethod
    def _left(share: float) -> float:
        return _half_cosine(share)


class Linear(_Fall):
    """A fall along a line."""

    name = "linear"

    @staticmethod
    def _left(share: float) -> float:
        return max(1 - share, 0.0)


@dataclass(frozen=True, repr=False)
class Step(_WithWarmup):
    """lr · factor^⌊t / every⌋."""

    name = "step"
    lr: float
    factor: float
    every: int
    warmup: int
    per: Per

    def _decay(self, t: int) -> float:
        return self.lr * self.factor ** (t // self.every)

    @property
    def _shown(self) -> int:
        return self.warmup + 5 * self.every


@dataclass(frozen=True, repr=False)
class Exponential(_WithWarmup):
    """lr · factor^t."""

    name = "exponential"
    lr: float
    factor: float
    warmup: int
    per: Per

    def _decay(self, t: int) -> float:
        return self.lr * self.factor**t

    @property
    def _shown(self) -> int:
        return self.warmup + _until_enough(self.factor)


@dataclass(frozen=True, repr=False)
class OneCycle(KnownSchedule):
    """A rise and a fall, each along half a cosine."""

    name = "one_cycle"
    lr: float
    length: int
    start: float
    final: float
    warmup: int
    per: Per

    def _rate(self, t: int) -> float:
        if t < self.warmup:
            return self.lr + (self.start - self.lr) * _half_cosine(t / self.warmup)
        return self.final + (self.lr - self.final) * _half_cosine((t - self.warmup) / (self.length - 1 - self.warmup))

    @property
    def _shown(self) -> int:
        return self.length


@dataclass(frozen=True, repr=False)
class Piecewise(_WithWarmup):
    """One rate after the other."""

    name = "piecewise"
    rates: tuple[float, ...]
    boundaries: tuple[int, ...]
    warmup: int
    per: Per

    @property
    def lr(self) -> float:  # type: ignore[override]
        """The first rate."""
        return self.rates[0]

    def _decay(self, t: int) -> float:
        return self.rates[bisect_right(self.boundaries, t + self.warmup)]

    @property
    def _shown(self) -> int:
        last = self.boundaries[-1] if self.boundaries else self.warmup + 1
        return last + max(1, last // 4)


KNOWN = (
    StepDecay,
    ExponentialDecay,
    CosineDecay,
    Cosine,
    Linear,
    Step,
    Exponential,
    OneCycle,
    Piecewise,
)


def _half_cosine(share: float) -> float:
    """What falls from 1 at 0 to 0 at 1, and stays there."""
    return (1 + math.cos(math.pi * min(share, 1))) / 2


def _until_enough(factor: float) -> int:
    return math.ceil(math.log(_ENOUGH) / math.log(factor)) + 1 if factor < 1 else 50


def is_known(lr: float | Schedule) -> bool:
    """Return whether all rates to come are known: those of a number, and of a schedule that is made here throughout."""
    if type(lr) is LinearWarmup:
        return is_known(lr.schedule)
    return not callable(lr) or type(lr) in KNOWN
