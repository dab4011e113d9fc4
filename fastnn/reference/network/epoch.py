"""One training epoch over a network that is data.

:mod:`fastnn.codes` says what stands in the rows of ``network.ops`` and ``network.spans``; random numbers follow from
``network.seed``.
"""

import time

import numpy as np

from ...codes import (
    ADD,
    BIAS_AT,
    FROZEN,
    KEEPS,
    KEEPS_X,
    KEEPS_Y,
    KIND,
    LINEAR,
    OP,
    OUTPUTS,
    SLOPE_AT,
    SOURCE,
    TRAINED,
    WEIGHT,
)
from ..activations import leaky_relu_backward
from ..matmul import linear_backward, matmul
from ..updates import RULES
from .inference import arguments_of, parameters_of, rows_of, twins, values, weight_and_bias
from .objectives import loss_and_gradient


@np.errstate(all="ignore")
def train_epoch(network, params, batches, objective, rule, clock=None):
    """Train on every batch in turn: forward, loss, backward, update in place.

    Parameters
    ----------
    network : ops, spans, settings, names and seed, see above; scales (n_ops,), a factor of the learning rate, or None
    params : (n_params,) the flat parameter buffer, updated in place
    batches : x (n, inputs) any strides, y (n,) labels or (n, outputs) targets, sample_weight (n,) or None,
        order (m,) int64, the samples in the order of training, and batch_size; the last batch may be smaller
    objective : loss (a name), l2, smoothing and reduction, see ``fastnn.nn.lowering`` and ``objectives``
    rule : name, settings, of which the learning rate is the first, slots (s, n_params) updated in place, and step, the
        number of updates made before this epoch; rates (n,), a learning rate for each update, or None
    clock : (n + 1, 3) float64 in C order or None; seconds are added to it. Row i belongs to op i: forward, backward
        (the gradient at its input, through the activation that made it), update (the gradient of its weights and the
        step). The last row: gathering the batch, the loss with its gradient, the rest. With several threads it is the
        calling one whose time is taken

    Returns
    -------
    loss : float
        The mean over the epoch of batch loss + l2 Σ w², each at the weights it was computed with; a batch counts by
        its size, or by the sum of its weights, see ``fastnn.nn.lowering.Reduction``.
    failed : int
        The first batch whose loss is not finite, at which training stopped before its update, or -1.
    """
    reduction = objective.reduction
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
        _undo_rectifier(network, len(ys) - 2, ys, d)
        lap(-1, 1)
        weight = len(rows) if sample_weight is None else float(sample_weight.sum(dtype=np.float64))
        l2 = _penalty(objective, weight)
        loss += l2 * _sum_of_squares(network, params)
        share = len(rows) if reduction.mean_over_rows else weight
        total, weights = total + share * loss, weights + share
        if reduction.stop and not np.isfinite(loss):
            return _mean(total, weights), number
        lap(-1, 2)
        ds = _gradients(network, params, ys, d, t, lap)
        for i in range(len(network.ops)):
            if i in ds:
                _update(network, i, params, ys, ds, l2, _of_update(network, rule, i, number), weight, t)
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
    """What each op with parameters takes for their gradient; d is the gradient before the last op's rectifier.

    For a linear op that is the gradient before its rectifier, for an operation the gradients of its parameters.
    """
    ops, ds, last = network.ops, {}, len(network.ops) - 1
    behind = {}  # the gradient at the output of each ADD, by the op at whose input the other way begins
    trained = [i for i, op in enumerate(ops) if _is_updated(op)] + [
        int(i) for i in network.spans[network.spans[:, TRAINED] == 1, OP]
    ]
    first = min(trained, default=last + 1)
    for i in range(last, first - 1, -1):
        if ops[i, KIND] == LINEAR:
            if _is_updated(ops[i]):
                ds[i] = d
            if i > first:
                behind_op, d = d, np.empty_like(ys[i])
                matmul(behind_op, weight_and_bias(ops[i], params)[0].T, d)
        elif ops[i, KIND] == ADD:
            behind.setdefault(int(ops[i, SOURCE]), []).append(d)
            d = d.copy()
        else:
            d, gradients = _back_through(network, i, params, ys, d, t)
            if gradients:
                ds[i] = gradients
        if i > first:
            _undo_rectifier(network, i - 1, ys, d)
            for other in reversed(behind.get(i, ())):
                d += other
            lap(i, 1)
    return ds


def _back_through(network, i, params, ys, d, t):
    """The gradient at the input of an operation, and those of its parameters."""
    _, backward = twins(network.names[i])
    own = parameters_of(network, i, params)
    dx, gradients = np.empty_like(ys[i]), [np.empty_like(p) for p in own]
    kept = [y for y, bit in ((ys[i], KEEPS_X), (ys[i + 1], KEEPS_Y)) if network.ops[i, KEEPS] & bit]
    backward(d, *kept, *own, *arguments_of(network, i, t), dx, *gradients)
    return dx, gradients


def _undo_rectifier(network, i, ys, d):
    """The gradient d at the output of op i becomes that before its rectifier, if it has one."""
    if network.ops[i, SLOPE_AT] >= 0:
        leaky_relu_backward(d, ys[i + 1], network.settings[network.ops[i, SLOPE_AT]], d)


def _update(network, i, params, ys, ds, l2, rule, weight, t):
    """Update number t of the parameters of op i, for a batch's weight."""
    op = network.ops[i]
    if op[KIND] == LINEAR:
        w, _ = weight_and_bias(op, params)
        dw, db = np.empty_like(w), np.empty(op[OUTPUTS], params.dtype)
        linear_backward(ds[i], ys[i], w, l2, None, dw, db)
        _apply(rule, params, op[WEIGHT], dw, weight, t, is_weight=True)
        if op[BIAS_AT] >= 0:
            _apply(rule, params, op[BIAS_AT], db, weight, t)
        return
    for _, which, start, _, trained, width in network.spans[network.spans[:, OP] == i]:
        if trained and width:
            for row in rows_of(network.names[i])(ys[i], which, *arguments_of(network, i, t)):
                part = slice(row * width, (row + 1) * width)
                _apply(rule, params, start + part.start, ds[i][which][part], weight, t)
        elif trained:
            _apply(rule, params, start, ds[i][which], weight, t)


def _apply(rule, params, start, gradient, weight, t, is_weight=False):
    span = slice(start, start + gradient.size)
    slots = rule.slots[:, span]
    RULES[rule.name](params[span], gradient.ravel(), slots, rule.settings, t, weight, is_weight)


def _of_update(network, rule, i, number):
    """The rule with the learning rate that update ``number`` of the epoch has for op i."""
    rate = rule.settings[0] if rule.rates is None else rule.rates[number]
    scale = 1.0 if network.scales is None else network.scales[i]
    return rule._replace(settings=(rate * scale, *rule.settings[1:]))


def _is_updated(op):
    """Whether an op is linear, and not frozen."""
    return op[KIND] == LINEAR and not op[KEEPS] & FROZEN


def _penalty(objective, weight):
    """The factor of Σ w² for a batch of this weight."""
    divides = objective.reduction.penalty_per_batch and weight != 0
    return objective.l2 / weight if divides else objective.l2


def _mean(total, weights):
    return float(total / weights) if weights != 0 else 0.0


def _sum_of_squares(network, params):
    """Σ w² over all weights that are not frozen, biases left out."""
    weights = [weight_and_bias(op, params)[0] for op in network.ops if _is_updated(op)]
    return sum(float(np.square(w, dtype=np.float64).sum()) for w in weights)
