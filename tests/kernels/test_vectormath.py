"""Ulps against mpmath at a few hundred points, and against the next wider type at many."""

import math

import mpmath
import numpy as np
import pytest
from scipy import special

from fastnn import kernels
from fastnn.kernels.simd import vectormath
from tests.cases import LENGTHS
from tests.judge import ulps, written

FUNCTIONS = {
    "exp": vectormath.exp,
    "log": vectormath.log,
    "tanh": kernels.tanh,
    "sigmoid": kernels.sigmoid,
    "root": vectormath.root,
    "erf": vectormath.erf,
    "gelu": kernels.gelu,
    "silu": kernels.silu,
    "mish": kernels.mish,
    "elu": lambda x, out: kernels.elu(x, 1.0, out),
    "softplus": kernels.softplus,
}
LIMITS = {"exp": 1, "log": 1, "tanh": 4, "sigmoid": 4, "root": 1, "erf": 2, "gelu": 8}
LIMITS |= {"silu": 6, "mish": 6, "elu": 2, "softplus": 4}
EXACT = {
    "exp": mpmath.exp,
    "log": mpmath.log,
    "root": mpmath.sqrt,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "erf": mpmath.erf,
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
}
WIDE = {"exp": np.exp, "log": np.log, "root": np.sqrt, "tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}
WIDE |= {
    "silu": lambda x: np.where(x < 0, x * np.exp(x) / (1 + np.exp(x)), x / (1 + np.exp(-x))),
    "mish": lambda x: x * np.tanh(np.logaddexp(x.dtype.type(0), x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "softplus": lambda x: np.logaddexp(x.dtype.type(0), x),
}
# Up to float64 only.
DOUBLE = {"erf": lambda x: np.frompyfunc(math.erf, 1, 1)(x).astype(float), "gelu": lambda x: x * special.ndtr(x)}
# e^x overflows above the first, is subnormal below the second, and rounds to 0 below the third.
EXP_EDGES = {
    np.float32: (88.72283905206835, -87.33654475055310, -103.97207708399179),
    np.float64: (709.782712893384, -708.3964185322641, -745.1332191019412),
}


def evaluate(name, x):
    return written(lambda out: FUNCTIONS[name](x, out), x.shape, x.dtype)


def neighbours(values, dtype, count=20):
    """The numbers around each value, count on either side."""
    steps = np.arange(-count, count + 1)
    around = [np.asarray(v, dtype) + steps * np.spacing(np.asarray(v, dtype)) for v in values]
    return np.concatenate(around).astype(dtype)


def points(name, rng, dtype):
    """A few hundred finite points over the whole range of a function, its thresholds and the smallest numbers."""
    info = np.finfo(dtype)
    tiny = np.array([info.smallest_subnormal, info.smallest_normal / 4, info.smallest_normal, info.eps / 2, info.eps])
    if name in ("log", "root"):
        powers = 2.0 ** rng.uniform(info.minexp - info.nmant, info.maxexp, 200)
        return np.concatenate([tiny, powers, neighbours([1, 0.5, 2, 2**0.5, 0.5**0.5], dtype), [info.max]]).astype(
            dtype
        )
    if name in ("erf", "gelu"):
        # erf is another formula from 1 on and rounds to 1 before 4 or 6; GELU rounds to -0 below -14.2 or -38.5.
        edges = neighbours([1, -1, 0.5, 4, 6, -13.2, -14.2, -14.5, -37.5, -38.5, -38.7], dtype, 8)
        spread = [rng.uniform(-7, 7, 200), rng.uniform(-40, 0, 200), rng.normal(size=200)]
        spread = np.concatenate([*spread, [0.0, 30, -200, info.max, -info.max]])
        return np.concatenate([tiny, -tiny, edges, spread]).astype(dtype)
    most, subnormal, least = EXP_EDGES[dtype]
    edges = neighbours([most, -most, subnormal, least, -least, 1, 0.5, np.log(2) / 2, 20, 9, 0.1], dtype, 8)
    spread = np.concatenate([rng.uniform(least - 1, most, 200), rng.normal(size=100), [0.0, 2 * least, -2 * least]])
    return np.concatenate([tiny, -tiny, edges, spread, [-info.max, info.max]]).astype(dtype)


def rounded(value):
    """An mpmath number as a long double."""
    fraction, exponent = mpmath.frexp(value)
    high = float(fraction)
    return np.ldexp(np.longdouble(high) + np.longdouble(float(fraction - high)), exponent)


@pytest.mark.parametrize("name", LIMITS)
def test_against_mpmath(name, rng, dtype):
    x = points(name, rng, dtype)
    with mpmath.workprec(300), np.errstate(over="ignore"):
        exact = np.array([rounded(_limited(name, float(v))) for v in x])
    error = ulps(evaluate(name, x), exact)
    assert error.max() <= LIMITS[name], f"{error.max()} ulp at {x[error.argmax()]!r}"


def _limited(name, x):
    """The function by mpmath, with arguments clipped where the result is 0, 1 or infinite anyway."""
    if name in ("exp", "sigmoid", "tanh"):
        x = min(max(x, -2000.0), 2000.0)
    if name == "gelu":
        x = max(x, -100.0)
    if name in ("silu", "mish", "elu", "softplus"):
        x = max(x, -1000.0)
        if x > 1000:
            return mpmath.mpf(x)
    if name in ("sigmoid", "tanh") and x > 100:
        return mpmath.mpf(1)
    if name == "tanh" and (x < -100 or abs(x) < 1e-100):
        return mpmath.mpf(-1 if x < -100 else x)
    return EXACT[name](mpmath.mpf(x))


@pytest.mark.parametrize("name", LIMITS)
def test_random_bit_patterns_in_float32(name, rng):
    x = rng.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    x = np.concatenate([x, rng.uniform(-105, 90, 200_000).astype(np.float32)])
    with np.errstate(all="ignore"):
        exact = (WIDE | DOUBLE)[name](x.astype(np.float64))
    error = ulps(evaluate(name, x), exact)
    assert error.max() <= LIMITS[name], f"{error.max()} ulp at {x[error.argmax()]!r}"


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="long double is double on this machine")
@pytest.mark.parametrize("name", WIDE)
def test_random_bit_patterns_in_float64(name, rng):
    x = rng.integers(0, 2**64, 50_000, dtype=np.uint64).view(np.float64)
    x = np.concatenate([x, rng.uniform(-746, 710, 50_000), 3 * rng.normal(size=50_000)])
    with np.errstate(all="ignore"):
        exact = WIDE[name](x.astype(np.longdouble))
    error = ulps(evaluate(name, x), exact)
    # NumPy's long double functions are within a few of their own ulps, a thousandth of ours.
    assert error.max() <= LIMITS[name] + 0.01, f"{error.max()} ulp at {x[error.argmax()]!r}"


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp", [0.0, -0.0, np.inf, -np.inf, np.nan, 1e4, -1e4], [1, 1, np.inf, 0, np.nan, np.inf, 0]),
        ("log", [1, 0.0, -0.0, np.inf, -np.inf, np.nan, -1, -1e-45], [0, -np.inf, -np.inf, np.inf, *[np.nan] * 4]),
        ("root", [0.0, -0.0, 4.0, np.inf, -np.inf, np.nan, -1], [0, 0, 2, np.inf, *[np.nan] * 3]),
        ("tanh", [0.0, np.inf, -np.inf, np.nan, 1e4, -1e4, 1e-30], [0, 1, -1, np.nan, 1, -1, 1e-30]),
        ("sigmoid", [0.0, -0.0, np.inf, -np.inf, np.nan, 1e4, -1e4, 1e-30], [0.5, 0.5, 1, 0, np.nan, 1, 0, 0.5]),
        ("gelu", [0.0, -0.0, np.inf, -np.inf, np.nan, 1e4, -1e4, 1e-30], [0, 0, np.inf, *[np.nan] * 2, 1e4, 0, 5e-31]),
        ("erf", [0.0, np.inf, -np.inf, np.nan, 1e4, -1e30], [0, 1, -1, np.nan, 1, -1]),
        ("silu", [0.0, np.inf, -np.inf, np.nan, 1e38, -1e38, 1e-30], [0, np.inf, *[np.nan] * 2, 1e38, 0, 5e-31]),
        ("mish", [0.0, np.inf, -np.inf, np.nan, 1e38, -1e38], [0, np.inf, *[np.nan] * 2, 1e38, 0]),
        ("elu", [0.0, np.inf, -np.inf, np.nan, 1e38, -1e38, -1e-30], [0, np.inf, -1, np.nan, 1e38, -1, -1e-30]),
        ("softplus", [np.inf, -np.inf, np.nan, 1e38, -1e38, 40], [np.inf, 0, np.nan, 1e38, 0, 40]),
    ],
)
def test_special_values(name, x, expected, dtype):
    np.testing.assert_array_equal(evaluate(name, np.array(x, dtype)), np.array(expected, dtype))


@pytest.mark.parametrize("name", ["tanh", "erf", "gelu", "silu", "mish", "elu"])
def test_the_sign_of_zero_stays(name, dtype):
    x = np.array([-0.0, 0.0], dtype)
    np.testing.assert_array_equal(np.signbit(evaluate(name, x)), [True, False])


def test_exp_overflows_and_underflows_where_it_rounds_so(dtype):
    """The largest finite result, infinity, the smallest subnormal and 0 stand where the exact e^x rounds to them."""
    info = np.finfo(dtype)
    with mpmath.workprec(300):
        top, bottom = (
            mpmath.log(mpmath.mpf(2) ** info.maxexp),
            mpmath.log(mpmath.mpf(float(info.smallest_subnormal)) / 2),
        )
        above, below = neighbours([float(top)], dtype), neighbours([float(bottom)], dtype)
        over = np.array([mpmath.mpf(float(v)) > top for v in above])
        under = np.array([mpmath.mpf(float(v)) < bottom for v in below])
    np.testing.assert_array_equal(np.isinf(evaluate("exp", above)), over)
    np.testing.assert_array_equal(evaluate("exp", below) == 0, under)


@pytest.mark.parametrize("name", LIMITS)
def test_every_length_and_place(name, rng, dtype):
    for length in LENGTHS:
        x = rng.uniform(0.1, 3, length).astype(dtype)
        np.testing.assert_array_equal(evaluate(name, x), [evaluate(name, x[i : i + 1])[0] for i in range(length)])


@pytest.mark.parametrize("name", LIMITS)
def test_in_place(name, rng, dtype):
    x = rng.uniform(0.1, 3, 53).astype(dtype)
    expected = evaluate(name, x)
    FUNCTIONS[name](x, x)
    np.testing.assert_array_equal(x, expected)


def test_ulps_by_hand(dtype):
    """One number further is one ulp, half as much below a power of two, and the subnormal step at the bottom."""
    info = np.finfo(dtype)
    wide = np.float64 if dtype == np.float32 else np.longdouble
    result = np.array([1 + 2 * info.eps, 1, 3 * info.smallest_subnormal, np.inf, np.nan, info.max, 0], dtype)
    exact = np.array([1, 1 - wide(info.eps) / 2, info.smallest_subnormal, 0, 1, np.inf, np.nan], wide)
    exact[3] = wide(2) ** (info.maxexp - 1)
    error = ulps(result, exact)
    np.testing.assert_array_equal(error[:3], [2, 1, 2])
    assert not np.any(error[3:] <= 1e6)
