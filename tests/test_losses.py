"""Losses: values against independent sources, the gradients against central differences, and what is refused."""

import numpy as np
import pytest
from scipy import special

import fastnn as fnn
from fastnn.nn import losses

SCORES = [[1.0, 2.0, 0.5], [1000.0, -1000.0, 999.0], [0.0, 0.0, 0.0], [-3.0, 1.0, 4.0]]
LABELS = [1, 2, 0, 0]
SOFT = [[0.2, 0.5, 0.3], [0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3], [0.0, 1.0, 0.0]]
WEIGHTS = [1.0, 0.0, 2.5, 0.5]

pytestmark = pytest.mark.usefixtures("backend")


def per_sample(scores, y):
    scores = np.asarray(scores, float)
    y = np.eye(scores.shape[1])[y] if np.ndim(y) == 1 else np.asarray(y)
    return special.logsumexp(scores, axis=1) - (y * scores).sum(axis=1)


@pytest.mark.parametrize("y", [LABELS, SOFT], ids=["labels", "targets"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
def test_cross_entropy_and_its_gradient(y, weights, dtype):
    scores = np.array(SCORES, dtype)
    eps = float(np.finfo(dtype).eps)
    expected = np.average(per_sample(SCORES, y), weights=weights)
    assert fnn.cross_entropy(scores, y, weights) == pytest.approx(expected, rel=20 * eps)
    gradient = fnn.cross_entropy_backward(scores, y, weights)
    assert gradient.dtype == dtype
    shares = np.full(4, 0.25) if weights is None else np.array(weights) / 4
    targets = np.eye(3)[y] if np.ndim(y) == 1 else np.array(y)
    expected = (special.softmax(SCORES, axis=1) - targets) * shares[:, None]
    np.testing.assert_allclose(gradient, expected, rtol=20 * eps, atol=8 * eps)
    loss, same_gradient = fnn.cross_entropy_and_gradient(scores, y, weights)
    assert loss == pytest.approx(np.average(per_sample(SCORES, y), weights=weights), rel=20 * eps)
    np.testing.assert_array_equal(same_gradient, gradient)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
def test_squared_error_and_its_gradient(weights, dtype):
    pred, y = np.array([[1, 2], [3, 4], [5, 6], [0, 1]], dtype), [[1, 1], [5, 4], [2, 6], [0, 0]]
    # per sample 1, 4, 9, 1
    expected = 15 / 4 if weights is None else (1 + 2.5 * 9 + 0.5) / 4
    assert fnn.squared_error(pred, y, weights) == expected
    shares = np.full(4, 0.25) if weights is None else np.array(weights) / 4
    expected = 2 * np.array([[0, 1], [-2, 0], [3, 0], [0, 1]]) * shares[:, None]
    np.testing.assert_array_equal(fnn.squared_error_backward(pred, y, weights), expected)
    loss, gradient = fnn.squared_error_and_gradient(pred, y, weights)
    assert loss == (15 / 4 if weights is None else (1 + 2.5 * 9 + 0.5) / 4)
    np.testing.assert_array_equal(gradient, expected)


def test_squared_error_of_one_output_takes_a_vector():
    assert fnn.squared_error([[1.0], [3.0]], [0.0, 1.0]) == 2.5


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "uint8", "uint64"])
def test_labels_of_any_integer_type(kind):
    assert fnn.cross_entropy(SCORES, np.array(LABELS, kind)) == fnn.cross_entropy(SCORES, LABELS)


@pytest.mark.parametrize("name", ["cross_entropy", "squared_error"])
def test_gradient_matches_central_differences(name, rng):
    outputs, y, v = rng.normal(size=(5, 4)), special.softmax(rng.normal(size=(5, 4)), axis=1), rng.random(5)
    loss, gradient = getattr(fnn, name), getattr(fnn, f"{name}_backward")(outputs, y, v)
    for at in np.ndindex(outputs.shape):
        h = np.zeros_like(outputs)
        h[at] = 1e-5
        difference = (loss(outputs + h, y, v) - loss(outputs - h, y, v)) / 2e-5
        assert gradient[at] == pytest.approx(difference, abs=1e-9)


def test_not_finite_scores_pass_through():
    assert np.isnan(fnn.cross_entropy([[np.nan, 1.0]], [0]))
    assert fnn.cross_entropy([[-np.inf, 1.0]], [0]) == np.inf
    assert np.isnan(fnn.cross_entropy_backward([[np.nan, 1.0]], [0])).all()


BAD_LABELS = [
    ([0, 3, 1, 1], ValueError, r"y holds label 3, but the model has 3 outputs: labels must be 0..2"),
    ([0, -1, 1, 1], ValueError, r"y holds label -1, but the model has 3 outputs: labels must be 0..2"),
    (np.array([0, 2**63 + 5, 1, 1], np.uint64), ValueError, "y holds label 9223372036854775813, but the model has 3"),
    ([0.5, 1, 1, 1], ValueError, "y holds fractional, NaN or infinite labels, .* use the loss 'squared_error'"),
    ([np.nan, 1, 1, 1], ValueError, "y holds fractional, NaN or infinite labels"),
    ([0.0, 1, 1, 1], ValueError, r"y holds float64 labels, expected integers 0..2: use y.astype\(int\)"),
    ([True, False, True, True], TypeError, r"y holds booleans, expected integer labels: use y.astype\(int\)"),
    ([0, 1, 1], ValueError, "y has 3 rows, but there are 4 samples: they must be equal"),
    (
        [[0], [1], [1], [1]],
        ValueError,
        r"y has shape \(4, 1\), expected labels \(4,\) or targets \(4, 3\): use np.ravel",
    ),
    (np.ones((4, 2)) / 2, ValueError, r"y has shape \(4, 2\), expected labels \(4,\) or targets \(4, 3\)"),
    (np.ones((4, 3)), ValueError, "row 0 of y sums to 3, expected 1: divide each row by its sum"),
    ([[1, 0, 0]] * 3 + [[0.5, 0.499, 0]], ValueError, "row 3 of y sums to 0.999, expected 1"),
    ([[1.5, -0.5, 0]] * 4, ValueError, "y holds -0.5, expected targets >= 0 whose rows sum to 1"),
    ([[1, 0, np.nan]] * 4, ValueError, "y holds NaN or infinite values"),
    (None, TypeError, "y is None, expected an array of real numbers"),
    (
        np.ma.array([0, 1, 1, 2], mask=[0, 0, 1, 0]),
        ValueError,
        r"y is a masked array .* filled\(.*compressed",
    ),
    (5, ValueError, r"y has shape \(\), expected labels \(4,\) or targets \(4, 3\)"),
]
# Which functions of arrays refuse, and models take.
NAMES = [
    (
        ["a", "b", "a", "c"],
        TypeError,
        r"y holds strings, expected integer labels 0..2: use np.unique\(y, return_inverse=True\)\[1\]",
    ),
    (np.array(["a", "b", "a", "c"], object), TypeError, "y holds strings, expected integer labels 0..2: use np.unique"),
    (np.array([0, 1, None, 1]), TypeError, "y holds object values, expected real numbers"),
]
BAD_VALUES = [
    (np.ma.masked_equal(np.eye(4, 3), 0), ValueError, "y is a masked array with masked values"),
    ({"a": 1}, TypeError, "y is a dict, expected an array of real numbers$"),
    (np.zeros(4), ValueError, r"y has shape \(4,\), expected \(4, 3\): one-hot encode the labels, or use the loss 'cr"),
    (np.zeros((4, 2)), ValueError, r"y has shape \(4, 2\), expected \(4, 3\)"),
    (np.zeros((3, 3)), ValueError, "y has 3 rows, but there are 4 samples"),
    (np.full((4, 3), np.inf), ValueError, "y holds NaN or infinite values"),
    (np.full((4, 3), 1e300), ValueError, "y holds values beyond the range of float32"),
    ([["a"] * 3] * 4, TypeError, "y holds <U1 values"),
]
BAD_WEIGHTS = [
    ([1e308] * 4, ValueError, "sample_weight (has a sum|holds values) beyond the range of float"),
    ([1, 1, -0.5, 1], ValueError, "sample_weight holds -0.5, expected weights >= 0"),
    ([0, 0, 0, 0], ValueError, "sample_weight sums to zero, expected at least one positive weight"),
    ([1, 1, np.nan, 1], ValueError, "sample_weight holds NaN or infinite values"),
    ([1, 1, 1], ValueError, "sample_weight has 3 rows, but there are 4 samples"),
    ([[1, 1, 1, 1]], ValueError, r"sample_weight has shape \(1, 4\), expected 1 dimension$"),
    (["a"] * 4, TypeError, "sample_weight holds <U1 values"),
]


@pytest.mark.parametrize(("y", "error", "message"), BAD_LABELS + NAMES)
def test_cross_entropy_refuses_y(y, error, message):
    for function in (fnn.cross_entropy, fnn.cross_entropy_backward):
        with pytest.raises(error, match=message):
            function(SCORES, y)


@pytest.mark.parametrize(("y", "error", "message"), BAD_VALUES)
def test_squared_error_refuses_y(y, error, message):
    for function in (fnn.squared_error, fnn.squared_error_backward):
        with pytest.raises(error, match=message):
            function(np.zeros((4, 3), np.float32), y)


@pytest.mark.parametrize(("v", "error", "message"), BAD_WEIGHTS)
def test_weights_refused(v, error, message):
    with pytest.raises(error, match=message):
        fnn.cross_entropy(SCORES, LABELS, v)
    with pytest.raises(error, match=message):
        fnn.squared_error(SCORES, SOFT, v)


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("float32", 1e-60, "sample_weight vanishes in float32, the largest is 1e-60: divide it by its largest value"),
        ("float32", 3e38, "sample_weight has a sum beyond the range of float32: divide it by its largest value"),
        ("float64", 1.7e308, "sample_weight has a sum beyond the range of float64: divide it by its largest value"),
    ],
)
def test_weights_that_vanish_or_overflow(dtype, value, message):
    v = np.full(4, value)
    for loss, y in ((fnn.cross_entropy, LABELS), (fnn.squared_error, SOFT)):
        with pytest.raises(ValueError, match=message):
            loss(np.array(SCORES, dtype), y, v)
    model = fnn.Sequential(fnn.Linear(1, 3), dtype=dtype)
    with pytest.raises(ValueError, match=message):
        model.fit(np.ones((4, 1)), LABELS, sample_weight=v, verbose=0)


def test_a_masked_array_without_masked_values_is_an_array():
    assert fnn.cross_entropy(SCORES, np.ma.array(LABELS)) == fnn.cross_entropy(SCORES, LABELS)


def test_labels_of_two_classes_for_one_output():
    with pytest.raises(ValueError, match=r"y holds label 1, but the model has 1 output: use 2 outputs .* 'squared_"):
        fnn.cross_entropy([[0.5], [0.1]], [0, 1])


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_empty_scores_refused(shape):
    with pytest.raises(ValueError, match=r"scores is empty: it has shape .*, expected at least one sample"):
        fnn.cross_entropy(np.zeros(shape), np.zeros(shape[0], int))


@pytest.mark.parametrize("m", [3, 1])
def test_scores_of_other_dimensions_refused(m):
    with pytest.raises(ValueError, match=rf"pred has shape \({m},\), expected 2 dimensions"):
        fnn.squared_error(np.zeros(m), np.zeros(m))


@pytest.mark.parametrize(
    ("loss", "name"), [(fnn.CrossEntropy(), "cross_entropy"), (fnn.SquaredError(), "squared_error")]
)
def test_objects_are_the_functions(loss, name):
    y = np.eye(3)[LABELS]
    assert loss.forward(SCORES, y, WEIGHTS) == getattr(fnn, name)(SCORES, y, WEIGHTS)
    np.testing.assert_array_equal(loss.backward(SCORES, y), getattr(fnn, f"{name}_backward")(SCORES, y))
    assert type(losses.resolve(name)) is type(loss)
    assert repr(loss) == f"{type(loss).__name__}()"


@pytest.mark.parametrize(
    ("loss", "error"),
    [("hinge", ValueError), (fnn.CrossEntropy, TypeError), (fnn.cross_entropy, TypeError), (None, TypeError)],
)
def test_unknown_loss(loss, error):
    with pytest.raises(
        error, match=r"loss is .*, expected 'cross_entropy', .*'pinball', 'poisson' or an object with forward"
    ):
        losses.resolve(loss)
