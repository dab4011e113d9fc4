"""A training that survives: what the rest of it depends on is written to a file, from which the same call goes on."""

import contextlib
import datetime
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import MODULES, active
from ..nn.layers import is_built_in
from ..nn.stack import Stack
from ..validation import positive_int
from . import state
from .history import History

if TYPE_CHECKING:
    from ..model import Sequential
    from .plan import Plan

_KIND = "a checkpoint of fastnn's fit"
_FORMAT = 1


class Checkpoint:
    """Where a training is written to, how often, and from where it goes on.

    Parameters
    ----------
    path : str
        The file; the one before it stands beside, with ".before" behind its name.
    every : int or float
        After how many epochs it is written, or after how many seconds.
    """

    def __init__(self, path: str, every: int | float) -> None:
        self._path, self._every = path, every
        self._is_damaged = False
        self._found = self._read()
        self._arguments: dict[str, Any] = {}
        self._written = time.monotonic()
        self._written_epoch = 0

    @property
    def seed(self) -> Any:
        """The seed of the model that was trained, None where nothing was written yet."""
        return None if self._found is None else self._found["seed"]

    def check(self, stack: Stack, plan: "Plan") -> None:
        """Raise ValueError if what was written belongs to another training than this one."""
        self._arguments = _arguments(stack, plan)
        if self._found is None:
            return
        found = self._found["arguments"]
        for name, value in self._arguments.items():
            if found.get(name) != value:
                raise ValueError(
                    f"checkpoint {self._path!r} was written with {name}={short(found.get(name))}, but {name} is "
                    f"{short(value)}: give what it was, another path, or remove the file to start anew"
                )

    def at_most(self, epoch: int) -> int:
        """Return how many epochs may be trained before the next one after which it is to be written."""
        return self._every - epoch % self._every if isinstance(self._every, int) else 1 << 62

    def restore(self, model: "Sequential", plan: "Plan", train: Any, history: History) -> int:
        """Put everything as it was when it was written, and return how many epochs were trained, 0 for none."""
        states(plan)  # or a callback's would be refused after an epoch for nothing
        found = self._found
        if found is None:
            return 0
        changed = [name for name, value in made_with().items() if found["made with"].get(name) != value]
        if changed:
            warnings.warn(
                f"checkpoint {self._path!r} was written with another {', '.join(changed)}: the training goes on, but "
                "its last digits may not be those that it would have had",
                stacklevel=2,
            )
        stack, optimizer = model._stack, plan.optimizer
        arrays = [stack.params, *optimizer.state(), *stack.user_parameters()]
        shapes, written = [a.shape for a in arrays], [kept.shape for kept in found["arrays"]]
        if shapes != written:  # of layers and optimizers written in Python nothing else is known
            raise ValueError(
                f"checkpoint {self._path!r} was written with parameters and states of shapes {short(written)}, but "
                f"they are {short(shapes)}: give what it was, another path, or remove the file to start anew"
            )
        for array, kept in zip(arrays, found["arrays"], strict=True):
            array[...] = kept
        stack.rng.bit_generator.state = found["generator"]
        stack.seed = found["seed"]
        if found["network seed"] is not None:
            train.seed = found["network seed"]
        optimizer.steps, optimizer.epoch = found["steps"], found["epoch"]
        for name, values in found["history"].items():
            history[name] = values.tolist()
        if found.get("counts"):
            plan.supply.counts = tuple(found["counts"])
        history.stopped = found["stopped"]
        for callback, kept in zip(plan.callbacks, found["callbacks"], strict=True):
            if kept is not None:
                callback.load_state_dict(kept)  # type: ignore[attr-defined]
        if found["lr"] is not None:
            optimizer.lr = found["lr"]
        self._found, self._written_epoch = None, found["epochs"]
        return self._written_epoch

    def write(self, model: "Sequential", plan: "Plan", train: Any, history: History, is_over: bool) -> None:
        """Write everything, if it is time or the training is over."""
        epoch = len(history["loss"])
        if isinstance(self._every, int):
            is_due = epoch // self._every > self._written_epoch // self._every
        else:
            is_due = time.monotonic() - self._written >= self._every
        if not (is_due or is_over) or epoch == self._written_epoch:
            return
        stack, optimizer = model._stack, plan.optimizer
        found = {
            "format": _FORMAT,
            "arguments": self._arguments,
            "made with": made_with(),
            "epochs": epoch,
            "arrays": [stack.params, *optimizer.state(), *stack.user_parameters()],
            "generator": stack.rng.bit_generator.state,
            "seed": stack.seed,
            "network seed": getattr(train, "seed", None),
            "steps": optimizer.steps,
            "epoch": optimizer.epoch,
            "lr": None if callable(optimizer.lr) else optimizer.lr,
            "history": {name: np.array(history[name]) for name in plan.names if name in history},
            "stopped": history.stopped,
            "counts": plan.supply.counts and [*plan.supply.counts],
            "callbacks": states(plan),
        }
        # What is damaged does not take the place of the one before it, which is whole.
        state.write(self._path, _KIND, found, None if self._is_damaged else self._before)
        self._is_damaged = False
        self._written, self._written_epoch = time.monotonic(), epoch

    @property
    def _before(self) -> str:
        return f"{self._path}.before"

    def _read(self) -> dict[str, Any] | None:
        """What was written last, or where that is damaged what was written before; None if there is nothing."""
        damage: ValueError | None = None
        for path in (self._path, self._before):
            try:
                found = state.read(path, _KIND)
            except FileNotFoundError:
                break  # whoever removes the file starts anew
            except ValueError as error:
                damage = damage or error
                continue
            if found["format"] > _FORMAT:
                raise ValueError(
                    f"checkpoint {path!r} has format {found['format']}, but this version of fastnn reads up to "
                    f"{_FORMAT}: update fastnn"
                )
            if damage is not None:
                self._is_damaged = True
                warnings.warn(f"{damage}; going on from the one before it, {path}", stacklevel=2)
            return found
        if damage is not None:
            raise ValueError(
                f"checkpoint: {damage}; there is none before it that is whole: remove the file to start anew"
            ) from None
        return None


def opened(checkpoint: Any, every: Any) -> Checkpoint | None:
    """Return the checkpoint that a fit was asked for, with what stands in its file; None for none.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described, the file is no checkpoint or damaged, or there is no such folder.
    """
    if isinstance(every, datetime.timedelta):
        seconds = every.total_seconds()
        if seconds <= 0:
            raise ValueError(f"checkpoint_every is {every!r}, expected a time > 0")
        every = seconds
    elif isinstance(every, (float, str)):
        raise TypeError(
            f"checkpoint_every is {every!r}, expected a number of epochs, or a datetime.timedelta such as "
            "timedelta(minutes=5)"
        )
    else:
        every = positive_int("checkpoint_every", every)
    if checkpoint is None:
        return None
    return Checkpoint(path_of(checkpoint), every)


def path_of(checkpoint: Any) -> str:
    """Return a path that stands in a folder, whether it is there itself or not.

    Raises
    ------
    ValueError, TypeError
        If it is no path, or there is no such folder.
    """
    if not isinstance(checkpoint, str | os.PathLike) or not isinstance(os.fspath(checkpoint), str):
        raise TypeError(f"checkpoint is {checkpoint!r}, expected a str or a path")
    path = os.fspath(checkpoint)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise ValueError(f"checkpoint is {path!r}, but there is no folder {folder!r}: make it first")
    return path


def _arguments(stack: Stack, plan: "Plan") -> dict[str, Any]:
    """What must be the same in the call that goes on, by the names that a user knows."""
    optimizer = plan.optimizer
    arguments = {
        "layers": [described_layer(layer) for layer in stack.layers],
        "dtype": stack.dtype.name,
        **plan.supply.described(plan),
        "loss": _named(plan.loss),
        "optimizer": [type(optimizer).__name__, *optimizer._settings()],
        "lr": optimizer.lr,
        "clip_norm": optimizer.clip_norm,
        "l2": plan.l2,
        "batch_size": plan.batch_size,
        "accumulate": plan.accumulate,
        "shuffle": plan.shuffle,
        "metrics": [metric.name for metric in plan.metrics],
        "callbacks": [getattr(callback, "__qualname__", type(callback).__qualname__) for callback in plan.callbacks],
        "classes": plan.classes,
    }
    return {name: state.described(value) for name, value in arguments.items()}


def described_layer(layer: Any) -> Any:
    """Return what a layer is, its parameters left out."""
    if not is_built_in(layer):
        return type(layer).__qualname__
    if layer.parts:
        return [type(layer).__name__, *map(described_layer, layer.parts)]
    with contextlib.suppress(TypeError):  # of a function that is found under no name
        return [type(layer).__name__, layer.config(), layer.learning]
    return type(layer).__name__


def _named(loss: Any) -> Any:
    with contextlib.suppress(TypeError, AttributeError):
        return [type(loss).__qualname__, loss.config()]
    return type(loss).__qualname__


def states(plan: "Plan") -> list[Any]:
    """The state of each callback, None for those that have none.

    Raises
    ------
    TypeError
        If a file cannot hold it.
    """
    found = []
    for i, callback in enumerate(plan.callbacks):
        get: Callable[[], Any] | None = getattr(callback, "state_dict", None)
        kept = None if get is None or not hasattr(callback, "load_state_dict") else get()
        state.parted(kept, {}, f"callbacks[{i}].state_dict()")
        found.append(kept)
    return found


def made_with() -> dict[str, str]:
    """What the last digits may depend on."""
    return {
        "version of fastnn": sys.modules["fastnn"].__version__,
        "version of NumPy": np.__version__,
        "backend": next(name for name, module in MODULES.items() if module == active().__name__),
        "CPU": f"{platform.machine()} of {active().count_lanes(np.dtype(np.float32))} float32",
    }


def short(value: Any) -> str:
    """Return a value as messages show it."""
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
