"""A user's own activation, loss and update rule, made of scalar functions, which run within the compiled epoch."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..backend import active
from ..validation import (
    Array,
    DType,
    contiguous,
    dimensions,
    float_arrays,
    number,
    positive_int,
    real_targets,
    same_shape,
    sample_weights,
)
from . import activations, loss, losses, optimizers
from .functions import Claim, OwnName, ScalarFunction, claim
from .layers import built_in
from .optimizer import Optimizer

_MOST_SETTINGS = 6


class _OfFunctions:
    """What is made of a user's functions, an operation of their content, under the name that the user gave it."""

    _operation: OwnName
    _claim: Claim | None

    def _take(self, kind: str, functions: tuple[ScalarFunction, ...], name: str | None) -> None:
        self._operation = OwnName(kind, functions)
        self._claim = claim(name, self._operation)

    @property
    def name(self) -> str | None:
        """The name that was given."""
        return None if self._claim is None else self._claim.name

    @property
    def _title(self) -> str:
        return self.name or self._operation.functions[0].title

    def check(self, dtype: DType) -> None:
        """Compile what it is made of; TypeError if that cannot be."""
        active().own_check(self._operation, dtype)


@built_in
class Activation(_OfFunctions, activations.BuiltInActivation):
    """An activation of your own: two functions of numbers, y = f(x) and its derivative, at the speed of a built-in one.

    Both are compiled and run within the compiled epoch, element by element in vectors, so write them as for one number.

    Parameters
    ----------
    f : function
        ``f(x)`` returns y.
    derivative : function
        ``derivative(x, y)`` returns dy/dx at x, where y = f(x): use whichever is handier.
    name : str, optional
        How the layer shows itself, the name of ``f`` by default. A name stands for one pair of functions as long as a
        layer of that name lives.

    Raises
    ------
    TypeError
        If something is no function of so many numbers, or uses what a compiled one cannot (see Notes); from ``fit``
        and other uses, before they change anything, if it does not compile or returns anything but a real number.
    ValueError
        If ``name`` stands for other functions.

    Notes
    -----
    A function may use numbers, tuples of them, ``math``, NumPy, and other functions, by njit or not; globals and
    closures count with the values that they have when the layer is made. Write branches as you like: in float32 and in
    float64 ``math.exp``, ``log``, ``tanh``, ``erf``, ``expm1``, ``log1p``, ``sqrt``, ``abs``, ``max``, ``min``,
    comparisons and whole powers become vector instructions, exact to 1 ulp (exp, log), 2 (erf) or 4 (the others);
    anything else that Numba compiles is right too, but slower. Numbers in the function take the dtype of the model, as
    they do beside a NumPy array; what is computed in float64 all the same is rounded. Like NumPy, and unlike
    Python, the result is inf or NaN where it is not defined.

    Copies share the functions. Pickles and :meth:`Sequential.save` keep where they can be imported from, so they must
    stand at the top of a module, by def; unpickling and :func:`fastnn.load` import that module.

    Examples
    --------
    >>> import math
    >>> import fastnn as fnn
    >>> elu = fnn.Activation(lambda x: x if x > 0 else math.exp(x) - 1, lambda x, y: 1 if x > 0 else y + 1, name="elu")
    >>> elu.forward([[2.0, 0.0, -100.0]])
    array([[ 2.,  0., -1.]])
    """

    arguments = ("f", "derivative", "name")
    keeps = "xy"
    format = 3
    _kept: Any = None

    def __init__(
        self, f: Callable[[float], float], derivative: Callable[[float, float], float], *, name: str | None = None
    ) -> None:
        functions = ScalarFunction("f", f, ("x",)), ScalarFunction("derivative", derivative, ("x", "y"))
        self._take("activation", functions, name)

    @property
    def f(self) -> Callable[[float], float]:
        """The function."""
        return self._operation.functions[0].function

    @property
    def derivative(self) -> Callable[[float, float], float]:
        """Its derivative."""
        return self._operation.functions[1].function

    @property
    def operation(self) -> str:  # type: ignore[override]  # a class's constant elsewhere
        """A name of the content."""
        return self._operation

    def numbers(self) -> tuple[float, ...]:
        """Return no settings."""
        return ()

    def config(self) -> dict[str, Any]:
        """Return what makes such a layer, the functions by where they can be imported from."""
        return _config(("f", "derivative"), self._operation, self.name)

    def forward(self, x: Array, training: bool = False) -> Array:
        """Return y (m, k), elementwise, for x (m, k)."""
        (x,) = float_arrays(("x", x))
        x = contiguous(x)
        y = np.empty(x.shape, x.dtype)
        active().own(self._operation, x, y)
        if training:
            self._kept = x, y
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (m, k) from dy (m, k)."""
        if self._kept is None:
            raise ValueError(f"{self!r} has nothing to go back from: call forward(x, training=True) first")
        dy, x, y = float_arrays(("dy", dy), *zip(("x", "y"), self._kept, strict=True))
        same_shape("dy", dy, "x", x)
        out = np.empty(x.shape, x.dtype)
        active().own_backward(self._operation, *map(contiguous, (dy, x, y)), out)
        return out

    def __repr__(self) -> str:
        return f"Activation({self._title})"


class ElementwiseLoss(_OfFunctions, loss.BuiltInLoss):  # type: ignore[misc]  # a name is a constant elsewhere
    """A loss of your own, elementwise: the mean over samples of the sum over outputs of ``value(p, y)``.

    The two functions are compiled and run as those of :class:`Activation` are; see there what they may use.

    Parameters
    ----------
    value : function
        ``value(p, y)`` returns the loss of an output p for the target y.
    derivative : function
        ``derivative(p, y)`` returns the derivative of that with respect to p.
    name : str, optional
        As of :class:`Activation`.

    Raises
    ------
    TypeError, ValueError
        As for :class:`Activation`.

    Examples
    --------
    >>> import math
    >>> import fastnn as fnn
    >>> log_cosh = fnn.ElementwiseLoss(lambda p, y: math.log(math.cosh(p - y)), lambda p, y: math.tanh(p - y))
    >>> log_cosh.forward([[1.0], [2.0]], [[1.0], [2.0]])
    0.0
    """

    arguments = ("value", "derivative", "name")
    format = 3

    def __init__(
        self,
        value: Callable[[float, float], float],
        derivative: Callable[[float, float], float],
        *,
        name: str | None = None,
    ) -> None:
        functions = ScalarFunction("value", value, ("p", "y")), ScalarFunction("derivative", derivative, ("p", "y"))
        self._take("loss", functions, name)

    @property
    def value(self) -> Callable[[float, float], float]:
        """The function."""
        return self._operation.functions[0].function

    @property
    def derivative(self) -> Callable[[float, float], float]:
        """Its derivative."""
        return self._operation.functions[1].function

    @property
    def operation(self) -> str:
        """A name of the content."""
        return self._operation

    def config(self) -> dict[str, Any]:
        """Return what makes such a loss, the functions by where they can be imported from."""
        return _config(("value", "derivative"), self._operation, self.name)

    def forward(self, pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the loss."""
        return self._computed(pred, y, sample_weight)[0]

    def backward(self, pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Return the gradient (m, k) with respect to ``pred``."""
        return self._computed(pred, y, sample_weight)[1]

    def compute(self, pred: Array, y: Array, sample_weight: Array | None) -> float:
        """Return the loss of checked arrays."""
        return self.compute_backward(pred, y, sample_weight, np.empty_like(pred))

    def compute_backward(self, pred: Array, y: Array, sample_weight: Array | None, out: Array) -> float:
        """Return the loss of checked arrays, and its gradient in ``out``."""
        return float(active().own_loss(self._operation, pred, y, sample_weight, out))

    def _computed(self, pred: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[float, Array]:
        (pred,) = float_arrays(("pred", pred))
        dimensions("pred", pred, 2)
        m, k = pred.shape
        weights = sample_weights(sample_weight, m, pred.dtype)
        pred, out = contiguous(pred), np.empty(pred.shape, pred.dtype)
        return self.compute_backward(pred, real_targets(y, m, k, pred.dtype), weights, out), out

    def __repr__(self) -> str:
        return f"ElementwiseLoss({self._title})"


class UpdateRule(_OfFunctions, Optimizer):
    """An optimizer of your own: how one parameter moves, as a function of numbers, at the speed of a built-in one.

    The function is compiled and runs as those of :class:`Activation` do; see there what it may use.

    Parameters
    ----------
    update : function
        ``update(w, g, *slots, lr, t, *settings)`` returns the new ``w``, or with slots the tuple ``(w, *slots)``, for
        a parameter w, the gradient g at it, penalty included, and the numbers that the rule keeps for it, 0 at first.
        lr is the learning rate, t the number of the update, from 1, both in float64 as the settings are, so that
        ``1 - beta**t`` keeps its digits.
    lr : float or callable
        The learning rate > 0, or a function of the epoch (from 0) that returns it.
    slots : int
        How many numbers the rule keeps for each parameter, >= 0.
    settings : mapping of str to float, optional
        Up to six numbers that ``update`` takes behind t, by the names of its arguments.
    name : str, optional
        As of :class:`Activation`.
    clip_norm : float, optional
        The greatest norm of the gradient > 0, see :class:`Optimizer`.

    Raises
    ------
    TypeError, ValueError
        As for :class:`Activation`, or if ``lr``, ``slots`` or ``settings`` are not as described.

    Examples
    --------
    >>> import math
    >>> import fastnn as fnn
    >>> def rmsprop(w, g, v, lr, t, rho, eps):
    ...     v = rho * v + (1 - rho) * g * g
    ...     return w - lr * g / (math.sqrt(v) + eps), v
    >>> fnn.UpdateRule(rmsprop, lr=0.01, slots=1, settings={"rho": 0.9, "eps": 1e-8})
    UpdateRule(rmsprop, lr=0.01, rho=0.9, eps=1e-08)
    """

    def __init__(
        self,
        update: Callable[..., Any],
        *,
        lr: float | Callable[[int], float],
        slots: int = 0,
        settings: Mapping[str, float] | None = None,
        name: str | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(lr, clip_norm)
        n_slots = 0 if slots == 0 and not isinstance(slots, bool) else positive_int("slots", slots)
        given = _settings(settings)
        names = ("w", "g", *(f"slot{i + 1}" for i in range(n_slots)), "lr", "t")
        function = ScalarFunction("update", update, (*names, *given), 2 + len(given), 1 + n_slots)
        wanted = function.names[len(names) :]
        if set(given) != set(wanted):
            taken = f"behind t {function.label} takes {_listed(wanted)}"
            raise ValueError(f"settings are {_listed(given)}, but {taken}: they must be equal")
        self._n_slots, self._values = n_slots, {setting: given[setting] for setting in wanted}
        self._take("rule", (function,), name)

    @property
    def update_function(self) -> Callable[..., Any]:
        """The function."""
        return self._operation.functions[0].function

    @property
    def settings(self) -> dict[str, float]:
        """The numbers that the function takes behind t, fixed when the optimizer is made."""
        return dict(self._values)

    @property
    def rule_name(self) -> str:
        """A name of the content."""
        return self._operation

    @property
    def n_slots(self) -> int:
        """How many numbers it keeps for each parameter."""
        return self._n_slots

    def _settings(self) -> tuple[float, ...]:
        return tuple(self._values.values())

    def _apply(self, w: Array, dw: Array | None, slots: Array, lr: float, t: int) -> None:
        active().own_update(self._operation, w, dw, slots, lr, self._settings(), t)

    def __repr__(self) -> str:
        numbers = "".join(f", {name}={value:g}" for name, value in self._values.items())
        return f"UpdateRule({self._title}, lr={self.lr!r}{numbers}{self._shown_clipping})"


losses.BUILT_IN["elementwise"] = ElementwiseLoss
optimizers.BUILT_IN.append(UpdateRule)


def _settings(settings: Any) -> dict[str, float]:
    """The settings of a rule as numbers by their names."""
    if settings is None:
        return {}
    if not isinstance(settings, Mapping):
        raise TypeError(f"settings are {settings!r}, expected a mapping such as {{'rho': 0.9}}")
    if len(settings) > _MOST_SETTINGS:
        raise ValueError(f"settings are {len(settings)}, expected at most {_MOST_SETTINGS}")
    return {str(name): number(f"settings[{name!r}]", value) for name, value in settings.items()}


def _listed(names: Any) -> str:
    return ", ".join(names) or "none"


def _config(names: tuple[str, str], operation: OwnName, name: str | None) -> dict[str, Any]:
    return {**{each: f.path for each, f in zip(names, operation.functions, strict=True)}, "name": name}
