"""A network as nodes of ONNX, before they become its messages, and small graphs to look for in larger ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..validation import Array, DType

# The versions of both sets of operators: the oldest that have all that is written, for runtimes of years.
OPSET, OPSET_ML, IR = 17, 3, 8


class Node(NamedTuple):
    """An operator with the names of what goes in and what comes out."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    domain: str = ""
    name: str = ""


class Number(NamedTuple):
    """A number that a pattern leaves open, by the name that it has in fastnn."""

    name: str


class Graph:
    """Nodes in their order, and the constants among their inputs.

    Parameters
    ----------
    dtype : float32 or float64, that of the numbers that flow
    prefix : str
        What stands before all names.

    Attributes
    ----------
    nodes : list of Node
    constants : dict of str to ndarray, or to Number
    """

    def __init__(self, dtype: DType, prefix: str = "") -> None:
        self.dtype, self._scope, self._count = dtype, prefix, 0
        self.nodes: list[Node] = []
        self.constants: dict[str, Any] = {}

    @property
    def is_wide(self) -> bool:
        """Whether float64 flows, for which runtimes have fewer operators."""
        return self.dtype.itemsize == 8

    @contextmanager
    def within(self, scope: str) -> Iterator[None]:
        """Put a part of a name before those of all that is added in the meantime."""
        before = self._scope
        self._scope = f"{before}{scope}/"
        try:
            yield
        finally:
            self._scope = before

    def add(self, kind: str, *inputs: str, to: str = "", domain: str = "", **attributes: Any) -> str:
        """Append an operator and return the name of its output, a new one unless it is given."""
        name = f"{self._scope}{kind}_{self._next()}"
        output = to or f"{name}_out"
        self.nodes.append(Node(kind, inputs, (output,), attributes, domain, name))
        return output

    def constant(self, value: ArrayLike | Number, dtype: Any = None, name: str = "") -> str:
        """Return the name of a constant, in the dtype of the graph unless another one is given."""
        name = f"{self._scope}{name or f'constant_{self._next()}'}"
        self.constants[name] = value if isinstance(value, Number) else np.asarray(value, dtype or self.dtype)
        return name

    def cast(self, x: str, dtype: Any, to: str = "") -> str:
        """Append a conversion to another type of numbers."""
        return self.add("Cast", x, to=to, to_=np.dtype(dtype))

    def _next(self) -> int:
        self._count += 1
        return self._count


class Found(NamedTuple):
    """Where a pattern was found: the numbers that it left open, what comes out, and the nodes."""

    numbers: dict[str, float]
    output: str
    nodes: list[Node]


class Known:
    """A graph that is to be read: its nodes by what goes into them, and the constants among the inputs."""

    def __init__(self, nodes: list[Node], constants: dict[str, Array], outputs: list[str]) -> None:
        self.nodes, self.constants, self.outputs = nodes, constants, outputs
        self._consumers: dict[str, list[Node]] = {}
        for node in nodes:
            for name in dict.fromkeys(node.inputs):
                self._consumers.setdefault(name, []).append(node)

    def consumers(self, value: str) -> list[Node]:
        """Return the nodes that take a value."""
        return self._consumers.get(value, [])

    def constant(self, name: str) -> Array | None:
        """Return a constant, None for what is none."""
        return self.constants.get(name)

    def find(self, pattern: Graph, start: str) -> Found | None:
        """Return where a pattern, whose input is called x, starts at a value, or None if it does not.

        What flows within it must flow nowhere else.
        """
        names, numbers, used = {"x": start}, dict[str, float](), list[Node]()
        for wanted in pattern.nodes:
            anchor = [name for name in wanted.inputs if name in names][-1]
            for node in self.consumers(names[anchor]):
                taken = dict(numbers)
                if node not in used and self._fits(node, wanted, pattern, names, taken):
                    used.append(node)
                    names[wanted.outputs[0]] = node.outputs[0]
                    numbers = taken
                    break
            else:
                return None
        output = used[-1].outputs[0]
        inner = [node.outputs[0] for node in used[:-1]]
        if any(name in self.outputs or any(node not in used for node in self.consumers(name)) for name in inner):
            return None
        return Found(numbers, output, used)

    def _fits(self, node: Node, wanted: Node, pattern: Graph, names: dict[str, str], numbers: dict[str, float]) -> bool:
        if (node.kind, node.domain) != (wanted.kind, wanted.domain):
            return False
        for name, value in wanted.attributes.items():
            if not _alike(node.attributes.get(name, _DEFAULTS.get((node.kind, name))), value, numbers):
                return False
        orders = [node.inputs]
        if node.kind in ("Add", "Mul") and len(node.inputs) == 2:
            orders.append(node.inputs[::-1])
        return any(self._take(order, wanted.inputs, pattern, names, numbers) for order in orders)

    def _take(
        self,
        given: tuple[str, ...],
        wanted: tuple[str, ...],
        pattern: Graph,
        names: dict[str, str],
        numbers: dict[str, float],
    ) -> bool:
        if len(given) != len(wanted):
            return False
        for name, other in zip(given, wanted, strict=True):
            if other in names:
                if names[other] != name:
                    return False
            elif other not in pattern.constants or not _alike(self.constant(name), pattern.constants[other], numbers):
                return False
        return True


# What an attribute is where a node does not say it, of those that patterns name.
_DEFAULTS = {
    ("LeakyRelu", "alpha"): 0.01,
    ("Elu", "alpha"): 1.0,
    ("Gelu", "approximate"): "none",
    ("Swish", "alpha"): 1.0,
}


def plain(number: float) -> float:
    """Return a number that was rounded to float32, as attributes of ONNX are, as the decimal that it was."""
    return float(str(np.float32(number)))


def _alike(given: Any, wanted: Any, numbers: dict[str, float]) -> bool:
    """Whether a constant or an attribute is the one that is wanted, to rounding; one that is left open is kept."""
    if isinstance(wanted, str) or isinstance(given, str) or given is None or isinstance(wanted, np.dtype):
        return bool(given == wanted)
    array = np.asarray(given)
    if array.dtype.kind not in "iuf":
        return False
    if isinstance(wanted, Number):
        if array.size != 1:
            return False
        value = float(array.reshape(()))
        value = value if getattr(given, "dtype", None) == np.float64 else plain(value)
        return numbers.setdefault(wanted.name, value) == value
    other = np.asarray(wanted)
    return array.size == other.size and bool(np.allclose(array.ravel(), other.ravel(), rtol=1e-6, atol=0))
