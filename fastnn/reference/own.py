"""A user's own activation, loss or rule, called element by element.

``name.functions`` are the scalar functions, each with ``interpreted``, which takes NumPy's scalars, and ``label``.
"""

import numpy as np

from .losses import LOSSES, shares, weighted_mean
from .updates import RULES

_REAL = bool, int, float, np.bool_, np.integer, np.floating


def own_check(name, dtype):
    """Raise TypeError if a function fails for 0.5 or returns anything but real numbers."""
    half = dtype.type(0.5)
    for function in name.functions:
        _called(function, [half] * function.elements + [0.5] * function.numbers, function.returns)


@np.errstate(all="ignore")
def own(name, x, out):
    """out = f(x)."""
    np.copyto(out, _each(name.functions[0], x)[0])


@np.errstate(all="ignore")
def own_backward(name, dy, x, y, out):
    """out = dy derivative(x, y)."""
    np.copyto(out, dy * _each(name.functions[1], x, y)[0])


@np.errstate(all="ignore")
def own_loss(name, pred, y, sample_weight, out):
    """out (m, k) = derivative(pred, y) v_i / Σ v, and the mean over samples of Σ_outputs value(pred, y) is returned."""
    (losses,), (slopes,) = (_each(function, pred, y) for function in name.functions)
    np.copyto(out, slopes * shares(pred, sample_weight))
    return weighted_mean(losses.sum(axis=1), sample_weight)


@np.errstate(all="ignore")
def own_update(name, w, dw, slots, lr, settings, t):
    """w, slots = update(w, dw, *slots, lr, t, *settings)."""
    results = _each(name.functions[0], w, dw, *slots, numbers=(lr, float(t), *settings), returns=1 + len(slots))
    for array, result in zip((w, *slots), results, strict=True):
        np.copyto(array, result)


def _loss(name):
    return lambda scores, y, sample_weight, out, *unused: own_loss(name, scores, y, sample_weight, out)


def _rule(name):
    def update(w, dw, slots, settings, t, weight, is_weight):
        lr, *others = settings
        own_update(name, w, dw, slots, lr, others, t)

    return update


LOSSES.make, RULES.make = _loss, _rule


def _each(function, *arrays, numbers=(), returns=1):
    """What the function returns for each element of arrays of one shape, as arrays of their dtype."""
    rows = [_called(function, (*values, *numbers), returns) for values in zip(*map(np.ravel, arrays), strict=True)]
    found = np.array(rows, arrays[0].dtype).reshape(len(rows), returns)
    return [column.reshape(arrays[0].shape) for column in found.T]


@np.errstate(all="ignore")
def _called(function, values, returns):
    """What the function returns for some values: a tuple of real numbers, or one of them alone."""
    try:
        result = function.interpreted(*values)
    except Exception as error:
        shown = ", ".join(f"{float(value):g}" for value in values)
        raise TypeError(f"{function.label} fails for ({shown}): {type(error).__name__}: {error}") from error
    found = result if isinstance(result, tuple) else (result,)
    if len(found) != returns or not all(isinstance(value, _REAL) for value in found):
        wanted = "a real number" if returns == 1 else f"a tuple of {returns} real numbers"
        raise TypeError(f"{function.label} returns {result!r}, expected {wanted}")
    return found
