"""The functions that check settings and make schedules of them."""

from collections.abc import Sequence
from typing import Any

from ..validation import natural, number, positive_int
from .kinds import (
    Cosine,
    CosineDecay,
    Exponential,
    ExponentialDecay,
    KnownSchedule,
    Linear,
    LinearWarmup,
    OneCycle,
    Per,
    Piecewise,
    Schedule,
    Step,
    StepDecay,
)


def cosine(lr: float, length: int, final: float = 0.0, *, warmup: int = 0, per: Per = "epoch") -> KnownSchedule:
    """Return the schedule that falls from lr to ``final`` along half a cosine, after a linear warm-up if wanted.

    Parameters
    ----------
    lr : float
        The peak, > 0.
    length : int
        When the fall is over, warm-up included, in epochs or, with ``per="step"``, in updates. From then on the rate
        stays.
    final : float
        The rate at the end, >= 0.
    warmup : int
        How many rates come before the peak: lr / (warmup + 1), 2 lr / (warmup + 1), and so on; the fall starts after
        it.
    per : {"epoch", "step"}
        Whether there is a rate for each epoch, or for each update.

    Raises
    ------
    ValueError
        If a setting is out of its range, or the warm-up takes the whole length.
    TypeError
        If a setting is of another type.

    Notes
    -----
    Source: I. Loshchilov and F. Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017, equation 5.

    Examples
    --------
    >>> import fastnn as fnn
    >>> schedule = fnn.schedules.cosine(0.1, 6, warmup=2)
    >>> [round(schedule(epoch), 4) for epoch in range(7)]
    [0.0333, 0.0667, 0.1, 0.0854, 0.05, 0.0146, 0.0]
    """
    lr, final, length, warmup = _fall(lr, final, length, warmup)
    return Cosine(lr, length, final, warmup, _per(per))


def linear(lr: float, length: int, final: float = 0.0, *, warmup: int = 0, per: Per = "epoch") -> KnownSchedule:
    """Return the schedule that falls from lr to ``final`` along a line, after a linear warm-up if wanted.

    Parameters and errors are those of :func:`cosine`.

    Examples
    --------
    >>> import fastnn as fnn
    >>> schedule = fnn.schedules.linear(1.0, 4)
    >>> [schedule(epoch) for epoch in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    lr, final, length, warmup = _fall(lr, final, length, warmup)
    return Linear(lr, length, final, warmup, _per(per))


def step(lr: float, factor: float = 0.5, every: int = 10, *, warmup: int = 0, per: Per = "epoch") -> KnownSchedule:
    """Return the schedule lr · factor^⌊t / every⌋, t counting the epochs or updates since the warm-up.

    Parameters
    ----------
    lr, factor : float
        The first rate and what it is multiplied by, both > 0.
    every : int
        How many epochs or updates have the same rate.
    warmup, per
        As of :func:`cosine`.

    Raises
    ------
    ValueError, TypeError
        If a setting is not as described.
    """
    lr, factor, every = number("lr", lr, above=0), number("factor", factor, above=0), positive_int("every", every)
    return Step(lr, factor, every, natural("warmup", warmup), _per(per))


def exponential(lr: float, factor: float = 0.95, *, warmup: int = 0, per: Per = "epoch") -> KnownSchedule:
    """Return the schedule lr · factor^t, t counting the epochs or updates since the warm-up.

    Parameters
    ----------
    lr, factor : float
        The first rate and what it is multiplied by, both > 0.
    warmup, per
        As of :func:`cosine`.

    Raises
    ------
    ValueError, TypeError
        If a setting is not as described.
    """
    lr, factor = number("lr", lr, above=0), number("factor", factor, above=0)
    return Exponential(lr, factor, natural("warmup", warmup), _per(per))


def one_cycle(
    lr: float,
    length: int,
    *,
    start: float | None = None,
    final: float | None = None,
    warmup: int | None = None,
    per: Per = "epoch",
) -> KnownSchedule:
    """Return the schedule that rises from ``start`` to lr along half a cosine, and falls to ``final`` along another.

    Parameters
    ----------
    lr : float
        The peak, > 0.
    length : int
        How many rates there are until ``final`` is the last of them: as many as the fit has epochs, or updates.
    start, final : float, optional
        The first rate, lr / 25 by default, and the last one, by default start / 10,000; both >= 0.
    warmup : int, optional
        How many rates come before the peak, by default about 30 % of the length.
    per : {"epoch", "step"}
        Whether there is a rate for each epoch, or for each update.

    Raises
    ------
    ValueError
        If a setting is out of its range, or the warm-up leaves no room for the fall.
    TypeError
        If a setting is of another type.

    Notes
    -----
    Source: L. N. Smith and N. Topin, Super-convergence: very fast training of neural networks using large learning
    rates, 2018; with two phases, half cosines and the defaults of PyTorch's OneCycleLR.
    """
    lr, length = number("lr", lr, above=0), positive_int("length", length)
    start = lr / 25 if start is None else number("start", start, least=0)
    final = start / 1e4 if final is None else number("final", final, least=0)
    warmup = 3 * length // 10 if warmup is None else natural("warmup", warmup)
    if warmup >= length - 1:
        raise ValueError(
            f"length is {length}, but {warmup} rates come before the peak and at least one after it: expected at least "
            f"{warmup + 2}"
        )
    return OneCycle(lr, length, start, final, warmup, _per(per))


def piecewise(
    rates: Sequence[float], boundaries: Sequence[int], *, warmup: int = 0, per: Per = "epoch"
) -> KnownSchedule:
    """Return the schedule that has rates[0] before boundaries[0], rates[1] from there on, and so on.

    Parameters
    ----------
    rates : sequence of float
        Numbers > 0.
    boundaries : sequence of int
        The epochs or updates at which each rate but the first begins, in rising order.
    warmup : int
        How many rates come before rates[0], which rise to it by equal steps; fewer than boundaries[0].
    per : {"epoch", "step"}
        Whether there is a rate for each epoch, or for each update.

    Raises
    ------
    ValueError
        If there is not one rate more than boundaries, these do not rise, or a setting is out of its range.
    TypeError
        If a setting is of another type.

    Examples
    --------
    >>> import fastnn as fnn
    >>> schedule = fnn.schedules.piecewise([0.1, 0.01], [3], warmup=1)
    >>> [schedule(epoch) for epoch in range(5)]
    [0.05, 0.1, 0.1, 0.01, 0.01]
    """
    values = tuple(number(f"rates[{i}]", rate, above=0) for i, rate in enumerate(_sequence("rates", rates)))
    places = tuple(positive_int(f"boundaries[{i}]", t) for i, t in enumerate(_sequence("boundaries", boundaries)))
    if len(values) != len(places) + 1:
        raise ValueError(
            f"there are {len(values)} rates and {len(places)} boundaries: expected one rate more than boundaries"
        )
    warmup = natural("warmup", warmup)
    for i, (earlier, later) in enumerate(zip((warmup, *places), places, strict=False)):
        if earlier >= later:
            what = f"boundaries[{i - 1}]" if i else "the warm-up"
            raise ValueError(f"boundaries[{i}] is {later}, but {what} is {earlier}: expected more")
    return Piecewise(values, places, warmup, _per(per))


def step_decay(lr: float, factor: float = 0.5, every: int = 10) -> KnownSchedule:
    """Return the schedule lr · factor^⌊epoch / every⌋, for lr > 0 and factor > 0."""
    lr, factor, every = number("lr", lr, above=0), number("factor", factor, above=0), positive_int("every", every)
    return StepDecay(lr, factor, every)


def exponential_decay(lr: float, factor: float = 0.95) -> KnownSchedule:
    """Return the schedule lr · factor^epoch, for lr > 0 and factor > 0."""
    return ExponentialDecay(number("lr", lr, above=0), number("factor", factor, above=0))


def cosine_decay(lr: float, epochs: int, final: float = 0.0) -> KnownSchedule:
    """Return the schedule that falls from lr > 0 to final >= 0 along half a cosine within ``epochs``, and stays there.

    Source: I. Loshchilov and F. Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017, equation 5.
    """
    lr, epochs, final = number("lr", lr, above=0), positive_int("epochs", epochs), number("final", final, least=0)
    return CosineDecay(lr, epochs, final)


def linear_warmup(schedule: float | Schedule, epochs: int) -> KnownSchedule:
    """Return a learning rate or a function of the epoch scaled by 1/n, 2/n, ..., 1 over the first n epochs."""
    epochs = positive_int("epochs", epochs)
    return LinearWarmup(schedule if callable(schedule) else number("schedule", schedule, above=0), epochs)


def _fall(lr: Any, final: Any, length: Any, warmup: Any) -> tuple[float, float, int, int]:
    """The checked settings of what falls within a length."""
    lr, final = number("lr", lr, above=0), number("final", final, least=0)
    length, warmup = positive_int("length", length), natural("warmup", warmup)
    if warmup >= length:
        raise ValueError(f"warmup is {warmup}, but length is {length}: expected fewer, since it counts in the length")
    return lr, final, length, warmup


def _per(per: Any) -> Per:
    if not isinstance(per, str) or per not in ("epoch", "step"):
        raise ValueError(f"per is {per!r}, expected 'epoch' or 'step'")
    return "epoch" if per == "epoch" else "step"


def _sequence(name: str, value: Any) -> list[Any]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} is {value!r}, expected a sequence of numbers")
    return list(value)
