"""What every command understands of its arguments, and how it says in one line what is wrong with them."""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..errors import DivergenceError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and whose description and examples stay as they are written."""

    def __init__(self, description: str | None = None, examples: Sequence[str] = (), **settings: Any) -> None:
        if examples:
            settings["epilog"] = "\n".join(["examples:", *(f"  %(prog)s {line}".rstrip() for line in examples)])
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

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
    return int(_checked(text, int, lambda number: number >= 1, "a whole number >= 1"))


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
    return int(_checked(text, int, lambda number: number >= 0, "a whole number >= 0"))


def widths(text: str) -> list[int]:
    """Widths of hidden layers, such as 300,100; an empty text is no hidden layer."""
    return [positive_int(part) for part in text.split(",")] if text.strip() else []


def rates(text: str) -> list[float]:
    """Numbers above 0, such as 0.001,0.01."""
    return [positive(part) for part in text.split(",")]


def penalties(text: str) -> list[float]:
    """Numbers from 0 up, such as 0,0.001,0.01."""
    return [non_negative(part) for part in text.split(",")]


def _checked(text: str, kind: Callable[[str], float], is_right: Callable[[float], bool], expected: str) -> float:
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


def make_folder(path: Path) -> None:
    """Make the folder that --out names."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"--out is {path}, which is a file, expected a folder")
    path.mkdir(parents=True, exist_ok=True)


def run(
    main: Callable[[argparse.Namespace], None],
    build_parser: Callable[[], Parser],
    argv: Sequence[str] | None = None,
    program: str | None = None,
) -> None:
    """Run a command: whatever is wrong with its arguments or its data is said in one line, with status 2.

    ``argv`` and ``program``, the name in help and errors, are those of the process by default.
    """
    parser = Parser(prog=program)
    try:
        parser = build_parser()
        parser.prog = program or parser.prog
        main(parser.parse_args(argv))
    except (ImportError, OSError, ValueError, DivergenceError) as error:
        parser.error(parser.in_options(" ".join(str(error).split())))
