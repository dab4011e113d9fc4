"""In-place parameter updates from a gradient dw."""

import numpy as np


@np.errstate(all="ignore")
def sgd_update(w, dw, lr):
    """w -= lr dw."""
    w -= w.dtype.type(lr) * dw


@np.errstate(all="ignore")
def momentum_update(w, dw, v, lr, momentum):
    """v = momentum v - lr dw, w += v."""
    _velocity(v, dw, lr, momentum)
    w += v


@np.errstate(all="ignore")
def nesterov_update(w, dw, v, lr, momentum):
    """v = momentum v - lr dw, w += momentum v - lr dw.

    Source: I. Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013, in the
    form that keeps w at the looked-ahead point.
    """
    _velocity(v, dw, lr, momentum)
    w += v.dtype.type(momentum) * v - w.dtype.type(lr) * dw


@np.errstate(all="ignore")
def adam_update(w, dw, m, v, lr, beta1, beta2, eps, t):
    """Adam's update number t (the first is 1).

    m = β1 m + (1 - β1) dw, v = β2 v + (1 - β2) dw², m̂ = m / (1 - β1^t), v̂ = v / (1 - β2^t), w -= lr m̂ / (√v̂ + eps),
    with the two corrections folded into the step and into eps: √(1 - β2^t) multiplies both sides of the quotient.
    Source: D. P. Kingma and J. Ba, Adam: a method for stochastic optimization, ICLR 2015, algorithm 1 and section 2.
    """
    real = w.dtype.type
    m *= real(beta1)
    m += real(1 - beta1) * dw
    v *= real(beta2)
    v += real(1 - beta2) * dw * dw
    root = np.sqrt(1 - beta2**t)
    w -= real(lr * root / (1 - beta1**t)) * m / (np.sqrt(v) + real(eps * root))


def _velocity(v, dw, lr, momentum):
    v *= v.dtype.type(momentum)
    v -= v.dtype.type(lr) * dw
