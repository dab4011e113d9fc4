"""Training: the time of an epoch, fresh and after 50 others, by hidden layer and optimizer, and the loss reached."""

import numpy as np

import fastnn as fnn

from .common import BACKENDS, CASES, DTYPES, benchmark, build, on_reference, use

OPTIMIZERS = {
    "SGD": lambda lr: fnn.SGD(lr=lr),
    "momentum": lambda lr: fnn.SGD(lr=lr, momentum=0.9),
    "Nesterov": lambda lr: fnn.SGD(lr=lr, momentum=0.9, nesterov=True),
    "Adam": lambda lr: fnn.Adam(lr=lr / 10),
    "AdamW": lambda lr: fnn.AdamW(lr=lr / 10),
    "RMSprop": lambda lr: fnn.RMSprop(lr=lr / 10),
}
# What stands between two linear layers, the first of so many units.
HIDDEN = {
    "ReLU": lambda n: [fnn.ReLU()],
    "GELU": lambda n: [fnn.GELU()],
    "GELU by tanh": lambda n: [fnn.GELU(approximate="tanh")],
    "LayerNorm, ReLU": lambda n: [fnn.LayerNorm(n), fnn.ReLU()],
}


@benchmark("epoch of SGD, by network", {"backend": BACKENDS, "dtype": DTYPES, "network": tuple(CASES.TRAINING)})
def time_epoch(backend, dtype, network):
    return epoch(backend, dtype, network, "SGD")


@benchmark(
    "epoch of 784-256-256-10, by optimizer",
    {"backend": BACKENDS, "dtype": DTYPES, "optimizer": tuple(OPTIMIZERS)},
)
def time_optimizer(backend, dtype, optimizer):
    return epoch(backend, dtype, "784-256-256-10", optimizer)


@benchmark(
    "epoch of 64-100-10, by hidden layer",
    {"backend": BACKENDS, "dtype": DTYPES, "hidden": tuple(HIDDEN)},
)
def time_hidden(backend, dtype, hidden):
    return epoch(backend, dtype, "64-100-10", "SGD", hidden)


def epoch(backend, dtype, network, optimizer, hidden="ReLU"):
    """One epoch of fit; training goes on from call to call."""
    widths, batch_size, batches, loss = CASES.TRAINING[network]
    x, y = CASES.samples(batches * batch_size, widths, loss, dtype, use(backend))

    def fresh():
        model, rule = build(widths, dtype, HIDDEN[hidden]), OPTIMIZERS[optimizer](1e-3)
        settings = {"loss": loss, "optimizer": rule, "l2": 1e-4, "epochs": 1, "batch_size": batch_size, "verbose": 0}
        return lambda: model.fit(x, y, **settings)

    measured = fresh()
    np.testing.assert_allclose(measured()["loss"], on_reference(fresh())["loss"], rtol=1e-3)
    return measured


@benchmark("100 epochs of 20-32-2 on 1000 samples", {"backend": BACKENDS, "dtype": DTYPES})
def time_short_epochs(backend, dtype):
    """About a third of it is Python, between one epoch and the next."""
    rng = use(backend)
    x, y = rng.random((1000, 20), dtype), rng.integers(0, 2, 1000)

    def fresh():
        model = build((20, 32, 2), dtype)
        return lambda epochs=100: model.fit(x, y, optimizer=fnn.SGD(lr=1e-3), epochs=epochs, batch_size=32, verbose=0)

    np.testing.assert_allclose(fresh()(3)["loss"], on_reference(fresh(), 3)["loss"], rtol=1e-3)
    return fresh()


@benchmark("epoch of 50-64-10 after 50 others, by optimizer", {"backend": BACKENDS, "optimizer": tuple(OPTIMIZERS)})
def time_after_50_epochs(backend, optimizer):
    """Units die over random labels, and the moments of their weights decay into the subnormal numbers of float32."""
    rng = use(backend)
    x, y = 1 + rng.standard_normal((2048, 50), np.float32), rng.integers(0, 10, 2048)

    def fresh():
        model, rule = build((50, 64, 10), "float32"), OPTIMIZERS[optimizer](0.2 if "Adam" in optimizer else 0.1)
        return lambda epochs: model.fit(x, y, optimizer=rule, epochs=epochs, batch_size=32, verbose=0)

    measured = fresh()
    # The first loss alone: after 50 epochs at so high a learning rate roundings have led the two apart.
    np.testing.assert_allclose(measured(50)["loss"][0], on_reference(fresh(), 1)["loss"][0], rtol=1e-3)
    return lambda: measured(1)


@benchmark(
    "loss after 10 epochs of the digits",
    {"backend": BACKENDS, "dtype": DTYPES, "optimizer": tuple(OPTIMIZERS)},
    unit="loss",
)
def track_loss(backend, dtype, optimizer):
    use(backend)
    x, y = fnn.datasets.load_digits(dtype)

    def reached():
        rule = OPTIMIZERS[optimizer](0.02)
        history = build((64, 128, 10), dtype).fit(x, y, optimizer=rule, l2=1e-4, epochs=10, verbose=0)
        return round(history["loss"][-1], 6)

    np.testing.assert_allclose(reached(), on_reference(reached), rtol=1e-2)
    return reached
