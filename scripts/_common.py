"""What the scripts share: arguments checked with one-line errors, data by its path, and plots."""

import argparse
import math
import os
import re
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

    def in_options(self, message: str) -> str:
        """What fastnn says of its arguments, said of the options that set them: delimiter=';' is --delimiter ';'."""
        options = {action.dest: action.option_strings[0] for action in self._actions if action.option_strings}
        names = "|".join(options)
        message = re.sub(rf"^({names}) is ", lambda found: f"{options[found[1]]} is ", message)
        message = re.sub(rf"\b({names})=True\b", lambda found: options[found[1]], message)
        return re.sub(rf"\b({names})=(?=')", lambda found: f"{options[found[1]]} ", message)


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


def rates(text: str) -> list[float]:
    """Numbers above 0, such as 0.001,0.01."""
    return [positive(part) for part in text.split(",")]


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


def column(text: str) -> int | str:
    """The position of a column, or its name."""
    try:
        return int(text)
    except ValueError:
        return text


def delimiter(text: str) -> str:
    """One character; a tab may be spelled."""
    text = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(text) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not one character, nor tab")
    return text


def add_data_options(parser: Parser) -> None:
    """The options that :func:`load` reads."""
    add = parser.add_argument
    add("--data", metavar="PATH", help="a folder of IDX files, a .csv or a .npz (X, y); else the digits")
    add("--label", type=column, help="the labels: a column of a .csv by name or position [-1], an array of a .npz [y]")
    add("--delimiter", type=delimiter, metavar="CHAR", help="between the columns of a .csv, tab for a tab [,]")
    add("--header", action="store_true", help="the first line of a .csv names the columns, though one is a number")


def load(args: argparse.Namespace) -> tuple[Split, list[str]]:
    """Training and held-out data, X, y, X_held_out, y_held_out, and the names of the classes where labels are text.

    An IDX folder brings its own test images; of anything else a fifth is drawn at random and held out.
    """
    if args.data is not None and os.path.isdir(args.data):
        _allow_options(args)
        train, test = fnn.datasets.load_idx(args.data, args.dtype)
        return (*train, *test), []
    x, y = _load_whole(args)
    if y.dtype.kind != "U":
        return hold_out_a_fifth(x, y, args.seed), []
    names, y = np.unique(y, return_inverse=True)
    return hold_out_a_fifth(x, y, args.seed), names.tolist()


def _load_whole(args: argparse.Namespace) -> tuple[NDArray, NDArray]:
    """X and y of the digits, or of one file."""
    path = args.data
    if path is None:
        _allow_options(args)
        return fnn.datasets.load_digits(args.dtype)
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    if suffix == ".csv":
        label = -1 if args.label is None else args.label
        return fnn.datasets.load_csv(path, label, args.delimiter or ",", args.header or None, args.dtype)
    if suffix == ".npz":
        _allow_options(args, "label")
        return fnn.datasets.load_npz(path, y="y" if args.label is None else str(args.label))
    raise ValueError(f"{path} is no IDX folder, .csv or .npz file" if os.path.exists(path) else f"{path} is missing")


def _allow_options(args: argparse.Namespace, *allowed: str) -> None:
    given = {"label": args.label is not None, "delimiter": args.delimiter is not None, "header": args.header}
    for name, is_given in given.items():
        if is_given and name not in allowed:
            kinds = ".csv or .npz" if name == "label" else ".csv"
            raise ValueError(f"--{name} is for a {kinds} file, but --data is {args.data or 'not given'}")


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
        raise ValueError(
            f"the labels have dtype {y.dtype} and shape {y.shape}, expected whole numbers 0, 1, 2, ... or text: "
            "--label says which they are"
        )
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
        parser.error(parser.in_options(" ".join(str(error).split())))
