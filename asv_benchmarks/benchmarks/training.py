"""Training: the time of an epoch, what the optimizers cost, and the loss that is reached."""

import numpy as np

import fastnn as fnn

from .common import BACKENDS, CASES, DTYPES, benchmark, build, on_reference, use

OPTIMIZERS = {
    "SGD": lambda lr: fnn.SGD(lr=lr),
    "momentum": lambda lr: fnn.SGD(lr=lr, momentum=0.9),
    "Nesterov": lambda lr: fnn.SGD(lr=lr, momentum=0.9, nesterov=True),
    "Adam": lambda lr: fnn.Adam(lr=lr / 10),
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


def epoch(backend, dtype, network, optimizer):
    """One epoch of fit; training goes on from call to call."""
    widths, batch_size, batches, loss = CASES.TRAINING[network]
    x, y = CASES.samples(batches * batch_size, widths, loss, dtype, use(backend))

    def fresh():
        model, rule = build(widths, dtype), OPTIMIZERS[optimizer](1e-3)
        settings = {"loss": loss, "optimizer": rule, "l2": 1e-4, "epochs": 1, "batch_size": batch_size, "verbose": 0}
        return lambda: model.fit(x, y, **settings)

    measured = fresh()
    np.testing.assert_allclose(measured()["loss"], on_reference(fresh())["loss"], rtol=1e-3)
    return measured


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
