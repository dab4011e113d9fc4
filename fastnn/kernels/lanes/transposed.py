"""Matrices of vectors, with a lane for each network, as a matrix for each network, and back."""

from ...codes import INPUTS, KEEPS, KEEPS_X, KEEPS_Y, LENGTH, OP, OUTPUTS, START, TRAINED, WEIGHT
from ..compiler.jit import inline
from ..network.memory import GRADIENT, VALUES
from ..simd.table import cell
from ..simd.transpose import transpose_block
from ..simd.vector import lanes, put, shift
from .memory import APART_AT, COUNT, apart_of, node


@inline
def matrix_of_all(memory, k):
    """Matrix k of those of each network."""
    return shift(memory.rows.p, k * lanes(memory.nodes.p) * memory.lane_ld)


@inline
def matrix_of(memory, k, lane):
    """Matrix k of one network."""
    return shift(matrix_of_all(memory, k), lane * memory.lane_ld)


@inline
def to_rows(x, rows, n, out, memory):
    """A matrix for each network from a matrix of vectors."""
    width = lanes(x.p)
    for r in range(rows):
        for j in range(0, n, width):
            transpose_block(
                shift(x.p, r * x.row + j * width), width, min(width, n - j), width,
                shift(out, r * memory.row_ld + j), memory.lane_ld,
            )  # fmt: skip


@inline
def to_lanes(x, rows, n, out, memory):
    """A matrix of vectors from a matrix for each network."""
    width = lanes(out.p)
    for r in range(rows):
        for j in range(0, n, width):
            transpose_block(
                shift(x, r * memory.row_ld + j), memory.lane_ld, width, min(width, n - j),
                shift(out.p, r * out.row + j * width), width,
            )  # fmt: skip


@inline
def transpose_kept(net, i, rows, memory):
    """What the backward pass of an operation takes, network by network: x and y where it asked for them, and dy."""
    n_in, n_out = cell(net.ops, i, INPUTS), cell(net.ops, i, OUTPUTS)
    if cell(net.ops, i, KEEPS) & KEEPS_X:
        to_rows(node(memory, i, VALUES), rows, n_in, matrix_of_all(memory, 0), memory)
    if cell(net.ops, i, KEEPS) & KEEPS_Y:
        to_rows(node(memory, i + 1, VALUES), rows, n_out, matrix_of_all(memory, 1), memory)
    to_rows(node(memory, i + 1, GRADIENT), rows, n_out, matrix_of_all(memory, 2), memory)


@inline
def parameters_of_each(net, i, memory):
    """The parameters of operation i, network by network, into ``own`` where they do not stand so."""
    if cell(net.ops, i, APART_AT) != 0:
        return
    start, end, width = cell(net.ops, i, WEIGHT), 0, lanes(memory.nodes.p)
    for span in range(net.spans.rows):
        if cell(net.spans, span, OP) == i:
            end = cell(net.spans, span, START) + cell(net.spans, span, LENGTH)
    for p in range(0, end - start, width):
        transpose_block(
            shift(net.params.p, (start + p) * width), width, min(width, end - start - p), width,
            shift(memory.own.p, p), memory.own_ld,
        )  # fmt: skip


@inline
def parameters_of(net, i, memory, lane):
    """The parameters of operation i of one network, after ``parameters_of_each``."""
    if cell(net.ops, i, APART_AT) != 0:
        return apart_of(net, i, net.params.p, lane)
    return shift(memory.own.p, lane * memory.own_ld)


@inline
def put_back(net, i, memory):
    """The parameters of operation i that it has changed itself, from ``parameters_of_each``."""
    width, start = lanes(memory.nodes.p), cell(net.ops, i, WEIGHT)
    for span in range(net.spans.rows):
        if cell(net.spans, span, OP) == i and cell(net.spans, span, TRAINED) == 0:
            at, length = cell(net.spans, span, START), cell(net.spans, span, LENGTH)
            for p in range(0, length, width):
                transpose_block(
                    shift(memory.own.p, at - start + p), memory.own_ld, width, min(width, length - p),
                    shift(net.params.p, (at + p) * width), width,
                )  # fmt: skip


@inline
def zero_rest(x, rows, n, counts):
    """Nothing is left of rows that a network does not have, whose gradients would count."""
    width = lanes(x.p)
    for lane in range(width):
        for r in range(cell(counts, lane, COUNT), rows):
            for c in range(n):
                put(x.p, r * x.row + c * width + lane, 0.0)
