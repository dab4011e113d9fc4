"""What each kernel has to compute and to move, and a call of it to be timed.

An addition, multiplication, division, comparison, root, exponential, logarithm, hyperbolic tangent or error function
counts as one floating-point operation, however many instructions make it, so the counts say nothing about how a kernel
goes about it.
The traffic is the compulsory one: each array is read once, written once, or both.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn
from fastnn import kernels
from fastnn.nn.lowering import layout, lower

PRODUCTS, ROWS, ELEMENTS = "matrix products", "rows of scores", "activations and updates"

SQUARES = (32, 64, 128, 256, 512, 1024)
# The products of a training step: name, m, k, n of (m, k) times (k, n), and which of the two is a transposed view.
TRAINING = (
    ("x w", 64, 784, 128, ""),
    ("xᵀ dy", 784, 64, 128, "a"),
    ("dy wᵀ", 64, 128, 784, "b"),
    ("x w", 128, 784, 10, ""),
)
SCORES = ((1024, 10), (256, 1000), (4096, 1000))
LENGTHS = (4096, 1 << 22)
FORWARD = (128, (784, 256, 10))
# Smaller ones, to see that everything works.
QUICK = {"squares": (32, 64), "training": TRAINING[:2], "scores": ((64, 10), (20, 100)), "lengths": (1024,)}

# Operations an element: of a forward function, and of the way back from dy and y, or x.
ACTIVATIONS = {
    "identity": (0, 0),
    "relu": (1, 1),
    "leaky_relu": (2, 2),
    "tanh": (1, 3),
    "sigmoid": (3, 3),
    "gelu": (5, 11),
    "gelu_tanh": (8, 15),
    "silu": (4, 8),
    "mish": (6, 15),
    "elu": (3, 3),
    "selu": (3, 3),
    "softplus": (3, 4),
    "hard_swish": (5, 3),
}
# The settings of those that have some.
OF_ACTIVATIONS = {"leaky_relu": (0.1,), "elu": (1.0,)}
# Operations a score: the largest, less it, exp, and their sum; then a quotient or another difference.
SOFTMAX = {"softmax": 5, "log_softmax": 5}
# Operations a weight, and how many arrays beside the gradient are read and written.
UPDATES = {
    "sgd_update": (2, 1),
    "momentum_update": (4, 2),
    "nesterov_update": (6, 2),
    "adam_update": (12, 3),
    "adamw_update": (13, 3),
    "rmsprop_update": (8, 2),
    "rmsprop_momentum_update": (10, 3),
}
# What they take after their arrays: a rate that moves nothing far.
SETTINGS = {
    "sgd_update": (1e-9,),
    "momentum_update": (1e-9, 0.9),
    "nesterov_update": (1e-9, 0.9),
    "adam_update": (1e-9, 0.9, 0.999, 1e-8, 1),
    "adamw_update": (1e-9, 0.9, 0.999, 1e-8, 0.01, 1),
    "rmsprop_update": (1e-9, 0.99, 1e-8),
    "rmsprop_momentum_update": (1e-9, 0.99, 1e-8, 0.9),
}
# Losses of outputs against targets: their settings, the operations an output, and those with the gradient.
LOSSES = {
    "squared_error": ((), 3, 4),
    "huber": ((1.0,), 5, 6),
    "absolute_error": ((), 3, 4),
    "pinball": ((np.array([0.5]),), 4, 5),
    "poisson": ((), 4, 6),
    "binary_cross_entropy": ((np.array([1.0]),), 9, 14),
}
# Operations an element: both sums, the differences, squares and quotients, and the parameters; on the way back also
# those of dy with the parameters, of both means, and of the gradients of the parameters. So over rows and over columns.
NORMS = (7, 16)
# Of running means and variances, as a factor and a shift, only what is less the mean; and what divides by a scale.
INFERENCE, STANDARDIZE = (3, 1), (2, 1)


class Work(NamedTuple):
    """A call of a kernel: operations, bytes of traffic, bytes of memory that it touches."""

    group: str
    kernel: str
    size: str
    flops: int
    traffic: int
    memory: int
    call: Callable[[], Any]


def all_work(dtype: Any, quick: bool) -> Iterator[Work]:
    """Every kernel but the epoch, which a network's profile takes apart."""
    sizes: dict[str, Any] = (
        QUICK if quick else {"squares": SQUARES, "training": TRAINING, "scores": SCORES, "lengths": LENGTHS}
    )
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> NDArray[Any]:
        return rng.standard_normal(shape).astype(dtype)

    for n in sizes["squares"]:
        yield _matmul(f"{n}³", n, n, n, "", normal)
    for name, m, k, n, view in sizes["training"]:
        yield _matmul(f"{name} {m}·{k}·{n}", m, k, n, view, normal)
    _, m, k, n, _ = sizes["training"][0]
    yield from _linear(m, k, n, normal)
    yield _forward(*FORWARD, normal)
    for m, k in sizes["scores"]:
        yield from _rows(normal(m, k), rng.integers(0, k, m), normal(m, k))
    for n in sizes["lengths"]:
        yield from _elements(n, normal)


def _bytes(*arrays: NDArray[Any]) -> int:
    return sum(array.nbytes for array in arrays)


def _matmul(size: str, m: int, k: int, n: int, view: str, normal: Callable[..., NDArray[Any]]) -> Work:
    a = normal(k, m).T if view == "a" else normal(m, k)
    b = normal(n, k).T if view == "b" else normal(k, n)
    out = normal(m, n)
    moved = _bytes(a, b, out)
    return Work(PRODUCTS, "matmul", size, 2 * m * k * n, moved, moved, lambda: kernels.matmul(a, b, out))


def _linear(m: int, k: int, n: int, normal: Callable[..., NDArray[Any]]) -> Iterator[Work]:
    x, w, b, y = normal(m, k), normal(k, n), normal(n), normal(m, n)
    dx, dw, db = normal(m, k), normal(k, n), normal(n)
    size = f"{m}·{k}·{n}"
    moved = _bytes(x, w, b, y)
    product, sums = 2 * m * k * n, m * n
    yield Work(PRODUCTS, "linear", size, product + sums, moved, moved, lambda: kernels.linear(x, w, b, y))
    moved = _bytes(y, x, w, dx, dw, db)
    call = functools.partial(kernels.linear_backward, y, x, w, 0.0, dx, dw, db)
    yield Work(PRODUCTS, "linear_backward", size, 2 * product + sums, moved, moved, call)


def _forward(m: int, widths: tuple[int, ...], normal: Callable[..., NDArray[Any]]) -> Work:
    """Two linear layers with a ReLU between; the hidden values are never moved out of the cache for good."""
    k, h, n = widths
    layers = fnn.Linear(k, h), fnn.ReLU(), fnn.Linear(h, n)
    spans, size = layout(layers)
    network = lower(layers, spans, k)
    params, x, out = normal(size), normal(m, k), normal(m, n)
    flops = 2 * m * (k * h + h * n) + 2 * m * h + m * n
    # Between the parameters lies what brings each to a multiple of the vector width, which nobody reads.
    moved = _bytes(x, out) + params.itemsize * (k * h + h + h * n + n)
    call = functools.partial(kernels.forward, network, params, x, out)
    return Work(PRODUCTS, "forward", "-".join(map(str, widths)), flops, moved, moved, call)


def _rows(s: NDArray[Any], y: NDArray[Any], out: NDArray[Any]) -> Iterator[Work]:
    (m, k), column, size = s.shape, np.empty(len(s), s.dtype), f"{s.shape[0]} × {s.shape[1]}"
    for name, per_score in SOFTMAX.items():
        call = functools.partial(getattr(kernels, name), s, out)
        yield Work(ROWS, name, size, per_score * m * k, _bytes(s, out), _bytes(s, out), call)
    moved = _bytes(s, column)
    yield Work(ROWS, "logsumexp", size, 4 * m * k, moved, moved, lambda: kernels.logsumexp(s, column))
    moved = _bytes(s, y)
    yield Work(ROWS, "cross_entropy", size, 4 * m * k, moved, moved, lambda: kernels.cross_entropy(s, y, None))
    moved = _bytes(s, y, out)
    call = functools.partial(kernels.cross_entropy_backward, s, y, None, out)
    yield Work(ROWS, "cross_entropy_backward", size, 5 * m * k, moved, moved, call)
    values, gradient = out.copy(), np.empty_like(s)
    for name, (settings, value, with_gradient) in LOSSES.items():
        moved = _bytes(s, values)
        call = functools.partial(getattr(kernels, name), s, values, None, *settings)
        yield Work(ROWS, name, size, value * m * k, moved, moved, call)
        moved = _bytes(s, values, gradient)
        call = functools.partial(getattr(kernels, f"{name}_backward"), s, values, None, *settings, gradient)
        yield Work(ROWS, f"{name}_backward", size, with_gradient * m * k, moved, moved, call)
    yield from _layer_norm(size, s, values, gradient)
    yield from _batch_norm(size, s, values, gradient)
    yield from _standardize(size, s, values, gradient)
    yield from _embedding(size, y, s)


def _layer_norm(size: str, x: NDArray[Any], dy: NDArray[Any], out: NDArray[Any]) -> Iterator[Work]:
    weight, bias, dweight, dbias = np.ones((4, x.shape[1]), x.dtype)
    forward, backward = NORMS
    moved = _bytes(x, weight, bias, out)
    call = functools.partial(kernels.layer_norm, x, weight, bias, 1e-5, out)
    yield Work(ROWS, "layer_norm", size, forward * x.size, moved, moved, call)
    moved = _bytes(dy, x, weight, out, dweight, dbias)
    call = functools.partial(kernels.layer_norm_backward, dy, x, weight, bias, 1e-5, out, dweight, dbias)
    yield Work(ROWS, "layer_norm_backward", size, backward * x.size, moved, moved, call)


def _batch_norm(size: str, x: NDArray[Any], dy: NDArray[Any], out: NDArray[Any]) -> Iterator[Work]:
    weight, bias, dweight, dbias, mean, variance = np.ones((6, x.shape[1]), x.dtype)
    held = weight, bias, mean, variance, 0.1, 1e-5
    forward, backward = NORMS
    memory = _bytes(x, weight, bias, mean, variance, out)
    call = functools.partial(kernels.batch_norm, x, *held, out)
    yield Work(ROWS, "batch_norm", size, forward * x.size, memory + _bytes(mean, variance), memory, call)
    moved = _bytes(dy, x, weight, out, dweight, dbias)
    call = functools.partial(kernels.batch_norm_backward, dy, x, *held, out, dweight, dbias)
    yield Work(ROWS, "batch_norm_backward", size, backward * x.size, moved, moved, call)
    forward, backward = INFERENCE
    call = functools.partial(kernels.batch_norm_inference, x, *held, out)
    yield Work(ROWS, "batch_norm_inference", size, forward * x.size, memory, memory, call)
    moved = _bytes(dy, weight, variance, out)
    call = functools.partial(kernels.batch_norm_inference_backward, dy, *held, out)
    yield Work(ROWS, "batch_norm_inference_backward", size, backward * x.size, moved, moved, call)


def _standardize(size: str, x: NDArray[Any], dy: NDArray[Any], out: NDArray[Any]) -> Iterator[Work]:
    mean, scale = np.ones((2, x.shape[1]), x.dtype)
    forward, backward = STANDARDIZE
    moved = _bytes(x, mean, scale, out)
    call = functools.partial(kernels.standardize, x, mean, scale, out)
    yield Work(ROWS, "standardize", size, forward * x.size, moved, moved, call)
    moved = _bytes(dy, scale, out)
    call = functools.partial(kernels.standardize_backward, dy, mean, scale, out)
    yield Work(ROWS, "standardize_backward", size, backward * x.size, moved, moved, call)


def _embedding(size: str, y: NDArray[Any], out: NDArray[Any]) -> Iterator[Work]:
    """One column of codes, as many and as wide as there are scores; what no row asks for is not read."""
    k = out.shape[1]
    codes, table, found = y[:, None].astype(out.dtype), np.ones(k * k, out.dtype), np.empty_like(out)
    settings = 1.0, 0.0, float(k), float(k)
    moved = _bytes(codes, out) + len(np.unique(y)) * k * out.itemsize
    call = functools.partial(kernels.embedding, codes, table, *settings, found)
    yield Work(ROWS, "embedding", size, 0, moved, moved, call)
    dx, gradient = np.empty_like(codes), np.empty_like(table)
    moved = _bytes(out, codes, dx, gradient)
    call = functools.partial(kernels.embedding_backward, out, codes, table, *settings, dx, gradient)
    yield Work(ROWS, "embedding_backward", size, out.size, moved, moved, call)


def _elements(n: int, normal: Callable[..., NDArray[Any]]) -> Iterator[Work]:
    x, dy, out = normal(n), normal(n), np.zeros(n, normal(1).dtype)
    size = f"{n >> 20} Mi" if n >= 1 << 20 else f"{n >> 10} Ki"
    for name, (forward, backward) in ACTIVATIONS.items():
        settings = OF_ACTIVATIONS.get(name, ())
        call = functools.partial(getattr(kernels, name), x, *settings, out)
        yield Work(ELEMENTS, name, size, forward * n, _bytes(x, out), _bytes(x, out), call)
        moved = _bytes(dy, out) if name == "identity" else _bytes(dy, x, out)
        call = functools.partial(getattr(kernels, f"{name}_backward"), dy, x, *settings, out)
        yield Work(ELEMENTS, f"{name}_backward", size, backward * n, moved, moved, call)
    row, dropped = x.reshape(1, n), out.reshape(1, n)
    moved = _bytes(x, out)
    yield Work(ELEMENTS, "dropout", size, n, moved, moved, lambda: kernels.dropout(row, 0.5, 1, dropped))
    for name, (per_weight, arrays) in UPDATES.items():
        held = [np.zeros(n, x.dtype) for _ in range(arrays)]
        call = functools.partial(getattr(kernels, name), held[0], dy, *held[1:], *SETTINGS[name])
        memory = _bytes(dy, *held)
        yield Work(ELEMENTS, name, size, per_weight * n, memory + _bytes(*held), memory, call)
