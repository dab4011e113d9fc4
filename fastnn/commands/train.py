"""Train a classifier, show its learning curve, save it, and compare the run with its NumPy twin.

With no argument: 64-128-10 on the handwritten digits that come with fastnn, a fifth of them held out.
"""

import argparse
import contextlib
import time
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np

import fastnn as fnn

from . import arguments, pictures, samples

EXAMPLES = (
    "",
    "--data table.csv --label species --hidden 64,32 --optimizer adam",
    "--data arrays.npz --epochs 100 --batch-size 128 --out model",
    "--data folder-of-idx-files --hidden 500,300",
)
TWIN: dict[str, Literal["numba", "numpy"]] = {"numba": "numpy", "numpy": "numba"}


def build_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__, EXAMPLES)
    samples.add_data_options(parser)
    add = parser.add_argument
    add("--hidden", type=arguments.widths, default="128", metavar="N,N", help="widths of hidden layers [%(default)s]")
    add("--epochs", type=arguments.positive_int, default=30, help="[%(default)s]")
    add("--batch-size", type=arguments.positive_int, default=32, help="[%(default)s]")
    add("--optimizer", choices=samples.OPTIMIZERS, default="nesterov", help="[%(default)s]")
    add("--lr", type=arguments.positive, help="learning rate [0.1 for sgd, 0.001 for adam, else 0.05]")
    add("--l2", type=arguments.non_negative, default=1e-4, help="penalty: loss + l2 times the sum of w² [%(default)s]")
    add("--dtype", choices=("float32", "float64"), default="float32", help="[%(default)s]")
    add("--seed", type=arguments.seed, default=0, help="of the split, the weights and the order [%(default)s]")
    add("--backend", choices=TWIN, default="numba", help="[%(default)s]")
    add("--out", type=Path, default=Path("out"), help="folder for the picture and the model [%(default)s]")
    return parser


def main(args: argparse.Namespace) -> None:
    plt = pictures.import_pyplot()
    split, names = samples.load(args)
    x, y, x_test, y_test = split
    widths = [x.shape[1], *args.hidden, samples.count_classes(y, y_test)]
    arguments.make_folder(args.out)
    print(f"{len(x)} samples to train on, {len(x_test)} held out, {widths[0]} features, {widths[-1]} classes")
    if names:
        print("classes: " + ", ".join(f"{i} is {name}" for i, name in enumerate(names)))

    with fnn.use_backend(args.backend):
        model = samples.build(widths, args.dtype, args.seed)
        print(model.summary())
        try:
            seconds = train(model, args, split, verbose=1)
        except fnn.DivergenceError:
            keep(plt, model, args.out)
            raise
        result = model.evaluate(x_test, y_test)
        print(f"held out: loss {result['loss']:.4f}, accuracy {result['accuracy']:.2%}")
        save(model, args.out / "model.npz", x_test)
        draw(plt, model, args.out / "learning_curve.png")
    compare(widths, model.history, seconds, args, split)


def train(model: fnn.Sequential, args: argparse.Namespace, split: samples.Split, verbose: int) -> float:
    """Train the model and return the seconds it took."""
    x, y, x_test, y_test = split
    default_lr, optimizer = samples.OPTIMIZERS[args.optimizer]
    settings = {"l2": args.l2, "batch_size": args.batch_size}
    # The first call of a process loads or compiles the kernels, which is not what is to be timed.
    first, other = (x[:1], y[:1]), samples.build([x.shape[1], 2, samples.count_classes(y, y_test)], args.dtype, 0)
    with contextlib.suppress(fnn.DivergenceError):
        other.fit(*first, epochs=1, validation_data=first, verbose=0, **settings)
    start = time.perf_counter()
    model.fit(
        x,
        y,
        optimizer=optimizer(args.lr or default_lr),
        epochs=args.epochs,
        validation_data=(x_test, y_test),
        verbose=verbose,
        **settings,
    )
    return time.perf_counter() - start


def keep(plt: ModuleType, model: fnn.Sequential, folder: Path) -> None:
    """What training that diverged leaves: the last finite weights, and the epochs before."""
    model.save(folder / "model.npz")
    print(f"model: {folder / 'model.npz'}, at its last finite weights")
    if model.history:
        draw(plt, model, folder / "learning_curve.png")


def draw(plt: ModuleType, model: fnn.Sequential, path: Path) -> None:
    """The loss and the accuracy over the epochs."""
    history = model.history
    epochs = np.arange(1, len(history["loss"]) + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(pictures.WIDTH, 3.6))
    curves = (
        ("loss", "training, penalty included", pictures.BLUE),
        ("val_loss", "held out", pictures.ORANGE),
    )
    for name, label, color in curves:
        left.plot(epochs, history[name], color=color, label=label, marker=pictures.marker(epochs))
    left.set(title="Loss", ylabel="cross-entropy, nats", yscale="log")
    pictures.plain_logarithms(plt, left.yaxis)
    left.legend()
    accuracy = 100 * np.array(history["val_accuracy"])
    right.plot(epochs, accuracy, color=pictures.ORANGE, marker=pictures.marker(epochs))
    right.set(title=f"Held-out accuracy: {accuracy[-1]:.2f} % at the end", ylabel="right, %")
    for axes in (left, right):
        pictures.whole_epochs(plt, axes)
    figure.savefig(path)
    print(f"learning curve: {path}")


def save(model: fnn.Sequential, path: Path, x_test: samples.Array) -> None:
    """Save the model, load it again, and compare the predictions."""
    model.save(path)
    same = np.array_equal(fnn.load(path).predict_proba(x_test), model.predict_proba(x_test))
    print(f"model: {path}, loaded again it predicts " + ("the same to the last bit" if same else "SOMETHING ELSE"))
    if not same:
        raise SystemExit(1)


def compare(
    widths: list[int], history: dict[str, list[float]], seconds: float, args: argparse.Namespace, split: samples.Split
) -> None:
    """Train the same network on the other backend and compare the loss curves and the times."""
    other = TWIN[args.backend]
    with fnn.use_backend(other):
        twin = samples.build(widths, args.dtype, args.seed)
        twin_seconds = train(twin, args, split, verbose=0)
    # Ctrl-C may have ended either run early.
    curves = np.array(list(zip(history["loss"], twin.history["loss"], strict=False)))
    difference = np.abs(curves[:, 0] - curves[:, 1]).max()
    print(f"the same run on the {other} backend: the loss curves differ by at most {difference:.1e}")
    ratio = f"{other} / {args.backend} = {twin_seconds / seconds:.2f}"
    print(f"{args.backend} {seconds:.2f} s, {other} {twin_seconds:.2f} s, {ratio}")
