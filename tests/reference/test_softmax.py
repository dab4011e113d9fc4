import mpmath
import numpy as np
import pytest
from scipy import special

from fastnn import reference
from tests.cases import SCORE_ROWS
from tests.judge import eps

FUNCTIONS = ["softmax", "log_softmax", "logsumexp"]


def evaluate(name, s):
    out = np.full(len(s) if name == "logsumexp" else s.shape, 7, s.dtype)
    getattr(reference, name)(s, out)
    return out


def scipy_of(name, s):
    with np.errstate(all="ignore"):
        return getattr(special, name)(s.astype(np.float64), axis=1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("softmax", [[0.25, 0.75], [0.5, 0.5]]),
        ("log_softmax", [[np.log(0.25), np.log(0.75)], [-np.log(2), -np.log(2)]]),
        ("logsumexp", [np.log(4), 5 + np.log(2)]),
    ],
)
def test_by_hand(name, expected, dtype):
    out = evaluate(name, np.array([[0, np.log(3)], [5, 5]], dtype))
    assert out.dtype == dtype
    np.testing.assert_allclose(out, expected, rtol=4 * eps(dtype))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("row", SCORE_ROWS.values(), ids=SCORE_ROWS)
def test_edge_cases_are_those_of_scipy(name, row, dtype):
    s = np.array([row, [0, 1, 2]], dtype)
    with np.errstate(over="ignore"):
        expected = scipy_of(name, s).astype(dtype)
    np.testing.assert_allclose(evaluate(name, s), expected, rtol=4 * eps(dtype), atol=eps(dtype) * (name != "softmax"))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 1), (4, 10), (2, 1000)])
def test_shapes_against_scipy(name, shape, rng, dtype):
    s = (5 * rng.normal(size=shape)).astype(dtype)
    expected = scipy_of(name, s) if len(s) else np.empty(0 if name == "logsumexp" else shape)
    np.testing.assert_allclose(
        evaluate(name, s), expected, rtol=16 * eps(dtype), atol=8 * eps(dtype) * (name != "softmax")
    )


def test_no_columns(dtype):
    s = np.empty((2, 0), dtype)
    np.testing.assert_array_equal(evaluate("logsumexp", s), special.logsumexp(s, axis=1))
    assert evaluate("softmax", s).shape == evaluate("log_softmax", s).shape == (2, 0)


def test_against_mpmath(rng, dtype):
    s = (10 * rng.normal(size=(1, 50))).astype(dtype)
    with mpmath.workdps(40):
        total = mpmath.fsum(mpmath.exp(mpmath.mpf(float(v))) for v in s[0])
        p = np.array([float(mpmath.exp(float(v)) / total) for v in s[0]])
        log_p = np.array([float(mpmath.mpf(float(v)) - mpmath.log(total)) for v in s[0]])
    # e^(s - max) turns the rounding of s - max, up to 60 here, into a relative error.
    np.testing.assert_allclose(evaluate("softmax", s)[0], p, rtol=60 * eps(dtype))
    np.testing.assert_allclose(evaluate("log_softmax", s)[0], log_p, rtol=4 * eps(dtype), atol=4 * eps(dtype))
    np.testing.assert_allclose(evaluate("logsumexp", s), float(mpmath.log(total)), rtol=4 * eps(dtype))
