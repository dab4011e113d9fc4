"""Networks, batches and rules built from the table of cases, and a network evaluated without fastnn."""

import numpy as np
from scipy import special

from fastnn.codes import FROZEN, KEEPS, KEEPS_X, KEEPS_Y, KIND, LINEAR, OPERATION, SPAN, TAKES_KEY
from fastnn.nn.lowering import (
    Batches,
    Network,
    Objective,
    OptimizerSpec,
)
from tests.activations import ACTIVATIONS

# Each as a layer of a case.
ACTIVATION_LAYERS = [
    (name, *activation.settings) if activation.settings else name for name, activation in ACTIVATIONS.items()
]
SETTINGS = {
    "sgd": (),
    "momentum": (0.9,),
    "nesterov": (0.9,),
    "adam": (0.9, 0.999, 1e-3),
    "adamw": (0.9, 0.999, 1e-3, 0.3),
    "rmsprop": (0.9, 1e-3),
    "rmsprop_momentum": (0.9, 1e-3, 0.5),
}
RULES = tuple(SETTINGS)
# Those whose steps do not grow with the gradient.
SCALED = ("adam", "rmsprop", "rmsprop_momentum")
SLOTS = {"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2, "adamw": 2, "rmsprop": 1, "rmsprop_momentum": 2}


def build(case, rng, dtype):
    """The network and the parameters of a case (input width, layers), see tests.cases.NETWORKS."""
    width, layers = case
    ops, settings, names, values, at = [], [], [], [], 0
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
            ops.append([LINEAR, width, n_out, *offsets, *[-1] * (not has_bias), 0, 0, -1, 0, 0, 0, 0, 0])
            names.append("")
            width = n_out
            continue
        name, *numbers = (layer,) if isinstance(layer, str) else layer
        slope = {"relu": 0.0, "leaky_relu": numbers[0] if numbers else None}.get(name)
        if slope is not None and ops and ops[-1][0] == LINEAR and ops[-1][7] < 0:
            ops[-1][7] = len(settings)
            settings.append(slope)
            continue
        keeps = TAKES_KEY if name == "dropout" else {"x": KEEPS_X, "y": KEEPS_Y}[ACTIVATIONS[name].keeps]
        ops.append([OPERATION, width, width, 0, -1, len(settings), len(numbers), -1, keeps, 0, 0, 0, 0])
        settings += numbers
        names.append(name)
    params = np.zeros(at, dtype)
    for offset, value in values:
        params[offset : offset + value.size] = value
    members = tuple((i,) for i in range(len(ops)))
    spans = np.zeros((0, SPAN), np.int64)
    settings = np.array([*settings, 0.0])
    return Network(np.array(ops, np.int64), spans, settings, tuple(names), members, 2**62 + 17), params


def frozen(network, *places):
    """The network with some of its linear ops frozen, by their places among them."""
    ops = network.ops.copy()
    ops[np.flatnonzero(ops[:, KIND] == LINEAR)[[*places]], KEEPS] |= FROZEN
    return network._replace(ops=ops)


def scaled(network):
    """The network with a learning rate of its own for each op, of which one does not move at all."""
    return network._replace(scales=np.resize([0.5, 2.0, 0.0, 1.0], len(network.ops)))


def for_inference(network):
    """The network without its dropouts."""
    kept = [i for i, name in enumerate(network.names) if name != "dropout"]
    names, layers = (tuple(values[i] for i in kept) for values in (network.names, network.layers))
    return network._replace(ops=np.ascontiguousarray(network.ops[kept]), names=names, layers=layers)


def batches(x, y, batch_size, sample_weight=None, order=None):
    order = np.arange(len(x), dtype=np.int64) if order is None else np.asarray(order, np.int64)
    return Batches(x, y, sample_weight, order, batch_size)


def objective(loss, l2=0.0):
    return Objective(loss, l2)


def rule(name, params, lr=0.1, step=0):
    """The rule of that name with slots of zeros; eps is large, so that no gradient of almost 0 makes a full step."""
    return OptimizerSpec(name, (lr, *SETTINGS[name]), np.zeros((SLOTS[name], len(params)), params.dtype), step)


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
    for (kind, d, k, w_at, b_at, at, n, slope_at, *_), name in zip(network.ops, network.names, strict=True):
        if kind == LINEAR:
            x = x @ params[w_at : w_at + d * k].reshape(d, k)
            x = x + params[b_at : b_at + k] if b_at >= 0 else x
        if slope_at >= 0:
            x = ACTIVATIONS["leaky_relu"].value(x, network.settings[slope_at])
        elif name:
            x = ACTIVATIONS[name].value(x, *network.settings[at : at + n])
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
    weights = [params[w : w + d * k].astype(np.float64) for kind, d, k, w, *_ in network.ops if kind == LINEAR]
    return np.average(losses, weights=sample_weight) + l2 * sum(np.sum(w**2) for w in weights)
