"""What the parts attack: data, models and optimizers; what a call that raises must not have changed; and a control."""

import ctypes
import hashlib
import mmap
import types
import warnings
import weakref

import numpy as np

import fastnn as fnn
from tests.stress.core import WRONG, Broken
from tests.user_code import UserReLU

_FORBIDDEN = 64 << 20  # bytes behind a guarded array

DOCUMENTED = (ValueError, TypeError, fnn.DivergenceError)


class OwnReLU(UserReLU):
    """A layer of the user's own, whose last input is no part of its value."""

    def __getstate__(self):
        return {}


OPTIMIZERS = {
    "sgd": lambda: fnn.SGD(lr=0.05),
    "momentum": lambda: fnn.SGD(lr=0.005, momentum=0.9),
    "nesterov": lambda: fnn.SGD(lr=0.005, momentum=0.9, nesterov=True),
    "adam": lambda: fnn.Adam(lr=0.01),
    "adamw": lambda: fnn.AdamW(lr=0.01, weight_decay=0.1),
    "rmsprop": lambda: fnn.RMSprop(lr=0.005, momentum=0.5),
    "schedule": lambda: fnn.Adam(lr=fnn.schedules.step_decay(0.01, every=1)),
}
NETWORKS = {
    "linear": lambda d, k: [fnn.Linear(d, k)],
    "hidden": lambda d, k: [fnn.Linear(d, 33), fnn.ReLU(), fnn.Linear(33, k)],
    "deep": lambda d, k: [fnn.Tanh(), fnn.Linear(d, 17, bias=False), fnn.Sigmoid(), fnn.Linear(17, 9), fnn.LeakyReLU(),
                          fnn.Linear(9, k)],
    "norm": lambda d, k: [fnn.Linear(d, 19), fnn.LayerNorm(19), fnn.GELU(), fnn.Linear(19, 9), fnn.GELU("tanh"),
                          fnn.Linear(9, k)],
    "dropout": lambda d, k: [fnn.Linear(d, 20), fnn.ReLU(), fnn.Dropout(0.3), fnn.Linear(20, k)],
    "residual": lambda d, k: [fnn.Linear(d, 17), fnn.Residual(fnn.BatchNorm(17), fnn.ReLU(), fnn.Linear(17, 17)),
                              fnn.ReLU(), fnn.Linear(17, k)],
    "user": lambda d, k: [fnn.Linear(d, 12), OwnReLU(), fnn.Linear(12, k)],
}  # fmt: skip


def model(kind, d, k, dtype="float32"):
    """A model of that kind, the same each time."""
    return fnn.Sequential(*NETWORKS[kind](d, k), dtype=dtype, seed=3)


def problem(m, d, k, dtype="float32", seed=0):
    """X (m, d) and labels (m,) below k, which a linear map of X gives."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(m, d))
    return x.astype(dtype), (x @ rng.normal(size=(d, k))).argmax(axis=1)


def targets(y, k, kind, dtype="float32"):
    """Labels as they are, as one-hot rows, or as one value each."""
    if kind == "labels":
        return y.copy()
    return np.eye(k, dtype=dtype)[y] if kind == "one-hot" else y.astype(dtype)[:, None] / k


def state(subject, optimizer=None):
    """A digest of all that a call that raises must leave as it was."""
    return fingerprint(subject._stack, subject.loss, dict(subject.history), optimizer)


def guarded(array):
    """A copy that ends where the process may read no further: whoever does all the same is ended."""
    pages = -(-max(array.nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, pages + _FORBIDDEN)
    whole = np.frombuffer(memory, np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(whole.ctypes.data + pages), ctypes.c_size_t(_FORBIDDEN), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    copy = whole[pages - array.nbytes : pages].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _reshaped(array):
    array.shape = array.shape[::-1] if array.ndim > 1 else (array.size // 2, 2)


def _flattened(array):
    array.shape = (array.size,) if array.ndim > 1 else (1, array.size)


def _seen_as_bytes(array):
    array.dtype = np.uint8


def _on_one_row(array):
    array.strides = (0, *array.strides[1:])


FORMS = {f.__name__.strip("_"): f for f in (_reshaped, _flattened, _seen_as_bytes, _on_one_row)}


def reform(array, form):
    """Make an array say something else of itself: it is the same object, and so is its memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        FORMS[form](array)


def share_small_work():
    """Let all threads take part however small the work is."""
    from fastnn.kernels.network import epoch
    from fastnn.kernels.threading import team

    team.GRAIN, team.WAKING_GRAIN, epoch.STEP_GRAIN = 1, 1, 1


_X, _y = problem(300, 20, 5)


def control():
    """The bits of a training and of predictions, which nothing that happened before may change."""
    trained = model("hidden", 20, 5)
    trained.fit(_X, _y, optimizer=fnn.Adam(), l2=1e-4, epochs=2, batch_size=150, verbose=0)
    results = [*trained.parameters(), trained.predict_proba(_X), trained.forward(_X[:1]), fnn.matmul(_X.T, _X)]
    return b"".join(result.tobytes() for result in results)


class Control:
    """Remembers the right bits, and compares."""

    def remember(self):
        """Compute the bits while all is well."""
        share_small_work()
        self._bits = control()

    def check(self):
        """Compute them again."""
        if control() != self._bits:
            raise Broken(WRONG, "a training and its predictions afterwards have other bits than before")


def fingerprint(*objects):
    """A digest of the values that objects hold, whichever they are: the same for two that behave alike."""
    digest, seen = hashlib.sha256(), {}
    for value in objects:
        _digest(value, digest.update, seen)
    return digest.hexdigest()[:20]


def _digest(value, update, seen):
    if isinstance(value, weakref.ref):
        value = value()
    if isinstance(value, np.random.Generator):
        value = value.bit_generator.state
    if isinstance(value, np.random.RandomState):
        value = value.get_state()
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic, np.dtype)):
        update(f"{type(value).__name__} {value!r};".encode())
    elif id(value) in seen:
        update(f"again {seen[id(value)][0]};".encode())
    else:
        seen[id(value)] = len(seen), value  # which keeps it, or another might get its id
        update(f"{type(value).__name__};".encode())
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            update(f"{value.dtype} {value.shape};".encode() + np.asarray(value).tobytes())
        else:
            for part in _parts(value):
                _digest(part, update, seen)


def _parts(value):
    """What an object holds, in an order that does not depend on how it came about."""
    if isinstance(value, np.ndarray):
        return [value.tolist()]
    if isinstance(value, dict):
        own = [part for item in sorted(value.items(), key=lambda item: repr(item[0])) for part in item]
        return [*own, vars(value)] if hasattr(value, "__dict__") else own
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)):
        return [value.__name__]
    if not hasattr(value, "__dict__"):
        return []
    # What an object leaves out of a copy of it, such as buffers and locks, is no part of its value; an owner is.
    state = value.__getstate__() if hasattr(type(value), "__getstate__") else vars(value)
    return [state, vars(value).get("_owner")]
