import numpy as np
import pytest
from scipy import special

from fastnn import kernels, reference
from fastnn.kernels.network import inference
from tests.cases import LAYOUTS
from tests.judge import assert_within, eps, written
from tests.networks import build

CASE = (13, [17, "relu", 5])
TWINS = pytest.mark.parametrize("twin", [kernels, reference], ids=["kernels", "reference"])


def outputs(twin, network, params, x, **settings):
    return written(lambda out: twin.forward(network, params, x, out, **settings), (len(x), 5), params.dtype)


@TWINS
@pytest.mark.parametrize("rows", [1, 3, 31, inference.CHUNK + 1])
def test_softmax_of_the_outputs(twin, rows, rng, dtype):
    network, params = build(CASE, rng, dtype)
    x = rng.normal(size=(rows, 13)).astype(dtype)
    scores = outputs(twin, network, params, x)
    expected = special.softmax(scores.astype(np.float64), axis=1)
    assert_within(outputs(twin, network, params, x, softmax=True), expected, 8 * eps(dtype) * expected)


@TWINS
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", [CASE, (13, ["tanh", 5])], ids=["linear first", "activation first"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_whether_x_is_finite(twin, layout, case, value, rng, dtype, tmp_path):
    network, params = build(case, rng, dtype)
    x = rng.normal(size=(inference.CHUNK + 9, 13)).astype(dtype)
    out = np.empty((len(x), 5), dtype)
    assert twin.forward(network, params, LAYOUTS[layout](x, tmp_path), out) is True
    for place in (0, 0), (inference.CHUNK + 8, 12), (100, 7):
        bad = x.copy()
        bad[place] = value
        assert twin.forward(network, params, LAYOUTS[layout](bad, tmp_path), out) is False


@TWINS
def test_a_double_beyond_float32_is_not_finite_there(twin, rng):
    network, params = build(CASE, rng, np.float32)
    x = rng.normal(size=(20, 13))
    x[11, 2] = 1e39
    assert twin.forward(network, params, x, np.empty((20, 5), np.float32)) is False
    assert twin.forward(network, params.astype(np.float64), x, np.empty((20, 5))) is True


@pytest.mark.parametrize("width", [1, 31, 32, 33, 64, 100, 127, 128, 129, 300])
def test_a_single_row_through_wide_tiles(width, rng, dtype):
    a, b = rng.normal(size=(1, 70)).astype(dtype), rng.normal(size=(70, width)).astype(dtype)
    out = written(lambda out: kernels.matmul(a, b, out), (1, width), dtype)
    exact = a.astype(np.longdouble) @ b.astype(np.longdouble)
    bound = 70 * eps(dtype) * (np.abs(a).astype(np.float64) @ np.abs(b))
    assert_within(out, exact.astype(np.float64), bound)
