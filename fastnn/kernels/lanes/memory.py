"""Where networks side by side keep what they work on: their table, what each counts, and the nodes of a batch."""

from typing import NamedTuple

import numpy as np

from ...codes import KEPT, SUMS, WEIGHT
from ..compiler.jit import inline
from ..network.layers import BACKWARD_SUMS_AT
from ..network.memory import KEPT_AT, LD
from ..operations import rows_of_sums
from ..simd.table import cell
from ..simd.vector import lanes, pointer, shift
from .product import Lanes

# The columns of the table of networks, one row a lane. A lane without a network has no samples.
#   ADDRESS, ROW, COL, ELEMENT   where its samples lie, see ``layers.Input``
#   ROW_BYTES
#   LABELS, TARGETS, WEIGHTS     the addresses of its targets and weights, 0 for what there is not
#   ORDERS, SAMPLES, BATCH_SIZE  the orders of its epochs, one behind the other, and the samples of each
#   EPOCHS, SEED
#   PARAMS, SLOTS                the addresses of its parameters and of up to two slots
ADDRESS, ROW, COL, ELEMENT, ROW_BYTES, LABELS, TARGETS, WEIGHTS, ORDERS, SAMPLES, BATCH_SIZE = range(11)
EPOCHS, SEED, PARAMS, SLOTS = range(11, 15)
FIELDS = SLOTS + 2

# What a lane counts as it goes: its epoch, where its batch starts and the samples in it, the numbers of its update and
# of its batch, which differ where gradients are summed over batches, and whether it is through.
EPOCH, FIRST, COUNT, UPDATE, BATCH, DONE = range(6)
COUNTS = 6

# Behind the addresses of an op: whether it maps element by element, and the elements of its parameters where a batch
# takes some rows of them, 0 for any other op. These parameters, and all that is laid out like them, stand network by
# network within their place, so that a row of one is in one piece.
ELEMENTWISE_AT = BACKWARD_SUMS_AT + 1
APART_AT = ELEMENTWISE_AT + 1


class Net(NamedTuple):
    """Networks of the same ops; settings (n, lanes) and, network by network, (lanes, n); parameters (n, lanes)."""

    ops: np.ndarray
    spans: np.ndarray
    settings: np.ndarray
    settings_of_each: np.ndarray
    params: np.ndarray


class Memory(NamedTuple):
    """Memory for a batch of all networks, every offset in elements.

    ``plan`` is as for one network, its numbers times the lanes. ``factors`` holds two vectors for a product, ``rows``
    four matrices of each network for what is transposed, ``row_ld`` apart and ``lane_ld`` network by network,
    ``own`` the parameters or a piece of a gradient of each network, ``own_ld`` apart.
    """

    plan: np.ndarray
    nodes: np.ndarray
    zeros: np.ndarray
    factors: np.ndarray
    panel: np.ndarray
    rows: np.ndarray
    row_ld: int
    lane_ld: int
    own: np.ndarray
    own_ld: int
    places: np.ndarray


@inline
def node(memory, i, what):
    """Values or gradient of a node."""
    p = shift(memory.nodes.p, cell(memory.plan, i, what))
    return Lanes(p, cell(memory.plan, i, LD), lanes(p))


@inline
def kept_of(net, memory, i, rows, lane):
    """What op i keeps of the rows of one network."""
    size = rows * cell(net.ops, i, KEPT)
    if cell(net.ops, i, SUMS) != 0:
        size += rows_of_sums(memory.places.cols) * cell(net.ops, i, SUMS)
    return shift(memory.nodes.p, cell(memory.plan, i, KEPT_AT) + lane * ((size + 15) // 16 * 16))


@inline
def next_apart(net, i):
    """The first op from i on whose parameters stand network by network; the number of ops if there is none."""
    while i < net.ops.rows and cell(net.ops, i, APART_AT) == 0:
        i += 1
    return i


@inline
def apart_of(net, i, p, lane):
    """Where those of op i and one network start, in memory laid out like the parameters."""
    return shift(p, cell(net.ops, i, WEIGHT) * lanes(net.params.p) + lane * cell(net.ops, i, APART_AT))


@inline
def order_of(each, counts, lane):
    """The samples of a network's batch, one after the other."""
    at = cell(counts, lane, EPOCH) * cell(each, lane, SAMPLES) + cell(counts, lane, FIRST)
    return shift(pointer(cell(each, lane, ORDERS), np.int64(0)), at)
