"""What belongs to the whole process but means a single call: filters of warnings, and where output goes.

``warnings.catch_warnings`` and ``contextlib.redirect_stdout`` change it for as long as a block lasts. Where calls take
turns, each finds it as it left it.
"""

import sys
import warnings
from typing import Any, NamedTuple


class State(NamedTuple):
    """What a call has made of the state of the process."""

    filters: list[Any]
    showwarning: Any
    showwarnmsg: Any
    stdout: Any
    stderr: Any


def leave() -> State:
    """Return the state as it is."""
    w: Any = warnings
    return State(w.filters, w.showwarning, w._showwarnmsg_impl, sys.stdout, sys.stderr)


def enter(state: State) -> None:
    """Put a state in place."""
    w: Any = warnings
    before = w.filters
    w.filters, w.showwarning, w._showwarnmsg_impl, sys.stdout, sys.stderr = state
    if before is not state.filters and before != state.filters:
        with warnings.catch_warnings():
            pass  # which has Python forget what was shown, or not, by other filters
