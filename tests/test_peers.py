"""The peers of the comparison: everyone does the same work."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import scipy.special

import fastnn as fnn
from tests.cases import each_pair
from tests.comparing import module, peer, problem
from tests.comparing import scripts as scripts

TRAINERS = ("ours", "numpy", "twin", "sklearn", "torch", "torch_compile", "jax")
RULES = ("SGD", "momentum", "Nesterov", "Adam", "AdamW", "RMSprop", "SGD, clipped")
DTYPES = ("float32", "float64")
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
NETWORKS = [
    ((5, 8, 7, 3), "cross_entropy", {}),
    ((4, 6, 2), "cross_entropy", {}),
    ((5, 40), "cross_entropy", {}),
    ((5, 8, 6, 1), "squared_error", {}),
    ((4, 6, 5), "squared_error", {}),
    ((4, 6, 5), "huber", {}),
    ((5, 8, 7, 3), "cross_entropy", {"activation": "gelu"}),
    ((5, 8, 7, 3), "cross_entropy", {"activation": "gelu_tanh"}),
    ((5, 8, 7, 3), "cross_entropy", {"normalised": "LayerNorm"}),
    ((5, 8, 6, 2), "huber", {"normalised": "LayerNorm", "activation": "gelu"}),
    ((5, 8, 7, 3), "cross_entropy", {"normalised": "BatchNorm", "activation": "silu"}),
    ((5, 8, 8, 8, 2), "binary_cross_entropy", {"normalised": "BatchNorm", "residual": True}),
    ((8, 8, 7, 7, 3), "cross_entropy", {"residual": True}),
]


@pytest.fixture
def uncompiled(monkeypatch):
    """torch.compile takes seconds a graph: the functions that it gets are what is tested."""
    with contextlib.suppress(ImportError):
        monkeypatch.setattr("peers.torch_compile.compiled", lambda function: function)


def trained_by_hand(problem, eps_last=True):
    """The steps of an update rule along the gradient of the loss, written out, in float64."""
    rng, t = np.random.default_rng(problem.seed), 0
    layers = [[p.astype(np.float64) for p in layer] for layer in problem.layers()]
    moments = [[(np.zeros_like(p), np.zeros_like(p)) for p in layer] for layer in layers]
    x, network = problem.x.astype(np.float64), problem.network
    for _ in range(problem.epochs):
        for rows in np.split(rng.permutation(len(x)), network.steps):
            t += 1
            gradients = gradients_by_hand(problem, layers, x[rows], problem.y[rows])
            if network.rule == "SGD, clipped":
                norm = np.sqrt(sum(np.square(dp).sum() for of_layer in gradients for dp in of_layer))
                gradients = [[dp * min(1, 0.1 / (norm + 1e-6)) for dp in of_layer] for of_layer in gradients]
            for layer, of_layer, kept in zip(layers, gradients, moments, strict=True):
                for i, (p, dp, (m, v)) in enumerate(zip(layer, of_layer, kept, strict=True)):
                    decay = 0.1 * p if i == 0 and network.rule == "AdamW" else 0
                    p -= network.lr * (decay + step_by_hand(network.rule, dp, m, v, t, eps_last))
    return layers


def gradients_by_hand(problem, layers, x, y):
    """The gradient of every parameter."""
    network, last = problem.network, len(layers) - 1
    f, slope = ACTIVATIONS[network.activation]
    axis = 0 if network.normalised == "BatchNorm" else 1
    inputs, sums, normed, has_way_around = [x], [], [], []
    for i, (w, b, *norm) in enumerate(layers):
        s = inputs[-1] @ w + b
        spread = np.sqrt(s.var(axis=axis, keepdims=True) + 1e-5)
        normed.append(((s - s.mean(axis=axis, keepdims=True)) / spread, spread))
        sums.append(normed[-1][0] * norm[0] + norm[1] if norm else s)
        has_way_around.append(network.residual and i < last and w.shape[0] == w.shape[1])
        inputs.append(s if i == last else f(sums[-1]) + (inputs[-1] if has_way_around[-1] else 0))
    d = LOSSES[network.loss](s, y) / len(x)
    gradients = []
    for i, (w, _, *norm) in reversed(list(enumerate(layers))):
        around, of_norm = d if has_way_around[i] else 0, []
        d = d if i == last else d * slope(sums[i])
        if norm:
            z, spread = normed[i]
            of_norm = [(d * z).sum(axis=0), d.sum(axis=0)]
            # What is normed together, a row or a column, with the Jacobian (I - 1 1ᵀ / n - z zᵀ / n) / spread.
            g, z = ((d * norm[0]).T, z.T) if axis == 0 else (d * norm[0], z)
            n = g.shape[1]
            d = np.stack([each @ (np.eye(n) - 1 / n - np.outer(of, of) / n) for each, of in zip(g, z, strict=True)])
            d = (d.T if axis == 0 else d) / spread
        gradients.insert(0, [inputs[i].T @ d + 2 * problem.l2 * w, d.sum(axis=0), *of_norm])
        d = d @ w.T + around
    return gradients


def by_differences(f):
    """The function and its slope as a quotient of differences in the complex plane, which rounds nothing away."""
    return f, lambda s: f(s + 1e-30j).imag / 1e-30


ACTIVATIONS = {
    "relu": (lambda s: np.where(s > 0, s, 0), lambda s: s > 0),
    "gelu": by_differences(lambda s: s * scipy.special.erfc(-s / np.sqrt(2)) / 2),
    "gelu_tanh": by_differences(lambda s: s * (1 + np.tanh(np.sqrt(2 / np.pi) * (s + 0.044715 * s**3))) / 2),
    "silu": by_differences(lambda s: s / (1 + np.exp(-s))),
}
LOSSES = {
    "cross_entropy": lambda s, y: scipy.special.softmax(s, axis=1) - np.eye(s.shape[1])[y],
    "squared_error": lambda s, y: 2 * (s - y),
    "huber": lambda s, y: np.clip(s - y, -1, 1),
    "binary_cross_entropy": lambda s, y: scipy.special.expit(s) - y,
}


def step_by_hand(rule, dp, m, v, t, eps_last):
    """By how many times lr a parameter moves, as Sutskever et al. (2013) and Kingma and Ba (2015) have it.

    Adam adds eps to the root of its second moment, after it corrected it, or before as scikit-learn does.
    """
    if rule in ("SGD", "SGD, clipped"):
        return dp
    if rule == "RMSprop":
        v += (dp**2 - v) / 100
        return dp / (np.sqrt(v) + 1e-8)
    if rule in ("Adam", "AdamW"):
        m += (dp - m) / 10
        v += (dp**2 - v) / 1000
        correction = np.sqrt(1 - 0.999**t)
        root = np.sqrt(v) / correction + 1e-8 if eps_last else (np.sqrt(v) + 1e-8) / correction
        return m / (1 - 0.9**t) / root
    m[...] = 0.9 * m + dp
    return dp + 0.9 * m if rule == "Nesterov" else m


class TestPeers:
    @pytest.mark.parametrize(("network", "rule", "dtype"), each_pair(NETWORKS, RULES, DTYPES))
    @pytest.mark.parametrize("key", TRAINERS)
    def test_trainers_take_the_same_steps(self, key, rule, network, dtype, uncompiled):
        """Of each network and rule, in the dtypes in turn."""
        widths, loss, more = network
        given = replace(problem(widths, loss, dtype, epochs=2, rule=rule, **more), l2=0.01)
        if peer(key) not in module("peers").load_trainers([key], given.network):
            pytest.skip(f"{key} has no such network")
        trainer = peer(key).Trainer(given)
        layers = trained_by_hand(given, eps_last=key != "sklearn")
        # A mean over the batch takes off what a bias before it adds: its gradient is rounding, on which Adam steps.
        is_noise = more.get("normalised") == "BatchNorm" and rule in ("Adam", "AdamW", "RMSprop")
        # The second time everything starts again.
        for _ in range(2):
            trainer.prepare()
            trainer.run()
            for found, right in zip(trainer.layers(), layers, strict=True):
                for i, (parameter, expected) in enumerate(zip(found, right, strict=True)):
                    assert parameter.dtype == dtype
                    if not (is_noise and i == 1 and len(right) == 4):
                        np.testing.assert_allclose(parameter, expected, rtol=0, atol=TOLERANCE[dtype])

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
    @pytest.mark.parametrize("key", ["ours", "numpy", "twin", "scipy", "torch", "jax"])
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
