"""Data frames and series of pandas, as scikit-learn's estimators take them."""

import numpy as np
import pytest
from sklearn.utils import check_array

import fastnn as fnn

pandas = pytest.importorskip("pandas")
pytestmark = pytest.mark.usefixtures("backend")

NUMBERS = np.array([[0.5, 1], [1.5, 0], [-2, 1], [0.25, 0], [3, 1], [-1, 0]])
LABELS = np.array([0, 1, 1, 0, 1, 0])


def frame(of_numbers, of_flags):
    columns = {"number": pandas.Series(NUMBERS[:, 0]), "flag": pandas.Series(NUMBERS[:, 1])}
    return pandas.DataFrame({"number": columns["number"].astype(of_numbers), "flag": columns["flag"].astype(of_flags)})


DTYPES = [
    ("float64", "bool"),
    ("float32", "bool"),
    ("Float32", "Float32"),
    ("Float32", "boolean"),
    ("Float64", "Int8"),
    ("float64", "Int64"),
    ("float32", "uint8"),
    ("float64", pandas.SparseDtype(bool)),
    ("float[pyarrow]", "float[pyarrow]"),
    ("double[pyarrow]", "bool[pyarrow]"),
    ("float32", "int8[pyarrow]"),
]


def made(*dtypes):
    if any("pyarrow" in str(dtype) for dtype in dtypes):
        pytest.importorskip("pyarrow")
    return frame(*dtypes)


@pytest.fixture
def model():
    model = fnn.Sequential(fnn.Linear(2, 3), fnn.Tanh(), fnn.Linear(3, 2), dtype="float64")
    model.loss = "cross_entropy"
    return model


@pytest.mark.filterwarnings("ignore:pandas.DataFrame with sparse columns found")  # scikit-learn's
@pytest.mark.parametrize("dtypes", DTYPES, ids=str)
def test_frames_of_several_dtypes(dtypes, model):
    X, twin = made(*dtypes), fnn.Sequential(fnn.Linear(2, 3), fnn.Tanh(), fnn.Linear(3, 2), dtype="float64")
    settings = {"epochs": 3, "batch_size": 4, "verbose": 0}
    y = pandas.Series(LABELS, dtype="Int64")
    history = model.fit(X, y, validation_data=(X, y), **settings)
    assert history == twin.fit(NUMBERS, LABELS, validation_data=(NUMBERS, LABELS), **settings)
    np.testing.assert_array_equal(model.predict(X), twin.predict(NUMBERS))
    np.testing.assert_array_equal(model.predict_proba(X), twin.predict_proba(NUMBERS))
    assert model.evaluate(X, y) == twin.evaluate(NUMBERS, LABELS)
    np.testing.assert_array_equal(check_array(X, dtype=[np.float64, np.float32]), NUMBERS)


def test_dummies(model):
    table = pandas.DataFrame({"x": [0.5, -1, 2], "colour": ["red", "blue", "red"]})
    X = pandas.get_dummies(table)
    expected = [[0.5, 0, 1], [-1, 1, 0], [2, 0, 1]]
    w = np.array([[1.0], [10], [100]])
    np.testing.assert_array_equal(fnn.matmul(X, w), np.array(expected) @ w)


@pytest.mark.parametrize(("dtypes", "expected"), list(zip(DTYPES, "dfffddfdfdf", strict=True)))
def test_functions_keep_the_precision_of_a_frame(dtypes, expected):
    X = made(*dtypes)
    relu = fnn.relu(X)
    assert relu.dtype.char == expected
    np.testing.assert_array_equal(relu, np.maximum(NUMBERS, 0))
    np.testing.assert_allclose(fnn.softmax(X), fnn.softmax(NUMBERS), rtol=1e-6)
    assert fnn.cross_entropy(X, pandas.Series(LABELS)) == pytest.approx(fnn.cross_entropy(NUMBERS, LABELS))


def test_series_as_labels_targets_and_weights(model):
    weights = np.arange(1.0, 7)
    expected = model.evaluate(NUMBERS, LABELS, weights)
    for dtype in ("Int64", "int8", "UInt16"):
        assert model.evaluate(NUMBERS, pandas.Series(LABELS, dtype=dtype), pandas.Series(weights, dtype="Float32")) == (
            expected
        )
    model.loss = "squared_error"
    targets = pandas.DataFrame({"a": pandas.Series(LABELS).astype("Float32"), "b": LABELS > 0})
    assert model.evaluate(NUMBERS, targets) == model.evaluate(NUMBERS, np.column_stack([LABELS, LABELS]))


def test_an_index_is_no_order(model):
    """Rows are taken as they stand, as scikit-learn takes them."""
    shuffled = [3, 1, 0, 5, 4, 2]
    y = pandas.Series(LABELS, index=shuffled)
    X = pandas.DataFrame(NUMBERS, index=shuffled)
    assert model.evaluate(X, y) == model.evaluate(NUMBERS, LABELS)


@pytest.mark.parametrize("dtype", ["Float32", "Float64", "Int64", "boolean", "float[pyarrow]", "int64[pyarrow]"])
def test_missing_values_are_named(dtype, model):
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    X = pandas.DataFrame({"a": pandas.Series([1, None] * 3, dtype=dtype), "b": [True, False] * 3})
    for call in (model.predict, model.forward, lambda X: model.fit(X, LABELS, verbose=0)):
        with pytest.raises(ValueError, match="X holds NaN or infinite values: remove or replace them first"):
            call(X)
    y = pandas.Series([0, 1, None, 1, 0, 1], dtype="Int64")
    with pytest.raises(ValueError, match="y holds fractional, NaN or infinite labels"):
        model.fit(NUMBERS, y, verbose=0)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"city": ["a", "b"]}, r"column 'city' \(\w+\): encode them \(pandas.get_dummies\), convert them"),
        (
            {"city": ["a", "b"], "day": pandas.to_datetime(["2020-01-01"] * 2)},
            r"columns 'city' \(\w+\), 'day' \(datetime",
        ),
        ({"kind": pandas.Categorical(["a", "b"])}, r"column 'kind' \(category\)"),
        ({7: np.array([1j, 2j])}, r"column 7 \(complex128\)"),
        ({f"c{i}": ["a", "b"] for i in range(7)}, r"columns 'c0' \(.*'c4' \(\w+\) and 2 more: encode"),
    ],
)
def test_columns_that_hold_no_numbers_are_named(columns, named, model):
    X = pandas.DataFrame({"x": [0.5, 1.5], **columns})
    for call in (model.predict, lambda X: model.fit(X, [0, 1], verbose=0), fnn.relu, lambda X: fnn.matmul(X, X)):
        with pytest.raises(TypeError, match=rf"^[Xxa] holds no real numbers in the {named}"):
            call(X)


def test_text_as_labels(model):
    y = pandas.Series(LABELS).map({0: "no", 1: "yes"})
    model.fit(NUMBERS, y, verbose=0)
    assert model.classes_.tolist() == ["no", "yes"]
    with pytest.raises(ValueError, match=r"y has shape \(6, 1\), expected labels .*: use np.ravel\(y\)"):
        model.fit(NUMBERS, pandas.DataFrame({"y": LABELS}), verbose=0)
    model.fit(NUMBERS, np.ravel(pandas.DataFrame({"y": LABELS})), epochs=1, verbose=0)


def test_class_weights_by_the_index():
    """As dict(series) has it, whatever the order."""
    y = np.array([0, 1, 2, 2])
    series = pandas.Series({2: 5.0, 0: 3.0}, dtype="Float64")
    models = [fnn.Sequential(fnn.Linear(1, 3), dtype="float64") for _ in range(3)]
    weights = series, dict(series), [3, 1, 5]
    histories = [
        model.fit(NUMBERS[:4, :1], y, class_weight=weight, epochs=2, verbose=0)
        for model, weight in zip(models, weights, strict=True)
    ]
    assert histories[0] == histories[1] == histories[2]
    for bad, error, message in (
        (pandas.Series({3: 1.0}), ValueError, "class_weight has the key 3, but the model has 3 outputs"),
        (pandas.Series({"a": 1.0}), TypeError, "class_weight has the key 'a', expected integer labels 0..2"),
        (pandas.Series({1: -1.0}), ValueError, r"class_weight\[1\] is -1, expected a finite number >= 0"),
        (pandas.Series([1.0, 2.0], index=[1, 1]), TypeError, r"class_weight\[1\] is"),
    ):
        with pytest.raises(error, match=message):
            models[0].fit(NUMBERS[:4, :1], y, class_weight=bad, verbose=0)
