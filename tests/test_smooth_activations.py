"""SiLU, Mish, ELU, SELU, Softplus and HardSwish: slopes far out, what is not finite, and as layers of a model."""

import json

import mpmath
import numpy as np
import pytest

import fastnn as fnn
from tests.activations import ACTIVATIONS
from tests.judge import assert_within, eps
from tests.training import assert_same_weights
from tests.user_code import UserCrossEntropy

NAMES = {"silu": fnn.SiLU, "mish": fnn.Mish, "elu": lambda: fnn.ELU(0.7), "selu": fnn.SELU, "softplus": fnn.Softplus}
NAMES |= {"hard_swish": fnn.HardSwish}
SCALE, ALPHA = mpmath.mpf("1.0507009873554804934193349852946"), mpmath.mpf("1.6732632423543772848170429916717")


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


def mish_slope(x):
    t = mpmath.tanh(mpmath.log1p(mpmath.exp(x)))
    return t + x * sigmoid(x) * (1 - t * t)


SLOPES = {
    "silu": lambda x: sigmoid(x) * (1 + x * sigmoid(-x)),
    "mish": mish_slope,
    "elu": lambda x: 1 if x > 0 else mpmath.mpf(0.7) * mpmath.exp(x),
    "selu": lambda x: SCALE * (1 if x > 0 else ALPHA * mpmath.exp(x)),
    "softplus": sigmoid,
    "hard_swish": lambda x: 0 if x <= -3 else 1 if x >= 3 else x / 3 + mpmath.mpf(0.5),
}
# At -inf, inf and NaN, as PyTorch has them: -inf 0 is NaN, and so is inf 0 in a slope.
FAR = {
    "silu": ([np.nan, np.inf, np.nan], [np.nan, np.nan, np.nan]),
    "mish": ([np.nan, np.inf, np.nan], [np.nan, np.nan, np.nan]),
    "elu": ([-0.7, np.inf, np.nan], [0, 1, np.nan]),
    "selu": ([-1.7580993408473766, np.inf, np.nan], [0, 1.0507009873554805, np.nan]),
    "softplus": ([0, np.inf, np.nan], [0, 1, np.nan]),
    "hard_swish": ([np.nan, np.inf, np.nan], [0, 1, np.nan]),
}


def both(name, x):
    """The activation and its slope, by the public functions."""
    settings = ACTIVATIONS[name].settings
    function, backward = getattr(fnn, name), getattr(fnn, f"{name}_backward")
    return function(x, *settings), backward(np.ones_like(x), x, *settings)


@pytest.mark.usefixtures("backend")
class TestFunctions:
    @pytest.mark.parametrize("name", NAMES)
    def test_slopes_against_mpmath(self, name, rng, dtype):
        x = np.concatenate([rng.uniform(-80, 40, 100), rng.normal(size=100), [-3, -1e-20, 0, 1e-20, 3]]).astype(dtype)
        with mpmath.workprec(500):
            exact = np.array([float(SLOPES[name](mpmath.mpf(float(v)))) for v in x])
        # The terms of a slope cancel near its root; each is no more than 1.1.
        near_root = np.where(np.abs(x) < 4, 4, 0) if name in ("silu", "mish", "hard_swish") else 0
        if name == "mish" and fnn.backend.active().__name__.endswith("reference"):
            near_root = 4 * np.maximum(np.abs(x), 1)  # by 1 - tanh², as PyTorch
        assert_within(both(name, x)[1], exact, eps(dtype) * (8 * np.abs(exact) + near_root))

    @pytest.mark.parametrize("name", NAMES)
    def test_infinities_are_those_of_the_formula(self, name, dtype):
        value, slope = both(name, np.array([-np.inf, np.inf, np.nan], dtype))
        np.testing.assert_array_equal(value, np.array(FAR[name][0], dtype))
        np.testing.assert_array_equal(slope, np.array(FAR[name][1], dtype))

    @pytest.mark.parametrize("name", NAMES)
    def test_whatever_is_finite_has_a_slope(self, name, dtype):
        far = np.array([1e3, 1e20, np.finfo(dtype).max], dtype)
        value, slope = both(name, np.concatenate([-far, far]))
        factor = float(SCALE) if name == "selu" else 1
        low = {"elu": -0.7, "selu": -1.7580993408473766}.get(name, 0)
        expected = [low] * 3 + [*far[:2].astype(float) * factor]
        np.testing.assert_allclose(value[:5], expected, rtol=eps(dtype))
        assert value[5] == (np.inf if name == "selu" else far[2])
        np.testing.assert_array_equal(slope, np.array([0] * 3 + [factor] * 3, dtype))

    def test_the_depth_of_an_elu(self, dtype):
        x = np.array([-np.inf, -1, -0.0, 2], dtype)
        np.testing.assert_array_equal(fnn.elu(x, 0.0), [0, 0, 0, 2])
        np.testing.assert_array_equal(fnn.elu_backward(np.ones_like(x), x, 0.0), [0, 0, 0, 1])
        np.testing.assert_array_equal(fnn.elu(x[:1], 3.0), [-3])
        np.testing.assert_array_equal(fnn.elu(x), fnn.elu(x, 1.0))

    @pytest.mark.parametrize(("alpha", "error"), [(-1, ValueError), (np.inf, ValueError), ("1", TypeError)])
    def test_no_depth(self, alpha, error):
        calls = lambda: fnn.ELU(alpha), lambda: fnn.elu(1.0, alpha), lambda: fnn.elu_backward(1.0, 1.0, alpha)
        for call in calls:
            with pytest.raises(error, match=r"alpha is .*, expected a finite number >= 0"):
                call()


def network(dtype="float64"):
    """A model with each of them, some on a product's output and some not."""
    pairs = [fnn.SiLU(), fnn.Mish(), fnn.ELU(0.7)], [fnn.SELU(), fnn.Softplus()], [fnn.HardSwish()]
    widths = [(6, 9), (9, 8), (8, 7)]
    layers = [layer for width, some in zip(widths, pairs, strict=True) for layer in (fnn.Linear(*width), *some)]
    return fnn.Sequential(*layers, fnn.Linear(7, 3), dtype=dtype, seed=0)


@pytest.fixture
def data(rng):
    return rng.normal(size=(40, 6)), rng.integers(3, size=40)


@pytest.mark.usefixtures("backend")
class TestLayers:
    @pytest.mark.parametrize("name", NAMES)
    def test_alone(self, name, rng):
        layer, (x, dy) = NAMES[name](), rng.normal(size=(2, 5, 4))
        value, slope = both(name, x)
        np.testing.assert_array_equal(layer.forward(x, training=True), value)
        np.testing.assert_allclose(layer.backward(dy), dy * slope, rtol=1e-14)

    def test_both_ways_of_training_agree(self, data):
        """As data, and layer by layer under a loss of the user's own."""
        models = network(), network()
        for model, loss in zip(models, ("cross_entropy", UserCrossEntropy()), strict=True):
            history = model.fit(*data, loss=loss, optimizer="adam", epochs=3, batch_size=16, verbose=0)
            assert history["loss"][-1] < history["loss"][0]
        assert_same_weights(*models)

    def test_saved_models(self, data, tmp_path):
        model = network("float32")
        model.save(tmp_path / "m.npz")
        same = fnn.load(tmp_path / "m.npz")
        assert repr(same) == repr(model)
        assert "ELU(alpha=0.7), Linear(9, 8), SELU(), Softplus()" in repr(model)
        np.testing.assert_array_equal(same.forward(data[0]), model.forward(data[0]))
        with np.load(tmp_path / "m.npz") as archive:
            assert json.loads(str(archive["header"]))["format"] == 5

    def test_the_depth_is_fixed(self):
        layer = fnn.ELU(0.5)
        with pytest.raises(AttributeError, match="alpha"):
            layer.alpha = 2.0
        assert layer.alpha == 0.5


def test_backends_train_alike(data):
    fitted = []
    for backend in ("numba", "numpy"):
        with fnn.use_backend(backend):
            model = network()
            model.fit(*data, epochs=3, batch_size=16, verbose=0)
            fitted.append(model)
    assert_same_weights(*fitted)
