"""ONNX Runtime: inference over a model that is built in memory, run once with new input each time and once bound."""

import os
from collections.abc import Callable

import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from comparison.problems import Layers

NAME = "ONNX Runtime"


def predictor(layers: Layers, x: NDArray) -> Callable[[], NDArray]:
    """Probabilities of the classes of x."""
    session = open_session(layers)
    return lambda: session.run(None, {"x": x})[0]


def open_session(layers: Layers) -> onnxruntime.InferenceSession:
    """A session with as many threads as this process has cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model(layers), options, providers=["CPUExecutionProvider"])


def model(layers: Layers) -> bytes:
    """Linear layers with ReLU between them and a softmax at the end, in ONNX."""
    dtype = TensorProto.FLOAT if layers[0][0].itemsize == 4 else TensorProto.DOUBLE
    nodes, weights, name = [], [], "x"
    for i, (w, b) in enumerate(layers):
        weights += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], [f"s{i}"]))
        last = i == len(layers) - 1
        name = "p" if last else f"a{i}"
        nodes.append(helper.make_node("Softmax" if last else "Relu", [f"s{i}"], [name]))
    values = [
        helper.make_tensor_value_info(name, dtype, ["rows", width])
        for name, width in (("x", layers[0][0].shape[0]), ("p", layers[-1][0].shape[1]))
    ]
    graph = helper.make_graph(nodes, "network", values[:1], values[1:], weights)
    # The oldest versions that know all of it, so that any ONNX Runtime of these years can read it.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
