"""Layers: the base class, which a user's own layer may extend, the linear layer, and activations.

A layer that is used in a model keeps its parameters as views into the model's flat buffer, so what is read from or
written to ``layer.weight`` is what the kernels use.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from . import ops
from .initializers import BY_NAME
from .validation import Array, DType, finite, number, positive_int, real_array

_MOST_WEIGHTS = 1 << 58


class Layer(ABC):
    """What a layer is: a forward pass and its gradient.

    A layer of your own extends this class, or is any object with these methods. ``forward`` gets x (m, n_in) in the
    model's dtype and returns (m, n_out); when ``training`` is true it keeps what ``backward`` will need. Neither may
    write into its argument. A layer with parameters returns them from ``parameters``, as float32 or float64 arrays that
    stay the same objects, and their gradients after ``backward`` in the same order from ``gradients``; the optimizer
    then updates them in place.

    Attributes
    ----------
    n_in, n_out : int or None
        Inputs and outputs a sample, None where the layer takes what comes or does not say what it gives.
    """

    n_in: int | None = None
    n_out: int | None = None

    @abstractmethod
    def forward(self, x: Array, training: bool = False) -> Array:
        """Return the layer's output (m, n_out) for x (m, n_in)."""

    @abstractmethod
    def backward(self, dy: Array) -> Array:
        """Return dx (m, n_in) from dy (m, n_out), both gradients of the loss, for the x of the last training pass."""

    def parameters(self) -> list[Array]:
        """Return the arrays that training changes."""
        return []

    def gradients(self) -> list[Array]:
        """Return the gradients of :meth:`parameters`, in the same order, after :meth:`backward`."""
        return []


class BuiltIn(Layer):
    """A layer that has an op code. Copies and pickles leave out what belongs to the model, and saved inputs.

    A training pass saves under the names in ``_SAVED``, which are among those that copies leave out.
    """

    _SAVED: ClassVar[tuple[str, ...]] = ()
    _TRANSIENT: ClassVar[tuple[str, ...]] = ()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self._TRANSIENT}


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

    Attributes
    ----------
    weight : ndarray (n_in, n_out)
    bias : ndarray (n_out,), or None
        Views into the model's parameters. Assigning to them writes the values.
    weight_grad, bias_grad : ndarray like weight and bias, or None before the first ``model.backward``

    Raises
    ------
    ValueError
        If a width is not positive, the initialiser is unknown, or an array does not fit or is not finite.
    TypeError
        If a width is not an integer, an array does not hold real numbers, or ``bias`` is neither a bool nor an array.
    """

    n_in: int
    n_out: int
    _SAVED = ("_x",)
    _TRANSIENT = (*_SAVED, "_weight", "_bias", "_weight_grad", "_bias_grad")
    _x: Array | None = None
    _weight: Array | None = None
    _bias: Array | None = None
    _weight_grad: Array | None = None
    _bias_grad: Array | None = None

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        init: Literal["he", "glorot", "zeros"] | Callable[..., ArrayLike] | ArrayLike = "he",
        bias: bool | ArrayLike = True,
    ) -> None:
        self.n_in = positive_int("n_in", n_in)
        self.n_out = positive_int("n_out", n_out)
        if self.n_in * self.n_out > _MOST_WEIGHTS:
            raise ValueError(f"n_in is {n_in} and n_out is {n_out}: no memory holds that many weights")
        if bias is None or isinstance(bias, (str, bytes)) or (np.ndim(bias) == 0 and not _is_flag(bias)):
            raise TypeError(f"bias is {bias!r}, expected True, False or an array of shape ({self.n_out},)")
        self.has_bias = not _is_flag(bias) or bool(bias)
        self._init = init if callable(init) else _initial_weight(init, self.n_in, self.n_out)
        self._initial_bias = None if _is_flag(bias) else _checked("bias", bias, (self.n_out,))

    @property
    def weight(self) -> Array:
        """The weights (n_in, n_out), a view into the model's parameters."""
        if self._weight is None:
            raise ValueError(f"{self!r} has no weights yet: they are made when a Sequential is built from it")
        return self._weight

    @weight.setter
    def weight(self, value: ArrayLike) -> None:
        self.weight[...] = _checked("weight", value, self.weight.shape, self.weight.dtype)

    @property
    def bias(self) -> Array | None:
        """The bias (n_out,), a view into the model's parameters, or None."""
        if self.has_bias and self._bias is None:
            raise ValueError(f"{self!r} has no bias yet: it is made when a Sequential is built from it")
        return self._bias

    @bias.setter
    def bias(self, value: ArrayLike) -> None:
        bias = self.bias
        if bias is None:
            raise ValueError(f"{self!r} was made without a bias: use Linear(..., bias=True)")
        bias[...] = _checked("bias", value, bias.shape, bias.dtype)

    @property
    def weight_grad(self) -> Array | None:
        """The gradient (n_in, n_out) from the last ``model.backward``, or None before it."""
        return self._weight_grad

    @property
    def bias_grad(self) -> Array | None:
        """The gradient (n_out,) from the last ``model.backward``, or None before it or without a bias."""
        return self._bias_grad

    def parameters(self) -> list[Array]:
        """Return [weight, bias], or [weight]."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def gradients(self) -> list[Array]:
        """Return [weight_grad, bias_grad], as far as they exist."""
        return [g for g in (self._weight_grad, self._bias_grad) if g is not None]

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
        if self._weight_grad is None:
            self.bind_gradient(np.empty_like(self.weight), None if self.bias is None else np.empty_like(self.bias))
        for gradient, value in zip(self.gradients(), (dw, db), strict=False):
            gradient[...] = value
        return dx

    @property
    def is_bound(self) -> bool:
        """Whether the layer belongs to a model."""
        return self._weight is not None

    def bind(self, weight: Array | None, bias: Array | None) -> None:
        """Use these views into the buffer of a model, or belong to none."""
        self._weight, self._bias = weight, bias
        self._weight_grad = self._bias_grad = None

    def bind_gradient(self, weight_grad: Array | None, bias_grad: Array | None) -> None:
        """Write gradients into these views from now on, or into new arrays."""
        self._weight_grad, self._bias_grad = weight_grad, bias_grad

    def initialise(self, rng: np.random.Generator) -> tuple[Array, Array | None]:
        """Return the initial weight and bias, drawn from ``rng`` where they are not given."""
        shape = (self.n_in, self.n_out)
        weight = _checked("init", self._init(rng, shape), shape) if callable(self._init) else self._init
        if not self.has_bias:
            return weight, None
        return weight, np.zeros(self.n_out) if self._initial_bias is None else self._initial_bias

    def __repr__(self) -> str:
        return f"Linear({self.n_in}, {self.n_out}{'' if self.has_bias else ', bias=False'})"


class Elementwise(BuiltIn):
    """A built-in layer that is elementwise, without parameters, as wide as what comes."""


class Activation(Elementwise):
    """A built-in activation."""

    _SAVED = _TRANSIENT = ("_y",)
    _forward: ClassVar[Callable[..., Array]]
    _backward: ClassVar[Callable[..., Array]]
    _y: Array | None = None

    @property
    def _settings(self) -> tuple[float, ...]:
        return ()

    def forward(self, x: Array, training: bool = False) -> Array:
        """Return y (m, k), elementwise, for x (m, k)."""
        y = type(self)._forward(x, *self._settings)
        if training:
            self._y = y
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (m, k) from dy (m, k)."""
        if self._y is None:
            raise ValueError(f"{self!r} has no output to go back from: call forward(x, training=True) first")
        return type(self)._backward(dy, self._y, *self._settings)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'slope={s:g}' for s in self._settings)})"


class Identity(Activation):
    """The activation y = x."""

    _forward = staticmethod(ops.identity)
    _backward = staticmethod(ops.identity_backward)


class ReLU(Activation):
    """The activation y = max(x, 0)."""

    _forward = staticmethod(ops.relu)
    _backward = staticmethod(ops.relu_backward)


class LeakyReLU(Activation):
    """The activation y = x where x > 0, else slope x.

    Parameters
    ----------
    slope : float
        Finite and >= 0.
    """

    _forward = staticmethod(ops.leaky_relu)
    _backward = staticmethod(ops.leaky_relu_backward)

    def __init__(self, slope: float = 0.01) -> None:
        self._slope = number("slope", slope, least=0)

    @property
    def slope(self) -> float:
        """The slope where x <= 0, fixed when the layer is made."""
        return self._slope

    @property
    def _settings(self) -> tuple[float, ...]:
        return (self.slope,)


class Tanh(Activation):
    """The activation y = tanh x."""

    _forward = staticmethod(ops.tanh)
    _backward = staticmethod(ops.tanh_backward)


class Sigmoid(Activation):
    """The activation y = 1 / (1 + e^-x)."""

    _forward = staticmethod(ops.sigmoid)
    _backward = staticmethod(ops.sigmoid_backward)


def _is_flag(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _initial_weight(init: Any, n_in: int, n_out: int) -> Any:
    if isinstance(init, str):
        if init not in BY_NAME:
            raise ValueError(f"init is {init!r}, expected {', '.join(map(repr, BY_NAME))}, a function or an array")
        return BY_NAME[init]
    return _checked("init", init, (n_in, n_out))


def _checked(name: str, value: ArrayLike, shape: tuple[int, ...], dtype: DType | None = None) -> Array:
    array = real_array(name, value)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    finite(name, array, np.dtype(np.float64) if dtype is None else dtype)
    return array
