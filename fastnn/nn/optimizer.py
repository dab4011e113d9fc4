"""What all optimizers share: the learning rate, the state of the model that they last trained, and the step."""

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..validation import Array, DType, number
from . import optimizer_state
from .lowering import OptimizerSpec, aligned_zeros
from .stack import Identity, Stack

if TYPE_CHECKING:
    from ..model import Sequential


class Optimizer(ABC):
    """What all optimizers share: the learning rate, the state, and the step.

    The state (momenta, and the numbers of updates and epochs made) is kept from one ``fit`` or ``step`` to the next of
    the same model; with another model it starts afresh. Copied or pickled in one go with its model, the two go on
    together; a copy of the optimizer alone starts afresh. An optimizer trains one model at a time: threads that train
    models at once need one for each.

    Attributes
    ----------
    lr : float or callable
        The learning rate, or a function of the epoch (from 0) that returns it; a function with an attribute
        ``per = "step"`` gets the number of the update instead (from 0). Another one may be assigned at any time;
        ``fit`` takes it from its next epoch on. All other settings are fixed when the optimizer is made.
    epoch : int
        The epochs made with the current model, counted by ``fit``; in a training loop of your own set it yourself if
        ``lr`` is a function of it.
    steps : int
        The updates made to the current model.
    clip_norm : float or None
        The greatest norm of the gradient of all parameters that are trained, penalty included. Where it is greater, the
        gradient is multiplied by clip_norm / (norm + 1e-6), as PyTorch has it.
    """

    _clip_norm: float | None = None
    _STATE: ClassVar[tuple[str, ...]] = ("_owner", "_slots", "_user_slots", "steps", "epoch")  # what training changes

    def __init__(self, lr: float | Callable[[int], float], clip_norm: float | None = None) -> None:
        self.lr = lr
        self._clip_norm = None if clip_norm is None else number("clip_norm", clip_norm, above=0)
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
        if callable(lr):
            _check_per(lr)
        self._lr = lr if callable(lr) else number("lr", lr, above=0)

    @property
    def clip_norm(self) -> float | None:
        """The greatest norm of the gradient, fixed when the optimizer is made; None for any."""
        return self._clip_norm

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

    @property
    def has_rate_per_step(self) -> bool:
        """Whether the learning rate is a function of the number of the update."""
        return callable(self.lr) and _check_per(self.lr) == "step"

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, or that of the next update where each has its own.

        Raises
        ------
        ValueError, TypeError
            If a function returns anything but a finite number >= 0.
        """
        return self._rate_at(self.steps if self.has_rate_per_step else epoch)

    def rates(self, epoch: int, step: int, count: int) -> float | Array:
        """Return the learning rate of an epoch, or (count,) float64, that of each of its updates from ``step`` on.

        Raises
        ------
        ValueError, TypeError
            If a function returns anything but a finite number >= 0.
        """
        if self.has_rate_per_step:
            return np.array([self._rate_at(step + i) for i in range(count)])
        return self._rate_at(epoch)

    def _rate_at(self, place: int) -> float:
        return number(f"lr({place})", self.lr(place), least=0) if callable(self.lr) else self.lr

    def step(self, model: "Sequential") -> None:
        """Update the parameters of ``model`` in place from the gradients of the last ``model.backward``.

        They may have been changed since, or be your own, see ``model.flat_gradient()``.

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
            is_mine = self.belongs_to(stack)
            lr = np.ravel(self.rates(self.epoch if is_mine else 0, self.steps if is_mine else 0, 1))[0].item()
            before = vars(self).copy()
            try:
                self.bind(stack)
                self.update(stack, lr, self.steps + 1)
                self.steps += 1
            except BaseException:
                vars(self).update(before)
                raise

    def state_dict(self) -> dict[str, Any]:
        """Return the state as numbers, texts and copies of arrays, for :meth:`load_state_dict` of one made alike.

        Returns
        -------
        dict
            "rule" and "settings" say how it was made; "lr" is None where it is a function; "steps" and "epoch"; "slots"
            (n_slots, n) as of ``model.flat_parameters()``, None before the first update, and "own_slots", those of
            layers of your own.
        """
        return optimizer_state.state_of(self)

    def load_state_dict(self, state: Mapping[str, Any], model: "Sequential | None" = None) -> None:
        """Go on from where :meth:`state_dict` was taken.

        Parameters
        ----------
        state : dict
        model : Sequential, optional
            The one that is to be trained; by default that which the optimizer has trained before.

        Raises
        ------
        ValueError, TypeError
            If the state has other names than :meth:`state_dict` gives, is that of another rule or setting, or its
            arrays do not fit the model; or the optimizer is busy, or has no model yet and is given none.
        """
        stack = None if model is None else getattr(model, "_stack", None)
        if model is not None and not isinstance(stack, Stack):
            raise TypeError(f"model is {model!r}, expected a Sequential")
        with self.held():
            optimizer_state.load(self, state, stack)

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

    def rule(self, slots: Array, lr: float | Array, step: int) -> OptimizerSpec:
        """Return what the compiled epoch needs to know; ``step`` updates were made before it, lr is as of `rates`."""
        first, rates = (lr, None) if isinstance(lr, float) else (float(lr[0]), lr)
        return OptimizerSpec(self.rule_name, (first, *self._settings()), slots, step, rates, self.clip_norm)

    def update(self, stack: Stack, lr: float, t: int) -> None:
        """Make update number ``t`` of the bound model after a backward pass, a user's layers included."""
        gradient = stack.gradient
        assert gradient is not None, "a backward pass came before"
        moves = zip(stack.user_moves(), self._user_slots, strict=True)
        trained = [(p, slots, lr * rate) for (p, rate), slots in moves if rate is not None]
        user = [
            (p, np.asarray(p, order="C"), dp, slots, own_lr)
            for (p, slots, own_lr), dp in zip(trained, stack.user_gradients(), strict=True)
        ]
        parts = stack.moves()
        factor = self._clipping([*[gradient[part] for part, _ in parts], *[dp for _, _, dp, _, _ in user]])
        for w, rate in stack.penalised():
            self._decay(w, lr * rate)
        for part, rate in parts:
            self._apply(stack.params[part], clipped(gradient[part], factor), self._slots[:, part], lr * rate, t)
        for p, w, dp, slots, own_lr in user:
            self._apply(w, clipped(dp, factor), slots, own_lr, t)
            if w is not p:
                p[...] = w

    def _clipping(self, gradients: list[Array]) -> float:
        """Return what the gradients are to be multiplied by."""
        if self.clip_norm is None:
            return 1.0
        norm = np.sqrt(sum(float(np.square(gradient, dtype=np.float64).sum()) for gradient in gradients))
        return min(1.0, float(self.clip_norm / (norm + 1e-6)))

    @property
    def _shown_clipping(self) -> str:
        return "" if self.clip_norm is None else f", clip_norm={self.clip_norm:g}"

    @abstractmethod
    def _settings(self) -> tuple[float, ...]:
        """Return what the rule takes beside the learning rate."""

    def _decay(self, w: Array, lr: float) -> None:  # noqa: B027 - most rules have none
        """Let a weight decay before an update, where the rule does."""

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


def clipped(gradient: Array, factor: float) -> Array:
    """Return the gradient times a factor, itself where that is 1."""
    return gradient if factor == 1 else gradient * gradient.dtype.type(factor)


def _check_per(lr: Any) -> str:
    """Return what a schedule is a function of, the epoch where it does not say."""
    per = getattr(lr, "per", "epoch")
    if per not in ("epoch", "step"):
        raise ValueError(f"lr.per is {per!r}, expected 'epoch' or 'step'")
    return str(per)
