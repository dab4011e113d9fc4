"""What all contenders train: a network, its data, its initial weights and the order of its samples."""

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Layers = list[tuple[NDArray, NDArray]]

CROSS_ENTROPY, SQUARED_ERROR = "cross_entropy", "squared_error"


@dataclass(frozen=True)
class Network:
    """Widths of the layers, ReLU between them, and one epoch of plain SGD over `steps` batches."""

    widths: tuple[int, ...]
    batch: int
    steps: int
    loss: str = CROSS_ENTROPY
    lr: float = 0.01

    @property
    def name(self) -> str:
        """The widths and the batch size."""
        return f"{'-'.join(map(str, self.widths))}, {self.batch}"

    @property
    def flops(self) -> int:
        """The operations of the products of a step: forward, weight gradients, and input gradients but the first."""
        products = [n_in * n_out for n_in, n_out in itertools.pairwise(self.widths)]
        return 2 * self.batch * (3 * sum(products) - products[0])


class Problem:
    """A network with data that it can learn, drawn from a seed.

    Labels and targets come from a random network of the same inputs, so the loss falls. The loss is
    mean(loss_i) + l2 Σ W², the penalty over weights and not over biases.
    """

    l2 = 1e-4
    seed = 3

    def __init__(self, network: Network, dtype: str, epochs: int = 1) -> None:
        self.network = network
        self.dtype = np.dtype(dtype)
        self.epochs = epochs

    @cached_property
    def x(self) -> NDArray:
        """The samples (m, n_in)."""
        m = self.network.batch * self.network.steps
        return np.random.default_rng(0).standard_normal((m, self.network.widths[0]), np.float32).astype(self.dtype)

    @cached_property
    def y(self) -> NDArray:
        """Labels (m,) int64 for cross-entropy, targets (m, n_out) for the squared error."""
        rng = np.random.default_rng(1)
        n_in, n_out = self.network.widths[0], self.network.widths[-1]
        teacher = rng.normal(0, n_in**-0.5, (n_in, n_out)).astype(self.dtype)
        outputs = np.tanh(self.x @ teacher)
        return outputs.argmax(axis=1) if self.network.loss == CROSS_ENTROPY else outputs

    @cached_property
    def _initial(self) -> Layers:
        rng = np.random.default_rng(2)
        pairs = itertools.pairwise(self.network.widths)
        return [
            (rng.normal(0, (2 / n_in) ** 0.5, (n_in, n_out)).astype(self.dtype), np.zeros(n_out, self.dtype))
            for n_in, n_out in pairs
        ]

    def layers(self) -> Layers:
        """Initial weights (n_in, n_out) and biases, to be changed at will."""
        return [(w.copy(), b.copy()) for w, b in self._initial]

    def generator(self) -> np.random.Generator:
        """Where the order of each epoch comes from, by `permutation`; fastnn takes the same from the seed."""
        return np.random.default_rng(self.seed)

    def objective(self, layers: Layers) -> float:
        """The loss of all samples with the penalty, in float64 and in plain NumPy, whoever trained the weights."""
        total, block = 0.0, 2048
        layers = [(np.asarray(w, np.float64), np.asarray(b, np.float64)) for w, b in layers]
        for start in range(0, len(self.x), block):
            a = self.x[start : start + block].astype(np.float64)
            y = self.y[start : start + block]
            for w, b in layers[:-1]:
                a = np.maximum(a @ w + b, 0)
            s = a @ layers[-1][0] + layers[-1][1]
            if self.network.loss == CROSS_ENTROPY:
                highest = s.max(axis=1)
                total += (np.log(np.exp(s - highest[:, None]).sum(axis=1)) + highest - s[np.arange(len(s)), y]).sum()
            else:
                total += np.square(s - y).sum()
        return float(total / len(self.x) + self.l2 * sum(np.square(w).sum() for w, _ in layers))
