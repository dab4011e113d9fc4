"""Activations of a user's own: scalar functions, compiled into the epoch or interpreted by the twin."""

import copy
import doctest
import json
import math
import os
import pickle
import re
import subprocess
import sys

import mpmath
import numpy as np
import pytest
from scipy import special

import fastnn as fnn
import fastnn.nn.functions
import fastnn.nn.own
from tests import user_functions as own
from tests.judge import eps
from tests.processes import run
from tests.user_code import UserReLU
from tests.user_functions import sigmoid

needs_kernels = pytest.mark.skipif(os.environ.get("FASTNN_BACKEND") == "numpy", reason="tries the kernels")

# f, its derivative, and both by SciPy.
PAIRS = {
    "elu": (own.elu, own.elu_derivative, lambda x: np.where(x > 0, x, np.expm1(x)), lambda x: np.exp(np.minimum(x, 0))),
    "swish": (
        *(own.swish, own.swish_derivative, lambda x: x * special.expit(x)),
        lambda x: special.expit(x) * (1 + x * special.expit(-x)),
    ),
    "leaky": (own.leaky, own.leaky_derivative, lambda x: np.where(x > 0, x, x / 4), lambda x: np.where(x > 0, 1, 0.25)),
    "softplus": (own.softplus, own.softplus_derivative, lambda x: np.logaddexp(x, 0), special.expit),
    "in float64": (  # which Numba alone can compile, and rounds
        *(lambda x: float(np.arctan(x)) * 3.0, lambda x, y: 3 / (1 + x * x)),
        *(lambda x: 3 * np.arctan(x), lambda x: 3 / (1 + x * x)),
    ),
    "a loop over constants": (
        lambda x: polynomial(x), lambda x, y: 2.0 + 6.0 * x, lambda x: 1 + 2 * x + 3 * x * x,
        lambda x: 2 + 6 * x,
    ),
}  # fmt: skip
COEFFICIENTS = (3.0, 2.0, 1.0)


def polynomial(x):
    y = 0.0
    for c in COEFFICIENTS:
        y = y * x + c
    return y


@pytest.fixture
def data(rng):
    return rng.normal(size=(70, 5)), rng.normal(size=(70, 2))


def network(*activations, dtype="float64", seed=3):
    first, second = activations
    return fnn.Sequential(
        fnn.Linear(5, 19), first, fnn.Linear(19, 16), second, fnn.Linear(16, 2), dtype=dtype, seed=seed
    )


@pytest.mark.parametrize("n", [1, 16, 37])
@pytest.mark.parametrize("pair", PAIRS)
def test_values_and_derivatives(pair, n, backend, rng, dtype):
    f, derivative, value, slope = PAIRS[pair]
    layer, x, dy = fnn.Activation(f, derivative), *(3 * rng.normal(size=(2, 3, n))).astype(dtype)
    y = layer.forward(x, training=True)
    assert y.dtype == dtype
    exact = value(x.astype(np.float64))
    np.testing.assert_allclose(y, exact, rtol=8 * eps(dtype), atol=8 * eps(dtype))
    dx = layer.backward(dy)
    assert dx.dtype == dtype
    np.testing.assert_allclose(dx, dy * slope(x.astype(np.float64)), rtol=20 * eps(dtype), atol=20 * eps(dtype))


@pytest.mark.parametrize("pair", PAIRS)
def test_a_number_has_the_same_bits_wherever_it_stands(pair, backend, rng, dtype):
    """In a whole vector, in what is left of one, and on every row."""
    layer, values = fnn.Activation(*PAIRS[pair][:2]), rng.normal(size=20).astype(dtype)
    y = layer.forward(np.repeat(values[:, None], 37, axis=1))
    np.testing.assert_array_equal(y, np.repeat(y[:, :1], 37, axis=1))


# A function in vectors, by mpmath, its ulps, and where it is tried.
FUNCTIONS = {
    "exp": (lambda x: math.exp(x), mpmath.exp, 1, (-80, 80)),
    "np.exp": (lambda x: np.exp(x), mpmath.exp, 1, (-80, 80)),
    "log": (lambda x: math.log(x), mpmath.log, 1, (1e-30, 1e3)),
    "tanh": (lambda x: math.tanh(x), mpmath.tanh, 4, (-9, 9)),
    "erf": (lambda x: math.erf(x), mpmath.erf, 2, (-4, 4)),
    "expm1": (lambda x: math.expm1(x), mpmath.expm1, 4, (-2, 88.5)),
    "log1p": (lambda x: math.log1p(x), mpmath.log1p, 4, (-0.9, 9)),
    "sqrt": (lambda x: math.sqrt(x), mpmath.sqrt, 1, (0, 9)),
    "cosh": (lambda x: math.cosh(x), mpmath.cosh, 4, (-88, 88)),
    "sinh": (lambda x: math.sinh(x), mpmath.sinh, 4, (-5, 5)),
    "fifth power": (lambda x: x**5, lambda x: x**5, 3, (-5, 5)),
    "inverse square": (lambda x: x**-2, lambda x: x**-2, 3, (0.1, 5)),
    "half power": (lambda x: x**0.5, mpmath.sqrt, 1, (0, 9)),
}


@needs_kernels
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_as_exact_as_promised(name, rng, dtype):
    f, exact, ulps, (least, most) = FUNCTIONS[name]
    x = np.concatenate([rng.uniform(least, most, 200), rng.uniform(max(least, -1e-3), max(least, 1e-3), 50)]).astype(
        dtype
    )
    with fnn.use_backend("numba"):
        y = fnn.Activation(f, lambda x, y: 1.0).forward(x[None])[0]
    with mpmath.workprec(200):
        expected = [exact(mpmath.mpf(float(v))) for v in x]
        errors = [
            abs(mpmath.mpf(float(a)) - b) / np.spacing(abs(dtype(float(b)))) for a, b in zip(y, expected, strict=True)
        ]
    assert max(map(float, errors)) <= ulps


@needs_kernels
@pytest.mark.parametrize("function", ["forward", "backward"])
@pytest.mark.parametrize("pair", ["elu", "swish", "softplus"])
def test_the_loop_is_one_over_vectors(pair, function, dtype, monkeypatch):
    """Of this CPU's width, without a branch for an element, and without a call but of LLVM's own."""
    from fastnn.kernels import operations
    from fastnn.kernels.compiler import cache, cpu

    monkeypatch.setattr(cache, "FOLDERS", [])
    monkeypatch.setattr(operations.OPERATIONS, "made", {})
    if cpu.ISA.bits == 0:
        pytest.skip("a CPU without vectors")
    layer = fnn.Activation(*PAIRS[pair][:2])
    shared = getattr(operations.Registry.__missing__(operations.OPERATIONS, layer.operation), function)
    code = shared._compile(np.dtype(dtype))._library.get_llvm_str()
    (loop,) = re.findall(r"^define internal [^\n]*@fastnn\.loop.*?^}", code, re.M | re.S)
    kind = {np.float32: "float", np.float64: "double"}[dtype]
    assert f"store <{cpu.ISA.lanes(np.dtype(dtype).itemsize)} x {kind}>" in loop
    assert not [call for call in re.findall(r"call [^@\n]*@\S+", loop) if "@llvm." not in call]


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda x: 1 / x, [np.inf, 1, -np.inf, np.nan, 0]),
        (lambda x: math.log(x), [-np.inf, 0, -np.inf, np.nan, np.inf]),
        (lambda x: math.exp(1000 * x), [1, np.inf, 1, np.nan, np.inf]),
        (lambda x: math.sqrt(-x), [0, np.nan, 0, np.nan, np.nan]),
        (lambda x: x if x == x else 7.0, [0, 1, 0, 7, np.inf]),
    ],
    ids=["1/x", "log", "exp", "sqrt", "branch"],
)
def test_what_is_not_finite_is_as_in_numpy(f, expected, backend, dtype):
    x = np.array([[0.0, 1.0, -0.0, np.nan, np.inf]], dtype)
    np.testing.assert_array_equal(fnn.Activation(f, lambda x, y: 1.0).forward(x)[0], np.array(expected, dtype))


@pytest.mark.parametrize(("f", "derivative", "twin"), [(math.tanh, None, fnn.Tanh), (own.sigmoid, None, fnn.Sigmoid)])
def test_training_is_that_of_a_built_in_one(f, derivative, twin, backend, data, dtype):
    X, y = data
    if twin is fnn.Tanh:
        layers = [fnn.Activation(lambda x: math.tanh(x), lambda x, y: 1 - y * y) for _ in range(2)]
    else:
        layers = [fnn.Activation(own.sigmoid, lambda x, y: y * (1 - y)) for _ in range(2)]
    models = network(*layers, dtype=dtype), network(twin(), twin(), dtype=dtype)
    losses = [
        model.fit(X, y, loss="squared_error", optimizer="adam", l2=0.01, epochs=2, batch_size=16, verbose=0)["loss"]
        for model in models
    ]
    np.testing.assert_allclose(*losses, rtol=50 * eps(dtype))
    assert models[0]._stack.network is not None


def test_gradients_profile_and_summary(backend, data):
    X, y = data[0][:6], data[1][:6]
    layers = fnn.Activation(own.swish, own.swish_derivative, name="silu"), fnn.Activation(own.elu, own.elu_derivative)
    model = network(*layers)
    assert fnn.check_gradients(model, X, y, loss="squared_error", l2=0.1, n_checks=40) < 1e-6
    wrong = network(fnn.Activation(own.swish, lambda x, y: 1.01 * (y + sigmoid(x) * (1 - y))), fnn.Tanh())
    assert fnn.check_gradients(wrong, X, y, loss="squared_error", n_checks=40) > 1e-3
    assert "Activation(silu)" in str(model.summary())
    assert "Activation(elu)" in repr(model)
    parts = fnn.profile(model, X, y, loss="squared_error", seconds=0.001).parts
    assert ("Activation(silu)", "backward") in {(part.name, part.phase) for part in parts}
    model.loss = "squared_error"
    np.testing.assert_allclose(model.evaluate(X, y)["loss"], np.square(model.predict(X) - y).sum(axis=1).mean())


def test_layer_by_layer_trains_alike(backend, data):
    X, y = data
    models = [network(fnn.Activation(own.elu, own.elu_derivative), last) for last in (fnn.ReLU(), UserReLU())]
    for model in models:
        model.fit(X, y, loss="squared_error", epochs=2, batch_size=16, verbose=0)
    assert (models[0]._stack.network is None, models[1]._stack.network is None) == (False, True)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@needs_kernels
def test_both_backends_and_all_numbers_of_threads_train_alike(data):
    X, y = np.repeat(data[0], 30, axis=0), np.repeat(data[1], 30, axis=0)

    def trained(backend, threads, rows=2100):
        before = fnn.get_num_threads()
        fnn.set_num_threads(threads)
        try:
            with fnn.use_backend(backend):
                layers = fnn.Activation(own.elu, own.elu_derivative), fnn.Activation(own.leaky, own.leaky_derivative)
                model = fnn.Sequential(fnn.Linear(5, 200), layers[0], fnn.Linear(200, 33), layers[1], fnn.Linear(33, 2))
                model.fit(X[:rows], y[:rows], loss="squared_error", epochs=1, batch_size=700, verbose=0)
                return model.parameters()
        finally:
            fnn.set_num_threads(before)

    for one, other in zip(trained("numba", 1), trained("numba", 3), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(trained("numba", 1, 30), trained("numpy", 1, 30), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


class TestCopies:
    def test_lambdas_are_copied_but_not_pickled_nor_saved(self, backend, data, tmp_path):
        model = network(fnn.Activation(lambda x: x * 0.5, lambda x, y: 0.5), fnn.Tanh())
        np.testing.assert_array_equal(copy.deepcopy(model).forward(data[0]), model.forward(data[0]))
        message = r"f .*<lambda> cannot be saved or pickled, since it cannot be imported as 'tests.*': define it by def"
        with pytest.raises(TypeError, match=message):
            pickle.dumps(model)
        with pytest.raises(TypeError, match=message):
            model.save(tmp_path / "m.npz")
        assert not [*tmp_path.iterdir()]

    def test_pickled_and_saved_by_their_import_path(self, backend, data, tmp_path):
        model = network(
            fnn.Activation(own.elu, own.elu_derivative, name="elu"), fnn.Activation(own.swish, own.swish_derivative)
        )
        model.save(tmp_path / "m.npz")
        with np.load(tmp_path / "m.npz") as archive:
            header = json.loads(str(archive["header"]))
        assert header["format"] == 3
        path = "tests.user_functions:"
        entry = {"class": "Activation", "f": f"{path}elu", "derivative": f"{path}elu_derivative", "name": "elu"}
        assert header["layers"][1] == entry
        for other in (pickle.loads(pickle.dumps(model)), fnn.load(tmp_path / "m.npz")):
            assert repr(other) == repr(model)
            assert (other.layers[1].f, other.layers[1].name) == (own.elu, "elu")
            np.testing.assert_array_equal(other.forward(data[0]), model.forward(data[0]))

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("nowhere_at_all:elu", "f cannot be imported from 'nowhere_at_all:elu', which must be a function at"),
            ("tests.user_functions:gone", "f cannot be imported from 'tests.user_functions:gone'"),
            ("tests.user_functions", "f cannot be imported from 'tests.user_functions'"),
            ("", "f cannot be imported from ''"),
            (".user_functions:elu", "f cannot be imported from '.user_functions:elu'"),
            ("os:getcwd", "f is 'os:getcwd', expected a function made by def"),
            ("shutil:copyfileobj", r"f copyfileobj takes \(.*\), expected \(x\)"),
            ("tests.user_functions:gauss", r"f gauss takes \(p, y\), expected \(x\)"),
            (None, "f is None, expected a function"),
            (["a"], "f is .*'a'.*, expected a function"),
        ],
        ids=repr,
    )
    def test_a_saved_function_that_is_none(self, path, message, tmp_path):
        fnn.Sequential(fnn.Linear(2, 2), fnn.Activation(own.elu, own.elu_derivative)).save(tmp_path / "m.npz")
        with np.load(tmp_path / "m.npz") as archive:
            arrays = dict(archive)
        header = json.loads(str(arrays["header"]))
        header["layers"][1]["f"] = path
        np.savez(tmp_path / "m.npz", **{**arrays, "header": np.array(json.dumps(header))})
        with pytest.raises(ValueError, match=rf"m\.npz is not a valid model: {message}"):
            fnn.load(tmp_path / "m.npz")

    @needs_kernels
    def test_another_process_loads_the_model_and_compiles_nothing(self, tmp_path):
        """The function's own file lies beside the model: an edit of it is another function, and compiled anew."""
        module = tmp_path / "mine.py"
        module.write_text(
            "def f(x):\n    return x * 0.5 if x > 0 else 0.0\ndef d(x, y):\n    return 0.5 if x > 0 else 0.0\n"
        )
        code = f"""
import sys
sys.path[:0] = [{str(tmp_path)!r}, {os.getcwd()!r}]
import fastnn as fnn
import numpy as np
"""
        make = (
            code
            + f"""
import mine
model = fnn.Sequential(fnn.Linear(2, 2, init=np.eye(2)), fnn.Activation(mine.f, mine.d), dtype="float64")
model.save({str(tmp_path / "m.npz")!r})
print(model.layers[1].forward([[3.0, -3.0]]).tolist())
"""
        )
        load = code + f"print(fnn.load({str(tmp_path / 'm.npz')!r}).layers[1].forward([[3.0, -3.0]]).tolist())\n"
        environment = {"NUMBA_CACHE_DIR": tmp_path / "cache", "PYTHONDONTWRITEBYTECODE": 1, "FASTNN_BACKEND": None}
        results = [run(text, tmp_path, **environment) for text in (make, load)]
        assert [out for out, _ in results] == ["[[1.5, 0.0]]\n"] * 2
        assert ["compiling" in err for _, err in results] == [True, False]
        files = {*(tmp_path / "cache").rglob("own*.nbc")}
        assert len(files) == 2 or len(files) == 1
        module.write_text(module.read_text().replace("0.5", "0.25"))
        out, err = run(load, tmp_path, **environment)
        assert (out, "compiling" in err) == ("[[0.75, 0.0]]\n", True)
        module.unlink()
        with pytest.raises(
            AssertionError, match=r"ValueError: .*m\.npz is not a valid model: f cannot be imported from 'mine:f'"
        ):
            run(load, tmp_path, **environment)


def test_the_examples_of_the_documentation(backend):
    results = doctest.testmod(fastnn.nn.own)
    assert (results.failed, results.attempted > 8) == (0, True)


def test_an_import_of_fastnn_and_a_layer_import_no_numba():
    code = "import fastnn as fnn, sys; fnn.Activation(lambda x: x, lambda x, y: 1.0); assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_kernels
def test_who_has_no_functions_pays_for_none():
    """A process that trains loads nothing of what is for a user's own."""
    code = """
import sys
import fastnn as fnn
X, y = fnn.datasets.load_digits()
fnn.Sequential(fnn.Linear(64, 10)).fit(X[:32], y[:32], epochs=1, verbose=0)
print([name for name in sys.modules if name.startswith("fastnn.kernels.simd.") and name.endswith(("loop", "element"))])
"""
    assert run(code, FASTNN_BACKEND="numba")[0] == "[]\n"
