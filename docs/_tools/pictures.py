"""The pictures of the pages, drawn when the documentation is built, in one style."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
import numpy as np

import fastnn as fnn

# Okabe and Ito's colours, which the colour-blind tell apart.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
plt.rcParams.update(
    {
        "font.size": 12,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "lines.linewidth": 2,
        "figure.constrained_layout.use": True,
        "svg.hashsalt": "fastnn",
    }
)
Draw = Callable[[Any], None]
PICTURES: dict[str, tuple[tuple[float, float], int, Draw]] = {}


def picture(panels: int = 1, size: tuple[float, float] = (7, 3.4)) -> Callable[[Draw], Draw]:
    """Register a function that draws on one panel, or on several side by side."""

    def register(draw: Draw) -> Draw:
        PICTURES[draw.__name__] = size, panels, draw
        return draw

    return register


def draw_all(folder: Path) -> None:
    """Draw every picture into a folder."""
    folder.mkdir(exist_ok=True)
    for name, (size, panels, draw) in PICTURES.items():
        figure, axes = plt.subplots(1, panels, figsize=size)
        draw(axes)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


def _label(axes: Any, x: str, y: str, legend: bool = True) -> None:
    axes.set(xlabel=x, ylabel=y)
    if legend:
        axes.legend(frameon=False)


@picture(panels=5, size=(8, 2.2))
def linear_layer(axes: Any) -> None:
    """What the weights of a classifier of digits look like, an image for each class."""
    X, y = fnn.datasets.load_digits()
    model = fnn.Sequential(fnn.Linear(64, 10), seed=0)
    model.fit(X, y, l2=1e-3, epochs=20, verbose=0)
    for digit, panel in enumerate(axes):
        panel.imshow(model.layers[0].weight[:, digit].reshape(8, 8), cmap="PuOr", vmin=-0.5, vmax=0.5)
        panel.set(title=f"weights of {digit}", xticks=[], yticks=[])
        panel.title.set_fontsize(10)
        panel.grid(False)


@picture()
def squared_error(axes: Any) -> None:
    """The parabola and its slope."""
    r = np.linspace(-3, 3, 200)
    axes.plot(r, r**2, color=BLUE, label="squared error")
    axes.plot(r, 2 * r, color=ORANGE, label="its derivative")
    _label(axes, "prediction less target", "loss, slope")


@picture(size=(7.5, 2.6))
def graph(axes: Any) -> None:
    """The computation graph of a linear layer and a loss."""
    axes.set_axis_off()
    axes.set(xlim=(-0.5, 6.7), ylim=(-1.1, 1.25))
    nodes = {"X": (0, 0.8), "W": (0, -0.6), "S = X W + b": (2.6, 0), "L(S)": (5.6, 0)}
    for text, (x, y) in nodes.items():
        axes.text(x, y, text, ha="center", va="center", bbox={"boxstyle": "round", "fc": "white", "ec": GREY}, fontsize=13)
    for (x0, y0), (x1, y1), forward, backward in (
        ((0.3, 0.75), (1.75, 0.15), "", "G Wᵀ"),
        ((0.3, -0.5), (1.75, -0.15), "", "Xᵀ G"),
        ((3.5, 0), (5.1, 0), "S", "G = ∂L/∂S"),
    ):
        arrow = {"arrowstyle": "->", "lw": 1.8}
        axes.annotate("", (x1, y1 + 0.06), (x0, y0 + 0.06), arrowprops={**arrow, "color": BLUE})
        axes.annotate("", (x0, y0 - 0.1), (x1, y1 - 0.1), arrowprops={**arrow, "color": RED})
        axes.text((x0 + x1) / 2, (y0 + y1) / 2 + 0.2, forward, color=BLUE, ha="center")
        axes.text((x0 + x1) / 2, (y0 + y1) / 2 - 0.42, backward, color=RED, ha="center")
    axes.text(5.6, -0.9, "forward", color=BLUE, ha="center")
    axes.text(4.5, -0.9, "backward", color=RED, ha="center")


@picture(panels=3, size=(8.5, 3))
def descent(axes: Any) -> None:
    """Steps down w² for three learning rates."""
    w = np.linspace(-1.3, 1.3, 100)
    for panel, lr in zip(axes, (0.1, 0.8, 1.05), strict=True):
        steps = [1.0]
        for _ in range(8):
            steps.append(steps[-1] * (1 - 2 * lr))
        panel.plot(w, w**2, color=GREY, linewidth=1)
        panel.plot(steps, np.square(steps), "o-", color=BLUE, markersize=5)
        panel.set(title=f"α = {lr}", xlabel="w", xlim=(-2.2, 2.2), ylim=(-0.1, 4))
    axes[0].set_ylabel("L(w) = w²")


@picture(panels=2, size=(8, 3.4))
def activations(axes: Any) -> None:
    """Activations and their derivatives."""
    x = np.linspace(-4, 4, 400)
    kinds = {"ReLU": fnn.ReLU(), "tanh": fnn.Tanh(), "sigmoid": fnn.Sigmoid(), "GELU": fnn.GELU()}
    for (name, layer), color in zip(kinds.items(), (BLUE, ORANGE, GREEN, RED), strict=True):
        y = layer.forward(x[:, None], training=True)[:, 0]
        axes[0].plot(x, y, color=color, label=name)
        axes[1].plot(x, layer.backward(np.ones((len(x), 1)))[:, 0], color=color, label=name)
    axes[0].set_ylim(-1.2, 3)
    _label(axes[0], "x", "f(x)")
    _label(axes[1], "x", "f'(x)", legend=False)


@picture(panels=2, size=(8, 3.4))
def regularisation(axes: Any) -> None:
    """Losses of a wide network on few samples."""
    X, y = fnn.datasets.load_digits()
    rng = np.random.default_rng(0)
    rows, wrong = rng.permutation(len(X))[:150], rng.permutation(150)[:20]
    labels = y[rows].copy()
    labels[wrong] = rng.integers(0, 10, 20)
    rest = np.setdiff1d(np.arange(len(X)), rows)
    for panel, l2 in zip(axes, (0.0, 3e-3), strict=True):
        model = fnn.Sequential(fnn.Linear(64, 256), fnn.ReLU(), fnn.Linear(256, 10), seed=0)
        history = model.fit(
            X[rows], labels, l2=l2, optimizer=fnn.Adam(), epochs=120, validation_data=(X[rest], y[rest]), verbose=0
        )
        panel.plot(history["loss"], color=BLUE, label="training, with penalty" if l2 else "training")
        panel.plot(history["val_loss"], color=ORANGE, label="validation")
        panel.set(title=f"λ = {l2:g}, accuracy {history['val_accuracy'][-1]:.2f}", ylim=(0, 2.5))
        _label(panel, "epoch", "loss" if l2 == 0 else "")


@picture()
def batches(axes: Any) -> None:
    """How far a batch's gradient is from that of all samples."""
    X, y = fnn.datasets.load_digits()
    model = fnn.Sequential(fnn.Linear(64, 10), seed=0)
    rng = np.random.default_rng(0)

    def gradient(rows: Any) -> Any:
        scores = model.forward(X[rows], training=True)
        model.backward(fnn.cross_entropy_backward(scores, y[rows]))
        return model.layers[0].weight_grad.copy()

    whole = gradient(np.arange(len(X)))
    sizes = 2 ** np.arange(0, 10)
    errors = []
    for m in sizes:
        found = [np.linalg.norm(gradient(rng.integers(0, len(X), m)) - whole) for _ in range(40)]
        errors.append(np.mean(found) / np.linalg.norm(whole))
    axes.loglog(sizes, errors, "o-", color=BLUE, label="measured on the digits")
    axes.loglog(sizes, errors[0] / np.sqrt(sizes), "--", color=GREY, label="1 / √m")
    _label(axes, "samples in a batch, m", "relative error of the gradient")


@picture(panels=2, size=(7, 3))
def softmax(axes: Any) -> None:
    """Scores and probabilities of three classes."""
    scores = np.array([1.0, 3.0, -0.5])
    axes[0].bar(range(3), scores, color=BLUE)
    axes[1].bar(range(3), fnn.softmax(scores[None])[0], color=ORANGE)
    axes[0].set_title("scores")
    axes[1].set_title("probabilities")
    axes[1].set_ylim(0, 1)
    for panel in axes:
        panel.set(xlabel="class", xticks=range(3))


@picture()
def cross_entropy(axes: Any) -> None:
    """The loss over the probability of the right class."""
    p = np.linspace(0.005, 1, 300)
    axes.plot(p, -np.log(p), color=BLUE)
    for k in (2, 10):
        axes.plot(1 / k, np.log(k), "o", color=ORANGE)
        axes.annotate(f"knows nothing of {k} classes", (1 / k, np.log(k)), (1 / k + 0.05, np.log(k) + 0.25))
    _label(axes, "probability of the right class", "loss, −log p (nats)", legend=False)


@picture(panels=3, size=(8.5, 2.8))
def gradient(axes: Any) -> None:
    """P, Y, and P - Y."""
    scores = np.random.default_rng(3).normal(size=(5, 4)) * 1.5
    p, y = fnn.softmax(scores), np.eye(4)[[0, 2, 1, 3, 2]]
    for panel, values, title in zip(axes, (p, y, p - y), ("P", "Y", "P − Y"), strict=True):
        panel.imshow(values, cmap="PuOr", vmin=-1, vmax=1)
        for (i, j), value in np.ndenumerate(values):
            panel.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=9)
        panel.set(title=title, xlabel="class", xticks=range(4), yticks=range(5))
        panel.grid(False)
    axes[0].set_ylabel("sample")


@picture()
def decay(axes: Any) -> None:
    """Weights without a gradient, for some factors."""
    steps = np.arange(200)
    for l2, color in zip((0.005, 0.02, 0.08), (BLUE, ORANGE, GREEN), strict=True):
        axes.plot(steps, (1 - 2 * 0.1 * l2) ** steps, color=color, label=f"λ = {l2:g}")
    axes.set_ylim(0, 1.02)
    _label(axes, "steps with α = 0.1", "share of the weight that is left")


@picture()
def overflow(axes: Any) -> None:
    """exp in float32."""
    s = np.linspace(-120, 120, 400)
    with np.errstate(all="ignore"):
        values = np.exp(s.astype(np.float32)).astype(float)
    values[~np.isfinite(values) | (values == 0)] = np.nan
    axes.semilogy(s, values, color=BLUE, label="e^s in float32")
    for edge, text in ((88.7, "infinite"), (-103.3, "zero")):
        axes.axvline(edge, color=RED, linestyle="--", linewidth=1)
        axes.text(edge + (3 if edge > 0 else -3), 1e-10, text, color=RED, ha="left" if edge > 0 else "right")
    axes.set_xlim(-150, 150)
    _label(axes, "s", "e^s")


@picture(size=(7, 2.6))
def fused(axes: Any) -> None:
    """How often the (m, k) scores pass through memory, as the formulas stand and in one kernel."""
    formulas = ["X W", "+ b", "max", "s − max", "exp", "Σ", "/ Σ", "− Y", "/ m", "Xᵀ G", "Σ G"]
    kernel = ["X W + b", "e^s and Σ", "(P − Y) / m"]
    for y, (names, color, title) in enumerate(((kernel, GREEN, "fused"), (formulas, BLUE, "as it stands"))):
        for i, name in enumerate(names):
            axes.barh(y, 0.9, left=i, color=color, alpha=0.8, height=0.6)
            axes.text(i + 0.45, y, name, ha="center", va="center", fontsize=9, color="white")
        axes.text(-0.2, y, title, ha="right", va="center")
    axes.set(yticks=[], xlabel="passes over the scores", xlim=(-2.2, 11.2))
    axes.grid(False)
    axes.spines["left"].set_visible(False)


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
        fnn.Sequential(fnn.Linear(1, 32, init="glorot"), fnn.Tanh(), fnn.Linear(32, 32), fnn.Tanh(), fnn.Linear(32, 1), seed=i)
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
