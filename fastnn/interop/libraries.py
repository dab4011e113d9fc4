"""The libraries of others, imported when something asks for them."""

import importlib
from typing import Any


def library(name: str, extra: str, asked_by: str) -> Any:
    """Return a module of a library that an extra of fastnn installs.

    Raises
    ------
    ImportError
        If it is not there, with what installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(f"{asked_by} needs {package}: pip install 'fastnn[{extra}]'") from error
