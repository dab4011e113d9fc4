"""fastnn.sklearn against scikit-learn's own estimators: whole calls of fit and predict, and a grid search.

Both get the same data, settings and random state, take turns, and have to come to the same losses, probabilities and
scores. fit and predict run on one core, the search on two. A ratio below the project's target is in bold.

`pip install -e '.[sklearn]'` brings scikit-learn.
"""

import argparse
import importlib
import importlib.metadata
import json
from dataclasses import replace
from pathlib import Path

import _common as common
import _measure as measure
import fastnn as fnn
from compare import available_cores, in_own_process
from comparison.sklearn_problems import Settings

# The cores that each section runs on.
SECTIONS = {"fit": 1, "predict": 1, "search": 2}


def build_parser() -> common.Parser:
    parser = common.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections [all]")
    add("--dtypes", nargs="+", choices=("float32", "float64"), default=["float32", "float64"], help="[both]")
    add("--rounds", type=common.positive_int, default=5, help="of which the best counts [%(default)s]")
    add("--mnist", type=Path, metavar="FOLDER", help="MNIST's IDX files [random data of the same size]")
    add("--json", type=Path, metavar="PATH", help="keep the raw numbers")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="see in a minute that it works; the figures mean nothing")
    what.add_argument("--readme", action="store_true", help="put the tables into README.md")
    return parser


def main(args: argparse.Namespace) -> None:
    importlib.import_module("fastnn.sklearn")  # or the error that says what to install
    most = max(SECTIONS[name] for name in args.only)
    if most > available_cores():
        raise ValueError(f"the search needs {most} cores, but this process may use 1: leave it out, --only fit predict")
    if args.mnist:
        fnn.datasets.load_idx(args.mnist, "uint8")  # before minutes go into the rest
    settings = Settings(tuple(args.dtypes), 1 if args.quick else args.rounds, args.quick, args.mnist)
    parts = [f"Measured on {measure.machine()}, scikit-learn {importlib.metadata.version('scikit-learn')}."]
    records = {}
    for name in args.only:
        section = importlib.import_module(f"comparison.sklearn_{name}")
        records[name] = in_own_process(section.measure_all, replace(settings, cores=SECTIONS[name]))
        parts.append(section.tables(records[name]))
        if args.json:
            args.json.write_text(json.dumps(records, indent=1))
    text = "\n\n".join(parts)
    print(text)
    if args.readme:
        measure.put_in_readme("compare_sklearn", text)


if __name__ == "__main__":
    common.run(main, build_parser())
