"""The peers of the comparison: everyone does the same work."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import scipy.special

import fastnn as fnn
from tests.comparing import module, peer, problem
from tests.comparing import scripts as scripts

TRAINERS = ("ours", "numpy", "sklearn", "torch", "torch_compile", "jax")
RULES = ("SGD", "momentum", "Nesterov", "Adam")
DTYPES = ("float32", "float64")
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


@pytest.fixture
def uncompiled(monkeypatch):
    """torch.compile takes seconds a graph: the functions that it gets are what is tested."""
    with contextlib.suppress(ImportError):
        monkeypatch.setattr("peers.torch_compile.compiled", lambda function: function)


def trained_by_hand(problem, eps_last=True):
    """The steps of an update rule along the gradient of the loss, written out, in float64."""
    rng, t = np.random.default_rng(problem.seed), 0
    weights = [w.astype(np.float64) for w, _ in problem.layers()]
    biases = [b.astype(np.float64) for _, b in problem.layers()]
    parameters = [*weights, *biases]
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parameters]
    x, lr = problem.x.astype(np.float64), problem.network.lr
    for _ in range(problem.epochs):
        for rows in np.split(rng.permutation(len(x)), problem.network.steps):
            activations = [x[rows]]
            for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
                s = activations[-1] @ w + b
                activations.append(s if i == len(weights) - 1 else np.where(s > 0, s, 0))
            if problem.network.loss == "cross_entropy":
                d = scipy.special.softmax(s, axis=1) - np.eye(s.shape[1])[problem.y[rows]]
            else:
                d = 2 * (s - problem.y[rows])
            d /= len(rows)
            gradients = []
            for i in reversed(range(len(weights))):
                gradients[:0] = [activations[i].T @ d + 2 * problem.l2 * weights[i]]
                gradients.append(d.sum(axis=0))
                d = (d @ weights[i].T) * (activations[i] > 0)
            gradients[len(weights) :] = reversed(gradients[len(weights) :])
            t += 1
            for p, dp, (m, v) in zip(parameters, gradients, moments, strict=True):
                p -= lr * step_by_hand(problem.network.rule, dp, m, v, t, eps_last)
    return weights, biases


def step_by_hand(rule, dp, m, v, t, eps_last):
    """By how many times lr a parameter moves, as Sutskever et al. (2013) and Kingma and Ba (2015) have it.

    Adam adds eps to the root of its second moment, after it corrected it, or before as scikit-learn does.
    """
    if rule == "SGD":
        return dp
    if rule == "Adam":
        m += (dp - m) / 10
        v += (dp**2 - v) / 1000
        correction = np.sqrt(1 - 0.999**t)
        root = np.sqrt(v) / correction + 1e-8 if eps_last else (np.sqrt(v) + 1e-8) / correction
        return m / (1 - 0.9**t) / root
    m[...] = 0.9 * m + dp
    return dp + 0.9 * m if rule == "Nesterov" else m


class TestPeers:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(
        ("widths", "loss"),
        [
            ((5, 8, 7, 3), "cross_entropy"),
            ((4, 6, 2), "cross_entropy"),
            ((5, 40), "cross_entropy"),
            ((5, 8, 6, 1), "squared_error"),
            ((4, 6, 5), "squared_error"),
        ],
    )
    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize("key", TRAINERS)
    def test_trainers_take_the_same_steps(self, key, rule, widths, loss, dtype, uncompiled):
        given = replace(problem(widths, loss, dtype, epochs=2, rule=rule), l2=0.01)
        trainer = peer(key).Trainer(given)
        weights, biases = trained_by_hand(given, eps_last=key != "sklearn")
        # The second time everything starts again.
        for _ in range(2):
            trainer.prepare()
            trainer.run()
            for (w, b), right_w, right_b in zip(trainer.layers(), weights, biases, strict=True):
                assert w.dtype == b.dtype == dtype
                np.testing.assert_allclose(w, right_w, rtol=0, atol=TOLERANCE[dtype])
                np.testing.assert_allclose(b, right_b, rtol=0, atol=TOLERANCE[dtype])

    @pytest.mark.parametrize("rule", ["momentum", "Adam"])
    @pytest.mark.parametrize(
        ("key", "form", "data", "flushes"),
        [
            ("ours", "Trainer", "random labels", True),
            ("ours", "Trainer", "separable", True),
            ("numpy", "Trainer", "random labels", False),
            ("numpy", "Trainer", "separable", False),
            ("sklearn", "Trainer", "random labels", False),
            ("torch", "Trainer", "random labels", False),
            ("torch", "FlushingTrainer", "random labels", True),
            ("jax", "Trainer", "random labels", True),
        ],
    )
    def test_after_50_epochs_moments_are_subnormal_or_flushed(self, key, form, data, flushes, rule, uncompiled):
        section = module("comparison.subnormals")
        trainer = getattr(peer(key), form)(section.make_problem(rule, data, "float32", section.NETWORK))
        trainer.prepare()
        with fnn.use_backend("numba"):
            for _ in range(section.EPOCHS):
                trainer.run()
        share = section.subnormal_share(trainer.moments())
        assert share == 0 if flushes else share > 0.1
        # This thread does not go on flushing.
        assert np.float32(1e-40) * np.float32(0.5) > 0

    def test_share_of_subnormal_numbers(self):
        share = module("comparison.subnormals").subnormal_share
        for dtype in DTYPES:
            tiny = np.finfo(dtype).tiny
            assert share([np.array([0, 1, tiny, -tiny / 4], dtype), np.array([[tiny / 2]], dtype)]) == 0.4

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("turned", ["", "a", "b"])
    @pytest.mark.parametrize("key", ["ours", "numpy", "torch", "jax"])
    def test_products(self, key, turned, dtype):
        rng = np.random.default_rng(0)
        a, b = rng.normal(size=(5, 7)).astype(dtype), rng.normal(size=(7, 3)).astype(dtype)
        expected = a.astype(np.float64) @ b
        a = np.ascontiguousarray(a.T).T if turned == "a" else a
        b = np.ascontiguousarray(b.T).T if turned == "b" else b
        result = np.asarray(peer(key).product(a, b)())
        assert result.dtype == dtype
        np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE[dtype])

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(6, 5), (3, 40)])
    @pytest.mark.parametrize("key", ["ours", "numpy", "scipy", "torch", "jax"])
    def test_functions_of_rows(self, key, shape, dtype):
        rng = np.random.default_rng(1)
        s, y = (5 * rng.normal(size=shape)).astype(dtype), rng.integers(0, shape[1], shape[0])
        logs = scipy.special.log_softmax(s.astype(np.float64), axis=1)
        expected = {
            "softmax": (np.exp(logs),),
            "log-softmax": (logs,),
            "log-sum-exp": (scipy.special.logsumexp(s.astype(np.float64), axis=1),),
            "cross-entropy and gradient": (
                -logs[np.arange(len(y)), y].mean(),
                (np.exp(logs) - np.eye(shape[1])[y]) / len(y),
            ),
        }
        functions = peer(key).rows(s, y)
        assert set(functions) == set(expected)
        for name, function in functions.items():
            for _ in range(2):
                result = function()
                parts = result if isinstance(result, tuple) else (result,)
                for part, right in zip(parts, expected[name], strict=True):
                    np.testing.assert_allclose(np.asarray(part), right, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(
        "key", ["ours", "numpy", "sklearn", "torch", "torch_compile", "jax", "onnxruntime", "onnxruntime_bound"]
    )
    @pytest.mark.parametrize("widths", [(5, 8, 7, 3), (4, 2)])
    def test_predictors(self, key, widths, dtype, uncompiled):
        layers = module("comparison.problems").initial_layers(widths, np.dtype(dtype))
        layers = [(w, b + np.arange(len(b), dtype=dtype) / 8) for w, b in layers]
        x = a = np.random.default_rng(2).normal(size=(3, widths[0])).astype(dtype)
        for w, b in layers[:-1]:
            a = np.maximum(a @ w + b, 0)
        expected = scipy.special.softmax(a @ layers[-1][0] + layers[-1][1], axis=1)
        task = peer(key).predictor(layers, x)
        for _ in range(2):
            np.testing.assert_allclose(np.asarray(task()), expected, rtol=0, atol=TOLERANCE[dtype])
