"""Normalisation as layers."""

import numpy as np

from .. import ops
from ..backend import active
from ..codes import STRIDE
from ..validation import Array, DType, eps_within, number, positive_int
from .layers import BuiltIn, Gradient, Parameter, built_in


@built_in
class LayerNorm(BuiltIn):
    """Layer normalisation: each sample less its mean over the units, over its standard deviation, scaled and shifted.

    y = (x - mean) / √(variance + eps) weight + bias, the variance that of the n units, not of a sample of them. The
    layer works the same in training and in prediction, and on one sample at a time.

    Parameters
    ----------
    n : int
        The units.
    eps : float
        Added to the variance, > 0.
    trainable : bool
        False freezes weight and bias: training leaves them as they are.
    lr_scale : float
        A factor >= 0 of the learning rate for weight and bias.

    Attributes
    ----------
    weight, bias : ndarray (n,)
        One and zero at first. Views into the model's parameters; assigning to them writes the values. They are not
        penalised.
    weight_grad, bias_grad : ndarray (n,), or None before the first ``model.backward``

    Raises
    ------
    ValueError
        If n is not positive, eps not > 0, or lr_scale negative.
    TypeError
        If n is no integer, eps or lr_scale no number, or trainable no bool.

    Notes
    -----
    Source: J. L. Ba, J. R. Kiros and G. E. Hinton, Layer normalization, arXiv 1607.06450, 2016.

    Examples
    --------
    >>> import fastnn as fnn
    >>> model = fnn.Sequential(fnn.Linear(4, 8), fnn.LayerNorm(8), fnn.ReLU(), fnn.Linear(8, 3))
    """

    operation = "layer_norm"
    arguments = ("n", "eps")
    settings = ("eps",)
    keeps = "x"
    kept = 2
    format = 3
    weight = Parameter("What the units are multiplied by (n,), a view into the model's parameters.")
    bias = Parameter("What is added to the units (n,), a view into the model's parameters.")
    weight_grad = Gradient()
    bias_grad = Gradient()
    _SAVED = ("_x",)
    _x: Array | None = None

    def __init__(self, n: int, eps: float = 1e-5, *, trainable: bool = True, lr_scale: float = 1.0) -> None:
        self.trainable, self.lr_scale = trainable, lr_scale
        self.n_in = self.n_out = positive_int("n", n)
        self._eps = number("eps", eps, above=0)

    @property
    def n(self) -> int | None:
        """The units, fixed when the layer is made."""
        return self.n_in

    @property
    def eps(self) -> float:
        """What is added to the variance, fixed when the layer is made."""
        return self._eps

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of weight and bias."""
        return {"weight": (self.n_in or 0,), "bias": (self.n_in or 0,)}

    def initial(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return ones and zeros."""
        return {"weight": np.ones(self.n_in or 0), "bias": np.zeros(self.n_in or 0)}

    def forward(self, x: Array, training: bool = False) -> Array:
        """Return y (m, n) for x (m, n)."""
        y = ops.layer_norm(x, self.weight, self.bias, self.eps)
        if training:
            self._x = x
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx (m, n) from dy (m, n), and keep the gradients of weight and bias."""
        if self._x is None:
            raise ValueError(f"{self!r} has no input to go back to: call forward(x, training=True) first")
        dx, dweight, dbias = ops.layer_norm_backward(dy, self._x, self.weight, self.bias, self.eps)
        self.keep_gradients(weight=dweight, bias=dbias)
        return dx


@built_in
class BatchNorm(BuiltIn):
    """Batch normalisation: each unit less its mean over the batch, over its standard deviation, scaled and shifted.

    In training, y = (x - mean) / √(variance + eps) weight + bias with the mean and the variance of each unit over the
    batch; running means of both follow, running = (1 - momentum) running + momentum new, of the variance that of a
    sample, Σ (x - mean)² / (m - 1). ``predict``, ``evaluate`` and validation take the running ones in their place, so
    that the output of a sample depends on nothing else. With ``trainable=False`` training does that too.

    Parameters
    ----------
    n : int
        The units.
    momentum : float
        The share of each batch in the running mean and variance, 0 < momentum <= 1.
    eps : float
        Added to the variance, > 0.
    trainable, lr_scale
        As of :class:`Linear`.

    Attributes
    ----------
    weight, bias : ndarray (n,)
        One and zero at first. Views into the model's parameters; assigning to them writes the values. They are not
        penalised.
    running_mean, running_variance : ndarray (n,)
        Zero and one at first. Saved with the model; no optimizer changes them.
    weight_grad, bias_grad : ndarray (n,), or None before the first ``model.backward``

    Raises
    ------
    ValueError
        If n is not positive or a number out of its range; by ``fit``, if a batch would have one sample, which has no
        variance.
    TypeError
        If n is no integer or a number none.

    Notes
    -----
    Sums over a batch are formed of fixed blocks of samples in their order: the same bits at any number of threads.
    Source: S. Ioffe and C. Szegedy, Batch normalization: accelerating deep network training by reducing internal
    covariate shift, ICML 2015.

    Examples
    --------
    >>> import fastnn as fnn
    >>> model = fnn.Sequential(fnn.Linear(4, 8, bias=False), fnn.BatchNorm(8), fnn.ReLU(), fnn.Linear(8, 3))
    """

    operation = "batch_norm"
    operation_in_inference = "batch_norm_inference"
    arguments = ("n", "momentum", "eps")
    settings = ("momentum", "eps")
    buffers = ("running_mean", "running_variance")
    keeps = "x"
    format = 5
    least_samples = 2
    weight = Parameter("What the units are multiplied by (n,), a view into the model's parameters.")
    bias = Parameter("What is added to the units (n,), a view into the model's parameters.")
    running_mean = Parameter("The mean that prediction takes (n,), a view into the model's parameters.")
    running_variance = Parameter("The variance that prediction takes (n,), a view into the model's parameters.")
    weight_grad = Gradient()
    bias_grad = Gradient()
    _SAVED = ("_x",)
    _x: Array | None = None

    def __init__(
        self, n: int, momentum: float = 0.1, eps: float = 1e-5, *, trainable: bool = True, lr_scale: float = 1.0
    ) -> None:
        self.trainable, self.lr_scale = trainable, lr_scale
        self.n_in = self.n_out = positive_int("n", n)
        self._momentum = number("momentum", momentum, above=0, most=1)
        self._eps = number("eps", eps, above=0)

    @property
    def n(self) -> int | None:
        """The units, fixed when the layer is made."""
        return self.n_in

    @property
    def momentum(self) -> float:
        """The share of each batch in the running mean and variance, fixed when the layer is made."""
        return self._momentum

    @property
    def eps(self) -> float:
        """What is added to the variance, fixed when the layer is made."""
        return self._eps

    @property
    def sums(self) -> int:  # type: ignore[override]  # a class's constant elsewhere
        """The units, as they take up the flat buffer."""
        return -(-(self.n_in or 0) // STRIDE) * STRIDE

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all four arrays."""
        return dict.fromkeys(("weight", "bias", *self.buffers), (self.n_in or 0,))

    def initial(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return ones and zeros."""
        zeros, ones = np.zeros(self.n_in or 0), np.ones(self.n_in or 0)
        return {"weight": ones, "bias": zeros, "running_mean": zeros, "running_variance": ones}

    def forward(self, x: Array, training: bool = False) -> Array:
        """Return y (m, n) for x (m, n); in training of the batch, which the running mean and variance follow."""
        x, out = np.ascontiguousarray(x), np.empty(x.shape, x.dtype)
        if training and self.learns:
            active().batch_norm(x, *self._arrays(), *self.numbers(), out)
        else:
            active().batch_norm_inference(x, *self._arrays(), *self.numbers(), out)
        if training:
            self._x = x
        return out

    def backward(self, dy: Array) -> Array:
        """Return dx (m, n) from dy (m, n), and keep the gradients of weight and bias."""
        if self._x is None:
            raise ValueError(f"{self!r} has no input to go back to: call forward(x, training=True) first")
        dx, dweight, dbias = np.empty_like(self._x), np.zeros_like(self.weight), np.zeros_like(self.bias)
        given, dy = (*self._arrays(), *self.numbers(), dx), np.ascontiguousarray(dy)
        if self.learns:
            active().batch_norm_backward(dy, self._x, *given, dweight, dbias)
        else:
            active().batch_norm_inference_backward(dy, *given)
            normed = (self._x - self.running_mean) / np.sqrt(self.running_variance + self.eps)
            dweight[...], dbias[...] = (dy * normed).sum(axis=0), dy.sum(axis=0)
        self.keep_gradients(weight=dweight, bias=dbias)
        return dx

    def check(self, dtype: DType) -> None:
        """Raise ValueError where eps vanishes in ``dtype``, so that what does not vary would be divided by zero."""
        eps_within(self.eps, dtype)

    def _arrays(self) -> list[Array]:
        return [getattr(self, name) for name in self.shapes()]
