"""The messages of ONNX as nodes, and what is constant among their inputs."""

from typing import Any

import numpy as np

from ..validation import Array
from .onnx_graph import Node


def nodes_of(onnx: Any, graph: Any) -> tuple[list[Node], dict[str, Array]]:
    """Return the nodes of a graph that take what flows, in their order, and the constants, computed ones too."""
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    nodes = []
    for each in graph.node:
        node = _node(onnx, each)
        value = _folded(onnx, node, constants)
        if value is None:
            nodes.append(node)
        else:
            constants[node.outputs[0]] = value
    return nodes, constants


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
            return np.asarray(onnx.numpy_helper.to_array(tensor))
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
