"""Properties that hold for any input, tried on random ones."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastnn import kernels
from tests.cases import DTYPES
from tests.judge import assert_product, assert_within, eps, written
from tests.kernels.test_epoch import check
from tests.networks import ACTIVATION_LAYERS, RULES, batches, build, objective, problem, rule

dtypes = st.sampled_from(DTYPES)
seeds = st.integers(0, 2**32 - 1)
scores = dtypes.flatmap(
    lambda dtype: hnp.arrays(
        dtype, st.tuples(st.integers(1, 6), st.integers(1, 70)), elements=st.integers(-400, 400).map(lambda n: n / 8)
    )
)


def softmax(s):
    return written(lambda out: kernels.softmax(s, out), s.shape, s.dtype)


@given(scores)
def test_the_rows_of_softmax_sum_to_1(s):
    p = softmax(s)
    assert np.all((p >= 0) & (p <= 1))
    assert_within(p.sum(axis=1, dtype=np.float64), np.ones(len(s)), s.shape[1] * eps(s.dtype))


@given(scores, st.integers(-1000, 1000))
def test_softmax_does_not_see_a_shift(s, shift):
    """Eighths plus integers are exact, so not a bit may change."""
    np.testing.assert_array_equal(softmax(s + s.dtype.type(shift)), softmax(s))


@given(scores)
def test_the_logarithms_agree(s):
    log_p, lse = np.empty_like(s), np.empty(len(s), s.dtype)
    kernels.log_softmax(s, log_p)
    kernels.logsumexp(s, lse)
    assert_within(s - log_p, np.repeat(lse[:, None], s.shape[1], 1).astype(np.float64), 400 * eps(s.dtype))
    assert np.all(log_p <= 0)
    assert np.all(lse >= s.max(axis=1))


@given(dtypes, seeds, st.tuples(*[st.integers(0, 130)] * 3), st.booleans(), st.booleans())
def test_matmul_of_any_shape(dtype, seed, shape, left, right):
    rng = np.random.default_rng(seed)
    m, k, n = shape
    a = rng.normal(size=(k, m)).astype(dtype).T if left else rng.normal(size=(m, k)).astype(dtype)
    b = rng.normal(size=(n, k)).astype(dtype).T if right else rng.normal(size=(k, n)).astype(dtype)
    assert_product(written(lambda out: kernels.matmul(a, b, out), (m, n), dtype), a, b)


widths = st.integers(1, 40)
activations = st.sampled_from(ACTIVATION_LAYERS)
layers = st.lists(st.one_of(widths, st.tuples(widths, st.booleans()), activations), min_size=1, max_size=6)


@given(
    dtypes,
    seeds,
    st.tuples(widths, layers, st.integers(2, 40)),
    st.sampled_from(["labels", "soft", "squared"]),
    st.sampled_from([*RULES]),
    st.integers(1, 50),
    st.integers(1, 50),
    st.sampled_from([0.0, 0.05]),
    st.booleans(),
)
def test_an_epoch_of_any_network(dtype, seed, shape, targets, name, samples, batch_size, l2, weighted):
    rng = np.random.default_rng(seed)
    width, stack, outputs = shape
    case = (width, [*stack, outputs])
    network, params = build(case, rng, dtype)
    x, y = problem(case, samples, targets, rng, dtype)
    weights = rng.integers(0, 3, samples).astype(dtype) if weighted else None
    goal = objective("squared_error" if targets == "squared" else "cross_entropy", l2)
    data = batches(x, y, batch_size, weights, rng.permutation(samples))
    check(network, params, data, goal, rule(name, params, 0.001), epochs=1, learns=False)
