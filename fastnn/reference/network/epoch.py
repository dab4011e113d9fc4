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
def train_epoch(network, params, batches, objective, rule, clock=None, kept=None):
    """Train on every batch in turn: forward, loss, backward, update in place.

    Parameters
    ----------
    network : ops, spans, settings, names and seed, see above; scales (n_ops,), a factor of the learning rate, or None
    params : (n_params,) the flat parameter buffer, updated in place
    batches : x (n, inputs) any strides, y (n,) labels or (n, outputs) targets, sample_weight (n,) or None,
        order (m,) int64, the samples in the order of training, and batch_size; the last batch may be smaller
    objective : loss (a name), l2, smoothing and reduction, see ``fastnn.nn.lowering`` and ``objectives``
    rule : name, settings, of which the learning rate is the first, slots (s, n_params) updated in place, and step, the
        number of updates made before this epoch; rates (n,), a learning rate for each update, or None; clip_norm, the
        greatest norm of the gradient with its penalty, or None; accumulate, of how many batches the gradient is that of
        all their samples, for one update
    clock : (n + 1, 3) float64 in C order or None; seconds are added to it. Row i belongs to op i: forward, backward
        (the gradient at its input, through the activation that made it), update (the gradient of its weights and the
        step). The last row: gathering the batch, the loss with its gradient, the rest. With several threads it is the
        calling one whose time is taken
    kept : dict or None
        Empty at first; what an epoch leaves there, later ones with the same arrays, network and objective need not
        prepare anew. None for an epoch alone

    Returns
    -------
    loss : float
        The mean over the epoch of batch loss + l2 Σ w², each at the weights it was computed with; a batch counts by
        its size, or by the sum of its weights, see ``fastnn.nn.lowering.Reduction``.
    failed : int
        The first batch whose loss is not finite, at which training stopped before its update, or -1.
    """
    reduction, size = objective.reduction, rule.accumulate
    is_whole = size > 1 or rule.clip_norm is not None
    starts = range(0, len(batches.order), batches.batch_size)
    total = weights = 0.0
    lap = _stopwatch(clock)
    for number, start in enumerate(starts):
        rows = batches.order[start : start + batches.batch_size]
        x = batches.x[rows].astype(params.dtype, copy=False)
        sample_weight = None if batches.sample_weight is None else batches.sample_weight[rows]
        lap(-1, 0)
        ys = [x]
        drawn = rule.step * size + number + 1  # by the batch, which is the update where there is no other
        for i, y in enumerate(values(network, params, x, drawn)):
            ys.append(y)
            lap(i, 0)
        d = np.empty_like(ys[-1])
        loss = loss_and_gradient(objective, ys[-1], batches.y[rows], sample_weight, d)
        weight = _weight(batches, rows)
        group = batches.order[(number - number % size) * batches.batch_size :][: size * batches.batch_size]
        group_weight = _weight(batches, group)
        if size > 1 and group_weight != 0:
            d *= d.dtype.type(weight / group_weight)
        _undo_rectifier(network, len(ys) - 2, ys, d)
        lap(-1, 1)
        l2 = _penalty(objective, group_weight)
        loss += l2 * _sum_of_squares(network, params)
        share = len(rows) if reduction.mean_over_rows else weight
        total, weights = total + share * loss, weights + share
        if reduction.stop and not np.isfinite(loss):
            return _mean(total, weights), number
        lap(-1, 2)
        ds = _gradients(network, params, ys, d, drawn, lap)
        is_last = number % size == size - 1 or number == len(starts) - 1
        if number % size == 0:
            gradients = {}
        for i in sorted(ds):
            for part in _parts(network, i, params, ys, ds, l2 if is_last else 0.0, drawn):
                _add(gradients, i, *part)
            if not is_whole:
                _move(network, params, gradients, rule, number, group_weight)
                gradients = {}
            lap(i, 2)
        if is_whole and is_last:
            _move(network, params, gradients, rule, number // size, group_weight)
        lap(-1, 2)
    return _mean(total, weights), -1


def _weight(batches, rows):
    """Σ of the weights of some samples, or how many they are."""
    return len(rows) if batches.sample_weight is None else float(batches.sample_weight[rows].sum(dtype=np.float64))


def _add(gradients, op, start, gradient, is_weight):
    """Add the gradient of a part of the parameters of an op, which starts there."""
    key = start, op, is_weight
    gradients[key] = gradients[key] + gradient if key in gradients else gradient


def _move(network, params, gradients, rule, number, weight):
    """Update ``number`` of the epoch, from the gradients of some parts of the parameters.

    Where their norm is greater than it may be they are multiplied by what PyTorch takes, clip_norm / (norm + 1e-6).
    """
    factor = 1.0
    if rule.clip_norm is not None:
        squares = [float(np.square(gradient, dtype=np.float64).sum()) for gradient in gradients.values()]
        factor = rule.clip_norm / (np.sqrt(sum(squares)) + 1e-6)
    t = rule.step + number + 1
    for (start, op, is_weight), gradient in gradients.items():
        gradient = gradient * gradient.dtype.type(factor) if factor < 1 else gradient
        _apply(_of_update(network, rule, op, number), params, start, gradient, weight, t, is_weight)


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


def _parts(network, i, params, ys, ds, l2, t):
    """The gradients of the parameters of op i: where each part starts, its gradient, and whether it is of weights."""
    op = network.ops[i]
    if op[KIND] == LINEAR:
        w, _ = weight_and_bias(op, params)
        dw, db = np.empty_like(w), np.empty(op[OUTPUTS], params.dtype)
        linear_backward(ds[i], ys[i], w, l2, None, dw, db)
        yield op[WEIGHT], dw.ravel(), True
        if op[BIAS_AT] >= 0:
            yield op[BIAS_AT], db, False
        return
    for _, which, start, _, trained, width in network.spans[network.spans[:, OP] == i]:
        if trained and width:
            for row in rows_of(network.names[i])(ys[i], which, *arguments_of(network, i, t)):
                part = slice(row * width, (row + 1) * width)
                yield start + part.start, ds[i][which][part], False
        elif trained:
            yield start, ds[i][which], False


def _apply(rule, params, start, gradient, weight, t, is_weight):
    """Update number t of the parameters from there on, for a batch's weight."""
    span = slice(start, start + gradient.size)
    slots = rule.slots[:, span]
    RULES[rule.name](params[span], gradient, slots, rule.settings, t, weight, is_weight)


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
