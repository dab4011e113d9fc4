"""What each activation is in ONNX: written by these functions, and found again where they or others wrote it.

Runtimes have few operators in float64; there the formula stands in their place.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..nn.activations import (
    ELU,
    GELU,
    SELU,
    BuiltInActivation,
    HardSwish,
    Identity,
    LeakyReLU,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from ..validation import FLOAT32, FLOAT64
from .onnx_graph import Graph, Number

Value = float | Number
_SELU = {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}
_ROOT_2_BY_PI = math.sqrt(2 / math.pi)


class Form(NamedTuple):
    """One way in which an activation is written.

    ``write`` takes a graph, the name of the input, and the numbers of the layer by name; ``fixed`` is what else makes
    such a layer. ``wide`` says whether it is the way in float64 (True), in float32 (False), in both (None), or none
    that is written here, but by others ("read").
    """

    layer: type[BuiltInActivation]
    write: Callable[..., str]
    fixed: dict[str, Any]
    wide: bool | str | None = None


def _simple(kind: str, **attributes: Any) -> Callable[..., str]:
    def write(graph: Graph, x: str, **numbers: Any) -> str:
        return graph.add(kind, x, **attributes, **numbers)

    return write


def _leaky_relu(graph: Graph, x: str, slope: Value) -> str:
    return graph.add("LeakyRelu", x, alpha=slope)


def _leaky_relu_wide(graph: Graph, x: str, slope: Value) -> str:
    scaled = graph.add("Mul", x, graph.constant(slope))
    return graph.add("Where", graph.add("Greater", x, graph.constant(0)), x, scaled)


def _gelu(graph: Graph, x: str) -> str:
    """As PyTorch writes it, which runtimes know and compute in one go."""
    erf = graph.add("Erf", graph.add("Div", x, graph.constant(math.sqrt(2))))
    return _times_half(graph, x, erf)


def _gelu_wide(graph: Graph, x: str) -> str:
    argument = graph.cast(graph.add("Div", x, graph.constant(math.sqrt(2))), FLOAT32)
    return _times_half(graph, x, graph.cast(graph.add("Erf", argument), FLOAT64))


def _gelu_tanh(graph: Graph, x: str) -> str:
    cube = graph.add("Mul", graph.add("Mul", x, x), x)
    inner = graph.add("Add", x, graph.add("Mul", cube, graph.constant(0.044715)))
    return _times_half(graph, x, graph.add("Tanh", graph.add("Mul", inner, graph.constant(_ROOT_2_BY_PI))))


def _times_half(graph: Graph, x: str, y: str) -> str:
    """x (1 + y) / 2."""
    return graph.add("Mul", graph.add("Mul", x, graph.add("Add", y, graph.constant(1))), graph.constant(0.5))


def _silu(graph: Graph, x: str) -> str:
    return graph.add("Mul", x, graph.add("Sigmoid", x))


def _silu_wide(graph: Graph, x: str) -> str:
    """x / (1 + e^-x): of the other form older releases of ONNX Runtime make an operator that they have in float32."""
    e = graph.add("Exp", graph.add("Neg", x))
    return graph.add("Div", x, graph.add("Add", e, graph.constant(1)))


def _softplus_wide(graph: Graph, x: str) -> str:
    """max(x, 0) + log(1 + e^-|x|)."""
    e = graph.add("Exp", graph.add("Neg", graph.add("Abs", x)))
    return graph.add("Add", graph.add("Relu", x), graph.add("Log", graph.add("Add", e, graph.constant(1))))


def _softplus_of_pytorch(graph: Graph, x: str) -> str:
    """x from 20 on, where both are equal to float32's rounding."""
    softplus = graph.add("Softplus", x)
    return graph.add("Where", graph.add("Greater", x, graph.constant(20)), x, softplus)


def _mish(graph: Graph, x: str) -> str:
    softplus = _softplus_wide(graph, x) if graph.is_wide else graph.add("Softplus", x)
    return graph.add("Mul", x, graph.add("Tanh", softplus))


def _elu_wide(graph: Graph, x: str, alpha: Value) -> str:
    below = graph.add("Mul", _exp_less_1(graph, x), graph.constant(alpha))
    return graph.add("Add", graph.add("Relu", x), below)


def _selu_wide(graph: Graph, x: str) -> str:
    below = graph.add("Mul", _exp_less_1(graph, x), graph.constant(_SELU["alpha"]))
    return graph.add("Mul", graph.add("Add", graph.add("Relu", x), below), graph.constant(_SELU["gamma"]))


def _exp_less_1(graph: Graph, x: str) -> str:
    """e^min(x, 0) - 1, which is 0 above 0."""
    below = graph.add("Neg", graph.add("Relu", graph.add("Neg", x)))
    return graph.add("Sub", graph.add("Exp", below), graph.constant(1))


def _hard_swish_wide(graph: Graph, x: str) -> str:
    raised = graph.add("Add", x, graph.constant(3))
    clipped = graph.add("Clip", raised, graph.constant(0), graph.constant(6))
    return graph.add("Div", graph.add("Mul", x, clipped), graph.constant(6))


FORMS = (
    Form(Identity, _simple("Identity"), {}),
    Form(ReLU, _simple("Relu"), {}),
    Form(Tanh, _simple("Tanh"), {}),
    Form(Sigmoid, _simple("Sigmoid"), {}),
    Form(SiLU, _silu, {}, False),
    Form(SiLU, _silu_wide, {}, True),
    Form(Mish, _mish, {}),
    Form(GELU, _gelu_tanh, {"approximate": "tanh"}),
    Form(GELU, _gelu, {"approximate": "none"}, False),
    Form(GELU, _gelu_wide, {"approximate": "none"}, True),
    Form(LeakyReLU, _leaky_relu, {}, False),
    Form(LeakyReLU, _leaky_relu_wide, {}, True),
    Form(ELU, _simple("Elu"), {}, False),
    Form(ELU, _elu_wide, {}, True),
    Form(SELU, _simple("Selu"), {}, False),
    Form(SELU, _selu_wide, {}, True),
    Form(Softplus, _simple("Softplus"), {}, False),
    Form(Softplus, _softplus_wide, {}, True),
    Form(HardSwish, _simple("HardSwish"), {}, False),
    Form(HardSwish, _hard_swish_wide, {}, True),
    # What exporters write for newer sets of operators.
    Form(GELU, _simple("Gelu", approximate="none"), {"approximate": "none"}, "read"),
    Form(GELU, _simple("Gelu", approximate="tanh"), {"approximate": "tanh"}, "read"),
    Form(Mish, _simple("Mish"), {}, "read"),
    Form(SiLU, _simple("Swish", alpha=1.0), {}, "read"),
    Form(HardSwish, _hard_swish_wide, {}, "read"),
    Form(GELU, _gelu, {"approximate": "none"}, "read"),
    Form(Softplus, _softplus_of_pytorch, {}, "read"),
)


def write(graph: Graph, layer: BuiltInActivation, x: str) -> str:
    """Append an activation and return the name of its output."""
    config = layer.config()
    words = {name: value for name, value in config.items() if isinstance(value, str)}
    numbers = {name: value for name, value in config.items() if name not in words}
    for form in FORMS:
        if form.layer is type(layer) and form.fixed == words and form.wide in (None, graph.is_wide):
            return form.write(graph, x, **numbers)
    raise TypeError(f"{layer!r} has no form in ONNX")


@functools.cache
def patterns(is_wide: bool) -> tuple[tuple[Form, Graph], ...]:
    """Return every form as a graph to look for, of whose numbers none is known; those of most nodes first."""
    return tuple(sorted(_patterns(is_wide), key=lambda pair: -len(pair[1].nodes)))


def _patterns(is_wide: bool) -> Iterator[tuple[Form, Graph]]:
    for form in FORMS:
        graph = Graph(np.dtype(FLOAT64 if is_wide else FLOAT32))
        names = [name for name in form.layer.arguments if name not in form.fixed]
        form.write(graph, "x", **{name: Number(name) for name in names})
        yield form, graph
