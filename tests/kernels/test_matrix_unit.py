"""Float32 products from parts of bfloat16: the scheme on any CPU, the kernel where there is a matrix unit."""

import contextlib
import os
import sys

import numpy as np
import pytest

import fastnn as fnn
from fastnn import kernels
from fastnn.kernels import matrix_unit
from fastnn.kernels.compiler import amx
from fastnn.kernels.compiler.amx import has_amx
from fastnn.kernels.matmul import linear, linear_backward
from fastnn.precision import LEVELS
from fastnn.reference.parts import product_of_parts, split
from tests.judge import assert_product, assert_within, eps, product_bound, written

needs_unit = pytest.mark.skipif(
    not has_amx() or os.environ.get("FASTNN_BACKEND") == "numpy",
    reason="needs a CPU with AMX, a system that permits it, and the kernels",
)
PARTS = dict(zip(LEVELS, (3, 2, 1), strict=True))
# The digits lost: none of a float32's 24 but by rounding, then those beyond 16 and 8 binary digits.
ERROR = {"highest": 2.0**-23, "high": 2.0**-15, "medium": 2.0**-7}
F4 = np.float32


@pytest.fixture(params=LEVELS)
def level(request):
    with fnn.use_matmul_precision(request.param):
        yield request.param


@pytest.fixture
def always(monkeypatch):
    """Products of any size go through the unit."""
    module = sys.modules["fastnn.kernels.matmul"]
    monkeypatch.setattr(module, "gains", lambda level, m, n, k: bool(level))
    for entry in (module._MATMUL, module._LINEAR):  # the quick way for small ones
        monkeypatch.setattr(entry, "attempt", lambda *arguments: None)


@contextlib.contextmanager
def without_unit():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["fastnn.kernels.matmul"], "gains", lambda level, m, n, k: False)
        yield


def product(a, b, gap=0):
    return written(lambda out: kernels.matmul(a, b, out), (a.shape[0], b.shape[1]), a.dtype, gap)


def usual(a, b):
    with without_unit():
        return product(a, b)


def normal(rng, *shape):
    return rng.normal(size=shape).astype(F4)


def test_three_parts_are_the_value(rng):
    x = np.concatenate([normal(rng, 1000) * F4(2) ** rng.integers(-100, 127, 1000).astype(F4), F4([0, -0.0, 1, 3e38])])
    parts = split(x, 3)
    assert all(not (part.view(np.uint32) & 0xFFFF).any() for part in parts)
    np.testing.assert_array_equal(sum(part.astype(np.float64) for part in parts), x)
    assert (np.abs(parts[1]) <= np.abs(x) * 2.0**-8).all()


@pytest.mark.parametrize("name", LEVELS)
def test_the_twin_loses_what_it_says(name, rng):
    a, b = normal(rng, 20, 90), normal(rng, 90, 30)
    scale = np.abs(a).astype(np.float64) @ np.abs(b)
    error = np.abs(product_of_parts(a, b, PARTS[name]) - a.astype(np.float64) @ b) / scale
    assert ERROR[name] / 5000 < error.max() < ERROR[name]


@needs_unit
@pytest.mark.parametrize(("m", "n"), [(1, 1), (31, 33), (32, 64), (33, 31), (65, 100)])
def test_every_layout_and_edge_exactly(m, n, level, always, rng):
    for k in (1, 15, 16, 17, 31, 32, 33, 48, 513, 1030):
        a, b = rng.integers(-8, 9, (m, k)).astype(F4), rng.integers(-8, 9, (k, n)).astype(F4)
        for left in (a, a.T.copy().T):
            for right in (b, b.T.copy().T):
                np.testing.assert_array_equal(product(left, right, gap=k % 3), a @ b, err_msg=str(k))
    wide = np.zeros((m, 2 * 33), F4)
    wide[:, ::2] = a[:, :33]
    np.testing.assert_array_equal(product(wide[:, ::2], b[:33]), a[:, :33] @ b[:33])


@needs_unit
@pytest.mark.parametrize("shape", [(40, 70, 50), (1100, 40, 90), (64, 1300, 900)], ids=str)
def test_it_computes_what_the_twin_does(shape, level, always, rng):
    m, k, n = shape
    a, b = normal(rng, m, k), normal(rng, k, n)
    assert_within(product(a, b), product_of_parts(a, b, PARTS[level]), product_bound(a, b, F4) / np.sqrt(k))


@needs_unit
def test_the_highest_precision_is_closer_than_a_chain_of_multiply_adds(rng):
    a, b = normal(rng, 256, 512), normal(rng, 512, 256)
    exact = a.astype(np.float64) @ b
    mine, other = product(a, b), usual(a, b)
    assert not np.array_equal(mine, other)
    assert_product(mine, a, b)
    for measure in (np.max, np.mean):
        assert measure(np.abs(mine - exact)) < measure(np.abs(other - exact))


SPECIAL = [np.nan, np.inf, -np.inf, 3.4e38, float.fromhex("0x1.ffp127"), 1e-45, 2.0**-127, 1e-36, 2.0**-103, 5e-32]


@needs_unit
@pytest.mark.parametrize("value", SPECIAL)
def test_what_the_unit_cannot_take_is_what_multiply_adds_make_of_it(value, level, always, rng):
    """A value in each strip of rows, or of columns, so that the whole product is the usual one."""
    a, b = normal(rng, 70, 100), normal(rng, 100, 70)
    rows, columns = a.copy(), b.copy()
    rows[::32, 40] = columns[40, ::32] = value
    with np.errstate(all="ignore"):
        for left, right in [(rows, b), (a, columns), (rows.T.copy().T, b), (a, columns.T.copy().T), (rows, columns)]:
            np.testing.assert_array_equal(product(left, right), usual(left, right))
    one = a.copy()
    one[33, 99] = value
    result = product(one, b)
    np.testing.assert_array_equal(result[32:64], usual(one, b)[32:64])
    np.testing.assert_array_equal(result[:32], product(a, b)[:32])


@needs_unit
@pytest.mark.parametrize(("left", "right"), [(1e-16, 1e-16), (1e30, 1e9), (1e20, 1e18)])
def test_products_out_of_range_of_values_within(left, right, always, rng):
    a, b = normal(rng, 40, 100) * F4(left), normal(rng, 100, 40) * F4(right)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(product(a, b), usual(a, b))


@needs_unit
def test_zeros_are_no_small_values(always, rng):
    a, b = normal(rng, 64, 96), normal(rng, 96, 64)
    a[a < 0] = 0
    b[:, :32] = -0.0
    assert not np.array_equal(product(a, b), usual(a, b))
    np.testing.assert_array_equal(product(a, b)[:, :32], 0)


@needs_unit
def test_a_layer_and_its_gradients(level, always, rng):
    x, w, b, dy = normal(rng, 100, 1100), normal(rng, 1100, 90), normal(rng, 90), normal(rng, 100, 90)
    room = ERROR[level] / eps(F4) + 1
    out = written(lambda out: linear(x, w, b, out), (100, 90), F4)
    bound = product_bound(x, w, F4) * room + np.abs(b) * eps(F4)
    assert_within(out, x.astype(np.float64) @ w + b, bound)
    dx, dw, db = np.empty_like(x), np.empty_like(w), np.empty_like(b)
    linear_backward(dy, x, w, 0.25, dx, dw, db)
    assert_within(dx, dy.astype(np.float64) @ w.T, product_bound(dy, w.T, F4) * room)
    bound = product_bound(x.T, dy, F4) * room + 3 * eps(F4) * np.abs(w)
    assert_within(dw, x.T.astype(np.float64) @ dy + 0.5 * w, bound)


@needs_unit
@pytest.mark.parametrize("shape", [(300, 200, 290), (70, 1500, 400)], ids=str)
def test_bits_do_not_depend_on_the_threads(shape, level, rng):
    m, k, n = shape
    a, b = normal(rng, m, k), normal(rng, k, n)
    a[40, 5], b[7, 200] = np.inf, 1e-40
    results, before = [], fnn.get_num_threads()
    try:
        for n_threads in (1, 2, 5):
            fnn.set_num_threads(n_threads)
            results.append(fnn.matmul(a, b))
    finally:
        fnn.set_num_threads(before)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@needs_unit
def test_what_is_too_small_to_gain_is_left_to_multiply_adds(rng):
    a, b = normal(rng, 64, 64), normal(rng, 64, 64)
    np.testing.assert_array_equal(product(a, b), usual(a, b))
    assert not matrix_unit.gains("highest", 128, 32, 784)
    assert matrix_unit.gains("highest", 512, 512, 512)
    wide = a.astype(np.float64).repeat(4, 0)
    assert matrix_unit.level_of_unit(wide.dtype) == ""


def network(*layers):
    """Layers whose products gain by the unit, in one block of the inner dimension or two; those of the last do not."""
    first = (fnn.Linear(1100, 160), fnn.LeakyReLU(0.1), fnn.Linear(160, 1060))
    return fnn.Sequential(*first, *layers, fnn.ReLU(), fnn.Linear(1060, 10), seed=3)


def trained(rng, model, optimizer, **given):
    x = normal(rng, 350, 1100)
    y = x[:, :10].argmax(1)
    history = model.fit(x, y, optimizer=optimizer, epochs=2, batch_size=150, **given)
    return model._stack.params.copy(), history["loss"], model.forward(x)


WAYS = {
    "sgd": ((), lambda: fnn.SGD(lr=0.02), {"l2": 1e-3}),
    "adam": ((), lambda: fnn.Adam(lr=1e-3, eps=1e-2), {"l2": 1e-3}),
    "clipped": ((), lambda: fnn.SGD(lr=0.02, clip_norm=0.5), {"l2": 1e-3}),
    "batch norm": ((fnn.BatchNorm,), lambda: fnn.SGD(lr=0.02, momentum=0.5), {}),
}


@needs_unit
@pytest.mark.parametrize("way", WAYS)
def test_training_and_inference(way):
    """All three products of a layer: close to the twin, and the same bits at any number of threads."""
    layers, optimizer, given = WAYS[way]

    def run():
        made = network(*(layer(1060) for layer in layers))
        return trained(np.random.default_rng(0), made, optimizer(), **given)

    with fnn.use_backend("numpy"):
        expected = run()
    results, before = [], fnn.get_num_threads()
    try:
        for n_threads in (1, 2, 3):
            fnn.set_num_threads(n_threads)
            results.append(run())
    finally:
        fnn.set_num_threads(before)
    for params, loss, outputs in results[1:]:
        np.testing.assert_array_equal(params, results[0][0])
        np.testing.assert_array_equal(outputs, results[0][2])
        assert loss == results[0][1]
    for value, exact in zip(results[0], expected, strict=True):
        np.testing.assert_allclose(value, exact, rtol=1e-4, atol=1e-5)
    with fnn.use_matmul_precision("medium"):
        params, loss, _ = run()
    assert not np.array_equal(params, results[0][0])
    np.testing.assert_allclose(loss, expected[1], rtol=1e-2)


@needs_unit
def test_values_out_of_range_in_training(rng):
    """A feature so small that its parts are subnormal, and a batch that holds an infinity."""
    x, y = normal(rng, 300, 1100), rng.integers(0, 10, 300)
    x[:, 7] = 1e-37
    results = []
    for backend in ("numba", "numpy"):
        with fnn.use_backend(backend):
            model = network()
            results.append((model.fit(x, y, epochs=1, batch_size=150)["loss"], model._stack.params))
    for value, exact in zip(*results, strict=True):
        np.testing.assert_allclose(value, exact, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(kernels.count_lanes(np.dtype(F4)) < 16, reason="needs vectors of 16 lanes, as the unit does")
def test_what_goes_side_by_side_never_goes_through_the_unit():
    sizes = [n for n in (64, 96, 128, 160, 512) if matrix_unit.gains("medium", n, n, n)]
    assert sizes[0] == 128
    made = fnn.Sequential(fnn.Linear(128, 128), seed=0)._stack.network
    assert not kernels.lanes_pay(made, np.dtype(F4), 128, 16)
    assert matrix_unit.LEAST_WORK < 128**3
    small = fnn.Sequential(fnn.Linear(10, 10), seed=0)._stack.network
    assert kernels.lanes_pay(small, np.dtype(F4), 0.75 * matrix_unit.LEAST_WORK / 100, 16)
    assert not kernels.lanes_pay(small, np.dtype(F4), matrix_unit.LEAST_WORK / 100, 16)


def test_a_system_that_does_not_permit_it(monkeypatch):
    monkeypatch.setattr(amx, "_is_permitted", lambda: False)
    assert not has_amx.__wrapped__()
