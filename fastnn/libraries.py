"""What is imported when something asks for it: the libraries of others, and rooms of this one that need them."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def library(name: str, extra: str, asked_by: str) -> Any:
    """Return a module of a library that an extra of fastnn installs.

    Raises
    ------
    ImportError
        If it is not there, with what installs it.
    """
    package = name.partition(".")[0]
    try:
        importlib.import_module(package)  # or a module that is there already would hide that its package is not
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{asked_by} needs {package}: pip install 'fastnn[{extra}]'") from error


def on_demand(
    names: dict[str, Any], modules: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and the ``__dir__`` of a package that imports its modules for the names in them.

    Parameters
    ----------
    names : dict
        The package's ``globals()``, with its ``__all__``.
    modules : mapping
        Which names are in each of its modules.
    """
    package = names["__name__"]

    def get(name: str) -> Any:
        for module, own in modules.items():
            if name in own:
                value = names[name] = getattr(importlib.import_module(f".{module}", package), name)
                return value
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, lambda: sorted({*names, *names["__all__"]})
