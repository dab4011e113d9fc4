"""Estimators and pipelines as ONNX: those steps that are few numbers here, all others by skl2onnx."""

from typing import Any

import numpy as np

from ..libraries import library
from ..validation import FLOAT32, FLOAT64
from . import onnx_layers
from .estimators import as_model, has_several, is_estimator
from .onnx_graph import OPSET, OPSET_ML, Graph
from .onnx_layers import Ends, Labels
from .onnx_message import attributes, onnx_type


def of_estimator(obj: Any, dtype: Any) -> Any:
    """Return the graph of an estimator, a search or a pipeline and its ends, or the message that skl2onnx makes."""
    obj = getattr(obj, "best_estimator_", obj)
    steps = [step for _, step in obj.steps] if hasattr(obj, "steps") else [obj]
    if not is_estimator(steps[-1]) and not hasattr(obj, "get_params"):
        raise TypeError(
            f"model is {obj!r}, expected a Sequential, an Ensemble, an estimator of fastnn.sklearn, or a "
            "pipeline that ends in one"
        )
    if not is_estimator(steps[-1]) or not all(map(_is_known, steps[:-1])):
        return _by_skl2onnx(obj, dtype)
    mlp = steps[-1]
    model = as_model(mlp)
    graph = Graph(dtype or model.dtype)
    x, n_in = "X", getattr(steps[0], "n_features_in_", None) or onnx_layers.width_of(model)
    for i, step in enumerate(steps[:-1]):
        if not _is_nothing(step):
            with graph.within(f"step{i}_{type(step).__name__}"):
                x = _SCALERS[type(step).__name__](graph, step, x)
    scores = onnx_layers.layers(graph, model.layers, x, model._stack.n_in)
    outputs = onnx_layers.predicted(graph, model, scores, model._stack.widths[-1], _labels(mlp))
    return graph, Ends([("X", graph.dtype, ["m", n_in])], outputs, onnx_layers.meaning(model, scores))


def _labels(mlp: Any) -> Labels:
    if not hasattr(mlp, "classes_") or has_several(mlp):
        return Labels()
    return Labels(mlp.classes_, mlp.out_activation_ == "logistic")


def _is_nothing(step: Any) -> bool:
    return step is None or (isinstance(step, str) and step == "passthrough")


def _is_known(step: Any) -> bool:
    if _is_nothing(step):
        return True
    kind = type(step)
    return kind.__module__.startswith("sklearn.preprocessing.") and kind.__name__ in _SCALERS


def _standard(graph: Graph, step: Any, x: str) -> str:
    if step.mean_ is not None and step.with_mean:
        x = graph.add("Sub", x, graph.constant(step.mean_, name="mean"))
    if step.scale_ is not None:
        x = graph.add("Div", x, graph.constant(step.scale_, name="scale"))
    return x


def _min_max(graph: Graph, step: Any, x: str) -> str:
    """x scale + min, written as what is taken off first, which in float32 loses no digits."""
    least, scale = -step.min_ / step.scale_, 1 / step.scale_
    x = graph.add("Sub", x, graph.constant(least, name="least"))
    x = graph.add("Div", x, graph.constant(scale, name="scale"))
    if step.clip:
        x = graph.add("Clip", x, *(graph.constant(bound) for bound in step.feature_range))
    return x


def _max_abs(graph: Graph, step: Any, x: str) -> str:
    return graph.add("Div", x, graph.constant(step.scale_, name="scale"))


_SCALERS = {"StandardScaler": _standard, "MinMaxScaler": _min_max, "MaxAbsScaler": _max_abs}


def register_converters() -> None:
    """Let skl2onnx know the estimators of fastnn.sklearn, alone or within whatever it converts.

    :func:`to_onnx` does so where it needs it. Afterwards ``skl2onnx.to_onnx`` takes them like scikit-learn's own.

    Raises
    ------
    ImportError
        If skl2onnx is missing.
    """
    skl2onnx = library("skl2onnx", "skl2onnx", "register_converters")
    shapes = library("skl2onnx.common.shape_calculator", "skl2onnx", "register_converters")
    from ..sklearn import MLPClassifier, MLPRegressor

    options = {"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]}
    for kind, shape, more in (
        (MLPClassifier, shapes.calculate_linear_classifier_output_shapes, {"options": options}),
        (MLPRegressor, shapes.calculate_linear_regressor_output_shapes, {}),
    ):
        skl2onnx.update_registered_converter(kind, f"Fastnn{kind.__name__}", shape, _convert, overwrite=True, **more)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the graph of an estimator to what skl2onnx is making."""
    types = library("skl2onnx.common.data_types", "skl2onnx", "to_onnx")
    onnx = library("onnx", "onnx", "to_onnx")
    mlp, model = operator.raw_operator, as_model(operator.raw_operator)
    is_wide = isinstance(operator.inputs[0].type, types.DoubleTensorType)
    graph = Graph(np.dtype(FLOAT64 if is_wide else FLOAT32), f"{scope.get_unique_variable_name('fastnn')}/")
    x = graph.cast(operator.inputs[0].full_name, graph.dtype)
    scores = onnx_layers.layers(graph, model.layers, x, model._stack.n_in)
    outputs = onnx_layers.predicted(graph, model, scores, model._stack.widths[-1], _labels(mlp))
    names = {name: scope.get_unique_variable_name(name) for name, _, _ in outputs}
    for name, array in graph.constants.items():
        content = [str(value) for value in array.ravel()] if array.dtype == object else array.ravel().tolist()
        container.add_initializer(name, onnx_type(onnx.helper, array.dtype), array.shape, content)
    for node in graph.nodes:
        container.add_node(
            node.kind,
            [names.get(name, name) for name in node.inputs],
            [names.get(name, name) for name in node.outputs],
            op_domain=node.domain,
            op_version=OPSET,
            name=node.name,
            **attributes(onnx.helper, node.attributes),
        )
    for (name, _, _), variable in zip(outputs, operator.outputs, strict=True):
        container.add_node("Identity", [names[name]], [variable.full_name], op_version=OPSET)


def _by_skl2onnx(obj: Any, dtype: Any) -> Any:
    """The message that skl2onnx makes of a pipeline or of an estimator around one of fastnn's."""
    from sklearn.exceptions import NotFittedError

    if not hasattr(obj, "n_features_in_"):
        raise NotFittedError(f"this {type(obj).__name__} is not fitted yet: call fit first")
    skl2onnx = library("skl2onnx", "skl2onnx", f"to_onnx of {type(obj).__name__} with steps other than scalers")
    types = library("skl2onnx.common.data_types", "skl2onnx", "to_onnx")
    register_converters()
    coefs = getattr(obj.steps[-1][1] if hasattr(obj, "steps") else obj, "coefs_", ())
    dtype = dtype or (coefs[0].dtype if coefs else FLOAT64)
    kind = types.FloatTensorType if dtype == FLOAT32 else types.DoubleTensorType
    onnx = library("onnx", "onnx", "to_onnx")
    made = skl2onnx.convert_sklearn(
        obj,
        initial_types=[("X", kind([None, obj.n_features_in_]))],
        options={id(obj): {"zipmap": False}} if hasattr(obj, "classes_") else None,
        target_opset={"": OPSET, "ai.onnx.ml": OPSET_ML},
    )
    onnx.checker.check_model(made, full_check=True)
    return made
