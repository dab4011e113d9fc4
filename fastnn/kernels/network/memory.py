"""Where an epoch keeps the nodes of its network: their values, their gradients and what ops keep, for a whole batch."""

import functools
from typing import NamedTuple

import numpy as np

from ...codes import (
    ADD,
    COLUMNS,
    INPUTS,
    KEEPS,
    KEEPS_X,
    KEEPS_Y,
    KEPT,
    KIND,
    LINEAR,
    OPERATION,
    OUTPUTS,
    PARAMETERS,
    SLOPE_AT,
    SOURCE,
    SUMS,
)
from ..compiler.cpu import ISA
from ..compiler.jit import inline
from ..gemm.product import WORKSPACE, Matrix
from ..gemm.tile import BLOCK
from ..operations import rows_of_sums
from ..simd.table import cell
from ..simd.vector import shift
from .layers import Around, add_row, leading_dimension, multiply_adds
from .steps import GRADIENT_BLOCK, UNIT_GRADIENT_BLOCK, count_squares

# The columns of a plan: where the values and the gradient of a node lie, the distance of its rows, and where the op
# behind it keeps what it keeps.
VALUES, GRADIENT, LD, KEPT_AT = range(4)


class Memory(NamedTuple):
    """What the threads share: the plan of the nodes, the nodes with the rows' losses behind them, and the rest.

    ``own_at`` is where in its workspace a thread gathers a batch for itself. ``samples`` and ``pieces`` have a row for
    each thread, see ``Worker``; ``batch_at`` and ``update_at`` are where ``BATCH`` and an update lie.
    """

    plan: np.ndarray
    nodes: np.ndarray
    zeros_at: int
    losses_at: int
    target_terms_at: int
    own_at: int
    shares: np.ndarray
    squares: np.ndarray
    samples: np.ndarray
    pieces: np.ndarray
    sync: np.ndarray
    batch_at: int
    update_at: int


class Whole(NamedTuple):
    """The gradient (n_params,), Σ g² of its pieces, its greatest norm, 0 for any, and the batches it is summed over.

    Of a parameter of which a batch has a gradient for some rows alone, only these are written, read and moved: the last
    of them starts at ``heads`` (n_spans,) less 1, 0 for none, and where a row starts ``touched`` (n_params,) holds 1
    plus the like of the one before. ``sums`` are those of ``pieces`` (n, 2), from where to where, and then of such rows
    of each span.
    """

    gradient: np.ndarray
    touched: np.ndarray
    heads: np.ndarray
    pieces: np.ndarray
    sums: np.ndarray
    clip_norm: float
    accumulate: int


@inline
def node(memory, i, what, row):
    """Values or gradient of a node, from a row on."""
    ld = cell(memory.plan, i, LD)
    return Matrix(shift(memory.nodes.p, cell(memory.plan, i, what) + row * ld), ld, 1)


@inline
def around_op(net, memory, i, row):
    """What lies around op i, from a row on of the batch."""
    kept = shift(memory.nodes.p, cell(memory.plan, i, KEPT_AT) + row * cell(net.ops, i, KEPT))
    x, y, source = (
        node(memory, i, VALUES, row), node(memory, i + 1, VALUES, row),
        node(memory, cell(net.ops, i, SOURCE), VALUES, row),
    )  # fmt: skip
    return Around(x, y, node(memory, i, GRADIENT, row), node(memory, i + 1, GRADIENT, row), kept, source)


@inline
def add_sources(net, memory, i, rows):
    """Add to the gradient at the input of op i what comes back on the ways that begin there."""
    n = cell(net.ops, i, INPUTS)
    for k in range(i, net.ops.rows):
        if cell(net.ops, k, KIND) == ADD and cell(net.ops, k, SOURCE) == i:
            total, other = node(memory, i, GRADIENT, rows.first), node(memory, k + 1, GRADIENT, rows.first)
            for r in range(rows.count):
                row = shift(total.p, r * total.row)
                add_row(row, shift(other.p, r * other.row), row, n)


@functools.lru_cache(maxsize=64)
def plan_of(
    shape: bytes, batch: int, size: int, lanes: int = 1, on_unit: bool = False
) -> tuple[np.ndarray, dict[str, int]]:
    """Where the nodes of a network lie, for a batch, the multiply-adds of a sample, and the places of squares.

    ``shape`` holds the ops, ``size`` the bytes of an element. An op that needs neither its input again nor has it
    overwritten what the op before needs writes its output over its input; one without parameters so passes gradients.
    Of networks side by side every element is a vector of so many ``lanes``. On the matrix unit a gradient is formed in
    larger blocks.
    """
    ops = np.frombuffer(shape, np.int64).reshape(-1, COLUMNS)
    widths = [int(ops[0, INPUTS]), *(int(n) for n in ops[:, OUTPUTS])]
    plan = np.zeros((len(widths), 4), np.int64)
    # An odd number of vectors apart, rows of networks side by side do not share cache sets.
    distances = [leading_dimension(width, size) if lanes == 1 else (width | 1) * lanes for width in widths]
    plan[:, LD] = distances
    sources = set(ops[ops[:, KIND] == ADD, SOURCE].tolist())
    at = batch * distances[0]
    for i, op in enumerate(ops):
        ld = distances[i + 1]
        keeps_x = bool(op[KEEPS] & KEEPS_X) or i in sources
        is_output_needed = i > 0 and (ops[i - 1, SLOPE_AT] >= 0 or bool(ops[i - 1, KEEPS] & KEEPS_Y))
        if op[KIND] != LINEAR and not keeps_x and not is_output_needed and widths[i] == widths[i + 1]:
            plan[i + 1, VALUES] = plan[i, VALUES]
        else:
            plan[i + 1, VALUES] = at
            at += batch * ld
        plan[i, KEPT_AT] = at
        at += lanes * (-(-(batch * int(op[KEPT]) + rows_of_sums.py_func(batch) * int(op[SUMS])) // 16) * 16)
    # A gradient that is added to another later on is not to be written over.
    is_wanted = [False] * len(widths)
    for i in range(len(ops), 0, -1):
        behind = ops[i] if i < len(ops) else None
        is_wanted[i] = ops[i - 1, KIND] == ADD
        passes = behind is not None and widths[i] == widths[i + 1]
        if passes and behind[KIND] == ADD and behind[SOURCE] != i and ops[i - 1, SLOPE_AT] < 0:
            plan[i, GRADIENT], is_wanted[i] = plan[i + 1, GRADIENT], True
        elif passes and behind[KIND] == OPERATION and not behind[PARAMETERS] and not is_wanted[i + 1]:
            plan[i, GRADIENT] = plan[i + 1, GRADIENT]
        else:
            plan[i, GRADIENT] = at
            at += batch * distances[i]
    widest = max(widths)
    block = max(GRADIENT_BLOCK, ISA.rows(size) * widest)
    if on_unit:
        block = max(UNIT_GRADIENT_BLOCK, BLOCK * widest)
    places = {"zeros_at": at, "losses_at": at + widest, "target_terms_at": at + widest + batch}
    counts = {"work": 3 * multiply_adds(ops), "squares": count_squares(ops, size)}
    return plan, {**places, **counts, "size": at + widest + 2 * batch, "own_at": WORKSPACE + block}
