"""Every public function and method that computes, on arrays of every layout, and how often a kernel was compiled."""

import importlib
import itertools
import pkgutil

import numpy as np
from numba.core.dispatcher import Dispatcher

import fastnn as fnn
from fastnn import kernels, ops
from fastnn.kernels.compiler.jit import Shared
from tests.cases import FUNCTIONS, LAYOUTS, arguments
from tests.user_code import UserReLU


def signatures():
    """How many signatures of each entry point, and of each function with an address, were compiled or loaded."""
    count = {}
    for module in pkgutil.walk_packages(kernels.__path__, "fastnn.kernels."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Dispatcher) and not value.targetoptions.get("no_cpython_wrapper"):
                count[name] = len(value.signatures)
            elif isinstance(value, Shared):
                count[name] = len(value._compiled)
    return count


def call_everything(dtype, folder):
    """Call all that is public, for one dtype."""
    call_functions(dtype, folder)
    x, v = np.random.default_rng(0).normal(size=(40, 5)), np.ones(40)
    labels = np.arange(40) % 3
    with np.errstate(invalid="ignore"):  # NaN around integers
        samples = [layout(x.astype(kind), folder) for kind in ("f4", "f8", "u1", "i8") for layout in LAYOUTS.values()]
    losses = [
        ("cross_entropy", labels),
        ("cross_entropy", np.eye(3)[labels]),
        ("squared_error", x[:, :3]),
        ("huber", x[:, :3]),
    ]
    by_functions = [
        ("absolute_error", x[:, :3]),
        ("pinball", x[:, :3]),
        ("poisson", np.abs(x[:, :3])),
        ("binary_cross_entropy", np.eye(3)[labels]),
    ]
    pairs = [*itertools.product(samples, losses), *itertools.product(samples[:1], by_functions)]
    for given, (loss, y) in pairs:
        model = network(dtype)
        model.fit(given, y, loss=loss, epochs=1, sample_weight=v, validation_data=(given, y), verbose=0)
        model.predict(given), model.predict(given[:1]), model.evaluate(given, y, v)
        if loss == "cross_entropy":
            model.predict_proba(given), model.predict_proba(given[:1])
    momenta = [fnn.SGD(momentum=0.9), fnn.SGD(momentum=0.9, nesterov=True), fnn.RMSprop(momentum=0.5)]
    for optimizer in (fnn.SGD(), *momenta, fnn.Adam(), fnn.AdamW(), fnn.RMSprop(), fnn.SGD(clip_norm=1.0)):
        model = network(dtype)
        model.fit(x, labels, optimizer=optimizer, l2=0.1, epochs=1, batch_size=7, verbose=0)
        scores = model.forward(x, training=True)
        model.backward(fnn.cross_entropy_backward(scores, labels))
        optimizer.step(model)
    for activation in (fnn.ReLU(), UserReLU()):
        model = fnn.Sequential(fnn.Linear(5, 4), activation, fnn.Dropout(0.5), fnn.Linear(4, 3), dtype=dtype)
        model.fit(x, labels, loss=fnn.CrossEntropy(0.1), class_weight="balanced", epochs=1, verbose=0)
        model.predict_proba(x)
    fnn.check_gradients(network(dtype), x, labels)
    fnn.profile(network(dtype), x, labels)


def network(dtype):
    """A model with every built-in layer but dropout and embeddings."""
    hidden = (
        fnn.Standardize(5),
        fnn.Tanh(),
        fnn.Linear(5, 7),
        fnn.LeakyReLU(),
        fnn.Linear(7, 4),
        fnn.Sigmoid(),
        fnn.GELU(),
    )
    smooth = fnn.SiLU(), fnn.Mish(), fnn.ELU(), fnn.SELU(), fnn.Softplus(), fnn.HardSwish()
    more = (
        fnn.Identity(),
        fnn.ReLU(),
        fnn.GELU("tanh"),
        fnn.LayerNorm(4),
        fnn.Residual(fnn.BatchNorm(4)),
        fnn.Linear(4, 3, bias=False),
    )
    return fnn.Sequential(*hidden, *smooth, *more, dtype=dtype)


def call_functions(dtype, folder):
    """Call every function on arrays of every layout, the losses with targets and weights as well."""
    assert set(FUNCTIONS) == set(ops.__all__)
    rng = np.random.default_rng(0)
    for name, (sizes, _) in FUNCTIONS.items():
        given = arguments(name, min(sizes), dtype, rng)
        calls = [given]
        if "error" in name or "entropy" in name:
            m, k = given[0].shape
            calls += [[given[0], np.full((m, k), 1 / k, dtype)], [*given, np.ones(m, dtype)]]
        written = (2,) if name == "matmul" else (0, 2, 3) if name.endswith("_update") else ()
        for values, layout in itertools.product(calls, LAYOUTS.values()):
            laid_out = [value if i in written else _lay_out(value, layout, folder) for i, value in enumerate(values)]
            getattr(fnn, name)(*laid_out)
    wide = np.ones((300, 300), dtype)
    fnn.matmul(wide, wide)
    fnn.cross_entropy(wide, np.zeros(300, int)), fnn.cross_entropy(wide[:, :1], np.zeros(300, int))
    fnn.matmul(wide, wide, out=np.empty((300, 600), dtype)[:, :300])


def _lay_out(value, layout, folder):
    if not isinstance(value, np.ndarray):
        return value
    return layout(value, folder) if value.ndim == 2 else layout(value[None], folder)[0]
