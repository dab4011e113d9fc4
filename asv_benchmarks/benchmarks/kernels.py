"""Single functions."""

import numpy as np

import fastnn as fnn

from .common import BACKENDS, DTYPES, OnBackend, assert_agrees, on_reference

PRODUCTS = {
    "32 x 32 x 32": (32, 32, 32),
    "128 x 128 x 128": (128, 128, 128),
    "512 x 512 x 512": (512, 512, 512),
    "1024 x 1024 x 1024": (1024, 1024, 1024),
    "64 x 784 x 128": (64, 784, 128),
    "784 x 64 x 128, transposed": (784, 64, 128),
    "128 x 784 x 10": (128, 784, 10),
    "1 x 64 x 100": (1, 64, 100),
}
ROW_FUNCTIONS = {
    "softmax": lambda scores, labels: fnn.softmax(scores),
    "log_softmax": lambda scores, labels: fnn.log_softmax(scores),
    "logsumexp": lambda scores, labels: fnn.logsumexp(scores),
    "cross_entropy": fnn.cross_entropy,
    "cross_entropy_backward": fnn.cross_entropy_backward,
}
RULES = {
    "sgd": lambda w, dw, v, u: fnn.sgd_update(w, dw, 0.1),
    "momentum": lambda w, dw, v, u: fnn.momentum_update(w, dw, v, 0.1, 0.9),
    "nesterov": lambda w, dw, v, u: fnn.nesterov_update(w, dw, v, 0.1, 0.9),
    "adam": lambda w, dw, v, u: fnn.adam_update(w, dw, v, u, 0.001, 0.9, 0.999, 1e-8, 1),
}


class Matmul(OnBackend):
    """Products: square, and the three of a linear layer in training."""

    params = (BACKENDS, DTYPES, tuple(PRODUCTS))
    param_names = ("backend", "dtype", "m x k x n")

    def setup(self, backend, dtype, name):
        rng = self.use(backend)
        m, k, n = PRODUCTS[name]
        self.a = (
            rng.normal(size=(k, m)).astype(dtype).T if "transposed" in name else rng.normal(size=(m, k)).astype(dtype)
        )
        self.b = rng.normal(size=(k, n)).astype(dtype)
        self.out = np.empty((m, n), dtype)
        self.time_matmul()
        assert_agrees(self.out, self.a.astype("float64") @ self.b, dtype)

    def time_matmul(self, *parameters):
        fnn.matmul(self.a, self.b, out=self.out)


class Linear(OnBackend):
    """The linear layer, forward and backward."""

    params = (BACKENDS, DTYPES, ((64, 784, 128), (128, 784, 10), (32, 64, 100)))
    param_names = ("backend", "dtype", "(m, d, k)")

    def setup(self, backend, dtype, shape):
        rng = self.use(backend)
        m, d, k = shape
        self.x, self.w, self.b, self.dy = (
            rng.normal(size=size).astype(dtype) for size in ((m, d), (d, k), (k,), (m, k))
        )
        assert_agrees(self.time_linear(), on_reference(fnn.linear, self.x, self.w, self.b), dtype)
        expected = on_reference(self.time_linear_backward)
        for found, right in zip(self.time_linear_backward(), expected, strict=True):
            assert_agrees(found, right, dtype)

    def time_linear(self, *parameters):
        return fnn.linear(self.x, self.w, self.b)

    def time_linear_backward(self, *parameters):
        return fnn.linear_backward(self.dy, self.x, self.w, l2=1e-4)


class Rows(OnBackend):
    """Row-wise functions of scores, and the loss on them with its gradient."""

    params = (BACKENDS, DTYPES, tuple(ROW_FUNCTIONS), ((64, 10), (256, 1000), (8, 32000)))
    param_names = ("backend", "dtype", "function", "(m, k)")

    def setup(self, backend, dtype, function, shape):
        rng = self.use(backend)
        self.function = ROW_FUNCTIONS[function]
        self.scores = rng.normal(size=shape).astype(dtype)
        self.labels = rng.integers(0, shape[1], shape[0])
        assert_agrees(self.time_rows(), on_reference(self.function, self.scores, self.labels), dtype)

    def time_rows(self, *parameters):
        return self.function(self.scores, self.labels)


class Elementwise(OnBackend):
    """Activations of a batch of 256 rows of 1000."""

    params = (BACKENDS, DTYPES, ("relu", "leaky_relu", "tanh", "sigmoid"))
    param_names = ("backend", "dtype", "function")

    def setup(self, backend, dtype, function):
        rng = self.use(backend)
        self.x, self.dy = (rng.normal(size=(256, 1000)).astype(dtype) for _ in range(2))
        self.forward, self.backward = getattr(fnn, function), getattr(fnn, f"{function}_backward")
        self.y = on_reference(self.forward, self.x)
        assert_agrees(self.time_forward(), self.y, dtype)
        assert_agrees(self.time_backward(), on_reference(self.backward, self.dy, self.y), dtype)

    def time_forward(self, *parameters):
        return self.forward(self.x)

    def time_backward(self, *parameters):
        return self.backward(self.dy, self.y)


class Updates(OnBackend):
    """In-place updates of 100,000 parameters; a single run a sample, for setup is not repeated between runs."""

    number = 1
    params = (BACKENDS, DTYPES, tuple(RULES))
    param_names = ("backend", "dtype", "rule")

    def setup(self, backend, dtype, rule):
        rng = self.use(backend)
        self.update = RULES[rule]
        self.arrays = [rng.normal(size=100_000).astype(dtype) for _ in range(2)] + [
            np.zeros(100_000, dtype) for _ in range(2)
        ]
        expected = [array.copy() for array in self.arrays]
        self.time_update()
        on_reference(self.update, *expected)
        for found, right in zip(self.arrays, expected, strict=True):
            assert_agrees(found, right, dtype)

    def time_update(self, *parameters):
        self.update(*self.arrays)
