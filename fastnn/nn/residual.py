"""Layers around which the input is carried, and added to what comes out."""

from typing import Any

from ..validation import Array, computed
from .chain import call_list, check_layers
from .layers import BuiltIn, back, built_in
from .lowering import input_width


@built_in
class Residual(BuiltIn):
    """The layers f with a way around them: y = x + f(x).

    Gradients find the way around too, so that networks of many layers train. As many units have to come out of the
    layers as go into them.

    Parameters
    ----------
    *layers : Layer
        As for :class:`Sequential`; a Residual may be among them.
    trainable : bool
        False freezes all of the layers.
    lr_scale : float
        A factor >= 0 of the learning rate for all of them, times their own.

    Attributes
    ----------
    layers : tuple of layers

    Raises
    ------
    ValueError
        If there is no layer, widths do not meet, other than as many units come out as go in, or lr_scale is negative.
    TypeError
        If something is not a layer, lr_scale no number, or trainable no bool.

    Notes
    -----
    Source: K. He, X. Zhang, S. Ren and J. Sun, Deep residual learning for image recognition, CVPR 2016.

    Examples
    --------
    >>> import fastnn as fnn
    >>> block = fnn.Residual(fnn.LayerNorm(32), fnn.Linear(32, 32), fnn.ReLU(), fnn.Linear(32, 32))
    >>> model = fnn.Sequential(fnn.Linear(64, 32), block, fnn.ReLU(), fnn.Linear(32, 10))
    """

    operation = "residual"
    arguments = ("layers",)
    format = 5

    def __init__(self, *layers: Any, trainable: bool = True, lr_scale: float = 1.0) -> None:
        widths, n_in = check_layers(layers, "Residual"), input_width(layers)
        if None not in (n_in, widths[-1]) and widths[-1] != n_in:
            raise ValueError(
                f"the layers of a Residual have {n_in} inputs and {widths[-1]} outputs: they must be equal, or their "
                "sum is not defined"
            )
        self.n_in = self.n_out = n_in
        self._layers, self._widths = tuple(layers), widths
        self.trainable, self.lr_scale = trainable, lr_scale

    @property
    def layers(self) -> tuple[Any, ...]:
        """The layers around which the input is carried, first to last."""
        return self._layers

    @property
    def parts(self) -> tuple[Any, ...]:
        """The layers."""
        return self._layers

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of all products for one sample."""
        return sum(getattr(layer, "multiply_adds", 0) for layer in self._layers)

    def parameters(self) -> list[Array]:
        """Return the parameters of all layers."""
        return [p for layer in self._layers for p in call_list(layer, "parameters")]

    def gradients(self) -> list[Array]:
        """Return the gradients of :meth:`parameters`, none before the first ``model.backward``."""
        return [g for layer in self._layers for g in call_list(layer, "gradients")]

    def forward(self, x: Array, training: bool = False) -> Array:
        """Return x + f(x) (m, n) for x (m, n)."""
        y = x
        for layer, width in zip(self._layers, self._widths, strict=True):
            y = computed("forward", layer, layer.forward(y, training), len(x), width, x.dtype)
        if y.shape != x.shape:
            raise ValueError(f"the layers of {self!r} return shape {y.shape} for {x.shape}: they must be equal")
        return x + y

    def backward(self, dy: Array, l2: float = 0.0) -> Array:
        """Return dx (m, n) from dy (m, n), and leave the gradients of parameters in the layers."""
        dx = dy
        for layer in reversed(self._layers):
            dx = computed("backward", layer, back(layer, dx, l2), len(dy), None, dy.dtype)
        return dy + dx

    def __repr__(self) -> str:
        return self._shown(map(repr, self._layers))
