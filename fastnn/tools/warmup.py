"""Compile, or load, everything that a first call would otherwise wait for."""

import importlib
from collections.abc import Iterable

import numpy as np

from ..backend import use_backend
from ..model import Sequential
from ..nn.activations import ReLU
from ..nn.dropout import Dropout
from ..nn.linear import Linear
from ..nn.optimizers import SGD
from ..ops import (
    adam_update,
    cross_entropy,
    cross_entropy_backward,
    huber,
    layer_norm_backward,
    linear,
    linear_backward,
    log_softmax,
    logsumexp,
    matmul,
    relu,
    relu_backward,
    sgd_update,
    softmax,
    squared_error,
    squared_error_backward,
)
from ..validation import FloatType, float_dtype


def warmup(dtypes: Iterable[FloatType] = ("float32", "float64")) -> None:
    """Compile every kernel into the cache on disk, or load it from there.

    The first run on a machine takes about fifteen seconds for each dtype, a later one a fraction of a second. New
    architectures, losses, optimizers and activations compile nothing more. Of the products on a matrix unit those of
    the precision that holds are prepared, see :func:`fastnn.set_matmul_precision`.

    Parameters
    ----------
    dtypes : iterable of {"float32", "float64"}
        The precisions to prepare.

    Raises
    ------
    TypeError, ValueError
        If a dtype is not one of the two.
    """
    kinds = [float_dtype(dtype) for dtype in dtypes]
    with use_backend("numba"):
        importlib.import_module("fastnn.kernels.threading.crew").warm_up()
        for kind in kinds:
            _touch_everything(kind)


def _touch_everything(kind: np.dtype) -> None:
    kernels = "fastnn.kernels"
    for module, registry in (("operations", "OPERATIONS"), ("updates", "RULES"), ("losses", "LOSSES")):
        for entry in getattr(importlib.import_module(f"{kernels}.{module}"), registry).values():
            entry.addresses(kind)
    x, w, b = np.ones((3, 4), kind), np.ones((4, 2), kind), np.ones(2, kind)
    y = np.array([0, 1, 0])
    model = Sequential(Linear(4, 3), ReLU(), Dropout(0.5), Linear(3, 2), dtype=kind, seed=0)
    for optimizer in (SGD(), SGD(clip_norm=1.0)):
        model.fit(x, y, optimizer=optimizer, epochs=1, batch_size=2, verbose=0)
    model.fit(x.astype(np.uint8), y, epochs=1, batch_size=2, verbose=0)
    for samples in (x, x.astype(np.uint8)):
        model.predict_proba(samples)
    model.forward(x, training=True)
    scores = linear(x, w, b)
    matmul(x, w)
    linear_backward(scores, x, w)
    large = np.ones((160, 160), kind)  # enough for the matrix unit
    linear(large, large, matmul(large, large)[0])
    relu_backward(scores, relu(scores))
    for function in (softmax, log_softmax, logsumexp):
        function(scores)
        function(np.ones((600, 160), kind))  # enough for two threads
    for rows in (large, large[:, :1]):  # wide and narrow
        cross_entropy(rows, np.zeros(len(rows), np.int64))
    cross_entropy_backward(scores, y)
    huber(scores, np.zeros_like(scores))
    layer_norm_backward(scores, scores, b, b)
    squared_error(scores, np.zeros_like(scores))
    squared_error_backward(scores, np.zeros_like(scores))
    sgd_update(b, b.copy(), 1.0)
    adam_update(b, b.copy(), np.zeros_like(b), np.zeros_like(b), 1.0, 0.9, 0.999, 1e-8, 1)
    importlib.import_module("fastnn.kernels.machine").fma_task(kind, 1)[0]()  # for profile
