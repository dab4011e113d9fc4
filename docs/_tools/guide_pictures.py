"""The pictures of the guide, see :mod:`pictures`."""

from typing import Any

import numpy as np
from pictures import BLUE, GREEN, GREY, ORANGE, RED, _label, picture

import fastnn as fnn


@picture(panels=2, size=(8, 3.4))
def remedies(axes: Any) -> None:
    """Losses of a wide network on few samples, some mislabelled: of the plain one, and of it with each remedy."""
    X, y = fnn.datasets.load_digits()
    rng = np.random.default_rng(0)
    rows, wrong = rng.permutation(len(X))[:300], rng.permutation(300)[:75]
    labels, rest = y[rows].copy(), np.setdiff1d(np.arange(len(X)), rows)
    labels[wrong] = rng.integers(0, 10, 75)
    data = {"validation_data": (X[rest], y[rest]), "optimizer": fnn.Adam(lr=0.003), "epochs": 100, "verbose": 0}

    def trained(*between: Any, **how: Any) -> Any:
        model = fnn.Sequential(fnn.Linear(64, 256), fnn.ReLU(), *between, fnn.Linear(256, 10), seed=0)
        return model.fit(X[rows], labels, **{**data, **how})

    plain = trained()
    best = int(np.argmin(plain["val_loss"]))
    axes[0].plot(plain["loss"], color=BLUE, label="training")
    axes[0].plot(plain["val_loss"], color=ORANGE, label="validation")
    axes[0].plot(best, plain["val_loss"][best], "o", color=ORANGE, label="where early stopping stops")
    axes[0].set(title="without a remedy", ylim=(0, 2.6))
    _label(axes[0], "epoch", "loss")
    found = {
        "none": plain,
        "l2 = 0.005": trained(l2=5e-3),
        "dropout of a half": trained(fnn.Dropout(0.5)),
        "smoothing by 0.5": trained(loss=fnn.CrossEntropy(label_smoothing=0.5)),
    }
    for (name, history), color in zip(found.items(), (ORANGE, BLUE, GREEN, RED), strict=True):
        axes[1].plot(history["val_accuracy"], color=color, label=name)
    axes[1].set(title="with each remedy", ylim=(0.5, 1))
    _label(axes[1], "epoch", "accuracy in validation")


@picture(panels=2, size=(8, 3.4))
def schedules(axes: Any) -> None:
    """The rates of each schedule, for a peak of 0.1 over 40 epochs."""
    make = fnn.schedules
    kinds = (
        {"cosine": make.cosine(0.1, 40), "linear": make.linear(0.1, 40), "step": make.step(0.1, 0.5, 10)},
        {
            "cosine, warmup=5": make.cosine(0.1, 40, warmup=5),
            "one_cycle": make.one_cycle(0.1, 40),
            "exponential": make.exponential(0.1, 0.93),
        },
    )
    for panel, named in zip(axes, kinds, strict=True):
        for (name, schedule), color in zip(named.items(), (BLUE, ORANGE, GREEN), strict=True):
            panel.plot([schedule(epoch) for epoch in range(41)], color=color, label=name, drawstyle="steps-post")
        panel.set_ylim(0, 0.115)
        _label(panel, "epoch", "learning rate" if panel is axes[0] else "")
    axes[1].set_ylim(0, 0.155)


@picture(panels=2, size=(8, 3.4))
def spread(axes: Any) -> None:
    """An ensemble is of one mind where there are data, and of many where there are none."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.uniform(-3, -0.5, 80), rng.uniform(1, 3, 80)])[:, None]
    y = np.sin(2 * X[:, 0]) + rng.normal(0, 0.1, 160)
    models = [
        fnn.Sequential(
            fnn.Linear(1, 32, init="glorot"), fnn.Tanh(), fnn.Linear(32, 32), fnn.Tanh(), fnn.Linear(32, 1), seed=i
        )
        for i in range(8)
    ]
    fnn.fit_many(models, X, y, loss="squared_error", optimizer=fnn.Adam(lr=0.01), epochs=200, verbose=0)
    ensemble, grid = fnn.Ensemble(models), np.linspace(-4, 4, 200)[:, None]
    middle, std = ensemble.predict(grid), ensemble.std(grid)[:, 0]
    for panel in axes:
        panel.plot(X[:, 0], y, ".", color=GREY, alpha=0.6, label="data")
        panel.set(ylim=(-2.5, 2.5))
    for i, each in enumerate(ensemble.outputs(grid, each=True)):
        axes[0].plot(grid, each, color=BLUE, linewidth=1, alpha=0.7, label=None if i else "each member")
    axes[1].fill_between(grid[:, 0], middle - 2 * std, middle + 2 * std, color=ORANGE, alpha=0.3, label="± 2 std")
    axes[1].plot(grid, middle, color=BLUE, label="mean")
    _label(axes[0], "x", "y")
    _label(axes[1], "x", "")
