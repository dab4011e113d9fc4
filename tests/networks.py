"""Networks, batches and rules built from the table of cases, and a network evaluated without fastnn."""

import numpy as np
from scipy import special

from fastnn.lowering import Batches, Network, Objective, Rule

ACTIVATIONS = ("identity", "relu", "leaky_relu", "tanh", "sigmoid")
RULES = {"sgd": 0, "momentum": 1, "nesterov": 2, "adam": 3}
SLOTS = {"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2}


def build(case, rng, dtype):
    """The network and the parameters of a case (input width, layers), see tests.cases.NETWORKS."""
    width, layers = case
    ops, slopes, values, at = [], [], [], 0
    for layer in layers:
        if isinstance(layer, int) or isinstance(layer[1], bool):
            n_out, has_bias = (layer, True) if isinstance(layer, int) else layer
            shapes = [(width, n_out), (n_out,)][: 1 + has_bias]
            offsets = []
            for shape in shapes:
                size = int(np.prod(shape))
                values.append((at, rng.normal(size=size) / np.sqrt(width)))
                offsets.append(at)
                at += -(-size // 16) * 16
            ops.append([0, width, n_out, *offsets, *[-1] * (not has_bias), 0])
            slopes.append(0.0)
            width = n_out
            continue
        name, slope = (layer, 0.0) if isinstance(layer, str) else layer
        if name == "dropout":
            ops.append([2, width, width, -1, -1, 0])
            slopes.append(slope)
            continue
        if not ops or ops[-1][0] != 0 or ops[-1][5] != 0:
            ops.append([1, width, width, -1, -1, 0])
            slopes.append(0.0)
        ops[-1][5] = ACTIVATIONS.index(name)
        slopes[-1] = slope
    params = np.zeros(at, dtype)
    for offset, value in values:
        params[offset : offset + value.size] = value
    return Network(np.array(ops, np.int64), np.array(slopes), 2**62 + 17), params


def batches(x, y, batch_size, sample_weight=None, order=None):
    order = np.arange(len(x), dtype=np.int64) if order is None else np.asarray(order, np.int64)
    return Batches(x, y, sample_weight, order, batch_size)


def objective(loss, l2=0.0):
    return Objective(["cross_entropy", "squared_error"].index(loss), l2)


def rule(name, params, lr=0.1, step=0):
    """The rule of that name with slots of zeros; eps is large, so that no gradient of almost 0 makes a full step."""
    momentum, slots = (0.0, 0.9)[name != "sgd"], np.zeros((SLOTS[name], len(params)), params.dtype)
    return Rule(RULES[name], lr, momentum, 0.999, 1e-3, slots, step)


def problem(case, samples, targets, rng, dtype):
    """x of the input width and y: labels, or targets whose rows sum to 1, or values."""
    width, layers = case
    widths = [layer if isinstance(layer, int) else layer[0] for layer in layers if not isinstance(layer, str)]
    k = [width, *(w for w in widths if not isinstance(w, str))][-1]
    x = rng.normal(size=(samples, width)).astype(dtype)
    if targets == "labels":
        return x, rng.integers(0, k, samples)
    values = rng.dirichlet(np.ones(k), samples) if targets == "soft" else rng.normal(size=(samples, k))
    return x, values.astype(dtype)


def evaluate(network, params, x):
    """The network's output in float64, by NumPy and SciPy alone."""
    x, params = x.astype(np.float64), params.astype(np.float64)
    for (kind, d, k, w_at, b_at, activation), slope in zip(network.ops, network.slopes, strict=True):
        if kind == 0:
            x = x @ params[w_at : w_at + d * k].reshape(d, k)
            x = x + params[b_at : b_at + k] if b_at >= 0 else x
        x = [x, np.maximum(x, 0), np.where(x > 0, x, slope * x), np.tanh(x), special.expit(x)][activation]
    return x


def penalised_loss(network, params, x, y, targets, sample_weight=None, l2=0.0):
    """Mean loss plus l2 Σ w² in float64, by NumPy and SciPy alone."""
    out = evaluate(network, params, x)
    if targets == "labels":
        losses = -special.log_softmax(out, axis=1)[np.arange(len(y)), y]
    elif targets == "soft":
        losses = -np.sum(y * special.log_softmax(out, axis=1), axis=1)
    else:
        losses = np.sum((out - y) ** 2, axis=1)
    weights = [params[w : w + d * k].astype(np.float64) for kind, d, k, w, _, _ in network.ops if kind == 0]
    return np.average(losses, weights=sample_weight) + l2 * sum(np.sum(w**2) for w in weights)
