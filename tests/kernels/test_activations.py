import numpy as np
import pytest

from fastnn import kernels, reference
from tests.activations import ACTIVATIONS
from tests.cases import LENGTHS
from tests.judge import assert_within, eps, written

SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-30, -1e-30, 1e-38, 90.0, -90.0, 3e38, -3e38]


def forward(module, name, x):
    return written(lambda out: getattr(module, name)(x, *ACTIVATIONS[name].settings, out), x.shape, x.dtype)


def backward(module, name, dy, kept):
    """dx for the x or y that the activation keeps."""
    arguments = dy, kept, *ACTIVATIONS[name].settings
    return written(lambda out: getattr(module, name + "_backward")(*arguments, out), kept.shape, kept.dtype)


def exactly(module_function, name, *arrays):
    """The reference in long double, rounded."""
    with np.errstate(over="ignore"):
        return module_function(reference, name, *(a.astype(np.longdouble) for a in arrays)).astype(arrays[0].dtype)


def assert_close(result, expected, factor, scale):
    """Within factor eps |expected| + 4 eps scale, the same where that is not finite."""
    finite, tiny = np.isfinite(expected), float(np.finfo(expected.dtype).smallest_subnormal)
    np.testing.assert_array_equal(result[~finite], expected[~finite])
    exact = expected[finite].astype(np.float64)
    scale = np.broadcast_to(np.nan_to_num(np.asarray(scale, np.float64), posinf=0), finite.shape)[finite]
    bound = eps(expected.dtype) * (factor * np.abs(exact) + 4 * scale)
    assert_within(result[finite], exact, bound + 2 * tiny)


def special_values(length, dtype):
    return np.resize(SPECIAL, length).astype(dtype)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_forward_at_every_length(name, rng, dtype):
    for length in LENGTHS:
        for x in [(10 * rng.normal(size=length)).astype(dtype), special_values(length, dtype)]:
            # In the tail of GELU an ulp of what e is raised to is many, of the twin as well.
            scale = ACTIVATIONS[name].keeps == "x"
            assert_close(forward(kernels, name, x), exactly(forward, name, x), 4, scale)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_backward_at_every_length(name, rng, dtype):
    for length in LENGTHS:
        for values in [rng.uniform(-1, 1, length).astype(dtype), special_values(length, dtype)]:
            kept = ACTIVATIONS[name].kept(values, forward(reference, name, values))
            dy = rng.normal(size=length).astype(dtype)
            for gradient in [dy, np.roll(special_values(length, dtype), 5)]:
                expected = backward(reference, name, gradient, kept)
                # 1 - y² and 1 - y cancel near 1, and the terms of GELU's slope near its root.
                assert_close(backward(kernels, name, gradient, kept), expected, 8, np.abs(gradient))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(3, 7), (2, 3, 5), (4, 0), (1, 100, 3)], ids=str)
def test_any_shape(name, shape, rng, dtype):
    x = rng.normal(size=shape).astype(dtype)
    np.testing.assert_allclose(forward(kernels, name, x), exactly(forward, name, x), rtol=4 * eps(dtype))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_zero_dimensional_array(name, dtype):
    x, out = np.array(0.5, dtype), np.array(np.nan, dtype)
    getattr(kernels, name)(x, *ACTIVATIONS[name].settings, out)
    np.testing.assert_allclose(out, exactly(forward, name, x.reshape(1))[0], rtol=4 * eps(dtype))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_keeps_its_place(name, dtype):
    for length in (1, 5, 16, 37):
        for place in range(length):
            x = np.linspace(-2, 2, length).astype(dtype)
            x[place] = np.nan
            np.testing.assert_array_equal(np.isnan(forward(kernels, name, x)), np.arange(length) == place)
            if name != "identity":
                gradient = backward(kernels, name, np.ones_like(x), x)
                np.testing.assert_array_equal(np.isnan(gradient), np.arange(length) == place)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_out_may_be_an_input(name, rng, dtype):
    x, dy = rng.normal(size=(2, 53)).astype(dtype)
    y = forward(kernels, name, x)
    in_place, gradient = x.copy(), dy.copy()
    kept = ACTIVATIONS[name].kept(x, y)
    getattr(kernels, name)(in_place, *ACTIVATIONS[name].settings, in_place)
    getattr(kernels, name + "_backward")(gradient, kept, *ACTIVATIONS[name].settings, gradient)
    np.testing.assert_array_equal(in_place, y)
    np.testing.assert_array_equal(gradient, backward(kernels, name, dy, kept))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_read_only_inputs(name, rng, dtype):
    x = rng.normal(size=(2, 20)).astype(dtype)
    x.flags.writeable = False
    np.testing.assert_allclose(forward(kernels, name, x[0]), exactly(forward, name, x[0]), rtol=4 * eps(dtype))
    backward(kernels, name, x[0], x[1])


@pytest.mark.parametrize("twin", [kernels, reference], ids=["kernels", "reference"])
def test_a_slope_of_zero_is_the_relu_even_where_something_is_infinite(twin, dtype):
    x = np.array([-np.inf, -2, 0, 3, np.inf, np.nan], dtype)
    y, dx = np.empty_like(x), np.empty_like(x)
    twin.leaky_relu(x, 0.0, y)
    np.testing.assert_array_equal(y, np.array([0, 0, 0, 3, np.inf, np.nan], dtype))
    twin.leaky_relu_backward(np.full_like(x, np.inf), y, 0.0, dx)
    np.testing.assert_array_equal(dx, np.array([0, 0, 0, np.inf, np.inf, np.nan], dtype))
