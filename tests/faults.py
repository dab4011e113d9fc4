"""Faults put into calls: an array that cannot be made, an interruption at a call, an allocation that fails.

And all that a call may change, to be compared before and after. ``python -m tests.faults BACKEND KIND STRIDE`` lets the
allocations of Python's own objects fail in turn, every one or every STRIDE-th; tests run it in a process of its own.
"""

import contextlib
import itertools
import os
import sys

import numpy as np

import fastnn as fnn
from fastnn import backend
from tests.user_code import UserLinear

KINDS = ("compiled", "layer by layer")
MAKERS = ("arange", "array", "asarray", "ascontiguousarray", "clip", "copyto", "empty", "empty_like", "full", "zeros")
FOLDER = os.path.dirname(fnn.__file__)


def problem(kind):
    """A model with gradients, an optimizer that holds the moments of another model, and data."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 4)), rng.integers(3, size=12)
    first = fnn.Linear(4, 5) if kind == "compiled" else UserLinear(rng.normal(size=(4, 5)), np.zeros(5))
    model = fnn.Sequential(first, fnn.Dropout(0.25), fnn.Tanh(), fnn.Linear(5, 3), dtype="float64")
    model.forward(X, training=True)
    model.backward(rng.normal(size=(12, 3)))
    other, optimizer = fnn.Sequential(fnn.Linear(4, 3)), fnn.Adam(lr=0.01)
    other.fit(X, y, optimizer=optimizer, epochs=2, verbose=0)
    return model, other, optimizer, (X, y)


def fit(model, optimizer, data, epochs, **settings):
    model.fit(*data, optimizer=optimizer, epochs=epochs, batch_size=6, validation_data=data, verbose=0, **settings)


def contents(model, optimizer):
    """All that a fit changes, by value."""
    history, drawn = dict(model.history), model._stack.rng.bit_generator.state
    arrays = [model._stack.params, *model.parameters(), *optimizer.state()]
    counts = optimizer.steps, optimizer.epoch, optimizer.belongs_to(model._stack), optimizer._lock.locked()
    return repr((history, drawn, counts, [array.tobytes() for array in arrays]))


def fingerprint(model, optimizer):
    """All that a fit changes, by value, and which objects they are."""
    stack = model._stack
    objects = [model.loss, model.history, stack.gradient, optimizer._owner, *optimizer.state()]
    objects += [getattr(layer, name) for layer in stack.built_in for name in layer._SAVED]
    gradient = None if stack.gradient is None else stack.gradient.tobytes()
    return contents(model, optimizer), list(map(id, objects)), stack.trained_shape, gradient


class Watched:
    """A problem, and which of its points a call that failed has left it at."""

    def __init__(self, kind, epochs):
        self.kind, self.epochs, self.wholes = kind, epochs, []
        for n in range(1, epochs + 1):
            model, _, optimizer, data = problem(kind)
            fit(model, optimizer, data, n)
            self.wholes.append(contents(model, optimizer))

    def start(self):
        self.model, self.other, self.optimizer, self.data = problem(self.kind)
        self._before = fingerprint(self.model, self.optimizer), contents(self.other, self.optimizer)

    def fit(self):
        fit(self.model, self.optimizer, self.data, self.epochs)

    def epochs_made(self):
        """Return 0 if nothing at all has changed, or after how many epochs everything is as it should be."""
        if (fingerprint(self.model, self.optimizer), contents(self.other, self.optimizer)) == self._before:
            return 0
        return self.wholes.index(contents(self.model, self.optimizer)) + 1


class Fault:
    """Raises an error at one of its calls, counted from 0."""

    def __init__(self, at, error=MemoryError):
        self.at, self.error, self.calls = at, error, 0

    def __call__(self):
        self.calls += 1
        if self.calls == self.at + 1:
            raise self.error("injected")

    @property
    def came(self):
        return self.calls > self.at

    def before(self, function):
        def called(*args, **kwargs):
            self()
            return function(*args, **kwargs)

        return called


@contextlib.contextmanager
def at_an_array(fault, monkeypatch):
    """Where arrays are made, and before and after an epoch of the twin."""
    with monkeypatch.context() as patch:
        for name in MAKERS:
            patch.setattr(np, name, fault.before(getattr(np, name)))
        twin = backend.active()
        train_epoch = fault.before(twin.train_epoch)

        def epoch(*args):
            result = train_epoch(*args)
            fault()
            return result

        patch.setattr(twin, "train_epoch", epoch)
        yield


@contextlib.contextmanager
def at_a_call(fault, leave_out=()):
    """Where Python hears signals: at the start of a function in fastnn's own folder, and after it called one in C."""

    def heard(frame, event, argument):
        folder, name = os.path.split(frame.f_code.co_filename)
        if event in ("call", "c_return") and folder == FOLDER and name not in leave_out:
            fault()

    before = sys.getprofile()
    sys.setprofile(heard)
    try:
        yield
    finally:
        sys.setprofile(before)


def without_memory(name, kind, stride):
    """Let one allocation after the other fail, until none is left, and return how many calls failed."""
    import _testcapi

    with fnn.use_backend(name):
        watched = Watched(kind, epochs=2)
        failed, unharmed = 0, 0
        for at in itertools.count(0, stride):
            watched.start()
            error = None
            _testcapi.set_nomemory(at, at + 1)
            try:
                watched.fit()
            except BaseException as caught:
                error = caught
            finally:
                _testcapi.remove_mem_hooks()
            made = watched.epochs_made()
            assert made == 2 if error is None else made <= 2, (at, made, error)
            failed += error is not None
            # Some allocations nothing misses, such as those of a list that grows ahead.
            unharmed = 0 if error is not None else unharmed + 1
            if unharmed == 30:
                return failed


if __name__ == "__main__":
    print(without_memory(sys.argv[1], sys.argv[2], int(sys.argv[3])))
