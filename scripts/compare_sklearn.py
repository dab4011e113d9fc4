"""fastnn.sklearn against scikit-learn's own estimators: whole calls of fit and predict, and a grid search.

Both get the same data, settings and random state, take turns, and have to come to the same losses, probabilities and
scores. fit and predict run on one core, the search on two. A ratio below the project's target is in bold.

`pip install -e '.[sklearn]'` brings scikit-learn.
"""

import argparse
import importlib
from pathlib import Path

import fastnn as fnn
from comparison import command
from comparison.sklearn_problems import Settings
from fastnn.commands import arguments, measure

# The cores that each section runs on.
SECTIONS = {"fit": 1, "predict": 1, "search": 2}


def build_parser() -> arguments.Parser:
    parser = command.build_parser(__doc__, SECTIONS, rounds=5)
    parser.add_argument("--mnist", type=Path, metavar="FOLDER", help="MNIST's IDX files [random data of the same size]")
    return parser


def main(args: argparse.Namespace) -> None:
    importlib.import_module("fastnn.sklearn")  # or the error that says what to install
    most = max(SECTIONS[name] for name in args.only)
    if most > measure.available_cores():
        raise ValueError(f"the search needs {most} cores, but this process may use 1: leave it out, --only fit predict")
    if args.mnist:
        fnn.datasets.load_idx(args.mnist, "uint8")  # before minutes go into the rest
    settings = Settings(mnist=args.mnist, **command.chosen(args))
    about = f"Measured on {command.described(['scikit-learn'])}."
    sections = {name: (f"sklearn_{name}", [SECTIONS[name]]) for name in args.only}
    command.run("compare_sklearn", args, settings, sections, about)


if __name__ == "__main__":
    arguments.run(main, build_parser)
