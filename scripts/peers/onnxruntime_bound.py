"""ONNX Runtime with input and output bound to fixed memory: the least that a call can cost it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from comparison.problems import Layers

from .onnxruntime import open_session

NAME = "ONNX Runtime, bound"


def predictor(layers: Layers, x: NDArray) -> Callable[[], NDArray]:
    """Probabilities of the classes of x."""
    session = open_session(layers)
    binding, out = session.io_binding(), np.empty((len(x), layers[-1][0].shape[1]), x.dtype)
    binding.bind_cpu_input("x", x)
    binding.bind_output("p", "cpu", 0, x.dtype.type, out.shape, out.ctypes.data)

    def predict() -> NDArray:
        session.run_with_iobinding(binding)
        return out

    return predict
