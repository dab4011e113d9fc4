"""Layers one after the other, as a training loop of one's own uses them: parameters, passes, gradients."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..tables import TableText
from ..validation import Array, DType, FloatType, float_dtype, generator, number, real_array
from .chain import call_list
from .layers import Layer
from .stack import Stack
from .summary import summary


class Layered:
    """Layers over one flat buffer of parameters, that go forward and back.

    Parameters
    ----------
    *layers : Layer
    dtype : {"float32", "float64"}
    seed : int or None
        See :class:`fastnn.Sequential`.
    """

    def __init__(self, *layers: Any, dtype: FloatType = "float32", seed: int | None = 0) -> None:
        self._stack = Stack(layers, float_dtype(dtype), generator(seed))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, first to last."""
        return self._stack.layers

    @property
    def dtype(self) -> DType:
        """The dtype of parameters and outputs."""
        return self._stack.dtype

    def parameters(self) -> list[Array]:
        """Return the parameters of all layers: for each linear layer its weight and its bias, as views."""
        return [p for layer in self.layers for p in call_list(layer, "parameters")]

    def gradients(self) -> list[Array]:
        """Return the gradients of :meth:`parameters`, in their order; none before the first :meth:`backward`."""
        return [g for layer in self.layers for g in call_list(layer, "gradients")]

    def flat_parameters(self) -> Array:
        """Return the parameters of all built-in layers in one row: a view of the buffer (n,) that kernels use.

        Every array of a layer begins at a multiple of 16 elements, running means of :class:`BatchNorm` included; what
        is between them is zero and stays so. Two models of the same layers have the same places. Parameters of layers
        of your own are not in it.
        """
        return self._stack.params[:]

    def flat_gradient(self) -> Array:
        """Return the gradients of :meth:`flat_parameters` at the same places, a view (n,): zeros before any.

        :meth:`backward` writes it, and ``optimizer.step(model)`` takes what stands in it by then, so that gradients may
        be summed over processes, or be your own. Of an :class:`Embedding` the rows move whose codes the last
        ``backward`` has met, all of them if there was none. ``fit`` starts another one.

        Examples
        --------
        >>> import fastnn as fnn
        >>> model = fnn.Sequential(fnn.Linear(2, 1), dtype="float64")
        >>> before = model.flat_parameters().copy()
        >>> model.flat_gradient()[:2] = 1.0, 0.0
        >>> fnn.SGD(lr=0.5).step(model)
        >>> bool((model.flat_parameters()[:2] == before[:2] - [0.5, 0.0]).all())
        True
        """
        return self._stack.own_gradient()[:]

    def forward(self, X: ArrayLike, training: bool = False) -> Array:
        """Return the outputs of the last layer: scores before any softmax, or predictions.

        Parameters
        ----------
        X : array_like (m, n_in)
            Finite numbers. float32, float64 and uint8 in any memory layout are used without a copy.
        training : bool
            Whether the layers keep what :meth:`backward` needs, and dropout drops units, others each time.

        Returns
        -------
        ndarray (m, n_out)

        Raises
        ------
        ValueError
            If X is empty, has another number of columns, or holds NaN or infinite values; in training, if a
            :class:`BatchNorm` gets one sample.
        TypeError
            If X does not hold real numbers.
        """
        return self._stack.training_pass(self._stack.features(X)) if training else self._stack.outputs(X)

    def backward(self, dy: ArrayLike, l2: float = 0.0) -> Array:
        """Go back through all layers, so that each holds its gradients, and return the gradient of the input.

        Parameters
        ----------
        dy : array_like (m, n_out)
            The gradient of the loss with respect to the outputs of the last ``forward(X, training=True)``.
        l2 : float
            The factor λ >= 0 of the penalty λ Σ W² over the weights of linear layers, added to their gradients.

        Returns
        -------
        ndarray (m, n_in)

        Raises
        ------
        ValueError
            If there was no such forward pass, ``dy`` has another shape than its result, or ``l2`` is negative.
        TypeError
            If ``dy`` does not hold real numbers.
        """
        shape = self._stack.trained_shape
        if shape is None:
            raise ValueError("there is nothing to go back through: call forward(X, training=True) before backward")
        l2 = number("l2", l2, least=0)
        array = real_array("dy", dy)
        if array.shape != shape:
            raise ValueError(f"dy has shape {array.shape}, but the outputs have shape {shape}: they must be equal")
        return self._stack.backward(np.ascontiguousarray(array, self.dtype), l2)

    def summary(self) -> TableText:
        """Return a table of the layers, their outputs and numbers of parameters, and of what is frozen."""
        return summary(self._stack)

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()
