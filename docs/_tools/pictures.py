"""The pictures of the pages, drawn when the documentation is built, in one style."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
import numpy as np

import fastnn as fnn

RESULTS = Path(__file__).parents[1] / "results"

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


def draw_for_readme() -> None:
    """Draw anew the picture that README.md shows, which is kept in the repository: `python docs/_tools/pictures.py`."""
    size, panels, draw = PICTURES["training"]
    figure, axes = plt.subplots(1, panels, figsize=size)
    figure.patch.set_facecolor("white")
    draw(axes)
    figure.savefig(RESULTS.with_name("training.svg"), metadata={"Date": None})


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
        axes.text(
            x, y, text, ha="center", va="center", bbox={"boxstyle": "round", "fc": "white", "ec": GREY}, fontsize=13
        )
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


@picture(size=(8, 2.4))
def fused(axes: Any) -> None:
    """How often the (m, k) scores pass through memory, as the formulas stand and in one kernel."""
    formulas = ["X W", "+ b", "max", "s −\nmax", "exp", "Σ", "/ Σ", "− Y", "/ m", "Xᵀ G", "Σ G"]
    kernel = ["X W\n+ b", "e^s\nand Σ", "(P − Y)\n/ m"]
    for y, (names, color, title) in enumerate(((kernel, GREEN, "fused"), (formulas, BLUE, "as it stands"))):
        for i, name in enumerate(names):
            axes.barh(y, 0.94, left=i, color=color, height=0.6)
            axes.text(i + 0.47, y, name, ha="center", va="center", fontsize=9, color="white")
        axes.text(-0.2, y, title, ha="right", va="center")
    axes.set(yticks=[], xticks=range(0, 12), xlabel="passes over the scores", xlim=(-1.9, 11.1))
    axes.grid(False)
    axes.spines["left"].set_visible(False)


@picture(size=(8, 4.2))
def training(axes: Any) -> None:
    """How many times as long the peers take for a step, from the table that scripts/compare.py wrote."""
    names, rows = _table("compare_training", "Training on 1 core")
    plain = re.compile(r"[\d-]+, \d+")  # layers, and the batch: no other activation or loss
    rows = [row for row in rows if row["training"] == "float32" and plain.fullmatch(row["network, batch"])]
    peers = [name for name in names if name in ("JAX", "torch.compile", "PyTorch", "NumPy", "scikit-learn")]
    colors = dict(zip(peers, (ORANGE, GREEN, "#56B4E9", RED, GREY), strict=False))
    places = np.arange(len(rows))[::-1]
    for i, peer in enumerate(peers):
        ratios = [_number(row[peer]) / _number(row["fastnn"]) for row in rows]
        axes.plot(ratios, places, "osD^v"[i], color=colors[peer], markersize=8, label=peer)
    axes.axvline(1, color=BLUE, linewidth=3, label="fastnn")
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    axes.set_yticks(places, [row["network, batch"] for row in rows])
    axes.set_ylabel("layers, batch size")
    axes.set_xlabel("time of a training step, fastnn = 1 (float32, one core)")
    axes.legend(
        frameon=False,
        loc="lower center",
        bbox_to_anchor=(0.45, 1),
        ncols=6,
        fontsize=9,
        handletextpad=0.3,
        columnspacing=1,
    )


@picture()
def roofline(axes: Any) -> None:
    """The attainable speed under a peak and a bandwidth."""
    intensity = np.geomspace(0.05, 1000, 200)
    peak, bandwidth = 230.0, 12.0
    axes.loglog(intensity, np.minimum(peak, intensity * bandwidth), color=BLUE)
    axes.annotate("peak of the arithmetic", (60, peak * 1.12), color=BLUE)
    axes.annotate("bandwidth of the memory", (0.07, 2.2), color=BLUE, rotation=38)
    for at, text in ((0.08, "updates"), (0.3, "softmax"), (30, "products of a batch")):
        axes.plot(at, min(peak, at * bandwidth), "o", color=ORANGE)
        axes.annotate(text, (at, min(peak, at * bandwidth)), (at * 1.3, min(peak, at * bandwidth) * 0.5))
    axes.set_ylim(0.4, 500)
    _label(axes, "operations for each byte", "GFLOP/s, for example", legend=False)


@picture(size=(8, 4.4))
def rooms(axes: Any) -> None:
    """The rooms of the package."""
    axes.set_axis_off()
    axes.set(xlim=(0, 10), ylim=(0, 7.2))
    places = {
        "model, ensemble": (3.2, 6.6), "sklearn/": (7.6, 6.6), "training/": (4.6, 5.4), "nn/": (4.6, 4.2),
        "ops/": (4.6, 3.0), "backend": (4.6, 1.9), "kernels/": (2.4, 0.6), "reference/": (7.0, 0.6),
    }  # fmt: skip
    for name, (x, y) in places.items():
        color = {"kernels/": GREEN, "reference/": ORANGE}.get(name, BLUE)
        box = {"boxstyle": "round,pad=0.5", "fc": "white", "ec": color, "lw": 1.8}
        axes.text(x, y, name, ha="center", va="center", bbox=box)
    for above, below in (
        ("model, ensemble", "training/"), ("sklearn/", "training/"), ("training/", "nn/"), ("nn/", "ops/"),
        ("ops/", "backend"), ("backend", "kernels/"), ("backend", "reference/"),
    ):  # fmt: skip
        (x0, y0), (x1, y1) = places[above], places[below]
        axes.annotate("", (x1, y1 + 0.35), (x0, y0 - 0.35), arrowprops={"arrowstyle": "->", "color": GREY, "lw": 1.5})
    axes.text(2.4, -0.05, "Numba", ha="center", color=GREEN, fontsize=11)
    axes.text(7.0, -0.05, "NumPy alone", ha="center", color=ORANGE, fontsize=11)


def _table(name: str, title: str) -> tuple[list[str], list[dict[str, str]]]:
    """The header and the rows of a table that a script wrote."""
    part = (RESULTS / f"{name}.md").read_text(encoding="utf-8").split(f"\n{title}")[1]
    lines = [line.strip("| ").split(" | ") for line in part.split("\n\n")[1].splitlines()]
    return lines[0], [dict(zip(lines[0], row, strict=True)) for row in lines[2:]]


def _number(cell: str) -> float:
    return float(cell.split(" ")[0].strip("*").replace(",", ""))


if __name__ == "__main__":
    draw_for_readme()
