"""Operations: what a network does between its products, each a compiled function of its own behind an address.

The epoch and inference know products, the order of the ops and the barriers; an activation, a normalisation, a loss or
a rule they call through an address that stands in the data of the call. So a network compiles what it uses, and one
more operation is one more file: its functions here, its twin in ``fastnn.reference``, its public class.

A layer has three functions, the last of which only some have:

    forward   y (rows, n_out) = f(x), x (rows, n_in), and what it keeps of every row
    backward  dx = the gradient at x from d, that at y, the x or y that it asked to be kept, and what it kept of a row
    gradient  some elements of the gradient of one of its parameters, summed over the whole batch in order; the epoch
              shares them out to threads and hands them to the rule, so no parameter may be read: it may be updated.
              Of a parameter of which a batch has a gradient for some rows alone: from element -1 on, those rows, in
              ``kept`` as ``gradients_at`` has it

One that sums over the batch has two more, called before forward and backward by every thread for its own rows, with the
same arguments; ``kept`` is then memory for the sums of the whole batch.

``settings`` are the numbers that the class declares, ``step`` elements apart and the same for every column where step
is 0, else one for each lane. ``row`` is the first of the rows in the batch, and ``key`` together with it what random
numbers follow from: never from the thread. For an operation that sums over the batch key is how many rows that has.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..codes import STRIDE
from .builtin import LIKE_FIRST, NUMBER, REALS
from .compiler.cpu import ISA
from .compiler.jit import Shared, caller, inline, kernel, shared
from .entries import ROWWISE, Entry
from .given import CONSTANTS, GIVEN, array_of, entry_signature, float_at, same_shape
from .registry import Registry
from .simd.address import as_writeable
from .simd.vector import I64, data, get, lanes, load, load_part, shift, splat_ir, store, store_part

N, FLOAT64 = types.intp, types.CPointer(types.float64)
INT64 = types.CPointer(types.int64)


def forward_signature(dtype: Any) -> Any:
    """(rows, n_in, n_out, x, x_ld, y, y_ld, kept, params, settings, step, key, row)."""
    p = types.CPointer(dtype)
    return types.void(N, N, N, p, N, p, N, p, p, FLOAT64, N, N, N)


def backward_signature(dtype: Any) -> Any:
    """(rows, n_in, n_out, d, d_ld, x, x_ld, y, y_ld, dx, dx_ld, kept, params, settings, step, key, row)."""
    p = types.CPointer(dtype)
    return types.void(N, N, N, p, N, p, N, p, N, p, N, p, p, FLOAT64, N, N, N)


def gradient_signature(dtype: Any) -> Any:
    """(m, n_in, n_out, d, d_ld, x, x_ld, y, y_ld, kept, params, settings, step, which, first, count, out)."""
    p = types.CPointer(dtype)
    return types.void(N, N, N, p, N, p, N, p, N, p, p, FLOAT64, N, N, N, N, p)


class Operation(NamedTuple):
    """The compiled functions of a layer, each made at its first use.

    What maps element by element takes any elements as one row, those of networks side by side as well; its ``entries``
    are for whole arrays.
    """

    forward: Shared
    backward: Shared
    gradient: Shared | None = None
    sums: Shared | None = None
    backward_sums: Shared | None = None
    is_elementwise: bool = False
    entries: tuple[Entry, ...] = ()

    def addresses(self, dtype: Any, training: bool = True) -> tuple[int, ...]:
        """Where the functions for a dtype lie in this process; 0 for what there is not, or only training needs."""
        for_training = self.backward, self.gradient, self.sums, self.backward_sums
        others = (0 if shared is None or not training else shared.address(dtype) for shared in for_training)
        return self.forward.address(dtype), *others


# See ``gradients_at``.
ROWS_KEPT = 32
# By the name that the class, the kernel and the twin share.
OPERATIONS = Registry()
_NOWHERE = 0, 0, 0, 0, 0


def addresses_of(names: tuple[str, ...], dtype: Any, training: bool = True) -> np.ndarray:
    """Where the functions of each op lie in this process (ops, 5), zeros where a name is empty."""
    return np.array([OPERATIONS[name].addresses(dtype, training) if name else _NOWHERE for name in names], np.int64)


def elementwise(name: str, function: Any, derivative: Any, settings: int = 0) -> Operation:
    """Register a layer that maps element by element, with one setting at most, which is finite and not negative.

    ``function(x, settings)`` gives y and ``derivative(d, x, y, settings)`` gives dx, all vectors; settings are read by
    ``setting``. Only what the class asked to be kept may be used of x and y.
    """

    def forward(rows, n_in, n_out, x, x_ld, y, y_ld, kept, params, settings, step, key, row):
        numbers = Settings(settings, step)
        for r in range(rows):
            _map(function, shift(x, r * x_ld), shift(y, r * y_ld), n_out, numbers)

    def backward(rows, n_in, n_out, d, d_ld, x, x_ld, y, y_ld, dx, dx_ld, kept, params, settings, step, key, row):
        numbers = Settings(settings, step)
        for r in range(rows):
            _map_back(
                derivative, shift(d, r * d_ld), shift(x, r * x_ld), shift(y, r * y_ld), shift(dx, r * dx_ld), n_in,
                numbers,
            )  # fmt: skip

    there, back = (
        Shared(forward, forward_signature, name=name),
        Shared(backward, backward_signature, name=f"{name}_backward"),
    )
    entries = on_arrays(name, there, back, settings)
    OPERATIONS[name] = made = Operation(there, back, is_elementwise=True, entries=entries)
    return made


class Settings(NamedTuple):
    """The numbers of an operation: setting k is p[k] for every lane, or with step > 0 the lanes from p[k step] on."""

    p: Any
    step: int


@intrinsic
def setting(typing: Any, x: Any, settings: Any, k: Any) -> Any:
    """Setting k as a vector like x."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        p, step = (builder.extract_value(args[1], i) for i in range(2))
        wide, narrow = (ir.VectorType(kind, x.lanes) for kind in (ir.DoubleType(), args[0].type.element))
        shared = builder.icmp_signed("==", step, I64(0))
        place = builder.gep(p, [builder.mul(args[2], builder.select(shared, I64(1), step))])
        with builder.if_else(shared) as (one, many):
            with one:
                same = splat_ir(builder, _constant(builder, builder.load(place)), x.lanes)
                after_one = builder.block
            with many:
                own = _constant(builder, builder.load(builder.bitcast(place, wide.as_pointer()), align=8))
                after_many = builder.block
        value = builder.phi(wide)
        value.add_incoming(same, after_one)
        value.add_incoming(own, after_many)
        return value if wide == narrow else builder.fptrunc(value, narrow)

    return x(x, settings, types.intp), emit


def _constant(builder: Any, load: Any) -> Any:
    """Say that nobody writes there, whatever stores come between: loops load it once."""
    load.set_metadata("invariant.load", builder.module.add_metadata([]))
    return load


@inline
def _map(function, x, out, n, settings):
    width = lanes(x)
    i = 0
    while i + width <= n:
        store(out, i, function(load(x, i), settings))
        i += width
    if i < n:
        store_part(out, i, n - i, function(load_part(x, i, n - i, 0.0), settings))


@inline
def _map_back(derivative, d, x, y, out, n, settings):
    width = lanes(d)
    i = 0
    while i + width <= n:
        store(out, i, derivative(load(d, i), load(x, i), load(y, i), settings))
        i += width
    if i < n:
        rest = n - i
        ds, xs, ys = load_part(d, i, rest, 0.0), load_part(x, i, rest, 0.0), load_part(y, i, rest, 0.0)
        store_part(out, i, rest, derivative(ds, xs, ys, settings))


# Of the blocks that sums over a batch are formed of.
_LEAST_ROWS = min(ISA.rows(4), ISA.rows(8))


@inline
def rows_of_sums(batch):
    """How many rows of sums an operation that sums over a batch has, each of one number for every unit."""
    return 4 + 4 * ((batch + _LEAST_ROWS - 1) // _LEAST_ROWS)


@inline
def gradients_at(m):
    """Where in what an op keeps of m rows the gradients of some rows of a parameter are, one behind the other.

    Before them stand, as int64, how many rows they are and which, and up to 4 m numbers more. So ``ROWS_KEPT`` elements
    for each sample, and the elements of a row, are enough.
    """
    return (10 * m + 2 + 15) // 16 * 16


@inline
def aligned(n):
    """The elements that a parameter of n takes in the flat buffer, where the next one starts."""
    return (n + STRIDE - 1) // STRIDE * STRIDE


call_forward = caller(forward_signature)
call_backward = caller(backward_signature)
call_gradient = caller(gradient_signature)


@kernel
def _forward(address, x, kept, params, settings, out):
    m, n = x.shape
    p = data(x)
    call_forward(
        address,
        p,
        (m, n, out.shape[1], p, n, data(out), out.shape[1], data(kept), data(params), data(settings), 0, m, 0),
    )


@kernel
def _backward(address, dy, x, y, kept, params, settings, dx):
    m, n = dx.shape
    p, k = data(dy), dy.shape[1]
    call_backward(
        address, p,
        (m, n, k, p, k, data(x), n, data(y), k, data(dx), n, data(kept), data(params), data(settings), 0, m, 0),
    )  # fmt: skip


@kernel
def _gradient(address, which, dy, x, y, kept, params, settings, out):
    m, n = x.shape
    p, k = data(dy), dy.shape[1]
    call_gradient(
        address, p,
        (m, n, k, p, k, data(x), n, data(y), k, data(kept), data(params), data(settings), 0, which, 0, out.size,
         data(out)),
    )  # fmt: skip


@shared(entry_signature)
def _map_array(given, workspace):
    """An elementwise operation, which keeps nothing and has no parameters, of a whole array.

    The constant is its address. A setting is finite and not negative.
    """
    count = get(given, GIVEN)
    x, out, last = array_of(given, 0, workspace), array_of(given, count, workspace), float_at(given, count - 1)
    if out.size != x.size or (count > 1 and not 0.0 <= get(last, 0) < np.inf):
        return 0
    n, p = x.size, x.p
    call_forward(get(given, CONSTANTS), p, (1, n, n, p, n, out.p, n, p, p, last, 0, 0, 0))
    return 1


@shared(entry_signature)
def _map_array_back(given, workspace):
    """The gradient, from d, x and y. The second constant is which argument y is; who keeps one of them has one."""
    count, which = get(given, GIVEN), get(given, CONSTANTS + 1)
    d, x, y = array_of(given, 0, workspace), array_of(given, 1, workspace), array_of(given, which, workspace)
    dx, last = array_of(given, count, workspace), float_at(given, count - 1)
    fits = same_shape(d, x) and same_shape(d, y) and dx.size == d.size
    if not fits or (count > which + 1 and not 0.0 <= get(last, 0) < np.inf):
        return 0
    n, p = d.size, d.p
    call_backward(get(given, CONSTANTS), p, (1, n, n, p, n, x.p, n, y.p, n, dx.p, n, p, p, last, 0, 0, 0))
    return 1


def on_arrays(
    name: str, forward: Shared, backward: Shared, settings: int = 0, kept: int = 1, is_quick: bool = True
) -> tuple[Entry, Entry]:
    """How Python calls an elementwise operation with so many settings, one at most; ``kept`` is 2 for both x and y."""
    arrays, numbers = [(REALS, ROWWISE)] * (1 + kept), [(NUMBER, 0)] * settings
    there = Entry(
        name, _map_array, [*arrays[:1], *numbers], LIKE_FIRST,
        constants=lambda dtype: (forward.address(dtype),), is_quick=is_quick,
    )  # fmt: skip
    back = Entry(
        f"{name}_backward", _map_array_back, [*arrays, *numbers], LIKE_FIRST,
        constants=lambda dtype: (backward.address(dtype), kept), is_quick=is_quick,
    )  # fmt: skip
    return there, back


_NO_SETTINGS = np.empty(0)
_NO_PARAMETERS = {np.dtype(kind): np.empty(0, kind) for kind in (np.float32, np.float64)}


def _numbers(settings: tuple[float, ...]) -> np.ndarray:
    return np.array(settings, np.float64) if settings else _NO_SETTINGS


def _flat(parameters: tuple[np.ndarray, ...], dtype: Any) -> np.ndarray:
    """Parameters as they lie in a model's buffer: each starts where a vector may."""
    if not parameters:
        return _NO_PARAMETERS[dtype]
    starts = np.cumsum([0, *(aligned.py_func(p.size) for p in parameters)])
    flat = np.zeros(starts[-1], dtype)
    for start, p in zip(starts, parameters, strict=False):
        flat[start : start + p.size] = p.ravel()
    return flat


def apply_to(
    operation: Operation,
    x: np.ndarray,
    out: np.ndarray,
    kept: np.ndarray,
    parameters: tuple[np.ndarray, ...],
    *settings: float,
) -> np.ndarray:
    """out = an operation of the rows of x, all arrays C-contiguous; what it keeps of a row is written to ``kept``.

    The parameters are returned as they lie in a model's buffer, since it may have changed them.
    """
    flat, numbers = _flat(parameters, x.dtype), _numbers(settings)
    for part in (operation.sums, operation.forward):
        if part is not None:
            _forward(part.address(x.dtype), as_writeable(x), kept.reshape(-1), flat, numbers, out)
    return flat


def back_through(
    operation: Operation,
    dy: np.ndarray,
    x: np.ndarray,
    dx: np.ndarray,
    kept: np.ndarray,
    parameters: tuple[np.ndarray, ...],
    *settings: float,
) -> None:
    """dx = the gradient at the x of ``apply_to``, whose output the operation must not need."""
    dy, x = as_writeable(dy), as_writeable(x)
    flat, numbers = _flat(parameters, x.dtype), _numbers(settings)
    for part in (operation.backward_sums, operation.backward):
        if part is not None:
            _backward(part.address(x.dtype), dy, x, dy, kept.reshape(-1), flat, numbers, dx)


def gradient_of(
    operation: Operation,
    which: int,
    dy: np.ndarray,
    x: np.ndarray,
    out: np.ndarray,
    kept: np.ndarray,
    parameters: tuple[np.ndarray, ...],
    *settings: float,
) -> None:
    """out = the gradient of one of the parameters of ``apply_to``."""
    dy, x = as_writeable(dy), as_writeable(x)
    flat, (_, _, address, *_) = _flat(parameters, x.dtype), operation.addresses(x.dtype)
    _gradient(address, which, dy, x, dy, kept.reshape(-1), flat, _numbers(settings), out)


def on_array(operation: Operation, x: np.ndarray, out: np.ndarray, *settings: float) -> None:
    """out = an elementwise operation of x, both C-contiguous and of any shape."""
    entry, _ = operation.entries
    entry(x.reshape(-1), *map(float, settings), out.reshape(-1))


def back_on_array(
    operation: Operation,
    dy: np.ndarray,
    kept: np.ndarray,
    out: np.ndarray,
    *settings: float,
    y: np.ndarray | None = None,
) -> None:
    """out = the gradient at the input of an elementwise operation, for the x or y that it keeps, or for both."""
    _, entry = operation.entries
    arrays = (dy, kept) if y is None else (dy, kept, y)
    entry(*(array.reshape(-1) for array in arrays), *map(float, settings), out.reshape(-1))
