import importlib

import numpy as np
import pytest

from fastnn import kernels, reference
from tests.cases import SCORE_SHAPES
from tests.judge import assert_within, eps, written

LOSSES = ["cross_entropy", "squared_error"]


def value_and_gradient(module, loss, scores, y, v):
    """The loss of both functions, which agree to rounding, and the gradient."""
    backward = getattr(module, loss + "_backward")
    values = []
    gradient = written(lambda out: values.append(backward(scores, y, v, out)), scores.shape, scores.dtype)
    values.append(getattr(module, loss)(scores, y, v))
    assert all(type(value) is float for value in values)
    np.testing.assert_allclose(*values, rtol=8 * eps(scores.dtype))
    return values[0], gradient


def exactly(loss, scores, y, v):
    """The reference in long double."""
    wide = [None if a is None else a if a.dtype == np.int64 else a.astype(np.longdouble) for a in (scores, y, v)]
    value, gradient = value_and_gradient(reference, loss, *wide)
    return value, gradient.astype(np.float64)


def check(loss, scores, y, v):
    value, gradient = value_and_gradient(kernels, loss, scores, y, v)
    expected, expected_gradient = exactly(loss, scores, y, v)
    assert gradient.dtype == scores.dtype
    unit = eps(scores.dtype) * (4 + np.sqrt(scores.shape[1]))
    spread = np.abs(scores).max(initial=0) + (np.abs(y).max(initial=0) if loss == "squared_error" else 0)
    assert value == pytest.approx(expected, rel=2 * unit, abs=unit * (1 + spread) * (loss == "cross_entropy"))
    weights = np.ones(len(scores)) if v is None else v.astype(np.float64)
    share = (weights / (weights.sum() or 1))[:, None]
    assert_within(gradient, expected_gradient, share * unit * (1 + spread) * 2)


def targets(kind, shape, rng, dtype):
    m, k = shape
    if kind == "labels":
        return rng.integers(0, k, m)
    if kind == "one-hot":
        return np.eye(k, dtype=dtype)[rng.integers(0, k, m)]
    return rng.dirichlet(np.ones(k), m).astype(dtype) if m else np.empty(shape, dtype)


def weights(kind, m, rng, dtype):
    if kind == "none":
        return None
    v = np.zeros(m) if kind == "zero" else rng.uniform(0, 3, m)
    return v.astype(dtype)


@pytest.mark.parametrize("weighting", ["none", "some", "zero"])
@pytest.mark.parametrize("kind", ["labels", "one-hot", "soft"])
@pytest.mark.parametrize("shape", SCORE_SHAPES, ids=str)
def test_cross_entropy(shape, kind, weighting, rng, dtype):
    for spread in (0.1, 5, 100):
        scores = (spread * rng.normal(size=shape)).astype(dtype)
        check("cross_entropy", scores, targets(kind, shape, rng, dtype), weights(weighting, shape[0], rng, dtype))


@pytest.mark.parametrize("weighting", ["none", "some", "zero"])
@pytest.mark.parametrize("shape", SCORE_SHAPES, ids=str)
def test_squared_error(shape, weighting, rng, dtype):
    pred, y = rng.normal(size=(2, *shape)).astype(dtype)
    check("squared_error", pred, y, weights(weighting, shape[0], rng, dtype))


def test_every_width_up_to_four_vectors(rng, dtype):
    for k in range(1, 70):
        for kind in ("labels", "soft"):
            check("cross_entropy", rng.normal(size=(19, k)).astype(dtype), targets(kind, (19, k), rng, dtype), None)
        check("squared_error", *rng.normal(size=(2, 3, k)).astype(dtype), None)


def test_rows_have_the_bits_that_they_have_alone(rng, dtype):
    m = 64  # so that a share of the gradient is exact
    for k in (1, 2, 3, 8, 10, 16, 17, 24, 25, 33):
        scores, y = (5 * rng.normal(size=(m, k))).astype(dtype), rng.integers(0, k, m)
        scores[20, 0] = np.inf if k > 1 else 0
        with np.errstate(invalid="ignore"):
            alone = [
                value_and_gradient(kernels, "cross_entropy", scores[i : i + 1], y[i : i + 1], None) for i in range(m)
            ]
            value, gradient = value_and_gradient(kernels, "cross_entropy", scores, y, None)
        np.testing.assert_array_equal(gradient * m, np.concatenate([d for _, d in alone]))
        np.testing.assert_array_equal(value, sum(loss for loss, _ in alone) / m)


def test_the_label_in_every_column(rng, dtype):
    for k in (2, 10, 37):
        scores = np.repeat(rng.normal(size=(1, k)), k, axis=0).astype(dtype)
        check("cross_entropy", scores, np.arange(k), None)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(
    ("row", "label"),
    [
        ([-np.inf, 0, 1], 0),
        ([-np.inf, 0, 1], 1),
        ([np.inf, 0, 1], 1),
        ([np.inf, 0, 1], 0),
        ([np.inf, np.inf, 1], 2),
        ([-np.inf, -np.inf, -np.inf], 0),
        ([np.nan, 0, 1], 1),
        ([np.nan, 0, 1], 0),
        ([np.nan, np.inf, -np.inf], 2),
        ([3e38, -3e38, 0], 1),
        ([3e38, -3e38, 0], 0),
    ],
)
@pytest.mark.parametrize("repeats", [1, 7])
def test_non_finite_scores(row, label, dense, repeats, dtype):
    scores, y = np.tile(row, (17, repeats)).astype(dtype), np.full(17, label)
    y = np.eye(3 * repeats, dtype=dtype)[y] if dense else y
    value, gradient = value_and_gradient(kernels, "cross_entropy", scores, y, None)
    expected, expected_gradient = value_and_gradient(reference, "cross_entropy", scores, y, None)
    np.testing.assert_allclose(value, expected, rtol=8 * eps(dtype))
    np.testing.assert_allclose(gradient, expected_gradient, rtol=8 * eps(dtype), atol=8 * eps(dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_predictions(value, dtype):
    pred, y = np.ones((3, 5), dtype), np.zeros((3, 5), dtype)
    pred[1, 3] = value
    loss, gradient = value_and_gradient(kernels, "squared_error", pred, y, None)
    np.testing.assert_array_equal(loss, np.square(value))
    np.testing.assert_allclose(gradient, 2 * pred / 3, rtol=4 * eps(dtype))


@pytest.mark.parametrize("dense", [False, True])
def test_far_scores_keep_their_digits(dense, dtype):
    """No probability is clipped, and a common shift of the scores costs no digit."""
    scores, y = np.array([[10000, 0], [4096, 4097]], dtype), np.array([1, 0])
    y = np.eye(2, dtype=dtype)[y] if dense else y
    assert kernels.cross_entropy(scores[:1], y[:1], None) == 10000
    assert kernels.cross_entropy(scores[1:], y[1:], None) == pytest.approx(np.log1p(np.e), rel=4 * eps(dtype))


@pytest.mark.parametrize("loss", LOSSES)
def test_read_only_inputs(loss, rng, dtype):
    scores, y = rng.normal(size=(4, 3)).astype(dtype), np.eye(3, dtype=dtype)[[0, 2, 1, 1]]
    v = rng.uniform(size=4).astype(dtype)
    for array in (scores, y, v):
        array.flags.writeable = False
    check(loss, scores, y, v)
    if loss == "cross_entropy":
        labels = np.array([0, 2, 1, 1])
        labels.flags.writeable = False
        check(loss, scores, labels, v)


def test_the_mean_of_many_samples_keeps_its_digits(dtype):
    """A float32 sum loses every 1 that it adds to 2^24."""
    pred = np.array([[4096]] + [[1]] * 999, dtype)
    assert kernels.squared_error(pred, np.zeros_like(pred), None) == (2**24 + 999) / 1000


def test_arrays_that_are_not_aligned(rng, dtype):
    def unaligned(x):
        return np.frombuffer(b" " + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)

    scores, v = rng.normal(size=(20, 5)).astype(dtype), weights("some", 20, rng, dtype)
    for kind in ("labels", "soft"):
        given = scores, targets(kind, (20, 5), rng, dtype), v
        value, gradient = value_and_gradient(kernels, "cross_entropy", *given)
        again = value_and_gradient(kernels, "cross_entropy", *map(unaligned, given))
        assert again[0] == value
        np.testing.assert_array_equal(again[1], gradient)
        memory = bytearray(scores.nbytes + 1)
        out = np.frombuffer(memory, np.uint8)[1:].view(dtype).reshape(scores.shape)
        kernels.cross_entropy_backward(*given, out)
        np.testing.assert_array_equal(out, gradient)


def test_the_mean_looks_at_shapes_again(dtype):
    """The task for narrow rows has memory for no others, whoever gave the array another shape since it was chosen."""
    cross_entropy = importlib.import_module("fastnn.kernels.cross_entropy")
    wide, narrow = np.ones((4, 40), dtype), np.ones((40, 1), dtype)
    y, none = np.zeros(40, np.int64), np.empty(0, dtype)
    expected = kernels.cross_entropy(narrow, y, None)
    task, *shares = cross_entropy.shares_of_rows(cross_entropy._CROSS_ENTROPY_OF_NARROW, narrow)
    orders = np.array([task, *shares, 1])

    def attempt(s, answers, sums=80):
        given = np.empty(sums, dtype), s, s, *answers, none, np.zeros(2), orders
        done = cross_entropy._MEAN_CROSS_ENTROPY.attempt(*given)
        return None if done is None else given[-2][0]

    labels = y, np.empty((0, 0), dtype)
    assert attempt(narrow, labels) == expected
    assert attempt(wide, (y[:0], wide), 8) is None
    assert attempt(np.empty((4, 0), dtype), (y[:4], none), 8) is None
    assert attempt(narrow, labels, 79) is None
    assert attempt(narrow[:, :, None], labels) is None


def test_cross_entropy_looks_at_shapes_again(dtype):
    scores, y = np.ones((4, 3), dtype), np.zeros(4, np.int64)
    for answers, v, out in [
        (y[:3], None, scores),
        (y[:0], None, scores),
        (scores[:3], None, scores),
        (y, scores[:3, 0].copy(), scores),
        (y, None, scores[:3]),
    ]:
        out = out.copy()
        with pytest.raises(TypeError, match="cross_entropy got arguments that no kernel takes"):
            kernels.cross_entropy_backward(scores, answers, v, out)
        np.testing.assert_array_equal(out, 1)
