"""An optimizer in the file of its model: what makes it, as JSON, and the state of each parameter under its name."""

import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from ..schedules import kinds
from ..validation import Array
from . import optimizers
from .lowering import views
from .optimizer import Optimizer
from .stack import Stack


class Kept(NamedTuple):
    """An optimizer as a file has it: without its state, and that by the names of its arrays."""

    optimizer: Optimizer
    steps: int
    epoch: int
    arrays: dict[str, Array]


def describe(optimizer: Any, stack: Stack) -> dict[str, Any]:
    """Return what makes an optimizer that has trained this model.

    Raises
    ------
    TypeError
        If it is not built in, or its learning rate a function that no file can hold.
    ValueError
        If it has not trained this model.
    """
    if not isinstance(optimizer, Optimizer) or not optimizers.is_built_in(optimizer):
        known = ", ".join(kind.__name__ for kind in optimizers.BUILT_IN)
        raise TypeError(f"optimizer is {optimizer!r}, but a file holds {known}: pickle model and optimizer together")
    if not optimizer.belongs_to(stack):
        raise ValueError(f"optimizer is {optimizer!r}, which has not trained this model: give the one that has")
    settings = {name: getattr(optimizer, name) for name in inspect.signature(type(optimizer)).parameters}
    return {
        "class": type(optimizer).__name__,
        "settings": {**settings, "lr": _rate(optimizer.lr)},
        "steps": optimizer.steps,
        "epoch": optimizer.epoch,
    }


def states(optimizer: Optimizer, stack: Stack) -> Iterator[tuple[str, Array]]:
    """Each array of the state, a view, and its name: the slot, the layer, the parameter."""
    for slot, values in enumerate(optimizer.state()[0]):
        for i, spans in stack.spans.items():
            for name, view in views(stack.leaves[i], spans, values).items():
                yield f"optimizer.{slot}.{i}.{name}", view


def build(entry: dict[str, Any]) -> Optimizer:
    """Return a new optimizer as a file describes it.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it describes none.
    """
    made = {kind.__name__: kind for kind in optimizers.BUILT_IN}.get(entry["class"])
    if made is None:
        raise ValueError(f"the optimizer is {entry['class']!r}, which this version of fastnn does not know")
    return made(**{**entry["settings"], "lr": _schedule(entry["settings"]["lr"])})


def shapes(optimizer: Optimizer, layers: list[Any]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays of its state for a model of these layers, by their names."""
    return {
        f"optimizer.{slot}.{i}.{name}": shape
        for slot in range(optimizer.n_slots)
        for i, layer in enumerate(layers)
        for name, shape in layer.shapes().items()
    }


def restore(kept: Kept, stack: Stack) -> Optimizer:
    """Return the optimizer with its state, which from now on is that of this model."""
    optimizer = kept.optimizer
    optimizer.bind(stack)
    for name, view in states(optimizer, stack):
        view[...] = kept.arrays[name]
    optimizer.steps, optimizer.epoch = kept.steps, kept.epoch
    return optimizer


def _rate(lr: Any) -> Any:
    """A learning rate, or the schedule of it, as JSON holds it."""
    if not callable(lr):
        return lr
    if not isinstance(lr, kinds.KnownSchedule) or not is_dataclass(lr):
        raise TypeError(
            f"lr of the optimizer is {lr!r}, but a file holds numbers and the schedules of fnn.schedules: pickle model "
            "and optimizer together"
        )
    settings = {field.name: getattr(lr, field.name) for field in fields(lr)}
    return {
        "schedule": type(lr).__name__,
        "settings": {name: _rate(value) if callable(value) else value for name, value in settings.items()},
    }


def _schedule(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    made = getattr(kinds, str(entry["schedule"]), None)
    if not isinstance(made, type) or not issubclass(made, kinds.KnownSchedule) or not is_dataclass(made):
        raise ValueError(f"the schedule is {entry['schedule']!r}, which this version of fastnn does not know")
    return made(
        **{
            name: tuple(value) if isinstance(value, list) else _schedule(value)
            for name, value in entry["settings"].items()
        }
    )
