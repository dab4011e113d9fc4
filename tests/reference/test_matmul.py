import numpy as np
import pytest

from fastnn import reference
from tests.cases import LAYOUTS
from tests.judge import assert_product


def test_matmul_by_hand(dtype):
    a = np.array([[1, 2], [3, 4], [5, 6]], dtype)
    b = np.array([[7, 8, 9], [10, 11, 12]], dtype)
    out = np.empty((3, 3), dtype)
    reference.matmul(a, b, out)
    np.testing.assert_array_equal(out, [[27, 30, 33], [61, 68, 75], [95, 106, 117]])


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_matmul_of_any_layout(layout, rng, dtype, tmp_path):
    a, b = rng.normal(size=(5, 8)).astype(dtype), rng.normal(size=(8, 3)).astype(dtype)
    out = np.full((5, 3), np.nan, dtype)
    reference.matmul(layout(a, tmp_path), layout(b, tmp_path), out)
    assert_product(out, a, b)


def test_a_product_of_no_terms_is_zero(dtype):
    out = np.full((2, 3), np.nan, dtype)
    reference.matmul(np.empty((2, 0), dtype), np.empty((0, 3), dtype), out)
    np.testing.assert_array_equal(out, np.zeros((2, 3)))


def test_matmul_passes_infinities_on_in_silence(dtype):
    out = np.empty((1, 2), dtype)
    reference.matmul(np.array([[np.inf, 1]], dtype), np.array([[1, 0], [0, 1]], dtype), out)
    np.testing.assert_array_equal(out, [[np.inf, np.nan]])


def test_linear_by_hand(dtype):
    out = np.empty((2, 2), dtype)
    reference.linear(
        np.array([[1, 2], [3, 4]], dtype), np.array([[1, 0], [1, 2]], dtype), np.array([10, 20], dtype), out
    )
    np.testing.assert_array_equal(out, [[13, 24], [17, 28]])


def test_linear_backward_by_hand(dtype):
    x, w = np.array([[1, 2], [3, 4]], dtype), np.array([[1, 2], [3, 4]], dtype)
    dy = np.array([[1, 0], [1, 1]], dtype)
    dx, dw, db = np.empty((2, 2), dtype), np.empty((2, 2), dtype), np.empty(2, dtype)
    reference.linear_backward(dy, x, w, 0.5, dx, dw, db)
    np.testing.assert_array_equal(dx, [[1, 3], [3, 7]])
    np.testing.assert_array_equal(dw, [[4 + 1, 3 + 2], [6 + 3, 4 + 4]])
    np.testing.assert_array_equal(db, [2, 1])


def test_linear_backward_against_central_differences(rng):
    """L = Σ (x w + b) dy + l2 Σ w², so every gradient is the derivative of L."""
    l2, step = 0.3, 1e-6
    given = [rng.normal(size=shape) for shape in [(4, 3), (3, 5), (5,)]]
    dy = rng.normal(size=(4, 5))
    gradients = [np.empty_like(array) for array in given]
    reference.linear_backward(dy, given[0], given[1], l2, *gradients)

    def objective(x, w, b):
        return np.sum((x @ w + b) * dy) + l2 * np.sum(w * w)

    for array, gradient in zip(given, gradients, strict=True):
        for i in np.ndindex(array.shape):
            middle = array[i]
            array[i] = middle + step
            above = objective(*given)
            array[i] = middle - step
            below = objective(*given)
            array[i] = middle
            assert gradient[i] == pytest.approx((above - below) / (2 * step), rel=1e-7, abs=1e-8)


def test_linear_backward_of_no_rows_leaves_the_penalty(dtype):
    w = np.array([[1, -2]], dtype)
    dx, dw, db = np.empty((0, 1), dtype), np.full((1, 2), np.nan, dtype), np.full(2, np.nan, dtype)
    reference.linear_backward(np.empty((0, 2), dtype), np.empty((0, 1), dtype), w, 0.25, dx, dw, db)
    np.testing.assert_array_equal(dw, [[0.5, -1]])
    np.testing.assert_array_equal(db, [0, 0])
