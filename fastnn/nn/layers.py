"""What a layer is: the base class, which a user's own may extend, and what a built-in one declares.

A layer that is used in a model keeps its parameters as views into the model's flat buffer, so what is read from or
written to ``layer.weight`` is what the kernels use.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ..validation import Array, DType, finite, flag, number, real_array


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
    trainable : bool
        False freezes the parameters: no rule updates them, they do not decay, and no penalty is for them. What is
        assigned, by a callback as well, counts from the next epoch of ``fit`` or the next ``optimizer.step`` on.
    lr_scale : float
        A factor >= 0 of the learning rate for the parameters of this layer.
    """

    n_in: int | None = None
    n_out: int | None = None
    trainable: bool = True
    lr_scale: float = 1.0

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
    """A layer that kernels and twins know by a name: how it is run, saved and shown follows from what it declares.

    A training pass keeps what backward needs under the names in ``_SAVED``. Copies and pickles leave that out, and what
    belongs to the model.

    Attributes
    ----------
    operation : str
        The name of its kernel and of its twin; "linear" is the product, which the epoch knows itself.
    arguments : tuple of str
        What the constructor takes, attributes of the same names: what is saved and shown.
    settings : tuple of str
        The numbers among them that kernel and twin take, in their order.
    keeps : {"", "x", "y", "xy"}
        Whether the backward pass takes the layer's input, its output, both, or neither.
    kept : int
        How many numbers of each row the kernel keeps of its own.
    sums : int
        How many units, as they take up the flat buffer, the kernel sums over a batch in training; 0 for single rows.
    operation_in_inference : str
        The operation in prediction where that is another one, and in training of a layer that is frozen.
    penalised : tuple of str
        The parameters whose squares are penalised.
    buffers : tuple of str
        The parameters that no rule updates: a pass in training may, or nothing does.
    draws : bool
        Whether it draws random numbers, in training.
    in_inference : bool
        Whether prediction runs it.
    least_samples : int
        How few samples a batch may have in training.
    format : int
        The first format of saved models that has it.
    vanishes : bool
        Whether it is the identity, which runs nothing.
    rectifier : float or None
        The slope for negative numbers of a layer that is max(x, slope x), which a product does at its end.
    """

    operation: ClassVar[str]
    arguments: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[Literal["", "x", "y", "xy"]] = ""
    kept: ClassVar[int] = 0
    sums: int = 0
    operation_in_inference: ClassVar[str] = ""
    penalised: ClassVar[tuple[str, ...]] = ()
    buffers: ClassVar[tuple[str, ...]] = ()
    draws: ClassVar[bool] = False
    in_inference: ClassVar[bool] = True
    least_samples: ClassVar[int] = 1
    format: ClassVar[int] = 1
    vanishes: ClassVar[bool] = False
    rectifier: float | None = None

    _SAVED: ClassVar[tuple[str, ...]] = ()
    _given: dict[str, Array] | None = None
    _views: dict[str, Array] | None = None
    _gradients: dict[str, Array] | None = None
    _rng: np.random.Generator | None = None
    _trainable: bool = True
    _held: bool = False
    _lr_scale: float = 1.0

    @property
    def trainable(self) -> bool:
        """Whether training changes the parameters; what is assigned counts from the next epoch or step on."""
        return self._trainable

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        self._trainable = flag("trainable", trainable)
        self.hold(self._held)

    @property
    def learns(self) -> bool:
        """Whether training changes the parameters: neither this layer is frozen nor one that it is a part of."""
        return self._trainable and not self._held

    def hold(self, held: bool) -> None:
        """Let the layer and its parts know whether one that it is a part of is frozen."""
        self._held = held
        for part in self.parts:
            if isinstance(part, BuiltIn):
                part.hold(not self.learns)

    @property
    def lr_scale(self) -> float:
        """The factor of the learning rate; what is assigned counts from the next epoch or step on."""
        return self._lr_scale

    @lr_scale.setter
    def lr_scale(self, lr_scale: float) -> None:
        self._lr_scale = number("lr_scale", lr_scale, least=0)

    @property
    def learning(self) -> dict[str, Any]:
        """How the layer learns, as far as that is not as usual."""
        usual = {"trainable": BuiltIn._trainable, "lr_scale": BuiltIn._lr_scale}
        return {name: getattr(self, name) for name in usual if getattr(self, name) != usual[name]}

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of a product for one sample."""
        return 0

    @property
    def parts(self) -> tuple[Any, ...]:
        """The layers that this one is made of, none where it is one by itself."""
        return ()

    def outputs_for(self, width: int | None) -> int | None:
        """Return the outputs for so many inputs, None where they are not known."""
        return self.n_out or width

    def inputs_for(self, width: int | None) -> int | None:
        """Return the inputs for so many outputs, None where they are not known."""
        return self.n_in or width

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter, by its name."""
        return {}

    def initial(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the initial values of the parameters, drawn from ``rng`` where they are not given."""
        return {}

    def initial_values(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return :meth:`initial`, or what :meth:`start_from` was given."""
        return self.initial(rng) if self._given is None else self._given

    def start_from(self, values: dict[str, Array]) -> None:
        """Let the parameters start from these values, such as those of a saved model."""
        self._given = {name: checked(name, values[name], shape) for name, shape in self.shapes().items()} or None

    def config(self) -> dict[str, Any]:
        """Return what the constructor takes to make a layer like this one."""
        return {name: getattr(self, name) for name in self.arguments}

    def numbers(self) -> tuple[float, ...]:
        """Return the settings as kernel and twin take them."""
        return tuple(float(getattr(self, name)) for name in self.settings)

    def check(self, dtype: DType) -> None:
        """Raise TypeError where the layer does not work in the dtype of a model."""

    def read(self, name: str) -> Any:
        """Return the parameter of that name."""
        return getattr(self, name)

    def assign(self, name: str, value: ArrayLike) -> None:
        """Write the values of the parameter of that name."""
        setattr(self, name, value)

    def row_widths(self) -> dict[str, int]:
        """Return the elements of a row of each parameter of which a batch has a gradient for some rows alone."""
        return {}

    @property
    def touched(self) -> dict[str, Array]:
        """The rows that the last backward pass has a gradient for, of each parameter in :meth:`row_widths`."""
        return {}

    def check_codes(self, x: Array, name: str, chosen: Array | None = None) -> None:
        """Raise ValueError where x, of which only some rows may count, holds a number that is no code."""

    def parameters(self) -> list[Array]:
        """Return the arrays that an optimizer changes, views into the model's parameters."""
        return [getattr(self, name) for name in self.shapes() if name not in self.buffers]

    def gradients(self) -> list[Array]:
        """Return the gradients of :meth:`parameters`, none before the first ``model.backward``."""
        found = (self._gradients or {}).items()
        return [gradient for name, gradient in found if name not in self.buffers]

    def keep_gradients(self, **values: Array) -> None:
        """Write what a backward pass found into the model's gradient, or into arrays of its own."""
        if self._gradients is None:
            self._gradients = {name: np.empty_like(value) for name, value in values.items()}
        for name, value in values.items():
            self._gradients[name][...] = value

    @property
    def is_bound(self) -> bool:
        """Whether the layer belongs to a model and has something of it."""
        return self._views is not None or self._rng is not None

    def bind(self, views: dict[str, Array] | None, rng: np.random.Generator | None) -> None:
        """Use these views into the buffer of a model, and draw from its generator; or belong to no model."""
        self._views, self._gradients = views or None, None
        self._rng = rng if self.draws else None

    def bind_gradient(self, views: dict[str, Array] | None) -> None:
        """Write gradients into these views from now on, or into new arrays."""
        self._gradients = views

    @property
    def transient(self) -> tuple[str, ...]:
        """The attributes that passes change and that a model gives."""
        return (*self._SAVED, "_views", "_gradients", "_rng")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self.transient}

    def __repr__(self) -> str:
        return self._shown([shown(getattr(self, name)) for name in self.arguments])

    def _shown(self, arguments: Iterable[str]) -> str:
        learning = [f"{name}={shown(value)}" for name, value in self.learning.items()]
        return f"{type(self).__name__}({', '.join([*arguments, *learning])})"


B = TypeVar("B", bound=type[BuiltIn])
BUILT_IN: dict[str, type[BuiltIn]] = {}


def built_in(layer: B) -> B:
    """Register a class under its name; a user's subclass of it is none of ours."""
    if layer.penalised and layer.operation != "linear":
        raise TypeError(f"{layer.__name__} has {layer.penalised} penalised, but the epoch penalises products alone")
    BUILT_IN[layer.__name__] = layer
    return layer


def is_built_in(layer: Any) -> bool:
    """Return whether kernels and twins know ``layer``; a user's subclass they do not."""
    return BUILT_IN.get(type(layer).__name__) is type(layer)


def rate_of(layer: Any) -> float | None:
    """Return the factor of the learning rate for the parameters of a layer, None where they are frozen.

    Raises
    ------
    TypeError, ValueError
        If a layer of the user's own has an attribute that says something else.
    """
    if is_built_in(layer):  # which has checked both when they were assigned
        return layer._lr_scale if layer._trainable else None
    trainable, scale = getattr(layer, "trainable", True), getattr(layer, "lr_scale", 1.0)
    if trainable is not True and not flag(f"trainable of {layer!r}", trainable):
        return None
    is_usual = type(scale) is float and scale == 1
    return 1.0 if is_usual else number(f"lr_scale of {layer!r}", scale, least=0)


def rates_of(layers: Iterable[Any], outer: float | None = 1.0) -> list[float | None]:
    """Return :func:`rate_of` of the layers as :func:`flattened` has them, each times that of what it is a part of."""
    found: list[float | None] = []
    for layer in layers:
        own = rate_of(layer)
        rate = None if own is None or outer is None else own * outer
        parts = layer.parts if isinstance(layer, BuiltIn) else ()
        found += rates_of(parts, rate) if parts else [rate]
    return found


def flattened(layers: Iterable[Any]) -> list[Any]:
    """Return the layers that pass data on themselves, in their order, in the place of those made of them."""
    found: list[Any] = []
    for layer in layers:
        parts = layer.parts if isinstance(layer, BuiltIn) else ()
        found += flattened(parts) if parts else [layer]
    return found


def back(layer: Any, dy: Array, l2: float) -> Any:
    """Return dx from dy; a layer that has weights to be penalised, or is made of layers, takes l2 as well.

    There is no penalty for frozen ones.
    """
    takes_penalty = isinstance(layer, BuiltIn) and (layer.penalised or layer.parts)
    return layer.backward(dy, l2 if rate_of(layer) is not None else 0.0) if takes_penalty else layer.backward(dy)


class Parameter:
    """A parameter as an attribute of its layer: a view into the model's buffer, whose values are assigned to.

    Reading one that the layer was made without gives None; ``fix`` says how to make the layer with it.
    """

    def __init__(self, doc: str, fix: str = "") -> None:
        self.__doc__, self._fix = doc, fix

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, layer: BuiltIn | None, owner: type) -> Any:
        if layer is None:
            return self
        if self._name not in layer.shapes():
            return None
        if layer._views is None:
            raise ValueError(f"{layer!r} has no {self._name} yet: parameters are made when a Sequential is built of it")
        return layer._views[self._name]

    def __set__(self, layer: BuiltIn, value: ArrayLike) -> None:
        view = self.__get__(layer, type(layer))
        if view is None:
            raise ValueError(f"{layer!r} was made without a {self._name}: {self._fix}")
        view[...] = checked(self._name, value, view.shape, view.dtype)


class Gradient:
    """The gradient of a parameter from the last ``model.backward``; None before it, or without the parameter.

    What is assigned is written into it.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name.removesuffix("_grad")

    def __get__(self, layer: BuiltIn | None, owner: type) -> Any:
        if layer is None:
            return self
        return None if layer._gradients is None else layer._gradients.get(self._name)

    def __set__(self, layer: BuiltIn, value: ArrayLike) -> None:
        view = self.__get__(layer, type(layer))
        if view is None:
            raise ValueError(
                f"{layer!r} has no {self._name}_grad yet: call model.backward(dy) or model.flat_gradient() first"
            )
        view[...] = checked(f"{self._name}_grad", value, view.shape, view.dtype)


def shown(value: Any) -> str:
    """Return a constructor's argument as a layer shows it."""
    return f"{value:g}" if isinstance(value, float) else repr(value)


def checked(name: str, value: ArrayLike, shape: tuple[int, ...], dtype: DType | None = None) -> Array:
    """Return finite numbers of that shape as an array."""
    array = real_array(name, value)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    finite(name, array, np.dtype(np.float64) if dtype is None else dtype)
    return array
