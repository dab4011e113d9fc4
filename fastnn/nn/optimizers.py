"""Optimizers: how a gradient moves the parameters."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np

from ..backend import active
from ..validation import Array, DType, eps_within, flag, number
from .optimizer import Optimizer

OptimizerName: TypeAlias = Literal["sgd", "adam", "adamw", "rmsprop"]


class SGD(Optimizer):
    """Stochastic gradient descent: w -= lr dw, with momentum if wanted.

    Parameters
    ----------
    lr : float or callable
        The learning rate > 0, or a function of the epoch (from 0) that returns it.
    momentum : float
        With 0 < momentum < 1: v = momentum v - lr dw, w += v.
    nesterov : bool
        Nesterov's form of it: w += momentum v - lr dw (Sutskever et al., ICML 2013).
    clip_norm : float, optional
        The greatest norm of the gradient > 0, see :class:`Optimizer`.

    Raises
    ------
    ValueError
        If a setting is out of its range, or ``nesterov`` comes without momentum.
    TypeError
        If a setting is not a number, or ``nesterov`` is not a bool.
    """

    def __init__(
        self,
        lr: float | Callable[[int], float] = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        *,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, clip_norm)
        self._momentum = number("momentum", momentum, least=0, below=1)
        self._nesterov = flag("nesterov", nesterov)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs a momentum > 0, such as momentum=0.9")

    @property
    def momentum(self) -> float:
        """The share of the last step that the next one keeps."""
        return self._momentum

    @property
    def nesterov(self) -> bool:
        """Whether the momentum is Nesterov's."""
        return self._nesterov

    @property
    def rule_name(self) -> str:
        """That of the form of momentum."""
        return "nesterov" if self.nesterov else "momentum" if self.momentum > 0 else "sgd"

    @property
    def n_slots(self) -> int:
        """1 with momentum, else 0."""
        return int(self.momentum > 0)

    def check(self, dtype: DType) -> None:
        """Accept every dtype."""

    def _settings(self) -> tuple[float, ...]:
        return (self.momentum,) if self.momentum > 0 else ()

    def _apply(self, w: Array, dw: Array | None, slots: Array, lr: float, t: int) -> None:
        getattr(active(), f"{self.rule_name}_update")(w, dw, *slots, lr, *self._settings())

    def __repr__(self) -> str:
        return f"SGD(lr={self.lr!r}, momentum={self.momentum:g}, nesterov={self.nesterov}{self._shown_clipping})"


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    Parameters
    ----------
    lr : float or callable
        The learning rate > 0, or a function of the epoch (from 0) that returns it.
    beta1, beta2 : float
        The decay of the two means, 0 <= beta < 1.
    eps : float
        Added to the root of the second mean, > 0.
    clip_norm : float, optional
        The greatest norm of the gradient > 0, see :class:`Optimizer`.

    Raises
    ------
    ValueError
        If a setting is out of its range; at the first use, if ``eps`` vanishes in the model's dtype.
    TypeError
        If a setting is not a number.

    Notes
    -----
    Source: D. P. Kingma and J. Ba, Adam: a method for stochastic optimization, ICLR 2015.
    """

    def __init__(
        self,
        lr: float | Callable[[int], float] = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, clip_norm)
        self._beta1 = number("beta1", beta1, least=0, below=1)
        self._beta2 = number("beta2", beta2, least=0, below=1)
        self._eps = number("eps", eps, above=0)

    @property
    def beta1(self) -> float:
        """The decay of the mean of gradients."""
        return self._beta1

    @property
    def beta2(self) -> float:
        """The decay of the mean of squared gradients."""
        return self._beta2

    @property
    def eps(self) -> float:
        """What is added to the root of the second mean."""
        return self._eps

    @property
    def rule_name(self) -> str:
        """Always the same."""
        return "adam"

    @property
    def n_slots(self) -> int:
        """Always 2: the two means."""
        return 2

    def check(self, dtype: DType) -> None:
        """Raise ValueError where eps vanishes in ``dtype``, so that zero gradients would be divided by zero."""
        eps_within(self.eps, dtype, float(np.sqrt(1 - self.beta2)))

    def _settings(self) -> tuple[float, ...]:
        return self.beta1, self.beta2, self.eps

    def _apply(self, w: Array, dw: Array | None, slots: Array, lr: float, t: int) -> None:
        active().adam_update(w, dw, slots[0], slots[1], lr, self.beta1, self.beta2, self.eps, t)

    def __repr__(self) -> str:
        numbers = f"beta1={self.beta1:g}, beta2={self.beta2:g}, eps={self.eps:g}{self._shown_decay}"
        return f"{type(self).__name__}(lr={self.lr!r}, {numbers}{self._shown_clipping})"

    @property
    def _shown_decay(self) -> str:
        return ""


class AdamW(Adam):
    """Adam with decoupled weight decay: w *= 1 - lr weight_decay, and then Adam's step, which knows nothing of it.

    The decay is for the weights of linear layers alone, as ``l2`` of ``fit`` is, which may be given beside it.

    Parameters
    ----------
    lr, beta1, beta2, eps
        As of :class:`Adam`.
    weight_decay : float
        The decay, >= 0.
    clip_norm : float, optional
        The greatest norm of the gradient > 0, see :class:`Optimizer`.

    Raises
    ------
    ValueError
        If a setting is out of its range; at the first use, if ``eps`` vanishes in the model's dtype.
    TypeError
        If a setting is not a number.

    Notes
    -----
    Source: I. Loshchilov and F. Hutter, Decoupled weight decay regularization, ICLR 2019.

    Examples
    --------
    >>> import fastnn as fnn
    >>> fnn.AdamW(lr=0.003, weight_decay=0.1)
    AdamW(lr=0.003, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.1)
    """

    def __init__(
        self,
        lr: float | Callable[[int], float] = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, beta1, beta2, eps, clip_norm=clip_norm)
        self._weight_decay = number("weight_decay", weight_decay, least=0)

    @property
    def weight_decay(self) -> float:
        """The decay of weights, for a learning rate of 1."""
        return self._weight_decay

    @property
    def rule_name(self) -> str:
        """Always the same."""
        return "adamw"

    def _settings(self) -> tuple[float, ...]:
        return *super()._settings(), self.weight_decay

    def _decay(self, w: Array, lr: float) -> None:
        w *= w.dtype.type(1 - lr * self.weight_decay)

    @property
    def _shown_decay(self) -> str:
        return f", weight_decay={self.weight_decay:g}"


class RMSprop(Optimizer):
    """RMSprop: steps scaled by the root of a running mean of the squared gradient, with momentum if wanted.

    s = alpha s + (1 - alpha) dw², w -= lr dw / (√s + eps); with momentum v = momentum v + dw / (√s + eps), w -= lr v.

    Parameters
    ----------
    lr : float or callable
        The learning rate > 0, or a function of the epoch (from 0) that returns it.
    alpha : float
        The decay of the mean, 0 <= alpha < 1.
    eps : float
        Added to its root, > 0.
    momentum : float
        The share of the last step that the next one keeps, 0 <= momentum < 1.
    clip_norm : float, optional
        The greatest norm of the gradient > 0, see :class:`Optimizer`.

    Raises
    ------
    ValueError
        If a setting is out of its range; at the first use, if ``eps`` vanishes in the model's dtype.
    TypeError
        If a setting is not a number.

    Notes
    -----
    Source: T. Tieleman and G. Hinton, lecture 6.5 of Neural networks for machine learning, 2012, as PyTorch has it, not
    centred.

    Examples
    --------
    >>> import fastnn as fnn
    >>> fnn.RMSprop(lr=0.003, momentum=0.9)
    RMSprop(lr=0.003, alpha=0.99, eps=1e-08, momentum=0.9)
    """

    def __init__(
        self,
        lr: float | Callable[[int], float] = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        *,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, clip_norm)
        self._alpha = number("alpha", alpha, least=0, below=1)
        self._eps = number("eps", eps, above=0)
        self._momentum = number("momentum", momentum, least=0, below=1)

    @property
    def alpha(self) -> float:
        """The decay of the mean of squared gradients."""
        return self._alpha

    @property
    def eps(self) -> float:
        """What is added to the root of the mean."""
        return self._eps

    @property
    def momentum(self) -> float:
        """The share of the last step that the next one keeps."""
        return self._momentum

    @property
    def rule_name(self) -> str:
        """That without or with momentum."""
        return "rmsprop_momentum" if self.momentum > 0 else "rmsprop"

    @property
    def n_slots(self) -> int:
        """2 with momentum, else 1."""
        return 1 + int(self.momentum > 0)

    def check(self, dtype: DType) -> None:
        """Raise ValueError where eps vanishes in ``dtype``, so that zero gradients would be divided by zero."""
        eps_within(self.eps, dtype)

    def _settings(self) -> tuple[float, ...]:
        return (self.alpha, self.eps, self.momentum) if self.momentum > 0 else (self.alpha, self.eps)

    def _apply(self, w: Array, dw: Array | None, slots: Array, lr: float, t: int) -> None:
        getattr(active(), f"{self.rule_name}_update")(w, dw, *slots, lr, *self._settings())

    def __repr__(self) -> str:
        numbers = f"alpha={self.alpha:g}, eps={self.eps:g}, momentum={self.momentum:g}"
        return f"RMSprop(lr={self.lr!r}, {numbers}{self._shown_clipping})"


BY_NAME: dict[str, type[SGD] | type[Adam] | type[RMSprop]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
}
# Those that have no default, and so no name to be chosen by, are here alone.
BUILT_IN: list[type[Optimizer]] = [*BY_NAME.values()]


def is_built_in(optimizer: Optimizer) -> bool:
    """Return whether the compiled epoch makes the updates of ``optimizer``; those of a user's subclass it cannot."""
    return type(optimizer) in BUILT_IN


def resolve(optimizer: Any) -> Optimizer:
    """Return a new optimizer of that name, or the object itself where it is one."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str) and optimizer in BY_NAME:
        return BY_NAME[optimizer]()
    names = ", ".join(map(repr, BY_NAME))
    error = ValueError if isinstance(optimizer, str) else TypeError
    raise error(f"optimizer is {optimizer!r}, expected {names} or an object such as SGD(lr=0.1)")
