"""Optimizers: how a gradient moves the parameters. Their state belongs to the model that they last trained."""

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np

from ..backend import active
from ..validation import SMALLEST_NORMAL, Array, DType, flag, number
from .lowering import OptimizerSpec, aligned_zeros
from .stack import Identity, Stack

if TYPE_CHECKING:
    from ..model import Sequential

OptimizerName: TypeAlias = Literal["sgd", "adam", "adamw"]


class Optimizer(ABC):
    """What all optimizers share: the learning rate, the state, and the step.

    The state (momenta, and the numbers of updates and epochs made) is kept from one ``fit`` or ``step`` to the next of
    the same model; with another model it starts afresh. Copied or pickled in one go with its model, the two go on
    together; a copy of the optimizer alone starts afresh. An optimizer trains one model at a time: threads that train
    models at once need one for each.

    Attributes
    ----------
    lr : float or callable
        The learning rate, or a function of the epoch (from 0) that returns it. Another one may be assigned at any time;
        ``fit`` takes it from its next epoch on. All other settings are fixed when the optimizer is made.
    epoch : int
        The epochs made with the current model, counted by ``fit``; in a training loop of your own set it yourself if
        ``lr`` is a function.
    steps : int
        The updates made to the current model.
    """

    _STATE: ClassVar[tuple[str, ...]] = ("_owner", "_slots", "_user_slots", "steps", "epoch")  # what training changes

    def __init__(self, lr: float | Callable[[int], float]) -> None:
        self.lr = lr
        self.epoch = 0
        self.steps = 0
        self._owner: Identity | None = None
        self._slots: Array = np.zeros((0, 0))
        self._user_slots: list[Array] = []
        self._lock = threading.Lock()

    @property
    def lr(self) -> float | Callable[[int], float]:
        """The learning rate, or a function of the epoch (from 0) that returns it."""
        return self._lr

    @lr.setter
    def lr(self, lr: float | Callable[[int], float]) -> None:
        self._lr = lr if callable(lr) else number("lr", lr, above=0)

    @property
    @abstractmethod
    def rule_name(self) -> str:
        """The name of the update, as kernels and twins know it."""

    @property
    @abstractmethod
    def n_slots(self) -> int:
        """How many numbers the update keeps for each parameter."""

    def held(self) -> AbstractContextManager[bool]:
        """Return the context in which the state belongs to one ``fit`` or ``step`` alone.

        Raises
        ------
        ValueError
            If the optimizer is busy training at this moment.
        """
        if self._lock.locked():
            raise ValueError(f"{self!r} is busy training a model at this moment: make an optimizer for each model")
        return self._lock  # itself, because no interruption comes between taking a lock and entering its block

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch.

        Raises
        ------
        ValueError, TypeError
            If a function returns anything but a finite number >= 0.
        """
        return number(f"lr({epoch})", self.lr(epoch), least=0) if callable(self.lr) else self.lr

    def step(self, model: "Sequential") -> None:
        """Update the parameters of ``model`` in place from the gradients of the last ``model.backward``.

        Raises
        ------
        ValueError
            If there are no gradients yet, the learning rate is not a finite number > 0, or the optimizer is busy
            training in another thread.
        TypeError
            If ``model`` is none.
        """
        stack = getattr(model, "_stack", None)
        if not isinstance(stack, Stack):
            raise TypeError(f"model is {model!r}, expected a Sequential")
        if stack.gradient is None:
            raise ValueError("the model has no gradients yet: call model.backward(dy) before optimizer.step(model)")
        with self.held():
            lr = self.rate(self.epoch if self.belongs_to(stack) else 0)
            before = vars(self).copy()
            try:
                self.bind(stack)
                self.update(stack, lr, self.steps + 1)
                self.steps += 1
            except BaseException:
                vars(self).update(before)
                raise

    def belongs_to(self, stack: Stack) -> bool:
        """Return whether the state is that of this model."""
        return self._owner is stack.identity

    @abstractmethod
    def check(self, dtype: DType) -> None:
        """Raise ValueError where a setting does not work in the dtype of a model."""

    def bind(self, stack: Stack) -> None:
        """Make the state belong to a model: keep it where it does already, else start afresh."""
        self.check(stack.dtype)
        user = stack.user_parameters()
        if not self.belongs_to(stack):
            self._slots = aligned_zeros((self.n_slots, stack.params.size), stack.dtype)
            self._owner = stack.identity
            self._user_slots = []
            self.steps = self.epoch = 0
        if [slots.shape[1:] for slots in self._user_slots] != [p.shape for p in user]:
            self._user_slots = [np.zeros((self.n_slots, *p.shape), p.dtype) for p in user]

    def state(self) -> list[Array]:
        """Return the arrays of the state."""
        return [self._slots, *self._user_slots]

    def rule(self, slots: Array, lr: float, step: int) -> OptimizerSpec:
        """Return what the compiled epoch needs to know; ``step`` updates were made before it."""
        return OptimizerSpec(self.rule_name, (lr, *self._settings()), slots, step)

    def update(self, stack: Stack, lr: float, t: int) -> None:
        """Make update number ``t`` of the bound model after a backward pass, a user's layers included."""
        user = [
            (p, np.asarray(p, order="C"), dp, slots)
            for p, dp, slots in zip(stack.user_parameters(), stack.user_gradients(), self._user_slots, strict=True)
        ]
        self._decay(stack.penalised(), lr)
        self._apply(stack.params, stack.gradient, self._slots, lr, t)
        for p, w, dp, slots in user:
            self._apply(w, dp, slots, lr, t)
            if w is not p:
                p[...] = w

    @abstractmethod
    def _settings(self) -> tuple[float, ...]:
        """Return what the rule takes beside the learning rate."""

    def _decay(self, weights: list[Array], lr: float) -> None:  # noqa: B027 - most rules have none
        """Let weights decay before an update, where the rule does."""

    @abstractmethod
    def _apply(self, w: Array, dw: Array | None, slots: Array, lr: float, t: int) -> None:
        """Call the update kernel."""

    def afresh(self) -> "Optimizer":
        """Return a copy that has no state yet, and nothing in common with this one."""
        nothing: dict[str, Any] = {
            "_owner": None,
            "_slots": np.zeros((0, 0)),
            "_user_slots": [],
            "steps": 0,
            "epoch": 0,
        }
        twin = object.__new__(type(self))
        twin.__setstate__(copy.deepcopy(self.__getstate__() | nothing))
        return twin

    def __copy__(self) -> "Optimizer":
        """Return a copy that starts afresh: two optimizers must not write to one state."""
        twin = object.__new__(type(self))
        twin.__setstate__(self.__getstate__() | {"_owner": None})
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        slots = aligned_zeros(state["_slots"].shape, state["_slots"].dtype)
        slots[...] = state["_slots"]
        # Arrays that joblib maps into memory are read-only.
        user_slots = [np.array(slots) for slots in state["_user_slots"]]
        vars(self).update(state, _slots=slots, _user_slots=user_slots, _lock=threading.Lock())


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

    Raises
    ------
    ValueError
        If a setting is out of its range, or ``nesterov`` comes without momentum.
    TypeError
        If a setting is not a number, or ``nesterov`` is not a bool.
    """

    def __init__(
        self, lr: float | Callable[[int], float] = 0.01, momentum: float = 0.0, nesterov: bool = False
    ) -> None:
        super().__init__(lr)
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
        return f"SGD(lr={self.lr!r}, momentum={self.momentum:g}, nesterov={self.nesterov})"


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
    ) -> None:
        super().__init__(lr)
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
        if self.eps * np.sqrt(1 - self.beta2) < SMALLEST_NORMAL[dtype]:  # training takes smaller numbers for zero
            raise ValueError(f"eps is {self.eps:g}, which vanishes in {dtype}: expected at least 1e-30")

    def _settings(self) -> tuple[float, ...]:
        return self.beta1, self.beta2, self.eps

    def _apply(self, w: Array, dw: Array | None, slots: Array, lr: float, t: int) -> None:
        active().adam_update(w, dw, slots[0], slots[1], lr, self.beta1, self.beta2, self.eps, t)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(lr={self.lr!r}, beta1={self.beta1:g}, beta2={self.beta2:g}, eps={self.eps:g})"


class AdamW(Adam):
    """Adam with decoupled weight decay: w *= 1 - lr weight_decay, and then Adam's step, which knows nothing of it.

    The decay is for the weights of linear layers alone, as ``l2`` of ``fit`` is, which may be given beside it.

    Parameters
    ----------
    lr, beta1, beta2, eps
        As of :class:`Adam`.
    weight_decay : float
        The decay, >= 0.

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
    ) -> None:
        super().__init__(lr, beta1, beta2, eps)
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

    def _decay(self, weights: list[Array], lr: float) -> None:
        for w in weights:
            w *= w.dtype.type(1 - lr * self.weight_decay)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, weight_decay={self.weight_decay:g})"


BY_NAME: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
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
