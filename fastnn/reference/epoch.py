"""One training epoch over a network that is data.

``network.ops`` (n, 6) holds one row an op: kind, inputs, outputs, weight offset, bias offset (-1: none), activation;
``network.slopes`` (n,) the slope of a leaky ReLU or the rate of a dropout, whose masks follow from ``network.seed``.
Offsets point into the flat parameter buffer.
Kinds: 0 linear followed by its activation, 1 activation alone, 2 dropout.
Activations: 0 identity, 1 ReLU, 2 leaky ReLU, 3 tanh, 4 sigmoid.
Losses: 0 cross-entropy, 1 squared error, 2 binary cross-entropy, 3 Poisson.
Rules: 0 SGD, 1 momentum, 2 Nesterov, 3 Adam, 4 Adam whose eps has no bias correction, 5 the gradient alone.
"""

import time

import numpy as np

from . import updates
from .dropout import dropout, key_of
from .inference import ACTIVATIONS, DROPOUT, slope_of, values, weight_and_bias
from .matmul import linear_backward, matmul
from .objectives import loss_and_gradient


@np.errstate(all="ignore")
def train_epoch(network, params, batches, objective, rule, clock=None):
    """Train on every batch in turn: forward, loss, backward, update in place.

    Parameters
    ----------
    network : ops and slopes, see above
    params : (n_params,) the flat parameter buffer, updated in place
    batches : x (n, inputs) any strides, y (n,) labels or (n, outputs) targets, sample_weight (n,) or None,
        order (m,) int64, the samples in the order of training, and batch_size; the last batch may be smaller
    objective : loss (a code), l2, smoothing and convention, see ``fastnn.lowering`` and ``objectives``
    rule : kind (a code), lr, momentum, beta2, eps, slots (s, n_params) updated in place, and step, the number of
        updates made before this epoch. momentum is Adam's beta1 as well. Rule 5 adds lr times the weight of the batch
        times the gradient to the slot and leaves the parameters
    clock : (n + 1, 3) float64 in C order or None; seconds are added to it. Row i belongs to op i: forward, backward
        (the gradient at its input, through the activation that made it), update (the gradient of its weights and the
        step). The last row: gathering the batch, the loss with its gradient, the rest. With several threads it is the
        calling one whose time is taken

    Returns
    -------
    loss : float
        The mean over the epoch of batch loss + l2 Σ w², each at the weights it was computed with; a batch counts by
        its size, or by the sum of its weights, see ``fastnn.lowering.Convention``.
    failed : int
        The first batch whose loss is not finite, at which training stopped before its update, or -1.
    """
    convention = objective.convention
    starts = range(0, len(batches.order), batches.batch_size)
    total = weights = 0.0
    lap = _stopwatch(clock)
    for number, start in enumerate(starts):
        rows = batches.order[start : start + batches.batch_size]
        x = batches.x[rows].astype(params.dtype, copy=False)
        sample_weight = None if batches.sample_weight is None else batches.sample_weight[rows]
        lap(-1, 0)
        ys = [x]
        t = rule.step + number + 1
        for i, y in enumerate(values(network, params, x, t)):
            ys.append(y)
            lap(i, 0)
        d = np.empty_like(ys[-1])
        loss = loss_and_gradient(objective, ys[-1], batches.y[rows], sample_weight, d)
        _undo_activation(network, len(ys) - 2, ys, d)
        lap(-1, 1)
        weight = len(rows) if sample_weight is None else float(sample_weight.sum(dtype=np.float64))
        l2 = _penalty(objective, weight)
        loss += l2 * _sum_of_squares(network, params)
        share = len(rows) if convention.mean_over_rows else weight
        total, weights = total + share * loss, weights + share
        if convention.stop and not np.isfinite(loss):
            return _mean(total, weights), number
        lap(-1, 2)
        ds = _gradients(network, params, ys, d, t, lap)
        for i, op in enumerate(network.ops):
            if op[0] == 0:
                _update(op, params, ys[i], ds[i], l2, rule, weight, t)
                lap(i, 2)
        lap(-1, 2)
    return _mean(total, weights), -1


def _stopwatch(clock):
    """A function that adds the seconds since its last call to a cell of the clock."""
    last = time.perf_counter()

    def lap(row, column):
        nonlocal last
        if clock is not None:
            now = time.perf_counter()
            clock[row, column] += now - last
            last = now

    return lap


def _gradients(network, params, ys, d, t, lap):
    """The gradient before the activation of every op from the first linear one on; d is that of the last op.

    Only those of linear ops are kept whole: an activation alone passes its array on to the op before.
    """
    ops, ds, last = network.ops, {}, len(network.ops) - 1
    first = next((i for i, op in enumerate(ops) if op[0] == 0), last)
    for i in range(last, first, -1):
        ds[i] = d
        if ops[i, 0] == 0:
            d = np.empty_like(ys[i])
            matmul(ds[i], weight_and_bias(ops[i], params)[0].T, d)
        elif ops[i, 0] == DROPOUT:
            dropout(d, network.slopes[i], key_of(network.seed, t, i), d)
        _undo_activation(network, i - 1, ys, d)
        lap(i, 1)
    ds[first] = d
    return ds


def _undo_activation(network, i, ys, d):
    """The gradient d at the output of op i becomes that before its activation."""
    activation = network.ops[i, 5]
    ACTIVATIONS[activation][1](d, ys[i + 1], *slope_of(activation, network.slopes[i]), d)


def _update(op, params, x, d, l2, rule, weight, t):
    """Update number t of a linear op, with input x, from the gradient d before its activation, for a batch's weight."""
    _, _, n_out, w_at, b_at, _ = op
    w, _ = weight_and_bias(op, params)
    dw, db = np.empty_like(w), np.empty(n_out, params.dtype)
    linear_backward(d, x, w, l2, None, dw, db)
    for at, gradient in (w_at, dw.ravel()), (b_at, db):
        if at >= 0:
            span = slice(at, at + gradient.size)
            _apply(rule, params[span], gradient, rule.slots[:, span], weight, t)


def _apply(rule, params, gradient, slots, weight, t):
    if rule.kind == 0:
        updates.sgd_update(params, gradient, rule.lr)
    elif rule.kind == 1:
        updates.momentum_update(params, gradient, slots[0], rule.lr, rule.momentum)
    elif rule.kind == 2:
        updates.nesterov_update(params, gradient, slots[0], rule.lr, rule.momentum)
    elif rule.kind == 3:
        updates.adam_update(params, gradient, *slots, rule.lr, rule.momentum, rule.beta2, rule.eps, t)
    elif rule.kind == 4:
        eps = rule.eps / np.sqrt(1 - rule.beta2**t)  # undoes what adam_update will do to it
        updates.adam_update(params, gradient, *slots, rule.lr, rule.momentum, rule.beta2, eps, t)
    else:
        slots[0] += slots.dtype.type(rule.lr * weight) * gradient


def _penalty(objective, weight):
    """The factor of Σ w² for a batch of this weight."""
    divides = objective.convention.penalty_per_batch and weight != 0
    return objective.l2 / weight if divides else objective.l2


def _mean(total, weights):
    return float(total / weights) if weights != 0 else 0.0


def _sum_of_squares(network, params):
    """Σ w² over all weights, biases left out."""
    return sum(
        float(np.square(weight_and_bias(op, params)[0], dtype=np.float64).sum()) for op in network.ops if op[0] == 0
    )
