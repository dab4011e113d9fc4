"""Epochs of many networks at once: what each asks for, and what came of it.

A network in training asks for its next epochs by a :class:`Request`. :func:`train` answers many requests together:
those of networks that are alike side by side, a network in each lane of a vector, the others alone, one to a thread.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..backend import active, share_out
from ..nn.lowering import Batches, Network, Objective, OptimizerSpec
from ..validation import Array


class Request(NamedTuple):
    """Some epochs of one network: what ``train_epoch`` takes, with the batches and the rule of each epoch.

    ``draw`` is called before any of them, by the thread that trains it: it writes the orders of the batches.
    """

    network: Network
    params: Array
    batches: tuple[Batches, ...]
    objective: Objective
    rules: tuple[OptimizerSpec, ...]
    draw: Callable[[], None] = lambda: None

    @property
    def updates(self) -> int:
        """How many updates it asks for."""
        return sum(-(-len(batches.order) // batches.batch_size) for batches in self.batches)


@dataclass
class Outcome:
    """The losses of the epochs that were trained, and of the last of them the batch that failed, or -1.

    ``error`` is what was raised instead, after which parameters and state are not defined.
    """

    losses: list[float] = field(default_factory=list)
    failed: int = -1
    error: BaseException | None = None


def train(requests: Sequence[Request]) -> list[Outcome]:
    """Train every network for the epochs that it asks for; one that fails takes no other with it.

    The bits of each are those of ``train_epoch``, whatever trains beside it and on however many threads.
    """
    backend = active()
    outcomes = [Outcome() for _ in requests]
    units = _units(backend, requests)
    if len(units) == 1:
        _train_unit(backend, requests, outcomes, *units[0])
    else:
        share_out([functools.partial(_train_unit, backend, requests, outcomes, *unit) for unit in units])
    return outcomes


def _units(backend: Any, requests: Sequence[Request]) -> list[tuple[list[int], bool]]:
    """The places of requests that one thread answers, the longest first, and whether they train side by side."""
    groups: dict[Any, list[int]] = {}
    for i, request in enumerate(requests):
        key = backend.lane_key(request)
        groups.setdefault((key, i if key is None else None), []).append(i)
    units: list[tuple[list[int], bool]] = []
    for (key, _), members in groups.items():
        most = backend.count_lanes(requests[members[0]].params.dtype)
        members.sort(key=lambda i: -requests[i].updates)
        for start in range(0, len(members), most):
            unit = members[start : start + most]
            pays = key is not None and _pay(backend, requests[unit[0]], len(unit))
            units += [(unit, True)] if pays else [([i], False) for i in unit]
    return units


def _pay(backend: Any, request: Request, count: int) -> bool:
    """Whether so many networks like this one train faster side by side."""
    batches = request.batches[0]
    passes = 3 * min(batches.batch_size, len(batches.order))
    pays: bool = backend.lanes_pay(request.network, request.params.dtype, passes, count)
    return pays


def _train_unit(
    backend: Any, requests: Sequence[Request], outcomes: list[Outcome], unit: list[int], in_lanes: bool
) -> None:
    for i in unit:
        try:
            requests[i].draw()
        except Exception as error:
            outcomes[i].error = error
    alone = unit = [i for i in unit if outcomes[i].error is None]
    if in_lanes and unit:
        alone = _train_side_by_side(backend, requests, outcomes, unit)
    for i in alone:
        _train_alone(backend, requests[i], outcomes[i])


def _train_side_by_side(
    backend: Any, requests: Sequence[Request], outcomes: list[Outcome], unit: list[int]
) -> list[int]:
    """Train some networks in lanes, and return the places of those that have to train alone.

    These have met a loss that is not finite, or there was no memory: they are as before.
    """
    try:
        results = backend.train_lanes([requests[i] for i in unit])
    except MemoryError:
        return unit
    try:
        trained = list(results)
    except MemoryError as error:  # they are not as before
        for i in unit:
            outcomes[i].error = error
        return []
    for i, (losses, went_well) in zip(unit, trained, strict=True):
        if went_well:
            outcomes[i].losses = losses
    return [i for i, (_, went_well) in zip(unit, trained, strict=True) if not went_well]


def _train_alone(backend: Any, request: Request, outcome: Outcome) -> None:
    network, params, _, objective, *_ = request
    kept: dict[Any, Any] = {}
    for batches, rule in zip(request.batches, request.rules, strict=True):
        try:
            loss, outcome.failed = backend.train_epoch(network, params, batches, objective, rule, None, kept)
        except Exception as error:
            outcome.error = error
            return
        outcome.losses.append(float(loss))
        if outcome.failed >= 0:
            return
