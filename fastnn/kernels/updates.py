"""In-place parameter updates from a gradient dw."""

import math

import numpy as np

from ._address import as_writeable
from ._jit import inline, kernel
from ._vector import data, fma, lanes, load, load_part, store, store_part
from .vectormath import vsqrt

# The codes of a network-as-data.
SGD, MOMENTUM, NESTEROV, ADAM, ADAM_PLAIN, ACCUMULATE = range(6)


@inline
def update(kind, w, dw, first, second, lr, momentum, beta2, eps, penalty, n):
    """Update w[i] for i < n from the gradient dw[i] + penalty w[i].

    ``first`` and ``second`` are the optimizer's slots, w itself where it has none. For Adam, lr and eps hold the
    step's bias corrections already, see ``corrected``. ACCUMULATE adds lr times the gradient to the first slot.
    """
    width = lanes(w)
    for i in range(0, n, width):
        count = min(width, n - i)
        full = count == width
        x = load(w, i) if full else load_part(w, i, count, 0.0)
        g = load(dw, i) if full else load_part(dw, i, count, 0.0)
        g = fma(x, penalty, g)
        if kind == SGD:
            x = x - g * lr
        else:
            a = load(first, i) if full else load_part(first, i, count, 0.0)
            if kind == ACCUMULATE:
                a = fma(g, lr, a)
            elif kind >= ADAM:
                b = load(second, i) if full else load_part(second, i, count, 0.0)
                a = a * momentum + g * (1.0 - momentum)
                b = b * beta2 + g * g * (1.0 - beta2)
                x = x - a * lr / (vsqrt(b, w) + eps)
                if full:
                    store(second, i, b)
                else:
                    store_part(second, i, count, b)
            else:
                step = g * lr
                a = a * momentum - step
                x = x + (a if kind == MOMENTUM else a * momentum - step)
            if full:
                store(first, i, a)
            else:
                store_part(first, i, count, a)
        if full:
            store(w, i, x)
        else:
            store_part(w, i, count, x)


@inline
def corrected(kind, lr, beta1, beta2, eps, t):
    """The lr and eps of Adam's update t, with the two bias corrections folded in; the plain form leaves eps."""
    if kind != ADAM and kind != ADAM_PLAIN:
        return lr, eps
    root = math.sqrt(1.0 - beta2**t)
    return lr * root / (1.0 - beta1**t), eps * root if kind == ADAM else eps


@kernel
def _update(kind, w, dw, first, second, lr, momentum, beta2, eps, t):
    lr, eps = corrected(kind, lr, momentum, beta2, eps, t)
    update(kind, data(w), data(dw), data(first), data(second), lr, momentum, beta2, eps, 0.0, w.size)


def _flat(*arrays: np.ndarray) -> list[np.ndarray]:
    return [as_writeable(array.reshape(-1)) for array in arrays]


def sgd_update(w: np.ndarray, dw: np.ndarray, lr: float) -> None:
    """w -= lr dw."""
    _update(SGD, *_flat(w, dw, w, w), lr, 0.0, 0.0, 0.0, 1)


def momentum_update(w: np.ndarray, dw: np.ndarray, v: np.ndarray, lr: float, momentum: float) -> None:
    """v = momentum v - lr dw, w += v."""
    _update(MOMENTUM, *_flat(w, dw, v, w), lr, momentum, 0.0, 0.0, 1)


def nesterov_update(w: np.ndarray, dw: np.ndarray, v: np.ndarray, lr: float, momentum: float) -> None:
    """v = momentum v - lr dw, w += momentum v - lr dw."""
    _update(NESTEROV, *_flat(w, dw, v, w), lr, momentum, 0.0, 0.0, 1)


def adam_update(
    w: np.ndarray,
    dw: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    t: int,
) -> None:
    """Adam's update number t: w -= lr m̂ / (√v̂ + eps)."""
    _update(ADAM, *_flat(w, dw, m, v), lr, beta1, beta2, eps, t)
