"""A bar of tqdm, on a terminal or in a notebook, where tqdm is installed."""

import importlib
import sys
from typing import Any


def bar(total: int, unit: str, leave: bool = False) -> Any:
    """Return a bar over so many units, or None where none can be shown."""
    in_notebook = type(sys.stderr).__module__.startswith("ipykernel")
    if not in_notebook and not (sys.stderr is not None and sys.stderr.isatty()):
        return None
    try:
        tqdm = importlib.import_module("tqdm.auto")
    except ImportError:
        return None
    return tqdm.tqdm(total=total, unit=unit, leave=leave)
