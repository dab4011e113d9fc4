"""What the tests of fit_many share: the same trainings one by one, each on a copy, and what they left."""

import copy
import inspect

import numpy as np

import fastnn as fnn
from tests.faults import contents
from tests.user_code import UserLinear, UserReLU

DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(fnn.fit_many).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and name != "verbose"
}


def small(seed=0, dtype="float64", **settings):
    layers = fnn.Linear(6, 5), fnn.Tanh(), fnn.Linear(5, 3)
    return fnn.Sequential(*layers, dtype=dtype, seed=seed, **settings)


def alone(model, X, y, settings):
    """``fit`` with what fit_many was given for this model; the optimizer, the history, and what was raised."""
    settings = {**DEFAULTS, **settings}
    rows, validation_rows = settings.pop("rows"), settings.pop("validation_rows")
    if validation_rows is not None:
        settings["validation_data"] = X[validation_rows], y[validation_rows]
    if rows is not None:
        X, y = X[rows], y[rows]
        if settings["sample_weight"] is not None:
            settings["sample_weight"] = settings["sample_weight"][rows]
    optimizer = settings["optimizer"]
    settings["optimizer"] = fnn.nn.optimizers.resolve(optimizer)
    error = None
    try:
        model.fit(X, y, verbose=0, **settings)
    except Exception as caught:
        error = caught
    return settings["optimizer"], error


def as_lists(settings):
    """Arguments of fit_many from those of each fit."""
    names = sorted({name for one in settings for name in one})
    return {name: [one.get(name, DEFAULTS[name]) for one in settings] for name in names}


def assert_as_alone(models, X, y, settings, many=None):
    """Train all at once and each alone, and compare all that training changes; return the histories.

    ``settings`` are those of each fit; ``many`` are the arguments of fit_many, where they are not lists of those.
    """
    twins = copy.deepcopy([*zip(models, settings, strict=True)])
    many = as_lists(settings) if many is None else many
    histories = fnn.fit_many(models, X, y, **{"verbose": 0, **many})
    for i, (model, (twin, own), history) in enumerate(zip(models, twins, histories, strict=True)):
        data = [part[i] if isinstance(part, list) else part for part in (X, y)]
        optimizer, error = alone(twin, *data, own)
        assert contents(model, history.optimizer) == contents(twin, optimizer), i
        assert type(model.loss) is type(twin.loss)
        assert (type(history.error), str(history.error)) == (type(error), str(error))
        if error is None:
            assert history is model.history
            assert (history.stopped, history.interrupted) == (twin.history.stopped, twin.history.interrupted)
    return histories


def labelled(rng, n=60):
    X = rng.normal(size=(n, 6))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int) + (X[:, 2] > 1)


def folds(n, k):
    return [(np.flatnonzero(np.arange(n) % k != i), np.flatnonzero(np.arange(n) % k == i)) for i in range(k)]


def elu():
    return fnn.Activation(lambda x: x if x > 0 else np.exp(x) - 1, lambda x, y: 1.0 if x > 0 else y + 1, name="elu")


class ByStep:
    """A learning rate for each update."""

    per = "step"

    def __call__(self, step):
        return 0.1 / (1 + step / 4)


ARCHITECTURES = {
    "linear": lambda: [fnn.Linear(6, 3)],
    "tanh": lambda: [fnn.Linear(6, 5), fnn.Tanh(), fnn.Linear(5, 3)],
    "deep": lambda: [fnn.Linear(6, 9), fnn.ReLU(), fnn.Linear(9, 4, bias=False), fnn.GELU(), fnn.Linear(4, 3)],
    "dropout": lambda: [fnn.Dropout(0.1), fnn.Linear(6, 20), fnn.LeakyReLU(0.1), fnn.Dropout(0.5), fnn.Linear(20, 3)],
    "norm": lambda: [fnn.LayerNorm(6), fnn.Linear(6, 8), fnn.LayerNorm(8), fnn.Sigmoid(), fnn.Linear(8, 3)],
    "batch norm": lambda: [fnn.BatchNorm(6), fnn.Linear(6, 20), fnn.BatchNorm(20), fnn.ReLU(), fnn.Linear(20, 3)],
    "residual": lambda: [
        fnn.Standardize(6, 0.1, [1, 2, 3, 0.5, 1, 1]),
        fnn.Residual(fnn.LayerNorm(6), fnn.Linear(6, 7), fnn.ReLU(), fnn.Residual(fnn.Tanh()), fnn.Linear(7, 6)),
        fnn.ReLU(),
        fnn.Residual(fnn.Dropout(0.1), fnn.Linear(6, 6), fnn.LeakyReLU(0.1)),
        fnn.Linear(6, 3),
    ],
    "frozen": lambda: [
        fnn.Linear(6, 7, trainable=False),
        fnn.LayerNorm(7, lr_scale=0.5),
        fnn.Tanh(),
        fnn.Linear(7, 6, lr_scale=2),
        fnn.LayerNorm(6, trainable=False),
        fnn.Linear(6, 3),
    ],
    "own": lambda: [fnn.Linear(6, 5), elu(), fnn.Linear(5, 3)],
    "user": lambda: [fnn.Linear(6, 5), UserReLU(), fnn.Dropout(0.2), fnn.Linear(5, 3)],
    "parameters": lambda: [UserLinear(np.full((6, 4), 0.1), np.zeros(4)), fnn.Tanh(), fnn.Linear(4, 3)],
}
OPTIMIZERS = {
    "sgd": lambda: fnn.SGD(lr=0.1),
    "momentum": lambda: fnn.SGD(lr=0.05, momentum=0.9),
    "nesterov": lambda: fnn.SGD(lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda: fnn.Adam(lr=0.01),
    "adamw": lambda: fnn.AdamW(lr=0.01, weight_decay=0.1),
    "rmsprop": lambda: fnn.RMSprop(lr=0.005, momentum=0.5),
    "rule": lambda: fnn.UpdateRule(lambda w, g, lr, t: w - lr * g / t, lr=0.1, name="slow"),
    "function": lambda: fnn.SGD(lr=lambda epoch: 0.1 / (epoch + 1)),
    "by step": lambda: fnn.SGD(lr=ByStep(), momentum=0.5),
    "schedule": lambda: fnn.Adam(lr=fnn.schedules.linear_warmup(fnn.schedules.cosine_decay(0.05, 20), 3)),
}


def networks(*names, dtypes=("float32", "float64")):
    pairs = [(name, dtype) for name in names for dtype in dtypes]
    return [fnn.Sequential(*ARCHITECTURES[name](), dtype=dtype, seed=i) for i, (name, dtype) in enumerate(pairs)]
