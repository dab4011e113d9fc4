"""What all contenders train: a network, its data, its initial weights and the order of its samples."""

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from comparison.rules import SGD

Layers = list[tuple[NDArray, NDArray]]

CROSS_ENTROPY, SQUARED_ERROR = "cross_entropy", "squared_error"


@dataclass(frozen=True)
class Network:
    """Widths of the layers, ReLU between them, an update rule, and the batches of an epoch."""

    widths: tuple[int, ...]
    batch: int
    steps: int
    loss: str = CROSS_ENTROPY
    lr: float = 0.01
    rule: str = SGD

    @property
    def name(self) -> str:
        """The widths and the batch size."""
        return f"{'-'.join(map(str, self.widths))}, {self.batch}"

    @property
    def flops(self) -> int:
        """The operations of the products of a step: forward, weight gradients, and input gradients but the first."""
        products = [n_in * n_out for n_in, n_out in itertools.pairwise(self.widths)]
        return 2 * self.batch * (3 * sum(products) - products[0])


@dataclass(frozen=True)
class Problem:
    """A network and its data. The loss is mean(loss_i) + l2 Σ W², the penalty over weights and not over biases.

    x are the samples (m, n_in); y labels (m,) int64 for cross-entropy, targets (m, n_out) for the squared error.
    """

    network: Network
    x: NDArray
    y: NDArray
    epochs: int = 1
    l2: float = 1e-4
    seed: int = 3

    @property
    def dtype(self) -> np.dtype:
        """Of everything but labels."""
        return self.x.dtype

    @cached_property
    def _initial(self) -> Layers:
        return initial_layers(self.network.widths, self.dtype)

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


def learnable(network: Network, dtype: str, epochs: int = 1) -> Problem:
    """A problem whose labels or targets come from random weights of the same inputs, so that the loss falls."""
    rng = np.random.default_rng(0)
    n_in, n_out = network.widths[0], network.widths[-1]
    x = rng.standard_normal((network.batch * network.steps, n_in), np.float32).astype(dtype)
    outputs = np.tanh(x @ rng.normal(0, n_in**-0.5, (n_in, n_out)).astype(dtype))
    return Problem(network, x, outputs.argmax(axis=1) if network.loss == CROSS_ENTROPY else outputs, epochs)


def random_labels(network: Network, dtype: str) -> Problem:
    """A problem that nobody can learn: at a high learning rate units of the network die over it."""
    x, y, _ = _noise(network)
    return Problem(network, (1 + x).astype(dtype), y, l2=0)


def separable(network: Network, dtype: str) -> Problem:
    """Classes far from each other, of which a network is soon sure: its probabilities become 0 and 1."""
    x, y, rng = _noise(network)
    centres = rng.standard_normal((network.widths[-1], network.widths[0]), np.float32)
    return Problem(network, (1 + 5 * centres[y] + x / 2).astype(dtype), y, l2=0)


def _noise(network: Network) -> tuple[NDArray, NDArray, np.random.Generator]:
    """Normal samples, labels that have nothing to do with them, and the generator that they came from."""
    rng = np.random.default_rng(0)
    m = network.batch * network.steps
    x = rng.standard_normal((m, network.widths[0]), np.float32)
    return x, rng.integers(0, network.widths[-1], m), rng


def flattened(layers: Layers) -> tuple[NDArray, Layers]:
    """All weights and then all biases in one new array, and the layers as views of it."""
    parts = [w for w, _ in layers] + [b for _, b in layers]
    flat = np.concatenate([part.ravel() for part in parts])
    pieces = np.split(flat, np.cumsum([part.size for part in parts])[:-1])
    views = [piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True)]
    return flat, list(zip(views[: len(layers)], views[len(layers) :], strict=True))


def initial_layers(widths: tuple[int, ...], dtype: np.dtype) -> Layers:
    """Weights (n_in, n_out) as He et al. draw them, and biases of zero."""
    rng = np.random.default_rng(2)
    return [
        (rng.normal(0, (2 / n_in) ** 0.5, (n_in, n_out)).astype(dtype), np.zeros(n_out, dtype))
        for n_in, n_out in itertools.pairwise(widths)
    ]
