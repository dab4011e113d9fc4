import numpy as np
import pytest

from fastnn import kernels, reference
from tests.cases import SCORE_ROWS, SCORE_SHAPES
from tests.judge import assert_within, eps, written

FUNCTIONS = ["softmax", "log_softmax", "logsumexp"]


def evaluate(module, name, s):
    shape = s.shape[:1] if name == "logsumexp" else s.shape
    return written(lambda out: getattr(module, name)(s, out), shape, s.dtype)


def exact(name, s):
    return evaluate(reference, name, s.astype(np.longdouble)).astype(np.float64)


def bound(name, s, expected):
    """The rounding of s - max is a relative error of e^(s - max), and the sum of k terms costs about √k."""
    distance = s.max(axis=1, keepdims=True, initial=np.finfo(s.dtype).min) - s
    unit = eps(s.dtype) * (4 + np.sqrt(s.shape[1]))
    if name == "softmax":
        return (unit + eps(s.dtype) * distance) * expected + 4 * float(np.finfo(s.dtype).smallest_subnormal)
    return unit + 2 * eps(s.dtype) * np.abs(expected)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", SCORE_SHAPES, ids=str)
@pytest.mark.parametrize("spread", [0.1, 5, 60])
def test_shapes(name, shape, spread, rng, dtype):
    s = (spread * rng.normal(size=shape)).astype(dtype)
    expected = exact(name, s)
    assert_within(evaluate(kernels, name, s), expected, bound(name, s, expected))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_width_up_to_four_vectors(name, rng, dtype):
    for k in range(70):
        s = (3 * rng.normal(size=(19, k))).astype(dtype)
        expected = exact(name, s)
        with np.errstate(invalid="ignore"):
            tolerance = bound(name, s, expected)
        if k == 0 and name == "logsumexp":
            np.testing.assert_array_equal(evaluate(kernels, name, s), expected)
        else:
            assert_within(evaluate(kernels, name, s), expected, tolerance)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("row", SCORE_ROWS.values(), ids=SCORE_ROWS)
@pytest.mark.parametrize("repeats", [1, 7, 33])
def test_edge_cases(name, row, repeats, dtype):
    s = np.array([np.resize([0, 1, 2], 3 * repeats), np.tile(row, repeats), np.zeros(3 * repeats)], dtype)
    expected = evaluate(reference, name, s)
    result = evaluate(kernels, name, s)
    tiny = 4 * float(np.finfo(dtype).smallest_subnormal)
    np.testing.assert_allclose(
        result, expected, rtol=120 * eps(dtype), atol=tiny if name == "softmax" else 8 * eps(dtype)
    )


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_special_value_in_every_column(name, value, rng, dtype):
    for k in (1, 2, 10, 37):
        for column in range(k):
            s = rng.normal(size=(19, k)).astype(dtype)
            s[1, column] = value
            np.testing.assert_allclose(
                evaluate(kernels, name, s), evaluate(reference, name, s), rtol=32 * eps(dtype), atol=16 * eps(dtype)
            )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rows_have_the_bits_that_they_have_alone(name, rng, dtype):
    for k in (1, 2, 3, 8, 10, 16, 17, 24, 25, 33):
        s = (5 * rng.normal(size=(53, k))).astype(dtype)
        s[20], s[39, 0] = -np.inf, np.nan
        alone = [evaluate(kernels, name, row[None]) for row in s]
        np.testing.assert_array_equal(evaluate(kernels, name, s), np.concatenate(alone))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_check_fails_a_wrong_result(name, rng, dtype):
    s = rng.normal(size=(4, 10)).astype(dtype)
    expected = exact(name, s)
    for wrong in [0 * expected, expected * (1 + 20 * eps(dtype)), expected[::-1]]:
        with pytest.raises(AssertionError, match="elements off"):
            assert_within(wrong.astype(dtype), expected, bound(name, s, expected))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_read_only_scores(name, rng, dtype):
    s = rng.normal(size=(4, 10)).astype(dtype)
    s.flags.writeable = False
    expected = exact(name, s)
    assert_within(evaluate(kernels, name, s), expected, bound(name, s, expected))


@pytest.mark.parametrize("m", [6, 20_000])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_shapes_are_looked_at_again(name, m, dtype):
    """Another thread, or a signal handler, may have changed them since the door: nothing is written elsewhere."""
    s, out = np.ones((m, 8), dtype), np.zeros(m - 1 if name == "logsumexp" else (m - 1, 8), dtype)
    with pytest.raises(ValueError, match=r"^out has shape .* did their shapes change meanwhile\?$"):
        getattr(kernels, name)(s, out)
    assert not out.any()
