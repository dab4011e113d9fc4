import numpy as np
import pytest
from scipy import special
from sklearn.metrics import log_loss, mean_squared_error

from fastnn import reference
from tests.judge import eps

LOSSES = [
    (reference.cross_entropy, reference.cross_entropy_backward),
    (reference.squared_error, reference.squared_error_backward),
]
WEIGHTS = [None, np.array([1.0, 0.0, 2.5, 0.5])]


def one_hot(y, k, dtype):
    return np.eye(k, dtype=dtype)[y]


@pytest.mark.parametrize("dense", [False, True])
def test_cross_entropy_by_hand(dense, dtype):
    """Probabilities (1/4, 3/4) and (1/2, 1/2) with labels 1 and 0: the losses are log 4/3 and log 2."""
    scores = np.array([[0, np.log(3)], [7, 7]], dtype)
    y = np.array([1, 0])
    y = one_hot(y, 2, dtype) if dense else y
    out = np.full_like(scores, np.nan)
    expected = (np.log(4 / 3) + np.log(2)) / 2
    assert reference.cross_entropy(scores, y, None) == pytest.approx(expected, rel=4 * eps(dtype))
    assert reference.cross_entropy_backward(scores, y, None, out) == pytest.approx(expected, rel=4 * eps(dtype))
    np.testing.assert_allclose(out, [[1 / 8, -1 / 8], [-1 / 4, 1 / 4]], rtol=4 * eps(dtype))
    weighted = (3 * np.log(4 / 3) + np.log(2)) / 4
    v = np.array([3, 1], dtype)
    assert reference.cross_entropy_backward(scores, y, v, out) == pytest.approx(weighted, rel=4 * eps(dtype))
    np.testing.assert_allclose(out, [[3 / 16, -3 / 16], [-1 / 8, 1 / 8]], rtol=4 * eps(dtype))


def test_squared_error_by_hand(dtype):
    pred, y = np.array([[1, 2], [3, 4]], dtype), np.array([[0, 0], [3, 1]], dtype)
    out = np.full_like(pred, np.nan)
    assert reference.squared_error(pred, y, None) == (5 + 9) / 2
    assert reference.squared_error_backward(pred, y, None, out) == 7
    np.testing.assert_array_equal(out, [[1, 2], [0, 3]])
    assert reference.squared_error_backward(pred, y, np.array([3, 1], dtype), out) == (15 + 9) / 4
    np.testing.assert_array_equal(out, [[1.5, 3], [0, 1.5]])


@pytest.mark.parametrize("weights", WEIGHTS)
def test_cross_entropy_against_scikit_learn(weights, rng, dtype):
    scores, y = (3 * rng.normal(size=(4, 5))).astype(dtype), np.array([4, 0, 2, 2])
    v = None if weights is None else weights.astype(dtype)
    expected = log_loss(y, special.softmax(scores.astype(np.float64), axis=1), sample_weight=weights, labels=range(5))
    assert reference.cross_entropy(scores, y, v) == pytest.approx(expected, rel=8 * eps(dtype))
    assert reference.cross_entropy(scores, one_hot(y, 5, dtype), v) == pytest.approx(expected, rel=8 * eps(dtype))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_squared_error_against_scikit_learn(weights, rng, dtype):
    pred, y = rng.normal(size=(2, 4, 3)).astype(dtype)
    v = None if weights is None else weights.astype(dtype)
    expected = 3 * mean_squared_error(y.astype(np.float64), pred.astype(np.float64), sample_weight=weights)
    assert reference.squared_error(pred, y, v) == pytest.approx(expected, rel=8 * eps(dtype))


def test_soft_targets_against_scipy(rng):
    scores, y = rng.normal(size=(6, 5)), rng.dirichlet(np.ones(5), 6)
    expected = -np.mean(np.sum(y * special.log_softmax(scores, axis=1), axis=1))
    assert reference.cross_entropy(scores, y, None) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("targets", ["labels", "soft", "squared"])
def test_backward_against_central_differences(targets, weights, rng):
    value, backward = LOSSES[targets == "squared"]
    scores, step = rng.normal(size=(4, 5)), 1e-6
    y = np.array([3, 1, 0, 4]) if targets == "labels" else rng.dirichlet(np.ones(5), 4)
    out = np.full_like(scores, np.nan)
    assert backward(scores, y, weights, out) == value(scores, y, weights)
    for i in np.ndindex(scores.shape):
        above, below = scores.copy(), scores.copy()
        above[i] += step
        below[i] -= step
        numeric = (value(above, y, weights) - value(below, y, weights)) / (2 * step)
        assert out[i] == pytest.approx(numeric, rel=1e-6, abs=1e-9)


def test_cross_entropy_of_far_scores_is_exact(dtype):
    """No probability is clipped, and a common shift of the scores costs no digit."""
    scores = np.array([[10000, 0], [4096, 4097]], dtype)
    assert reference.cross_entropy(scores[:1], np.array([1]), None) == 10000
    assert reference.cross_entropy(scores[:1], np.array([0]), None) == 0
    shifted = reference.cross_entropy(scores[1:], np.array([0]), None)
    assert shifted == pytest.approx(np.log1p(np.e), rel=2 * eps(dtype))


def test_one_column_has_no_loss(dtype):
    scores, out = np.array([[3], [-800]], dtype), np.full((2, 1), np.nan, dtype)
    assert reference.cross_entropy_backward(scores, np.array([0, 0]), None, out) == 0
    np.testing.assert_array_equal(out, [[0], [0]])


def test_a_target_of_zero_meets_a_score_of_minus_infinity(dtype):
    scores, y = np.array([[-np.inf, 0, 0]], dtype), np.array([[0, 0.5, 0.5]], dtype)
    out = np.full_like(scores, np.nan)
    assert reference.cross_entropy_backward(scores, y, None, out) == pytest.approx(np.log(2), rel=1e-6)
    np.testing.assert_array_equal(out, [[0, 0, 0]])


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(
    ("row", "label", "expected"),
    [
        ([-np.inf, 0], 0, np.inf),
        ([np.inf, 0], 1, np.inf),
        ([np.inf, 0], 0, np.nan),
        ([-np.inf, -np.inf], 0, np.nan),
        ([np.nan, 0], 1, np.nan),
        ([np.nan, 0], 0, np.nan),
    ],
)
def test_non_finite_scores(row, label, expected, dense, dtype):
    scores, y = np.array([row], dtype), np.array([label])
    y = one_hot(y, 2, dtype) if dense else y
    np.testing.assert_array_equal(reference.cross_entropy(scores, y, None), expected)
    np.testing.assert_array_equal(reference.cross_entropy_backward(scores, y, None, np.empty_like(scores)), expected)


@pytest.mark.parametrize(("value", "backward"), LOSSES)
def test_weights_that_sum_to_zero(value, backward, dtype):
    scores, y, v = np.ones((2, 3), dtype), np.eye(3, dtype=dtype)[:2], np.zeros(2, dtype)
    out = np.full_like(scores, np.nan)
    assert value(scores, y, v) == backward(scores, y, v, out) == 0
    np.testing.assert_array_equal(out, np.zeros((2, 3)))


@pytest.mark.parametrize(("value", "backward"), LOSSES)
@pytest.mark.parametrize("v", [None, np.empty(0)])
def test_no_samples(value, backward, v, dtype):
    scores = np.empty((0, 3), dtype)
    v = v if v is None else v.astype(dtype)
    assert value(scores, scores, v) == backward(scores, scores, v, np.empty_like(scores)) == 0


@pytest.mark.parametrize(("value", "backward"), LOSSES)
def test_a_sample_of_weight_two_counts_like_two(value, backward, rng, dtype):
    scores, y = rng.normal(size=(3, 4)).astype(dtype), np.eye(4, dtype=dtype)[[2, 0, 3]]
    twice = [0, 1, 1, 2]
    weighted, out = np.empty_like(scores), np.empty((4, 4), dtype)
    loss = backward(scores, y, np.array([1, 2, 1], dtype), weighted)
    assert loss == pytest.approx(backward(scores[twice], y[twice], None, out), rel=1e-6)
    np.testing.assert_allclose(weighted, [out[0], out[1] + out[2], out[3]], rtol=1e-5)


def test_the_mean_of_many_samples_is_summed_in_float64():
    """A float32 sum loses every 1 that it adds to 2^24."""
    pred = np.array([[4096]] + [[1]] * 999, np.float32)
    assert reference.squared_error(pred, np.zeros_like(pred), None) == (2**24 + 999) / 1000
