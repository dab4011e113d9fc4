"""fastnn against other libraries: the program is development's, and stands in scripts/ of a checkout."""

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType

from . import arguments

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def build_parser() -> arguments.Parser:
    parser: arguments.Parser = _script().build_parser()
    return parser


def main(args: argparse.Namespace) -> None:
    _script().main(args)


def _script() -> ModuleType:
    if not (SCRIPTS / "compare.py").is_file():
        raise ImportError(
            "the comparison is not part of the installed package: unpack fastnn's source (a clone or the sdist), run "
            "pip install -e '.[peers]' in it, and there python scripts/compare.py"
        )
    if str(SCRIPTS) not in sys.path:
        sys.path.insert(0, str(SCRIPTS))
    return importlib.import_module("compare")
