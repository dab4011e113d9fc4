import mpmath
import numpy as np
import pytest
from scipy import special

from fastnn import reference
from tests.activations import ACTIVATIONS
from tests.judge import eps

POINTS = np.array([-700, -90, -20, -3, -1, -1e-3, -1e-20, 0, 1e-20, 1e-3, 0.5, 1, 3, 20, 90, 700])


def forward(name, x):
    return evaluate(getattr(reference, name), x, *ACTIVATIONS[name].settings)


def backward(name, dy, kept):
    return evaluate(getattr(reference, f"{name}_backward"), dy, kept, *ACTIVATIONS[name].settings)


def evaluate(function, *arguments):
    out = np.full_like(arguments[0], 7)
    function(*arguments, out)
    return out


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("identity", [-2, 0, 3]),
        ("relu", [0, 0, 3]),
        ("leaky_relu", [-0.2, 0, 3]),
        ("tanh", [-0.9640275800758169, 0, 0.9950547536867305]),
        ("sigmoid", [0.11920292202211755, 0.5, 0.9525741268224334]),
        ("gelu", [-0.04550026389635842, 0, 2.99595030590511]),
        ("gelu_tanh", [-0.04540230591222494, 0, 2.996362607918227]),
        ("silu", [-0.2384058440442351, 0, 2.85772238046729966]),
        ("mish", [-0.25250148269570886, 0, 2.986535004967957]),
        ("elu", [-0.6052653017343711, 0, 3]),
        ("selu", [-1.520166468595695, 0, 3.1521029620664414]),
        ("softplus", [0.1269280110429726, 0.6931471805599453, 3.048587351573742]),
        ("hard_swish", [-1 / 3, 0, 3]),
    ],
)
def test_values_by_hand(name, expected, dtype):
    out = forward(name, np.array([-2, 0, 3], dtype))
    assert out.dtype == dtype
    np.testing.assert_allclose(out, expected, rtol=4 * eps(dtype))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_backward_against_central_differences(name):
    x, step = np.array([-2.8, -0.7, -0.1, 0.2, 0.9, 4.0]), 1e-6
    dy = np.array([1, -2, 0.5, 3, -1, 2.0])
    numeric = (forward(name, x + step) - forward(name, x - step)) / (2 * step)
    kept = ACTIVATIONS[name].kept(x, forward(name, x))
    np.testing.assert_allclose(backward(name, dy, kept), dy * numeric, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value_and_slope_of_the_table(name, dtype):
    activation, x = ACTIVATIONS[name], np.linspace(-4, 4, 81).astype(dtype)
    y, wide = forward(name, x), x.astype(float)
    tolerance = {"rtol": 8 * eps(dtype), "atol": 8 * eps(dtype)}
    np.testing.assert_allclose(y, activation.value(wide, *activation.settings), **tolerance)
    dx = backward(name, np.full_like(x, 3), activation.kept(x, y))
    np.testing.assert_allclose(dx, 3 * activation.slope(wide, *activation.settings), **tolerance)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_in_nan_out(name, dtype):
    x = np.array([np.nan, 1, np.nan], dtype)
    np.testing.assert_array_equal(np.isnan(forward(name, x)), [True, False, True])
    if name != "identity":
        np.testing.assert_array_equal(np.isnan(backward(name, np.ones_like(x), x)), [True, False, True])
    assert np.isnan(backward(name, np.array([np.nan], dtype), np.array([0.5], dtype)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("identity", [-np.inf, np.inf]),
        ("relu", [0, np.inf]),
        ("leaky_relu", [-np.inf, np.inf]),
        ("tanh", [-1, 1]),
        ("sigmoid", [0, 1]),
        ("gelu", [np.nan, np.inf]),
        ("gelu_tanh", [np.nan, np.inf]),
        ("silu", [np.nan, np.inf]),
        ("mish", [np.nan, np.inf]),
        ("elu", [-0.7, np.inf]),
        ("selu", [-1.7580993408473766, np.inf]),
        ("softplus", [0, np.inf]),
        ("hard_swish", [np.nan, np.inf]),
    ],
)
def test_infinities(name, expected, dtype):
    np.testing.assert_array_equal(forward(name, np.array([-np.inf, np.inf], dtype)), np.array(expected, dtype))


@pytest.mark.parametrize(("name", "exact"), [("tanh", mpmath.tanh), ("sigmoid", lambda x: 1 / (1 + mpmath.exp(-x)))])
def test_tails_against_mpmath(name, exact, dtype):
    x = POINTS.astype(dtype)
    with mpmath.workprec(200 + 1200):
        expected = np.array([float(exact(mpmath.mpf(float(v)))) for v in x])
    out = forward(name, x)
    tolerance = 4 * eps(dtype) * np.abs(expected) + 2 * float(np.finfo(dtype).smallest_subnormal)
    assert np.all(np.abs(out - expected) <= tolerance)


def test_sigmoid_against_scipy(rng, dtype):
    x = (30 * rng.normal(size=1000)).astype(dtype)
    np.testing.assert_allclose(evaluate(reference.sigmoid, x), special.expit(x), rtol=4 * eps(dtype))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_out_may_be_an_input(name, rng, dtype):
    x, dy = rng.normal(size=(2, 3, 7)).astype(dtype)[:, None]
    y, settings = forward(name, x), ACTIVATIONS[name].settings
    kept = ACTIVATIONS[name].kept(x, y)
    dx = backward(name, dy, kept)
    in_place, gradient = x.copy(), dy.copy()
    getattr(reference, name)(in_place, *settings, in_place)
    getattr(reference, f"{name}_backward")(gradient, kept, *settings, gradient)
    np.testing.assert_array_equal(in_place, y)
    np.testing.assert_array_equal(gradient, dx)


def test_a_steep_leaky_relu_overflows_in_silence(dtype):
    out = np.empty(2, dtype)
    reference.leaky_relu(np.array([-np.finfo(dtype).max, 1], dtype), 10.0, out)
    np.testing.assert_array_equal(out, [-np.inf, 1])
    reference.leaky_relu_backward(np.array([-np.finfo(dtype).max, 1], dtype), np.array([-1, 1], dtype), 10.0, out)
    np.testing.assert_array_equal(out, [-np.inf, 1])
