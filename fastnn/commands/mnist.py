"""Train three networks on MNIST, or on data in its format, and print their errors on the test images.

One core, SGD with Nesterov momentum 0.9, ReLU, and a learning rate that falls along half a cosine.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastnn as fnn

from . import arguments, measure, samples

LEAST_LR = 1e-5
EXAMPLES = ("FOLDER", "FOLDER --seeds 1", "FOLDER --quick")


class Setting(NamedTuple):
    """The hidden layers of a network and how to train it."""

    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    l2: float = 0.0

    def __str__(self) -> str:
        penalty = f", λ {self.l2:.0e}".replace("e-0", "e-") if self.l2 else ""
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        return f"{epochs}, batch {self.batch_size}, lr {self.lr:g}{penalty}"


SETTINGS = (
    Setting((), epochs=10, batch_size=128, lr=0.1),
    Setting((128,), epochs=20, batch_size=64, lr=0.05, l2=1e-5),
    Setting((500, 300), epochs=20, batch_size=64, lr=0.05, l2=2e-5),
)


def build_parser() -> arguments.Parser:
    parser = arguments.Parser(__doc__, EXAMPLES)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the four IDX files, plain or gzipped")
    parser.add_argument("--seeds", type=arguments.positive_int, default=3, help="runs of each network [%(default)s]")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="one seed and one epoch each, to see that it works")
    what.add_argument("--docs", action="store_true", help="keep the table in docs/results")
    return parser


def main(args: argparse.Namespace) -> None:
    table = measure.in_own_process(1, train_all, args)
    text = f"Measured on {measure.machine()}; one core, float32.\n\n{table}"
    print(text)
    if args.docs:
        measure.put_in_docs("mnist", text)


def train_all(args: argparse.Namespace) -> str:
    """A table with a row for each network."""
    (x, y), (x_test, y_test) = fnn.datasets.load_idx(args.folder)
    split = x, y, x_test, y_test
    classes = samples.count_classes(y, y_test)
    fnn.warmup(("float32",))
    rows = []
    for setting in SETTINGS:
        if args.quick:
            setting = setting._replace(epochs=1)
        widths = [x.shape[1], *setting.hidden, classes]
        runs = [train(widths, setting, split, seed) for seed in range(1 if args.quick else args.seeds)]
        errors, seconds = np.array(runs).T
        each = ", ".join(f"{error:.2%}" for error in errors)
        rows.append(("-".join(map(str, widths)), str(setting), f"{errors.mean():.2%}", each, f"{seconds.mean():.1f}"))
    return measure.markdown(("network", "settings", "test error, mean", "each seed", "seconds a seed"), rows)


def train(widths: list[int], setting: Setting, split: samples.Split, seed: int) -> tuple[float, float]:
    """The share of test images that a network gets wrong, and the seconds that its training took."""
    x, y, x_test, y_test = split
    lr = fnn.schedules.cosine_decay(setting.lr + LEAST_LR, setting.epochs, final=LEAST_LR)
    model = samples.build(widths, "float32", seed)
    start = time.perf_counter()
    model.fit(
        x,
        y,
        optimizer=fnn.SGD(lr, momentum=0.9, nesterov=True),
        l2=setting.l2,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        verbose=0,
    )
    seconds = time.perf_counter() - start
    return float(np.mean(model.predict(x_test) != y_test)), seconds
