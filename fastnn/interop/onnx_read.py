"""ONNX as a model: a chain of nodes that are layers of fastnn."""

import json
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import serialization
from ..libraries import library
from ..model import Sequential
from ..nn.dropout import Dropout
from ..nn.embedding import Embedding
from ..nn.linear import Linear
from ..nn.normalisation import BatchNorm, LayerNorm
from ..nn.residual import Residual
from ..nn.standardize import Standardize
from ..validation import FLOAT32, FLOAT64, Array
from . import onnx_forms
from .onnx_graph import Known, Node, plain
from .onnx_message import METADATA
from .onnx_nodes import BEYOND, nodes_of, shown
from .onnx_tails import BEHIND, Tail, logistic, softmax

_OLDEST = 13  # before it operators took as attributes what are inputs since
_KNOWN = (
    "Gemm, MatMul with Add, Sub, Mul, Div, BatchNormalization, LayerNormalization, Dropout, Identity, Cast, Flatten, "
    "Gather with Concat, Scaler, Softmax at the end, and the activations"
)


def from_onnx(source: str | os.PathLike[str] | bytes | Any) -> Sequential:
    """Return a model that computes what a file of ONNX does.

    The graph must be a chain of what fastnn has layers for, with ways around parts of it (:class:`Residual`), as
    :func:`to_onnx` writes it, or an exporter of another library. What :func:`to_onnx` wrote comes back with its loss
    and its labels; of other files a softmax at the end is taken off, and makes the loss "cross_entropy", and so is the
    logistic function where skl2onnx ends a classifier with it; labels that it names are those of the model.

    Parameters
    ----------
    source : path, bytes or onnx.ModelProto

    Returns
    -------
    Sequential

    Raises
    ------
    ImportError
        If onnx is missing.
    TypeError
        If ``source`` is none of these.
    OSError
        If the file cannot be read.
    ValueError
        If it is no ONNX or damaged, of a set of operators before 13 or one that the installed onnx does not know, or
        holds a node that no layer stands for, which is named, or the model had many more numbers than the file.
    """
    onnx = library("onnx", "onnx", "from_onnx")
    message, where = _loaded(onnx, source)
    _check_opsets(onnx, message, where)
    try:
        onnx.checker.check_model(message)
    except Exception as error:  # of several classes, some of the standard library's
        raise ValueError(f"{where} is not valid ONNX: {_first_line(error)}") from None
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused
            return _Reader(onnx, message).model()
    except KeyError as error:
        raise ValueError(f"{where} cannot be read as a model: {error} is missing in what to_onnx wrote") from None
    except RecursionError:
        raise ValueError(f"{where} cannot be read as a model: it is nested too deeply") from None
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"{where} cannot be read as a model: {error}") from None


def _loaded(onnx: Any, source: Any) -> tuple[Any, str]:
    if isinstance(source, onnx.ModelProto):
        return source, "the ONNX model"
    if not isinstance(source, (str, bytes, os.PathLike)):
        raise TypeError(f"source is {source!r}, expected a path, bytes or an onnx.ModelProto")
    where = "the ONNX model" if isinstance(source, bytes) else os.fspath(source)
    try:
        message = onnx.load_model_from_string(source) if isinstance(source, bytes) else onnx.load_model(where)
    except OSError:
        raise
    except Exception as error:  # of the parser, whose classes differ from release to release
        raise ValueError(f"{where} is no file of ONNX, or damaged: {_first_line(error)}") from None
    if not message.HasField("graph") or not message.opset_import:
        raise ValueError(f"{where} is no file of ONNX, or damaged: it holds no graph")
    return message, where


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _check_opsets(onnx: Any, message: Any, where: str) -> None:
    newest = onnx.defs.onnx_opset_version()
    for opset in message.opset_import:
        if opset.domain in ("", "ai.onnx") and not _OLDEST <= opset.version <= newest:
            raise ValueError(
                f"{where} is of operator set {opset.version}, expected {_OLDEST} to {newest}: convert it with "
                "onnx.version_converter.convert_version"
            )


class _Reader:
    """Goes from the input of a graph along its nodes, and keeps the layers that it has passed."""

    def __init__(self, onnx: Any, message: Any) -> None:
        self._message = message
        nodes, constants = nodes_of(onnx, message.graph)
        inputs = [each for each in message.graph.input if each.name not in constants]
        if len(inputs) != 1:
            raise ValueError(f"it takes {len(inputs)} inputs, {[each.name for each in inputs]}, expected one")
        self.known = Known(nodes, constants, [each.name for each in message.graph.output])
        self.dtype = FLOAT64 if inputs[0].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE else FLOAT32
        self.layers: list[Any] = []
        self.values = [inputs[0].name]  # what goes into each layer, and what comes out of the last
        self._read: set[str] = set()  # what comes out of the nodes behind us
        size = [each.dim_value for each in inputs[0].type.tensor_type.shape.dim]
        self._widths: list[int | None] = [size[1] or None if len(size) == 2 else None]
        if not 0 < (self._widths[0] or 1) <= BEYOND:
            raise ValueError(f"its input has {self._widths[0]:,} columns, expected 1 to {BEYOND:,}")
        self._left = BEYOND + sum(array.size for array in constants.values())

    def model(self) -> Sequential:
        """Return the model of the whole graph."""
        told = self._told()
        end = None if told is None else str(told["scores"])
        tail: Tail | None = None
        while self.values[-1] != end:
            tail = None if end is not None else logistic(self.known, self.values[-1], self._widths[-1])
            if tail is not None or not self._step(self.values[-1]):
                break
        last = self.values[-1]
        if end is None:
            tail = tail or softmax(self.known, last, self._widths[-1])
        if last != end and (end is not None or not (tail or last in self.known.outputs)):
            raise ValueError(self._stopped(last))
        if not self.layers:
            raise ValueError("there is no layer between input and output")
        self._check_rest(tail or Tail({}, (last,)), told is not None)
        model = Sequential(*self.layers, dtype=self.dtype)
        meaning = tail.meaning if tail is not None else told
        if meaning is not None:
            model._meaning = serialization.meaning_of(meaning, model._stack.widths[-1])
        return model

    def _told(self) -> dict[str, Any] | None:
        """What to_onnx wrote beside the graph."""
        for each in self._message.metadata_props:
            if each.key == METADATA:
                told = json.loads(each.value)
                if isinstance(told, dict):
                    return told
        return None

    def _check_rest(self, tail: Tail, is_told: bool) -> None:
        """Refuse nodes and outputs that do not come after the last layer, or say more than what is likely."""
        self._read.update(tail.made)
        behind, rest = set(tail.values), [node for node in self.known.nodes if node.outputs[0] not in self._read]
        for node in rest:
            if not behind.intersection(node.inputs):
                raise ValueError(f"{shown(node)}, is beside the chain of layers, which is all that a Sequential has")
            if not is_told and node.kind not in BEHIND:
                raise ValueError(self._no_layer(node))
            behind.update(node.outputs)
        for name in self.known.outputs:
            if name not in behind:
                raise ValueError(
                    f"the output {name!r} comes from within the layers: a Sequential has the last one alone"
                )

    def _stopped(self, value: str) -> str:
        for node in self.known.consumers(value):
            return self._no_layer(node)
        return f"{value!r} goes nowhere, and is no output"

    @staticmethod
    def _no_layer(node: Node) -> str:
        return f"{shown(node)}, as it is there, stands for no layer of fastnn: from_onnx knows {_KNOWN}"

    def _step(self, value: str) -> bool:
        """Pass the layer that takes a value; return whether there is one."""
        for form, pattern in onnx_forms.patterns(self.dtype == FLOAT64):
            found = self.known.find(pattern, value)
            if found is not None:
                return self._pass(form.layer(**form.fixed, **found.numbers), found.output, *found.nodes)
        for node in self.known.consumers(value):
            read = _READERS.get(node.kind)
            if read is not None and node.inputs[0] == value and read(self, node):
                return True
        sums = [node for node in self.known.consumers(value) if node.kind == "Add"]
        return any(map(self._joined, sums)) or self._added(value)

    def _pass(self, layer: Any, output: str, *nodes: Node) -> bool:
        """Take a layer, or none where nodes do nothing to the numbers, and go on behind its nodes."""
        self._read.update(node.outputs[0] for node in nodes)
        if layer is None:
            self.values[-1] = output
        else:
            self._left -= sum(math.prod(shape) for shape in layer.shapes().values())
            if self._left < 0:
                raise ValueError(
                    f"its layers have {BEYOND:,} numbers more than the file, which names arrays many times"
                )
            self.layers.append(layer)
            self.values.append(output)
            self._widths.append(layer.outputs_for(self._widths[-1]))
        return True

    def _only_consumer(self, value: str) -> Node | None:
        found = self.known.consumers(value)
        return found[0] if len(found) == 1 and value not in self.known.outputs else None

    def _constants(self, names: tuple[str, ...]) -> list[Array] | None:
        found = [self.known.constant(name) for name in names]
        return None if any(array is None for array in found) else found  # type: ignore[return-value]

    def _gemm(self, node: Node) -> bool:
        given, has = self._constants(node.inputs[1:]), node.attributes
        if given is None or given[0].ndim != 2 or has.get("transA", 0):
            return False
        weight = (given[0].T if has.get("transB", 0) else given[0]) * given[0].dtype.type(has.get("alpha", 1.0))
        bias: Any = False
        if len(given) == 2:
            if not _is_bias(given[1], weight.shape[1]):
                return False
            bias = _wide(given[1].ravel() * given[1].dtype.type(has.get("beta", 1.0)), weight.shape[1])
        return self._pass(Linear(*weight.shape, init=weight, bias=bias), node.outputs[0], node)

    def _matmul(self, node: Node) -> bool:
        given = self._constants(node.inputs[1:])
        if given is None or given[0].ndim != 2:
            return False
        (weight,), after = given, self._only_consumer(node.outputs[0])
        if after is not None and after.kind == "Add":
            (other,) = [name for name in after.inputs if name != node.outputs[0]] or [""]
            bias = self.known.constant(other)
            if bias is not None and _is_bias(bias, weight.shape[1]):
                wide = _wide(bias.ravel(), weight.shape[1])
                return self._pass(Linear(*weight.shape, init=weight, bias=wide), after.outputs[0], node, after)
        return self._pass(Linear(*weight.shape, init=weight, bias=False), node.outputs[0], node)

    def _affine(self, node: Node) -> bool:
        """Take a constant from what comes, or divide by one; both in a row are one layer."""
        given = self._constants(node.inputs[1:])
        if given is None or self._one_or_each(given[0]) is None:
            return False
        n, value = self._one_or_each(given[0]), given[0].ravel()
        if node.kind == "Div":
            return self._pass(Standardize(n, scale=_wide(value, n)), *_ends(node))
        after = self._only_consumer(node.outputs[0])
        scale = None if after is None or after.kind != "Div" else self._constants(after.inputs[1:])
        if after is None or scale is None or not _is_bias(scale[0], n):
            return self._pass(Standardize(n, _wide(value, n)), *_ends(node))
        made = Standardize(n, _wide(value, n), _wide(scale[0].ravel(), n))
        return self._pass(made, after.outputs[0], node, after)

    def _added(self, value: str) -> bool:
        """Add a constant to what comes, on whichever side it stands, or multiply by one."""
        for node in self.known.consumers(value):
            others = [name for name in node.inputs if name != value]
            given = self._constants(tuple(others))
            if node.kind not in ("Add", "Mul") or len(others) != 1 or given is None:
                continue
            n = self._one_or_each(given[0])
            if n is not None:
                number = _wide(given[0].ravel(), n)
                made = Standardize(n, -number) if node.kind == "Add" else Standardize(n, scale=1 / number)
                return self._pass(made, *_ends(node))
        return False

    def _one_or_each(self, constant: Array) -> Any:
        """The width that a constant for all units, or for each, is for; None where it fits none."""
        width, size = self._widths[-1], constant.size
        if size == 1:
            return width
        return size if constant.shape[-1] == size and width in (None, size) else None

    def _batch_norm(self, node: Node) -> bool:
        given, has = self._constants(node.inputs[1:]), node.attributes
        if given is None or len(given) != 4 or has.get("training_mode", 0):
            return False
        momentum, eps = plain(1 - has.get("momentum", 0.9)), plain(has.get("epsilon", 1e-5))
        layer = BatchNorm(given[0].size, momentum=momentum, eps=eps)
        layer.start_from(dict(zip(layer.shapes(), given, strict=True)))
        return self._pass(layer, *_ends(node))

    def _layer_norm(self, node: Node) -> bool:
        given, has = self._constants(node.inputs[1:]), node.attributes
        if given is None or has.get("axis", -1) not in (-1, 1):
            return False
        layer = LayerNorm(given[0].size, eps=plain(has.get("epsilon", 1e-5)))
        layer.start_from(
            {"weight": given[0].ravel(), "bias": given[1].ravel() if given[1:] else np.zeros(given[0].size)}
        )
        return self._pass(layer, *_ends(node))

    def _dropout(self, node: Node) -> bool:
        given = self._constants(node.inputs[1:])
        if given is None or (len(given) == 2 and given[1].any()):
            return False
        return self._pass(Dropout(plain(given[0].item()) if given else 0.5), *_ends(node))

    def _cast(self, node: Node) -> bool:
        if node.attributes["to_"] not in (FLOAT32, FLOAT64):
            return False
        if len(self.values) == 1:
            self.dtype = np.dtype(node.attributes["to_"])
        return self._pass(None, *_ends(node))

    def _flatten(self, node: Node) -> bool:
        return node.attributes.get("axis", 1) == 1 and self._pass(None, *_ends(node))

    def _scaler(self, node: Node) -> bool:
        offset, scale = (np.asarray(node.attributes.get(name, ())) for name in ("offset", "scale"))
        n = self._widths[-1] or max(offset.size, scale.size)
        if not {offset.size, scale.size} <= {1, n}:
            return False
        return self._pass(Standardize(n, _wide(offset, n), _wide(1 / scale, n)), *_ends(node))

    def _embedding(self, node: Node) -> bool:
        """Columns that are gathered, some of them as codes of rows, and put together again."""
        columns, tables, others, parts, nodes = {}, {}, list[int](), list[str](), list[Node]()
        for gather in self.known.consumers(node.inputs[0]):
            index = self.known.constant(gather.inputs[-1])
            if gather.kind != "Gather" or gather.attributes.get("axis", 0) != 1 or index is None:
                continue
            nodes.append(gather)
            if index.ndim == 1:
                others += index.tolist()
                parts.append(gather.outputs[0])
                continue
            cast = self._only_consumer(gather.outputs[0])
            rows = None if cast is None or cast.kind != "Cast" else self._only_consumer(cast.outputs[0])
            table = None if rows is None or rows.kind != "Gather" else self.known.constant(rows.inputs[0])
            if cast is None or rows is None or table is None or table.ndim != 2 or rows.attributes.get("axis", 0):
                return False
            column = index.item()
            columns[column], tables[f"table{column}"] = table.shape, table
            parts.append(rows.outputs[0])
            nodes += [cast, rows]
        concat = self._only_consumer(parts[0]) if columns else None
        if concat is None or concat.kind != "Concat" or concat.inputs != tuple(parts):
            return False
        in_order = [*columns] == sorted(columns) and others == sorted(others)
        if not in_order or sorted([*columns, *others]) != [*range(len(columns) + len(others))]:
            return False
        layer = Embedding(columns)
        layer.start_from(tables)
        self._widths[-1] = len(columns) + len(others)
        return self._pass(layer, concat.outputs[0], *nodes, concat)

    def _joined(self, node: Node) -> bool:
        """Close a way around the layers since the other value that is added here."""
        value = self.values[-1]
        others = [name for name in node.inputs if name != value]
        if len(others) != 1 or others[0] not in self.values[:-1]:
            return False
        start = self.values.index(others[0])
        block = Residual(*self.layers[start:])
        del self.layers[start:], self.values[start + 1 :], self._widths[start + 1 :]
        return self._pass(block, *_ends(node))


_READERS: dict[str, Callable[[_Reader, Node], bool]] = {
    "Gemm": _Reader._gemm,
    "MatMul": _Reader._matmul,
    "Sub": _Reader._affine,
    "Div": _Reader._affine,
    "BatchNormalization": _Reader._batch_norm,
    "LayerNormalization": _Reader._layer_norm,
    "Dropout": _Reader._dropout,
    "Cast": _Reader._cast,
    "Flatten": _Reader._flatten,
    "Scaler": _Reader._scaler,
    "Gather": _Reader._embedding,
}


def _ends(node: Node) -> tuple[Any, ...]:
    return node.outputs[0], node


def _is_bias(constant: Array, n: int) -> bool:
    """Whether a constant is one for all n units, or for each of them; in a column it would be for each sample."""
    return constant.size == 1 or constant.size == constant.shape[-1] == n


def _wide(value: Array, n: int) -> Array:
    return np.broadcast_to(value, (n,))
