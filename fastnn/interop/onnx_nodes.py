"""The messages of ONNX as nodes, and what is constant among their inputs."""

from typing import Any

import numpy as np

from ..validation import Array
from .onnx_graph import Node

BEYOND = 1 << 26  # numbers that a model may have beyond those in its file, which may name one array many times


def nodes_of(onnx: Any, graph: Any) -> tuple[list[Node], dict[str, Array]]:
    """Return the nodes of a graph that take what flows, in their order, and the constants, computed ones too."""
    constants = {each.name: _array(onnx, each) for each in graph.initializer}
    left = BEYOND + sum(array.size for array in constants.values())
    nodes = []
    for each in graph.node:
        node = _node(onnx, each)
        if node.domain not in ("", "ai.onnx.ml"):
            raise ValueError(f"{shown(node)}, is no operator of ONNX itself, and stands for no layer of fastnn")
        if node.kind == "Cast" and node.inputs[0] in constants:
            left -= constants[node.inputs[0]].size
            if left < 0:
                raise ValueError(f"{shown(node)}, makes more of the constants than {BEYOND:,} numbers beside them")
        value = _folded(onnx, node, constants)
        if value is None:
            nodes.append(node)
        else:
            constants[node.outputs[0]] = value
    return nodes, constants


def shown(node: Node) -> str:
    """Return what a message calls a node."""
    name = f" {node.name!r}" if node.name else ""
    return f"the node{name}, a {node.kind}{f' of {node.domain}' if node.domain else ''}"


def _array(onnx: Any, tensor: Any) -> Array:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ValueError(f"the array {tensor.name!r} lies in a file of its own: pass the path of the model")
    return np.asarray(onnx.numpy_helper.to_array(tensor))


def _node(onnx: Any, each: Any) -> Node:
    attributes = {}
    for attribute in each.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        value = value.decode() if isinstance(value, bytes) else value
        if each.op_type == "Cast" and attribute.name == "to":
            attributes["to_"] = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value))
        else:
            attributes[attribute.name] = value
    domain = "" if each.domain == "ai.onnx" else each.domain
    inputs = [*each.input]
    while inputs and not inputs[-1]:  # inputs that may be left out, and are
        inputs.pop()
    return Node(each.op_type, tuple(inputs), tuple(each.output), attributes, domain, each.name)


def _folded(onnx: Any, node: Node, constants: dict[str, Array]) -> Array | None:
    """The constant that a node makes, if it makes one."""
    if node.kind == "Constant":
        tensor = node.attributes.get("value")
        if tensor is not None:
            return _array(onnx, tensor)
        value = next((v for k, v in node.attributes.items() if k.startswith("value_")), None)
        return None if value is None else np.asarray(value)
    if len(node.inputs) != 1 or node.inputs[0] not in constants:
        return None
    value = constants[node.inputs[0]]
    if node.kind == "Identity":
        return value
    if node.kind == "Transpose":
        return value.transpose(node.attributes.get("perm"))
    return value.astype(node.attributes["to_"]) if node.kind == "Cast" else None
