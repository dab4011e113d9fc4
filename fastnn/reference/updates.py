"""In-place parameter updates from a gradient dw."""

import numpy as np

from .registry import Registry


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


@np.errstate(all="ignore")
def adamw_update(w, dw, m, v, lr, beta1, beta2, eps, weight_decay, t):
    """w *= 1 - lr weight_decay, and Adam's update number t.

    Source: I. Loshchilov and F. Hutter, Decoupled weight decay regularization, ICLR 2019.
    """
    w *= w.dtype.type(1 - lr * weight_decay)
    adam_update(w, dw, m, v, lr, beta1, beta2, eps, t)


@np.errstate(all="ignore")
def rmsprop_update(w, dw, s, lr, alpha, eps):
    """s = alpha s + (1 - alpha) dw², w -= lr dw / (√s + eps).

    Source: T. Tieleman and G. Hinton, lecture 6.5, Neural networks for machine learning, 2012; eps outside the root.
    """
    _mean_of_squares(s, dw, alpha)
    w -= w.dtype.type(lr) * dw / (np.sqrt(s) + w.dtype.type(eps))


@np.errstate(all="ignore")
def rmsprop_momentum_update(w, dw, s, v, lr, alpha, eps, momentum):
    """s = alpha s + (1 - alpha) dw², v = momentum v + dw / (√s + eps), w -= lr v."""
    _mean_of_squares(s, dw, alpha)
    v *= v.dtype.type(momentum)
    v += dw / (np.sqrt(s) + w.dtype.type(eps))
    w -= w.dtype.type(lr) * v


def _mean_of_squares(s, dw, alpha):
    s *= s.dtype.type(alpha)
    s += s.dtype.type(1 - alpha) * dw * dw


def _velocity(v, dw, lr, momentum):
    v *= v.dtype.type(momentum)
    v -= v.dtype.type(lr) * dw


def _adamw(w, dw, slots, settings, t, weight, is_weight):
    lr, beta1, beta2, eps, weight_decay = settings
    adamw_update(w, dw, *slots, lr, beta1, beta2, eps, weight_decay if is_weight else 0.0, t)


def _plain_adam(w, dw, slots, settings, t, weight, is_weight):
    """Adam whose eps has no bias correction, as scikit-learn has it."""
    lr, beta1, beta2, eps = settings
    adam_update(w, dw, *slots, lr, beta1, beta2, eps / np.sqrt(1 - beta2**t), t)


def _accumulate(w, dw, slots, settings, t, weight, is_weight):
    """The gradient alone: the slot takes lr times the weight of the batch times it, the parameters stay."""
    slots[0] += slots.dtype.type(settings[0] * weight) * dw


# The rules of a network-as-data, functions of w, dw, slots, settings, the number of the update, the batch's weight, and
# whether w are weights, which a penalty is for.
RULES = Registry(
    sgd=lambda w, dw, slots, settings, t, weight, is_weight: sgd_update(w, dw, *settings),
    momentum=lambda w, dw, slots, settings, t, weight, is_weight: momentum_update(w, dw, *slots, *settings),
    nesterov=lambda w, dw, slots, settings, t, weight, is_weight: nesterov_update(w, dw, *slots, *settings),
    adam=lambda w, dw, slots, settings, t, weight, is_weight: adam_update(w, dw, *slots, *settings, t),
    adamw=_adamw,
    rmsprop=lambda w, dw, slots, settings, t, weight, is_weight: rmsprop_update(w, dw, *slots, *settings),
    rmsprop_momentum=lambda w, dw, slots, settings, t, weight, is_weight: rmsprop_momentum_update(
        w, dw, *slots, *settings
    ),
    plain_adam=_plain_adam,
    accumulate=_accumulate,
)
