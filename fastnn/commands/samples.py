"""The samples that a command works on, by the path of a file or the digits, and the network for them."""

import argparse
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn

from .arguments import Parser, column, delimiter

Array = NDArray[Any]
Split = tuple[Array, Array, Array, Array]

# Each with the learning rate that is its default.
OPTIMIZERS: dict[str, tuple[float, Callable[[float], fnn.Optimizer]]] = {
    "sgd": (0.1, fnn.SGD),
    "momentum": (0.05, lambda lr: fnn.SGD(lr, momentum=0.9)),
    "nesterov": (0.05, lambda lr: fnn.SGD(lr, momentum=0.9, nesterov=True)),
    "adam": (0.001, fnn.Adam),
}


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


def _load_whole(args: argparse.Namespace) -> tuple[Array, Array]:
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


def hold_out_a_fifth(x: Array, y: Array, seed: int) -> Split:
    """Split the samples at random, four to train on for each that is held out."""
    if x.ndim != 2:
        raise ValueError(f"X has shape {x.shape}, expected one row of features a sample")
    if len(x) < 5:
        raise ValueError(f"{len(x)} samples are too few to hold a fifth out")
    return hold_out(x, y, len(x) // 5, seed)


def hold_out(x: Array, y: Array, count: int, seed: int) -> Split:
    """Hold out `count` samples, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(x))
    held_out, kept = order[:count], order[count:]
    return x[kept], y[kept], x[held_out], y[held_out]


def count_classes(y: Array, y_held_out: Array) -> int:
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


def build(widths: list[int], dtype: Literal["float32", "float64"], seed: int) -> fnn.Sequential:
    """Linear layers of these widths, a ReLU between each two."""
    layers = [layer for sizes in pairwise(widths) for layer in (fnn.Linear(*sizes), fnn.ReLU())]
    return fnn.Sequential(*layers[:-1], dtype=dtype, seed=seed)
