"""The memory of networks side by side, of one thread, kept from call to call."""

import functools
import threading
from typing import Any, NamedTuple

import numpy as np

from ...codes import INPUTS, LENGTH, OP, OUTPUTS, ROW, START, STRIDE, WEIGHT
from ..compiler.jit import Shared
from ..network.layers import addressed
from ..network.memory import plan_of
from ..operations import OPERATIONS
from ..simd.address import aligned_zeros
from .losses import LANE_LOSSES
from .memory import Memory, Net
from .objectives import Rows
from .product import FIELDS, LANE_TILES, TILES_AT
from .steps import BLOCK

# More bytes are not kept from call to call.
_KEEP = 1 << 26
# Elements of a gradient of each network that are formed at once, at least.
_PIECE = 256
_local = threading.local()


class Use(NamedTuple):
    """What networks side by side are to do: for so many samples at once, with the slots of a rule and a loss.

    Without a loss they are to predict.
    """

    batch: int
    slots: int
    loss: str
    has_labels: bool


class Room(NamedTuple):
    """The memory of a call, and for which calls it does."""

    key: tuple[Any, ...]
    net: Net
    memory: Memory
    rows: Rows
    slots: np.ndarray
    block: np.ndarray


def loss_in_lanes(loss: str) -> Shared | None:
    """The form of a loss in which every output is a vector, if it has one."""
    return None if hasattr(loss, "functions") else LANE_LOSSES.get(loss)


def room_for(network: Any, params: np.ndarray, width: int, use: Use) -> Room:
    """The calling thread's memory for networks like this one."""
    key = network.ops.tobytes(), network.spans.tobytes(), network.names, params.dtype, use
    kept: Room | None = getattr(_local, "room", None)
    if kept is not None and kept.key == key:
        return kept
    _local.room = None
    made = _make_room(key, network, params.size, width, use)
    arrays = made.memory.nodes, made.memory.rows, made.net.params, made.slots, made.rows.targets
    if sum(array.nbytes for array in arrays) <= _KEEP:
        _local.room = made
    return made


def _make_room(key: tuple[Any, ...], network: Any, n_params: int, width: int, use: Use) -> Room:
    shape, _, names, dtype, _ = key
    ops, batch = network.ops, use.batch
    plan, places = plan_of(shape, batch, dtype.itemsize, width)
    widest, n_out = int(ops[:, INPUTS : OUTPUTS + 1].max()), int(ops[-1, OUTPUTS])
    row_ld = -(-widest // 16) * 16
    spans = network.spans
    of_operations = [int(span[START] + span[LENGTH] - ops[span[OP], WEIGHT]) for span in spans[spans[:, ROW] == 0]]
    own_ld = -(-max([_PIECE, *of_operations]) // 16) * 16
    by_turns = any(name and not OPERATIONS[name].is_elementwise for name in names)
    by_turns = by_turns or (bool(use.loss) and loss_in_lanes(use.loss) is None)
    zeros = functools.partial(aligned_zeros, dtype=dtype)
    panel = np.zeros(FIELDS, np.int64)
    panel[TILES_AT] = LANE_TILES.address(dtype)
    memory = Memory(
        plan=plan,
        nodes=zeros((places["zeros_at"],)),
        zeros=zeros((max(widest, 1) * width,)),
        factors=zeros((2, width)),
        panel=panel,
        rows=zeros(((4 * batch if by_turns else 1) * width * row_ld,)),
        row_ld=row_ld,
        lane_ld=batch * row_ld,
        own=zeros((width * own_ld,)),
        own_ld=own_ld,
        places=np.zeros((width, batch), np.int64),
    )
    rows = Rows(
        labels=zeros((batch, width)),
        targets=zeros((0 if use.has_labels else batch * n_out * width,)),
        shares=np.zeros(batch * width + batch),
        losses=zeros((batch, width)),
        terms=zeros((batch, width)),
        sums=zeros((max(2 * width * width, 2 * batch),)),
        squares=zeros((width, width)),
    )
    none = np.empty((0, 0))
    ops = np.hstack([_with_kinds(shape, names, dtype, bool(use.loss)), _apart(ops, spans)])
    net = Net(ops, spans, none, none, zeros((n_params, width)))
    block = zeros((max(BLOCK, max(widest, own_ld) * width),))
    return Room(key, net, memory, rows, zeros((max(1, use.slots) * n_params, width)), block)


@functools.lru_cache(maxsize=64)
def _with_kinds(shape: bytes, names: tuple[str, ...], dtype: np.dtype, training: bool) -> np.ndarray:
    """The ops with their addresses, and whether they map element by element."""
    ops = addressed(shape, names, dtype, training)
    kinds = [int(bool(name) and OPERATIONS[name].is_elementwise) for name in names]
    return np.hstack([ops, np.array(kinds, np.int64).reshape(-1, 1)])


def _apart(ops: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """The elements, gaps included, of each op's parameters of which a batch takes rows; 0 for any other op."""
    apart = np.zeros((len(ops), 1), np.int64)
    for span in spans[spans[:, ROW] != 0]:
        apart[span[OP]] = span[START] + -(-span[LENGTH] // STRIDE) * STRIDE - ops[span[OP], WEIGHT]
    return apart
