"""The public functions: values against independent sources, dtypes, layouts, and what they refuse."""

import numpy as np
import pytest
from scipy import sparse, special

import fastnn as fnn
from fastnn import ops
from tests.activations import ACTIVATIONS

A = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
B = [[1.0, -1.0], [0.5, 2.0], [0.0, 1.0]]
AB = [[2.0, 6.0], [6.5, 12.0]]
X = [-2.0, -0.5, 0.0, 0.5, 2.0]

pytestmark = pytest.mark.usefixtures("backend")


def test_matmul(dtype):
    a, b = np.array(A, dtype), np.array(B, dtype)
    product = fnn.matmul(a, b)
    assert product.dtype == dtype
    np.testing.assert_array_equal(product, AB)
    np.testing.assert_array_equal(fnn.matmul(np.asfortranarray(a), b.T.copy().T), AB)
    np.testing.assert_array_equal(fnn.matmul(np.repeat(a, 2, axis=1)[:, ::2], b), AB)


def test_matmul_of_integers_and_mixed_floats_is_float64():
    assert fnn.matmul(np.array(A, int), np.array(B, np.float32)).dtype == np.float64
    assert fnn.matmul(np.array(A, np.float16), np.array(B, np.float32)).dtype == np.float32


@pytest.mark.parametrize(("m", "k", "n"), [(0, 3, 2), (2, 0, 3), (2, 3, 0), (0, 0, 0)])
def test_matmul_of_nothing(m, k, n):
    np.testing.assert_array_equal(fnn.matmul(np.ones((m, k)), np.ones((k, n))), np.zeros((m, n)))


@pytest.mark.parametrize("layout", ["C", "F", "strided", "reversed"])
def test_matmul_into_out(layout, dtype):
    out = {
        "C": np.empty((2, 2), dtype),
        "F": np.empty((2, 2), dtype, order="F"),
        "strided": np.empty((4, 4), dtype)[::2, ::2],
        "reversed": np.empty((2, 2), dtype)[:, ::-1],
    }[layout]
    out[...] = np.nan
    assert fnn.matmul(np.array(A, dtype), np.array(B, dtype), out=out) is out
    np.testing.assert_array_equal(out, AB)


@pytest.mark.parametrize("step", [1, -1, 2])
def test_matmul_into_a_field_of_packed_records(step, rng):
    records = np.zeros(200, [("a", "f4", (8,)), ("b", "u1")])
    records["b"] = 7
    out = records["a"][::step]
    a, b = (rng.integers(-3, 4, size=shape).astype(np.float32) for shape in ((len(out), 5), (5, 8)))
    assert fnn.matmul(a, b, out=out) is out
    np.testing.assert_array_equal(out, a.astype(int) @ b.astype(int))
    np.testing.assert_array_equal(records["b"], 7)
    assert not records["a"][1::2].any() or step != 2


@pytest.mark.parametrize("k", [5, 60_000])
def test_products_with_a_record_and_a_bias_in_it(k, rng):
    """One row or none may have a stride of odd bytes in what NumPy calls contiguous."""
    records = np.zeros(1, [("b", "u1"), ("a", "f4", (8,))])
    a, b = (rng.integers(-3, 4, size=shape).astype(np.float32) for shape in ((1, k), (k, 8)))
    expected = a.astype(int) @ b.astype(int)
    assert fnn.matmul(a, b, out=records["a"]) is not None
    np.testing.assert_array_equal(records["a"], expected)
    np.testing.assert_array_equal(fnn.linear(a, b, records["a"][0]), 2 * expected)
    none = records[:0]["a"]
    assert fnn.matmul(a[:0], b, out=none) is none
    assert fnn.matmul(a[:, :0], b[:0], out=records["a"]).tolist() == [[0] * 8]


def test_matmul_into_unaligned_memory(dtype):
    memory = np.zeros(64, np.uint8)
    out = memory[1 : 1 + 4 * np.dtype(dtype).itemsize].view(dtype).reshape(2, 2)
    assert not out.flags.aligned
    fnn.matmul(np.array(A, dtype), np.array(B, dtype), out=out)
    np.testing.assert_array_equal(out, AB)


class Unreadable:
    def __array__(self, dtype=None, copy=None):
        raise ValueError("no copy of this is allowed")


def _read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ([[0.0, 0.0], [0.0, 0.0]], TypeError, "out is a list, expected an ndarray"),
        (np.zeros((2, 2), np.float32), TypeError, "out holds float32 values, expected float64"),
        (np.zeros((2, 3)), ValueError, r"out has shape \(2, 3\), expected \(2, 2\)"),
        (_read_only(np.zeros((2, 2))), ValueError, "out is read-only: pass an array that can be written"),
    ],
)
def test_matmul_refuses_out(out, error, message):
    with pytest.raises(error, match=message):
        fnn.matmul(A, B, out=out)


@pytest.mark.parametrize("shift", [0, 3])
def test_matmul_into_its_own_input(shift, dtype, rng):
    memory = rng.integers(-3, 4, size=(100, 90)).astype(dtype)
    b = rng.integers(-3, 4, size=(90, 90)).astype(dtype)
    out = memory[shift : shift + 90]
    expected = memory[:90].astype(int) @ b.astype(int)
    fnn.matmul(memory[:90], b, out=out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fnn.matmul(A, A), ValueError, r"a has shape \(2, 3\) and b has shape \(2, 3\): the columns of a"),
        (lambda: fnn.matmul(A[0], B), ValueError, r"a has shape \(3,\), expected 2 dimensions"),
        (lambda: fnn.matmul([["x"]], B), TypeError, "a holds <U1 values, expected real numbers"),
        (lambda: fnn.matmul(np.array([[None]]), B), TypeError, "a holds object values, expected real numbers"),
        (lambda: fnn.matmul([[1j]], B), TypeError, "a holds complex128 values, expected real numbers"),
        (lambda: fnn.matmul([[1.0], [1.0, 2.0]], B), ValueError, "a is ragged"),
        (lambda: fnn.matmul(None, B), TypeError, "a is None, expected an array of real numbers$"),
        (lambda: fnn.matmul(A, {}), TypeError, "b is a dict, expected an array of real numbers$"),
        (
            lambda: fnn.matmul(sparse.csr_array(np.array(A)), B),
            TypeError,
            r"a is a csr_array, expected an array of real numbers: use a.toarray\(\)",
        ),
        (lambda: fnn.matmul(np.ma.masked_less(A, 2), B), ValueError, "a is a masked array with masked values"),
        (lambda: fnn.matmul(Unreadable(), B), ValueError, "^no copy of this is allowed$"),
        (lambda: fnn.linear(A, A, [0, 0]), ValueError, "x has 3 columns, but w has 2 rows"),
        (lambda: fnn.linear(A, B, [0, 0, 0]), ValueError, r"b has shape \(3,\), expected \(2,\)"),
        (lambda: fnn.linear_backward(AB, A, A), ValueError, "x has 3 columns, but w has 2 rows"),
        (lambda: fnn.linear_backward(AB[:1], A, B), ValueError, "dy has 1 rows, but there are 2 samples"),
        (lambda: fnn.linear_backward(A, A, B), ValueError, "dy has 3 columns, but w has 2"),
        (lambda: fnn.linear_backward(AB, A, B, l2=-1), ValueError, "l2 is -1, expected a finite number >= 0"),
        (lambda: fnn.linear_backward(AB, A, B, l2=np.nan), ValueError, "l2 is nan, expected a finite number >= 0"),
        (lambda: fnn.linear_backward(AB, A, B, l2="0"), TypeError, "l2 is '0', expected a finite number >= 0"),
        (lambda: fnn.linear_backward(AB, A, B, l2=[0]), TypeError, r"l2 is \[0\], expected a finite number >= 0"),
        (lambda: fnn.leaky_relu(X, slope=-0.1), ValueError, "slope is -0.1, expected a finite number >= 0"),
        (lambda: fnn.leaky_relu_backward(X, X, slope=np.inf), ValueError, "slope is inf, expected a finite number"),
        (lambda: fnn.relu_backward(X, X[1:]), ValueError, r"dy has shape \(5,\), but y has \(4,\): they must be equal"),
        (lambda: fnn.relu(["a"]), TypeError, "x holds <U1 values, expected real numbers"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_linear_and_its_gradients(dtype):
    x, w, b, dy = (np.array(v, dtype) for v in (A, B, [10.0, 20.0], [[1.0, 0.0], [2.0, -1.0]]))
    np.testing.assert_array_equal(fnn.linear(x, w, b), [[12.0, 26.0], [16.5, 32.0]])
    dx, dw, db = fnn.linear_backward(dy, x, w, l2=0.25)
    assert dx.dtype == dw.dtype == db.dtype == dtype
    np.testing.assert_array_equal(dx, [[1.0, 0.5, 0.0], [3.0, -1.0, -1.0]])
    np.testing.assert_array_equal(dw, np.array([[9.0, -4.0], [12.0, -5.0], [15.0, -6.0]]) + 0.5 * np.array(B))
    np.testing.assert_array_equal(db, [3.0, -1.0])


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) & set(ops.__all__)))
@pytest.mark.parametrize("shape", [(), (5,), (5, 1), (1, 5, 1)])
def test_activation_and_its_gradient(name, shape, dtype):
    activation = ACTIVATIONS[name]
    x = np.array(X if shape else X[3], dtype).reshape(shape)
    y = getattr(fnn, name)(x, *activation.settings)
    dx = getattr(fnn, f"{name}_backward")(np.full_like(x, 3), activation.kept(x, y), *activation.settings)
    assert y.shape == dx.shape == shape
    assert y.dtype == dx.dtype == dtype
    tolerance = 8 * np.finfo(dtype).eps
    expected, slope = (f(x.astype(float), *activation.settings) for f in (activation.value, activation.slope))
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dx, 3 * slope, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("axis", [-1, 0, 1, (0, 2), (2, 0), (-1,), None])
def test_softmax_family_along_any_axes(name, axis, dtype, rng):
    s = (rng.normal(size=(3, 4, 5)) * 10).astype(dtype)
    ours, theirs = getattr(fnn, name)(s, axis=axis), getattr(special, name)(s.astype(float), axis=axis)
    assert ours.shape == theirs.shape
    assert ours.dtype == dtype
    eps = np.finfo(dtype).eps
    # A probability close to 1 has a logarithm close to 0, which is a difference of scores.
    np.testing.assert_allclose(ours, theirs, rtol=40 * eps, atol=8 * eps if name == "log_softmax" else 0)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize(
    "row",
    [[800.0, 900.0], [-np.inf, 1.0], [-np.inf, -np.inf], [np.inf, 1.0], [np.nan, 1.0], [-np.inf, np.inf], [3.0]],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning:scipy")
def test_softmax_family_edge_cases(name, row):
    np.testing.assert_allclose(getattr(fnn, name)(row), getattr(special, name)(row, axis=-1), rtol=1e-15)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(3, 5), (40, 10), (2, 5003), (600, 100)])
@pytest.mark.parametrize("place", ["C", "F", "itself", "overlapping", "axis 0", "unaligned"])
def test_softmax_family_into_out(name, shape, place, dtype, rng):
    memory = rng.normal(size=(shape[0] + 1, shape[1])).astype(dtype)
    s, axis = memory[:-1], 0 if place == "axis 0" else -1
    bytes_of = np.zeros(s.nbytes + 1, np.uint8)
    out = {
        "F": np.empty(shape, dtype, order="F"),
        "itself": s,
        "overlapping": memory[1:],
        "unaligned": bytes_of[1:].view(dtype).reshape(shape),
    }.get(place, np.empty(shape, dtype))
    expected = getattr(special, name)(s.astype(np.float64), axis)
    assert getattr(fnn, name)(s, axis, out=out) is out
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(out, expected, rtol=60 * eps, atol=8 * eps)


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ([0.0, 0.0], TypeError, "out is a list, expected an ndarray"),
        (np.zeros((2, 3), np.float32), TypeError, "out holds float32 values, expected float64"),
        (np.zeros(2), ValueError, r"out has shape \(2,\), expected \(2, 3\)"),
        (_read_only(np.zeros((2, 3))), ValueError, "out is read-only: pass an array that can be written"),
    ],
)
def test_softmax_refuses_out(out, error, message):
    for function in (fnn.softmax, fnn.log_softmax):
        with pytest.raises(error, match=message):
            function(np.array(A), out=out)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_softmax_family_of_a_number_and_of_no_rows(name):
    assert getattr(fnn, name)(2.0) == getattr(special, name)(2.0)
    assert getattr(fnn, name)(np.zeros((0, 3))).shape == getattr(special, name)(np.zeros((0, 3)), axis=-1).shape


def test_sums_over_nothing():
    np.testing.assert_array_equal(fnn.logsumexp(np.zeros((3, 0))), [-np.inf] * 3)
    for function in (fnn.softmax, fnn.log_softmax):
        with pytest.raises(ValueError, match=r"s has shape \(3, 0\): there are no scores along axis -1 to normalise"):
            function(np.zeros((3, 0)))


@pytest.mark.parametrize(
    ("axis", "error", "message"),
    [
        (2, ValueError, r"axis is 2, but s has 2 dimensions: expected -2..1"),
        ((0, -2), ValueError, r"axis is \(0, -2\), which names an axis twice"),
        (1.0, TypeError, "axis is 1.0, expected an integer"),
        (True, TypeError, "axis is True, expected an integer"),
    ],
)
def test_softmax_refuses_axis(axis, error, message):
    with pytest.raises(error, match=message):
        fnn.softmax(A, axis=axis)


UPDATES = {
    # name: (settings, w and its state after two updates with dw = (1, -2) from w = (1, 1), worked by hand)
    "sgd_update": ((0.1,), [(0.8, 1.4)]),
    "momentum_update": ((0.1, 0.5), [(0.75, 1.5), (-0.15, 0.3)]),
    "nesterov_update": ((0.1, 0.5), [(0.675, 1.65), (-0.15, 0.3)]),
    # s is 0.25 and 1, then 0.4375 and 1.75: both steps are ±2 and then ±1 / √0.4375.
    "rmsprop_update": (
        (0.1, 0.75, 1e-30),
        [(0.8 - 0.1 / 0.4375**0.5, 1.2 + 0.1 / 0.4375**0.5), (0.4375, 1.75)],
    ),
    "rmsprop_momentum_update": (
        (0.1, 0.75, 1e-30, 0.5),
        [
            (0.7 - 0.1 / 0.4375**0.5, 1.3 + 0.1 / 0.4375**0.5),
            (0.4375, 1.75),
            (1 + 1 / 0.4375**0.5, -1 - 1 / 0.4375**0.5),
        ],
    ),
}


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("strided", [False, True])
def test_update(name, strided, dtype):
    settings, expected = UPDATES[name]
    arrays = [np.zeros((2, 1 + strided), dtype)[:, 0] for _ in expected]
    arrays[0][...] = 1
    for _ in range(2):
        assert getattr(fnn, name)(arrays[0], [1, -2], *arrays[1:], *settings) is None
    np.testing.assert_allclose(arrays, expected, rtol=4 * np.finfo(dtype).eps)


def test_adam_update_makes_steps_of_lr_along_a_constant_gradient(dtype):
    w, m, v = np.ones((3, 2), dtype)
    for t in (1, 2, 3):
        fnn.adam_update(w, [1, -200], m := m * (t > 1), v := v * (t > 1), lr=0.1, t=t)
    np.testing.assert_allclose(w, [0.7, 1.3], rtol=1e-6)


def test_update_with_a_gradient_that_overlaps_the_weights():
    w = np.array([1.0, 2.0, 3.0])
    fnn.sgd_update(w[1:], w[:-1], lr=1.0)
    np.testing.assert_array_equal(w, [1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda w: fnn.sgd_update([1.0], [1.0], 0.1), TypeError, "w is updated in place: expected .* not list"),
        (lambda w: fnn.sgd_update(w.astype(int), w, 0.1), TypeError, "w is updated in place: expected .* not int64"),
        (lambda w: fnn.sgd_update(_read_only(w), w, 0.1), ValueError, "w is read-only: it is updated in place"),
        (lambda w: fnn.sgd_update(w, w[:1], 0.1), ValueError, r"dw has shape \(1,\), but w has \(2,\)"),
        (lambda w: fnn.sgd_update(w, w, 0), ValueError, "lr is 0, expected a finite number > 0"),
        (lambda w: fnn.sgd_update(w, w, True), TypeError, "lr is True, expected a finite number > 0"),
        (lambda w: fnn.momentum_update(w, w, w, 0.1, 0.9), ValueError, "w, v share memory"),
        (
            lambda w: fnn.momentum_update(w, w, np.zeros(3), 0.1, 0.9),
            ValueError,
            r"v has shape \(3,\), but w has \(2,\)",
        ),
        (lambda w: fnn.momentum_update(w, w, np.zeros(2, "f4"), 0.1, 0.9), TypeError, "v holds float32 values, but w"),
        (lambda w: fnn.nesterov_update(w, w, 0 * w, 0.1, 1), ValueError, "momentum is 1, expected .* >= 0 and < 1"),
        (
            lambda w: fnn.adam_update(w, w, 0 * w, 0 * w, beta1=-0.1),
            ValueError,
            "beta1 is -0.1, expected .* >= 0 and < 1",
        ),
        (
            lambda w: fnn.adam_update(w, w, 0 * w, 0 * w, beta2=1.5),
            ValueError,
            "beta2 is 1.5, expected .* >= 0 and < 1",
        ),
        (lambda w: fnn.adam_update(w, w, 0 * w, 0 * w, eps=0), ValueError, "eps is 0, expected a finite number > 0"),
        (lambda w: fnn.rmsprop_update(w, w, 0 * w, alpha=1), ValueError, "alpha is 1, expected .* >= 0 and < 1"),
        (lambda w: fnn.rmsprop_update(w, w, 0 * w, eps=0), ValueError, "eps is 0, expected a finite number > 0"),
        (
            lambda w: fnn.rmsprop_momentum_update(w, w, 0 * w, 0 * w, momentum=1),
            ValueError,
            "momentum is 1, expected .* >= 0 and < 1",
        ),
        (lambda w: fnn.adam_update(w, w, 0 * w, 0 * w, t=0), ValueError, "t is 0, expected a positive integer"),
    ],
)
def test_update_refused(call, error, message):
    w = np.ones(2)
    with pytest.raises(error, match=message):
        call(w)
    np.testing.assert_array_equal(w, 1)
