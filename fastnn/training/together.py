"""Epochs of many networks at once: what each asks for, and what came of it.

A network in training asks for its next epochs by a :class:`Request`. :func:`train` answers many requests together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..backend import active
from ..nn.lowering import Batches, Network, Objective, OptimizerSpec
from ..validation import Array


class Request(NamedTuple):
    """Some epochs of one network: what ``train_epoch`` takes, with the batches and the rule of each epoch."""

    network: Network
    params: Array
    batches: tuple[Batches, ...]
    objective: Objective
    rules: tuple[OptimizerSpec, ...]


@dataclass
class Outcome:
    """The losses of the epochs that were trained, and of the last of them the batch that failed, or -1.

    ``error`` is what was raised instead, after which parameters and state are not defined.
    """

    losses: list[float] = field(default_factory=list)
    failed: int = -1
    error: BaseException | None = None


def train(requests: Sequence[Request]) -> list[Outcome]:
    """Train every network for the epochs that it asks for; one that fails takes no other with it."""
    return [_alone(request) for request in requests]


def _alone(request: Request) -> Outcome:
    outcome = Outcome()
    network, params, _, objective, _ = request
    for batches, rule in zip(request.batches, request.rules, strict=True):
        try:
            loss, outcome.failed = active().train_epoch(network, params, batches, objective, rule)
        except Exception as error:
            outcome.error = error
            break
        outcome.losses.append(float(loss))
        if outcome.failed >= 0:
            break
    return outcome
