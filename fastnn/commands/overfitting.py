"""Why a penalty on the weights: too wide a network on few samples, trained for several penalties.

The digits; most are held out, and of the few to train on a fifth get a random label. Without a penalty the network
learns those by heart too: the training loss falls to zero while the loss on new samples climbs.
"""

import argparse
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import fastnn as fnn

from . import arguments, pictures, samples

EXAMPLES = ("", "--samples 300 --wrong 0.4 --hidden 256,256", "--l2 0,1e-3,1e-2 --epochs 1000")


class Run(NamedTuple):
    """The losses of one penalty after some of the epochs, the penalty left out, and what came of it in the end."""

    l2: float
    epochs: list[int]
    train: list[float]
    test: list[float]
    accuracy: float
    sum_of_squares: float


def build_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--samples", type=arguments.positive_int, default=100, help="how many to train on [%(default)s]")
    add("--hidden", type=arguments.widths, default="512", metavar="N,N", help="widths of hidden layers [%(default)s]")
    add(
        "--l2", type=arguments.penalties, default="0,1e-4,3e-4,1e-3,3e-3,1e-2,3e-2", metavar="L,L", help="[%(default)s]"
    )
    add("--wrong", type=arguments.share, default=0.2, help="share of random labels [%(default)s]")
    add("--epochs", type=arguments.positive_int, default=400, help="[%(default)s]")
    add("--seed", type=arguments.seed, default=0, help="[%(default)s]")
    add("--backend", choices=("numba", "numpy"), default="numba", help="[%(default)s]")
    add("--out", type=Path, default=Path("out"), help="folder for the picture [%(default)s]")
    return parser


def main(args: argparse.Namespace) -> None:
    plt = pictures.import_pyplot()
    split = make_split(args)
    arguments.make_folder(args.out)
    widths = "-".join(map(str, [64, *args.hidden, 10]))
    print(f"{widths} on {args.samples} digits, {args.wrong:.0%} of them with a random label, {args.epochs} epochs")
    print(f"{'l2':>8} {'training loss':>14} {'test loss':>10} {'accuracy':>9} {'sum of w²':>10}")
    with fnn.use_backend(args.backend):
        runs = [train(l2, args, split) for l2 in sorted(set(args.l2))]
    path = args.out / "overfitting.png"
    draw(plt, runs, path)
    print(f"picture: {path}")


def make_split(args: argparse.Namespace) -> samples.Split:
    """Few samples, some of them mislabelled, and all others."""
    x, y = fnn.datasets.load_digits()
    if args.samples >= len(x):
        raise ValueError(f"--samples is {args.samples}, but there are {len(x)} digits and some must be held out")
    x, y, x_test, y_test = samples.hold_out(x, y, len(x) - args.samples, args.seed)
    wrong = round(args.wrong * len(y))
    y[:wrong] = np.random.default_rng(args.seed).integers(0, 10, wrong)
    return x, y, x_test, y_test


def train(l2: float, args: argparse.Namespace, split: samples.Split) -> Run:
    x, y, x_test, y_test = split
    model = samples.build([64, *args.hidden, 10], "float32", args.seed)
    optimizer = fnn.SGD(lr=0.05, momentum=0.9, nesterov=True)
    epochs = sorted(set(np.geomspace(1, args.epochs, 40).round().astype(int).tolist()))
    found = []
    for more in np.diff(epochs, prepend=0).tolist():
        model.fit(x, y, optimizer=optimizer, l2=l2, epochs=more, batch_size=20, verbose=0)
        found.append((model.evaluate(x, y), model.evaluate(x_test, y_test)))
    train_losses, test_losses = ([result["loss"] for result in results] for results in zip(*found, strict=True))
    weights = [layer.weight for layer in model.layers if isinstance(layer, fnn.Linear)]
    sum_of_squares = sum(float(np.square(weight).sum()) for weight in weights)
    run = Run(l2, epochs, train_losses, test_losses, found[-1][1]["accuracy"], sum_of_squares)
    print(f"{l2:8g} {run.train[-1]:14.4f} {run.test[-1]:10.4f} {run.accuracy:9.2%} {run.sum_of_squares:10.1f}")
    return run


def draw(plt: ModuleType, runs: list[Run], path: Path) -> None:
    """The losses over the epochs and at the end of each run, and the size of the weights."""
    figure, axes = plt.subplot_mosaic([["time", "time"], ["end", "size"]], figsize=(pictures.WIDTH, 7))
    best = min(range(len(runs)), key=lambda place: runs[place].test[-1])
    marked = {0: pictures.ORANGE, best: pictures.BLUE}
    draw_epochs(plt, axes["time"], {color: runs[place] for place, color in marked.items()})
    places = np.arange(len(runs))
    at_end, size = axes["end"], axes["size"]
    test, train = ([losses[-1] for losses in column] for column in zip(*((r.test, r.train) for r in runs), strict=True))
    at_end.fill_between(places, train, test, color=pictures.GREY, alpha=0.12, linewidth=0)
    at_end.plot(places, test, "o-", color=pictures.GREY, label="test")
    at_end.plot(places, train, "o--", color=pictures.GREY, label="training")
    epochs = runs[0].epochs[-1]
    at_end.set(title=f"After {epochs} epoch{'s' * (epochs > 1)}", ylabel="cross-entropy, nats")
    pictures.from_zero(at_end)
    at_end.legend()

    sizes = [run.sum_of_squares for run in runs]
    size.plot(places, sizes, "o-", color=pictures.GREY)
    size.set(title="Size of the weights", ylabel="sum of squares, Σ w²", yscale="log")
    pictures.plain_logarithms(plt, size.yaxis)
    for panel, values in ((at_end, test), (size, sizes)):
        for place, color in marked.items():
            panel.plot(place, values[place], "o", color=color, markersize=8)
        panel.set_xlabel("penalty λ")
        panel.set_xticks(places, [f"{run.l2:g}" for run in runs], rotation=30)
    figure.savefig(path)


def draw_epochs(plt: ModuleType, axes: Any, runs: dict[str, Run]) -> None:
    """The losses of these runs over the epochs, each in its colour."""
    for color, run in runs.items():
        for losses, line, name in ((run.test, "-", "test"), (run.train, "--", "training")):
            label = f"{name}, λ = {run.l2:g}"
            axes.plot(run.epochs, losses, line, color=color, label=label, marker=pictures.marker(losses))
    axes.set(title="Over the epochs", ylabel="cross-entropy, nats")
    pictures.from_zero(axes)
    pictures.whole_epochs(plt, axes)
    if max(run.epochs[-1] for run in runs.values()) > 1:
        axes.set_xscale("log")
        pictures.plain_logarithms(plt, axes.xaxis)
    axes.legend()
