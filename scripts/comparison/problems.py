"""What all contenders train: a network, its data, its initial weights and the order of its samples."""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from comparison.rules import SGD

# Weights (n_in, n_out) and bias of each; of a normalised one also what its units are multiplied by and what is added.
Layers = list[tuple[NDArray, ...]]

CROSS_ENTROPY, SQUARED_ERROR, HUBER, BINARY = "cross_entropy", "squared_error", "huber", "binary_cross_entropy"
RELU, GELU, GELU_TANH, SILU = "relu", "gelu", "gelu_tanh", "silu"
LAYER_NORM, BATCH_NORM = "LayerNorm", "BatchNorm"
# Where Huber's loss becomes a line, and what a normalisation adds to the variance.
DELTA, NORM_EPS = 1.0, 1e-5
# What the name of a network says of it.
WORDS = {
    HUBER: "Huber",
    BINARY: "BinaryCrossEntropy",
    GELU: "GELU",
    GELU_TANH: "GELU by tanh",
    SILU: "SiLU",
}


@dataclass(frozen=True)
class Network:
    """Widths of the layers, an activation between them, an update rule, and the batches of an epoch.

    A normalised network has that normalisation before every activation. A residual one has a way around each hidden
    layer, activation included, that has as many units as the one before it.
    """

    widths: tuple[int, ...]
    batch: int
    steps: int
    loss: str = CROSS_ENTROPY
    lr: float = 0.01
    rule: str = SGD
    activation: str = RELU
    normalised: str = ""
    residual: bool = False

    @property
    def name(self) -> str:
        """The widths and the batch size, and what it has that is worth a word."""
        words = [self.normalised] if self.normalised else []
        words += ["Residual"] * self.residual + [WORDS[each] for each in (self.activation, self.loss) if each in WORDS]
        return ", ".join(["-".join(map(str, self.widths)), str(self.batch), *words])

    @property
    def flops(self) -> int:
        """The operations of the products of a step: forward, weight gradients, and input gradients but the first."""
        products = [n_in * n_out for n_in, n_out in itertools.pairwise(self.widths)]
        return 2 * self.batch * (3 * sum(products) - products[0])


@dataclass(frozen=True)
class Problem:
    """A network and its data. The loss is mean(loss_i) + l2 Σ W², the penalty over weights and not over biases.

    x are the samples (m, n_in); y labels (m,) int64 for cross-entropy, else targets (m, n_out).
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
        return initial_layers(self.network.widths, self.dtype, bool(self.network.normalised))

    def layers(self) -> Layers:
        """Initial parameters, to be changed at will."""
        return [tuple(parameter.copy() for parameter in layer) for layer in self._initial]

    def generator(self) -> np.random.Generator:
        """Where the order of each epoch comes from, by `permutation`; fastnn takes the same from the seed."""
        return np.random.default_rng(self.seed)

    def objective(self, layers: Layers) -> float:
        """The loss of all samples with the penalty, in float64 and in plain NumPy, whoever trained the weights."""
        total, block = 0.0, len(self.x) if self.network.normalised == BATCH_NORM else 2048
        layers = [tuple(np.asarray(parameter, np.float64) for parameter in layer) for layer in layers]
        for start in range(0, len(self.x), block):
            a = self.x[start : start + block].astype(np.float64)
            y = self.y[start : start + block]
            for w, b, *norm in layers[:-1]:
                hidden = activate(self.network.activation, normalise(a @ w + b, self.network.normalised, *norm))
                a = a + hidden if self.network.residual and a.shape == hidden.shape else hidden
            s = a @ layers[-1][0] + layers[-1][1]
            if self.network.loss == CROSS_ENTROPY:
                highest = s.max(axis=1)
                total += (np.log(np.exp(s - highest[:, None]).sum(axis=1)) + highest - s[np.arange(len(s)), y]).sum()
            elif self.network.loss == BINARY:
                total += (np.maximum(s, 0) - s * y + np.log1p(np.exp(-np.abs(s)))).sum()
            elif self.network.loss == HUBER:
                r = np.abs(s - y)
                total += np.where(r <= DELTA, r * r / 2, DELTA * (r - DELTA / 2)).sum()
            else:
                total += np.square(s - y).sum()
        return float(total / len(self.x) + self.l2 * sum(np.square(w).sum() for w, *_ in layers))


def normalise(s: NDArray, kind: str, scale: NDArray | None = None, shift: NDArray | None = None) -> NDArray:
    """Each row or column less its mean over its standard deviation, scaled and shifted; or s as it is."""
    if scale is None:
        return s
    axis = 0 if kind == BATCH_NORM else 1
    centred = s - s.mean(axis=axis, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(axis=axis, keepdims=True) + NORM_EPS) * scale + shift


def activate(activation: str, s: NDArray) -> NDArray:
    """The activation of s, in float64."""
    if activation == GELU:
        return s * (1 + erf(s / 2**0.5).astype(np.float64)) / 2
    if activation == GELU_TANH:
        return s * (1 + np.tanh((2 / math.pi) ** 0.5 * (s + 0.044715 * s**3))) / 2
    if activation == SILU:
        return s / (1 + np.exp(-s))
    return np.maximum(s, 0)


erf = np.frompyfunc(math.erf, 1, 1)


def learnable(network: Network, dtype: str, epochs: int = 1) -> Problem:
    """A problem whose labels or targets come from random weights of the same inputs, so that the loss falls."""
    rng = np.random.default_rng(0)
    n_in, n_out = network.widths[0], network.widths[-1]
    x = rng.standard_normal((network.batch * network.steps, n_in), np.float32).astype(dtype)
    outputs = np.tanh(x @ rng.normal(0, n_in**-0.5, (n_in, n_out)).astype(dtype))
    y = outputs.argmax(axis=1) if network.loss == CROSS_ENTROPY else outputs
    return Problem(network, x, (outputs > 0).astype(dtype) if network.loss == BINARY else y, epochs)


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
    """All weights and then all else in one new array, and the layers as views of it."""
    parts = [w for w, *_ in layers] + [part for _, *rest in layers for part in rest]
    flat = np.concatenate([part.ravel() for part in parts])
    pieces = np.split(flat, np.cumsum([part.size for part in parts])[:-1])
    views = [piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True)]
    rest = iter(views[len(layers) :])
    return flat, [(w, *itertools.islice(rest, len(layer) - 1)) for w, layer in zip(views, layers, strict=False)]


def initial_layers(widths: tuple[int, ...], dtype: np.dtype, normalised: bool = False, seed: int = 2) -> Layers:
    """Weights (n_in, n_out) as He et al. draw them, biases of zero, and normalisations that scale and shift nothing."""
    rng, last = np.random.default_rng(seed), len(widths) - 2
    return [
        (
            rng.normal(0, (2 / n_in) ** 0.5, (n_in, n_out)).astype(dtype),
            np.zeros(n_out, dtype),
            *((np.ones(n_out, dtype), np.zeros(n_out, dtype)) if normalised and i < last else ()),
        )
        for i, (n_in, n_out) in enumerate(itertools.pairwise(widths))
    ]
