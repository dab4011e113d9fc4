"""Sequential: shapes, seeds, views, forward and backward, predictions, copies."""

import copy
import doctest
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import special

import fastnn as fnn
import fastnn.model
import fastnn.nn.layered
from tests.user_code import Pairs, UserLinear, UserReLU, UserSquares

W1 = [[1.0, -1.0], [2.0, 0.5]]
W2 = [[1.0, 0.0, 2.0], [0.0, 3.0, -1.0]]
POINTS = [[1.0, 1.0], [0.0, 2.0], [-1.0, 0.0]]
# relu(POINTS W1 + (0, 1)) W2 + (0, 0, 1), worked by hand
HIDDEN = [[3.0, 0.5], [4.0, 2.0], [0.0, 2.0]]
SCORES = [[3.0, 1.5, 6.5], [4.0, 6.0, 7.0], [0.0, 6.0, -1.0]]


class CloserCrossEntropy(fnn.CrossEntropy):
    """A user's subclass, after which outputs are scores as ever."""


def by_hand(dtype="float32"):
    return fnn.Sequential(
        fnn.Linear(2, 2, init=W1, bias=[0, 1]), fnn.ReLU(), fnn.Linear(2, 3, init=W2, bias=[0, 0, 1]), dtype=dtype
    )


@pytest.mark.usefixtures("backend")
class TestForward:
    @pytest.mark.parametrize("training", [False, True])
    def test_by_hand(self, dtype, training):
        scores = by_hand(dtype).forward(POINTS, training=training)
        assert scores.dtype == dtype
        np.testing.assert_array_equal(scores, SCORES)

    @pytest.mark.parametrize(
        "X",
        [
            np.array(POINTS, np.float32),
            np.array(POINTS, np.float64, order="F"),
            np.array(POINTS, np.float16),
            np.array(POINTS, ">f4"),
            np.array(POINTS, np.int8),
            np.repeat(np.array(POINTS, np.float32), 2, axis=0)[::2],
            np.array(POINTS)[::-1, ::-1].copy()[::-1, ::-1],
        ],
        ids=["f32", "f64 fortran", "f16", "big-endian", "int8", "strided", "negative strides"],
    )
    def test_any_real_dtype_and_layout(self, X):
        X = X.view()
        X.flags.writeable = False
        np.testing.assert_array_equal(by_hand().forward(X), SCORES)

    def test_slope_of_a_leaky_relu(self):
        model = fnn.Sequential(fnn.Linear(1, 1, init=[[1]]), fnn.LeakyReLU(0.5), fnn.LeakyReLU(0.25))
        np.testing.assert_array_equal(model.forward([[-8], [8]]), [[-1], [8]])

    def test_large_integers(self):
        model = fnn.Sequential(fnn.Linear(1, 1, init=[[1]], bias=False))
        np.testing.assert_array_equal(model.forward([[100_003]]), [[100_003]])

    def test_uint8_and_bool(self):
        X = np.array([[1, 0], [0, 1]])
        np.testing.assert_array_equal(by_hand().forward(X.astype(np.uint8)), by_hand().forward(X.astype(float)))
        np.testing.assert_array_equal(by_hand().forward(X.astype(bool)), by_hand().forward(X.astype(float)))

    def test_blocks_of_rows_make_no_difference(self, monkeypatch):
        X = np.arange(22.0).reshape(11, 2)
        for model in (by_hand(), fnn.Sequential(fnn.Linear(2, 4), UserReLU())):
            with monkeypatch.context() as patch:
                patch.setattr(model._stack, "block", 4)
                in_blocks = model.forward(X)
            np.testing.assert_array_equal(in_blocks, model.forward(X))

    def test_activations_first_twice_and_alone(self, rng):
        X = rng.normal(size=(6, 4))
        model = fnn.Sequential(
            fnn.Tanh(), fnn.Linear(4, 3), fnn.Sigmoid(), fnn.LeakyReLU(0.2), fnn.Identity(), dtype="float64"
        )
        linear = model.layers[1]
        np.testing.assert_allclose(
            model.forward(X), special.expit(np.tanh(X) @ linear.weight + linear.bias), rtol=1e-14
        )
        np.testing.assert_array_equal(fnn.Sequential(fnn.LeakyReLU(0.5), dtype="float64").forward([[-2, 2]]), [[-1, 2]])


@pytest.mark.usefixtures("backend")
class TestBackward:
    def test_by_hand(self, dtype):
        model = by_hand(dtype)
        model.forward(POINTS, training=True)
        dy = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        dx = model.backward(dy, l2=0.5)
        first, _, last = model.layers
        np.testing.assert_array_equal(last.weight_grad, np.transpose(HIDDEN) + np.array(W2))
        np.testing.assert_array_equal(last.bias_grad, [1, 1, 1])
        # dh = dy W2ᵀ = [[1, 0], [0, 3], [2, -1]], and the ReLU stops the last row's first
        np.testing.assert_array_equal(first.weight_grad, np.array([[1.0, 1.0], [1.0, 6.0]]) + np.array(W1))
        np.testing.assert_array_equal(first.bias_grad, [1, 2])
        np.testing.assert_array_equal(dx, [[1, 2], [-3, 1.5], [1, -0.5]])
        assert dx.dtype == first.weight_grad.dtype == dtype

    def test_gradients_are_of_the_last_backward_alone(self):
        model = by_hand()
        for _ in range(2):
            model.forward(POINTS, training=True)
            model.backward(np.ones((3, 3)))
        np.testing.assert_array_equal(model.layers[2].bias_grad, [3, 3, 3])

    def test_refused(self):
        model = by_hand()
        with pytest.raises(ValueError, match=re.escape("call forward(X, training=True) before backward")):
            model.backward(SCORES)
        model.forward(POINTS)
        with pytest.raises(ValueError, match=re.escape("call forward(X, training=True) before backward")):
            model.backward(SCORES)
        model.forward(POINTS, training=True)
        with pytest.raises(ValueError, match=re.escape("dy has shape (3, 2), but the outputs have shape (3, 3)")):
            model.backward(POINTS)
        with pytest.raises(ValueError, match="l2 is -1, expected a finite number >= 0"):
            model.backward(SCORES, l2=-1)
        with pytest.raises(TypeError, match="dy holds object values"):
            model.backward([[None] * 3] * 3)


@pytest.mark.usefixtures("backend")
class TestPredictions:
    def test_labels_after_cross_entropy(self):
        model = by_hand()
        model.loss = "cross_entropy"
        labels = model.predict(POINTS)
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(labels, [2, 2, 1])

    def test_outputs_after_squared_error(self):
        model = by_hand()
        model.loss = fnn.SquaredError()
        np.testing.assert_array_equal(model.predict(POINTS), SCORES)
        with pytest.raises(ValueError, match="trained with the squared error: its outputs are values"):
            model.predict_proba(POINTS)

    def test_no_probabilities_after_a_loss_of_ones_own(self, rng):
        """Nothing says that outputs are scores: those of a sigmoid would all give [1]."""
        model = fnn.Sequential(fnn.Linear(2, 1), fnn.Sigmoid())
        model.fit(POINTS, [0, 1, 1], loss=UserSquares(), epochs=1, verbose=0)
        with pytest.raises(ValueError, match=r"trained with .*UserSquares.*, so its outputs need not be class scores"):
            model.predict_proba(POINTS)
        model.loss = CloserCrossEntropy()
        np.testing.assert_array_equal(model.predict_proba(POINTS), [[1], [1], [1]])

    def test_probabilities(self, dtype):
        p = by_hand(dtype).predict_proba(POINTS)
        assert p.dtype == dtype
        np.testing.assert_allclose(p, special.softmax(SCORES, axis=1), rtol=8 * np.finfo(dtype).eps)

    def test_without_a_loss(self):
        with pytest.raises(ValueError, match=r"predict cannot know .* set model.loss = 'cross_entropy'"):
            by_hand().predict(POINTS)
        with pytest.raises(ValueError, match="evaluate needs a loss: fit the model first"):
            by_hand().evaluate(POINTS, [0, 1, 2])

    @pytest.mark.parametrize("block", [1, 2, 1000])
    def test_evaluate_cross_entropy(self, block, monkeypatch):
        model = by_hand()
        model.loss = "cross_entropy"
        monkeypatch.setattr(model._stack, "block", block)
        losses = special.logsumexp(SCORES, axis=1) - [6.5, 6.0, 0.0]
        assert model.evaluate(POINTS, [2, 1, 0]) == pytest.approx({"loss": losses.mean(), "accuracy": 1 / 3})
        weighted = model.evaluate(POINTS, [2, 1, 0], sample_weight=[3, 0, 1])
        assert weighted == pytest.approx({"loss": (3 * losses[0] + losses[2]) / 4, "accuracy": 0.75})
        assert model.evaluate(POINTS, np.eye(3)[[2, 1, 0]])["accuracy"] == pytest.approx(1 / 3)

    def test_evaluate_squared_error(self):
        model = by_hand()
        model.loss = "squared_error"
        assert model.evaluate(POINTS, np.add(SCORES, [[1, 0, 2], [0, 0, 0], [0, 1, 0]])) == {"loss": 2.0}


class TestConstruction:
    def test_seeds(self):
        first, same, other = (fnn.Sequential(fnn.Linear(5, 4), seed=seed).layers[0].weight for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, same)
        assert not np.array_equal(first, other)
        random = [fnn.Sequential(fnn.Linear(5, 4), seed=None).layers[0].weight for _ in range(2)]
        assert not np.array_equal(*random)

    def test_precisions_start_from_the_same_weights(self):
        single, double = (fnn.Sequential(fnn.Linear(5, 4), dtype=d).layers[0].weight for d in ("float32", np.float64))
        np.testing.assert_array_equal(single, double.astype(np.float32))

    def test_parameters_are_views_into_one_aligned_buffer(self):
        model = fnn.Sequential(fnn.Linear(3, 5), fnn.Linear(5, 7, bias=False), fnn.Linear(7, 1))
        assert [p.shape for p in model.parameters()] == [(3, 5), (5,), (5, 7), (7, 1), (1,)]
        assert all(np.shares_memory(p, model._stack.params) for p in model.parameters())
        models = [fnn.Sequential(fnn.Linear(n, 3)) for n in range(1, 30)]
        assert all(p.ctypes.data % 64 == 0 for model in models for p in model.parameters())

    @pytest.mark.parametrize(
        ("build", "error", "message"),
        [
            (lambda: fnn.Sequential(), ValueError, "a Sequential needs at least one layer"),
            (
                lambda: fnn.Sequential([fnn.Linear(2, 2)]),
                TypeError,
                r"one by one, not as a list: Sequential\(\*layers\)",
            ),
            (
                lambda: fnn.Sequential(fnn.ReLU),
                TypeError,
                r"layer 0 is the class ReLU, expected an object: ReLU\(...\)",
            ),
            (lambda: fnn.Sequential(fnn.Linear(2, 2), "relu"), TypeError, "layer 1 is 'relu', expected a layer"),
            (
                lambda: fnn.Sequential(fnn.Linear(784, 128), fnn.ReLU(), fnn.Linear(100, 10)),
                ValueError,
                r"layer 2, Linear\(100, 10\), has 100 inputs, but layer 1 has 128 outputs",
            ),
            (
                lambda: fnn.Sequential(fnn.Linear(4, 2), UserLinear(np.ones((3, 2)), np.ones(2))),
                ValueError,
                "layer 1, .* has 3 inputs, but layer 0 has 2 outputs",
            ),
            (lambda: fnn.Sequential(fnn.Linear(2, 2), dtype="float16"), ValueError, "dtype is 'float16', expected"),
            (lambda: fnn.Sequential(fnn.Linear(2, 2), dtype=None), ValueError, "dtype is None, expected 'float32' or"),
            (
                lambda: fnn.Sequential(fnn.Linear(2, 2), dtype="text"),
                ValueError,
                "dtype is 'text', expected 'float32' or",
            ),
            (
                lambda: fnn.Sequential(fnn.Linear(2, 2), seed=-1),
                ValueError,
                "seed is -1, expected an integer >= 0 or None",
            ),
            (lambda: fnn.Sequential(fnn.Linear(2, 2), seed="1"), TypeError, "seed is '1', expected an integer >= 0 or"),
            (lambda: fnn.Sequential(fnn.Linear(2, 2), seed=True), TypeError, "seed is True, expected an integer >= 0"),
        ],
    )
    def test_refused(self, build, error, message):
        with pytest.raises(error, match=message):
            build()

    def test_a_layer_belongs_to_one_place_in_one_model(self):
        linear, relu = fnn.Linear(2, 2), fnn.ReLU()
        with pytest.raises(ValueError, match=r"layer 2 is an object that comes earlier too: make a new ReLU\(\)"):
            fnn.Sequential(linear, relu, relu)
        fnn.Sequential(linear)
        with pytest.raises(ValueError, match=r"layer 0, Linear\(2, 2\), belongs to another model already"):
            fnn.Sequential(linear)

    def test_a_declared_width_of_a_users_layer_is_checked(self):
        layer = UserReLU()
        layer.n_out = 0
        with pytest.raises(ValueError, match="n_out of layer 0 is 0, expected a positive integer"):
            fnn.Sequential(layer)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "deepcopy", "pickle"]
)
def test_duplicates_keep_their_views(duplicate, backend):
    model = by_hand()
    model.forward(POINTS, training=True)
    model.backward(SCORES)
    twin = duplicate(model)
    twin.layers[0].weight[...] = 0
    twin.layers[2].bias = [1, 2, 3]
    np.testing.assert_array_equal(twin.forward([[5, 5]]), [[0 + 1, 3 + 2, -1 + 3]])
    if duplicate is not copy.copy:
        np.testing.assert_array_equal(model.forward(POINTS), SCORES)


def test_summary_and_repr():
    model = fnn.Sequential(fnn.Linear(6, 8, bias=False), fnn.LeakyReLU(0.1), Pairs(), fnn.Linear(4, 3))
    lines = model.summary().splitlines()
    assert [line.split() for line in lines[2:6]] == [
        ["Linear(6,", "8,", "bias=False)", "8", "48"],
        ["LeakyReLU(slope=0.1)", "8", "0"],
        ["Pairs", "?", "0"],
        ["Linear(4,", "3)", "3", "15"],
    ]
    assert lines[-1] == "63 parameters, float32, 0.2 KiB"
    assert repr(by_hand()) == "Sequential(Linear(2, 2), ReLU(), Linear(2, 3), dtype='float32')"


BAD_X = [
    (
        [1.0, 2.0],
        ValueError,
        r"X has shape \(2,\), expected \(samples, features\); for a single sample use X\[None, :\]",
    ),
    (np.zeros((1, 2, 2)), ValueError, r"X has shape \(1, 2, 2\), expected \(samples, features\)"),
    (3.0, ValueError, r"X has shape \(\), expected \(samples, features\)"),
    (np.zeros((4, 3)), ValueError, "X has 3 columns, but the model has 2 inputs: they must be equal"),
    (np.zeros((0, 2)), ValueError, r"X is empty: it has shape \(0, 2\)"),
    ([[1.0, np.nan]], ValueError, "X holds NaN or infinite values: remove or replace them"),
    ([[1.0, -np.inf]], ValueError, "X holds NaN or infinite values: remove or replace them"),
    (np.where(np.arange(600_000) == 599_999, np.inf, 0).reshape(-1, 2), ValueError, "X holds NaN or infinite values"),
    (np.full((3, 2), np.nan, np.float16), ValueError, "X holds NaN or infinite values"),
    ([[1e300, 0.0]], ValueError, "X holds values beyond the range of float32: scale it, or use dtype='float64'"),
    ([["a", "b"]], TypeError, r"X holds <U1 values, expected real numbers: use X.astype\(float\)"),
    (np.array([[1, None]]), TypeError, "X holds object values, expected real numbers"),
    ([[1.0, 2.0], [3.0]], ValueError, "X is ragged: its rows differ in length"),
    ([[1j, 2j]], TypeError, "X holds complex128 values, expected real numbers"),
    (None, TypeError, "X is None, expected an array of real numbers"),
]


@pytest.mark.parametrize("method", ["forward", "predict", "predict_proba", "evaluate", "fit"])
@pytest.mark.parametrize(("X", "error", "message"), BAD_X, ids=[message[:30] for _, _, message in BAD_X])
def test_bad_x_is_refused_everywhere(method, X, error, message):
    model = by_hand()
    model.loss = "cross_entropy"
    labels = np.zeros(len(X) if isinstance(X, np.ndarray) else 1, int)
    with fnn.use_backend("numpy"), pytest.raises(error, match=message):
        getattr(model, method)(X, *([labels] if method in ("evaluate", "fit") else []))
    np.testing.assert_array_equal(model.layers[0].weight, W1)


def test_large_finite_x_is_taken(backend):
    assert np.isfinite(by_hand().forward([[1e30, -1e30]])).all()
    assert np.isfinite(by_hand("float64").forward([[1e200, -1e200]])).all()


def test_threads_share_a_model(backend, rng):
    model = fnn.Sequential(fnn.Linear(8, 16), fnn.Tanh(), fnn.Linear(16, 3))
    parts = [rng.normal(size=(50, 8)) for _ in range(8)]
    expected = [model.predict_proba(X) for X in parts]

    def work(X):
        with fnn.use_backend(backend):
            return [model.predict_proba(X) for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        for results, p in zip(pool.map(work, parts), expected, strict=True):
            for result in results:
                np.testing.assert_array_equal(result, p)


def test_threads_train_models_of_their_own(backend, rng):
    X, y = rng.normal(size=(60, 8)), rng.integers(3, size=60)

    def work(seed):
        with fnn.use_backend(backend):
            model = fnn.Sequential(fnn.Linear(8, 16), fnn.ReLU(), fnn.Linear(16, 3), seed=seed)
            return model.fit(X, y, epochs=5, verbose=0)["loss"]

    expected = [work(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == expected


def test_the_examples_in_the_docstrings(backend):
    results = [doctest.testmod(module) for module in (fastnn.model, fastnn.nn.layered)]
    assert [(found.attempted, found.failed) for found in results] == [(6, 0), (6, 0)]
