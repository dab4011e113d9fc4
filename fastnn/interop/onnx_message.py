"""A graph as one message of ONNX."""

import json
import sys
from typing import Any

import numpy as np

from .onnx_graph import IR, OPSET, OPSET_ML, Graph
from .onnx_layers import Ends

# The key of what ``from_onnx`` reads beside the graph.
METADATA = "fastnn"
_LARGEST = 1 << 31  # bytes of a message


def message_of(onnx: Any, graph: Graph, ends: Ends) -> Any:
    """Return the message of a graph, checked."""
    size = sum(array.nbytes for array in graph.constants.values())
    if size >= _LARGEST:
        raise ValueError(f"the weights take {size:,} bytes, but a file of ONNX holds less than {_LARGEST:,}")
    helper = onnx.helper
    nodes = [
        helper.make_node(
            node.kind, node.inputs, node.outputs, node.name, domain=node.domain, **attributes(helper, node.attributes)
        )
        for node in graph.nodes
    ]
    arrays = [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    inputs, outputs = (
        [helper.make_tensor_value_info(name, onnx_type(helper, dtype), shape) for name, dtype, shape in given]
        for given in (ends.inputs, ends.outputs)
    )
    opsets = [helper.make_opsetid("", OPSET)]
    if any(node.domain for node in graph.nodes):
        opsets.append(helper.make_opsetid("ai.onnx.ml", OPSET_ML))
    made = helper.make_model(
        helper.make_graph(nodes, "fastnn", inputs, outputs, arrays),
        opset_imports=opsets,
        ir_version=IR,
        producer_name="fastnn",
        producer_version=sys.modules["fastnn"].__version__,
    )
    if ends.metadata:
        helper.set_model_props(made, {METADATA: json.dumps(ends.metadata)})
    onnx.checker.check_model(made, full_check=True)
    return made


def onnx_type(helper: Any, dtype: Any) -> Any:
    """Return the number that ONNX has for a type of numbers, or for strings."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def attributes(helper: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return attributes as ONNX has them, types as their numbers."""
    return {
        name.rstrip("_"): onnx_type(helper, value) if isinstance(value, np.dtype) else value
        for name, value in given.items()
    }
