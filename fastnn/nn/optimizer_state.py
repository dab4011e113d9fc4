"""The state of an optimizer as a dict: numbers, texts and arrays, to be taken back by one that was made alike."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..validation import Array, natural, real_array
from .lowering import aligned_zeros

if TYPE_CHECKING:
    from .optimizer import Optimizer
    from .stack import Stack

_NAMES = "rule", "settings", "lr", "steps", "epoch", "slots", "own_slots"


def state_of(optimizer: "Optimizer") -> dict[str, Any]:
    """Return the state, of which nothing is shared with the optimizer."""
    has_model = optimizer._owner is not None
    return {
        **_made(optimizer),
        "lr": None if callable(optimizer.lr) else optimizer.lr,
        "steps": optimizer.steps,
        "epoch": optimizer.epoch,
        "slots": optimizer._slots.copy() if has_model else None,
        "own_slots": [slots.copy() for slots in optimizer._user_slots],
    }


def load(optimizer: "Optimizer", state: Any, stack: "Stack | None") -> None:
    """Let an optimizer go on from a state, as that of a model, or of the one that it has.

    Raises
    ------
    ValueError, TypeError
        If they do not fit; then nothing has changed.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state is {state!r}, expected what state_dict() returns")
    for missing in (name for name in _NAMES if name not in state):
        raise ValueError(f"state has no {missing!r}: expected what state_dict() returns")
    for name, value in _made(optimizer).items():
        found = list(state[name]) if isinstance(state[name], (tuple, list)) else state[name]
        if found != value:
            raise ValueError(f"state has {name}={found!r}, but {optimizer!r} has {value!r}: make the optimizer alike")
    if callable(optimizer.lr) != (state["lr"] is None):
        came = "a function" if state["lr"] is None else f"the number {state['lr']!r}"
        raise ValueError(f"state was taken with {came} as lr, but lr is {optimizer.lr!r}: make the optimizer alike")
    steps, epoch = natural("steps", state["steps"]), natural("epoch", state["epoch"])
    if stack is None and optimizer._owner is None:
        raise ValueError(
            f"{optimizer!r} has no model yet: give the one that is to be trained, load_state_dict(state, model)"
        )
    kept, own = _arrays(optimizer, state, stack)
    if state["lr"] is not None:
        optimizer.lr = state["lr"]  # the last thing that may be refused
    if stack is not None:
        optimizer._owner = stack.identity
    optimizer._slots, optimizer._user_slots = kept, own
    optimizer.steps, optimizer.epoch = steps, epoch


def _made(optimizer: "Optimizer") -> dict[str, Any]:
    """How it was made, the learning rate left out."""
    return {"rule": optimizer.rule_name, "settings": [*optimizer._settings(), optimizer.clip_norm]}


def _arrays(optimizer: "Optimizer", state: Mapping[str, Any], stack: "Stack | None") -> tuple[Array, list[Array]]:
    """New arrays with the values of the state, in the shapes that the model asks for."""
    if stack is None:
        like, own_like = optimizer._slots, optimizer._user_slots
        shape, dtype = like.shape, like.dtype
        own_shapes = [(slots.shape, slots.dtype) for slots in own_like]
    else:
        optimizer.check(stack.dtype)
        n = optimizer.n_slots
        shape, dtype = (n, stack.params.size), stack.dtype
        own_shapes = [((n, *p.shape), p.dtype) for p in stack.user_parameters()]
    kept = aligned_zeros(shape, dtype)
    if state["slots"] is not None:
        kept[...] = _fitting("slots", state["slots"], shape)
    given = state["own_slots"]
    if not isinstance(given, (tuple, list)):
        raise TypeError(f"own_slots is {given!r}, expected a list of arrays")
    if (given or state["slots"] is not None) and len(given) != len(own_shapes):
        raise ValueError(f"own_slots holds {len(given)} arrays, but the model's own layers have {len(own_shapes)}")
    own = [np.zeros(shape, dtype) for shape, dtype in own_shapes]
    for i, (array, values) in enumerate(zip(own, given, strict=False)):
        array[...] = _fitting(f"own_slots[{i}]", values, array.shape)
    return kept, own


def _fitting(name: str, values: Any, shape: tuple[int, ...]) -> Array:
    array = real_array(name, values)
    if array.shape != shape:
        raise ValueError(f"{name} of the state have shape {array.shape}, but the model takes {shape}: is it another?")
    return array
