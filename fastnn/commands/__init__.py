"""The programs of ``python -m fastnn``, one module each, imported only when it is the one to run.

A module has ``build_parser()`` and ``main(args)``; what they share stands in ``arguments``, ``samples``, ``measure``
and ``pictures``. No other part of fastnn imports this one.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import fastnn as fnn

from .arguments import Parser
from .arguments import run as _run

COMMANDS = {
    "train": "train a classifier, draw its learning curve, save it, compare with the NumPy twin",
    "search": "cross-validate a grid of learning rates and penalties, all networks at once",
    "overfitting": "see what a penalty on the weights is for",
    "mnist": "the test errors of three networks on MNIST's files",
    "profile": "what each layer and phase of a training step takes, beside the peak of the machine",
    "roofline": "every kernel under the ceilings of the machine, as tables and as a picture",
    "warmup": "compile the kernels for this CPU beforehand",
    "compare": "time fastnn against other libraries, from a checkout",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names; without arguments, list the commands."""
    given = sys.argv[1:] if argv is None else list(argv)
    program = "fastnn" if Path(sys.argv[0]).stem == "fastnn" else "python -m fastnn"
    if given and given[0] in COMMANDS:
        run(given[0], given[1:], f"{program} {given[0]}")
        return
    parser = _build_parser(program)
    parser.parse_args(given)
    parser.print_help()


def run(name: str, argv: Sequence[str] | None = None, program: str | None = None) -> None:
    """Run a command by its name on these arguments, by default those of the process.

    ``program`` is what its help and its errors call it, by default the file that was started.
    """
    command = importlib.import_module(f".{name}", __name__)
    _run(command.main, command.build_parser, argv, program)


def _build_parser(program: str) -> Parser:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {line}" for name, line in COMMANDS.items())
    parser = Parser(
        f"Neural networks on the CPU, from the command line.\n\ncommands:\n{commands}",
        ["train", "train --data table.csv --label species --hidden 64,32", "train --help"],
        prog=program,
        usage="%(prog)s [-h] [--version] COMMAND ...",
    )
    parser.add_argument("command", nargs="?", choices=COMMANDS, metavar="COMMAND", help="one of the above")
    parser.add_argument("--version", action="version", version=f"fastnn {fnn.__version__}")
    return parser
