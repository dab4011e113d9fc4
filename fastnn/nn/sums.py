"""Gradients that are summed over some batches, for layers that run one by one."""

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..validation import Array

if TYPE_CHECKING:
    from .stack import Stack


class Moves(NamedTuple):
    """What an update takes: the gradient of the flat buffer, those of a user's own layers, and the parts to move."""

    gradient: Array
    user: list[Array]
    moves: list[tuple[slice, float]]


class Sums:
    """The gradients of a stack after a backward pass, to which those of more passes are added.

    Attributes
    ----------
    gradient : that of the flat buffer
    user : those of the parameters of a user's own layers
    moves : the parts of the flat buffer that one of the passes has a gradient for, as of ``Stack.moves``
    """

    def __init__(self, stack: "Stack") -> None:
        assert stack.gradient is not None, "a backward pass came before"
        self.gradient = stack.gradient.copy()
        self.user = [gradient.copy() for gradient in stack.user_gradients()]
        self.moves = stack.moves()

    def plus(self, stack: "Stack") -> "Sums":
        """Add those of the last pass."""
        assert stack.gradient is not None, "a backward pass came before"
        self.gradient += stack.gradient
        for total, gradient in zip(self.user, stack.user_gradients(), strict=True):
            total += gradient
        self.moves = _united(self.moves, stack.moves(), self.gradient)
        return self


def _united(
    moves: list[tuple[slice, float]], others: list[tuple[slice, float]], gradient: Array
) -> list[tuple[slice, float]]:
    """What is part of one of the lists, in pieces of one factor."""
    if moves == others:
        return moves
    rates = np.full(gradient.size, -1.0)
    for part, rate in [*moves, *others]:
        rates[part] = rate
    bounds = [0, *(np.flatnonzero(np.diff(rates)) + 1).tolist(), len(rates)]
    pieces = [slice(*pair) for pair in pairwise(bounds)]
    return [(piece, float(rates[piece.start])) for piece in pieces if rates[piece.start] >= 0]
