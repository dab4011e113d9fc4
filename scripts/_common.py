"""What the scripts share: arguments checked with one-line errors, data by its path, and plots."""

import argparse
import math
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn

Split = tuple[NDArray, NDArray, NDArray, NDArray]

BLUE, ORANGE, GREEN, GREY = "#1f77b4", "#e8710a", "#2a9d4e", "#6b6b6b"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and leave with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def positive_int(text: str) -> int:
    """A whole number from 1 up."""
    return _checked(text, int, lambda number: number >= 1, "a whole number >= 1")


def positive(text: str) -> float:
    """A finite number above 0."""
    return _checked(text, float, lambda number: 0 < number < math.inf, "a number > 0")


def non_negative(text: str) -> float:
    """A finite number from 0 up."""
    return _checked(text, float, lambda number: 0 <= number < math.inf, "a number >= 0")


def share(text: str) -> float:
    """A number from 0 to 1."""
    return _checked(text, float, lambda number: 0 <= number <= 1, "a number from 0 to 1")


def seed(text: str) -> int:
    """A whole number from 0 up."""
    return _checked(text, int, lambda number: number >= 0, "a whole number >= 0")


def widths(text: str) -> list[int]:
    """Widths of hidden layers, such as 300,100; an empty text is no hidden layer."""
    return [positive_int(part) for part in text.split(",")] if text.strip() else []


def penalties(text: str) -> list[float]:
    """Numbers from 0 up, such as 0,0.001,0.01."""
    return [non_negative(part) for part in text.split(",")]


def _checked(text: str, kind: Callable, is_right: Callable[[float], bool], expected: str):
    try:
        number = kind(text)
    except ValueError:
        number = math.nan
    if not is_right(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
    return number


def load(path: str | None, dtype: str, seed: int) -> Split:
    """Training and held-out data: X, y, X_held_out, y_held_out.

    An IDX folder brings its own test images; of anything else a fifth is drawn at random and held out.
    """
    if path is None:
        return hold_out_a_fifth(*fnn.datasets.load_digits(dtype), seed)
    if os.path.isdir(path):
        (x, y), (x_test, y_test) = fnn.datasets.load_idx(path, dtype)
        return x, y, x_test, y_test
    loaders = {".npz": fnn.datasets.load_npz, ".csv": lambda file: fnn.datasets.load_csv(file, dtype=dtype)}
    name = path.removesuffix(".gz")
    suffix = Path(name).suffix.lower()
    if suffix not in loaders:
        raise ValueError(
            f"{path} is no IDX folder, .csv or .npz file" if os.path.exists(path) else f"{path} is missing"
        )
    return hold_out_a_fifth(*loaders[suffix](path), seed)


def hold_out_a_fifth(x: NDArray, y: NDArray, seed: int) -> Split:
    """Split the samples at random, four to train on for each that is held out."""
    if x.ndim != 2:
        raise ValueError(f"X has shape {x.shape}, expected one row of features a sample")
    if len(x) < 5:
        raise ValueError(f"{len(x)} samples are too few to hold a fifth out")
    return hold_out(x, y, len(x) // 5, seed)


def hold_out(x: NDArray, y: NDArray, count: int, seed: int) -> Split:
    """Hold out `count` samples, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(x))
    held_out, kept = order[:count], order[count:]
    return x[kept], y[kept], x[held_out], y[held_out]


def count_classes(y: NDArray, y_held_out: NDArray) -> int:
    """One more than the largest of the labels 0, 1, 2, ..."""
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"the labels have dtype {y.dtype} and shape {y.shape}, expected whole numbers 0, 1, 2, ...")
    labels = np.unique(np.concatenate([y, y_held_out]))
    if labels[0] < 0 or labels[-1] >= len(y) + len(y_held_out):
        raise ValueError(f"the labels reach from {labels[0]} to {labels[-1]}, expected 0 to the number of classes - 1")
    return int(labels[-1]) + 1


def build(widths: list[int], dtype: str, seed: int) -> fnn.Sequential:
    """Linear layers of these widths, a ReLU between each two."""
    layers = [layer for sizes in pairwise(widths) for layer in (fnn.Linear(*sizes), fnn.ReLU())]
    return fnn.Sequential(*layers[:-1], dtype=dtype, seed=seed)


def make_folder(path: Path) -> None:
    """Make the folder that --out names."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"--out is {path}, which is a file, expected a folder")
    path.mkdir(parents=True, exist_ok=True)


def import_pyplot() -> ModuleType:
    """matplotlib.pyplot, drawing into files."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("the picture needs matplotlib: pip install fastnn[plots]") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "axes.axisbelow": True,
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "savefig.dpi": 150,
        }
    )
    return plt


def run(main: Callable[[argparse.Namespace], None], parser: Parser) -> None:
    """Run a script: whatever is wrong with its arguments or its data is said in one line, with status 2."""
    arguments = parser.parse_args()
    try:
        main(arguments)
    except (ImportError, OSError, ValueError, fnn.DivergenceError) as error:
        parser.error(" ".join(str(error).split()))
