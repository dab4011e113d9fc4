"""Signatures written out for editors and type checkers, of methods that run as the installed scikit-learn's do.

What is written out are the parameters of scikit-learn's newest release, whose older ones lack a few, and behind them,
keyword-only, fastnn's own. Python shows, and takes, those of the installed release and fastnn's own.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from ._documentation import docstring

Function = TypeVar("Function", bound=Callable[..., Any])
Estimator = TypeVar("Estimator", bound=type)


def extending(theirs: Any, described: Callable[[Any, Any], str | None] = docstring) -> Callable[[Estimator], Estimator]:
    """Return a decorator for a class that gives scikit-learn's estimator ``theirs`` further parameters.

    Its ``__init__`` as written stores fastnn's own parameters; scikit-learn's ``__init__`` stores the others. The
    defaults of fastnn's own are attributes of the class as well, for objects that were made without an ``__init__``.
    """

    def extend(ours: Estimator) -> Estimator:
        written = ours.__init__  # type: ignore[misc]
        own = {parameter.name: parameter.default for parameter in _own(theirs.__init__, written)}

        @functools.wraps(written)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            given = {name: kwargs.pop(name) for name in own if name in kwargs}
            theirs.__init__(self, *args, **kwargs)
            written(self, **given)

        ours.__init__ = as_installed(theirs.__init__)(__init__)  # type: ignore[misc]
        ours._own_parameters = tuple(own)  # type: ignore[attr-defined]
        for name, default in own.items():
            setattr(ours, name, default)
        ours.__doc__ = described(ours, theirs)
        return ours

    return extend


def as_installed(theirs: Callable[..., Any]) -> Callable[[Function], Function]:
    """Return a decorator for a method that shows the parameters of ``theirs`` as installed, and fastnn's own."""

    def decorate(written: Function) -> Function:
        types = inspect.get_annotations(inspect.unwrap(written))
        shown = [*inspect.signature(theirs).parameters.values(), *_own(theirs, written)]
        signature = inspect.signature(written).replace(
            parameters=[p.replace(annotation=types.get(p.name, p.annotation)) for p in shown]
        )
        written.__signature__ = signature  # type: ignore[attr-defined]
        return written

    return decorate


def _own(theirs: Callable[..., Any], written: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that are fastnn's own: what scikit-learn adds over time comes at a place in its order."""
    inherited, keyword_only = inspect.signature(theirs).parameters, inspect.Parameter.KEYWORD_ONLY
    parameters = inspect.signature(written).parameters.values()
    return [p for p in parameters if p.kind is keyword_only and p.name not in inherited]
