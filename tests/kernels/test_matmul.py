import numpy as np
import pytest

from fastnn import kernels, reference
from tests.cases import DEEP_PRODUCTS, DTYPES, EDGE_PRODUCTS, EDGES, LAYOUTS, TRAINING_PRODUCTS, WIDE_PRODUCTS
from tests.judge import assert_product, assert_within, eps, product_bound, written


def product(a, b, gap=0):
    return written(lambda out: kernels.matmul(a, b, out), (a.shape[0], b.shape[1]), a.dtype, gap)


def integers(rng, shape, dtype):
    """Values whose products and sums are exact in any order."""
    return rng.integers(-8, 9, shape).astype(dtype)


@pytest.mark.parametrize("m", EDGES)
def test_every_edge_of_a_tile_exactly(m, rng, dtype):
    for k in EDGES:
        a, wide = integers(rng, (m, k), dtype), integers(rng, (k, EDGES[-1]), dtype)
        expected = a @ wide
        for n in EDGES:
            np.testing.assert_array_equal(product(a, wide[:, :n], gap=n % 3), expected[:, :n], err_msg=f"{(m, k, n)}")


def test_every_edge_of_a_tile_within_the_bound(rng, dtype):
    for m, k, n in EDGE_PRODUCTS:
        a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        assert_product(product(a, b), a, b)


@pytest.mark.parametrize(("m", "k", "n"), DEEP_PRODUCTS + WIDE_PRODUCTS + TRAINING_PRODUCTS)
def test_block_edges(m, k, n, rng, dtype):
    a, b = integers(rng, (m, k), dtype), integers(rng, (k, n), dtype)
    np.testing.assert_array_equal(product(a, b, gap=1), a @ b)
    a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    assert_product(product(a, b), a, b)


@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (17, 33, 35), (15, 300, 49)], ids=str)
def test_every_pair_of_layouts(left, shape, rng, dtype, tmp_path):
    m, k, n = shape
    a, b = integers(rng, (m, k), dtype), integers(rng, (k, n), dtype)
    for right, layout in LAYOUTS.items():
        result = product(LAYOUTS[left](a, tmp_path), layout(b, tmp_path))
        np.testing.assert_array_equal(result, a @ b, err_msg=right)


@pytest.mark.parametrize(
    ("m", "k", "n"), [(100, 200, 10), (1000, 600, 100), (17, 33, 35), (163, 16, 50), (80000, 16, 50)]
)
def test_the_layout_of_a_changes_no_bit(m, k, n, rng, dtype):
    """Where A is contiguous along its rows, columns behind whole panels may be formed transposed."""
    a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    np.testing.assert_array_equal(product(np.asfortranarray(a), b, gap=1), product(a, b))


def test_large_transposes(rng, dtype):
    """A·B, Aᵀ·B and A·Bᵀ past every cache block."""
    a, b = integers(rng, (530, 1100), dtype), integers(rng, (1100, 270), dtype)
    expected = a @ b
    np.testing.assert_array_equal(product(a, b), expected)
    np.testing.assert_array_equal(product(a.T.copy().T, b), expected)
    np.testing.assert_array_equal(product(a, b.T.copy().T), expected)
    np.testing.assert_array_equal(product(a.T.copy().T, b.T.copy().T), expected)


def test_a_row_repeated_by_a_stride_of_zero(rng, dtype):
    row, column = integers(rng, (1, 40), dtype), integers(rng, (40, 1), dtype)
    a, b = np.broadcast_to(row, (19, 40)), np.broadcast_to(column, (40, 21))
    np.testing.assert_array_equal(product(a, b), np.broadcast_to(row @ column, (19, 21)))


def test_a_matrix_times_its_own_transpose(rng, dtype):
    a = integers(rng, (35, 18), dtype)
    np.testing.assert_array_equal(product(a, a.T), a @ a.T)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 6), (15, 33, 50), (30, 600, 40)], ids=str)
def test_non_finite_values_reach_their_row_and_column_alone(value, shape, rng, dtype):
    m, k, n = shape
    a, b = integers(rng, (m, k), dtype), integers(rng, (k, n), dtype)
    for i, j in [(0, 0), (m - 1, k - 1), (m // 2, k // 2)]:
        left = a.copy()
        left[i, j] = value
        expected = np.empty((m, n), dtype)
        reference.matmul(left, b, expected)
        np.testing.assert_array_equal(product(left, b), expected)
    for i, j in [(0, 0), (k - 1, n - 1), (k // 2, n // 2)]:
        right = b.copy()
        right[i, j] = value
        reference.matmul(a, right, expected)
        np.testing.assert_array_equal(product(a, right), expected)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: 0 * c,
        lambda c: c + np.where(np.arange(c.size).reshape(c.shape) == 7, c, 0) * 1e-3,
        lambda c: c[::-1],
        lambda c: np.where(np.arange(c.size).reshape(c.shape) == 7, np.nan, c),
        lambda c: c + 100 * eps(c.dtype) * np.abs(c).max(),
    ],
    ids=["zeroed", "one element perturbed", "rows swapped", "one NaN", "shifted by 100 eps"],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_check_fails_a_wrong_product(spoil, dtype, rng):
    a, b = rng.normal(size=(16, 20)).astype(dtype), rng.normal(size=(20, 16)).astype(dtype)
    assert_product(a @ b, a, b)
    with pytest.raises(AssertionError, match="elements off"):
        assert_product(spoil(a @ b).astype(dtype), a, b)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_linear(layout, rng, dtype, tmp_path):
    for m, d, k in [(0, 3, 2), (1, 1, 1), (2, 0, 5), (5, 20, 32), (64, 64, 10), (17, 300, 49), (100, 33, 100)]:
        x, w, b = (rng.normal(size=shape).astype(dtype) for shape in [(m, d), (d, k), (k,)])
        given = LAYOUTS[layout](x, tmp_path)
        out = written(lambda out, x=given, w=w, b=b: kernels.linear(x, w, b, out), (m, k), dtype)
        with_ones, with_bias = np.hstack([x, np.ones((m, 1), dtype)]), np.vstack([w, b])
        assert_product(out, with_ones, with_bias)


@pytest.mark.parametrize("l2", [0.0, 0.37])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_linear_backward(layout, l2, rng, dtype, tmp_path):
    for m, d, k in [
        (0, 3, 2),
        (1, 1, 1),
        (5, 20, 32),
        (64, 64, 10),
        (300, 17, 49),
        (33, 100, 100),
        (7, 5, 0),
        (7, 0, 5),
    ]:
        x, w, dy = (rng.normal(size=shape).astype(dtype) for shape in [(m, d), (d, k), (m, k)])
        given = [LAYOUTS[layout](dy, tmp_path), LAYOUTS[layout](x, tmp_path), w, l2]
        results = {}

        def write_all(dx, given=given, results=results):
            def write_dw(dw):
                results["db"] = written(
                    lambda db: kernels.linear_backward(*given, dx, dw, db), given[2].shape[1:], dx.dtype
                )

            results["dw"] = written(write_dw, given[2].shape, dx.dtype)

        dx = written(write_all, (m, d), dtype)
        assert_product(dx, dy, w.T)
        penalty = 2 * l2 * w.astype(np.float64)
        bound = product_bound(x.T, dy, dtype, extra=2) + 3 * eps(dtype) * np.abs(penalty)
        assert_within(results["dw"], x.T.astype(np.float64) @ dy.astype(np.float64) + penalty, bound)
        assert_product(results["db"][None], np.ones((1, m), dtype), dy)


def test_linear_backward_passes_nan_on(rng, dtype):
    x, w, dy = (rng.normal(size=shape).astype(dtype) for shape in [(9, 20), (20, 17), (9, 17)])
    dy[4, 6] = np.nan
    dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros(17, dtype)
    kernels.linear_backward(dy, x, w, 0.1, dx, dw, db)
    np.testing.assert_array_equal(np.isnan(dx).all(axis=1), np.arange(9) == 4)
    np.testing.assert_array_equal(np.isnan(dw).all(axis=0), np.arange(17) == 6)
    np.testing.assert_array_equal(np.isnan(db), np.arange(17) == 6)
    assert np.isnan(dx).sum() == 20
    assert np.isnan(dw).sum() == 20


@pytest.mark.parametrize("m", [6, 9_000])
@pytest.mark.parametrize("name", ["a", "b", "out", "bias"])
def test_shapes_are_looked_at_again(name, m, dtype):
    """Another thread, or a signal handler, may have changed them since the door: nothing is written elsewhere."""
    given = {"a": np.ones((m, 12), dtype), "b": np.ones((12, 6), dtype), "out": np.zeros((m, 6), dtype)}
    given["bias"] = np.ones(6, dtype)
    given[name] = given[name].reshape(-1, 3)
    a, b, out, bias = given.values()
    call = (kernels.linear, a, b, bias, out) if name == "bias" else (kernels.matmul, a, b, out)
    with pytest.raises(TypeError, match=r"got arguments that no kernel takes"):
        call[0](*call[1:])
    assert not given["out"].any()
