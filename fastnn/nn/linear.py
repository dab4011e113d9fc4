"""The linear layer."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from .. import ops
from ..initializers import BY_NAME
from ..validation import Array, positive_int
from .layers import BuiltIn, Gradient, Parameter, built_in, checked

_MOST_WEIGHTS = 1 << 58


@built_in
class Linear(BuiltIn):
    """The linear layer x W + b. A subclass that overrides ``backward`` takes ``l2`` as well.

    Parameters
    ----------
    n_in, n_out : int
        Inputs and outputs a sample.
    init : {"he", "glorot", "zeros"}, callable or array_like (n_in, n_out)
        The initial weights: by name (see :mod:`fastnn.initializers`), from a function of a
        ``numpy.random.Generator`` and the shape, or as they are.
    bias : bool or array_like (n_out,)
        False for no bias; True for one that starts at zero; or its initial values.
    trainable : bool
        False freezes weight and bias: training leaves them as they are, without decay and penalty.
    lr_scale : float
        A factor >= 0 of the learning rate for weight and bias.

    Attributes
    ----------
    weight : ndarray (n_in, n_out)
    bias : ndarray (n_out,), or None
        Views into the model's parameters. Assigning to them writes the values.
    weight_grad, bias_grad : ndarray like weight and bias, or None before the first ``model.backward``

    Raises
    ------
    ValueError
        If a width is not positive, the initialiser is unknown, an array does not fit or is not finite, or ``lr_scale``
        is negative.
    TypeError
        If a width is not an integer, an array does not hold real numbers, or ``bias`` is neither a bool nor an array,
        or ``trainable`` is no bool.
    """

    operation = "linear"
    arguments = ("n_in", "n_out", "bias")
    penalised = ("weight",)
    n_in: int
    n_out: int
    weight = Parameter("The weights (n_in, n_out), a view into the model's parameters.")
    bias = Parameter(
        "The bias (n_out,), a view into the model's parameters, or None.", fix="use Linear(..., bias=True)"
    )
    weight_grad = Gradient()
    bias_grad = Gradient()
    _SAVED = ("_x",)
    _x: Array | None = None

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        init: Literal["he", "glorot", "zeros"] | Callable[..., ArrayLike] | ArrayLike = "he",
        bias: bool | ArrayLike = True,
        trainable: bool = True,
        lr_scale: float = 1.0,
    ) -> None:
        self.trainable, self.lr_scale = trainable, lr_scale
        self.n_in = positive_int("n_in", n_in)
        self.n_out = positive_int("n_out", n_out)
        if self.n_in * self.n_out > _MOST_WEIGHTS:
            raise ValueError(f"n_in is {n_in} and n_out is {n_out}: no memory holds that many weights")
        if bias is None or isinstance(bias, (str, bytes)) or (np.ndim(bias) == 0 and not _is_flag(bias)):
            raise TypeError(f"bias is {bias!r}, expected True, False or an array of shape ({self.n_out},)")
        self.has_bias = not _is_flag(bias) or bool(bias)
        self._init = init if callable(init) else _initial_weight(init, self.n_in, self.n_out)
        self._initial_bias = None if _is_flag(bias) else checked("bias", bias, (self.n_out,))

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of x W for one sample."""
        return self.n_in * self.n_out

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of weight and bias."""
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.n_in, self.n_out), "bias": (self.n_out,)}
        return shapes if self.has_bias else {"weight": shapes["weight"]}

    def initial(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the initial weight and bias, drawn from ``rng`` where they are not given."""
        shape = (self.n_in, self.n_out)
        weight = checked("init", self._init(rng, shape), shape) if callable(self._init) else self._init
        if not self.has_bias:
            return {"weight": weight}
        return {"weight": weight, "bias": np.zeros(self.n_out) if self._initial_bias is None else self._initial_bias}

    def config(self) -> dict[str, Any]:
        """Return what makes such a layer; the bias as whether there is one."""
        return {"n_in": self.n_in, "n_out": self.n_out, "bias": self.has_bias}

    def forward(self, x: Array, training: bool = False) -> Array:
        """Return x W + b (m, n_out) for x (m, n_in)."""
        out = ops.linear(x, self.weight, np.zeros(self.n_out, self.weight.dtype) if self.bias is None else self.bias)
        if training:
            self._x = x
        return out

    def backward(self, dy: Array, l2: float = 0.0) -> Array:
        """Return dx = dy Wᵀ, and keep dW = xᵀ dy + 2 l2 W and db = Σ dy as weight_grad and bias_grad."""
        if self._x is None:
            raise ValueError(f"{self!r} has no input to go back to: call forward(x, training=True) first")
        dx, dw, db = ops.linear_backward(dy, self._x, self.weight, l2)
        self.keep_gradients(**({"weight": dw, "bias": db} if self.has_bias else {"weight": dw}))
        return dx

    def __repr__(self) -> str:
        return self._shown([str(self.n_in), str(self.n_out), *(() if self.has_bias else ("bias=False",))])


def _is_flag(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _initial_weight(init: Any, n_in: int, n_out: int) -> Any:
    if isinstance(init, str):
        if init not in BY_NAME:
            raise ValueError(f"init is {init!r}, expected {', '.join(map(repr, BY_NAME))}, a function or an array")
        return BY_NAME[init]
    return checked("init", init, (n_in, n_out))
