"""One training epoch and one forward pass over a network that is data.

``network.ops`` (n, 6) holds one row an op: kind, inputs, outputs, weight offset, bias offset (-1: none), activation;
``network.slopes`` (n,) the slope of a leaky ReLU. Offsets point into the flat parameter buffer.
Kinds: 0 linear followed by its activation, 1 activation alone.
Activations: 0 identity, 1 ReLU, 2 leaky ReLU, 3 tanh, 4 sigmoid. Losses: 0 cross-entropy, 1 squared error.
Rules: 0 SGD, 1 momentum, 2 Nesterov, 3 Adam.
"""

import numpy as np

from . import activations, losses, updates
from .matmul import linear, linear_backward

ACTIVATIONS = [
    (activations.identity, activations.identity_backward),
    (activations.relu, activations.relu_backward),
    (activations.leaky_relu, activations.leaky_relu_backward),
    (activations.tanh, activations.tanh_backward),
    (activations.sigmoid, activations.sigmoid_backward),
]
LEAKY_RELU = 2
LOSSES = [losses.cross_entropy_backward, losses.squared_error_backward]


@np.errstate(all="ignore")
def forward(network, params, x, out):
    """out (m, outputs of the last op) = the network's output for x (m, inputs of the first op), any strides."""
    np.copyto(out, _activations(network, params, x.astype(params.dtype, copy=False))[-1])


@np.errstate(all="ignore")
def train_epoch(network, params, batches, objective, rule):
    """Train on every batch in turn: forward, loss, backward, update in place.

    Parameters
    ----------
    network : ops and slopes, see above
    params : (n_params,) the flat parameter buffer, updated in place
    batches : x (n, inputs) any strides, y (n,) labels or (n, outputs) targets, sample_weight (n,) or None,
        order (m,) int64, the samples in the order of training, and batch_size; the last batch may be smaller
    objective : loss (a code) and l2
    rule : kind (a code), lr, momentum, beta2, eps, slots (s, n_params) updated in place, and step, the number of
        updates made before this epoch. momentum is Adam's beta1 as well

    Returns
    -------
    loss : float
        The mean over the epoch of batch loss + l2 Σ w², each at the weights it was computed with; a batch counts by
        its size, or by the sum of its weights.
    failed : int
        The first batch whose loss is not finite, at which training stopped before its update, or -1.
    """
    starts = range(0, len(batches.order), batches.batch_size)
    total = weights = 0.0
    for number, start in enumerate(starts):
        rows = batches.order[start : start + batches.batch_size]
        x = batches.x[rows].astype(params.dtype, copy=False)
        sample_weight = None if batches.sample_weight is None else batches.sample_weight[rows]
        ys = _activations(network, params, x)
        d = np.empty_like(ys[-1])
        loss = LOSSES[objective.loss](ys[-1], batches.y[rows], sample_weight, d)
        loss += objective.l2 * _sum_of_squares(network, params)
        share = len(rows) if sample_weight is None else float(sample_weight.sum(dtype=np.float64))
        total, weights = total + share * loss, weights + share
        if not np.isfinite(loss):
            return _mean(total, weights), number
        _update(params, _gradient(network, params, ys, d, objective.l2), rule, rule.step + number + 1)
    return _mean(total, weights), -1


def _activations(network, params, x):
    """The input and the output of every op."""
    ys = [x]
    for op, slope in zip(network.ops, network.slopes, strict=True):
        kind, _, n_out, _, _, activation = op
        x = ys[-1]
        y = np.empty((len(x), n_out), params.dtype)
        if kind == 0:
            linear(x, *_views(op, params), y)
        else:
            np.copyto(y, x)
        ACTIVATIONS[activation][0](y, *_slope(activation, slope), y)
        ys.append(y)
    return ys


def _gradient(network, params, ys, d, l2):
    """The gradient as a flat buffer like params, from the gradient d of the last op's output."""
    gradient = np.zeros_like(params)
    for op, slope, x, y in reversed(list(zip(network.ops, network.slopes, ys[:-1], ys[1:], strict=True))):
        kind, n_in, n_out, w_at, b_at, activation = op
        ACTIVATIONS[activation][1](d, y, *_slope(activation, slope), d)
        if kind == 0:
            w, _ = _views(op, params)
            dx = np.empty_like(x) if x is not ys[0] else None
            dw, db = np.empty_like(w), np.empty(n_out, params.dtype)
            linear_backward(d, x, w, l2, dx, dw, db)
            gradient[w_at : w_at + n_in * n_out] = dw.ravel()
            if b_at >= 0:
                gradient[b_at : b_at + n_out] = db
            d = dx
    return gradient


def _update(params, gradient, rule, t):
    if rule.kind == 0:
        updates.sgd_update(params, gradient, rule.lr)
    elif rule.kind == 1:
        updates.momentum_update(params, gradient, rule.slots[0], rule.lr, rule.momentum)
    elif rule.kind == 2:
        updates.nesterov_update(params, gradient, rule.slots[0], rule.lr, rule.momentum)
    else:
        updates.adam_update(params, gradient, *rule.slots, rule.lr, rule.momentum, rule.beta2, rule.eps, t)


def _views(op, params):
    """The weight (d, k) and the bias (k,) of a linear op as views; a missing bias is zeros."""
    _, n_in, n_out, w_at, b_at, _ = op
    bias = params[b_at : b_at + n_out] if b_at >= 0 else np.zeros(n_out, params.dtype)
    return params[w_at : w_at + n_in * n_out].reshape(n_in, n_out), bias


def _slope(activation, slope):
    """The one argument that only the leaky ReLU has."""
    return (slope,) if activation == LEAKY_RELU else ()


def _mean(total, weights):
    return float(total / weights) if weights != 0 else 0.0


def _sum_of_squares(network, params):
    """Σ w² over all weights, biases left out."""
    return sum(float(np.square(_views(op, params)[0], dtype=np.float64).sum()) for op in network.ops if op[0] == 0)
