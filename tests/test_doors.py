"""What must not pass the checks although Python or NumPy would take it: what is no number, masks, nothing at all."""

import array
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import fastnn as fnn
from fastnn.validation import is_surely_finite, sample_weights

pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize(
    "value",
    [
        np.complex128(0.1 + 5j),
        np.complex64(0.1),
        0.1 + 0j,
        "0.1",
        b"0.1",
        bytearray(b"0.1"),
        memoryview(b"0.1"),
        array.array("b", b"01"),
        np.str_("0.1"),
        np.bytes_(b"0.1"),
        np.void(b"1"),
        np.array("0.1"),
        np.array(0.1, object),
        np.array(0.1 + 5j),
        np.array([0.1]),
        np.array(True),
        True,
        np.True_,
        np.timedelta64(1, "s"),
        np.ma.masked,
        None,
        [0.1],
    ],
    ids=lambda value: repr(value).partition(" at ")[0],  # without an address
)
def test_what_is_no_real_number(value):
    w = np.ones(3)
    for call in (fnn.SGD, lambda lr: fnn.sgd_update(w, w, lr), lambda lr: fnn.SGD(lambda epoch: lr).rate(0)):
        with pytest.raises(TypeError, match=r"lr(\(0\))? is .*, expected a finite number"):
            call(value)
    np.testing.assert_array_equal(w, 1)


@pytest.mark.parametrize("path", [0, 3, True, np.uint8(3), None, 0.5], ids=repr)
def test_what_is_no_path(path):
    """Python would take a number for an open file: it would read there, for ever if nothing comes, and close it."""
    for call in (fnn.load, fnn.datasets.load_npz, fnn.datasets.load_csv, fnn.Sequential(fnn.Linear(2, 2)).save):
        with pytest.raises(TypeError, match="PathLike"):
            call(path)


@pytest.mark.parametrize("model", [None, 3, "model", np.ones(3), fnn.Linear, fnn.Linear(2, 2)], ids=repr)
def test_what_is_no_model(model):
    x, y = np.ones((4, 2)), np.arange(4) % 2
    for call in (fnn.SGD().step, lambda it: fnn.check_gradients(it, x, y), lambda it: fnn.profile(it, x, y)):
        with pytest.raises(TypeError, match=r"model is .*, expected a Sequential"):
            call(model)


@pytest.mark.parametrize(
    "value",
    [0.5, 1, Decimal("0.5"), Fraction(1, 2), np.float16(0.5), np.float32(0.5), np.longdouble(0.5), np.int8(1)],
    ids=repr,
)
def test_what_is_a_real_number(value):
    assert fnn.SGD(value).lr == float(value)
    assert fnn.SGD(np.array(value, float)).lr == float(value)


def masked(values):
    return np.ma.array(values, mask=[i == 1 for i in range(len(values))])


UPDATES = {
    "sgd_update": (1, (0.1,)),
    "momentum_update": (2, (0.1, 0.5)),
    "nesterov_update": (2, (0.1, 0.5)),
    "adam_update": (3, ()),
    "rmsprop_momentum_update": (3, ()),
}


@pytest.mark.parametrize("name", UPDATES)
def test_updates_under_a_mask_are_refused(name):
    count, settings = UPDATES[name]
    for hidden in range(count + 1):
        arrays = [np.ones(3), np.ones(3), np.zeros(3), np.zeros(3)][: count + 1]
        arrays[hidden] = masked(arrays[hidden])
        before = [np.array(a) for a in arrays]
        with pytest.raises(ValueError, match=r"^(w|dw|v|m|s) is a masked array with masked values: choose .* filled"):
            getattr(fnn, name)(*arrays, *settings)
        for after, expected in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(np.asarray(after), expected)


def test_out_under_a_mask_is_refused():
    out = np.ma.array(np.zeros((2, 2)), mask=[[0, 1], [0, 0]])
    with pytest.raises(ValueError, match="out is a masked array with masked values"):
        fnn.matmul(np.eye(2), np.eye(2), out=out)
    assert not np.asarray(out).any()


def test_a_subclass_without_masked_values_is_written_to():
    w, out = np.ma.array(np.ones(3)), np.ma.array(np.zeros((2, 2)))
    fnn.sgd_update(w, np.ones(3), 0.5)
    np.testing.assert_array_equal(w, 0.5)
    assert fnn.matmul(np.eye(2), np.eye(2), out=out) is out
    np.testing.assert_array_equal(out, np.eye(2))


class Masked(fnn.Layer):
    """A layer whose parameter or its gradient hides a number."""

    def __init__(self, parameter, gradient):
        self.a, self.da = parameter, gradient

    def forward(self, x, training=False):
        return x

    def backward(self, dy):
        return dy

    def parameters(self):
        return [self.a]

    def gradients(self):
        return [self.da]


@pytest.mark.parametrize("which", ["parameters", "gradients"])
def test_a_users_layer_under_a_mask_is_refused(which):
    hides = [masked([1.0, 1.0, 1.0]) if which == name else np.ones(3) for name in ("parameters", "gradients")]
    model = fnn.Sequential(Masked(*hides), fnn.Linear(2, 2))
    with pytest.raises(ValueError, match=rf"{which} of .*Masked.* is a masked array with masked values"):
        model.fit(np.ones((4, 2)), [0, 1, 0, 1], epochs=1, verbose=0)
    np.testing.assert_array_equal(np.asarray(hides[0]), 1)


@pytest.mark.parametrize("n", [5, 1000])
def test_an_update_from_a_gradient_that_overlaps_the_weights(n, dtype):
    """Each weight takes the one before it off, as it was; longer than any vector of a CPU."""
    w = np.arange(n, dtype=dtype) ** 2
    fnn.sgd_update(w[1:], w[:-1], lr=1.0)
    np.testing.assert_array_equal(w[1:], 2 * np.arange(1, n) - 1)


@pytest.mark.parametrize("make", [np.zeros, np.ones])
def test_no_samples_and_no_features_are_refused(dtype, make):
    model = fnn.Sequential(fnn.Linear(3, 2), dtype=dtype)
    model.loss = "cross_entropy"
    for given in (np.float32, np.float64, np.uint8):
        for call in (model.forward, model.predict, lambda x: model.fit(x, [], verbose=0)):
            with pytest.raises(ValueError, match=r"X is empty: it has shape \(0, 3\), expected at least one sample"):
                call(make((0, 3), given))


def test_short_arrays_that_are_surely_finite(dtype):
    assert is_surely_finite(np.ones((4, 1024), dtype))
    assert is_surely_finite(np.ones((4, 6), dtype)[:, ::2])
    for value in (np.nan, np.inf, -np.inf, 1e30):
        assert not is_surely_finite(np.array([1, value], dtype))
    assert not is_surely_finite(np.ones(4097, dtype))
    assert not is_surely_finite(np.ones(0, dtype))


def test_weights_below_the_normal_numbers_vanish(dtype):
    """Training takes subnormal numbers for zero."""
    smallest = np.finfo(dtype).smallest_normal
    weights = np.array([0, 0.5, 1]) * smallest
    kept = sample_weights(weights, 3, np.dtype(dtype))
    np.testing.assert_array_equal(kept, weights.astype(dtype))
    below = np.full(3, np.nextafter(smallest, dtype(0), dtype=dtype))
    message = rf"sample_weight vanishes in {np.dtype(dtype)}, the largest is \S+: divide it by its largest value"
    with pytest.raises(ValueError, match=message):
        fnn.cross_entropy(np.zeros((3, 2), dtype), [0, 1, 0], below)
    model = fnn.Sequential(fnn.Linear(1, 2), dtype=dtype)
    with pytest.raises(ValueError, match=message):
        model.fit(np.ones((3, 1)), [0, 1, 0], sample_weight=below, verbose=0)


def test_eps_below_the_normal_numbers_vanishes(dtype):
    smallest = float(np.finfo(dtype).smallest_normal)
    X, y = np.ones((3, 1)), [0, 1, 0]
    model = fnn.Sequential(fnn.Linear(1, 2), dtype=dtype)
    model.fit(X, y, optimizer=fnn.Adam(eps=smallest * 64, beta2=0.999), epochs=1, verbose=0)
    with pytest.raises(ValueError, match=rf"eps is \S+, which vanishes in {np.dtype(dtype)}"):
        model.fit(X, y, optimizer=fnn.Adam(eps=smallest * 16, beta2=0.999), epochs=1, verbose=0)
