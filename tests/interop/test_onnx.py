"""ONNX: what ONNX Runtime makes of what is written, and what is read of it and of files of others."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.interop import from_onnx, to_onnx

from .networks import ACTIVATIONS, every_layer

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


def run(message, X):
    """What ONNX Runtime makes of X, by the names of the outputs."""
    data = message if isinstance(message, bytes) else message.SerializeToString()
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: X}), strict=True))


def assert_close(found, wanted):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6 * max(1, abs(wanted).max()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_layer_there_and_back(dtype, tmp_path):
    model, X = every_layer(dtype)
    model.loss = fnn.CrossEntropy(label_smoothing=0.1)
    path = tmp_path / "model.onnx"
    onnx.checker.check_model(to_onnx(model, path), full_check=True)
    found = run(path.read_bytes(), X)
    assert list(found) == ["label", "probabilities"]
    assert_close(found["probabilities"], model.predict_proba(X))
    assert found["label"].dtype == np.int64
    assert (found["label"] == model.predict(X)).all()
    assert_close(run(to_onnx(model, scores=True), X)["scores"], model.forward(X))

    back = from_onnx(path)
    assert repr(back) == repr(model)
    assert repr(back.loss) == repr(model.loss)
    assert (back.forward(X) == model.forward(X)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", ACTIVATIONS, ids=lambda make: repr(make()))
def test_activation(make, dtype):
    model = fnn.Sequential(fnn.Linear(3, 3, init=np.eye(3)), make(), dtype=dtype)
    x = np.array([[0, -0.0, 1e-4], [0.7, -0.7, 2], [-2, 3, -3], [5, -5, 9], [-9, 30, -30]], dtype)
    assert_close(run(to_onnx(model), x)["outputs"], model.forward(x))
    assert repr(from_onnx(to_onnx(model))) == repr(model)


def test_another_dtype():
    model, X = every_layer("float64")
    found = run(to_onnx(model, dtype="float32"), X.astype("float32"))["outputs"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, model.forward(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        ("cross_entropy", ["b", "a", "c", "a"]),
        ("cross_entropy", [0, 2, 1, 0]),
        ("binary_cross_entropy", [0, 1, 1, 0]),
        ("binary_cross_entropy", [[0], [1], [1], [0]]),
        ("binary_cross_entropy", ["no", "yes", "yes", "no"]),
        ("binary_cross_entropy", [[0, 1], [1, 1], [1, 0], [0, 0]]),
        ("squared_error", [0.5, 1.5, 2.5, 0]),
        ("poisson", [[1.0, 2], [0, 3], [1, 4], [2, 2]]),
    ],
)
def test_outputs_are_those_of_predict(loss, y):
    X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    k = np.shape(y)[1] if np.ndim(y) == 2 else 3 if loss == "cross_entropy" else 1
    model = fnn.Sequential(fnn.Linear(3, k), seed=3)
    model.fit(X, y, loss=loss, epochs=1, verbose=0)
    found, predicted = run(to_onnx(model), X), model.predict(X)
    if loss.endswith("entropy"):
        assert found["label"].shape == predicted.shape
        assert found["label"].tolist() == predicted.tolist()
        assert_close(found["probabilities"], model.predict_proba(X))
    else:
        assert_close(found["outputs"], predicted)
    assert from_onnx(to_onnx(model)).predict(X).tolist() == predicted.tolist()


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        ("cross_entropy", ["b", "a", "c", "a"]),
        ("binary_cross_entropy", ["no", "yes", "yes", "no"]),
        ("binary_cross_entropy", [[0, 1], [1, 1], [1, 0], [0, 0]]),
        ("squared_error", [0.5, 1.5, 2.5, 0]),
        ("poisson", [[1.0, 2], [0, 3], [1, 4], [2, 2]]),
    ],
)
def test_ensemble(loss, y):
    X = np.random.default_rng(0).normal(size=(4, 3))
    k = np.shape(y)[1] if np.ndim(y) == 2 else 3 if loss == "cross_entropy" else 1
    models = [fnn.Sequential(fnn.Linear(3, k), dtype=dtype, seed=i) for i, dtype in enumerate(("float32", "float64"))]
    ensemble = fnn.Ensemble(models)
    assert_close(run(to_onnx(ensemble), X)["outputs"], ensemble.outputs(X))
    for model in models:
        model.fit(X, y, loss=loss, epochs=1, verbose=0)
    found, predicted = run(to_onnx(ensemble), X), ensemble.predict(X)
    if loss.endswith("entropy"):
        assert found["label"].tolist() == predicted.tolist()
        assert_close(found["probabilities"], ensemble.predict_proba(X))
    else:
        assert_close(found["outputs"], predicted)
    assert_close(run(to_onnx(ensemble, scores=True), X)["scores"], ensemble.outputs(X))


def graph_of(nodes, constants, outputs=("y",), opset=17, inputs=("x",), **more):
    """A file of someone else's; what comes in has 3 columns."""
    helper = onnx.helper
    arrays = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    made = helper.make_graph(
        [helper.make_node(kind, given, [to], f"the_{to}", **attributes) for kind, given, to, attributes in nodes],
        "of others",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["m", 3]) for name in inputs],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["m", "n"]) for name in outputs],
        arrays,
    )
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.others", 1)], ir_version=8, **more
    )


W = np.arange(9, dtype=np.float32).reshape(3, 3) / 4 - 1
C = np.array([0.5, -1, 2], np.float32)


@pytest.mark.parametrize(
    ("nodes", "shown"),
    [
        ([("Gemm", ["x", "w", "c"], "y", {"transB": 1, "alpha": 0.5, "beta": 2.0})], "Linear(3, 3)"),
        ([("MatMul", ["x", "w"], "a", {}), ("Add", ["c", "a"], "y", {})], "Linear(3, 3)"),
        ([("MatMul", ["x", "w"], "a", {}), ("Softmax", ["a"], "y", {"axis": -1})], "Linear(3, 3, bias=False)"),
        ([("Flatten", ["x"], "a", {}), ("Cast", ["a"], "b", {"to": 1}), ("Relu", ["b"], "y", {})], "ReLU()"),
        ([("Sub", ["x", "c"], "a", {}), ("Div", ["a", "c"], "y", {})], "Standardize(3)"),
        ([("Mul", ["c", "x"], "a", {}), ("Add", ["a", "one"], "y", {})], "Standardize(3), Standardize(3)"),
        ([("Transpose", ["w"], "v", {}), ("MatMul", ["x", "v"], "y", {})], "Linear(3, 3, bias=False)"),
        ([("Dropout", ["x"], "y", {})], "Dropout(0.5)"),
        ([("LayerNormalization", ["x", "c"], "y", {"axis": 1})], "LayerNorm(3, 1e-05)"),
        ([("Mul", ["x", "c"], "a", {}), ("Add", ["a", "x"], "y", {})], "Residual(Standardize(3))"),
        ([("HardSwish", ["x"], "y", {})], "HardSwish()"),
        ([("Mish", ["x"], "y", {})], "Mish()"),
        ([("Gelu", ["x"], "y", {"approximate": "tanh"})], "GELU(approximate='tanh')"),
        ([("Elu", ["x"], "y", {})], "ELU(alpha=1)"),
        (
            [("Softplus", ["x"], "a", {}), ("Greater", ["x", "c20"], "b", {}), ("Where", ["b", "x", "a"], "y", {})],
            "Softplus()",
        ),
    ],
)
def test_files_of_others(nodes, shown):
    used = {name for _, given, _, _ in nodes for name in given}
    constants = {
        name: value
        for name, value in {"w": W, "c": C, "one": np.float32([1]), "c20": np.float32(20)}.items()
        if name in used
    }
    message = graph_of(nodes, constants, opset=20)
    model = from_onnx(message)
    assert repr(model) == f"Sequential({shown}, dtype='float32')"
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    is_soft = nodes[-1][0] == "Softmax"
    assert_close(model.predict_proba(x) if is_soft else model.forward(x), run(message, x)["y"])
    assert (model.loss is not None) == is_soft


def two_classes(one, columns, axis=1, w="column"):
    """The end of a classifier by one logistic output, which makes two columns of it."""
    nodes = [("MatMul", ["x", w], "s", {}), ("Sigmoid", ["s"], "p", {}), ("Sub", [one, "p"], "less", {})]
    return [*nodes, ("Concat", columns, "y", {"axis": axis})]


def test_the_end_by_one_logistic_output():
    """Without labels."""
    one, column = np.float32(1), np.ones((3, 1), np.float32)
    message = graph_of(two_classes("one", ["less", "p"]), {"one": one, "column": column})
    x = np.array([[1, 2, 0.5], [-1, 0, 0.2]], np.float32)
    model = from_onnx(message)
    assert repr(model.loss) == "BinaryCrossEntropy()"
    assert model.predict(x).tolist() == [1, 0]
    assert_close(model.predict_proba(x), run(message, x)["y"][:, 1:])


@pytest.mark.parametrize(
    ("nodes", "more", "message"),
    [
        ([("Sin", ["x"], "y", {})], {}, "the node 'the_y', a Sin, as it is there, stands for no layer of fastnn"),
        ([("Gemm", ["x", "w"], "y", {"transA": 1})], {}, "the node 'the_y', a Gemm, as it is there, stands for no"),
        ([("Relu", ["x"], "y", {})], {"opset": 12}, "is of operator set 12, expected 13 to"),
        ([("Relu", ["x"], "y", {})], {"opset": 999}, "is of operator set 999, expected 13 to"),
        ([("Relu", ["z"], "y", {})], {}, "the ONNX model is not valid ONNX: "),
        ([("Relu", ["x"], "y", {}), ("Tanh", ["x"], "z", {})], {"outputs": ("y", "z")}, "a Tanh, is beside the chain"),
        ([("Relu", ["x"], "z", {}), ("Tanh", ["z"], "y", {})], {"outputs": ("y", "z")}, "'z' comes from within the"),
        (
            [("Relu", ["x"], "a", {}), ("Softmax", ["a"], "z", {}), ("Tanh", ["z"], "y", {})],
            {},
            "the node 'the_y', a Tanh, as it is there",
        ),
        ([("Add", ["x", "z"], "y", {})], {"inputs": ("x", "z")}, "takes 2 inputs, .* expected one"),
        ([("MatMul", ["x", "n"], "y", {})], {}, "^the ONNX model cannot be read as a model: init holds NaN"),
        (
            [("Softplus", ["x"], "a", {}), ("Tanh", ["a"], "b", {}), ("Mul", ["b", "x"], "y", {})],
            {"outputs": ("y", "a")},  # so it is no Mish alone
            "the node 'the_y', a Mul, as it is there",
        ),
        ([("Mul", ["x", "zero"], "y", {})], {}, "scale holds NaN or infinite values"),
        ([("Gather", ["x", "zero"], "y", {"axis": 1})], {}, "the node 'the_y', a Gather, as it is there"),
        (
            [("MatMul", ["x", "w"], "a", {}), ("Softmax", ["a"], "y", {"axis": 0})],
            {},
            "the node 'the_y', a Softmax, as it is there",
        ),
        ([("Gemm", ["x", "w", "column"], "y", {})], {}, "the node 'the_y', a Gemm, as it is there"),
        (
            [("MatMul", ["x", "w"], "a", {}), ("Add", ["a", "column"], "y", {})],
            {},
            "the node 'the_y', a Add, as it is there",
        ),
        (two_classes("one", ["p", "less"]), {}, "a Sub, as it is there"),
        (two_classes("zero", ["less", "p"]), {}, "a Sub, as it is there"),
        (two_classes("one", ["less", "p"], axis=0), {}, "a Sub, as it is there"),
        (two_classes("one", ["less", "p"], w="w"), {}, "a Sub, as it is there"),
        ([*two_classes("one", ["less", "p"]), ("Tanh", ["y"], "z", {})], {"outputs": ("z",)}, "a Tanh, as it is there"),
        (two_classes("one", ["less", "p"]), {"outputs": ("y", "p")}, "the output 'p' comes from within the layers"),
        ([("Zap", ["x"], "y", {"domain": "com.others"})], {}, "a Zap of com.others, is no operator of ONNX itself"),
        ([("Cast", ["x"], "y", {"to": 1})], {}, "there is no layer between input and output"),
    ],
)
def test_what_cannot_be_read_is_named(nodes, more, message):
    used = {name for _, given, _, _ in nodes for name in given}
    known = {
        "w": W,
        "n": W * np.nan,
        "zero": np.float32(0),
        "one": np.float32(1),
        "column": np.ones((3, 1), np.float32),
    }
    constants = {name: value for name, value in known.items() if name in used}
    with pytest.raises(ValueError, match=message):
        from_onnx(graph_of(nodes, constants, **more))


def test_damaged_files(tmp_path):
    path = tmp_path / "model.onnx"
    model, _ = every_layer()
    to_onnx(model, path)
    whole = path.read_bytes()
    for data in (b"", b"no ONNX at all", whole[: len(whole) // 2], whole[:-3]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"model\.onnx is no file of ONNX, or damaged"):
            from_onnx(path)
    with pytest.raises(FileNotFoundError):
        from_onnx(tmp_path / "none.onnx")
    message = onnx.load_model_from_string(whole)
    message.metadata_props[0].value = "{}"
    with pytest.raises(ValueError, match="'scores' is missing"):
        from_onnx(message)


def test_files_that_ask_for_more_than_they_hold(monkeypatch):
    plus_1 = graph_of([("Add", ["x", "c"], "y", {})], {"c": np.float32(1)})
    for width, message in ((1 << 40, "its input has 1,099,511,627,776 columns"), (-4, "its input has -4 columns")):
        plus_1.graph.input[0].type.tensor_type.shape.dim[1].dim_value = width
        with pytest.raises(ValueError, match=message):
            from_onnx(plus_1)
    no_rows = np.zeros((0, 1 << 40), np.float32)
    with pytest.raises(ValueError, match="n_in is 0, expected a positive integer"):
        from_onnx(graph_of([("Gemm", ["x", "w", "c"], "y", {})], {"w": no_rows, "c": np.float32([1])}))
    for module in ("onnx_nodes", "onnx_read"):
        monkeypatch.setattr(f"fastnn.interop.{module}.BEYOND", 10)
    often = [("MatMul", ["x", "w"], "a", {}), ("MatMul", ["a", "w"], "b", {}), ("MatMul", ["b", "w"], "y", {})]
    with pytest.raises(ValueError, match="its layers have 10 numbers more than the file"):
        from_onnx(graph_of(often, {"w": W}))
    casts = [("Cast", [name], to, {"to": 11}) for name, to in ("wa", "ab", "bc")]
    with pytest.raises(ValueError, match="'the_c', a Cast, makes more of the constants than 10 numbers"):
        from_onnx(graph_of([*casts, ("MatMul", ["x", "c"], "y", {})], {"w": W}))
    sums = [("Add", [f"a{i}", "x"], f"a{i + 1}", {}) for i in range(2000)]
    deep = graph_of([("Relu", ["x"], "a0", {}), *sums], {}, outputs=("a2000",))
    with pytest.raises(ValueError, match="it is nested too deeply"):
        from_onnx(deep)


def test_what_lies_elsewhere_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = graph_of([("MatMul", ["x", "w"], "y", {})], {"w": W})
    onnx.save_model(message, "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert (from_onnx("model.onnx").layers[0].weight == W).all()
    with pytest.raises(ValueError, match="the array 'w' lies in a file of its own: pass the path of the model"):
        from_onnx((tmp_path / "model.onnx").read_bytes())
    with pytest.raises(TypeError, match=r"source is 3, expected a path, bytes or an onnx\.ModelProto"):
        from_onnx(3)


class Own(fnn.Layer):
    def forward(self, x, training=False):
        return x

    def backward(self, dy):
        return dy


def test_what_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(TypeError, match=r"layer 1, .*Own.*, has no form in ONNX: to_onnx knows Identity"):
        to_onnx(fnn.Sequential(fnn.Linear(2, 2), Own()), path)
    with pytest.raises(ValueError, match="takes inputs of any width, but ONNX needs one"):
        to_onnx(fnn.Sequential(fnn.ReLU()), path)
    with pytest.raises(TypeError, match="model is 3, expected a Sequential, an Ensemble, an estimator"):
        to_onnx(3, path)
    model = fnn.Sequential(fnn.Linear(2, 2))
    model.layers[0].weight[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"weight of Linear.* holds NaN"):
        to_onnx(model, path)
    assert not list(tmp_path.iterdir())
