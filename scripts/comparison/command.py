"""What `compare.py` and `compare_sklearn.py` share: their options, and how sections are measured and printed."""

import argparse
import importlib
import importlib.metadata
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from comparison.settings import Settings
from fastnn.commands import arguments, measure

DTYPES = ("float32", "float64")


def build_parser(
    description: str | None, sections: Iterable[str], rounds: int, examples: Sequence[str] = ()
) -> arguments.Parser:
    """A parser of the options of every comparison."""
    parser = arguments.Parser(description, examples)
    add, sections = parser.add_argument, list(sections)
    add("--only", nargs="+", choices=sections, default=sections, help="sections [all]")
    add("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES), help="[both]")
    add("--rounds", type=arguments.positive_int, default=rounds, help="of which the best counts [%(default)s]")
    add("--json", type=Path, metavar="PATH", help="keep the raw numbers")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="see in a minute that it works; the figures mean nothing")
    what.add_argument("--docs", action="store_true", help="keep the tables in docs/results")
    parser.set_defaults(sections=sections)
    return parser


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """What those options say of the settings."""
    return {"dtypes": tuple(args.dtypes), "rounds": 1 if args.quick else args.rounds, "quick": args.quick}


def run(
    name: str,
    args: argparse.Namespace,
    settings: Settings,
    modules: Mapping[str, tuple[str, Sequence[int]]],
    about: str,
) -> None:
    """Measure each section, a module of this package, on its numbers of cores, and print the tables.

    The raw numbers are kept, and the tables kept in the documentation under this name, with those of some sections in a
    file of their own, where the arguments say so.
    """
    records: dict[str, list[dict]] = {}
    parts = [about]
    for section, (module, numbers) in modules.items():
        measured = importlib.import_module(f"comparison.{module}")
        records[section] = [
            record | {"cores": cores}
            for cores in numbers
            for record in in_own_process(measured.measure_all, replace(settings, cores=cores))
        ]
        if args.json:
            args.json.write_text(json.dumps({"machine": about, "records": records}, indent=1))
        parts.append(measured.tables(records[section]))
    text = "\n\n".join(parts)
    print(text)
    if args.docs:
        some = [] if len(modules) == len(args.sections) else modules
        measure.put_in_docs("_".join([name, *some]), text)


def in_own_process(function: Callable[[Settings], list[dict]], settings: Settings) -> list[dict]:
    """What the function returns in a fresh process on as many cores as the settings say."""
    return measure.in_own_process(settings.cores, function, settings)


def described(packages: Iterable[str]) -> str:
    """The machine and the versions of everything that is measured."""
    return ", ".join([measure.machine(), *map(version, packages)])


def version(package: str) -> str:
    """The package with its version, where it is installed."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} not installed"
