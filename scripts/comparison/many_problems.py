"""What all contenders train at once: networks of the same widths, each with its own weights, order and settings."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from comparison.problems import Layers, Network, Problem, initial_layers, learnable

# The learning rates of the networks reach from half of the given one to twice of it, the penalties over two decades.
RATES, PENALTIES = (0.5, 2.0), (1e-5, 1e-3)


@dataclass(frozen=True)
class Many:
    """So many networks and their data, which all have in common."""

    network: Network
    x: NDArray
    y: NDArray
    count: int
    epochs: int = 1

    @property
    def dtype(self) -> np.dtype:
        """Of everything but labels."""
        return self.x.dtype

    @cached_property
    def rates(self) -> NDArray:
        """The learning rate of each."""
        return (self.network.lr * np.geomspace(*RATES, self.count)).astype(self.dtype)

    @cached_property
    def penalties(self) -> NDArray:
        """The factor of the penalty of each."""
        return np.geomspace(*PENALTIES, self.count)[::-1].astype(self.dtype)

    def seed(self, k: int) -> int:
        """Where the order of the samples of a network comes from."""
        return 100 + k

    def layers(self, k: int) -> Layers:
        """The initial parameters of a network, to be changed at will."""
        return [(w[k].copy(), b[k].copy()) for w, b in self._initial]

    def stacked(self) -> Layers:
        """Those of all, the networks along the first axis."""
        return self._initial

    @cached_property
    def _initial(self) -> Layers:
        each = [initial_layers(self.network.widths, self.dtype, seed=k) for k in range(self.count)]
        return [tuple(map(np.stack, zip(*layer, strict=True))) for layer in zip(*each, strict=True)]

    def objective(self, k: int, layers: Layers) -> float:
        """The loss of all samples with the penalty of a network, in float64, whoever trained the weights."""
        return Problem(self.network, self.x, self.y, l2=float(self.penalties[k])).objective(layers)


def many(network: Network, dtype: str, count: int, epochs: int = 1) -> Many:
    """Networks on a problem whose loss falls."""
    problem = learnable(network, dtype)
    return Many(network, problem.x, problem.y, count, epochs)
