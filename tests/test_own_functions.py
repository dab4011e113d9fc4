"""What the functions of a user's own may be: known by their content, and refused before anything changes."""

import copy
import functools
import gc
import math
import os
import sys
import types

import numpy as np
import pytest
from numba import njit
from scipy import special

import fastnn as fnn
import fastnn.nn.functions
import fastnn.nn.own
from tests import user_functions as own

needs_kernels = pytest.mark.skipif(os.environ.get("FASTNN_BACKEND") == "numpy", reason="tries the kernels")


@pytest.fixture
def data(rng):
    return rng.normal(size=(70, 5)), rng.normal(size=(70, 2))


class TestContent:
    """What a function does is its bytecode, constants, closure and globals, as they are when a layer is made."""

    def test_two_lambdas_of_one_line(self, backend):
        one, two = fnn.Activation(lambda x: x + 1, lambda x, y: 1.0), fnn.Activation(lambda x: x + 2, lambda x, y: 1.0)
        assert one.operation != two.operation
        assert [layer.forward([[1.0]])[0, 0] for layer in (one, two)] == [2, 3]

    @pytest.mark.parametrize(("a", "b"), [(1, 2), (1, 1.0), (1, True), (0.0, -0.0), ((1.0, 2), (1.0, 3))], ids=repr)
    def test_closures_and_defaults(self, a, b):
        def with_closure(c):
            return fnn.Activation(lambda x: x * c, lambda x, y: 1.0)

        def with_default(c):
            return fnn.Activation(lambda x, c=c: x * c, lambda x, y: 1.0)

        for made in (with_closure, with_default):
            assert made(a).operation == made(a).operation
            assert made(a).operation != made(b).operation

    def test_a_loop_makes_as_many_functions(self, backend):
        layers = [fnn.Activation(lambda x, c=c: x + c, lambda x, y: 1.0) for c in (1, 2.5)]
        layers += [fnn.Activation(lambda x, c=c: x + c[1], lambda x, y: 1.0) for c in ((0, 4.0), (0, 5))]
        assert [layer.forward([[1.0]])[0, 0] for layer in layers] == [2, 3.5, 5, 6]

    def test_nested_functions(self):
        def outer(c):
            def f(x):
                g = lambda v: v * 2 + c  # noqa: E731
                return g(x)

            return fnn.Activation(f, lambda x, y: 2.0)

        assert outer(1.0).operation != outer(2.0).operation
        with fnn.use_backend("numpy"):
            assert outer(1.0).forward([[3.0]])[0, 0] == 7

    def test_globals_and_callees_are_taken_when_the_layer_is_made(self, backend, monkeypatch):
        before = fnn.Activation(own.leaky, own.leaky_derivative)
        monkeypatch.setattr(own, "SLOPE", 0.5)
        after = fnn.Activation(own.leaky, own.leaky_derivative)
        assert [layer.forward([[-1.0]])[0, 0] for layer in (before, after)] == [-0.25, -0.5]
        swish = fnn.Activation(own.swish, own.swish_derivative)
        monkeypatch.setattr(own, "sigmoid", njit(lambda x: x * 0.0))
        assert fnn.Activation(own.swish, own.swish_derivative).forward([[2.0]])[0, 0] == 0
        np.testing.assert_allclose(swish.forward([[2.0]])[0, 0], 2 * special.expit(2), rtol=1e-6)

    def test_names(self):
        pair = lambda c: (lambda x: c * x, lambda x, y: c)  # noqa: E731
        first = fnn.Activation(*pair(2.0), name="twice")
        second = fnn.Activation(*pair(2.0), name="twice")
        with pytest.raises(ValueError, match=r"name is 'twice', which another activation has .* choose another name"):
            fnn.Activation(*pair(3.0), name="twice")
        fnn.ElementwiseLoss(own.gauss, own.gauss_derivative, name="twice")
        copied = copy.deepcopy(first)
        del first, second
        gc.collect()
        with pytest.raises(ValueError, match="name is 'twice'"):
            fnn.Activation(*pair(3.0), name="twice")
        del copied
        gc.collect()
        assert fnn.Activation(*pair(3.0), name="twice").name == "twice"

    @pytest.mark.parametrize(("name", "error"), [(5, TypeError), ("", ValueError), ("a b", ValueError)], ids=repr)
    def test_no_name(self, name, error):
        with pytest.raises(error, match=f"name is {name!r}, expected"):
            fnn.Activation(own.elu, own.elu_derivative, name=name)


def raises(x):
    if x > 1e9:
        raise ValueError
    return x


def recursive(x):
    return x if x < 0 else recursive(x - 1)


def sometimes_none(x):
    if x > 0:
        return x


ARRAY = np.zeros(3)
# Refused when the layer is made.
REFUSED = [
    (5, TypeError, r"f is 5, expected a function made by def or lambda: f\(x\)"),
    (math.tanh, TypeError, r"f is <built-in function tanh>, expected a function made by def or lambda"),
    (functools.partial(own.leaky), TypeError, "f is functools.partial.*, expected a function made by def or lambda"),
    (lambda: 1.0, TypeError, r"f <lambda> takes \(\), expected \(x\)"),
    (lambda x, y: x, TypeError, r"f <lambda> takes \(x, y\), expected \(x\)"),
    (lambda *x: 1.0, TypeError, r"f <lambda> takes \(\*x\), expected \(x\)"),
    (lambda x, *, a: x, TypeError, r"f <lambda> takes \(x, \*, a\), expected \(x\)"),
    (lambda x: (yield x), TypeError, "f <lambda> is a generator"),
    (raises, TypeError, "f raises raises an exception, which ends no training: return math.nan instead"),
    (recursive, TypeError, "f recursive uses recursive, which calls itself"),
    (
        lambda x: x + ARRAY[0],
        TypeError,
        r"f <lambda> uses ARRAY, which is array\(.*: a function may use numbers, tuples",
    ),
    (
        lambda x: x + len(sys.path),
        TypeError,
        "f <lambda> uses sys, which is <module 'sys' .*: import what it uses by name, as in from sys import",
    ),
    (lambda x: print(x), TypeError, "f <lambda> uses print, which is <built-in function print>"),
    (lambda x: np.random.rand(), TypeError, "f <lambda> draws random numbers"),  # noqa: NPY002
    (lambda x: nothing_of_that_name, TypeError, "f <lambda> uses nothing_of_that_name, which is not defined"),  # noqa: F821
    ("nowhere_at_all:f", ValueError, "f cannot be imported from 'nowhere_at_all:f', .*: ModuleNotFoundError"),
    ("tests.user_functions:nothing", ValueError, "f cannot be imported from 'tests.user_functions:nothing'.*nothing"),
    ("os:getcwd", TypeError, "f is 'os:getcwd', expected a function made by def or lambda"),
]


@pytest.mark.parametrize(("f", "error", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused_when_it_is_made(f, error, message):
    with pytest.raises(error, match=message):
        fnn.Activation(f, own.elu_derivative)


def test_both_functions_are_checked():
    with pytest.raises(TypeError, match=r"derivative elu takes \(x\), expected \(x, y\)"):
        fnn.Activation(own.elu, own.elu)


# Refused before a fit changes anything: what Numba says of it, and the twin.
UNCOMPILED = [
    (lambda x: "text", "f <lambda> returns text, expected a real number", "returns 'text', expected a real number"),
    (lambda x: None, "f <lambda> returns None, expected a real number", "returns None"),
    (sometimes_none, "f sometimes_none returns None in some cases and a number in others", "OK"),
    (lambda x: (x, x), "f <lambda> returns a tuple of 2, expected a real number", r"returns \(.*\), expected"),
    (lambda x: 1j * x, "f <lambda> returns a complex number, expected a real number", "returns .*j"),
    (lambda x: x.name, "f <lambda> does not compile: Unknown attribute 'name'", "fails for .*AttributeError"),
    (lambda x: np.zeros(3), "f <lambda> returns an array, expected a real number", "returns array"),
    (lambda x: np.zeros(3)[int(x)], "f <lambda> uses an array, expected a function of numbers alone", "OK"),
    (lambda x: [x, x][int(x)], "f <lambda> uses a list, expected a function of numbers alone", "OK"),
]


@pytest.mark.parametrize(("f", "compiled", "interpreted"), UNCOMPILED, ids=range(len(UNCOMPILED)))
def test_refused_before_anything_changes(f, compiled, interpreted, backend, data):
    X, y = data
    layers = fnn.Linear(5, 19), fnn.Activation(f, lambda x, y: 1.0), fnn.Linear(19, 2)
    model, begun = fnn.Sequential(*layers, dtype="float64", seed=3), []
    before, rng = [p.copy() for p in model.parameters()], model._stack.rng.bit_generator.state
    message = compiled if backend == "numba" else interpreted
    if message == "OK":
        return
    optimizer = fnn.Adam(0.1)
    callback = types.SimpleNamespace(begin=lambda *args: begun.append(args))
    with pytest.raises(TypeError, match=message):
        model.fit(X, y, loss="squared_error", optimizer=optimizer, epochs=1, verbose=0, callbacks=[_Callback(callback)])
    with pytest.raises(TypeError):
        model.forward(X[:, :] * 0 + 1e-9)
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p, old)
    assert model._stack.rng.bit_generator.state == rng
    assert (begun, optimizer.steps, model.loss, len(model.history)) == ([], 0, None, 0)


class _Callback:
    def __init__(self, calls):
        self.begin = calls.begin

    def __call__(self, model, epoch, values):
        pass


@needs_kernels
def test_no_call_of_python_is_compiled(monkeypatch):
    """Where something slips through that a name does not tell."""
    monkeypatch.setattr(fastnn.nn.functions, "_BUILTINS", (print,))
    with fnn.use_backend("numba"), pytest.raises(TypeError, match=r"f .*<lambda> calls Python while it runs"):
        fnn.Activation(lambda x: print(x) or x, lambda x, y: 1.0).forward([[1.0]])


@needs_kernels
def test_an_index_beyond_a_tuple_moves_no_address():
    with fnn.use_backend("numba"):
        layer = fnn.Activation(lambda x: (1.0, 2.0)[int(x)], lambda x, y: 1.0)
        found = layer.forward([[0.0, 1.0, 2.0, 1e6, -1.0, -1e9]])[0]
    np.testing.assert_array_equal(found, [1, 2, np.nan, np.nan, 2, np.nan])
