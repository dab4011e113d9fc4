"""In-place parameter updates from a gradient dw: ``w`` and the state beside it are changed, nothing is returned."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backend import active
from ..validation import Array, any_array, contiguous, number, positive_int, real_array, same_shape


def sgd_update(w: Array, dw: ArrayLike, lr: float) -> None:
    """Update w -= lr dw in place.

    Parameters
    ----------
    w : ndarray of any shape
        float32 or float64, writeable, of any memory layout.
    dw : array_like of the shape of w
    lr : float
        The learning rate, > 0.

    Raises
    ------
    ValueError
        If shapes differ, ``w`` is read-only, or ``lr`` is not positive and finite.
    TypeError
        If ``w`` is not a float array, or ``dw`` does not hold real numbers.
    """
    if active().quick.sgd_update(w, dw, lr) is None:
        _update("sgd_update", dw, {"w": w}, number("lr", lr, above=0))


def momentum_update(w: Array, dw: ArrayLike, v: Array, lr: float, momentum: float) -> None:
    """Update v = momentum v - lr dw and w += v in place.

    ``v`` is an array like ``w``, zero before the first update, and 0 <= momentum < 1. Everything else is as in
    :func:`sgd_update`.
    """
    _update("momentum_update", dw, {"w": w, "v": v}, number("lr", lr, above=0), _decay("momentum", momentum))


def nesterov_update(w: Array, dw: ArrayLike, v: Array, lr: float, momentum: float) -> None:
    """Update v = momentum v - lr dw and w += momentum v - lr dw in place.

    Parameters and errors are those of :func:`momentum_update`.
    Source: I. Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013, in the
    form that keeps w at the looked-ahead point.
    """
    _update("nesterov_update", dw, {"w": w, "v": v}, number("lr", lr, above=0), _decay("momentum", momentum))


def adam_update(
    w: Array,
    dw: ArrayLike,
    m: Array,
    v: Array,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    t: int = 1,
) -> None:
    """Make Adam's update number t in place.

    m = β1 m + (1 - β1) dw, v = β2 v + (1 - β2) dw², w -= lr m̂ / (√v̂ + eps), where m̂ = m / (1 - β1^t) and
    v̂ = v / (1 - β2^t). ``m`` and ``v`` are arrays like ``w``, zero before the first update, which is t = 1;
    0 <= β < 1 and eps > 0. Everything else is as in :func:`sgd_update`.
    Source: D. P. Kingma and J. Ba, Adam: a method for stochastic optimization, ICLR 2015.
    """
    rates = _adam_rates(lr, beta1, beta2, eps)
    _update("adam_update", dw, {"w": w, "m": m, "v": v}, *rates, positive_int("t", t))


def adamw_update(
    w: Array,
    dw: ArrayLike,
    m: Array,
    v: Array,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    t: int = 1,
) -> None:
    """Make AdamW's update number t in place: w *= 1 - lr weight_decay, and then :func:`adam_update`.

    weight_decay >= 0. Everything else is as in :func:`adam_update`.
    Source: I. Loshchilov and F. Hutter, Decoupled weight decay regularization, ICLR 2019.
    """
    rates = _adam_rates(lr, beta1, beta2, eps)
    decay = number("weight_decay", weight_decay, least=0)
    _update("adamw_update", dw, {"w": w, "m": m, "v": v}, *rates, decay, positive_int("t", t))


def rmsprop_update(w: Array, dw: ArrayLike, s: Array, lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8) -> None:
    """Update s = alpha s + (1 - alpha) dw² and w -= lr dw / (√s + eps) in place.

    ``s`` is an array like ``w``, zero before the first update, 0 <= alpha < 1, and eps > 0. Everything else is as in
    :func:`sgd_update`.
    Source: T. Tieleman and G. Hinton, lecture 6.5, Neural networks for machine learning, 2012.
    """
    _update("rmsprop_update", dw, {"w": w, "s": s}, *_rmsprop_rates(lr, alpha, eps))


def rmsprop_momentum_update(
    w: Array,
    dw: ArrayLike,
    s: Array,
    v: Array,
    lr: float = 0.01,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.9,
) -> None:
    """Update s = alpha s + (1 - alpha) dw², v = momentum v + dw / (√s + eps) and w -= lr v in place.

    ``v`` is an array like ``w``, zero before the first update, and 0 <= momentum < 1. Everything else is as in
    :func:`rmsprop_update`.
    """
    rates = *_rmsprop_rates(lr, alpha, eps), _decay("momentum", momentum)
    _update("rmsprop_momentum_update", dw, {"w": w, "s": s, "v": v}, *rates)


def _rmsprop_rates(lr: float, alpha: float, eps: float) -> tuple[float, ...]:
    return number("lr", lr, above=0), _decay("alpha", alpha), number("eps", eps, above=0)


def _adam_rates(lr: float, beta1: float, beta2: float, eps: float) -> tuple[float, ...]:
    return number("lr", lr, above=0), _decay("beta1", beta1), _decay("beta2", beta2), number("eps", eps, above=0)


def _decay(name: str, value: float) -> float:
    return number(name, value, least=0, below=1)


def _update(name: str, dw: ArrayLike, targets: dict[str, Array], *settings: Any) -> None:
    """Run the update ``name`` on the arrays ``targets`` (w first), through copies where they are not contiguous."""
    w = targets["w"]
    arrays = [_checked_target(target_name, target, w) for target_name, target in targets.items()]
    gradient = real_array("dw", dw)
    same_shape("dw", gradient, "w", w)
    overlaps = any(np.may_share_memory(gradient, target) for target in arrays)
    gradient = contiguous(gradient.astype(w.dtype, copy=overlaps))
    for i, first in enumerate(arrays):
        if any(np.may_share_memory(first, second) for second in arrays[i + 1 :]):
            raise ValueError(f"{', '.join(targets)} share memory: each needs an array of its own")
    flat = [contiguous(target) for target in arrays]
    getattr(active(), name)(flat[0], gradient, *flat[1:], *settings)
    for target, updated in zip(arrays, flat, strict=True):
        if target is not updated:
            target[...] = updated


def _checked_target(name: str, target: Array, w: Array) -> Array:
    """Return ``target`` as the plain array that it is or wraps."""
    if not isinstance(target, np.ndarray) or target.dtype not in (np.float32, np.float64):
        came = target.dtype if isinstance(target, np.ndarray) else type(target).__name__
        raise TypeError(f"{name} is updated in place: expected a float32 or float64 ndarray, not {came}")
    if target.dtype != w.dtype:
        raise TypeError(f"{name} holds {target.dtype} values, but w holds {w.dtype}: they must be equal")
    same_shape(name, target, "w", w)
    if not target.flags.writeable:
        raise ValueError(f"{name} is read-only: it is updated in place")
    return any_array(name, target)
